package answer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// mostCombined is how many earlier draws, the last ones, a new one is combined with, and mostBefore among how many of the
// asker's last releases they are looked for: every new draw pays for this in time.
const mostCombined, mostBefore = 20, 50

// withCombined adds to a new draw what it says together with earlier draws of the same question, over the same versions,
// that the asker holds. The release itself, its values and their intervals stay as they are. What goes wrong here takes
// nothing from the answer, which is paid for.
func (s *Service) withCombined(ctx context.Context, asker dp.Consumer, p *plan.Plan, a Answer) Answer {
	combined, earlier, err := s.combine(ctx, asker, p, a.Release)
	if err != nil {
		s.options.Log.Warn("an answer was not combined with earlier ones", "release", a.Release.ID, "error", err)
		return a
	}
	if earlier == 0 {
		return a
	}
	a.Combined = combined
	a.Release.Notes = append(slices.Clip(a.Release.Notes), fmt.Sprintf(
		"Combined values weigh this draw with %d earlier of the same question that you hold, by their variances. Their intervals assume that the figures of the earlier did not prompt this one: to ask again until a figure pleases makes them wrong.", earlier))
	return a
}

// combine weighs the draws of a question by their variances: of independent figures without bias that is the weighted mean
// of least variance. Only numbers that are one integer with one noise are combined, over public groups: which private ones
// are shown depends on their noise.
func (s *Service) combine(ctx context.Context, asker dp.Consumer, p *plan.Plan, r dp.Release) (combined [][]*dp.Value, earlier int, err error) {
	if p.GroupsMayBeHidden || !slices.ContainsFunc(p.Metrics, isCombined) {
		return nil, 0, nil
	}
	held, err := s.releases.HeldOver(ctx, asker.Name, p.Policy.Name, p.Blocks, mostBefore)
	if err != nil {
		return nil, 0, fmt.Errorf("looking for earlier draws: %w", err)
	}
	s.recent.keep(r.ID, r.NoisedCoordinates)
	plans, draws := []*plan.Plan{p}, [][][]int64{r.NoisedCoordinates}
	for _, other := range held {
		// A draw under a key that was charged long ago is over the rows of then.
		if other.ID == r.ID || other.PolicyVersion != p.Policy.Version || !slices.Equal(other.Blocks, r.Blocks) || len(draws) > mostCombined {
			continue
		}
		source := s.drawn.of(other, p.Policy)
		if source == nil {
			continue
		}
		if _, same := p.IsSameQuestion(source); !same {
			continue
		}
		noised := s.recent.of(other.ID)
		if noised == nil {
			whole, err := s.releases.Release(ctx, asker.Name, other.ID)
			if err != nil {
				return nil, 0, fmt.Errorf("reading an earlier draw: %w", err)
			}
			noised = whole.NoisedCoordinates
			s.recent.keep(other.ID, noised)
		}
		if len(noised) == len(r.NoisedCoordinates) { // public groups: they are the same, in the same order
			plans, draws = append(plans, source), append(draws, noised)
		}
	}
	if len(draws) == 1 {
		return nil, 0, nil
	}
	combined = make([][]*dp.Value, len(r.Groups))
	for g := range combined {
		combined[g] = make([]*dp.Value, len(p.Metrics))
	}
	for i, m := range p.Metrics {
		if isCombined(m) {
			combineMetric(combined, i, p, plans, draws)
		}
	}
	return combined, len(draws) - 1, nil
}

func isCombined(m plan.Metric) bool {
	switch m.Aggregate {
	case dp.Customers, dp.Rows, dp.Days, dp.Sessions, dp.Sum:
		return true
	}
	return false
}

// combineMetric fills in a metric of all groups: the noise of the weighted mean is the same in each.
func combineMetric(combined [][]*dp.Value, metric int, p *plan.Plan, plans []*plan.Plan, draws [][][]int64) {
	noises, whole := make([]mechanism.Addend, len(draws)), 0.0
	for k := range draws {
		noises[k] = mechanism.Addend{Draw: plans[k].Metrics[metric].Vector.Draw(0), Weight: 1, Times: 1}
		sd := mechanism.SumSD(noises[k])
		noises[k].Weight = 1 / (sd * sd)
		whole += noises[k].Weight
	}
	at := make([]int, len(draws))
	for k := range draws {
		noises[k].Weight /= whole
		at[k] = offsets(plans[k])[metric]
	}
	unit := math.Pow10(p.Metrics[metric].Scale)
	half, sd := mechanism.SumHalfWidth(p.Confidence, noises...)/unit, mechanism.SumSD(noises...)/unit
	for g := range combined {
		value := 0.0
		for k, draw := range draws {
			value += noises[k].Weight * float64(draw[g][at[k]])
		}
		value /= unit
		combined[g][metric] = &dp.Value{Value: value, Low: value - half, High: value + half, SD: sd}
	}
}

// recent keeps the noised numbers of draws that were made or combined lately: who asks the same again and again would
// otherwise have all of them read each time. A release never changes, and whether an asker holds it is asked before.
type recent struct {
	mu        sync.Mutex
	byRelease map[string][][]int64
	numbers   int
}

// mostRecent bounds the numbers that recent keeps, 8 MiB, and those of one release.
const mostRecent, mostOfOne = 1 << 20, 1 << 14

func (k *recent) of(release string) [][]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byRelease[release]
}

func (k *recent) keep(release string, noised [][]int64) {
	size := 0
	for _, group := range noised {
		size += len(group) + 4 // what a list takes by itself
	}
	if size > mostOfOne {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byRelease == nil || k.numbers+size > mostRecent {
		k.byRelease, k.numbers = make(map[string][][]int64), 0
	}
	if _, known := k.byRelease[release]; !known {
		k.byRelease[release] = noised
		k.numbers += size
	}
}
