package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// withSubject gives a consumer a subject, and sets whether it is suspended.
func (f *fakes) withSubject(name, subject string, suspended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.consumers {
		if f.consumers[i].Name == name {
			f.consumers[i].Subject, f.consumers[i].Suspended = subject, suspended
		}
	}
}

func TestWhoIsNotSignedInByTheirTokenIsToldNothingMore(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.withSubject("analyst", "ada", false)
	f.withSubject("product", "eve", true)
	call := func(token string) *http.Response {
		return send(t, v, "", "GET", "/v1/me", "", "Authorization", "Bearer "+token)
	}
	me := read[wire.Me](t, call("ada.analyst"), 200)
	if me.Name != "analyst" || me.SignIn != "token" || me.Key != "" || me.Subject != "ada" {
		t.Errorf("%+v", me)
	}
	unknown := refused(t, call("nobody.analyst"), 401, "unauthenticated")
	for why, token := range map[string]string{"another role": "ada.officer", "suspended": "eve.product", "no role": "ada."} {
		if p := refused(t, call(token), 401, "unauthenticated"); p.Detail != unknown.Detail {
			t.Errorf("%s: %s", why, p.Detail)
		}
	}
	for _, code := range []dp.Code{dp.CodeUnauthenticated, dp.CodeUnavailable} {
		f.tokens = &dp.Error{Code: code, Message: "No.", RetryAfter: 3 * time.Second}
		resp := call("ada.analyst")
		if want := kindOf(code).status; resp.StatusCode != want || code == dp.CodeUnavailable && resp.Header.Get("Retry-After") != "3" {
			t.Errorf("%s: %s %v", code, resp.Status, resp.Header)
		}
	}
	if log := f.logged(); strings.Contains(log, "ada.") || strings.Contains(log, "signed") {
		t.Errorf("log: %s", log)
	}
}

func TestServerWithoutAnIssuerTakesKeysAlone(t *testing.T) {
	f := newFakes(t)
	s := f.services()
	s.Tokens = nil
	v, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, send(t, v, "", "GET", "/v1/me", "", "Authorization", "Bearer analyst.analyst"), 401, "unauthenticated")
	if me := read[wire.Me](t, send(t, v, "analyst", "GET", "/v1/me", ""), 200); me.SignIn != "key" {
		t.Errorf("%+v", me)
	}
}

func TestTokenMakesNoKey(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.withSubject("analyst", "ada", false)
	refused(t, send(t, v, "", "POST", "/v1/me/keys", "", "Authorization", "Bearer ada.analyst"), 403, "forbidden")
	if len(f.changes) != 0 {
		t.Errorf("%+v", f.changes)
	}
}

func TestConsumerMakesAndRevokesItsOwnKeysAlone(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	made := read[wire.IssuedKey](t, send(t, v, "product", "POST", "/v1/me/keys", `{"grace_seconds": 60}`), 201)
	if made.Text != "dk_own" || made.Consumer != "product" || made.Under != "key_product" || f.changes[0].what != "own key 1m0s" {
		t.Errorf("%+v after %+v", made, f.changes)
	}
	refused(t, send(t, v, "product", "POST", "/v1/me/keys", `{"grace_seconds": 59}`), 400, "invalid-input")
	if resp := send(t, v, "product", "DELETE", "/v1/me/keys/key_other", ""); resp.StatusCode != 204 || f.changes[1].actor != "product" {
		t.Errorf("%s %+v", resp.Status, f.changes)
	}
	list := read[wire.KeyList](t, send(t, v, "product", "GET", "/v1/me/keys", ""), 200)
	for _, k := range list.Items {
		if k.Consumer != "product" {
			t.Errorf("another's key: %+v", k)
		}
	}
	rotated := read[wire.IssuedKey](t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", `{"grace_seconds": 86400}`, "Discreet-Reason", "yearly"), 201)
	if last := f.changes[len(f.changes)-1]; last.what != "rotate 24h0m0s" || last.reason != "yearly" || len(rotated.Ending) != 1 || rotated.Ending[0].ID != "key_old" {
		t.Errorf("%+v after %+v", rotated, last)
	}
}

func TestWhoKeepsFailingToSignInIsSlowedAndNobodyElse(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.FailedSignIns = 0.05 }) // three at once
	wrong := func() *http.Response {
		return send(t, v, "", "GET", "/v1/me", "", "Authorization", "Bearer dk_wrong")
	}
	for range 3 {
		refused(t, wrong(), 401, "unauthenticated")
	}
	lines := strings.Count(f.logged(), "msg=request")
	for range 50 {
		resp := wrong()
		if resp.Header.Get("Retry-After") == "" {
			t.Error("it does not say when to try again")
		}
		refused(t, resp, 429, "rate-limited")
	}
	// The same address with a key that is in force is let in.
	read[wire.Me](t, send(t, v, "analyst", "GET", "/v1/me", ""), 200)
	log := f.logged()
	if got := strings.Count(log, "msg=request") - lines; got != 1 || strings.Count(log, "have no lines of their own") != 1 {
		t.Errorf("50 failed calls and one that was let in left %d lines: %s", got, log)
	}
}

func TestWhoSendsTokensThatCannotBeCheckedIsSlowedToo(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.FailedSignIns = 0.05 }) // three at once
	call := func() *http.Response {
		return send(t, v, "", "GET", "/v1/me", "", "Authorization", "Bearer ada.analyst")
	}
	f.withSubject("analyst", "ada", false)
	f.tokens = &dp.Error{Code: dp.CodeUnavailable, Err: dp.KeyFault("token-unchecked"), Message: "Later.", RetryAfter: time.Second}
	for range 3 {
		refused(t, call(), 503, "unavailable")
	}
	lines := strings.Count(f.logged(), "msg=request")
	for range 20 {
		refused(t, call(), 429, "rate-limited")
	}
	if got := strings.Count(f.logged(), "msg=request"); got != lines {
		t.Errorf("20 calls that were refused for their number left %d lines", got-lines)
	}
	f.tokens = nil // and once they can be checked, whose is in force is let in
	read[wire.Me](t, call(), 200)
}

func TestStrangersAreToldApartInBoundedMemory(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := newStrangers(0.1, func() time.Time { return now })
	address := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }
	fail := func(a netip.Addr) error { return s.refuse(a) }
	six := netip.MustParseAddr
	for range 6 {
		if err := fail(six("2001:db8::1")); err != nil {
			t.Fatal(err)
		}
	}
	var refused *dp.Error
	if err := fail(six("2001:db8::ffff:1")); !errors.As(err, &refused) || refused.Code != dp.CodeRateLimited || refused.RetryAfter != 10*time.Second {
		t.Errorf("another address of the same subscriber: %v", err)
	}
	if err := fail(six("2001:db8:0:1::1")); err != nil {
		t.Errorf("another subscriber: %v", err)
	}
	for n := range 3 * maxStrangers {
		_ = fail(address(n))
	}
	if len(s.of) > maxStrangers {
		t.Errorf("%d addresses are told apart", len(s.of))
	}
	if err := fail(address(1 << 23)); err == nil {
		t.Error("what there is no room for is not bounded")
	}
	now = now.Add(time.Hour)
	if err := fail(address(1 << 23)); err != nil || len(s.of) > 2 {
		t.Errorf("after an hour %d addresses are known: %v", len(s.of), err)
	}
	if n := s.toSay(); n == 0 || s.toSay() != 0 {
		t.Errorf("%d calls are said to have no line", n)
	}
}

// listening serves on loopback until the test ends.
func listening(t *testing.T, v *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- v.Serve(l) }()
	t.Cleanup(func() {
		_ = v.Shutdown(t.Context())
		<-ended
	})
	return "http://" + l.Addr().String()
}

func TestStreamsOfWhoIsNotLetInAnyMoreEnd(t *testing.T) {
	f := newFakes(t)
	f.reports = []dp.Report{testReport("analyst", "rep_1", 1)}
	v := newTestServer(t, f)
	r, err := http.NewRequestWithContext(t.Context(), "GET", listening(t, v)+"/v1/reports/rep_1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer dk_analyst")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
	}
	f.withSubject("analyst", "", true)
	began := time.Now()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: ") {
			t.Errorf("it is told more: %s", lines.Text())
		}
	}
	if took := time.Since(began); took > 30*time.Second { // the stream itself would last for minutes
		t.Errorf("the stream ended after %v", took)
	}
}

func TestUploadOfWhoIsNotLetInAnyMoreLoadsNothing(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.read = func(body io.Reader) error {
		_, err := io.ReadAll(body)
		f.withSubject("custodian", "", true)
		return err
	}
	refused(t, send(t, v, "custodian", "POST", "/v1/datasets/transactions/rows?from=2026-01-01&to=2026-01-31", "customer_id\nc1\n", "Content-Type", "text/csv"), 401, "unauthenticated")
	if l := f.lastLoad(t); l.readErr != nil || l.verifyErr == nil {
		t.Errorf("it was loaded: %+v", l)
	}
	out := errors.New("out")
	u := upload{still: func() error { return out }, looked: time.Now().Add(-lookAgain)}
	if _, err := u.Read(make([]byte, 1)); !errors.Is(err, out) {
		t.Errorf("reading goes on: %v", err)
	}
}

func TestChangeOfWhoIsOutBeforeItsBodyArrivedIsRefused(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	body, rest := io.Pipe()
	go func() {
		_, _ = io.WriteString(rest, `{"name":"grace",`)
		for deadline := time.Now().Add(time.Minute); len(f.audit.of(dp.AuditSignIn)) == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		f.withSubject("officer", "", true)
		_, _ = io.WriteString(rest, `"role":"analyst"}`)
		_ = rest.Close()
	}()
	r, err := http.NewRequestWithContext(t.Context(), "POST", listening(t, v)+"/v1/consumers", body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": "Bearer dk_officer", "Content-Type": "application/json"} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, resp, 401, "unauthenticated")
	if len(f.changes) != 0 {
		t.Errorf("it was made: %+v", f.changes)
	}
}

func TestUploadOfWhoIsOutBeforeItsEndArrivedLoadsNothing(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	const rows = "customer_id\nc1\n"
	body, rest := io.Pipe()
	f.read = func(body io.Reader) error {
		_, err := io.ReadFull(body, make([]byte, len(rows)))
		go func() {
			f.withSubject("custodian", "", true)
			_ = rest.Close()
		}()
		return err
	}
	go func() { _, _ = io.WriteString(rest, rows) }()
	r, err := http.NewRequestWithContext(t.Context(), "POST", listening(t, v)+"/v1/datasets/transactions/rows?from=2026-01-01&to=2026-01-31", body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": "Bearer dk_custodian", "Content-Type": "text/csv", "Content-Digest": digestOf(rows)} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, resp, 401, "unauthenticated")
	if l := f.lastLoad(t); l.readErr != nil || l.verifyErr == nil {
		t.Errorf("it was loaded: %+v", l)
	}
}

func TestExportOfWhoIsNotLetInAnyMoreIsCutOff(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	who := caller{Consumer: dp.Consumer{Name: "auditor"}, again: func(context.Context) error { return errNobody() }}
	write, err := v.beginExport(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := write(&got); codeOf(err) != dp.CodeUnauthenticated || got.Len() > 0 || len(v.exports) > 0 {
		t.Errorf("%d bytes were written: %v", got.Len(), err)
	}
}

func TestTokenMayEndWhileItsCallRunsAndItsConsumerMayNot(t *testing.T) {
	for why, c := range map[string]struct {
		meanwhile func(f *fakes)
		status    int
	}{
		"the token ends":               {func(f *fakes) { f.tokens = &dp.Error{Code: dp.CodeUnauthenticated, Message: "No."} }, 200},
		"its subject is taken away":    {func(f *fakes) { f.withSubject("analyst", "", false) }, 401},
		"its consumer is suspended":    {func(f *fakes) { f.withSubject("analyst", "ada", true) }, 401},
		"its subject is given another": {func(f *fakes) { f.withSubject("analyst", "", false); f.withSubject("product", "ada", false) }, 401},
	} {
		f := newFakes(t)
		v := newTestServer(t, f)
		f.withSubject("analyst", "ada", false)
		f.ask = func(dp.Query) (a answer.Answer, err error) {
			c.meanwhile(f)
			a.Release = testRelease()
			return a, nil
		}
		resp := send(t, v, "", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`, "Authorization", "Bearer ada.analyst")
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s", why, resp.Status)
		}
	}
}

func TestChargesAreAskedForUnderTheKeyThatSignedIn(t *testing.T) {
	f := newFakes(t)
	s := f.services()
	s.Asker = underKey{f, t}
	v, err := New(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if resp := send(t, v, "analyst", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// underKey is an Asker that looks under which key it is asked.
type underKey struct {
	*fakes
	t *testing.T
}

func (u underKey) Ask(ctx context.Context, who dp.Consumer, q dp.Query, key string) (answer.Answer, error) {
	if got := answer.CredentialOf(ctx); got != "key_"+who.Name {
		u.t.Errorf("asked under %q", got)
	}
	return u.fakes.Ask(ctx, who, q, key)
}

func TestAnswerIsKeptFromWhoIsNotLetInAnyMore(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.ask = func(dp.Query) (a answer.Answer, err error) {
		f.withSubject("analyst", "", true)
		a.Release = testRelease()
		return a, nil
	}
	refused(t, send(t, v, "analyst", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`), 401, "unauthenticated")
}
