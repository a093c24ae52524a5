package answer

import (
	"context"
	"errors"
	"fmt"
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
	plan      *plan.Plan
	noise     mechanism.Noise
	tau       int64
	at        []int              // of each column in a partition's totals
	selection int                // in a partition's totals: customers
	public    map[string][]int64 // totals by the bytes of the key
	noised    []noisedGroup
	held      int // numbers in all of noised
	most      int // that are held
	levels    []levelSums
}

// manyTimes the numbers that dp/plan allows public groups are held of one answer until it is written, 256 MiB: how many
// private groups are shown is known only once they are drawn.
const manyTimes = 32

// errTooMany follows from noised numbers alone.
var errTooMany = errors.New("more noised numbers than one answer holds")

func newNoising(p *plan.Plan, noise mechanism.Noise, limits plan.Limits) *noising {
	n := &noising{plan: p, noise: noise, most: manyTimes * limits.Draws, selection: p.Tree.At(p.SelectionColumn())}
	for column := range p.Tree.Columns {
		n.at = append(n.at, p.Tree.At(column))
	}
	if p.Selection != nil {
		n.tau = p.Selection.Tau()
	}
	if !p.GroupsMayBeHidden {
		n.public = make(map[string][]int64)
	}
	n.newLevels()
	return n
}

// take takes exact totals, which exist nowhere else.
func (n *noising) take(exact bounding.Partition) error {
	if len(exact.Totals) != n.plan.Tree.Width() {
		return errors.New("the engine returned a partition with another number of columns than the plan has")
	}
	for i, v := range exact.Totals {
		exact.Totals[i] = max(-largest, min(largest, v))
	}
	if n.public != nil {
		n.public[string(rows.AppendKey(nil, exact.Key))] = exact.Totals
		return nil
	}
	if exact.Totals[n.selection] < 1 {
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
			totals = make([]int64, n.plan.Tree.Width())
		}
		delete(n.public, name)
		n.addUp(key, totals)
		if err := n.add(bounding.Partition{Key: key, Totals: totals}); err != nil {
			return nil, err
		}
	}
	if len(n.public) > 0 {
		return nil, errors.New("the engine returned a partition outside the public domain")
	}
	if err := n.endLevels(ctx); err != nil {
		return nil, err
	}
	return n.noised, nil
}

// add draws the noise of a group's coordinates, unless selection drops the group: then its selection was drawn and
// nothing else.
func (n *noising) add(g bounding.Partition) error {
	var selected int64
	if n.plan.Selection != nil {
		var err error
		if selected, err = n.noise.Add(g.Totals[n.selection], n.plan.Selection.Draw()); err != nil {
			return fmt.Errorf("selecting partitions: %w", err)
		}
		if selected < n.tau {
			return nil
		}
	}
	noised := noisedGroup{key: g.Key}
	for i, m := range n.plan.Metrics {
		switch i {
		case n.plan.SelectedBy:
			noised.coordinates = append(noised.coordinates, selected)
			continue
		case m.Drawn:
		default:
			continue // it is read from another's numbers
		}
		for at, exact := range n.exact(m, g.Totals) {
			v, err := n.noise.Add(exact, m.Vector.Draw(min(at, len(m.Vector.Bounds)-1))) // of a tree's many nodes all are alike
			if err != nil {
				return fmt.Errorf("noising %s: %w", m.Name, err)
			}
			noised.coordinates = append(noised.coordinates, v)
		}
	}
	if n.held += len(noised.coordinates); n.held > n.most {
		return errTooMany
	}
	n.noised = append(n.noised, noised)
	return nil
}

// exact gives the numbers of a metric that get noise.
func (n *noising) exact(m plan.Metric, totals []int64) []int64 {
	first := n.at[m.Columns[0]]
	switch {
	case m.Tree.Leaves > 0:
		return m.Tree.Counts(totals[first : first+m.Tree.Leaves])
	case len(m.Columns) == 3: // a variance: see mechanism.VarianceBounds
		twice := func(column int) int64 { return 2 * max(-largest/2, min(largest/2, totals[n.at[column]])) }
		return []int64{twice(m.Columns[0]), twice(m.Columns[1]), totals[n.at[m.Columns[2]]]}
	}
	exact := make([]int64, len(m.Columns))
	for i, column := range m.Columns {
		exact[i] = totals[n.at[column]]
	}
	return exact
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
		GroupsMayBeHidden:  p.GroupsMayBeHidden,
		Privacy:            Privacy(p),
		Charge:             c.Charge,
		Blocks:             c.Snapshot.Blocks,
		Also:               c.Snapshot.Also,
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
	for _, l := range p.Levels {
		names := []string{}
		for _, at := range l.Keys {
			names = append(names, r.By[at])
		}
		r.Levels = append(r.Levels, names)
	}
	keys := make([][]string, len(noised))
	for i, n := range noised {
		keys[i], r.NoisedCoordinates[i] = n.key, n.coordinates
	}
	r.Groups = newFigures(p).groups(keys, r.NoisedCoordinates, nil)
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
		Noise:         make(map[string]dp.Noise),
		Loss:          p.MostLoss(),
		MaxPartitions: p.Tree.Input.Partitions,
		MaxRows:       p.Tree.Input.Rows,
		Clamp:         make(map[string][2]string),
	}
	for _, m := range p.Metrics {
		if m.Drawn < 0 {
			continue // it has no noise of its own
		}
		privacy.Mechanism[m.Name] = string(m.Vector.Kind)
		privacy.Noise[m.Name] = dp.Noise{Epsilon: m.Vector.Epsilon, Delta: m.Vector.Delta}
		if m.Measure >= 0 {
			privacy.Clamp[m.Name] = [2]string{rows.FormatDecimal(m.Lower, m.Scale), rows.FormatDecimal(m.Upper, m.Scale)}
		}
	}
	if p.Selection != nil {
		privacy.Mechanism[plan.SelectionName] = string(p.Selection.Kind)
		privacy.Noise[plan.SelectionName] = dp.Noise{Epsilon: p.Selection.Epsilon, Delta: p.Selection.Delta}
	}
	return privacy
}
