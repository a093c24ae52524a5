package api

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func TestDatasetIsShownWithWhatCanBeAsked(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	resp := send(t, v, "product", "GET", "/v1/datasets/transactions", "")
	if resp.Header.Get("ETag") != `"3"` {
		t.Errorf("ETag %q", resp.Header.Get("ETag"))
	}
	d := read[wire.Dataset](t, resp, 200)
	metrics := map[string]wire.Metric{}
	for _, m := range d.Metrics {
		metrics[m.Name] = m
	}
	if s := metrics["spend"]; s.Aggregate != "sum" || s.Lower != "0" || s.Upper != "1000" {
		t.Errorf("spend is %+v", s)
	}
	if metrics["customers"].Aggregate != "customers" || metrics["customers"].Upper != "" || metrics["average_ticket"].Upper != "500" {
		t.Errorf("metrics are %+v", d.Metrics)
	}
	if d.Version != 3 || d.Keys[0] != "merchant_category" || d.Keys[len(d.Keys)-1] != "time.year" {
		t.Errorf("got %+v", d)
	}
	// The policy can be sent back as it came, in either form.
	yaml := bodyOf(t, send(t, v, "product", "GET", "/v1/datasets/transactions", "", "Accept", "application/yaml"))
	for _, source := range []string{string(d.Policy), yaml} {
		p, err := policyfile.Parse([]byte(source), policyfile.DefaultLimits())
		if err != nil || !reflect.DeepEqual(p, f.policies[0].Policy) {
			t.Errorf("%v of %s", err, source)
		}
	}
	list := read[wire.DatasetList](t, send(t, v, "product", "GET", "/v1/datasets", ""), 200)
	if len(list.Items) != 1 || list.Items[0].Block != "month" || len(list.Items[0].Metrics) != len(d.Metrics) {
		t.Errorf("got %+v", list)
	}
}

func TestPolicyIsAppliedFromYAMLAndFromJSON(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	put := func(body string, headers ...string) *http.Response {
		return send(t, v, "officer", "PUT", "/v1/datasets/transactions", body, append([]string{"Content-Type", "application/yaml", "Discreet-Reason", "a new merchant code"}, headers...)...)
	}
	resp := put(policySource)
	if d := read[wire.Dataset](t, resp, 201); d.Version != 4 || resp.Header.Get("ETag") != `"4"` {
		t.Errorf("got %+v", d)
	}
	asJSON := string(read[wire.Dataset](t, send(t, v, "officer", "GET", "/v1/datasets/transactions", ""), 200).Policy)
	read[wire.Dataset](t, put(asJSON, "Content-Type", "application/json", "If-Match", `"3"`), 200)
	if c := f.changes[1]; *c.ifMatch != 3 || c.reason != "a new merchant code" || c.actor != "officer" || f.changes[0].ifMatch != nil {
		t.Errorf("changed %+v", f.changes)
	}

	p := refused(t, put(policySource+"secret-4711: 1\n"), 400, "invalid-policy")
	if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, "18:") {
		t.Errorf("got %+v", p)
	}
	refused(t, put(strings.Replace(policySource, "name: transactions", "name: others", 1)), 400, "invalid-policy")
	refused(t, put(""), 400, "invalid-policy")
	refused(t, put(policySource, "Content-Type", "text/plain"), 415, "unsupported-media-type")
	for _, match := range []string{"3x", `"`, `W/"3"`, `"3","4"`, "-1"} {
		p := refused(t, put(policySource, "If-Match", match), 400, "invalid-input")
		if p.Errors[0].Location != "header.If-Match" {
			t.Errorf("got %+v", p)
		}
	}
	refused(t, put(policySource, "If-None-Match", `"3"`), 400, "invalid-input")
	refused(t, put(policySource, "If-None-Match", "*", "If-Match", `"3"`), 400, "invalid-input")
	if len(f.changes) != 2 {
		t.Errorf("changed %+v", f.changes)
	}
	f.refuse = &dp.Error{Code: dp.CodePreconditionRequired, Message: "Send If-Match."}
	refused(t, put(policySource), 428, "conflict")
	refused(t, put(policySource, "If-None-Match", "*"), 412, "conflict")
	f.refuse = &dp.Error{Code: dp.CodePreconditionFailed, Message: "It changed."}
	refused(t, put(policySource, "If-Match", "2"), 412, "conflict")
}

func TestConsumersAreManaged(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	body := `{"name":"growth","role":"product","organisation":"messenger","purposes":["reporting"]}`
	resp := send(t, v, "officer", "POST", "/v1/consumers", body, "Discreet-Reason", "a new team")
	c := read[wire.Consumer](t, resp, 201)
	if c.Name != "growth" || c.Audience != "internal" || c.Version != 1 || resp.Header.Get("ETag") != `"1"` || f.changes[0].reason != "a new team" {
		t.Errorf("got %+v after %+v", c, f.changes)
	}
	p := refused(t, send(t, v, "officer", "POST", "/v1/consumers", `{"name":"growth","role":"king"}`), 400, "invalid-input")
	if p.Errors[0].Location != "body.role" || !strings.Contains(p.Errors[0].Message, "officer") {
		t.Errorf("got %+v", p)
	}

	// The same again: a conflict, unless the caller says that it is the same and it is.
	f.consumers = append(f.consumers, dp.Consumer{Name: "growth", Role: dp.Product, Organisation: "messenger", Audience: dp.Internal, Purposes: []string{"reporting"}, Version: 1})
	f.refuse = &dp.Error{Code: dp.CodeConflict, Message: "The name is taken."}
	refused(t, send(t, v, "officer", "POST", "/v1/consumers", body), 409, "conflict")
	read[wire.Consumer](t, send(t, v, "officer", "POST", "/v1/consumers", body, "Idempotency-Key", "k"), 201)
	refused(t, send(t, v, "officer", "POST", "/v1/consumers", strings.Replace(body, "messenger", "other", 1), "Idempotency-Key", "k"), 409, "conflict")
	f.refuse = nil

	read[wire.Consumer](t, send(t, v, "officer", "PATCH", "/v1/consumers/growth", `{"role":"analyst","purposes":[]}`, "If-Match", `"1"`), 200)
	patch := f.changes[len(f.changes)-1].patch
	if *patch.Role != dp.Analyst || patch.Purposes == nil || len(*patch.Purposes) != 0 || patch.Organisation != nil || patch.Audience != nil {
		t.Errorf("patched %+v", patch)
	}
	read[wire.Consumer](t, send(t, v, "officer", "PATCH", "/v1/consumers/growth", `{"suspended":true}`, "If-Match", `"1"`), 200)
	if patch := f.changes[len(f.changes)-1].patch; patch.Suspended == nil || !*patch.Suspended || patch.Role != nil {
		t.Errorf("patched %+v", patch)
	}
	refused(t, send(t, v, "officer", "PATCH", "/v1/consumers/growth", `{"name":"other"}`), 400, "invalid-input")
	refused(t, send(t, v, "officer", "PATCH", "/v1/consumers/growth", `{}`, "If-None-Match", "*"), 412, "conflict")
	refused(t, send(t, v, "officer", "GET", "/v1/consumers/nobody", ""), 404, "not-found")
}

func TestListsArePagedByCursor(t *testing.T) {
	f := newFakes(t)
	f.consumers = []dp.Consumer{{Name: "officer", Role: dp.Officer}}
	for i := range 250 {
		f.consumers = append(f.consumers, dp.Consumer{Name: fmt.Sprintf("p-%03d", i), Role: dp.Product})
	}
	v := newTestServer(t, f)
	seen := map[string]bool{}
	pages, cursor := 0, ""
	for {
		list := read[wire.ConsumerList](t, send(t, v, "officer", "GET", "/v1/consumers?limit=100&cursor="+cursor, ""), 200)
		for _, c := range list.Items {
			if seen[c.Name] {
				t.Errorf("%s is on two pages", c.Name)
			}
			seen[c.Name] = true
		}
		pages++
		if cursor = list.Next; cursor == "" {
			break
		}
		f.consumers = append([]dp.Consumer{f.consumers[0], {Name: "officer-" + fmt.Sprint(pages), Role: dp.Product}}, f.consumers[1:]...) // comes in between
	}
	if len(seen) != 251 || pages != 3 {
		t.Errorf("%d entries on %d pages", len(seen), pages)
	}
	if list := read[wire.ConsumerList](t, send(t, v, "officer", "GET", "/v1/consumers", ""), 200); len(list.Items) != 100 {
		t.Errorf("a page has %d entries", len(list.Items))
	}
}

func TestKeysAreShownOnceAndRevoked(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	k := read[wire.IssuedKey](t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", `{"expires":"2027-01-01T00:00:00+01:00"}`), 201)
	if k.Text != "dk_new" || k.ID != "key_new" || k.Expires.Format("2006-01-02T15:04Z07:00") != "2026-12-31T23:00Z" {
		t.Errorf("got %+v", k)
	}
	if k := read[wire.IssuedKey](t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", ""), 201); k.Expires != nil {
		t.Errorf("got %+v", k)
	}
	refused(t, send(t, v, "officer", "POST", "/v1/consumers/product/keys", `{"expires":"tomorrow"}`), 400, "invalid-input")
	text := bodyOf(t, send(t, v, "officer", "GET", "/v1/consumers/product/keys", ""))
	if strings.Contains(text, "dk_") || strings.Index(text, "key_a") > strings.Index(text, "key_b") || !strings.Contains(text, `"revoked":"2026-01-04T12:00:00Z"`) {
		t.Errorf("got %s", text)
	}
	if resp := send(t, v, "officer", "DELETE", "/v1/consumers/product/keys/key_a", "", "Discreet-Reason", "it leaked"); resp.StatusCode != 204 || bodyOf(t, resp) != "" {
		t.Errorf("status %d", resp.StatusCode)
	}
	if c := f.changes[len(f.changes)-1]; c.what != "revoke" || c.on != "product/key_a" || c.actor != "officer" || c.reason != "it leaked" {
		t.Errorf("changed %+v", c)
	}
	if strings.Contains(f.logged(), "dk_") {
		t.Error("the log holds a key")
	}
}

func TestAllotmentsAreExact(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	put := func(body string) *http.Response {
		return send(t, v, "officer", "PUT", "/v1/consumers/product/allotments/transactions", body, "If-Match", "7", "Discreet-Reason", "quarterly")
	}
	got := read[wire.Allotment](t, put(`{"epsilon":1.0000000000019,"delta":1e-11,"max_epsilon_per_query":0.1,"expires":"2026-12-31T23:00:00Z","paused":true}`), 201)
	if got.Epsilon != "1.000000000001" || got.Delta != "0.00000000001" || got.MaxEpsilonPerQuery != "0.1" || !got.Paused {
		t.Errorf("got %+v", got)
	}
	c := f.changes[0]
	if c.allotment.Budget != (dp.Budget{Epsilon: 1_000_000_000_001, Delta: 10_000_000}) || c.allotment.MaxEpsilonPerQuery != 100_000_000_000 || *c.ifMatch != 7 || c.on != "product/transactions" {
		t.Errorf("set %+v", c)
	}
	for body, location := range map[string]string{
		`{"epsilon":-1}`:                          "body.epsilon",
		`{"epsilon":1e30}`:                        "body.epsilon",
		`{"epsilon":1,"delta":4711}`:              "body.delta",
		`{"epsilon":1,"max_epsilon_per_query":0}`: "body.max_epsilon_per_query",
	} {
		p := refused(t, put(body), 400, "invalid-input")
		if len(p.Errors) != 1 || p.Errors[0].Location != location || strings.Contains(p.Errors[0].Message, "4711") {
			t.Errorf("%s: got %+v", body, p)
		}
	}
	f.allotments = []dp.Allotment{{Consumer: "product", Dataset: "transactions", Budget: dp.Budget{Epsilon: 3 * dp.EpsilonOne}, Version: 2}}
	list := read[wire.AllotmentList](t, send(t, v, "officer", "GET", "/v1/consumers/product/allotments", ""), 200)
	if len(list.Items) != 1 || list.Items[0].Epsilon != "3" || list.Items[0].Delta != "0" {
		t.Errorf("got %+v", list)
	}
	refused(t, send(t, v, "officer", "GET", "/v1/consumers/nobody/allotments", ""), 404, "not-found")
}

func TestBudgetTellsWhatIsLeftAndWhatSpentIt(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	budget := dp.Budget{Epsilon: dp.EpsilonOne}
	f.allotments = []dp.Allotment{{Consumer: "product", Dataset: "transactions", Budget: budget}, {Consumer: "product", Dataset: "other", Budget: budget}}
	f.accounts = []dp.Account{
		{Name: "cap/transactions/2026-01", Dataset: "transactions", Block: "2026-01", Budget: budget},
		{Name: "allotment/transactions/2026-01", Consumer: "product", Dataset: "transactions", Block: "2026-01", Budget: budget, Spent: dp.Loss{Epsilon: 750_000_000_000, Rho: dp.RhoUnknown}},
		{Name: "allotment/transactions/2026-01", Consumer: "analyst", Dataset: "transactions", Block: "2026-01", Budget: budget},
	}
	joined := testRelease().Charge
	joined.Also = []dp.Touched{{Dataset: "other", PolicyVersion: 4, Blocks: []string{"2026-03"}, Loss: dp.Loss{Epsilon: 200_000_000_000, Rho: dp.RhoUnknown}}}
	f.entries = []dp.Entry{
		{Charge: testRelease().Charge, Purpose: "reporting", Metrics: []string{"customers"}, Release: "rel_1"},
		{Charge: joined, Purpose: "reporting", Metrics: []string{"customers"}, Release: "rel_2"},
	}
	got := read[wire.Budget](t, send(t, v, "product", "GET", "/v1/budget?dataset=transactions", ""), 200)
	if len(got.Accounts) != 1 || len(got.Allotments) != 1 {
		t.Fatalf("got %+v", got)
	}
	a := got.Accounts[0]
	if a.Left.Epsilon != "0.25" || a.Left.Share != 0.25 || a.Left.SimilarQueries != nil || a.Spent.Epsilon != "0.75" || a.Spent.Rho != "" || a.Budget.Epsilon != "1" {
		t.Errorf("got %+v", a)
	}
	if c := got.Charges[0]; c.Epsilon != "0.3" || c.Release != "rel_1" || c.Purpose != "reporting" || c.Blocks[0] != "2026-01" || c.Also != nil {
		t.Errorf("got %+v", c)
	}
	if c := got.Charges[1]; c.Epsilon != "0.3" || len(c.Also) != 1 || !reflect.DeepEqual(c.Also[0], wire.Touch{Dataset: "other", Blocks: []string{"2026-03"}, Epsilon: "0.2", Delta: "0"}) {
		t.Errorf("got %+v", c)
	}
	list := read[wire.AccountList](t, send(t, v, "auditor", "GET", "/v1/datasets/transactions/accounts", ""), 200)
	if len(list.Items) != 3 || list.Items[0].Consumer != "" || list.Items[2].Consumer != "analyst" {
		t.Errorf("got %+v", list)
	}
	refused(t, send(t, v, "auditor", "GET", "/v1/datasets/nothing/accounts", ""), 404, "not-found")
}

func TestFrozenPausedAndExpiredAreToldApart(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f, func(o *Options) { o.Clock = func() time.Time { return day(10) } })
	budget, over := dp.Budget{Epsilon: dp.EpsilonOne}, dp.Loss{Epsilon: dp.EpsilonOne + 1, Rho: dp.RhoUnknown}
	all := dp.Loss{Epsilon: dp.EpsilonOne, Rho: dp.RhoUnknown}
	account := func(consumer, block string, spent dp.Loss, change func(*dp.Account)) {
		a := dp.Account{Consumer: consumer, Dataset: "transactions", Block: block, Budget: budget, Spent: spent}
		if change != nil {
			change(&a)
		}
		f.accounts = append(f.accounts, a)
	}
	account("", "2026-01", over, nil)
	account("product", "2026-01", over, nil)
	account("product", "2026-02", all, nil)
	account("analyst", "2026-01", over, func(a *dp.Account) { a.Paused = true })
	account("analyst", "2026-02", all, func(a *dp.Account) { a.Expires = day(10) })
	account("analyst", "2026-03", all, func(a *dp.Account) { a.Expires = day(11) })
	list := read[wire.AccountList](t, send(t, v, "officer", "GET", "/v1/datasets/transactions/accounts", ""), 200)
	var got []string
	for _, a := range list.Items {
		got = append(got, fmt.Sprint(a.Consumer, a.Block, a.Frozen, a.Stopped))
	}
	if want := "[2026-01truefrozen product2026-01truefrozen product2026-02false analyst2026-01truepaused analyst2026-02falseexpired analyst2026-03false]"; fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
	for name, change := range map[string]func(*dp.Allotment){"": func(*dp.Allotment) {}, "paused": func(a *dp.Allotment) { a.Paused = true }, "expired": func(a *dp.Allotment) { a.Expires = day(10) }} {
		a := dp.Allotment{Consumer: "product", Dataset: "transactions", Budget: budget, Version: 1}
		change(&a)
		f.allotments = []dp.Allotment{a}
		shown := []wire.Allotment{
			read[wire.AllotmentList](t, send(t, v, "officer", "GET", "/v1/consumers/product/allotments", ""), 200).Items[0],
			read[wire.Budget](t, send(t, v, "product", "GET", "/v1/budget", ""), 200).Allotments[0],
		}
		for _, a := range shown {
			if a.Stopped != name || strings.Join(a.Frozen, " ") != "2026-01" {
				t.Errorf("%q: got %+v", name, a)
			}
		}
	}
	set := read[wire.Allotment](t, send(t, v, "officer", "PUT", "/v1/consumers/product/allotments/transactions", `{"epsilon":1}`, "If-Match", `"1"`, "Discreet-Reason", "lowered"), 201)
	if strings.Join(set.Frozen, " ") != "2026-01" {
		t.Errorf("set %+v", set)
	}
}

func TestReadinessIsTold(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	read[wire.Status](t, send(t, v, "", "GET", "/readyz", ""), 200)
	f.ready = fmt.Errorf("replaying the ledger")
	p := refused(t, send(t, v, "", "GET", "/readyz", ""), 503, "unavailable")
	if strings.Contains(p.Detail, "ledger") {
		t.Errorf("got %+v", p)
	}
	read[wire.Status](t, send(t, v, "", "GET", "/livez", ""), 200)
}
