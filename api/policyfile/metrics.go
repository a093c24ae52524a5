package policyfile

import (
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// aggregates are what a metric can compute, and which keys of a metric belong to each beside name and aggregate.
func aggregates() (names []string, keys map[string][]string) {
	measured := []string{"measure", "lower", "upper", "where"}
	perCustomer := append([]string{"per", "distinct"}, measured...)
	list := []struct {
		aggregate dp.Aggregate
		keys      []string
	}{
		{dp.Customers, []string{"where"}},
		{dp.Rows, []string{"where"}},
		{dp.Days, []string{"where"}},
		{dp.Sessions, []string{"where"}},
		{dp.Sum, measured},
		{dp.Mean, perCustomer},
		{dp.Variance, perCustomer},
		{dp.StdDev, perCustomer},
		{dp.Quantile, append([]string{"rank"}, perCustomer...)},
		{dp.Min, perCustomer},
		{dp.Max, perCustomer},
		{dp.Ratio, []string{"numerator", "denominator", "per_day"}},
		{dp.Share, []string{"of"}},
	}
	keys = make(map[string][]string, len(list))
	for _, a := range list {
		names = append(names, string(a.aggregate))
		keys[string(a.aggregate)] = a.keys
	}
	return names, keys
}

// metricKeys are those that some aggregate has.
func metricKeys() []string {
	return []string{"measure", "lower", "upper", "rank", "numerator", "denominator", "per_day", "of", "per", "distinct", "where"}
}

func (r *reader) metrics(o object, p *dp.Policy, taken names) {
	own := names{} // a metric may have the name of a measure, which is asked for in other places
	for _, d := range p.Dimensions {
		own[d.Name] = taken[d.Name]
	}
	for _, d := range p.Derived {
		own[d.Name] = taken[d.Name]
	}
	list := o.objects("metrics", r.limits.Metrics, append([]string{"name", "aggregate"}, metricKeys()...)...)
	for _, item := range list {
		m := dp.Metric{Name: r.fieldName(item, own)}
		r.metric(item, &m, p)
		p.Metrics = append(p.Metrics, m)
	}
	all := metrics.Of(p)
	for i, item := range list {
		r.checkParts(item, p, p.Metrics[i], all)
	}
	for _, m := range all {
		for i, d := range p.Dimensions {
			if m.Name == d.Name && !slices.ContainsFunc(p.Metrics, func(own dp.Metric) bool { return own.Name == m.Name }) {
				r.problem(taken[d.Name], fmt.Sprintf("dimensions[%d].name", i), "name of a metric that every dataset of this kind has: write another name, and the header as column")
			}
		}
		for _, d := range p.Derived {
			if m.Name == d.Name && !slices.ContainsFunc(p.Metrics, func(own dp.Metric) bool { return own.Name == m.Name }) {
				r.problem(taken[d.Name], "dimensions."+d.Name, "name of a metric that every dataset of this kind has: write another name")
			}
		}
	}
}

func (r *reader) metric(o object, m *dp.Metric, p *dp.Policy) {
	before := r.count
	offered, keys := aggregates()
	if !o.require("aggregate", "write "+either(offered)) {
		return
	}
	aggregate, ok := o.choice("aggregate", offered...)
	if !ok {
		return
	}
	m.Aggregate = dp.Aggregate(aggregate)
	for _, key := range metricKeys() {
		if o.has(key) && !contains(keys[aggregate], key) {
			o.problem(key, "%s does not use it: leave it out", aggregate)
		}
	}
	switch m.Aggregate {
	case dp.Customers, dp.Rows:
	case dp.Days, dp.Sessions:
		r.timed(o, p, "aggregate")
	case dp.Ratio:
		m.Numerator, m.Denominator = r.part(o, "numerator"), r.part(o, "denominator")
		if text, ok := o.choice("per_day", "true", "false"); ok && text == "true" {
			m.PerDay = true
			r.timed(o, p, "per_day")
		}
	case dp.Share:
		m.Of = r.part(o, "of")
	case dp.Quantile:
		r.rank(o, m)
		r.measured(o, m, p.Measures)
	default:
		r.measured(o, m, p.Measures)
	}
	r.own(o, m, p, before)
}

// timed refuses what counts days or pauses where rows have no time.
func (r *reader) timed(o object, p *dp.Policy, key string) {
	if p.Time == nil {
		o.problem(key, "needs event times, and this policy has none: leave the metric out, or write time")
	}
}

// part reads the name of a metric that a ratio or a share is read from.
func (r *reader) part(o object, key string) string {
	const instead = "write the name of a metric that counts or adds up, such as customers"
	if !o.require(key, instead) {
		return ""
	}
	name, _ := o.text(key, instead)
	return name
}

// checkParts looks up what a ratio or a share is read from, once all metrics are known.
func (r *reader) checkParts(o object, p *dp.Policy, m dp.Metric, all []dp.Metric) {
	if m.Aggregate == dp.Ratio && m.Numerator != "" && m.Numerator == m.Denominator {
		o.problem("denominator", "is the numerator, and the ratio 1: name another metric")
		return
	}
	for i, name := range metrics.Parts(m) {
		key := []string{"numerator", "denominator"}[i]
		if m.Aggregate == dp.Share {
			key = "of"
		}
		at := slices.IndexFunc(all, func(part dp.Metric) bool { return part.Name == name })
		switch {
		case name == "": // noted already
		case at < 0:
			o.problem(key, "no such metric: write the name of one that this policy lists or that its kind brings")
		case all[at].Aggregate == "" || metrics.AddsUp(p, all[at], m.Aggregate): // the first is noted already
		case m.Aggregate == dp.Share:
			o.problem(key, "a share is of rows, days, sessions, or a sum whose lower is not negative: customers count in several groups, and means do not add up")
		default:
			o.problem(key, "a ratio is of metrics that count or add up: customers, rows, days, sessions or a sum")
		}
	}
}

// rank reads the share of rows at or below a quantile.
func (r *reader) rank(o object, m *dp.Metric) {
	const instead = "write a number between 0 and 1, such as 0.5 for the median or 0.9"
	if !o.require("rank", instead) {
		return
	}
	text, ok := o.number("rank", "between 0 and 1")
	if !ok {
		return
	}
	units, err := rows.ParseExact(text, rows.MaxScale)
	switch {
	case err != nil:
		o.problem("rank", "%v: %s", err, instead)
	case units <= 0 || units >= 1e9:
		o.problem("rank", "not between 0 and 1: %s; min and max are aggregates of their own", instead)
	default:
		m.Rank = rows.FormatDecimal(units, rows.MaxScale)
	}
}

// measured reads the measure and the clamps of a metric.
func (r *reader) measured(o object, m *dp.Metric, measures []dp.Measure) {
	if o.has("per") && !o.has("measure") {
		for _, key := range []string{"lower", "upper"} {
			if o.has(key) {
				o.problem(key, "clamps a measure, and this metric counts: leave it out")
			}
		}
		return
	}
	if !o.require("measure", "write the name of a measure") {
		return
	}
	var ok bool
	if m.Measure, ok = o.text("measure", "write the name of a measure"); !ok {
		return
	}
	i := slices.IndexFunc(measures, func(measure dp.Measure) bool { return measure.Name == m.Measure })
	if i < 0 {
		o.problem("measure", "no such measure: write the name of one of this policy's measures")
		return
	}
	measure := measures[i]
	if measure.Scale == unknownScale {
		return
	}
	lower, upper := measure.Lower, measure.Upper
	if o.has("lower") {
		if lower, ok = r.clamp(o, "lower", measure.Scale); !ok {
			return
		}
		m.Lower = &lower
	}
	if o.has("upper") {
		if upper, ok = r.clamp(o, "upper", measure.Scale); !ok {
			return
		}
		m.Upper = &upper
	}
	if (m.Lower != nil || m.Upper != nil) && lower >= upper {
		key := "upper"
		if m.Upper == nil {
			key = "lower"
		}
		o.problem(key, "inverted bounds: write an upper above lower (the measure's own count where the metric has none)")
	}
}
