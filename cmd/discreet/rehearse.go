package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// datasetRehearse shows what bounds cost before there are rows: the noise that they need, which follows from the policy
// alone, beside what they cut off rows that are imagined from it.
type datasetRehearse struct {
	File    string   `arg:"" help:"Policy file (YAML or JSON); - for standard input."`
	Metrics []string `arg:"" help:"Names of metrics."`

	By         []string          `help:"Group by, as discreet query does." placeholder:"KEY"`
	Where      []string          `help:"Keep rows, as discreet query does." sep:"none" placeholder:"COND"`
	Within     map[string]string `help:"Half-width of the interval to reach: customers=35." mapsep:"," placeholder:"METRIC=N"`
	Epsilon    string            `help:"What to spend, for each touched block." placeholder:"N"`
	Delta      string            `help:"Failure probability to spend, for each touched block." placeholder:"N"`
	Confidence string            `help:"Of the intervals; 0.95 when absent." placeholder:"N"`

	imagining
	output
}

// rehearsedShare is a part of a whole; people see per cent.
type rehearsedShare float64

func (s rehearsedShare) String() string {
	return strconv.FormatFloat(100*float64(s), 'f', 1, 64) + " %"
}

func (s rehearsedShare) machine() string { return strconv.FormatFloat(float64(s), 'g', -1, 64) }

// rehearsed is one metric under some bounds.
type rehearsed struct {
	Bounds           string          `json:"bounds"`
	Metric           string          `json:"metric"`
	Epsilon          json.Number     `json:"epsilon"`
	Within           *float64        `json:"expected_within"` // null: it depends on the metrics that it is read from
	CustomersTouched *rehearsedShare `json:"customers_touched"`
	RowsLost         *rehearsedShare `json:"rows_lost"`
	TotalLost        *rehearsedShare `json:"total_lost"` // null: of a quantile, say, there is no total
}

const imaginedNotice = "rows are imagined from the policy alone and tell nothing of real ones; the noise is what real rows would get"

// Run imagines, bounds, prices and prints. It calls no server.
func (c *datasetRehearse) Run(ctx context.Context, t terminal) error {
	policy, table, err := c.table(t, c.File)
	if err != nil {
		return err
	}
	if c.expected(policy) > mostRehearsed {
		return errTooManyRehearsed()
	}
	asked, err := (&queryCommand{
		Dataset: policy.Name, Metrics: c.Metrics, By: c.By, Where: c.Where, Within: c.Within, Epsilon: c.Epsilon, Delta: c.Delta,
		Confidence: c.Confidence, From: c.From, To: c.To, Purpose: policy.Purposes[0],
	}).query()
	if err != nil {
		return err
	}
	q := api.QueryOf(asked)
	base, err := priceOf(q, policy)
	if err != nil {
		return err
	}
	customers, n, err := rehearsedRows(ctx, &policy, table)
	if err != nil {
		return err
	}
	v := view{columns: []string{"bounds", "metric", "epsilon", "expected_within", "customers_touched", "rows_lost", "total_lost", "rows_are"}}
	var list []rehearsed
	var refused []string
	open := make(map[string][]kept) // by metric
	seen := map[string]bool{}
	for _, b := range boundsToTry(policy, base, len(c.By) > 0) {
		p, err := priceOf(q, b.policy)
		if err != nil {
			var refusal *dp.Error
			if !errors.As(err, &refusal) {
				return err
			}
			refused = append(refused, b.name)
			continue
		}
		if name := effect(p); seen[name] { // what differs does not matter to this question
			continue
		} else {
			seen[name] = true
		}
		for i, m := range p.Metrics {
			r := rehearsed{Bounds: b.name, Metric: m.Name, Epsilon: json.Number(p.MostLoss().Epsilon.String())}
			if m.Drawn >= 0 {
				within := m.Within
				r.Within = &within
				if open[m.Name] == nil {
					if open[m.Name], err = keptOf(ctx, p, i, customers, false); err != nil {
						return err
					}
				}
				bounded, err := keptOf(ctx, p, i, customers, true)
				if err != nil {
					return err
				}
				r.lose(bounded, open[m.Name], totalled(m))
			}
			if slices.ContainsFunc(list, r.isAs) { // the bound that differs is not felt by this metric
				continue
			}
			list = append(list, r)
			v.rows = append(v.rows, r.row())
		}
	}
	v.body = map[string]any{"imagined": true, "notice": imaginedNotice, "customers": c.Customers, "rows": n, "seed": c.Seed, "rehearsed": list, "refused": append([]string{}, refused...)}
	v.lines = append(v.lines, "imagined    "+imaginedNotice,
		fmt.Sprintf("rows        %d rows of %d customers, seed %d; another --seed or --rows-per-month shows how much hangs on them", n, c.Customers, c.Seed),
		"lost        by clipping: customers of whom something is left out, rows that do not count, and how far the total is off; a line that says no more than an earlier one is left out",
		"cost        nothing: no server was asked, nothing was charged")
	if base.GroupsMayBeHidden {
		v.lines = append(v.lines, "hidden      a key is private: groups with few customers are left out besides")
	}
	if len(refused) > 0 {
		v.lines = append(v.lines, "refused     "+strings.Join(refused, ", ")+": cannot be priced, or not within the policy's cap")
	}
	return c.print(t.stdout, v)
}

// priceOf plans a question under a policy that nobody has applied yet, for a consumer who may spend the whole cap.
func priceOf(q dp.Query, policy dp.Policy) (*plan.Plan, error) {
	return plan.Make(q, dp.VersionedPolicy{Policy: policy, Version: 1}, []dp.Budget{policy.Cap}, plan.DefaultLimits())
}

// otherBounds are a policy with other ones.
type otherBounds struct {
	name   string
	policy dp.Policy
}

// boundsToTry are the policy's own, and for each bound that the question may feel, a quarter, half and twice as much.
func boundsToTry(policy dp.Policy, base *plan.Plan, grouped bool) []otherBounds {
	list := []otherBounds{{"as they are", policy}}
	scaled := func(value int64) (others []int64) {
		for _, v := range []int64{(value + 3) / 4, (value + 1) / 2, 2 * value} {
			if v != value && !slices.Contains(others, v) {
				others = append(others, v)
			}
		}
		return others
	}
	if !policy.Unit.Row {
		for _, v := range scaled(policy.Bounds.MaxPartitions) {
			other := policy
			if other.Bounds.MaxPartitions = v; grouped {
				list = append(list, otherBounds{fmt.Sprintf("max_partitions %d", v), other})
			}
		}
		for _, v := range scaled(policy.Bounds.MaxRows) {
			other := policy
			other.Bounds.MaxRows = v
			list = append(list, otherBounds{fmt.Sprintf("max_rows %d", v), other})
		}
	}
	known := metrics.Of(&policy)
	for _, m := range base.Metrics {
		at := slices.IndexFunc(known, func(k dp.Metric) bool { return k.Name == m.Name })
		if m.Drawn < 0 || m.Measure < 0 || at < 0 {
			continue
		}
		for _, by := range [][2]int64{{1, 4}, {1, 2}, {2, 1}} {
			const most = 1 << 53 // no clamp of a policy is above
			lower, upper := max(-most, min(m.Lower, most))*by[0]/by[1], max(-most, min(m.Upper, most))*by[0]/by[1]
			if m.Lower > 0 {
				lower = m.Lower
			}
			if m.Upper < 0 {
				upper = m.Upper
			}
			if lower >= upper || lower == m.Lower && upper == m.Upper {
				continue
			}
			own := known[at]
			own.Lower, own.Upper = &lower, &upper
			other := policy
			other.Metrics = append(slices.DeleteFunc(slices.Clone(policy.Metrics), func(k dp.Metric) bool { return k.Name == m.Name }), own)
			list = append(list, otherBounds{fmt.Sprintf("%s %s to %s", m.Name, rows.FormatDecimal(lower, m.Scale), rows.FormatDecimal(upper, m.Scale)), other})
		}
	}
	return list
}

// effect tells bounds apart by what they do to a question.
func effect(p *plan.Plan) string {
	text := fmt.Sprintf("%d %v", p.Tree.Input.Partitions, p.MostLoss())
	for _, m := range p.Metrics {
		text += fmt.Sprintf(" %d %d %v", m.Lower, m.Upper, m.Within)
		if readsRows(p, m) {
			text += fmt.Sprintf(" %d", p.Tree.Input.Rows)
		}
	}
	return text
}

// isAs tells whether other bounds did the same to the same metric.
func (r rehearsed) isAs(other rehearsed) bool {
	other.Bounds = r.Bounds
	return reflect.DeepEqual(r, other)
}

// row is the line of a table.
func (r rehearsed) row() []any {
	row := []any{r.Bounds, r.Metric, exactly{Decimal: wire.Decimal(r.Epsilon)}, nil, nil, nil, nil, "imagined"}
	if r.Within != nil {
		row[3] = approximate{*r.Within, *r.Within}
	}
	for i, share := range []*rehearsedShare{r.CustomersTouched, r.RowsLost, r.TotalLost} {
		if share != nil {
			row[4+i] = *share
		}
	}
	return row
}
