package faults

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// admitted holds a charge that was just made to the exact certificates: every account that it touched must be
// within its budget in force by one of them.
func admitted(l *ledger.Ledger, c dp.Charge) error {
	for _, p := range partsOf(c.Dataset, c.Blocks, c.Loss, c.Also) {
		accounts, _, err := l.DatasetAccounts(context.Background(), p.Dataset, "", 0)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			touched := slices.Contains(p.Blocks, a.Block) && (a.Consumer == c.Consumer || a.Consumer == "" && c.CapLoss != (dp.Loss{}))
			if touched && !certified(a.Budget, a.Spent) {
				return fmt.Errorf("charge %s: no certificate holds account %s of %q within %+v: it spent %+v", c.ID, a.Name, a.Consumer, a.Budget, a.Spent)
			}
		}
	}
	return nil
}

// certified tells whether a spent loss is within a budget by a certificate: (a) the sums of epsilon and delta,
// with a quarter of the budget's delta; (b) zCDP converted at half of the budget's delta. Rational numbers and
// bounds of logarithms in them, no rounding in the budget's favour.
func certified(b dp.Budget, spent dp.Loss) bool {
	quarter := func(d dp.Delta) bool {
		return new(big.Int).Mul(big.NewInt(4), big.NewInt(int64(d))).Cmp(big.NewInt(int64(b.Delta))) <= 0
	}
	if spent.Epsilon <= b.Epsilon && quarter(spent.Delta) {
		return true
	}
	if b.Delta == 0 || spent.Rho == dp.RhoUnknown || !quarter(spent.DeltaZ) {
		return false
	}
	epsilon := big.NewRat(int64(b.Epsilon), int64(dp.EpsilonOne))
	rho := big.NewRat(int64(spent.Rho), int64(dp.RhoOne))
	delta := big.NewRat(int64(b.Delta), int64(dp.DeltaOne))
	delta.Quo(delta, big.NewRat(2, 1))
	return converts(rho, epsilon, delta)
}

// converts tells whether rho-zCDP implies (epsilon, delta)-DP by Canonne, Kamath and Steinke (2020), Proposition 12:
// for some alpha > 1, exp((alpha-1)(alpha rho - epsilon)) / (alpha-1) * (1-1/alpha)^alpha <= delta. The alpha is
// searched in floating point, and what it proves is checked in rational numbers.
func converts(rho, epsilon, delta *big.Rat) bool {
	r, _ := rho.Float64()
	e, _ := epsilon.Float64()
	logDelta := func(alpha float64) float64 {
		return (alpha-1)*(alpha*r-e) - math.Log(alpha-1) + alpha*math.Log1p(-1/alpha)
	}
	low, high := 1e-6, 1e9 // of alpha-1, on a logarithmic scale; the bound has one minimum
	for range 200 {
		third := math.Pow(high/low, 1./3)
		if logDelta(1+low*third) < logDelta(1+high/third) {
			high /= third
		} else {
			low *= third
		}
	}
	alpha := new(big.Rat).SetFloat64(1 + math.Sqrt(low*high))
	minusOne := new(big.Rat).Sub(alpha, big.NewRat(1, 1))

	// The logarithm of the bound, from above.
	bound := new(big.Rat).Mul(alpha, rho)
	bound.Sub(bound, epsilon).Mul(bound, minusOne)
	below, _ := logarithm(minusOne)
	bound.Sub(bound, below)
	_, above := logarithm(new(big.Rat).Quo(minusOne, alpha))
	bound.Add(bound, above.Mul(above, alpha))
	below, _ = logarithm(delta)
	return bound.Cmp(below) <= 0
}

// logarithm bounds the natural logarithm of x > 0 from below and above, some 1e-30 apart.
func logarithm(x *big.Rat) (below, above *big.Rat) {
	// x = m 2^k with m in [1, 2): ln x = ln m + k ln 2, and ln m = 2 artanh((m-1)/(m+1)), with artanh's series.
	k := x.Num().BitLen() - x.Denom().BitLen()
	two := func(n int) *big.Rat {
		power := new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(max(n, -n))))
		if n < 0 {
			power.Inv(power)
		}
		return power
	}
	m := new(big.Rat).Mul(x, two(-k))
	if m.Cmp(big.NewRat(1, 1)) < 0 {
		m.Mul(m, big.NewRat(2, 1))
		k--
	}
	below, above = artanh2(m)
	ln2below, ln2above := artanh2(big.NewRat(2, 1))
	if k < 0 {
		ln2below, ln2above = ln2above, ln2below
	}
	times := big.NewRat(int64(k), 1)
	below.Add(below, ln2below.Mul(ln2below, times))
	above.Add(above, ln2above.Mul(ln2above, times))
	return below, above
}

// artanh2 bounds ln m = 2 artanh(z), z = (m-1)/(m+1), for m in [1, 2], so z <= 1/3: after n terms at most
// 2 z^(2n+1)/(1-z^2) < 3 z^(2n+1) is missing. Each power is cut to 160 bits, downwards for the sum below and
// with 2^-150 added in the end for the sum above, which is more than all cuts together.
func artanh2(m *big.Rat) (below, above *big.Rat) {
	one := big.NewRat(1, 1)
	z := new(big.Rat).Quo(new(big.Rat).Sub(m, one), new(big.Rat).Add(m, one))
	cut := func(r *big.Rat) *big.Rat {
		scaled := new(big.Int).Quo(new(big.Int).Lsh(r.Num(), 160), r.Denom())
		return new(big.Rat).SetFrac(scaled, new(big.Int).Lsh(big.NewInt(1), 160))
	}
	z = cut(z) // from below, which 2^-150 covers too
	square := cut(new(big.Rat).Mul(z, z))
	power, sum := new(big.Rat).Set(z), new(big.Rat)
	for n := int64(0); n < 40; n++ {
		sum.Add(sum, cut(new(big.Rat).Mul(power, big.NewRat(2, 2*n+1))))
		power = cut(power.Mul(power, square))
	}
	slack := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 150))
	above = new(big.Rat).Add(sum, power.Mul(power, big.NewRat(3, 1)))
	return sum, above.Add(above, slack)
}

func TestCertificatesOfTheModel(t *testing.T) {
	for x, want := range map[float64]float64{1: 0, 2: math.Ln2, 1e-9: math.Log(1e-9), 10: math.Ln10, 0.5: -math.Ln2, 123456789: math.Log(123456789)} {
		below, above := logarithm(new(big.Rat).SetFloat64(x))
		low, _ := below.Float64()
		high, _ := above.Float64()
		if below.Cmp(above) > 0 || math.Abs(low-want) > 1e-12 || math.Abs(high-want) > 1e-12 {
			t.Errorf("ln %v is in [%v, %v]", x, low, high)
		}
	}
	// Conversions of k Gaussians of scale sigma, rho = k/(2 sigma^2), by Proposition 12.
	for _, c := range []struct{ rho, delta, epsilon float64 }{
		{0.5, 1e-5, 4.72838698}, {0.2, 1e-6, 3.13105568}, {0.05, 1e-6, 1.47159475},
	} {
		rat := func(x float64) *big.Rat { return new(big.Rat).SetFloat64(x) }
		if !converts(rat(c.rho), rat(c.epsilon+1e-7), rat(c.delta)) {
			t.Errorf("%+v is not certified", c)
		}
		if converts(rat(c.rho), rat(c.epsilon-1e-7), rat(c.delta)) {
			t.Errorf("less than %+v is certified", c)
		}
	}
	budget := dp.Budget{Epsilon: dp.EpsilonOne, Delta: 4}
	for _, c := range []struct {
		spent dp.Loss
		want  bool
	}{
		{dp.Loss{Epsilon: dp.EpsilonOne, Delta: 1, Rho: dp.RhoUnknown}, true},
		{dp.Loss{Epsilon: dp.EpsilonOne + 1, Delta: 1, Rho: dp.RhoUnknown}, false},
		{dp.Loss{Epsilon: dp.EpsilonOne, Delta: 2, Rho: dp.RhoUnknown}, false},
		{dp.Loss{Epsilon: 5 * dp.EpsilonOne, Delta: 9, Rho: 1}, true},
		{dp.Loss{Epsilon: 5 * dp.EpsilonOne, Delta: 9, Rho: 1, DeltaZ: 2}, false},
		{dp.Loss{Epsilon: 5 * dp.EpsilonOne, Delta: 9, Rho: dp.RhoOne / 2}, false},
	} {
		if got := certified(budget, c.spent); got != c.want {
			t.Errorf("%+v within %+v: %v", c.spent, budget, got)
		}
	}
}
