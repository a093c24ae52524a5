package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// compareAnswers shows that both engines are asked the same: where nothing depends on a hash, every integer is equal,
// and everywhere they keep equally many (customer, block, partition) triples.
func compareAnswers(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	defer l.close()
	var rows [][]string
	year := category("category, year, L0 31", firstDay, lastDay)
	year.Bound = 31
	byMonth := category("category x month, year, L0 31", firstDay, lastDay)
	byMonth.Bound, byMonth.By, byMonth.Keys = 31, []string{"merchant_category", "time.month"}, []string{"category", "strftime(booked_at, '%Y-%m')"}
	country := year
	country.Name, country.Country = "category, year, one country, L0 31", "FR"
	for _, q := range []question{year, byMonth, country} {
		groups, err := equalAnswers(ctx, l, q)
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		rows = append(rows, []string{q.Name, fmt.Sprintf("%d groups, customers and spend", groups), "equal"})
	}
	// A month in the key makes every kept triple one customer of one group, whatever the hash keeps.
	byMonth.Name, byMonth.Bound = "category, year, L0 4", 4
	days := byMonth
	days.Name, days.By, days.Keys, days.Bound = "category x day, year, L0 5", []string{"merchant_category", "time.day"}, []string{"category", "booked_at::date"}, 5
	for _, q := range []question{byMonth, days} {
		_, partitions, err := l.ours.aggregate(ctx, q.query())
		if err != nil {
			return err
		}
		var ours, theirs int64
		for _, p := range partitions {
			ours += p.Totals[0]
		}
		if err := l.byTime.db.QueryRowContext(ctx, q.triples(table)).Scan(&theirs); err != nil {
			return err
		}
		if ours != theirs {
			return fmt.Errorf("%s: Discreet keeps %d triples, DuckDB %d", q.Name, ours, theirs)
		}
		rows = append(rows, []string{q.Name, fmt.Sprintf("%d kept triples", ours), "equal"})
	}
	r.table("Both answer the same question", []string{"question", "compared", "Discreet and DuckDB"}, rows)
	return nil
}

// equalAnswers compares every group and returns how many there are.
func equalAnswers(ctx context.Context, l *loaded, q question) (int, error) {
	p, partitions, err := l.ours.aggregate(ctx, q.query())
	if err != nil {
		return 0, err
	}
	customers, spend, err := figureColumns(p)
	if err != nil {
		return 0, err
	}
	ours := map[string]string{}
	for _, partition := range partitions {
		ours[strings.Join(partition.Key, "|")] = fmt.Sprintf("%d|%d", partition.Totals[customers], partition.Totals[spend])
	}
	_, names := q.columns()
	theirs, err := l.byTime.all(ctx, q.kept(table)+fmt.Sprintf("select concat_ws('|', %s), concat_ws('|', count(distinct customer), cast(sum(clamped) * 100 as bigint)) from kept group by %s", names, names))
	if err != nil {
		return 0, err
	}
	for _, row := range theirs {
		key, figures := fmt.Sprint(row[0]), fmt.Sprint(row[1])
		if ours[key] != figures {
			return 0, fmt.Errorf("group %s is %q in Discreet and %q in DuckDB", key, ours[key], figures)
		}
	}
	if len(theirs) != len(ours) || len(ours) == 0 {
		return 0, fmt.Errorf("%d groups in Discreet and %d in DuckDB", len(ours), len(theirs))
	}
	return len(ours), nil
}

// figureColumns finds the totals of customers and of spend.
func figureColumns(p *plan.Plan) (customers, spend int, err error) {
	customers, spend = -1, -1
	for _, m := range p.Metrics {
		switch m.Name {
		case "customers":
			customers = m.Columns[0]
		case "spend":
			spend = m.Columns[0]
		}
	}
	if customers < 0 || spend < 0 {
		return 0, 0, fmt.Errorf("the plan lacks a metric")
	}
	return customers, spend, nil
}

// compareScans is the main comparison.
func compareScans(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	defer l.close()
	var rows [][]string
	for _, q := range s.chosen(questions()) {
		note("%s", q.Name)
		t, err := contest(ctx, s.runs, []contestant{
			l.ours.contestant(q),
			l.sorted.contestant("DuckDB, bounded, sorted", q.bounded(table)),
			l.byTime.contestant("DuckDB, bounded, by time", q.bounded(table)),
			l.byTime.contestant("DuckDB, plain, by time", q.plain(table)),
			l.sorted.contestant("DuckDB, plain, sorted", q.plain(table)),
			l.byTime.contestant("DuckDB, distinct, by time", q.distinct(table)),
			l.sorted.contestant("DuckDB, distinct, sorted", q.distinct(table)),
		})
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		row := []string{q.Name, short(t[0])}
		for _, theirs := range []time.Duration{t[1], t[2], min(t[3], t[4]), min(t[5], t[6])} {
			row = append(row, short(theirs), ratio(theirs, t[0]))
		}
		rows = append(rows, row)
	}
	r.table(fmt.Sprintf("Bounded customers and spend, %s rows, %d customers, medians of %d", millions(l.rows), s.customers, s.runs),
		[]string{"question", "Discreet", "DuckDB bounded, sorted by customer", "ratio", "DuckDB bounded, in time order", "ratio", "DuckDB plain GROUP BY", "ratio", "DuckDB with count(distinct)", "ratio"}, rows)
	r.say("Discreet plans and aggregates in process, before noise. Ratios are DuckDB's time over Discreet's. Bounded SQL ranks the partitions of each (customer, month) by DuckDB's `hash`; " +
		"plain and distinct bound nothing and protect nobody, and of each the faster of both tables counts. DuckDB's tables know customers by 64 bits and categories as enumerations.")
	return nil
}

// measureNoise sets the noise samples beside the scan, and both beside the whole walk of a query.
func measureNoise(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	defer l.close()
	consumer, err := l.ours.consumer(ctx)
	if err != nil {
		return err
	}
	service, noise := l.ours.service(), mechanism.Secure()
	var rows [][]string
	for _, q := range s.chosen(append(questions(), ranks()...)) {
		note("%s", q.Name)
		p, partitions, err := l.ours.aggregate(ctx, q.query())
		if err != nil {
			return err
		}
		samples := 0
		t, err := contest(ctx, s.runs, []contestant{
			l.ours.contestant(q),
			{"noise", func(context.Context) (err error) {
				samples, err = sample(p, partitions, noise)
				return err
			}},
			{"whole query", func(ctx context.Context) error {
				_, err := service.Ask(ctx, consumer, q.query(), "")
				return err
			}},
		})
		if err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		rows = append(rows, []string{q.Name, short(t[0]), fmt.Sprint(samples), short(t[1]), short(t[2]), ratio(t[2], t[0]+t[1])})
	}
	r.table(fmt.Sprintf("Noise beside the scan, %s rows, medians of %d", millions(l.rows), s.runs),
		[]string{"question", "scan", "noise samples", "their time", "whole query: plan, charge, scan, noise, release", "over scan + samples"}, rows)
	r.say("A private key has a sample of selection, which is that of its customers, and one of its spend if it is shown; a public one has both. A tree of quantiles has 1364 for each group.")
	return nil
}

// sample draws what an answer draws and nothing else, and counts.
func sample(p *plan.Plan, found []bounding.Partition, noise mechanism.Noise) (samples int, err error) {
	groups := found
	if !p.GroupsMayBeHidden { // public groups get noise whether or not anybody is in them
		groups = make([]bounding.Partition, len(p.Groups()))
		for i := range groups {
			groups[i].Totals = make([]int64, p.Tree.Width())
		}
	}
	for _, g := range groups {
		if p.Selection != nil {
			samples++
			selected, err := noise.Add(g.Totals[p.Tree.At(p.SelectionColumn())], p.Selection.Draw())
			if err != nil {
				return 0, err
			}
			if selected < p.Selection.Tau() {
				continue
			}
		}
		for i, m := range p.Metrics {
			if i == p.SelectedBy || i != m.Drawn {
				continue
			}
			for at := range m.Draws() {
				samples++
				if _, err := noise.Add(0, m.Vector.Draw(min(at, len(m.Vector.Bounds)-1))); err != nil {
					return 0, err
				}
			}
		}
	}
	return samples, nil
}
