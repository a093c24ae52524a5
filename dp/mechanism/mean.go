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

	kept := func(r float64) bool { return noise.tail(math.Abs(sum-r*rows), 1, r) >= c.Miss() }
	if !kept(r) { // a clamped estimate that the noise hardly explains: nothing narrower is safe
		return value, float64(lo), float64(hi), sd
	}
	low = min(max(middle+edge(r, -reach, kept)/2, float64(lo)), value)
	high = max(min(middle+edge(r, reach, kept)/2, float64(hi)), value)
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
	return edge(0, reach, func(r float64) bool { return noise.tail(r*n, 1, r) >= c.Miss() }) / 2
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

// edge is the r farthest from inside towards outside that is kept: outside itself if it is, otherwise where
// kept ends, to a millionth of a millionth of the way. The noise's quantile is convex in r and
// |num - r*den| straight on either side of the estimate, so that kept ends once before an outside that
// is not kept.
func edge(inside, outside float64, kept func(float64) bool) float64 {
	if kept(outside) {
		return outside
	}
	for range 40 {
		if middle := inside + (outside-inside)/2; kept(middle) {
			inside = middle
		} else {
			outside = middle
		}
	}
	return outside // the safe side of the last step
}
