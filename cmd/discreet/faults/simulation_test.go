package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/report"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// TestHistoriesKeepTheBooks runs random histories.
//
// The long form, which benchmarks/RESULTS.md has the figures of, is best run on a file system in memory, because
// what is simulated is what a disk forgets:
//
//	TMPDIR=/dev/shm DISCREET_HISTORIES=100000 go test -run TestHistoriesKeepTheBooks -v -timeout 24h ./cmd/discreet/faults
//
// DISCREET_SEED is the first history's seed, the others follow it.
func TestHistoriesKeepTheBooks(t *testing.T) {
	histories, first := setting(t, "DISCREET_HISTORIES", 24), setting(t, "DISCREET_SEED", 1)
	if raceEnabled {
		histories = min(histories, 4)
	}
	var total tally
	var mu sync.Mutex
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) { // some wait for a disk
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(histories) && !t.Failed(); n = next.Add(1) - 1 {
				seed := uint64(first) + uint64(n)
				home, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					t.Error(err)
					return
				}
				did, err := simulate(seed, home)
				if err != nil {
					t.Errorf("history %d: %v\nrepeat it with: DISCREET_SEED=%d DISCREET_HISTORIES=1 go test -run TestHistoriesKeepTheBooks -v ./cmd/discreet/faults", seed, err, seed)
				}
				if err := os.RemoveAll(home); err != nil {
					t.Error(err)
				}
				mu.Lock()
				total.add(did)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	t.Logf("%d histories: %+v", histories, total)
	if !t.Failed() && histories >= 24 {
		for what, n := range map[string]int{
			"answers": total.Answered, "refusals by budget": total.Exhausted, "replays": total.Replayed, "failures as outcomes": total.Failed,
			"crashes between steps": total.Crashed, "crashes within a call": total.CrashedWithin, "torn commits": total.Torn,
			"second attempts": total.Repeated, "charges of several prices": total.Several, "hand-outs of several prices": total.HandedOut,
			"refusals by the second dataset": total.RefusedElsewhere, "charges under a policy of before": total.Repriced,
			"reports": total.Reports, "reports that are refused": total.ReportsRefused, "questions of reports": total.Parts, "cancelled reports": total.Cancelled,
		} {
			if n == 0 {
				t.Errorf("no history has %s: the simulation shows less than it should", what)
			}
		}
	}
}

// tally counts what histories did, so that it shows when they stop doing it.
type tally struct {
	Steps, Answered, Replayed, Repeated, Exhausted, Failed, Refused, Crashed, CrashedWithin, Torn, Changed int
	Several, HandedOut, RefusedElsewhere, Repriced                                                         int
	Reports, ReportsRefused, Parts, Cancelled                                                              int
}

func (t *tally) add(o tally) {
	t.Steps += o.Steps
	t.Answered += o.Answered
	t.Replayed += o.Replayed
	t.Repeated += o.Repeated
	t.Exhausted += o.Exhausted
	t.Failed += o.Failed
	t.Refused += o.Refused
	t.Crashed += o.Crashed
	t.CrashedWithin += o.CrashedWithin
	t.Torn += o.Torn
	t.Changed += o.Changed
	t.Several += o.Several
	t.HandedOut += o.HandedOut
	t.RefusedElsewhere += o.RefusedElsewhere
	t.Repriced += o.Repriced
	t.Reports += o.Reports
	t.Parts += o.Parts
	t.Cancelled += o.Cancelled
	t.ReportsRefused += o.ReportsRefused
}

func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s must be a number", name)
	}
	return n
}

// world is one history. Only one goroutine of it runs at a time: the scheduler, or the call that it lets go on.
type world struct {
	choose *rand.Rand
	home   string
	copies int

	now    time.Time
	files  site
	ledger *ledger.Ledger
	office *office.Office
	life   int   // of the process; calls of an earlier one are dead
	left   *site // what a process left that ended within a call; nil while it lives
	wrote  bool  // something may have been written since the books were compared
	// two services over one ledger: flights of one do not hold back the other.
	services [2]*answer.Service
	reports  [2]*report.Service

	calls []*call // under way
	model model
	did   tally
	err   error // the first broken promise
}

const (
	shop  = "shop"
	lease = time.Minute
	steps = 160
)

var (
	names   = []string{"ann", "bob", "eve"}
	quarter = []string{"2026-01", "2026-02", "2026-03"}
)

func consumer(name string) dp.Consumer {
	return dp.Consumer{Name: name, Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}
}

func policy(name string, cap dp.Budget) dp.Policy {
	return dp.Policy{
		Name: name, Kind: dp.Transactions, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "category", Column: "category", Type: dp.StringDimension, Values: []string{"food", "toys"}},
		},
		Measures: []dp.Measure{{Name: "amount", Column: "amount", Scale: 2, Upper: 100}},
		Bounds:   dp.Bounds{MaxPartitions: 2, MaxRows: 3},
		Cap:      cap, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: dp.DeltaOne / 1e12},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}
}

// simulate runs one history and gives the first promise that it breaks.
func simulate(seed uint64, home string) (tally, error) {
	w := &world{
		choose: rand.New(rand.NewPCG(seed, 0)), home: home,
		now: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC), model: newModel(),
	}
	w.files = newSite(filepath.Join(home, "0"))
	if err := os.MkdirAll(filepath.Dir(w.files.dir), 0o700); err != nil {
		return w.did, err
	}
	w.live()
	defer func() {
		w.end()
		if w.ledger != nil {
			_ = w.ledger.Close() // after a broken promise
		}
	}()
	w.found()
	for w.did.Steps = 0; w.did.Steps < steps && w.err == nil; w.did.Steps++ {
		w.step()
		w.check()
	}
	w.end()
	w.check()
	if w.err == nil {
		w.fail(w.ledger.Close(), "closing the ledger")
		w.ledger = nil
		report, err := verify.Ledger(context.Background(), w.files.dir, verify.Options{Witness: w.files.witness})
		w.fail(err, "verifying the ledger")
		if report.Finding != nil {
			w.fail(errors.New(report.Finding.String()), "verifying the ledger")
		}
	}
	return w.did, w.err
}

// fail keeps the first error.
func (w *world) fail(err error, doing string) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("step %d: %s: %w", w.did.Steps, doing, err)
	}
}

// live begins a life of the process over the files.
func (w *world) live() {
	l, err := ledger.Open(w.files.dir, ledger.Options{Clock: func() time.Time { return w.now }, Lease: lease, Witness: w.files.witness})
	if err != nil {
		w.fail(err, "opening the ledger")
		return
	}
	if s := l.Status(); s.State != ledger.StateOK {
		w.fail(errors.New(s.Reason), "opening the ledger")
	}
	w.ledger, w.office = l, office.New(l, func() time.Time { return w.now })
	w.life++
	for i := range w.services {
		p := &port{world: w, life: w.life}
		w.services[i] = answer.New(p, p, p, p, exact{}, answer.Options{
			Limits: plan.DefaultLimits(), Deadline: time.Hour, Clock: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		})
		w.reports[i] = report.New(w.services[i], book{p}, nil, nil, l, report.Options{Clock: func() time.Time { return w.now }}) // none is scheduled, or equalised
	}
}

// found puts the policy in force and hires everybody.
func (w *world) found() {
	ctx := context.Background()
	for _, dataset := range []string{shop, bank} {
		_, _, err := w.office.ApplyPolicy(ctx, "root", policy(dataset, dp.Budget{Epsilon: dp.EpsilonOne, Delta: dp.DeltaOne / 1e6}), nil, "found")
		w.fail(err, "applying the policy")
	}
	for _, name := range names {
		_, err := w.office.CreateConsumer(ctx, "root", consumer(name), "found")
		w.fail(err, "hiring")
		for _, dataset := range []string{shop, bank} {
			_, _, err = w.office.SetAllotment(ctx, "root", dp.Allotment{Consumer: name, Dataset: dataset, Budget: dp.Budget{Epsilon: dp.EpsilonOne / 2, Delta: dp.DeltaOne / 1e6}}, nil, "found")
			w.fail(err, "allotting")
		}
	}
}

// step does one thing.
func (w *world) step() {
	switch n := w.choose.IntN(100); {
	case n < 25 && len(w.calls) < 5 || len(w.calls) == 0:
		switch w.choose.IntN(6) {
		case 0:
			w.beginBatch()
		case 1, 2:
			w.beginPart()
		default:
			w.beginAsking(w.question())
		}
	case n < 86:
		w.resume(w.calls[w.choose.IntN(len(w.calls))])
	case n < 88:
		w.crash(w.files)
		w.did.Crashed++
	case n < 92:
		w.now = w.now.Add(time.Duration(w.choose.IntN(7)-2) * lease / 2) // backwards too
	case n < 93:
		w.now = w.now.Add(time.Duration(w.choose.IntN(60)-20) * time.Hour)
	case n < 97:
		w.load()
	default:
		w.change()
	}
}

// dataset is one of the two: mostly that which questions are about.
func (w *world) dataset() string {
	if w.choose.IntN(3) == 0 {
		return bank
	}
	return shop
}

// load makes a new version of some blocks, or dies before it is committed.
func (w *world) load() {
	w.wrote = true
	ctx := context.Background()
	dataset := w.dataset()
	p, err := w.ledger.Policy(ctx, dataset)
	w.fail(err, "reading the policy")
	blocks := quarter[:1+w.choose.IntN(3)]
	l, _, err := w.ledger.BeginLoad(ctx, dataset, p.Version, fmt.Sprint("load ", w.did.Steps), blocks)
	w.fail(err, "beginning a load")
	l.Digest[0] = byte(w.did.Steps)
	if w.choose.IntN(4) == 0 {
		w.crash(w.files)
		w.did.Crashed++
		return
	}
	w.fail(w.ledger.CommitLoad(ctx, l), "committing a load")
}

// change has the officer change the policy or an allotment.
func (w *world) change() {
	ctx := context.Background()
	w.did.Changed++
	w.wrote = true
	budget := dp.Budget{Epsilon: dp.Epsilon(1+w.choose.IntN(30)) * dp.EpsilonOne / 10, Delta: dp.Delta(w.choose.IntN(3)) * dp.DeltaOne / 1e6}
	dataset := w.dataset()
	if w.choose.IntN(3) == 0 {
		p, err := w.ledger.Policy(ctx, dataset)
		w.fail(err, "reading the policy")
		_, _, err = w.office.ApplyPolicy(ctx, "root", policy(dataset, budget), &p.Version, "change")
		w.fail(ignoreRefusal(err), "changing the policy")
		return
	}
	a, err := w.ledger.Allotment(ctx, names[w.choose.IntN(len(names))], dataset)
	w.fail(err, "reading an allotment")
	version := a.Version
	a.Budget, a.Paused = budget, w.choose.IntN(4) == 0
	_, _, err = w.office.SetAllotment(ctx, "root", a, &version, "change")
	w.fail(ignoreRefusal(err), "changing an allotment")
}

// ignoreRefusal drops what an officer is told about a change that was drawn at random.
func ignoreRefusal(err error) error {
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code != dp.CodeInternal && refused.Code != dp.CodeUnavailable {
		return nil
	}
	return err
}

// crash ends the process: what it had in memory is gone, and the files are those of a copy.
func (w *world) crash(left site) {
	w.copies++
	w.wrote = true
	next, err := left.copyTo(filepath.Join(w.home, strconv.Itoa(w.copies)))
	w.fail(err, "copying the files")
	w.end()
	w.fail(w.ledger.Close(), "ending a process that died") // its files are nobody's any more
	if err := os.RemoveAll(filepath.Dir(w.files.dir)); err != nil {
		w.fail(err, "removing the files of a process that died")
	}
	w.ledger, w.files = nil, next
	if w.err == nil {
		w.live()
	}
}

// end lets every call of this life end without touching anything.
func (w *world) end() {
	w.life++
	for len(w.calls) > 0 {
		w.resume(w.calls[0])
	}
}

// exact draws no noise: answers then show which rows they were computed on.
type exact struct{}

func (exact) Add(x int64, d mechanism.Draw) (int64, error) { return x, d.Validate() }

// beginAsking sends a question.
func (w *world) beginAsking(q question) {
	for _, c := range w.calls {
		// Within one service these wait for each other, out of the scheduler's sight.
		if c.batch == nil && c.service == q.service && c.asker == q.asker && (c.shape == q.shape && !q.query.Fresh && !c.query.Fresh || c.key != "" && c.key == q.key) {
			return
		}
	}
	w.start(&call{question: q}, func(ctx context.Context, c *call) (err error) {
		c.answer, err = w.services[c.service].Ask(ctx, consumer(c.asker), c.query, c.key)
		return err
	})
}

// start lets a call begin.
func (w *world) start(c *call, do func(context.Context, *call) error) {
	c.life, c.resumed, c.paused, c.planned = w.life, make(chan struct{}), make(chan bool), map[string]uint64{}
	w.calls = append(w.calls, c)
	go func() {
		<-c.resumed
		c.err = do(context.WithValue(context.Background(), callKey{}, c), c)
		c.paused <- true
	}()
	w.resume(c)
}

type question struct {
	asker, key string
	service    int
	shape      int // which question, whatever the key
	query      dp.Query
	part       bool // of a report
}

func (w *world) question() question {
	if len(w.model.asked) > 0 && w.choose.IntN(3) == 0 {
		q := w.model.asked[w.choose.IntN(len(w.model.asked))]
		q.service = w.choose.IntN(2)
		return q
	}
	shape := w.choose.IntN(24)
	if w.choose.IntN(2) == 0 { // what several consumers ask
		shape %= 3
	}
	q := question{asker: names[w.choose.IntN(len(names))], service: w.choose.IntN(2), shape: shape}
	q.query = dp.Query{
		Dataset: shop, Metrics: [][]string{{"customers"}, {"customers", "spend"}}[shape%2], By: [][]string{nil, {"category"}}[shape/2%2],
		From: "2026-01-01", To: []string{"2026-01-31", "2026-02-28", "2026-03-31"}[shape/4%3], Purpose: "reporting",
		Epsilon: []string{"0.05", "0.2"}[shape/12], Fresh: w.choose.IntN(3) == 0,
	}
	if shape%3 == 0 {
		q.query.Delta = "0"
	}
	if w.choose.IntN(4) > 0 {
		q.key = fmt.Sprint("key ", len(w.model.asked))
		w.model.asked = append(w.model.asked, q)
	}
	return q
}

// call is one question on its way through the walk, or one report.
type call struct {
	question
	batch   *batch // nil for a question
	life    int
	resumed chan struct{}
	paused  chan bool // true: it has ended

	planned map[string]uint64 // plan -> version of the other dataset's policy when it was looked for

	bank uint64      // version of the other dataset's policy when the question was priced
	read dp.Snapshot // what its rows were read at last

	answer answer.Answer
	err    error
}

type callKey struct{}

// resume lets a call go on to its next step, or to its end.
func (w *world) resume(c *call) {
	c.resumed <- struct{}{}
	if ended := <-c.paused; !ended {
		return
	}
	w.calls = slices.DeleteFunc(w.calls, func(o *call) bool { return o == c })
	w.told(c)
	if left := w.left; left != nil {
		w.left = nil
		w.crash(*left)
		for _, name := range []string{"before", "torn"} {
			w.fail(os.RemoveAll(filepath.Join(w.home, name)), "removing a copy")
		}
	}
}

// told is what a caller hears.
func (w *world) told(c *call) {
	var refused *dp.Error
	switch {
	case c.err == nil && c.batch != nil:
		w.toldOfReport(c.batch)
	case c.err == nil:
		w.did.Answered++
		w.fail(w.model.answered(c.question, c.answer), "answering")
	case errors.Is(c.err, errDied): // the caller hears nothing
	case !errors.As(c.err, &refused):
		w.fail(c.err, "asking")
	case refused.Code == dp.CodeBudgetExhausted:
		w.did.Exhausted++
	case refused.Code == dp.CodeInternal:
		w.did.Failed++
	case refused.Code == dp.CodeConflict && c.part: // its report was cancelled
		w.did.Refused++
	case refused.Code == dp.CodeConflict || refused.Code == dp.CodeInvalidQuery:
		w.fail(c.err, "asking")
	default: // unavailable, or paused
		w.did.Refused++
	}
}

// check compares the ledger with the model.
func (w *world) check() {
	if w.err != nil || !w.wrote {
		return
	}
	w.wrote = false
	w.fail(w.model.compare(w.ledger), "comparing the books")
}

// sorted are the keys of a map in order, so that every run goes through them alike.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
