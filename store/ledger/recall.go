package ledger

import (
	"context"
	"crypto/subtle"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// Recall implements answer.Ledger.
func (l *Ledger) Recall(ctx context.Context, consumer, key string, body [32]byte) (c answer.Charged, known bool, err error) {
	var d decision
	err = l.read(ctx, func(v view) error {
		earlier, found, err := load[idempotencyRecord](v, idempotencyKey(consumer, key))
		if err != nil || !found {
			return err
		}
		known = true
		charge, err := recalled(v, earlier, body)
		if err != nil {
			return err
		}
		d, err = withAccounts(v, charge)
		return err
	})
	if err != nil || !known {
		return answer.Charged{}, false, err
	}
	c, err = l.charged(ctx, d)
	return c, err == nil, err
}

// recalled reads the charge that an idempotency key stands for, if it was used with the same body.
func recalled(r reader, earlier idempotencyRecord, body [32]byte) (chargeRecord, error) {
	if subtle.ConstantTimeCompare(earlier.Body, body[:]) != 1 {
		return chargeRecord{}, refuse(dp.CodeConflict, "this Idempotency-Key was used for another question: use a new key")
	}
	return mustLoad[chargeRecord](r, chargeKey(earlier.Charge))
}

// Abandon implements answer.Releases: it ends the lease of the newest attempt. One that is not the newest any
// more, or has an outcome, leaves nothing to end.
func (l *Ledger) Abandon(ctx context.Context, charge string, attempt int) error {
	return l.write(ctx, func(t *tx) error {
		c, err := mustLoad[chargeRecord](t, chargeKey(charge))
		if err != nil || c.ended() || c.Attempts != attempt {
			return err
		}
		t.kind, c.Lease = entryAbandon, t.now
		return saveCharge(t, &c)
	})
}
