package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// openCharges are the ids of the charges that are listed as open.
func (f *fixture) openCharges() (ids []string) {
	f.t.Helper()
	check(f.t, f.read(ctx, func(v view) error {
		return v.walk([]byte{kindOpen}, nil, ascending, func(_, value []byte) (bool, error) {
			ids = append(ids, string(value))
			return true, nil
		})
	}))
	return ids
}

func TestRenewedLeaseKeepsTheNextAttemptOut(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	first := f.charge(r)
	for range 5 {
		f.advance(lease * 3 / 4)
		check(t, f.Renew(ctx, first.Charge.ID, first.Attempt))
	}
	_, err := f.Charge(ctx, r)
	wantCode(t, dp.CodeUnavailable, err)
	f.advance(lease)
	second := f.charge(r)
	if second.Attempt != 2 {
		t.Fatalf("attempt %d", second.Attempt)
	}
	// The first one cannot take its lease back, nor publish.
	if err := f.Renew(ctx, first.Charge.ID, first.Attempt); !errors.Is(err, answer.ErrAttemptLost) {
		t.Fatalf("got %v", err)
	}
	_, err = f.Publish(ctx, first.Charge.ID, first.Attempt, answer.Outcome{Release: release(first, "rel_1", "plan")})
	wantCode(t, dp.CodeUnavailable, err)
	f.publish(second, "rel_2", "plan")
	if err := f.Renew(ctx, second.Charge.ID, second.Attempt); !errors.Is(err, answer.ErrAttemptLost) {
		t.Fatalf("the lease of a charge that ended was renewed: %v", err)
	}
}

func TestAttemptOfAnEarlierOpeningCannotRenew(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	f.reopen()
	if err := f.Renew(ctx, c.Charge.ID, c.Attempt); !errors.Is(err, answer.ErrAttemptLost) {
		t.Fatalf("got %v", err)
	}
}

func TestChargeIsSettledAfterItsThirdAttemptDied(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	var c answer.Charged
	for n := range maxAttempts {
		c = f.charge(r)
		check(t, f.settle(ctx))
		if open := f.openCharges(); len(open) != 1 {
			t.Fatalf("attempt %d: open charges %v", n+1, open)
		}
		f.advance(lease)
		if n < maxAttempts-1 {
			check(t, f.settle(ctx))
		}
	}
	check(t, f.settle(ctx))
	if open := f.openCharges(); len(open) != 0 {
		t.Fatalf("open charges %v", open)
	}
	again := f.charge(r)
	if again.Outcome == nil || again.Outcome.Failure == nil || again.Outcome.Failure.Code != dp.CodeUnavailable || f.spent(alice, "2026-01") != r.Loss {
		t.Fatalf("the outcome is %+v", again.Outcome)
	}
	// An attempt that comes too late gets that outcome too.
	o := f.publish(c, "rel_late", "plan")
	if o.Failure == nil {
		t.Fatal("a settled charge got another outcome")
	}
}

// Without a key nobody can ask again, so nothing but time ends the charge.
func TestChargeIsSettledADayAfterItsAttemptDied(t *testing.T) {
	for _, key := range []string{"", "key"} {
		f := newFixture(t)
		r := ask(alice, "plan")
		if key != "" {
			r = keyed(r, key, 1)
		}
		c := f.charge(r)
		check(t, f.Abandon(ctx, c.Charge.ID, c.Attempt))
		f.advance(24*time.Hour - 1)
		check(t, f.settle(ctx))
		if open := f.openCharges(); len(open) != 1 || open[0] != c.Charge.ID {
			t.Fatalf("a moment before the day is over, open charges are %v", open)
		}
		f.advance(1)
		check(t, f.settle(ctx))
		if open := f.openCharges(); len(open) != 0 {
			t.Fatalf("open charges %v", open)
		}
		entries, _, err := f.Entries(ctx, alice, dataset, "", 0)
		check(t, err)
		if len(entries) != 1 || entries[0].Failure != dp.CodeUnavailable {
			t.Fatalf("the charge is told of as %+v", entries)
		}
		if key != "" {
			if again := f.charge(r); again.Outcome == nil || again.Outcome.Failure == nil {
				t.Fatal("the failure is not replayed")
			}
		}
	}
}

func TestRunningAttemptIsNotSettledHoweverOld(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	for range 100 {
		f.advance(lease / 2)
		check(t, f.Renew(ctx, c.Charge.ID, c.Attempt))
	}
	f.settleAfter = time.Minute
	check(t, f.settle(ctx))
	f.publish(c, "rel_1", "plan")
	if open := f.openCharges(); len(open) != 0 {
		t.Fatalf("open charges %v", open)
	}
}

func TestOpeningSettlesWhatNobodyWillAnswer(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	f.charge(ask(bob, "without key"))
	for range maxAttempts {
		f.charge(r)
		if open := f.openCharges(); len(open) != 2 {
			t.Fatalf("open charges %v", open)
		}
		f.reopen()
	}
	if open := f.openCharges(); len(open) != 1 {
		t.Fatalf("after three dead attempts open charges are %v", open)
	}
	f.advance(24 * time.Hour)
	f.reopen()
	if open := f.openCharges(); len(open) != 0 {
		t.Fatalf("a day later open charges are %v", open)
	}
}

// The list of open charges is that of the charges without an outcome, whatever happened.
func TestOpenChargesAreThoseWithoutOutcome(t *testing.T) {
	for seed := range uint64(2) {
		f := newFixture(t)
		f.wander(rand.New(rand.NewPCG(seed, 5)), 80)
		want := map[string]bool{}
		for key, value := range f.dump() {
			if key[0] == kindCharge {
				c, err := decode[chargeRecord]([]byte(value))
				check(t, err)
				if !c.ended() {
					want[c.Charge.ID] = true
				}
			}
		}
		got := f.openCharges()
		for _, id := range got {
			if !want[id] {
				t.Fatalf("seed %d: an ended charge is listed as open", seed)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("seed %d: %s", seed, fmt.Sprint(len(got), " charges are listed as open, ", len(want), " are"))
		}
	}
}
