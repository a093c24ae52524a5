package mechanism

import "math"

// VarianceBounds are those of a variance's coordinates for rows clamped to [lo, hi], of which one customer has at most
// so many in a partition: with w = 2x-lo-hi and R = hi-lo, twice the number of rows, twice the sum of w, and the sum of
// 2w^2-R^2. In units of 1, R and R^2 a row changes them by 2, 2y and 2y^2-1 for some |y| <= 1. The squares of these add
// up to 5+4y^4 <= 9 and their sizes to at most 5, where three bounds of their own would allow 2^2+2^2+1 only for a third of
// the budget each. R is below 2^26.
func VarianceBounds(partitions, rows, lo, hi int64) Vector {
	r := hi - lo
	return Vector{Partitions: partitions, Bounds: []int64{rows, saturating(rows, r), saturating(rows, saturating(r, r))}, L1: 5, L2: 3}
}

// VarianceInterval is the variance of rows clamped to [lo, hi], in squared fixed-point units, from the noised
// coordinates of VarianceBounds.
//
// Of a fixed m, the mean of (y-m)^2 is a ratio of two linear forms of the coordinates, for which Fieller's test is exact
// (MeanInterval); it is the variance where m is the mean and larger elsewhere. The interval holds the union of those tests
// over the m of an interval of the mean, each at its share of the miss, and covers by Boole's inequality.
//
// Where the noised number of rows is not positive nothing is known: the value is the middle of what a variance can be,
// and the interval all of it. sd is the first-order standard deviation of the noise at the value.
func VarianceInterval(twiceRows, twiceSum, squares int64, vec Vector, lo, hi int64, c Confidence) (value, low, high, sd float64) {
	r := float64(hi) - float64(lo)
	unit := r * r / 4 // of the variance of y
	noise, err := newCombination(vec, 3)
	if err != nil || twiceRows <= 0 {
		return unit / 2, 0, unit, unit / 2
	}
	f := spread{noise: noise, r: r, a: float64(twiceRows), b: float64(twiceSum) / r, c: float64(squares) / r / r}
	m := min(max(f.b/f.a, -1), 1)
	value = f.at(m)
	sd = min(noise.sd(f.weights(m, value)...)/(f.a/2), 0.5)

	const ofMean = 0.1 // the mean's share of the miss; it matters little where in its interval it is
	from, to := f.means(m, ofMean*c.Miss())
	low, high = f.ends(m, from, to, value, (1-ofMean)*c.Miss())
	return value * unit, low * unit, high * unit, sd * unit
}

// ExpectedVarianceHalfWidth is half of such an interval for n rows spread evenly over [lo, hi], before it is drawn.
func ExpectedVarianceHalfWidth(vec Vector, lo, hi int64, n float64, c Confidence) float64 {
	r := float64(hi) - float64(lo)
	noise, err := newCombination(vec, 3)
	if err != nil || !(n > 0) {
		return r * r / 8
	}
	f := spread{noise: noise, r: r, a: 2 * n, c: n * (2.0/3 - 1)}
	return edge(1.0/3, 1, c.Miss(), func(t float64) float64 {
		return noise.tail(math.Abs(f.off(0, t)), f.weights(0, t)...)
	})*r*r/4 - r*r/12
}

// ExpectedVarianceSD is the standard deviation of the noise of such a variance, to first order.
func ExpectedVarianceSD(vec Vector, lo, hi int64, n float64) float64 {
	r := float64(hi) - float64(lo)
	noise, err := newCombination(vec, 3)
	if err != nil || !(n > 0) {
		return r * r / 8
	}
	f := spread{noise: noise, r: r}
	return min(noise.sd(f.weights(0, 1.0/3)...)/n, 0.5) * r * r / 4
}

// spread is what noised coordinates say of y = w/R: a is twice the number of rows, b twice the sum of y and c the sum
// of 2y^2-1.
type spread struct {
	noise      combination
	r, a, b, c float64
}

// off is what the sum of (y-m)^2-t is noised to; it is noise alone where t is the mean of (y-m)^2.
func (s spread) off(m, t float64) float64 { return s.c/2 + s.a/4 - m*s.b + (m*m-t)*s.a/2 }

// weights are those of the drawn coordinates in off.
func (s spread) weights(m, t float64) []float64 {
	return []float64{0.25 + (m*m-t)/2, -m / s.r, 1 / (2 * s.r * s.r)}
}

// at is the estimate of the mean of (y-m)^2, within what a variance can be.
func (s spread) at(m float64) float64 { return min(max(s.off(m, 0)/(s.a/2), 0), 1) }

// means is an interval of the mean of y around its estimate m.
func (s spread) means(m, miss float64) (from, to float64) {
	beyond := func(y float64) float64 { return s.noise.tail(math.Abs(s.b-y*s.a), y, 1/s.r) }
	if beyond(m) < miss {
		return -1, 1
	}
	return edge(m, -1, miss, beyond), edge(m, 1, miss, beyond)
}

// ends are the ends of an interval that holds every t which the test of some mean within [from, to] keeps. The estimate
// for a mean is a parabola of it, least at m and largest at from or to. A test compares the distance from its estimate with
// its noise; here the distance is the shortest that any of the means has, and the noise has, for each coordinate, the
// largest weight that any of them gives it. Of symmetric laws with one peak larger weights have larger tails (Birnbaum, "On
// Random Variables with Comparable Peakedness", 1948).
func (s spread) ends(m, from, to, value, miss float64) (low, high float64) {
	far := max(math.Abs(from), math.Abs(to))
	near := 0.0
	if from > 0 || to < 0 {
		near = min(math.Abs(from), math.Abs(to))
	}
	weights := func(t float64) []float64 {
		most, least := s.weights(far, t), s.weights(near, t)
		most[0] = max(math.Abs(most[0]), math.Abs(least[0]))
		return most
	}
	below := func(t float64) float64 { return s.noise.tail(s.off(m, t), weights(t)...) }
	above := func(t float64) float64 {
		return s.noise.tail(-max(s.off(from, t), s.off(to, t)), weights(t)...)
	}
	if below(value) < miss || above(value) < miss { // a clamped estimate that the noise hardly explains: nothing narrower is safe
		return 0, 1
	}
	return edge(value, 0, miss, below), edge(value, 1, miss, above)
}
