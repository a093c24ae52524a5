package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/exposure"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/report"
)

// fakes are the services as the tests see them: each keeps what it was called with, and answers from what the
// test has put there.
type fakes struct {
	mu         sync.Mutex
	policies   []dp.VersionedPolicy
	consumers  []dp.Consumer
	releases   map[string]dp.Release // by id; held by everybody named in holders
	holders    map[string]string
	hidden     []string // datasets of which nobody may read any more
	retired    dp.Retirement
	retiring   string // month
	allotments []dp.Allotment
	accounts   []dp.Account
	entries    []dp.Entry

	asked []asked
	ask   func(dp.Query) (answer.Answer, error)
	quote func(dp.Query) (answer.Quote, error)
	ready error

	compared []compared

	loads  []loaded
	report LoadReport
	read   func(io.Reader) error // instead of reading all

	changes []change
	refuse  error // of the office and of the ledger
	status  LedgerStatus

	erased   []erased
	erasures []dp.Erasure
	runs     atomic.Int64

	reports []dp.Report // newest first
	specs   []report.Spec
	submit  error
	changed chan struct{}

	requests []dp.BudgetRequest // newest first
	filters  []dp.RequestFilter

	backups fakeBackups
	tokens  error // of every token

	proposals []dp.Proposal // newest first
	audit     auditor

	log bytes.Buffer
}

type asked struct {
	who   string
	query dp.Query
	key   string
}

type compared struct {
	who        string
	comparison answer.Comparison
}

type loaded struct {
	spec      LoadSpec
	body      string
	readErr   error
	verifyErr error
}

type change struct {
	what, actor, on, reason string
	ifMatch                 *uint64
	patch                   office.ConsumerPatch
	allotment               dp.Allotment
	amount                  dp.Budget
	request                 dp.BudgetRequest
	decision                office.Decision
	issue                   office.NewKey
	confirm                 bool
	key                     string
}

// One consumer of each role; its key is dk_ and its name.
func roles() []dp.Role {
	return []dp.Role{dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor}
}

const policySource = `
name: transactions
kind: transactions
population: 1000000
unit: {column: customer_id, block: month}
time: {column: booked_at, timezone: Europe/Berlin, format: rfc3339}
dimensions:
  - {name: merchant_category, values: [grocery, travel, dining, fuel], other: other}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 500, kind: flow}
metrics:
  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 1000}
bounds: {max_partitions: 8, max_rows: 20}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [product-analytics, reporting]
audiences: [internal]
`

func testPolicy(t testing.TB) dp.Policy {
	t.Helper()
	p, err := policyfile.Parse([]byte(policySource), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newFakes(t testing.TB) *fakes {
	f := &fakes{
		policies: []dp.VersionedPolicy{{Policy: testPolicy(t), Version: 3}},
		releases: map[string]dp.Release{},
		holders:  map[string]string{},
		changed:  make(chan struct{}),
		report:   LoadReport{Load: dp.Load{ID: 12, Name: "january", Blocks: []string{"2026-01"}, Committed: day(5)}, Accepted: 2},
	}
	for _, r := range roles() {
		f.consumers = append(f.consumers, dp.Consumer{Name: string(r), Role: r, Audience: dp.Internal, Purposes: []string{"reporting"}, Created: day(1), Version: 2})
	}
	f.consumers = append(f.consumers, dp.Consumer{Name: "partner", Role: dp.Analyst, Audience: dp.ThirdParty, Created: day(1), Version: 1})
	f.keep(testRelease(), string(dp.Analyst))
	return f
}

func day(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC) }

func testRelease() dp.Release {
	return dp.Release{
		ID: "rel_1", Dataset: "transactions", PolicyVersion: 3, Plan: "plan", AsOf: day(9), Confidence: "0.95",
		By: []string{"merchant_category"}, Metrics: []string{"customers"},
		Groups: []dp.Group{
			{Key: []string{"dining, out"}, Values: []dp.Value{{Value: -6, Low: -41, High: 29, SD: 17.9}}},
			{Key: []string{"grocery"}, Values: []dp.Value{{Value: 1234, Low: 1199, High: 1269, SD: 17.9}}},
		},
		Privacy: dp.Privacy{Unit: "customer_id", Block: dp.Month, Mechanism: map[string]string{"customers": "gaussian"}, Loss: testLoss(), MaxPartitions: 8, MaxRows: 20},
		Charge:  dp.Charge{ID: "chg_1", Consumer: "somebody-else", Dataset: "transactions", Blocks: []string{"2026-01"}, Loss: testLoss(), At: day(9)},
		Blocks:  []dp.BlockVersion{{Block: "2026-01", Version: 1}}, CanonicalQuery: `{"dataset":"transactions"}`,
		NoisedCoordinates: [][]int64{{-6}, {1234}}, PublishedByAttempt: 1,
	}
}

// testLoss is (0.3, 1e-11) with rho 0.0125.
func testLoss() dp.Loss {
	return dp.Loss{Epsilon: 300_000_000_000, Delta: 10_000_000, Rho: 12_500_000_000}
}

func testLeft() dp.Left {
	return dp.Left{Account: "allotment/transactions/2026-01", Epsilon: 2_100_000_000_000, Share: 0.7, SimilarQueries: 37}
}

func (f *fakes) keep(r dp.Release, holder string) {
	f.releases[r.ID], f.holders[r.ID] = r, holder
}

func (f *fakes) services() Services {
	return Services{Directory: f, Tokens: f, Asker: f, Releases: f, Reports: reporter{f}, Catalog: f, Rows: f, Accounts: f, Exposure: f, Consumers: f, Office: f, Requests: f, Proposals: f, Ledger: f, Backups: &f.backups, Audit: &f.audit,
		Ready: func(context.Context) error { return f.ready }}
}

func newTestServer(t testing.TB, f *fakes, with ...func(*Options)) *Server {
	t.Helper()
	o := Options{FailedSignIns: 1000, Log: slog.New(slog.NewTextHandler(&lockedWriter{f: f}, &slog.HandlerOptions{ReplaceAttr: withoutNumbers}))}
	for _, w := range with {
		w(&o)
	}
	v, err := New(f.services(), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// withoutNumbers leaves out what may look like anything: tests look for the input's digits in the log.
func withoutNumbers(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == "took" {
		return slog.Attr{}
	}
	return a
}

// loggedDigits tells whether the log has some digits in anything but the random name of a request.
func (f *fakes) loggedDigits(digits string) bool {
	return strings.Contains(regexp.MustCompile(`\bid=\S+`).ReplaceAllString(f.logged(), ""), digits)
}

type lockedWriter struct{ f *fakes }

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	return l.f.log.Write(p)
}

func (f *fakes) logged() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

func (f *fakes) Submit(_ context.Context, who dp.Consumer, spec report.Spec, key string) (dp.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.submit != nil {
		return dp.Report{}, f.submit
	}
	f.specs = append(f.specs, spec)
	r := testReport(who.Name, "rep_"+key, len(spec.Questions))
	r.Scheduled = spec.Schedule != ""
	f.reports = append([]dp.Report{r}, f.reports...)
	return r, nil
}

// testReport is a report of so many questions, of which none is answered.
func testReport(consumer, id string, questions int) dp.Report {
	r := dp.Report{ID: id, Consumer: consumer, Name: "a report", Created: day(8), Runs: []dp.ReportRun{{Number: 1, At: day(8)}}}
	for i := range questions {
		charge := dp.Charge{ID: fmt.Sprint("chg_", i), Consumer: consumer, Dataset: "transactions", Blocks: []string{"2026-01"}, Loss: testLoss(), At: day(8)}
		r.Runs[0].Parts = append(r.Runs[0].Parts, dp.ReportPart{Name: fmt.Sprint("q", i+1), Query: dp.Query{Dataset: "transactions"}, Charge: charge})
	}
	return r
}

func (f *fakes) planReport(ctx context.Context, who dp.Consumer, spec report.Spec) (report.Plan, error) {
	if f.submit != nil {
		return report.Plan{}, f.submit
	}
	var p report.Plan
	for _, q := range spec.Questions {
		quote, err := f.Plan(ctx, who, q.Query)
		if err != nil {
			return p, err
		}
		p.Parts = append(p.Parts, report.PlannedPart{Name: q.Name, Query: q.Query, Quote: quote})
		p.Blocks = []report.BlockCost{{Dataset: q.Query.Dataset, Block: quote.Plan.Blocks[0], Loss: testLoss()}}
	}
	p.Left = []dp.Left{testLeft()}
	return p, nil
}

func (f *fakes) Report(_ context.Context, consumer, id string) (dp.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.reports {
		if r.ID == id && r.Consumer == consumer {
			r.Runs = slices.Clone(r.Runs) // what is read does not change any more
			for i := range r.Runs {
				r.Runs[i].Parts = slices.Clone(r.Runs[i].Parts)
			}
			return r, nil
		}
	}
	return dp.Report{}, notFound()
}

func (f *fakes) Reports(_ context.Context, consumer, cursor string, limit int) (list []dp.Report, next string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.reports {
		if r.Consumer == consumer {
			list = append(list, r)
		}
	}
	return list[:min(limit, len(list))], "after-" + cursor, nil
}

func (f *fakes) Cancel(ctx context.Context, consumer, id string) (dp.Report, error) {
	f.changeReport(id, func(r *dp.Report) {
		if r.Consumer == consumer {
			r.Cancelled = day(9)
		}
	})
	return f.Report(ctx, consumer, id)
}

func (f *fakes) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// changeReport changes a report and tells who watches.
func (f *fakes) changeReport(id string, change func(*dp.Report)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.reports {
		if f.reports[i].ID == id {
			change(&f.reports[i])
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// reporter is the fakes as Reports: two services price something.
type reporter struct{ *fakes }

func (r reporter) Plan(ctx context.Context, who dp.Consumer, spec report.Spec) (report.Plan, error) {
	return r.planReport(ctx, who, spec)
}

func notFound() error { return &dp.Error{Code: dp.CodeNotFound, Message: "There is none."} }

func (f *fakes) Subject(_ context.Context, subject string) (dp.Consumer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.consumers {
		if c.Subject == subject && !c.Suspended {
			return c, nil
		}
	}
	return dp.Consumer{}, &dp.Error{Code: dp.CodeUnauthenticated, Message: "Nobody has it."}
}

// Check takes a token to be whom it is about, a dot and its role; the third part is not looked at.
func (f *fakes) Check(_ context.Context, token string) (string, []dp.Role, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tokens != nil {
		return "", nil, f.tokens
	}
	subject, role, _ := strings.Cut(strings.TrimSuffix(token, ".signed"), ".")
	return subject, []dp.Role{dp.Role(role)}, nil
}

func (f *fakes) Authenticate(_ context.Context, hash [32]byte) (dp.Consumer, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.consumers {
		if sha256.Sum256([]byte("dk_"+c.Name)) == hash && !c.Suspended {
			return c, "key_" + c.Name, nil
		}
	}
	return dp.Consumer{}, "", &dp.Error{Code: dp.CodeUnauthenticated, Message: "The key is not in force."}
}

func (f *fakes) Ask(_ context.Context, who dp.Consumer, q dp.Query, key string) (answer.Answer, error) {
	f.mu.Lock()
	f.asked = append(f.asked, asked{who.Name, q, key})
	f.mu.Unlock()
	if f.ask != nil {
		return f.ask(q)
	}
	r := testRelease()
	return answer.Answer{Release: r, Charge: r.Charge, Left: testLeft()}, nil
}

func (f *fakes) Compare(_ context.Context, who dp.Consumer, c answer.Comparison) (answer.Compared, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.compared = append(f.compared, compared{who.Name, c})
	key := map[string]string{"merchant_category": "grocery"}
	out := answer.Compared{Confidence: "0.95", Ratio: c.Ratio, Missing: 1, Notes: []string{"noted"}}
	for _, verdict := range []answer.Verdict{answer.Up, answer.Unclear} {
		out.Cells = append(out.Cells, answer.ComparedCell{
			FromKey: key, ToKey: key, FromMetric: "customers", ToMetric: "customers", From: dp.Value{Value: 10, Low: 8, High: 12, SD: 1}, To: dp.Value{Value: 20, Low: 18, High: 22, SD: 1},
			Change: dp.Value{Value: 10, Low: 7, High: 13, SD: 1.4}, Unbounded: verdict == answer.Unclear, Verdict: verdict,
		})
	}
	return out, nil
}

func (f *fakes) Plan(_ context.Context, who dp.Consumer, q dp.Query) (answer.Quote, error) {
	f.mu.Lock()
	f.asked = append(f.asked, asked{who.Name, q, ""})
	f.mu.Unlock()
	if f.quote != nil {
		return f.quote(q)
	}
	p, err := plan.Make(q, f.policies[0], nil, plan.DefaultLimits())
	if err != nil {
		return answer.Quote{}, err
	}
	return answer.Quote{Plan: p, Left: testLeft(), FreeFrom: "rel_1", Alternatives: []dp.Alternative{{Change: "ask without by", Epsilon: 50_000_000_000}}}, nil
}

func (f *fakes) Release(ctx context.Context, consumer, id string) (dp.Release, error) {
	if r, ok := f.releases[id]; ok && f.holders[id] == consumer {
		return r, f.MayRead(ctx, consumer, answer.DatasetsOf(r))
	}
	return dp.Release{}, notFound()
}

func (f *fakes) MayRead(_ context.Context, _ string, datasets []string) error {
	if slices.ContainsFunc(datasets, func(d string) bool { return slices.Contains(f.hidden, d) }) {
		return notFound()
	}
	return nil
}

func (f *fakes) Held(_ context.Context, consumer, dataset string, p Page) ([]dp.Release, string, error) {
	var list []dp.Release
	for id, r := range f.releases {
		if f.holders[id] == consumer && (dataset == "" || dataset == r.Dataset) {
			r.Groups = nil
			list = append(list, r)
		}
	}
	return list, "cursor-after-" + p.Cursor, nil
}

func (f *fakes) Retention(_ context.Context, dataset string) (dp.Retirement, string, error) {
	return f.retired, f.retiring, nil
}

func (f *fakes) Policy(_ context.Context, dataset string) (dp.VersionedPolicy, error) {
	for _, p := range f.policies {
		if p.Name == dataset {
			return p, nil
		}
	}
	return dp.VersionedPolicy{}, notFound()
}

func (f *fakes) Policies(context.Context) ([]dp.VersionedPolicy, error) { return f.policies, nil }

func (f *fakes) Load(_ context.Context, _ dp.VersionedPolicy, s LoadSpec, body io.Reader, verify func() error) (LoadReport, error) {
	var text []byte
	var err error
	if f.read != nil {
		err = f.read(body)
	} else {
		text, err = io.ReadAll(body)
	}
	l := loaded{spec: s, body: string(text), readErr: err}
	if err == nil {
		l.verifyErr = verify()
	}
	f.mu.Lock()
	f.loads = append(f.loads, l)
	f.mu.Unlock()
	if err := errors.Join(l.readErr, l.verifyErr); err != nil {
		return LoadReport{}, err
	}
	return f.report, nil
}

func (f *fakes) Erase(_ context.Context, p dp.VersionedPolicy, s EraseSpec, body io.Reader, verify func() error) (dp.Erasure, error) {
	text, err := io.ReadAll(body)
	if err == nil {
		err = verify()
	}
	if err != nil {
		return dp.Erasure{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.erased = append(f.erased, erased{s, string(text)})
	e := dp.Erasure{ID: fmt.Sprintf("era_%d", len(f.erasures)+1), Dataset: p.Name, By: s.By, At: day(7), Units: int64(len(f.erasures) + 1)}
	f.erasures = append([]dp.Erasure{e}, f.erasures...)
	return e, nil
}

func (f *fakes) Erasures(_ context.Context, _ string, p Page) ([]dp.Erasure, string, error) {
	return f.erasures[:min(p.Limit, len(f.erasures))], "", nil
}

func (f *fakes) RunErasures() { f.runs.Add(1) }

type erased struct {
	spec EraseSpec
	body string
}

func (f *fakes) lastLoad(t testing.TB) loaded {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.loads) == 0 {
		t.Fatal("nothing was loaded")
	}
	return f.loads[len(f.loads)-1]
}

func (f *fakes) Loads(context.Context, string, Page) ([]dp.Load, string, error) {
	return []dp.Load{f.report.Load}, "", nil
}

func (f *fakes) OfConsumer(_ context.Context, consumer, dataset string, _ Page) ([]dp.Account, string, error) {
	var list []dp.Account
	for _, a := range f.accounts {
		if a.Consumer == consumer && (dataset == "" || a.Dataset == dataset) {
			list = append(list, a)
		}
	}
	return list, "", nil
}

func (f *fakes) OfDataset(context.Context, string, Page) ([]dp.Account, string, error) {
	return f.accounts, "", nil
}

func (f *fakes) Entries(context.Context, string, string, Page) ([]dp.Entry, string, error) {
	return f.entries, "", nil
}

func (f *fakes) Exposure(_ context.Context, dataset string) (exposure.Book, error) {
	if dataset != f.policies[0].Name {
		return exposure.Book{}, notFound()
	}
	d := exposure.Dataset{Policy: f.policies[0], Largest: f.policies[0].Cap, Accounts: f.accounts}
	for _, a := range f.accounts {
		d.Blocks = append(d.Blocks, a.Block)
	}
	d.Blocks = slices.Compact(d.Blocks)
	for _, a := range f.allotments {
		d.Allotments = append(d.Allotments, exposure.Allotment{Allotment: a, Largest: a.Budget})
	}
	return exposure.Book{At: day(9), Datasets: []exposure.Dataset{d}}, nil
}

func (f *fakes) Consumer(_ context.Context, name string) (dp.Consumer, error) {
	for _, c := range f.consumers {
		if c.Name == name {
			return c, nil
		}
	}
	return dp.Consumer{}, notFound()
}

func (f *fakes) All(context.Context) ([]dp.Consumer, error) { return f.consumers, nil }

func (f *fakes) Keys(_ context.Context, consumer string) ([]dp.Key, error) {
	return []dp.Key{
		{ID: "key_b", Consumer: consumer, Hash: [32]byte{1, 2, 3}, Created: day(3)},
		{ID: "key_a", Consumer: consumer, Hash: [32]byte{4, 5, 6}, Created: day(2), Revoked: day(4)},
	}, nil
}

func (f *fakes) Allotments(_ context.Context, consumer string) ([]dp.Allotment, error) {
	var list []dp.Allotment
	for _, a := range f.allotments {
		if a.Consumer == consumer {
			list = append(list, a)
		}
	}
	return list, nil
}

func (f *fakes) decide(c change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
	return f.refuse
}

func (f *fakes) ApplyPolicy(_ context.Context, actor string, p dp.Policy, ifMatch *uint64, reason string) (dp.VersionedPolicy, bool, error) {
	err := f.decide(change{what: "policy", actor: actor, on: p.Name, reason: reason, ifMatch: ifMatch})
	return dp.VersionedPolicy{Policy: p, Version: 4}, ifMatch == nil, err
}

func (f *fakes) CreateConsumer(_ context.Context, actor string, c dp.Consumer, reason string) (dp.Consumer, error) {
	c.Created, c.Version = day(2), 1
	return c, f.decide(change{what: "consumer", actor: actor, on: c.Name, reason: reason})
}

func (f *fakes) PatchConsumer(_ context.Context, actor, name string, patch office.ConsumerPatch, ifMatch *uint64, reason string) (dp.Consumer, error) {
	err := f.decide(change{what: "patch", actor: actor, on: name, reason: reason, ifMatch: ifMatch, patch: patch})
	return dp.Consumer{Name: name, Role: dp.Analyst, Audience: dp.Internal, Version: 3}, err
}

func (f *fakes) IssueKey(_ context.Context, actor string, n office.NewKey, reason string) (string, dp.Key, error) {
	err := f.decide(change{what: "key", actor: actor, on: n.Consumer, reason: reason, issue: n, key: n.Repeat})
	text := "dk_new"
	if n.Hash != nil {
		text = ""
	}
	return text, dp.Key{ID: "key_new", Consumer: n.Consumer, Created: day(3), Expires: n.Expires}, err
}

func (f *fakes) RotateKey(_ context.Context, actor, consumer string, grace time.Duration, expires time.Time, reason string) (string, dp.Key, []dp.Key, error) {
	err := f.decide(change{what: "rotate " + grace.String(), actor: actor, on: consumer, reason: reason})
	return "dk_new", dp.Key{ID: "key_new", Consumer: consumer, Created: day(3), Expires: expires}, []dp.Key{{ID: "key_old", Consumer: consumer, Created: day(1), Expires: day(4)}}, err
}

func (f *fakes) IssueOwnKey(_ context.Context, consumer, under string, grace *time.Duration, expires time.Time) (string, dp.Key, []dp.Key, error) {
	what := "own key"
	if grace != nil {
		what += " " + grace.String()
	}
	err := f.decide(change{what: what, actor: consumer, on: under})
	return "dk_own", dp.Key{ID: "key_own", Consumer: consumer, Created: day(3), Expires: expires, Under: under}, nil, err
}

func (f *fakes) RevokeOwnKey(_ context.Context, consumer, id string) (dp.Key, error) {
	return dp.Key{ID: id}, f.decide(change{what: "revoke own", actor: consumer, on: id})
}

func (f *fakes) RevokeKey(_ context.Context, actor, consumer, id, reason string) (dp.Key, error) {
	return dp.Key{ID: id}, f.decide(change{what: "revoke", actor: actor, on: consumer + "/" + id, reason: reason})
}

func (f *fakes) SetAllotment(_ context.Context, actor string, a dp.Allotment, ifMatch *uint64, reason string) (dp.Allotment, bool, error) {
	err := f.decide(change{what: "allotment", actor: actor, on: a.Consumer + "/" + a.Dataset, reason: reason, ifMatch: ifMatch, allotment: a})
	a.Version = 1
	return a, true, err
}

func (f *fakes) RequestBudget(_ context.Context, consumer string, r dp.BudgetRequest, key string) (dp.BudgetRequest, bool, error) {
	if err := f.decide(change{what: "request", actor: consumer, on: r.Dataset, reason: r.Reason, request: r, key: key}); err != nil {
		return dp.BudgetRequest{}, false, err
	}
	for _, known := range f.requests {
		if known.Consumer == consumer && known.Dataset == r.Dataset {
			return known, false, nil
		}
	}
	r.ID, r.Consumer, r.Made = "req_1", consumer, day(4)
	f.requests = append([]dp.BudgetRequest{r}, f.requests...)
	return r, true, nil
}

func (f *fakes) DecideRequest(ctx context.Context, actor, id string, d office.Decision, ifMatch *uint64, reason string) (dp.BudgetRequest, dp.Allotment, error) {
	r, _ := f.Request(ctx, id)
	if err := f.decide(change{what: "decide", actor: actor, on: id, reason: reason, ifMatch: ifMatch, decision: d}); err != nil {
		return dp.BudgetRequest{}, dp.Allotment{}, err
	}
	r.Decision = &dp.RequestDecision{State: dp.RequestDenied, By: actor, At: day(5), Reason: reason}
	if d.Grant {
		r.Decision.State, r.Decision.Granted, r.Decision.Allotment = dp.RequestGranted, &r.Asked, 6
	}
	return r, dp.Allotment{Version: 6}, nil
}

func (f *fakes) WithdrawRequest(ctx context.Context, consumer, id, reason string) (dp.BudgetRequest, error) {
	r, _ := f.Request(ctx, id)
	r.Decision = &dp.RequestDecision{State: dp.RequestWithdrawn, By: consumer, At: day(5), Reason: reason}
	return r, f.decide(change{what: "withdraw", actor: consumer, on: id, reason: reason})
}

func (f *fakes) DecideProposal(ctx context.Context, actor, id string, confirm bool, reason string) (dp.Proposal, error) {
	p, err := f.Proposal(ctx, id)
	if err := errors.Join(err, f.decide(change{what: "confirm", actor: actor, on: id, reason: reason, confirm: confirm})); err != nil {
		return dp.Proposal{}, err
	}
	p.End = &dp.ProposalEnd{State: dp.ProposalRejected, By: actor, At: day(6), Reason: reason}
	if confirm {
		p.End.State = dp.ProposalConfirmed
	}
	return p, nil
}

func (f *fakes) WithdrawProposal(ctx context.Context, actor, id, reason string) (dp.Proposal, error) {
	p, err := f.Proposal(ctx, id)
	p.End = &dp.ProposalEnd{State: dp.ProposalWithdrawn, By: actor, At: day(6), Reason: reason}
	return p, errors.Join(err, f.decide(change{what: "withdraw-proposal", actor: actor, on: id, reason: reason}))
}

func (f *fakes) Proposal(_ context.Context, id string) (dp.Proposal, error) {
	for _, p := range f.proposals {
		if p.ID == id {
			return p, nil
		}
	}
	return dp.Proposal{}, notFound()
}

func (f *fakes) Proposals(_ context.Context, open bool, p Page) (list []dp.Proposal, next string, err error) {
	for _, one := range f.proposals {
		if !open || one.End == nil {
			list = append(list, one)
		}
	}
	return list[:min(p.Limit, len(list))], "", nil
}

func (f *fakes) PolicyAt(_ context.Context, dataset string, version uint64) (dp.VersionedPolicy, error) {
	for _, p := range f.policies {
		if p.Name == dataset && p.Version == version {
			return p, nil
		}
	}
	return dp.VersionedPolicy{}, notFound()
}

func (f *fakes) Request(_ context.Context, id string) (dp.BudgetRequest, error) {
	for _, r := range f.requests {
		if r.ID == id {
			return r, nil
		}
	}
	return dp.BudgetRequest{}, noBudgetRequest()
}

func (f *fakes) Requests(_ context.Context, filter dp.RequestFilter, p Page) (list []dp.BudgetRequest, next string, err error) {
	f.filters = append(f.filters, filter)
	for _, r := range f.requests {
		if filter.Admits(r) {
			list = append(list, r)
		}
	}
	return list[:min(p.Limit, len(list))], "", nil
}

func (f *fakes) Grounds(ctx context.Context, id string) (office.Grounds, error) {
	r, err := f.Request(ctx, id)
	p := f.policies[0]
	return office.Grounds{Request: r, Allotment: dp.Allotment{Consumer: r.Consumer, Dataset: r.Dataset, Budget: dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1e8}, Version: 5}, Cap: p.Cap, Default: p.Default,
		Blocks: []office.BlockGrounds{{Block: "2026-01", Spent: testLoss(), CapSpent: dp.Loss{Epsilon: 5 * dp.EpsilonOne, Rho: dp.RhoUnknown}}}}, err
}

// send makes one request as a role (empty: without a key). Headers come in pairs.
func send(t testing.TB, v *Server, as, method, path, body string, headers ...string) *http.Response {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, path, r)
	if as != "" {
		req.Header.Set("Authorization", "Bearer dk_"+as)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := v.Test(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func bodyOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// read decodes a success.
func read[T any](t testing.TB, resp *http.Response, status int) T {
	t.Helper()
	text := bodyOf(t, resp)
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, text)
	}
	var out T
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// refused decodes a problem document and checks what every one must have.
func refused(t testing.TB, resp *http.Response, status int, name string) wire.Problem {
	t.Helper()
	text := bodyOf(t, resp)
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q of %s", got, text)
	}
	var p wire.Problem
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("not a problem document: %v in %q", err, text)
	}
	if resp.StatusCode != status || p.Status != status || !strings.HasSuffix(p.Type, "#"+name) {
		t.Errorf("got status %d and %s, want %d %s", resp.StatusCode, text, status, name)
	}
	if p.Title == "" || p.Detail == "" || !strings.HasPrefix(p.Instance, "urn:discreet:request:") {
		t.Errorf("a part is missing in %s", text)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("headers are missing: %v", resp.Header)
	}
	return p
}

func (f *fakes) Status() LedgerStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fakes) WriteOff(_ context.Context, actor, reason string, amount dp.Budget) error {
	if err := f.decide(change{what: "write-off", actor: actor, reason: reason, amount: amount}); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.State, f.status.Reason = "ok", ""
	return nil
}
