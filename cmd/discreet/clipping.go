package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// kept is what counts of one customer for a metric, over all groups.
type kept struct {
	rows  int64
	total int64 // of what the metric adds up: customers in groups, rows, days, sessions, or the measure
}

// keptOf bounds the rows of every customer for one of a plan's metrics, or with bounded false leaves all that the question
// is about.
func keptOf(ctx context.Context, p *plan.Plan, metric int, customers [][]rows.Row, bounded bool) ([]kept, error) {
	m := p.Metrics[metric]
	own := *p
	bound := &own.Tree.Input
	if !bounded {
		bound.Partitions = math.MaxInt64
	}
	if !bounded || !readsRows(p, m) {
		bound.Rows = math.MaxInt64
	}
	columns := []plan.Column{{Count: plan.CountRows, Tests: m.Tests}}
	value := p.Tree.Columns[m.Columns[0]]
	centred := false
	switch m.Aggregate {
	case dp.Mean, dp.Variance, dp.StdDev:
		centred = bounded
		value = p.Tree.Columns[m.Columns[slices.IndexFunc(m.Columns, func(c int) bool { return p.Tree.Columns[c].Count == plan.Centred })]]
	case dp.Quantile, dp.Min, dp.Max:
		value = plan.Column{Count: plan.CountMeasured, Measure: value.Measure, Last: value.Last, Of: value.Of, Distinct: value.Distinct, Tests: value.Tests}
	}
	if !bounded {
		switch {
		case value.Count.ReadsTimes():
			value.Upper = math.MaxInt64
		case value.Count == plan.Centred && (value.Of == plan.ValueRow || value.Of == plan.ValueTotal):
			value.Count, value.Of = plan.Total, plan.ValueRow
			fallthrough
		case value.Count == plan.Total:
			value.Lower, value.Upper = math.MinInt64, math.MaxInt64
		}
	}
	columns = append(columns, value)
	if centred {
		counted := value
		counted.Count = plan.CountMeasured
		columns = append(columns, counted)
	}
	own.Tree.Columns = columns
	e, err := bounding.Compile(&own)
	if err != nil {
		return nil, fmt.Errorf("bounding imagined rows: %w", err)
	}
	list := make([]kept, len(customers))
	for i, all := range customers {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		partitions, err := e.Reference([]byte("rehearsal"), all)
		if err != nil {
			return nil, fmt.Errorf("bounding imagined rows: %w", err)
		}
		for _, partition := range partitions {
			total := partition.Totals[1]
			if centred { // 2x-lower-upper of each
				total = (total + partition.Totals[2]*(value.Lower+value.Upper)) / 2
			}
			list[i].rows += partition.Totals[0]
			list[i].total += total
		}
	}
	return list, nil
}

// readsRows tells whether a metric reads at most so many rows of each customer in a group.
func readsRows(p *plan.Plan, m plan.Metric) bool {
	return m.Drawn >= 0 && slices.ContainsFunc(m.Columns, func(c int) bool {
		column := p.Tree.Columns[c]
		return column.Count == plan.CountRows || column.ReadsRows()
	})
}

// totalled tells whether what a metric's rows add up to can be lost in part: what a quantile reads adds up to nothing.
func totalled(m plan.Metric) bool {
	switch m.Aggregate {
	case dp.Quantile, dp.Min, dp.Max:
		return false
	}
	return m.Of == plan.ValueRow || m.Of == plan.ValueTotal
}

// lose compares what counts with all that there is.
func (r *rehearsed) lose(bounded, open []kept, totalled bool) {
	var touched, there, rowsKept, rowsAll, kept, all float64
	for i := range open {
		if open[i].rows == 0 {
			continue
		}
		there++
		if bounded[i] != open[i] && (totalled || bounded[i].rows != open[i].rows) {
			touched++
		}
		rowsKept, rowsAll = rowsKept+float64(bounded[i].rows), rowsAll+float64(open[i].rows)
		kept, all = kept+float64(bounded[i].total), all+float64(open[i].total)
	}
	share := func(part, whole float64) *rehearsedShare {
		if whole == 0 {
			return nil
		}
		s := rehearsedShare(part / whole)
		return &s
	}
	r.CustomersTouched, r.RowsLost = share(touched, there), share(rowsAll-rowsKept, rowsAll)
	if totalled {
		r.TotalLost = share(math.Abs(all-kept), math.Abs(all))
	}
}
