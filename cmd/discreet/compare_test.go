package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// newMonths is a shop where, from January to February, groceries triple, travels fall to a tenth, and other sales stay.
func newMonths(t *testing.T) (h *harness, team, january, february string) {
	t.Helper()
	h, team, custodian := newShop(t, exact{})
	var text strings.Builder
	text.WriteString("customer,at,category,city,amount\n")
	for month, sold := range []map[string]int{{"grocery": 1000, "travel": 2000, "pets": 500}, {"grocery": 3000, "travel": 200, "pets": 503}} {
		for _, category := range []string{"grocery", "travel", "pets"} {
			for i := range sold[category] {
				fmt.Fprintf(&text, "%s%d,2026-%02d-%02d,%s,Ulm,10\n", category, i, month+1, 1+i%28, category)
			}
		}
	}
	h.must(custodian, "load", "shop", h.file("months.csv", text.String()), "--from", "2026-01-01", "--to", "2026-02-28")
	for from, id := range map[string]*string{"2026-01-01,2026-01-31": &january, "2026-02-01,2026-02-28": &february} {
		first, last, _ := strings.Cut(from, ",")
		var r wire.Release
		h.mustJSON(&r, team, "query", "shop", "customers", "spend", "--by", "category", "--from", first, "--to", last, "--epsilon", "1", "--purpose", "product-analytics")
		*id = r.ID
	}
	return h, team, january, february
}

func TestWhatChangedBeyondNoiseIsSaid(t *testing.T) {
	h, team, january, february := newMonths(t)
	before := h.must(team, "budget", "shop", "--format", "json")

	// On the command line, group by group.
	var all wire.Compared
	h.mustJSON(&all, team, "release", "compare", january, february)
	verdicts := map[string]string{}
	for _, c := range all.Cells {
		verdicts[c.FromMetric+" "+c.FromKey["category"]] = c.Verdict
		if c.Change.Low == nil || !(*c.Change.Low <= c.Change.Value && c.Change.Value <= *c.Change.High) || c.Change.Value != c.To.Value-c.From.Value {
			t.Errorf("%s by category %v: %+v", c.FromMetric, c.FromKey, c.Change)
		}
	}
	want := map[string]string{"customers grocery": "up", "customers travel": "down", "customers other": "unclear", "spend grocery": "up", "spend travel": "down", "spend other": "unclear"}
	if fmt.Sprint(verdicts) != fmt.Sprint(want) || all.As != "difference" || all.Confidence != "0.95" || all.Missing != 0 {
		t.Errorf("as JSON it says %v, want %v: %+v", verdicts, want, all)
	}
	table := h.must(team, "release", "compare", january, february, "--metric", "customers", "--ratio")
	for _, line := range []string{"grocery", "up", "travel", "down", "unclear", "ratio", "some can be up or down by chance"} {
		if !strings.Contains(table, line) {
			t.Errorf("the table does not say %q:\n%s", line, table)
		}
	}
	var one wire.Compared
	h.mustJSON(&one, team, "release", "compare", january, february, "--metric", "customers", "--group", "category=grocery", "--ratio", "--confidence", "0.99")
	if len(one.Cells) != 1 || math.Abs(one.Cells[0].Change.Value-3) > 1e-9 || one.Cells[0].Verdict != "up" || one.Confidence != "0.99" || !(*one.Cells[0].Change.Low > 1) {
		t.Errorf("the ratio is %+v", one)
	}
	var within wire.Compared
	h.mustJSON(&within, team, "release", "compare", january, "--metric", "customers", "--group", "category=grocery", "--to-group", "category=travel")
	if len(within.Cells) != 1 || within.Cells[0].Change.Value != 1000 || within.Cells[0].Verdict != "up" || within.Cells[0].ToKey["category"] != "travel" {
		t.Errorf("within one release it is %+v", within)
	}

	// Over HTTP.
	post := func(key, body string) (status int, text string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/v1/compare", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		content, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(content)
	}
	cell := func(release, category string) string {
		return fmt.Sprintf(`{"release": %q, "key": {"category": %q}, "metric": "spend"}`, release, category)
	}
	for category, verdict := range map[string]string{"grocery": "up", "travel": "down", "other": "unclear"} {
		status, text := post(team, fmt.Sprintf(`{"from": %s, "to": %s, "as": "ratio", "confidence": 0.9}`, cell(january, category), cell(february, category)))
		var got wire.Compared
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 || len(got.Cells) != 1 || got.Cells[0].Verdict != verdict {
			t.Errorf("%s answered %d %s", category, status, text)
		}
	}

	// What cannot be compared is refused, and says where; what others hold is not there.
	stranger := h.hire("stranger", dp.Analyst, "product-analytics")
	if status, text := post(stranger, fmt.Sprintf(`{"from": {"release": %q}, "to": {"release": %q}}`, january, february)); status != 404 || !strings.Contains(text, "not-found") {
		t.Errorf("to a stranger it answered %d %s", status, text)
	}
	if status, text := post(team, fmt.Sprintf(`{"from": %s, "to": %s}`, cell(january, "grocery"), cell(january, "hats-are-secret"))); status != 400 || !strings.Contains(text, "body.to.key") || strings.Contains(text, "hats") {
		t.Errorf("of an unknown group it answered %d %s", status, text)
	}
	if r := h.run(team, "release", "compare", january); r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "itself") {
		t.Errorf("with itself: exit %d, %s", r.code, r.stderr)
	}

	if after := h.must(team, "budget", "shop", "--format", "json"); after != before {
		t.Errorf("to compare cost something: %s, before %s", after, before)
	}
}
