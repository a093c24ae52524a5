package verify

import (
	"math"
	"math/big"
)

// normal computes with the normal law and with powers of e. A number has the precision that it was asked for: what a
// result loses by taking nearly equal numbers from each other is added before.
type normal struct {
	log *logarithm
	pi  *big.Float // of mostBits
}

// mostBits is as precise as anything is computed here: Phi(-x) = 1 - Phi(x) loses x^2/2 bits of e for x up to mostSigmas.
const (
	mostSigmas = 48
	mostBits   = precision + 64 + mostSigmas*mostSigmas*3/4
)

func newNormal() *normal {
	// Machin: pi/4 = 4 arctan(1/5) - arctan(1/239).
	arctan := func(of int64) *big.Float {
		sum, power := at(mostBits, 0), at(mostBits, 1)
		power.Quo(power, at(mostBits, of))
		for k := int64(1); power.MantExp(nil) > -mostBits-8; k += 4 {
			for _, term := range []int64{k, -(k + 2)} {
				sum.Add(sum, at(mostBits, 0).Quo(power, at(mostBits, term)))
				power.Quo(power, at(mostBits, of*of))
			}
		}
		return sum
	}
	quarter := arctan(5)
	quarter.Mul(quarter, at(mostBits, 4))
	quarter.Sub(quarter, arctan(239))
	return &normal{newLogarithm(), quarter.Mul(quarter, at(mostBits, 4))}
}

func at(bits uint, n int64) *big.Float { return new(big.Float).SetPrec(bits).SetInt64(n) }

// power is e^x, to so many bits.
func (n *normal) power(bits uint, x *big.Float) *big.Float {
	const halvings = 32
	bits += halvings + 32
	if e := x.MantExp(nil); e > 0 {
		bits += uint(e)
	}
	small := new(big.Float).SetPrec(bits).SetMode(big.ToNearestEven).Set(x)
	small.SetMantExp(small, -halvings)
	sum, term := at(bits, 1), at(bits, 1)
	for k := int64(1); term.Sign() != 0 && term.MantExp(nil) > -int(bits); k++ {
		term.Mul(term, small)
		term.Quo(term, at(bits, k))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

// below is Phi(x), with an absolute error far below 2^-precision of Phi(-|x|).
func (n *normal) below(x *big.Float) *big.Float {
	size, _ := x.Float64()
	bits := uint(precision + 64 + math.Ceil(size*size*3/4))
	// Phi(x) = 1/2 + phi(x) * (x + x^3/3 + x^5/(3*5) + ...), of which all terms have one sign.
	wide := new(big.Float).SetPrec(bits).Set(x)
	square := at(bits, 0).Mul(wide, wide)
	sum, term := at(bits, 0).Set(wide), at(bits, 0).Set(wide)
	for k := int64(3); term.Sign() != 0 && term.MantExp(nil) > sum.MantExp(nil)-int(bits); k += 2 {
		term.Mul(term, square)
		term.Quo(term, at(bits, k))
		sum.Add(sum, term)
	}
	sum.Mul(sum, n.density(bits, wide))
	half := at(bits, 1)
	return sum.Add(sum, half.SetMantExp(half, -1))
}

// density is phi(x), to so many bits.
func (n *normal) density(bits uint, x *big.Float) *big.Float {
	exponent := at(bits+64, 0).Mul(x, x)
	exponent.SetMantExp(exponent, -1)
	root := at(bits, 0).Mul(n.pi, at(bits, 2))
	return root.Quo(n.power(bits, exponent.Neg(exponent)), root.Sqrt(root))
}

// delta is that of Gaussian noise at epsilon for a change of so many sigmas (Balle and Wang, 2018, Theorem 8). It is 0 or 1
// where it is less than 10^-20 from them.
func (n *normal) delta(shift, epsilon *big.Float) *big.Float {
	a := newFloat().Sub(newFloat().SetMantExp(shift, -1), newFloat().Quo(epsilon, shift))
	if size, _ := a.Float64(); size < -9.5 {
		return float(0)
	} else if size > 9.5 {
		return float(1)
	}
	b := newFloat().Sub(a, shift)
	delta := n.below(a)
	rest := n.below(b)
	rest.Mul(rest, n.power(rest.Prec(), epsilon))
	return newFloat().Sub(delta, rest)
}

// mostEpsilon is up to which epsilon a pair is looked for.
const mostEpsilon = 700_000_000_000_000

// pairOver is the least epsilon, in units, that Gaussian noise has at the same delta for changes times as large as the
// largest for which it has the pair, or the root of that.
func (n *normal) pairOver(epsilon, delta, times int64, root bool) (int64, bool) {
	switch {
	case epsilon < 1 || epsilon > mostEpsilon || delta < 1 || delta >= deltaOne || times < 1 || times >= 1<<20:
		return 0, false
	case times == 1:
		return epsilon, true
	}
	target := newFloat().Quo(float(delta), float(deltaOne))
	shift := n.largest(newFloat().Quo(float(epsilon), float(epsilonOne)), target)
	factor := float(times)
	if root {
		factor.Sqrt(factor)
	}
	shift.Mul(shift, factor)
	enough := func(units int64) bool {
		return n.delta(shift, newFloat().Quo(float(units), float(epsilonOne))).Cmp(target) <= 0
	}
	if !enough(mostEpsilon) {
		return 0, false
	}
	// By steps of the chord: delta is convex and falls in epsilon, so that a step from where it is too large never goes too
	// far, and one unit more is enough where that is less than a unit.
	low, high := epsilon, int64(mostEpsilon) // low: not enough, or not known
	for high-low > 1 {
		middle := low + (high-low)/2
		if guess, ok := n.newton(shift, target, low); ok && guess > low && guess < high {
			middle = guess
		}
		if enough(middle) {
			high = middle
			if middle-1 > low && !enough(middle-1) {
				break
			}
		} else {
			low = middle
			if middle+1 < high && enough(middle+1) {
				high = middle + 1
				break
			}
		}
	}
	return high, true
}

// newton steps from an epsilon, in units, towards where delta is as low as asked: d delta/d epsilon is
// -e^epsilon*Phi(-shift/2-epsilon/shift).
func (n *normal) newton(shift, target *big.Float, from int64) (int64, bool) {
	epsilon := newFloat().Quo(float(from), float(epsilonOne))
	excess := newFloat().Sub(n.delta(shift, epsilon), target)
	b := newFloat().Neg(newFloat().Add(newFloat().SetMantExp(shift, -1), newFloat().Quo(epsilon, shift)))
	if size, _ := b.Float64(); size < -mostSigmas {
		return 0, false
	}
	slope := n.below(b)
	slope.Mul(slope, n.power(slope.Prec(), epsilon))
	if slope.Sign() <= 0 || excess.Sign() <= 0 {
		return 0, false
	}
	step := newFloat().Quo(excess, slope)
	units, accuracy := step.Mul(step, float(epsilonOne)).Int64()
	if accuracy == big.Below {
		units++
	}
	if units > mostEpsilon {
		return 0, false
	}
	return from + units, true
}

// largest is the shift that a pair allows: delta grows with it.
func (n *normal) largest(epsilon, target *big.Float) *big.Float {
	low, high := powerOfTwo(-64), float(128)
	for exponent, top := -64, 7; top-exponent > 1; { // to a factor of two
		middle := (exponent + top) / 2
		if power := powerOfTwo(middle); n.delta(power, epsilon).Cmp(target) > 0 {
			high, top = power, middle
		} else {
			low, exponent = power, middle
		}
	}
	x := newFloat().Add(low, high)
	x.SetMantExp(x, -1)
	for range 600 {
		excess := newFloat().Sub(n.delta(x, epsilon), target)
		if excess.Sign() > 0 {
			high = x
		} else {
			low = x
		}
		// d delta/d shift is the density at shift/2 - epsilon/shift.
		a := newFloat().Sub(newFloat().SetMantExp(x, -1), newFloat().Quo(epsilon, x))
		next := newFloat().Add(low, high)
		next.SetMantExp(next, -1)
		if slope := n.density(precision, a); slope.Sign() > 0 {
			if step := newFloat().Sub(x, newFloat().Quo(excess, slope)); step.Cmp(low) > 0 && step.Cmp(high) < 0 {
				next = step
			}
		}
		moved := newFloat().Sub(next, x)
		x = next
		if moved.Sign() == 0 || moved.MantExp(nil) < x.MantExp(nil)-precision*2/3 {
			break
		}
	}
	return x
}
