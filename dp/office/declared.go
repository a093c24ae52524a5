package office

import (
	"math/bits"
	"regexp"
	"slices"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// maxCap is the largest epsilon of a cap: beyond it mechanisms cannot be computed, and nothing is protected.
const maxCap = 700 * dp.EpsilonOne

// noiseLimit bounds what is noised: from 2^53 on, noise of float scale would not be added to every integer.
const noiseLimit = 1 << 53

var fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// checkDeclared holds what a policy declares of its rows to what bounding and noise rest on: one meaning for each name,
// one group for each value, bounds that are some, and prices that the cap could pay.
func checkDeclared(p *dp.Policy) error {
	for _, check := range []func(*dp.Policy) error{checkPrices, checkTime, checkFieldNames, checkDimensions, checkParents, checkDerived, checkMeasures, checkMetrics} {
		if err := check(p); err != nil {
			return err
		}
	}
	if high, low := bits.Mul64(uint64(p.Bounds.MaxPartitions), uint64(p.Bounds.MaxRows)); high > 0 || low >= noiseLimit {
		return badPolicy("max_partitions times max_rows must stay below 2^53: lower them")
	}
	for i, a := range p.Audiences {
		if slices.Contains(p.Audiences[:i], a) {
			return badPolicy("list each audience once")
		}
	}
	return nil
}

func checkPrices(p *dp.Policy) error {
	switch {
	case p.Cap.Epsilon > maxCap:
		return badPolicy("the cap's epsilon is above 700, which protects nothing: lower it")
	case p.Default.Epsilon <= 0:
		return badPolicy("declare a default with an epsilon above 0")
	case p.Default.Epsilon > p.Cap.Epsilon || p.Default.Delta > p.Cap.Delta/4:
		return badPolicy("no question at the default price could ever be answered: keep its epsilon within the cap's, and its delta within a quarter of the cap's")
	}
	return nil
}

func checkTime(p *dp.Policy) error {
	if p.Time == nil {
		return nil
	}
	if p.Time.Column == "" || p.Time.Column == p.Unit.Column {
		return badPolicy("name the column of times, another than the customer's")
	}
	if _, err := rows.LoadZone(p.Time.Timezone); err != nil {
		return badPolicy("the time zone is unknown: give its IANA name, such as Europe/Berlin")
	}
	if _, err := rows.CompileTimeFormat(p.Time.Format); err != nil {
		return badPolicy("the format of times is none: give rfc3339, date, unix, unix_ms or a layout")
	}
	return nil
}

// checkFieldNames holds that a name in a question stands for one thing. A metric may have the name of a measure, which is
// asked for in other places.
func checkFieldNames(p *dp.Policy) error {
	var keys, measures, own []string
	for _, d := range p.Dimensions {
		keys = append(keys, d.Name)
	}
	for _, d := range p.Derived {
		keys = append(keys, d.Name)
	}
	for _, m := range p.Measures {
		measures = append(measures, m.Name)
	}
	for _, m := range p.Metrics {
		own = append(own, m.Name)
	}
	for _, list := range [][]string{slices.Concat(keys, measures), slices.Concat(keys, own)} {
		for i, name := range list {
			if !fieldName.MatchString(name) || name == "time" {
				return badPolicy("a dimension, a measure or a metric has a name that cannot be used: write lower-case letters, digits and _, beginning with a letter, at most 63 characters, and not time")
			}
			if slices.Contains(list[:i], name) {
				return badPolicy("dimensions, measures and metrics each need a name of their own")
			}
		}
	}
	return nil
}

func checkDimensions(p *dp.Policy) error {
	for _, d := range p.Dimensions {
		switch {
		case d.Type != dp.StringDimension && d.Type != dp.IntDimension:
			return badPolicy("give each dimension a type: string or int")
		case !p.Unit.Row && columnOf(d.Column, d.Name) == p.Unit.Column:
			return badPolicy("a dimension reads the customer's column, which is never asked for: leave it out")
		case d.Bin != nil && (d.Type != dp.IntDimension || d.Bin.Step < 1):
			return badPolicy("only ints have bins, of a step of at least 1")
		case d.Private && (len(d.Values) > 0 || d.Other != ""):
			return badPolicy("a private dimension declares no values and no label of others")
		case !d.Private && len(d.Values) == 0:
			return badPolicy("declare the values of a dimension, or select them privately")
		case !d.Private && (d.Other != "" && !slices.Contains(d.Values, d.Other) || d.Missing != "" && !slices.Contains(d.Values, d.Missing)):
			return badPolicy("the labels of other and missing values are values of their dimension: list them")
		}
		seen := make(map[string]bool, len(d.Values))
		for _, v := range d.Values {
			if v == "" || seen[v] {
				return badPolicy("list each value of a dimension once, none of them empty")
			}
			seen[v] = true
			if d.Type != dp.IntDimension || v == d.Other || v == d.Missing {
				continue
			}
			n, err := rows.ParseInt(v)
			if err != nil || strconv.FormatInt(n, 10) != v || d.Bin != nil && n%d.Bin.Step != 0 {
				return badPolicy("a value of an int dimension is a whole number, and a multiple of its bin's step: no row could have it")
			}
		}
	}
	return nil
}

// columnOf is the header of a column, its name where the policy gives none.
func columnOf(column, name string) string {
	if column == "" {
		return name
	}
	return column
}

// checkParents follows each dimension upwards: parents exist and never lead back.
func checkParents(p *dp.Policy) error {
	parents := make(map[string]string, len(p.Dimensions))
	for _, d := range p.Dimensions {
		parents[d.Name] = d.Parent
	}
	for _, d := range p.Dimensions {
		steps := 0
		for name := d.Parent; name != ""; name = parents[name] {
			if _, known := parents[name]; !known {
				return badPolicy("a dimension names a parent that there is not")
			}
			if steps++; steps > len(p.Dimensions) {
				return badPolicy("the parents of a dimension lead back to it: the coarsest has none")
			}
		}
	}
	return nil
}

func checkDerived(p *dp.Policy) error {
	for i, d := range p.Derived {
		values, private, known := labelsOf(p, d.Of, i)
		if !known || len(d.Groups) == 0 {
			return badPolicy("a dimension that is made of another names one that stands before it, and labels for its values")
		}
		labels, seen := map[string]bool{}, map[string]bool{}
		for _, g := range d.Groups {
			if g.Label == "" || labels[g.Label] || len(g.Values) == 0 {
				return badPolicy("name each label of a dimension that is made of another once, with at least one value")
			}
			labels[g.Label] = true
			for _, v := range g.Values {
				if seen[v] || v == "" || !private && !slices.Contains(values, v) {
					return badPolicy("a value of a dimension that is made of another has one label, and is one that the other declares")
				}
				seen[v] = true
			}
		}
		if d.Other == "" && (private || slices.ContainsFunc(values, func(v string) bool { return !seen[v] })) {
			return badPolicy("give a label to the values that are in no group of a dimension that is made of another")
		}
	}
	return nil
}

// labelsOf are those that a dimension can have: of those derived, one that stands before.
func labelsOf(p *dp.Policy, name string, before int) (values []string, private, known bool) {
	for _, d := range p.Dimensions {
		if d.Name == name {
			return d.Values, d.Private, true
		}
	}
	for i, d := range p.Derived[:before] {
		if d.Name == name {
			fold, err := rows.NewFold(p, i)
			if err != nil {
				return nil, false, false
			}
			return fold.Labels, false, true
		}
	}
	return nil, false, false
}

func checkMeasures(p *dp.Policy) error {
	for _, m := range p.Measures {
		switch {
		case m.Scale < 0 || m.Scale > rows.MaxScale:
			return badPolicy("a measure keeps 0 to 9 decimal places")
		case m.Lower >= m.Upper:
			return badPolicy("the bounds of a measure are inverted or empty: give an upper above the lower")
		case !p.Unit.Row && columnOf(m.Column, m.Name) == p.Unit.Column:
			return badPolicy("a measure reads the customer's column, which is never asked for: leave it out")
		}
	}
	return nil
}

func checkMetrics(p *dp.Policy) error {
	all := metrics.Of(p)
	for _, m := range p.Metrics {
		if err := checkMetric(p, m); err != nil {
			return err
		}
		for _, name := range metrics.Parts(m) {
			at := slices.IndexFunc(all, func(part dp.Metric) bool { return part.Name == name })
			if at < 0 || !metrics.AddsUp(p, all[at], m.Aggregate) {
				return badPolicy("a ratio or a share is of metrics that there are, and that count or add up")
			}
		}
		if m.Aggregate == dp.Ratio && m.Numerator == m.Denominator {
			return badPolicy("a ratio is of two metrics: name another denominator")
		}
	}
	return nil
}

func checkMetric(p *dp.Policy, m dp.Metric) error {
	measured := false
	switch m.Aggregate {
	case dp.Customers, dp.Rows, dp.Ratio, dp.Share:
	case dp.Days, dp.Sessions:
		if p.Time == nil {
			return badPolicy("days and sessions need event times: leave the metric out, or declare the time")
		}
	case dp.Sum, dp.Mean, dp.Variance, dp.StdDev, dp.Quantile, dp.Min, dp.Max:
		measured = m.Per == ""
	default:
		return badPolicy("give each metric an aggregate that there is")
	}
	if m.Aggregate == dp.Quantile {
		if rank, err := rows.ParseExact(m.Rank, rows.MaxScale); err != nil || rank <= 0 || rank >= 1_000_000_000 {
			return badPolicy("the rank of a quantile lies between 0 and 1")
		}
	}
	at := slices.IndexFunc(p.Measures, func(of dp.Measure) bool { return of.Name == m.Measure })
	if at < 0 {
		if measured || m.Measure != "" || m.Lower != nil || m.Upper != nil {
			return badPolicy("a metric names a measure that there is not, or clamps none")
		}
		return nil
	}
	lower, upper := p.Measures[at].Lower, p.Measures[at].Upper
	if m.Lower != nil {
		lower = *m.Lower
	}
	if m.Upper != nil {
		upper = *m.Upper
	}
	if lower >= upper {
		return badPolicy("the bounds of a metric are inverted or empty: give an upper above the lower, of which its measure's count where it has none")
	}
	return nil
}
