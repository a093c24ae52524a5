package mechanism

import (
	"errors"
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestNoiseWithTheSmallerHalfWidthIsChosen(t *testing.T) {
	one, tiny := dp.EpsilonOne, dp.DeltaOne/1_000_000_000
	for _, c := range []struct {
		name       string
		partitions int64
		delta      dp.Delta
		pure       bool
		want       Kind
	}{
		{"one coordinate", 1, tiny, false, Laplace},
		{"many coordinates", 64, tiny, false, Gaussian},
		{"many coordinates, no delta", 64, 0, false, Laplace},
		{"many coordinates, pure", 64, tiny, true, Laplace},
		{"a delta that the cut uses up", 64, 64 * cutDelta, false, Laplace},
	} {
		v, err := ForLoss(Vector{Partitions: c.partitions, Bounds: []int64{1}}, one/10, c.delta, c.pure, DefaultConfidence)
		if err != nil || v.Kind != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, v.Kind, err, c.want)
		}
		if loss := v.Loss(); loss.Epsilon > one/10 || loss.Delta > c.delta {
			t.Errorf("%s: costs %+v, more than was given", c.name, loss)
		}
	}
	if _, err := ForLoss(Vector{Partitions: 1, Bounds: []int64{0}}, one, 0, false, DefaultConfidence); !errors.Is(err, errBound) {
		t.Errorf("a bound of 0: %v", err)
	}
	// Too much noise for Laplace, not for Gaussian.
	v, err := ForLoss(Vector{Partitions: 1 << 20, Bounds: []int64{1 << 22}}, one/2, dp.DeltaOne/1_000_000, false, DefaultConfidence)
	if err != nil || v.Kind != Gaussian {
		t.Errorf("a sensitivity of 2^42: %s, %v", v.Kind, err)
	}
}

func TestGaussianPaysForItsCutInBothCertificates(t *testing.T) {
	given := dp.DeltaOne / 1_000_000
	v, err := ForLoss(Vector{Partitions: 100, Bounds: []int64{50, 1}}, dp.EpsilonOne/10, given, false, DefaultConfidence)
	if err != nil || v.Kind != Gaussian {
		t.Fatal(v.Kind, err)
	}
	loss := v.Loss()
	if loss.Delta != given || v.Delta != given-200*cutDelta || loss.DeltaZ != 200*cutDelta {
		t.Errorf("given %v: pair %v, price %+v", given, v.Delta, loss)
	}
	// Rho is the sum over both coordinates, each with its own bound and sigma and one l0 of 200.
	want := 0.0
	for i, bound := range v.Bounds {
		d := v.Draw(i)
		if d.L0 != 200 || d.Bound != bound {
			t.Fatalf("coordinate %d is drawn as %+v", i, d)
		}
		law, err := d.law()
		if err != nil {
			t.Fatal(err)
		}
		want += 100 * float64(bound*bound) / (2 * law.(gaussianLaw).sigma * law.(gaussianLaw).sigma)
	}
	if got := float64(loss.Rho) / float64(dp.RhoOne); got < want || got > want+2e-12 {
		t.Errorf("rho is %v, want %v", got, want)
	}
}

func TestLaplacePriceIsPure(t *testing.T) {
	v := Vector{Kind: Laplace, Partitions: 4, Bounds: []int64{3}, Epsilon: dp.EpsilonOne}
	loss := v.Loss()
	if loss.Epsilon != dp.EpsilonOne || loss.Delta != 0 || loss.DeltaZ != 0 {
		t.Errorf("price is %+v", loss)
	}
	if want := 4 * (0.25 + math.Exp(-0.25) - 1); math.Abs(float64(loss.Rho)/float64(dp.RhoOne)-want) > 2e-12 {
		t.Errorf("rho is %v, want %v", loss.Rho, want)
	}
}

// countWidth is the half-width of coordinate 0.
func countWidth(v Vector) float64 { return float64(v.Draw(0).HalfWidth(DefaultConfidence)) }

func TestAskedHalfWidthCostsTheLeast(t *testing.T) {
	d := dp.DeltaOne / 1_000_000_000
	for _, partitions := range []int64{1, 8, 64} {
		for _, target := range []float64{15, 35, 1000} {
			v, best, err := ForHalfWidth(Vector{Partitions: partitions, Bounds: []int64{1}}, countWidth, target, d, false, 20*dp.EpsilonOne)
			if err != nil {
				t.Errorf("%d partitions within %v: %v", partitions, target, err)
				continue
			}
			if best > target || best != countWidth(v) {
				t.Errorf("%d partitions within %v: half-width is %v", partitions, target, best)
			}
			less := v
			less.Epsilon -= max(less.Epsilon/500, 1) // sigma is found to a thousandth
			if countWidth(less) <= target {
				t.Errorf("%d partitions within %v: a smaller epsilon would do", partitions, target)
			}
			for _, pure := range []bool{true, false} {
				other, err := ForLoss(Vector{Partitions: partitions, Bounds: []int64{1}}, v.Epsilon, d, pure, DefaultConfidence)
				if err == nil && countWidth(other) <= target && other.Loss().Rho < v.Loss().Rho {
					t.Errorf("%d partitions within %v: %s would cost less rho than %s", partitions, target, other.Kind, v.Kind)
				}
			}
		}
	}
	pure, _, err := ForHalfWidth(Vector{Partitions: 64, Bounds: []int64{1}}, countWidth, 100, d, true, 20*dp.EpsilonOne)
	if err != nil || pure.Kind != Laplace || pure.Loss().Delta != 0 {
		t.Errorf("pure: %+v, %v", pure, err)
	}
}

func TestUnattainableHalfWidthNamesTheBest(t *testing.T) {
	for _, d := range []dp.Delta{0, dp.DeltaOne / 1_000_000_000} {
		_, best, err := ForHalfWidth(Vector{Partitions: 64, Bounds: []int64{1}}, countWidth, 3, d, false, dp.EpsilonOne)
		if !errors.Is(err, ErrUnattainable) {
			t.Fatalf("delta %v: %v", d, err)
		}
		v, _, err := ForHalfWidth(Vector{Partitions: 64, Bounds: []int64{1}}, countWidth, best, d, false, dp.EpsilonOne)
		if err != nil || countWidth(v) != best || v.Loss().Epsilon > dp.EpsilonOne || v.Loss().Delta > d {
			t.Errorf("delta %v: the best half-width %v is not attained: %+v, %v", d, best, v, err)
		}
		if _, _, err := ForHalfWidth(Vector{Partitions: 64, Bounds: []int64{1}}, countWidth, best-1, d, false, dp.EpsilonOne); !errors.Is(err, ErrUnattainable) {
			t.Errorf("delta %v: better than the best is attained", d)
		}
	}
	if _, _, err := ForHalfWidth(Vector{Partitions: 1, Bounds: []int64{0}}, countWidth, 3, 0, false, dp.EpsilonOne); !errors.Is(err, errBound) {
		t.Errorf("a bound of 0: %v", err)
	}
	if _, _, err := ForHalfWidth(Vector{Partitions: 1, Bounds: []int64{1}}, countWidth, 3, 0, false, 0); !errors.Is(err, errEpsilon) {
		t.Errorf("no epsilon at all: %v", err)
	}
}

func TestMeanWithinAHalfWidth(t *testing.T) {
	width := func(v Vector) float64 { return ExpectedMeanHalfWidth(v, 0, 100, 1000, DefaultConfidence) }
	v, best, err := ForHalfWidth(Vector{Partitions: 1, Bounds: []int64{100, 1}}, width, 0.31, 0, false, 5*dp.EpsilonOne)
	if err != nil || best > 0.31 || v.Epsilon > dp.EpsilonOne || v.Epsilon < dp.EpsilonOne*9/10 {
		t.Errorf("%+v reaches %v, %v", v, best, err)
	}
}

func TestSelectionUsesTheNoiseWithTheSmallerThreshold(t *testing.T) {
	for _, partitions := range []int64{1, 4, 16, 256} {
		for _, e := range []string{"0.05", "0.5", "1"} {
			for _, d := range []string{"1e-11", "1e-6", "0.02"} {
				s, err := ForSelection(partitions, epsilon(t, e), delta(t, d), false)
				if err != nil {
					t.Errorf("%d partitions at (%s, %s): %v", partitions, e, d, err)
					continue
				}
				for _, kind := range []Kind{Laplace, Gaussian} {
					other := s
					other.Kind = kind
					if other.Validate() == nil && other.Tau() < s.Tau() {
						t.Errorf("%d partitions at (%s, %s): %s has tau %d, %s only %d", partitions, e, d, s.Kind, s.Tau(), kind, other.Tau())
					}
				}
				if loss := s.Loss(); loss.Epsilon != s.Epsilon || loss.Delta != s.Delta || loss.DeltaZ > s.Delta || loss.Rho <= 0 {
					t.Errorf("%d partitions at (%s, %s): price is %+v", partitions, e, d, loss)
				}
				pure, err := ForSelection(partitions, epsilon(t, e), delta(t, d), true)
				if err != nil || pure.Kind != Laplace || pure.Loss().DeltaZ != pure.Delta {
					t.Errorf("%d partitions at (%s, %s), pure: %+v, %v", partitions, e, d, pure, err)
				}
			}
		}
	}
}

// TestSelectionOfTheRestaurantsGroups: at epsilon ln(3)/2, delta 0.02 and four partitions, 10 customers are shown
// 10.1 % of the time and 38 customers 99.98 %, by Gaussian noise and tau 18.
func TestSelectionOfTheRestaurantsGroups(t *testing.T) {
	s, err := ForSelection(4, epsilon(t, "0.549306144334"), delta(t, "0.02"), false)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != Gaussian || s.Tau() != 18 {
		t.Errorf("selection is %s with tau %d, want gaussian with 18", s.Kind, s.Tau())
	}
	const n = 20_000
	noise := draws(t, s.Draw(), n)
	for customers, want := range map[int64]float64{10: 0.101, 38: 0.9998} {
		p := s.KeepProbability(customers)
		if math.Abs(p-want) > 0.0005 {
			t.Errorf("%d customers are shown with probability %v, want %v", customers, p, want)
		}
		shown := func(scale float64) rate {
			r := rate{n: n, low: p, high: p}
			for _, x := range noise {
				if customers+int64(math.Round(float64(x)*scale)) >= s.Tau() {
					r.happened++
				}
			}
			return r
		}
		if r := shown(1); !r.plausible() {
			t.Errorf("%d customers were shown %d times of %d, want a share of %v", customers, r.happened, n, p)
		}
		for _, wrong := range []float64{0.7, 1.3} {
			if customers == 38 && wrong < 1 {
				continue // a chance of 2 in 10,000 is too small to tell from none
			}
			if r := shown(wrong); r.plausible() {
				t.Errorf("%d customers: noise of %v times the scale passes: %d of %d", customers, wrong, r.happened, n)
			}
		}
	}
}
