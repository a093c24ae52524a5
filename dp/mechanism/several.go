package mechanism

import (
	"math"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/google/differential-privacy/go/v3/noise"
)

// GaussianOver is the epsilon that noise made for the pair (e, d) has, at the same d, for changes that in the Euclidean norm
// are larger by times, or by the root of it: the least one at which the library would not ask for more noise. It is
// false where there is none up to MaxEpsilon, or where the pair is none.
//
// The pair says nothing of the sampler's cut (PRIVACY.md, "Several blocks, as accounting").
func GaussianOver(e dp.Epsilon, d dp.Delta, times int64, root bool) (dp.Epsilon, bool) {
	if e < 1 || e > MaxEpsilon || d < 1 || d >= dp.DeltaOne || times < 1 || times >= 1<<20 {
		return 0, false
	}
	if times == 1 {
		return e, true
	}
	delta := deltaFloat(d)
	have := noise.SigmaForGaussian(1, 1, epsilonFloat(e), delta)
	l0, bound := int64(1), times
	if root {
		l0, bound = times, 1
	}
	enough := func(e dp.Epsilon) bool {
		return noise.SigmaForGaussian(l0, float64(bound), epsilonFloat(e), delta) <= have
	}
	found := leastEpsilon(MaxEpsilon, enough)
	return found, found > 0
}

// CutFactor is by how much the price of the sampler's cut grows where shifts of any size are bounded at this epsilon: 1 up to
// 7.5, a whole number beyond (PRIVACY.md, "Several blocks, as accounting").
func CutFactor(e dp.Epsilon) float64 {
	const calm = 7*dp.EpsilonOne + dp.EpsilonOne/2
	if e <= calm {
		return 1
	}
	return math.Ceil(math.Exp(float64(e-calm)/float64(dp.EpsilonOne)) * (1 + 0x1p-20))
}
