package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// listen serves on loopback until stop.
func listen(t testing.TB, v *Server) (base string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- v.Serve(l) }()
	return "http://" + l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := v.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func get(t testing.TB, url, as string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer dk_"+as)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func countBytes(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// raw sends bytes as they are, closes the sending side, and returns what comes back until the server closes.
func raw(t testing.TB, base string, parts ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			break // refused before all was sent
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// rawProblem parses the first response of a raw answer.
func rawProblem(t testing.TB, answer string, status int, name string) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, answer)
	}
	refused(t, resp, status, name)
	return resp
}

const simpleQuery = `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`

// Without Immutable, all six keys and names became those of the last request.
func TestStringsThatAServiceKeepsDoNotChangeWithLaterRequests(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	client := &http.Client{}
	for i := range 6 {
		body := fmt.Sprintf(`{"dataset":"dataset-%d","metrics":["m%d"],"purpose":"p%d"}`, i, i, i)
		req, _ := http.NewRequest("POST", base+"/v1/queries", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer dk_analyst")
		req.Header.Set("Idempotency-Key", fmt.Sprintf("key-%d", i))
		resp, err := client.Do(req) // one connection, whose buffers are used again
		if err != nil {
			t.Fatal(err)
		}
		_, _ = countBytes(resp.Body)
		resp.Body.Close()
		req, _ = http.NewRequest("DELETE", fmt.Sprintf("%s/v1/consumers/consumer-%d/keys/key_%d", base, i, i), nil)
		req.Header.Set("Authorization", "Bearer dk_officer")
		if resp, err = client.Do(req); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	for i := range 6 {
		a, c := f.asked[i], f.changes[i]
		if a.key != fmt.Sprintf("key-%d", i) || a.query.Dataset != fmt.Sprintf("dataset-%d", i) || a.query.Metrics[0] != fmt.Sprintf("m%d", i) || a.query.Purpose != fmt.Sprintf("p%d", i) {
			t.Errorf("%d: kept %+v", i, a)
		}
		if c.on != fmt.Sprintf("consumer-%d/key_%d", i, i) {
			t.Errorf("%d: kept %+v", i, c)
		}
	}
}

type unwritable struct{ What string }

func (unwritable) MarshalJSON() ([]byte, error) { panic("customer-4711") }

type failing struct{ What string }

func (failing) MarshalJSON() ([]byte, error) { return nil, fmt.Errorf("customer-4711") }

func TestPanicsBecomeProblemDocuments(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	v.rules["panic"], v.rules["unwritable"], v.rules["failing"] = rule{open: true}, rule{open: true}, rule{open: true}
	register(v, huma.Operation{OperationID: "panic", Method: "GET", Path: "/panic"},
		func(context.Context, *struct{}) (*statusOutput, error) { panic("customer-4711") })
	register(v, huma.Operation{OperationID: "unwritable", Method: "GET", Path: "/unwritable"},
		func(context.Context, *struct{}) (*struct{ Body unwritable }, error) {
			return &struct{ Body unwritable }{}, nil
		})
	register(v, huma.Operation{OperationID: "failing", Method: "GET", Path: "/failing"},
		func(context.Context, *struct{}) (*struct{ Body failing }, error) {
			return &struct{ Body failing }{}, nil
		})
	base, stop := listen(t, v)
	defer stop()
	for _, path := range []string{"/panic", "/unwritable", "/failing"} {
		refused(t, get(t, base+path, ""), 500, "internal")
	}
	if resp := get(t, base+"/livez", ""); resp.StatusCode != 200 {
		t.Error("the server did not live on")
	}
	if log := f.logged(); f.loggedDigits("4711") || strings.Count(log, "panic with string") != 2 {
		t.Errorf("log: %s", log)
	}
}

func TestEveryErrorOfTheHTTPLayerIsAProblemDocument(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.MaxBody, o.MaxHeader, o.ReadTimeout = 2000, 4096, 300*time.Millisecond })
	base, stop := listen(t, v)
	defer stop()
	key := "Authorization: Bearer dk_analyst\r\nHost: x\r\n"
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) }
	for name, c := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"no route":             {"GET /v1/secret-4711 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"},
		"no route, slash":      {"GET /v1/me/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"},
		"no route, case":       {"GET /V1/me HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"},
		"method of no route":   {"PUT /v1/queries HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method-not-allowed"},
		"no method":            {"SECRET4711 /v1/me HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method-not-allowed"},
		"not HTTP":             {"secret-4711\r\n\r\n", 400, "invalid-input"},
		"bad escape":           {"GET /v1/datasets/%zz4711 HTTP/1.1\r\n" + key + "\r\n", 404, "not-found"},
		"control character":    {"GET /v1/releases?dataset=\x014711 HTTP/1.1\r\n" + key + "\r\n", 400, "invalid-input"},
		"headers too large":    {"GET /v1/me HTTP/1.1\r\nX-Secret: " + strings.Repeat("4711", 2000) + "\r\n\r\n", 431, "header-too-large"},
		"body too large":       {"POST /v1/queries HTTP/1.1\r\n" + key + length(5000) + strings.Repeat(" ", 5000), 413, "too-large"},
		"body too large, sent": {"POST /v1/queries HTTP/1.1\r\n" + key + "Transfer-Encoding: chunked\r\n\r\n1388\r\n" + strings.Repeat(" ", 5000) + "\r\n0\r\n\r\n", 413, "too-large"},
		"media type":           {"POST /v1/queries HTTP/1.1\r\n" + key + "Content-Type: text/secret-4711\r\n" + length(2) + "{}", 415, "unsupported-media-type"},
		"compressed":           {"POST /v1/queries HTTP/1.1\r\n" + key + "Content-Encoding: gzip\r\n" + length(2) + "{}", 415, "unsupported-media-type"},
		"no body":              {"POST /v1/queries HTTP/1.1\r\n" + key + "\r\n", 400, "invalid-query"},
		"empty body":           {"POST /v1/queries HTTP/1.1\r\n" + key + length(0), 400, "invalid-query"},
		"not accepted":         {"GET /v1/me HTTP/1.1\r\n" + key + "Accept: text/secret-4711\r\n\r\n", 406, "not-acceptable"},
		"no such name":         {"GET /v1/datasets/Secret%2F4711 HTTP/1.1\r\n" + key + "\r\n", 404, "not-found"},
		"no such id":           {"GET /v1/releases/rel%204711 HTTP/1.1\r\n" + key + "\r\n", 404, "not-found"},
		"two lengths":          {"POST /v1/queries HTTP/1.1\r\n" + key + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "invalid-input"},
	} {
		answer := raw(t, base, c.request)
		t.Log(name)
		rawProblem(t, answer, c.status, c.code)
		if strings.Contains(answer, "4711") {
			t.Errorf("%s: the answer repeats the request: %s", name, answer)
		}
	}
	// A request that stops in the middle.
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/queries HTTP/1.1\r\n%sContent-Length: 100\r\n\r\n{", key)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, resp, 408, "request-timeout")
	if log := f.logged(); f.loggedDigits("4711") {
		t.Errorf("the log repeats a request: %s", log)
	}
}

// fasthttp does not read on after a refusal: the rest of the body would be the next request of the connection.
func TestRestOfARefusedBodyIsNotTheNextRequest(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	smuggled := "DELETE /v1/consumers/product/keys/key_1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dk_officer\r\n\r\n"
	for name, size := range map[string]int{"short": 0, "long": 600_000} {
		body := smuggled + strings.Repeat(" ", size)
		for _, head := range []string{
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body),
			fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body),
		} {
			// 8 KiB are read ahead: the smuggled request stands behind them.
			for _, path := range []string{"/v1/queries", "/v1/nowhere", "/v1/datasets/transactions/rows"} {
				answer := raw(t, base, "POST "+path+" HTTP/1.1\r\nHost: x\r\n", head)
				if n := strings.Count(answer, "HTTP/1.1 "); n > 1 {
					t.Errorf("%s body to %s: %d answers to one request", name, path, n)
				}
			}
		}
	}
	if len(f.changes) != 0 {
		t.Errorf("a body was taken for a request: %+v", f.changes)
	}
	// A connection whose body was read to its end is used again.
	two := "GET /v1/nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	if answer := raw(t, base, two); strings.Count(answer, "HTTP/1.1 ") != 2 || !strings.Contains(answer, `{"status":"ok"}`) {
		t.Errorf("got %s", answer)
	}
}

func TestForwardedHeadersAreNotBelieved(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	if v.app.Config().ProxyHeader != "" || !v.app.Config().EnableTrustedProxyCheck || len(v.app.Config().TrustedProxies) != 0 || v.app.Config().Prefork {
		t.Errorf("got %+v", v.app.Config())
	}
}

func TestNoFileIsServedFromDisk(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	wd, _ := os.Getwd()
	for _, path := range []string{"/server.go", "/api/server.go", "/docs/../server.go", "/%2e%2e/go.mod", wd + "/server.go", "/pages/docs.js"} {
		refused(t, send(t, v, "", "GET", path, ""), 404, "not-found")
	}
}

func TestEveryGetAnswersHead(t *testing.T) {
	f := newFakes(t)
	f.keep(largeRelease(5000), "analyst")
	f.reports = []dp.Report{testReport("analyst", "rel_1", 1)} // by the name that callOf gives
	f.requests = []dp.BudgetRequest{{ID: "rel_1", Consumer: "analyst", Dataset: "transactions"}}
	f.proposals = []dp.Proposal{{ID: "rel_1", By: "officer", Change: dp.ProposedChange{Key: &dp.Key{ID: "key_1", Consumer: "officer"}}}}
	v := newTestServer(t, f)
	paths := []string{"/", "/docs", "/openapi.json", "/v1/releases/rel_large"}
	for id, op := range operations(v) {
		if op.Method == "GET" {
			paths = append(paths, callOf(op))
			_ = id
		}
	}
	base, stop := listen(t, v)
	defer stop()
	for _, path := range paths {
		as := "officer"
		switch {
		case strings.HasPrefix(path, "/v1/releases"), strings.HasPrefix(path, "/v1/reports"):
			as = "analyst"
		case strings.HasSuffix(path, "/loads"):
			as = "custodian"
		}
		req, _ := http.NewRequest("HEAD", base+path, nil)
		req.Header.Set("Authorization", "Bearer dk_"+as)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := countBytes(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || n != 0 {
			t.Errorf("HEAD %s as %s: %d with %d bytes", path, as, resp.StatusCode, n)
		}
	}
}

func TestPathParametersAreDecodedOnce(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for _, path := range []string{"/v1/datasets/transactions", "/v1/datasets/%74ransactions"} {
		if got := read[wire.Dataset](t, send(t, v, "analyst", "GET", path, ""), 200); got.Name != "transactions" {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	refused(t, send(t, v, "analyst", "GET", "/v1/datasets/%2574ransactions", ""), 404, "not-found")
}

func TestResponsesHaveSecureHeaders(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for _, path := range []string{"/v1/me", "/v1/nowhere", "/", "/docs", "/openapi.json", "/livez"} {
		h := send(t, v, "analyst", "GET", path, "").Header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" ||
			!strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Server") != "" {
			t.Errorf("%s: %v", path, h)
		}
		if strings.HasPrefix(path, "/v1") && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be stored: %v", path, h)
		}
	}
}

func TestRequestsBeyondTheLimitAreTurnedAway(t *testing.T) {
	f := newFakes(t)
	entered, leave := make(chan bool), make(chan bool)
	f.ask = func(dp.Query) (answer.Answer, error) {
		entered <- true
		<-leave
		return answer.Answer{Release: testRelease()}, nil
	}
	base, stop := listen(t, newTestServer(t, f, func(o *Options) { o.MaxRequests = 1 }))
	defer stop()
	done := make(chan int)
	go func() {
		req, _ := http.NewRequest("POST", base+"/v1/queries", strings.NewReader(simpleQuery))
		req.Header.Set("Authorization", "Bearer dk_analyst")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- 0
			return
		}
		resp.Body.Close()
		done <- resp.StatusCode
	}()
	<-entered
	resp := get(t, base+"/v1/me", "analyst")
	refused(t, resp, 503, "unavailable")
	if resp.Header.Get("Retry-After") != "1" {
		t.Errorf("headers %v", resp.Header)
	}
	leave <- true
	if status := <-done; status != 200 {
		t.Errorf("the request under way got %d", status)
	}
	if resp := get(t, base+"/v1/me", "analyst"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

func TestServicesAreToldWhenARequestTakesTooLong(t *testing.T) {
	f := newFakes(t)
	s := f.services()
	s.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	v, err := New(s, Options{RequestTimeout: 20 * time.Millisecond, Log: newTestServer(t, f).options.Log})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, send(t, v, "", "GET", "/readyz", ""), 503, "unavailable")
}

func TestJSONBodyArrivesInWhateverPieces(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	head := "POST /v1/queries HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dk_analyst\r\nConnection: close\r\n"
	long := strings.Replace(simpleQuery, `{`, `{`+strings.Repeat(" ", 50_000), 1)
	for _, body := range []string{simpleQuery, long} {
		for _, request := range []string{
			fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body),
			fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, 10, body[:10], len(body)-10, body[10:]),
		} {
			if answer := raw(t, base, request); !strings.HasPrefix(answer, "HTTP/1.1 200") {
				t.Errorf("got %.200s", answer)
			}
		}
	}
	if len(f.asked) != 4 {
		t.Errorf("%d were asked", len(f.asked))
	}
	// A body that ends too early is refused, however cleanly it ends.
	answer := raw(t, base, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(long), long[:40_000]))
	if strings.Contains(answer, "HTTP/1.1 200") || len(f.asked) != 4 {
		t.Errorf("a cut body was asked: %.200s", answer)
	}
}

func TestShutdownAtAnyMomentEndsServing(t *testing.T) {
	f := newFakes(t)
	for i := range 8 {
		v := newTestServer(t, f)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- v.Serve(l) }()
		time.Sleep(time.Duration(i) * 10 * time.Microsecond)
		if err := v.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("still serving, after %d rounds", i)
		}
	}
}

func TestAllServicesAreNeeded(t *testing.T) {
	if _, err := New(Services{}, Options{}); err == nil {
		t.Error("a server without services was made")
	}
}

func TestStrictJSONKeepsToOneReading(t *testing.T) {
	for _, body := range []string{`{"a":1,"a":2}`, `{"x":[{"b":{}},{"b":1,"c":[],"b":2}]}`, `[[{"k":"k","k":"k"}]]`, `{"a":"a","\u0061":1}`} {
		if checkKeys([]byte(body)) == nil {
			t.Errorf("%s passes", body)
		}
	}
	for _, body := range []string{`{"a":"a","b":"a"}`, `[{"a":1},{"a":1}]`, `{"a":{"a":{"a":[1,"a","a"]}}}`, `"a"`, `[]`, `{"a":[{"b":1}],"b":{"a":1}}`} {
		if err := checkKeys([]byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := unmarshalError("{\n x"); !strings.Contains(err.Error(), "byte 4 (line 2, column 2)") {
		t.Error(err)
	}
}

func unmarshalError(text string) error {
	var v any
	return unmarshal([]byte(text), &v)
}
