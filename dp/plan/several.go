package plan

import (
	"math"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// KeepsApart tells whether no partition has rows of two blocks and no row decides about another block's, so that what several
// blocks of a customer add lies apart.
func (p *Plan) KeepsApart() bool { return p.apart && !p.isSeveral() }

// PairOver says what a Gaussian's pair comes to for larger changes.
type PairOver func(e dp.Epsilon, delta dp.Delta, times int64, root bool) (dp.Epsilon, bool)

// Over is what the draw costs in basic composition those who differ in all rows of one customer in all of these blocks, of
// which the draw touches each; as accounting, dp/PRIVACY.md, "Several blocks, as accounting". It is false where nothing is
// known but what group privacy says of the charge.
//
// pairOver is accounting.PairOver, whose results the caller keeps: most questions ask it again.
func (p *Plan) Over(touched []dp.Touched, pairOver PairOver) (dp.Budget, bool) {
	most, reached := p.mostTimes(), int64(0)
	for _, t := range touched {
		for _, block := range t.Blocks {
			i := slices.IndexFunc(p.reaches, func(r reach) bool { return r.dataset == t.Dataset && slices.Contains(r.blocks, block) })
			if i < 0 {
				return dp.Budget{}, false
			}
			reached += p.reaches[i].times
		}
	}
	if reached == 0 || reached > mostReached {
		return dp.Budget{}, false
	}
	times := max(1, (reached+most-1)/most)

	var epsilon, largest dp.Epsilon
	var pairs dp.Delta // which a larger shift leaves as they are
	add := func(kind mechanism.Kind, e dp.Epsilon, d dp.Delta) bool {
		at, ok := e*dp.Epsilon(times), e <= math.MaxInt64/dp.Epsilon(times)
		if kind == mechanism.Gaussian {
			at, ok = pairOver(e, d, times, p.KeepsApart())
			pairs += d
		}
		if !ok || at > math.MaxInt64-epsilon {
			return false
		}
		epsilon, largest = epsilon+at, max(largest, at)
		return true
	}
	for i, m := range p.Metrics {
		if m.Drawn == i && p.SelectedBy != i && !add(m.Vector.Kind, m.Vector.Epsilon, m.Vector.Delta) {
			return dp.Budget{}, false
		}
	}
	if s := p.Selection; s != nil && !add(s.Kind, s.Epsilon, s.Draw().Delta) {
		return dp.Budget{}, false
	}
	// Thresholds and cuts are of each partition that changes.
	rest := p.lossOver(most).Delta - pairs
	if rest < 0 || rest > dp.DeltaOne {
		return dp.Budget{}, false
	}
	const half = dp.DeltaOne / 2
	delta := rest
	for _, factor := range []int64{times, mechanism.CutFactor(largest)} {
		if delta > 0 && factor > int64(half/delta) {
			return dp.Budget{}, false
		}
		delta *= dp.Delta(factor)
	}
	if delta >= half {
		return dp.Budget{}, false
	}
	return dp.Budget{Epsilon: epsilon, Delta: delta + pairs}, true
}

// mostReached is up to how many blocks' changes are added up here.
const mostReached = 1 << 20
