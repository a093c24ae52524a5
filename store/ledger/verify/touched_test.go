package verify

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/report"
)

// linked is an honest ledger of two datasets, in which questions about one of them read the other.
func linked(t *testing.T) *fixture {
	f := newFixture(t)
	for _, d := range []string{"cards", "chats"} {
		f.policy(d, dp.Budget{Epsilon: 2 * dp.EpsilonOne, Delta: 1e9}, nil)
	}
	for _, name := range []string{"alice", "bob"} { // changes 3 to 8
		f.hire(name)
		for _, d := range []string{"cards", "chats"} {
			f.allot(name, d, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 2 * dp.EpsilonOne, Delta: 1e9} })
		}
	}
	f.load("cards", "first", []string{"2026-01", "2026-02"})
	f.load("chats", "first", []string{"2026-02"})

	// Small numbers and a short purpose, so that the records are short enough for the chain.
	join := func(consumer, plan string) answer.ChargeRequest {
		r := f.ask(consumer, "cards", plan, dp.Loss{Epsilon: 1000, Rho: 1}, "2026-01")
		r.Purpose = "r"
		r.Also = []dp.Touched{
			{Dataset: "cards", PolicyVersion: 1, Blocks: []string{"2026-02"}, Loss: dp.Loss{Epsilon: 3000, Rho: 3}},
			{Dataset: "chats", PolicyVersion: 1, Blocks: []string{"2026-01", "2026-02"}, Loss: dp.Loss{Epsilon: 2000, Delta: 10, Rho: 2, DeltaZ: 5}},
		}
		return r
	}
	one := join("alice", "join")
	f.publish(f.charge(one), "rel_1", "join", 0) // charge 1, outcome 1
	handed := join("bob", "join")
	handed.Source = "rel_1"
	f.charge(handed) // charge 2
	question := join("alice", "of a report")
	question.Key, question.Body = "report", [32]byte{1}
	plain := f.part("rep_1", 1, 50, "2026-02")
	run := report.NewRun{Parts: []report.NewPart{{Name: "joined", Charge: question}, plain}}
	_, err := f.BeginReport(t.Context(), dp.Report{ID: "rep_1", Consumer: "alice", Spec: []byte{1}}, [32]byte{1}, &run) // report 1
	f.must(err)
	keyed := join("bob", "own")
	keyed.Key, keyed.Body = "key", [32]byte{2}
	two := f.charge(keyed) // charge 3
	f.must(f.Abandon(t.Context(), two.Charge.ID, 1))
	f.wait(time.Second)
	f.publish(f.charge(keyed), "rel_2", "own", 0) // attempt 1, outcome 2
	f.close()
	return f
}

func TestForgedPartsOfChargesAreNamed(t *testing.T) {
	f := linked(t)
	if r := fits(t, f.dir, Options{Witness: f.witness}); r.Charges != 5 || r.Releases != 2 {
		t.Fatalf("verified %+v", r.Counts)
	}
	fits(t, read(t, f.dir).write(), Options{})
	account := func(dataset, block, consumer string) accountID { return accountID{dataset, block, consumer} }
	less := func(a *accountRecord) { a.spent.Epsilon-- }
	// charges changes the charges of an entry, and what follows from them later, which have several prices.
	charges := func(g *forger, e *entry, change func(*chargeRecord)) {
		for _, w := range e.writes {
			if w.key[0] != kindCharge {
				continue
			}
			c, err := decodeRecord[chargeRecord](g.value(w), whole)
			if must(g.t, err); len(c.Charge.Also) == 0 {
				continue
			}
			for _, later := range g.from(e) {
				if w := later.find(w.key); w != nil {
					edit(g, w, change)
				}
			}
		}
	}
	forgeries := map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"under-charged cap of the second dataset": {func(g *forger) *entry {
			e := g.the("charge", 1)
			g.adjust(e, account("chats", "2026-02", ""), less)
			return e
		}, "cap/chats/2026-02 does not go up by exactly"},
		"under-charged allotment on the second dataset": {func(g *forger) *entry {
			e := g.the("charge", 1)
			g.adjust(e, account("chats", "2026-01", "alice"), less)
			return e
		}, "allotment/chats/2026-01 of alice does not go up by exactly"},
		"every block at the price of the first": {func(g *forger) *entry {
			e := g.the("charge", 1)
			for _, owner := range []string{"", "alice"} {
				g.adjust(e, account("cards", "2026-02", owner), func(a *accountRecord) { a.spent.Epsilon -= 2000; a.spent.Rho -= 2 })
			}
			return e
		}, "does not go up by exactly"},
		"second dataset left out": {func(g *forger) *entry {
			e := g.the("charge", 1)
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool {
				return string(w.key) == string(key(kindAccount, "chats", "2026-02", ""))
			})
			return e
		}, "does not charge cap/chats/2026-02"},
		"second dataset charged and not named": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also, c.Snapshot.Also = c.Charge.Also[:1], c.Snapshot.Also[:1] })
			return e
		}, "chats"},
		"further blocks dropped when it ends": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Charge.Also, c.Snapshot.Also = nil, nil })
			return e
		}, "what never changes"},
		"price of a part lowered later": {func(g *forger) *entry {
			e := g.the("attempt", 1)
			edit(g, g.first(e, kindCharge), func(c *chargeRecord) { c.Charge.Also[1].Loss.Rho-- })
			return e
		}, "what never changes"},
		"cap of the second dataset without room": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 2), kindDataset), func(d *datasetRecord) { d.Cap = budget{2000, 0} })
			g.editJSON(g.first(g.the("change", 2), kindPolicy), func(p map[string]any) {
				p["Cap"].(map[string]any)["Epsilon"], p["Cap"].(map[string]any)["Delta"] = 2000, 0
			})
			for _, name := range []string{"load-begin", "load-commit"} {
				edit(g, g.first(g.the(name, 2), kindDataset), func(d *datasetRecord) { d.Cap = budget{2000, 0} })
			}
			return g.the("charge", 1)
		}, "neither certificate holds for cap/chats"},
		"allotment on the second dataset without room": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 5), kindAllotment), func(a *allotmentRecord) { a.Budget = budget{1999, 40} })
			return g.the("charge", 1)
		}, "neither certificate holds for allotment/chats"},
		"paused allotment on the second dataset": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 5), kindAllotment), func(a *allotmentRecord) { a.Paused = true })
			return g.the("charge", 1)
		}, "paused"},
		"expired allotment on the second dataset": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 8), kindAllotment), func(a *allotmentRecord) { a.Expires = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) })
			return g.the("charge", 2)
		}, "expired"},
		"part above its dataset's maximum": {func(g *forger) *entry {
			edit(g, g.first(g.the("change", 4), kindAllotment), func(a *allotmentRecord) { a.MaxEpsilonPerQuery = 2999 })
			return g.the("charge", 1)
		}, "allows for one query"},
		"part under a policy that is not in force": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].PolicyVersion = 2; c.Snapshot.Also[1].PolicyVersion = 2 })
			return e
		}, "not in force"},
		"snapshot under another policy than was priced": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].PolicyVersion = 2 })
			return e
		}, "under another version of the policy"},
		"older rows of the second dataset": {func(g *forger) *entry {
			e := g.the("charge", 3)
			charges(g, e, func(c *chargeRecord) { c.Snapshot.Also[1].Blocks[1].Version = 0 })
			return e
		}, "another version of block 2026-02 of dataset chats"},
		"snapshot of another dataset": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Snapshot.Also[1].Dataset = "cards" })
			return e
		}, "snapshot of another dataset"},
		"snapshot without a part": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Snapshot.Also = c.Snapshot.Also[:1] })
			return e
		}, "a snapshot of other blocks"},
		"snapshot within a snapshot": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Snapshot.Also[0].Also = []snapshot{{Dataset: "chats"}} })
			return e
		}, "a snapshot of others"},
		"block at two prices": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) {
				c.Charge.Also[0].Blocks = []string{"2026-01"}
				c.Snapshot.Also[0].Blocks[0].Block = "2026-01"
			})
			return e
		}, "touches block 2026-01 of dataset cards at two prices"},
		"part twice": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) {
				c.Charge.Also, c.Snapshot.Also = append(c.Charge.Also, c.Charge.Also[1]), append(c.Snapshot.Also, c.Snapshot.Also[1])
			})
			return e
		}, "dataset chats at two prices"},
		"more prices than there may be": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) {
				for range 6 {
					c.Charge.Also, c.Snapshot.Also = append(c.Charge.Also, c.Charge.Also[1]), append(c.Snapshot.Also, c.Snapshot.Also[1])
				}
			})
			return e
		}, "too many prices"},
		"part without blocks": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].Blocks, c.Snapshot.Also[1].Blocks = nil, nil })
			return e
		}, "has no blocks"},
		"part without a loss": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].Loss = loss{} })
			return e
		}, "has no loss"},
		"part in a dataset that does not exist": {func(g *forger) *entry {
			e := g.the("charge", 1)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].Dataset, c.Snapshot.Also[1].Dataset = "chat", "chat" })
			return e
		}, "does not exist"},
		"release over other rows of the second dataset": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			g.republish(e, func(text string) string {
				return strings.Replace(text, `{"Block":"2026-02","Version":1}]}]`, `{"Block":"2026-02","Version":2}]}]`, 1)
			})
			return e
		}, "its further blocks differs"},
		"draw listed under other versions": {func(g *forger) *entry {
			e := g.the("outcome", 1)
			w := g.first(e, kindDraw)
			about := digestOf(snapshot{Blocks: []blockVersion{{"2026-01", 1}}})
			w.key = append(append(key(kindDraw, "join"), about[:]...), w.key[len(w.key)-8:]...)
			return e
		}, "should write"},
		"hand-out that pays less for a part": {func(g *forger) *entry {
			e := g.the("charge", 2)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also[1].Loss.Epsilon-- })
			for _, b := range []string{"2026-01", "2026-02"} {
				g.adjust(e, account("chats", b, "bob"), less)
			}
			return e
		}, "does not cost what the release"},
		"hand-out that pays in the first dataset alone": {func(g *forger) *entry {
			e := g.the("charge", 2)
			charges(g, e, func(c *chargeRecord) { c.Charge.Also, c.Snapshot.Also = nil, nil })
			return e
		}, "does not cost what the release"},
		"question of a report that pays less for a part": {func(g *forger) *entry {
			e := g.the("report", 1)
			g.adjust(e, account("chats", "2026-01", "alice"), less)
			return e
		}, "does not go up by exactly"},
	}
	for i, name := range slices.Sorted(maps.Keys(forgeries)) {
		if i%thin != 0 {
			continue
		}
		c := forgeries[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := read(t, f.dir)
			want := c.forge(g)
			r := verify(t, g.write(), Options{})
			switch {
			case r.Finding == nil:
				t.Fatal("it fits")
			case r.Finding.Entry != want.number || !strings.Contains(r.Finding.Why, c.why):
				t.Errorf("found %q, want entry %d and %q", r.Finding, want.number, c.why)
			}
		})
	}
}

// republish changes a release where its entry publishes it, in its summary too.
func (g *forger) republish(e *entry, change func(string) string) {
	g.t.Helper()
	w := g.first(e, kindBlob)
	before := string(g.value(w))
	text := []byte(change(before))
	if before == string(text) {
		g.t.Fatal("the release is not changed")
	}
	w.set(text)
	g.long[w.digest] = text
	edit(g, g.first(e, kindRelease), func(r *releaseRecord) {
		r.Sum = w.digest[:]
		r.Summary = []byte(change(string(r.Summary)))
	})
}

func TestDigestCoversAllPartsOfASnapshot(t *testing.T) {
	about := []blockVersion{{"2026-01", 1}}
	seen := map[[32]byte]bool{}
	for _, s := range []snapshot{
		{Blocks: about},
		{Blocks: about, Also: []snapshot{{Dataset: "a", Blocks: about}}},
		{Blocks: about, Also: []snapshot{{Dataset: "b", Blocks: about}}},
		{Blocks: about, Also: []snapshot{{Dataset: "a", Blocks: []blockVersion{{"2026-01", 2}}}}},
		{Blocks: about, Also: []snapshot{{Dataset: "a", Blocks: about}, {Dataset: "b", Blocks: about}}},
		{Blocks: about, Also: []snapshot{{Dataset: "b", Blocks: about}, {Dataset: "a", Blocks: about}}},
	} {
		if seen[digestOf(s)] {
			t.Errorf("%+v has the digest of another snapshot", s)
		}
		seen[digestOf(s)] = true
	}
}
