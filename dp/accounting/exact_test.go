package accounting

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestLeastFromRhoIsTheLeastThatFromRhoBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	below := 0
	for range 400 {
		rho := dp.Rho(math.Exp(random.Float64() * 30))
		delta := dp.Delta(math.Exp(random.Float64() * 38))
		least, bound := LeastFromRho(rho, delta), FromRho(rho, delta)
		// FromRho adds at most 2^-47 of its terms, which are at most a few times its result where that is not small.
		if least > bound || float64(bound-least) > 3+1e-12*float64(bound) {
			t.Fatalf("rho %v, delta %v: at least %v, and FromRho gives %v", rho, delta, least, bound)
		}
		if least < bound {
			below++
		}
	}
	if below == 0 {
		t.Error("FromRho never rounds up further: one of the two is not needed")
	}
	for _, c := range []struct {
		rho   dp.Rho
		delta dp.Delta
		want  dp.Epsilon
	}{{0, 1, 0}, {5, dp.DeltaOne, 0}, {dp.RhoUnknown, 5, unbounded}, {5, 0, unbounded}, {-1, 5, unbounded}} {
		if got := LeastFromRho(c.rho, c.delta); got != c.want {
			t.Errorf("LeastFromRho(%d, %d) is %d", c.rho, c.delta, got)
		}
	}
}

// The values of DESIGN.md, section 8, for a k-fold Gaussian: rho = k/(2 sigma^2).
func TestLeastFromRhoMatchesPublishedValues(t *testing.T) {
	for _, c := range []struct {
		rho, delta, want float64
	}{{0.5, 1e-5, 4.72838698}, {0.2, 1e-6, 3.13105568}, {0.05, 1e-6, 1.47159475}} {
		got := LeastFromRho(dp.Rho(math.Round(c.rho*1e12)), dp.Delta(math.Round(c.delta*1e18)))
		if math.Abs(float64(got)/1e12-c.want) > 6e-9 {
			t.Errorf("rho %v: %v, not %v", c.rho, got, c.want)
		}
	}
}

func TestNumbersOfTheNormalLaw(t *testing.T) {
	for _, x := range []float64{-8, -1.5, -0.01, 0, 1e-9, 0.7, 1.999, 2, 3.5, 9, 20, 38} {
		want := math.Erfc(x/math.Sqrt2) / 2
		got, _ := number().Mul(mills(number().SetFloat64(x)), normalDensity(number().SetFloat64(x))).Float64()
		if math.Abs(got/want-1) > 1e-12*(1+x*x) {
			t.Errorf("Phi(%v) is %v, not %v", -x, got, want)
		}
	}
	// Both ways to Mills' ratio meet where one takes over from the other.
	near := number().Sub(whole(2), number().SetMantExp(whole(1), -200))
	gap := number().Sub(mills(near), mills(whole(2)))
	if gap.Sign() < 0 || gap.MantExp(nil) > -200 {
		t.Errorf("at 2, the series and the fraction differ by %v", gap)
	}
	for _, x := range []float64{-500, -1, 1e-30, 0.5, 700} {
		back, _ := logarithm(exponential(number().SetFloat64(x))).Float64()
		if math.Abs(back-x) > 1e-14*math.Abs(x) {
			t.Errorf("log e^%v is %v", x, back)
		}
	}
	if digits := exponential(whole(1)).Text('f', 60); digits != "2.718281828459045235360287471352662497757247093699959574966968" {
		t.Errorf("e is %s", digits)
	}
}

// TestPairOverIsTheLeastOfTheNormalLaw holds a result to the definition, in floats: of the next smaller shift or epsilon delta
// is on the other side.
func TestPairOverIsTheLeastOfTheNormalLaw(t *testing.T) {
	for _, c := range []struct {
		epsilon dp.Epsilon
		delta   dp.Delta
		times   int64
		root    bool
	}{
		{dp.EpsilonOne / 10, 1e9, 2, false}, {dp.EpsilonOne / 10, 1e9, 12, true}, {dp.EpsilonOne, 1e12, 3, false},
		{1, 1, 2, false}, {dp.EpsilonOne, 1, 24, true}, {100 * dp.EpsilonOne, 1e10, 2, false}, {1000, 1e16, 2, false},
	} {
		got, ok := PairOver(c.epsilon, c.delta, c.times, c.root)
		if !ok || got <= c.epsilon {
			t.Errorf("%+v: %v, %v", c, got, ok)
			continue
		}
		target := fraction(int64(c.delta), int64(dp.DeltaOne))
		e := func(units dp.Epsilon) *big.Float { return fraction(int64(units), int64(dp.EpsilonOne)) }
		shift := largestShift(e(c.epsilon), target)
		if d := pairDelta(shift, e(c.epsilon)).delta; number().Abs(number().Sub(d, target)).Cmp(number().SetMantExp(target, -150)) > 0 {
			t.Errorf("%+v: the largest shift has delta %v", c, d)
		}
		factor := whole(c.times)
		if c.root {
			factor.Sqrt(factor)
		}
		shift.Mul(shift, factor)
		if pairDelta(shift, e(got)).delta.Cmp(target) > 0 || pairDelta(shift, e(got-1)).delta.Cmp(target) <= 0 {
			t.Errorf("%+v: %v is not the least", c, got)
		}
	}
	if _, ok := PairOver(100*dp.EpsilonOne, 1, 1000, false); ok {
		t.Error("a pair beyond the largest epsilon was found")
	}
	if got, ok := PairOver(5, 5, 1, false); !ok || got != 5 {
		t.Errorf("one block's is %v", got)
	}
}

func TestLeastAboveIsTheNextWholeNumber(t *testing.T) {
	for _, c := range []struct {
		x    dp.Epsilon
		want int64
	}{
		{-5, 1}, {0, 1}, {1, 2}, {dp.EpsilonOne, 3}, {3 * dp.EpsilonOne, 21}, {693147180559, 2}, {693147180560, 3},
		{43 * dp.EpsilonOne, 4727839468229346562}, {44 * dp.EpsilonOne, unbounded}, {700 * dp.EpsilonOne, unbounded},
	} {
		if got := LeastAbove(c.x); got != c.want {
			t.Errorf("the least whole number above e^%v is %d, not %d", c.x, got, c.want)
		}
	}
}

func BenchmarkLeastFromRho(b *testing.B) {
	for b.Loop() {
		LeastFromRho(dp.RhoOne/20, 1e9)
	}
}

func BenchmarkPairOver(b *testing.B) {
	for b.Loop() {
		PairOver(dp.EpsilonOne/10, 1e9, 12, false)
	}
}
