package office

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// house is an office with the officers ada and grace, the analyst team, and the dataset shop that takes two officers.
type house struct {
	*Office
	m   *memory
	t   *testing.T
	now time.Time
}

func newHouse(t *testing.T) *house {
	h := &house{m: newMemory(), t: t, now: now}
	h.Office = New(h.m, func() time.Time { return h.now })
	for _, name := range []string{"ada", "grace"} {
		_, err := h.CreateConsumer(ctx, "root", dp.Consumer{Name: name, Role: dp.Officer, Audience: dp.Internal}, "")
		check(t, err)
		_, _, err = h.IssueKey(ctx, "root", NewKey{Consumer: name}, "")
		check(t, err)
	}
	_, err := h.CreateConsumer(ctx, "ada", dp.Consumer{Name: "team", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}, "")
	check(t, err)
	_, _, err = h.ApplyPolicy(ctx, "ada", h.shop(nil), nil, "")
	check(t, err)
	return h
}

// shop is the policy of two persons, changed.
func (h *house) shop(change func(*dp.Policy)) dp.Policy {
	p := shop()
	p.TwoPerson = true
	if change != nil {
		change(&p)
	}
	return p
}

// waits checks that a change became a proposal and that nothing else was written.
func (h *house) waits(err error) dp.Proposal {
	h.t.Helper()
	var w *Waiting
	if !errors.As(err, &w) {
		h.t.Fatalf("got %v, want a proposal", err)
	}
	if stands, ok := h.m.proposals[w.Proposal.ID]; !ok || stands.End != nil {
		h.t.Fatalf("the proposal stands as %+v", stands)
	}
	return w.Proposal
}

func (h *house) apply(by string, change func(*dp.Policy)) error {
	versions := h.m.policies["shop"]
	p := versions[len(versions)-1].Policy
	change(&p)
	_, _, err := h.ApplyPolicy(ctx, by, p, version(uint64(len(versions))), "why")
	return err
}

func (h *house) patch(by, name string, change func(*ConsumerPatch)) error {
	var p ConsumerPatch
	change(&p)
	_, err := h.PatchConsumer(ctx, by, name, p, version(h.m.consumers[name].Version), "why")
	return err
}

func (h *house) allot(by string, change func(*dp.Allotment)) error {
	a := h.m.allotments[[2]string{"team", "shop"}]
	a.Consumer, a.Dataset = "team", "shop"
	var ifMatch *uint64
	if a.Version > 0 {
		ifMatch = version(a.Version)
	}
	change(&a)
	_, _, err := h.SetAllotment(ctx, by, a, ifMatch, "why")
	return err
}

func (h *house) confirm(by, id string) error {
	_, err := h.DecideProposal(ctx, by, id, true, "agreed")
	return err
}

func TestLooseningChangeOfAPolicyWaitsForASecondOfficer(t *testing.T) {
	h := newHouse(t)
	dearer := func(p *dp.Policy) { p.Cap.Epsilon *= 2 }
	p := h.waits(h.apply("ada", dearer))
	if len(h.m.policies["shop"]) != 1 || p.By != "ada" || p.Reason != "why" || !p.Expires.Equal(now.Add(7*24*time.Hour)) || p.Change.Policy.After.Version != 2 {
		t.Fatalf("proposed %+v", p)
	}
	if again := h.waits(h.apply("ada", dearer)); again.ID != p.ID || len(h.m.proposals) != 1 {
		t.Fatal("the same change made another proposal")
	}
	refused(t, h.m, dp.CodeForbidden, "their own", func() error { return h.confirm("ada", p.ID) })
	refused(t, h.m, dp.CodeForbidden, "only officers", func() error { return h.confirm("team", p.ID) })
	refused(t, h.m, dp.CodeNotFound, "no such proposal", func() error { return h.confirm("grace", "pro_none") })
	refused(t, h.m, dp.CodeInvalidInput, "say why", func() error { _, err := h.DecideProposal(ctx, "grace", p.ID, true, " "); return err })
	check(t, h.confirm("grace", p.ID))
	if v := h.m.policies["shop"]; len(v) != 2 || v[1].Cap.Epsilon != 2*dp.EpsilonOne || h.m.proposals[p.ID].End.By != "grace" {
		t.Fatalf("in force is %+v", v)
	}
	recorded := len(h.m.log)
	check(t, h.confirm("grace", p.ID))
	if len(h.m.log) != recorded {
		t.Fatal("a confirmation made again was recorded")
	}
	refused(t, h.m, dp.CodeConflict, "confirmed on", func() error { _, err := h.DecideProposal(ctx, "grace", p.ID, false, "no"); return err })

	check(t, h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon = 1 }))
	off := h.waits(h.apply("ada", func(p *dp.Policy) { p.TwoPerson = false }))
	check(t, h.confirm("grace", off.ID))
	check(t, h.apply("ada", dearer))
}

func TestProposalEndsOtherwiseThanByAgreement(t *testing.T) {
	h := newHouse(t)
	more := func(n dp.Epsilon) dp.Proposal {
		return h.waits(h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon += n }))
	}
	state := func(p dp.Proposal, want dp.ProposalState) {
		t.Helper()
		if got := h.m.proposals[p.ID]; got.State(h.now) != want || len(h.m.policies["shop"]) != 1 {
			t.Errorf("the proposal is %s, want %s", got.State(h.now), want)
		}
	}
	one := more(1)
	_, err := h.DecideProposal(ctx, "grace", one.ID, false, "too much")
	check(t, err)
	state(one, dp.ProposalRejected)
	two := more(2)
	refused(t, h.m, dp.CodeForbidden, "only who proposed", func() error { _, err := h.WithdrawProposal(ctx, "grace", two.ID, ""); return err })
	for range 2 {
		_, err = h.WithdrawProposal(ctx, "ada", two.ID, "")
		check(t, err)
	}
	state(two, dp.ProposalWithdrawn)
	refused(t, h.m, dp.CodeConflict, "withdrawn on", func() error { return h.confirm("grace", two.ID) })
	three, four := more(3), more(4)
	h.now = h.now.Add(ProposalLife)
	state(three, dp.ProposalExpired)
	if err := h.confirm("grace", three.ID); err == nil || !strings.Contains(err.Error(), "expired on") || h.m.proposals[three.ID].End.State != dp.ProposalExpired {
		t.Fatalf("got %v", err)
	}
	more(5) // which makes room
	if h.m.proposals[four.ID].End == nil {
		t.Error("an expired proposal takes room")
	}
}

func TestProposalOverWhatChangedMeanwhileIsStale(t *testing.T) {
	for name, meanwhile := range map[string]func(*house){
		"policy": func(h *house) { check(h.t, h.apply("grace", func(p *dp.Policy) { p.Cap.Epsilon-- })) },
		"proposer demoted": func(h *house) {
			third := h.officer("mary")
			role := dp.Auditor
			check(h.t, h.patch(third, "ada", func(p *ConsumerPatch) { p.Role = &role }))
		},
		"proposer suspended": func(h *house) {
			third, out := h.officer("mary"), true
			check(h.t, h.patch(third, "ada", func(p *ConsumerPatch) { p.Suspended = &out }))
		},
	} {
		h := newHouse(t)
		p := h.waits(h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon++ }))
		meanwhile(h)
		before := len(h.m.policies["shop"])
		var e *dp.Error
		if err := h.confirm("grace", p.ID); !errors.As(err, &e) || e.Code != dp.CodeConflict {
			t.Errorf("%s: got %v", name, err)
		}
		if h.m.proposals[p.ID].End.State != dp.ProposalStale || len(h.m.policies["shop"]) != before {
			t.Errorf("%s: the proposal ended as %+v", name, h.m.proposals[p.ID].End)
		}
	}
}

// officer makes another officer by two, with a key that neither has seen.
func (h *house) officer(name string) string {
	h.t.Helper()
	_, err := h.CreateConsumer(ctx, "ada", dp.Consumer{Name: name, Role: dp.Officer, Audience: dp.Internal}, "a third one")
	check(h.t, h.confirm("grace", h.waits(err).ID))
	_, hash := NewSecret()
	_, _, err = h.IssueKey(ctx, "ada", NewKey{Consumer: name, Hash: &hash}, "for them")
	check(h.t, h.confirm("grace", h.waits(err).ID))
	if k, err := h.m.Keys(name); err != nil || len(k) != 1 || k[0].Hash != hash || !k[0].Created.Equal(h.now) || h.m.consumers[name].Created.IsZero() {
		h.t.Fatalf("made %+v with %+v", h.m.consumers[name], k)
	}
	return name
}

func TestAllotmentsAndGrantsWaitUnlessTheyNarrow(t *testing.T) {
	h := newHouse(t)
	p := h.waits(h.allot("ada", func(a *dp.Allotment) { a.Budget.Epsilon = 10 }))
	if p.Change.Allotment.Before != nil || len(h.m.allotments) != 0 {
		t.Fatalf("proposed %+v", p)
	}
	check(t, h.confirm("grace", p.ID))
	check(t, h.allot("ada", func(a *dp.Allotment) { a.Paused, a.Budget.Epsilon = true, 9 }))
	p = h.waits(h.allot("ada", func(a *dp.Allotment) { a.Paused = false }))
	if p.Change.Allotment.Before.Version != 2 || p.Change.Allotment.After.Version != 3 {
		t.Fatalf("proposed %+v", p.Change.Allotment)
	}
	check(t, h.confirm("grace", p.ID))

	ask := func(epsilon dp.Epsilon) string {
		r, _, err := h.RequestBudget(ctx, "team", dp.BudgetRequest{Dataset: "shop", Reason: "more", Asked: dp.Terms{Budget: dp.Budget{Epsilon: epsilon}}}, "")
		check(t, err)
		return r.ID
	}
	decide := func(id string, grant bool, seen uint64) error {
		_, _, err := h.DecideRequest(ctx, "ada", id, Decision{Grant: grant}, version(seen), "the launch")
		return err
	}
	denied := ask(50)
	check(t, decide(denied, false, 3))
	granted := ask(20)
	p = h.waits(decide(granted, true, 3))
	if p.Change.Allotment.Request != granted || h.m.requests[granted].Decision != nil {
		t.Fatalf("proposed %+v", p.Change.Allotment)
	}
	check(t, h.confirm("grace", p.ID))
	d := h.m.requests[granted].Decision
	if a := h.m.allotments[[2]string{"team", "shop"}]; a.Budget.Epsilon != 20 || d == nil || d.By != "grace" || d.Reason != "the launch" || d.Allotment != a.Version {
		t.Fatalf("granted %+v by %+v", a, d)
	}
	check(t, decide(ask(5), true, 4)) // less than there is
	gone := ask(30)
	p = h.waits(decide(gone, true, 5))
	_, err := h.WithdrawRequest(ctx, "team", gone, "")
	check(t, err)
	if err := h.confirm("grace", p.ID); err == nil || h.m.proposals[p.ID].End.State != dp.ProposalStale {
		t.Errorf("a withdrawn request is granted: %v", err)
	}
}

func TestOneOfficerCannotMakeTheSecondOne(t *testing.T) {
	h := newHouse(t)
	officer, product, in, third := dp.Officer, dp.Product, false, dp.ThirdParty
	secret, _, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "team"}, "") // not an officer's: one person's
	if err != nil || secret == "" {
		t.Fatal(err)
	}
	_, err = h.CreateConsumer(ctx, "ada", dp.Consumer{Name: "custodian", Role: dp.Custodian, Audience: dp.Internal}, "")
	check(t, err)

	// Somebody whose key is known to who issued it.
	refused(t, h.m, dp.CodeConflict, "revoke its keys", func() error { return h.patch("ada", "team", func(p *ConsumerPatch) { p.Role = &officer }) })
	p := h.waits(h.patch("ada", "custodian", func(p *ConsumerPatch) { p.Role = &officer }))
	_, key, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "custodian"}, "while it waits")
	check(t, err)
	refused(t, h.m, dp.CodeConflict, "revoke its keys", func() error { return h.confirm("grace", p.ID) })
	_, err = h.RevokeKey(ctx, "grace", "custodian", key.ID, "")
	check(t, err)
	check(t, h.confirm("grace", p.ID))

	// A key of another officer, by its hash alone; one's own needs nobody.
	refused(t, h.m, dp.CodeInvalidInput, "discreet key new", func() error {
		_, _, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "grace"}, "for grace")
		return err
	})
	if secret, _, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "ada"}, ""); err != nil || secret == "" {
		t.Fatal(err)
	}
	_, hash := NewSecret()
	_, _, err = h.IssueKey(ctx, "ada", NewKey{Consumer: "grace", Hash: &hash}, "for grace")
	again := h.waits(err)
	_, _, err = h.IssueKey(ctx, "ada", NewKey{Consumer: "grace", Hash: &hash}, "for grace")
	if h.waits(err).ID != again.ID {
		t.Error("the same key was proposed twice")
	}

	for name, change := range map[string]func(*ConsumerPatch){
		"purposes": func(p *ConsumerPatch) { p.Purposes = &[]string{"reporting", "ads"} },
		"audience": func(p *ConsumerPatch) { p.Audience = &third },
		"name of its organisation": func(p *ConsumerPatch) {
			p.Organisation = new("another")
		},
	} {
		if p := h.waits(h.patch("ada", "team", change)); p.Change.Consumer.Before.Name != "team" {
			t.Errorf("%s: proposed %+v", name, p)
		}
	}
	check(t, h.patch("ada", "team", func(p *ConsumerPatch) { p.Role = &product }))
	out := true
	check(t, h.patch("ada", "team", func(p *ConsumerPatch) { p.Suspended = &out }))
	h.waits(h.patch("ada", "team", func(p *ConsumerPatch) { p.Suspended = &in }))
	refused(t, h.m, dp.CodeForbidden, "you are none", func() error { return h.patch("nobody", "team", func(p *ConsumerPatch) { p.Suspended = &in }) })
}

func TestWhoIsOutOrHasAnotherRoleByNowChangesNothing(t *testing.T) {
	h := newHouse(t)
	proposed := h.waits(h.apply("grace", func(p *dp.Policy) { p.Cap.Epsilon *= 2 }))
	own := h.waits(h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon *= 3 }))
	officers := map[string]func() error{
		"a narrower policy": func() error { return h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon-- }) },
		"a consumer": func() error {
			_, err := h.CreateConsumer(ctx, "ada", dp.Consumer{Name: "new", Role: dp.Product, Audience: dp.Internal}, "")
			return err
		},
		"a key":      func() error { _, _, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "team"}, ""); return err },
		"a rotation": func() error { _, _, _, err := h.RotateKey(ctx, "ada", "team", 0, time.Time{}, ""); return err },
		"a revocation": func() error {
			_, err := h.RevokeKey(ctx, "ada", "grace", "key_none", "")
			return err
		},
		"a confirmation": func() error { return h.confirm("ada", proposed.ID) },
	}
	anybody := map[string]func() error{
		"a withdrawal": func() error { _, err := h.WithdrawProposal(ctx, "ada", own.ID, ""); return err },
		"a request": func() error {
			_, _, err := h.RequestBudget(ctx, "ada", dp.BudgetRequest{Dataset: "shop", Reason: "more", Asked: dp.Terms{Budget: dp.Budget{Epsilon: 1}}}, "")
			return err
		},
		"a key of its own": func() error { _, err := h.RevokeOwnKey(ctx, "ada", "key_none"); return err },
	}
	ada := h.m.consumers["ada"]
	for _, c := range []struct {
		now  func(*dp.Consumer)
		acts []map[string]func() error
	}{
		{func(c *dp.Consumer) { c.Suspended = true }, []map[string]func() error{officers, anybody}},
		{func(c *dp.Consumer) { c.Role = dp.Auditor }, []map[string]func() error{officers}},
	} {
		after := ada
		c.now(&after)
		h.m.consumers["ada"] = after
		for _, acts := range c.acts {
			for what, act := range acts {
				t.Run(what, func(t *testing.T) { refused(t, h.m, dp.CodeForbidden, "", act) })
			}
		}
	}
}

func TestOpenProposalsAreLimited(t *testing.T) {
	h := newHouse(t)
	for i := range MaxOpenProposals {
		h.waits(h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon += dp.Epsilon(i) + 1 }))
	}
	refused(t, h.m, dp.CodeConflict, fmt.Sprint(MaxOpenProposals), func() error {
		return h.apply("ada", func(p *dp.Policy) { p.Cap.Epsilon += 1000 })
	})
}

func TestSomebodyWhoCanActRemains(t *testing.T) {
	o, m := newOffice()
	check(t, func() error { _, err := o.Bootstrap(ctx); return err }())
	keys, _ := m.Keys(FirstOfficer)
	auditor, out := dp.Auditor, true
	alone := func() {
		t.Helper()
		at := version(m.consumers[FirstOfficer].Version)
		refused(t, m, dp.CodeConflict, "make another officer first", func() error { _, err := o.RevokeKey(ctx, FirstOfficer, FirstOfficer, keys[0].ID, ""); return err })
		refused(t, m, dp.CodeConflict, "make another officer first", func() error {
			_, err := o.PatchConsumer(ctx, FirstOfficer, FirstOfficer, ConsumerPatch{Role: &auditor}, at, "why")
			return err
		})
		refused(t, m, dp.CodeConflict, "make another officer first", func() error {
			_, err := o.PatchConsumer(ctx, FirstOfficer, FirstOfficer, ConsumerPatch{Suspended: &out}, at, "why")
			return err
		})
	}
	alone()
	_, err := o.CreateConsumer(ctx, FirstOfficer, dp.Consumer{Name: "grace", Role: dp.Officer, Audience: dp.Internal}, "")
	check(t, err)
	alone() // she has no key
	_, _, err = o.IssueKey(ctx, FirstOfficer, NewKey{Consumer: "grace", Expires: now.Add(time.Hour)}, "")
	check(t, err)
	alone() // nor one for long
	p := shop()
	p.TwoPerson = true
	refused(t, m, dp.CodeConflict, "two officers", func() error { _, _, err := o.ApplyPolicy(ctx, FirstOfficer, p, nil, ""); return err })
	_, second, err := o.IssueKey(ctx, FirstOfficer, NewKey{Consumer: "grace"}, "")
	check(t, err)
	_, _, err = o.ApplyPolicy(ctx, FirstOfficer, p, nil, "")
	check(t, err)
	alone() // a dataset takes two
	refused(t, m, dp.CodeConflict, "fewer than two", func() error { _, err := o.RevokeKey(ctx, FirstOfficer, "grace", second.ID, ""); return err })
	p.TwoPerson = false
	_, _, err = o.ApplyPolicy(ctx, FirstOfficer, p, version(1), "one suffices")
	var w *Waiting
	if !errors.As(err, &w) {
		t.Fatal(err)
	}
	_, err = o.DecideProposal(ctx, "grace", w.Proposal.ID, true, "agreed")
	check(t, err)
	_, err = o.RevokeKey(ctx, "grace", FirstOfficer, keys[0].ID, "")
	check(t, err)
}

func TestKeyIsIssuedOnceUnderAnIdempotencyKey(t *testing.T) {
	o, m := newOffice()
	_, err := o.CreateConsumer(ctx, "officer", dp.Consumer{Name: "team", Role: dp.Product, Audience: dp.Internal}, "")
	check(t, err)
	_, first, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team", Repeat: "k"}, "")
	check(t, err)
	refused(t, m, dp.CodeConflict, first.ID, func() error {
		_, _, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team", Repeat: "k"}, "")
		return err
	})
	_, hash := NewSecret()
	refused(t, m, dp.CodeConflict, first.ID, func() error {
		_, _, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team", Repeat: "k", Hash: &hash}, "")
		return err
	})
	for range 2 {
		secret, key, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team", Repeat: "l", Hash: &hash}, "")
		if err != nil || secret != "" || key.Hash != hash {
			t.Fatalf("issued %+v, %v", key, err)
		}
	}
	if len(m.keys) != 2 {
		t.Fatalf("there are %d keys", len(m.keys))
	}
}

func TestKeysOfAnotherOfficerAreNotRotatedByOne(t *testing.T) {
	h := newHouse(t)
	rotate := func(by, of string) error {
		_, _, _, err := h.RotateKey(ctx, by, of, time.Hour, time.Time{}, "yearly")
		return err
	}
	refused(t, h.m, dp.CodeConflict, "two officers", func() error { return rotate("ada", "grace") })
	check(t, rotate("grace", "grace"))
	_, _, err := h.IssueKey(ctx, "ada", NewKey{Consumer: "team"}, "")
	check(t, err)
	check(t, rotate("ada", "team"))
	// One's own for a shorter one, which would leave nobody before long.
	keys, _ := h.m.Keys("ada")
	refused(t, h.m, dp.CodeConflict, "fewer than two", func() error {
		_, _, _, err := h.RotateKey(ctx, "ada", "ada", time.Hour, now.Add(2*time.Hour), "")
		return err
	})
	refused(t, h.m, dp.CodeConflict, "fewer than two", func() error { _, err := h.RevokeOwnKey(ctx, "ada", keys[0].ID); return err })
	grace := time.Hour
	refused(t, h.m, dp.CodeConflict, "fewer than two", func() error {
		_, _, _, err := h.IssueOwnKey(ctx, "ada", keys[0].ID, &grace, now.Add(2*time.Hour))
		return err
	})
}

func TestSubjectOfAnOfficerTakesTwo(t *testing.T) {
	h := newHouse(t)
	officer, mine, none := dp.Officer, "ada@elsewhere", ""
	set := func(subject string) error {
		return h.patch("ada", "team", func(p *ConsumerPatch) { p.Subject = &subject })
	}
	p := h.waits(set(mine))
	check(t, h.confirm("grace", p.ID))
	refused(t, h.m, dp.CodeConflict, "take its subject away", func() error {
		return h.patch("ada", "team", func(p *ConsumerPatch) { p.Role = &officer })
	})
	check(t, set(none))
	p = h.waits(h.patch("ada", "team", func(p *ConsumerPatch) { p.Role, p.Subject = &officer, &mine })) // which is shown
	check(t, h.confirm("grace", p.ID))
}
