package ledger

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
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
