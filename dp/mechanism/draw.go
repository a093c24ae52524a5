package mechanism

import (
	"errors"
	"fmt"
	"math"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/google/differential-privacy/go/v3/noise"
)

// Kind is a distribution of noise.
type Kind string

// The kinds of noise.
const (
	Laplace  Kind = "laplace"
	Gaussian Kind = "gaussian"
)

// Limits within which the proofs of PRIVACY.md hold and the library returns at all.
const (
	MaxEpsilon      = 700 * dp.EpsilonOne // above it the Gaussian's exp(epsilon) overflows and never returns
	MaxSensitivity  = int64(1) << 53      // L0*Bound stays below it, so that every float64 of it is exact
	MaxL0           = int64(1) << 40      // beyond it the grid's share of Laplace rho is not proved
	MaxLaplaceScale = 0x1p40              // at or below it the sampler's grid is at most one unit
	MaxSigma        = 0x1p56              // at or below it the sampler's grid is at most one unit
	MaxGaussianRho  = dp.RhoOne / 2       // at or below it a shift stays within the sampler's support but for cutDelta
)

// cutDelta is what each coordinate of Gaussian noise costs in delta beside its pair: the sampler's support
// ends at 8.8 sigma, and a shift of at most one sigma leaves less than 3*10^-15 outside. The rest covers
// rounding in sigma (PRIVACY.md, "Gaussian noise").
const cutDelta dp.Delta = 5000 // 5*10^-15

// Draw is the parameters of one noised integer: of L0 coordinates that one (customer, block) can change, by
// at most Bound each, at Epsilon and (Gaussian only) Delta for all of them together.
type Draw struct {
	Kind    Kind
	L0      int64
	Bound   int64
	Epsilon dp.Epsilon
	Delta   dp.Delta // 0 for Laplace; the pair's own for Gaussian, without cutDelta
}

// Validate refuses parameters for which the library hangs, wraps or adds too little noise, and those
// for which nothing is proved. The error names the parameter and the limit, never a value.
func (d Draw) Validate() error {
	_, err := d.law()
	return err
}

// SD is the standard deviation of the noise as it is added, rounding included; 0 for an invalid draw.
func (d Draw) SD() float64 {
	law, err := d.law()
	if err != nil {
		return 0
	}
	return law.sd()
}

// HalfWidth is the least w with P(|noise| <= w) >= confidence under the sampler's own law, so that
// noised value +- w is an interval that covers at least that often; the largest number for an invalid draw.
func (d Draw) HalfWidth(c Confidence) int64 {
	law, err := d.law()
	if err != nil {
		return math.MaxInt64
	}
	return law.halfWidth(c.Miss())
}

// Errors of a draw's parameters.
var (
	errKind        = errors.New("noise must be laplace or gaussian")
	errL0          = fmt.Errorf("a customer's number of partitions times metrics must be from 1 to %d", MaxL0)
	errBound       = errors.New("what one customer can change must be at least one unit: widen the bounds")
	errSensitivity = errors.New("partitions times metrics times bound must stay below 2^53: tighten the bounds or lower the scale")
	errEpsilon     = errors.New("epsilon must be above 0 and at most 700")
	errPureDelta   = errors.New("laplace noise has no delta: use 0")
	errDelta       = errors.New("gaussian noise needs a delta above 0 and below 1")
	errScale       = errors.New("the noise would exceed 2^40 units: ask for more epsilon or tighten the bounds")
	errSigma       = errors.New("the noise would exceed 2^56 units: ask for more epsilon or tighten the bounds")
	errCoordinates = errors.New("the vector has another number of coordinates than the figure")
	errShares      = errors.New("the parts of a vector have more than all of its precision")
	errRho         = errors.New("gaussian noise is offered up to a rho of 0.5: use laplace or less epsilon")
)

// law is the distribution from which a valid draw's noise comes.
func (d Draw) law() (law, error) {
	switch {
	case d.Kind != Laplace && d.Kind != Gaussian:
		return nil, errKind
	case d.L0 < 1 || d.L0 > MaxL0:
		return nil, errL0
	case d.Bound < 1:
		return nil, errBound
	case d.Bound >= MaxSensitivity || d.L0 > (MaxSensitivity-1)/d.Bound:
		return nil, errSensitivity
	case d.Epsilon < 1 || d.Epsilon > MaxEpsilon:
		return nil, errEpsilon
	}
	if d.Kind == Laplace {
		if d.Delta != 0 {
			return nil, errPureDelta
		}
		l1, epsilon := float64(d.L0*d.Bound), epsilonFloat(d.Epsilon)
		if l1/epsilon > MaxLaplaceScale {
			return nil, errScale
		}
		return newLaplaceLaw(l1, epsilon), nil
	}
	if d.Delta < 1 || d.Delta >= dp.DeltaOne {
		return nil, errDelta
	}
	sigma := noise.SigmaForGaussian(d.L0, float64(d.Bound), epsilonFloat(d.Epsilon), deltaFloat(d.Delta))
	if !(sigma <= MaxSigma) {
		return nil, errSigma
	}
	if gaussianRho(d.L0, d.Bound, sigma) > float64(MaxGaussianRho) {
		return nil, errRho
	}
	return newGaussianLaw(sigma), nil
}

// gaussianRho is l0*bound^2/(2 sigma^2) in units of dp.Rho, rounded up by more than its six roundings.
func gaussianRho(l0, bound int64, sigma float64) float64 {
	ratio := float64(bound) / sigma
	return float64(l0) * ratio * ratio / 2 * float64(dp.RhoOne) * (1 + 0x1p-48)
}

// epsilonFloat is a float64 below epsilon, by at most two roundings: less epsilon means more noise, so that rounding
// never takes more than is charged.
func epsilonFloat(e dp.Epsilon) float64 { return math.Nextafter(float64(e)/float64(dp.EpsilonOne), 0) }

// deltaFloat is a float64 not above delta, for the same reason.
func deltaFloat(d dp.Delta) float64 {
	return math.Nextafter(math.Nextafter(float64(d), 0)/float64(dp.DeltaOne), 0)
}
