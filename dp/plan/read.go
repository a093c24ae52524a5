package plan

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/metrics"
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

// askedMetric is a metric with its clamp resolved.
type askedMetric struct {
	name          string
	aggregate     dp.Aggregate
	measure       int // -1 for those that read none
	scale         int
	lower, upper  int64
	last          bool    // the measure is a level, of which the last known value counts
	perDay        bool    // of a ratio
	of            Value   // whose values are read
	distinct      []Field // of ValueDistinct, sorted by name
	distinctNames []string
	tests         []Test   // the metric's own, one per field, sorted by name; nil: none
	rank          string   // canonical decimal text, of a quantile
	parts         []string // names: numerator and denominator of a ratio, or what a share is of
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

// readMetrics resolves what is asked against the policy's metrics, those of its kind and the query's own.
func (r *reader) readMetrics(q question) []askedMetric {
	offered, defined := make(map[string]dp.Metric), make(map[string]string) // defined: name -> where
	for _, m := range metrics.Of(r.policy) {
		offered[m.Name] = m
	}
	if len(r.query.Define) > r.limits.Metrics {
		r.refuse("define", "has more than %d definitions: ask in several queries", r.limits.Metrics)
		return nil
	}
	for i, d := range r.query.Define {
		path := fmt.Sprintf("define[%d]", i)
		if d.Name == "" || len(d.Name) > maxNameLength {
			r.refuse(path+".name", "must have 1 to %d characters", maxNameLength)
			continue
		}
		if _, taken := offered[d.Name]; taken {
			r.refuse(path+".name", "is the name of a metric that exists already: choose another")
			continue
		}
		if !r.isUsed(d.Name) {
			r.refuse(path+".name", "is not asked for: list it in metrics or leave the definition out")
			continue
		}
		defined[d.Name] = path
		offered[d.Name] = dp.Metric{
			Name: d.Name, Aggregate: d.Aggregate, Measure: d.Measure, Rank: d.Rank, Numerator: d.Numerator, Denominator: d.Denominator, Of: d.Of,
			Per: d.Per, Distinct: d.Distinct, Where: d.Where,
		}
	}

	asked := make(map[string]askedMetric)
	if len(r.query.Metrics) == 0 {
		r.refuse("metrics", "is empty: ask for at least one, such as customers")
	}
	if len(r.query.Metrics) > r.limits.Metrics {
		r.refuse("metrics", "has more than %d names: ask in several queries", r.limits.Metrics)
		return nil
	}
	ask := func(path, name string) bool {
		m, ok := offered[name]
		if !ok {
			r.refuse(path, "is not a metric of this dataset: the dataset's description lists them, or define it in the query")
			return false
		}
		if at, own := defined[name]; own {
			path = at
		}
		resolved, ok := r.resolve(path, m, q)
		if ok {
			asked[name] = resolved
		}
		return ok
	}
	for i, name := range r.query.Metrics {
		ask(fmt.Sprintf("metrics[%d]", i), name)
	}
	// What ratios and shares are read from is answered beside them: it is paid for.
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		m := asked[name]
		for _, part := range m.parts {
			path := "metrics"
			if at, own := defined[name]; own {
				path = at
			}
			if ask(path, part) && !asked[part].addsUp(m.aggregate) {
				r.refuse(path, "is read from a metric that does not count or add up: use customers, rows or a sum; a share needs rows or a sum that is never negative")
			}
		}
	}
	for name := range r.query.Clamp {
		if _, ok := asked[name]; !ok && len(r.problems) == 0 {
			r.refuse("clamp", "names a metric that is not asked for: leave it out")
		}
	}
	list := make([]askedMetric, 0, len(asked))
	for _, m := range asked {
		list = append(list, m)
	}
	sort.Slice(list, func(a, b int) bool { return list[a].name < list[b].name })
	return list
}

// resolve finds a metric's measure and the clamp in force: the metric's, else the measure's, else what the
// query tightens.
func (r *reader) resolve(path string, m dp.Metric, q question) (askedMetric, bool) {
	a := askedMetric{name: m.Name, aggregate: m.Aggregate, measure: -1}
	if !r.readParameters(path, m, &a) || !r.readPer(path, m, q, &a) || !r.readOwnTests(path, m, &a) {
		return a, false
	}
	if a.of == ValueRows || a.of == ValueDistinct {
		return a, r.tighten(&a)
	}
	switch m.Aggregate {
	case dp.Customers, dp.Rows, dp.Days, dp.Sessions, dp.Ratio, dp.Share:
		if m.Measure != "" {
			r.refuse(path, "takes no measure: leave measure out")
			return a, false
		}
		if _, clamped := r.query.Clamp[m.Name]; clamped {
			r.refuse("clamp."+m.Name, "is of a metric that reads no measure: leave it out")
			return a, false
		}
		switch timed := m.Aggregate == dp.Days || m.Aggregate == dp.Sessions; {
		case timed && r.policy.Time == nil:
			r.refuse(path, "reads event times, but rows of this dataset have none: leave it out")
			return a, false
		case (m.Aggregate == dp.Days || m.PerDay) && r.query.From == "":
			r.refuse(path, "counts days: give from and to")
			return a, false
		}
		return a, true
	case dp.Sum, dp.Mean, dp.Variance, dp.StdDev, dp.Quantile, dp.Min, dp.Max:
	default:
		r.refuse(path, "has an aggregate that is not offered: use one of customers, rows, days, sessions, sum, mean, variance, stddev, quantile, min, max, ratio, share")
		return a, false
	}
	a.measure = slices.IndexFunc(r.policy.Measures, func(have dp.Measure) bool { return have.Name == m.Measure })
	if a.measure < 0 {
		r.refuse(path, "needs a measure of this dataset: the dataset's description lists them")
		return a, false
	}
	measure := r.policy.Measures[a.measure]
	a.last = measure.Level
	a.scale, a.lower, a.upper = measure.Scale, measure.Lower, measure.Upper
	if m.Lower != nil {
		a.lower = *m.Lower
	}
	if m.Upper != nil {
		a.upper = *m.Upper
	}
	if a.of == ValueTotal {
		if a.last {
			r.refuse(path+".per", "does not go with a level, of which every customer has one value in a group: leave it out")
			return a, false
		}
		// As far as the rows that count elsewhere could add up, where the metric does not say.
		if m.Lower == nil {
			a.lower = min(a.lower, -product(r.policy.Bounds.MaxRows, -a.lower))
		}
		if m.Upper == nil {
			a.upper = max(a.upper, product(r.policy.Bounds.MaxRows, a.upper))
		}
	}
	return a, r.tighten(&a)
}

// Min and max are read as these ranks: of the extremes themselves nothing can be said without giving away whose they are.
const (
	minRank = "0.005"
	maxRank = "0.995"
)

// readParameters reads what some aggregates need beside a measure, and refuses it of the others.
func (r *reader) readParameters(path string, m dp.Metric, a *askedMetric) bool {
	before := len(r.problems)
	if (m.Rank != "") != (m.Aggregate == dp.Quantile) {
		r.refuse(path+".rank", "goes with quantile, which needs it: a number between 0 and 1, such as 0.9")
	}
	if (m.Numerator != "" || m.Denominator != "") && m.Aggregate != dp.Ratio || m.Aggregate == dp.Ratio && (m.Numerator == "" || m.Denominator == "") {
		r.refuse(path+".numerator", "and denominator go with ratio, which needs both: names of metrics")
	}
	if (m.Of != "") != (m.Aggregate == dp.Share) {
		r.refuse(path+".of", "goes with share, which needs it: the name of a metric")
	}
	if len(r.problems) > before {
		return false
	}
	switch m.Aggregate {
	case dp.Quantile:
		units, err := rows.ParseDecimal(m.Rank, rows.MaxScale)
		if err != nil || units <= 0 || units >= 1e9 {
			r.refuse(path+".rank", "must be a decimal number above 0 and below 1, such as 0.9")
			return false
		}
		a.rank = rows.FormatDecimal(units, rows.MaxScale)
	case dp.Min:
		a.rank = minRank
	case dp.Max:
		a.rank = maxRank
	case dp.Ratio:
		if m.Numerator == m.Denominator {
			r.refuse(path+".denominator", "is the numerator: the ratio is 1; name another metric")
			return false
		}
		a.parts, a.perDay = []string{m.Numerator, m.Denominator}, m.PerDay
	case dp.Share:
		a.parts = []string{m.Of}
	}
	return true
}

// readOwnTests reads the conditions of a metric itself.
func (r *reader) readOwnTests(path string, m dp.Metric, a *askedMetric) bool {
	if len(m.Where) == 0 {
		return true
	}
	if len(a.parts) > 0 {
		r.refuse(path+".where", "goes with metrics that read rows: give it to those that the %s is read from", m.Aggregate)
		return false
	}
	before := len(r.problems)
	if r.query.Funnel != nil {
		r.refuse(path+".where", "does not go with a funnel, whose steps have conditions: leave it out")
		return false
	}
	if tests := r.testsOf(path, m.Where); len(tests) > 0 {
		a.tests = tests
	}
	return len(r.problems) == before
}

// mostOfCustomer is up to how many rows or combinations of one customer are told apart: the bins of a tree.
const mostOfCustomer = MostBins - 1

// readPer reads whose values a metric is about.
func (r *reader) readPer(path string, d dp.Metric, q question, a *askedMetric) bool {
	switch {
	case d.Per == dp.PerRow && len(d.Distinct) == 0:
		return true
	case d.Per == dp.PerRow:
		r.refuse(path+".distinct", "goes with per: customer")
		return false
	case d.Per != dp.PerCustomer:
		r.refuse(path+".per", "must be customer, or left out")
		return false
	case !slices.Contains([]dp.Aggregate{dp.Mean, dp.Variance, dp.StdDev, dp.Quantile, dp.Min, dp.Max}, d.Aggregate):
		r.refuse(path+".per", "goes with mean, variance, stddev, quantile, min and max: leave it out")
		return false
	case d.Measure != "" && len(d.Distinct) > 0:
		r.refuse(path+".distinct", "counts combinations of labels and takes no measure: leave one of them out")
		return false
	case d.Measure != "":
		a.of = ValueTotal
		return true
	}
	// Eight times what counts elsewhere leaves room to find that too little counts.
	a.of, a.lower, a.upper = ValueRows, 0, min(mostOfCustomer, times(8, r.policy.Bounds.MaxRows))
	if len(d.Distinct) == 0 {
		return true
	}
	if len(d.Distinct) > r.limits.Keys {
		r.refuse(path+".distinct", "has more than %d fields: use fewer", r.limits.Keys)
		return false
	}
	a.of = ValueDistinct
	combinations := int64(1)
	a.distinctNames = slices.Compact(slices.Sorted(slices.Values(d.Distinct)))
	for _, name := range a.distinctNames {
		f, ok := r.field(path+".distinct", name)
		if ok && (f.Kind == MeasureField || f.NeedsProfile()) {
			r.refuse(path+".distinct", "has a measure or a field of the customer: count the labels of dimensions and time keys")
			ok = false
		}
		if !ok {
			return false
		}
		a.distinct = append(a.distinct, f)
		combinations = times(combinations, r.labels(f, q))
	}
	a.upper = min(mostOfCustomer, combinations)
	return true
}

// labels is how many labels a field has by declaration alone.
func (r *reader) labels(f Field, q question) int64 {
	switch {
	case f.Kind == DimensionField && !r.folded().dimension(f).Private:
		return int64(len(r.folded().dimension(f).Values))
	case f.Kind == TimeField && (q.ranged || f.Unit == rows.Hour):
		return int64(len(rows.TimeKeys(q.from, q.to, f.Unit)))
	}
	return unlimited
}

// addsUp tells whether a ratio or a share can be read from the metric.
func (a askedMetric) addsUp(aggregate dp.Aggregate) bool {
	switch a.aggregate {
	case dp.Customers:
		return aggregate == dp.Ratio
	case dp.Rows, dp.Days, dp.Sessions:
		return true
	case dp.Sum:
		return aggregate == dp.Ratio || a.lower >= 0
	}
	return false
}

// isUsed tells whether a metric is asked for, or part of one that is defined.
func (r *reader) isUsed(name string) bool {
	return slices.Contains(r.query.Metrics, name) || slices.ContainsFunc(r.query.Define, func(d dp.Definition) bool {
		return d.Numerator == name || d.Denominator == name || d.Of == name
	})
}

// tighten applies the query's own clamp, which may only be narrower than the policy's.
func (r *reader) tighten(a *askedMetric) bool {
	clamp, ok := r.query.Clamp[a.name]
	if !ok {
		return true
	}
	path := "clamp." + a.name
	lower, errLower := rows.ParseDecimal(clamp.Lower, a.scale)
	upper, errUpper := rows.ParseDecimal(clamp.Upper, a.scale)
	switch {
	case errLower != nil || errUpper != nil:
		r.refuse(path, "needs two numbers for each metric, in the measure's unit")
	case lower < a.lower || upper > a.upper:
		r.refuse(path, "is wider than the policy allows: stay within %s and %s", rows.FormatDecimal(a.lower, a.scale), rows.FormatDecimal(a.upper, a.scale))
	case lower >= upper:
		r.refuse(path, "has a lower bound that is not below its upper bound: swap them")
	default:
		a.lower, a.upper = lower, upper
		return true
	}
	return false
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
