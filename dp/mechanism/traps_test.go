package mechanism

import (
	"errors"
	"math"
	"math/bits"
	"sync"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/google/differential-privacy/go/v3/noise"
)

// refused fails unless a draw is refused with this error before the library sees it.
func refused(t *testing.T, d Draw, want error) {
	t.Helper()
	if err := d.Validate(); !errors.Is(err, want) {
		t.Errorf("%+v: error is %v, want %v", d, err, want)
	}
	if got, err := Secure().Add(5, d); err == nil || got != 0 {
		t.Errorf("%+v was drawn: %d, %v", d, got, err)
	}
	if d.HalfWidth(DefaultConfidence) != math.MaxInt64 || d.SD() != 0 {
		t.Errorf("%+v has a half-width", d)
	}
	if v := (Vector{Kind: d.Kind, Partitions: d.L0, Bounds: []int64{d.Bound}, Epsilon: d.Epsilon, Delta: d.Delta}); v.Loss().Epsilon != math.MaxInt64 {
		t.Errorf("%+v has a price that an account could admit", v)
	}
}

func TestEpsilonAboveSevenHundredIsRefused(t *testing.T) {
	for _, kind := range []Kind{Laplace, Gaussian} {
		d := Draw{Kind: kind, L0: 1, Bound: 1, Epsilon: 700*dp.EpsilonOne + 1}
		if kind == Gaussian {
			d.Delta = 1
		}
		refused(t, d, errEpsilon)
	}
	if err := (Draw{Kind: Laplace, L0: 1, Bound: 1, Epsilon: 700 * dp.EpsilonOne}).Validate(); err != nil {
		t.Errorf("epsilon 700 is refused: %v", err)
	}
}

func TestEpsilonOfNothingIsRefused(t *testing.T) {
	refused(t, Draw{Kind: Laplace, L0: 1, Bound: 1}, errEpsilon)
	refused(t, Draw{Kind: Laplace, L0: 1, Bound: 1, Epsilon: -dp.EpsilonOne}, errEpsilon)
}

func TestSensitivityThatWrapsIsRefused(t *testing.T) {
	// Products that wrap to 2 and to 0: the first would get almost no noise, the second never returns.
	for _, c := range []struct{ l0, bound int64 }{{1 << 32, 1<<32 + 1}, {1 << 32, 1 << 32}, {1<<40 - 1, 1<<53 - 1}, {3, math.MaxInt64}} {
		refused(t, Draw{Kind: Laplace, L0: c.l0, Bound: c.bound, Epsilon: dp.EpsilonOne}, errSensitivity)
		refused(t, Draw{Kind: Gaussian, L0: c.l0, Bound: c.bound, Epsilon: dp.EpsilonOne, Delta: 1e6}, errSensitivity)
	}
	refused(t, Draw{Kind: Laplace, L0: 1, Bound: 1 << 53, Epsilon: 700 * dp.EpsilonOne}, errSensitivity)
	v := Vector{Kind: Laplace, Partitions: math.MaxInt64/2 + 1, Bounds: []int64{1, 1}, Epsilon: dp.EpsilonOne}
	if err := v.Validate(); !errors.Is(err, errL0) {
		t.Errorf("coordinates that wrap: %v", err)
	}
}

func TestSensitivityOfNothingIsRefused(t *testing.T) {
	for _, bound := range []int64{0, -1, math.MinInt64} {
		refused(t, Draw{Kind: Laplace, L0: 1, Bound: bound, Epsilon: dp.EpsilonOne}, errBound)
		refused(t, Draw{Kind: Gaussian, L0: 1, Bound: bound, Epsilon: dp.EpsilonOne, Delta: 1e6}, errBound)
	}
	for _, l0 := range []int64{0, -1, math.MinInt64, MaxL0 + 1} {
		refused(t, Draw{Kind: Laplace, L0: l0, Bound: 1, Epsilon: dp.EpsilonOne}, errL0)
		refused(t, Draw{Kind: Gaussian, L0: l0, Bound: 1, Epsilon: dp.EpsilonOne, Delta: 1e6}, errL0)
	}
}

func TestLaplaceScaleAboveItsLimitIsRefused(t *testing.T) {
	refused(t, Draw{Kind: Laplace, L0: 1, Bound: 1<<40 + 1, Epsilon: dp.EpsilonOne}, errScale)
	refused(t, Draw{Kind: Laplace, L0: 10, Bound: 1, Epsilon: 1}, errScale)
	if err := (Draw{Kind: Laplace, L0: 1, Bound: 1<<40 - 1, Epsilon: dp.EpsilonOne}).Validate(); err != nil {
		t.Errorf("a scale below 2^40 is refused: %v", err)
	}
}

func TestSigmaAboveItsLimitIsRefused(t *testing.T) {
	refused(t, Draw{Kind: Gaussian, L0: 1, Bound: 1 << 52, Epsilon: dp.EpsilonOne / 100, Delta: 1e12}, errSigma)
	refused(t, Draw{Kind: Gaussian, L0: 1, Bound: 1 << 40, Epsilon: 1, Delta: 1}, errSigma)
}

func TestDeltaOutsideItsRangeIsRefused(t *testing.T) {
	refused(t, Draw{Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: 1}, errPureDelta)
	for _, d := range []dp.Delta{-1, 0, dp.DeltaOne, math.MaxInt64} {
		refused(t, Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: d}, errDelta)
	}
	if _, err := ForSelection(1, dp.EpsilonOne, 0, false); !errors.Is(err, errSelectionDelta) {
		t.Errorf("selection without delta: %v", err)
	}
	if _, err := ForSelection(1, dp.EpsilonOne, dp.DeltaOne, false); !errors.Is(err, errSelectionDelta) {
		t.Errorf("selection with delta 1: %v", err)
	}
}

func TestGaussianRhoAboveAHalfIsRefused(t *testing.T) {
	refused(t, Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: 20 * dp.EpsilonOne, Delta: dp.DeltaOne / 1000}, errRho)
	refused(t, Draw{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: 700 * dp.EpsilonOne, Delta: dp.DeltaOne - 1}, errRho)
}

func TestUnknownKindIsRefused(t *testing.T) {
	refused(t, Draw{Kind: "", L0: 1, Bound: 1, Epsilon: dp.EpsilonOne}, errKind)
	refused(t, Draw{Kind: "exponential", L0: 1, Bound: 1, Epsilon: dp.EpsilonOne}, errKind)
}

func TestNoiseIsNeverNil(t *testing.T) {
	for _, d := range []Draw{
		{Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne},
		{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: 1e12},
	} {
		law, err := d.law()
		if err != nil {
			t.Fatal(err)
		}
		if s := newSampler(d, law); s.with != map[Kind]noise.Noise{Laplace: noise.Laplace(), Gaussian: noise.Gaussian()}[d.Kind] {
			t.Errorf("%s noise is %v", d.Kind, s.with)
		}
	}
}

func TestSumsOfValueAndNoiseDoNotWrap(t *testing.T) {
	d := Draw{Kind: Laplace, L0: 1, Bound: 1 << 39, Epsilon: dp.EpsilonOne}
	noise := Secure()
	var top, bottom bool
	for range 100 {
		high, errHigh := noise.Add(math.MaxInt64, d)
		low, errLow := noise.Add(math.MinInt64, d)
		if errHigh != nil || errLow != nil {
			t.Fatal(errHigh, errLow)
		}
		if high < 0 || low > 0 {
			t.Fatalf("noise wrapped: %d, %d", high, low)
		}
		top, bottom = top || high == math.MaxInt64, bottom || low == math.MinInt64
	}
	if !top || !bottom {
		t.Error("no sum was held at its limit in 100 draws")
	}
}

// TestLargeGaussianNoiseHidesTheLowBits: the library turns its sample into a float64 before it rounds, so that
// noise beyond 2^53 is a multiple of a power of two and the exact value's low bits show through it.
func TestLargeGaussianNoiseHidesTheLowBits(t *testing.T) {
	d := Draw{Kind: Gaussian, L0: 1, Bound: 1 << 48, Epsilon: dp.EpsilonOne / 10, Delta: dp.DeltaOne / 1_000_000_000_000}
	law, err := d.law()
	if err != nil {
		t.Fatal(err)
	}
	if sigma := law.(gaussianLaw).sigma; sigma < 0x1p53 || law.shift() == 0 {
		t.Fatalf("sigma %v, shift %d: not the case that leaks", sigma, law.shift())
	}
	const n = 200
	trailing := func(values []int64) (odd int) {
		for _, v := range values {
			if bits.TrailingZeros64(uint64(v)) == 0 {
				odd++
			}
		}
		return odd
	}
	if odd := trailing(draws(t, d, n)); !(rate{odd, n, 0.5, 0.5}).plausible() {
		t.Errorf("%d of %d draws are odd", odd, n)
	}
	raw := make([]int64, n)
	for i := range raw {
		if raw[i], err = noise.Gaussian().AddNoiseInt64(0, d.L0, d.Bound, epsilonFloat(d.Epsilon), deltaFloat(d.Delta)); err != nil {
			t.Fatal(err)
		}
	}
	if odd := trailing(raw); (rate{odd, n, 0.5, 0.5}).plausible() {
		t.Errorf("the library's own rounding gives %d odd of %d: the detour in sampler is not needed any more", odd, n)
	}
}

// TestCoarseLaplaceNoiseIsRoundedEvenly: on a grid of halves the library's rounding, halves away from zero,
// gives noise 0 half as often as noise 1, an infinite-order loss of log 2 for a price of far less. The
// chance of either is too small to see at that scale, so the rounding alone is run over every sample near 0.
func TestCoarseLaplaceNoiseIsRoundedEvenly(t *testing.T) {
	for m := uint(1); m <= 5; m++ {
		counts := map[int64]int{}
		away := map[int64]int{}
		for k := int64(-4 << m); k <= 4<<m; k++ {
			counts[roundHalfUp(k, m)]++
			away[int64(math.Round(math.Ldexp(float64(k), -int(m))))]++
			// Rounding commutes with adding whole units, which is what makes it post-processing.
			for _, x := range []int64{-7, -1, 1, 12345} {
				if got, want := roundHalfUp(k+x<<m, m), x+roundHalfUp(k, m); got != want {
					t.Fatalf("round(%d + %d units) = %d, want %d", k, x, got, want)
				}
			}
		}
		for n := int64(-3); n <= 3; n++ {
			if counts[n] != 1<<m {
				t.Errorf("grid 2^-%d: %d samples round to %d, want %d", m, counts[n], n, 1<<m)
			}
		}
		if away[0] == away[1] {
			t.Errorf("grid 2^-%d: halves away from zero are even, too", m)
		}
	}
	for _, k := range []int64{math.MaxInt64, math.MinInt64} {
		if got := roundHalfUp(k, 1); (got > 0) != (k > 0) {
			t.Errorf("rounding %d wraps to %d", k, got)
		}
	}
}

// TestScaledDrawHasTheLawOfTheUnscaledOne: the detour through whole units changes neither sigma nor the
// geometric distribution's parameter by a bit, and its grid is 1.
func TestScaledDrawHasTheLawOfTheUnscaledOne(t *testing.T) {
	for _, d := range []Draw{
		{Kind: Laplace, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne},
		{Kind: Laplace, L0: 3, Bound: 7, Epsilon: dp.EpsilonOne / 10},
		{Kind: Laplace, L0: 1, Bound: 1, Epsilon: 700 * dp.EpsilonOne},
		{Kind: Laplace, L0: 100, Bound: 12_345_678, Epsilon: dp.EpsilonOne / 100},
		{Kind: Laplace, L0: 1, Bound: 1 << 39, Epsilon: dp.EpsilonOne},
		{Kind: Laplace, L0: 1, Bound: 1<<40 - 1, Epsilon: dp.EpsilonOne},
		{Kind: Gaussian, L0: 1, Bound: 1, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 100_000},
		{Kind: Gaussian, L0: 17, Bound: 98_765, Epsilon: dp.EpsilonOne / 7, Delta: dp.DeltaOne / 1_000_000},
		{Kind: Gaussian, L0: 2, Bound: 1 << 50, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000},
	} {
		law, err := d.law()
		if err != nil {
			t.Errorf("%+v: %v", d, err)
			continue
		}
		s := newSampler(d, law)
		if s.bound>>s.m != d.Bound || s.bound <= 0 {
			t.Errorf("%+v: scaled bound %d has lost bits", d, s.bound)
		}
		if d.Kind == Gaussian {
			sigma := noise.SigmaForGaussian(s.l0, float64(s.bound), s.epsilon, s.delta)
			if math.Ldexp(sigma, -int(s.m)) != law.(gaussianLaw).sigma {
				t.Errorf("%+v: sigma changes with the scale", d)
			}
			if sqrtN := 2 * sigma; sqrtN > 0x1p57 || sqrtN <= 0x1p56 {
				t.Errorf("%+v: sqrt(n) is %v, so that the grid is not 1", d, sqrtN)
			}
			continue
		}
		if ratio := float64(s.l0*s.bound) / s.epsilon; ratio > 0x1p40 || ratio <= 0x1p39 {
			t.Errorf("%+v: scale %v, so that the grid is not 1", d, ratio)
		}
		l := law.(laplaceLaw)
		parameter := s.epsilon / (float64(s.l0*s.bound) + 1)
		if want := l.grid() / l.scale; math.Abs(parameter-want) > 1e-15*want {
			t.Errorf("%+v: parameter %v, want %v", d, parameter, want)
		}
	}
}

// TestThresholdNeverFailsOpen: the library's Gaussian threshold becomes +Inf, then the smallest integer, when
// delta/L0 falls below 5e-17, and every lone customer is shown.
func TestThresholdNeverFailsOpen(t *testing.T) {
	for _, partitions := range []int64{1, 2, 1000, 1 << 20, 1 << 39} {
		for _, d := range []dp.Delta{1, 2, 10, 50, 5000, 1e6, 1e9, 1e12, 1e15, dp.DeltaOne / 2} {
			for _, kind := range []Kind{Laplace, Gaussian} {
				s := Selection{Kind: kind, Partitions: partitions, Epsilon: dp.EpsilonOne, Delta: d}
				if s.Validate() != nil {
					if s.Tau() != math.MaxInt64 {
						t.Errorf("%+v is invalid and shows groups", s)
					}
					continue
				}
				_, threshold := s.split()
				share := float64(threshold) / float64(dp.DeltaOne) / float64(partitions)
				if p := s.KeepProbability(1); p > share {
					t.Errorf("%+v: a lone customer is shown with probability %v, above %v", s, p, share)
				}
				if s.Tau() < 2 {
					t.Errorf("%+v: tau is %d", s, s.Tau())
				}
			}
		}
	}
	s, err := ForSelection(1000, dp.EpsilonOne, 20_000_000, false) // delta/L0 is 2e-14 and 1e-14, half of it far below what rounds
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range draws(t, s.Draw(), 2000) {
		if 1+n >= s.Tau() {
			t.Fatal("a lone customer was shown, of which the chance is below 10^-10")
		}
	}
}

// TestThresholdKeepsItsDelta: a rounded bound against rounded noise leaks up to twice the delta. Tau
// keeps it, by the sampler's law, and one less would not.
func TestThresholdKeepsItsDelta(t *testing.T) {
	for _, kind := range []Kind{Laplace, Gaussian} {
		for _, e := range []string{"0.1", "0.549306144334", "1", "3"} {
			for _, d := range []string{"0.02", "1e-5", "1e-10"} {
				s := Selection{Kind: kind, Partitions: 4, Epsilon: epsilon(t, e), Delta: delta(t, d)}
				law, err := s.Draw().law()
				if errors.Is(err, errRho) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				_, threshold := s.split()
				limit := float64(threshold) / float64(dp.DeltaOne) / 4
				tau := float64(s.Tau())
				if p := law.atLeast(tau - 1.5); p > limit {
					t.Errorf("%+v: a lone customer is shown with probability %v, above %v", s, p, limit)
				}
				if p := law.atLeast(tau - 2.5); p <= limit {
					t.Errorf("%+v: tau %v is not the least", s, tau)
				}
			}
		}
	}
}

func TestConcurrentDrawsAreIndependentOfEachOther(t *testing.T) {
	noise := Secure()
	d := Draw{Kind: Laplace, L0: 1, Bound: 1_000_000, Epsilon: dp.EpsilonOne / 1000}
	var wait sync.WaitGroup
	var lock sync.Mutex
	seen := map[int64]int{}
	for worker := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range 50 {
				mine := d
				mine.L0 += int64((worker + i) % 3)
				n, err := noise.Add(0, mine)
				if err != nil {
					t.Error(err)
				}
				lock.Lock()
				seen[n]++
				lock.Unlock()
			}
		}()
	}
	wait.Wait()
	if len(seen) < 395 { // 400 draws at scale 10^9 hold an equal pair once in 10^4 runs, six of them once in 10^27
		t.Errorf("400 draws gave %d different numbers", len(seen))
	}
}

func TestPreparedDrawsAreBounded(t *testing.T) {
	s := Secure().(*secure)
	for i := range int64(3 * maxPrepared) {
		if _, err := s.Add(0, Draw{Kind: Laplace, L0: 1, Bound: 1 + i, Epsilon: dp.EpsilonOne}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.prepared) > maxPrepared {
		t.Errorf("%d draws are kept prepared", len(s.prepared))
	}
}
