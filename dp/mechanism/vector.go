package mechanism

import (
	"errors"
	"math"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// Vector is one metric's jointly priced coordinates over the partitions: a count or a sum has one coordinate
// in each partition, a mean has two, a variance three, a tree of counts one for each of its levels.
type Vector struct {
	Kind       Kind
	Partitions int64   // how many partitions one (customer, block) can change: the plan's L0
	Bounds     []int64 // per coordinate: by how much it can change in each of them
	// L1 and L2 bound the change of all coordinates in one partition together, by the sum and by the root of the sum of
	// squares of what each changes in units of its bound. Where they are set, each coordinate is drawn with its bound times
	// one of these (PRIVACY.md, "Variance"). 0: each is drawn by its own bound, as one of len(Bounds)*Partitions.
	L1, L2 int64
	// Spread is over how many numbers a change of a coordinate's bound can be spread, as a level of a tree is: all of
	// them can change, and their sum by no more than the bound (PRIVACY.md, "Quantiles"). 0 and 1: over one.
	Spread  int64
	Epsilon dp.Epsilon
	Delta   dp.Delta // the Gaussian's pair, without what its cut costs; 0 for Laplace
}

// Draw is the parameters of coordinate i in any partition. All coordinates share one epsilon and delta.
func (v Vector) Draw(i int) Draw {
	d := Draw{Kind: v.Kind, L0: v.coordinates(), Bound: v.Bounds[i], Epsilon: v.Epsilon, Delta: v.Delta}
	if v.isJoint() {
		norm := v.L1
		if v.Kind == Gaussian {
			norm = v.L2
		}
		d.L0, d.Bound = v.Partitions, saturating(norm, v.Bounds[i])
	}
	return d
}

func (v Vector) isJoint() bool { return v.L1 != 0 || v.L2 != 0 }

// coordinates is how many noised numbers one (customer, block) can change by their bounds: saturating, refused by
// Validate.
func (v Vector) coordinates() int64 { return saturating(int64(len(v.Bounds)), v.Partitions) }

// touched is how many noised numbers one (customer, block) can change at all.
func (v Vector) touched() int64 { return saturating(v.coordinates(), max(1, v.Spread)) }

func saturating(n, m int64) int64 {
	if n > 0 && m > math.MaxInt64/n {
		return math.MaxInt64
	}
	return n * m
}

// Validate refuses what Draw.Validate refuses of any coordinate, and a vector whose rho exceeds MaxGaussianRho.
func (v Vector) Validate() error {
	_, err := v.loss()
	return err
}

// Loss is the price of all coordinates over all partitions together, in both certificates; an unbounded
// price, which no account admits, for an invalid vector.
func (v Vector) Loss() dp.Loss {
	loss, err := v.loss()
	if err != nil {
		return dp.Loss{Epsilon: math.MaxInt64, Delta: math.MaxInt64, Rho: dp.RhoUnknown, DeltaZ: math.MaxInt64}
	}
	return loss
}

func (v Vector) loss() (dp.Loss, error) {
	if len(v.Bounds) == 0 {
		return dp.Loss{}, errors.New("a vector needs at least one coordinate")
	}
	if v.isJoint() && (v.L1 < v.L2 || v.L2 < 1) {
		return dp.Loss{}, errBound
	}
	var rho float64
	for i, bound := range v.Bounds {
		law, err := v.Draw(i).law()
		if err != nil {
			return dp.Loss{}, err
		}
		g, ok := law.(gaussianLaw)
		switch {
		case !ok:
		case !v.isJoint():
			rho += gaussianRho(v.Partitions, bound, g.sigma)
		default: // one of them for all: in units of their bounds they share a sigma
			rho = max(rho, gaussianRho(v.Partitions, saturating(v.L2, bound), g.sigma))
		}
	}
	if v.Kind == Laplace {
		return dp.Loss{Epsilon: v.Epsilon, Rho: accounting.LaplaceRho(v.Epsilon, v.Draw(0).L0)}, nil
	}
	rho *= 1 + 0x1p-48 // the sum's own roundings
	if rho > float64(MaxGaussianRho) {
		return dp.Loss{}, errRho
	}
	cut := cutCost(v.touched())
	if v.Delta > dp.DeltaOne-cut {
		return dp.Loss{}, errDelta
	}
	return dp.Loss{Epsilon: v.Epsilon, Delta: v.Delta + cut, Rho: dp.Rho(math.Ceil(rho)), DeltaZ: cut}, nil
}

// cutCost is l0*cutDelta, at most one.
func cutCost(l0 int64) dp.Delta {
	if l0 > int64(dp.DeltaOne/cutDelta) {
		return dp.DeltaOne
	}
	return dp.Delta(l0) * cutDelta
}

// laplace is the vector at e, without a delta.
func (v Vector) laplace(e dp.Epsilon) Vector {
	v.Kind, v.Epsilon, v.Delta = Laplace, e, 0
	return v
}

// gaussian is the vector whose whole price in delta is at most d, the cut's included.
func (v Vector) gaussian(e dp.Epsilon, d dp.Delta) Vector {
	v.Kind, v.Epsilon = Gaussian, e
	v.Delta = d - cutCost(v.touched()) // if not above 0, Validate refuses it
	return v
}

// ForLoss is the vector with v's bounds and the smaller half-width of its coordinate 0 that costs at most (e, d):
// Laplace or Gaussian noise. For a mean whose true value is in the middle of its clamp that order is the order of its
// own half-widths. It is Laplace where d is 0, or too small to pay for the Gaussian's cut, or pure is set.
func ForLoss(v Vector, e dp.Epsilon, d dp.Delta, pure bool, c Confidence) (Vector, error) {
	laplace := v.laplace(e)
	err := laplace.Validate()
	if pure || d <= 0 {
		return laplace, err
	}
	gaussian := v.gaussian(e, d)
	if gaussian.Validate() != nil {
		return laplace, err // the Laplace error, if there is one, says more
	}
	if err != nil || gaussian.Draw(0).HalfWidth(c) < laplace.Draw(0).HalfWidth(c) {
		return gaussian, nil
	}
	return laplace, nil
}

// ErrUnattainable says that no noise within the ceiling is as exact as was asked.
var ErrUnattainable = errors.New("the asked half-width is not attainable")

// ForHalfWidth is the vector with the bounds of one that has least rho and whose figure has a half-width of at most
// target: halfWidth must not grow with the vector's epsilon. Gaussian vectors cost at most d in delta, the cut's
// included; d 0 or pure leaves Laplace alone. No vector costs more than maxEpsilon.
//
// It returns the half-width reached. If none reaches target, the error is ErrUnattainable and best is the
// smallest half-width within maxEpsilon; other errors are of the parameters.
func ForHalfWidth(of Vector, halfWidth func(Vector) float64, target float64, d dp.Delta, pure bool, maxEpsilon dp.Epsilon) (v Vector, best float64, err error) {
	maxEpsilon = min(maxEpsilon, MaxEpsilon)
	v, best, err = cheapest(of.laplace, halfWidth, target, maxEpsilon)
	if pure || d <= 0 {
		return v, best, err
	}
	gaussian := func(e dp.Epsilon) Vector { return of.gaussian(e, d) }
	// Rho grows with epsilon: the largest epsilon that stays within MaxGaussianRho ends the search.
	top := lastEpsilon(maxEpsilon, func(e dp.Epsilon) bool { return !errors.Is(gaussian(e).Validate(), errRho) })
	g, gBest, gErr := cheapest(gaussian, halfWidth, target, top)
	switch {
	case gErr == nil && (err != nil || g.Loss().Rho < v.Loss().Rho):
		return g, gBest, nil
	case errors.Is(gErr, ErrUnattainable) && (err != nil && (!errors.Is(err, ErrUnattainable) || gBest < best)):
		return g, gBest, gErr
	}
	return v, best, err
}

// cheapest is the vector of least epsilon within max that reaches the target. Vectors that are invalid for
// too much noise do not reach it.
func cheapest(at func(dp.Epsilon) Vector, halfWidth func(Vector) float64, target float64, max dp.Epsilon) (Vector, float64, error) {
	v := at(max)
	if err := v.Validate(); err != nil {
		return Vector{}, math.Inf(1), err
	}
	best := halfWidth(v)
	if !(best <= target) {
		return Vector{}, best, ErrUnattainable
	}
	fails, reaches := dp.Epsilon(0), max
	for reaches-fails > 1 {
		middle := fails + (reaches-fails)/2
		next := at(middle)
		if next.Validate() != nil {
			fails = middle
			continue
		}
		if width := halfWidth(next); width <= target {
			v, best, reaches = next, width, middle
		} else {
			fails = middle
		}
	}
	return v, best, nil
}

// lastEpsilon is the largest epsilon up to max for which holds holds, where it holds up to some epsilon and
// never beyond; 0 if for none.
func lastEpsilon(max dp.Epsilon, holds func(dp.Epsilon) bool) dp.Epsilon {
	if max >= 1 && holds(max) {
		return max
	}
	in, out := dp.Epsilon(0), max
	for out-in > 1 {
		if middle := in + (out-in)/2; holds(middle) {
			in = middle
		} else {
			out = middle
		}
	}
	return in
}
