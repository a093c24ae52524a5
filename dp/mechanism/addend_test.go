package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestHalfWidthsOfSumsCover: sums of several draws, of one kind and of both, lie within the half-width as often as the
// confidence says; with noise of 0.7 or 1.3 times the scale they do not.
func TestHalfWidthsOfSumsCover(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const n = 2000
	laplace := Draw{Kind: Laplace, L0: 3, Bound: 700, Epsilon: dp.EpsilonOne}
	gaussian := Draw{Kind: Gaussian, L0: 3, Bound: 700, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000}
	from := map[Kind][]int64{Laplace: draws(t, laplace, 25*n), Gaussian: draws(t, gaussian, 25*n)}
	for name, of := range map[string][]Addend{
		"two laplace":       {{laplace, 1, 2}},
		"five laplace":      {{laplace, 1, 5}},
		"25 laplace":        {{laplace, 1, 25}},
		"two gaussian":      {{gaussian, 1, 2}},
		"25 gaussian":       {{gaussian, 1, 25}},
		"one of each":       {{laplace, 1, 1}, {gaussian, -1, 1}},
		"weights":           {{laplace, 0.75, 1}, {gaussian, 0.25, 1}},
		"a faint laplace":   {{laplace, 1.0 / 100, 1}, {gaussian, 1, 1}},
		"some of each kind": {{laplace, 1, 7}, {gaussian, 0.5, 3}},
	} {
		sums, variance := make([]float64, n), 0.0
		for i := range sums {
			at := map[Kind]int{}
			for _, a := range of {
				for range a.Times {
					sums[i] += a.Weight * float64(from[a.Draw.Kind][25*i+at[a.Draw.Kind]])
					at[a.Draw.Kind]++
				}
			}
			variance += sums[i] * sums[i] / n
		}
		// Fourth moments are at most 6 times squared variances: 0.35 is beyond 6 deviations of the mean of 2000.
		if want := SumSD(of...); math.Abs(variance/want/want-1) > 0.35 {
			t.Errorf("%s: sd %v, computed %v", name, math.Sqrt(variance), want)
		}
		for _, c := range []Confidence{0.5, 0.9, 0.99} {
			half := SumHalfWidth(c, of...)
			covered := func(scale float64) rate {
				r := rate{n: n, low: float64(c), high: float64(c) + 0.03*(1-float64(c))}
				for _, s := range sums {
					if math.Abs(s*scale) <= half {
						r.happened++
					}
				}
				return r
			}
			if r := covered(1); !r.plausible() {
				t.Errorf("%s at %v: %d of %d covered", name, c, r.happened, n)
			}
			if c == 0.9 {
				for _, wrong := range []float64{0.7, 1.3} {
					if r := covered(wrong); r.plausible() {
						t.Errorf("%s at %v: noise of %v times the scale passes: %d of %d covered", name, c, wrong, r.happened, n)
					}
				}
			}
		}
	}
}

// TestHalfWidthsOfSumsStayWhole: of whole noises an interval has whole ends, and one draw's is its own.
func TestHalfWidthsOfSumsStayWhole(t *testing.T) {
	d := Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000}
	if got, want := SumHalfWidth(0.95, Addend{d, 1, 1}), float64(d.HalfWidth(0.95)); got != want {
		t.Errorf("one draw: %v, want %v", got, want)
	}
	last := 0.0
	for _, k := range []int{2, 10, 100, 10_000} {
		w := SumHalfWidth(0.95, Addend{d, 1, k})
		if w != math.Trunc(w) || w <= last {
			t.Errorf("%d draws: %v", k, w)
		}
		// Rounding of many adds what Hoeffding's inequality allows: less than 3 sqrt(k), where half a unit each were k/2.
		if most := 1.96*4.23*math.Sqrt(float64(k)) + 3*math.Sqrt(float64(k)) + 1; w > most {
			t.Errorf("%d draws: %v, more than %v", k, w, most)
		}
		last = w
	}
	if w := SumHalfWidth(0.95, Addend{Draw{}, 1, 1}); !math.IsInf(w, 1) {
		t.Errorf("an invalid draw has a half-width of %v", w)
	}
}
