package policyfile

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// noiseLimit bounds what is noised: from 2^53 on, noise of float scale would not be added to every integer.
const noiseLimit = 1 << 53

// checkScales refuses a policy some of whose figures could not be noised: for sums and means over every measure, which
// every dataset offers or a question may define, and for every metric that is listed, the most that one customer can
// change within one block must stay below noiseLimit, in units of 10^-scale. What a question defines beyond that is
// refused when it is asked.
//
//	customers  L0
//	rows       L0*Linf, as of days and sessions
//	sum        L0*max(|Lower|, |Upper|)
//	mean       2*L0*Linf*(Upper-Lower): a vector of the centred sum and the count
//	variance   3*L0*Linf*(Upper-Lower)^2, 5 times where no delta allows Gaussian noise: drawn jointly
//	quantiles  h*L0*Linf for a tree of height h
//
// Of a level one row of each customer counts: Linf is 1.
func (r *reader) checkScales(o object, p *dp.Policy) {
	if tooLarge(p.Bounds.MaxPartitions, p.Bounds.MaxRows, 1) {
		r.problem(o.where("bounds"), "bounds", "max_partitions times max_rows must stay below 2^53: lower them")
		return
	}
	for i := range p.Measures {
		m := &p.Measures[i]
		field := fmt.Sprintf("measures[%d]", i)
		r.checkScale(o.values["measures"].items[i], field, p, dp.Sum, m, nil, nil)
		r.checkScale(o.values["measures"].items[i], field, p, dp.Mean, m, nil, nil)
	}
	for i, metric := range p.Metrics { // of built-in ones only quantiles are not checked above: they are as wide as their measure
		if j := slices.IndexFunc(p.Measures, func(m dp.Measure) bool { return m.Name == metric.Measure }); j >= 0 {
			m := p.Measures[j]
			if metric.Per == dp.PerCustomer { // one number of each, as large as its rows could add up to
				m.Level = true
				m.Lower, m.Upper = times(p.Bounds.MaxRows, m.Lower), times(p.Bounds.MaxRows, m.Upper)
			}
			r.checkScale(o.values["metrics"].items[i], fmt.Sprintf("metrics[%d]", i), p, metric.Aggregate, &m, metric.Lower, metric.Upper)
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
	partitions, perRow, reach := p.Bounds.MaxPartitions, p.Bounds.MaxRows, uint64(hi)-uint64(lo)
	if m.Level {
		perRow = 1
	}
	joint, share := uint64(3), "3" // L2 of a variance's coordinates, for Gaussian noise; Laplace noise needs L1
	if p.Cap.Delta == 0 {
		joint, share = 5, "5"
	}
	const mend = "; narrow the bounds, keep fewer decimals or lower max_partitions"
	switch {
	case a == dp.Sum:
		if tooLarge(partitions, 1, max(magnitude(lo), magnitude(hi))) {
			r.problem(n.at, field, "sum overflows: max_partitions times the larger of lower and upper, in units of 10^-scale, must stay below 2^53%s", mend)
		}
	case max(magnitude(lo), magnitude(hi)) >= noiseLimit:
		r.problem(n.at, field, "%s overflows: lower and upper, in units of 10^-scale, must stay below 2^53; narrow the bounds or keep fewer decimals", a)
	case a == dp.Mean && tooLarge(partitions, perRow, reach, 2):
		r.problem(n.at, field, "mean overflows: 2 times max_partitions times max_rows times (upper - lower), in units of 10^-scale, must stay below 2^53%s or max_rows", mend)
	case (a == dp.Variance || a == dp.StdDev) && tooLarge(partitions, perRow, reach, reach, joint):
		r.problem(n.at, field, "%s overflows: %s times max_partitions times max_rows times the square of (upper - lower), in units of 10^-scale, must stay below 2^53%s or max_rows", a, share, mend)
	case (a == dp.Quantile || a == dp.Min || a == dp.Max) && tooLarge(partitions, perRow, treeHeight):
		r.problem(n.at, field, "%s overflows: %d times max_partitions times max_rows must stay below 2^53; lower max_partitions or max_rows", a, treeHeight)
	}
}

// treeHeight is that of the largest tree, of 1024 bins (dp/mechanism).
const treeHeight = 5

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

// times is a product that stays at noiseLimit where it is beyond.
func times(most, v int64) int64 {
	switch {
	case magnitude(v) < noiseLimit/uint64(most):
		return most * v
	case v < 0:
		return -noiseLimit
	}
	return noiseLimit
}

// magnitude is |v|, of the smallest int64 too.
func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}
