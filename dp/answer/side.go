package answer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// side is a release of a comparison.
type side struct {
	name    string // from or to
	cell    Cell
	release dp.Release
	// plan says how the release was drawn; nil where it does not say, or where figures are not as they were drawn because
	// several levels were reconciled.
	plan *plan.Plan
	// own and joint give figures at the comparison's confidence, and at the one at which both of two figures hold
	// together with the comparison's (Boole's inequality). They need a plan.
	own, joint figures
	sums       []int64
	// Without a plan the intervals of the release are known, at the confidence stored: if it has levels, by a normal law
	// whose standard deviation is known too; otherwise they are all there is.
	stored, asked mechanism.Confidence
	units         map[string]string // of metrics, as far as the release says them
}

// single and jointly say at what confidence a figure is wanted: that of own, or of joint.
const single, jointly = false, true

// figure is one figure of the release.
func (s *side) figure(together bool, group, metric int) dp.Value {
	f, c := s.own, s.asked
	if together {
		f, c = s.joint, jointConfidence(s.asked)
	}
	switch {
	case s.plan == nil && len(s.release.Levels) > 0:
		return reconciledAt(s.release.Groups[group].Values[metric], s.stored, c)
	case s.plan == nil:
		return s.release.Groups[group].Values[metric]
	}
	noised := s.release.NoisedCoordinates
	if s.plan.Metrics[metric].Aggregate == dp.Share {
		return f.share(metric, noised[group], 1, s.sums[metric], len(noised))
	}
	return f.value(metric, s.release.Groups[group].Key, noised[group], 1)
}

// side reads a release that the asker holds.
func (s *Service) side(ctx context.Context, asker dp.Consumer, name string, cell Cell, c mechanism.Confidence) (*side, error) {
	release, err := s.releases.Release(ctx, asker.Name, cell.Release)
	if err != nil {
		return nil, fmt.Errorf("reading a release to compare: %w", err)
	}
	out := &side{name: name, cell: cell, release: release, asked: c}
	policy, err := s.policies.PolicyAt(ctx, release.Dataset, release.PolicyVersion)
	if err != nil {
		return nil, fmt.Errorf("reading the policy of a release: %w", err)
	}
	var others []dp.VersionedPolicy
	for _, of := range release.Also {
		if of.Dataset == release.Dataset {
			continue
		}
		other, err := s.policies.PolicyAt(ctx, of.Dataset, of.PolicyVersion)
		if err != nil {
			return nil, fmt.Errorf("reading the policy of a release: %w", err)
		}
		others = append(others, other)
	}
	p, err := plan.Drawn(release, policy, others...)
	if err != nil {
		if out.stored, err = mechanism.ParseConfidence(release.Confidence); err != nil {
			return nil, errors.New("a release has no confidence")
		}
		out.units = unitsOf(release.CanonicalQuery)
		return out, nil
	}
	out.plan = p
	both := *p
	p.Confidence, both.Confidence = c, jointConfidence(c)
	out.own, out.joint = newFigures(p), newFigures(&both)
	out.sums = out.own.sums(release.NoisedCoordinates)
	return out, nil
}

func jointConfidence(c mechanism.Confidence) mechanism.Confidence {
	return mechanism.Confidence(1 - c.Miss()/2)
}

// reconciledAt is a reconciled figure whose interval, of a normal law, was drawn at one confidence, at another: both ends
// move by as much. An end at 0 was cut there, because the figure cannot be negative: how far it had reached is not known,
// and it does not move inwards. So the interval holds what that of another reading would hold, and at times some more.
func reconciledAt(v dp.Value, stored, c mechanism.Confidence) dp.Value {
	by := mechanism.NormalHalfWidth(v.SD, c) - mechanism.NormalHalfWidth(v.SD, stored)
	low := v.Low - by
	if v.Low == 0 {
		low = min(0, low)
	}
	v.Low, v.High = min(low, v.Value), max(v.High+by, v.Value)
	return v
}

// metrics are the positions of those that are compared.
func (s *side) metrics() ([]int, error) {
	if s.cell.Metric == "" {
		all := make([]int, len(s.release.Metrics))
		for i := range all {
			all[i] = i
		}
		return all, nil
	}
	at := slices.Index(s.release.Metrics, s.cell.Metric)
	if at < 0 {
		return nil, refused(s.name+".metric", "is none of the release's metrics: the release lists them")
	}
	return []int{at}, nil
}

// groups are the positions of those that are compared.
func (s *side) groups() ([]int, error) {
	if s.cell.Key == nil {
		all := make([]int, len(s.release.Groups))
		for i := range all {
			all[i] = i
		}
		return all, nil
	}
	key, known := make([]string, len(s.release.By)), 0
	for i, name := range s.release.By {
		label, ok := s.cell.Key[name]
		if ok {
			known++
		} else if len(s.release.Levels) == 0 { // a group of a coarser level has no label of what it leaves out
			return nil, refused(s.name+".key", "needs a label for each part of the release's key: by lists them")
		}
		key[i] = label
	}
	at := slices.IndexFunc(s.release.Groups, func(g dp.Group) bool { return slices.Equal(g.Key, key) })
	if len(s.cell.Key) != known || at < 0 {
		return nil, refused(s.name+".key", "is the key of no group of the release")
	}
	return []int{at}, nil
}

// isOneGroup tells whether a single group is meant: one that is named, or the only one.
func (s *side) isOneGroup() bool {
	return s.cell.Key != nil || len(s.release.By) == 0 && len(s.release.Groups) == 1
}

func (s *side) key(group int) map[string]string {
	g, key := s.release.Groups[group], make(map[string]string, len(s.release.By))
	for i, name := range s.release.By {
		if g.Level == 0 || slices.Contains(s.release.Levels[g.Level-1], name) {
			key[name] = g.Key[i]
		}
	}
	return key
}

// drawn is the noise of a metric that is one integer with a noise of its own.
func (s *side) drawn(metric int) (mechanism.Addend, bool) {
	if s.plan == nil {
		return mechanism.Addend{}, false
	}
	m := s.plan.Metrics[metric]
	switch m.Aggregate {
	case dp.Customers, dp.Rows, dp.Days, dp.Sessions, dp.Sum:
		return mechanism.Addend{Draw: m.Vector.Draw(0), Weight: 1, Times: 1}, m.Drawn == metric
	}
	return mechanism.Addend{}, false
}

func (s *side) integer(group, metric int) int64 {
	return s.release.NoisedCoordinates[group][offsets(s.plan)[metric]]
}

// miss is how often the interval of a figure that is wanted jointly does not cover.
func (s *side) miss(c mechanism.Confidence) float64 {
	if s.plan == nil && len(s.release.Levels) == 0 {
		return s.stored.Miss()
	}
	return c.Miss() / 2
}

// unitOf tells figures apart that cannot be subtracted: counts, amounts of a measure, their squares, ratios and shares.
func unitOf(s *side, metric int) string {
	if s.plan == nil {
		if unit, known := s.units[s.release.Metrics[metric]]; known {
			return unit
		}
		return "the metric " + s.release.Metrics[metric] // nothing else is known of it
	}
	return planUnit(s.plan, metric)
}

func planUnit(p *plan.Plan, metric int) string {
	m := p.Metrics[metric]
	unit := "1"
	if m.Measure >= 0 {
		unit = p.Policy.Measures[m.Measure].Name
	}
	switch m.Aggregate {
	case dp.Variance:
		return unit + "^2"
	case dp.Ratio:
		unit = planUnit(p, m.Parts[0]) + "/" + planUnit(p, m.Parts[1])
		if m.PerDay {
			unit += "/day"
		}
	case dp.Share:
		unit = "share"
	}
	return unit
}

// unitsOf are the units of those metrics of a question that count, or add a measure up, as planUnit has them.
func unitsOf(canonical string) map[string]string {
	var q struct {
		Metrics []struct {
			Name, Measure string
			Aggregate     dp.Aggregate
		}
	}
	if json.Unmarshal([]byte(canonical), &q) != nil {
		return nil // releases of earlier versions say nothing
	}
	units := make(map[string]string)
	for _, m := range q.Metrics {
		switch m.Aggregate {
		case dp.Customers, dp.Rows, dp.Days, dp.Sessions:
			units[m.Name] = "1"
		case dp.Sum:
			units[m.Name] = m.Measure
		}
	}
	return units
}
