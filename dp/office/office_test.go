package office

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// memory is a Book that keeps what a successful decision wrote, and counts the decisions that wrote anything.
type memory struct {
	policies   map[string][]dp.VersionedPolicy
	consumers  map[string]dp.Consumer
	keys       map[string]dp.Key
	allotments map[[2]string]dp.Allotment
	loaded     map[string]uint64
	requests   map[string]dp.BudgetRequest
	proposals  map[string]dp.Proposal
	wrote      bool
	log        []Change
}

func newMemory() *memory {
	return &memory{
		policies: map[string][]dp.VersionedPolicy{}, consumers: map[string]dp.Consumer{}, keys: map[string]dp.Key{},
		allotments: map[[2]string]dp.Allotment{}, loaded: map[string]uint64{}, requests: map[string]dp.BudgetRequest{}, proposals: map[string]dp.Proposal{},
	}
}

func (m *memory) Change(_ context.Context, c Change, decide func(Tx) error) error {
	tx := &memory{policies: maps.Clone(m.policies), consumers: maps.Clone(m.consumers), keys: maps.Clone(m.keys),
		allotments: maps.Clone(m.allotments), loaded: m.loaded, requests: maps.Clone(m.requests), proposals: maps.Clone(m.proposals)}
	if err := decide(tx); err != nil {
		return err
	}
	if tx.wrote {
		tx.log = append(m.log, c)
		tx.wrote = false
		*m = *tx
	}
	return nil
}

func (m *memory) Policies(d string) ([]dp.VersionedPolicy, error) { return m.policies[d], nil }
func (m *memory) LoadedUnder(d string) (uint64, error)            { return m.loaded[d], nil }
func (m *memory) AnyConsumer() (bool, error)                      { return len(m.consumers) > 0, nil }

func (m *memory) PutPolicy(p dp.VersionedPolicy) error {
	m.wrote = true
	m.policies[p.Name] = append(m.policies[p.Name][:len(m.policies[p.Name]):len(m.policies[p.Name])], p)
	return nil
}

func (m *memory) Consumer(name string) (dp.Consumer, bool, error) {
	c, ok := m.consumers[name]
	return c, ok, nil
}

func (m *memory) PutConsumer(c dp.Consumer) error {
	m.wrote = true
	m.consumers[c.Name] = c
	return nil
}

func (m *memory) Key(id string) (dp.Key, bool, error) {
	k, ok := m.keys[id]
	return k, ok, nil
}

func (m *memory) ConsumerOfSubject(subject string) (string, bool, error) {
	for _, c := range m.consumers {
		if c.Subject == subject {
			return c.Name, true, nil
		}
	}
	return "", false, nil
}

func (m *memory) Keys(consumer string) (list []dp.Key, err error) {
	for _, k := range m.keys {
		if k.Consumer == consumer {
			list = append(list, k)
		}
	}
	return list, nil
}

func (m *memory) PutKey(k dp.Key) error {
	m.wrote = true
	m.keys[k.ID] = k
	return nil
}

func (m *memory) Allotment(consumer, dataset string) (dp.Allotment, bool, error) {
	a, ok := m.allotments[[2]string{consumer, dataset}]
	return a, ok, nil
}

func (m *memory) PutAllotment(a dp.Allotment) error {
	m.wrote = true
	m.allotments[[2]string{a.Consumer, a.Dataset}] = a
	return nil
}

func (m *memory) PoliciesInForce() (list []dp.VersionedPolicy, err error) {
	for _, versions := range m.policies {
		list = append(list, versions[len(versions)-1])
	}
	return list, nil
}

func (m *memory) Officers() (list []dp.Consumer, err error) {
	for _, c := range m.consumers {
		if c.Role == dp.Officer {
			list = append(list, c)
		}
	}
	return list, nil
}

func (m *memory) Proposal(id string) (dp.Proposal, bool, error) {
	p, ok := m.proposals[id]
	return p, ok, nil
}

func (m *memory) OpenProposals() (list []dp.Proposal, err error) {
	for _, p := range m.proposals {
		if p.End == nil {
			list = append(list, p)
		}
	}
	return list, nil
}

func (m *memory) AddProposal(p dp.Proposal) (dp.Proposal, error) {
	m.wrote = true
	p.Number = uint64(len(m.proposals)) + 1
	m.proposals[p.ID] = p
	return p, nil
}

func (m *memory) EndProposal(id string, e dp.ProposalEnd) error {
	m.wrote = true
	p := m.proposals[id]
	p.End = &e
	m.proposals[id] = p
	return nil
}

func (m *memory) Request(id string) (dp.BudgetRequest, bool, error) {
	r, ok := m.requests[id]
	return r, ok, nil
}

func (m *memory) OpenRequests(consumer string) (list []dp.BudgetRequest, err error) {
	for _, r := range m.requests {
		if r.Consumer == consumer && r.Decision == nil {
			list = append(list, r)
		}
	}
	return list, nil
}

func (m *memory) RequestsSince(consumer string, since time.Time) (list []time.Time, err error) {
	for _, r := range m.requests {
		if r.Consumer == consumer && r.Made.After(since) {
			list = append(list, r.Made)
		}
	}
	return list, nil
}

func (m *memory) AddRequest(r dp.BudgetRequest) (dp.BudgetRequest, error) {
	m.wrote = true
	r.Number = uint64(len(m.requests)) + 1
	m.requests[r.ID] = r
	return r, nil
}

func (m *memory) EndRequest(id string, d dp.RequestDecision) error {
	m.wrote = true
	r := m.requests[id]
	r.Decision = &d
	m.requests[id] = r
	return nil
}

var (
	ctx = context.Background()
	now = time.Date(2026, 4, 1, 0, 0, 0, 0, time.FixedZone("CEST", 7200))
)

func newOffice() (*Office, *memory) {
	m := newMemory()
	return New(m, func() time.Time { return now }), m
}

func shop() dp.Policy {
	return dp.Policy{
		Name: "shop", Kind: dp.Transactions, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Dimensions: []dp.Dimension{{Name: "age", Type: dp.IntDimension, Private: true}},
		Measures:   []dp.Measure{{Name: "amount", Scale: 2, Upper: 100}},
		Bounds:     dp.Bounds{MaxPartitions: 4, MaxRows: 4},
		Cap:        dp.Budget{Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 10_000},
		Default:    dp.Budget{Epsilon: 1},
		Purposes:   []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}
}

// refused checks the code and that nothing was written.
func refused(t *testing.T, m *memory, code dp.Code, says string, change func() error) {
	t.Helper()
	before := len(m.log)
	err := change()
	var e *dp.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, says) {
		t.Errorf("got %v, want %s saying %q", err, code, says)
	}
	if len(m.log) != before {
		t.Error("a refusal wrote something")
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func version(n uint64) *uint64 { return &n }

func TestPolicyIsCreatedAndChangedUnderItsVersionWithAReason(t *testing.T) {
	o, m := newOffice()
	apply := func(change func(*dp.Policy), ifMatch *uint64, reason string) (dp.VersionedPolicy, bool, error) {
		p := shop()
		change(&p)
		return o.ApplyPolicy(ctx, "officer", p, ifMatch, reason)
	}
	try := func(change func(*dp.Policy), ifMatch *uint64, reason string) func() error {
		return func() error { _, _, err := apply(change, ifMatch, reason); return err }
	}
	same := func(*dp.Policy) {}
	dearer := func(p *dp.Policy) { p.Cap.Epsilon *= 2 }

	refused(t, m, dp.CodePreconditionFailed, "leave out If-Match", try(same, version(1), ""))
	created, isNew, err := apply(same, nil, "")
	if err != nil || !isNew || created.Version != 1 {
		t.Fatalf("created %+v, %v, %v", created, isNew, err)
	}
	again, isNew, err := apply(same, nil, "")
	if err != nil || isNew || again.Version != 1 || len(m.log) != 1 {
		t.Fatalf("applied the same again: %+v, %v, %v", again, isNew, err)
	}
	refused(t, m, dp.CodePreconditionRequired, "If-Match", try(dearer, nil, "why"))
	refused(t, m, dp.CodePreconditionFailed, "read it again", try(dearer, version(2), "why"))
	refused(t, m, dp.CodeInvalidInput, "why", try(dearer, version(1), "  "))
	refused(t, m, dp.CodeInvalidInput, "one line", try(dearer, version(1), "two\nlines"))
	changed, isNew, err := apply(dearer, version(1), "more is needed")
	if err != nil || isNew || changed.Version != 2 {
		t.Fatalf("changed %+v, %v, %v", changed, isNew, err)
	}
	if last := m.log[1]; last.Actor != "officer" || last.Reason != "more is needed" || !last.At.Equal(now) || last.At.Location() != time.UTC {
		t.Fatalf("recorded %+v", last)
	}
}

func TestLoadedRowsFixWhatExplainsThem(t *testing.T) {
	fixed := map[string]func(*dp.Policy){
		"the unit":     func(p *dp.Policy) { p.Unit.Column = "account" },
		"the block":    func(p *dp.Policy) { p.Unit.Block = dp.Year },
		"the time col": func(p *dp.Policy) { p.Time = &dp.TimeColumn{Column: "booked", Timezone: "UTC", Format: "rfc3339"} },
		"the time zone": func(p *dp.Policy) {
			p.Time = &dp.TimeColumn{Column: "at", Timezone: "Europe/Berlin", Format: "rfc3339"}
		},
		"the scale": func(p *dp.Policy) { p.Measures = []dp.Measure{{Name: "amount", Scale: 3, Upper: 100}} },
		"the type": func(p *dp.Policy) {
			p.Dimensions = []dp.Dimension{{Name: "age", Type: dp.StringDimension, Private: true}}
		},
	}
	free := map[string]func(*dp.Policy){
		"cap":               func(p *dp.Policy) { p.Cap.Epsilon = 7 },
		"bounds":            func(p *dp.Policy) { p.Bounds.MaxRows = 9 },
		"clamp":             func(p *dp.Policy) { p.Measures = []dp.Measure{{Name: "amount", Scale: 2, Upper: 50}} },
		"further measure":   func(p *dp.Policy) { p.Measures = append(p.Measures, dp.Measure{Name: "fee", Scale: 1, Upper: 10}) },
		"dropped measure":   func(p *dp.Policy) { p.Measures = nil },
		"dropped dimension": func(p *dp.Policy) { p.Dimensions = nil },
		"further link":      func(p *dp.Policy) { p.Link = &dp.Link{Consent: "linked_at"} },
		"time format":       func(p *dp.Policy) { p.Time = &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "unix"} },
	}
	start := func() (*Office, *memory) {
		o, m := newOffice()
		early := shop()
		early.Measures[0].Scale = 0
		_, _, err := o.ApplyPolicy(ctx, "officer", early, nil, "")
		check(t, err)
		_, _, err = o.ApplyPolicy(ctx, "officer", shop(), version(1), "before anything was loaded")
		check(t, err)
		return o, m
	}
	for what, change := range fixed {
		o, m := start()
		p := shop()
		change(&p)
		m.loaded["shop"] = 2
		refused(t, m, dp.CodeConflict, what, func() error {
			_, _, err := o.ApplyPolicy(ctx, "officer", p, version(2), "why")
			return err
		})
		m.loaded["shop"] = 0
		if _, _, err := o.ApplyPolicy(ctx, "officer", p, version(2), "why"); err != nil {
			t.Errorf("%s before any rows: %v", what, err)
		}
	}
	for what, change := range free {
		o, m := start()
		p := shop()
		change(&p)
		m.loaded["shop"] = 2
		if _, _, err := o.ApplyPolicy(ctx, "officer", p, version(2), "why"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	// Rows keep the consent that they were loaded with, whether a policy asks for one or not.
	linked, relinked := shop(), shop()
	linked.Link, relinked.Link = &dp.Link{Consent: "linked_at"}, &dp.Link{Consent: "agreed"}
	for _, pair := range [][2]dp.Policy{{linked, shop()}, {linked, relinked}} {
		if err := CheckFixed(pair[0], pair[1]); err != nil {
			t.Errorf("got %v", err)
		}
	}

	timed, timeless := shop(), shop()
	timed.Unit.Block, timeless.Unit.Block, timeless.Time = dp.All, dp.All, nil
	for _, pair := range [][2]dp.Policy{{timed, timeless}, {timeless, timed}} {
		if err := CheckFixed(pair[0], pair[1]); err == nil || !strings.Contains(err.Error(), "have a time") {
			t.Errorf("got %v", err)
		}
	}

	// A measure that was dropped comes back as what it was.
	o, m := start()
	m.loaded["shop"] = 2
	without := shop()
	without.Measures = nil
	_, _, err := o.ApplyPolicy(ctx, "officer", without, version(2), "why")
	check(t, err)
	back := shop()
	back.Measures[0].Scale = 0 // as it was before anything was loaded
	refused(t, m, dp.CodeConflict, "scale", func() error {
		_, _, err := o.ApplyPolicy(ctx, "officer", back, version(3), "why")
		return err
	})
}

func TestPolicyThatCannotBeGuaranteedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*dp.Policy)
		says  string
	}{
		"name":               {func(p *dp.Policy) { p.Name = "Shop" }, "lower-case"},
		"long name":          {func(p *dp.Policy) { p.Name = strings.Repeat("a", 64) }, "63"},
		"kind":               {func(p *dp.Policy) { p.Kind = "other" }, "kind"},
		"no population":      {func(p *dp.Policy) { p.Population = 0 }, "population"},
		"vast population":    {func(p *dp.Policy) { p.Population = maxPopulation + 1 }, "population"},
		"no unit":            {func(p *dp.Policy) { p.Unit.Column = "" }, "unit"},
		"row and column":     {func(p *dp.Policy) { p.Unit.Row = true }, "unit"},
		"block":              {func(p *dp.Policy) { p.Unit.Block = "week" }, "block"},
		"month without time": {func(p *dp.Policy) { p.Time = nil }, "time"},
		"no bounds":          {func(p *dp.Policy) { p.Bounds = dp.Bounds{} }, "max_partitions"},
		"rows with bounds":   {func(p *dp.Policy) { p.Unit.Row, p.Unit.Column = true, "" }, "of 1"},
		"no cap":             {func(p *dp.Policy) { p.Cap = dp.Budget{} }, "cap"},
		"delta of the cap":   {func(p *dp.Policy) { p.Cap.Delta++ }, "0.0001"},
		"negative delta":     {func(p *dp.Policy) { p.Cap.Delta = -1 }, "negative"},
		"default":            {func(p *dp.Policy) { p.Default.Delta = dp.DeltaOne }, "default"},
		"no purpose":         {func(p *dp.Policy) { p.Purposes = nil }, "purpose"},
		"purpose twice":      {func(p *dp.Policy) { p.Purposes = []string{"a", "a"} }, "once"},
		"bad purpose":        {func(p *dp.Policy) { p.Purposes = []string{"Ads!"} }, "purpose"},
		"link of nothing":    {func(p *dp.Policy) { p.Link = &dp.Link{} }, "consent"},
		"link of customers":  {func(p *dp.Policy) { p.Link = &dp.Link{Consent: p.Unit.Column} }, "consent"},
		"link of times":      {func(p *dp.Policy) { p.Link = &dp.Link{Consent: p.Time.Column} }, "consent"},
		"link of rows": {func(p *dp.Policy) {
			p.Unit.Row, p.Unit.Column, p.Bounds, p.Link = true, "", dp.Bounds{MaxPartitions: 1, MaxRows: 1}, &dp.Link{Consent: "linked_at"}
		}, "joined"},
		"retained for less than a block": {func(p *dp.Policy) { p.Unit.Block, p.RetainMonths = dp.Quarter, 2 }, "3 to"},
		"retained for ages":              {func(p *dp.Policy) { p.RetainMonths = dp.MaxRetainMonths + 1 }, "1200"},
		"retained for less than nothing": {func(p *dp.Policy) { p.RetainMonths = -1 }, "retain"},
		"retained without an end":        {func(p *dp.Policy) { p.Unit.Block, p.RetainMonths = dp.All, 24 }, "never ends"},
		"no audience":                    {func(p *dp.Policy) { p.Audiences = nil }, "audiences"},
		"unknown audience":               {func(p *dp.Policy) { p.Audiences = []dp.Audience{"everyone"} }, "audience"},
	} {
		t.Run(name, func(t *testing.T) {
			o, m := newOffice()
			p := shop()
			c.spoil(&p)
			refused(t, m, dp.CodeInvalidPolicy, c.says, func() error {
				_, _, err := o.ApplyPolicy(ctx, "officer", p, nil, "")
				return err
			})
		})
	}
	o, _ := newOffice()
	if _, _, err := o.ApplyPolicy(ctx, "officer", shop(), nil, ""); err != nil {
		t.Fatal("the policy at the bound was refused:", err)
	}
}

func TestConsumersAreCreatedOnceAndPatched(t *testing.T) {
	o, m := newOffice()
	team := dp.Consumer{Name: "team", Role: dp.Product, Audience: dp.Internal, Purposes: []string{"reporting"}, Version: 9}
	c, err := o.CreateConsumer(ctx, "officer", team, "")
	check(t, err)
	if c.Version != 1 || !c.Created.Equal(now) {
		t.Fatalf("created %+v", c)
	}
	create := func(change func(*dp.Consumer)) func() error {
		return func() error {
			c := team
			c.Name = "another"
			change(&c)
			_, err := o.CreateConsumer(ctx, "officer", c, "")
			return err
		}
	}
	refused(t, m, dp.CodeConflict, "never reused", create(func(c *dp.Consumer) { c.Name = "team" }))
	refused(t, m, dp.CodeInvalidInput, "lower-case", create(func(c *dp.Consumer) { c.Name = "a/b" }))
	refused(t, m, dp.CodeInvalidInput, "role", create(func(c *dp.Consumer) { c.Role = "root" }))
	refused(t, m, dp.CodeInvalidInput, "audience", create(func(c *dp.Consumer) { c.Audience = "" }))
	refused(t, m, dp.CodeInvalidInput, "organisation", create(func(c *dp.Consumer) { c.Organisation = "a\x00b" }))
	// What confirms a proposal is who reads it: no text is shown otherwise than it is.
	for _, hidden := range []string{"bank \u202egnitekram", "a\u2066b\u2069", "a\u2028role: auditor", "a\u2029b", "a\u200fb"} {
		refused(t, m, dp.CodeInvalidInput, "organisation", create(func(c *dp.Consumer) { c.Organisation = hidden }))
		refused(t, m, dp.CodeInvalidInput, "subject", create(func(c *dp.Consumer) { c.Subject = hidden }))
	}
	check(t, func() error {
		_, err := o.CreateConsumer(ctx, "officer", dp.Consumer{Name: "persian", Role: dp.Product, Audience: dp.Internal, Organisation: "می\u200cخواهم"}, "")
		return err
	}())
	refused(t, m, dp.CodeInvalidInput, "purposes", create(func(c *dp.Consumer) { c.Purposes = make([]string, 101) }))

	role, third := dp.Auditor, dp.ThirdParty
	c, err = o.PatchConsumer(ctx, "officer", "team", ConsumerPatch{Role: &role, Audience: &third}, version(1), "moved")
	check(t, err)
	if c.Role != dp.Auditor || c.Audience != dp.ThirdParty || len(c.Purposes) != 1 || c.Version != 2 {
		t.Fatalf("patched %+v", c)
	}
	patch := func(name string, p ConsumerPatch, ifMatch *uint64) func() error {
		return func() error { _, err := o.PatchConsumer(ctx, "officer", name, p, ifMatch, "moved"); return err }
	}
	bad := dp.Role("root")
	refused(t, m, dp.CodeInvalidInput, "role", patch("team", ConsumerPatch{Role: &bad}, version(2)))
	refused(t, m, dp.CodePreconditionRequired, "If-Match", patch("team", ConsumerPatch{}, nil))
	refused(t, m, dp.CodeInvalidInput, "say why", func() error {
		_, err := o.PatchConsumer(ctx, "officer", "team", ConsumerPatch{}, version(2), " ")
		return err
	})
	refused(t, m, dp.CodePreconditionFailed, "read it again", patch("team", ConsumerPatch{}, version(1)))
	refused(t, m, dp.CodeNotFound, "consumer", patch("nobody", ConsumerPatch{}, nil))
}

func TestKeysAreShownOnceAndKeptHashed(t *testing.T) {
	o, m := newOffice()
	_, err := o.CreateConsumer(ctx, "officer", dp.Consumer{Name: "team", Role: dp.Product, Audience: dp.Internal}, "")
	check(t, err)
	secret, key, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team", Expires: now.Add(time.Hour)}, "a new service")
	check(t, err)
	if !strings.HasPrefix(secret, "dk_") || len(secret) != 3+43 || key.Hash != HashKey(secret) || key.Consumer != "team" {
		t.Fatalf("issued %d characters for %+v", len(secret), key)
	}
	if other, _, err := o.IssueKey(ctx, "officer", NewKey{Consumer: "team"}, ""); err != nil || other == secret {
		t.Fatal("two keys share a secret")
	}
	issue := func(consumer string, expires time.Time) func() error {
		return func() error {
			_, _, err := o.IssueKey(ctx, "officer", NewKey{Consumer: consumer, Expires: expires}, "")
			return err
		}
	}
	refused(t, m, dp.CodeInvalidInput, "future", issue("team", now))
	refused(t, m, dp.CodeNotFound, "consumer", issue("nobody", time.Time{}))

	revoke := func(consumer, id string) func() error {
		return func() error { _, err := o.RevokeKey(ctx, "officer", consumer, id, "it leaked"); return err }
	}
	refused(t, m, dp.CodeNotFound, "key", revoke("nobody", key.ID))
	refused(t, m, dp.CodeNotFound, "key", revoke("team", "key_unknown"))
	check(t, revoke("team", key.ID)())
	recorded := len(m.log)
	check(t, revoke("team", key.ID)())
	if last := m.log[recorded-1]; last.Reason != "it leaked" || last.Actor != "officer" {
		t.Errorf("the revocation is recorded as %+v", last)
	}
	if !m.keys[key.ID].Revoked.Equal(now) || len(m.log) != recorded {
		t.Fatal("a revoked key was revoked again")
	}
}

func TestAllotmentsAreGrantedAndChangedUnderTheirVersion(t *testing.T) {
	o, m := newOffice()
	_, _, err := o.ApplyPolicy(ctx, "officer", shop(), nil, "")
	check(t, err)
	_, err = o.CreateConsumer(ctx, "officer", dp.Consumer{Name: "team", Role: dp.Product, Audience: dp.Internal}, "")
	check(t, err)
	grant := dp.Allotment{Consumer: "team", Dataset: "shop", Budget: dp.Budget{Epsilon: 50 * dp.EpsilonOne, Delta: dp.DeltaOne / 10_000}, Expires: now.Add(time.Hour)}
	set := func(change func(*dp.Allotment), ifMatch *uint64, reason string) func() error {
		return func() error {
			a := grant
			change(&a)
			_, _, err := o.SetAllotment(ctx, "officer", a, ifMatch, reason)
			return err
		}
	}
	same := func(*dp.Allotment) {}
	refused(t, m, dp.CodeNotFound, "consumer", set(func(a *dp.Allotment) { a.Consumer = "nobody" }, nil, ""))
	refused(t, m, dp.CodeNotFound, "dataset", set(func(a *dp.Allotment) { a.Dataset = "none" }, nil, ""))
	refused(t, m, dp.CodeInvalidInput, "0.0001", set(func(a *dp.Allotment) { a.Budget.Delta++ }, nil, ""))
	refused(t, m, dp.CodeInvalidInput, "negative", set(func(a *dp.Allotment) { a.Budget.Epsilon = -1 }, nil, ""))
	refused(t, m, dp.CodeInvalidInput, "negative", set(func(a *dp.Allotment) { a.MaxEpsilonPerQuery = -1 }, nil, ""))
	check(t, set(same, nil, "")())
	recorded := len(m.log)
	check(t, set(same, nil, "")())
	if len(m.log) != recorded {
		t.Fatal("the same allotment was set again")
	}
	frozen := func(a *dp.Allotment) { a.Budget = dp.Budget{} }
	refused(t, m, dp.CodePreconditionRequired, "If-Match", set(frozen, nil, "why"))
	refused(t, m, dp.CodePreconditionFailed, "version 1", set(frozen, version(3), "why"))
	refused(t, m, dp.CodeInvalidInput, "why", set(frozen, version(1), ""))
	check(t, set(frozen, version(1), "the quarter ended")())
	if a := m.allotments[[2]string{"team", "shop"}]; a.Version != 2 || a.Budget != (dp.Budget{}) {
		t.Fatalf("set %+v", a)
	}
}

func TestRefusalNeverEchoesWhatWasTyped(t *testing.T) {
	const typed = "Typed-Value"
	o, _ := newOffice()
	p := shop()
	p.Purposes = []string{typed}
	_, _, policy := o.ApplyPolicy(ctx, "officer", p, nil, "")
	_, consumer := o.CreateConsumer(ctx, "officer", dp.Consumer{Name: typed}, "")
	_, _, key := o.IssueKey(ctx, "officer", NewKey{Consumer: typed}, "")
	_, _, allotment := o.SetAllotment(ctx, "officer", dp.Allotment{Consumer: typed, Dataset: typed}, nil, typed+"\n")
	for _, err := range []error{policy, consumer, key, allotment} {
		if err == nil || strings.Contains(err.Error(), typed) {
			t.Errorf("got %v", err)
		}
	}
}
