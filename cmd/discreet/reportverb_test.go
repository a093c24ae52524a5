package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

const reportFile = `
name: January
dataset: shop
purpose: product-analytics
from: 2026-01-01
to: 2026-01-31
epsilon: 1.5
delta: 1e-11
weights: {categories: 2}
queries:
  - {name: total, metrics: [customers, spend]}
  - {name: categories, metrics: [customers, spend], by: [category]}
`

// newAnalyst is a shop with its rows and an analyst who may spend epsilon 3 on each month.
func newAnalyst(t *testing.T) (h *harness, analyst, custodian string) {
	t.Helper()
	h, _, custodian = newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows), "--from", "2026-01-01", "--to", "2026-02-28")
	analyst = h.hire("analyst", dp.Analyst, "product-analytics")
	h.allot("analyst", "shop", "3", "5e-10")
	return h, analyst, custodian
}

func TestReportIsMadeFromAFile(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	file := h.file("january.yaml", reportFile)
	var plan wire.ReportPlan
	h.mustJSON(&plan, analyst, "report", "run", file, "--plan")
	if len(plan.Queries) != 2 || len(plan.Charges) != 1 || plan.Charges[0].Epsilon != "1.5" || plan.Left[0].SimilarQueries == nil || *plan.Left[0].SimilarQueries != 2 {
		t.Errorf("the plan is %+v", plan)
	}
	var r wire.Report
	h.mustJSON(&r, analyst, "report", "run", file, "--idempotency-key", "january")
	if r.State != "done" || len(r.Runs) != 1 || len(r.Runs[0].Charges) != 1 || r.Runs[0].Charges[0] != plan.Charges[0] {
		t.Fatalf("the report is %+v", r)
	}
	var answer wire.Release
	h.mustJSON(&answer, analyst, "release", "show", r.Runs[0].Parts[1].Release)
	if g := answer.Groups[0]; g.Key["category"] != "grocery" || g.Values["spend"].Value != 15 {
		t.Errorf("its second answer is %+v", answer)
	}
	var again wire.Report
	h.mustJSON(&again, analyst, "report", "run", file, "--idempotency-key", "january")
	if again.ID != r.ID {
		t.Errorf("the same report under the same key is %s, then %s", r.ID, again.ID)
	}
	// What is held costs nothing.
	h.mustJSON(&again, analyst, "report", "run", file)
	if again.ID == r.ID || again.State != "done" || len(again.Runs[0].Charges) != 0 || again.Runs[0].Parts[0].Release != r.Runs[0].Parts[0].Release {
		t.Errorf("the same report made anew is %+v", again)
	}
	var budget wire.Budget
	h.mustJSON(&budget, analyst, "budget", "shop")
	if budget.Accounts[0].Spent.Epsilon != "1.5" || len(budget.Charges) != 2 || budget.Charges[0].Report != r.ID {
		t.Errorf("the budget is %+v", budget)
	}
	if table := h.must(analyst, "report", "list"); !strings.Contains(table, r.ID) || !strings.Contains(table, "2 of 2") {
		t.Errorf("the list is\n%s", table)
	}
	if table := h.must(analyst, "report", "show", r.ID); !strings.Contains(table, "categories") || !strings.Contains(table, "epsilon 1.5") || !strings.Contains(table, r.ID) {
		t.Errorf("it is shown as\n%s", table)
	}
}

func TestReportIsExported(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	file := strings.Replace(reportFile, "by: [category]}", "by: [category, time.week]}\n  - {name: levels, metrics: [spend], by: [category, time.week], reconcile: [[category], []], non_negative: true}", 1)
	var r wire.Report
	h.mustJSON(&r, analyst, "report", "run", h.file("january.yaml", file))
	csv := h.must(analyst, "report", "show", r.ID, "--format", "csv")
	if !strings.HasPrefix(csv, "run,question,dataset,release,level,category,time.week,metric,value,low,high,sd,stale\n1,total,shop,rel_") || !strings.Contains(csv, ",2,,,spend,115.99,") {
		t.Errorf("as CSV it is\n%s", csv)
	}
	if ndjson := h.must(analyst, "report", "show", r.ID, "--format", "ndjson"); strings.Count(ndjson, "\n") != strings.Count(csv, "\n")-1 {
		t.Errorf("as NDJSON it is\n%s", ndjson)
	}
	for format, begins := range map[string]string{"html": "<!doctype html>", "arrow": "\xff\xff\xff\xff"} {
		out := filepath.Join(t.TempDir(), "report."+format)
		if printed := h.must(analyst, "report", "show", r.ID, "--format", format, "--out", out); printed != "" {
			t.Errorf("it prints %q", printed)
		}
		if text, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(text), begins) {
			t.Errorf("as %s it is %.40q, %v", format, text, err)
		}
	}
}

func TestReleaseIsShownInEveryFormat(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	var r wire.Release
	h.mustJSON(&r, analyst, "query", "shop", "customers", "spend", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "1", "--purpose", "product-analytics")
	printed := map[string]string{}
	for format, begins := range map[string]string{"table": "category", "json": "{", "csv": "category,customers,customers_low,", "ndjson": `{"key":{"category":"grocery"}`, "arrow": "\xff\xff\xff\xff"} {
		text := h.must(analyst, "release", "show", r.ID, "--format", format)
		if !strings.HasPrefix(text, begins) {
			t.Errorf("as %s it is %.60q", format, text)
		}
		out := filepath.Join(t.TempDir(), "release")
		if said := h.must(analyst, "release", "show", r.ID, "--format", format, "--output", out); said != "" {
			t.Errorf("beside the file it prints %q", said)
		}
		if file, err := os.ReadFile(out); err != nil || string(file) != text {
			t.Errorf("in a file, %s is %.60q, %v", format, file, err)
		}
		printed[format] = text
	}
	in, err := ipc.NewReader(strings.NewReader(printed["arrow"]))
	if err != nil || !in.Next() {
		t.Fatal(err)
	}
	record := in.RecordBatch()
	if spend, ok := record.Column(5).(*array.Float64); !ok || record.NumRows() != 3 || record.ColumnName(5) != "spend" || spend.Value(0) != 15 || record.ColumnName(8) != "spend_sd" {
		t.Errorf("the Arrow stream has %v", record)
	}
}

// TestFileStaysAsItWasUntilAllIsThere: a file of last month is not emptied by a report that cannot be read.
func TestFileStaysAsItWasUntilAllIsThere(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "march.html")
	if err := os.WriteFile(out, []byte("of last month"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"report", "show", "rep_none", "--format", "html"}, {"report", "show", "rep_none"}, {"release", "show", "rel_none", "--format", "arrow"}} {
		if r := h.run(analyst, append(args, "--out", out)...); r.code != exitFailed || !strings.Contains(r.stderr, "not-found") {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	if text, err := os.ReadFile(out); err != nil || string(text) != "of last month" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	if r := h.run(analyst, "release", "show", "rel_none", "--out", filepath.Join(dir, "none", "x")); r.code != exitFailed && r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("into no directory: exit %d, %s", r.code, r.stderr)
	}
	if said := h.must(analyst, "report", "list", "--format", "csv"); !strings.HasPrefix(said, "id,") {
		t.Errorf("listed as %q", said)
	}
}

func TestStaleAnswersOfAReportAreMarked(t *testing.T) {
	h, analyst, custodian := newAnalyst(t)
	var r wire.Report
	h.mustJSON(&r, analyst, "report", "run", h.file("january.yaml", reportFile))
	show := func() (table, csv, page string) {
		return h.must(analyst, "report", "show", r.ID), h.must(analyst, "report", "show", r.ID, "--format", "csv"), h.must(analyst, "report", "show", r.ID, "--format", "html")
	}
	if table, csv, page := show(); strings.Contains(table, "stale") || strings.Contains(csv, ",true") || strings.Contains(page, "Rows were loaded") {
		t.Errorf("before a load it is\n%s%s", table, csv)
	}
	h.must(custodian, "load", "shop", h.file("february.csv", "customer,at,category,city,amount\nz,2026-02-05,grocery,Bonn,1\n"), "--from", "2026-02-01", "--to", "2026-02-28")
	if table, _, _ := show(); strings.Contains(table, "stale") {
		t.Errorf("after a load of another month it is\n%s", table)
	}
	h.must(custodian, "load", "shop", h.file("january.csv", "customer,at,category,city,amount\nz,2026-01-05,grocery,Bonn,1\n"), "--from", "2026-01-01", "--to", "2026-01-31")
	table, csv, page := show()
	if strings.Count(table, "done, stale") != 2 || !strings.Contains(table, "fresh: true") || strings.Contains(csv, ",false") || strings.Count(page, "Rows were loaded") != 2 {
		t.Errorf("after a load it is\n%s%s", table, csv)
	}
	if plan := h.must(analyst, "report", "run", h.file("january.yaml", reportFile), "--plan"); strings.Count(plan, "held, stale") != 4 {
		t.Errorf("planned again it is\n%s", plan)
	}
	january := []string{"query", "shop", "customers", "spend", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.5", "--delta", "0.000000000003333333", "--purpose", "product-analytics", "--plan"}
	if plan := h.must(analyst, january...); !strings.Contains(plan, "free from   "+r.Runs[0].Parts[0].Release) || !strings.Contains(plan, "rows were loaded since") {
		t.Errorf("one of its questions is planned as\n%s", plan)
	}
	// The same report again says of itself that it was answered over older rows.
	var again wire.Report
	h.mustJSON(&again, analyst, "report", "run", h.file("again.yaml", reportFile))
	if parts := again.Runs[0].Parts; len(again.Runs[0].Charges) != 0 || !parts[0].Stale || parts[0].Release != r.Runs[0].Parts[0].Release {
		t.Errorf("asked again it is %+v", again)
	}
}

func TestReportIsRefusedWithAllThatIsWrong(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	bad := strings.Replace(strings.Replace(reportFile, "by: [category]", "by: [categry]", 1), "[customers, spend]}", "[customers, spendings]}", 1)
	for name, c := range map[string]struct {
		file string
		code int
		says []string
	}{
		"two questions":   {bad, exitUsage, []string{"queries[0].metrics[1]", "queries[1].by[0]"}},
		"too dear":        {strings.Replace(reportFile, "1.5", "3.1", 1), exitRefused, []string{"budget-exhausted", "3.1", "nothing was charged"}},
		"unknown field":   {reportFile + "epsilons: 3\n", exitUsage, []string{"epsilons"}},
		"not a number":    {strings.Replace(reportFile, "1.5", "much", 1), exitUsage, []string{"expected a number"}},
		"no YAML":         {"a: [", exitUsage, []string{"not YAML"}},
		"the same twice":  {strings.Replace(reportFile, "queries:\n", "queries:\n  - {metrics: [customers, spend], epsilon: 0.5, delta: 2.5e-12}\n", 1) + "  - {metrics: [spend, customers], epsilon: 0.5, delta: 2.5e-12}\n", exitUsage, []string{"asks what queries[0] asks"}},
		"another purpose": {strings.Replace(reportFile, "product-analytics", "ads", 1), exitRefused, []string{"purpose-not-allowed"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.run(analyst, "report", "run", h.file("report.yaml", c.file))
			if r.code != c.code {
				t.Errorf("exit %d, want %d: %s", r.code, c.code, r.stderr)
			}
			for _, text := range c.says {
				if !strings.Contains(r.stderr, text) {
					t.Errorf("it does not say %q: %s", text, r.stderr)
				}
			}
		})
	}
	var budget wire.Budget
	h.mustJSON(&budget, analyst, "budget", "shop")
	if len(budget.Accounts) != 0 || len(budget.Charges) != 0 {
		t.Errorf("refused reports spent %+v", budget)
	}
}

func TestScheduledReportIsMadeForEveryBlockThatIsLoaded(t *testing.T) {
	h, analyst, custodian := newAnalyst(t)
	scheduled := strings.Replace(strings.Replace(reportFile, "to: 2026-01-31\n", "schedule: per_block\n", 1), "epsilon: 1.5", "epsilon: 2", 1)
	var r wire.Report
	h.mustJSON(&r, analyst, "report", "run", h.file("monthly.yaml", scheduled))
	if !r.Scheduled {
		t.Fatalf("it is %+v", r)
	}
	runs := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			h.mustJSON(&r, analyst, "report", "show", r.ID)
			if len(r.Runs) == want && r.State == "queued" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("after some time it is %+v", r)
			}
		}
	}
	runs(2) // January and February were loaded and have ended
	// A month that is loaded again has had its run; one that is new gets one, and one that does not fit the budget is
	// refused for good.
	h.must(custodian, "load", "shop", h.file("again.csv", "customer,at,category,city,amount\nz,2026-02-05,grocery,Bonn,1\n"), "--from", "2026-02-01", "--to", "2026-02-28")
	h.must(h.officer, "allotment", "set", "analyst", "shop", "--epsilon", "3", "--delta", "5e-10", "--paused", "--reason", "test")
	h.must(custodian, "load", "shop", h.file("march.csv", "customer,at,category,city,amount\nz,2026-03-05,grocery,Bonn,7\n"), "--from", "2026-03-01", "--to", "2026-03-31")
	runs(3)
	states := []string{}
	for i, run := range r.Runs {
		states = append(states, run.Block+" "+run.State)
		if len(run.Parts) != []int{2, 2, 0}[i] {
			t.Errorf("run %d is %+v", i+1, run)
		}
	}
	if got := strings.Join(states, ", "); got != "2026-01 done, 2026-02 done, 2026-03 failed" || r.Runs[2].Refused == nil || r.Runs[2].Refused.Code != "forbidden" {
		t.Errorf("its runs are %s: %+v", got, r.Runs[2])
	}
	h.mustJSON(&r, analyst, "report", "cancel", r.ID)
	if r.State != "cancelled" {
		t.Errorf("cancelled it is %+v", r)
	}
	h.must(custodian, "load", "shop", h.file("april.csv", "customer,at,category,city,amount\nz,2026-04-05,grocery,Bonn,7\n"), "--from", "2026-04-01", "--to", "2026-04-30")
	time.Sleep(100 * time.Millisecond)
	h.mustJSON(&r, analyst, "report", "show", r.ID)
	if len(r.Runs) != 3 {
		t.Errorf("after its end it has %d runs", len(r.Runs))
	}
}

// TestReportAsksAboutCustomers: what a report keeps of a question is the question, whatever it is made of.
func TestReportAsksAboutCustomers(t *testing.T) {
	h, analyst, _ := newAnalyst(t)
	var r wire.Report
	h.mustJSON(&r, analyst, "report", "run", h.file("customers.yaml", `
name: customers
dataset: shop
purpose: product-analytics
from: 2026-01-01
to: 2026-02-28
epsilon: 1
delta: 0
queries:
  - {name: first, metrics: [customers], by: [first.month, time.month], first: {where: []}, where: [{field: category, eq: grocery}]}
  - {name: own, metrics: [customers], by: [first.month, time.month], where: [{field: category, eq: grocery}]}
  - {name: cohort, metrics: [customers], cohorts: [{where: [{field: category, in: []}], at_least: 1}]}
  - {name: regulars, metrics: [customers], cohorts: [{at_least: 2}]}
  - {name: funnel, metrics: [customers], by: [funnel.step], funnel: {steps: [{where: [{field: category, eq: grocery}]}, {where: [{field: category, eq: travel}]}], within: 7d}}
`))
	if r.State != "done" || len(r.Runs[0].Parts) != 5 {
		t.Fatalf("it ends as %+v", r)
	}
	want := []float64{-1, -1, 0, 1, -1} // nobody is in an empty cohort; one has two rows
	for i, p := range r.Runs[0].Parts {
		var answer wire.Release
		h.mustJSON(&answer, analyst, "release", "show", p.Release)
		if v := answer.Groups[0].Values["customers"].Value; want[i] >= 0 && v != want[i] {
			t.Errorf("%s is %v, want %v", p.Name, v, want[i])
		}
	}
	if csv := h.must(analyst, "report", "show", r.ID, "--format", "csv"); !strings.Contains(csv, "funnel.step") || !strings.Contains(csv, "first.month") {
		t.Errorf("as CSV it is\n%s", csv)
	}
}
