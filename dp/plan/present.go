package plan

import (
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// readTop checks by what groups are to be ranked.
func (r *reader) readTop(q question) {
	top := r.query.Top
	if top == nil {
		return
	}
	if !slices.ContainsFunc(q.metrics, func(m askedMetric) bool { return m.name == top.Metric }) && len(r.problems) == 0 {
		r.refuse("top.metric", "names a metric that is not asked for: rank by one of metrics")
	}
	if top.N < 1 || top.N > int64(r.limits.Groups) {
		r.refuse("top.n", "must lie between 1 and %d: how many groups to show", r.limits.Groups)
	}
	if len(r.query.By) == 0 {
		r.refuse("top", "needs groups to rank: give by")
	}
	if len(r.query.Reconcile) > 0 {
		r.refuse("top", "ranks groups of one level: leave reconcile out")
	}
}

// AddsUp tells whether the figures of a metric in all groups add up to one of all rows that were kept: those of counts of rows
// and of sums do, and so do ratios of two such.
func (p *Plan) AddsUp(metric int) bool {
	switch m := p.Metrics[metric]; m.Aggregate {
	case dp.Rows, dp.Sum:
		return !m.Last
	case dp.Ratio:
		return !m.PerDay && p.AddsUp(m.Parts[0]) && p.AddsUp(m.Parts[1])
	}
	return false
}
