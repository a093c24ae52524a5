package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
)

const rowsPath = "/v1/datasets/transactions/rows"

func sendRows(t testing.TB, v *Server, query, body string, headers ...string) *http.Response {
	t.Helper()
	return send(t, v, "custodian", "POST", rowsPath+query, body, append([]string{"Content-Type", "text/csv"}, headers...)...)
}

func digestOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func compress(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// csvOf is text that does not fit into what is read ahead.
func csvOf(size int) string { return "a,b\n" + strings.Repeat("1,2\n", size/4) }

func TestUploadIsStreamedToTheLoader(t *testing.T) {
	f := newFakes(t)
	f.report.Rejected, f.report.Rejects = 2, []Reject{{Line: 3, Reason: "amount is not a number"}}
	v := newTestServer(t, f)
	body := csvOf(100_000)
	got := read[wire.LoadReport](t, sendRows(t, v, "?from=2026-01-01&to=2026-01-31&name=january&dry_run=true", body, "Content-Digest", digestOf(body)), 200)
	l := f.lastLoad(t)
	if l.body != body || l.spec != (LoadSpec{By: "custodian", Name: "january", Format: CSV, From: "2026-01-01", To: "2026-01-31", DryRun: true}) {
		t.Errorf("loaded %+v with %d bytes", l.spec, len(l.body))
	}
	if got.Accepted != 2 || got.Rejected != 2 || got.Rejects[0].Line != 3 || got.Load.ID != 12 || got.Load.Blocks[0] != "2026-01" || !got.DryRun {
		t.Errorf("got %+v", got)
	}
	sendRows(t, v, "", "{}\n", "Content-Type", "application/x-ndjson; charset=utf-8", "Idempotency-Key", "k-1")
	if l := f.lastLoad(t); l.spec.Format != NDJSON || l.spec.Name != "k-1" || l.body != "{}\n" {
		t.Errorf("loaded %+v", l)
	}
	sendRows(t, v, "", "PAR1", "Content-Type", "application/vnd.apache.parquet")
	if l := f.lastLoad(t); l.spec.Format != Parquet || l.body != "PAR1" {
		t.Errorf("loaded %+v", l)
	}
}

func TestUploadsThatCannotBeTakenAreRefusedBeforeTheyAreRead(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.MaxUpload = 50_000 })
	refused(t, sendRows(t, v, "", csvOf(60_000)), 413, "too-large")
	refused(t, sendRows(t, v, "", ""), 400, "invalid-input")
	refused(t, sendRows(t, v, "", "a", "Content-Type", "application/json"), 415, "unsupported-media-type")
	refused(t, sendRows(t, v, "", "a", "Content-Encoding", "br"), 400, "invalid-input")
	refused(t, sendRows(t, v, "", "a", "Content-Encoding", "gzip"), 400, "invalid-input")
	refused(t, sendRows(t, v, "", "a", "Content-Digest", "md5=:AAAA:"), 400, "invalid-input")
	refused(t, sendRows(t, v, "?from=2026-01-01", "a"), 400, "invalid-input")
	refused(t, sendRows(t, v, "?dry_run=perhaps", "a"), 400, "invalid-input")
	refused(t, send(t, v, "custodian", "POST", "/v1/datasets/nothing/rows", "a", "Content-Type", "text/csv"), 404, "not-found")
	if len(f.loads) != 0 {
		t.Errorf("loaded %+v", f.loads)
	}
}

func TestCompressedUploadIsInflatedUpToTheLimit(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.MaxUpload = 200_000 })
	body := csvOf(150_000)
	z := compress(t, body)
	read[wire.LoadReport](t, sendRows(t, v, "", z, "Content-Encoding", "gzip", "Content-Digest", digestOf(z)), 200)
	if l := f.lastLoad(t); l.body != body {
		t.Errorf("loaded %d bytes", len(l.body))
	}
	refused(t, sendRows(t, v, "", compress(t, csvOf(300_000)), "Content-Encoding", "gzip"), 413, "too-large")
	half := z[:len(z)/2]
	refused(t, sendRows(t, v, "", half, "Content-Encoding", "gzip"), 400, "invalid-input")
	flipped := []byte(z)
	flipped[len(flipped)-5] ^= 1 // of the checksum
	refused(t, sendRows(t, v, "", string(flipped), "Content-Encoding", "gzip"), 400, "invalid-input")
	if l := f.lastLoad(t); l.readErr == nil {
		t.Error("a broken archive was read to its end")
	}
}

func TestUploadThatIsNotTheDigestedOneIsRefused(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	refused(t, sendRows(t, v, "", csvOf(20_000), "Content-Digest", digestOf(csvOf(20_004))), 400, "invalid-input")
	if l := f.lastLoad(t); l.verifyErr == nil {
		t.Error("verified")
	}
}

func TestLoaderThatStopsEarlyStillSeesTheEnd(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.read = func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 10); return err }
	refused(t, sendRows(t, v, "", csvOf(50_000)), 400, "invalid-input")
	f.read = func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 50_000); return err }
	if resp := sendRows(t, v, "", csvOf(50_000)[:50_000]); resp.StatusCode != 200 {
		t.Errorf("read to the last byte, but not past it: %d %s", resp.StatusCode, bodyOf(t, resp))
	}
}

// A connection that is cut ends the body as cleanly as its end does.
func TestCutUploadIsNotVerified(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	body := csvOf(100_000)
	head := "POST " + rowsPath + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dk_custodian\r\nContent-Type: text/csv\r\nConnection: close\r\n"
	chunked := head + "Transfer-Encoding: chunked\r\n"
	chunks := func(text string) string {
		var b strings.Builder
		for len(text) > 0 {
			n := min(len(text), 30_000)
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, text[:n])
			text = text[n:]
		}
		return b.String()
	}
	trailer := "Trailer: Content-Digest\r\n"
	for name, c := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"cut behind what is read ahead":  {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body[:90_000]), 400, "invalid-input"},
		"cut within what is read ahead":  {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body[:900]), 400, "invalid-input"},
		"chunked without a digest":       {chunked + "\r\n" + chunks(body) + "0\r\n\r\n", 411, "length-required"},
		"chunked, cut between chunks":    {chunked + trailer + "\r\n" + chunks(body[:60_000]), 400, "invalid-input"},
		"chunked, cut in a chunk":        {chunked + trailer + "\r\n" + chunks(body)[:70_000], 400, "invalid-input"},
		"chunked, last chunk, no digest": {chunked + trailer + "\r\n" + chunks(body[:60_000]) + "0\r\n\r\n", 400, "invalid-input"},
		"chunked, ended by somebody":     {chunked + trailer + "\r\n" + chunks(body[:60_000]) + "0\r\nContent-Digest: " + digestOf(body) + "\r\n\r\n", 400, "invalid-input"},
		"chunked, header, ended early":   {chunked + "Content-Digest: " + digestOf(body) + "\r\n\r\n" + chunks(body[:60_000]) + "0\r\n\r\n", 400, "invalid-input"},
		"chunked with a trailer":         {chunked + trailer + "\r\n" + chunks(body) + "0\r\nContent-Digest: " + digestOf(body) + "\r\n\r\n", 200, ""},
		"chunked with a header":          {chunked + "Content-Digest: " + digestOf(body) + "\r\n\r\n" + chunks(body) + "0\r\n\r\n", 200, ""},
		"whole":                          {fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body), 200, ""},
	} {
		t.Log(name)
		f.mu.Lock()
		f.loads = nil
		f.mu.Unlock()
		answer := raw(t, base, c.request)
		if c.status == 200 {
			if l := f.lastLoad(t); !strings.HasPrefix(answer, "HTTP/1.1 200") || l.verifyErr != nil || l.body != body {
				t.Errorf("got %.300s and %v", answer, l.verifyErr)
			}
			continue
		}
		rawProblem(t, answer, c.status, c.code)
		f.mu.Lock()
		for _, l := range f.loads {
			if l.readErr == nil && l.verifyErr == nil {
				t.Error("a cut upload was verified")
			}
		}
		f.mu.Unlock()
	}
}

func TestUploadMayTakeLongButNotStall(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f, func(o *Options) { o.ReadTimeout, o.UploadIdle = 100*time.Millisecond, 400*time.Millisecond }))
	defer stop()
	body := csvOf(20_000)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer dk_custodian\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n%s", rowsPath, len(body), body[:10_000])
		return c
	}
	slow := dial()
	for at := 10_000; at < len(body); at += 2_500 {
		time.Sleep(150 * time.Millisecond) // longer than a whole request may take otherwise
		_, _ = io.WriteString(slow, body[at:min(at+2_500, len(body))])
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(slow, answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Errorf("a slow upload: %s, %v", answer, err)
	}
	rest, _ := io.ReadAll(dial()) // stalls
	rawProblem(t, string(rest), 408, "request-timeout")
}

func TestLoadsAreListed(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	list := read[wire.LoadList](t, send(t, v, "custodian", "GET", "/v1/datasets/transactions/loads", ""), 200)
	if len(list.Items) != 1 || list.Items[0].Name != "january" || list.Items[0].Committed == nil {
		t.Errorf("got %+v", list)
	}
	refused(t, send(t, v, "custodian", "GET", "/v1/datasets/nothing/loads", ""), 404, "not-found")
}
