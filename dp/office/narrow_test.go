package office

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// narrowings say for every field of a type how it may change in a change that narrows: which values do, and which do not.
// A field that is not here fails the test: whoever adds it decides what it means to one officer alone.
type narrowings[T any] map[string]struct {
	narrows, widens []func(*T)
}

func (n narrowings[T]) check(t *testing.T, before func() T, ignored []string, narrows func(before, after T) bool) {
	t.Helper()
	kind := reflect.TypeFor[T]()
	for i := range kind.NumField() {
		name := kind.Field(i).Name
		if slices.Contains(ignored, name) {
			continue
		}
		how, known := n[name]
		if !known || len(how.widens) == 0 {
			t.Errorf("field %s of %s is new: say here which changes of it narrow, and in %s too if any do", name, kind, "narrow.go and store/ledger/verify/proposals.go")
			continue
		}
		for want, changes := range map[bool][]func(*T){true: how.narrows, false: how.widens} {
			for j, change := range changes {
				after := before()
				change(&after)
				if reflect.DeepEqual(before(), after) {
					t.Errorf("change %d of %s changes nothing", j, name)
				}
				if got := narrows(before(), after); got != want {
					t.Errorf("change %d of %s to %v narrows: %v", j, name, reflect.ValueOf(after).Field(i), got)
				}
			}
		}
	}
	if !narrows(before(), before()) {
		t.Error("no change does not narrow")
	}
}

func TestPolicyNarrowsByWhatIsKnownToNarrow(t *testing.T) {
	type p = dp.Policy
	before := func() p {
		out := shop()
		out.Purposes, out.Audiences = []string{"reporting", "research"}, []dp.Audience{dp.Internal, dp.ThirdParty}
		out.Default = dp.Budget{Epsilon: 5, Delta: 5}
		out.Metrics = []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "amount"}}
		out.Derived = []dp.Derived{{Name: "old", Of: "age"}}
		out.Link = &dp.Link{Consent: "agreed"}
		return out
	}
	widens := func(changes ...func(*p)) struct{ narrows, widens []func(*p) } {
		return struct{ narrows, widens []func(*p) }{nil, changes}
	}
	narrowings[p]{
		"Name":       widens(func(p *p) { p.Name = "other" }),
		"Kind":       widens(func(p *p) { p.Kind = dp.Custom }),
		"Population": widens(func(p *p) { p.Population-- }, func(p *p) { p.Population++ }),
		"Unit":       widens(func(p *p) { p.Unit.Block = dp.Year }, func(p *p) { p.Unit.Column = "account" }),
		"Time":       widens(func(p *p) { p.Time = nil }, func(p *p) { p.Time = &dp.TimeColumn{Column: "at", Timezone: "Asia/Tokyo", Format: "rfc3339"} }),
		"Dimensions": widens(func(p *p) { p.Dimensions = nil }, func(p *p) { p.Dimensions = append(p.Dimensions, dp.Dimension{Name: "x"}) }),
		"Derived":    widens(func(p *p) { p.Derived = nil }),
		"Measures":   widens(func(p *p) { p.Measures = []dp.Measure{{Name: "amount", Scale: 2, Upper: 50}} }),
		"Metrics":    widens(func(p *p) { p.Metrics = nil }),
		"Bounds":     widens(func(p *p) { p.Bounds.MaxRows-- }, func(p *p) { p.Bounds.MaxPartitions++ }),
		"Cap": {
			[]func(*p){func(p *p) { p.Cap.Epsilon-- }, func(p *p) { p.Cap.Delta-- }, func(p *p) { p.Cap = dp.Budget{Epsilon: 1} }},
			[]func(*p){func(p *p) { p.Cap.Epsilon++ }, func(p *p) { p.Cap.Delta++ }, func(p *p) { p.Cap.Epsilon--; p.Cap.Delta++ }},
		},
		"Default": {
			[]func(*p){func(p *p) { p.Default.Epsilon-- }, func(p *p) { p.Default.Delta = 0; p.Cap.Epsilon-- }},
			[]func(*p){func(p *p) { p.Default.Epsilon++ }, func(p *p) { p.Default.Delta++ }},
		},
		"Purposes": {
			[]func(*p){func(p *p) { p.Purposes = []string{"research"} }, func(p *p) { p.Purposes = []string{"research", "reporting"} }},
			[]func(*p){func(p *p) { p.Purposes = []string{"reporting", "ads"} }, func(p *p) { p.Purposes = append(p.Purposes, "ads") }},
		},
		"Audiences": {
			[]func(*p){func(p *p) { p.Audiences = []dp.Audience{dp.Internal} }},
			[]func(*p){func(p *p) { p.Audiences = []dp.Audience{dp.Internal, "press"} }},
		},
		"Link": widens(func(p *p) { p.Link = nil }, func(p *p) { p.Link = &dp.Link{Consent: "other"} }),
		// Nobody learns more by a shorter one, but what it takes out is gone for good.
		"RetainMonths": widens(func(p *p) { p.RetainMonths = 24 }),
		"TwoPerson": {
			[]func(*p){func(p *p) { p.TwoPerson = true }},
			[]func(*p){func(p *p) { p.TwoPerson = true; p.Cap.Epsilon++ }},
		},
	}.check(t, before, nil, policyNarrows)
	on := before()
	on.TwoPerson = true
	if policyNarrows(on, before()) {
		t.Error("to ask for one person again narrows")
	}
	both := before()
	both.Cap.Epsilon--
	both.Bounds.MaxRows++
	if policyNarrows(before(), both) {
		t.Error("a change that narrows here and widens there narrows")
	}
}

func TestAllotmentNarrowsByWhatIsKnownToNarrow(t *testing.T) {
	type a = dp.Allotment
	before := func() a {
		return a{Consumer: "team", Dataset: "shop", Budget: dp.Budget{Epsilon: 10, Delta: 10}, MaxEpsilonPerQuery: 5, Expires: now, Version: 3}
	}
	narrowings[a]{
		"Consumer": {nil, []func(*a){func(a *a) { a.Consumer = "other" }}},
		"Dataset":  {nil, []func(*a){func(a *a) { a.Dataset = "other" }}},
		"Budget": {
			[]func(*a){func(a *a) { a.Budget.Epsilon-- }, func(a *a) { a.Budget.Delta-- }, func(a *a) { a.Budget = dp.Budget{} }},
			[]func(*a){func(a *a) { a.Budget.Epsilon++ }, func(a *a) { a.Budget.Delta++ }, func(a *a) { a.Budget.Epsilon = 0; a.Budget.Delta++ }},
		},
		"MaxEpsilonPerQuery": {
			[]func(*a){func(a *a) { a.MaxEpsilonPerQuery-- }},
			[]func(*a){func(a *a) { a.MaxEpsilonPerQuery++ }, func(a *a) { a.MaxEpsilonPerQuery = 0 }},
		},
		"Expires": {
			[]func(*a){func(a *a) { a.Expires = now.Add(-time.Nanosecond) }},
			[]func(*a){func(a *a) { a.Expires = now.Add(time.Nanosecond) }, func(a *a) { a.Expires = time.Time{} }},
		},
		"Paused": {
			[]func(*a){func(a *a) { a.Paused = true }},
			[]func(*a){func(a *a) { a.Paused = true; a.Budget.Epsilon++ }},
		},
	}.check(t, before, []string{"Version"}, allotmentNarrows)
	open, paused := a{Consumer: "team", Dataset: "shop"}, before()
	paused.Paused = true
	for _, change := range []func(*a){func(a *a) { a.MaxEpsilonPerQuery = 1 }, func(a *a) { a.Expires = now }, func(a *a) { a.Version++ }} {
		after := open
		change(&after)
		if !allotmentNarrows(open, after) {
			t.Errorf("%+v does not narrow one without limits", after)
		}
	}
	if allotmentNarrows(paused, before()) {
		t.Error("to resume narrows")
	}
}

func TestConsumerNarrowsByWhatIsKnownToNarrow(t *testing.T) {
	type c = dp.Consumer
	before := func() c {
		return c{Name: "team", Role: dp.Analyst, Organisation: "shop", Audience: dp.Internal, Purposes: []string{"reporting", "research"}, Created: now, Version: 2, Subject: "a"}
	}
	role := func(r dp.Role) func(*c) { return func(c *c) { c.Role = r } }
	narrowings[c]{
		"Name":         {nil, []func(*c){func(c *c) { c.Name = "other" }}},
		"Role":         {[]func(*c){role(dp.Product)}, []func(*c){role(dp.Officer), role(dp.Custodian), role(dp.Auditor)}},
		"Organisation": {nil, []func(*c){func(c *c) { c.Organisation = "messenger" }, func(c *c) { c.Organisation = "" }}},
		"Audience":     {nil, []func(*c){func(c *c) { c.Audience = dp.ThirdParty }}},
		"Purposes": {
			[]func(*c){func(c *c) { c.Purposes = nil }, func(c *c) { c.Purposes = []string{"research"} }},
			[]func(*c){func(c *c) { c.Purposes = append(c.Purposes, "ads") }},
		},
		"Suspended": {[]func(*c){func(c *c) { c.Suspended = true }}, []func(*c){func(c *c) { c.Suspended = true; c.Role = dp.Officer }}},
		"Subject": {
			[]func(*c){func(c *c) { c.Subject = "" }},
			[]func(*c){func(c *c) { c.Subject = "b" }},
		},
		"Created": {nil, []func(*c){func(c *c) { c.Created = now.Add(1) }}},
	}.check(t, before, []string{"Version"}, consumerNarrows)
	all := []dp.Role{dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor}
	for _, from := range all {
		for _, to := range all {
			want := from == to || from == dp.Analyst && to == dp.Product || from == dp.Officer && to == dp.Auditor
			if roleNarrows(from, to) != want {
				t.Errorf("%s to %s narrows: %v", from, to, !want)
			}
		}
	}
	out := before()
	out.Suspended = true
	if consumerNarrows(out, before()) {
		t.Error("to let in again narrows")
	}
}
