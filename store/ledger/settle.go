package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// settleEvery is how often open charges are looked through.
const settleEvery = time.Minute

// Renew implements answer.Releases: it gives the newest attempt another lease from now. One that is not the
// newest any more, or has an outcome, is answer.ErrAttemptLost.
func (l *Ledger) Renew(ctx context.Context, charge string, attempt int) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entryRenew
		c, err := mustLoad[chargeRecord](t, chargeKey(charge))
		if err != nil {
			return err
		}
		if c.ended() || c.Attempts != attempt || c.Opening != l.opening || c.Number < l.lost.Load() {
			return answer.ErrAttemptLost
		}
		c.Lease = t.now.Add(l.lease)
		return saveCharge(t, &c)
	})
}

// settleOpen settles, until the ledger closes, charges whose attempts ended without an outcome.
func (l *Ledger) settleOpen() {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
		}
		if l.refusal.Load() != nil || l.broken.Load() {
			continue
		}
		if err := l.settle(context.Background()); err != nil && !isClosing(err, l.quit) {
			l.log.Warn("ledger: settling charges without an outcome", "error", err)
		}
	}
}

func isClosing(err error, quit <-chan struct{}) bool {
	select {
	case <-quit:
		return err != nil
	default:
		return false
	}
}

// settle gives a failure as outcome to every open charge that no attempt will answer any more: after the third
// one died, once SettleAfter has passed since the charge, or where a write-off came after it. The charge stands.
func (l *Ledger) settle(ctx context.Context) error {
	var dead []string
	now := l.clock()
	err := l.read(ctx, func(v view) error {
		return v.walk([]byte{kindOpen}, nil, ascending, func(_, value []byte) (bool, error) {
			c, err := mustLoad[chargeRecord](v, chargeKey(string(value)))
			if err == nil && l.settled(&c, now) != nil {
				dead = append(dead, c.Charge.ID)
			}
			return true, err
		})
	})
	if err != nil {
		return err
	}
	return l.settleEach(ctx, dead)
}

// settlers is how many settle at once, so that they share commits.
const settlers = 64

func (l *Ledger) settleEach(ctx context.Context, dead []string) error {
	errs := make([]error, min(settlers, len(dead)))
	var group sync.WaitGroup
	for worker := range errs {
		group.Go(func() {
			for i := worker; i < len(dead) && errs[worker] == nil; i += len(errs) {
				errs[worker] = l.settleOne(ctx, dead[i])
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (l *Ledger) settleOne(ctx context.Context, id string) error {
	err := l.write(ctx, func(t *tx) error {
		t.kind = entrySettle
		c, err := mustLoad[chargeRecord](t, chargeKey(id))
		if err != nil {
			return err
		}
		if c.Failure = l.settled(&c, t.now); c.Failure == nil {
			return nil // an attempt began, or published, meanwhile
		}
		return saveCharge(t, &c)
	})
	if err != nil {
		return fmt.Errorf("settling charge %s: %w", id, err)
	}
	return nil
}

// alive tells whether the newest attempt may still publish. One that began in an earlier opening of the ledger
// is dead: one process at a time holds it.
func (l *Ledger) alive(c *chargeRecord, now time.Time) bool {
	return c.Opening == l.opening && now.Before(c.Lease)
}

// settled is the failure that ends a charge to which no attempt will give an outcome; nil while one may.
func (l *Ledger) settled(c *chargeRecord, now time.Time) *dp.Error {
	switch {
	case c.ended():
		return nil
	case c.Number < l.lost.Load():
		return &dp.Error{Code: dp.CodeUnavailable,
			Message: "whether this question was answered is lost, and the charge stands: ask again with a new Idempotency-Key, which is charged anew"}
	case l.alive(c, now):
		return nil
	case c.Attempts >= maxAttempts:
		return &dp.Error{Code: dp.CodeUnavailable,
			Message: fmt.Sprintf("the question could not be answered in %d attempts, and the charge stands: ask again with a new Idempotency-Key, which is charged anew", maxAttempts)}
	case !now.Before(c.Charge.At.Add(l.settleAfter)):
		return &dp.Error{Code: dp.CodeUnavailable,
			Message: fmt.Sprintf("the question was not answered within %s, and the charge stands: ask again with a new Idempotency-Key, which is charged anew", l.settleAfter)}
	}
	return nil
}
