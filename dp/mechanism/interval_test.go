package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

var confidences = []Confidence{0.5, 0.9, 0.95, 0.99}

// TestIntervalsOfCountsAndSumsCover: value +- half-width covers as often as the integer law says, which is at
// least the confidence, and noise of 0.7 or 1.3 times the scale does not.
func TestIntervalsOfCountsAndSumsCover(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const n = 10_000
	for _, kind := range []Kind{Laplace, Gaussian} {
		for name, bound := range map[string]int64{"count": 1, "sum": 1_000_000} {
			v := Vector{Kind: kind, Partitions: 8, Bounds: []int64{bound}, Epsilon: dp.EpsilonOne / 10}
			if kind == Gaussian {
				v.Delta = dp.DeltaOne / 1_000_000
			}
			d := v.Draw(0)
			noise := draws(t, d, n)
			for _, c := range confidences {
				w := d.HalfWidth(c)
				covered := func(scale float64) rate {
					// The half-width is an integer: it covers at c, and at most a unit's share more.
					r := rate{n: n, low: float64(c), high: float64(c) + 1/float64(w+1)*(1-float64(c))*6}
					for _, x := range noise {
						if math.Abs(math.Round(float64(x)*scale)) <= float64(w) {
							r.happened++
						}
					}
					return r
				}
				if r := covered(1); !r.plausible() {
					t.Errorf("%s %s at %v: %d of %d covered", kind, name, c, r.happened, n)
				}
				for _, wrong := range []float64{0.7, 1.3} {
					if r := covered(wrong); r.plausible() {
						t.Errorf("%s %s at %v: noise of %v times the scale passes: %d of %d covered", kind, name, c, wrong, r.happened, n)
					}
				}
			}
		}
	}
}

// TestIntervalsOfMeansCover draws numerator and denominator and asks whether the true mean is inside.
func TestIntervalsOfMeansCover(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const (
		n      = 10_000
		lo, hi = 0, 100
		rows   = 20_000
	)
	for _, kind := range []Kind{Laplace, Gaussian} {
		v := Vector{Kind: kind, Partitions: 4, Bounds: []int64{(hi - lo) * 5, 5}, Epsilon: dp.EpsilonOne / 20}
		if kind == Gaussian {
			v.Delta = dp.DeltaOne / 1_000_000
		}
		numerators, denominators := draws(t, v.Draw(0), n), draws(t, v.Draw(1), n)
		for _, mean := range []float64{50, 90} {
			sum := int64((2*mean - lo - hi) * rows)
			for _, c := range confidences {
				n := n // misses of the lower confidences show in fewer draws
				if c < 0.99 {
					n /= 2
				}
				covered := func(scale float64) rate {
					r := rate{n: n, low: float64(c), high: float64(c) + 0.06*(1-float64(c))}
					for i := range n {
						num := sum + int64(math.Round(float64(numerators[i])*scale))
						den := rows + int64(math.Round(float64(denominators[i])*scale))
						value, low, high, _ := MeanInterval(num, den, v, lo, hi, c)
						if !(lo <= low && low <= value && value <= high && high <= hi) {
							t.Fatalf("%s: value %v, interval [%v, %v]", kind, value, low, high)
						}
						if low <= mean && mean <= high {
							r.happened++
						}
					}
					return r
				}
				if r := covered(1); !r.plausible() {
					t.Errorf("%s mean %v at %v: %d of %d covered", kind, mean, c, r.happened, n)
				}
				if mean == 50 {
					continue
				}
				for _, wrong := range []float64{0.7, 1.3} {
					if r := covered(wrong); r.plausible() {
						t.Errorf("%s mean %v at %v: noise of %v times the scale passes: %d of %d covered", kind, mean, c, wrong, r.happened, n)
					}
				}
			}
		}
	}
}

// TestIntervalsOfMeansOverFewRowsStillCover: where the count is of the size of its noise, the interval may
// cover more often than asked, never less.
func TestIntervalsOfMeansOverFewRowsStillCover(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	const n, lo, hi = 3000, -20, 80
	for _, kind := range []Kind{Laplace, Gaussian} {
		v := Vector{Kind: kind, Partitions: 1, Bounds: []int64{hi - lo, 1}, Epsilon: dp.EpsilonOne}
		if kind == Gaussian {
			v.Delta = dp.DeltaOne / 1_000_000
		}
		numerators, denominators := draws(t, v.Draw(0), n), draws(t, v.Draw(1), n)
		for _, rows := range []int64{0, 3, 12, 60} {
			for _, c := range confidences {
				const mean = 70
				r := rate{n: n, low: float64(c), high: 1}
				for i := range numerators {
					_, low, high, _ := MeanInterval((2*mean-lo-hi)*rows+numerators[i], rows+denominators[i], v, lo, hi, c)
					if low <= mean && mean <= high {
						r.happened++
					}
				}
				if !r.plausible() {
					t.Errorf("%s over %d rows at %v: %d of %d covered", kind, rows, c, r.happened, n)
				}
			}
		}
	}
}

func TestMeanWithoutRowsIsTheWholeRange(t *testing.T) {
	v := Vector{Kind: Laplace, Partitions: 1, Bounds: []int64{100, 1}, Epsilon: dp.EpsilonOne}
	for _, den := range []int64{0, -5, math.MinInt64} {
		value, low, high, sd := MeanInterval(1234, den, v, 0, 100, DefaultConfidence)
		if value != 50 || low != 0 || high != 100 || sd != 50 {
			t.Errorf("over %d rows: %v in [%v, %v], sd %v", den, value, low, high, sd)
		}
	}
	value, low, high, _ := MeanInterval(math.MaxInt64, 1, v, 0, 100, DefaultConfidence)
	if value != 100 || low != 0 || high != 100 {
		t.Errorf("a sum that no row explains: %v in [%v, %v]", value, low, high)
	}
	if _, low, high, _ := MeanInterval(5, 1000, Vector{}, 0, 100, DefaultConfidence); low != 0 || high != 100 {
		t.Errorf("an invalid vector narrows the range to [%v, %v]", low, high)
	}
}

func TestMeanAgeOfPUMS(t *testing.T) {
	v, err := ForLoss(Vector{Partitions: 1, Bounds: []int64{100, 1}}, epsilon(t, "1"), 0, false, DefaultConfidence)
	if err != nil {
		t.Fatal(err)
	}
	expected := ExpectedMeanHalfWidth(v, 0, 100, 1000, DefaultConfidence)
	if !(expected <= 0.31 && expected > 0.25) {
		t.Errorf("half-width over 1,000 rows is %v, want at most 0.31", expected)
	}
	_, low, high, _ := MeanInterval(0, 1000, v, 0, 100, DefaultConfidence)
	if math.Abs((high-low)/2-expected) > 1e-6 {
		t.Errorf("the interval's half-width is %v, the expected one %v", (high-low)/2, expected)
	}
	if sd := ExpectedMeanSD(v, 0, 100, 1000); math.Abs(sd/(200*math.Sqrt2/2000)-1) > 1e-3 {
		t.Errorf("sd is %v", sd)
	}
	if w := ExpectedMeanHalfWidth(v, 0, 100, 0, DefaultConfidence); w != 50 {
		t.Errorf("half-width over no rows is %v, want half the range", w)
	}
}

// TestQuantileOfTheNoiseOfARatioIsConvex: edge relies on it.
func TestQuantileOfTheNoiseOfARatioIsConvex(t *testing.T) {
	quantile := func(b, miss float64) float64 {
		low, high := 0.0, 100*(1+b)
		for range 100 {
			if middle := (low + high) / 2; laplaceSumTail(1, b, middle) > miss {
				low = middle
			} else {
				high = middle
			}
		}
		return high
	}
	for _, miss := range []float64{0.5, 0.2, 0.05, 0.01, 0.001} {
		for b := 0.01; b < 20; b *= 1.05 {
			step := b * 0.01
			below, at, above := quantile(b-step, miss), quantile(b, miss), quantile(b+step, miss)
			if below+above-2*at < -1e-12*at {
				t.Errorf("the quantile at miss %v is not convex around scale %v", miss, b)
			}
		}
	}
}

func TestTailOfTwoLaplaceVariables(t *testing.T) {
	// Against the quotient where it does not cancel, and against its limits where it does.
	for _, c := range []struct{ a, b, t float64 }{{1, 0.5, 2}, {3, 1, 0.1}, {2, 0.01, 9}, {1, 5, 4}} {
		want := (c.a*c.a*math.Exp(-c.t/c.a) - c.b*c.b*math.Exp(-c.t/c.b)) / (c.a*c.a - c.b*c.b)
		if got := laplaceSumTail(c.a, c.b, c.t); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("%+v: tail %v, want %v", c, got, want)
		}
	}
	for _, b := range []float64{2, 2 * (1 - 1e-15), 2 * (1 + 1e-12)} {
		want := (1 + 3.0/4) * math.Exp(-1.5)
		if got := laplaceSumTail(2, b, 3); math.Abs(got/want-1) > 1e-9 {
			t.Errorf("scales 2 and %v: tail %v, want %v", b, got, want)
		}
	}
	if got := laplaceSumTail(2, 0, 3); got != math.Exp(-1.5) {
		t.Errorf("one variable alone: %v", got)
	}
	if got := laplaceSumTail(1e12, 1e-9, 1e12); math.Abs(got/math.Exp(-1)-1) > 1e-9 {
		t.Errorf("one variable almost alone: %v", got)
	}
}

func TestConfidenceIsReadFromDecimalText(t *testing.T) {
	for text, want := range map[string]string{"0.5": "0.5", "0.950": "0.95", ".9": "0.9", "0.999": "0.999", "00.99": "0.99"} {
		c, err := ParseConfidence(text)
		if err != nil || c.String() != want {
			t.Errorf("%q is %v, %v; want %v", text, c, err, want)
		}
	}
	for _, text := range []string{"", "0", "1", "0.4999", "0.9991", "95", "95%", "-0.9", "+0.9", "9e-1", "NaN", "0x0.9", "0.9_5", "0.95 ", ".", "0.9500000000000000000000001"} {
		if _, err := ParseConfidence(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
