package api

import (
	"encoding/csv"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func TestReleaseIsReadInTheFormatThatWasAskedFor(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for _, c := range []struct{ query, accept, contentType, first string }{
		{"", "", "application/json", `{"id":"rel_1"`},
		{"", "*/*", "application/json", `{"id":"rel_1"`},
		{"", "application/json; charset=utf-8", "application/json", `{"id":"rel_1"`},
		{"", "text/csv", "text/csv; charset=utf-8", "merchant_category,customers,customers_low,customers_high,customers_sd\n\"dining, out\",-6,-41,29,17.9\ngrocery,"},
		{"", "application/json;q=0.1, text/csv", "text/csv; charset=utf-8", "merchant_category,"},
		{"", "application/x-ndjson", "application/x-ndjson", `{"key":{"merchant_category":"dining, out"},"values":`},
		{"?format=csv", "application/json", "text/csv; charset=utf-8", "merchant_category,"},
		{"?format=ndjson", "", "application/x-ndjson", `{"key":`},
		{"?format=json", "text/csv", "application/json", `{"id":"rel_1"`},
	} {
		resp := send(t, v, "analyst", "GET", "/v1/releases/rel_1"+c.query, "", "Accept", c.accept)
		text := bodyOf(t, resp)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != c.contentType || !strings.HasPrefix(text, c.first) {
			t.Errorf("%+v: %d %q %s", c, resp.StatusCode, resp.Header.Get("Content-Type"), text)
		}
	}
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1", "", "Accept", "image/png"), 406, "not-acceptable")
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1?format=xml", ""), 400, "invalid-input")
	refused(t, send(t, v, "analyst", "POST", "/v1/queries", "{}", "Accept", "text/csv"), 406, "not-acceptable")
}

func TestReleaseSaysNothingOfWhoElseAsked(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	text := bodyOf(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1", ""))
	if strings.Contains(text, "somebody-else") || strings.Contains(text, `"reused"`) || strings.Contains(text, `"left"`) {
		t.Errorf("got %s", text)
	}
	refused(t, send(t, v, "product", "GET", "/v1/releases/rel_1", ""), 404, "not-found")
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_2", ""), 404, "not-found")
}

func TestReleaseIsNotSentAgainToWhoHasIt(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	first := send(t, v, "analyst", "GET", "/v1/releases/rel_1", "")
	tag := first.Header.Get("ETag")
	if tag == "" || first.Header.Get("Cache-Control") != "private, no-cache" || first.Header.Get("Vary") != "Accept, Authorization" {
		t.Fatalf("headers %v", first.Header)
	}
	for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		resp := send(t, v, "analyst", "GET", "/v1/releases/rel_1", "", "If-None-Match", header)
		if text := bodyOf(t, resp); resp.StatusCode != 304 || text != "" {
			t.Errorf("%s: %d %q", header, resp.StatusCode, text)
		}
	}
	if resp := send(t, v, "analyst", "GET", "/v1/releases/rel_1?format=csv", "", "If-None-Match", tag); resp.StatusCode != 200 {
		t.Errorf("the same tag for another format: %d", resp.StatusCode)
	}
	// Who does not hold it learns nothing from a tag.
	refused(t, send(t, v, "product", "GET", "/v1/releases/rel_1", "", "If-None-Match", tag), 404, "not-found")
}

func TestReleasesAreListedWithoutTheirGroups(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	list := read[wire.ReleaseList](t, send(t, v, "analyst", "GET", "/v1/releases?limit=7&cursor=c&dataset=transactions", ""), 200)
	if len(list.Items) != 1 || list.Items[0].ID != "rel_1" || list.Next != "cursor-after-c" {
		t.Errorf("got %+v", list)
	}
	if list := read[wire.ReleaseList](t, send(t, v, "product", "GET", "/v1/releases", ""), 200); len(list.Items) != 0 {
		t.Errorf("got %+v", list)
	}
	for _, limit := range []string{"0", "501", "-1", "many"} {
		p := refused(t, send(t, v, "analyst", "GET", "/v1/releases?limit="+limit, ""), 400, "invalid-input")
		if p.Errors[0].Location != "query.limit" {
			t.Errorf("got %+v", p)
		}
	}
}

// largeRelease has more groups than are encoded in memory.
func largeRelease(groups int) dp.Release {
	r := testRelease()
	r.ID, r.Groups = "rel_large", nil
	for i := range groups {
		r.Groups = append(r.Groups, dp.Group{Key: []string{"key-" + strconv.Itoa(i)}, Values: []dp.Value{{Value: float64(i), SD: 1}}})
	}
	return r
}

func TestLargeReleasesAreStreamedWhole(t *testing.T) {
	f := newFakes(t)
	f.keep(largeRelease(10_000), "analyst")
	v := newTestServer(t, f)
	resp := send(t, v, "analyst", "GET", "/v1/releases/rel_large", "")
	if resp.ContentLength != -1 {
		t.Error("a large release was encoded before it was sent")
	}
	got := read[wire.Release](t, resp, 200)
	if len(got.Groups) != 10_000 || got.Groups[9_999].Values["customers"].Value != 9_999 {
		t.Errorf("got %d groups", len(got.Groups))
	}
	records, err := csv.NewReader(send(t, v, "analyst", "GET", "/v1/releases/rel_large?format=csv", "").Body).ReadAll()
	if err != nil || len(records) != 10_001 || records[10_000][0] != "key-9999" {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestReleaseThatCannotBeEncodedIsNeverHalfAnAnswer(t *testing.T) {
	f := newFakes(t)
	small, large := largeRelease(10), largeRelease(5000)
	small.ID = "rel_small"
	small.Groups[9].Values[0].SD = math.NaN()
	large.Groups[4999].Values = nil // groupOf panics
	f.keep(small, "analyst")
	f.keep(large, "analyst")
	v := newTestServer(t, f)
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_small", ""), 500, "internal")

	base, stop := listen(t, v)
	defer stop()
	resp := get(t, base+"/v1/releases/rel_large", "analyst")
	if n, err := countBytes(resp.Body); err == nil {
		t.Errorf("a release that broke off after %d bytes looks whole", n)
	}
	if resp := get(t, base+"/v1/releases/rel_1", "analyst"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
	if !strings.Contains(f.logged(), "answer cut off") {
		t.Error("nothing is logged")
	}
}
