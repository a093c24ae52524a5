package oidc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/discreet-analytics/discreet/dp"
)

// issuer is one on loopback, with a clock that its checker shares.
type issuer struct {
	t      *testing.T
	server *httptest.Server
	calls  atomic.Int64 // for keys
	log    bytes.Buffer

	mu    sync.Mutex
	now   time.Time
	keys  []jose.JSONWebKey
	down  bool
	extra string // of its description, instead of its own
	pad   int    // bytes in front of the keys
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch {
		case i.down:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/openid-configuration" && i.extra != "":
			fmt.Fprint(w, i.extra)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, i.server.URL, i.server.URL+"/keys")
		case r.URL.Path == "/keys":
			i.calls.Add(1)
			fmt.Fprint(w, strings.Repeat(" ", i.pad))
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
		}
	}))
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

func (i *issuer) change(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

func (i *issuer) wait(d time.Duration) { i.change(func() { i.now = i.now.Add(d) }) }

// publish has the issuer tell these keys and no other.
func (i *issuer) publish(list ...signer) {
	i.change(func() {
		i.keys = nil
		for _, s := range list {
			i.keys = append(i.keys, jose.JSONWebKey{Key: s.public(), KeyID: s.id, Algorithm: string(s.algorithm)})
		}
	})
}

// checker checks its tokens.
func (i *issuer) checker(with ...func(*Config)) *Issuer {
	i.t.Helper()
	c := Config{URL: i.server.URL, Audience: "discreet", Clock: i.clock, Log: slog.New(slog.NewTextHandler(&i.log, nil)), HTTP: i.server.Client().Transport}
	for _, w := range with {
		w(&c)
	}
	checker, err := New(c)
	if err != nil {
		i.t.Fatal(err)
	}
	return checker
}

// claims are those of a good token about ada, an analyst.
func (i *issuer) claims(with ...func(map[string]any)) map[string]any {
	c := map[string]any{"iss": i.server.URL, "aud": "discreet", "sub": "ada", "roles": []string{"analyst"}, "exp": i.clock().Add(time.Hour).Unix(), "iat": i.clock().Unix()}
	for _, w := range with {
		w(c)
	}
	return c
}

func set(name string, value any) func(map[string]any) {
	return func(c map[string]any) { c[name] = value }
}

type signer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

func (s signer) public() crypto.PublicKey { return s.private.Public() }

func elliptical(t *testing.T, id string) signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, jose.ES256, k}
}

func rivest(t *testing.T, id string) signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, jose.RS256, k}
}

func (s signer) sign(t *testing.T, claims map[string]any, headers ...string) string {
	t.Helper()
	return sign(t, s.algorithm, jose.JSONWebKey{Key: s.private, KeyID: s.id}, claims, headers...)
}

func sign(t *testing.T, a jose.SignatureAlgorithm, key any, claims map[string]any, headers ...string) string {
	t.Helper()
	o := &jose.SignerOptions{}
	o.WithType("JWT")
	if len(headers) > 0 {
		o.WithType(jose.ContentType(headers[0]))
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: a, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func code(err error) dp.Code {
	var refused *dp.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func TestTokenOfTheIssuerNamesItsSubjectAndRoles(t *testing.T) {
	i := newIssuer(t)
	one, two := elliptical(t, "one"), rivest(t, "two")
	i.publish(one, two)
	c := i.checker()
	for _, s := range []signer{one, two} {
		for _, kind := range []string{"JWT", "at+jwt"} {
			subject, roles, err := c.Check(t.Context(), s.sign(t, i.claims(set("aud", []string{"other", "discreet"}), set("roles", []string{"analyst", "guest", "officer", "analyst"})), kind))
			if err != nil || subject != "ada" || !slices.Equal(roles, []dp.Role{dp.Analyst, dp.Officer}) {
				t.Errorf("%s %s: %q %v %v", s.id, kind, subject, roles, err)
			}
		}
	}
	if n := i.calls.Load(); n != 1 {
		t.Errorf("keys were fetched %d times", n)
	}
}

func TestTokenThatIsNotInForceIsRefusedWithoutAWordOfIt(t *testing.T) {
	i := newIssuer(t)
	one := elliptical(t, "one")
	i.publish(one)
	c := i.checker()
	forged := elliptical(t, "one")
	secret := []byte("0123456789abcdef0123456789abcdef")
	at := func(d time.Duration) int64 { return i.clock().Add(d).Unix() }
	good := one.sign(t, i.claims())
	parts := strings.Split(good, ".")
	public, err := jose.JSONWebKey{Key: one.public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"wrong audience":               one.sign(t, i.claims(set("aud", "another"))),
		"no audience":                  one.sign(t, i.claims(set("aud", nil))),
		"expired":                      one.sign(t, i.claims(set("exp", at(-time.Second)))),
		"expires now":                  one.sign(t, i.claims(set("exp", at(0)))),
		"no expiry":                    one.sign(t, i.claims(set("exp", nil))),
		"not before":                   one.sign(t, i.claims(set("nbf", at(time.Hour/2)))),
		"other issuer":                 one.sign(t, i.claims(set("iss", "https://issuer.example"))),
		"issuer with a slash":          one.sign(t, i.claims(set("iss", i.server.URL+"/"))),
		"no subject":                   one.sign(t, i.claims(set("sub", nil))),
		"empty subject":                one.sign(t, i.claims(set("sub", ""))),
		"subject that is no text":      one.sign(t, i.claims(set("sub", []string{"ada"}))),
		"huge subject":                 one.sign(t, i.claims(set("sub", strings.Repeat("a", 256)))),
		"huge token":                   one.sign(t, i.claims(set("padding", strings.Repeat("a", maxToken)))),
		"kind of another use":          one.sign(t, i.claims(), "logout+jwt"),
		"signed by another":            forged.sign(t, i.claims()),
		"signed with a secret":         sign(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: "one"}, i.claims()),
		"signed with the public key":   sign(t, jose.HS256, jose.JSONWebKey{Key: public, KeyID: "one"}, i.claims()),
		"not signed":                   "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"not signed, with a signature": "eyJhbGciOiJub25lIn0." + parts[1] + "." + parts[2],
		"signature cut":                good[:len(good)-2],
		"without a signature":          parts[0] + "." + parts[1] + ".",
		"claims exchanged":             parts[0] + "." + strings.Split(one.sign(t, i.claims(set("sub", "eve"))), ".")[1] + "." + parts[2],
		"two parts":                    parts[0] + "." + parts[1],
		"five parts":                   good + ".a.b",
		"nothing":                      "..",
	} {
		if _, _, err := c.Check(t.Context(), token); code(err) != dp.CodeUnauthenticated || err.Error() != errToken().Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := c.Check(t.Context(), good); err != nil {
		t.Errorf("a good token: %v", err)
	}
	if _, _, err := c.Check(t.Context(), one.sign(t, i.claims(set("nbf", at(time.Minute))))); err != nil {
		t.Errorf("clocks may differ a little: %v", err)
	}
	if n := i.calls.Load(); n != 1 {
		t.Errorf("what no key could make good had the keys fetched: %d times", n)
	}
}

func TestClaimsAreReadAsTheServerWasTold(t *testing.T) {
	i := newIssuer(t)
	one := elliptical(t, "one")
	i.publish(one)
	mail := func(c *Config) { c.SubjectClaim = "email" }
	groups := func(c *Config) {
		c.RoleClaim = "realm_access.roles"
		c.Roles = map[string]dp.Role{"Privacy Office": dp.Officer, "bi": dp.Analyst}
	}
	for name, c := range map[string]struct {
		with    func(*Config)
		claims  []func(map[string]any)
		subject string
		roles   []dp.Role
	}{
		"mail":                 {mail, []func(map[string]any){set("email", "ada@example.org"), set("email_verified", true)}, "ada@example.org", []dp.Role{dp.Analyst}},
		"mail, in Amazon's":    {mail, []func(map[string]any){set("email", "ada@example.org"), set("email_verified", "true")}, "ada@example.org", []dp.Role{dp.Analyst}},
		"mail, not verified":   {mail, []func(map[string]any){set("email", "ada@example.org"), set("email_verified", false)}, "", nil},
		"mail, of whom":        {mail, []func(map[string]any){set("email", "ada@example.org")}, "", nil},
		"groups":               {groups, []func(map[string]any){set("realm_access", map[string]any{"roles": []any{"bi", 7, "officer", "Privacy Office"}})}, "ada", []dp.Role{dp.Analyst, dp.Officer}},
		"a name with dots":     {groups, []func(map[string]any){set("realm_access.roles", "bi"), set("realm_access", map[string]any{"roles": "Privacy Office"})}, "ada", []dp.Role{dp.Analyst}},
		"roles of no list":     {groups, []func(map[string]any){set("realm_access", "bi")}, "ada", nil},
		"one role":             {func(*Config) {}, []func(map[string]any){set("roles", "custodian")}, "ada", []dp.Role{dp.Custodian}},
		"roles that mean none": {func(*Config) {}, []func(map[string]any){set("roles", []string{"Officer", " officer", ""})}, "ada", nil},
	} {
		subject, roles, err := i.checker(c.with).Check(t.Context(), one.sign(t, i.claims(c.claims...)))
		if subject != c.subject || !slices.Equal(roles, c.roles) || (err == nil) != (c.subject != "") {
			t.Errorf("%s: %q %v %v", name, subject, roles, err)
		}
	}
}

func TestKeysAreFollowedAsTheyRotateAndNoOftenerThanTheyMay(t *testing.T) {
	i := newIssuer(t)
	one, two, three := elliptical(t, "one"), elliptical(t, "two"), elliptical(t, "three")
	i.publish(one)
	c := i.checker()
	check := func(s signer) error {
		_, _, err := c.Check(t.Context(), s.sign(t, i.claims()))
		return err
	}
	if err := check(one); err != nil {
		t.Fatal(err)
	}
	i.publish(one, two)
	if err := check(two); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if err := check(three); code(err) != dp.CodeUnauthenticated {
		t.Errorf("a key that there is not: %v", err)
	}
	var refused *dp.Error
	for range 20 { // whoever sends names of keys does not have the issuer called
		if err := check(three); !errors.As(err, &refused) || refused.Code != dp.CodeUnavailable || refused.RetryAfter <= 0 || refused.RetryAfter > fetchEvery {
			t.Fatalf("too soon after: %v", err)
		}
	}
	if n := i.calls.Load(); n != fetchBurst {
		t.Errorf("keys were fetched %d times", n)
	}
	if err := check(one); err != nil {
		t.Errorf("a known key meanwhile: %v", err)
	}
	i.wait(fetchEvery)
	i.publish(one, two, three)
	if err := check(three); err != nil {
		t.Errorf("a new key later: %v", err)
	}
	// A key that the issuer withdraws is not known for long.
	i.publish(two)
	i.wait(refreshAfter)
	if err := check(one); code(err) != dp.CodeUnauthenticated {
		t.Errorf("a key that was withdrawn: %v", err)
	}
	if err := check(two); err != nil {
		t.Error(err)
	}
}

func TestWhileTheIssuerIsAwayTokensWaitAndNobodyIsLetIn(t *testing.T) {
	i := newIssuer(t)
	one := elliptical(t, "one")
	i.publish(one)
	i.change(func() { i.down = true })
	c := i.checker() // which starts without it
	check := func() error {
		_, _, err := c.Check(t.Context(), one.sign(t, i.claims()))
		return err
	}
	var refused *dp.Error
	for range 5 {
		if err := check(); !errors.As(err, &refused) || refused.Code != dp.CodeUnavailable || refused.RetryAfter <= 0 || !errors.As(err, new(dp.KeyFault)) {
			t.Fatalf("without keys: %v", err)
		}
	}
	i.change(func() { i.down = false })
	i.wait(fetchEvery)
	if err := check(); err != nil {
		t.Fatalf("once it is back: %v", err)
	}
	i.change(func() { i.down = true })
	i.wait(keepFor - time.Second)
	if err := check(); err != nil {
		t.Errorf("with keys that are not old: %v", err)
	}
	i.wait(time.Second)
	if err := check(); code(err) != dp.CodeUnavailable {
		t.Errorf("with keys that are: %v", err)
	}
	if !strings.Contains(i.log.String(), "could not be fetched") || strings.Contains(i.log.String(), "ada") {
		t.Errorf("log: %s", i.log.String())
	}
}

func TestIssuerThatSaysTooMuchOrAnotherNameIsNotBelieved(t *testing.T) {
	one := elliptical(t, "one")
	for name, spoil := range map[string]func(*issuer){
		"another issuer": func(i *issuer) {
			i.extra = fmt.Sprintf(`{"issuer": "https://issuer.example", "jwks_uri": %q}`, i.server.URL+"/keys")
		},
		"keys over http": func(i *issuer) {
			i.extra = fmt.Sprintf(`{"issuer": %q, "jwks_uri": "http://issuer.example/keys"}`, i.server.URL)
		},
		"keys of a file": func(i *issuer) { i.extra = fmt.Sprintf(`{"issuer": %q, "jwks_uri": "file:///keys"}`, i.server.URL) },
		"no JSON":        func(i *issuer) { i.extra = "<html>" },
		"too large":      func(i *issuer) { i.pad = maxDocument },
		"too many keys":  func(i *issuer) { i.keys = slices.Repeat(i.keys, maxKeys+1) },
		"keys of no kind": func(i *issuer) {
			i.keys = []jose.JSONWebKey{{Key: []byte("a shared secret of 32 bytes long"), KeyID: "one"}}
		},
		"a key to encrypt": func(i *issuer) { i.keys[0].Use = "enc" },
	} {
		i := newIssuer(t)
		i.publish(one)
		i.change(func() { spoil(i) })
		if _, _, err := i.checker().Check(t.Context(), one.sign(t, i.claims())); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}

func TestConcurrentTokensFetchOnce(t *testing.T) {
	i := newIssuer(t)
	one := elliptical(t, "one")
	i.publish(one)
	c := i.checker()
	token := one.sign(t, i.claims())
	var all sync.WaitGroup
	var failed atomic.Int64
	for range 32 {
		all.Go(func() {
			if _, _, err := c.Check(t.Context(), token); err != nil {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() != 0 || i.calls.Load() != 1 {
		t.Errorf("%d of 32 failed, over %d fetches", failed.Load(), i.calls.Load())
	}
}

func TestIssuerIsNamedSafely(t *testing.T) {
	for address, fits := range map[string]bool{
		"https://issuer.example": true, "https://issuer.example/realms/bank": true, "http://127.0.0.1:8081": true, "http://localhost/a": true, "http://[::1]:80": true,
		"http://issuer.example": false, "issuer.example": false, "https://": false, "ftp://issuer.example": false, "https://ada:secret@issuer.example": false, "https://issuer.example/#a": false, "": false,
	} {
		if _, err := New(Config{URL: address, Audience: "discreet"}); (err == nil) != fits {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := New(Config{URL: "https://issuer.example"}); err == nil {
		t.Error("tokens for anybody are taken")
	}
	for _, c := range []struct {
		issuer, names string
		fits          bool
	}{
		{"https://issuer.example", "https://keys.example/a", true}, {"https://issuer.example", "http://127.0.0.1/a", false}, {"https://issuer.example", "http://keys.example", false},
		{"http://127.0.0.1:1", "http://127.0.0.1:2/a", true}, {"http://127.0.0.1:1", "http://keys.example", false}, {"https://issuer.example", "https:", false},
	} {
		if err := checkSafe(c.issuer, c.names); (err == nil) != c.fits {
			t.Errorf("%s names %s: %v", c.issuer, c.names, err)
		}
	}
	own, err := New(Config{URL: "https://issuer.example", Audience: "a"})
	if err != nil || own.config.SubjectClaim != "sub" || !slices.Contains(slices.Collect(maps.Values(own.config.Roles)), dp.Officer) {
		t.Errorf("%+v %v", own, err)
	}
}
