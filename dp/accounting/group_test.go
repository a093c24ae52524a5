package accounting

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestChainIsNeverBelowTheExactBound compares with the closed form over rationals that enclose e^x: never below it, and by
// no more than a unit above.
func TestChainIsNeverBelowTheExactBound(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	vacuous := 0
	for range 300 {
		e := dp.Epsilon(1 + random.Int64N(4*int64(dp.EpsilonOne)))
		d := dp.Delta(random.Int64N(2_000_000_000))
		k := int64(1 + random.IntN(15))
		got, nothing := Chain([]Link{{dp.Budget{Epsilon: e, Delta: d}, k}})
		if got.Epsilon != e*dp.Epsilon(k) {
			t.Fatalf("epsilon of %d links is %v", k, got.Epsilon)
		}
		low, high := closedForm(e, d, k)
		if high.Cmp(big.NewRat(int64(dp.DeltaOne), 1)) >= 0 {
			vacuous++
			if !nothing {
				t.Fatalf("delta %v says nothing, and the chain does not say so", high.FloatString(0))
			}
			continue
		}
		delta := big.NewRat(int64(got.Delta), 1)
		if nothing || delta.Cmp(low) < 0 || delta.Cmp(new(big.Rat).Add(high, big.NewRat(1, 1))) > 0 {
			t.Fatalf("delta of %d links of (%v, %v) is %v, not %s", k, e, d, got.Delta, low.FloatString(20))
		}
	}
	if vacuous < 5 || vacuous > 250 {
		t.Errorf("%d of 300 bounds say nothing", vacuous)
	}
}

// closedForm encloses D*(e^(k*E)-1)/(e^E-1) in units of delta.
func closedForm(e dp.Epsilon, d dp.Delta, k int64) (low, high *big.Rat) {
	one := big.NewRat(1, 1)
	lowE, highE := enclosedExp(big.NewRat(int64(e), int64(dp.EpsilonOne)))
	power := func(x *big.Rat) *big.Rat {
		p := big.NewRat(1, 1)
		for range k {
			p.Mul(p, x)
		}
		return p
	}
	// (x^k - 1)/(x - 1) grows with x.
	geometric := func(x *big.Rat) *big.Rat {
		return new(big.Rat).Quo(new(big.Rat).Sub(power(x), one), new(big.Rat).Sub(x, one))
	}
	units := big.NewRat(int64(d), 1)
	return new(big.Rat).Mul(units, geometric(lowE)), new(big.Rat).Mul(units, geometric(highE))
}

// enclosedExp is e^x for 0 <= x <= 4 between two decimals of 60 places: partial sums, and those with twice the next term.
func enclosedExp(x *big.Rat) (low, high *big.Rat) {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(60), nil)
	down := func(r *big.Rat) *big.Rat {
		n := new(big.Int).Mul(r.Num(), scale)
		return new(big.Rat).SetFrac(n.Quo(n, r.Denom()), scale)
	}
	low, term := big.NewRat(1, 1), big.NewRat(1, 1)
	for k := int64(1); k <= 90; k++ {
		term = down(term.Quo(term.Mul(term, x), big.NewRat(k, 1)))
		low.Add(low, term)
	}
	// 90 roundings of 10^-60, each carried on by factors that add up to less than e^4; the rest of the series is less than 10^-70.
	slack := new(big.Rat).SetFrac(big.NewInt(10_000), scale)
	return low, new(big.Rat).Add(low, slack)
}

func TestChainOfTwoBudgetsTakesTheBetterOrder(t *testing.T) {
	a := dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1_000_000_000}
	b := dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 1_000_000_000}
	one, _ := Chain([]Link{{a, 1}, {b, 1}})
	other, _ := Chain([]Link{{b, 1}, {a, 1}})
	// a first: D + e*D; b first: D + e^3*D.
	if one != other || one.Epsilon != 4*dp.EpsilonOne || one.Delta != 3_718_281_829 {
		t.Errorf("the chain is %+v one way and %+v the other", one, other)
	}
}

func TestChainWithoutDeltaIsPure(t *testing.T) {
	got, vacuous := Chain([]Link{{dp.Budget{Epsilon: 100 * dp.EpsilonOne}, 12}})
	if vacuous || got != (dp.Budget{Epsilon: 1200 * dp.EpsilonOne}) {
		t.Errorf("12 links of epsilon 100 are %+v, vacuous %v", got, vacuous)
	}
}

func TestChainThatDoesNotFitIsVacuous(t *testing.T) {
	most := dp.Budget{Epsilon: 1_000_000 * dp.EpsilonOne}
	if got, vacuous := Chain([]Link{{most, 12}}); !vacuous || got.Epsilon != unbounded {
		t.Errorf("what does not fit is %+v, vacuous %v", got, vacuous)
	}
	if got, vacuous := Chain([]Link{{dp.Budget{Epsilon: 50 * dp.EpsilonOne, Delta: 1}, 2}}); !vacuous || got.Delta != dp.DeltaOne {
		t.Errorf("a unit of delta times e^50 is %+v, vacuous %v", got, vacuous)
	}
	if got, vacuous := Chain(nil); vacuous || got != (dp.Budget{}) {
		t.Errorf("no link is %+v, vacuous %v", got, vacuous)
	}
}
