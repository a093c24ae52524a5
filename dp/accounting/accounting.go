// Package accounting adds up losses and decides whether an account can bear one more.
//
// It owns composition, conversion and admission (the theorem of the two certificates, PRIVACY.md), and the
// reading of budgets and losses from decimal text. It is pure: no state, no clock, no randomness. It never
// knows which mechanism a loss came from, and never touches a row.
//
// All sums are of integers that were rounded up when they were charges and down when they were budgets, so
// that ten charges of 0.1 fit a budget of 1 exactly and no order of charges matters.
package accounting

import (
	"math"

	"github.com/discreet-analytics/discreet/dp"
)

// unbounded is what a saturated sum holds. No budget admits it, not even one of the same number.
const unbounded = math.MaxInt64

// Admit reports whether an account of this budget that has spent so much can bear one more charge: after
// it, one of the two certificates must hold over everything spent,
//
//	(a) sum of epsilon <= E and sum of delta <= D/4
//	(b) sum of deltaZ <= D/4 and FromRho(sum of rho, D/2) <= E, only if D > 0.
//
// Either is a filter that stays valid when charges depend on earlier answers, and an account that at its
// end satisfies one of them is (E, D) differentially private whichever it was (PRIVACY.md, "The theorem of
// the two certificates"). A negative part anywhere is refused: charges never give budget back.
func Admit(budget dp.Budget, spent, charge dp.Loss) bool {
	if negative(spent) || negative(charge) || budget.Epsilon < 0 || budget.Delta < 0 {
		return false
	}
	return certified(budget, Add(spent, charge))
}

// Frozen reports whether an account has spent more than its budget certifies, as it has once that was lowered below what
// was spent: it bears no charge, however small, until the budget is raised.
func Frozen(budget dp.Budget, spent dp.Loss) bool { return !Admit(budget, spent, dp.Loss{}) }

// certified reports whether one of the certificates holds for everything spent.
func certified(budget dp.Budget, spent dp.Loss) bool {
	// Integer division rounds D/4 and D/2 down, which is the safe side of each comparison.
	quarter, half := budget.Delta/4, budget.Delta/2
	if spent.Epsilon <= budget.Epsilon && spent.Epsilon < unbounded && spent.Delta <= quarter {
		return true
	}
	return budget.Delta > 0 && spent.DeltaZ <= quarter && FromRho(spent.Rho, half) <= budget.Epsilon &&
		spent.Rho < unbounded
}

// Add composes two losses. Sums that do not fit stay at the largest number and are never admitted; in
// particular dp.RhoUnknown absorbs whatever is added to it.
func Add(a, b dp.Loss) dp.Loss {
	return dp.Loss{
		Epsilon: saturatingAdd(a.Epsilon, b.Epsilon),
		Delta:   saturatingAdd(a.Delta, b.Delta),
		Rho:     saturatingAdd(a.Rho, b.Rho),
		DeltaZ:  saturatingAdd(a.DeltaZ, b.DeltaZ),
	}
}

// Room is the largest pure-epsilon charge (delta 0, rho as of PureRho) that Admit would still accept: it
// accepts Room and refuses one unit more. It is 0 where nothing fits.
func Room(budget dp.Budget, spent dp.Loss) dp.Epsilon {
	pure := func(n int64) bool {
		e := dp.Epsilon(n)
		return Admit(budget, spent, dp.Loss{Epsilon: e, Rho: PureRho(e)})
	}
	return dp.Epsilon(largest(unbounded-1, pure))
}

// Similar is how many more charges like this one fit, one after the other, at most max.
func Similar(budget dp.Budget, spent, charge dp.Loss, max int64) int64 {
	if max <= 0 || negative(charge) {
		return 0
	}
	// Parts never shrink, so n charges fit one after the other if and only if their sum fits at once.
	return largest(max, func(n int64) bool { return Admit(budget, spent, times(charge, n)) })
}

// largest is the largest n in 1..max for which fits holds, where fits holds up to some n and never beyond;
// 0 if it does not hold for 1. Whatever fits does, it holds for the result and not for the next number.
func largest(max int64, fits func(int64) bool) int64 {
	if max < 1 || !fits(1) {
		return 0
	}
	in, out := int64(1), int64(2)
	for {
		if in == max {
			return max
		}
		if out > max {
			out = max
		}
		if !fits(out) {
			break
		}
		in = out
		if out > max/2 {
			out = max
		} else {
			out *= 2
		}
	}
	for out-in > 1 {
		middle := in + (out-in)/2
		if fits(middle) {
			in = middle
		} else {
			out = middle
		}
	}
	return in
}

func times(loss dp.Loss, n int64) dp.Loss {
	return dp.Loss{
		Epsilon: saturatingMultiply(loss.Epsilon, n),
		Delta:   saturatingMultiply(loss.Delta, n),
		Rho:     saturatingMultiply(loss.Rho, n),
		DeltaZ:  saturatingMultiply(loss.DeltaZ, n),
	}
}

func negative(l dp.Loss) bool {
	return l.Epsilon < 0 || l.Delta < 0 || l.Rho < 0 || l.DeltaZ < 0
}

func saturatingAdd[T ~int64](a, b T) T {
	switch {
	case b > 0 && a > unbounded-b:
		return unbounded
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// saturatingMultiply is for parts and counts that are not negative.
func saturatingMultiply[T ~int64](a T, n int64) T {
	if a > 0 && n > unbounded/int64(a) {
		return unbounded
	}
	return a * T(n)
}
