package mechanism

import (
	"math"

	"github.com/discreet-analytics/discreet/dp"
)

// Part is a part of what is drawn with Gaussian noise as one vector: numbers whose changes have a sum of squares of at
// most Squares, and that get Share of the vector's precision.
type Part struct {
	Squares float64
	Share   float64
}

// finestL0 bounds how many coordinates stand for a part, so that all arithmetic with them is exact.
const finestL0 = 1 << 30

// JointGaussian prices parts as one Gaussian vector that costs at most (e, d) and of which a (customer, block) changes at
// most so many numbers. It gives a vector to draw each part with, whose own loss means nothing, and the loss of all.
//
// With sigma_i of part i, the length of the whole shift in units of sigma is at most the root of the sum of
// Squares_i/sigma_i^2. Part i is drawn as one whose squares add up to Squares_i/Share_i, at (e, d) of its own: then
// that is at most the largest length that (e, d) allows, times the sum of the shares, which must be at most 1
// (PRIVACY.md, "Levels").
func JointGaussian(parts []Part, touched int64, e dp.Epsilon, d dp.Delta) ([]Vector, dp.Loss, error) {
	cut := cutCost(touched)
	if d <= cut {
		return nil, dp.Loss{}, errDelta
	}
	vectors := make([]Vector, len(parts))
	rho, shares := 0.0, 0.0
	for i, part := range parts {
		shares += part.Share
		need := part.Squares / part.Share * (1 + 0x1p-40)
		if !(need >= 1 && need < 0x1p100) {
			return nil, dp.Loss{}, errSensitivity
		}
		bound := math.Ceil(math.Sqrt(need / finestL0))
		v := Vector{Kind: Gaussian, Partitions: int64(math.Ceil(need / bound / bound)), Bounds: []int64{int64(bound)}, Epsilon: e, Delta: d - cut}
		law, err := v.Draw(0).law()
		if err != nil {
			return nil, dp.Loss{}, err
		}
		rho = max(rho, gaussianRho(v.Partitions, v.Bounds[0], law.(gaussianLaw).sigma))
		vectors[i] = v
	}
	if shares > 1 {
		return nil, dp.Loss{}, errShares
	}
	if rho *= 1 + 0x1p-48; rho > float64(MaxGaussianRho) {
		return nil, dp.Loss{}, errRho
	}
	return vectors, dp.Loss{Epsilon: e, Delta: d, Rho: dp.Rho(math.Ceil(rho)), DeltaZ: cut}, nil
}
