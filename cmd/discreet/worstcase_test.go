package main

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func decimalOf(t *testing.T, d wire.Decimal) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(string(d))
	if !ok {
		t.Fatalf("%q is no decimal", d)
	}
	return r
}

func ownerIn(t *testing.T, w wire.WorstCase, name string) (o wire.Owner, spent map[string]wire.Spent) {
	t.Helper()
	for _, o := range w.Owners {
		if o.Consumer == name {
			spent = map[string]wire.Spent{}
			for _, s := range o.Spent {
				spent[s.Scope] = s
			}
			return o, spent
		}
	}
	t.Fatalf("nothing is said of %q", name)
	return o, nil
}

// TestWorstCaseIsWhatChargesAddUpTo asks an app and its cards, and adds the charges up again from what the team was told.
func TestWorstCaseIsWhatChargesAddUpTo(t *testing.T) {
	h, team := newLinked(t)
	other := h.hire("other", dp.Product, "product-analytics")
	h.allot("other", "cards", "2", "0")
	auditor := h.hire("auditor", dp.Auditor)
	releases := []wire.Release{
		h.ask(team, "cards", "customers", "--by", "category", "--epsilon", "0.25"),
		h.ask(team, "cards", "customers", "spend", "--by", "category", "--by", "time.month", "--epsilon", "0.5"),
		h.ask(team, "cards", "customers", "--by", "category", "--epsilon", "0.3", "--cohort", "dataset=app; event=chat"),
	}
	handed := h.ask(other, "cards", "customers", "--by", "category", "--epsilon", "0.25")
	if handed.ID != releases[0].ID {
		t.Fatalf("the other team got %s, not the draw that there was", handed.ID)
	}

	var w wire.WorstCase
	h.mustJSON(&w, auditor, "budget", "worst-case", "cards")
	epsilon, rho := new(big.Rat), new(big.Rat)
	linkedEpsilon, linkedRho := new(big.Rat), new(big.Rat)
	times := func(n int64, d wire.Decimal) *big.Rat { return new(big.Rat).Mul(big.NewRat(n, 1), decimalOf(t, d)) }
	for i, r := range releases {
		n := int64(len(r.Charge.Blocks))
		epsilon.Add(epsilon, times(n, r.Charge.Epsilon))
		linkedEpsilon.Add(linkedEpsilon, times(n, r.Charge.Epsilon))
		sum, all := times(n, r.Charge.Rho), n
		linked := new(big.Rat).Set(sum)
		for _, also := range r.Charge.Also {
			m := int64(len(also.Blocks))
			linkedEpsilon.Add(linkedEpsilon, times(m, also.Epsilon))
			linked.Add(linked, times(m, also.Rho))
			all += m
		}
		if i == 1 { // by month: blocks lie apart
			n, all = 1, 1
		}
		rho.Add(rho, sum.Mul(sum, big.NewRat(n, 1)))
		linkedRho.Add(linkedRho, linked.Mul(linked, big.NewRat(all, 1)))
	}
	_, caps := ownerIn(t, w, "")
	_, own := ownerIn(t, w, "team")
	for _, spent := range []map[string]wire.Spent{caps, own} {
		for scope, want := range map[string][2]*big.Rat{"year": {epsilon, rho}, "history": {epsilon, rho}, "linked-history": {linkedEpsilon, linkedRho}} {
			s := spent[scope]
			if decimalOf(t, s.Basic.Epsilon).Cmp(want[0]) != 0 || decimalOf(t, s.Zero.Rho).Cmp(want[1]) != 0 || s.Charges != 3 || s.Conservative != 0 {
				t.Errorf("%s: %+v, not epsilon %s and rho %s", scope, s, want[0].FloatString(12), want[1].FloatString(12))
			}
		}
	}
	// Who was handed a draw spent its price, by how it was drawn.
	if _, spent := ownerIn(t, w, "other"); spent["year"].Basic.Epsilon != "0.5" || spent["year"].Conservative != 0 {
		t.Errorf("the other team spent %+v", spent)
	}
	var accounts wire.AccountList
	h.mustJSON(&accounts, auditor, "budget", "cards", "--all")
	for _, a := range accounts.Items {
		if a.Consumer == "" && a.Block == caps["block"].Name && a.Spent.Epsilon != caps["block"].Basic.Epsilon {
			t.Errorf("the worst block is %+v, its account has spent %s", caps["block"], a.Spent.Epsilon)
		}
	}
	all, _ := ownerIn(t, w, "")
	if got := fmt.Sprintf("%v %v %v %v %v", all.Promises[0].Epsilon, all.Promises[1].Epsilon, all.Promises[1].Vacuous, all.Promises[3].Epsilon, w.Linked); got != "6 72 true 12 [app]" {
		t.Errorf("promises are %s", got)
	}
	table := h.must(h.officer, "budget", "worst-case", "cards")
	for _, line := range []string{"vacuous     of so many blocks", "burns       cap/cards/2026-01: epsilon", "linked      with app", "accounting"} {
		if !strings.Contains(table, line) {
			t.Errorf("the table lacks %q:\n%s", line, table)
		}
	}
	var one wire.WorstCase
	h.mustJSON(&one, auditor, "budget", "worst-case", "cards", "--consumer", "other")
	if text := h.must(auditor, "budget", "worst-case", "cards", "--consumer", "other"); strings.Contains(text, "team") || len(one.Owners) != 2 || one.Owners[0].Consumer != "" || one.Owners[1].Consumer != "other" {
		t.Errorf("of one consumer it is\n%s", text)
	}
	h.fails(auditor, exitUsage, "no allotment", "budget", "worst-case", "cards", "--consumer", "nobody")
	for _, key := range []string{team, other} {
		if r := h.run(key, "budget", "worst-case", "cards"); r.code == exitDone {
			t.Error("who asks questions saw the worst case")
		}
	}
}

func TestWhatIfSaysWhoWouldFreezeAndChangesNothing(t *testing.T) {
	h, team := newLinked(t)
	h.ask(team, "cards", "customers", "--by", "category", "--epsilon", "0.8")
	var before, after wire.AccountList
	h.mustJSON(&before, h.officer, "budget", "cards", "--all")
	var w wire.WorstCase
	h.mustJSON(&w, h.officer, "budget", "what-if", "cards", "--cap-epsilon", "1", "--allot", "team=0.5", "--allot", "warehouse=0.3,1e-10", "--year-blocks", "3")
	if len(w.Frozen) != 2 || w.Frozen[0].Account != "allotment/cards/2026-01" || w.Frozen[0].Consumer != "team" {
		t.Errorf("frozen are %+v", w.Frozen)
	}
	all, _ := ownerIn(t, w, "")
	if all.Budget.Epsilon != "1" || all.Certified.Epsilon != "6" || all.Promises[1].Blocks != 3 {
		t.Errorf("all together: %+v", all)
	}
	of, _ := ownerIn(t, w, "team")
	if of.Certified.Epsilon != "3" || of.Room.Epsilon != "0" || of.Room.FreshEpsilon != "0.5" || of.Room.FreshSimilar != 5 {
		t.Errorf("the team: %+v, room %+v", of, of.Room)
	}
	if fresh, _ := ownerIn(t, w, "warehouse"); fresh.Room == nil || fresh.Room.Epsilon != "0.2" || fresh.Room.Similar != 2 {
		t.Errorf("who would get an allotment: %+v", fresh.Room)
	}
	text := h.must(h.officer, "budget", "what-if", "cards", "--cap-epsilon", "0.5", "--allot", "team=4")
	for _, part := range []string{
		"budget      (all): epsilon 0.5, delta 1e-9, now epsilon 6, delta 1e-9; guaranteed is epsilon 6, delta 1e-9, the largest", // and what is not named stays
		"freezes     cap/cards/2026-01: spent is epsilon 0.8", "now 2.2 more on 2026-01", "could ask   team: 0 more on 2026-01",
		"allotment/cards/2026-01 of team: on ", "Nothing was changed.", "team  block                1            3",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("what-if lacks %q:\n%s", part, text)
		}
	}
	if r := h.run(h.officer, "budget", "what-if", "cards"); r.code != exitUsage {
		t.Errorf("what if nothing were otherwise is answered: %s", r.stdout)
	}
	h.must(h.officer, "allotment", "set", "team", "cards", "--paused", "--epsilon", "0.5", "--reason", "a test")
	text = h.must(h.officer, "budget", "worst-case", "cards")
	for _, part := range []string{"could ask   team: nothing while it is paused", "frozen      allotment/cards/2026-01 of team: spent is", "and is frozen now"} {
		if !strings.Contains(text, part) {
			t.Errorf("the worst case lacks %q:\n%s", part, text)
		}
	}
	h.must(h.officer, "allotment", "set", "team", "cards", "--no-paused", "--epsilon", "3", "--reason", "a test")
	h.mustJSON(&after, h.officer, "budget", "cards", "--all")
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Error("asking what if changed accounts")
	}
	for _, args := range [][]string{{"--allot", "team"}, {"--cap-delta", "1e-9"}, {"--allot", "team=many"}} {
		if r := h.run(h.officer, append([]string{"budget", "what-if", "cards"}, args...)...); r.code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, r.code, r.stderr)
		}
	}
	if r := h.run(h.officer, "budget", "what-if", "cards", "--cap-epsilon", "1", "--cap-delta", "0.5"); r.code == exitDone || !strings.Contains(r.stderr, "1/(10 * population)") {
		t.Errorf("a cap that cannot be set was asked about: %s%s", r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"--allot", "nobody=1"}, {"--allot", "team=1", "--remove", "team"}} {
		if r := h.run(h.officer, append([]string{"budget", "what-if", "cards"}, args...)...); r.code == exitDone {
			t.Errorf("%v was taken: %s", args, r.stdout)
		}
	}
}

func TestWhatIsShownOfAGuaranteeIsNeverLessThanItIs(t *testing.T) {
	for exact, want := range map[wire.Decimal]string{
		"0.00016321": "0.0001633", "0.00016320": "0.0001632", "12": "12", "3.718281828459": "3.719", "0.0000000099999": "1e-8", "0": "0", "": "", "144": "144", "0.99999999": "1",
	} {
		if got := (atMost{exact}).String(); got != want {
			t.Errorf("%s is shown as %s, not %s", exact, got, want)
		}
	}
}
