package verify

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

func TestLogarithmMatchesKnownDigits(t *testing.T) {
	l := newLogarithm()
	for text, want := range map[string]string{
		// Fifty digits of log 2, log 10 and log 1.5, and of the logarithm of a number far from 1.
		"2":    "0.69314718055994530941723212145817656807550013436025",
		"10":   "2.3025850929940456840179914546843642076011014886288",
		"1.5":  "0.40546510810816438197801311546434913657199042346249",
		"1e18": "41.446531673892822312323846184318555736819826795317",
	} {
		x, _, err := big.ParseFloat(text, 10, precision, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		digits, _, err := big.ParseFloat(want, 10, precision, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		off := newFloat().Sub(l.of(x), digits)
		if off.Abs(off).Cmp(big.NewFloat(1e-46)) > 0 {
			t.Errorf("log %s is %s", text, l.of(x).Text('g', 52))
		}
	}
}

// The published values of Proposition 12 for a k-fold Gaussian: rho = k/(2 sigma^2).
func TestSecondCertificateMatchesPublishedValues(t *testing.T) {
	for _, p := range []struct{ rho, delta, epsilon float64 }{
		{1. / 2, 1e-5, 4.72838698},
		{10. / 50, 1e-6, 3.13105568},
		{1000. / 20000, 1e-6, 1.47159475},
	} {
		c := newCertificates()
		spent := loss{Epsilon: unbounded, Rho: int64(math.Round(p.rho * 1e12))}
		at := func(epsilon float64) bool {
			return c.hold(budget{Epsilon: int64(epsilon * 1e12), Delta: 2 * int64(math.Round(p.delta*1e18))}, spent)
		}
		if !at(p.epsilon+1e-8) || at(p.epsilon-1e-8) {
			t.Errorf("at rho %g and delta %g the bound is not %g", p.rho, p.delta, p.epsilon)
		}
	}
}

// What dp/accounting admits holds here, and what it refuses by more than its own rounding does not: two
// implementations with no line in common.
func TestCertificatesAgreeWithAdmission(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 5))
	c := newCertificates()
	budgets := make([]budget, 20)
	for i := range budgets {
		budgets[i] = budget{Epsilon: int64(math.Exp(random.Float64()*18-4) * 1e9), Delta: 4 * int64(math.Exp(random.Float64()*36))} // whose quarter and half are whole
		if i%10 == 0 {
			budgets[i].Delta = 0
		}
	}
	held, failed := 0, 0
	for range 3000 {
		b := budgets[random.IntN(len(budgets))]
		most := int64(0)
		if b.Delta > 0 {
			most = c.mostRho(b)
		}
		// Near the edges: half of the draws are within some units of what is just admitted.
		near := func(edge int64) int64 {
			switch random.IntN(4) {
			case 0:
				return max(0, edge+random.Int64N(7)-3)
			case 1:
				return max(0, edge+int64(float64(edge)*1e-13)+random.Int64N(5))
			case 2:
				return unbounded
			}
			return int64(float64(edge) * 1.5 * random.Float64())
		}
		spent := loss{near(b.Epsilon), near(b.Delta / 4), near(most), near(b.Delta / 4)}
		admitted := accounting.Admit(dp.Budget{Epsilon: dp.Epsilon(b.Epsilon), Delta: dp.Delta(b.Delta)}, dp.Loss{},
			dp.Loss{Epsilon: dp.Epsilon(spent.Epsilon), Delta: dp.Delta(spent.Delta), Rho: dp.Rho(spent.Rho), DeltaZ: dp.Delta(spent.DeltaZ)})
		if admitted {
			held++
			if !c.hold(b, spent) {
				t.Fatalf("%+v is admitted under %+v and does not hold", spent, b)
			}
			continue
		}
		// dp/accounting rounds epsilon up by less than 2^-45 of its terms.
		if c.hold(b, spent) {
			loose := dp.Budget{Epsilon: dp.Epsilon(float64(b.Epsilon)*(1+1e-10)) + 3, Delta: dp.Delta(b.Delta)}
			if !accounting.Admit(loose, dp.Loss{}, dp.Loss{Epsilon: dp.Epsilon(spent.Epsilon), Delta: dp.Delta(spent.Delta), Rho: dp.Rho(spent.Rho), DeltaZ: dp.Delta(spent.DeltaZ)}) {
				t.Fatalf("%+v holds under %+v and is refused", spent, b)
			}
			continue
		}
		failed++
	}
	if held < 300 || failed < 300 {
		t.Fatalf("only %d held and %d failed", held, failed)
	}
}

func TestUnknownRhoHoldsUnderTheFirstCertificateAlone(t *testing.T) {
	c := newCertificates()
	b := budget{Epsilon: 1e12, Delta: 1e9}
	if !c.hold(b, loss{Epsilon: 1e12, Delta: 25e7, Rho: unbounded}) {
		t.Error("the first certificate fails")
	}
	for _, spent := range []loss{
		{Epsilon: 1e12 + 1, Rho: unbounded},
		{Epsilon: 1, Delta: 25e7 + 1, Rho: unbounded},
		{Epsilon: unbounded, Rho: unbounded},
		{Epsilon: 1e12 + 1, Rho: 1, DeltaZ: 25e7 + 1},
		{Epsilon: -1},
	} {
		if c.hold(b, spent) {
			t.Errorf("%+v holds", spent)
		}
	}
	if c.hold(budget{Epsilon: 1e12}, loss{Epsilon: 1e12 + 1, Rho: 1}) {
		t.Error("the second certificate holds without a delta")
	}
}
