package verify

import (
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// requested is an honest ledger with budget requests in every state.
func requested(t *testing.T) *fixture {
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []string{"cards", "pets"} {
		f.policy(name, dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 1e9}, nil)
	}
	for _, name := range []string{"alice", "bob"} {
		f.hire(name)
	}
	ask := func(consumer, dataset string, thousandths int64, query string) string {
		r := dp.BudgetRequest{Dataset: dataset, Reason: "more", Asked: dp.Terms{Budget: dp.Budget{Epsilon: dp.Epsilon(thousandths) * dp.EpsilonOne / 1000}}}
		if query != "" {
			r.Query = &dp.WantedQuery{Canonical: query, Purpose: "reporting", Price: []dp.Touched{{Dataset: dataset, PolicyVersion: 1, Blocks: []string{"2026-01"}, Loss: pure(100)}}}
		}
		made, created, err := f.office.RequestBudget(ctx, consumer, r, "")
		f.must(err)
		if !created {
			t.Fatal("the request was there already")
		}
		return made.ID
	}
	decide := func(id string, d office.Decision, seen uint64) {
		_, _, err := f.office.DecideRequest(ctx, "root", id, d, &seen, "decided")
		f.must(err)
	}
	decide(ask("alice", "cards", 500, strings.Repeat("long ", 600)), office.Decision{}, 0) // 1, too long for the chain
	less := dp.Terms{Budget: dp.Budget{Epsilon: dp.EpsilonOne / 5}, MaxEpsilonPerQuery: dp.EpsilonOne / 10}
	decide(ask("alice", "cards", 600, "short"), office.Decision{Grant: true, Terms: &less}, 0) // 2
	f.charge(f.ask("alice", "cards", "plan", pure(100), "2026-01"))
	_, err := f.office.WithdrawRequest(ctx, "bob", ask("bob", "pets", 100, ""), "") // 3
	f.must(err)
	four := ask("alice", "cards", 900, "")
	f.allot("alice", "cards", func(a *dp.Allotment) { a.Paused = true })
	decide(four, office.Decision{Grant: true}, 2) // 4
	ask("bob", "cards", 700, "")                  // 5, open
	f.reopen()
	f.close()
	return f
}

func TestLedgerWithRequestsFits(t *testing.T) {
	f := requested(t)
	fits(t, f.dir, Options{Witness: f.witness})
	g := read(t, f.dir)
	fits(t, g.write(), Options{})
	for kind, want := range map[byte]int{kindRequest: 5, kindRequestEnd: 4} {
		n := 0
		for _, e := range g.entries {
			if slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kind }) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d entries write %s, want %d", n, words[kind], want)
		}
	}
}

func TestForgedRequestsAreNamed(t *testing.T) {
	f := requested(t)
	nth := func(g *forger, kind byte, n int) *entry {
		for _, e := range g.entries {
			if slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kind }) {
				if n--; n == 0 {
					return e
				}
			}
		}
		t.Fatalf("there are not so many %s", words[kind])
		return nil
	}
	made := func(g *forger, n int) *entry { return nth(g, kindRequest, n) }
	ended := func(g *forger, n int) *entry { return nth(g, kindRequestEnd, n) }
	without := func(e *entry, kind byte) {
		e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return w.key[0] == kind })
	}
	// end forges a decision.
	end := func(n int, change func(*requestEndRecord)) func(g *forger) *entry {
		return func(g *forger) *entry {
			e := ended(g, n)
			edit(g, g.first(e, kindRequestEnd), change)
			return e
		}
	}
	// again puts a write of an entry, changed, into an entry of its own behind it.
	again := func(g *forger, e *entry, kind byte, change func(*write)) *entry {
		w := &write{key: g.first(e, kind).key}
		w.set(slices.Clone(g.value(g.first(e, kind))))
		change(w)
		return g.insert(e, "change", w)
	}
	for name, c := range map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"a grant without its allotment": {func(g *forger) *entry {
			e := ended(g, 2)
			without(e, kindAllotment)
			edit(g, g.first(e, kindChange), func(x *changeRecord) {
				x.Changed = slices.DeleteFunc(x.Changed, func(o changedObject) bool { return o.Kind == "allotment" })
			})
			return e
		}, "granted without the change of its allotment"},
		"a grant of another consumer's allotment": {func(g *forger) *entry {
			e := ended(g, 2)
			w := g.first(e, kindAllotment)
			w.key = key(kindAllotment, "bob", "cards")
			edit(g, w, func(a *allotmentRecord) { a.Consumer = "bob" })
			return e
		}, "granted without the change of its allotment"},
		"an allotment of more than the grant": {func(g *forger) *entry {
			e := ended(g, 2)
			edit(g, g.first(e, kindAllotment), func(a *allotmentRecord) { a.Budget.Epsilon++ })
			return e
		}, "not the one that it says"},
		"an allotment without the maximum of the grant": {func(g *forger) *entry {
			e := ended(g, 2)
			edit(g, g.first(e, kindAllotment), func(a *allotmentRecord) { a.MaxEpsilonPerQuery = 0 })
			return e
		}, "not the one that it says"},
		"a grant that lifts a pause": {func(g *forger) *entry {
			e := ended(g, 4)
			edit(g, g.first(e, kindAllotment), func(a *allotmentRecord) { a.Paused = false })
			return e
		}, "not the one that it says"},
		"a grant that names another version":  {end(4, func(r *requestEndRecord) { r.Allotment++ }), "not the one that it says"},
		"a grant of nothing that is named":    {end(4, func(r *requestEndRecord) { r.Granted = nil }), "granted without the change"},
		"a decision on an older allotment":    {end(4, func(r *requestEndRecord) { r.Seen = 1 }), "decided on version 1 of the allotment, and version 2 stands"},
		"a denial that gives":                 {end(1, func(r *requestEndRecord) { r.Granted = &terms{Budget: budget{Epsilon: 1}} }), "denied, and gives"},
		"a grant that is written as a denial": {end(2, func(r *requestEndRecord) { r.State, r.Granted, r.Allotment = denied, nil, 0 }), "denied, and gives"},
		"a decision of one's own":             {end(2, func(r *requestEndRecord) { r.By = "alice" }), "decided by who made it"},
		"a decision of nobody":                {end(1, func(r *requestEndRecord) { r.By = "" }), "or by nobody"},
		"a decision of somebody else":         {end(1, func(r *requestEndRecord) { r.By = "bob" }), "names somebody else"},
		"withdrawn by another":                {end(3, func(r *requestEndRecord) { r.By = "alice" }), "withdrawn by somebody else"},
		"an end that there is not":            {end(1, func(r *requestEndRecord) { r.State = "open" }), "a state that there is not"},
		"a denial that changes the allotment": {func(g *forger) *entry {
			e := ended(g, 1)
			w := &write{key: key(kindAllotment, "alice", "cards")}
			w.set(slices.Clone(g.value(g.first(ended(g, 2), kindAllotment))))
			e.writes = append(e.writes, w)
			edit(g, g.first(e, kindChange), func(x *changeRecord) {
				x.Changed = append(x.Changed, changedObject{"allotment", "alice/cards", 1})
			})
			return e
		}, "denied, and gives"},
		"a request that brings an allotment": {func(g *forger) *entry {
			e := made(g, 1)
			w := &write{key: key(kindAllotment, "alice", "cards")}
			w.set(slices.Clone(g.value(g.first(ended(g, 2), kindAllotment))))
			e.writes = append(e.writes, w)
			return e
		}, "not where it is granted"},
		"a second decision": {func(g *forger) *entry {
			return again(g, ended(g, 1), kindRequestEnd, func(w *write) {
				edit(g, w, func(r *requestEndRecord) { r.State = granted })
			})
		}, "decided once"},
		"a decision on what nobody asked for": {func(g *forger) *entry {
			e := ended(g, 1)
			g.first(e, kindRequestEnd).key = key(kindRequestEnd, "req_9")
			return e
		}, "builds on a budget request that no entry wrote"},
		"a request made again": {func(g *forger) *entry {
			return again(g, made(g, 2), kindRequest, func(w *write) {
				edit(g, w, func(r *requestRecord) { r.Asked.Budget.Epsilon /= 2 })
			})
		}, "written before and never changes"},
		"a request forgotten": {func(g *forger) *entry {
			return again(g, ended(g, 1), kindRequestEnd, func(w *write) { w.key, w.value, w.deleted = g.first(made(g, 2), kindRequest).key, nil, true })
		}, "deletes a budget request"},
		"a second open request": {func(g *forger) *entry {
			e := ended(g, 1)
			g.entries = slices.DeleteFunc(g.entries, func(x *entry) bool { return x == e })
			return made(g, 2)
		}, "second budget request on dataset cards"},
		"a request for nothing": {func(g *forger) *entry {
			e := made(g, 2)
			edit(g, g.first(e, kindRequest), func(r *requestRecord) { r.Asked.Budget.Epsilon = 0 })
			return e
		}, "asks for nothing"},
		"a request on no dataset": {func(g *forger) *entry {
			e := made(g, 5)
			edit(g, g.first(e, kindRequest), func(r *requestRecord) { r.Dataset = "cars" })
			return e
		}, "does not exist"},
		"a request of another consumer": {func(g *forger) *entry {
			e := made(g, 5)
			edit(g, g.first(e, kindRequest), func(r *requestRecord) { r.Consumer = "alice" })
			return e
		}, "should write"},
		"a request in another's name": {func(g *forger) *entry {
			e := made(g, 5)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = "root" })
			return e
		}, "names somebody else"},
		"a request that is not recorded as a change": {func(g *forger) *entry {
			e := made(g, 2)
			edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Changed[0].Version = 2 })
			return e
		}, "names other things"},
		"a request that no list has": {func(g *forger) *entry {
			e := made(g, 5)
			without(e, kindRequests)
			return e
		}, "should write the list of budget requests"},
		"an open request that ended": {func(g *forger) *entry {
			e := ended(g, 3)
			without(e, kindRequestOpen)
			return e
		}, "should delete the list of open budget requests"},
		"a consumer that is not free to ask again": {func(g *forger) *entry {
			e := ended(g, 3)
			without(e, kindRequestOn)
			return e
		}, "should delete the open budget request"},
		"an open request that vanishes": {func(g *forger) *entry {
			return g.insert(made(g, 5), "change", &write{key: key(kindRequestOn, "bob", "cards"), deleted: true})
		}, "nothing in it calls for that"},
		"a consumer that changes besides": {func(g *forger) *entry {
			e := ended(g, 1)
			w := &write{key: key(kindConsumer, "bob")}
			w.set([]byte{recordVersion})
			e.writes = append(e.writes, w)
			return e
		}, "changes a consumer besides"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := read(t, f.dir)
			at := c.forge(g)
			r := verify(t, g.write(), Options{})
			switch {
			case r.Finding == nil:
				t.Fatal("it fits")
			case r.Finding.Entry != at.number || !strings.Contains(r.Finding.Why, c.why):
				t.Errorf("found %q, want entry %d and %q", r.Finding, at.number, c.why)
			}
		})
	}
}
