package plan

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Derivation is how every figure of a plan follows from the noised integers of one release: each group of the plan is a
// union of whole groups of the release, and its figures are sums of theirs (dp/PRIVACY.md, "Reuse").
type Derivation struct {
	// Source is the plan whose draw the release is.
	Source *Plan
	// From, of each metric of the plan that is drawn, is the position in Source of the metric whose numbers are added up.
	From []int
	// Most is how many numbers at most are added up to one.
	Most int
	// Noise is the largest of all figures, each in units of its own bound: less is more exact.
	Noise float64

	asked    *Plan
	parts    []derivedPart       // of the source's keys that are no calendar keys
	calendar map[string][]string // the plan's calendar labels by those of the source; what is missing is left out
	constant []string            // the plan's key, with the labels that are the same in all groups
}

// derivedPart is what becomes of one part of a source's key.
type derivedPart struct {
	source int             // its position there
	plan   int             // in the plan's key, or -1
	takes  map[string]bool // labels that the plan's conditions leave
	folded []foldedPart    // the plan's keys that follow from it
}

// Derivable tells whether the plan's figures could follow from a release: all are sums of rows or of measures, over
// public keys and of one level. Distinct customers, means, variances and quantiles do not add up, nor do balances, days and sessions: one
// of them can count in two of the groups that are added up, where a question of its own would count it once.
func (p *Plan) Derivable() bool {
	return !p.GroupsMayBeHidden && len(p.Levels) == 0 && !p.isSeveral() && !slices.ContainsFunc(p.Metrics, func(m Metric) bool {
		switch m.Aggregate {
		case dp.Rows, dp.Sum, dp.Ratio, dp.Share: // of the last two, the parts are metrics of the plan, too
			return m.Last
		}
		return true
	})
}

// DeriveFrom says how the plan's figures follow from a release of which source is the plan (Drawn), if they do: of the same
// dataset and policy version, with the plan's own bounds and clamps. Whether the release was drawn over the current
// versions of the plan's blocks is for the caller to hold.
func (p *Plan) DeriveFrom(source *Plan) (*Derivation, bool) {
	same := p.Derivable() && !source.GroupsMayBeHidden && !source.isSeveral() && source.Policy.Name == p.Policy.Name && source.Policy.Version == p.Policy.Version &&
		source.Tree.Input.Rows == p.Tree.Input.Rows && source.Tree.Input.Partitions == min(p.asked.maxPartitions, source.groups.perBlock)
	if !same {
		return nil, false
	}
	d := &Derivation{Source: source, asked: p, calendar: make(map[string][]string), constant: make([]string, len(p.keys()))}
	if !d.matchMetrics() || !p.testsAllow(source.asked) || !d.matchKeys() || !d.matchCalendar() {
		return nil, false
	}
	for _, j := range d.From {
		if j >= 0 {
			d.Noise = max(d.Noise, source.Metrics[j].noise()*math.Sqrt(float64(d.Most)))
		}
	}
	return d, true
}

// noise is the metric's in units of its bound.
func (m Metric) noise() float64 {
	return m.SD * math.Pow10(m.Scale) / float64(m.Vector.Bounds[0])
}

// Group is the key of the plan's group that a group of the source is part of; ok is false where it is part of none.
func (d *Derivation) Group(source []string) (key []string, ok bool) {
	key = slices.Clone(d.constant)
	for _, part := range d.parts {
		label := source[part.source]
		if !part.takes[label] {
			return nil, false
		}
		if part.plan >= 0 {
			key[part.plan] = label
		}
		for _, f := range part.folded {
			key[f.plan], _ = f.fold.Label(label) // what has none is not taken
		}
	}
	labels, ok := d.calendar[tupleName(source, d.Source.groups.calendar)]
	if !ok {
		return nil, false
	}
	for i, at := range d.asked.groups.calendar {
		key[at] = labels[i]
	}
	return key, true
}

func (p *Plan) keys() []Key { return p.Tree.Input.Input.Keys }

func (p *Plan) test(field string) (Test, bool) { return p.asked.test(field) }

func (q question) test(field string) (Test, bool) {
	at := slices.IndexFunc(q.tests, func(t Test) bool { return t.Name == field })
	if at < 0 {
		return Test{}, false
	}
	return q.tests[at], true
}

func (q question) key(field string) (at int, ok bool) {
	at = slices.IndexFunc(q.keys, func(k Key) bool { return k.Name == field })
	return at, at >= 0
}

// testsAllow says that conditions on fields that the source's groups do not tell apart are the same in both questions.
// Those on days are matched with the calendar where both have one.
func (p *Plan) testsAllow(source question) bool {
	if p.asked.ranged != source.ranged {
		return false
	}
	same := func(t Test) bool {
		if source.tells(t.Field) || source.ranged && isCalendar(t.Field) {
			return true
		}
		a, okA := p.test(t.Name)
		b, okB := source.test(t.Name)
		return okA && okB && reflect.DeepEqual(a, b)
	}
	for _, tests := range [][]Test{p.asked.tests, source.tests} {
		for _, t := range tests {
			if !same(t) {
				return false
			}
		}
	}
	return true
}

// isCalendar tells the time keys that follow from the day. The hour does not.
func isCalendar(f Field) bool { return f.Kind == TimeField && f.Unit != rows.Hour }

// matchMetrics finds, for every metric that is drawn, the most exact one of the source that adds up the same.
func (d *Derivation) matchMetrics() bool {
	p := d.asked
	d.From = make([]int, len(p.Metrics))
	for i, m := range p.Metrics {
		d.From[i] = -1
		if m.Drawn < 0 {
			continue
		}
		least := math.Inf(1)
		for j, have := range d.Source.Metrics {
			same := have.Aggregate == m.Aggregate && have.Measure == m.Measure && have.Lower == m.Lower && have.Upper == m.Upper && reflect.DeepEqual(have.Tests, m.Tests)
			if !same || have.Drawn != j {
				continue
			}
			if have.SD < least {
				d.From[i], least = j, have.SD
			}
		}
		if d.From[i] < 0 {
			return false
		}
	}
	return true
}

// matchKeys finds what becomes of dimensions and hours: each one of the source is kept or added up, over the labels that
// the plan's conditions leave, all of which the source must have; each one of the plan is one of the source, or held to a
// single label by a condition that both share.
func (d *Derivation) matchKeys() bool {
	p := d.asked
	d.Most = 1
	for i, k := range d.Source.keys() {
		if isCalendar(k.Field) {
			continue
		}
		part := derivedPart{source: i, takes: make(map[string]bool)}
		at, kept := p.asked.key(k.Name)
		if part.plan = at; !kept {
			part.plan = -1
		}
		part.folded = p.foldedParts(k, d.Source.asked)
		for _, label := range p.labels(k) {
			if !p.takesPlace(k, label, part.folded) {
				continue
			}
			if !slices.Contains(k.Domain, label) {
				return false
			}
			part.takes[label] = true
		}
		if len(part.takes) == 0 {
			return false
		}
		if !kept {
			d.Most = int(times(int64(d.Most), int64(mostFolded(part.takes, part.folded))))
		}
		d.parts = append(d.parts, part)
	}
	for i, k := range p.keys() {
		if d.Source.asked.tells(k.Field) || isCalendar(k.Field) {
			continue
		}
		if _, tested := d.Source.test(k.Name); !tested || len(k.Domain) != 1 {
			return false
		}
		d.constant[i] = k.Domain[0] // testsAllow: the plan has the same condition
	}
	return true
}

// labels are all that a dimension or the hour can have.
func (p *Plan) labels(k Key) []string {
	if k.Field.Kind == DimensionField {
		return p.asked.folds.dimension(k.Field).Values
	}
	return rows.TimeKeys(rows.FirstDate(), rows.FirstDate(), rows.Hour)
}

// matchCalendar walks the days: every day of the plan must be one of the source, and the days of each of the source's
// groups must all be in the same group of the plan, or all in none. Rows are told apart by their day alone, in both.
func (d *Derivation) matchCalendar() bool {
	p := d.asked
	source := d.Source
	if !source.asked.ranged { // testsAllow: nor is the plan
		d.calendar[""] = nil
		return true
	}
	whole := make(map[string]string) // the plan's tuple, or out, by the source's
	const out = "\x00out"
	covered := 0
	for day := source.asked.from; !source.asked.to.Before(day); day = day.AddDays(1) {
		inPlan := !day.Before(p.asked.from) && !p.asked.to.Before(day) && p.asked.hasDay(day)
		if !source.asked.hasDay(day) {
			if inPlan {
				return false
			}
			continue
		}
		from := source.calendarTuple(day)
		to := out
		var labels []string
		if inPlan {
			labels = p.calendarTuple(day)
			to = strings.Join(labels, "\x00")
			covered++
		}
		name := strings.Join(from, "\x00")
		if before, known := whole[name]; known && before != to {
			return false
		}
		whole[name] = to
		if inPlan {
			d.calendar[name] = labels
		}
	}
	// Days of the plan outside of the source's range were not met.
	days := 0
	for day := p.asked.from; !p.asked.to.Before(day); day = day.AddDays(1) {
		if p.asked.hasDay(day) {
			days++
		}
	}
	if days == 0 || days != covered {
		return false
	}
	terms := make(map[string]int)
	most := 0
	for _, labels := range d.calendar {
		name := strings.Join(labels, "\x00")
		terms[name]++
		most = max(most, terms[name])
	}
	d.Most = int(times(int64(d.Most), int64(most)))
	// A public group that the plan's conditions leave empty is answered, too, and the source has nothing of it.
	return len(p.groups.calendar) == 0 || len(terms) == len(p.groups.times)
}

// hasDay says that the conditions on the calendar leave a day.
func (q question) hasDay(day rows.Date) bool {
	for i := range q.tests {
		if t := &q.tests[i]; isCalendar(t.Field) && !t.PassesLabel(rows.TimeKeys(day, day, t.Field.Unit)[0]) {
			return false
		}
	}
	return true
}

// calendarTuple is the part of a day's key that names it.
func (p *Plan) calendarTuple(day rows.Date) []string {
	labels := make([]string, len(p.groups.calendar))
	for i, at := range p.groups.calendar {
		labels[i] = rows.TimeKeys(day, day, p.keys()[at].Field.Unit)[0]
	}
	return labels
}

func tupleName(key []string, calendar []int) string {
	labels := make([]string, len(calendar))
	for i, at := range calendar {
		labels[i] = key[at]
	}
	return strings.Join(labels, "\x00")
}

// Plan is the one that was asked, with the noise, bounds and price of the release instead of its own, and notes that say
// so. SD and Within of its metrics are those of the group that takes most numbers. asExact says that no figure is less
// exact than was asked: where a half-width was asked for, none is wider; otherwise no noise is larger than that which the
// asked plan's price buys.
func (d *Derivation) Plan(release string) (derived *Plan, asExact bool) {
	made := *d.asked
	made.Metrics = slices.Clone(made.Metrics)
	made.Tree.Input.Partitions, made.Tree.Input.Rows = d.Source.Tree.Input.Partitions, d.Source.Tree.Input.Rows
	made.Loss = d.Source.Loss
	for i := range made.Metrics {
		m := &made.Metrics[i]
		if m.Drawn < 0 {
			continue
		}
		m.Vector = d.Source.Metrics[d.From[i]].Vector
		noise, unit := mechanism.Addend{Draw: m.Vector.Draw(0), Weight: 1, Times: d.Most}, math.Pow10(m.Scale)
		m.SD, m.Within = mechanism.SumSD(noise)/unit, mechanism.SumHalfWidth(made.Confidence, noise)/unit
	}
	made.Notes = d.notes(release, &made)
	return &made, d.asked.isMetBy(&made)
}

// isMetBy tells whether another plan of the same metrics is as exact as this one was asked to be.
func (p *Plan) isMetBy(other *Plan) bool {
	for i, m := range other.Metrics {
		if m.Drawn < 0 {
			continue
		}
		if within, asked := p.asked.within[m.Name]; asked && m.Within > within {
			return false
		} else if !asked && m.SD > p.Metrics[i].SD*(1+1e-9) { // rounded otherwise
			return false
		}
	}
	return true
}

// notes says where the figures are from, and what bounding did to them there.
func (d *Derivation) notes(release string, made *Plan) []string {
	by := "not grouped"
	if keys := d.Source.keys(); len(keys) > 0 {
		var names []string
		for _, k := range keys {
			names = append(names, k.Name)
		}
		by = "by " + strings.Join(names, ", ")
	}
	line := fmt.Sprintf("Derived at no charge from release %s (%s)", release, by)
	if d.Most > 1 {
		line += fmt.Sprintf(": each figure is the sum of up to %d of its figures, noise included", d.Most)
	}
	lines := []string{line + ". Bounds are those of that release, and leave out more or less than a question of its own would."}
	there := *d.Source
	there.Metrics = made.Metrics // under the names that were asked
	for _, note := range notes(&there) {
		lines = append(lines, "In that release: "+note)
	}
	for _, part := range d.parts {
		k := d.Source.keys()[part.source]
		if _, tested := made.test(k.Name); part.plan >= 0 || tested || k.Field.Kind != DimensionField {
			continue
		}
		if d.asked.asked.folds.dimension(k.Field).Other == "" {
			lines = append(lines, fmt.Sprintf("Rows without a label of %s are left out.", k.Name))
		}
	}
	return lines
}

// IsSameQuestion tells whether another plan, that of a release, is of this plan's very question under the same bounds,
// though perhaps with other noise, over public keys: then the release answers this plan, whatever its metrics are. noise is
// the largest of its figures, as Derivation has it.
func (p *Plan) IsSameQuestion(source *Plan) (noise float64, same bool) {
	a, b := p.Tree.Input, source.Tree.Input
	if p.GroupsMayBeHidden || p.Policy.Version != source.Policy.Version || a.Partitions != b.Partitions || a.Rows != b.Rows || string(p.Question) != string(source.Question) {
		return 0, false
	}
	for _, m := range source.Metrics {
		if m.Drawn >= 0 {
			noise = max(noise, m.noise())
		}
	}
	return noise, true
}

// AsDrawn is a plan of the same question as this one was asked with, with the noise of a release of which source is the
// plan; asExact is as Derivation.Plan has it.
func (p *Plan) AsDrawn(source *Plan) (drawn *Plan, asExact bool) {
	made := *source
	made.Metrics = slices.Clone(source.Metrics)
	made.Confidence, made.Purpose, made.Canonical = p.Confidence, p.Purpose, p.Canonical
	made.Totals, made.Top = p.Totals, p.Top
	for i := range made.Metrics {
		m := &made.Metrics[i]
		if m.SD, m.Within = -1, -1; m.Drawn >= 0 {
			m.SD, m.Within = made.expect(*m, m.Vector)
		}
	}
	return &made, p.isMetBy(&made)
}
