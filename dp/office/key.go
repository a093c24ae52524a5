package office

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// KeyPrefix begins every key, so that scanners of leaked secrets can find it.
const KeyPrefix = "dk_"

// FirstOfficer is the name of the consumer that Bootstrap creates.
const FirstOfficer = "officer"

// HashKey is what is kept of a key's secret. A hash without salt suffices: the secret has 256 random bits.
func HashKey(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// IssueKey gives a consumer a further key and returns its secret, which is kept nowhere and cannot be shown
// again. A zero expires means never.
//
// Errors: CodeNotFound; CodeInvalidInput where expires is past.
func (o *Office) IssueKey(ctx context.Context, actor, consumer string, expires time.Time, reason string) (secret string, key dp.Key, err error) {
	err = o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		_, ok, err := tx.Consumer(consumer)
		if err != nil {
			return err
		}
		if !ok {
			return notFound("consumer")
		}
		if !expires.IsZero() && !expires.After(now) {
			return invalid("give the key an expiry in the future, or none")
		}
		secret, key = newKey(consumer, now, expires)
		return tx.PutKey(key)
	})
	if err != nil {
		return "", dp.Key{}, err
	}
	return secret, key, nil
}

// RevokeKey ends a key at once. A key that is revoked already stays as it is.
//
// Errors: CodeNotFound, also for a key of another consumer.
func (o *Office) RevokeKey(ctx context.Context, actor, consumer, id, reason string) (dp.Key, error) {
	var revoked dp.Key
	err := o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		key, ok, err := tx.Key(id)
		if err != nil {
			return err
		}
		if !ok || key.Consumer != consumer {
			return notFound("key of this consumer")
		}
		if key.Revoked.IsZero() {
			key.Revoked = now
			if err := tx.PutKey(key); err != nil {
				return err
			}
		}
		revoked = key
		return nil
	})
	if err != nil {
		return dp.Key{}, err
	}
	return revoked, nil
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

// newKey draws a secret of 256 bits.
func newKey(consumer string, now, expires time.Time) (string, dp.Key) {
	random := make([]byte, 32)
	// Read never fails: it ends the process when the system has no randomness.
	_, _ = rand.Read(random)
	secret := KeyPrefix + base64.RawURLEncoding.EncodeToString(random)
	if !expires.IsZero() {
		expires = expires.UTC().Round(0)
	}
	return secret, dp.Key{
		ID:       "key_" + strings.ToLower(rand.Text()),
		Consumer: consumer,
		Hash:     HashKey(secret),
		Created:  now,
		Expires:  expires,
	}
}
