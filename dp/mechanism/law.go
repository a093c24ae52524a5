package mechanism

import "math"

// law is a distribution of integer noise: the library's sample on a grid of power-of-two spacing, rounded
// to the nearest integer with halves up.
type law interface {
	// shift is m >= 0 such that the grid's spacing is 2^-m.
	shift() uint
	// atLeast bounds P(sample >= v) from above for v > 0, where v is a multiple of a half: an integer
	// noise n is at least v+1/2 exactly when the sample is at least v.
	atLeast(v float64) float64
	// halfWidth is the least w with P(|noise| > w) <= miss.
	halfWidth(miss float64) int64
	// sd is the standard deviation of the integer noise.
	sd() float64
}

// gridShift is m with 2^-m = the least power of two that is not below x, for 0 < x <= 1. It is what the
// library's ceilPowerOfTwo does, exactly.
func gridShift(x float64) uint {
	fraction, exponent := math.Frexp(x) // x = fraction * 2^exponent, fraction in [1/2, 1)
	if fraction == 0.5 {
		exponent--
	}
	return uint(-exponent)
}

// laplaceLaw is the two-sided geometric distribution on multiples of the grid g, with
// P(sample = k*g) proportional to exp(-|k|*g/scale) and scale = (l1+g)/epsilon.
type laplaceLaw struct {
	m     uint
	scale float64
}

func newLaplaceLaw(l1, epsilon float64) laplaceLaw {
	m := gridShift(l1 / epsilon / 0x1p40)
	return laplaceLaw{m: m, scale: (l1 + math.Ldexp(1, -int(m))) / epsilon}
}

func (l laplaceLaw) shift() uint { return l.m }

func (l laplaceLaw) grid() float64 { return math.Ldexp(1, -int(l.m)) }

func (l laplaceLaw) atLeast(v float64) float64 {
	g := l.grid()
	k := math.Ceil(v / g) // exact: both are dyadic
	return math.Exp(-k*g/l.scale) / (1 + math.Exp(-g/l.scale)) * (1 + 0x1p-40)
}

func (l laplaceLaw) halfWidth(miss float64) int64 {
	// P(noise > w) + P(noise < -w) is exp(-(w+1/2)/scale) on a grid finer than 1, because the half
	// that rounds up on one side does not on the other. On the grid 1 it is 2*exp(-(w+1)/scale)/(1+exp(-1/scale)).
	if l.m > 0 {
		return leastInteger(l.scale*-math.Log(miss) - 0.5)
	}
	return leastInteger(l.scale*(math.Ln2-math.Log(miss)-math.Log1p(math.Exp(-1/l.scale))) - 1)
}

func (l laplaceLaw) sd() float64 {
	if l.m == 0 {
		return 1 / (math.Sqrt2 * math.Sinh(0.5/l.scale))
	}
	// Integer tails are R^(j-1/2) with R = exp(-1/scale); sum of (2j-1)*R^(j-1/2) is cosh(h)/(2 sinh(h)^2).
	h := 0.5 / l.scale
	if h > 300 {
		return 0
	}
	return math.Sqrt(math.Cosh(h)/2) / math.Sinh(h)
}

// gaussianLaw is the discrete Gaussian distribution of standard deviation sigma on multiples of the grid,
// conditioned on being within the cut.
type gaussianLaw struct {
	m     uint
	sigma float64
	cut   float64 // in sigmas; the sampler's support ends here
}

func newGaussianLaw(sigma float64) gaussianLaw {
	m := gridShift(2 * sigma / 0x1p57)
	sqrtN := math.Ldexp(2*sigma, int(m))
	return gaussianLaw{m: m, sigma: sigma, cut: math.Sqrt(2 * math.Log(sqrtN))}
}

func (l gaussianLaw) shift() uint { return l.m }

func (l gaussianLaw) atLeast(v float64) float64 {
	x := v / l.sigma
	if x > l.cut*(1+0x1p-40) {
		return 0 // beyond the support: no sample is ever this large
	}
	// The grid adds at most one point to the integral, 2^-55 sigma, and the cut divides by 1 - 2^-59.
	return 0.5 * math.Erfc(x/math.Sqrt2) * (1 + 0x1p-40)
}

func (l gaussianLaw) halfWidth(miss float64) int64 {
	return leastInteger(l.sigma*min(math.Sqrt2*math.Erfcinv(miss), l.cut) - 0.5)
}

func (l gaussianLaw) sd() float64 { return math.Sqrt(l.sigma*l.sigma + 1.0/12) }

// leastInteger is the least integer at or above x, at least 0.
func leastInteger(x float64) int64 {
	switch c := math.Ceil(x); {
	case c <= 0:
		return 0
	case c < 0x1p63:
		return int64(c)
	}
	return math.MaxInt64
}
