package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

const erasuresPath = "/v1/datasets/transactions/erasures"

func sendUnits(t testing.TB, v *Server, query, body, contentType string, headers ...string) *http.Response {
	t.Helper()
	return send(t, v, "custodian", "POST", erasuresPath+query, body, append([]string{"Content-Type", contentType}, headers...)...)
}

func TestCustomersToEraseAreNamedOneByOneOrInFiles(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	for _, c := range []struct {
		contentType, body string
		want              erased
	}{
		{"application/json", `{"unit": "c-<1>\n\"2\""}`, erased{EraseSpec{By: "custodian", Format: NDJSON}, `{"customer_id":"c-\u003c1\u003e\n\"2\""}`}},
		{"text/plain; charset=utf-8", "a\nb\n", erased{EraseSpec{By: "custodian", Format: Lines}, "a\nb\n"}},
		{"text/csv", "customer_id\na\n", erased{EraseSpec{By: "custodian", Format: CSV}, "customer_id\na\n"}},
		{"application/x-ndjson", "{}", erased{EraseSpec{By: "custodian", Format: NDJSON}, "{}"}},
	} {
		e := read[wire.Erasure](t, sendUnits(t, v, "", c.body, c.contentType), 202)
		f.mu.Lock()
		got := f.erased[len(f.erased)-1]
		f.mu.Unlock()
		if got != c.want || e.ID == "" || e.By != "custodian" || e.Dataset != "transactions" || e.Ended != nil {
			t.Errorf("%s: %+v, %+v", c.contentType, got, e)
		}
	}
	read[wire.Erasure](t, sendUnits(t, v, "", "a\n", "text/plain", "Idempotency-Key", "k"), 202)
	if got := f.erased[len(f.erased)-1]; got.spec.Repeat != "k" {
		t.Errorf("erased %+v", got)
	}
	if f.runs.Load() != 0 {
		t.Error("a run began that nobody asked for")
	}
	read[wire.Erasure](t, sendUnits(t, v, "?now=true", "a", "text/plain"), 202)
	if resp := send(t, v, "custodian", "POST", "/v1/erasure-runs", ""); resp.StatusCode != 202 || f.runs.Load() != 2 {
		t.Errorf("%d, %d runs", resp.StatusCode, f.runs.Load())
	}
	for _, who := range []dp.Role{dp.Custodian, dp.Officer, dp.Auditor} {
		list := read[wire.ErasureList](t, send(t, v, string(who), "GET", erasuresPath+"?limit=2", ""), 200)
		if len(list.Items) != 2 || list.Items[0].ID != "era_6" {
			t.Errorf("%s: %+v", who, list)
		}
	}
}

func TestErasuresThatCannotBeTakenAreRefused(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.MaxUpload, o.MaxBody = 50_000, 5_000 })
	refused(t, sendUnits(t, v, "", "", "text/plain"), 400, "invalid-input")
	refused(t, sendUnits(t, v, "", strings.Repeat("a\n", 40_000), "text/plain"), 413, "too-large")
	refused(t, sendUnits(t, v, "", `{"unit": "`+strings.Repeat("a", 6_000)+`"}`, "application/json"), 413, "too-large")
	refused(t, sendUnits(t, v, "", "PAR1", "application/vnd.apache.parquet"), 415, "unsupported-media-type")
	refused(t, sendUnits(t, v, "", "a\n", "text/plain; charset=iso-8859-1"), 415, "unsupported-media-type")
	refused(t, sendUnits(t, v, "", "a\n", "text/plain", "Content-Digest", digestOf("b\n")), 400, "invalid-input")
	for _, body := range []string{"{", `{"unit": ""}`, `{"unit": 7}`, `{"unit": null}`, `{"customer": "SECRET"}`, `{"unit": "SECRET", "unit": "b"}`, `{"unit": "SECRET", "other": 1}`, `["SECRET"]`, `{"unit": "SECRET"} {}`, `"SECRET"`} {
		resp := sendUnits(t, v, "", body, "application/json")
		if text := bodyOf(t, resp); resp.StatusCode != 400 || !strings.Contains(text, "invalid-input") || strings.Contains(text, "SECRET") {
			t.Errorf("%s: %d %s", body, resp.StatusCode, text)
		}
	}
	refused(t, send(t, v, "custodian", "POST", "/v1/datasets/nothing/erasures", "a", "Content-Type", "text/plain"), 404, "not-found")
	for _, who := range []dp.Role{dp.Product, dp.Analyst, dp.Officer, dp.Auditor} {
		refused(t, send(t, v, string(who), "POST", erasuresPath, "a", "Content-Type", "text/plain"), 403, "forbidden")
		refused(t, send(t, v, string(who), "POST", "/v1/erasure-runs", ""), 403, "forbidden")
	}
	for _, who := range []dp.Role{dp.Product, dp.Analyst} {
		refused(t, send(t, v, string(who), "GET", erasuresPath, ""), 403, "forbidden")
	}
	if len(f.erased) > 0 || f.runs.Load() > 0 {
		t.Errorf("recorded %+v", f.erased)
	}
}
