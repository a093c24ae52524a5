package main

import (
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// fails calls the command, which must refuse with a code and one line that says something.
func (h *harness) fails(key string, code int, says string, args ...string) string {
	h.t.Helper()
	r := h.run(key, args...)
	if r.code != code || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
		h.t.Errorf("discreet %s: exit %d with %q, want %d and a line with %q", strings.Join(args, " "), r.code, r.stderr, code, says)
	}
	return r.stderr
}

func TestRefusedQuestionIsRequestedGrantedAndAnswered(t *testing.T) {
	h, stop := running(t)
	team, other := h.hire("team", dp.Product, "reporting"), h.hire("other", dp.Analyst, "reporting")
	var issued struct{ Text string }
	h.must(h.officer, "consumer", "add", "partner", "--role", "analyst", "--audience", "third-party", "--purposes", "reporting")
	h.mustJSON(&issued, h.officer, "key", "add", "partner")
	partner := issued.Text
	h.allot("team", "cards", "0.3", "0")
	h.allot("other", "cards", "0.5", "0")

	const question = `{"dataset": "cards", "metrics": ["rows"], "from": "2026-01-01", "to": "2026-01-31", "epsilon": 0.2, "purpose": "reporting"}`
	ask := func(epsilon, metric string) []string {
		return []string{"query", "cards", metric, "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", epsilon, "--purpose", "reporting"}
	}
	h.must(team, ask("0.25", "customers")...)
	h.must(other, ask("0.25", "customers")...) // is handed the draw of the team: the cap pays once
	h.must(other, ask("0.1", "rows")...)
	h.fails(team, exitRefused, "discreet request add", ask("0.2", "rows")...)

	// The team asks, and asks again.
	add := []string{"request", "add", "cards", "--epsilon", "0.9", "--max-epsilon-per-query", "0.3", "--reason", "the launch", "--query", h.file("question.json", question)}
	var made, again wire.BudgetRequest
	h.mustJSON(&made, team, add...)
	h.mustJSON(&again, team, add...)
	if made.ID == "" || again.ID != made.ID || made.State != "open" || made.Query == nil || made.Query.Price[0].Epsilon != "0.2" || made.Query.Purpose != "reporting" {
		t.Fatalf("made %+v, then %+v", made, again)
	}
	h.fails(team, exitFailed, "is open", "request", "add", "cards", "--epsilon", "1", "--reason", "the launch")
	if text := h.must(team, "budget"); !strings.Contains(text, made.ID) {
		t.Errorf("the team's budget does not show its request:\n%s", text)
	}

	// Nobody else sees it, nor a dataset that is not for them.
	for _, key := range []string{other, partner} {
		if text := h.must(key, "request", "list"); strings.Contains(text, made.ID) || strings.Contains(text, "team") {
			t.Errorf("another consumer lists\n%s", text)
		}
		h.fails(key, exitFailed, "not-found", "request", "show", made.ID)
		h.fails(key, exitFailed, "not-found", "request", "withdraw", made.ID)
		h.fails(key, exitRefused, "forbidden", "request", "decide", made.ID, "--grant", "--if-version", "1", "--reason", "x")
	}
	hidden := h.fails(partner, exitFailed, "not-found", "request", "add", "cards", "--epsilon", "1", "--reason", "x")
	if none := h.fails(partner, exitFailed, "not-found", "request", "add", "nothing", "--epsilon", "1", "--reason", "x"); none != hidden {
		t.Errorf("a hidden dataset is refused with %q, one that is not with %q", hidden, none)
	}

	// The officer looks: of the cap of 1, 0.25 and 0.1 are spent.
	if text := h.must(h.officer, "request", "list", "--state", "open", "--dataset", "cards", "--consumer", "team"); !strings.Contains(text, made.ID) {
		t.Errorf("the officer lists\n%s", text)
	}
	var seen wire.BudgetRequest
	h.mustJSON(&seen, h.officer, "request", "show", made.ID)
	g := seen.Grounds
	if g == nil || len(g.Blocks) != 1 || g.AllotmentVersion != 1 || len(g.Charges) != 1 || g.Charges[0].Epsilon != "0.25" || g.SimilarQueries != 3 {
		t.Fatalf("the officer sees %+v", g)
	}
	if b := g.Blocks[0]; b.Block != "2026-01" || b.Spent.Epsilon != "0.25" || b.CapSpent.Epsilon != "0.35" || b.LeftBefore != "0.05" || b.LeftAfter != "0.65" || b.CapLeft != "0.65" {
		t.Errorf("of January the officer sees %+v", b)
	}
	table := h.must(h.officer, "request", "show", made.ID, "--epsilon", "0.5")
	for _, part := range []string{"2026-01", "(fresh)", "the launch", "version 1", "0.25", "epsilon 0.5 on each block", "1 questions like this"} {
		if !strings.Contains(table, part) {
			t.Errorf("the officer's table lacks %q:\n%s", part, table)
		}
	}

	// A decision is on what was seen, and there is one.
	h.fails(h.officer, exitFailed, "version 1", "request", "decide", made.ID, "--grant", "--if-version", "7", "--reason", "agreed")
	h.fails(h.officer, exitUsage, "--reason", "request", "decide", made.ID, "--grant")
	h.fails(h.officer, exitUsage, "--deny", "request", "decide", made.ID, "--reason", "agreed")
	var decided wire.BudgetRequest
	h.mustJSON(&decided, h.officer, "request", "decide", made.ID, "--grant", "--epsilon", "0.6", "--reason", "agreed")
	if d := decided.Decision; decided.State != "granted" || d.Granted.Epsilon != "0.6" || d.Granted.MaxEpsilonPerQuery != "0.3" || d.Seen != 1 || d.AllotmentVersion != 2 || d.By != "officer" {
		t.Fatalf("decided %+v", decided.Decision)
	}
	var allotment wire.Allotment
	h.mustJSON(&allotment, h.officer, "allotment", "show", "team", "cards")
	if allotment.Epsilon != "0.6" || allotment.MaxEpsilonPerQuery != "0.3" || allotment.Version != 2 {
		t.Errorf("the allotment is %+v", allotment)
	}
	for _, decision := range []string{"--grant", "--deny"} {
		h.fails(h.officer, exitFailed, "conflict", "request", "decide", made.ID, decision, "--reason", "again")
	}
	h.fails(team, exitFailed, "conflict", "request", "withdraw", made.ID)
	h.must(team, ask("0.2", "rows")...)
	if text := h.must(team, "request", "show", made.ID); !strings.Contains(text, "granted") || !strings.Contains(text, "agreed") {
		t.Errorf("the team reads\n%s", text)
	}

	// A request is withdrawn, another one denied, and nobody decides on their own.
	h.mustJSON(&made, team, "request", "add", "cards", "--epsilon", "0.8", "--reason", "more")
	h.must(team, "request", "withdraw", made.ID, "--reason", "solved")
	h.mustJSON(&made, other, "request", "add", "cards", "--epsilon", "1", "--reason", "more")
	h.must(h.officer, "consumer", "set", "other", "--role", "officer", "--reason", "promoted")
	h.fails(other, exitRefused, "another officer", "request", "decide", made.ID, "--grant", "--reason", "mine")
	h.must(h.officer, "request", "decide", made.ID, "--deny", "--reason", "no need")
	var list wire.BudgetRequestList
	h.mustJSON(&list, h.officer, "request", "list")
	var states []string
	for _, r := range list.Items {
		states = append(states, r.Consumer+" "+r.State)
	}
	if got := strings.Join(states, ", "); got != "other denied, team withdrawn, team granted" {
		t.Errorf("in the end there are %s", got)
	}

	stop()
	if r := h.offline("verify"); r.code != exitDone || !strings.Contains(r.stdout, "Every entry fits.") {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

func TestFirstAllotmentIsGrantedOnARequest(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	newcomer := h.hire("newcomer", dp.Product, "product-analytics")
	ask := []string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}
	h.fails(newcomer, exitRefused, "no allotment", ask...)
	h.fails(newcomer, exitUsage, "--query", "request", "add", "shop", "--epsilon", "1", "--reason", "new here", "--query", h.file("bad.json", "{"))
	if text := h.must(newcomer, "budget"); !strings.Contains(text, "request add") {
		t.Errorf("who has no allotment reads\n%s", text)
	}
	var made, seen wire.BudgetRequest
	h.mustJSON(&made, newcomer, "request", "add", "shop", "--epsilon", "1", "--delta", "1e-10", "--expires", "2999-12-31", "--reason", "new here")
	h.mustJSON(&seen, h.officer, "request", "show", made.ID)
	if g := seen.Grounds; g.AllotmentVersion != 0 || g.Allotment != nil || len(g.Blocks) != 2 || g.Blocks[1].LeftBefore != "0" || g.Blocks[1].LeftAfter != "1" || g.Blocks[1].Block != "2026-02" {
		t.Errorf("the officer sees %+v", seen.Grounds)
	}
	if r := h.run(h.officer, "request", "show", made.ID, "--format", "csv"); r.code != exitDone || strings.Count(r.stdout, "\n") != 4 {
		t.Errorf("as CSV the officer sees\n%s%s", r.stdout, r.stderr)
	}
	h.must(h.officer, "request", "decide", made.ID, "--grant", "--if-version", "0", "--reason", "welcome")
	h.must(newcomer, ask...)

	// Of an allotment that stands, what is not named stays.
	h.must(h.officer, "allotment", "set", "team", "shop", "--max-epsilon-per-query", "0.5", "--expires", "2998-12-31", "--reason", "test")
	var kept, changed wire.BudgetRequest
	h.mustJSON(&kept, team, "request", "add", "shop", "--epsilon", "4", "--reason", "more")
	if a := kept.Asked; a.Epsilon != "4" || a.Delta != "0.0000000005" || a.MaxEpsilonPerQuery != "0.5" || a.Expires == nil || a.Expires.Year() != 2999 {
		t.Errorf("the team asks for %+v", a)
	}
	h.must(team, "request", "withdraw", kept.ID)
	h.mustJSON(&changed, team, "request", "add", "shop", "--epsilon", "4", "--delta", "0", "--max-epsilon-per-query", "0", "--expires", "", "--reason", "more")
	if a := changed.Asked; a.Delta != "0" || a.MaxEpsilonPerQuery != "" || a.Expires != nil {
		t.Errorf("the team asks for %+v", a)
	}
	var allotment wire.Allotment
	h.mustJSON(&allotment, h.officer, "allotment", "show", "newcomer", "shop")
	if allotment.Version != 1 || allotment.Delta != "0.0000000001" || allotment.Expires == nil || allotment.Expires.Year() != 3000 {
		t.Errorf("the allotment is %+v", allotment)
	}
}
