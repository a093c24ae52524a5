package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// TestWhatFollowsFromAnAnswerIsFree asks by day, and then for what follows, over HTTP and by the command: totals and a
// sub-range cost nothing, in every format, and another consumer pays.
func TestWhatFollowsFromAnAnswerIsFree(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	january := []string{"shop", "transactions,spend", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}
	query := func(more ...string) []string { return append(append([]string{"query"}, january...), more...) }
	var held, total wire.Release
	h.mustJSON(&held, team, query("--by", "category,time.day", "--epsilon", "0.2")...)

	loose := []string{"--by", "category", "--within", "transactions=10000,spend=1000000"}
	var plan wire.Plan
	h.mustJSON(&plan, team, query(append(loose, "--plan")...)...)
	if plan.FreeFrom != held.ID || plan.Privacy.MaxPartitions != held.Privacy.MaxPartitions || !strings.Contains(strings.Join(plan.Notes, " "), held.ID) {
		t.Errorf("the plan is free from %q, with %+v and notes %q", plan.FreeFrom, plan.Privacy, plan.Notes)
	}
	h.mustJSON(&total, team, query(loose...)...)
	if total.ID != "" || total.Reused == nil || !*total.Reused || len(total.DerivedFrom) != 1 || total.DerivedFrom[0] != held.ID || total.Charge.Epsilon.Float() != 0 {
		t.Fatalf("got %+v", total.ReleaseHead)
	}
	if total.Privacy.Epsilon != held.Privacy.Epsilon || total.Privacy.Delta != held.Privacy.Delta || plan.Privacy.Epsilon != held.Privacy.Epsilon {
		t.Errorf("it says that its draw cost %s, planned %s, and that cost %s", total.Privacy.Epsilon, plan.Privacy.Epsilon, held.Privacy.Epsilon)
	}
	want := map[string]float64{}
	for _, g := range held.Groups {
		want[g.Key["category"]] += g.Values["spend"].Value
	}
	for _, g := range total.Groups {
		if v := g.Values["spend"]; v.Value != want[g.Key["category"]] || v.SD < held.Groups[0].Values["spend"].SD*5.5 || plan.Expected["spend"].SD != v.SD {
			t.Errorf("%s: %+v, its days %v; expected %+v", g.Key["category"], v, want[g.Key["category"]], plan.Expected["spend"])
		}
	}

	// By the command the shapes are those of a release that the server writes.
	csv := strings.Split(h.must(team, query(append(loose, "--format", "csv")...)...), "\n")
	stored := strings.Split(h.must(team, "release", "show", held.ID, "--format", "csv"), "\n")
	if csv[0] != strings.Replace(stored[0], "category,time.day", "category", 1) || len(csv) != len(total.Groups)+2 {
		t.Errorf("as CSV: %q, a release %q", csv, stored[0])
	}
	lines := strings.Split(strings.TrimSpace(h.must(team, query(append(loose, "--format", "ndjson")...)...)), "\n")
	var group wire.Group
	if err := json.Unmarshal([]byte(lines[0]), &group); err != nil || len(lines) != len(total.Groups) || group.Values["spend"] != total.Groups[0].Values["spend"] {
		t.Errorf("as NDJSON: %q, %v", lines, err)
	}
	if table := h.must(team, query(loose...)...); !strings.Contains(table, "derived     from "+held.ID) || strings.Contains(table, "release     ,") {
		t.Errorf("printed %s", table)
	}
	if list := h.must(team, "release", "list"); strings.Count(list, "rel_") != 1 {
		t.Errorf("what was derived is listed: %s", list)
	}

	// At a price, the answer is as exact as that buys; the plan offers what is held.
	var offered wire.Plan
	h.mustJSON(&offered, team, query("--by", "category", "--plan")...)
	if offered.FreeFrom != "" || len(offered.Alternatives) == 0 || !strings.Contains(offered.Alternatives[0].Change, held.ID) || offered.Alternatives[0].Epsilon.Float() != 0 {
		t.Errorf("offered %+v", offered.Alternatives)
	}
	// Another consumer does not hold it.
	other := h.hire("other", dp.Analyst, "product-analytics")
	h.allot("other", "shop", "5", "1e-9")
	var paid wire.Release
	h.mustJSON(&paid, other, query(loose...)...)
	if paid.ID == "" || *paid.Reused || paid.Charge.Epsilon.Float() == 0 {
		t.Errorf("another consumer got %+v", paid.ReleaseHead)
	}
	// New rows end it.
	h.must(custodian, "load", "shop", h.file("more.csv", shopRows+"\n"), "--name", "more", "--from", "2026-01-01", "--to", "2026-03-31")
	var after wire.Plan
	h.mustJSON(&after, team, query(append(loose, "--plan")...)...)
	if after.FreeFrom != "" {
		t.Errorf("over older rows it is free from %s", after.FreeFrom)
	}
}

// TestFiguresAreComparedByWhoHoldsThem over HTTP and by the command.
func TestFiguresAreComparedByWhoHoldsThem(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	ask := func(from, to string, more ...string) (r wire.Release) {
		t.Helper()
		h.mustJSON(&r, team, append([]string{"query", "shop", "transactions,spend", "--from", from, "--to", to, "--purpose", "product-analytics", "--by", "category"}, more...)...)
		return r
	}
	january, february := ask("2026-01-01", "2026-01-31"), ask("2026-02-01", "2026-02-28")
	var whole wire.Compared
	h.mustJSON(&whole, team, "release", "compare", january.ID, february.ID, "--confidence", "0.9")
	if len(whole.Cells) != 2*len(january.Groups) || whole.As != "difference" || whole.Confidence != "0.9" {
		t.Fatalf("compared %+v", whole)
	}
	for _, c := range whole.Cells {
		if c.Change.Value != c.To.Value-c.From.Value || *c.Change.Low >= c.Change.Value || c.Verdict != "unclear" {
			t.Errorf("%+v", c)
		}
	}
	var one wire.Compared
	h.mustJSON(&one, team, "release", "compare", january.ID, "--metric", "spend", "--group", "category=grocery", "--to-group", "category=travel", "--ratio")
	if len(one.Cells) != 1 || one.Cells[0].Change.Value < 6.6 || one.Cells[0].ToKey["category"] != "travel" || one.As != "ratio" {
		t.Errorf("a ratio of two groups: %+v", one)
	}
	if table := h.must(team, "release", "compare", january.ID, february.ID, "--metric", "spend"); !strings.Contains(table, "category=grocery") || !strings.Contains(table, "unclear") || !strings.Contains(table, "each by itself") {
		t.Errorf("printed %s", table)
	}
	if r := h.run(team, "release", "compare", january.ID); r.code != exitUsage || !strings.Contains(r.stderr, "exactly 0") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("with itself: %+v", r)
	}
	other := h.hire("other", dp.Analyst, "product-analytics")
	if r := h.run(other, "release", "compare", january.ID, february.ID); r.code != exitFailed || !strings.Contains(r.stderr, "release") {
		t.Errorf("by another consumer: %+v", r)
	}
	var budget wire.Budget
	h.mustJSON(&budget, team, "budget", "shop")
	for _, e := range budget.Accounts {
		if e.Spent.Epsilon != january.Charge.Epsilon && e.Spent.Epsilon != february.Charge.Epsilon {
			t.Errorf("comparing cost: %+v", budget.Accounts)
		}
	}
}

func TestASharperDrawIsShownBesideWhatAllDrawsSay(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	ask := []string{"query", "shop", "customers,spend", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--by", "category"}
	if first := h.must(team, append(ask, "--epsilon", "0.2")...); strings.Contains(first, "combined") {
		t.Errorf("one draw is combined: %s", first)
	}
	var sharper wire.Release
	h.mustJSON(&sharper, team, append(ask, "--epsilon", "0.4")...)
	for _, g := range sharper.Groups {
		for metric, v := range g.Values {
			if v.Combined == nil || v.Combined.SD >= v.SD || v.Combined.High-v.Combined.Low >= v.High-v.Low || v.Combined.Value-v.Value > 1e-9 || v.Value-v.Combined.Value > 1e-9 {
				t.Errorf("%s: %+v, combined %+v", metric, v, v.Combined)
			}
		}
	}
	if table := h.must(team, append(ask, "--epsilon", "0.3", "--fresh")...); strings.Count(table, "combined") < 2 || !strings.Contains(table, "did not prompt") {
		t.Errorf("printed %s", table)
	}
	var again wire.Release
	h.mustJSON(&again, team, "release", "show", sharper.ID)
	if v := again.Groups[0].Values["spend"]; v.Combined != nil || v.Value != sharper.Groups[0].Values["spend"].Value {
		t.Errorf("what is stored is not the draw alone: %+v", v)
	}
}
