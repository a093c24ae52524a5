package verify

import (
	"math"
	"math/big"
	"slices"
)

// The units of amounts in one whole.
const (
	epsilonOne = 1_000_000_000_000
	deltaOne   = 1_000_000_000_000_000_000
)

// figures computes what amounts come to over several blocks (dp/PRIVACY.md, sections 1 and 3), in exact and in
// high-precision arithmetic: each is the least number of units at which a bound holds.
type figures struct {
	certificates *certificates
	normal       *normal
	pairs        map[pairKey]pairValue
	zeros        map[zeroKey]int64
}

type (
	pairKey struct {
		epsilon, delta, times int64
		root                  bool
	}
	pairValue struct {
		epsilon int64
		ok      bool
	}
	zeroKey struct{ rho, delta int64 }
)

func newFigures(c *certificates) *figures {
	return &figures{c, newNormal(), map[pairKey]pairValue{}, map[zeroKey]int64{}}
}

// link is a budget under which one customer's rows in so many blocks are protected, each.
type link struct {
	budget
	times int64
}

// chained is group privacy: from one history to the other through neighbours, epsilons add up, and each delta counts as
// often as e^(the epsilons before it) says. Of all orders of the links it is the one with the least delta: a link stands
// before another if delta/(e^epsilon-1) is larger. vacuous says that nothing is said.
func (f *figures) chained(links []link) (sum budget, vacuous bool) {
	links = slices.Clone(links)
	powers := map[int64]*big.Float{}
	power := func(epsilon int64) *big.Float {
		if powers[epsilon] == nil {
			powers[epsilon] = f.normal.power(precision, newFloat().Quo(float(epsilon), float(epsilonOne)))
		}
		return powers[epsilon]
	}
	weighs := func(a, b link) *big.Float {
		return newFloat().Mul(float(a.Delta), newFloat().Sub(power(b.Epsilon), float(1)))
	}
	const tooMuch = 42 * epsilonOne // e^42 > 10^18
	slices.SortStableFunc(links, func(a, b link) int {
		switch {
		case a.Delta == 0 || b.Delta == 0:
			return -int(min(a.Delta, 1) - min(b.Delta, 1))
		case a.Epsilon >= tooMuch || b.Epsilon >= tooMuch: // then delta is one in any order, or theirs count once
			return int(min(a.Epsilon, tooMuch)/tooMuch - min(b.Epsilon, tooMuch)/tooMuch)
		}
		return weighs(b, a).Cmp(weighs(a, b))
	})
	delta, one := float(0), float(deltaOne)
	full, fits := false, true
	for _, l := range slices.Backward(links) {
		for range max(0, l.times) {
			if sum.Epsilon = plus(sum.Epsilon, l.Epsilon); sum.Epsilon == unbounded {
				fits = false
				break
			}
		}
		for n := int64(0); n < l.times && !full && (l.Delta > 0 || delta.Sign() > 0); n++ {
			if delta.Sign() > 0 {
				if l.Epsilon >= tooMuch {
					full = true
					break
				}
				delta.Mul(delta, power(l.Epsilon))
			}
			delta.Add(delta, float(l.Delta))
			full = delta.Cmp(one) >= 0
		}
	}
	if full {
		sum.Delta = deltaOne
		return sum, true
	}
	units, accuracy := delta.Int64()
	if accuracy == big.Below {
		units++
	}
	sum.Delta = units
	return sum, !fits || units >= deltaOne
}

// zero is the least epsilon for which Proposition 12 says that rho-zCDP implies (epsilon, delta): unbounded where there is
// none.
func (f *figures) zero(rho, delta int64) int64 {
	switch {
	case rho < 0 || rho == unbounded || delta <= 0:
		return unbounded
	case rho == 0 || delta >= deltaOne:
		return 0
	}
	known, ok := f.zeros[zeroKey{rho, delta}]
	if !ok {
		known = f.findZero(rho, delta)
		f.zeros[zeroKey{rho, delta}] = known
	}
	return known
}

func (f *figures) findZero(rho, delta int64) int64 {
	log := f.certificates.log
	r := newFloat().Quo(float(rho), float(epsilonOne))
	tail := log.of(newFloat().Quo(float(deltaOne), float(delta)))
	// With t = alpha-1: (1+t)*rho + (L - log(1+t))/t - log(1+1/t), whose negation rises and then falls.
	least := f.certificates.highest(func(t *big.Float) *big.Float {
		above := newFloat().Add(t, float(1))
		value := newFloat().Quo(newFloat().Sub(tail, log.of(above)), t)
		value.Add(value, newFloat().Mul(above, r))
		value.Sub(value, log.of(newFloat().Quo(above, t)))
		return value.Neg(value)
	})
	return unitsAbove(least.Neg(least))
}

// about is the same in machine arithmetic, to a billionth.
func about(rho, delta int64) float64 {
	switch {
	case rho < 0 || rho == unbounded || delta <= 0:
		return math.Inf(1)
	case rho == 0 || delta >= deltaOne:
		return 0
	}
	r, l := float64(rho)/epsilonOne, -math.Log(float64(delta)/deltaOne)
	low, high := -80.0, 80.0 // of log t
	for range 120 {
		if t := math.Exp((low + high) / 2); r*t*t+math.Log1p(t) > l {
			high = (low + high) / 2
		} else {
			low = (low + high) / 2
		}
	}
	t := math.Exp(low)
	return max(0, (1+t)*r+(l-math.Log1p(t))/t-math.Log1p(1/t))
}

// pair is pairOver, which most questions ask again.
func (f *figures) pair(k pairKey) (int64, bool) {
	known, ok := f.pairs[k]
	if !ok {
		known.epsilon, known.ok = f.normal.pairOver(k.epsilon, k.delta, k.times, k.root)
		f.pairs[k] = known
	}
	return known.epsilon, known.ok
}

// cutFactor is by how much the price of the sampler's cut grows: e^(epsilon-7.5), a whole number of at least 1.
func (f *figures) cutFactor(epsilon int64) int64 {
	const calm, most = 7_500_000_000_000, 44 * epsilonOne
	switch {
	case epsilon <= calm:
		return 1
	case epsilon-calm >= most:
		return unbounded
	}
	n, accuracy := f.normal.power(precision, newFloat().Quo(float(epsilon-calm), float(epsilonOne))).Int64()
	if accuracy == big.Below && n < unbounded {
		n++
	}
	return n
}

// unitsAbove is the least number of units that is not below x, and at least 0.
func unitsAbove(x *big.Float) int64 {
	units, accuracy := newFloat().Mul(x, float(epsilonOne)).Int64()
	switch {
	case units < 0 || x.Sign() <= 0:
		return 0
	case units < unbounded && accuracy == big.Below:
		units++
	}
	return units
}

// plus and times are for numbers that are not negative. What does not fit is the largest.
func plus(a, b int64) int64 {
	if a > unbounded-b {
		return unbounded
	}
	return a + b
}

func times(a, n int64) int64 {
	if a > 0 && n > unbounded/a {
		return unbounded
	}
	return a * n
}
