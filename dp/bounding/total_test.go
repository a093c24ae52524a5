package bounding

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestTotalsAreExactAndClampAtTheEnd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	extremes := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}
	for range 2000 {
		var got Total
		want := new(big.Int)
		for range random.IntN(30) {
			v := extremes[random.IntN(len(extremes))]
			if random.IntN(2) == 0 {
				v = random.Int64() - random.Int64()
			}
			switch random.IntN(3) {
			case 0:
				got.subtract(v)
				want.Sub(want, big.NewInt(v))
			case 1:
				lower, upper := min(v, 7), max(v, 7)
				x := extremes[random.IntN(len(extremes))]
				got.AddCentred(x, lower, upper)
				x = max(lower, min(x, upper))
				want.Add(want, big.NewInt(x)).Add(want, big.NewInt(x)).Sub(want, big.NewInt(lower)).Sub(want, big.NewInt(upper))
			default:
				got.Add(v)
				want.Add(want, big.NewInt(v))
			}
		}
		lower, upper := extremes[random.IntN(len(extremes))], extremes[random.IntN(len(extremes))]
		if lower > upper {
			lower, upper = upper, lower
		}
		clamped := new(big.Int).Set(want)
		if clamped.Cmp(big.NewInt(lower)) < 0 {
			clamped.SetInt64(lower)
		}
		if clamped.Cmp(big.NewInt(upper)) > 0 {
			clamped.SetInt64(upper)
		}
		if got.Clamped(lower, upper) != clamped.Int64() {
			t.Fatalf("sum %v clamped to %d..%d: got %d", want, lower, upper, got.Clamped(lower, upper))
		}
	}
}
