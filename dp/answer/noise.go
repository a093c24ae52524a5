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

// noising gives noise to the partitions that get it: every public one, empty ones with zeros; of private ones those
// that at least one kept customer has. Private ones get theirs as they come, and only those are held that
// selection keeps, so that many cost no memory.
type noising struct {
	plan   *plan.Plan
	noise  mechanism.Noise
	tau    int64
	public map[string][]int64 // totals by the bytes of the key
	noised []noisedGroup
}

func newNoising(p *plan.Plan, noise mechanism.Noise) *noising {
	n := &noising{plan: p, noise: noise}
	if p.Selection != nil {
		n.tau = p.Selection.Tau()
	}
	if !p.GroupsMayBeHidden {
		n.public = make(map[string][]int64)
	}
	return n
}

// take takes exact totals, which exist nowhere else.
func (n *noising) take(exact bounding.Partition) error {
	if len(exact.Totals) != len(n.plan.Tree.Columns) {
		return errors.New("the engine returned a partition with another number of columns than the plan has")
	}
	for i, v := range exact.Totals {
		exact.Totals[i] = max(-largest, min(largest, v))
	}
	if n.public != nil {
		n.public[string(rows.AppendKey(nil, exact.Key))] = exact.Totals
		return nil
	}
	if exact.Totals[n.plan.SelectionColumn()] < 1 {
		return nil
	}
	return n.add(exact)
}

// end gives the noised groups in the order of answers.
func (n *noising) end(ctx context.Context) ([]noisedGroup, error) {
	if n.public == nil {
		slices.SortFunc(n.noised, func(a, b noisedGroup) int { return n.plan.CompareKeys(a.key, b.key) })
		return n.noised, nil
	}
	for _, key := range n.plan.Groups() {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("adding noise: %w", err)
		}
		name := string(rows.AppendKey(nil, key))
		totals, ok := n.public[name]
		if !ok {
			totals = make([]int64, len(n.plan.Tree.Columns))
		}
		delete(n.public, name)
		if err := n.add(bounding.Partition{Key: key, Totals: totals}); err != nil {
			return nil, err
		}
	}
	if len(n.public) > 0 {
		return nil, errors.New("the engine returned a partition outside the public domain")
	}
	return n.noised, nil
}

// add draws the noise of a group's coordinates, unless selection drops the group: then its selection was drawn and
// nothing else.
func (n *noising) add(g bounding.Partition) error {
	var selected int64
	if n.plan.Selection != nil {
		var err error
		if selected, err = n.noise.Add(g.Totals[n.plan.SelectionColumn()], n.plan.Selection.Draw()); err != nil {
			return fmt.Errorf("selecting partitions: %w", err)
		}
		if selected < n.tau {
			return nil
		}
	}
	noised := noisedGroup{key: g.Key}
	for i, m := range n.plan.Metrics {
		if i == n.plan.SelectedBy {
			noised.coordinates = append(noised.coordinates, selected)
			continue
		}
		for at, column := range m.Columns {
			v, err := n.noise.Add(g.Totals[column], m.Vector.Draw(at))
			if err != nil {
				return fmt.Errorf("noising %s: %w", m.Name, err)
			}
			noised.coordinates = append(noised.coordinates, v)
		}
	}
	n.noised = append(n.noised, noised)
	return nil
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
