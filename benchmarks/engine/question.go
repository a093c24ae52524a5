package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// question is asked of both engines: customers and spend by some keys.
type question struct {
	Name     string
	By       []string // keys of Discreet
	Keys     []string // the same for DuckDB
	Country  string   // asks for one only; empty: all
	From, To string   // days, both included
	Bound    int64    // partitions of one (customer, block) that are kept
	Private  bool     // keys have to pass selection
	Ranks    bool     // asks for the median and the 90th percentile of amounts instead, from one tree
}

// lower and upper clamp the spend of one (customer, block, partition), in units of the currency, like synth's policy.
const lower, upper = 0, 500

func category(name, from, to string) question {
	return question{Name: name, By: []string{"merchant_category"}, Keys: []string{"category"}, From: from, To: to, Bound: 4}
}

func questions() []question {
	quarter, year := category("category, quarter", "2025-04-01", "2025-06-30"), category("category, year", "2025-01-01", "2025-12-31")
	byCountry, quarterByCountry := year, quarter
	byCountry.Name, byCountry.Country = "category, year, one country", "FR"
	quarterByCountry.Name, quarterByCountry.Country = "category, quarter, one country", "FR"
	days := quarter
	days.Name, days.Bound = "category x day, quarter, L0 31", 31
	days.By, days.Keys = []string{"merchant_category", "time.day"}, []string{"category", "booked_at::date"}
	yearDays := days
	yearDays.Name, yearDays.From, yearDays.To = "category x day, year, L0 31", year.From, year.To
	merchants := quarter
	merchants.Name, merchants.Private, merchants.By, merchants.Keys = "private merchant, quarter", true, []string{"merchant"}, []string{"merchant"}
	yearMerchants := merchants
	yearMerchants.Name, yearMerchants.From, yearMerchants.To = "private merchant, year", year.From, year.To
	return []question{quarter, year, quarterByCountry, byCountry, days, yearDays, merchants, yearMerchants}
}

// ranks are questions that are not asked of DuckDB: its bounded SQL for them would be another one.
func ranks() []question {
	quarter, year := questions()[0], questions()[1]
	quarter.Name, quarter.Ranks = "median and p90 by category, quarter", true
	year.Name, year.Ranks = "median and p90 by category, year", true
	return []question{quarter, year}
}

// chosen are the questions that the flags leave.
func (s settings) chosen(all []question) []question {
	return slices.DeleteFunc(all, func(q question) bool { return !strings.Contains(q.Name, s.questions) })
}

// query is the question as Discreet is asked. Each is cheap enough to be asked thousands of times.
func (q question) query() dp.Query {
	asked := dp.Query{
		Dataset: dataset, Metrics: []string{"customers", "spend"}, By: q.By, From: q.From, To: q.To, Purpose: purpose,
		MaxPartitions: q.Bound, Epsilon: "0.01", Delta: "0", Fresh: true,
	}
	if q.Ranks {
		asked.Metrics = []string{"median", "p90"}
		asked.Define = []dp.Definition{{Name: "median", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.5"}, {Name: "p90", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.9"}}
	}
	if q.Private {
		asked.Epsilon, asked.Delta = "0.1", "1e-12"
	}
	if q.Country != "" {
		asked.Where = []dp.Condition{{Field: "country", Eq: &q.Country}}
	}
	return asked
}

// columns are the keys with names, and the names.
func (q question) columns() (named, names string) {
	var with, without []string
	for i, key := range q.Keys {
		name := fmt.Sprint("k", i)
		with, without = append(with, key+" as "+name), append(without, name)
	}
	return strings.Join(with, ", "), strings.Join(without, ", ")
}

func (q question) filter() string {
	text := fmt.Sprintf("booked_at >= date '%s' and booked_at < date '%s' + interval 1 day", q.From, q.To)
	if q.Country != "" {
		text += fmt.Sprintf(" and country = '%s'", q.Country)
	}
	return text
}

// kept is contribution bounding in SQL (dp/bounding says it in Go): cells are what one (customer, block) has in one partition; of these the Bound
// with the smallest hashes count. The hash is DuckDB's own. A block is a month.
func (q question) kept(table string) string {
	named, names := q.columns()
	return fmt.Sprintf(`with cells as (
  select customer, date_trunc('month', booked_at) as block, %s, sum(amount) as total from %s where %s group by all
), ranked as (
  select *, row_number() over (partition by customer, block order by hash(customer, block, %s)) as place from cells
), kept as (
  select *, least(greatest(total, %d), %d) as clamped from ranked where place <= %d
)
`, named, table, q.filter(), names, lower, upper, q.Bound)
}

// bounded computes what Discreet computes. A customer who is kept in several blocks counts once.
func (q question) bounded(table string) string {
	_, names := q.columns()
	return q.kept(table) + fmt.Sprintf("select %s, count(distinct customer), sum(clamped) from kept group by all", names)
}

// triples counts what bounding keeps.
func (q question) triples(table string) string { return q.kept(table) + "select count(*) from kept" }

// plain is what anybody asks who need not protect anybody.
func (q question) plain(table string) string {
	named, _ := q.columns()
	return fmt.Sprintf("select %s, count(*), sum(amount) from %s where %s group by all", named, table, q.filter())
}

// distinct is plain with customers instead of rows.
func (q question) distinct(table string) string {
	named, _ := q.columns()
	return fmt.Sprintf("select %s, count(distinct customer), sum(amount) from %s where %s group by all", named, table, q.filter())
}
