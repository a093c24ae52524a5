package mechanism

import "math"

// MeanInterval is the mean of rows clamped to [lo, hi], from the two noised coordinates of vec: num, the sum
// of 2x-lo-hi over rows x, and den, the number of rows. lo, hi and the results are in the measure's
// fixed-point units.
//
// The interval inverts a test (E. C. Fieller, "Some Problems in Interval Estimation", 1954): a true ratio r
// of num to den is kept if |num - r*den|, which then is noise alone, is not larger than that noise is with
// probability 1-c. Both are integers that were rounded, which adds at most (1+|r|)/2. Unlike a quotient
// of two intervals it covers at c, and where rows are too few for the noise it says so by being all of [lo, hi].
//
// Where den is not positive nothing is known and the value is the middle of [lo, hi]. sd is the first-order
// standard deviation of the noise at the value, at most (hi-lo)/2.
func MeanInterval(num, den int64, vec Vector, lo, hi int64, c Confidence) (value, low, high, sd float64) {
	middle, reach := (float64(lo)+float64(hi))/2, float64(hi)-float64(lo)
	noise, err := newCombination(vec, 2)
	if err != nil || den <= 0 {
		return middle, float64(lo), float64(hi), reach / 2
	}
	sum, rows := float64(num), float64(den)
	r := min(max(sum/rows, -reach), reach)
	value = min(max(middle+r/2, float64(lo)), float64(hi))
	sd = min(noise.sd(1, r)/(2*rows), reach/2)

	beyond := func(r float64) float64 { return noise.tail(math.Abs(sum-r*rows), 1, r) }
	if beyond(r) < c.Miss() { // a clamped estimate that the noise hardly explains: nothing narrower is safe
		return value, float64(lo), float64(hi), sd
	}
	low = min(max(middle+edge(r, -reach, c.Miss(), beyond)/2, float64(lo)), value)
	high = max(min(middle+edge(r, reach, c.Miss(), beyond)/2, float64(hi)), value)
	return value, low, high, sd
}

// ExpectedMeanHalfWidth is half the width of MeanInterval for a mean in the middle of its clamp over n rows,
// before it is drawn: what a plan states. It is at most (hi-lo)/2.
func ExpectedMeanHalfWidth(vec Vector, lo, hi int64, n float64, c Confidence) float64 {
	reach := float64(hi) - float64(lo)
	noise, err := newCombination(vec, 2)
	if err != nil || !(n > 0) {
		return reach / 2
	}
	return edge(0, reach, c.Miss(), func(r float64) float64 { return noise.tail(r*n, 1, r) }) / 2
}

// ExpectedMeanSD is the standard deviation of the noise of such a mean, to first order.
func ExpectedMeanSD(vec Vector, lo, hi int64, n float64) float64 {
	reach := float64(hi) - float64(lo)
	noise, err := newCombination(vec, 2)
	if err != nil || !(n > 0) {
		return reach / 2
	}
	return min(noise.sd(1, 0)/(2*n), reach/2)
}

// edge is the r farthest from inside towards outside at which tail is at least miss: outside itself if it is there,
// otherwise where it ceases to be, to a millionth of the way that is left. tail is at least miss at inside. The noise's
// quantile is convex in r and |num - r*den| straight on either side of the estimate, so that this happens once before
// an outside where tail is less.
//
// Logarithms of tails are nearly straight, or parabolas: false position (the Illinois method: Dowell and Jarratt, 1971)
// takes a third of the steps that halving does.
func edge(inside, outside, miss float64, tail func(r float64) float64) float64 {
	above := func(r float64) float64 { return math.Log(max(tail(r), math.SmallestNonzeroFloat64) / miss) }
	start, out := inside, above(outside)
	if out >= 0 {
		return outside
	}
	in, last := above(inside), 0
	for step := range 100 {
		way := outside - inside
		if math.Abs(way) <= 1e-6*math.Abs(outside-start) {
			break
		}
		share := in / (in - out)
		if step%4 == 3 {
			share = 0.5 // whatever the shape, the way halves
		}
		next := inside + min(max(share, 1e-3), 1-1e-3)*way
		switch value := above(next); {
		case value >= 0:
			inside, in = next, value
			if last > 0 {
				out /= 2
			}
			last = 1
		default:
			outside, out = next, value
			if last < 0 {
				in /= 2
			}
			last = -1
		}
	}
	return outside // the safe side of the last step
}
