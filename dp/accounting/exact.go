package accounting

import (
	"math"
	"math/big"

	"github.com/discreet-analytics/discreet/dp"
)

// What an officer is shown, and what a regulator computes again with another program, are figures that have one value: the
// least number of units at which a bound holds. Here they are computed with so many bits that rounding never decides
// which number that is: the least distance of a bound from a number of units that matters is 10^-18 of it or so.

// exactBits is the precision of every number, in bits.
const exactBits = 320

// mostExactEpsilon is the largest epsilon that is looked for.
const mostExactEpsilon = 700 * dp.EpsilonOne

// LeastFromRho is the least epsilon, in whole units, for which Proposition 12 says that rho-zCDP implies (epsilon, delta)
// differential privacy: what FromRho bounds from above by a few parts in 10^14, without those. It costs hundreds of
// microseconds.
func LeastFromRho(rho dp.Rho, delta dp.Delta) dp.Epsilon {
	switch {
	case rho < 0 || rho == dp.RhoUnknown || delta <= 0:
		return unbounded
	case rho == 0 || delta >= dp.DeltaOne:
		return 0
	}
	r := fraction(int64(rho), int64(dp.RhoOne))
	l := logarithm(fraction(int64(dp.DeltaOne), int64(delta)))
	floatR, _ := r.Float64()
	floatL, _ := l.Float64()
	t := number().SetFloat64(bestOrder(floatR, floatL))
	one := whole(1)
	// The bound is least where rho*t^2 + log(1+t) = l. What Newton's steps leave of t is squared by each, and what that leaves
	// of the bound is of second order.
	for range 4 {
		above := number().Add(one, t)
		excess := number().Mul(number().Mul(r, t), t)
		excess.Sub(excess.Add(excess, logarithm(above)), l)
		slope := number().Quo(one, above)
		slope.Add(slope, number().Mul(number().Mul(whole(2), r), t))
		next := number().Sub(t, number().Quo(excess, slope))
		if next.Sign() <= 0 {
			break // delta is all but one: any t gives a true bound
		}
		t = next
	}
	above := number().Add(one, t)
	log := logarithm(above)
	epsilon := number().Mul(above, r)
	epsilon.Add(epsilon, number().Quo(number().Sub(l, log), t))
	epsilon.Sub(epsilon, logarithm(number().Quo(above, t)))
	return dp.Epsilon(unitsUp(epsilon))
}

// PairOver is the least epsilon, in whole units, of Gaussian noise at delta for changes that in the Euclidean norm are larger
// by times, or by the root of it, than the largest change for which that noise has the pair (e, delta). It is false where
// there is none up to 700, or where the pair is none. It costs milliseconds.
//
// The pair is that of the normal law (Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018,
// Theorem 8): of a change of q sigmas, delta is Phi(q/2 - epsilon/q) - e^epsilon*Phi(-q/2 - epsilon/q).
func PairOver(e dp.Epsilon, delta dp.Delta, times int64, root bool) (dp.Epsilon, bool) {
	if e < 1 || e > mostExactEpsilon || delta < 1 || delta >= dp.DeltaOne || times < 1 || times >= 1<<20 {
		return 0, false
	}
	if times == 1 {
		return e, true
	}
	target := fraction(int64(delta), int64(dp.DeltaOne))
	shift := largestShift(fraction(int64(e), int64(dp.EpsilonOne)), target)
	larger := whole(times)
	if root {
		larger.Sqrt(larger)
	}
	shift.Mul(shift, larger)

	within := func(units int64) bool {
		d := pairDelta(shift, fraction(units, int64(dp.EpsilonOne)))
		return d.delta.Cmp(target) <= 0
	}
	if !within(int64(mostExactEpsilon)) {
		return 0, false
	}
	// Delta falls with epsilon, by e^epsilon*Phi(-q/2-epsilon/q).
	floatShift, _ := shift.Float64()
	floatTarget, _ := target.Float64()
	near := floatSearch(float64(e)/float64(dp.EpsilonOne), float64(mostExactEpsilon)/float64(dp.EpsilonOne), func(epsilon float64) bool {
		return floatPairDelta(floatShift, epsilon) <= floatTarget
	})
	found := search(
		fraction(int64(e), int64(dp.EpsilonOne)), fraction(int64(mostExactEpsilon), int64(dp.EpsilonOne)), near,
		func(epsilon *big.Float) (excess, slope *big.Float) {
			d := pairDelta(shift, epsilon)
			return number().Sub(target, d.delta), d.tail
		})
	units := unitsUp(found)
	for units > 1 && within(units-1) {
		units--
	}
	for !within(units) {
		units++
	}
	return dp.Epsilon(units), true
}

// largestShift is the number of sigmas at which the normal law has this pair.
func largestShift(epsilon, target *big.Float) *big.Float {
	// Delta grows with the shift, by the density at q/2-epsilon/q. A shift of 2^-64 has less than 10^-18 at any epsilon, and one
	// of 100 all but 10^-18 at 700.
	floatEpsilon, _ := epsilon.Float64()
	floatTarget, _ := target.Float64()
	near := floatSearch(0x1p-64, 100, func(q float64) bool { return floatPairDelta(q, floatEpsilon) > floatTarget })
	return search(number().SetMantExp(whole(1), -64), whole(100), near, func(q *big.Float) (excess, slope *big.Float) {
		d := pairDelta(q, epsilon)
		return number().Sub(d.delta, target), d.density
	})
}

// floatPairDelta is pairDelta's in machine arithmetic, of whose result few digits may be right.
func floatPairDelta(q, epsilon float64) float64 {
	tail := func(x float64) float64 { return math.Erfc(x/math.Sqrt2) / 2 }
	t := epsilon/q - q/2
	return tail(t) - math.Exp(epsilon)*tail(t+q)
}

// floatSearch is about where something begins to hold, between two positive numbers.
func floatSearch(low, high float64, holds func(float64) bool) float64 {
	for range 60 {
		if middle := math.Sqrt(low * high); holds(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// LeastAbove is the least whole number that is not below e^x, for x from 0 on; the largest where it does not fit.
func LeastAbove(x dp.Epsilon) int64 {
	const most = 44 * dp.EpsilonOne // e^44 > 2^63
	switch {
	case x <= 0:
		return 1
	case x >= most:
		return unbounded
	}
	n, accuracy := exponential(fraction(int64(x), int64(dp.EpsilonOne))).Int64()
	if accuracy == big.Below && n < unbounded {
		n++
	}
	return n
}

// search finds where a rising function is zero between low and high, with Newton's steps where they stay between what is
// known, and halves otherwise: of the logarithm, because the range is wide. It begins near to where it may be.
func search(low, high *big.Float, near float64, f func(*big.Float) (value, slope *big.Float)) *big.Float {
	const most = 400
	x := number().SetFloat64(near)
	if x.Cmp(low) <= 0 || x.Cmp(high) >= 0 {
		x = middle(low, high)
	}
	for range most {
		value, slope := f(x)
		if value.Sign() == 0 {
			return x
		}
		if value.Sign() > 0 {
			high = x
		} else {
			low = x
		}
		next := middle(low, high)
		if slope.Sign() > 0 {
			if newton := number().Sub(x, number().Quo(value, slope)); newton.Cmp(low) > 0 && newton.Cmp(high) < 0 {
				next = newton
			}
		}
		moved := number().Sub(next, x)
		x = next
		if moved.Sign() == 0 || moved.MantExp(nil) < x.MantExp(nil)-exactBits/2 {
			break
		}
	}
	return x
}

// middle halves the logarithm.
func middle(low, high *big.Float) *big.Float {
	product := number().Mul(low, high)
	return product.Sqrt(product)
}

// ofPair is the delta of a Gaussian at a shift and an epsilon, and its derivatives by them.
type ofPair struct {
	delta   *big.Float
	density *big.Float // by the shift
	tail    *big.Float // by epsilon, negated
}

// pairDelta computes it without taking nearly equal numbers from each other more than their nature asks: with t =
// epsilon/q-q/2, b = t+q and Mills' ratio R(x) = Phi(-x)/phi(x), delta is phi(t)*(R(t)-R(b)), for e^epsilon*phi(b) = phi(t).
func pairDelta(q, epsilon *big.Float) ofPair {
	t := number().Quo(epsilon, q)
	t.Sub(t, number().Quo(q, whole(2)))
	far := whole(10) // Phi(-10) < 10^-23
	if t.Cmp(far) > 0 {
		return ofPair{number(), number(), number()}
	}
	if t.Cmp(number().Neg(far)) < 0 {
		return ofPair{whole(1), number(), number()}
	}
	b := number().Add(t, q)
	density := normalDensity(t)
	ratio := mills(b)
	return ofPair{
		delta:   number().Mul(density, number().Sub(mills(t), ratio)),
		density: density, tail: number().Mul(density, ratio),
	}
}

// normalDensity is phi(x).
func normalDensity(x *big.Float) *big.Float {
	square := number().Mul(x, x)
	root := number().Mul(whole(2), pi())
	return number().Quo(exponential(square.Quo(square, whole(-2))), root.Sqrt(root))
}

// mills is Phi(-x)/phi(x).
func mills(x *big.Float) *big.Float {
	if x.Sign() < 0 { // Phi(x) = 1 - Phi(-x)
		rest := mills(number().Neg(x))
		return rest.Sub(number().Quo(whole(1), normalDensity(x)), rest)
	}
	if x.Cmp(whole(2)) < 0 {
		// Phi(x) - 1/2 = phi(x) * (x + x^3/3 + x^5/(3*5) + ...)
		sum, term, square := number().Set(x), number().Set(x), number().Mul(x, x)
		for k := int64(3); term.Sign() != 0 && term.MantExp(nil) > sum.MantExp(nil)-exactBits-8; k += 2 {
			term.Quo(term.Mul(term, square), whole(k))
			sum.Add(sum, term)
		}
		half := number().Quo(whole(1), number().Mul(whole(2), normalDensity(x)))
		return half.Sub(half, sum)
	}
	// Laplace's continued fraction 1/(x + 1/(x + 2/(x + 3/(x + ...)))), whose convergents lie below and above in turn. Its
	// n-th error falls as e^(-2x*sqrt(2n)).
	float, _ := x.Float64()
	root := (exactBits + 8) * math.Ln2 / 2 / float
	sum := number().Set(x)
	for n := int64(root*root/2) + 16; n >= 1; n-- {
		sum.Quo(whole(n), sum)
		sum.Add(sum, x)
	}
	return sum.Quo(whole(1), sum)
}

// exponential is e^x.
func exponential(x *big.Float) *big.Float {
	const halvings = 24
	small := number().Copy(x)
	small.SetMantExp(small, -halvings)
	sum, term := whole(1), whole(1)
	for k := int64(1); term.Sign() != 0 && term.MantExp(nil) > -exactBits-halvings-8; k++ {
		term.Quo(term.Mul(term, small), whole(k))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

// logarithm is log x for x > 0: y where e^y = x, by Halley's steps, each of which triples the digits that are right.
func logarithm(x *big.Float) *big.Float {
	m := number()
	e := x.MantExp(m)
	mantissa, _ := m.Float64()
	y := number().SetFloat64(math.Log(mantissa) + float64(e)*math.Ln2)
	for range 3 {
		power := exponential(y)
		step := number().Sub(x, power)
		step.Quo(step.Mul(step, whole(2)), power.Add(power, x))
		y.Add(y, step)
	}
	return y
}

// piDigits are those of pi, more than exactBits.
const piDigits = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651328230664709"

func pi() *big.Float {
	n, _ := number().SetString(piDigits)
	return n
}

func number() *big.Float { return new(big.Float).SetPrec(exactBits) }

func whole(n int64) *big.Float { return number().SetInt64(n) }

func fraction(n, of int64) *big.Float { return number().Quo(whole(n), whole(of)) }

// unitsUp is the least number of units that is not below x, at least 0; the largest where it does not fit.
func unitsUp(x *big.Float) int64 {
	units := number().Mul(x, whole(int64(dp.EpsilonOne)))
	if units.Sign() <= 0 {
		return 0
	}
	n, accuracy := units.Int64()
	switch {
	case n == math.MaxInt64:
		return unbounded
	case accuracy == big.Below:
		n++
	}
	return n
}
