package verify

import "math/big"

// precision is the length in bits of every number that a certificate is computed with. The terms of the bound
// range over 2^-80..2^90 and cancel to 2^-130 of the largest at worst, so that at least 200 bits of a result
// are right; losses are compared in units of 2^-40.
const precision = 448

// seriesBits is where the series of the logarithm ends: what is left out is below 2^-seriesBits of the result.
const seriesBits = precision + 8

func float(x int64) *big.Float { return new(big.Float).SetPrec(precision).SetInt64(x) }

func newFloat() *big.Float { return new(big.Float).SetPrec(precision) }

// powerOfTwo is 2^n.
func powerOfTwo(n int) *big.Float { return new(big.Float).SetPrec(precision).SetMantExp(float(1), n) }

// logarithm computes natural logarithms.
type logarithm struct {
	ln2 *big.Float
}

func newLogarithm() *logarithm {
	// log 2 = 2 artanh(1/3).
	third := newFloat().Quo(float(1), float(3))
	return &logarithm{ln2: doubleArtanh(third)}
}

// of is the natural logarithm of x > 0: with x = m*2^e and 1/2 <= m < 1, it is e*log 2 + 2 artanh((m-1)/(m+1)),
// of whose series each further term is below 1/9 of the one before.
func (l *logarithm) of(x *big.Float) *big.Float {
	m := newFloat()
	e := x.MantExp(m)
	z := newFloat().Quo(newFloat().Sub(m, float(1)), newFloat().Add(m, float(1)))
	sum := doubleArtanh(z)
	return sum.Add(sum, newFloat().Mul(float(int64(e)), l.ln2))
}

// doubleArtanh is 2*(z + z^3/3 + z^5/5 + ...) for |z| <= 1/3.
func doubleArtanh(z *big.Float) *big.Float {
	sum, power, square := newFloat().Set(z), newFloat().Set(z), newFloat().Mul(z, z)
	for k := int64(3); power.Sign() != 0; k += 2 {
		power.Mul(power, square)
		term := newFloat().Quo(power, float(k))
		if term.Sign() == 0 || term.MantExp(nil) < sum.MantExp(nil)-seriesBits {
			break
		}
		sum.Add(sum, term)
	}
	return sum.Mul(sum, float(2))
}
