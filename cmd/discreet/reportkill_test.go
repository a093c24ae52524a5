package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// TestKilledServerGoesOnWithItsReports kills the server in the midst of reports, again and again; the next one goes on by
// itself. Each report is charged once, each of its questions is answered once, and what was read before a death is what
// is read after it. TestReportIsMadeOnceWhereverItsProcessDies is about every single step.
//
// The long form:
//
//	DISCREET_KILLS=200 go test -run TestKilledServerGoesOnWithItsReports -v -timeout 1h ./cmd/discreet
func TestKilledServerGoesOnWithItsReports(t *testing.T) {
	kills, seed := setting(t, "DISCREET_KILLS", 2*short(3)), setting(t, "DISCREET_SEED", 1)
	t.Logf("%d kills, moments of DISCREET_SEED=%d", kills, seed)
	moments := rand.New(rand.NewPCG(uint64(seed), 5))
	p := newProcess(t, t.TempDir())
	p.openShop()
	h := &harness{t: t, dir: p.data(), url: "http://" + p.address, officer: keyIn(p.printed)}
	h.must(h.hire("warehouse", dp.Custodian), "load", "shop", h.file("shop.csv", shopRows), "--from", "2026-01-01", "--to", "2026-03-31")
	analyst := h.hire("analyst", dp.Analyst, "product-analytics")
	h.allot("analyst", "shop", "6", "1e-9")
	w := &watcher{t: t, process: p, client: h.client(analyst), seen: map[string]wire.Release{}}

	midst := 0
	for kill := 0; kill < kills || midst == 0; {
		if kill >= kills+50 {
			t.Fatal("no kill came in the midst of a report: the test shows nothing")
		}
		spec, key := reportOfMany(len(w.reports)), fmt.Sprint("key-", len(w.reports))
		r := w.submit(spec, key)
		w.reports = append(w.reports, r.ID)
		for range 2 { // a third death in one question would end it without an answer
			time.Sleep(time.Duration(moments.IntN(120)) * time.Millisecond)
			if !p.running() {
				t.Fatalf("the server ended by itself: %s", p.lastWords())
			}
			if r = w.read(r.ID); r.Progress.Ended == r.Progress.All {
				break
			}
			p.kill()
			kill++
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
			if now := w.read(r.ID); now.Progress.Ended < r.Progress.Ended {
				t.Fatalf("after a kill %d questions have ended, before it %d had", now.Progress.Ended, r.Progress.Ended)
			} else if r.Progress.Ended > 0 {
				midst++
			}
			// Who was not told that it was taken sends it again.
			if again := w.submit(spec, key); again.ID != r.ID {
				t.Fatalf("sent again, report %s is %s", r.ID, again.ID)
			}
		}
		w.finish(r.ID)
	}
	if err := p.stop(); err != nil {
		t.Fatalf("stopping the server: %v: %s", err, p.lastWords())
	}
	w.checkBooks()
	t.Logf("%d reports, %d kills in the midst of one", len(w.reports), midst)
}

// reportOfMany asks a dozen questions about January, each cheaply. Those of another report are others.
func reportOfMany(n int) wire.ReportSpec {
	spec := wire.ReportSpec{Name: fmt.Sprint("report ", n), Dataset: "shop", Purpose: "product-analytics", From: "2026-01-01", To: "2026-01-31", Epsilon: "0.0012", Delta: "0"}
	for i := range 12 {
		q := wire.ReportQuestion{Metrics: []string{"customers"}, Fresh: true}
		if i%2 == 0 {
			q.By = []string{"category", "time.day"}
		}
		spec.Queries = append(spec.Queries, wire.ReportQuery{Name: fmt.Sprint("q", i+1), ReportQuestion: q})
	}
	return spec
}

// watcher is the one who asked, and remembers what was shown.
type watcher struct {
	t       *testing.T
	process *process
	client  *client.Client
	reports []string
	seen    map[string]wire.Release
}

func (w *watcher) submit(spec wire.ReportSpec, key string) wire.Report {
	w.t.Helper()
	r, err := w.client.MakeReport(w.t.Context(), spec, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// read reads a report with all of its answers, which never change.
func (w *watcher) read(id string) wire.Report {
	w.t.Helper()
	r, err := w.client.Report(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, part := range r.Runs[0].Parts {
		if part.Release == "" {
			continue
		}
		answer, err := w.client.Release(w.t.Context(), part.Release)
		if err != nil {
			w.t.Fatal(err)
		}
		if before, ok := w.seen[id+part.Name]; ok && !reflect.DeepEqual(before, answer) {
			w.t.Errorf("%s of %s was answered by\n%+v\nand is by\n%+v", part.Name, id, before, answer)
		}
		w.seen[id+part.Name] = answer
	}
	return r
}

func (w *watcher) finish(id string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), hang)
	defer cancel()
	var last wire.Report
	err := w.client.WatchReport(ctx, id, func(r wire.Report) error { last = r; return nil })
	if err != nil || last.State != "done" {
		w.t.Fatalf("report %s ends as %+v, %v: %s", id, last, err, w.process.lastWords())
	}
	w.read(id)
}

// checkBooks holds the ledger, which nobody serves any more, to one charge for each question, and to their exact sums.
func (w *watcher) checkBooks() {
	w.t.Helper()
	dir, witness := filepath.Join(w.process.data(), "ledger"), filepath.Join(w.process.home, "witness")
	found, err := verify.Ledger(w.t.Context(), dir, verify.Options{Witness: witness})
	if err != nil || found.Finding != nil || found.Open != 0 || found.Charges != len(w.seen) || found.Releases != len(w.seen) {
		w.t.Errorf("%d answers were shown; verified: %+v, %v", len(w.seen), found, err)
	}
	l, err := ledger.Open(dir, ledger.Options{Witness: witness})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	of := map[string]int{}
	var sum dp.Loss
	for cursor, more := "", true; more; more = cursor != "" {
		var entries []dp.Entry
		if entries, cursor, err = l.Entries(w.t.Context(), "analyst", "shop", cursor, 1000); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			of[e.Report]++
			sum = accounting.Add(sum, e.Loss)
			if e.Release == "" || e.Failure != "" {
				w.t.Errorf("charge %s ended as %+v", e.ID, e)
			}
		}
	}
	for _, id := range w.reports {
		if of[id] != 12 {
			w.t.Errorf("report %s has %d charges", id, of[id])
		}
	}
	if len(of) != len(w.reports) {
		w.t.Errorf("charges are of %d reports, not of %d", len(of), len(w.reports))
	}
	accounts, _, err := l.DatasetAccounts(w.t.Context(), "shop", "", 0)
	if err != nil || len(accounts) != 2 {
		w.t.Fatalf("accounts %+v, %v", accounts, err)
	}
	for _, a := range accounts {
		if a.Spent != sum {
			w.t.Errorf("%s spent %+v, its charges %+v", a.Name, a.Spent, sum)
		}
	}
}
