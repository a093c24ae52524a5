package api

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// auditor is the log as the tests see it.
type auditor struct {
	mu      sync.Mutex
	noted   []dp.AuditEvent
	filters []dp.AuditFilter
	lines   []dp.AuditLine
	cut     bool // exports end before they are whole
}

func (a *auditor) Note(e dp.AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noted = append(a.noted, e)
}

func (a *auditor) Lines(_ context.Context, f dp.AuditFilter, p Page) ([]dp.AuditLine, string, uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.filters = append(a.filters, f)
	return a.lines, "after-" + p.Cursor, 42, nil
}

func (a *auditor) Checkpoint(context.Context) (dp.AuditCheckpoint, error) {
	return dp.AuditCheckpoint{Log: "discreet/1f", Size: 42, Root: [32]byte{1}, Note: []byte("discreet/1f\n42\nAQ==\n\n— discreet/1f AA==\n"), Key: "discreet/1f+00+AA=="}, nil
}

func (a *auditor) Proof(_ context.Context, index, size uint64) (dp.AuditProof, [32]byte, error) {
	if index > 41 {
		return dp.AuditProof{}, [32]byte{}, notFound()
	}
	return dp.AuditProof{Index: index, Size: max(size, 42), Entry: []byte{1, 2}, Hashes: [][32]byte{{3}}}, [32]byte{4}, nil
}

func (a *auditor) Export(context.Context) (AuditExport, error) {
	return AuditExport{Size: 42, Write: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("x", 100_000))
		if err == nil && a.cut {
			err = errors.New("the disk is gone")
		}
		return err
	}}, nil
}

func (a *auditor) Consistency(_ context.Context, from, to uint64) ([][32]byte, uint64, error) {
	return [][32]byte{{5}}, max(to, 42), nil
}

// of gives the events that were noted of a kind.
func (a *auditor) of(kinds ...dp.AuditKind) (list []dp.AuditEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.noted {
		if slices.Contains(kinds, e.Kind) {
			list = append(list, e)
		}
	}
	return list
}

func TestRefusalsAreNotedAndNeverWhatWasSent(t *testing.T) {
	f := newFakes(t)
	f.ask = func(dp.Query) (answer.Answer, error) {
		return answer.Answer{}, &dp.Error{Code: dp.CodeBudgetExhausted, Message: "Nothing is left."}
	}
	v := newTestServer(t, f)
	send(t, v, "analyst", "POST", "/v1/queries", `{"dataset": "transactions", "metrics": ["customers"], "purpose": "reporting"}`)
	send(t, v, "analyst", "POST", "/v1/queries", `{"dataset": "transactions", "metrics": 4711}`)
	send(t, v, "analyst", "POST", "/v1/queries", `{"dataset": "Mrs. Miller 4711`)
	send(t, v, "product", "GET", "/v1/audit", "")
	send(t, v, "officer", "GET", "/v1/datasets/none", "")
	send(t, v, "analyst", "GET", "/v1/releases/rel_none", "")
	send(t, v, "analyst", "GET", "/v1/me", "", "Accept", "text/csv")
	send(t, v, "", "GET", "/v1/me", "")
	read[wire.Me](t, send(t, v, "analyst", "GET", "/v1/me", ""), 200)
	want := []dp.AuditEvent{
		{Consumer: "analyst", Operation: "ask", Code: dp.CodeBudgetExhausted, Dataset: "transactions"},
		{Consumer: "analyst", Operation: "ask", Code: dp.CodeInvalidQuery},
		{Consumer: "analyst", Operation: "ask", Code: dp.CodeInvalidQuery},
		{Consumer: "product", Operation: "list-audit", Code: dp.CodeForbidden},
		{Consumer: "officer", Operation: "get-dataset", Code: dp.CodeNotFound, Dataset: "none"}, // which the ledger leaves out
		{Consumer: "analyst", Operation: "get-release", Code: dp.CodeNotFound},
		{Consumer: "analyst", Operation: "get-me", Code: dp.CodeNotAcceptable},
	}
	for i := range want {
		want[i].Kind = dp.AuditRefusal
	}
	if got := f.audit.of(dp.AuditRefusal); !slices.Equal(got, want) {
		t.Errorf("noted %+v", got)
	}
}

func TestSignInsAreNotedOnceInAWhile(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	for range 3 {
		send(t, v, "analyst", "GET", "/v1/me", "")
		send(t, v, "", "GET", "/v1/me", "")
	}
	send(t, v, "product", "GET", "/v1/me", "")
	want := []dp.AuditEvent{
		{Kind: dp.AuditSignIn, Consumer: "analyst", Key: "key_analyst"},
		{Kind: dp.AuditFailedSignIn, Code: "malformed"}, {Kind: dp.AuditFailedSignIn, Code: "malformed"}, {Kind: dp.AuditFailedSignIn, Code: "malformed"},
		{Kind: dp.AuditSignIn, Consumer: "product", Key: "key_product"},
	}
	if got := f.audit.of(dp.AuditSignIn, dp.AuditFailedSignIn); !slices.Equal(got, want) {
		t.Errorf("noted %+v", got)
	}
	if got := f.audit.of(dp.AuditRefusal); len(got) != 0 {
		t.Errorf("nobody was refused as %+v", got)
	}
}

func TestReadingsAreNotedByEveryWayThatLeadsToFigures(t *testing.T) {
	f := newFakes(t)
	f.keep(func() dp.Release { r := testRelease(); r.ID = "rel_2"; return r }(), "analyst")
	f.reports = []dp.Report{testReport("analyst", "rep_1", 1)}
	f.reports[0].Runs[0].Parts[0].Release = "rel_2"
	v := newTestServer(t, f)
	noted := func(want ...string) {
		t.Helper()
		var got []string
		for _, e := range f.audit.of(dp.AuditReading) {
			got = append(got, e.Consumer+" "+e.Operation+" "+e.Release)
		}
		f.audit.noted = nil
		if !slices.Equal(got, want) {
			t.Errorf("noted %q, want %q", got, want)
		}
	}
	body := func(resp *http.Response) {
		t.Helper()
		if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.Status, err)
		}
	}
	body(send(t, v, "analyst", "GET", "/v1/releases/rel_1", ""))
	body(send(t, v, "analyst", "GET", "/v1/releases/rel_1", "")) // from what is kept
	body(send(t, v, "analyst", "GET", "/v1/releases/rel_1?format=csv", ""))
	noted("analyst get-release rel_1", "analyst get-release rel_1", "analyst get-release rel_1")
	send(t, v, "analyst", "GET", "/v1/releases/rel_1", "", "If-None-Match", `"rel_1.json"`)
	body(send(t, v, "analyst", "GET", "/v1/releases", ""))
	body(send(t, v, "analyst", "GET", "/v1/reports/rep_1", "", "Accept", "application/json"))
	noted() // none of these tells a figure
	body(send(t, v, "analyst", "GET", "/v1/reports/rep_1", "", "Accept", "text/csv"))
	noted("analyst get-report rel_2")
	body(send(t, v, "analyst", "POST", "/v1/compare", `{"from": {"release": "rel_1"}, "to": {"release": "rel_2"}}`))
	noted("analyst compare rel_1", "analyst compare rel_2")
	question := `{"dataset": "transactions", "metrics": ["customers"], "purpose": "reporting"}`
	body(send(t, v, "analyst", "POST", "/v1/queries", question))
	noted() // it has a charge of its own
	f.ask = func(dp.Query) (answer.Answer, error) { return answer.Answer{Release: testRelease(), Reused: true}, nil }
	body(send(t, v, "analyst", "POST", "/v1/queries", question))
	noted("analyst ask rel_1")
}

func TestViewsAndLoadsAreNoted(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	for range 2 {
		send(t, v, "officer", "GET", "/v1/datasets/transactions/accounts", "")
		send(t, v, "auditor", "GET", "/v1/audit", "")
	}
	send(t, v, "custodian", "POST", "/v1/datasets/transactions/rows", "customer_id\n", "Content-Type", "text/csv")
	want := []dp.AuditEvent{
		{Kind: dp.AuditView, Consumer: "officer", Operation: "list-accounts", Dataset: "transactions"},
		{Kind: dp.AuditView, Consumer: "auditor", Operation: "list-audit"},
		{Kind: dp.AuditLoad, Consumer: "custodian", Operation: "load-rows", Dataset: "transactions"},
	}
	if got := f.audit.of(dp.AuditView, dp.AuditLoad); !slices.Equal(got, want) {
		t.Errorf("noted %+v", got)
	}
}

func TestAuditLogIsListed(t *testing.T) {
	f := newFakes(t)
	f.audit.lines = []dp.AuditLine{
		{Index: 3, At: day(3), Kind: "charge", Actor: "analyst", Datasets: []string{"transactions"}, Objects: []dp.AuditObject{{Kind: "charge", Name: "chg_1"}},
			Charges: []dp.AuditCharge{{Charge: testRelease().Charge, Purpose: "reporting"}}, Hash: [32]byte{7}, Bytes: 100},
		{Index: 2, At: day(2), Kind: "events", Lost: 4, Events: []dp.AuditEvent{{Kind: dp.AuditReading, Consumer: "analyst", Release: "rel_1", Count: 3}}},
	}
	v := newTestServer(t, f)
	got := read[wire.AuditList](t, send(t, v, "auditor", "GET", "/v1/audit?kind=charge&consumer=analyst&dataset=transactions&from=2026-01-01&to=2026-01-31&order=oldest&cursor=9", ""), 200)
	if got.Next != "after-9" || got.Size != 42 || len(got.Items) != 2 || got.Items[0].Charges[0].Epsilon != "0.3" || got.Items[0].LeafHash != base64.StdEncoding.EncodeToString(append([]byte{7}, make([]byte, 31)...)) ||
		got.Items[1].Events[0].Count != 3 || got.Items[1].Lost != 4 {
		t.Errorf("got %+v", got)
	}
	want := dp.AuditFilter{Kind: "charge", Consumer: "analyst", Dataset: "transactions", OldestFirst: true,
		From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}
	if len(f.audit.filters) != 1 || !reflect.DeepEqual(f.audit.filters[0], want) {
		t.Errorf("asked for %+v", f.audit.filters)
	}
	p := refused(t, send(t, v, "officer", "GET", "/v1/audit?from=4711", ""), 400, "invalid-input")
	if len(p.Errors) != 1 || p.Errors[0].Location != "query.from" || strings.Contains(p.Detail+p.Errors[0].Message, "4711") {
		t.Errorf("refused with %+v", p)
	}
	refused(t, send(t, v, "officer", "GET", "/v1/audit?order=upwards", ""), 400, "invalid-input")
}

func TestCheckpointAndProofsAreServed(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	want, err := f.audit.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := read[wire.AuditCheckpoint](t, send(t, v, "auditor", "GET", "/v1/audit/checkpoint", ""), 200)
	if c.Note != string(want.Note) || c.Size != 42 || c.Key != want.Key || c.Log != want.Log || c.Root != hashText(want.Root) {
		t.Errorf("got %+v", c)
	}
	resp := send(t, v, "auditor", "GET", "/v1/audit/checkpoint", "", "Accept", "text/plain")
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != string(want.Note) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("as text %q, %v", text, err)
	}
	p := read[wire.AuditProof](t, send(t, v, "officer", "GET", "/v1/audit/proof/7?size=9", ""), 200)
	if p.Index != 7 || p.Size != 42 || string(p.Entry) != "\x01\x02" || p.LeafHash != hashText([32]byte{4}) || p.Hashes[0] != hashText([32]byte{3}) {
		t.Errorf("got %+v", p)
	}
	refused(t, send(t, v, "officer", "GET", "/v1/audit/proof/42", ""), 404, "not-found")
	refused(t, send(t, v, "officer", "GET", "/v1/audit/proof/x", ""), 404, "not-found")
	s := read[wire.AuditConsistency](t, send(t, v, "officer", "GET", "/v1/audit/consistency?from=7", ""), 200)
	if s.From != 7 || s.To != 42 || s.Hashes[0] != hashText([32]byte{5}) {
		t.Errorf("got %+v", s)
	}
	refused(t, send(t, v, "officer", "GET", "/v1/audit/consistency", ""), 400, "invalid-input")
	refused(t, send(t, v, "officer", "GET", "/v1/audit/consistency?from=0", ""), 400, "invalid-input")
}

func TestExportIsAnAttachmentThatIsWrittenDown(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	head := send(t, v, "auditor", http.MethodHead, "/v1/audit/export", "")
	if head.StatusCode != http.StatusOK || head.Header.Get("Content-Type") != tarType || len(f.audit.of(dp.AuditExport)) != 0 {
		t.Errorf("HEAD answers %d with %v, and writes down %v", head.StatusCode, head.Header, f.audit.of(dp.AuditExport))
	}
	for range mostExports + 2 { // each lets the next one begin
		resp := send(t, v, "auditor", http.MethodGet, "/v1/audit/export", "")
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || len(text) != 100_000 || resp.Header.Get("Content-Type") != tarType || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment;") {
			t.Fatalf("%d, %d bytes, %v, %v", resp.StatusCode, len(text), resp.Header, err)
		}
	}
	want := dp.AuditEvent{Kind: dp.AuditExport, Consumer: "auditor", Operation: "export-audit", Object: "42"}
	if got := f.audit.of(dp.AuditExport); len(got) != mostExports+2 || got[0] != want {
		t.Errorf("written down is %+v", got)
	}
	resp := send(t, v, "auditor", http.MethodGet, "/v1/audit/export", "", "Accept", "application/json")
	refused(t, resp, http.StatusNotAcceptable, "not-acceptable")

	for range mostExports {
		v.exports <- struct{}{}
	}
	refused(t, send(t, v, "auditor", http.MethodGet, "/v1/audit/export", ""), http.StatusConflict, "conflict")
}
