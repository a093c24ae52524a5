package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// hold keeps the writer busy until the returned function is called.
func (f *fixture) hold() (release func()) {
	busy, free := make(chan struct{}), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		if err := f.write(ctx, func(*tx) error { close(busy); <-free; return nil }); err != nil {
			f.t.Error(err)
		}
	})
	<-busy
	return func() { close(free); done.Wait() }
}

// queued returns once so many writes wait for the writer.
func (f *fixture) queued(n int) {
	for len(f.queue) < n {
		time.Sleep(time.Millisecond)
	}
}

// splitByRefusal has a first write begin a batch that comes to nothing because the witness moved, and last be
// decided over it, although it does not fit in.
func (f *fixture) splitByRefusal(first, last func()) {
	f.t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { _ = f.write(ctx, func(*tx) error { close(busy); <-free; return nil }) })
	<-busy
	all.Go(first)
	f.queued(1)
	for range maxGroup - 2 {
		all.Go(func() { _ = f.write(ctx, func(*tx) error { return errNoDataset() }) })
	}
	f.queued(maxGroup - 1)
	all.Go(last)
	f.queued(maxGroup)
	path := f.Status().Witness
	data, err := os.ReadFile(path)
	check(f.t, errors.Join(err, os.Remove(path), os.WriteFile(path, data, 0o600)))
	close(free)
	all.Wait()
}

// A charge for another consumer's draw has its outcome at once; that its batch is refused is found after a repeat
// was decided over it.
func TestNoAnswerRestsOnAChargeThatWasRefused(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	r := keyed(ask(bob, "plan"), "key", 1)
	r.Source = "rel_1"
	var first, again error
	f.splitByRefusal(func() { _, first = f.Charge(ctx, r) }, func() { _, again = f.Charge(ctx, r) })
	wantCode(t, dp.CodeUnavailable, first)
	wantCode(t, dp.CodeUnavailable, again)
	if got := f.spent(bob, "2026-01"); got != (dp.Loss{}) {
		t.Fatalf("bob has spent %v", got)
	}
	if s := f.Status().State; s != StateMoved {
		t.Fatalf("the state is %s", s)
	}
}

func TestWithdrawnWriteLeavesNothing(t *testing.T) {
	f := newFixture(t)
	free := f.hold()
	limited, cancel := context.WithCancel(ctx)
	result := make(chan error)
	go func() {
		_, err := f.Charge(limited, ask(alice, "plan"))
		result <- err
	}()
	f.queued(1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	free()
	if got := f.spent(alice, "2026-01"); got != (dp.Loss{}) {
		t.Fatalf("a withdrawn charge spent %v", got)
	}
	if _, err := f.Charge(limited, ask(alice, "plan")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestTakenWriteStandsWhateverBecomesOfItsCaller(t *testing.T) {
	f := newFixture(t)
	limited, cancel := context.WithCancel(ctx)
	err := f.write(limited, func(t *tx) error {
		cancel()
		t.kind = entryChange
		return save(t, consumerKey("late"), dp.Consumer{Name: "late"})
	})
	check(t, err)
	_, err = f.Consumer(ctx, "late")
	check(t, err)
}

func TestFullQueueHoldsBackUntilTheContextEnds(t *testing.T) {
	f := newFixture(t)
	check(t, f.Ledger.Close())
	l, err := Open(f.dir, Options{Clock: f.clock, Limits: Limits{Waiting: 1}})
	check(t, err)
	f.Ledger = l
	t.Cleanup(func() { check(t, l.Close()) })
	free := f.hold()
	limited, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	results := make(chan error)
	for n := range 5 {
		go func() {
			_, err := f.Charge(limited, ask(alice, fmt.Sprint(n)))
			results <- err
		}()
	}
	for range 5 {
		if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	free()
	if got := f.spent(alice, "2026-01"); got != (dp.Loss{}) {
		t.Fatalf("withdrawn charges spent %v", got)
	}
}

// A charge that the writer does not get to in time is refused, whether it is in the queue or before it.
func TestWriteThatWaitsTooLongIsRefused(t *testing.T) {
	f := newFixture(t)
	check(t, f.Ledger.Close())
	l, err := Open(f.dir, Options{Clock: f.clock, Limits: Limits{Waiting: 1, Wait: 30 * time.Millisecond}})
	check(t, err)
	f.Ledger = l
	t.Cleanup(func() { check(t, l.Close()) })
	free := f.hold()
	results := make(chan error)
	for n := range 5 {
		go func() {
			_, err := f.Charge(ctx, ask(alice, fmt.Sprint(n)))
			results <- err
		}()
	}
	for range 5 {
		if e := wantCode(t, dp.CodeUnavailable, <-results); e.RetryAfter <= 0 {
			t.Error("the refusal does not say when to ask again")
		}
	}
	free()
	if got := f.spent(alice, "2026-01"); got != (dp.Loss{}) {
		t.Fatalf("refused charges spent %v", got)
	}
	f.charge(ask(alice, "later"))
}

func TestRefusalWithinABatchLeavesItsNeighboursAlone(t *testing.T) {
	f := newFixture(t)
	free := f.hold()
	var group sync.WaitGroup
	failed := errors.New("decided against")
	for n := range 30 {
		group.Go(func() {
			name := fmt.Sprint("consumer-", n)
			err := f.write(ctx, func(t *tx) error {
				t.kind = entryChange
				if err := save(t, consumerKey(name), dp.Consumer{Name: name}); err != nil {
					return err
				}
				switch n % 3 {
				case 0:
					return failed
				case 1:
					panic("a bug")
				}
				return nil
			})
			switch {
			case n%3 == 0 && !errors.Is(err, failed), n%3 == 1 && (err == nil || !strings.Contains(err.Error(), "a bug")), n%3 == 2 && err != nil:
				t.Errorf("%d got %v", n, err)
			}
		})
	}
	for len(f.queue) < 30 {
		time.Sleep(time.Millisecond)
	}
	free()
	group.Wait()
	list, err := f.Consumers(ctx)
	check(t, err)
	if len(list) != 2+10 {
		t.Fatalf("%d consumers exist", len(list))
	}
}

func TestBatchLargerThanATransactionIsSplit(t *testing.T) {
	f := newFixture(t)
	free := f.hold()
	var group sync.WaitGroup
	for n := range 12 {
		group.Go(func() {
			err := f.write(ctx, func(t *tx) error {
				t.kind = entryPiece
				t.put(blobKey("large", uint64(n)), make([]byte, 500<<10))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for len(f.queue) < 12 {
		time.Sleep(time.Millisecond)
	}
	free()
	group.Wait()
	for n := range 12 {
		if got := len(f.dump()[string(blobKey("large", uint64(n)))]); got != 500<<10 {
			t.Fatalf("value %d has %d bytes", n, got)
		}
	}
	f.unchanged(dp.CodeTooLarge, func() error {
		return f.write(ctx, func(t *tx) error {
			t.kind = entryPiece
			t.put(blobKey("huge", 0), make([]byte, maxRequest))
			return nil
		})
	})
	f.unchanged(dp.CodeTooLarge, func() error {
		return f.write(ctx, func(t *tx) error {
			t.kind = entryPiece
			t.put(make([]byte, 70_000), []byte{1})
			return nil
		})
	})
}

// What a failed commit left on disk is unknown, so nothing is promised on top of it, nor read from it.
func TestFailedCommitStopsTheLedger(t *testing.T) {
	f := newFixture(t)
	f.charge(ask(alice, "before"))
	sound := f.Ledger.dir.path
	f.Ledger.dir.path = filepath.Join(f.dir, "gone")
	_, err := f.Charge(ctx, ask(alice, "during"))
	wantCode(t, dp.CodeUnavailable, err)
	f.Ledger.dir.path = sound
	_, err = f.Charge(ctx, ask(alice, "after"))
	wantCode(t, dp.CodeUnavailable, err)
	_, err = f.Left(ctx, alice, dataset, january, pure(1))
	wantCode(t, dp.CodeUnavailable, err)

	// Opened again, it holds what was acknowledged, and perhaps what was not: never less.
	f.reopen()
	if got := f.spent(alice, "2026-01").Epsilon; got < pure(100).Epsilon {
		t.Fatalf("spent %v after an acknowledged charge", got)
	}
	f.charge(ask(alice, "again"))
}

func TestCloseAnswersWhoeverWaits(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			for i := range 20 {
				_, err := f.Charge(ctx, ask(alice, fmt.Sprint(n, i)))
				var e *dp.Error
				if err != nil && !(errors.As(err, &e) && (e.Code == dp.CodeUnavailable || e.Code == dp.CodeBudgetExhausted)) {
					t.Error(err)
				}
			}
		})
	}
	check(t, f.Ledger.Close())
	group.Wait()
}
