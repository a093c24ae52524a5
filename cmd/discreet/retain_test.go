package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// retaining is the shop's policy with a retention.
func retaining(retain string) string { return shopPolicy + "retain: " + retain + "\n" }

// seasons gives rows of customers in January, February and March, each month with a city of its own.
func seasons(customers ...string) string {
	text := "customer,at,category,city,amount\n"
	for month, city := range []string{"city-of-january", "city-of-february", "city-of-march"} {
		for i, c := range customers {
			text += fmt.Sprintf("%s-%d,2026-%02d-%02d,grocery,%s,1\n", c, month+1, month+1, 1+i%28, city)
		}
	}
	return text
}

// The whole way of a retention: it is declared, what it will retire is shown, the day's run retires, and what is retired
// is in no file, answers nothing, takes no load and never comes back, while what was drawn of it stays.
func TestBlocksWhoseTimeIsOverLeaveFilesAndQuestions(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	now := time.Date(2026, 4, 10, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	started, stop := h.startAt(exact{}, clock)
	h.officer = keyIn(started)
	h.apply(retaining("12 months"))
	team, custodian, analyst := h.hire("team", dp.Product, "product-analytics"), h.hire("warehouse", dp.Custodian), h.hire("analyst", dp.Analyst, "product-analytics")
	h.allot("team", "shop", "3", "5e-10")
	h.allot("analyst", "shop", "3", "5e-10")
	h.must(custodian, "load", "shop", h.file("first.csv", seasons("ann", "bob")), "--from", "2026-01-01", "--to", "2026-03-31")
	ask := func(from, to string, more ...string) []string {
		return append([]string{"query", "shop", "transactions", "--from", from, "--to", to, "--purpose", "product-analytics"}, more...)
	}
	h.mustJSON(new(wire.Report), analyst, "report", "run", h.file("scheduled.yaml", "name: monthly\ndataset: shop\npurpose: product-analytics\nschedule: per_block\nfrom: 2026-04-01\nqueries:\n  - {name: total, metrics: [customers], epsilon: 0.1}\n"))
	gone := [][]byte{h.pseudonym("ann-1"), []byte("city-of-january")}
	kept := [][]byte{h.pseudonym("ann-2"), h.pseudonym("bob-3"), []byte("city-of-february"), []byte("city-of-march")}
	inFiles := func(when string, there bool) {
		t.Helper()
		for _, text := range gone {
			if found := filesWith(t, h.dir, text); len(found) > 0 != there {
				t.Errorf("%s: %q is in %v", when, text, found)
			}
		}
		for _, text := range kept {
			if len(filesWith(t, h.dir, text)) == 0 {
				t.Errorf("%s: %q is in no file", when, text)
			}
		}
	}
	inFiles("before", true)

	// A shorter retention acts with the next run, and the officer sees what on.
	for retain, says := range map[string]string{"0 months": "not a length of time", "2 weeks": "24 months", "1200 years": "1200"} {
		h.fails(h.officer, exitUsage, says, "dataset", "apply", h.file("wrong.yaml", retaining(retain)), "--reason", "law")
	}
	text := h.must(h.officer, "dataset", "apply", h.file("policy.yaml", retaining("2 months")), "--reason", "law")
	if !strings.Contains(text, "every month that ends before 2026-02-01") || !strings.Contains(text, "retains           rows for 2 months") {
		t.Errorf("the change shows\n%s", text)
	}
	var held wire.Release // until then nothing is retired
	h.mustJSON(&held, team, ask("2026-01-01", "2026-01-31", "--by", "time.day", "--epsilon", "0.5")...)
	h.must(custodian, "erase", "--now")
	retired := func() (r wire.Dataset) { h.mustJSON(&r, h.officer, "dataset", "show", "shop"); return r }
	for deadline := time.Now().Add(hang); ; time.Sleep(10 * time.Millisecond) {
		if r := retired().Retention; r != nil && r.Gone {
			if r.KeptFrom != "2026-02-01" || !r.RetiredAt.Equal(now) || r.NextKeptFrom != "" {
				t.Errorf("retired is %+v", r)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is retired")
		}
	}
	inFiles("after", false)
	for who, says := range map[string]string{h.officer: "since 2026-04-10; no file holds", team: "since 2026-04-10\n"} {
		if text := h.must(who, "dataset", "show", "shop"); !strings.Contains(text, "what ends before 2026-02-01, "+says) {
			t.Errorf("the dataset is shown as\n%s", text)
		}
	}

	// Questions are refused, free; what was drawn answers what it answered before.
	var before, after wire.Budget
	h.mustJSON(&before, team, "budget")
	for _, more := range [][]string{{"--epsilon", "0.4"}, {"--epsilon", "0.4", "--plan"}, {"--by", "time.day", "--epsilon", "0.5", "--fresh"}} {
		h.fails(team, exitUsage, "ask from 2026-02-01 on", ask("2026-01-01", "2026-02-28", more...)...)
	}
	report := h.file("report.yaml", "name: again\ndataset: shop\npurpose: product-analytics\nfrom: 2026-01-01\nto: 2026-02-28\nqueries:\n  - {name: total, metrics: [customers], epsilon: 0.1}\n")
	for _, more := range [][]string{nil, {"--plan"}} {
		h.fails(analyst, exitUsage, "the block 2026-01, retired since 2026-04-10", append([]string{"report", "run", report}, more...)...)
	}
	var again, total wire.Release
	h.mustJSON(&again, team, ask("2026-01-01", "2026-01-31", "--by", "time.day", "--epsilon", "0.5")...)
	h.mustJSON(&total, team, ask("2026-01-01", "2026-01-31", "--within", "transactions=1000")...)
	if again.ID != held.ID || len(total.DerivedFrom) != 1 || total.Groups[0].Values["transactions"].Value != 2 {
		t.Errorf("what is held answers %+v and %+v", again.ReleaseHead, total)
	}
	h.must(team, "release", "show", held.ID)
	if h.mustJSON(&after, team, "budget"); len(after.Charges) != len(before.Charges) {
		t.Errorf("refusals were charged: %+v", after.Charges)
	}
	h.must(team, ask("2026-02-01", "2026-03-31", "--epsilon", "0.2")...)

	// Loads of it are refused, and rows of it rejected with their lines.
	h.fails(custodian, exitUsage, "load from 2026-02-01 on", "load", "shop", h.file("late.csv", seasons("cid")), "--from", "2026-01-01", "--to", "2026-03-31")
	var reports []wire.LoadReport
	h.mustJSON(&reports, custodian, "load", "shop", h.file("late.csv", seasons("cid")), "--from", "2026-02-01", "--to", "2026-03-31")
	if r := reports[0]; r.Accepted != 2 || r.Rejected != 1 || r.Rejects[0].Line != 2 || !strings.Contains(r.Rejects[0].Reason, "retired") || strings.Join(r.Load.Blocks, " ") != "2026-02 2026-03" {
		t.Errorf("loaded %+v", r)
	}

	// Nothing comes back, whatever the policy says next; and the next month goes with its day's run, after a restart too.
	h.apply(shopPolicy)
	if r := retired().Retention; r == nil || r.KeptFrom != "2026-02-01" {
		t.Errorf("without retain, retired is %+v", r)
	}
	h.fails(team, exitUsage, "retired", ask("2026-01-01", "2026-01-31", "--epsilon", "0.4")...)
	h.apply(retaining("2 months"))
	stop()
	now = time.Date(2026, 5, 1, 2, 59, 0, 0, time.UTC)
	_, stop = h.startAt(exact{}, clock)
	for deadline := time.Now().Add(hang); retired().Retention.KeptFrom != "2026-03-01" || !retired().Retention.Gone; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("retired is %+v", retired().Retention)
		}
	}
	if found := filesWith(t, h.dir, []byte("city-of-february"), h.pseudonym("ann-2")); len(found) > 0 {
		t.Errorf("February is in %v", found)
	}
	stop()
	if r := h.offlineAt(clock, "verify"); r.code != exitDone || !strings.Contains(r.stdout, "Every entry fits.") {
		t.Errorf("verify: %+v", r)
	}
	if found := filesWith(t, h.dir, []byte("city-of-january"), []byte("city-of-february"), h.pseudonym("ann-1")); len(found) > 0 {
		t.Errorf("once the server has stopped, they are in %v", found)
	}
}
