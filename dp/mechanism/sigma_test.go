package mechanism

import (
	"math"
	"math/big"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestSigmaKeepsItsDeltaButForRounding evaluates the delta of the sigma in use, Phi(a-b) - exp(epsilon)*Phi(-a-b)
// with a = s/(2 sigma), b = epsilon*sigma/s and s = bound*sqrt(l0) (Balle and Wang 2018, Theorem 8), in 300 bits. It may
// exceed the delta that was asked for by a fifth of cutDelta, which each coordinate is charged: PRIVACY.md,
// "Gaussian noise". A sigma a hundredth smaller keeps it nowhere where delta is large enough to tell.
func TestSigmaKeepsItsDeltaButForRounding(t *testing.T) {
	valid := 0
	for _, l0 := range []int64{1, 3, 1000} {
		for _, e := range []dp.Epsilon{1, 1000, 1e6, 1e9, 1e11, 5e11, 1e12, 4e12, 9e12} {
			for d := dp.Delta(1); d < dp.DeltaOne/10; d *= 100 {
				draw := Draw{Kind: Gaussian, L0: l0, Bound: 12_345, Epsilon: e, Delta: d}
				law, err := draw.law()
				if err != nil {
					continue
				}
				valid++
				sigma, asked := law.(gaussianLaw).sigma, float64(d)/float64(dp.DeltaOne)
				excess := exactDelta(sigma, l0, draw.Bound, e) - asked
				if limit := float64(cutDelta) / float64(dp.DeltaOne) / 5; excess > limit {
					t.Errorf("%+v: delta is exceeded by %v", draw, excess)
				}
				if d >= dp.DeltaOne/1_000_000 && exactDelta(sigma*0.99, l0, draw.Bound, e) <= asked {
					t.Errorf("%+v: a sigma a hundredth smaller would do", draw)
				}
			}
		}
	}
	if valid < 100 {
		t.Errorf("only %d cases were valid", valid)
	}
}

const sigmaPrecision = 300

func number(x float64) *big.Float { return new(big.Float).SetPrec(sigmaPrecision).SetFloat64(x) }

func exactDelta(sigma float64, l0, bound int64, e dp.Epsilon) float64 {
	s := new(big.Float).Mul(new(big.Float).Sqrt(number(float64(l0))), number(float64(bound)))
	epsilon := new(big.Float).Quo(number(float64(e)), number(float64(dp.EpsilonOne)))
	a := new(big.Float).Quo(s, number(2*sigma))
	b := new(big.Float).Quo(new(big.Float).Mul(epsilon, number(sigma)), s)
	first := normal(new(big.Float).Sub(a, b))
	second := normal(new(big.Float).Neg(new(big.Float).Add(a, b)))
	delta, _ := first.Sub(first, second.Mul(second, exponential(epsilon))).Float64()
	return delta
}

// normal is the standard normal distribution function: 1/2 + the odd series of its integral.
func normal(x *big.Float) *big.Float {
	if y, _ := x.Float64(); math.Abs(y) > 14 { // beyond 10^-43: nothing here
		if y < 0 {
			return number(0)
		}
		return number(1)
	}
	square := new(big.Float).Mul(x, x)
	term, sum := new(big.Float).Set(x), number(0)
	for n := int64(0); term.Sign() != 0 && term.MantExp(nil) > -sigmaPrecision; n++ {
		// x^(2n+1) * (-1/2)^n / n! / (2n+1)
		sum.Add(sum, new(big.Float).Quo(term, number(float64(2*n+1))))
		term.Mul(term, square)
		term.Quo(term, number(float64(-2*(n+1))))
	}
	rootTwoPi := new(big.Float).Sqrt(new(big.Float).Mul(number(2), pi()))
	return sum.Add(sum.Quo(sum, rootTwoPi), number(0.5))
}

// exponential is exp(x) for 0 <= x < 10.
func exponential(x *big.Float) *big.Float {
	term, sum := number(1), number(1)
	for n := int64(1); n < 150; n++ {
		term.Quo(term.Mul(term, x), number(float64(n)))
		sum.Add(sum, term)
	}
	return sum
}

// pi is Machin's 16 arctan(1/5) - 4 arctan(1/239).
func pi() *big.Float {
	arctan := func(inverse float64) *big.Float {
		power, sum := new(big.Float).Quo(number(1), number(inverse)), number(0)
		for n := 0; n < 70; n++ {
			sum.Add(sum, new(big.Float).Quo(power, number(float64(2*n+1))))
			power.Quo(power, number(-inverse*inverse))
		}
		return sum
	}
	return new(big.Float).Sub(new(big.Float).Mul(number(16), arctan(5)), new(big.Float).Mul(number(4), arctan(239)))
}
