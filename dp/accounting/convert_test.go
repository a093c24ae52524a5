package accounting

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestConversionMatchesPublishedValues has the figures of Proposition 12 for k-fold Gaussian noise.
func TestConversionMatchesPublishedValues(t *testing.T) {
	for _, c := range []struct {
		sigma, k float64
		delta    string
		want     float64
	}{
		{1, 1, "1e-5", 4.72838698},
		{5, 10, "1e-6", 3.13105568},
		{100, 1000, "1e-6", 1.47159475},
	} {
		delta, err := ParseDelta(c.delta, Down)
		if err != nil {
			t.Fatal(err)
		}
		got := FromRho(dp.Rho(math.Round(c.k/(2*c.sigma*c.sigma)*float64(dp.RhoOne))), delta)
		if units := float64(got) / float64(dp.EpsilonOne); math.Abs(units-c.want) > 5.1e-9 {
			t.Errorf("sigma %v, %v times, delta %s: epsilon is %.9f, want %.8f", c.sigma, c.k, c.delta, units, c.want)
		}
	}
}

// TestConversionIsAtLeastTheExactBoundAndWithinAUnit compares with 128-bit evaluation.
func TestConversionIsAtLeastTheExactBoundAndWithinAUnit(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	cases := 1500
	if raceDetector {
		cases = 150
	}
	for range cases {
		rho := dp.Rho(math.Pow(10, 14*random.Float64())) // 10^-12 to 100
		delta := dp.Delta(math.Pow(10, 17.9*random.Float64()))
		exact := exactFromRho(big.NewRat(int64(rho), int64(dp.RhoOne)), big.NewRat(int64(delta), int64(dp.DeltaOne)))
		exact.Mul(exact, big.NewFloat(float64(dp.EpsilonOne)))
		units, _ := exact.Float64()
		got := FromRho(rho, delta)
		if new(big.Float).SetInt64(int64(got)).Cmp(exact) < 0 {
			t.Fatalf("rho %v, delta %v: epsilon %v is below the exact %v units", rho, delta, got, units)
		}
		if float64(got) > max(units, 0)*(1+1e-12)+2 {
			t.Fatalf("rho %v, delta %v: epsilon %v is far above the exact %v units", rho, delta, got, units)
		}
	}
}

func TestConversionGrowsWithRhoAndFallsWithDelta(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for range 2000 {
		rho, delta := dp.Rho(math.Pow(10, 14*random.Float64())), dp.Delta(math.Pow(10, 17.9*random.Float64()))
		e := FromRho(rho, delta)
		if more := FromRho(rho+rho/1000+1, delta); more < e {
			t.Fatalf("rho %v, delta %v: more rho gives less epsilon", rho, delta)
		}
		if less := FromRho(rho, delta-delta/1000-1); less < e {
			t.Fatalf("rho %v, delta %v: less delta gives less epsilon", rho, delta)
		}
	}
}

func TestConversionAtItsEdges(t *testing.T) {
	for _, c := range []struct {
		rho   dp.Rho
		delta dp.Delta
		want  dp.Epsilon
	}{
		{0, 1, 0},
		{dp.RhoUnknown, dp.DeltaOne, unbounded},
		{1, 0, unbounded},
		{1, -1, unbounded},
		{-1, 1, unbounded},
		{dp.RhoOne, dp.DeltaOne, 0},
		{dp.RhoUnknown - 1, 1, unbounded},
	} {
		if got := FromRho(c.rho, c.delta); got != c.want {
			t.Errorf("FromRho(%d, %d) = %d, want %d", c.rho, c.delta, got, c.want)
		}
	}
	if got := FromRho(1, dp.DeltaOne-1); got < 0 || got > dp.EpsilonOne {
		t.Errorf("rho of one unit at a delta of almost 1 is epsilon %v", got)
	}
}

// TestLaplaceRhoIsRoundedUpByAtMostAUnit compares with 128-bit evaluation of n*(e/n + exp(-e/n) - 1).
func TestLaplaceRhoIsRoundedUpByAtMostAUnit(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 14))
	for range 3000 {
		e := dp.Epsilon(math.Pow(10, 14.8*random.Float64()))
		n := int64(math.Pow(10, 6*random.Float64()))
		x := new(big.Float).SetPrec(precision).SetRat(big.NewRat(int64(e), int64(dp.EpsilonOne)))
		x.Quo(x, big.NewFloat(float64(n)))
		exact := bigExp(new(big.Float).Neg(x))
		exact.Sub(exact.Add(exact, x), big.NewFloat(1))
		exact.Mul(exact.Mul(exact, big.NewFloat(float64(n))), big.NewFloat(float64(dp.RhoOne)))
		units, _ := exact.Float64()
		got := LaplaceRho(e, n)
		if new(big.Float).SetInt64(int64(got)).Cmp(exact) < 0 {
			t.Fatalf("epsilon %v over %d coordinates: rho %v is below the exact %v units", e, n, got, units)
		}
		if float64(got) > units*(1+1e-13)+1 {
			t.Fatalf("epsilon %v over %d coordinates: rho %v is far above the exact %v units", e, n, got, units)
		}
	}
}

func TestLaplaceRhoGrowsWithEpsilonAndNeverExceedsIt(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 16))
	for range 20_000 {
		e := dp.Epsilon(math.Pow(10, 14.8*random.Float64()))
		rho := PureRho(e)
		if next := PureRho(e + 1); next < rho {
			t.Fatalf("rho falls from %d to %d after epsilon %d", rho, next, e)
		}
		if int64(rho) > int64(e) {
			t.Fatalf("rho %v exceeds epsilon %v", rho, e)
		}
		if more := LaplaceRho(e, 2); more > rho {
			t.Fatalf("epsilon %v spread over two coordinates costs rho %v, over one %v", e, more, rho)
		}
	}
	if PureRho(0) != 0 || PureRho(-1) != 0 {
		t.Error("no epsilon costs rho")
	}
	if LaplaceRho(dp.EpsilonOne, 0) != PureRho(dp.EpsilonOne) {
		t.Error("no coordinates do not count as one")
	}
}

// TestRenyiDivergenceOfLaplaceStaysBelowItsLine checks the lemma of PRIVACY.md, "Laplace noise", on
// a grid: D_alpha <= alpha*f(e) for the continuous distribution, and D_alpha <= alpha*KL for the two-sided
// geometric one, by summing the law itself. It rejects a line a hundredth lower.
func TestRenyiDivergenceOfLaplaceStaysBelowItsLine(t *testing.T) {
	orders := []float64{1.0001, 1.01, 1.1, 1.5, 2, 3, 5, 10, 30, 100, 1000}
	for e := 1e-3; e < 60; e *= 1.3 {
		line := laplaceDivergence(e)
		tight := false
		for _, alpha := range orders {
			d := continuousRenyi(alpha, e)
			if d > alpha*line*(1+1e-9) {
				t.Errorf("continuous: order %v, shift %v: %v exceeds %v", alpha, e, d, alpha*line)
			}
			tight = tight || d > alpha*line*0.99
		}
		if !tight {
			t.Errorf("continuous: shift %v: a line a hundredth lower holds, too", e)
		}
	}
	for _, mu := range []float64{0.01, 0.1, 0.5, 1, 3} {
		for _, steps := range []int{1, 2, 3, 7, 20} {
			line := geometricRenyi(1, mu, steps)
			e := mu * float64(steps)
			if closed := e - mu/math.Sinh(mu)*-math.Expm1(-e); math.Abs(closed-line) > 1e-9*line {
				t.Errorf("geometric: step %v, shift %d: divergence %v, closed form %v", mu, steps, line, closed)
			}
			for _, alpha := range orders {
				if d := geometricRenyi(alpha, mu, steps); d > alpha*line*(1+1e-9) {
					t.Errorf("geometric: order %v, step %v, shift %d: %v exceeds %v", alpha, mu, steps, d, alpha*line)
				}
			}
		}
	}
}

// continuousRenyi is the divergence of order alpha between Laplace distributions of scale 1, e apart
// (Mironov, "Renyi Differential Privacy", 2017, Proposition 6).
func continuousRenyi(alpha, e float64) float64 {
	if alpha*e < 1 { // the logarithm of almost 1: expand both exponentials
		t := alpha - 1
		excess := alpha/(2*alpha-1)*math.Expm1(t*e) + t/(2*alpha-1)*math.Expm1(-alpha*e)
		return math.Log1p(excess) / t
	}
	t := alpha - 1
	// Factor out exp(t*e) so that large orders do not overflow.
	return e + math.Log(alpha/(2*alpha-1)+t/(2*alpha-1)*math.Exp(-(2*alpha-1)*e))/t
}

// geometricRenyi sums the law of the two-sided geometric distribution with ratio exp(-mu); order 1 is the
// Kullback-Leibler divergence.
func geometricRenyi(alpha, mu float64, steps int) float64 {
	reach := steps + int(60/mu)
	logNorm := math.Log(math.Tanh(mu / 2))
	p := func(k int) float64 { return logNorm - mu*math.Abs(float64(k)) }
	var logs []float64
	sum := 0.0
	for k := -reach; k <= reach; k++ {
		if alpha == 1 {
			sum += math.Exp(p(k)) * (p(k) - p(k-steps))
			continue
		}
		logs = append(logs, alpha*p(k)+(1-alpha)*p(k-steps))
	}
	if alpha == 1 {
		return sum
	}
	top := math.Inf(-1)
	for _, l := range logs {
		top = max(top, l)
	}
	for _, l := range logs {
		sum += math.Exp(l - top)
	}
	return (top + math.Log(sum)) / (alpha - 1)
}

// precision is in bits, far beyond what a unit of 10^-12 needs.
const precision = 128

// exactFromRho is Proposition 12: the best order is searched by ternary search, apart from bestOrder, and the
// bound is evaluated there in 128 bits.
func exactFromRho(rho, delta *big.Rat) *big.Float {
	r, _ := rho.Float64()
	d, _ := delta.Float64()
	bound := func(logT float64) float64 {
		t := math.Exp(logT)
		return (1+t)*r + (-math.Log(d)-math.Log1p(t))/t - math.Log1p(1/t)
	}
	low, high := -20.0, 50.0
	for range 90 {
		a, b := low+(high-low)/3, high-(high-low)/3
		if bound(a) < bound(b) {
			high = b
		} else {
			low = a
		}
	}
	t := new(big.Float).SetPrec(precision).SetFloat64(math.Exp(low))
	alpha := new(big.Float).SetPrec(precision).Add(t, big.NewFloat(1))
	sum := new(big.Float).SetPrec(precision).SetRat(rho)
	sum.Mul(sum, alpha)
	tail := new(big.Float).SetPrec(precision).SetRat(delta)
	tail.Neg(bigLog(tail.Mul(tail, alpha)))
	sum.Add(sum, tail.Quo(tail, t))
	return sum.Add(sum, bigLog(new(big.Float).SetPrec(precision).Quo(t, alpha)))
}

// bigLog is the natural logarithm of x > 0.
func bigLog(x *big.Float) *big.Float {
	mantissa := new(big.Float).SetPrec(precision)
	exponent := x.MantExp(mantissa)
	sum := atanhTwice(mantissa)
	two := atanhTwice(big.NewFloat(0.5).SetPrec(precision)) // -log 2
	return sum.Sub(sum, two.Mul(two, new(big.Float).SetInt64(int64(exponent))))
}

// atanhTwice is log m = 2 atanh((m-1)/(m+1)) for m in [1/2, 1).
func atanhTwice(m *big.Float) *big.Float {
	one := big.NewFloat(1)
	z := new(big.Float).SetPrec(precision).Sub(m, one)
	z.Quo(z, new(big.Float).SetPrec(precision).Add(m, one))
	square := new(big.Float).Mul(z, z)
	sum, power := new(big.Float).SetPrec(precision), new(big.Float).Set(z)
	for k := int64(1); k < 86; k += 2 {
		sum.Add(sum, new(big.Float).Quo(power, new(big.Float).SetInt64(k)))
		power.Mul(power, square)
	}
	return sum.Mul(sum, big.NewFloat(2))
}

// bigExp is exp(x) for x <= 0: the Taylor series after 16 halvings.
func bigExp(x *big.Float) *big.Float {
	const halvings = 16
	small := new(big.Float).SetPrec(precision).SetMantExp(x, -halvings)
	sum, term := big.NewFloat(1).SetPrec(precision), big.NewFloat(1).SetPrec(precision)
	for k := int64(1); k < 40; k++ {
		term.Quo(term.Mul(term, small), new(big.Float).SetInt64(k))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}
