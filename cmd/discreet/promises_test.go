package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// january asks for customers by category.
func january() wire.Query {
	return wire.Query{Dataset: "shop", Metrics: []string{"customers"}, By: []string{"category"}, From: "2026-01-01", To: "2026-01-31", Purpose: "product-analytics"}
}

func TestTheSameQuestionInAnotherSpellingGivesTheSameBytesAndNoCharge(t *testing.T) {
	h, team, custodian := newShop(t, mechanism.Secure())
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	c := h.client(team)
	first, err := c.Query(t.Context(), january(), "")
	if err != nil {
		t.Fatal(err)
	}
	before := releaseBytes(t, c, first.ID)

	spelled := january()
	spelled.Metrics, spelled.By = []string{"customers", "customers"}, []string{"category", "category"}
	spelled.Epsilon, spelled.Delta, spelled.Confidence = "1e-1", "0.00000000001", "0.9500"
	other := wire.Text("other")
	spelled.Where = []wire.Condition{{Field: "category", In: []wire.Text{other, "travel", "grocery", "travel"}}}
	asked := january()
	asked.Where = []wire.Condition{{Field: "category", In: []wire.Text{"grocery", "other", "travel"}}}
	if _, err := c.Query(t.Context(), asked, ""); err != nil {
		t.Fatal(err)
	}
	var budget wire.Budget
	h.mustJSON(&budget, team, "budget", "shop")
	spent := budget.Accounts[0].Spent

	again, err := c.Query(t.Context(), january(), "")
	if err != nil {
		t.Fatal(err)
	}
	filtered, err := c.Query(t.Context(), spelled, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []wire.Release{again, filtered} {
		if r.Reused == nil || !*r.Reused || r.Charge.Epsilon.Float() != 0 {
			t.Errorf("asked again: reused %v at epsilon %s", r.Reused, r.Charge.Epsilon)
		}
	}
	if again.ID != first.ID || !reflect.DeepEqual(again.Groups, first.Groups) {
		t.Errorf("the same question gave %s, then %s", first.ID, again.ID)
	}
	if after := releaseBytes(t, c, again.ID); !bytes.Equal(before, after) {
		t.Errorf("the release changed:\n%s\n%s", before, after)
	}
	h.mustJSON(&budget, team, "budget", "shop")
	if budget.Accounts[0].Spent != spent {
		t.Errorf("asking again spent %+v after %+v", budget.Accounts[0].Spent, spent)
	}
}

func releaseBytes(t *testing.T, c *client.Client, id string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.WriteRelease(t.Context(), &b, id, "json"); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSixtyFourClientsGetExactlyWhatTheBudgetAllows gives an allotment for 1,000 charges of 0.1 and asks 1,100
// times: no charge too many is admitted, none too few, and the ledger's sum is exact.
func TestSixtyFourClientsGetExactlyWhatTheBudgetAllows(t *testing.T) {
	h, _, _ := newShop(t, mechanism.Secure())
	h.apply(strings.NewReplacer("name: shop", "name: mall", "cap: {epsilon: 6,", "cap: {epsilon: 600,").Replace(shopPolicy))
	h.hire("crowd", dp.Analyst, "product-analytics")
	h.allot("crowd", "mall", "100", "0")
	var issued struct{ Text string }
	h.mustJSON(&issued, h.officer, "key", "add", "crowd")
	c := h.client(issued.Text)

	const clients, requests = 64, 1100
	var answered, refused, next atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for next.Add(1) <= requests {
				q := january()
				q.Dataset, q.Fresh, q.Epsilon, q.Delta = "mall", true, "0.1", "0"
				_, err := c.Query(t.Context(), q, "")
				var problem *client.Problem
				switch {
				case err == nil:
					answered.Add(1)
				case errors.As(err, &problem) && problem.Code == string(dp.CodeBudgetExhausted):
					refused.Add(1)
				default:
					t.Errorf("a client got %v", err)
				}
			}
		})
	}
	wait.Wait()
	if answered.Load() != 1000 || refused.Load() != requests-1000 {
		t.Errorf("%d answers and %d refusals, want 1,000 and 100", answered.Load(), refused.Load())
	}
	var budget wire.Budget
	h.mustJSON(&budget, issued.Text, "budget", "mall")
	if a := budget.Accounts[0]; a.Spent.Epsilon != "100" || a.Left.Epsilon.Float() != 0 {
		t.Errorf("spent %s, left %s", a.Spent.Epsilon, a.Left.Epsilon)
	}
}

// refusal is a request that must be refused.
type refusal struct {
	name         string
	key          string
	method, path string
	body         string
	headers      map[string]string
	status       int
	code         string
}

// TestRefusalsSayWhatToDoAndAreTheSameOnNeighbouringData asks everything that is refused of two servers whose
// rows differ in one customer's month, and compares the replies byte by byte.
func TestRefusalsSayWhatToDoAndAreTheSameOnNeighbouringData(t *testing.T) {
	neighbour := regexp.MustCompile(`(?m)^a,2026-01.*\n`).ReplaceAllString(shopRows, "")
	if neighbour == shopRows {
		t.Fatal("the neighbour does not differ")
	}
	replies := make([][]string, 2)
	for i, csvRows := range []string{shopRows, neighbour} {
		replies[i] = refusedBy(t, csvRows)
	}
	for i := range replies[0] {
		if replies[0][i] != replies[1][i] {
			t.Errorf("neighbours are refused differently:\n%s\n%s", replies[0][i], replies[1][i])
		}
	}
}

var instance = regexp.MustCompile(`urn:discreet:request:[0-9a-f]+`)

// refusedBy makes every request to a server over the rows and gives the replies.
func refusedBy(t *testing.T, csvRows string) []string {
	t.Helper()
	h, team, custodian := newShop(t, mechanism.Secure())
	h.must(custodian, "load", "shop", h.file("shop.csv", csvRows), "--from", "2026-01-01", "--to", "2026-02-28", "--name", "first")
	poor, paused, late, small := h.hire("poor", dp.Product, "product-analytics"), h.hire("paused", dp.Product, "product-analytics"), h.hire("late", dp.Product, "product-analytics"), h.hire("small", dp.Product, "product-analytics")
	h.allot("poor", "shop", "0.05", "0")
	h.must(h.officer, "allotment", "set", "paused", "shop", "--epsilon", "1", "--paused", "--reason", "test")
	h.must(h.officer, "allotment", "set", "late", "shop", "--epsilon", "1", "--expires", "2020-01-01T00:00:00Z", "--reason", "test")
	h.must(h.officer, "allotment", "set", "small", "shop", "--epsilon", "1", "--max-epsilon-per-query", "0.01", "--reason", "test")
	outsider := h.hire("outsider", dp.Product)
	query := func(change func(map[string]any)) string {
		q := map[string]any{"dataset": "shop", "metrics": []string{"customers"}, "from": "2026-01-01", "to": "2026-01-31", "purpose": "product-analytics"}
		change(q)
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	plain := query(func(map[string]any) {})
	ask := func(name, key, body string, status int, code string) refusal {
		return refusal{name: name, key: key, method: "POST", path: "/v1/queries", body: body, status: status, code: code}
	}
	with := func(field string, value any) string { return query(func(q map[string]any) { q[field] = value }) }
	where := func(condition map[string]any) string { return with("where", []any{condition}) }

	keyed := ask("first use of a key", team, with("fresh", true), 200, "")
	keyed.headers = map[string]string{"Idempotency-Key": "once"}
	if status, _, body := h.raw(keyed); status != 200 {
		t.Fatalf("a query under a key: %d %s", status, body)
	}
	otherBody := ask("another question under a key", team, with("metrics", []string{"rows"}), 409, "conflict")
	otherBody.headers = keyed.headers

	list := []refusal{
		ask("no key", "", plain, 401, "unauthenticated"),
		ask("wrong key", "dk_wrong", plain, 401, "unauthenticated"),
		ask("role", h.officer, plain, 403, "forbidden"),
		ask("no JSON", team, "{", 400, "invalid-query"),
		ask("unknown member", team, with("user", "a"), 400, "invalid-query"),
		ask("wrong type", team, with("metrics", "customers"), 400, "invalid-query"),
		ask("unknown dataset", team, with("dataset", "shoe"), 404, "not-found"),
		ask("unknown metric", team, with("metrics", []string{"salaries"}), 400, "invalid-query"),
		ask("unknown key", team, with("by", []string{"salary"}), 400, "invalid-query"),
		ask("customer as key", team, with("by", []string{"customer"}), 400, "invalid-query"),
		ask("customer as filter", team, where(map[string]any{"field": "customer", "eq": "a"}), 400, "invalid-query"),
		ask("value outside the domain", team, where(map[string]any{"field": "category", "eq": "weapons"}), 400, "invalid-query"),
		ask("range over labels", team, where(map[string]any{"field": "category", "gte": "a"}), 400, "invalid-query"),
		ask("no dates", team, query(func(q map[string]any) { delete(q, "from") }), 400, "invalid-query"),
		ask("too many blocks", team, with("from", "1950-01-01"), 400, "invalid-query"),
		ask("unknown purpose", team, with("purpose", "marketing"), 403, "purpose-not-allowed"),
		ask("purpose not held", outsider, plain, 403, "purpose-not-allowed"),
		ask("price and accuracy", team, query(func(q map[string]any) { q["epsilon"], q["within"] = 1, map[string]any{"customers": 3} }), 400, "invalid-query"),
		ask("private key without delta", team, query(func(q map[string]any) { q["by"], q["delta"] = []string{"city"}, 0 }), 400, "invalid-query"),
		ask("price moved", team, query(func(q map[string]any) { q["epsilon"], q["spend_at_most"] = 0.5, map[string]any{"epsilon": 0.4} }), 409, "conflict"),
		ask("unattainable", team, with("within", map[string]any{"customers": 0.001}), 422, "accuracy-unattainable"),
		ask("budget", poor, plain, 403, "budget-exhausted"),
		ask("paused", paused, plain, 403, "forbidden"),
		ask("expired", late, plain, 403, "forbidden"),
		ask("maximum per query", small, plain, 403, "forbidden"),
		ask("too large", team, `{"dataset": "`+strings.Repeat("x", 2<<20)+`"}`, 413, "too-large"),
		otherBody,
		{name: "unknown path", key: team, method: "GET", path: "/v1/rows", status: 404, code: "not-found"},
		{name: "unknown release", key: team, method: "GET", path: "/v1/releases/rel_1", status: 404, code: "not-found"},
		{name: "role of a policy", key: team, method: "PUT", path: "/v1/datasets/shop", body: "{}", status: 403, code: "forbidden"},
		{name: "role of rows", key: team, method: "POST", path: "/v1/datasets/shop/rows", body: "a", headers: map[string]string{"Content-Type": "text/csv"}, status: 403, code: "forbidden"},
		{name: "policy without If-Match", key: h.officer, method: "PUT", path: "/v1/datasets/shop", body: strings.Replace(shopPolicy, "population: 1000", "population: 900", 1), headers: map[string]string{"Content-Type": "application/yaml", "Discreet-Reason": "test"}, status: 428, code: "conflict"},
		{name: "stale policy", key: h.officer, method: "PUT", path: "/v1/datasets/shop", body: strings.Replace(shopPolicy, "population: 1000", "population: 900", 1), headers: map[string]string{"Content-Type": "application/yaml", "Discreet-Reason": "test", "If-Match": `"99"`}, status: 412, code: "conflict"},
		{name: "block of a loaded dataset", key: h.officer, method: "PUT", path: "/v1/datasets/shop", body: strings.Replace(shopPolicy, "block: month", "block: year", 1), headers: map[string]string{"Content-Type": "application/yaml", "Discreet-Reason": "test", "If-Match": `"1"`}, status: 409, code: "conflict"},
		{name: "wrong policy", key: h.officer, method: "PUT", path: "/v1/datasets/shop", body: strings.Replace(shopPolicy, "population", "populace", 1), headers: map[string]string{"Content-Type": "application/yaml", "Discreet-Reason": "test", "If-Match": `"1"`}, status: 400, code: "invalid-policy"},
		{name: "rows without a column", key: custodian, method: "POST", path: "/v1/datasets/shop/rows?from=2026-01-01&to=2026-01-31&name=n", body: "customer,at\n", headers: map[string]string{"Content-Type": "text/csv"}, status: 400, code: "invalid-input"},
		{name: "rows without dates", key: custodian, method: "POST", path: "/v1/datasets/shop/rows", body: "customer,at,category,city,amount\n", headers: map[string]string{"Content-Type": "text/csv"}, status: 400, code: "invalid-input"},
		{name: "another file under a name", key: custodian, method: "POST", path: "/v1/datasets/shop/rows?from=2026-01-01&to=2026-02-28&name=first", body: "customer,at,category,city,amount\n", headers: map[string]string{"Content-Type": "text/csv"}, status: 409, code: "conflict"},
		{name: "rows of no known format", key: custodian, method: "POST", path: "/v1/datasets/shop/rows?from=2026-01-01&to=2026-01-31&name=n", body: "a", headers: map[string]string{"Content-Type": "application/pdf"}, status: 415, code: "unsupported-media-type"},
		{name: "consumer that exists", key: h.officer, method: "POST", path: "/v1/consumers", body: `{"name": "poor", "role": "product"}`, status: 409, code: "conflict"},
		{name: "answer of no known format", key: team, method: "GET", path: "/v1/releases", headers: map[string]string{"Accept": "image/png"}, status: 406, code: "not-acceptable"},
	}
	var replies []string
	for _, r := range list {
		status, contentType, body := h.raw(r)
		var problem struct{ Type, Title, Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Errorf("%s: %d %s", r.name, status, body)
			continue
		}
		if status != r.status || !strings.HasSuffix(problem.Type, r.code) || contentType != "application/problem+json" {
			t.Errorf("%s: got %d %s %s, want %d %s: %s", r.name, status, problem.Type, contentType, r.status, r.code, body)
		}
		if len(problem.Detail) < 20 || problem.Title == "" {
			t.Errorf("%s: says too little: %s", r.name, body)
		}
		for _, secret := range []string{"weapons", "marketing", "salar", "shoe", "dk_wrong"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s: echoes the input: %s", r.name, body)
			}
		}
		// Each request has a random name of its own, for the server's log.
		replies = append(replies, r.name+": "+instance.ReplaceAllString(body, ""))
	}
	return replies
}

// raw makes a request as written.
func (h *harness) raw(r refusal) (status int, contentType, body string) {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), r.method, h.url+r.path, strings.NewReader(r.body))
	if err != nil {
		h.t.Fatal(err)
	}
	if r.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		request.Header.Set("Authorization", "Bearer "+r.key)
	}
	for name, value := range r.headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatalf("%s: %v", r.name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatalf("%s: %v", r.name, err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(text)
}
