package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// gaussianDelta is the delta of a Gaussian at epsilon for a shift of s sigmas (Balle and Wang, 2018, Theorem 8), from the
// normal law alone.
func gaussianDelta(s, epsilon float64) float64 {
	phi := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
	return phi(s/2-epsilon/s) - math.Exp(epsilon)*phi(-s/2-epsilon/s)
}

func TestPairOverSeveralBlocksIsThatOfTheLibrarysNoise(t *testing.T) {
	for _, c := range []struct {
		epsilon float64
		delta   dp.Delta
		times   int64
	}{{0.1, 1e9, 2}, {0.1, 1e9, 12}, {1, 1e12, 3}, {0.5, 1e10, 7}, {0.02, 1e7, 24}} {
		e := dp.Epsilon(c.epsilon * float64(dp.EpsilonOne))
		sigma := Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: e, Delta: c.delta}
		law, err := sigma.law()
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range []bool{false, true} {
			got, ok := accounting.PairOver(e, c.delta, c.times, root)
			if !ok {
				t.Fatalf("%+v has no pair", c)
			}
			shift := float64(c.times)
			if root {
				shift = math.Sqrt(shift)
			}
			shift /= law.(gaussianLaw).sigma
			want := float64(c.delta) / float64(dp.DeltaOne)
			epsilon := float64(got) / float64(dp.EpsilonOne)
			if d := gaussianDelta(shift, epsilon); d > want*(1+1e-6) {
				t.Errorf("%+v, root %v: at %v delta is %v", c, root, epsilon, d)
			}
			if d := gaussianDelta(shift, epsilon*0.99); d < want*(1+1e-6) {
				t.Errorf("%+v, root %v: %v is no least epsilon: 1 %% less would do", c, root, epsilon)
			}
			if got <= e || !root && float64(got) < 0.99*float64(e)*float64(c.times) {
				t.Errorf("%+v, root %v: %v is less than so many times the epsilon of a small shift", c, root, got)
			}
		}
	}
	if _, ok := accounting.PairOver(100*dp.EpsilonOne, 1, 1000, false); ok {
		t.Error("a pair beyond the largest epsilon was found")
	}
}
