package mechanism

import (
	"math"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/google/differential-privacy/go/v3/noise"
)

// What noise costs a unit that changes less is what the same noise would be sold for to a question of that size: its
// epsilon is where the sampler's own noise meets it.
func TestPriceOfASmallerShiftIsThatOfItsNoise(t *testing.T) {
	for _, kind := range []Kind{Laplace, Gaussian} {
		for _, c := range []struct{ partitions, bounds, less, lessBounds int64 }{{12, 1, 3, 1}, {4, 30, 4, 10}, {5, 7, 5, 7}, {6, 4, 2, 2}} {
			v := Vector{Kind: kind, Partitions: c.partitions, Bounds: []int64{c.bounds, 10 * c.bounds}, Epsilon: dp.EpsilonOne / 2}
			if kind == Gaussian {
				v.Delta = dp.DeltaOne / 1_000_000
			}
			less := Vector{Partitions: c.less, Bounds: []int64{c.lessBounds, 10 * c.lessBounds}}
			got, full := v.LossOver(less), v.Loss()
			if got.Epsilon > full.Epsilon || got.Rho > full.Rho || got.Delta > full.Delta || got.DeltaZ > full.DeltaZ {
				t.Errorf("%s %+v: %+v is more than the whole price %+v", kind, c, got, full)
			}
			if c.partitions == c.less && c.bounds == c.lessBounds {
				// The library's sigma is up to a thousandth larger than the pair needs.
				if math.Abs(float64(got.Epsilon-full.Epsilon)) > float64(full.Epsilon)/500 {
					t.Errorf("%s: the same shift costs %v, and not %v", kind, got.Epsilon, full.Epsilon)
				}
				continue
			}
			if kind == Laplace {
				want := float64(full.Epsilon) * float64(c.less*c.lessBounds) / float64(c.partitions*c.bounds)
				if e := float64(got.Epsilon); e < want || e > want+1 {
					t.Errorf("%+v: epsilon %v, want %v", c, e, want)
				}
				if want := accounting.LaplaceRho(got.Epsilon, 2*c.less); got.Rho != want {
					t.Errorf("%+v: rho %v, want %v", c, got.Rho, want)
				}
				continue
			}
			sigma := noise.SigmaForGaussian(2*c.partitions, float64(c.bounds), epsilonFloat(v.Epsilon), deltaFloat(v.Delta))
			need := func(e dp.Epsilon) float64 {
				return noise.SigmaForGaussian(2*c.less, float64(c.lessBounds), epsilonFloat(e), deltaFloat(v.Delta))
			}
			if need(got.Epsilon) > sigma || need(got.Epsilon*99/100) < sigma {
				t.Errorf("%+v: at epsilon %v the noise that is needed is %v, there is %v", c, got.Epsilon, need(got.Epsilon), sigma)
			}
			rho := float64(2*c.less) * float64(c.lessBounds*c.lessBounds) / (2 * sigma * sigma)
			if have := float64(got.Rho) / float64(dp.RhoOne); have < rho || have > rho*1.001 {
				t.Errorf("%+v: rho %v, want %v", c, have, rho)
			}
		}
	}
}

func TestWhatIsNoSmallerShiftPaysAll(t *testing.T) {
	v := Vector{Kind: Laplace, Partitions: 2, Bounds: []int64{5}, Epsilon: dp.EpsilonOne}
	for _, less := range []Vector{{Partitions: 3, Bounds: []int64{1}}, {Partitions: 1, Bounds: []int64{6}}, {Partitions: 1, Bounds: []int64{1, 1}}} {
		if got := v.LossOver(less); got != v.Loss() {
			t.Errorf("%+v costs %+v, want all of %+v", less, got, v.Loss())
		}
	}
}

func TestSelectionOfFewerPartitionsCostsLess(t *testing.T) {
	for _, kind := range []Kind{Laplace, Gaussian} {
		s := Selection{Kind: kind, Partitions: 12, Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1_000_000}
		part, full := s.LossOver(4), s.Loss()
		_, threshold := s.split()
		if part.Epsilon >= full.Epsilon || part.Rho >= full.Rho {
			t.Errorf("%s: a third of the partitions costs %+v of %+v", kind, part, full)
		}
		if lone := full.DeltaZ - part.DeltaZ; lone < threshold*2/3-1 {
			t.Errorf("%s: a third of the lone partitions saves %v of a threshold of %v", kind, lone, threshold)
		}
		if s.LossOver(12) != full {
			t.Errorf("%s: all partitions cost %+v, want %+v", kind, s.LossOver(12), full)
		}
	}
}
