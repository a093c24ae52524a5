package ledger

import (
	"context"
	"crypto/subtle"

	"github.com/discreet-analytics/discreet/dp"
)

// admission is a key that was found to be in force, and its consumer, as they stood after so many changes.
type admission struct {
	changes  uint64
	consumer dp.Consumer
	key      dp.Key
}

// Authenticate returns the consumer of a key that is in force at the ledger's time, and the key, given the
// SHA-256 of the whole secret. Unknown, expired and revoked keys, and those of a suspended consumer, are refused alike, with
// CodeUnauthenticated; the cause, a dp.KeyFault, is for the log alone.
//
// A key that was admitted is remembered until anything about consumers and keys changes, so that a reading
// costs no search of the database. Keys that are refused are not: there is no end of them.
func (l *Ledger) Authenticate(ctx context.Context, hash [32]byte) (dp.Consumer, dp.Key, error) {
	now := l.clock()
	if known, ok := l.admitted.Load(hash); ok {
		if a := known.(admission); a.changes == l.changes.Load() && a.key.InForce(now) && !l.broken.Load() {
			return a.consumer, a.key, nil
		}
	}
	a := admission{changes: l.changes.Load()} // before reading: what changes meanwhile makes this one stale
	err := l.read(ctx, func(v view) error {
		id, err := v.get(keyHashKey(hash))
		if err != nil {
			return err
		}
		if id != nil {
			if a.key, err = mustLoad[dp.Key](v, keyKey(string(id))); err != nil {
				return err
			}
		}
		if id != nil {
			if a.consumer, err = mustLoad[dp.Consumer](v, consumerKey(a.key.Consumer)); err != nil {
				return err
			}
		}
		same := subtle.ConstantTimeCompare(a.key.Hash[:], hash[:]) == 1
		var fault dp.KeyFault
		switch {
		case id == nil || !same:
			fault = dp.KeyUnknown
		case !a.key.Revoked.IsZero():
			fault = dp.KeyRevoked
		case !a.key.InForce(now):
			fault = dp.KeyExpired
		case a.consumer.Suspended:
			fault = dp.KeySuspended
		default:
			return nil
		}
		return &dp.Error{Code: dp.CodeUnauthenticated, Err: fault, Message: "this key is not in force: check that it is complete, or ask an officer for a new one"}
	})
	if err != nil {
		l.admitted.Delete(hash)
		return dp.Consumer{}, dp.Key{}, err
	}
	l.admitted.Store(hash, a)
	return a.consumer, a.key, nil
}

// Subject returns the consumer that tokens about a subject sign in, or CodeUnauthenticated, which does not tell whether it
// is suspended or there is none.
func (l *Ledger) Subject(ctx context.Context, subject string) (c dp.Consumer, err error) {
	err = l.read(ctx, func(v view) error {
		name, err := v.get(subjectKey(subject))
		if err != nil {
			return err
		}
		if name != nil {
			if c, err = mustLoad[dp.Consumer](v, consumerKey(string(name))); err != nil {
				return err
			}
		}
		if name == nil || c.Suspended {
			return refuse(dp.CodeUnauthenticated, "this token signs nobody in here: ask an officer whether a consumer has its subject, and the role that it says")
		}
		return nil
	})
	if err != nil {
		return dp.Consumer{}, err
	}
	return c, nil
}
