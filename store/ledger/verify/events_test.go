package verify

import (
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// happened is a ledger in which a release was read and a question refused.
func happened(t *testing.T) *fixture {
	t.Helper()
	f := scene(t)
	f.open()
	f.Note(dp.AuditEvent{Kind: dp.AuditReading, Consumer: "alice", Operation: "get-release", Release: "rel_1", Count: 3})
	f.Note(dp.AuditEvent{Kind: dp.AuditRefusal, Consumer: "alice", Operation: "ask", Code: dp.CodeNotFound, Dataset: "cards"})
	f.Note(dp.AuditEvent{Kind: dp.AuditFailedSignIn, Code: dp.Code(dp.KeyExpired), Count: 9})
	f.close()
	return f
}

func TestForgedEventsAreNamed(t *testing.T) {
	f := happened(t)
	fits(t, f.dir, Options{})
	for name, c := range map[string]struct {
		forge func(*eventsRecord)
		why   string
	}{
		"somebody else's reading": {func(r *eventsRecord) { r.Events[1].Consumer, r.Events[1].Release = "bob", "rel_2" }, "bob read a release that it does not hold"},
		"no such release":         {func(r *eventsRecord) { r.Events[1].Release = "rel_0" }, "does not hold"},
		"nothing was read":        {func(r *eventsRecord) { r.Events[1].Release = "" }, "does not say what was read"},
		"no such consumer":        {func(r *eventsRecord) { r.Events[2].Consumer = "carol" }, "consumer that does not exist"},
		"nobody refused":          {func(r *eventsRecord) { r.Events[2].Consumer = "" }, "nobody"},
		"no such dataset":         {func(r *eventsRecord) { r.Events[2].Dataset = "pages" }, "dataset that does not exist"},
		"another kind":            {func(r *eventsRecord) { r.Events[0].Kind, r.Events[0].Consumer = "sign-out", "alice" }, "says what no event"},
		"no kind":                 {func(r *eventsRecord) { r.Events[2] = eventRecord{Kind: "x", Consumer: "alice", Count: 1} }, "of no kind"},
		"never":                   {func(r *eventsRecord) { r.Events[0].Count = 0 }, "never happened"},
		"twice":                   {func(r *eventsRecord) { r.Events = append(r.Events, r.Events[0]) }, "twice"},
		"none":                    {func(r *eventsRecord) { r.Events = nil }, "no events"},
		"a key of nobody": {func(r *eventsRecord) {
			r.Events[2] = eventRecord{Kind: "sign-in", Consumer: "alice", Key: "key_0", Count: 1}
		}, "somebody else than whose it is"},
		"a figure": {func(r *eventsRecord) { r.Events[1].Object = "4711" }, "says what no event of its kind says"},
	} {
		g := read(t, f.dir)
		e := g.the("events", 1)
		edit(g, g.first(e, kindEvents), c.forge)
		r := verify(t, g.write(), Options{})
		if r.Finding == nil || r.Finding.Entry != e.number || !strings.Contains(r.Finding.Why, c.why) {
			t.Errorf("%s: found %v, want %q", name, r.Finding, c.why)
		}
	}
	g := read(t, f.dir)
	g.the("events", 1).name = "change"
	if r := verify(t, g.write(), Options{}); r.Finding == nil {
		t.Error("events pass for a change")
	}
}

// What was signed of a ledger is held to it.
func TestCheckpointBindsTheLedger(t *testing.T) {
	f := happened(t)
	whole := fits(t, f.dir, Options{})
	g := read(t, f.dir)
	g.entries = g.entries[:len(g.entries)-1]
	var grown tree
	signed := []Tree{{}}
	signed[0].Root = grown.root()
	for _, e := range read(t, f.dir).entries {
		grown.add(g.encode(e))
		signed = append(signed, Tree{Size: e.number, Root: grown.root()})
	}
	if r := fits(t, f.dir, Options{Signed: signed}); r.Root != whole.Root || r.Root != signed[len(signed)-1].Root {
		t.Error("the root that is told is not that of the tree")
	}
	if r := verify(t, g.write(), Options{Signed: signed[len(signed)-1:]}); r.Finding == nil || !strings.Contains(r.Finding.Why, "older copy was restored") {
		t.Errorf("a shorter ledger: %v", r.Finding)
	}
	other := read(t, f.dir)
	other.the("charge", 6).at = other.the("charge", 6).at.Add(1000)
	dir := other.write()
	if r := verify(t, dir, Options{}); r.Finding != nil {
		t.Fatalf("a rewritten ledger is consistent in itself: %v", r.Finding)
	}
	for _, s := range signed[other.the("charge", 6).number:] {
		if r := verify(t, dir, Options{Signed: []Tree{s}}); r.Finding == nil || r.Finding.Entry != s.Size {
			t.Fatalf("a rewritten ledger passes for the signed one of %d entries: %v", s.Size, r.Finding)
		}
	}
	fits(t, dir, Options{Signed: signed[:other.the("charge", 6).number]})
}
