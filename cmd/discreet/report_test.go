package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/report"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// mortal is a ledger whose process dies at one of its steps: before a write, or after it and before anybody hears of
// it. Whatever comes later fails.
type mortal struct {
	*ledger.Ledger
	mu    sync.Mutex
	steps int // so far
	dies  int // at which step; 0: never
	dead  chan struct{}
}

var errDead = errors.New("the process is dead")

// step tells whether the process is alive.
func (m *mortal) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.dead:
		return errDead
	default:
	}
	if m.steps++; m.steps == m.dies {
		close(m.dead)
		return errDead
	}
	return nil
}

// through makes a call between two steps.
func through[T any](m *mortal, call func() (T, error)) (T, error) {
	var none T
	if err := m.step(); err != nil {
		return none, err
	}
	out, err := call()
	if dead := m.step(); dead != nil {
		return none, dead
	}
	return out, err
}

func (m *mortal) Charge(ctx context.Context, r answer.ChargeRequest) (answer.Charged, error) {
	return through(m, func() (answer.Charged, error) { return m.Ledger.Charge(ctx, r) })
}

func (m *mortal) Publish(ctx context.Context, charge string, attempt int, o answer.Outcome) (answer.Outcome, error) {
	return through(m, func() (answer.Outcome, error) { return m.Ledger.Publish(ctx, charge, attempt, o) })
}

func (m *mortal) Abandon(ctx context.Context, charge string, attempt int) error {
	_, err := through(m, func() (int, error) { return 0, m.Ledger.Abandon(ctx, charge, attempt) })
	return err
}

func (m *mortal) BeginReport(ctx context.Context, r dp.Report, body [32]byte, first *report.NewRun) (dp.Report, error) {
	return through(m, func() (dp.Report, error) { return m.Ledger.BeginReport(ctx, r, body, first) })
}

func (m *mortal) EndParts(ctx context.Context, id string, charges []string, why dp.Error) error {
	_, err := through(m, func() (int, error) { return 0, m.Ledger.EndParts(ctx, id, charges, why) })
	return err
}

func (m *mortal) Report(ctx context.Context, consumer, id string) (dp.Report, error) {
	if m.died() {
		return dp.Report{}, errDead
	}
	return m.Ledger.Report(ctx, consumer, id)
}

func (m *mortal) OpenReports(ctx context.Context) ([]dp.Report, error) {
	if m.died() {
		return nil, errDead
	}
	return m.Ledger.OpenReports(ctx)
}

func (m *mortal) died() bool {
	select {
	case <-m.dead:
		return true
	default:
		return false
	}
}

// fixedRows is an engine that needs no rows.
type fixedRows struct{ m *mortal }

func (e fixedRows) Aggregate(_ context.Context, p *plan.Plan, _ dp.Snapshot, each func(bounding.Partition) error) error {
	if err := e.m.step(); err != nil {
		return err
	}
	for i, key := range p.Groups() {
		totals := make([]int64, p.Tree.Width())
		for at := range totals {
			totals[at] = int64(100 * (i + 1))
		}
		if err := each(bounding.Partition{Key: key, Totals: totals}); err != nil {
			return err
		}
	}
	return e.m.step()
}

// life is a process over a ledger that others had before.
type life struct {
	*mortal
	reports *report.Service
	stop    func()
}

func begin(t *testing.T, dir string, dies int) *life {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{Ledger: l, dies: dies, dead: make(chan struct{})}
	asker := answer.New(m, m, m, fixedRows{m}, mechanism.Secure(), answer.Options{Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: time.Now, Log: log})
	r := report.New(asker, m, m, m, m, report.Options{Workers: 1, Every: time.Hour, Retry: time.Millisecond, Clock: time.Now, Log: log})
	end := inBackground(r.Run)
	return &life{mortal: m, reports: r, stop: func() {
		end()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}}
}

const reportPolicy = `
name: shop
kind: custom
population: 100000
unit: {column: customer, block: month}
time: {column: at, timezone: UTC, format: date}
dimensions: [{name: category, values: [grocery, travel]}]
measures: [{name: amount, scale: 2, lower: 0, upper: 100, kind: flow}]
metrics: [{name: spend, aggregate: sum, measure: amount, lower: 0, upper: 500}]
bounds: {max_partitions: 2, max_rows: 10}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [reporting]
audiences: [internal]
`

func reportSpec() report.Spec {
	q := func(by ...string) dp.Query { return dp.Query{Metrics: []string{"customers", "spend"}, By: by} }
	return report.Spec{Name: "categories", Dataset: "shop", Purpose: "reporting", From: "2026-01-01", To: "2026-02-28", Epsilon: "0.7", Delta: "1e-10",
		Weights:   map[string]string{"total": "5"},
		Questions: []report.Question{{Name: "categories", Query: q("category")}, {Name: "months", Query: q("time.month")}, {Name: "total", Query: q()}}}
}

// TestReportIsMadeOnceWhereverItsProcessDies kills the process at every step of a report, before and after each write,
// and once more during the next life; the third makes the report. It is charged once, each answer is published once,
// and what was published before a death is what is read after it, to the byte.
func TestReportIsMadeOnceWhereverItsProcessDies(t *testing.T) {
	asker := dp.Consumer{Name: "alice", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}
	steps := 0
	for first := 1; first <= max(steps, 1); first += 5 - 2*short(2) {
		for _, second := range []int{0, 3}[:1+(first+2)%3/2] {
			dir := t.TempDir()
			setUp(t, dir, asker)
			published := map[string]string{}
			for number, dies := range []int{first, second, 0} {
				l := begin(t, dir, dies)
				r, err := l.reports.Submit(t.Context(), asker, reportSpec(), "one report")
				if err != nil && !errors.Is(err, errDead) {
					t.Fatalf("dying at %d and %d, life %d: %v", first, second, number, err)
				}
				for err == nil && report.StateOf(r) != report.Done && !l.died() {
					changed := l.reports.Changed()
					if r, err = l.Report(t.Context(), asker.Name, r.ID); err != nil || report.StateOf(r) == report.Done {
						break
					}
					select {
					case <-changed:
					case <-l.dead:
					case <-time.After(20 * time.Second):
						t.Fatalf("dying at %d and %d, life %d: it stands at %+v", first, second, number, r)
					}
				}
				if first == 1 && dies == 0 {
					steps = max(steps, l.steps)
				}
				for _, text := range releasesOf(t, l.Ledger, asker.Name) {
					if before, ok := published[text[0]]; ok && before != text[1] {
						t.Errorf("dying at %d and %d: release %s was\n%s\nand is\n%s", first, second, text[0], before, text[1])
					}
					published[text[0]] = text[1]
				}
				l.stop()
			}
			l := begin(t, dir, 0)
			r, err := l.reports.Submit(t.Context(), asker, reportSpec(), "one report")
			if err != nil || report.StateOf(r) != report.Done || len(published) != 3 {
				t.Fatalf("dying at %d and %d: %d releases, %v: %+v", first, second, len(published), err, r)
			}
			checkChargedOnce(t, l.Ledger, asker, r)
			l.stop()
			if found, err := verify.Ledger(t.Context(), filepath.Join(dir, "ledger"), verify.Options{}); err != nil || found.Finding != nil || found.Charges != 3 || found.Releases != 3 || found.Open != 0 {
				t.Errorf("dying at %d and %d: verified %+v, %v", first, second, found, err)
			}
		}
	}
	if steps < 15 {
		t.Errorf("a report takes %d steps only", steps)
	}
	t.Logf("a report of three questions takes %d steps", steps)
}

func setUp(t *testing.T, dir string, asker dp.Consumer) {
	t.Helper()
	l := begin(t, dir, 0)
	defer l.stop()
	o := office.New(l.Ledger, time.Now)
	if _, _, err := o.ApplyPolicy(t.Context(), "root", parsedPolicy(t, reportPolicy), nil, "a test"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.CreateConsumer(t.Context(), "root", asker, "a test"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.SetAllotment(t.Context(), "root", dp.Allotment{Consumer: asker.Name, Dataset: "shop", Budget: dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1e9}}, nil, "a test"); err != nil {
		t.Fatal(err)
	}
}

func parsedPolicy(t *testing.T, text string) dp.Policy {
	t.Helper()
	p, err := policyfile.Parse([]byte(text), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// releasesOf are the releases that a consumer holds, by id, each with all of it as JSON.
func releasesOf(t *testing.T, l *ledger.Ledger, consumer string) (list [][2]string) {
	t.Helper()
	held, _, err := l.Held(t.Context(), consumer, "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		r, err := l.Release(t.Context(), consumer, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, [2]string{h.ID, string(text)})
	}
	return list
}

// checkChargedOnce holds every account of the report to the sum of its parts, in both certificates.
func checkChargedOnce(t *testing.T, l *ledger.Ledger, asker dp.Consumer, r dp.Report) {
	t.Helper()
	var sum dp.Loss
	for _, p := range r.Runs[0].Parts {
		sum = accounting.Add(sum, p.Charge.Loss)
	}
	accounts, _, err := l.DatasetAccounts(t.Context(), "shop", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(accounts) != 4 {
		t.Errorf("%d accounts were charged, not two of each month", len(accounts))
	}
	for _, a := range accounts {
		if a.Spent != sum {
			t.Errorf("%s spent %+v, the parts cost %+v", a.Name, a.Spent, sum)
		}
	}
	if sum.Epsilon > 7*dp.EpsilonOne/10 || sum.Epsilon < 69*dp.EpsilonOne/100 || sum.Rho == dp.RhoUnknown {
		t.Errorf("the parts cost %+v of epsilon 0.7", sum)
	}
	if parts := r.Runs[0].Parts; parts[2].Charge.Loss.Epsilon < 4*parts[0].Charge.Loss.Epsilon {
		t.Errorf("a part of weight 5 costs %s, of weight 1 %s", parts[2].Charge.Loss.Epsilon, parts[0].Charge.Loss.Epsilon)
	}
	if !reflect.DeepEqual(report.Costs(r.Runs[0]), []report.BlockCost{{Dataset: "shop", Block: "2026-01", Loss: sum}, {Dataset: "shop", Block: "2026-02", Loss: sum}}) {
		t.Errorf("its blocks cost %+v", report.Costs(r.Runs[0]))
	}
}
