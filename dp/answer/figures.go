package answer

import (
	"math"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// figures turns noised coordinates into values with intervals. What does not differ between groups is computed
// once: a scale is found by bisection.
type figures struct {
	plan      *plan.Plan
	at        []int               // per metric: where its coordinates begin among those of a group
	spreads   map[drawnSum]spread // of metrics that count or add up
	quantiles []*mechanism.Quantile
}

// drawnSum is a metric of which so many numbers were added up.
type drawnSum struct{ metric, draws int }

// spread is how far noise reaches, in the figure's integer units.
type spread struct{ half, sd float64 }

// newFigures prepares figures for the answers to a plan.
func newFigures(p *plan.Plan) figures {
	f := figures{plan: p, at: offsets(p), spreads: make(map[drawnSum]spread), quantiles: make([]*mechanism.Quantile, len(p.Metrics))}
	for i, m := range p.Metrics {
		switch m.Aggregate {
		case dp.Quantile, dp.Min, dp.Max:
			// A plan that was priced has a tree that can be read.
			f.quantiles[i], _ = mechanism.NewQuantile(m.Tree, m.Vector, m.Lower, m.Upper, p.Tree.Columns[m.Columns[0]].BinWidth, m.Rank, p.Confidence)
		}
	}
	return f
}

// offsets says where the coordinates of each metric begin among those of a group.
func offsets(p *plan.Plan) []int {
	at, next := make([]int, len(p.Metrics)), 0
	for i, m := range p.Metrics {
		if m.Drawn == i {
			at[i] = next
			next += m.Draws()
		} else if m.Drawn >= 0 {
			at[i] = at[m.Drawn]
		}
	}
	return at
}

// noise is that of a metric that counts or adds up, of which so many numbers were added up.
func (f figures) noise(i, draws int) mechanism.Addend {
	return mechanism.Addend{Draw: f.plan.Metrics[i].Vector.Draw(0), Weight: 1, Times: draws}
}

func (f figures) spread(i, draws int) spread {
	known, ok := f.spreads[drawnSum{i, draws}]
	if !ok {
		noise := f.noise(i, draws)
		known = spread{half: mechanism.SumHalfWidth(f.plan.Confidence, noise), sd: mechanism.SumSD(noise)}
		f.spreads[drawnSum{i, draws}] = known
	}
	return known
}

// groups are the figures of all groups of an answer, in the measure's own unit. draws says of each group how many
// numbers, each with noise of its own, its coordinates are sums of; nil where they were drawn themselves.
func (f figures) groups(keys [][]string, noised [][]int64, draws []int) []dp.Group {
	if len(f.plan.Levels) > 0 {
		return f.reconciled(keys, noised)
	}
	whole := 0
	if draws == nil {
		draws = slices.Repeat([]int{1}, len(noised))
	}
	for _, n := range draws {
		whole += n
	}
	groups, sums := make([]dp.Group, len(noised)), f.sums(noised)
	for g, key := range keys {
		groups[g] = dp.Group{Key: key, Values: make([]dp.Value, len(f.plan.Metrics))}
		for i, m := range f.plan.Metrics {
			if m.Aggregate == dp.Share {
				groups[g].Values[i] = f.share(i, noised[g], draws[g], sums[i], whole)
			} else {
				groups[g].Values[i] = f.value(i, key, noised[g], draws[g])
			}
		}
	}
	return groups
}

// sums are, of shares, the numbers of all groups together.
func (f figures) sums(noised [][]int64) []int64 {
	sums := make([]int64, len(f.plan.Metrics))
	for _, coordinates := range noised {
		for i, m := range f.plan.Metrics {
			if m.Aggregate == dp.Share {
				sums[i] = saturating(sums[i], coordinates[f.at[m.Parts[0]]])
			}
		}
	}
	return sums
}

// share is one in a sum, of which it has so many draws of all.
func (f figures) share(i int, all []int64, draws int, sum int64, whole int) dp.Value {
	of := f.plan.Metrics[i].Parts[0]
	value, low, high, sd := mechanism.ShareInterval(all[f.at[of]], sum, f.noise(of, draws), whole, f.plan.Confidence)
	return dp.Value{Value: value, Low: low, High: high, SD: sd}
}

// value is a figure of one group that no other group has a part in.
func (f figures) value(i int, key []string, all []int64, draws int) dp.Value {
	m, confidence := f.plan.Metrics[i], f.plan.Confidence
	unit, own := math.Pow10(m.Scale), all[f.at[i]:]
	in := func(unit, value, low, high, sd float64) dp.Value {
		return dp.Value{Value: value / unit, Low: low / unit, High: high / unit, SD: sd / unit}
	}
	switch m.Aggregate {
	case dp.Mean:
		value, low, high, sd := mechanism.MeanInterval(own[0], own[1], m.Vector, m.Lower, m.Upper, confidence)
		return in(unit, value, low, high, sd)
	case dp.Variance, dp.StdDev:
		value, low, high, sd := mechanism.VarianceInterval(own[0], own[1], own[2], m.Vector, m.Lower, m.Upper, confidence)
		if m.Aggregate == dp.Variance {
			return in(unit*unit, value, low, high, sd)
		}
		root := math.Sqrt(value)
		if first := sd / (2 * root); first < math.Sqrt(sd) { // to first order
			sd = first
		} else { // the root of a sum is at most the sum of the roots
			sd = math.Sqrt(sd)
		}
		return in(unit, root, math.Sqrt(low), math.Sqrt(high), sd)
	case dp.Quantile, dp.Min, dp.Max:
		value, low, high, sd := f.quantiles[i].Interval(own[:m.Tree.Nodes()])
		return in(unit, value, low, high, sd)
	case dp.Ratio:
		of, by := m.Parts[0], m.Parts[1]
		numerator, denominator := f.plan.Metrics[of], f.plan.Metrics[by]
		value, low, high, sd := mechanism.RatioInterval(all[f.at[of]], all[f.at[by]], f.noise(of, draws), f.noise(by, draws), confidence)
		unit := math.Pow10(numerator.Scale - denominator.Scale)
		if m.PerDay {
			unit *= float64(f.plan.Days(key))
		}
		return in(unit, value, low, high, sd)
	}
	noised, reach := float64(own[0]), f.spread(i, draws)
	return in(unit, noised, noised-reach.half, noised+reach.half, reach.sd)
}

// saturating is a sum that does not wrap.
func saturating(a, b int64) int64 {
	switch sum := a + b; {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}
