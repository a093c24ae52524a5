package mechanism

import (
	"math"
	"math/bits"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// LossOver is what v's noise costs those whom it hides better: units that change no more than less says, whose bounds are
// all as many times smaller than v's, and whose Partitions are no more. Its kind and price are not looked at.
// (PRIVACY.md, "Smaller shifts".)
func (v Vector) LossOver(less Vector) dp.Loss {
	full := v.Loss()
	if len(less.Bounds) != len(v.Bounds) || less.Partitions > v.Partitions || v.Validate() != nil {
		return full
	}
	for i := range v.Bounds {
		if less.Bounds[i] > v.Bounds[i] {
			return full
		}
	}
	less.Kind, less.Delta = v.Kind, v.Delta
	if v.Kind == Laplace {
		less.Epsilon = v.laplaceEpsilon(less)
		if v.coordinates() > mostScaled {
			return full
		}
		loss := dp.Loss{Epsilon: less.Epsilon, Rho: min(full.Rho, accounting.LaplaceRho(less.Epsilon, less.Draw(0).L0))}
		return loss
	}
	less.Epsilon = leastEpsilon(v.Epsilon, func(e dp.Epsilon) bool {
		less.Epsilon = e
		return less.isBelow(v)
	})
	if less.Epsilon == 0 || less.Validate() != nil {
		return full
	}
	return less.Loss()
}

// mostScaled is up to how many coordinates the room in rho is proved to be enough for smaller shifts.
const mostScaled = 1 << 30

// laplaceEpsilon is v's epsilon times the largest part of v's shift, by a coordinate's own measure, that less has:
// rounded up.
func (v Vector) laplaceEpsilon(less Vector) dp.Epsilon {
	most := dp.Epsilon(1)
	for i, bound := range v.Bounds {
		part, whole := saturating(less.Partitions, less.Bounds[i]), saturating(v.Partitions, bound)
		hi, lo := bits.Mul64(uint64(v.Epsilon), uint64(part))
		if whole < 1 || hi >= uint64(whole) {
			return v.Epsilon
		}
		quotient, rest := bits.Div64(hi, lo, uint64(whole))
		if rest > 0 {
			quotient++
		}
		most = max(most, dp.Epsilon(min(quotient, math.MaxInt64)))
	}
	return min(most, v.Epsilon)
}

// isBelow tells whether no coordinate has more noise than v's.
func (less Vector) isBelow(v Vector) bool {
	for i := range v.Bounds {
		small, err := less.Draw(i).law()
		large, errLarge := v.Draw(i).law()
		if err != nil || errLarge != nil {
			return false
		}
		a, ok := small.(gaussianLaw)
		b, okLarge := large.(gaussianLaw)
		if !ok || !okLarge || a.sigma > b.sigma {
			return false
		}
	}
	return true
}

// leastEpsilon is the least epsilon up to most for which holds holds, where it holds from some epsilon on; 0 if for none.
func leastEpsilon(most dp.Epsilon, holds func(dp.Epsilon) bool) dp.Epsilon {
	if !holds(most) {
		return 0
	}
	out, in := dp.Epsilon(0), most
	for in-out > 1 {
		if middle := out + (in-out)/2; holds(middle) {
			in = middle
		} else {
			out = middle
		}
	}
	return in
}

// LossOver is what the selection costs units that change no more than so many partitions.
func (s Selection) LossOver(partitions int64) dp.Loss {
	if partitions >= s.Partitions || s.Validate() != nil {
		return s.Loss()
	}
	counts := Vector{Kind: s.Kind, Partitions: s.Partitions, Bounds: []int64{1}, Epsilon: s.Epsilon, Delta: s.Draw().Delta}
	// Of fewer lone partitions, fewer are shown.
	_, threshold := s.split()
	hi, lo := bits.Mul64(uint64(threshold), uint64(partitions))
	part, rest := bits.Div64(hi, lo, uint64(s.Partitions)) // partitions < s.Partitions: the quotient fits
	if rest > 0 {
		part++
	}
	loss := counts.LossOver(Vector{Partitions: partitions, Bounds: []int64{1}})
	return accounting.Add(loss, dp.Loss{Delta: dp.Delta(part), DeltaZ: dp.Delta(part)})
}
