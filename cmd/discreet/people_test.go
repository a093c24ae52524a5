package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// signingIssuer is an OpenID Connect issuer on loopback.
type signingIssuer struct {
	t   testing.TB
	url string
	key *ecdsa.PrivateKey
}

func newSigningIssuer(t testing.TB) *signingIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &signingIssuer{t: t, key: key}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256"}}})
			return
		}
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, i.url, i.url+"/keys")
	}))
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// token is one about a subject with roles, for so long.
func (i *signingIssuer) token(subject string, lasts time.Duration, roles ...string) string {
	i.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{"iss": i.url, "aud": "discreet", "email": subject, "email_verified": true, "groups": roles, "exp": time.Now().Add(lasts).Unix()})
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := s.Sign(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return text
}

func TestPeopleSignInWithTokensOfTheIssuer(t *testing.T) {
	i := newSigningIssuer(t)
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: t.TempDir()}
	started, stop := h.startAt(mechanism.Secure(), time.Now, "--oidc-issuer", i.url, "--oidc-audience", "discreet", "--oidc-consumer-claim", "email", "--oidc-role-claim", "groups", "--oidc-roles", "Privacy Office=officer,bi=analyst")
	t.Cleanup(stop)
	h.officer = keyIn(started)
	h.hire("ada", dp.Analyst)
	ada := i.token("ada@example.org", time.Hour, "bi", "everybody")
	if r := h.run(ada, "budget", "show"); r.code == exitDone || !strings.Contains(r.stderr, "signs nobody in") || strings.Contains(r.stderr, ada[:20]) {
		t.Errorf("before an officer said so: %+v", r)
	}
	if r := h.run(h.officer, "consumer", "set", "ada", "--subject", "ada@example.org"); r.code != exitUsage {
		t.Errorf("without a reason: %+v", r)
	}
	h.must(h.officer, "consumer", "set", "ada", "--subject", "ada@example.org", "--reason", "hired")
	if r := h.run(h.officer, "consumer", "add", "eve", "--role", "officer", "--subject", "ada@example.org", "--reason", "a test"); r.code == exitDone || !strings.Contains(r.stderr, "another consumer has this subject") {
		t.Errorf("two consumers of a subject: %+v", r)
	}
	me := func(key string) (wire.Me, error) { return h.client(key).Me(t.Context()) }
	if who, err := me(ada); err != nil || who.Name != "ada" || who.SignIn != "token" {
		t.Fatalf("%+v %v", who, err)
	}
	path := h.file("token", ada+"\n")
	h.must("", "budget", "show", "--key-file", path)

	out := map[string]string{
		"expired": i.token("ada@example.org", -time.Minute, "bi"), "another role": i.token("ada@example.org", time.Hour, "Privacy Office"),
		"no role": i.token("ada@example.org", time.Hour), "nobody": i.token("eve@example.org", time.Hour, "bi"), "cut": ada[:len(ada)-4],
		"another issuer": newSigningIssuer(t).token("ada@example.org", time.Hour, "bi"),
	}
	for why, token := range out {
		var p *client.Problem
		if _, err := me(token); !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
			t.Errorf("%s: %v", why, err)
		}
	}
	if r := h.run(ada, "key", "own", "add"); r.code != exitRefused {
		t.Errorf("a token makes a key: %+v", r)
	}
	h.must(h.officer, "consumer", "set", "ada", "--suspended", "--reason", "left")
	if _, err := me(ada); err == nil {
		t.Error("who is suspended is let in by a token")
	}

	// The log tells who signed in and why somebody could not, and nothing of a token.
	var list wire.AuditList
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		h.mustJSON(&list, h.officer, "audit", "list")
		if text := fmt.Sprint(list); strings.Contains(text, "token-refused") && strings.Contains(text, "token-of-nobody") {
			break
		}
	}
	text := h.must(h.officer, "audit", "list", "--format", "json")
	for _, part := range []string{"token-refused", "token-of-nobody", `"sign-in"`} {
		if !strings.Contains(text, part) {
			t.Errorf("the log does not tell of %s:\n%s", part, text)
		}
	}
	for _, token := range append(slices.Collect(maps.Values(out)), ada) {
		if strings.Contains(text, token[len(token)-20:]) {
			t.Error("the log holds a part of a token")
		}
	}
	stop()
	if r := h.offline("verify"); r.code != exitDone {
		t.Errorf("the ledger does not fit: %+v", r)
	}
}

func TestServeWithAnIssuerWantsAllThatItTakes(t *testing.T) {
	for _, flags := range [][]string{
		{"--oidc-issuer", "https://issuer.example"},
		{"--oidc-audience", "discreet"},
		{"--oidc-issuer", "http://issuer.example", "--oidc-audience", "discreet"},
		{"--oidc-issuer", "https://issuer.example", "--oidc-audience", "discreet", "--oidc-roles", "bi=boss"},
		{"--oidc-issuer", "https://issuer.example", "--oidc-audience", "discreet", "--oidc-roles", "analyst"},
		{"--tls-client-ca", "ca.pem"},
		{"--tls-cert", "cert.pem"},
	} {
		var stderr safeBuffer
		code := run(t.Context(), append([]string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0"}, flags...),
			terminal{stdin: strings.NewReader(""), stdout: &stderr, stderr: &stderr, lookup: noEnvironment}, production())
		if code != exitUsage {
			t.Errorf("%v: exit %d: %s", flags, code, stderr.String())
		}
	}
}

func TestKeysRotateWithoutAnHourInWhichNoneIsInForce(t *testing.T) {
	h := newHarness(t, mechanism.Secure())
	first := h.hire("team", dp.Analyst)
	var second, own wire.IssuedKey
	h.mustJSON(&second, h.officer, "key", "rotate", "team", "--grace", "1h", "--reason", "yearly")
	if len(second.Ending) != 1 || second.Ending[0].Expires == nil {
		t.Fatalf("%+v", second)
	}
	for _, key := range []string{first, second.Text} {
		h.must(key, "budget", "show")
	}
	h.mustJSON(&own, second.Text, "key", "own", "rotate", "--grace", "1m")
	if own.Under != second.ID || len(own.Ending) != 1 || own.Ending[0].ID != second.ID {
		t.Errorf("%+v", own)
	}
	var list wire.KeyList
	h.mustJSON(&list, own.Text, "key", "own", "list")
	if len(list.Items) != 3 || list.Items[0].LastUsed == nil || list.Items[2].LastUsed == nil {
		t.Errorf("%+v", list)
	}
	h.must(own.Text, "key", "own", "revoke", second.ID)
	h.must(own.Text, "budget", "show") // which was made under it
	if r := h.run(second.Text, "budget", "show"); r.code == exitDone {
		t.Error("a key that its consumer revoked is in force")
	}
	h.must(h.officer, "key", "revoke", "team", second.ID, "--reason", "it had leaked")
	if r := h.run(own.Text, "budget", "show"); r.code == exitDone {
		t.Error("what was made under a key that an officer revoked is in force")
	}
	h.mustJSON(&second, h.officer, "key", "rotate", "team", "--grace", "0s")
	if r := h.run(first, "budget", "show"); r.code == exitDone {
		t.Error("without a grace the old key is in force")
	}
	if r := h.run(h.officer, "key", "rotate", "officer", "--grace", "0s"); r.code != exitUsage {
		t.Errorf("the officer can be left without any key: %+v", r)
	}
	if r := h.run(second.Text, "key", "rotate", "officer"); r.code != exitRefused {
		t.Errorf("an analyst rotates an officer's keys: %+v", r)
	}
}

func TestRevokedKeyIsOutWhereItIsInUse(t *testing.T) {
	h, _ := running(t)
	team := h.hire("team", dp.Analyst, "reporting")
	h.allot("team", "cards", "0.5", "0")
	var keys wire.KeyList
	h.mustJSON(&keys, h.officer, "key", "list", "team")
	c := h.client(team)
	monthly, err := c.MakeReport(t.Context(), wire.ReportSpec{
		Name: "monthly", Dataset: "cards", Purpose: "reporting", Schedule: "per_block", From: "2090-01-01", Epsilon: "0.1",
		Queries: []wire.ReportQuery{{Name: "rows", ReportQuestion: wire.ReportQuestion{Metrics: []string{"rows"}}}},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	watching, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- c.WatchReport(t.Context(), monthly.ID, func(wire.Report) error {
			watching <- struct{}{}
			return nil
		})
	}()
	<-watching
	h.must(h.officer, "key", "revoke", "team", keys.Items[0].ID, "--reason", "it had leaked")
	select {
	case err := <-ended:
		var p *client.Problem
		if !errors.As(err, &p) || p.Status != http.StatusUnauthorized {
			t.Errorf("the stream ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a stream goes on under a revoked key")
	}
	for _, args := range [][]string{{"budget", "show"}, {"release", "list"}, {"report", "show", monthly.ID}, {"query", "cards", "rows", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "reporting"}} {
		h.fails(team, exitFailed, "unauthenticated", args...)
	}
}

// paused is noise that waits, once, until it may go on.
type paused struct {
	once             *sync.Once
	entered, proceed chan struct{}
}

func (p paused) Add(x int64, _ mechanism.Draw) (int64, error) {
	p.once.Do(func() {
		close(p.entered)
		<-p.proceed
	})
	return x, nil
}

func TestAnswerUnderARevokedKeyStaysUnreadAndIsKept(t *testing.T) {
	p := paused{&sync.Once{}, make(chan struct{}), make(chan struct{})}
	h := newHarness(t, p)
	h.apply(trapPolicy)
	team := h.hire("team", dp.Product, "reporting")
	var keys wire.KeyList
	h.mustJSON(&keys, h.officer, "key", "list", "team")
	h.allot("team", "cards", "0.5", "0")
	question := []string{"query", "cards", "rows", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.1", "--purpose", "reporting"}
	asked := make(chan result, 1)
	go func() { asked <- h.run(team, question...) }()
	<-p.entered
	h.must(h.officer, "key", "revoke", "team", keys.Items[0].ID, "--reason", "it had leaked")
	close(p.proceed)
	if r := <-asked; r.code != exitFailed || !strings.Contains(r.stderr, "unauthenticated") || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	var fresh wire.IssuedKey
	h.mustJSON(&fresh, h.officer, "key", "add", "team")
	var again wire.Release
	h.mustJSON(&again, fresh.Text, question...)
	if again.Reused == nil || !*again.Reused {
		t.Errorf("what was charged is charged again: %+v", again)
	}
}

// authority signs certificates.
type authority struct {
	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
	serial      int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, serial: 1}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	a.write(a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// sign writes a certificate for 127.0.0.1, in force for so long, and its key.
func (a *authority) sign(certFile, keyFile string, lasts time.Duration) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lasts), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(certFile, "CERTIFICATE", der)
	a.write(keyFile, "PRIVATE KEY", private)
}

func TestClientsWithoutACertificateAreNotServed(t *testing.T) {
	servers, clients, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	servers.sign(file("server.pem"), file("server.key"), time.Hour)
	clients.sign(file("client.pem"), file("client.key"), time.Hour)
	clients.sign(file("old.pem"), file("old.key"), -time.Minute)
	strangers.sign(file("stranger.pem"), file("stranger.key"), time.Hour)
	trusted := file("clients.pem")
	copyFile(t, clients.file, trusted)

	h := newHarnessWith(t, mechanism.Secure(), "--tls-cert", file("server.pem"), "--tls-key", file("server.key"), "--tls-client-ca", trusted)
	with := func(flags ...string) result { return h.run(h.officer, append([]string{"budget", "show"}, flags...)...) }
	ours := []string{"--ca", servers.file, "--client-cert", file("client.pem"), "--client-key", file("client.key")}
	if r := with(ours...); r.code != exitDone {
		t.Fatalf("with a certificate: %+v", r)
	}
	for why, c := range map[string]struct {
		flags []string
		says  string
	}{
		"no certificate":         {[]string{"--ca", servers.file}, "wants a client certificate that its --tls-client-ca signed: give --client-cert and --client-key"},
		"another authority's":    {[]string{"--ca", servers.file, "--client-cert", file("stranger.pem"), "--client-key", file("stranger.key")}, "--tls-client-ca"},
		"one that has expired":   {[]string{"--ca", servers.file, "--client-cert", file("old.pem"), "--client-key", file("old.key")}, "--tls-client-ca"},
		"another server":         {[]string{"--ca", clients.file, "--client-cert", file("client.pem"), "--client-key", file("client.key")}, "name who signed it with --ca"},
		"nobody that is trusted": {nil, "name who signed it with --ca"},
		"a key of another":       {[]string{"--ca", servers.file, "--client-cert", file("client.pem"), "--client-key", file("stranger.key")}, "--client-cert and --client-key"},
		"half of it":             {[]string{"--client-cert", file("client.pem")}, "together"},
		"no PEM":                 {[]string{"--ca", file("client.key")}, "no certificate"},
	} {
		if r := with(c.flags...); r.code == exitDone || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %+v", why, r)
		}
	}
	if r := h.run("", append([]string{"doctor", "--data", h.dir, "--url", h.url}, ours...)...); !strings.Contains(r.stdout, "the server is ready") {
		t.Errorf("doctor: %+v", r)
	}
	if r := h.run("", "doctor", "--data", h.dir, "--url", h.url, "--ca", servers.file); !strings.Contains(r.stdout, "wants a client certificate") {
		t.Errorf("doctor without a certificate: %+v", r)
	}
	certificate, err := tls.LoadX509KeyPair(file("client.pem"), file("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(servers.certificate)
	old := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), old); err == nil {
		c.Close()
		t.Error("certificates are taken over TLS 1.2, in the clear")
	}

	// What is rotated counts for the next connection. The server looks once a second.
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the server does not notice: %s", what)
			}
		}
	}
	serial := func() int64 {
		c, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	before := serial()
	writeFile(t, file("server.pem"), "half of")
	time.Sleep(lookAtFiles + 100*time.Millisecond)
	if serial() != before {
		t.Error("a certificate that cannot be read is used")
	}
	servers.sign(file("server.pem"), file("server.key"), time.Hour)
	until("a new certificate", func() bool { return serial() != before })
	copyFile(t, strangers.file, trusted)
	until("another authority", func() bool { return with(ours...).code != exitDone })
	if r := with("--ca", servers.file, "--client-cert", file("stranger.pem"), "--client-key", file("stranger.key")); r.code != exitDone {
		t.Errorf("who it trusts now is not served: %+v", r)
	}
}
