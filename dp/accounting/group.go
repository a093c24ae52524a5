package accounting

import (
	"math"
	"math/big"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// Link is a step between neighbours under a budget, taken so many times.
type Link struct {
	Budget dp.Budget
	Times  int64
}

// Chain is what protects the rows of one customer in several blocks together: going from one history to the other through
// neighbours, links of (E_i, D_i) one after the other give
//
//	epsilon = sum of E_i    delta = sum over i of D_i * e^(sum of E_j over the links before i)
//
// which for k links of one (E, D) is (k*E, D*(e^(k*E)-1)/(e^E-1)), group privacy. Any order of the links is true; the one
// with the least delta is taken. Both parts are rounded up to the next unit. Where delta reaches one, or epsilon does not fit,
// the result says nothing: vacuous is true, and a part that is too large is the largest number, or one.
func Chain(links []Link) (sum dp.Budget, vacuous bool) {
	links = slices.Clone(links)
	// A link stands before another if that multiplies less: D_i + e^E_i * D_j <= D_j + e^E_j * D_i. Only the tightness of the
	// result depends on it, so that floats may decide.
	slices.SortStableFunc(links, func(a, b Link) int {
		x, y := weight(a.Budget), weight(b.Budget)
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	fits := true
	delta := new(big.Float).SetPrec(chainPrecision).SetMode(big.ToPositiveInf)
	one := new(big.Float).SetInt64(int64(dp.DeltaOne))
	for _, link := range slices.Backward(links) {
		if link.Times <= 0 {
			continue
		}
		added := saturatingMultiply(link.Budget.Epsilon, link.Times)
		sum.Epsilon = saturatingAdd(sum.Epsilon, added)
		fits = fits && sum.Epsilon < unbounded
		if link.Budget.Delta == 0 && delta.Sign() == 0 {
			continue
		}
		var growth *big.Float
		for range link.Times {
			if delta.Cmp(one) >= 0 {
				break
			}
			if delta.Sign() > 0 {
				if growth == nil {
					if growth = expUp(link.Budget.Epsilon); growth == nil {
						delta.Set(one)
						break
					}
				}
				delta.Mul(delta, growth)
			}
			delta.Add(delta, new(big.Float).SetInt64(int64(link.Budget.Delta)))
		}
	}
	if delta.Cmp(one) >= 0 {
		sum.Delta = dp.DeltaOne
		return sum, true
	}
	units, accuracy := delta.Int64()
	if accuracy == big.Below {
		units++
	}
	sum.Delta = dp.Delta(units)
	return sum, !fits || sum.Delta >= dp.DeltaOne
}

// weight is D/(e^E - 1).
func weight(b dp.Budget) float64 {
	if b.Delta == 0 {
		return 0
	}
	return float64(b.Delta) / math.Expm1(float64(b.Epsilon)/float64(dp.EpsilonOne))
}

// chainPrecision is in bits: hundreds of products lose a few of them.
const chainPrecision = 192

// expUp is an upper bound on e^x, above it by a relative 2^-150 or so, or nil where the least delta there is times it
// exceeds one.
func expUp(x dp.Epsilon) *big.Float {
	if x >= 42*dp.EpsilonOne { // e^42 > 10^18
		return nil
	}
	// e^x = (e^(x/2^halvings))^(2^halvings). Every operation is on positive numbers and rounds up.
	const halvings, terms = 10, 40
	float := func() *big.Float { return new(big.Float).SetPrec(chainPrecision).SetMode(big.ToPositiveInf) }
	small := float().Quo(float().SetInt64(int64(x)), float().SetInt64(int64(dp.EpsilonOne)))
	small.SetMantExp(small, -halvings) // below 1/16
	sum, term := float().SetInt64(1), float().SetInt64(1)
	for k := int64(1); k <= terms; k++ {
		term.Quo(term.Mul(term, small), float().SetInt64(k))
		sum.Add(sum, term)
	}
	sum.Add(sum, term) // bounds the rest of the series: each term is less than half of the one before
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}
