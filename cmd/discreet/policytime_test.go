package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// policyCase is one change of one field of a policy, and what it does.
type policyCase struct {
	change func(p *dp.Policy)
	fixed  bool             // is refused once rows are loaded
	base   func(*dp.Policy) // what the policy says besides, before the change
	// Afterwards the question is refused with a code; empty: it is answered, anew and for its price.
	refused dp.Code
	// hidden says what reading the earlier release gives; empty: the same figures as before.
	hidden dp.Code
	// figures are, where they change, the new customers and turnover of each group, by label.
	figures string
}

// policyCases has every field of dp.Policy and of the types that it is made of. A field that is not here fails the test:
// whoever adds one decides what a change of it does to rows that are loaded, and to what was answered.
func policyCases() map[string][]policyCase {
	allowed := func(change func(*dp.Policy)) []policyCase { return []policyCase{{change: change}} }
	fixed := func(changes ...func(*dp.Policy)) (list []policyCase) {
		for _, change := range changes {
			list = append(list, policyCase{change: change, fixed: true})
		}
		return list
	}
	shop := func(p *dp.Policy) *dp.Dimension { return &p.Dimensions[0] }
	amount := func(p *dp.Policy) *dp.Measure { return &p.Measures[0] }
	number := func(n int64) *int64 { return &n }
	ofRows := func(p *dp.Policy) {
		p.Unit.Row, p.Unit.Column, p.Bounds = true, "", dp.Bounds{MaxPartitions: 1, MaxRows: 1}
	}
	linked := func(p *dp.Policy) { p.Link = &dp.Link{Consent: "agreed"} }
	return map[string][]policyCase{
		"Kind":       allowed(func(p *dp.Policy) { p.Kind = dp.Custom }),
		"Population": allowed(func(p *dp.Policy) { p.Population = 2000 }),

		"Unit.Column": fixed(func(p *dp.Policy) { p.Unit.Column = "account" }),
		"Unit.Row":    fixed(ofRows),
		"Unit.Block":  fixed(func(p *dp.Policy) { p.Unit.Block = dp.Quarter }, func(p *dp.Policy) { p.Unit.Block = dp.All }),

		"Time":                fixed(func(p *dp.Policy) { p.Time, p.Unit.Block = nil, dp.All }),
		"TimeColumn.Column":   fixed(func(p *dp.Policy) { p.Time.Column = "booked" }),
		"TimeColumn.Timezone": fixed(func(p *dp.Policy) { p.Time.Timezone = "Asia/Tokyo" }),
		"TimeColumn.Format":   allowed(func(p *dp.Policy) { p.Time.Format = "rfc3339" }), // of loads to come

		"Dimensions": {
			{change: func(p *dp.Policy) { p.Dimensions, p.Derived = p.Dimensions[1:], nil }, refused: dp.CodeInvalidQuery},
			{change: func(p *dp.Policy) {
				p.Dimensions = append(p.Dimensions, dp.Dimension{Name: "new", Type: dp.StringDimension, Values: []string{"x", "none"}, Missing: "none"})
			}},
		},
		"Dimension.Name":   {{change: func(p *dp.Policy) { shop(p).Name, p.Derived = "store", nil }, refused: dp.CodeInvalidQuery}},
		"Dimension.Column": allowed(func(p *dp.Policy) { shop(p).Column = "store" }), // of loads to come
		"Dimension.Type":   fixed(func(p *dp.Policy) { p.Dimensions[1].Type, p.Dimensions[1].Bin = dp.StringDimension, nil }),
		"Dimension.Bin":    allowed(func(p *dp.Policy) { p.Dimensions[1].Bin = &dp.Bin{Step: 5} }),
		// Raw values are stored: the domain is that of the question, not that of the load.
		"Dimension.Values":  {{change: func(p *dp.Policy) { shop(p).Values, p.Derived = []string{"a", "x", "other"}, nil }, figures: "a=1/10 other=1/100 x=1/1"}},
		"Dimension.Private": {{change: func(p *dp.Policy) { shop(p).Private, shop(p).Values, shop(p).Other, p.Derived = true, nil, "", nil }, figures: "any"}},
		"Dimension.Other":   {{change: func(p *dp.Policy) { shop(p).Other, shop(p).Values = "b", []string{"a", "b"} }, figures: "a=1/10 b=2/101"}},
		"Dimension.Missing": {{change: func(p *dp.Policy) { shop(p).Missing, shop(p).Values = "none", []string{"a", "b", "none", "other"} }, figures: "a=1/10 b=1/100 none=0/0 other=1/1"}},
		"Dimension.Parent":  allowed(func(p *dp.Policy) { shop(p).Parent = "age" }),

		"Derived":        allowed(func(p *dp.Policy) { p.Derived = nil }),
		"Derived.Name":   allowed(func(p *dp.Policy) { p.Derived[0].Name = "zone" }),
		"Derived.Of":     allowed(func(p *dp.Policy) { p.Derived[0].Of, p.Derived[0].Groups[0].Values = "age", []string{"0"} }),
		"Derived.Groups": allowed(func(p *dp.Policy) { p.Derived[0].Groups[0].Values = []string{"a"} }),
		"Derived.Other":  allowed(func(p *dp.Policy) { p.Derived[0].Other = "rest" }),

		"Measures":       {{change: func(p *dp.Policy) { p.Measures = p.Measures[:1] }}},
		"Measure.Name":   allowed(func(p *dp.Policy) { p.Measures[1].Name = "credit" }),
		"Measure.Column": allowed(func(p *dp.Policy) { amount(p).Column = "paid" }), // of loads to come
		"Measure.Scale":  fixed(func(p *dp.Policy) { amount(p).Scale, amount(p).Upper = 1, 100_0 }),
		// So are numbers: a clamp is that of the question.
		"Measure.Lower": {{change: func(p *dp.Policy) { amount(p).Lower = 5_00 }, figures: "a=1/10 b=1/100 other=1/5"}},
		"Measure.Upper": {{change: func(p *dp.Policy) { amount(p).Upper = 200_00 }, figures: "a=1/10 b=1/200 other=1/1"}},
		"Measure.Level": allowed(func(p *dp.Policy) { p.Measures[1].Level = false }),

		"Metrics":            {{change: func(p *dp.Policy) { p.Metrics = p.Metrics[1:2] }, refused: dp.CodeInvalidQuery}},
		"Metric.Name":        {{change: func(p *dp.Policy) { p.Metrics[0].Name, p.Metrics = "sales", p.Metrics[:2] }, refused: dp.CodeInvalidQuery}},
		"Metric.Aggregate":   {{change: func(p *dp.Policy) { p.Metrics[0].Aggregate, p.Metrics = dp.Mean, p.Metrics[:2] }, figures: "a=1/10 b=1/100 other=1/1"}},
		"Metric.Measure":     {{change: func(p *dp.Policy) { p.Metrics[0].Measure = "fee" }, figures: "a=1/1 b=1/2 other=1/3"}},
		"Metric.Rank":        allowed(func(p *dp.Policy) { p.Metrics[1].Rank = "0.5" }),
		"Metric.Numerator":   allowed(func(p *dp.Policy) { p.Metrics[2].Numerator = "transactions" }),
		"Metric.Denominator": allowed(func(p *dp.Policy) { p.Metrics[2].Denominator = "transactions" }),
		"Metric.Of":          allowed(func(p *dp.Policy) { p.Metrics[3].Of = "transactions" }),
		"Metric.PerDay":      allowed(func(p *dp.Policy) { p.Metrics[2].PerDay = true }),
		"Metric.Lower":       {{change: func(p *dp.Policy) { p.Metrics[0].Lower = number(2_00) }, figures: "a=1/10 b=1/100 other=1/2"}},
		"Metric.Upper":       {{change: func(p *dp.Policy) { p.Metrics[0].Upper = number(50_00) }, figures: "a=1/10 b=1/50 other=1/1"}},
		"Metric.Per":         allowed(func(p *dp.Policy) { p.Metrics[1].Per = dp.PerCustomer }),
		"Metric.Distinct":    allowed(func(p *dp.Policy) { p.Metrics[1].Per, p.Metrics[1].Distinct = dp.PerCustomer, []string{"age"} }),
		"Metric.Where": {{change: func(p *dp.Policy) {
			p.Metrics[0].Where = []dp.Condition{{Field: "shop", In: []string{"a"}}}
		}, figures: "a=1/10 b=1/0 other=1/0"}},

		"Bounds.MaxPartitions": allowed(func(p *dp.Policy) { p.Bounds.MaxPartitions = 2 }),
		"Bounds.MaxRows":       allowed(func(p *dp.Policy) { p.Bounds.MaxRows = 2 }),
		// No account is reset: under a cap below what is spent, nothing more is admitted.
		"Cap.Epsilon": {
			{change: func(p *dp.Policy) { p.Cap.Epsilon = dp.EpsilonOne / 10 }, refused: dp.CodeBudgetExhausted},
			{change: func(p *dp.Policy) { p.Cap.Epsilon *= 2 }},
		},
		"Cap.Delta":       allowed(func(p *dp.Policy) { p.Cap.Delta /= 2 }),
		"Default.Epsilon": allowed(func(p *dp.Policy) { p.Default.Epsilon *= 2 }),
		"Default.Delta":   allowed(func(p *dp.Policy) { p.Default.Delta *= 2 }),
		"Purposes": {
			{change: func(p *dp.Policy) { p.Purposes = []string{"research"} }, refused: dp.CodePurposeNotAllowed, hidden: dp.CodePurposeNotAllowed},
			{change: func(p *dp.Policy) { p.Purposes = append(p.Purposes, "research") }},
		},
		"Audiences": {
			{change: func(p *dp.Policy) { p.Audiences = []dp.Audience{dp.ThirdParty} }, refused: dp.CodeNotFound, hidden: dp.CodeNotFound},
			{change: func(p *dp.Policy) { p.Audiences = append(p.Audiences, dp.ThirdParty) }},
		},
		"Link":         {{change: linked}, {base: linked, change: func(p *dp.Policy) { p.Link = nil }}},
		"Link.Consent": {{base: linked, change: func(p *dp.Policy) { p.Link.Consent = "linked_at" }}},
		"RetainMonths": { // what it retires, and that nothing comes back, is TestBlocksWhoseTimeIsOverLeaveFilesAndQuestions
			{change: func(p *dp.Policy) { p.RetainMonths = 24 }},
			{base: func(p *dp.Policy) { p.RetainMonths = 24 }, change: func(p *dp.Policy) { p.RetainMonths = 0 }},
		},
	}
}

// policyFields names the fields of dp.Policy and of the types that it is made of, but those that stand for themselves as a whole.
func policyFields(of reflect.Type, name string) (list []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		t := f.Type
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		whole := t.Kind() != reflect.Struct || slices.Contains([]reflect.Type{reflect.TypeFor[dp.Bin](), reflect.TypeFor[dp.LabelGroup](), reflect.TypeFor[dp.Condition]()}, t)
		if whole || t != f.Type { // an optional or a repeated one can also come and go
			list = append(list, name+f.Name)
		}
		if !whole {
			prefix := t.Name()
			if t == f.Type { // two are of one type
				prefix = f.Name
			}
			list = append(list, policyFields(t, prefix+".")...)
		}
	}
	return list
}

// Each field of a policy is changed before rows, under a charge, and after rows and charges: what rows fix is refused then, and
// all else is allowed and changes what is asked later, and nothing of what was: no account, no release, nothing that was certified.
func TestPolicyChangesWhatComesAndNothingThatWas(t *testing.T) {
	sequential(t)
	cases := policyCases()
	elsewhere := []string{"Name", "TwoPerson"} // by themselves, below
	fields := policyFields(reflect.TypeFor[dp.Policy](), "")
	for _, field := range fields {
		if len(cases[field]) == 0 && !slices.Contains(elsewhere, field) {
			t.Errorf("field %s of dp.Policy is new: say here what a change of it does before rows, after rows and after charges", field)
		}
	}
	for name := range cases {
		if !slices.Contains(fields, name) {
			t.Errorf("there is no field %s of dp.Policy any more", name)
		}
	}
	w := newPolicyWorld(t)
	n := 0
	for _, field := range slices.Sorted(maps.Keys(cases)) {
		for i, c := range cases[field] {
			n++
			t.Run(fmt.Sprint(field, i), func(t *testing.T) {
				w.t = t
				w.try(field, fmt.Sprintf("d%d", n), c)
			})
		}
	}
	w.t = t
	w.names()
	w.twoPersons()
}

// policyWorld is a service over a data directory, whose noise is 0, and who asks it.
type policyWorld struct {
	*service
	t     testing.TB
	asker dp.Consumer
	ask   *answer.Service
}

func newPolicyWorld(t testing.TB) *policyWorld {
	s, err := openService(t.Context(), storage{dir: filepath.Join(t.TempDir(), "data"), witness: witness{dir: t.TempDir()}, disk: demoDisk(), eraseAt: demoEraseAt},
		surroundings{noise: exact{}, clock: time.Now, state: func() (string, error) { return "", errors.New("none") }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	w := &policyWorld{service: s, t: t}
	w.ask = answer.New(s.ledger, s.ledger, s.ledger, s.rows, exact{}, answer.Options{Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	w.asker, err = s.office.CreateConsumer(t.Context(), "root", dp.Consumer{Name: "team", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}, "a test")
	w.must(err)
	return w
}

func (w *policyWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// policy is what every case begins with.
func (w *policyWorld) policy(name string, c policyCase) dp.Policy {
	p := dp.Policy{
		Name: name, Kind: dp.Transactions, Population: 1000, Unit: dp.Unit{Column: "customer", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{
			{Name: "shop", Column: "shop", Type: dp.StringDimension, Values: []string{"a", "b", "other"}, Other: "other"},
			{Name: "age", Column: "age", Type: dp.IntDimension, Bin: &dp.Bin{Step: 10}, Values: []string{"0", "10", "none"}, Other: "none", Missing: "none"},
		},
		Derived: []dp.Derived{{Name: "region", Of: "shop", Groups: []dp.LabelGroup{{Label: "west", Values: []string{"a", "b"}}}, Other: "east"}},
		Measures: []dp.Measure{
			{Name: "amount", Column: "amount", Scale: 2, Upper: 100_00}, {Name: "balance", Column: "balance", Scale: 2, Upper: 100_00, Level: true},
		},
		Metrics: []dp.Metric{
			{Name: "turnover", Aggregate: dp.Sum, Measure: "amount"}, {Name: "p90", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.9"},
			{Name: "ticket", Aggregate: dp.Ratio, Numerator: "turnover", Denominator: "customers"}, {Name: "part", Aggregate: dp.Share, Of: "turnover"},
		},
		Bounds: dp.Bounds{MaxPartitions: 3, MaxRows: 3}, Cap: dp.Budget{Epsilon: 4 * dp.EpsilonOne, Delta: dp.DeltaOne / 100_000},
		Default:  dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: dp.DeltaOne / 1_000_000_000},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}
	if strings.HasPrefix(name, "fee") {
		p.Measures = append(p.Measures, dp.Measure{Name: "fee", Column: "fee", Scale: 2, Upper: 100_00})
	}
	if c.base != nil {
		c.base(&p)
	}
	return p
}

const policyRows = `customer,at,shop,age,amount,balance,fee,agreed,account,booked
ann,2026-01-05,a,7,10.00,5,1,yes,x,2026-01-05
bob,2026-01-06,b,12,250.00,7,2,,x,2026-01-05
cid,2026-01-07,x,30,1.00,9,3,yes,x,2026-01-05
`

func (w *policyWorld) apply(p dp.Policy, version uint64) (dp.VersionedPolicy, error) {
	var ifMatch *uint64
	if version > 0 {
		ifMatch = &version
	}
	applied, _, err := w.office.ApplyPolicy(w.t.Context(), "root", p, ifMatch, "a test")
	return applied, err
}

// spent are the accounts of a dataset without their budgets.
func (w *policyWorld) spent(dataset string) map[string]dp.Loss {
	w.t.Helper()
	list, _, err := w.ledger.DatasetAccounts(w.t.Context(), dataset, "", 0)
	w.must(err)
	out := map[string]dp.Loss{}
	for _, a := range list {
		out[a.Name+" "+a.Consumer] = a.Spent
	}
	return out
}

func (w *policyWorld) certified(dataset string) dp.Budget {
	w.t.Helper()
	b, err := w.ledger.Exposure(w.t.Context(), dataset)
	w.must(err)
	return b.Datasets[0].Largest
}

func figuresOf(r dp.Release) string {
	var all []string
	for _, g := range r.Groups {
		all = append(all, fmt.Sprintf("%s=%v/%v", g.Key[0], g.Values[0].Value, g.Values[1].Value))
	}
	return strings.Join(all, " ")
}

// try takes one change of one field through the life of a dataset.
func (w *policyWorld) try(what, dataset string, c policyCase) {
	t, ctx := w.t, w.t.Context()
	t.Helper()
	if strings.HasPrefix(what, "Metric.Measure") {
		dataset = "fee" + dataset
	}
	base := w.policy(dataset, c)
	after := w.policy(dataset, c)
	c.change(&after)
	if reflect.DeepEqual(base, after) {
		t.Errorf("%s: it changes nothing", what)
	}
	q := dp.Query{Dataset: dataset, Metrics: []string{"customers", "turnover"}, By: []string{"shop"}, From: "2026-01-01", To: "2026-01-31", Purpose: "reporting", Epsilon: "0.2", Delta: "1e-9"}
	ask := func(key string) (answer.Answer, error) { return w.ask.Ask(ctx, w.asker, q, key) }
	put := func(p dp.Policy, version uint64) uint64 {
		t.Helper()
		applied, err := w.apply(p, version)
		if err != nil || applied.Version != version+1 {
			t.Fatalf("%s: version %d does not follow: %v", what, version+1, err)
		}
		return applied.Version
	}

	// Before rows, and under a charge: everything may change, and no account does.
	version := put(base, 0)
	_, _, err := w.office.SetAllotment(ctx, "root", dp.Allotment{Consumer: w.asker.Name, Dataset: dataset, Budget: base.Cap}, nil, "a test")
	w.must(err)
	if _, err := ask(""); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	spent := w.spent(dataset)
	version = put(after, version)
	version = put(base, version)
	if now := w.spent(dataset); !reflect.DeepEqual(now, spent) || len(now) == 0 {
		t.Errorf("%s: accounts go from %v to %v", what, spent, now)
	}

	// After rows and charges.
	policy, err := w.ledger.Policy(ctx, dataset)
	w.must(err)
	desk := rowsDesk{w.rows, w.ledger, func() {}}
	report, err := desk.Load(ctx, policy, api.LoadSpec{Name: "first", Format: api.CSV, From: "2026-01-01", To: "2026-01-31"}, strings.NewReader(policyRows), func() error { return nil })
	if err != nil || report.Accepted != 3 {
		t.Fatalf("%s: loaded %+v, %v", what, report, err)
	}
	first, err := ask(dataset)
	if err != nil || figuresOf(first.Release) != "a=1/10 b=1/100 other=1/1" && !strings.HasPrefix(what, "Metric.Measure") {
		t.Fatalf("%s: %s, %v", what, figuresOf(first.Release), err)
	}
	spent = w.spent(dataset)
	certified := base.Cap
	if after.Cap.Epsilon > certified.Epsilon {
		certified.Epsilon = after.Cap.Epsilon
	}
	applied, err := w.apply(after, version)
	if c.fixed {
		now, _ := w.ledger.Policy(ctx, dataset)
		if again, askErr := ask(""); !isCode(err, dp.CodeConflict) || now.Version != version || askErr != nil || again.Release.ID != first.Release.ID {
			t.Errorf("%s: rows do not fix it: %v, version %d", what, err, now.Version)
		}
		return
	}
	if err != nil || applied.Version != version+1 {
		t.Errorf("%s: refused after rows: %v", what, err)
		return
	}
	if now := w.spent(dataset); !reflect.DeepEqual(now, spent) {
		t.Errorf("%s: accounts go from %v to %v", what, spent, now)
	}
	if now := w.certified(dataset); now != certified {
		t.Errorf("%s: certified is %+v, want %+v", what, now, certified)
	}
	w.reads(what+", changed", first.Release, c.hidden)
	if c.hidden == "" && c.refused != dp.CodeNotFound && c.refused != dp.CodePurposeNotAllowed {
		if again, err := ask(dataset); err != nil || again.Release.ID != first.Release.ID || figuresOf(again.Release) != figuresOf(first.Release) {
			t.Errorf("%s: its key gives %s, %v", what, figuresOf(again.Release), err)
		}
	}
	quote, planErr := w.ask.Plan(ctx, w.asker, q)
	second, err := ask("")
	switch {
	case c.refused != "":
		if !isCode(err, c.refused) || c.refused != dp.CodeBudgetExhausted && !isCode(planErr, c.refused) {
			t.Errorf("%s: asked again gives %v, planned %v", what, err, planErr)
		}
		if now := w.spent(dataset); !reflect.DeepEqual(now, spent) {
			t.Errorf("%s: a refusal costs %v", what, now)
		}
	case err != nil || planErr != nil:
		t.Errorf("%s: asked again gives %v, planned %v", what, err, planErr)
	default:
		// The earlier draw is not handed out as if it were one under this policy.
		if quote.FreeFrom != "" || quote.Other != "" || second.Reused || second.Release.ID == first.Release.ID || second.Release.PolicyVersion != applied.Version || reflect.DeepEqual(w.spent(dataset), spent) {
			t.Errorf("%s: asked again gives %s under version %d, free from %q", what, second.Release.ID, second.Release.PolicyVersion, quote.FreeFrom)
		}
		want := c.figures
		if want == "" {
			want = figuresOf(first.Release)
		}
		if got := figuresOf(second.Release); want != "any" && got != want {
			t.Errorf("%s: asked again gives %s, want %s", what, got, want)
		}
	}
	spent = w.spent(dataset)

	// And back: nothing is reset, nothing drawn before is new again, and what was certified stays.
	put(base, applied.Version)
	if now, certain := w.spent(dataset), w.certified(dataset); !reflect.DeepEqual(now, spent) || certain != certified {
		t.Errorf("%s and back: accounts go from %v to %v, certified is %+v", what, spent, now, certain)
	}
	w.reads(what+", and back", first.Release, "")
	third, err := ask("")
	if err != nil || third.Reused || slices.Contains([]string{first.Release.ID, second.Release.ID}, third.Release.ID) || figuresOf(third.Release) != figuresOf(first.Release) {
		t.Errorf("%s and back: %s, %v", what, figuresOf(third.Release), err)
	}
}

// reads holds that a release is what it was, or cannot be read any more.
func (w *policyWorld) reads(what string, was dp.Release, hidden dp.Code) {
	w.t.Helper()
	r, err := w.ledger.Release(w.t.Context(), w.asker.Name, was.ID)
	if hidden != "" {
		if !isCode(err, hidden) {
			w.t.Errorf("%s: the earlier release is read: %v", what, err)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(r.Groups, was.Groups) || !reflect.DeepEqual(r.Privacy, was.Privacy) || r.PolicyVersion != was.PolicyVersion || r.CanonicalQuery != was.CanonicalQuery {
		w.t.Errorf("%s: the earlier release has changed: %+v, %v", what, r, err)
	}
}

// names holds what is about a dataset as a whole: another name is another dataset, a name is taken for ever, what was dropped
// comes back as it was, and two persons stay two.
func (w *policyWorld) names() {
	t := w.t
	taken := w.policy("d1", policyCase{})
	taken.Population++
	if _, err := w.apply(taken, 0); !isCode(err, dp.CodePreconditionRequired) {
		t.Errorf("a name is given again: %v", err)
	}
	renamed := w.policy("renamed", policyCase{})
	if p, err := w.apply(renamed, 0); err != nil || p.Version != 1 || len(w.spent("renamed")) > 0 {
		t.Errorf("under another name: %+v, %v", p.Version, err)
	}

	base := w.policy("dropped", policyCase{})
	v, err := w.apply(base, 0)
	w.must(err)
	desk := rowsDesk{w.rows, w.ledger, func() {}}
	_, err = desk.Load(t.Context(), v, api.LoadSpec{Name: "first", Format: api.CSV, From: "2026-01-01", To: "2026-01-31"}, strings.NewReader(policyRows), func() error { return nil })
	w.must(err)
	without := w.policy("dropped", policyCase{})
	without.Measures, without.Metrics, without.Dimensions = without.Measures[1:], nil, without.Dimensions[:1]
	v, err = w.apply(without, v.Version)
	w.must(err)
	for name, change := range map[string]func(*dp.Policy){
		"a measure":   func(p *dp.Policy) { p.Measures[0].Scale, p.Measures[0].Upper = 0, 100 },
		"a dimension": func(p *dp.Policy) { p.Dimensions[1].Type, p.Dimensions[1].Bin = dp.StringDimension, nil },
	} {
		other := w.policy("dropped", policyCase{})
		change(&other)
		if _, err := w.apply(other, v.Version); !isCode(err, dp.CodeConflict) {
			t.Errorf("%s comes back as another: %v", name, err)
		}
	}
	if _, err := w.apply(base, v.Version); err != nil {
		t.Errorf("what was dropped does not come back: %v", err)
	}
}

// twoPersons holds that a dataset with rows and charges may come to ask for two officers, and that one alone does not undo it.
func (w *policyWorld) twoPersons() {
	t := w.t
	before := w.spent("d1")
	now, err := w.ledger.Policy(t.Context(), "d1")
	w.must(err)
	two := now.Policy
	two.TwoPerson = true
	if _, err := w.apply(two, now.Version); !isCode(err, dp.CodeConflict) {
		t.Errorf("there are no two officers, and two are asked for: %v", err)
	}
	for _, name := range []string{"first", "second"} {
		_, err := w.office.CreateConsumer(t.Context(), "root", dp.Consumer{Name: name, Role: dp.Officer, Audience: dp.Internal}, "a test")
		w.must(err)
		_, _, err = w.office.IssueKey(t.Context(), "root", office.NewKey{Consumer: name}, "a test")
		w.must(err)
	}
	on, err := w.apply(two, now.Version)
	if after := w.spent("d1"); err != nil || on.Version != now.Version+1 || !reflect.DeepEqual(after, before) {
		t.Errorf("two are asked for: %v; accounts go from %v to %v", err, before, after)
	}
	_, _, err = w.office.ApplyPolicy(t.Context(), "first", now.Policy, &on.Version, "a test")
	var waits *office.Waiting
	if in, _ := w.ledger.Policy(t.Context(), "d1"); !errors.As(err, &waits) || in.Version != on.Version {
		t.Errorf("one undoes it: %v", err)
	}
}

func isCode(err error, code dp.Code) bool {
	var refused *dp.Error
	return errors.As(err, &refused) && refused.Code == code
}
