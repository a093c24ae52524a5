package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// The statistical tests of this package are bounded by exact binomial tails. falseAlarm is the chance that
// one of them fails in one run although everything is right: each cell gets it divided by statisticalCells.
const (
	falseAlarm       = 1e-6
	statisticalCells = 200 // more than there are
)

// rate is how often something happened that should happen with a probability between low and high.
type rate struct {
	happened, n int
	low, high   float64
}

// plausible reports whether the rate would be this far off by chance more often than a cell's share of falseAlarm.
func (r rate) plausible() bool {
	const share = falseAlarm / statisticalCells / 2
	return binomialTail(r.n, r.happened, r.low, false) > share && binomialTail(r.n, r.happened, r.high, true) > share
}

// binomialTail is P(X >= k), or P(X <= k) if !up wants to know whether k is too small: exact sums.
func binomialTail(n, k int, p float64, up bool) float64 {
	from, to := 0, k
	if up {
		from, to = k, n
	}
	if p <= 0 || p >= 1 {
		at := 0
		if p >= 1 {
			at = n
		}
		if from <= at && at <= to {
			return 1
		}
		return 0
	}
	lgN, _ := math.Lgamma(float64(n) + 1)
	sum := 0.0
	for i := from; i <= to; i++ {
		lgI, _ := math.Lgamma(float64(i) + 1)
		lgR, _ := math.Lgamma(float64(n-i) + 1)
		sum += math.Exp(lgN - lgI - lgR + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

func TestBinomialBoundsRejectWhatIsImplausible(t *testing.T) {
	for _, c := range []struct {
		rate rate
		want bool
	}{
		{rate{5000, 10000, 0.5, 0.5}, true},
		{rate{5100, 10000, 0.5, 0.5}, true},
		{rate{5400, 10000, 0.5, 0.5}, false},
		{rate{4600, 10000, 0.5, 0.5}, false},
		{rate{9900, 10000, 0.95, 0.99}, true},
		{rate{10000, 10000, 0.95, 0.99}, false},
		{rate{0, 10000, 0, 0}, true},
		{rate{1, 10000, 0, 0}, false},
	} {
		if got := c.rate.plausible(); got != c.want {
			t.Errorf("%+v is plausible: %v", c.rate, got)
		}
	}
}

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

// draws is n draws of secure noise on 0.
func draws(t testing.TB, d Draw, n int) []int64 {
	t.Helper()
	noise := Secure()
	out := make([]int64, n)
	for i := range out {
		var err error
		if out[i], err = noise.Add(0, d); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
