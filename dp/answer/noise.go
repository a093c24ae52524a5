package answer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// noisedGroup is one partition after noise: per metric the noised coordinates, one after another.
type noisedGroup struct {
	key         []string
	coordinates []int64
}

// largest bounds exact totals, so that no noise (below 2^60, see mechanism's limits) can make a sum wrap. The
// clamp moves no total further than it moves itself, so it changes no sensitivity.
const largest = int64(1) << 62

// candidates are the partitions that get noise: every public one, empty ones with zeros; of private ones
// those that at least one kept customer has.
func candidates(p *plan.Plan, exact []bounding.Partition) ([]bounding.Partition, error) {
	columns := len(p.Tree.Columns)
	for _, e := range exact {
		if len(e.Totals) != columns {
			return nil, errors.New("the engine returned a partition with another number of columns than the plan has")
		}
		for i, v := range e.Totals {
			e.Totals[i] = max(-largest, min(largest, v))
		}
	}
	if p.GroupsMayBeHidden {
		kept := slices.DeleteFunc(slices.Clone(exact), func(e bounding.Partition) bool { return e.Totals[p.SelectionColumn()] < 1 })
		slices.SortFunc(kept, func(a, b bounding.Partition) int { return p.CompareKeys(a.Key, b.Key) })
		return kept, nil
	}
	byKey := make(map[string][]int64, len(exact))
	for _, e := range exact {
		byKey[string(rows.AppendKey(nil, e.Key))] = e.Totals
	}
	groups := p.Groups()
	filled := make([]bounding.Partition, len(groups))
	found := 0
	for i, key := range groups {
		totals, ok := byKey[string(rows.AppendKey(nil, key))]
		if ok {
			found++
		} else {
			totals = make([]int64, columns)
		}
		filled[i] = bounding.Partition{Key: key, Totals: totals}
	}
	if found != len(byKey) {
		return nil, errors.New("the engine returned a partition outside the public domain")
	}
	return filled, nil
}

// addNoise draws the noise of every coordinate and leaves out the private partitions that selection drops.
// A group that is dropped has had its selection drawn and nothing else.
func addNoise(ctx context.Context, p *plan.Plan, groups []bounding.Partition, noise mechanism.Noise) ([]noisedGroup, error) {
	var tau int64
	if p.Selection != nil {
		tau = p.Selection.Tau()
	}
	noised := make([]noisedGroup, 0, len(groups))
	for _, g := range groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var selected int64
		if p.Selection != nil {
			var err error
			if selected, err = noise.Add(g.Totals[p.SelectionColumn()], p.Selection.Draw()); err != nil {
				return nil, fmt.Errorf("selecting partitions: %w", err)
			}
			if selected < tau {
				continue
			}
		}
		n := noisedGroup{key: g.Key}
		for i, m := range p.Metrics {
			if i == p.SelectedBy {
				n.coordinates = append(n.coordinates, selected)
				continue
			}
			for at, column := range m.Columns {
				v, err := noise.Add(g.Totals[column], m.Vector.Draw(at))
				if err != nil {
					return nil, fmt.Errorf("noising %s: %w", m.Name, err)
				}
				n.coordinates = append(n.coordinates, v)
			}
		}
		noised = append(noised, n)
	}
	return noised, nil
}

// figures turns noised coordinates into values with intervals. What does not differ between groups is computed
// once: a scale is found by bisection.
type figures struct {
	plan *plan.Plan
	half []int64   // per metric, in the figure's integer units
	sd   []float64 // per metric, in the measure's own unit
}

func newFigures(p *plan.Plan) figures {
	f := figures{plan: p, half: make([]int64, len(p.Metrics)), sd: make([]float64, len(p.Metrics))}
	for i, m := range p.Metrics {
		if m.Aggregate != dp.Mean {
			draw := m.Vector.Draw(0)
			f.half[i], f.sd[i] = draw.HalfWidth(p.Confidence), draw.SD()/math.Pow10(m.Scale)
		}
	}
	return f
}

// values are the figures of one group in the measure's own unit.
func (f figures) values(coordinates []int64) []dp.Value {
	values := make([]dp.Value, len(f.plan.Metrics))
	at := 0
	for i, m := range f.plan.Metrics {
		unit := math.Pow10(m.Scale)
		if m.Aggregate == dp.Mean {
			value, low, high, sd := mechanism.MeanInterval(coordinates[at], coordinates[at+1], m.Vector, m.Lower, m.Upper, f.plan.Confidence)
			values[i] = dp.Value{Value: value / unit, Low: low / unit, High: high / unit, SD: sd / unit}
		} else {
			noised, half := coordinates[at], f.half[i]
			values[i] = dp.Value{Value: float64(noised) / unit, Low: float64(noised-half) / unit, High: float64(noised+half) / unit, SD: f.sd[i]}
		}
		at += len(m.Columns)
	}
	return values
}

// release arranges noised groups as the document that is stored.
func (s *Service) release(p *plan.Plan, c Charged, noised []noisedGroup) *dp.Release {
	r := &dp.Release{
		ID:                 "rel_" + strings.TrimPrefix(c.Charge.ID, "chg_"),
		Dataset:            p.Policy.Name,
		PolicyVersion:      p.Policy.Version,
		Plan:               p.ID,
		AsOf:               s.options.Clock().UTC(),
		Confidence:         p.Confidence.String(),
		By:                 []string{},
		Groups:             make([]dp.Group, len(noised)),
		GroupsMayBeHidden:  p.GroupsMayBeHidden,
		Privacy:            Privacy(p),
		Charge:             c.Charge,
		Blocks:             c.Snapshot.Blocks,
		Notes:              p.Notes,
		CanonicalQuery:     string(p.Question),
		NoisedCoordinates:  make([][]int64, len(noised)),
		PublishedByAttempt: c.Attempt,
	}
	for _, k := range p.Tree.Input.Input.Keys {
		r.By = append(r.By, k.Name)
	}
	for _, m := range p.Metrics {
		r.Metrics = append(r.Metrics, m.Name)
	}
	figures := newFigures(p)
	for i, n := range noised {
		r.Groups[i] = dp.Group{Key: n.key, Values: figures.values(n.coordinates)}
		r.NoisedCoordinates[i] = n.coordinates
	}
	return r
}

// Privacy states what an answer of this plan protects and how.
func Privacy(p *plan.Plan) dp.Privacy {
	unit := p.Policy.Unit.Column
	if p.Policy.Unit.Row {
		unit = "row"
	}
	privacy := dp.Privacy{
		Unit:          unit,
		Block:         p.Policy.Unit.Block,
		Mechanism:     make(map[string]string),
		Loss:          p.Loss,
		MaxPartitions: p.Tree.Input.Partitions,
		MaxRows:       p.Tree.Input.Rows,
		Clamp:         make(map[string][2]string),
	}
	for _, m := range p.Metrics {
		privacy.Mechanism[m.Name] = string(m.Vector.Kind)
		if m.Measure >= 0 {
			privacy.Clamp[m.Name] = [2]string{rows.FormatDecimal(m.Lower, m.Scale), rows.FormatDecimal(m.Upper, m.Scale)}
		}
	}
	if p.Selection != nil {
		privacy.Mechanism["selection"] = string(p.Selection.Kind)
	}
	return privacy
}
