package columnar

import (
	"errors"
	"fmt"
	"math"
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
	size      int64     // numbers of partitions lie below it
	tables    [][]int64 // by dimension and code of the dataset's dictionary; nil: no key or test is on it
	hours     []int64   // by hour of the day; nil: no key or test is on it
	days      []timeField
	tests     []plan.Test // of measures
	measures  []int       // that columns read
	levels    []int       // measures of which the last known value is read
	columns   []column
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
		tables: make([][]int64, len(p.Policy.Policy.Dimensions)), axes: make([]axis, len(p.Tree.Input.Input.Keys)),
	}
	labels, err := q.label(dictionaries)
	if err != nil {
		return nil, err
	}
	q.fillTables(labels)
	q.addTimes()
	for _, t := range q.allTests() {
		if t.Field.Kind == plan.MeasureField {
			q.tests = append(q.tests, *t)
		}
	}
	q.addColumns()
	return q, nil
}

func (q *question) keys() []plan.Key { return q.plan.Tree.Input.Input.Keys }

// private tells whether the labels of a key are those that rows have.
func (q *question) private() bool {
	return slices.ContainsFunc(q.keys(), func(key plan.Key) bool { return key.Domain == nil })
}

func (q *question) allTests() []*plan.Test {
	tests := q.plan.Tree.Input.Input.Input.Tests
	all := make([]*plan.Test, len(tests))
	for i := range tests {
		all[i] = &tests[i]
	}
	return all
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
	for _, key := range q.keys() {
		if key.Field.Kind == plan.DimensionField && key.Field.Index == dimension {
			return true
		}
	}
	for _, t := range q.allTests() {
		if t.Field.Kind == plan.DimensionField && t.Field.Index == dimension {
			return true
		}
	}
	return false
}

func (q *question) fillTables(labels [][]labelled) {
	for d, of := range labels {
		if of == nil {
			continue
		}
		q.tables[d] = make([]int64, len(of))
		for code, l := range of {
			q.tables[d][code] = q.dimensionNumber(d, l)
		}
	}
}

func (q *question) dimensionNumber(dimension int, l labelled) (number int64) {
	if !l.ok {
		return dropped
	}
	for _, t := range q.allTests() {
		if t.Field.Kind == plan.DimensionField && t.Field.Index == dimension && !t.PassesLabel(l.label) {
			return dropped
		}
	}
	for i, key := range q.keys() {
		if key.Field.Kind == plan.DimensionField && key.Field.Index == dimension {
			number = added(number, q.axes[i].number(l.label))
		}
	}
	return number
}

// added is the sum, and negative where one of both is: what was dropped once or more stays dropped.
func added(a, b int64) int64 { return (a + b) | (a|b)&dropped }

func (q *question) addTimes() {
	fields := map[rows.TimeUnit]*timeField{}
	field := func(u rows.TimeUnit) *timeField {
		if fields[u] == nil {
			fields[u] = &timeField{unit: u}
		}
		return fields[u]
	}
	for i, key := range q.keys() {
		if key.Field.Kind == plan.TimeField {
			field(key.Field.Unit).axis = &q.axes[i]
		}
	}
	for _, t := range q.allTests() {
		if t.Field.Kind == plan.TimeField {
			f := field(t.Field.Unit)
			f.tests = append(f.tests, t)
		}
	}
	for unit, f := range fields {
		if unit != rows.Hour {
			q.days = append(q.days, *f)
			continue
		}
		day := rows.FirstDate()
		for _, hour := range rows.TimeKeys(day, day, rows.Hour) {
			q.hours = append(q.hours, f.number(hour))
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
		q.columns = append(q.columns, column{c, measure, level, i, q.plan.Tree.At(i)})
	}
}

// few tells whether a word has a bit for each partition.
func (q *question) few() bool { return q.size <= mostFew }

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
