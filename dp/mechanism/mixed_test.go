package mechanism

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// TestIntervalsOfRatiosOfTwoKindsOfNoiseCover: the number of customers may have been drawn to select groups, with the
// other kind of noise than the sum has.
func TestIntervalsOfRatiosOfTwoKindsOfNoiseCover(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const n = 500
	for _, kinds := range [][2]Kind{{Laplace, Gaussian}, {Gaussian, Laplace}} {
		vector := func(k Kind, bound int64, e dp.Epsilon) Vector {
			v := Vector{Kind: k, Partitions: 3, Bounds: []int64{bound}, Epsilon: e}
			if k == Gaussian {
				v.Delta = dp.DeltaOne / 1_000_000
			}
			return v
		}
		for _, share := range []dp.Epsilon{10, 1} { // noise of the denominator beside that of the numerator
			of, by := vector(kinds[0], 500, dp.EpsilonOne), vector(kinds[1], 1, dp.EpsilonOne/share)
			numerators, denominators := draws(t, of.Draw(0), n), draws(t, by.Draw(0), n)
			const rows, ratio = 1000, 400
			for _, c := range []Confidence{0.5, 0.9, 0.99} {
				covered := func(scale float64) rate {
					r := rate{n: n, low: float64(c), high: 1}
					for i := range n {
						_, low, high, _ := RatioInterval(ratio*rows+noised(numerators, scale, i), rows+noised(denominators, scale, i), Addend{of.Draw(0), 1, 1}, Addend{by.Draw(0), 1, 1}, c)
						if low <= ratio && ratio <= high {
							r.happened++
						}
					}
					return r
				}
				if r := covered(1); !r.plausible() {
					t.Errorf("%v at %v: %d of %d covered", kinds, c, r.happened, n)
				}
				if r := covered(2); c > 0.5 && r.plausible() { // half the miss is the reach's: at 0.5 three in four lie inside
					t.Errorf("%v at %v: noise of twice the scale passes: %d of %d covered", kinds, c, r.happened, n)
				}
			}
		}
	}
}

// TestTailOfNormalAndLaplaceSums: against the formula for one of each, and where one of them is lost in the other.
func TestTailOfNormalAndLaplaceSums(t *testing.T) {
	// P(|X+Z| > x) for X of scale b and Z of deviation s, from the convolution of the two.
	formula := func(b, s, x float64) float64 {
		phi := func(z float64) float64 { return 0.5 * math.Erfc(-z/math.Sqrt2) }
		r := s / b
		upper := phi(-x/s) + math.Exp(r*r/2)/2*(math.Exp(-x/b)*phi(x/s-r)-math.Exp(x/b)*phi(-x/s-r))
		return 2 * upper
	}
	for _, b := range []float64{0.3, 1, 2.5} {
		for _, x := range []float64{0.2, 1, 3, 8} {
			got, want := laplaceTail([]scale{{b, 1}}, 1, x), formula(b, 1, x)
			if got < want || got > want+3*negligible {
				t.Errorf("scale %v and deviation 1 beyond %v: %v, want %v", b, x, got, want)
			}
		}
	}
	for _, x := range []float64{0.5, 2, 4} {
		if got, want := laplaceTail([]scale{{1e-9, 1}}, 1, x), math.Erfc(x/math.Sqrt2); got < want || got > want+3*negligible {
			t.Errorf("a normal variable alone beyond %v: %v, want %v", x, got, want)
		}
		if got, want := laplaceTail([]scale{{1, 1}}, 1e-18, x), math.Exp(-x); got < want-1e-12 || got > want+3*negligible {
			t.Errorf("a Laplace variable alone beyond %v: %v, want %v", x, got, want)
		}
	}
}

// TestSmallScalesNeverMakeATailSmaller: those that are added to the largest make it larger, and hardly so.
func TestSmallScalesNeverMakeATailSmaller(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 5))
	for range 200 {
		b, c := math.Exp(-8*random.Float64()), math.Exp(-8*random.Float64())
		x := 8 * random.Float64()
		got, want := laplaceTail([]scale{{1, 1}, {b, 1}, {c, 1}}, 0, x), invertedTail([]scale{{1, 1}, {b, 1}, {c, 1}}, 0, 1, x)
		if got < want-3*negligible || got > want+0.08 {
			t.Errorf("scales 1, %v and %v beyond %v: %v, want %v", b, c, x, got, want)
		}
	}
}

// TestEndsOfAVarianceHoldEveryTest: whatever the mean within its interval, what its own test keeps lies inside.
func TestEndsOfAVarianceHoldEveryTest(t *testing.T) {
	if raceDetector {
		t.Skip("sums of one goroutine")
	}
	random := rand.New(rand.NewPCG(6, 7))
	wider := 0.0
	for _, kind := range []Kind{Laplace, Gaussian} {
		v := VarianceBounds(2, 3, 0, 100)
		v.Kind, v.Epsilon = kind, dp.EpsilonOne
		if kind == Gaussian {
			v.Delta = dp.DeltaOne / 1_000_000
		}
		noise, err := newCombination(v, 3)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			n := math.Exp(12 * random.Float64())
			mean := 2*random.Float64() - 1
			spreadOf := (1 - mean*mean) * random.Float64()
			s := spread{noise: noise, r: 100, a: 2 * n, b: 2 * n * mean, c: n * (2*(spreadOf+mean*mean) - 1)}
			const miss = 0.1
			from, to := s.means(mean, miss/10)
			low, high := s.ends(mean, from, to, s.at(mean), miss)
			if !(0 <= low && low <= s.at(mean) && s.at(mean) <= high && high <= 1) {
				t.Fatalf("%s: value %v in [%v, %v]", kind, s.at(mean), low, high)
			}
			least, most := 1.0, 0.0
			for i := range 21 {
				m := from + (to-from)*float64(i)/20
				for j := range 201 {
					x := float64(j) / 200
					if noise.tail(math.Abs(s.off(m, x)), s.weights(m, x)...) >= miss {
						least, most = min(least, x), max(most, x)
					}
				}
			}
			if least < low-1e-9 || most > high+1e-9 {
				t.Errorf("%s over %.0f rows: [%v, %v] leaves out what a test keeps: [%v, %v]", kind, n, low, high, least, most)
			}
			if n > 3000 && least <= most {
				wider = max(wider, high-low-(most-least))
			}
		}
	}
	if wider > 0.03 {
		t.Errorf("the interval is up to %v wider than its tests", wider)
	}
}

// TestNoiseThatContradictsItselfNarrowsNothing: where there are fewer rows than none, no bin passes.
func TestNoiseThatContradictsItselfNarrowsNothing(t *testing.T) {
	tree := Tree{Leaves: 16}
	v := QuantileBounds(tree, 1, 1)
	v.Kind, v.Epsilon = Laplace, dp.EpsilonOne
	q, err := NewQuantile(tree, v, 0, 15, 1, 0.5, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	bins := make([]int64, tree.Leaves)
	bins[0] = -2000
	if value, low, high, sd := q.Interval(tree.Counts(bins)); low != 0 || high != 15 || sd != 7.5 || value < low || value > high {
		t.Errorf("%v in [%v, %v], sd %v", value, low, high, sd)
	}
}
