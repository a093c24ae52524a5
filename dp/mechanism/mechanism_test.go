package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

func epsilon(t testing.TB, text string) dp.Epsilon {
	t.Helper()
	e, err := accounting.ParseEpsilon(text, accounting.Up)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func delta(t testing.TB, text string) dp.Delta {
	t.Helper()
	d, err := accounting.ParseDelta(text, accounting.Down)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

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

func TestSelectionReference(t *testing.T) {
	s, err := ForSelection(4, epsilon(t, "0.549306144334"), delta(t, "0.02"), false)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != Gaussian || s.Tau() != 18 {
		t.Errorf("selection is %s with tau %d, want gaussian with 18", s.Kind, s.Tau())
	}
	if p := s.KeepProbability(10); math.Abs(p-0.101) > 0.0005 {
		t.Errorf("10 customers are kept with probability %v, want 0.101", p)
	}
	if p := s.KeepProbability(38); p < 0.9998 || p > 0.9999 {
		t.Errorf("38 customers are kept with probability %v, want 0.99987", p)
	}
}

func TestMeanAgeOfPUMS(t *testing.T) {
	v, err := ForLoss(1, []int64{100, 1}, epsilon(t, "1"), 0, false, DefaultConfidence)
	if err != nil {
		t.Fatal(err)
	}
	if w := ExpectedMeanHalfWidth(v, 0, 100, 1000, DefaultConfidence); !(w <= 0.31 && w > 0.25) {
		t.Errorf("half-width over 1,000 rows is %v, want at most 0.31", w)
	}
}
