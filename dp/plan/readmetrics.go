package plan

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/rows"
)

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
