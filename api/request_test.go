package api

import (
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

const budgetRequests = "/v1/budget-requests"

// withRequests has a request of the analyst and one of the product team.
func withRequests(t *testing.T) (*fakes, *Server) {
	f := newFakes(t)
	for _, who := range []dp.Role{dp.Analyst, dp.Product} {
		f.requests = append(f.requests, dp.BudgetRequest{ID: "req_" + string(who), Consumer: string(who), Dataset: "transactions",
			Asked: dp.Terms{Budget: dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 1e8}, MaxEpsilonPerQuery: dp.EpsilonOne / 2}, Reason: "the launch", Made: day(3)})
	}
	return f, newTestServer(t, f)
}

func TestRequestIsMadeWithItsQueryPricedAndNotAsked(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	const body = `{"dataset": "transactions", "epsilon": 2.5, "delta": 1e-10, "max_epsilon_per_query": 0.5, "expires": "2027-01-01T00:00:00Z", "reason": "the launch",
		"query": {"dataset": "transactions", "metrics": ["customers"], "from": "2026-01-01", "to": "2026-02-28", "purpose": "reporting", "epsilon": 4, "spend_at_most": {"epsilon": 0.1}}}`
	resp := send(t, v, "analyst", "POST", budgetRequests, body, "Idempotency-Key", "k")
	r := read[wire.BudgetRequest](t, resp, 201)
	if resp.Header.Get("Location") != budgetRequests+"/req_1" || r.State != "open" || r.Asked.Epsilon != "2.5" || r.Query.Purpose != "reporting" || r.Grounds != nil {
		t.Errorf("made %+v at %s", r, resp.Header.Get("Location"))
	}
	made := f.changes[0]
	q := made.request.Query
	if made.actor != "analyst" || made.key != "k" || made.request.Asked.Budget != (dp.Budget{Epsilon: 2_500_000_000_000, Delta: 1e8}) || !strings.Contains(q.Canonical, `"epsilon":"4"`) ||
		len(q.Price) != 1 || strings.Join(q.Price[0].Blocks, " ") != "2026-01 2026-02" || q.Price[0].Loss.Epsilon != 4*dp.EpsilonOne {
		t.Errorf("asked for %+v with %+v", made, q)
	}
	if len(f.asked) != 1 || f.asked[0].query.SpendAtMost != "" {
		t.Errorf("asked %+v", f.asked)
	}
	if again := read[wire.BudgetRequest](t, send(t, v, "analyst", "POST", budgetRequests, body), 200); again.ID != r.ID {
		t.Errorf("a repeat is %s", again.ID)
	}
}

func TestBadRequestsOfBudgetsSayWhere(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	for body, want := range map[string]string{
		`{"dataset": "transactions", "epsilon": 1e99, "delta": 1e99, "max_epsilon_per_query": 0, "reason": "x"}`:                                                                                  "body.epsilon body.delta body.max_epsilon_per_query",
		`{"dataset": "transactions", "epsilon": 1}`:                                                                                                                                               "body",
		`{"dataset": "transactions", "epsilon": 1, "reason": ""}`:                                                                                                                                 "body.reason",
		`{"dataset": "transactions", "epsilon": 1, "reason": "x", "query": {"dataset": "visits", "metrics": ["customers"], "purpose": "reporting"}}`:                                              "body.query.dataset",
		`{"dataset": "transactions", "epsilon": 1, "reason": "x", "query": {"dataset": "transactions", "metrics": ["profit"], "from": "2026-01-01", "to": "2026-01-31", "purpose": "reporting"}}`: "body.query.metrics[0]",
	} {
		resp := send(t, v, "analyst", "POST", budgetRequests, body)
		name := "invalid-input"
		if strings.Contains(body, "profit") {
			name = "invalid-query"
		}
		p := refused(t, resp, 400, name)
		var places []string
		for _, e := range p.Errors {
			places = append(places, e.Location)
		}
		if strings.Join(places, " ") != want {
			t.Errorf("%s: places %v, want %s", body, places, want)
		}
	}
	f.quote = func(dp.Query) (answer.Quote, error) {
		return answer.Quote{}, &dp.Error{Code: dp.CodeAccuracyUnattainable, Message: "no."}
	}
	refused(t, send(t, v, "analyst", "POST", budgetRequests, `{"dataset": "transactions", "epsilon": 1, "reason": "x", "query": {"dataset": "transactions", "metrics": ["customers"], "purpose": "reporting"}}`), 400, "invalid-query")
	hidden := refused(t, send(t, v, "partner", "POST", budgetRequests, `{"dataset": "transactions", "epsilon": 1, "reason": "x"}`), 404, "not-found")
	none := refused(t, send(t, v, "partner", "POST", budgetRequests, `{"dataset": "nothing", "epsilon": 1, "reason": "x"}`), 404, "not-found")
	if hidden.Detail != none.Detail || hidden.Title != none.Title {
		t.Error("a hidden dataset is refused in other words than one that does not exist")
	}
	if len(f.changes) != 0 {
		t.Errorf("the office was asked for %+v", f.changes)
	}
}

func TestRequestsOfOthersDoNotExist(t *testing.T) {
	f, v := withRequests(t)
	for _, who := range []string{"analyst", "custodian", "partner"} {
		theirs := refused(t, send(t, v, who, "GET", budgetRequests+"/req_product", ""), 404, "not-found")
		none := refused(t, send(t, v, who, "GET", budgetRequests+"/req_none", ""), 404, "not-found")
		if theirs.Detail != none.Detail {
			t.Error("another's request is refused in other words than one that does not exist")
		}
		for _, query := range []string{"", "?consumer=" + who, "?consumer=product", "?state=open&dataset=transactions"} {
			list := read[wire.BudgetRequestList](t, send(t, v, who, "GET", budgetRequests+query, ""), 200)
			for _, r := range list.Items {
				if r.Consumer != who {
					t.Errorf("%s lists %s", who, r.ID)
				}
			}
			if wants := who == "analyst" && query != "?consumer=product"; wants != (len(list.Items) == 1) {
				t.Errorf("%s lists %+v by %s", who, list, query)
			}
		}
	}
	own := read[wire.BudgetRequest](t, send(t, v, "analyst", "GET", budgetRequests+"/req_analyst", ""), 200)
	if own.Grounds != nil || own.Asked.MaxEpsilonPerQuery != "0.5" {
		t.Errorf("the analyst sees %+v", own)
	}
	budget := read[wire.Budget](t, send(t, v, "analyst", "GET", "/v1/budget?dataset=transactions", ""), 200)
	if len(budget.Requests) != 1 || budget.Requests[0].ID != "req_analyst" {
		t.Errorf("the analyst's budget shows %+v", budget.Requests)
	}
	for _, filter := range f.filters {
		if filter.Consumer == "" {
			t.Error("everybody's requests were listed for somebody who may see their own")
		}
	}
}

func TestOfficersAndAuditorsSeeEveryRequestAndItsGrounds(t *testing.T) {
	f, v := withRequests(t)
	f.entries = []dp.Entry{{Charge: dp.Charge{ID: "chg_1", Consumer: "product", Dataset: "transactions", Blocks: []string{"2026-01"}, Loss: testLoss(), At: day(2)}, Purpose: "reporting"}}
	for _, who := range []string{"officer", "auditor"} {
		if list := read[wire.BudgetRequestList](t, send(t, v, who, "GET", budgetRequests+"?state=open&dataset=transactions&consumer=product", ""), 200); len(list.Items) != 1 || list.Items[0].Grounds != nil {
			t.Errorf("%s lists %+v", who, list)
		}
		resp := send(t, v, who, "GET", budgetRequests+"/req_product", "")
		g := read[wire.BudgetRequest](t, resp, 200).Grounds
		if resp.Header.Get("ETag") != `"5"` || g.AllotmentVersion != 5 || g.Allotment.Epsilon != "1" || g.Cap.Epsilon != "6" || g.Terms.Epsilon != "3" || len(g.Charges) != 1 {
			t.Fatalf("the grounds are %+v", g)
		}
		// The cap binds: it admits 1 more.
		if b := g.Blocks[0]; b.Block != "2026-01" || b.Spent.Epsilon != "0.3" || b.CapSpent.Epsilon != "5" || b.LeftBefore != "0.7" || b.LeftAfter != "1" || b.CapLeft != "1" || *b.SimilarQueries != 10 || g.SimilarQueries != 10 {
			t.Errorf("the block shows %+v", b)
		}
		other := read[wire.BudgetRequest](t, send(t, v, who, "GET", budgetRequests+"/req_product?epsilon=0.8&max_epsilon_per_query=0", ""), 200).Grounds
		if other.Terms.Epsilon != "0.8" || other.Terms.Delta != g.Terms.Delta || other.Terms.MaxEpsilonPerQuery != "" || other.Blocks[0].LeftAfter != "0.5" {
			t.Errorf("a grant of 0.8 shows %+v", other)
		}
		p := refused(t, send(t, v, who, "GET", budgetRequests+"/req_product?delta=much", ""), 400, "invalid-input")
		if p.Errors[0].Location != "query.delta" {
			t.Errorf("places %+v", p.Errors)
		}
	}
}

func TestDecisionReachesTheOfficeAsItWasMade(t *testing.T) {
	f, v := withRequests(t)
	path := budgetRequests + "/req_product/decision"
	resp := send(t, v, "officer", "POST", path, `{"decision": "grant"}`, "If-Match", `"5"`, "Discreet-Reason", "agreed")
	if r := read[wire.BudgetRequest](t, resp, 200); r.State != "granted" || r.Decision.By != "officer" || r.Decision.AllotmentVersion != 6 || resp.Header.Get("ETag") != `"6"` {
		t.Errorf("granted %+v", r)
	}
	if c := f.changes[0]; *c.ifMatch != 5 || c.reason != "agreed" || !c.decision.Grant || c.decision.Terms != nil || c.actor != "officer" {
		t.Errorf("decided %+v", c)
	}
	read[wire.BudgetRequest](t, send(t, v, "officer", "POST", path, `{"decision": "grant", "delta": 0, "max_epsilon_per_query": 0, "expires": "2027-01-01T00:00:00Z"}`, "If-None-Match", "*"), 200)
	if c := f.changes[1]; c.ifMatch != nil || c.decision.Terms.Budget != (dp.Budget{Epsilon: 3 * dp.EpsilonOne}) || c.decision.Terms.MaxEpsilonPerQuery != 0 || c.decision.Terms.Expires.Year() != 2027 {
		t.Errorf("decided %+v", c.decision.Terms)
	}
	if r := read[wire.BudgetRequest](t, send(t, v, "officer", "POST", path, `{"decision": "deny"}`, "If-Match", `"5"`), 200); r.State != "denied" || r.Decision.Granted != nil {
		t.Errorf("denied %+v", r)
	}
	refused(t, send(t, v, "officer", "POST", path, `{"decision": "perhaps"}`), 400, "invalid-input")
	refused(t, send(t, v, "officer", "POST", path, `{"decision": "grant", "epsilon": 1e99}`), 400, "invalid-input")
	refused(t, send(t, v, "officer", "POST", budgetRequests+"/req_none/decision", `{"decision": "deny"}`), 404, "not-found")
	if len(f.changes) != 3 {
		t.Errorf("the office decided %d times", len(f.changes))
	}
}

func TestDecisionThatIsMadeAgainConflictsUnlessItsKeySaysThatItIsTheSame(t *testing.T) {
	f, v := withRequests(t)
	granted := f.requests[1].Asked
	f.requests[1].Decision = &dp.RequestDecision{State: dp.RequestGranted, By: "officer", At: day(5), Reason: "agreed", Seen: 5, Granted: &granted, Allotment: 6}
	f.refuse = &dp.Error{Code: dp.CodeConflict, Message: "decided."}
	for _, c := range []struct {
		body, reason, key string
		status            int
	}{
		{`{"decision": "grant"}`, "agreed", "", 409}, {`{"decision": "grant"}`, "agreed", "k", 200}, {`{"decision": "grant"}`, "other", "k", 409},
		{`{"decision": "deny"}`, "agreed", "k", 409}, {`{"decision": "grant", "epsilon": 1}`, "agreed", "k", 409}, {`{"decision": "grant", "epsilon": 3}`, "agreed", "k", 200},
	} {
		resp := send(t, v, "officer", "POST", budgetRequests+"/req_product/decision", c.body, "If-Match", `"5"`, "Discreet-Reason", c.reason, "Idempotency-Key", c.key)
		if resp.StatusCode != c.status {
			t.Errorf("%+v: status %d", c, resp.StatusCode)
		}
	}
}

func TestRequestIsWithdrawnInTheNameOfTheCaller(t *testing.T) {
	f, v := withRequests(t)
	r := read[wire.BudgetRequest](t, send(t, v, "product", "DELETE", budgetRequests+"/req_product", "", "Discreet-Reason", "solved"), 200)
	if c := f.changes[0]; r.State != "withdrawn" || c.what != "withdraw" || c.actor != "product" || c.on != "req_product" || c.reason != "solved" {
		t.Errorf("withdrawn %+v by %+v", r, c)
	}
}
