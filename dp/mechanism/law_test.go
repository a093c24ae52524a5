package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestSigmaMatchesPublishedValues compares with the analytic Gaussian mechanism of Balle and Wang (2018).
func TestSigmaMatchesPublishedValues(t *testing.T) {
	for _, c := range []struct {
		epsilon, delta string
		sigma          float64
	}{
		{"1", "1e-5", 3.73063}, {"1", "1e-6", 4.22468}, {"0.5", "1e-6", 8.05762}, {"0.1", "1e-6", 36.30469},
	} {
		d := Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: epsilon(t, c.epsilon), Delta: delta(t, c.delta)}
		law, err := d.law()
		if err != nil {
			t.Fatal(err)
		}
		got := law.(gaussianLaw).sigma
		if got < c.sigma*(1-1e-6) || got > c.sigma*(1+1.1e-3) {
			t.Errorf("sigma at (%s, %s) = %v, want %v, at most a thousandth above", c.epsilon, c.delta, got, c.sigma)
		}
	}
}

// TestSampledNoiseHasItsLaw compares tails of the noise as it is drawn with those that half-widths and thresholds
// are computed from, and rejects noise of 0.7 and 1.3 times the scale.
func TestSampledNoiseHasItsLaw(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const n = 10_000
	for name, d := range map[string]Draw{
		"laplace":            {Kind: Laplace, L0: 4, Bound: 10, Epsilon: dp.EpsilonOne / 2},
		"laplace, narrow":    {Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne * 3 / 2},
		"laplace, grid of 1": {Kind: Laplace, L0: 1, Bound: 1 << 39, Epsilon: dp.EpsilonOne * 3 / 4},
		"gaussian":           {Kind: Gaussian, L0: 4, Bound: 10, Epsilon: dp.EpsilonOne / 2, Delta: dp.DeltaOne / 1_000_000},
		"gaussian, wide":     {Kind: Gaussian, L0: 1, Bound: 1 << 50, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000},
	} {
		law, err := d.law()
		if err != nil {
			t.Fatal(err)
		}
		noise := draws(t, d, n)
		for _, miss := range []float64{0.5, 0.1, 0.01} {
			w := law.halfWidth(miss)
			p := law.atLeast(float64(w) + 0.5) // P(noise > w)
			if twice := 2 * p; twice > miss*(1+1e-9) {
				t.Errorf("%s: beyond half-width %d lies %v, more than %v", name, w, twice, miss)
			}
			if w > 0 && 2*law.atLeast(float64(w)-0.5) <= miss*(1-1e-9) {
				t.Errorf("%s: half-width %d is not the least for %v", name, w, miss)
			}
			outside := func(scale float64) rate {
				r := rate{n: n, low: 2 * p * (1 - 1e-9), high: 2 * p * (1 + 1e-9)}
				for _, x := range noise {
					if math.Abs(math.Round(float64(x)*scale)) > float64(w) {
						r.happened++
					}
				}
				return r
			}
			if r := outside(1); !r.plausible() {
				t.Errorf("%s: %d of %d draws lie beyond %d, want a share of %v", name, r.happened, n, w, 2*p)
			}
			if name == "laplace, narrow" {
				continue // a few integers wide: other scales round to the same
			}
			for _, wrong := range []float64{0.7, 1.3} {
				if r := outside(wrong); r.plausible() {
					t.Errorf("%s: noise of %v times the scale passes: %d of %d beyond %d", name, wrong, r.happened, n, w)
				}
			}
		}
		// The standard deviation of the mean square is that of the fourth moment: kurtosis 6 at most.
		var square float64
		for _, x := range noise {
			square += float64(x) * float64(x) / n
		}
		if ratio := math.Sqrt(square) / law.sd(); ratio < 0.8 || ratio > 1.2 {
			t.Errorf("%s: root mean square is %v times the stated sd", name, ratio)
		}
	}
}

// TestStandardDeviationIsThatOfTheLaw sums the integer law where it can be summed.
func TestStandardDeviationIsThatOfTheLaw(t *testing.T) {
	for _, d := range []Draw{
		{Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne * 3},
		{Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne},
		{Kind: Laplace, L0: 2, Bound: 10, Epsilon: dp.EpsilonOne},
		{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 100_000},
		{Kind: Gaussian, L0: 2, Bound: 10, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 100_000},
	} {
		law, err := d.law()
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for j := 1; j < 2000; j++ {
			sum += 2 * float64(2*j-1) * law.atLeast(float64(j)-0.5)
		}
		if got := law.sd(); math.Abs(got/math.Sqrt(sum)-1) > 1e-8 {
			t.Errorf("%+v: sd %v, the law's is %v", d, got, math.Sqrt(sum))
		}
	}
	if sd := newLaplaceLaw(1, 700).sd(); sd != 0 && sd > 1e-100 {
		t.Errorf("noise of no width has sd %v", sd)
	}
}

// TestLaplaceRhoHoldsForTheSampler checks what PRIVACY.md, "Laplace noise", leaves to the grid: over l0
// coordinates the two-sided geometric law's divergence, which is a little above the continuous one's at the
// same shift, stays below f(epsilon/l0) because the scale is (l1+g)/epsilon. The gap is far below what a
// float64 of either divergence shows, so both sides are divided by 1-exp(-e') as the proof does.
func TestLaplaceRhoHoldsForTheSampler(t *testing.T) {
	for _, l0 := range []int64{1, 2, 17, 1000, 1 << 20, MaxL0} {
		for _, bound := range []int64{1, 3, 1000, 1 << 30} {
			for e := dp.Epsilon(1); e <= MaxEpsilon; e *= 7 {
				d := Draw{Kind: Laplace, L0: l0, Bound: bound, Epsilon: e}
				law, err := d.law()
				if err != nil {
					continue
				}
				l := law.(laplaceLaw)
				mu := l.grid() / l.scale
				// 1 - mu/sinh(mu) <= mu^2/6, against half the room that the scale leaves, mu/(2*l0).
				if mu*mu/6 > mu/(2*float64(l0)) {
					t.Errorf("%+v: the grid's share of the divergence %v exceeds the room %v", d, mu*mu/6, mu/(2*float64(l0)))
				}
				// The other half is for the roundings of epsilon, scale and parameter: three, each 2^-53.
				if l.grid()/float64(l0*bound) < 0x1p-50 {
					t.Errorf("%+v: the grid leaves no room for rounding", d)
				}
			}
		}
	}
}
