package policyfile

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// noiseLimit bounds what is noised: from 2^53 on, noise of float scale would not be added to every integer.
const noiseLimit = 1 << 53

// checkScales refuses a policy some of whose figures could not be noised: for every metric that the dataset
// offers or that a question may define over its measures, the most that one customer can change within one
// block must stay below noiseLimit, in units of 10^-scale.
//
//	customers  L0
//	rows       L0*Linf
//	sum        L0*max(|Lower|, |Upper|)
//	mean       2*L0*Linf*(Upper-Lower): a vector of the centred sum and the count
func (r *reader) checkScales(o object, p *dp.Policy) {
	if tooLarge(p.Bounds.MaxPartitions, p.Bounds.MaxRows, 1) {
		r.problem(o.where("bounds"), "bounds", "max_partitions times max_rows must stay below 2^53: lower them")
		return
	}
	for i := range p.Measures {
		m := &p.Measures[i]
		field := fmt.Sprintf("measures[%d]", i)
		r.checkScale(o.values["measures"].items[i], field, p, dp.Sum, m, nil, nil)
		if !m.Level { // of a level, each customer has one value
			r.checkScale(o.values["measures"].items[i], field, p, dp.Mean, m, nil, nil)
		}
	}
	for i, metric := range p.Metrics { // built-in ones have the clamps of their measure, checked above
		if j := slices.IndexFunc(p.Measures, func(m dp.Measure) bool { return m.Name == metric.Measure }); j >= 0 {
			r.checkScale(o.values["metrics"].items[i], fmt.Sprintf("metrics[%d]", i), p, metric.Aggregate, &p.Measures[j], metric.Lower, metric.Upper)
		}
	}
}

func (r *reader) checkScale(n *node, field string, p *dp.Policy, a dp.Aggregate, m *dp.Measure, lower, upper *int64) {
	lo, hi := m.Lower, m.Upper
	if lower != nil {
		lo = *lower
	}
	if upper != nil {
		hi = *upper
	}
	switch {
	case a == dp.Sum && tooLarge(p.Bounds.MaxPartitions, 1, max(magnitude(lo), magnitude(hi))):
		r.problem(n.at, field, "sum overflows: max_partitions times the larger of lower and upper, in units of 10^-scale, must stay below 2^53; narrow the bounds, keep fewer decimals or lower max_partitions")
	case a == dp.Mean && tooLarge(p.Bounds.MaxPartitions, p.Bounds.MaxRows, uint64(hi)-uint64(lo), 2):
		r.problem(n.at, field, "mean overflows: 2 times max_partitions times max_rows times (upper - lower), in units of 10^-scale, must stay below 2^53; narrow the bounds, keep fewer decimals or lower max_partitions or max_rows")
	}
}

// tooLarge says whether the product reaches noiseLimit.
func tooLarge(maxPartitions, maxRows int64, factors ...uint64) bool {
	product := uint64(1)
	for _, factor := range append(factors, uint64(maxPartitions), uint64(maxRows)) {
		high, low := bits.Mul64(product, factor)
		if high > 0 || low >= noiseLimit {
			return true
		}
		product = low
	}
	return false
}

// magnitude is |v|, of the smallest int64 too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}
