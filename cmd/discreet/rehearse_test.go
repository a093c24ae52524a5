package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

const rehearsedPolicy = `
name: shop
kind: transactions
population: 10000
unit: {column: who, block: month}
time: {column: when, timezone: UTC, format: date}
dimensions:
  - {name: category, values: [grocery, travel, dining]}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 100}
metrics:
  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 150}
bounds: {max_partitions: 2, max_rows: 4}
cap: {epsilon: 3, delta: 1e-6}
default: {epsilon: 0.1, delta: 1e-8}
purposes: [research]
`

// rehearsal is what the verb writes as JSON.
type rehearsal struct {
	Imagined  bool
	Notice    string
	Rows      int
	Refused   []string
	Rehearsed []struct {
		Bounds, Metric string
		Epsilon        json.Number
		Within         *float64 `json:"expected_within"`
		Touched        *float64 `json:"customers_touched"`
		RowsLost       *float64 `json:"rows_lost"`
		TotalLost      *float64 `json:"total_lost"`
	}
}

func rehearse(t *testing.T, args ...string) (got rehearsal) {
	t.Helper()
	(&harness{t: t}).mustJSON(&got, "", append([]string{"dataset", "rehearse"}, args...)...) // needs no server
	return got
}

func (r rehearsal) find(t *testing.T, bounds, metric string) (within, touched, rowsLost, totalLost float64) {
	t.Helper()
	for _, line := range r.Rehearsed {
		if line.Bounds == bounds && line.Metric == metric {
			return *line.Within, *line.Touched, *line.RowsLost, *line.TotalLost
		}
	}
	t.Fatalf("nothing is said of %s under %s: %+v", metric, bounds, r.Rehearsed)
	return 0, 0, 0, 0
}

// TestRehearsedLossesAreThoseOfTheImaginedRows adds them up from the CSV that the same flags imagine, where they do not
// depend on which rows are kept.
func TestRehearsedLossesAreThoseOfTheImaginedRows(t *testing.T) {
	h := &harness{t: t}
	file := h.file("shop.yaml", rehearsedPolicy)
	size := []string{file, "--customers", "500", "--from", "2026-01-01", "--to", "2026-02-28", "--rows-per-month", "9", "--seed", "5"}
	read, err := csv.NewReader(strings.NewReader(h.must("", append([]string{"dataset", "imagine"}, size...)...))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	type cell struct{ who, month, category string }
	rows, spent, customers := map[cell]int{}, map[cell]float64{}, map[string]bool{}
	all, paid := 0, 0.0
	for _, r := range read[1:] {
		amount, err := strconv.ParseFloat(r[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		in := cell{r[0], r[1][:7], r[2]}
		rows[in]++
		spent[in] += amount
		customers[r[0]] = true
		all++
		paid += amount
	}
	// Three groups and as many as four may be kept: nothing is lost to max_partitions.
	got := rehearse(t, append(size, "spend", "transactions", "--by", "category", "--epsilon", "1")...)
	if !got.Imagined || got.Rows != all || !strings.Contains(got.Notice, "tell nothing of real") {
		t.Errorf("%d rows, %q, want %d", got.Rows, got.Notice, all)
	}
	loss := func(most int, clamp float64) (touched, rowsLost, totalLost float64) {
		by := map[string]bool{}
		for in, n := range rows {
			if n > most {
				rowsLost += float64(n - most)
				by[in.who] = true
			}
			if spent[in] > clamp {
				totalLost += spent[in] - clamp
				by[in.who] = true
			}
		}
		return float64(len(by)) / float64(len(customers)), rowsLost / float64(all), totalLost / paid
	}
	// Once ungrouped: every row is in the one group, so that only max_rows and clamps are felt.
	for in, n := range rows {
		if in.category == "" {
			continue
		}
		whole := cell{in.who, in.month, ""}
		rows[whole] += n
		spent[whole] += spent[in]
		delete(rows, in)
		delete(spent, in)
	}
	flat := rehearse(t, append(size, "spend", "transactions", "--epsilon", "1")...)
	const alike = 1e-9
	for bounds, most := range map[string]int{"as they are": 4, "max_rows 1": 1, "max_rows 2": 2, "max_rows 8": 8} {
		_, touched, lost, total := flat.find(t, bounds, "transactions")
		if wantTouched, want, _ := loss(most, math.Inf(1)); math.Abs(touched-wantTouched) > alike || math.Abs(lost-want) > alike || math.Abs(total-want) > alike || want == 0 {
			t.Errorf("transactions, %s: %v of customers, %v of rows, %v in all, want %v and %v", bounds, touched, lost, total, wantTouched, want)
		}
	}
	for bounds, clamp := range map[string]float64{"as they are": 150, "spend 0 to 37.5": 37.5, "spend 0 to 75": 75, "spend 0 to 300": 300} {
		_, touched, lost, total := flat.find(t, bounds, "spend")
		if wantTouched, _, want := loss(math.MaxInt, clamp); math.Abs(touched-wantTouched) > alike || math.Abs(total-want) > alike || lost != 0 || want == 0 {
			t.Errorf("spend, %s: %v of customers, %v of rows, %v in all, want %v and %v", bounds, touched, lost, total, wantTouched, want)
		}
	}
	// Tighter bounds cost more of the rows, and less noise.
	within, _, lost, _ := got.find(t, "as they are", "spend")
	tighter, _, more, _ := got.find(t, "max_partitions 1", "spend")
	wider, _, less, _ := got.find(t, "max_partitions 4", "spend")
	if !(tighter < within && within < wider) || !(more > lost && lost > less) || less != 0 {
		t.Errorf("±%v, ±%v, ±%v at %v, %v, %v of rows lost", tighter, within, wider, more, lost, less)
	}
}

func TestRehearsedNoiseIsThatOfPlans(t *testing.T) {
	file := (&harness{t: t}).file("shop.yaml", rehearsedPolicy)
	policy, err := policyfile.Parse([]byte(strings.Replace(rehearsedPolicy, "max_rows: 4", "max_rows: 8", 1)), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(dp.Query{
		Dataset: "shop", Metrics: []string{"average_ticket", "transactions"}, From: "2026-01-01", To: "2026-01-31", Epsilon: "0.5", Purpose: "research",
	}, dp.VersionedPolicy{Policy: policy, Version: 1}, []dp.Budget{policy.Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	got := rehearse(t, file, "average_ticket,transactions", "--customers", "50", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.5")
	for _, m := range p.Metrics {
		if within, _, _, _ := got.find(t, "max_rows 8", m.Name); within != m.Within {
			t.Errorf("%s is within %v, want %v", m.Name, within, m.Within)
		}
	}
	// Where accuracy is asked for, it is the price that differs.
	exact := rehearse(t, file, "transactions", "--customers", "50", "--from", "2026-01-01", "--to", "2026-01-31", "--within", "transactions=300")
	prices := map[json.Number]bool{}
	for _, line := range exact.Rehearsed {
		prices[line.Epsilon] = true
	}
	if len(prices) < 3 {
		t.Errorf("%d different prices: %+v", len(prices), exact.Rehearsed)
	}
}

func TestEveryMetricOfEveryPolicyCanBeRehearsed(t *testing.T) {
	h := &harness{t: t}
	dir := filepath.Join("..", "..", "api", "policyfile", "examples")
	for _, args := range [][]string{
		{filepath.Join(dir, "pums.yaml"), "mean_age", "mean_income", "--by", "sex"},
		{filepath.Join(dir, "restaurant-week.yaml"), "visits", "revenue", "mean_stay", "--by", "day"},
		{filepath.Join(dir, "wikimedia-sessions.yaml"), "active_users", "sessions", "stickiness", "events", "--by", "page", "--from", "2026-01-01", "--to", "2026-01-31"},
		{h.file("awkward.yaml", fmt.Sprintf(awkwardPolicy, "Europe/Berlin", "unix")), "customers", "rows", "--by", "side,time.month", "--where", "amount>=1", "--from", "2026-01-01", "--to", "2026-03-31"},
		{h.file("banking.yaml", strings.Replace(rehearsedPolicy, "measures:", "measures:\n  - {name: balance, scale: 2, lower: -10, upper: 1000, kind: level}", 1)), "balance_mean", "balance_median", "median_ticket", "spend_share", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31"},
	} {
		got := rehearse(t, append(args, "--customers", "60")...)
		if len(got.Rehearsed) < 3 {
			t.Errorf("%v: %+v", args, got)
		}
		for _, line := range got.Rehearsed {
			for _, share := range []*float64{line.Touched, line.RowsLost, line.TotalLost} {
				if share != nil && !(*share >= 0 && *share <= 1) {
					t.Errorf("%v: %+v loses %v", args, line, *share)
				}
			}
		}
	}
}

func TestRehearsalSaysThatRowsAreImaginedInEveryFormat(t *testing.T) {
	h := &harness{t: t}
	file := h.file("shop.yaml", rehearsedPolicy)
	for format, says := range map[string]string{"table": "tell nothing of real ones", "json": "tell nothing of real ones", "csv": ",imagined\n", "ndjson": `"rows_are":"imagined"`} {
		out := h.must("", "dataset", "rehearse", file, "spend", "--customers", "50", "--from", "2026-01-01", "--to", "2026-01-31", "--format", format)
		if !strings.Contains(out, says) {
			t.Errorf("%s: %s", format, out)
		}
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"profit"}, "metrics[0]"},
		{[]string{"spend", "--epsilon", "much"}, "--epsilon"},
		{[]string{"spend", "--by", "who"}, "by"},
		{[]string{"spend", "--customers", "20000", "--rows-per-month", "200"}, "--customers"},
	} {
		out := h.run("", append([]string{"dataset", "rehearse", file, "--from", "2026-01-01", "--to", "2026-01-31"}, c.args...)...)
		if out.code != exitUsage || out.stdout != "" || strings.Count(out.stderr, "\n") != 1 || !strings.Contains(out.stderr, c.says) {
			t.Errorf("%v: exit %d, %s%s", c.args, out.code, out.stdout, out.stderr)
		}
	}
}
