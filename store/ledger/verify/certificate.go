package verify

import (
	"math"
	"math/big"
)

// loss is what was spent or is charged, in the units of the records: epsilon and rho in 10^-12, delta and
// delta_z in 10^-18.
type loss struct {
	Epsilon, Delta, Rho, DeltaZ int64
}

// budget is a ceiling on loss, in the same units.
type budget struct {
	Epsilon, Delta int64
}

// unbounded is what a part holds whose sum does not fit, and a rho that is not known. No budget admits it.
const unbounded = math.MaxInt64

// certificates decides whether what was spent is within a budget. It shares no code with dp/accounting: the
// first certificate is an inequality of integers; for the second, Proposition 12 of Canonne, Kamath and Steinke
// ("The Discrete Gaussian for Differential Privacy", NeurIPS 2020, arXiv 2004.00010) is solved for rho in
// arithmetic of several hundred bits, instead of for epsilon in that of machines.
type certificates struct {
	log *logarithm
	// most is, for each budget that was met, the largest rho that its second certificate admits.
	most map[budget]int64
}

func newCertificates() *certificates {
	return &certificates{log: newLogarithm(), most: map[budget]int64{}}
}

// hold reports whether one of the certificates of dp/PRIVACY.md, section 3, holds for what was spent:
//
//	(a) sum of epsilon <= E and sum of delta <= D/4
//	(b) sum of delta_z <= D/4 and, for some alpha > 1, the bound of Proposition 12 at (sum of rho, D/2) <= E
func (c *certificates) hold(b budget, spent loss) bool {
	if b.Epsilon < 0 || b.Delta < 0 || spent.Epsilon < 0 || spent.Delta < 0 || spent.Rho < 0 || spent.DeltaZ < 0 {
		return false
	}
	if spent.Epsilon != unbounded && spent.Epsilon <= b.Epsilon && withinQuarter(spent.Delta, b.Delta) {
		return true
	}
	return b.Delta > 0 && spent.Rho != unbounded && withinQuarter(spent.DeltaZ, b.Delta) && spent.Rho <= c.mostRho(b)
}

// withinQuarter reports whether delta <= whole/4, as rationals.
func withinQuarter(delta, whole int64) bool {
	return new(big.Int).Mul(big.NewInt(delta), big.NewInt(4)).Cmp(big.NewInt(whole)) <= 0
}

// share is how much of a budget is spent, between 0 and 1 where a certificate holds: of the certificate that
// has more left, the part that is nearer to its end. It is for people to read.
func (c *certificates) share(b budget, spent loss) float64 {
	first := math.Max(ratio(spent.Epsilon, b.Epsilon), ratio(spent.Delta, b.Delta/4))
	second := math.Inf(1)
	if b.Delta > 0 {
		second = math.Max(ratio(spent.Rho, c.mostRho(b)), ratio(spent.DeltaZ, b.Delta/4))
	}
	return math.Min(first, second)
}

func ratio(part, whole int64) float64 {
	switch {
	case part == 0:
		return 0
	case whole <= 0 || part == unbounded:
		return math.Inf(1)
	}
	return float64(part) / float64(whole)
}

// mostRho is the largest rho, in units, for which rho-zCDP is proved here to imply (E, D/2) differential
// privacy. With t = alpha-1 > 0 and L = log(2/D), Proposition 12 says that it does if
//
//	(1+t)*rho + (L - log(1+t))/t - log(1+1/t) <= E,  that is  rho <= (E + log(1+1/t) - (L - log(1+t))/t) / (1+t).
//
// Any t gives a true bound, so that the search decides only how close to the best this one is.
func (c *certificates) mostRho(b budget) int64 {
	if most, ok := c.most[b]; ok {
		return most
	}
	most := c.findMostRho(b)
	c.most[b] = most
	return most
}

func (c *certificates) findMostRho(b budget) int64 {
	half := newFloat().Quo(float(b.Delta), float(2_000_000_000_000_000_000))
	if half.Cmp(float(1)) >= 0 {
		return unbounded - 1 // a delta of one promises nothing
	}
	epsilon := newFloat().Quo(float(b.Epsilon), float(1_000_000_000_000))
	tail := c.log.of(newFloat().Quo(float(1), half))
	best := c.highest(func(t *big.Float) *big.Float {
		above := newFloat().Add(t, float(1))
		value := newFloat().Sub(tail, c.log.of(above))
		value.Quo(value, t)
		value.Sub(c.log.of(newFloat().Quo(above, t)), value)
		value.Add(value, epsilon)
		return value.Quo(value, above)
	})
	// What the arithmetic may have rounded up is far below 2^-150 of the terms, which are below 2^64.
	best.Sub(best, powerOfTwo(-80))
	units, _ := best.Mul(best, float(1_000_000_000_000)).Int(nil) // towards zero
	switch {
	case units.Sign() < 0:
		return 0
	case !units.IsInt64():
		return unbounded - 1
	}
	return units.Int64()
}

// The range of exponents of two within which the best t lies: t is below sqrt(L/rho), and it solves
// rho*t^2 + log(1+t) = L, with L between 0.6 and 44 and rho below 2^24.
const (
	leastExponent = -24
	mostExponent  = 70
)

// highest is the largest value of f that a search by golden section over log t finds. For every rho the set of
// t at which the bound is kept is an interval (the bound's derivative in t changes its sign once), so that f rises
// and then falls. The search ends where t is known to 2^-40; near its top f is flat, and what that leaves of the
// best is of the order of 2^-80 of it.
func (c *certificates) highest(f func(t *big.Float) *big.Float) *big.Float {
	at := func(x float64) *big.Float { return f(power(x)) }
	golden := (math.Sqrt(5) - 1) / 2
	low, high := float64(leastExponent), float64(mostExponent)
	left, right := high-golden*(high-low), low+golden*(high-low)
	atLeft, atRight := at(left), at(right)
	for high-low > 0x1p-40 {
		if atLeft.Cmp(atRight) < 0 {
			low, left, atLeft = left, right, atRight
			right = low + golden*(high-low)
			atRight = at(right)
		} else {
			high, right, atRight = right, left, atLeft
			left = high - golden*(high-low)
			atLeft = at(left)
		}
	}
	if atLeft.Cmp(atRight) > 0 {
		return atLeft
	}
	return atRight
}

// power is close to 2^x; how close does not matter, since any t will do.
func power(x float64) *big.Float {
	whole := math.Floor(x)
	fraction := new(big.Float).SetPrec(precision).SetFloat64(math.Exp2(x - whole))
	return newFloat().SetMantExp(fraction, int(whole))
}
