package mechanism

import "math"

// MeanInterval is the mean of rows clamped to [lo, hi], from the two noised coordinates of vec: num, the sum
// of 2x-lo-hi over rows x, and den, the number of rows. lo, hi and the results are in the measure's
// fixed-point units.
//
// The interval inverts a test (Fieller, "Some Problems in Interval Estimation", 1954): a true ratio r of
// num to den is kept if |num - r*den|, which is noise alone then, is within q(r), what that noise exceeds with
// probability at most 1-c. Both are integers that were rounded, which adds at most (1+|r|)/2 to q. Unlike
// a quotient of intervals it covers at c, and where the rows are too few for the noise it says so by being
// all of [lo, hi].
//
// sd is the first-order standard deviation of the noise at the value, at most (hi-lo)/2.
func MeanInterval(num, den int64, vec Vector, lo, hi int64, c Confidence) (value, low, high, sd float64) {
	laws, err := meanLaws(vec)
	middle, reach := (float64(lo)+float64(hi))/2, float64(hi)-float64(lo)
	if err != nil {
		return middle, float64(lo), float64(hi), reach / 2
	}
	rows, sum := math.Max(float64(den), 1), float64(num)
	r := min(max(sum/rows, -reach), reach)
	value = min(max(middle+r/2, float64(lo)), float64(hi))
	sd = min(math.Hypot(laws[0].sd(), r*laws[1].sd())/(2*rows), reach/2)

	kept := func(r float64) bool { return math.Abs(sum-r*float64(den)) <= meanMargin(laws, r, c.Miss()) }
	// Where the count is lost in its noise, or no ratio in range is kept, nothing narrower than the range is safe.
	if den <= 0 || !kept(r) {
		return value, float64(lo), float64(hi), sd
	}
	low = max(middle+edge(r, -reach, kept)/2, float64(lo))
	high = min(middle+edge(r, reach, kept)/2, float64(hi))
	return value, low, high, sd
}

// ExpectedMeanHalfWidth is half the width of MeanInterval for a mean in the middle of its clamp over n rows,
// before it is drawn: what a plan states. It is at most (hi-lo)/2.
func ExpectedMeanHalfWidth(vec Vector, lo, hi int64, n float64, c Confidence) float64 {
	laws, err := meanLaws(vec)
	reach := float64(hi) - float64(lo)
	if err != nil || !(n > 0) {
		return reach / 2
	}
	kept := func(r float64) bool { return r*n <= meanMargin(laws, r, c.Miss()) }
	return edge(0, reach, kept) / 2
}

// ExpectedMeanSD is the standard deviation of the noise of such a mean, to first order.
func ExpectedMeanSD(vec Vector, lo, hi int64, n float64) float64 {
	laws, err := meanLaws(vec)
	reach := float64(hi) - float64(lo)
	if err != nil || !(n > 0) {
		return reach / 2
	}
	return min(laws[0].sd()/(2*n), reach/2)
}

func meanLaws(vec Vector) (laws [2]law, err error) {
	if len(vec.Bounds) != 2 {
		return laws, errBound
	}
	for i := range laws {
		if laws[i], err = vec.Draw(i).law(); err != nil {
			return laws, err
		}
	}
	return laws, nil
}

// edge is the r farthest from inside towards outside that is kept: outside itself if it is, otherwise where
// kept ends. From the estimate outwards, q grows convexly and |num - r*den| in a straight line, so that
// kept ends at most once before an outside that is not kept.
func edge(inside, outside float64, kept func(float64) bool) float64 {
	if kept(outside) {
		return outside
	}
	for range 80 {
		middle := inside + (outside-inside)/2
		if middle == inside || middle == outside {
			break
		}
		if kept(middle) {
			inside = middle
		} else {
			outside = middle
		}
	}
	return outside // the safe side of the last step
}

// meanMargin is q(r): what |X + rY| exceeds with probability at most miss, for the noises X and Y of numerator and
// denominator, and (1+|r|)/2 for their rounding to integers.
func meanMargin(laws [2]law, r, miss float64) float64 {
	r = math.Abs(r)
	rounding := (1 + r) / 2
	if x, ok := laws[0].(gaussianLaw); ok {
		y := laws[1].(gaussianLaw)
		return math.Sqrt2*math.Erfcinv(miss)*math.Hypot(x.sigma, r*y.sigma) + rounding
	}
	x, y := laws[0].(laplaceLaw), laws[1].(laplaceLaw)
	return laplaceSumQuantile(x.scale, r*y.scale, miss) + rounding
}

// laplaceSumQuantile is the q that the absolute sum of two independent Laplace variables of scales a > 0
// and b >= 0 exceeds with probability miss.
func laplaceSumQuantile(a, b, miss float64) float64 {
	if a < b {
		a, b = b, a
	}
	// The wider alone is exceeded less often and the sum of both scales more often.
	low, high := a*-math.Log(miss), (a+b)*(1-math.Log(miss))
	for laplaceSumTail(a, b, high) > miss {
		high *= 2
	}
	for range 100 {
		middle := low + (high-low)/2
		if high-low <= 1e-12*high || middle == low || middle == high {
			break
		}
		if laplaceSumTail(a, b, middle) > miss {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// laplaceSumTail is P(|X+Y| > t) for independent Laplace variables of scales a >= b >= 0, a > 0:
// (a^2 exp(-t/a) - b^2 exp(-t/b)) / (a^2 - b^2), written so that nothing cancels where a and b are close.
func laplaceSumTail(a, b, t float64) float64 {
	if b == 0 {
		return math.Exp(-t / a)
	}
	spread := t * (a - b) / a / b
	mean := 1.0 // (1-exp(-spread))/spread
	if spread > 0 {
		mean = -math.Expm1(-spread) / spread
		if math.IsInf(spread, 1) {
			mean = 0
		}
	}
	return math.Exp(-t/a) * (1 + mean*b/(a+b)*(t/a))
}
