package mechanism

import (
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// CutFactor is by how much the price of the sampler's cut grows where shifts of any size are bounded at this epsilon: 1 up to
// 7.5, and e^(epsilon-7.5) rounded up to a whole number beyond; the largest number where that does not fit (PRIVACY.md,
// "Several blocks, as accounting").
func CutFactor(e dp.Epsilon) int64 {
	const calm = 7*dp.EpsilonOne + dp.EpsilonOne/2
	return accounting.LeastAbove(e - calm)
}
