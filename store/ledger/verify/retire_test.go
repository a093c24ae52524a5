package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// retained is an honest ledger of a dataset whose blocks retire: January on the first of April, February on the first of May.
func retained(t *testing.T) *fixture {
	f := newFixture(t)
	f.policy("cards", dp.Budget{Epsilon: 2 * dp.EpsilonOne}, nil) // change 1
	f.hire("alice")
	f.allot("alice", "cards", func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 2 * dp.EpsilonOne} })
	f.load("cards", "first", []string{"2026-01", "2026-02"}) // load-begin 1, load-commit 1
	f.publish(f.charge(f.ask("alice", "cards", "one", pure(100), "2026-01")), "rel_1", "one", 0)
	f.retainMonths("cards", 2) // change 4
	f.run()                    // retire 1
	f.must(f.EndRetirement(t.Context(), "cards", "2026-02"))
	f.charge(f.ask("alice", "cards", "two", pure(100), "2026-02")) // charge 2
	f.wait(30 * 24 * time.Hour)
	f.run()                                                        // retire 2
	f.load("cards", "second", []string{"2026-03"})                 // load-begin 2
	f.charge(f.ask("alice", "cards", "ten", pure(100), "2026-03")) // charge 3
	f.must(f.EndRetirement(t.Context(), "cards", "2026-03"))       // retire-end 2
	f.close()
	return f
}

func (f *fixture) run() {
	f.t.Helper()
	_, err := f.Retire(f.t.Context())
	f.must(err)
}

func (f *fixture) retainMonths(name string, months int64) {
	f.t.Helper()
	p, err := f.Policy(f.t.Context(), name)
	f.must(err)
	p.RetainMonths = months
	_, _, err = f.office.ApplyPolicy(f.t.Context(), "root", p.Policy, &p.Version, "a test")
	f.must(err)
}

func TestForgedRetirementsAreNamed(t *testing.T) {
	f := retained(t)
	fits(t, f.dir, Options{Witness: f.witness})
	fits(t, read(t, f.dir).write(), Options{})
	record := func(g *forger, e *entry, change func(*retirementRecord)) *entry {
		edit(g, g.first(e, kindRetired), change)
		return e
	}
	// instead changes the block of a charge, or of a load, and all that follows from it.
	instead := func(g *forger, e *entry, from, to string) *entry {
		for _, later := range g.from(e) {
			for _, w := range later.writes {
				if w.value != nil && w.key[0] != kindRetired && w.key[0] != kindPolicy {
					w.key = []byte(strings.ReplaceAll(string(w.key), from, to))
					w.set([]byte(strings.ReplaceAll(string(w.value), from, to)))
				}
			}
		}
		return e
	}
	forgeries := map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"charge of a retired block": {func(g *forger) *entry { return instead(g, g.the("charge", 3), "2026-03", "2026-02") }, "retired"},
		"charge moved behind the retirement": {func(g *forger) *entry {
			first, charge := g.the("retire", 2), g.the("charge", 2)
			g.entries = slices.DeleteFunc(g.entries, func(e *entry) bool { return e == charge })
			g.entries = slices.Insert(g.entries, slices.Index(g.entries, first)+1, charge)
			return charge
		}, "touches a block of dataset cards that is retired"},
		"load of a retired block": {func(g *forger) *entry { return instead(g, g.the("load-begin", 2), "2026-03", "2026-02") }, "retired"},
		"block that comes back": {func(g *forger) *entry {
			return record(g, g.the("retire", 2), func(r *retirementRecord) { r.Before = "2026-01" })
		}, "comes back"},
		"more than the policy says": {func(g *forger) *entry {
			return record(g, g.the("retire", 1), func(r *retirementRecord) { r.Before = "2026-03" })
		}, "other blocks than the policy"},
		"at another time": {func(g *forger) *entry {
			return record(g, g.the("retire", 1), func(r *retirementRecord) { r.At = r.At.Add(time.Hour) })
		}, "other blocks than the policy"},
		"under another policy": {func(g *forger) *entry {
			return record(g, g.the("retire", 1), func(r *retirementRecord) { r.PolicyVersion = 1 })
		}, "other blocks than the policy"},
		"under a policy that retains for ever": {func(g *forger) *entry {
			w := g.first(g.the("change", 4), kindPolicy)
			g.editJSON(w, func(p map[string]any) { delete(p, "RetainMonths") })
			return g.the("retire", 1)
		}, "other blocks than the policy"},
		"gone before it is retired": {func(g *forger) *entry {
			return record(g, g.the("retire-end", 1), func(r *retirementRecord) { r.Gone = "2026-03" })
		}, "gone of what is not retired"},
		"gone with the retirement": {func(g *forger) *entry {
			return record(g, g.the("retire", 1), func(r *retirementRecord) { r.Gone = "2026-02" })
		}, "comes back"},
		"another dataset's": {func(g *forger) *entry {
			e := g.the("retire", 1)
			g.first(e, kindRetired).key = key(kindRetired, "chats")
			return e
		}, "does not exist"},
		"deleted": {func(g *forger) *entry {
			return g.insert(g.the("retire-end", 2), "retire", &write{key: key(kindRetired, "cards"), deleted: true})
		}, "kept for ever"},
	}
	for name, c := range forgeries {
		t.Run(name, func(t *testing.T) {
			g := read(t, f.dir)
			e := c.forge(g)
			if r := verify(t, g.write(), Options{}); r.Finding == nil || r.Finding.Entry != e.number || !strings.Contains(r.Finding.Why, c.why) {
				t.Errorf("found %v, want entry %d and %q", r.Finding, e.number, c.why)
			}
		})
	}
}
