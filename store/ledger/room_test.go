package ledger

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

func TestNothingIsWrittenWithoutRoomAndReadingGoesOn(t *testing.T) {
	f := newFixture(t)
	request := keyed(ask(alice, "plan"), "asked before", 1)
	before := f.charge(request)
	f.publish(before, "rel_1", "plan")

	check(t, f.Close())
	var full atomic.Bool
	nearlyFull := &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	l, err := Open(f.dir, Options{Clock: f.clock, Lease: lease, Room: func() error {
		if full.Load() {
			return nearlyFull
		}
		return nil
	}})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	f.Ledger = l
	full.Store(true)
	spent := f.spent(alice, "2026-01")
	if _, err := f.Charge(ctx, ask(alice, "another")); !errors.Is(err, nearlyFull) {
		t.Fatalf("a charge without room: %v", err)
	}
	if got := f.spent(alice, "2026-01"); got != spent {
		t.Fatalf("a refused charge spent %v", got)
	}
	again, err := f.Charge(ctx, request)
	check(t, err)
	if again.Outcome == nil || again.Charge.ID != before.Charge.ID {
		t.Fatalf("a charge was not replayed without room: %+v", again)
	}
	full.Store(false)
	f.charge(ask(alice, "another"))
}

// Whether there is room until a release is written depends on how large it is, and so must not decide whether its
// question is drawn again: the charge ends, and that is written without room, too.
func TestReleaseThatFindsNoRoomEndsItsCharge(t *testing.T) {
	for _, groups := range []int{1, 12_000} {
		f := newFixture(t)
		check(t, f.Close())
		var left atomic.Int64
		left.Store(1 << 30)
		l, err := Open(f.dir, Options{Clock: f.clock, Lease: lease, Room: func() error {
			if left.Add(-1) < 0 {
				return &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
			}
			return nil
		}})
		check(t, err)
		t.Cleanup(func() { check(t, l.Close()) })
		f.Ledger = l
		request := keyed(ask(alice, "plan"), "key", 1)
		c := f.charge(request)
		left.Store(int64(groups / 6_000)) // none, or for two pieces
		_, err = f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Release: large(c, "rel_1", groups)})
		wantCode(t, dp.CodeUnavailable, err)
		_, err = f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Failure: &dp.Error{Code: dp.CodeUnavailable, Message: "not kept"}})
		check(t, err)
		again := f.charge(request)
		if again.Attempt != 1 || again.Outcome == nil || again.Outcome.Failure == nil {
			t.Fatalf("%d groups: asked again: %+v", groups, again)
		}
		pieces := 0
		for key := range f.dump() {
			switch key[0] {
			case kindBlob, kindUnfinished:
				t.Fatalf("a key of kind %c is left", key[0])
			case kindEntry:
				e, err := decodeEntry([]byte(f.dump()[key]))
				check(t, err)
				if e.kind == entryPiece {
					pieces++
				}
			}
		}
		if groups > 1 && pieces == 0 {
			t.Fatal("no piece was written")
		}
		f.verified()
	}
}

func TestLedgerOpensWithoutRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	check(t, openAndClose(dir, nil))
	check(t, openAndClose(dir, errors.New("full")))
}

func openAndClose(dir string, full error) error {
	l, err := Open(dir, Options{Room: func() error { return full }})
	if err != nil {
		return err
	}
	return l.Close()
}
