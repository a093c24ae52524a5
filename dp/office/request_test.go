package office

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

const tenth = dp.EpsilonOne / 10

// newRequests is an office with a dataset, a consumer that may ask about it, and one that may not.
func newRequests(t *testing.T) (*Office, *memory) {
	t.Helper()
	o, m := newOffice()
	m.policies["shop"] = []dp.VersionedPolicy{{Policy: shop(), Version: 1}}
	for name, c := range map[string]dp.Consumer{
		"team": {Role: dp.Product, Audience: dp.Internal}, "partner": {Role: dp.Analyst, Audience: dp.ThirdParty},
		"officer": {Role: dp.Officer, Audience: dp.Internal},
	} {
		c.Name, c.Version = name, 1
		m.consumers[name] = c
	}
	return o, m
}

func wish(change ...func(*dp.BudgetRequest)) dp.BudgetRequest {
	r := dp.BudgetRequest{Dataset: "shop", Asked: dp.Terms{Budget: dp.Budget{Epsilon: tenth}}, Reason: "the launch"}
	for _, c := range change {
		c(&r)
	}
	return r
}

// request makes a request of the team.
func request(t *testing.T, o *Office, change ...func(*dp.BudgetRequest)) dp.BudgetRequest {
	t.Helper()
	r, created, err := o.RequestBudget(ctx, "team", wish(change...), "")
	check(t, err)
	if !created || r.State() != dp.RequestOpen || r.Consumer != "team" || r.Number == 0 || !r.Made.Equal(now) || r.Made.Location() != time.UTC {
		t.Fatalf("made %+v", r)
	}
	return r
}

func TestRequestThatIsMadeAgainIsTheSameOne(t *testing.T) {
	o, m := newRequests(t)
	first := request(t, o)
	again, created, err := o.RequestBudget(ctx, "team", wish(func(r *dp.BudgetRequest) { r.Reason = " the launch " }), "")
	check(t, err)
	if created || again.ID != first.ID || len(m.log) != 1 {
		t.Errorf("a repeat is %+v, created %v", again, created)
	}
	for _, change := range map[string]func(*dp.BudgetRequest){
		"amount": func(r *dp.BudgetRequest) { r.Asked.Budget.Epsilon++ },
		"delta":  func(r *dp.BudgetRequest) { r.Asked.Budget.Delta++ },
		"most":   func(r *dp.BudgetRequest) { r.Asked.MaxEpsilonPerQuery++ },
		"expiry": func(r *dp.BudgetRequest) { r.Asked.Expires = now.Add(time.Hour) },
		"reason": func(r *dp.BudgetRequest) { r.Reason = "another" },
		"query":  func(r *dp.BudgetRequest) { r.Query = &dp.WantedQuery{Canonical: "{}"} },
	} {
		refused(t, m, dp.CodeConflict, first.ID, func() error {
			_, _, err := o.RequestBudget(ctx, "team", wish(change), "")
			return err
		})
	}
}

func TestKeyStandsForOneRequestWhateverBecameOfIt(t *testing.T) {
	o, m := newRequests(t)
	first, _, err := o.RequestBudget(ctx, "team", wish(), "key")
	check(t, err)
	_, err = o.WithdrawRequest(ctx, "team", first.ID, "")
	check(t, err)
	again, created, err := o.RequestBudget(ctx, "team", wish(), "key")
	check(t, err)
	if created || again.ID != first.ID || again.State() != dp.RequestWithdrawn {
		t.Errorf("under its key it is %+v, created %v", again, created)
	}
	refused(t, m, dp.CodeConflict, "Idempotency-Key", func() error {
		_, _, err := o.RequestBudget(ctx, "team", wish(func(r *dp.BudgetRequest) { r.Reason = "another" }), "key")
		return err
	})
	m.consumers["other"] = dp.Consumer{Name: "other", Role: dp.Analyst, Audience: dp.Internal, Version: 1}
	if others, created, err := o.RequestBudget(ctx, "other", wish(), "key"); err != nil || !created || others.ID == first.ID {
		t.Errorf("another consumer's key gives %+v, %v, %v", others, created, err)
	}
}

func TestRequestThatCannotBeIsRefused(t *testing.T) {
	o, m := newRequests(t)
	for _, c := range []struct {
		who, says string
		code      dp.Code
		change    func(*dp.BudgetRequest)
	}{
		{"team", "say why", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Reason = " " }},
		{"team", "shorten", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Reason = strings.Repeat("x", maxReason+1) }},
		{"team", "above 0", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Asked.Budget.Epsilon = 0 }},
		{"team", "negative", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Asked.MaxEpsilonPerQuery = -1 }},
		{"team", "population", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Asked.Budget.Delta = dp.DeltaOne / 10 }},
		{"team", "expired", dp.CodeInvalidInput, func(r *dp.BudgetRequest) { r.Asked.Expires = now }},
		{"team", "canonical", dp.CodeTooLarge, func(r *dp.BudgetRequest) {
			r.Query = &dp.WantedQuery{Canonical: strings.Repeat("x", MaxWantedQuery+1)}
		}},
		{"team", "no such dataset", dp.CodeNotFound, func(r *dp.BudgetRequest) { r.Dataset = "nothing" }},
		{"partner", "no such dataset", dp.CodeNotFound, func(*dp.BudgetRequest) {}},
		{"nobody", "no such consumer", dp.CodeNotFound, func(*dp.BudgetRequest) {}},
	} {
		refused(t, m, c.code, c.says, func() error {
			_, _, err := o.RequestBudget(ctx, c.who, wish(c.change), "")
			return err
		})
	}
}

func TestRequestsOfADayAreLimited(t *testing.T) {
	_, m := newRequests(t)
	at := now
	o := New(m, func() time.Time { return at })
	ask := func() (dp.BudgetRequest, error) {
		r, _, err := o.RequestBudget(ctx, "team", wish(func(*dp.BudgetRequest) {}), "")
		return r, err
	}
	for i := range MaxRequestsADay {
		r, err := ask()
		check(t, err)
		_, err = o.WithdrawRequest(ctx, "team", r.ID, "")
		check(t, err)
		if i == 0 {
			at = at.Add(time.Hour)
		}
	}
	var refusal *dp.Error
	refused(t, m, dp.CodeRateLimited, "100 budget requests within a day", func() error {
		_, err := ask()
		errors.As(err, &refusal)
		return err
	})
	if refusal.RetryAfter != 23*time.Hour {
		t.Errorf("to be tried again in %v", refusal.RetryAfter)
	}
	at = at.Add(23 * time.Hour)
	_, err := ask()
	check(t, err)
}

func TestOpenRequestsOfAConsumerAreLimited(t *testing.T) {
	o, m := newRequests(t)
	ask := func(dataset string) (dp.BudgetRequest, error) {
		p := shop()
		p.Name = dataset
		m.policies[dataset] = []dp.VersionedPolicy{{Policy: p, Version: 1}}
		r, _, err := o.RequestBudget(ctx, "team", wish(func(r *dp.BudgetRequest) { r.Dataset = dataset }), "")
		return r, err
	}
	var last dp.BudgetRequest
	for i := range MaxOpenRequests {
		var err error
		last, err = ask("shop-" + string(rune('a'+i)))
		check(t, err)
	}
	refused(t, m, dp.CodeConflict, "20 open requests", func() error {
		_, err := ask("one-more")
		return err
	})
	_, err := o.WithdrawRequest(ctx, "team", last.ID, "")
	check(t, err)
	_, err = ask("one-more")
	check(t, err)
}

func TestGrantSetsTheAllotmentAndEndsTheRequestInOneChange(t *testing.T) {
	o, m := newRequests(t)
	r := request(t, o, func(r *dp.BudgetRequest) {
		r.Asked.MaxEpsilonPerQuery, r.Asked.Expires = tenth/2, now.Add(time.Hour)
	})
	granted, a, err := o.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true}, nil, "agreed")
	check(t, err)
	want := dp.Allotment{Consumer: "team", Dataset: "shop", Budget: r.Asked.Budget, MaxEpsilonPerQuery: tenth / 2, Expires: now.Add(time.Hour).UTC(), Version: 1}
	if a != want || m.allotments[[2]string{"team", "shop"}] != want || len(m.log) != 2 || m.log[1].Actor != "officer" || m.log[1].Reason != "agreed" {
		t.Errorf("the allotment is %+v, want %+v; log %+v", a, want, m.log)
	}
	if d := granted.Decision; granted.State() != dp.RequestGranted || d.By != "officer" || d.Seen != 0 || d.Allotment != 1 || *d.Granted != granted.Asked || d.Reason != "agreed" {
		t.Errorf("the decision is %+v", d)
	}

	// Other numbers, over what stands, whose pause stays.
	a.Paused, a.Version = true, 2
	m.allotments[[2]string{"team", "shop"}] = a
	r = request(t, o)
	terms := dp.Terms{Budget: dp.Budget{Epsilon: tenth / 5, Delta: 7}}
	granted, a, err = o.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true, Terms: &terms}, version(2), "less")
	check(t, err)
	if a.Budget != terms.Budget || !a.Paused || a.Version != 3 || a.MaxEpsilonPerQuery != 0 || !a.Expires.IsZero() || granted.Decision.Seen != 2 || granted.Asked.Budget.Epsilon != tenth {
		t.Errorf("granted %+v, %+v", a, granted.Decision)
	}

	// What stands already is granted as a version of its own.
	r = request(t, o)
	if _, a, err = o.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true, Terms: &terms}, version(3), "same"); err != nil || a.Version != 4 {
		t.Errorf("granted %+v, %v", a, err)
	}
}

func TestDenialLeavesTheAllotment(t *testing.T) {
	o, m := newRequests(t)
	r := request(t, o)
	denied, a, err := o.DecideRequest(ctx, "officer", r.ID, Decision{}, nil, "not now")
	check(t, err)
	if denied.State() != dp.RequestDenied || denied.Decision.Granted != nil || a != (dp.Allotment{}) || len(m.allotments) != 0 {
		t.Errorf("denied %+v, %+v", denied.Decision, a)
	}
	if r := request(t, o); r.ID == denied.ID {
		t.Error("a denied request is made again as itself")
	}
}

func TestRequestIsDecidedOnceOnWhatTheOfficerSaw(t *testing.T) {
	o, m := newRequests(t)
	r := request(t, o)
	decide := func(actor, id string, d Decision, ifMatch *uint64, reason string) func() error {
		return func() error {
			_, _, err := o.DecideRequest(ctx, actor, id, d, ifMatch, reason)
			return err
		}
	}
	grant := Decision{Grant: true}
	refused(t, m, dp.CodeInvalidInput, "say why", decide("officer", r.ID, grant, nil, " "))
	refused(t, m, dp.CodeInvalidInput, "denial", decide("officer", r.ID, Decision{Terms: &dp.Terms{}}, nil, "why"))
	refused(t, m, dp.CodeInvalidInput, "above 0", decide("officer", r.ID, Decision{Grant: true, Terms: &dp.Terms{}}, nil, "why"))
	refused(t, m, dp.CodeNotFound, "no such request", decide("officer", "req_none", grant, nil, "why"))
	team := m.consumers["team"]
	m.consumers["team"] = dp.Consumer{Name: "team", Role: dp.Officer, Audience: dp.Internal, Version: 2} // by now
	refused(t, m, dp.CodeForbidden, "another officer", decide("team", r.ID, grant, nil, "why"))
	m.consumers["team"] = team
	refused(t, m, dp.CodePreconditionFailed, "no such allotment", decide("officer", r.ID, grant, version(1), "why"))
	m.allotments[[2]string{"team", "shop"}] = dp.Allotment{Consumer: "team", Dataset: "shop", Version: 3}
	for _, d := range []Decision{grant, {}} {
		refused(t, m, dp.CodePreconditionRequired, "version (3 now)", decide("officer", r.ID, d, nil, "why"))
		refused(t, m, dp.CodePreconditionFailed, "version 3", decide("officer", r.ID, d, version(2), "why"))
		refused(t, m, dp.CodePreconditionFailed, "version 3", decide("officer", r.ID, d, version(0), "why"))
	}
	check(t, decide("officer", r.ID, grant, version(3), "why")())
	for _, d := range []Decision{grant, {}} {
		refused(t, m, dp.CodeConflict, "granted", decide("officer", r.ID, d, version(4), "why"))
	}
	refused(t, m, dp.CodeConflict, "granted", func() error {
		_, err := o.WithdrawRequest(ctx, "team", r.ID, "")
		return err
	})
}

func TestExpiryThatPassedWhileTheRequestWaitedIsNotGranted(t *testing.T) {
	o, m := newRequests(t)
	r := request(t, o, func(r *dp.BudgetRequest) { r.Asked.Expires = now.Add(time.Minute) })
	later := New(m, func() time.Time { return now.Add(time.Hour) })
	refused(t, m, dp.CodeInvalidInput, "expiry in the future", func() error {
		_, _, err := later.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true}, version(0), "why")
		return err
	})
	_, _, err := later.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true, Terms: &dp.Terms{Budget: r.Asked.Budget}}, version(0), "why")
	check(t, err)
}

func TestRequestIsWithdrawnByItsConsumerAlone(t *testing.T) {
	o, m := newRequests(t)
	r := request(t, o)
	for _, who := range []string{"officer", "partner"} {
		refused(t, m, dp.CodeNotFound, "no such request", func() error {
			_, err := o.WithdrawRequest(ctx, who, r.ID, "")
			return err
		})
	}
	for range 2 { // the second time changes nothing
		withdrawn, err := o.WithdrawRequest(ctx, "team", r.ID, "solved")
		check(t, err)
		if withdrawn.State() != dp.RequestWithdrawn || withdrawn.Decision.By != "team" || len(m.log) != 2 {
			t.Errorf("withdrawn %+v with log %+v", withdrawn.Decision, m.log)
		}
	}
	refused(t, m, dp.CodeConflict, "withdrawn", func() error {
		_, _, err := o.DecideRequest(ctx, "officer", r.ID, Decision{Grant: true}, nil, "why")
		return err
	})
}

func TestOutlookIsBoundByWhatTheCapHasLeft(t *testing.T) {
	pure := func(e dp.Epsilon) dp.Loss { return dp.Loss{Epsilon: e, Rho: accounting.PureRho(e)} }
	g := Grounds{
		Allotment: dp.Allotment{Budget: dp.Budget{Epsilon: 2 * tenth}, Version: 4},
		Cap:       dp.Budget{Epsilon: 10 * tenth}, Default: dp.Budget{Epsilon: tenth},
		Blocks: []BlockGrounds{
			{Block: "2026-01", Spent: pure(2 * tenth), CapSpent: pure(9 * tenth)},
			{Block: "2026-02", CapSpent: pure(3 * tenth)},
			{Block: "2026-03", Spent: pure(tenth), CapSpent: pure(tenth)},
		},
	}
	terms := dp.Terms{Budget: dp.Budget{Epsilon: 5 * tenth}}
	o := g.Outlook(terms)
	want := []BlockOutlook{
		{"2026-01", 0, tenth, tenth, 1}, // the cap binds
		{"2026-02", 2 * tenth, 5 * tenth, 7 * tenth, 5},
		{"2026-03", tenth, 4 * tenth, 9 * tenth, 4},
	}
	for i := range want {
		if o.Blocks[i] != want[i] {
			t.Errorf("block %d: %+v, want %+v", i, o.Blocks[i], want[i])
		}
	}
	if want := (BlockOutlook{"", 2 * tenth, 5 * tenth, 10 * tenth, 5}); o.Fresh != want || o.Similar != 1 {
		t.Errorf("a fresh block has %+v, and %d similar questions fit", o.Fresh, o.Similar)
	}

	// A named question counts at its own price, on the blocks that it touches.
	g.Request.Query = &dp.WantedQuery{Price: []dp.Touched{{Dataset: "shop", Blocks: []string{"2026-02", "2026-03"}, Loss: pure(2 * tenth)}}}
	o = g.Outlook(terms)
	if o.Blocks[0].Similar != -1 || o.Blocks[1].Similar != 2 || o.Blocks[2].Similar != 2 || o.Similar != 2 || o.Fresh.Similar != 2 {
		t.Errorf("%+v", o)
	}
	terms.MaxEpsilonPerQuery = tenth
	if o = g.Outlook(terms); o.Similar != 0 || o.Blocks[1].Similar != 0 {
		t.Errorf("a maximum per query below its price allows %+v", o)
	}
	if o = (Grounds{Cap: g.Cap, Default: g.Default}).Outlook(dp.Terms{Budget: dp.Budget{Epsilon: 99 * tenth}}); o.Fresh.After != 10*tenth || o.Similar != 10 {
		t.Errorf("without blocks, above the cap: %+v", o)
	}
}
