package columnar

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// question is a plan in the codes of the store. A partition is a number: the position of each of its labels
// among those of its key, times the key's stride, added up. What a column adds to that number is looked up by
// code, so that a row costs additions and no text.
type question struct {
	plan      *plan.Plan
	policy    *dp.Policy
	evaluator *bounding.Evaluator
	needs     bounding.Needs
	axes      []axis
	size      int64  // numbers of partitions lie below it
	sieve            // gives rows the numbers of their partitions
	views     []view // of the rows of a group: all of them, then those that pass the tests of some columns
	measures  []int  // that columns read
	levels    []int  // measures of which the last known value is read
	columns   []column
	counts    int                // columns that count customers
	folds     map[int]*rows.Fold // of derived dimensions, by Field.Derived
}

// sieve gives a row a number: what its labels and its time add, negative where it fails a test.
type sieve struct {
	own    []*plan.Test
	tables [][]int64 // by dimension and code of the dataset's dictionary; nil: no key or test is on it
	hours  []int64   // by hour of the day; nil: no key or test is on it
	days   []timeField
	tests  []plan.Test // of measures
}

// view is the rows of a group that some columns read.
type view struct {
	sieve                // of the tests; the first has none
	asked    []plan.Test // the tests as columns have them
	ranked   bool        // it matters which rows are kept
	timed    bool        // times of rows matter
	distinct bool        // labels of rows matter
	lasts    bool        // last known values matter
}

// axis is one key of a plan.
type axis struct {
	labels   []string
	parts    [][]byte // the labels as parts of keys, where they are declared
	position map[string]int64
	stride   int64
}

// column is a column of a plan that knows where its measure was decoded to.
type column struct {
	plan.Column
	measure int // in question.measures
	level   int // in question.levels, where the last known value counts
	index   int // in the plan's columns
	at      int // in the totals of a partition
	view    int // in question.views
	count   int // among the columns that count customers
}

// isSummed tells whether a sum is kept of each group: others are read from its rows.
func (c *column) isSummed() bool {
	return c.ReadsMeasure() && (c.Count != plan.Histogram || c.Of == plan.ValueTotal) && !c.Last
}

// timeField is a key of the calendar, or tests on one.
type timeField struct {
	unit  rows.TimeUnit
	axis  *axis // nil: there is only a test
	tests []*plan.Test
}

const (
	// dropped makes the number of a partition negative, whatever else is added (see added).
	dropped = math.MinInt64
	// mostNumbers is below what would wrap. No plan has more (plan.MostPrivateLabels).
	mostNumbers = 1 << 62
)

// translate compiles a plan for rows with these dictionaries, by dimension.
func translate(p *plan.Plan, dictionaries [][]string) (*question, error) {
	evaluator, err := bounding.Compile(p)
	if err != nil {
		return nil, err
	}
	q := &question{
		plan: p, policy: &p.Policy.Policy, evaluator: evaluator, needs: evaluator.Needs(),
		axes: make([]axis, len(p.Tree.Input.Input.Keys)), views: make([]view, 1),
	}
	q.addColumns()
	labels, err := q.label(dictionaries)
	if err != nil {
		return nil, err
	}
	q.sieve = q.newSieve(p.Tree.Input.Input.Input.Tests, q.keys(), labels)
	for i := range q.views[1:] {
		v := &q.views[1+i]
		v.sieve = q.newSieve(v.asked, nil, labels)
	}
	return q, nil
}

// newSieve makes one of tests and keys, which are the plan's or none.
func (q *question) newSieve(tests []plan.Test, keys []plan.Key, labels [][]labelled) sieve {
	s := sieve{tables: make([][]int64, len(q.policy.Dimensions))}
	for i := range tests {
		s.own = append(s.own, &tests[i])
		if tests[i].Field.Kind == plan.MeasureField {
			s.tests = append(s.tests, tests[i])
		}
	}
	q.fillTables(&s, keys, labels)
	q.addTimes(&s, keys)
	return s
}

func (q *question) keys() []plan.Key { return q.plan.Tree.Input.Input.Keys }

// private tells whether the labels of a key are those that rows have.
func (q *question) private() bool {
	return slices.ContainsFunc(q.keys(), func(key plan.Key) bool { return key.Domain == nil })
}

// labelled is the label of a dictionary's code; of none where it counts nowhere.
type labelled struct {
	label string
	ok    bool
}

// label gives every code of the dimensions at hand its label, and every key its labels and its stride.
func (q *question) label(dictionaries [][]string) (labels [][]labelled, err error) {
	labels = make([][]labelled, len(q.policy.Dimensions))
	for d := range q.policy.Dimensions {
		if !q.asks(d) {
			continue
		}
		labeler := rows.NewLabeler(&q.policy.Dimensions[d])
		labels[d] = make([]labelled, len(dictionaries[d])+1)
		labels[d][0].label, labels[d][0].ok = labeler.Label(rows.Text{})
		for i, text := range dictionaries[d] {
			labels[d][i+1].label, labels[d][i+1].ok = labeler.Label(rows.Text{Value: text, Valid: true})
		}
	}
	q.size = 1
	for i, key := range q.keys() {
		a := &q.axes[i]
		a.position = make(map[string]int64)
		if key.Domain != nil {
			for _, label := range key.Domain {
				a.add(label)
			}
			for _, label := range a.labels {
				a.parts = append(a.parts, rows.AppendKey(nil, []string{label}))
			}
		} else {
			for _, l := range labels[key.Field.Index] {
				if l.ok {
					a.add(l.label)
				}
			}
		}
		a.stride = q.size
		if count := int64(max(1, len(a.labels))); q.size > mostNumbers/count {
			return nil, errors.New("the plan has more partitions than a plan can have")
		}
		q.size *= int64(max(1, len(a.labels)))
	}
	return labels, nil
}

func (a *axis) add(label string) {
	if _, ok := a.position[label]; !ok {
		a.position[label] = int64(len(a.labels))
		a.labels = append(a.labels, label)
	}
}

// number is what a label adds to the number of a partition.
func (a *axis) number(label string) int64 {
	if at, ok := a.position[label]; ok {
		return at * a.stride
	}
	return dropped
}

// asks tells whether a key or a test is on a dimension.
func (q *question) asks(dimension int) bool {
	if asks(dimension, q.keys(), q.plan.Tree.Input.Input.Input.Tests) {
		return true
	}
	return slices.ContainsFunc(q.views, func(v view) bool { return asks(dimension, nil, v.asked) })
}

func asks(dimension int, keys []plan.Key, tests []plan.Test) bool {
	is := func(f plan.Field) bool { return f.Kind == plan.DimensionField && f.Index == dimension }
	return slices.ContainsFunc(keys, func(k plan.Key) bool { return is(k.Field) }) ||
		slices.ContainsFunc(tests, func(t plan.Test) bool { return is(t.Field) })
}

func (q *question) fillTables(s *sieve, keys []plan.Key, labels [][]labelled) {
	for d, of := range labels {
		tested := slices.ContainsFunc(s.own, func(t *plan.Test) bool { return asks(d, nil, []plan.Test{*t}) })
		if of == nil || !tested && !asks(d, keys, nil) {
			continue
		}
		s.tables[d] = make([]int64, len(of))
		for code, l := range of {
			s.tables[d][code] = q.dimensionNumber(s, keys, d, l)
		}
	}
}

func (q *question) dimensionNumber(s *sieve, keys []plan.Key, dimension int, l labelled) (number int64) {
	if !l.ok {
		return dropped
	}
	for _, t := range s.own {
		if t.Field.Kind == plan.DimensionField && t.Field.Index == dimension {
			if label, ok := q.labelIn(t.Field, l.label); !ok || !t.PassesLabel(label) {
				return dropped
			}
		}
	}
	for i, key := range keys {
		if key.Field.Kind == plan.DimensionField && key.Field.Index == dimension {
			label, ok := q.labelIn(key.Field, l.label)
			if !ok {
				return dropped
			}
			number = added(number, q.axes[i].number(label))
		}
	}
	return number
}

// labelIn is the label of a field by that of the stored dimension that it reads.
func (q *question) labelIn(f plan.Field, label string) (string, bool) {
	if f.Derived == 0 {
		return label, true
	}
	if q.folds[f.Derived] == nil {
		fold, err := rows.NewFold(q.policy, f.Derived-1)
		if err != nil { // the evaluator was compiled with it
			return "", false
		}
		if q.folds == nil {
			q.folds = make(map[int]*rows.Fold)
		}
		q.folds[f.Derived] = fold
	}
	return q.folds[f.Derived].Label(label)
}

// added is the sum, and negative where one of both is: what was dropped once or more stays dropped.
func added(a, b int64) int64 { return (a + b) | (a|b)&dropped }

func (q *question) addTimes(s *sieve, keys []plan.Key) {
	fields := map[rows.TimeUnit]*timeField{}
	field := func(u rows.TimeUnit) *timeField {
		if fields[u] == nil {
			fields[u] = &timeField{unit: u}
		}
		return fields[u]
	}
	for i, key := range keys {
		if key.Field.Kind == plan.TimeField {
			field(key.Field.Unit).axis = &q.axes[i]
		}
	}
	for _, t := range s.own {
		if t.Field.Kind == plan.TimeField {
			f := field(t.Field.Unit)
			f.tests = append(f.tests, t)
		}
	}
	for unit, f := range fields {
		if unit != rows.Hour {
			s.days = append(s.days, *f)
			continue
		}
		day := rows.FirstDate()
		for _, hour := range rows.TimeKeys(day, day, rows.Hour) {
			s.hours = append(s.hours, f.number(hour))
		}
	}
}

func (f *timeField) number(label string) int64 {
	for _, t := range f.tests {
		if !t.PassesLabel(label) {
			return dropped
		}
	}
	if f.axis == nil {
		return 0
	}
	return f.axis.number(label)
}

func (q *question) addColumns() {
	slot := map[int]int{}
	for i, c := range q.plan.Tree.Columns {
		measure := 0
		if c.ReadsMeasure() {
			known := false
			if measure, known = slot[c.Measure]; !known {
				measure = len(q.measures)
				slot[c.Measure] = measure
				q.measures = append(q.measures, c.Measure)
			}
		}
		level := 0
		if c.Last {
			if level = slices.Index(q.levels, c.Measure); level < 0 {
				level = len(q.levels)
				q.levels = append(q.levels, c.Measure)
			}
		}
		v := q.viewOf(c)
		q.columns = append(q.columns, column{c, measure, level, i, q.plan.Tree.At(i), v, q.counts})
		if c.Count == plan.CountCustomers {
			q.counts++
		}
	}
}

// viewOf is the position of the view that a column reads.
func (q *question) viewOf(c plan.Column) int {
	at := 0
	if len(c.Tests) > 0 {
		at = slices.IndexFunc(q.views, func(v view) bool { return reflect.DeepEqual(v.asked, c.Tests) })
		if at < 0 {
			at = len(q.views)
			q.views = append(q.views, view{asked: c.Tests})
		}
	}
	v := &q.views[at]
	v.ranked = v.ranked || c.ReadsRows()
	v.timed = v.timed || c.Count.ReadsTimes()
	v.distinct = v.distinct || c.Of == plan.ValueDistinct
	v.lasts = v.lasts || c.Last
	return at
}

// few tells whether a word has a bit for each partition.
func (q *question) few() bool { return q.size <= mostFew }

// fewCounts tells whether it has one for each count of customers.
func (q *question) fewCounts() bool { return q.few() && q.size*int64(max(1, q.counts)) <= mostFew }

// tellsApart tells whether a customer may be kept in one partition by several blocks, and must count there once. No
// two blocks share a day; where a key is a day, or a longer period that none of them shares, they share no partition.
func (q *question) tellsApart(blocks []scannedBlock) (bool, error) {
	if !slices.ContainsFunc(q.columns, func(c column) bool { return c.Count == plan.CountCustomers }) {
		return false, nil
	}
	type span struct{ first, last rows.Date }
	spans := make([]span, len(blocks))
	for i, b := range blocks {
		if q.policy.Time == nil {
			break // there is one block
		}
		first, last, err := rows.BlockDates(b.name, q.policy.Unit.Block)
		if err != nil {
			return false, fmt.Errorf("reading the dates of block %s: %w", b.name, err)
		}
		spans[i] = span{first, last}
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.first.Before(b.first) {
			return -1
		}
		return 1
	})
	shared := func(unit rows.TimeUnit) bool {
		for i := 1; i < len(spans); i++ {
			before, after := spans[i-1].last, spans[i].first
			if rows.TimeKeys(before, before, unit)[0] == rows.TimeKeys(after, after, unit)[0] {
				return true
			}
		}
		return false
	}
	for _, f := range q.days {
		if f.axis != nil && !shared(f.unit) {
			return false, nil
		}
	}
	return len(blocks) > 1, nil
}

// labelsOf gives the labels of a partition.
func (q *question) labelsOf(number int64) []string {
	labels := make([]string, len(q.axes))
	for i := range labels {
		labels[i] = q.axes[i].labels[q.position(number, i)]
	}
	return labels
}

// position is that of a partition's label among those of one key.
func (q *question) position(number int64, axis int) int64 {
	if len(q.axes) == 1 {
		return number
	}
	a := &q.axes[axis]
	return number / a.stride % int64(len(a.labels))
}

// appendKey appends the bytes of a partition's key, as rows.AppendKey.
func (q *question) appendKey(buf []byte, number int64) []byte {
	for i := range q.axes {
		a, at := &q.axes[i], q.position(number, i)
		if a.parts != nil {
			buf = append(buf, a.parts[at]...)
			continue
		}
		buf = strconv.AppendInt(buf, int64(len(a.labels[at])), 10)
		buf = append(buf, ':')
		buf = append(buf, a.labels[at]...)
	}
	return buf
}
