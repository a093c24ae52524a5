package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// receiver keeps what is posted to it, and answers with a status.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	unless string // a body that has it is a bad request; empty: none is
	bodies []string
	calls  int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls++
		if r.unless != "" && strings.Contains(string(body), r.unless) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if err == nil && r.status < 300 && request.Method == http.MethodPost && request.Header.Get("Content-Type") == "application/json" {
			r.bodies = append(r.bodies, string(body))
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

// got tells which alerts came, as consumer, account and threshold.
func (r *receiver) got(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []string{}
	for _, body := range r.bodies {
		var a alert
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(a.Consumer, " ", a.Account, " ", a.Threshold))
	}
	slices.Sort(list)
	return list
}

// watched is alerts over one cap of epsilon 1, of which so much is spent.
func watched(t *testing.T, dir string, to *receiver, spent *dp.Epsilon, budget *dp.Epsilon) *alerts {
	t.Helper()
	entries := uint64(0)
	a := &alerts{
		length:   func() uint64 { entries++; return entries },
		alerting: alerting{webhook: to.URL + "/secret", at: thresholds{0.5, 0.8}}, path: filepath.Join(dir, "alerts"), clock: time.Now,
		log: slog.New(slog.DiscardHandler), client: &http.Client{Timeout: time.Second}, every: time.Hour, pause: time.Millisecond, used: map[string]judged{},
		accounts: func(context.Context) ([]dp.Account, error) {
			return []dp.Account{{Name: "cap/cards/2026-01", Dataset: "cards", Block: "2026-01", Budget: dp.Budget{Epsilon: *budget},
				Spent: dp.Loss{Epsilon: *spent, Rho: accounting.PureRho(*spent)}}}, nil
		},
	}
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAlertIsSentOnceForEachThreshold(t *testing.T) {
	to, dir := newReceiver(t), t.TempDir()
	spent, budget := 4*dp.EpsilonOne/10, dp.EpsilonOne
	a := watched(t, dir, to, &spent, &budget)
	look := func(want ...string) {
		t.Helper()
		if err := a.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := to.got(t); !slices.Equal(got, want) {
			t.Errorf("alerts are %q, not %q", got, want)
		}
	}
	half, most := " cap/cards/2026-01 0.5", " cap/cards/2026-01 0.8"
	look()
	spent = dp.EpsilonOne / 2
	look(half)
	look(half)
	a = watched(t, dir, to, &spent, &budget) // after a restart
	look(half)
	spent = 9 * dp.EpsilonOne / 10
	look(half, most)
	budget = 2 * dp.EpsilonOne // now less than half is used
	look(half, most)
	spent = dp.EpsilonOne
	look(half, half, most)
}

func TestAlertThatFailsIsSentLater(t *testing.T) {
	to := newReceiver(t)
	spent, budget := dp.EpsilonOne*6/10, dp.EpsilonOne
	a := watched(t, t.TempDir(), to, &spent, &budget)
	for _, status := range []int{http.StatusInternalServerError, http.StatusFound} {
		to.status, to.calls = status, 0
		err := a.look(t.Context())
		if err == nil || strings.Contains(err.Error(), "secret") || to.calls != alertAttempts {
			t.Errorf("status %d: %v after %d calls", status, err, to.calls)
		}
	}
	to.status = http.StatusOK
	if err := a.look(t.Context()); err != nil || len(to.got(t)) != 1 {
		t.Errorf("%v, alerts are %q", err, to.got(t))
	}
	to.Close()
	spent = dp.EpsilonOne
	if err := a.look(t.Context()); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("without a receiver: %v", err)
	}
}

func TestAlertThatIsRefusedHoldsUpNoOther(t *testing.T) {
	to := newReceiver(t)
	spent, budget := dp.EpsilonOne*9/10, dp.EpsilonOne
	a := watched(t, t.TempDir(), to, &spent, &budget)
	to.unless = `"threshold":0.5`
	for range 2 {
		if err := a.look(t.Context()); !errors.Is(err, errRefused) || strings.Contains(err.Error(), "secret") {
			t.Errorf("a bad request is %v", err)
		}
		if got := to.got(t); !slices.Equal(got, []string{" cap/cards/2026-01 0.8"}) {
			t.Errorf("alerts are %q", got)
		}
	}
	if to.calls != 3 {
		t.Errorf("%d alerts were posted, and what is refused is so at once", to.calls)
	}
	to.unless = ""
	if err := a.look(t.Context()); err != nil || len(to.got(t)) != 2 {
		t.Errorf("%v, alerts are %q", err, to.got(t))
	}
}

func TestAlertsLookAgainOnceTheLedgerIsLonger(t *testing.T) {
	to := newReceiver(t)
	spent, budget := dp.Epsilon(0), dp.EpsilonOne
	a := watched(t, t.TempDir(), to, &spent, &budget)
	length, looks, read := uint64(7), 0, a.accounts
	a.length = func() uint64 { return length }
	a.accounts = func(ctx context.Context) ([]dp.Account, error) { looks++; return read(ctx) }
	look := func(want int) {
		t.Helper()
		if err := a.look(t.Context()); (err != nil) != (to.status >= 300) || looks != want {
			t.Errorf("after %d readings, not %d: %v", looks, want, err)
		}
	}
	look(1)
	look(1)
	spent, length = dp.EpsilonOne, 8
	to.status = http.StatusServiceUnavailable
	look(2)
	look(3) // what could not be sent is due
	to.status = http.StatusOK
	look(4)
	look(4)
}

func TestServedBudgetsAlertAtThresholds(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	started, stop := h.start(exact{})
	h.officer = keyIn(started)
	h.apply(cardsPolicy)
	team := h.hire("team", dp.Product, "product-analytics")
	h.allot("team", "cards", "3", "0")
	h.ask(team, "cards", "customers", "--by", "category", "--epsilon", "1.6")
	stop()
	to := newReceiver(t)
	for i, want := range [][]string{
		{"team allotment/cards/2026-01 0.5", "team allotment/cards/2026-02 0.5"},
		// After the next start those that were sent are not sent again.
		{"team allotment/cards/2026-01 0.5", "team allotment/cards/2026-01 0.8", "team allotment/cards/2026-02 0.5", "team allotment/cards/2026-02 0.8"},
	} {
		_, stop := h.startAt(exact{}, time.Now, "--alert-webhook", to.URL)
		for deadline := time.Now().Add(10 * time.Second); len(to.got(t)) < len(want) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		}
		h.ask(team, "cards", "customers", "--by", "category", "--epsilon", []string{"0.9", "0.1"}[i], "--fresh")
		stop()
		if got := to.got(t); !slices.Equal(got, want) {
			t.Errorf("alerts are %q", got)
		}
	}
	for _, flags := range [][]string{{"--alert-webhook", "ftp://x"}, {"--alert-webhook", to.URL, "--alert-at", "2"}, {"--alert-at", "half"}} {
		r := h.run("", append([]string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, flags...)...)
		if r.code != exitUsage {
			t.Errorf("%v: exit %d: %s", flags, r.code, r.stderr)
		}
	}
}
