package ledger

import (
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

func TestKeyIsRecalledWithItsChargeAndThenItsOutcome(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	recall := func(consumer string, body byte) (known bool, ended bool, err error) {
		c, known, err := f.Recall(ctx, consumer, "key", [32]byte{body})
		return known, c.Outcome != nil, err
	}
	if known, _, err := recall(alice, 1); known || err != nil {
		t.Fatalf("an unused key is known: %v, %v", known, err)
	}
	charged := f.charge(r)
	if known, ended, err := recall(alice, 1); !known || ended || err != nil {
		t.Fatalf("an open charge: known %v, ended %v, %v", known, ended, err)
	}
	f.publish(charged, "rel_1", "plan")
	f.allot(alice, func(a *dp.Allotment) { a.Paused = true })
	if known, ended, err := recall(alice, 1); !known || !ended || err != nil {
		t.Fatalf("a published charge: known %v, ended %v, %v", known, ended, err)
	}
	f.unchanged(dp.CodeConflict, func() error { _, _, err := recall(alice, 2); return err })
	if known, _, err := recall(bob, 1); known || err != nil {
		t.Fatalf("somebody else's key: known %v, %v", known, err)
	}
}

func TestAbandonedAttemptIsFollowedAtOnce(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	first := f.charge(r)
	f.unchanged(dp.CodeUnavailable, func() error { _, err := f.Charge(ctx, r); return err })
	check(t, f.Abandon(ctx, first.Charge.ID, first.Attempt))
	second := f.charge(r)
	if second.Attempt != 2 || second.Charge.ID != first.Charge.ID {
		t.Fatalf("after an abandoned attempt: %+v", second)
	}
	// An older attempt cannot end the newest one's lease, nor undo an outcome.
	check(t, f.Abandon(ctx, first.Charge.ID, first.Attempt))
	f.unchanged(dp.CodeUnavailable, func() error { _, err := f.Charge(ctx, r); return err })
	f.publish(second, "rel_1", "plan")
	f.unchangedBy(func() { check(t, f.Abandon(ctx, second.Charge.ID, second.Attempt)) })
	if got := f.spent(alice, "2026-01"); got != r.Loss {
		t.Fatalf("spent %v by one charge", got)
	}
}
