package mechanism

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestJointPartsMoveByNoMoreThanTheirPriceAllows(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 16))
	for range 500 {
		n := 1 + random.IntN(6)
		parts, left := make([]Part, n), 1.0
		for i := range parts {
			parts[i] = Part{Squares: math.Ceil(math.Exp(30 * random.Float64())), Share: left * (0.05 + 0.9*random.Float64())}
			left -= parts[i].Share
		}
		e, d := dp.Epsilon(1+random.Int64N(2e12)), dp.Delta(1e7+random.Int64N(1e10))
		touched := 1 + random.Int64N(200)
		vectors, loss, err := JointGaussian(parts, touched, e, d)
		if err != nil {
			if errors.Is(err, errRho) || errors.Is(err, errSigma) {
				continue
			}
			t.Fatal(err)
		}
		// The same price for one number of sensitivity 1.
		alone := []Vector{{Kind: Gaussian, Partitions: 1, Bounds: []int64{1}, Epsilon: e, Delta: d - dp.Delta(touched)*cutDelta}}
		one := alone[0].Loss()
		sigma := func(v Vector) float64 { return math.Sqrt(v.Draw(0).SD()*v.Draw(0).SD() - 1.0/12) }
		length := 0.0
		for i, p := range parts {
			length += p.Squares / sigma(vectors[i]) / sigma(vectors[i])
			// No more than what rounding adds is wasted.
			if waste := sigma(vectors[i]) / sigma(alone[0]) / math.Sqrt(p.Squares/p.Share); waste < 1-1e-9 || waste > 1.05 && p.Squares/p.Share > 10 {
				t.Errorf("part %+v is drawn with %g times the noise that it needs", p, waste)
			}
		}
		if most := 1 / sigma(alone[0]) / sigma(alone[0]); length > most*(1+1e-9) {
			t.Errorf("parts %+v move by %g, their price allows %g", parts, length, most)
		}
		if float64(loss.Rho) < length/2*float64(dp.RhoOne)*(1-1e-9) || loss.Rho > one.Rho+one.Rho/1000+1 || loss.Epsilon != e || loss.Delta != d || loss.DeltaZ != dp.Delta(touched)*cutDelta {
			t.Errorf("it costs %+v, and one number %+v", loss, one)
		}
	}
}

func TestJointPartsThatTakeMoreThanAllAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		parts []Part
		e     dp.Epsilon
		d     dp.Delta
	}{
		"shares":      {[]Part{{1, 0.6}, {1, 0.5}}, dp.EpsilonOne, 1e9},
		"no share":    {[]Part{{1, 0}}, dp.EpsilonOne, 1e9},
		"no squares":  {[]Part{{0, 1}}, dp.EpsilonOne, 1e9},
		"delta":       {[]Part{{1, 1}}, dp.EpsilonOne, 5000},
		"rho":         {[]Part{{1, 1}}, 50 * dp.EpsilonOne, 1e15},
		"sensitivity": {[]Part{{1e40, 1}}, dp.EpsilonOne, 1e9},
	} {
		if _, _, err := JointGaussian(c.parts, 1, c.e, c.d); err == nil {
			t.Errorf("%s: it is priced", name)
		}
	}
}

func TestSharesMakeVariancesSmall(t *testing.T) {
	worst := func(h Hierarchy, squares, shares []float64) (sum float64) {
		sds := make([]float64, len(shares))
		for i := range sds {
			sds[i] = math.Sqrt(squares[i] / shares[i])
		}
		got := NewReconciliation(h, sds).sds()
		for level := range got {
			mean := 0.0
			for _, sd := range got[level] {
				mean += sd * sd / float64(len(got[level]))
			}
			sum += mean / (squares[0] * float64(h.Finest) / float64(len(got[level])))
		}
		return sum
	}
	h := axes([]int{6, 5}, false, []int{0}, []int{})
	for _, squares := range [][]float64{{4, 4, 4}, {4, 16, 16}, {5, 5, 25}, {1, 1, 1}} {
		shares := h.Shares(squares)
		got := worst(h, squares, shares)
		equal := worst(h, squares, []float64{1. / 3, 1. / 3, 1. / 3})
		finest := worst(h, squares, []float64{0.998, 0.001, 0.001})
		if got > equal*1.02 || got > finest*1.02 {
			t.Errorf("squares %v: shares %v leave %g, equal ones %g, the finest alone %g", squares, shares, got, equal, finest)
		}
		best := math.Inf(1)
		for a := 0.01; a < 0.99; a += 0.01 {
			for b := 0.01; a+b < 0.995; b += 0.01 {
				best = min(best, worst(h, squares, []float64{a, b, 1 - a - b}))
			}
		}
		if got > 1.25*best {
			t.Errorf("squares %v: shares %v leave %g, the best %g", squares, shares, got, best)
		}
		if sum := shares[0] + shares[1] + shares[2]; sum > 1 || sum < 0.99999 {
			t.Errorf("shares %v add up to %g", shares, sum)
		}
	}
}
