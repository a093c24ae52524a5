package plan

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// question is a validated query: every name resolved, every value in its canonical form, everything that has
// no order sorted. Two spellings of one question give equal questions.
type question struct {
	dataset       string
	metrics       []askedMetric // sorted by name
	keys          []Key         // sorted by name
	tests         []Test        // one per field, sorted by name
	folds         *folds
	ranged        bool // from and to apply
	from, to      rows.Date
	blocks        []string
	block         dp.Block
	confidence    mechanism.Confidence
	maxPartitions int64
	rows          int64
	epsilon       dp.Epsilon // the whole query's; the policy's default where nothing was asked
	delta         dp.Delta
	within        map[string]float64 // half-width per metric in the measure's unit; empty when a price was asked
	withinText    map[string]string  // the same in canonical decimal text
	spendAtMost   *dp.Epsilon
	purpose       string
	levels        [][]int // coarser ones, as positions in keys
	nonNegative   bool
	profile       *Profile
}

// private says whether a key must pass selection; a key with one private component is private as a whole.
func (q question) private() bool {
	return slices.ContainsFunc(q.keys, func(k Key) bool { return k.Domain == nil })
}

// reader turns a query into a question and collects everything that is wrong with it.
type reader struct {
	query    dp.Query
	policy   *dp.Policy
	limits   Limits
	location *time.Location
	version  uint64               // of the policy
	others   []dp.VersionedPolicy // of datasets that cohorts name
	problems []dp.Location
	folds    *folds // nil: none was asked for yet
}

// folded are the policy's derived dimensions.
func (r *reader) folded() *folds {
	if r.folds == nil {
		r.folds = newFolds(r.policy)
	}
	return r.folds
}

// Sizes of text beyond which a value is refused unread.
const (
	maxNameLength  = 64
	maxValueLength = 1024
	// maxDays bounds a range of a dataset whose block is all; others are bounded by their blocks.
	maxDays = 36_600
)

func (r *reader) read() question {
	q := question{
		dataset:       r.query.Dataset,
		purpose:       r.query.Purpose,
		maxPartitions: r.policy.Bounds.MaxPartitions,
		rows:          r.policy.Bounds.MaxRows,
		block:         r.policy.Unit.Block,
		folds:         r.folded(),
	}
	if r.policy.Unit.Row {
		q.maxPartitions, q.rows = 1, 1
	}
	if r.query.Purpose == "" {
		r.refuse("purpose", "is required: state one of the dataset's purposes")
	}
	if asked := r.query.MaxPartitions; asked < 0 || asked > q.maxPartitions {
		r.refuse("max_partitions", "must lie between 1 and the policy's %d", q.maxPartitions)
	} else if asked > 0 {
		q.maxPartitions = asked
	}
	r.readRange(&q)
	q.metrics = r.readMetrics(q)
	q.tests = r.readTests()
	q.keys = r.readKeys(q)
	r.readLevels(&q)
	r.readTop(q)
	r.readProfile(&q)
	r.checkLevels(q)
	r.readPrice(&q)
	return q
}

// refuse records a problem. The message never holds a value of the input.
func (r *reader) refuse(path, format string, args ...any) {
	r.problems = append(r.problems, dp.Location{Path: path, Message: fmt.Sprintf(format, args...)})
}

// refusal is the error that holds every problem, or nil.
func (r *reader) refusal() error {
	if len(r.problems) == 0 {
		return nil
	}
	return &dp.Error{Code: dp.CodeInvalidQuery, Message: "the query is not valid: change what its locations name", Locations: r.problems}
}

// readRange reads from and to and names the blocks.
func (r *reader) readRange(q *question) {
	from, to := r.query.From, r.query.To
	switch {
	case r.policy.Time == nil && (from != "" || to != ""):
		r.refuse("from", "and to do not apply: rows of this dataset have no time")
		return
	case from == "" && to == "" && r.policy.Unit.Block == dp.All:
		q.blocks = []string{rows.AllBlock}
		return
	case from == "" || to == "":
		r.refuse("from", "and to are both required, as dates such as 2026-01-31")
		return
	}
	var errFrom, errTo error
	q.from, errFrom = rows.ParseDate(from)
	q.to, errTo = rows.ParseDate(to)
	if errFrom != nil {
		r.refuse("from", "%s", errFrom)
	}
	if errTo != nil {
		r.refuse("to", "%s", errTo)
	}
	if errFrom != nil || errTo != nil {
		return
	}
	if q.to.Before(q.from) {
		r.refuse("to", "comes before from: swap them")
		return
	}
	if q.from.DaysUntil(q.to) > maxDays {
		r.refuse("to", "is more than %d days after from: ask for a shorter range", maxDays)
		return
	}
	q.ranged = true
	q.blocks = rows.Blocks(q.from, q.to, r.policy.Unit.Block)
	if len(q.blocks) > r.limits.Blocks {
		r.refuse("to", "makes the query touch %d blocks, more than %d: ask for a shorter range", len(q.blocks), r.limits.Blocks)
	}
}

// readKeys resolves the group keys and narrows their domains by the conditions on the same field.
func (r *reader) readKeys(q question) []Key {
	if len(r.query.By) > r.limits.Keys {
		r.refuse("by", "has more than %d keys: use fewer", r.limits.Keys)
		return nil
	}
	var keys []Key
	for i, name := range r.query.By {
		path := fmt.Sprintf("by[%d]", i)
		if slices.ContainsFunc(keys, func(k Key) bool { return k.Name == name }) {
			continue
		}
		field, ok := r.field(path, name)
		if !ok {
			continue
		}
		key := Key{Name: name, Field: field}
		switch field.Kind {
		case StepField:
			key.Domain = countingFrom(1, len(r.query.Funnel.Steps))
		case MeasureField:
			r.refuse(path, "is a measure: group by a dimension or a time key")
			continue
		case TimeField:
			if !q.ranged && field.Unit != rows.Hour {
				r.refuse(path, "needs from and to: give the dates to group over")
				continue
			}
			key.Domain = rows.TimeKeys(q.from, q.to, field.Unit)
			if field.Moment == PeriodsSince {
				key.Domain = countingFrom(0, len(key.Domain))
			}
		case DimensionField:
			d := r.folded().dimension(field)
			if !d.Private {
				key.Domain = append([]string{}, d.Values...)
			}
		}
		if key.Domain != nil {
			key.Domain = narrowed(key, q.tests)
			if key.Domain = q.narrowedByPlaces(key); len(key.Domain) == 0 {
				r.refuse(path, "has no value that the conditions in where leave: widen them")
				continue
			}
		}
		keys = append(keys, key)
	}
	sort.Slice(keys, func(a, b int) bool { return keys[a].Name < keys[b].Name })
	room := mostPartitions
	for _, key := range keys {
		if key.Domain == nil {
			room /= MostPrivateLabels
		} else {
			room /= len(key.Domain)
		}
	}
	if room < 1 {
		r.refuse("by", "has more combinations than can be told apart: use at most two private dimensions, and fewer or shorter keys beside them")
	}
	return keys
}

// checkLevels refuses sums of balances of several blocks: each customer would count once in each.
func (r *reader) checkLevels(q question) {
	if len(q.blocks) < 2 {
		return
	}
	for _, k := range q.keys {
		if k.Field.Kind == TimeField && k.Field.Unit != rows.Hour && !sharesBlocks(k.Field.Unit, q.blocks, r.policy.Unit.Block) {
			return
		}
	}
	for _, m := range q.metrics {
		if m.last && m.aggregate == dp.Sum {
			r.refuse("metrics", "%s adds up balances, of which every %s has its own: group by time.%s, ask for one %s, or use a mean", m.name, r.policy.Unit.Block, r.policy.Unit.Block, r.policy.Unit.Block)
		}
	}
}

// sharesBlocks tells whether a period of a unit has days of two of the blocks, which are in calendar order.
func sharesBlocks(unit rows.TimeUnit, blocks []string, block dp.Block) bool {
	for i := 1; i < len(blocks); i++ {
		_, before, err := rows.BlockDates(blocks[i-1], block)
		after, _, err2 := rows.BlockDates(blocks[i], block)
		if err != nil || err2 != nil || rows.TimeKeys(before, before, unit)[0] == rows.TimeKeys(after, after, unit)[0] {
			return true
		}
	}
	return false
}

// narrowed is a key's public domain without the labels that a condition on the same field excludes: they
// could only be answered with noise around a zero that everybody knows.
func narrowed(key Key, tests []Test) []string {
	at := slices.IndexFunc(tests, func(t Test) bool { return t.Name == key.Name })
	if at < 0 {
		return key.Domain
	}
	return slices.DeleteFunc(key.Domain, func(label string) bool { return !tests[at].PassesLabel(label) })
}

// field finds what a name means.
func (r *reader) field(path, name string) (Field, bool) {
	if f, known, ok := r.profileField(path, name); known {
		return f, ok
	}
	if unit, ok := rows.ParseTimeUnit(name); ok {
		if r.policy.Time == nil {
			r.refuse(path, "is a time key, but rows of this dataset have no time: leave it out")
			return Field{}, false
		}
		return Field{Kind: TimeField, Unit: unit}, true
	}
	if i := slices.IndexFunc(r.policy.Dimensions, func(d dp.Dimension) bool { return d.Name == name }); i >= 0 {
		return Field{Kind: DimensionField, Index: i}, true
	}
	if i := slices.IndexFunc(r.policy.Derived, func(d dp.Derived) bool { return d.Name == name }); i >= 0 {
		if fold := r.folded().of(Field{Derived: 1 + i}); fold != nil {
			return Field{Kind: DimensionField, Index: fold.Base, Derived: 1 + i}, true
		}
	}
	if i := slices.IndexFunc(r.policy.Measures, func(m dp.Measure) bool { return m.Name == name }); i >= 0 {
		return Field{Kind: MeasureField, Index: i}, true
	}
	switch {
	case name != "" && name == r.policy.Unit.Column:
		r.refuse(path, "is the customer's column: nobody can be singled out; use a dimension")
	case name == "time":
		r.refuse(path, "is not a field: use from and to, or time.hour, time.day, time.week, time.month, time.quarter, time.year")
	default:
		r.refuse(path, "is not a field of this dataset: the dataset's description lists them")
	}
	return Field{}, false
}

// readPrice reads what the asker wants to pay or how exact it must be.
func (r *reader) readPrice(q *question) {
	q.epsilon, q.delta = r.policy.Default.Epsilon, r.policy.Default.Delta
	confidence := r.query.Confidence
	if confidence == "" {
		confidence = "0.95"
	}
	var err error
	if q.confidence, err = mechanism.ParseConfidence(confidence); err != nil {
		r.refuse("confidence", "%s", err)
	}
	if r.query.Epsilon != "" {
		if len(r.query.Within) > 0 {
			r.refuse("epsilon", "and within exclude each other: state the price or the accuracy")
		}
		if q.epsilon, err = accounting.ParseEpsilon(r.query.Epsilon, accounting.Down); err != nil {
			r.refuse("epsilon", "%s", err)
		} else if q.epsilon <= 0 || q.epsilon > mechanism.MaxEpsilon {
			r.refuse("epsilon", "must lie above 0 and be at most %s", mechanism.MaxEpsilon)
		}
	}
	if r.query.Delta != "" {
		if q.delta, err = accounting.ParseDelta(r.query.Delta, accounting.Down); err != nil {
			r.refuse("delta", "%s", err)
		} else if q.delta >= dp.DeltaOne {
			r.refuse("delta", "must lie below 1")
		}
	}
	if r.query.SpendAtMost != "" {
		most, err := accounting.ParseEpsilon(r.query.SpendAtMost, accounting.Down)
		if err != nil {
			r.refuse("spend_at_most.epsilon", "%s", err)
		}
		q.spendAtMost = &most
	}
	r.readWithin(q)
}

// readWithin reads half-widths: positive decimals in the unit of the metric's measure, with up to nine decimals.
func (r *reader) readWithin(q *question) {
	q.within, q.withinText = make(map[string]float64), make(map[string]string)
	for name, text := range r.query.Within {
		at := slices.IndexFunc(q.metrics, func(m askedMetric) bool { return m.name == name })
		if at < 0 && !slices.Contains(r.query.Metrics, name) {
			r.refuse("within", "names a metric that is not asked for: leave it out")
			continue
		}
		const scale = rows.MaxScale
		units, err := rows.ParseDecimal(text, scale)
		if err != nil || units <= 0 {
			r.refuse("within."+name, "must be a positive number with at most %d decimals, the half-width of the interval", scale)
			continue
		}
		if at >= 0 && len(q.metrics[at].parts) > 0 {
			r.refuse("within."+name, "is of a ratio or a share: say how exact the metrics must be that it is read from")
			continue
		}
		q.within[name] = float64(units) / 1e9
		q.withinText[name] = rows.FormatDecimal(units, scale)
	}
}
