package oidc

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"

	"github.com/discreet-analytics/discreet/dp"
)

const (
	maxDocument = 1 << 20 // bytes of what an issuer publishes
	maxKeys     = 50      // of an issuer
	fetchTime   = 5 * time.Second
	waitTime    = 2 * time.Second // for who else fetches

	// refreshAfter is when keys are fetched again although all that is asked for are known: one may have been withdrawn.
	// keepFor is how long keys are used while they cannot be.
	refreshAfter = 15 * time.Minute
	keepFor      = time.Hour
	// fetchEvery and fetchBurst bound how often an issuer is called, whatever tokens come.
	fetchEvery = 30 * time.Second
	fetchBurst = 3
)

// keys are the public keys of an issuer, as they were fetched last.
type keys struct {
	issuer string
	clock  func() time.Time
	http   *http.Client
	limit  *rate.Limiter

	fetching chan struct{} // holds a mark while somebody fetches
	log      *slog.Logger

	mu      sync.Mutex
	known   []jose.JSONWebKey
	fetched time.Time // when known was; zero: never
	fetches int       // that ended
}

func newKeys(c Config) *keys {
	return &keys{issuer: c.URL, clock: c.Clock, log: c.Log, fetching: make(chan struct{}, 1), limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst),
		http: &http.Client{Transport: c.HTTP, Timeout: fetchTime, CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 3 {
				return errors.New("too many redirects")
			}
			return checkSafe(c.URL, r.URL.String())
		}}}
}

// named finds the keys that may have signed a token: of a name, or of any where it has none. One that is not known has the
// keys fetched, unless they were fetched lately. While it cannot be told, that is CodeUnavailable.
func (k *keys) named(ctx context.Context, id, algorithm string) ([]crypto.PublicKey, error) {
	found, age, fetches := k.find(id, algorithm)
	if len(found) > 0 && age < refreshAfter {
		return found, nil
	}
	wait := k.refresh(ctx, fetches, len(found) > 0)
	if again, age, _ := k.find(id, algorithm); len(again) > 0 && age < keepFor {
		return again, nil
	}
	if wait == 0 { // the keys are those of now, and none is the token's
		return nil, errToken()
	}
	return nil, &dp.Error{Code: dp.CodeUnavailable, Err: dp.KeyFault("token-unchecked"), RetryAfter: wait, Message: "Tokens cannot be checked at the moment: the issuer does not tell its keys, or was asked for them just now. Try again, or sign in with a key."}
}

// find gives the fitting keys among those that are known, how old these are, and how many fetches ended so far.
func (k *keys) find(id, algorithm string) (found []crypto.PublicKey, age time.Duration, fetches int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.known {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == algorithm) {
			found = append(found, key.Key)
		}
	}
	return found, k.clock().Sub(k.fetched), k.fetches
}

// refresh fetches the keys, where nobody has since so many fetches had ended, and gives after how long it may be tried
// again: 0 where they were fetched. Who can go on without does not wait for who else is fetching.
func (k *keys) refresh(ctx context.Context, seen int, optional bool) (again time.Duration) {
	patience := time.NewTimer(waitTime)
	defer patience.Stop()
	if optional {
		patience.Reset(0)
	}
	select {
	case k.fetching <- struct{}{}:
	default:
		select {
		case k.fetching <- struct{}{}:
		case <-patience.C:
			return time.Second
		case <-ctx.Done():
			return time.Second
		}
	}
	defer func() { <-k.fetching }()
	k.mu.Lock()
	since, fresh := k.fetches > seen, k.clock().Sub(k.fetched) < fetchEvery
	k.mu.Unlock()
	if since { // while this one waited
		if fresh {
			return 0
		}
		return fetchEvery
	}
	now := k.clock()
	if !k.limit.AllowN(now, 1) {
		next := k.limit.ReserveN(now, 1)
		wait := next.DelayFrom(now)
		next.CancelAt(now)
		return max(wait, time.Second)
	}
	// The caller may leave; others wait for the same keys.
	known, err := k.fetch(context.WithoutCancel(ctx))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetches++
	if err != nil {
		k.log.Warn("the issuer's keys could not be fetched", "error", err)
		return fetchEvery
	}
	k.known, k.fetched = known, now
	return 0
}

// fetch reads the issuer's description, and the keys that it names.
func (k *keys) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var says struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	// OpenID Connect Discovery 1.0, section 4.
	if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &says); err != nil {
		return nil, fmt.Errorf("reading the issuer's description: %w", err)
	}
	if says.Issuer != k.issuer {
		return nil, errors.New("the issuer's description is another issuer's")
	}
	if err := checkSafe(k.issuer, says.Keys); err != nil {
		return nil, fmt.Errorf("the address of the issuer's keys %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, says.Keys, &set); err != nil {
		return nil, fmt.Errorf("reading the issuer's keys: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the issuer has more than %d keys", maxKeys)
	}
	var known []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		// A key of a kind that is not known is no reason to refuse the others (RFC 7517, section 5).
		if err := json.Unmarshal(text, &key); err == nil && key.Valid() && key.IsPublic() && key.Use != "enc" {
			known = append(known, key)
		}
	}
	return known, nil
}

func (k *keys) get(ctx context.Context, from string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	response, err := k.http.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return err
	}
	if len(text) > maxDocument {
		return fmt.Errorf("it is larger than %d bytes", maxDocument)
	}
	return json.Unmarshal(text, into)
}
