package answer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// Ranking is how the groups of an answer were chosen and ordered that shows only those with the largest figures.
type Ranking struct {
	Metric string
	N      int64
	Of     int // groups that were ranked
	// Unclear are the ranks, from 1, of groups whose figure cannot be told from that of the next one, the last shown group's
	// from that of the first that is not.
	Unclear []int
}

// presented shows an answer as its plan asks: with totals, or the largest groups alone. Both are made of noised figures that
// are published already (dp/PRIVACY.md, "Reuse, hand-out and refusals"); the release itself stays whole.
func presented(p *plan.Plan, a Answer) Answer {
	if !p.Totals && p.Top == nil {
		return a
	}
	f := newFigures(p)
	if a.draws == nil {
		a.draws = slices.Repeat([]int{1}, len(a.Release.Groups))
	}
	a.Release.Notes = slices.Clip(a.Release.Notes)
	if p.Totals {
		a.Totals = f.totals(a.Release, a.draws)
		a.Release.Notes = append(a.Release.Notes, totalNotes(p, a.Totals, len(a.Release.Groups))...)
	}
	if p.Top != nil {
		a = f.ranked(a)
	}
	return a
}

// totals are, by metric, what the figures of all groups add up to; nil of one that does not add up. Each noise is
// independent of the others, and of the one that decided which groups are shown, so that the interval is that of their sum.
func (f figures) totals(r dp.Release, draws []int) []*dp.Value {
	totals := make([]*dp.Value, len(f.plan.Metrics))
	if len(r.Groups) == 0 {
		return totals
	}
	if len(f.plan.Levels) > 0 {
		return reconciledTotals(r, totals)
	}
	width, whole := len(r.NoisedCoordinates[0]), 0
	sums := make([]int64, width)
	for g, coordinates := range r.NoisedCoordinates {
		for i, v := range coordinates {
			sums[i] = saturating(sums[i], v)
		}
		whole += draws[g]
	}
	for i := range f.plan.Metrics {
		if f.plan.AddsUp(i) {
			total := f.value(i, nil, sums, whole)
			totals[i] = &total
		}
	}
	return totals
}

// reconciledTotals are the figures of the level of everything together, where there is one: those of other levels are not
// independent of each other.
func reconciledTotals(r dp.Release, totals []*dp.Value) []*dp.Value {
	at := slices.IndexFunc(r.Levels, func(level []string) bool { return len(level) == 0 })
	for _, g := range r.Groups {
		if at >= 0 && g.Level == at+1 {
			for i := range g.Values {
				totals[i] = &g.Values[i]
			}
		}
	}
	return totals
}

func totalNotes(p *plan.Plan, totals []*dp.Value, groups int) (lines []string) {
	var without []string
	some := false
	for i, m := range p.Metrics {
		if some = some || totals[i] != nil; totals[i] == nil {
			without = append(without, m.Name)
		}
	}
	switch {
	case groups == 0:
		return []string{"There are no totals: no group is shown."}
	case len(p.Levels) > 0 && !some:
		return []string{"There are no totals of figures that were reconciled without the level of everything: add [] to reconcile."}
	case len(p.Levels) > 0:
		return []string{"Totals are the reconciled figures of everything together."}
	case some && p.GroupsMayBeHidden:
		lines = append(lines, "Totals are of shown groups: they add up the figures of these, noise included, and leave out what lies in others.")
	case some:
		lines = append(lines, "Totals add up the figures of all groups, noise included, of what bounding kept there. With [] in reconcile they are drawn as well, and more exact, for a price.")
	}
	if len(without) > 0 {
		lines = append(lines, fmt.Sprintf("%s: no totals, because one customer or row may be read in several groups or figures do not add up: ask without by.", strings.Join(without, ", ")))
	}
	return lines
}

// ranked leaves the groups with the largest figures, the largest first, and says where noise may have decided.
func (f figures) ranked(a Answer) Answer {
	top := f.plan.Top
	metric := slices.IndexFunc(f.plan.Metrics, func(m plan.Metric) bool { return m.Name == top.Metric })
	r := a.Release
	order := make([]int, len(r.Groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int { // of equal ones the order of keys
		return cmp.Compare(r.Groups[y].Values[metric].Value, r.Groups[x].Values[metric].Value)
	})
	shown := min(int(top.N), len(order))
	a.Ranking = &Ranking{Metric: top.Metric, N: top.N, Of: len(order)}
	apart := f.apart(a, metric)
	for rank := 1; rank <= min(shown, len(order)-1); rank++ {
		if !apart(order[rank-1], order[rank]) {
			a.Ranking.Unclear = append(a.Ranking.Unclear, rank)
		}
	}
	a.Release.Groups, a.Release.NoisedCoordinates = nil, nil
	var combined [][]*dp.Value
	for _, g := range order[:shown] {
		a.Release.Groups = append(a.Release.Groups, r.Groups[g])
		a.Release.NoisedCoordinates = append(a.Release.NoisedCoordinates, r.NoisedCoordinates[g])
		if a.Combined != nil {
			combined = append(combined, a.Combined[g])
		}
	}
	a.Combined, a.draws = combined, nil
	line := fmt.Sprintf("These are %d of %d groups, ranked by noised figures of %s: noise can change the order, and the largest are rather too large than too small.", shown, len(order), top.Metric)
	if n := len(a.Ranking.Unclear); n > 0 {
		var pairs []string
		for _, rank := range a.Ranking.Unclear[:min(n, mostNamed)] {
			next := fmt.Sprint(rank + 1)
			if rank == shown {
				next = "the first that is not shown"
			}
			pairs = append(pairs, fmt.Sprintf("%d and %s", rank, next))
		}
		line += " Neighbours that cannot be told apart: " + strings.Join(pairs, "; ")
		if n > mostNamed {
			line += fmt.Sprintf("; and %d more", n-mostNamed)
		}
		line += "."
	}
	a.Release.Notes = append(a.Release.Notes, line)
	return a
}

// mostNamed is how many neighbours a note names.
const mostNamed = 20

// apart tells of two groups, the first of the larger figure, whether the difference is more than noise explains, at the
// plan's confidence: by the law of the difference where the metric is one noised integer, else by intervals that hold together
// (as comparisons do).
func (f figures) apart(a Answer, metric int) func(larger, smaller int) bool {
	m, r := f.plan.Metrics[metric], a.Release
	switch m.Aggregate {
	case dp.Customers, dp.Rows, dp.Days, dp.Sessions, dp.Sum:
		known := make(map[[2]int]float64)
		unit := math.Pow10(m.Scale)
		return func(larger, smaller int) bool {
			draws := [2]int{a.draws[larger], a.draws[smaller]}
			half, ok := known[draws]
			if !ok {
				half = mechanism.SumHalfWidth(f.plan.Confidence, f.noise(metric, draws[0]), f.noise(metric, draws[1])) / unit
				known[draws] = half
			}
			return r.Groups[larger].Values[metric].Value-r.Groups[smaller].Values[metric].Value > half
		}
	}
	jointly := *f.plan
	jointly.Confidence = mechanism.Confidence(1 - f.plan.Confidence.Miss()/2)
	joint := newFigures(&jointly)
	whole := 0
	for _, n := range a.draws {
		whole += n
	}
	sums := joint.sums(r.NoisedCoordinates)
	figure := func(g int) dp.Value {
		if m.Aggregate == dp.Share {
			return joint.share(metric, r.NoisedCoordinates[g], a.draws[g], sums[metric], whole)
		}
		return joint.value(metric, r.Groups[g].Key, r.NoisedCoordinates[g], a.draws[g])
	}
	return func(larger, smaller int) bool { return figure(larger).Low > figure(smaller).High }
}
