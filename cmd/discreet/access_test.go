package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
)

// readings are all paths on which a consumer reads what was drawn for it, as one consumer would take them.
type readings struct {
	h                       *harness
	key                     string
	plain, joined           string // releases
	report                  string
	question, joinedQuery   string // bodies
	spec                    string // of the report, sent under the key twice
	missing, missingDataset string
}

// reading is one of them: what it sends, and what it sends for something that never was.
type reading struct {
	name       string
	send, none refusal
}

func (r readings) all() (list []reading) {
	add := func(name, method, path, body, of, missing string, headers map[string]string) {
		another := maps.Clone(headers)
		if another["Idempotency-Key"] != "" {
			another["Idempotency-Key"] += "-none"
		}
		list = append(list, reading{name,
			refusal{name: name, key: r.key, method: method, path: strings.ReplaceAll(path, "{}", of), body: strings.ReplaceAll(body, "{}", of), headers: headers},
			refusal{name: name, key: r.key, method: method, path: strings.ReplaceAll(path, "{}", missing), body: strings.ReplaceAll(body, "{}", missing), headers: another}})
	}
	for _, id := range []string{r.plain, r.joined} {
		add("release", "GET", "/v1/releases/{}", "", id, r.missing, nil)
		add("release once more", "GET", "/v1/releases/{}", "", id, r.missing, nil) // which is kept in memory
		add("release unless it changed", "GET", "/v1/releases/{}", "", id, r.missing, map[string]string{"If-None-Match": "*"})
		for _, format := range []string{"csv", "ndjson", "arrow"} {
			add("release as "+format, "GET", "/v1/releases/{}?format="+format, "", id, r.missing, nil)
		}
		add("comparison from", "POST", "/v1/compare", fmt.Sprintf(`{"from": {"release": "{}", "key": {"time.month": "2026-01"}}, "to": {"release": %q, "key": {"time.month": "2026-02"}}}`, id), id, r.missing, nil)
	}
	for _, format := range []string{"json", "csv", "ndjson", "arrow", "html"} {
		add("report as "+format, "GET", "/v1/reports/{}?format="+format, "", r.report, r.missing, nil)
	}
	add("events of a report", "GET", "/v1/reports/{}/events", "", r.report, r.missing, nil)
	add("cancelling a report", "DELETE", "/v1/reports/{}", "", r.report, r.missing, nil)
	for name, path := range map[string]string{"question": "/v1/queries", "plan": "/v1/plans"} {
		add(name, "POST", path, r.question, "app", r.missingDataset, nil)
		add(name+" that joins", "POST", path, r.joinedQuery, "app", r.missingDataset, nil)
	}
	add("question under its key", "POST", "/v1/queries", r.question, "app", r.missingDataset, map[string]string{"Idempotency-Key": "plain"})
	add("question that joins under its key", "POST", "/v1/queries", r.joinedQuery, "app", r.missingDataset, map[string]string{"Idempotency-Key": "joined"})
	for name, path := range map[string]string{"report": "/v1/reports", "plan of a report": "/v1/report-plans"} {
		add(name, "POST", path, r.spec, "app", r.missingDataset, nil)
	}
	add("report under its key", "POST", "/v1/reports", r.spec, "app", r.missingDataset, map[string]string{"Idempotency-Key": "report"})
	add("request", "POST", "/v1/budget-requests", `{"dataset": "{}", "epsilon": 4, "delta": 1e-12, "reason": "more"}`, "app", r.missingDataset, nil)
	add("dataset", "GET", "/v1/datasets/{}", "", "app", r.missingDataset, nil)
	return list
}

var instanceText = regexp.MustCompile(`"instance":"[^"]*",?`)

// status sends a request and gives its status, and its body without what names the request.
func (h *harness) status(r refusal) (int, string) {
	h.t.Helper()
	status, _, body := h.raw(r)
	return status, instanceText.ReplaceAllString(body, "")
}

// TestWhoMayNotKnowOfADatasetReadsNothingThatWasDrawnFromIt holds every path to the policy of today and to the consumer of
// today: a third party that held an internal dataset's releases from when it could is told what it would be told of none.
func TestWhoMayNotKnowOfADatasetReadsNothingThatWasDrawnFromIt(t *testing.T) {
	h, _ := newLinked(t)
	open := strings.Replace(appPolicy, "audiences: [internal]", "audiences: [internal, third-party]", 1)
	h.apply(open)
	h.apply(strings.Replace(cardsPolicy, "audiences: [internal]", "audiences: [internal, third-party]", 1))
	h.must(h.officer, "consumer", "add", "partner", "--role", "analyst", "--audience", "third-party", "--purposes", "product-analytics")
	var issued struct{ Text string }
	h.mustJSON(&issued, h.officer, "key", "add", "partner")
	partner := issued.Text
	h.allot("partner", "app", "3", "5e-10")
	h.allot("partner", "cards", "3", "5e-10")

	span := []string{"--by", "time.month", "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics", "--epsilon", "0.2"}
	draw := func(key string, args ...string) (r wire.Release) {
		t.Helper()
		h.mustJSON(&r, partner, append(append([]string{"query"}, args...), append(span, "--idempotency-key", key)...)...)
		return r
	}
	cards := draw("cards", "cards", "rows")
	const ofMonths = `"by": ["time.month"], "from": "2026-01-01", "to": "2026-02-28", "purpose": "product-analytics", "epsilon": 0.2}`
	r := readings{h: h, key: partner, missing: "rel_none", missingDataset: "none",
		question:    `{"dataset": "{}", "metrics": ["rows"], ` + ofMonths,
		joinedQuery: `{"dataset": "cards", "metrics": ["customers"], "cohorts": [{"dataset": "{}", "from": "2026-02-01", "to": "2026-02-28"}], ` + ofMonths,
		spec: `{"name": "both", "purpose": "product-analytics", "from": "2026-01-01", "to": "2026-01-31", "queries": [
			{"name": "own", "dataset": "cards", "metrics": ["rows"], "epsilon": 0.1}, {"name": "app", "dataset": "{}", "metrics": ["rows"], "epsilon": 0.1}]}`,
	}
	var plain, joined struct{ ID string }
	post := func(into any, path, body, key string) {
		t.Helper()
		status, _, text := h.raw(refusal{key: partner, method: "POST", path: path, body: strings.ReplaceAll(body, "{}", "app"), headers: map[string]string{"Idempotency-Key": key}})
		if status >= 300 {
			t.Fatalf("%s: %d %s", path, status, text)
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %s: %v", path, text, err)
		}
	}
	post(&plain, "/v1/queries", r.question, "plain")
	post(&joined, "/v1/queries", r.joinedQuery, "joined")
	var report struct{ ID string }
	post(&report, "/v1/reports", r.spec, "report")
	r.plain, r.joined, r.report = plain.ID, joined.ID, report.ID
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var now wire.Report
		h.mustJSON(&now, partner, "report", "show", r.report)
		if now.State == "done" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the report is %+v", now)
		}
	}

	lists := func() string { return h.must(partner, "release", "list") + h.must(partner, "report", "list") }
	readable := func(when string) {
		t.Helper()
		for _, one := range r.all() {
			if status, body := h.status(one.send); status >= 400 {
				t.Errorf("%s: %s is refused with %d %s", when, one.name, status, body)
			}
		}
		for _, id := range []string{r.plain, r.joined, r.report} {
			if !strings.Contains(lists(), id) {
				t.Errorf("%s: %s is not listed", when, id)
			}
		}
	}
	hidden := func(when string) {
		t.Helper()
		for _, one := range r.all() {
			status, body := h.status(one.send)
			missing, none := h.status(one.none)
			if status != missing || body != none || status != 404 && !strings.Contains(one.name, "joins") && !strings.Contains(one.name, "report") {
				t.Errorf("%s: %s is answered with %d %s\nwhat never was with %d %s", when, one.name, status, body, missing, none)
			}
			if status < 400 || strings.Contains(body, "app") {
				t.Errorf("%s: %s is answered with %d %s", when, one.name, status, body)
			}
		}
		for _, id := range []string{r.plain, r.joined, r.report} {
			if strings.Contains(lists(), id) {
				t.Errorf("%s: %s is listed", when, id)
			}
		}
		// What is not about that dataset stays.
		if again := draw("cards", "cards", "rows"); again.ID != cards.ID {
			t.Errorf("%s: another dataset's release is %s", when, again.ID)
		}
		h.must(partner, "release", "show", cards.ID)
	}

	readable("at first")
	h.apply(appPolicy)
	hidden("with the audience gone from the policy")
	h.apply(open)
	readable("with the audience back")

	// The consumer's own audience counts as it is now.
	h.apply(strings.Replace(appPolicy, "audiences: [internal]", "audiences: [third-party]", 1))
	h.must(h.officer, "consumer", "set", "partner", "--audience", "internal", "--reason", "bought")
	hidden("with another audience of its own")
	h.must(h.officer, "consumer", "set", "partner", "--audience", "third-party", "--reason", "sold")

	// To read takes a purpose for which the reader may ask all datasets that the release is about.
	more := strings.Replace(open, "purposes: [product-analytics]", "purposes: [product-analytics, reporting]", 1)
	h.apply(more)
	h.must(h.officer, "consumer", "set", "partner", "--purposes", "reporting", "--reason", "narrowed")
	for _, c := range []struct {
		id   string
		want int
	}{{r.plain, 200}, {r.joined, 403}, {cards.ID, 403}} {
		if status, body := h.status(refusal{key: partner, method: "GET", path: "/v1/releases/" + c.id}); status != c.want || status == 403 && !strings.Contains(body, "purpose-not-allowed") {
			t.Errorf("for another purpose %s is answered with %d %s", c.id, status, body)
		}
	}
	if text := lists(); !strings.Contains(text, r.plain) || strings.Contains(text, r.joined) || strings.Contains(text, r.report) {
		t.Errorf("for another purpose there are listed\n%s", text)
	}
	h.must(h.officer, "consumer", "set", "partner", "--purposes", "product-analytics,reporting", "--reason", "widened")
	readable("with its purpose back")
}
