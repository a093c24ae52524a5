package office

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// KeyPrefix begins every key, so that scanners of leaked secrets can find it.
const KeyPrefix = "dk_"

// FirstOfficer is the name of the consumer that Bootstrap creates.
const FirstOfficer = "officer"

// Limits of keys.
const (
	// MaxGrace is how long keys may stay in force once others take their place.
	MaxGrace = 90 * 24 * time.Hour
	// leastOwnGrace is how long the keys of who rotates them stay at least: the answer with the new one may be lost.
	leastOwnGrace = time.Minute
	// maxOwnKeys are in force at a time of those that a consumer made itself, and maxOwnKeysDaily may be made in 24 hours.
	maxOwnKeys      = 10
	maxOwnKeysDaily = 20
)

// HashKey is what is kept of a key's secret. A hash without salt suffices: the secret has 256 random bits.
func HashKey(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// NewKey is a key to be issued.
type NewKey struct {
	Consumer string
	Expires  time.Time // zero: never
	// Hash is that of a secret which whoever will use the key has drawn (NewSecret); nil: the secret is drawn here.
	Hash *[32]byte
	// Repeat is the caller's idempotency key, or empty. Under one, one key is issued.
	Repeat string
}

// IssueKey gives a consumer a further key and returns its secret, which is kept nowhere and cannot be shown again; it is
// empty where the hash was given. While any dataset asks for two persons, a key of another officer takes a hash, so that
// neither of the two who agree sees it, and is a *Waiting. An officer's further key of their own takes one.
//
// Errors: CodeNotFound; CodeInvalidInput where expires is past, or where a hash is due; CodeConflict for the hash of another
// key, and for a repeat, whose secret cannot be shown again.
func (o *Office) IssueKey(ctx context.Context, actor string, n NewKey, reason string) (secret string, key dp.Key, err error) {
	if err := checkReason(reason, false); err != nil {
		return "", dp.Key{}, err
	}
	err = o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		secret = ""
		owner, err := checkNewKey(tx, n.Consumer, n.Expires, now)
		if err != nil {
			return nil, err
		}
		key = dp.Key{ID: keyID(actor, n), Consumer: n.Consumer, Created: now, Expires: inUTC(n.Expires)}
		if known, repeated, err := tx.Key(key.ID); err != nil || repeated {
			if err == nil && (n.Hash == nil || known.Hash != *n.Hash || !known.Expires.Equal(key.Expires)) {
				err = refuse(dp.CodeConflict, "the key %s was issued under this Idempotency-Key, and what is issued is shown once: use it, or revoke it and issue another under a new Idempotency-Key", known.ID)
			}
			key = known
			return nil, err
		}
		two, err := keyTakesTwo(tx, owner, actor)
		if err != nil {
			return nil, err
		}
		switch {
		case n.Hash != nil:
			key.Hash = *n.Hash
		case two:
			return nil, invalid("two officers must agree to this key and neither may see it: have its officer draw it with discreet key new, and send the hash that this shows")
		default:
			secret, key.Hash = NewSecret()
		}
		if two {
			proposed := key
			proposed.Created = time.Time{}
			return propose(tx, actor, reason, dp.ProposedChange{Key: &proposed}, now)
		}
		return nil, tx.PutKey(key)
	})
	if err != nil {
		return "", dp.Key{}, err
	}
	return secret, key, nil
}

func checkNewKey(tx Tx, consumer string, expires, now time.Time) (owner dp.Consumer, err error) {
	owner, ok, err := tx.Consumer(consumer)
	switch {
	case err != nil:
		return owner, err
	case !ok:
		return owner, notFound("consumer")
	case !expires.IsZero() && !expires.After(now):
		return owner, invalid("give the key an expiry in the future, or none")
	}
	return owner, nil
}

// keyTakesTwo tells whether two officers must agree to a key: of another officer, while any dataset asks for two.
func keyTakesTwo(tx Tx, owner dp.Consumer, actor string) (bool, error) {
	if owner.Role != dp.Officer || owner.Name == actor {
		return false, nil
	}
	return twoAsked(tx)
}

// confirmKey issues a proposed key.
func confirmKey(tx Tx, key dp.Key, end dp.ProposalEnd) error {
	if _, err := checkNewKey(tx, key.Consumer, key.Expires, end.At); err != nil {
		return err
	}
	key.Created = end.At
	return tx.PutKey(key)
}

// RotateKey gives a consumer a new key and has all others end after a grace, in one change. It returns the new key's
// secret and the keys that end, as they are now. Keys that end sooner stay as they are.
//
// Errors: those of IssueKey; CodeInvalidInput where the grace is negative or above MaxGrace, or so short that an
// officer who rotates their own keys could be left with none; CodeConflict where the key of another officer takes two, or
// where too few officers would remain who can act.
func (o *Office) RotateKey(ctx context.Context, actor, consumer string, grace time.Duration, expires time.Time, reason string) (secret string, key dp.Key, ending []dp.Key, err error) {
	if err := checkGrace(grace, actor == consumer); err != nil {
		return "", dp.Key{}, nil, err
	}
	if err := checkReason(reason, false); err != nil {
		return "", dp.Key{}, nil, err
	}
	err = o.changeAsOfficer(ctx, actor, reason, func(tx Tx, now time.Time) error {
		ending = nil
		owner, err := checkNewKey(tx, consumer, expires, now)
		if err != nil {
			return err
		}
		if two, err := keyTakesTwo(tx, owner, actor); err != nil {
			return err
		} else if two {
			return refuse(dp.CodeConflict, "two officers must agree to a key of another officer, and neither may see it: have them make their own, or issue one by its hash and revoke the others")
		}
		return keepOfficers(tx, now, func() error {
			earlier, err := tx.Keys(consumer)
			if err != nil {
				return err
			}
			for _, k := range earlier {
				if k, changed := endsBy(k, now, grace); changed {
					ending = append(ending, k)
					if err := tx.PutKey(k); err != nil {
						return err
					}
				}
			}
			secret, key = newKey(consumer, now, expires)
			return tx.PutKey(key)
		})
	})
	if err != nil {
		return "", dp.Key{}, nil, err
	}
	return secret, key, ending, nil
}

// endsBy has a key in force end after a grace at the latest, and tells whether that changes it.
func endsBy(k dp.Key, now time.Time, grace time.Duration) (dp.Key, bool) {
	end := now.Add(grace)
	if !k.InForce(now) || !k.Expires.IsZero() && !end.Before(k.Expires) {
		return k, false
	}
	k.Expires = end
	return k, true
}

func checkGrace(grace time.Duration, own bool) error {
	if grace < 0 || grace > MaxGrace {
		return invalid("give a grace from 0 to %d seconds", int64(MaxGrace/time.Second))
	}
	if own && grace < leastOwnGrace {
		return invalid("let your own keys stay in force for at least %d seconds: the answer that holds the new one can be lost", int64(leastOwnGrace/time.Second))
	}
	return nil
}

// IssueOwnKey gives a consumer a further key under one that it holds, without an officer. The new key ends no later
// than that one; a zero expires means when that one does. Where a grace is given, that one ends after it.
//
// Errors: CodeUnauthenticated where the key under which it is made is not in force; CodeInvalidInput where expires is past or later than that key's;
// CodeConflict while the consumer has as many keys that it made itself as it may; CodeRateLimited where it made too many within a day.
func (o *Office) IssueOwnKey(ctx context.Context, consumer, under string, grace *time.Duration, expires time.Time) (secret string, key dp.Key, ending []dp.Key, err error) {
	if grace != nil {
		if err := checkGrace(*grace, true); err != nil {
			return "", dp.Key{}, nil, err
		}
	}
	err = o.change(ctx, consumer, ownKeyReason, func(tx Tx, now time.Time) error {
		ending = nil
		who, _, err := tx.Consumer(consumer)
		if err != nil {
			return err
		}
		holds, err := ownKey(tx, consumer, under)
		if err != nil {
			return err
		}
		if who.Suspended || !holds.InForce(now) {
			return refuse(dp.CodeUnauthenticated, "the key under which this one is to be made is not in force any more: ask an officer for a new one")
		}
		end := expires
		if end.IsZero() {
			end = holds.Expires
		}
		if !holds.Expires.IsZero() && end.After(holds.Expires) {
			return invalid("the key can end no later than the one under which it is made: give an earlier expiry, or ask an officer for a key")
		}
		if err := checkOwnKeys(tx, consumer, now); err != nil {
			return err
		}
		if !end.IsZero() && !end.After(now) {
			return invalid("give the key an expiry in the future, or none")
		}
		secret, key = newKey(consumer, now, end)
		key.Under = under
		return keepOfficers(tx, now, func() error {
			if err := tx.PutKey(key); err != nil || grace == nil {
				return err
			}
			if holds, changed := endsBy(holds, now, *grace); changed {
				ending = []dp.Key{holds}
				return tx.PutKey(holds)
			}
			return nil
		})
	})
	if err != nil {
		return "", dp.Key{}, nil, err
	}
	return secret, key, ending, nil
}

// ownKeyReason is kept with what consumers do about their own keys.
const ownKeyReason = "its own key"

// checkOwnKeys bounds the keys that a consumer makes itself.
func checkOwnKeys(tx Tx, consumer string, now time.Time) error {
	all, err := tx.Keys(consumer)
	if err != nil {
		return err
	}
	inForce, lately := 0, []time.Time{}
	for _, k := range all {
		if k.Under == "" {
			continue
		}
		if k.InForce(now) {
			inForce++
		}
		if now.Sub(k.Created) < 24*time.Hour {
			lately = append(lately, k.Created)
		}
	}
	if inForce >= maxOwnKeys {
		return refuse(dp.CodeConflict, "you have %d keys that you made yourself, which is as many as may be in force: revoke one first", inForce)
	}
	if len(lately) >= maxOwnKeysDaily {
		return &dp.Error{Code: dp.CodeRateLimited, RetryAfter: slices.MinFunc(lately, time.Time.Compare).Add(24 * time.Hour).Sub(now),
			Message: "you made as many keys within a day as you may: use one of those, or wait"}
	}
	return nil
}

// RevokeKey ends a key at once, and with it all keys that its consumer made under it. What is revoked already stays
// as it is.
//
// Errors: CodeNotFound, also for a key of another consumer; CodeConflict where too few officers would remain who can act.
func (o *Office) RevokeKey(ctx context.Context, actor, consumer, id, reason string) (dp.Key, error) {
	if err := checkReason(reason, false); err != nil {
		return dp.Key{}, err
	}
	var revoked dp.Key
	err := o.changeAsOfficer(ctx, actor, reason, func(tx Tx, now time.Time) (err error) {
		if revoked, err = ownKey(tx, consumer, id); err != nil {
			return err
		}
		all, err := tx.Keys(consumer)
		if err != nil {
			return err
		}
		return keepOfficers(tx, now, func() error {
			for _, k := range madeUnder(all, id) {
				if _, err := revoke(tx, k, now); err != nil {
					return err
				}
			}
			revoked, err = revoke(tx, revoked, now)
			return err
		})
	})
	if err != nil {
		return dp.Key{}, err
	}
	return revoked, nil
}

// RevokeOwnKey ends a key of the consumer's own at once. Keys that were made under it stay: one of them may be what
// takes its place.
//
// Errors: CodeNotFound, also for a key of another consumer; CodeConflict where too few officers would remain who can act.
func (o *Office) RevokeOwnKey(ctx context.Context, consumer, id string) (dp.Key, error) {
	var revoked dp.Key
	err := o.change(ctx, consumer, ownKeyReason, func(tx Tx, now time.Time) (err error) {
		if revoked, err = ownKey(tx, consumer, id); err != nil {
			return err
		}
		return keepOfficers(tx, now, func() error {
			revoked, err = revoke(tx, revoked, now)
			return err
		})
	})
	if err != nil {
		return dp.Key{}, err
	}
	return revoked, nil
}

// ownKey finds a key of a consumer.
func ownKey(tx Tx, consumer, id string) (dp.Key, error) {
	key, ok, err := tx.Key(id)
	if err == nil && (!ok || key.Consumer != consumer) {
		err = notFound("key of this consumer")
	}
	return key, err
}

func revoke(tx Tx, k dp.Key, now time.Time) (dp.Key, error) {
	if !k.Revoked.IsZero() {
		return k, nil
	}
	k.Revoked = now
	return k, tx.PutKey(k)
}

// madeUnder finds the keys that were made under one, and under those, and so on.
func madeUnder(all []dp.Key, id string) (list []dp.Key) {
	for _, k := range all {
		if k.Under == id {
			list = append(append(list, k), madeUnder(all, k.ID)...)
		}
	}
	return list
}

// Bootstrap creates the first officer with a key where there is no consumer at all, and returns the key's
// secret, to be shown once. Otherwise it changes nothing and returns an empty secret. If the process ends
// before the secret is shown, nobody holds a key: begin again with an empty ledger.
func (o *Office) Bootstrap(ctx context.Context) (secret string, err error) {
	const actor, reason = "discreet", "first start"
	err = o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		secret = ""
		exists, err := tx.AnyConsumer()
		if err != nil || exists {
			return err
		}
		officer := dp.Consumer{Name: FirstOfficer, Role: dp.Officer, Audience: dp.Internal, Created: now, Version: 1}
		if err := tx.PutConsumer(officer); err != nil {
			return err
		}
		var key dp.Key
		secret, key = newKey(FirstOfficer, now, time.Time{})
		return tx.PutKey(key)
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// newKey draws a key.
func newKey(consumer string, now, expires time.Time) (string, dp.Key) {
	secret, hash := NewSecret()
	return secret, dp.Key{ID: keyID("", NewKey{}), Consumer: consumer, Hash: hash, Created: now, Expires: inUTC(expires)}
}

// NewSecret draws a key's secret of 256 bits, and gives what is kept of it.
func NewSecret() (secret string, hash [32]byte) {
	random := make([]byte, 32)
	// Read never fails: it ends the process when the system has no randomness.
	_, _ = rand.Read(random)
	secret = KeyPrefix + base64.RawURLEncoding.EncodeToString(random)
	return secret, HashKey(secret)
}

// keyID is random, or follows from who issues the key, for whom, and the idempotency key that they gave.
func keyID(actor string, n NewKey) string {
	if n.Repeat == "" {
		return "key_" + strings.ToLower(rand.Text())
	}
	return "key_" + idUnder("key", actor+"\x00"+n.Consumer, n.Repeat)
}
