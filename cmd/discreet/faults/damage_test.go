package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// opener makes the test binary open a ledger, say what it holds, and end: what Badger does to its process over
// damaged files then happens to nobody else.
const opener = "DISCREET_TEST_OPEN_LEDGER"

func TestMain(m *testing.M) {
	if home := os.Getenv(opener); home != "" {
		if err := describe(newSite(home), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// described is what a ledger says of itself after it was opened.
type described struct {
	State   ledger.State
	Content string // digest of everything that can be read
	Spent   map[string]dp.Loss
}

// describe opens a ledger and reads all of it.
func describe(s site, out io.Writer) error {
	l, err := ledger.Open(s.dir, ledger.Options{Clock: stopped, Witness: s.witness})
	if err != nil {
		return err
	}
	d := described{State: l.Status().State, Spent: map[string]dp.Loss{}}
	if d.Content, err = contentOf(l, d.Spent); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(d); err != nil {
		return err
	}
	return l.Close()
}

// stopped is the clock of ledgers that are only looked at.
func stopped() time.Time { return time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC) }

// contentOf digests what can be asked of a ledger, and notes what every account spent.
func contentOf(l *ledger.Ledger, spent map[string]dp.Loss) (string, error) {
	ctx, hash := context.Background(), sha256.New()
	var failed error
	add := func(value any, err error) {
		failed = errors.Join(failed, err)
		failed = errors.Join(failed, json.NewEncoder(hash).Encode(value))
	}
	policies, err := l.Policies(ctx)
	add(policies, err)
	for _, p := range policies {
		accounts, _, err := l.DatasetAccounts(ctx, p.Name, "", 0)
		add(accounts, err)
		for _, a := range accounts {
			spent[a.Name+" of "+a.Consumer] = a.Spent
		}
		loads, err := l.Loads(ctx, p.Name)
		add(loads, err)
		versions, err := l.Versions(ctx, p.Name, quarter)
		add(versions, err)
	}
	consumers, err := l.Consumers(ctx)
	add(consumers, err)
	for _, c := range consumers {
		keys, err := l.Keys(ctx, c.Name)
		add(keys, err)
		allotments, err := l.Allotments(ctx, c.Name)
		add(allotments, err)
		entries, _, err := l.Entries(ctx, c.Name, "", "", 0)
		add(entries, err)
		held, _, err := l.Held(ctx, c.Name, "", "", 0)
		add(held, err)
		for _, h := range held {
			release, err := l.Release(ctx, c.Name, h.ID)
			add(release, err)
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), failed
}

// small makes a ledger with some of everything in it, and gives its files as a killed process leaves them (with
// its log) and as a closed one does (with tables).
func small(t *testing.T) (killed, closed site) {
	t.Helper()
	home := t.TempDir()
	l := opened(t, newSite(filepath.Join(home, "open")))
	found(t, l)
	for n := range 12 {
		charge(t, l, n)
	}
	var err error
	if killed, err = newSite(filepath.Join(home, "open")).copyTo(filepath.Join(home, "killed")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return killed, newSite(filepath.Join(home, "open"))
}

func opened(t *testing.T, s site) *ledger.Ledger {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(s.dir, ledger.Options{Clock: stopped, Witness: s.witness, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// found applies the policy, hires everybody and loads rows.
func found(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	w := &world{office: office.New(l, stopped)}
	w.found()
	begun, _, err := l.BeginLoad(context.Background(), shop, 1, "first", quarter)
	if err == nil {
		err = l.CommitLoad(context.Background(), begun)
	}
	if err := errors.Join(w.err, err); err != nil {
		t.Fatal(err)
	}
}

// charge makes the n-th charge and, of most, its outcome.
func charge(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	ctx := context.Background()
	c, err := l.Charge(ctx, request(n))
	if err != nil {
		t.Fatal(err)
	}
	outcome := answer.Outcome{Failure: &dp.Error{Code: dp.CodeInternal, Message: "failed"}}
	switch n % 4 {
	case 0:
		return
	case 1, 2:
		outcome = answer.Outcome{Release: &dp.Release{
			ID: fmt.Sprint("rel_", n), Dataset: shop, PolicyVersion: 1, Plan: request(n).Plan, AsOf: c.Charge.At, Confidence: "0.95",
			By: []string{"category"}, Metrics: []string{"customers"}, Blocks: c.Snapshot.Blocks, Also: c.Snapshot.Also, Charge: c.Charge,
			Groups:            []dp.Group{{Key: []string{strings.Repeat("food", 200*n)}, Values: []dp.Value{{Value: 12, Low: 1, High: 23, SD: 5.98}}}},
			NoisedCoordinates: [][]int64{{12}}, PublishedByAttempt: 1,
		}}
	}
	if _, err := l.Publish(ctx, c.Charge.ID, c.Attempt, outcome); err != nil {
		t.Fatal(err)
	}
}

func request(n int) answer.ChargeRequest {
	return answer.ChargeRequest{
		Consumer: names[n%len(names)], Dataset: shop, PolicyVersion: 1, Purpose: "reporting", Plan: fmt.Sprint("plan ", n),
		Blocks: quarter[:1+n%3], Loss: dp.Loss{Epsilon: dp.EpsilonOne / 100, Rho: dp.RhoOne / 20_000}, Also: further(fmt.Sprint("plan ", n), dp.Loss{Epsilon: 1, Rho: 1}, 1, 1), Key: fmt.Sprint("key ", n), Body: [32]byte{byte(n)},
	}
}

// TestFlippedBitsAreNoticed flips single bits anywhere in the files of a ledger and its witness, and opens it in
// a process of its own. The long form, which benchmarks/RESULTS.md has the figures of:
//
//	DISCREET_FLIPS=1000 go test -run TestFlippedBitsAreNoticed -v -timeout 1h ./cmd/discreet/faults
func TestFlippedBitsAreNoticed(t *testing.T) {
	flips, seed := setting(t, "DISCREET_FLIPS", 60), setting(t, "DISCREET_SEED", 1)
	if raceEnabled {
		flips = min(flips, 4)
	}
	choose := rand.New(rand.NewPCG(uint64(seed), 0))
	killed, closed := small(t)
	origins := []site{killed, closed}
	wants := make([]described, len(origins))
	for i, origin := range origins {
		s, err := origin.copyTo(filepath.Join(t.TempDir(), "whole"))
		if err != nil {
			t.Fatal(err)
		}
		if wants[i], err = openElsewhere(s); err != nil || wants[i].State != ledger.StateOK || len(wants[i].Spent) == 0 {
			t.Fatalf("the whole ledger: %+v, %v", wants[i], err)
		}
	}
	seen := map[string]int{}
	for flip := range flips {
		at := flip % len(origins)
		s, err := origins[at].copyTo(filepath.Join(t.TempDir(), "flipped"))
		if err != nil {
			t.Fatal(err)
		}
		where := flipBit(t, choose, s)
		got, err := openElsewhere(s)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			t.Errorf("flip %d, %s: the process hangs", flip, where)
		case err != nil && !strings.HasPrefix(err.Error(), "exit status 1:"):
			seen["the process ends at once"]++
			t.Logf("flip %d, %s: %.300s", flip, where, err)
		case err != nil:
			seen["does not open"]++
		case got.State != ledger.StateOK:
			seen["refuses writes"]++
		case got.Content == wants[at].Content:
			seen["identical"]++
		default:
			t.Errorf("flip %d of DISCREET_SEED=%d, %s: the ledger changed and nobody noticed; spent %v, before %v", flip, seed, where, got.Spent, wants[at].Spent)
		}
		if err := os.RemoveAll(filepath.Dir(s.dir)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d flips: %v", flips, seen)
	if flips >= 60 && (seen["does not open"] == 0 || seen["identical"] == 0) {
		t.Errorf("the flips show nothing: %v", seen)
	}
}

// flipBit flips one bit of one file, mostly where the file holds something, and says where.
func flipBit(t *testing.T, choose *rand.Rand, s site) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := append(paths, s.witness)[choose.IntN(len(paths)+1)]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(data, "\x00"))
		if choose.IntN(10) == 0 {
			used = len(data)
		}
		if used == 0 {
			continue
		}
		at, bit := choose.IntN(used), choose.IntN(8)
		data[at] ^= 1 << bit
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("bit %d of byte %d of %d of %s", bit, at, used, filepath.Base(path))
	}
}

// openElsewhere opens a ledger in another process. An error is how that ended, with its last words.
func openElsewhere(s site) (d described, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), opener+"="+filepath.Dir(s.dir))
	var out, errs bytes.Buffer
	child.Stdout, child.Stderr = &out, &errs
	if err := child.Run(); err != nil {
		if ctx.Err() != nil {
			return d, ctx.Err()
		}
		return d, fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		return d, fmt.Errorf("reading what the ledger holds: %w", err)
	}
	return d, nil
}

// TestOldCopiesAreRefused restores older copies of a ledger under its newer witness. The long form restores 50:
//
//	DISCREET_RESTORES=50 DISCREET_CLONES=20 go test -run 'TestOldCopiesAreRefused|TestClonesAreRefused' -v ./cmd/discreet/faults
func TestOldCopiesAreRefused(t *testing.T) {
	restores, choose := setting(t, "DISCREET_RESTORES", 8), rand.New(rand.NewPCG(uint64(setting(t, "DISCREET_SEED", 1)), 1))
	if raceEnabled {
		restores = min(restores, 2)
	}
	for range restores {
		home := t.TempDir()
		live := newSite(filepath.Join(home, "live"))
		l := opened(t, live)
		found(t, l)
		n, taken := 0, choose.IntN(8)
		for ; n < taken; n++ {
			charge(t, l, n)
		}
		old, err := live.copyTo(filepath.Join(home, "old"))
		if err != nil {
			t.Fatal(err)
		}
		for more := 1 + choose.IntN(4); more > 0; more-- {
			charge(t, l, n)
			n++
		}
		if choose.IntN(2) == 0 { // a further opening
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = opened(t, live)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := copyFile(live.witness, old.witness); err != nil {
			t.Fatal(err)
		}
		refuses(t, old, n, ledger.StateBehind)
	}
	t.Logf("%d older copies refused", restores)
}

// TestClonesAreRefused uses two copies of one ledger under one witness, at once and in turn.
func TestClonesAreRefused(t *testing.T) {
	clones, choose := setting(t, "DISCREET_CLONES", 6), rand.New(rand.NewPCG(uint64(setting(t, "DISCREET_SEED", 1)), 2))
	if raceEnabled {
		clones = min(clones, 2)
	}
	for i := range clones {
		home := t.TempDir()
		live := newSite(filepath.Join(home, "live"))
		l := opened(t, live)
		found(t, l)
		n := 0
		for ; n < 1+choose.IntN(6); n++ {
			charge(t, l, n)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		clone, err := live.copyTo(filepath.Join(home, "clone"))
		if err != nil {
			t.Fatal(err)
		}
		clone.witness = live.witness // both are told of the same one
		l = opened(t, live)
		if second, err := ledger.Open(clone.dir, ledger.Options{Clock: stopped, Witness: clone.witness}); err == nil {
			t.Errorf("clone %d: opened beside its original", i)
			_ = second.Close()
		}
		for more := 1 + choose.IntN(4); more > 0; more-- {
			charge(t, l, n)
			n++
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		refuses(t, clone, n, ledger.StateBehind, ledger.StateFork)
		// The original goes on as if there had been no clone.
		l = opened(t, live)
		charge(t, l, n)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d clones refused", clones)
}

// refuses holds a ledger to taking no charge, and to its reasons.
func refuses(t *testing.T, s site, n int, want ...ledger.State) {
	t.Helper()
	l := opened(t, s)
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	status := l.Status()
	reason := false
	for _, state := range want {
		reason = reason || status.State == state
	}
	if !reason || status.Reason == "" {
		t.Errorf("the ledger is %s (%s), want %v", status.State, status.Reason, want)
	}
	_, err := l.Charge(context.Background(), request(n))
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeUnavailable {
		t.Errorf("a charge was not refused: %v", err)
	}
}
