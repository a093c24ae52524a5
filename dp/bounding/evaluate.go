package bounding

import (
	"errors"
	"fmt"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Evaluator says of one row whether it passes a plan's scan and filter, and in which partition it counts. It
// remembers what it worked out of earlier rows, so each goroutine compiles its own.
type Evaluator struct {
	scan     plan.Scan
	policy   *dp.Policy
	zone     *time.Location
	tests    []test
	keys     []key
	columns  []plan.Column
	bound    plan.Bound // with the bounds that apply
	measured bool       // a column depends on which rows are kept, not only on how many
	timed    bool       // a column reads event times
	distinct [][]field  // by column
	own      [][]test   // by column: its own tests
}

// Compile prepares a plan's tree. A tree that names a field, measure or bound that cannot be is an error:
// dp/plan makes none.
func Compile(p *plan.Plan) (*Evaluator, error) {
	policy := &p.Policy.Policy
	zone, err := rows.Location(policy)
	if err != nil {
		return nil, fmt.Errorf("finding the time zone of dataset %s: %w", policy.Name, err)
	}
	e := &Evaluator{policy: policy, zone: zone, columns: p.Tree.Columns, bound: p.Tree.Input}
	group := e.bound.Input
	if group.Profile != nil {
		return nil, errors.New("the plan reads several blocks of a customer together, which an evaluator of rows does not")
	}
	e.scan = group.Input.Input
	e.scan.Bounded = e.scan.Bounded && policy.Time != nil
	if policy.Unit.Row { // every row is its own customer and counts once
		e.bound.Partitions, e.bound.Rows = 1, 1
	}
	if e.bound.Partitions < 1 || e.bound.Rows < 1 {
		return nil, fmt.Errorf("bounding dataset %s: bounds must be at least 1", policy.Name)
	}
	if e.tests, err = newTests(policy, group.Input.Tests, zone); err != nil {
		return nil, err
	}
	for _, k := range group.Keys {
		f, err := newField(policy, k.Field, zone)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.Name, err)
		}
		if k.Field.Kind == plan.MeasureField {
			return nil, fmt.Errorf("key %s: a measure has no labels", k.Name)
		}
		e.keys = append(e.keys, key{field: f, domain: set(k.Domain)})
	}
	for i, c := range e.columns {
		if err := check(c, len(policy.Measures)); err != nil {
			return nil, fmt.Errorf("column %d: %w", i, err)
		}
		e.measured = e.measured || c.ReadsRows() || c.Last
		e.timed = e.timed || c.Count.ReadsTimes()
		var distinct []field
		for _, of := range c.Distinct {
			f, err := newField(policy, of, zone)
			if err != nil || of.Kind == plan.MeasureField {
				return nil, fmt.Errorf("column %d: no such field", i)
			}
			distinct = append(distinct, f)
			e.timed = e.timed || of.Kind == plan.TimeField
		}
		e.distinct = append(e.distinct, distinct)
		own, err := newTests(policy, c.Tests, zone)
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", i, err)
		}
		e.own = append(e.own, own)
	}
	return e, nil
}

// mostSpread is below what the square of an Upper-Lower may be.
const mostSpread = 1 << 26

// check refuses a column that cannot be computed.
func check(c plan.Column, measures int) error {
	clamped := (c.ReadsMeasure() || c.Of != plan.ValueRow) && c.Count != plan.CountMeasured
	switch {
	case c.Of != plan.ValueRow && (c.Last || c.Count <= plan.Total || c.Count.ReadsTimes()) || (c.Of == plan.ValueDistinct) != (len(c.Distinct) > 0):
		return errors.New("no such value")
	case c.ReadsMeasure() && (c.Measure < 0 || c.Measure >= measures):
		return errors.New("no such measure")
	case clamped && c.Lower > c.Upper:
		return errors.New("no such bounds")
	case c.Count == plan.Squared && (c.Lower <= -1<<61 || c.Upper >= 1<<61 || c.Upper-c.Lower >= mostSpread):
		return errors.New("the bounds are too far apart for squares")
	case c.Last && !c.ReadsMeasure():
		return errors.New("only a measure has a last value")
	case c.Count.ReadsTimes() && c.Upper < 1:
		return errors.New("no such bound")
	case (c.Count == plan.Histogram) != (c.Bins > 0) || c.Bins > plan.MostBins:
		return errors.New("no such bins")
	case c.Count == plan.Histogram && (c.BinWidth < 1 || c.Bin(c.Upper) >= c.Bins):
		return errors.New("the bins do not reach from bound to bound")
	}
	return nil
}

// Scan is what is read, with Bounded only where rows have a time.
func (e *Evaluator) Scan() plan.Scan { return e.scan }

// Bound gives the bounds that apply: 1 and 1 where every row is its own customer.
func (e *Evaluator) Bound() (partitions, rows int64) { return e.bound.Partitions, e.bound.Rows }

// Zone is that of the dataset's calendar.
func (e *Evaluator) Zone() *time.Location { return e.zone }

// Measured tells whether a column depends on which rows are kept, not only on how many.
func (e *Evaluator) Measured() bool { return e.measured }

// Distinct appends the labels that ValueDistinct counts, of one row; ok is false where it has none.
func (e *Evaluator) Distinct(buf []byte, column int, r *rows.Row) (labels []byte, ok bool) {
	for i := range e.distinct[column] {
		label, ok := e.distinct[column][i].label(r)
		if !ok {
			return buf, false
		}
		buf = appendNetstring(buf, label)
	}
	return buf, true
}

// Timed tells whether a column reads event times.
func (e *Evaluator) Timed() bool { return e.timed }

// Needs says what of a row the evaluation of a plan reads beside its block and time. An engine may leave out the rest, and
// time where it knows otherwise what follows from it.
type Needs struct {
	Dimensions []bool // by position in the policy
	Measures   []bool
}

func needsNothing(p *dp.Policy) Needs {
	return Needs{Dimensions: make([]bool, len(p.Dimensions)), Measures: make([]bool, len(p.Measures))}
}

func (n *Needs) add(f plan.Field) {
	switch f.Kind {
	case plan.DimensionField:
		n.Dimensions[f.Index] = true
	case plan.MeasureField:
		n.Measures[f.Index] = true
	}
}

// addAll adds everything, which the canonical bytes of a row are made of.
func (n *Needs) addAll() {
	for i := range n.Dimensions {
		n.Dimensions[i] = true
	}
	for i := range n.Measures {
		n.Measures[i] = true
	}
}

// Needs of the plan: what tests, keys and columns name, and everything where rows are chosen by their
// canonical bytes.
func (e *Evaluator) Needs() Needs {
	n := needsNothing(e.policy)
	if e.measured {
		n.addAll()
		return n
	}
	for _, t := range e.tests {
		n.add(t.test.Field)
	}
	for _, k := range e.keys {
		n.add(k.field.field)
	}
	for _, c := range e.columns {
		if c.Count == plan.Total || c.Of == plan.ValueTotal { // those that read rows need everything
			n.Measures[c.Measure] = true
		}
		for _, f := range c.Distinct {
			n.add(f)
		}
		for _, t := range c.Tests {
			n.add(t.Field)
		}
	}
	return n
}

// block is where the row lies.
func (e *Evaluator) block(r *rows.Row) string {
	if e.policy.Time == nil {
		return rows.AllBlock
	}
	return rows.BlockOf(r.Time, e.policy.Unit.Block, e.zone)
}

// Key appends the canonical bytes of the row's partition key. ok is false where the row counts in no
// partition: it lies outside of the scanned time, fails a test, or has a label in no domain. The row's block
// is the caller's to check.
func (e *Evaluator) Key(buf []byte, r *rows.Row) (key []byte, ok bool) {
	if !inRange(e.scan, r) || !passAll(e.tests, r) {
		return buf, false
	}
	for i := range e.keys {
		label, ok := e.keys[i].label(r)
		if !ok {
			return buf, false
		}
		buf = appendNetstring(buf, label) // as rows.AppendKey
	}
	return buf, true
}

func inRange(s plan.Scan, r *rows.Row) bool {
	return !s.Bounded || r.Time >= s.From && r.Time < s.To
}

// Passes tells whether a row that counts in a partition passes a column's own tests.
func (e *Evaluator) Passes(column int, r *rows.Row) bool { return passAll(e.own[column], r) }

func passAll(tests []test, r *rows.Row) bool {
	for i := range tests {
		if !tests[i].passes(r) {
			return false
		}
	}
	return true
}

// newTests compiles conditions on fields of rows.
func newTests(policy *dp.Policy, tests []plan.Test, zone *time.Location) (compiled []test, err error) {
	for i := range tests {
		f, err := newField(policy, tests[i].Field, zone)
		if err != nil {
			return nil, fmt.Errorf("test on %s: %w", tests[i].Name, err)
		}
		compiled = append(compiled, test{field: f, test: &tests[i]})
	}
	return compiled, nil
}

// field reads the label of a dimension or time key.
type field struct {
	field  plan.Field
	labels *rows.Labeler // of a dimension
	fold   *rows.Fold    // of a derived one
	times  *timeKeys     // of a time key
}

func newField(p *dp.Policy, f plan.Field, zone *time.Location) (field, error) {
	switch {
	case f.Kind == plan.DimensionField && f.Index >= 0 && f.Index < len(p.Dimensions):
		of := field{field: f, labels: rows.NewLabeler(&p.Dimensions[f.Index])}
		if f.Derived > 0 {
			var err error
			if of.fold, err = rows.NewFold(p, f.Derived-1); err != nil || of.fold.Base != f.Index {
				return field{}, fmt.Errorf("the policy has no such field")
			}
		}
		return of, nil
	case f.Kind == plan.MeasureField && f.Index >= 0 && f.Index < len(p.Measures):
		return field{field: f}, nil
	case f.Kind == plan.TimeField:
		return field{field: f, times: newTimeKeys(f.Unit, zone)}, nil
	}
	return field{}, fmt.Errorf("the policy has no such field")
}

func (f *field) label(r *rows.Row) (label string, ok bool) {
	if f.times != nil {
		return f.times.key(r.Time), true
	}
	label, ok = f.labels.Label(r.Dimensions[f.field.Index])
	if ok && f.fold != nil {
		return f.fold.Label(label)
	}
	return label, ok
}

// key is a part of the partition key.
type key struct {
	field
	domain map[string]struct{} // nil: any label
}

func (k *key) label(r *rows.Row) (label string, ok bool) {
	label, ok = k.field.label(r)
	if ok && k.domain != nil {
		_, ok = k.domain[label]
	}
	return label, ok
}

// test is a condition. A missing measure passes none, and neither does a value that has no label.
type test struct {
	field
	test *plan.Test
}

func (t *test) passes(r *rows.Row) bool {
	if t.test.Field.Kind == plan.MeasureField {
		number := r.Measures[t.test.Field.Index]
		return number.Valid && t.test.PassesNumber(number.Value)
	}
	label, ok := t.label(r)
	return ok && t.test.PassesLabel(label)
}

func set(labels []string) map[string]struct{} {
	if labels == nil {
		return nil
	}
	s := make(map[string]struct{}, len(labels))
	for _, label := range labels {
		s[label] = struct{}{}
	}
	return s
}
