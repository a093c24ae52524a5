package main

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// incomes writes the purchases with the department of each product and the income of each household that told it.
func incomes(t *testing.T) string {
	t.Helper()
	of := map[string]string{}
	for _, r := range records(t, realData(t, "completejourney/demographics.csv")) {
		of[r["household_id"]] = r["income"]
	}
	path := filepath.Join(t.TempDir(), "incomes.csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(f)
	header := []string{"household_id", "department", "quantity", "sales_value", "transaction_timestamp"}
	_ = w.Write(append(header, "income"))
	for _, r := range records(t, departments(t)) {
		var record []string
		for _, name := range header {
			record = append(record, r[name])
		}
		_ = w.Write(append(record, of[r["household_id"]]))
	}
	w.Flush()
	if err := w.Error(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const journeyReport = `
name: Groceries
dataset: completejourney-departments
purpose: reporting
from: 2017-02-01
to: 2017-04-30
epsilon: 2
delta: 1e-7
queries:
  - {name: customers, metrics: [customers], by: [time.month]}
  - name: weekly
    metrics: [spend]
    by: [time.week, department, income]
    reconcile: [[time.week, department], [time.week, income], [time.week], []]
`

// TestReportOfGroceriesAddsUp: weekly spend by department by household income, of three months, with noise. Every total is
// the sum of its parts.
func TestReportOfGroceriesAddsUp(t *testing.T) {
	path := incomes(t)
	policy := example(t, "completejourney-departments", "measures:\n",
		"  - {name: income, missing: unknown, values: [unknown, Under 15K, 15-24K, 25-34K, 35-49K, 50-74K, 75-99K, 100-124K, 125-149K, 150-174K, 175-199K, 200-249K, 250K+]}\nmeasures:\n")
	h, analyst, _ := loaded(t, mechanism.Secure(), policy, path)
	var report wire.Report
	h.mustJSON(&report, analyst, "report", "run", h.file("groceries.yaml", journeyReport))
	if report.State != "done" || len(report.Runs) != 1 {
		t.Fatalf("the report is %+v", report)
	}
	var weekly wire.Release
	h.mustJSON(&weekly, analyst, "release", "show", report.Runs[0].Parts[1].Release)

	sums := make([]map[string]float64, 5)
	for level := range sums {
		sums[level] = map[string]float64{}
	}
	levels := append([][]string{weekly.By}, weekly.Levels...)
	if len(levels) != 5 {
		t.Fatalf("there are %d levels", len(levels))
	}
	name := func(g wire.Group, by []string) (text string) {
		for _, part := range keyOf(g, by) {
			text += part + "\x00"
		}
		return text
	}
	totals := 0
	for _, g := range weekly.Groups {
		if g.Level == 0 {
			for level, by := range levels {
				sums[level][name(g, by)] += g.Values["spend"].Value
			}
		}
	}
	for _, g := range weekly.Groups {
		sum, v := sums[g.Level][name(g, levels[g.Level])], g.Values["spend"]
		if math.Abs(sum-v.Value) > 0.01 {
			t.Errorf("level %d, %v is %v, its parts add up to %v", g.Level, g.Key, v.Value, sum)
		}
		if g.Level > 0 {
			totals++
		}
	}
	const weeks, departments, brackets = 13, 33, 13
	if finest := len(sums[0]); finest != weeks*departments*brackets || totals != weeks*(departments+brackets+1)+1 {
		t.Errorf("%d finest groups and %d totals", finest, totals)
	}
}
