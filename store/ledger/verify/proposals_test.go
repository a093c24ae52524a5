package verify

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// proposed is what the changes of a ledger with two officers came to, each by the id of its proposal.
type proposed struct {
	*fixture
	dearer, off, stale, refused, withdrawn, late, hired, key, promoted, raised, granted, open string
}

// agreed is an honest ledger with proposals of every kind and in every state.
func agreed(t *testing.T) proposed {
	f := proposed{fixture: newFixture(t)}
	ctx := t.Context()
	for _, name := range []string{"ada", "grace"} {
		_, err := f.office.CreateConsumer(ctx, "root", dp.Consumer{Name: name, Role: dp.Officer, Audience: dp.Internal}, "")
		f.must(err)
		_, _, err = f.office.IssueKey(ctx, "root", office.NewKey{Consumer: name}, "")
		f.must(err)
	}
	f.hire("team")
	long := make([]string, 40) // what the chain holds by its digest
	for i := range long {
		long[i] = "purpose-of-a-considerable-length-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	seen := uint64(0)
	apply := func(by string, change func(*dp.Policy)) error {
		var p dp.VersionedPolicy
		if seen > 0 {
			var err error
			p, err = f.Policy(ctx, "cards")
			f.must(err)
		} else {
			p.Policy = dp.Policy{
				Name: "cards", Kind: dp.Transactions, Population: 1_000_000,
				Unit: dp.Unit{Column: "customer_id", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
				Measures: []dp.Measure{{Name: "amount", Column: "amount", Scale: 2, Upper: 100}},
				Bounds:   dp.Bounds{MaxPartitions: 4, MaxRows: 4}, Cap: dp.Budget{Epsilon: 3 * dp.EpsilonOne}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10},
				Purposes: append([]string{"reporting"}, long...), Audiences: []dp.Audience{dp.Internal}, TwoPerson: true,
			}
		}
		change(&p.Policy)
		var ifMatch *uint64
		if p.Version > 0 {
			ifMatch = &p.Version
		}
		_, _, err := f.office.ApplyPolicy(ctx, by, p.Policy, ifMatch, "why")
		return err
	}
	waits := func(err error) string {
		t.Helper()
		var w *office.Waiting
		if !errors.As(err, &w) {
			t.Fatalf("got %v, want a proposal", err)
		}
		return w.Proposal.ID
	}
	decide := func(by, id string, confirm bool) string {
		t.Helper()
		_, err := f.office.DecideProposal(ctx, by, id, confirm, "decided")
		f.must(err)
		return id
	}
	f.must(apply("ada", func(*dp.Policy) {}))
	seen = 1
	more := func(by string, n dp.Epsilon) string {
		return waits(apply(by, func(p *dp.Policy) { p.Cap.Epsilon += n }))
	}
	f.dearer = decide("grace", more("ada", 1), true)
	f.refused = decide("grace", more("ada", 2), false)
	f.withdrawn = more("ada", 3)
	_, err := f.office.WithdrawProposal(ctx, "ada", f.withdrawn, "")
	f.must(err)
	f.stale = more("ada", 4)
	f.must(apply("grace", func(p *dp.Policy) { p.Cap.Epsilon -= 10; p.Purposes = p.Purposes[:40] })) // narrower
	if _, err := f.office.DecideProposal(ctx, "grace", f.stale, true, "decided"); err == nil {
		t.Fatal("a stale proposal was confirmed")
	}
	f.late = more("ada", 5)

	patch := func(by, name string, p office.ConsumerPatch) error {
		now, err := f.Consumer(ctx, name)
		f.must(err)
		_, err = f.office.PatchConsumer(ctx, by, name, p, &now.Version, "why")
		return err
	}
	_, err = f.office.CreateConsumer(ctx, "grace", dp.Consumer{Name: "mary", Role: dp.Officer, Audience: dp.Internal}, "a third")
	f.hired = decide("ada", waits(err), true)
	_, hash := office.NewSecret()
	_, _, err = f.office.IssueKey(ctx, "grace", office.NewKey{Consumer: "mary", Hash: &hash}, "hers")
	f.key = decide("ada", waits(err), true)
	_, _, err = f.office.IssueKey(ctx, "ada", office.NewKey{Consumer: "ada"}, "my own")
	f.must(err)
	_, err = f.office.CreateConsumer(ctx, "grace", dp.Consumer{Name: "eve", Role: dp.Custodian, Audience: dp.Internal}, "")
	f.must(err)
	_, k, err := f.office.IssueKey(ctx, "grace", office.NewKey{Consumer: "eve"}, "")
	f.must(err)
	_, err = f.office.RevokeKey(ctx, "ada", "eve", k.ID, "")
	f.must(err)
	officer, product := dp.Officer, dp.Product
	f.promoted = decide("ada", waits(patch("mary", "eve", office.ConsumerPatch{Role: &officer})), true)
	f.must(patch("ada", "team", office.ConsumerPatch{Role: &product}))

	allot := func(change func(*dp.Allotment)) error {
		a, err := f.Allotment(ctx, "team", "cards")
		f.must(err)
		var ifMatch *uint64
		if a.Version > 0 {
			ifMatch = &a.Version
		}
		change(&a)
		_, _, err = f.office.SetAllotment(ctx, "mary", a, ifMatch, "why")
		return err
	}
	f.raised = decide("ada", waits(allot(func(a *dp.Allotment) { a.Budget.Epsilon = dp.EpsilonOne })), true)
	f.must(allot(func(a *dp.Allotment) { a.Paused = true }))
	r, _, err := f.office.RequestBudget(ctx, "team", dp.BudgetRequest{Dataset: "cards", Reason: "more", Asked: dp.Terms{Budget: dp.Budget{Epsilon: 2 * dp.EpsilonOne}}}, "")
	f.must(err)
	two := uint64(2)
	_, _, err = f.office.DecideRequest(ctx, "mary", r.ID, office.Decision{Grant: true}, &two, "agreed")
	f.granted = decide("ada", waits(err), true)

	f.wait(office.ProposalLife)
	f.off = waits(apply("ada", func(p *dp.Policy) { p.TwoPerson = false })) // ends what expired
	decide("mary", f.off, true)
	f.must(apply("grace", func(p *dp.Policy) { p.TwoPerson = true }))
	f.open = more("eve", 6)
	f.reopen()
	f.close()
	return f
}

func TestLedgerOfTwoOfficersFits(t *testing.T) {
	f := agreed(t)
	fits(t, f.dir, Options{Witness: f.witness})
	fits(t, read(t, f.dir).write(), Options{})
}

func TestWhatTakesTwoOfficersIsNotDoneByOne(t *testing.T) {
	f := agreed(t)
	at := func(g *forger, kind byte, id string) *entry {
		for _, e := range g.entries {
			if e.find(key(kind, id)) != nil {
				return e
			}
		}
		t.Fatalf("no entry has %s %s", words[kind], id)
		return nil
	}
	made := func(g *forger, id string) *entry { return at(g, kindProposal, id) }
	ended := func(g *forger, id string) *entry { return at(g, kindProposalEnd, id) }
	without := func(g *forger, e *entry, kinds ...byte) {
		e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return slices.Contains(kinds, w.key[0]) })
	}
	// alone leaves the second officer out.
	alone := func(id string) func(g *forger) *entry {
		return func(g *forger) *entry {
			e := ended(g, id)
			without(g, e, kindProposalEnd, kindProposalOpen)
			edit(g, g.first(e, kindChange), func(x *changeRecord) {
				x.Changed = slices.DeleteFunc(x.Changed, func(o changedObject) bool { return o.Kind == "proposal" })
			})
			return e
		}
	}
	act := func(g *forger, e *entry, name string) {
		edit(g, g.first(e, kindChange), func(x *changeRecord) { x.Actor = name })
	}
	end := func(id string, change func(*proposalEndRecord)) func(g *forger) *entry {
		return func(g *forger) *entry {
			e := ended(g, id)
			edit(g, g.first(e, kindProposalEnd), func(r *proposalEndRecord) {
				change(r)
				act(g, e, r.By)
			})
			return e
		}
	}
	changed := func(kind byte, id string, change func(map[string]any)) func(g *forger) *entry {
		return func(g *forger) *entry {
			e := ended(g, id)
			g.editJSON(g.first(e, kind), change)
			return e
		}
	}
	// one gives the n-th entry without a proposal that writes a kind of key.
	one := func(g *forger, kind byte, n int) *entry {
		for _, e := range g.entries {
			if slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kind }) && !slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kindProposalEnd }) {
				if n--; n == 0 {
					return e
				}
			}
		}
		t.Fatalf("there are not so many %s", words[kind])
		return nil
	}
	for name, c := range map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"policy loosened":       {alone(f.dearer), "the policy of dataset cards, which takes two officers, is changed by one"},
		"two persons asked off": {alone(f.off), "the policy of dataset cards, which takes two officers, is changed by one"},
		"allotment given":       {alone(f.raised), "the allotment of team on cards, which takes two officers, is changed by one"},
		"request granted":       {alone(f.granted), "the allotment of team on cards, which takes two officers, is changed by one"},
		"officer made":          {alone(f.hired), "one officer makes mary an officer"},
		"officer promoted":      {alone(f.promoted), "one officer makes eve an officer"},
		"officer's key":         {alone(f.key), "one officer gives another one, mary, a key"},
		"one's own key by another": {func(g *forger) *entry {
			e := one(g, kindKey, 3) // after those of the beginning
			act(g, e, "grace")
			return e
		}, "one officer gives another one, ada, a key"},
		"narrower policy with more": {func(g *forger) *entry {
			e := one(g, kindPolicy, 2)
			g.editJSON(g.first(e, kindPolicy), func(p map[string]any) { p["Bounds"].(map[string]any)["MaxRows"] = 1000 })
			return e
		}, "changed by one, in more than narrowing it"},
		"pause with more": {func(g *forger) *entry {
			e := one(g, kindAllotment, 1)
			edit(g, g.first(e, kindAllotment), func(a *allotmentRecord) { a.Budget.Delta++ })
			return e
		}, "changed by one, in more than narrowing it"},
		"role with more": {func(g *forger) *entry {
			e := one(g, kindConsumer, 5) // after ada, grace, team and eve
			g.editJSON(g.first(e, kindConsumer), func(c map[string]any) { c["Purposes"] = []string{"ads"} })
			return e
		}, "in more than narrowing it"},

		"confirmed by its proposer":      {end(f.dearer, func(r *proposalEndRecord) { r.By = "ada" }), "by who made it"},
		"confirmed by an analyst":        {end(f.dearer, func(r *proposalEndRecord) { r.By = "team" }), "by somebody who is no officer"},
		"confirmed by nobody":            {end(f.dearer, func(r *proposalEndRecord) { r.By = "" }), "by somebody who is no officer"},
		"rejected by its proposer":       {end(f.refused, func(r *proposalEndRecord) { r.By = "ada" }), "by who made it"},
		"withdrawn by another":           {end(f.withdrawn, func(r *proposalEndRecord) { r.By = "grace" }), "withdrawn by somebody else"},
		"confirmed too late":             {end(f.dearer, func(r *proposalEndRecord) { r.At = r.At.Add(7 * 24 * time.Hour) }), "after it had expired"},
		"confirmed before it was made":   {end(f.dearer, func(r *proposalEndRecord) { r.At = r.At.Add(-time.Hour) }), "after it had expired"},
		"stale and confirmed":            {end(f.stale, func(r *proposalEndRecord) { r.State = confirmed }), "though what it is about had changed"},
		"refused as stale":               {end(f.refused, func(r *proposalEndRecord) { r.State = stale }), "nothing that it is about had changed"},
		"refused and called confirmed":   {end(f.refused, func(r *proposalEndRecord) { r.State = confirmed }), "changes a policy otherwise than was proposed"},
		"ended as there is no ending":    {end(f.refused, func(r *proposalEndRecord) { r.State = "open" }), "a state that there is not"},
		"expired at once":                {end(f.refused, func(r *proposalEndRecord) { r.State = expired }), "before it is"},
		"confirmed, and called rejected": {end(f.dearer, func(r *proposalEndRecord) { r.State = rejected }), "changes a policy besides"},
		"confirmation in another's name": {func(g *forger) *entry {
			e := ended(g, f.dearer)
			act(g, e, "ada")
			return e
		}, "names somebody else"},

		"another policy than proposed":    {changed(kindPolicy, f.dearer, func(p map[string]any) { p["Population"] = 999_999 }), "a policy that the entry writes is not what was proposed"},
		"another allotment than proposed": {changed(kindAllotment, f.raised, func(a map[string]any) { a["MaxEpsilonPerQuery"] = 1 }), "an allotment that the entry writes is not what was proposed"},
		"another consumer than proposed":  {changed(kindConsumer, f.hired, func(c map[string]any) { c["Audience"] = "third-party" }), "a consumer that the entry writes is not what was proposed"},
		"another key than proposed": {func(g *forger) *entry {
			e := ended(g, f.key)
			edit(g, g.first(e, kindKey), func(k *keyRecord) { k.Hash[0]++ })
			return e
		}, "a key that the entry writes is not what was proposed"},
		"an allotment besides": {func(g *forger) *entry {
			e := ended(g, f.dearer)
			w := &write{key: key(kindAllotment, "team", "cards")}
			w.set(slices.Clone(g.value(g.first(ended(g, f.raised), kindAllotment))))
			e.writes = append(e.writes, w)
			return e
		}, "changes an allotment otherwise than was proposed"},
		"a grant left out": {func(g *forger) *entry {
			e := ended(g, f.granted)
			without(g, e, kindRequestEnd, kindRequestOpen, kindRequestOn)
			return e
		}, "decides on another budget request than was proposed"},

		"proposed by an analyst": {func(g *forger) *entry {
			e := made(g, f.dearer)
			edit(g, g.first(e, kindProposal), func(p *proposalRecord) { p.By = "team" })
			act(g, e, "team")
			return e
		}, "made by somebody who is no officer"},
		"proposed for ever": {func(g *forger) *entry {
			e := made(g, f.dearer)
			edit(g, g.first(e, kindProposal), func(p *proposalRecord) { p.Expires = p.Expires.Add(1) })
			return e
		}, "for longer than any"},
		"proposed for nothing": {func(g *forger) *entry {
			e := made(g, f.dearer)
			edit(g, g.first(e, kindProposal), func(p *proposalRecord) { p.Change.Policy = nil })
			return e
		}, "for no change"},
		"proposed over what is not there": {func(g *forger) *entry {
			e := made(g, f.granted)
			edit(g, g.first(e, kindProposal), func(p *proposalRecord) {
				p.Change.Allotment.Before = []byte(strings.Replace(string(p.Change.Allotment.Before), `"Paused":true`, `"Paused":false`, 1))
			})
			return e
		}, "something else than stands"},
		"ended twice": {func(g *forger) *entry {
			e := ended(g, f.refused)
			w := &write{key: key(kindProposalEnd, f.refused)}
			w.set(slices.Clone(g.value(g.first(e, kindProposalEnd))))
			return g.insert(e, "change", w)
		}, "ends once"},
		"an open one that ended": {func(g *forger) *entry {
			e := ended(g, f.refused)
			without(g, e, kindProposalOpen)
			return e
		}, "should delete the list of open proposals"},
		"an officer whose key was seen": {func(g *forger) *entry {
			edit(g, g.first(g.revocation(), kindKey), func(k *keyRecord) { k.Revoked = time.Time{} })
			return ended(g, f.promoted)
		}, "a key that others may have seen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := read(t, f.dir)
			e := c.forge(g)
			r := verify(t, g.write(), Options{})
			switch {
			case r.Finding == nil:
				t.Fatal("it fits")
			case r.Finding.Entry != e.number || !strings.Contains(r.Finding.Why, c.why):
				t.Errorf("found %q, want entry %d and %q", r.Finding, e.number, c.why)
			}
		})
	}
}

// Whatever the office lets one officer narrow, narrows for the verifier too.
func TestEveryNarrowingByOneFits(t *testing.T) {
	f := agreed(t)
	f.fixture.open()
	ctx := t.Context()
	suspend := func(name string) {
		suspended := true
		now, err := f.Consumer(ctx, name)
		f.must(err)
		_, err = f.office.PatchConsumer(ctx, "ada", name, office.ConsumerPatch{Suspended: &suspended}, &now.Version, "a test")
		f.must(err)
	}
	both := func(err error) {
		t.Helper()
		var w *office.Waiting
		if !errors.As(err, &w) {
			t.Fatalf("got %v, want a proposal", err)
		}
		_, err = f.office.DecideProposal(ctx, "grace", w.Proposal.ID, true, "agreed")
		f.must(err)
	}
	subject, none, all, internal := "team@issuer", "", []dp.Audience{dp.Internal, dp.ThirdParty}, []dp.Audience{dp.Internal}
	patch := func(p office.ConsumerPatch) error {
		now, err := f.Consumer(ctx, "team")
		f.must(err)
		_, err = f.office.PatchConsumer(ctx, "ada", "team", p, &now.Version, "a test")
		return err
	}
	policy := func(change func(*dp.Policy)) error {
		p, err := f.Policy(ctx, "cards")
		f.must(err)
		change(&p.Policy)
		_, _, err = f.office.ApplyPolicy(ctx, "ada", p.Policy, &p.Version, "a test")
		return err
	}
	allotment := func(change func(*dp.Allotment)) error {
		a, err := f.Allotment(ctx, "team", "cards")
		f.must(err)
		change(&a)
		_, _, err = f.office.SetAllotment(ctx, "ada", a, &a.Version, "a test")
		return err
	}
	both(patch(office.ConsumerPatch{Subject: &subject, Purposes: &[]string{"reporting", "research"}}))
	both(policy(func(p *dp.Policy) { p.Audiences = all }))
	both(allotment(func(a *dp.Allotment) { a.Paused, a.Budget.Delta = false, 1000 }))

	f.must(patch(office.ConsumerPatch{Subject: &none}))
	f.must(patch(office.ConsumerPatch{Purposes: &[]string{"research"}}))
	f.must(policy(func(p *dp.Policy) { p.Audiences = internal }))
	f.must(policy(func(p *dp.Policy) { p.Default.Epsilon, p.Cap.Epsilon = p.Default.Epsilon/2, p.Cap.Epsilon/2 }))
	f.must(policy(func(p *dp.Policy) { p.Purposes = p.Purposes[:1] }))
	for _, change := range []func(*dp.Allotment){
		func(a *dp.Allotment) { a.Budget.Epsilon /= 2 }, func(a *dp.Allotment) { a.Budget.Delta = 0 },
		func(a *dp.Allotment) { a.MaxEpsilonPerQuery = dp.EpsilonOne }, func(a *dp.Allotment) { a.MaxEpsilonPerQuery /= 2 },
		func(a *dp.Allotment) { a.Expires = f.clock().Add(2 * time.Hour) }, func(a *dp.Allotment) { a.Expires = a.Expires.Add(-time.Hour) },
		func(a *dp.Allotment) { a.Paused = true },
	} {
		f.must(allotment(change))
	}
	suspend("team")
	suspend("eve")
	auditor := dp.Auditor
	now, err := f.Consumer(ctx, "mary")
	f.must(err)
	_, err = f.office.PatchConsumer(ctx, "ada", "mary", office.ConsumerPatch{Role: &auditor}, &now.Version, "a test")
	f.must(err)
	f.close()
	fits(t, f.dir, Options{Witness: f.witness})
}
