package api

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/plan"
)

func text(s string) *string { return &s }

func TestQueryArrivesAsItWasWritten(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	body := `{"dataset": "transactions", "metrics": ["customers", "p"],
	 "define": [{"name": "p", "aggregate": "mean", "measure": "amount"}],
	 "by": ["merchant_category", "time.month"],
	 "where": [{"field": "country", "in": ["DE", 7, true]}, {"field": "city", "not_in": []}, {"field": "amount", "gte": 10.50, "lte": "0.30000000000000000001"}, {"field": "x", "eq": false}],
	 "from": "2026-01-01", "to": "2026-03-31", "purpose": "reporting",
	 "within": {"customers": 35.0}, "epsilon": 0.1, "delta": 1e-11, "confidence": 0.95, "clamp": {"p": [-0, 1000.00]}, "max_partitions": 3,
	 "spend_at_most": {"epsilon": 1.0000000000000002}, "fresh": true}`
	read[wire.Release](t, send(t, v, "analyst", "POST", "/v1/queries", body, "Idempotency-Key", "k-1"), 200)
	got := f.asked[0]
	want := dp.Query{
		Dataset: "transactions", Metrics: []string{"customers", "p"},
		Define: []dp.Definition{{Name: "p", Aggregate: dp.Mean, Measure: "amount"}},
		By:     []string{"merchant_category", "time.month"},
		Where: []dp.Condition{{Field: "country", In: []string{"DE", "7", "true"}}, {Field: "city", NotIn: []string{}},
			{Field: "amount", Gte: text("10.50"), Lte: text("0.30000000000000000001")}, {Field: "x", Eq: text("false")}},
		From: "2026-01-01", To: "2026-03-31", Purpose: "reporting", Within: map[string]string{"customers": "35.0"},
		Epsilon: "0.1", Delta: "1e-11", Confidence: "0.95", Clamp: map[string]dp.Clamp{"p": {Lower: "-0", Upper: "1000.00"}}, MaxPartitions: 3,
		SpendAtMost: "1.0000000000000002", Fresh: true,
	}
	if !reflect.DeepEqual(got.query, want) || got.who != "analyst" || got.key != "k-1" {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAnswerIsTheReleaseWithItsPriceAndWhatIsLeft(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	got := bodyOf(t, send(t, v, "product", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`))
	want := `{"id":"rel_1","dataset":"transactions","reused":false,"stale":false,"as_of":"2026-01-09T12:00:00Z","confidence":0.95,` +
		`"by":["merchant_category"],"metrics":["customers"],"groups_may_be_hidden":false,` +
		`"privacy":{"unit":"customer_id","block":"month","mechanism":{"customers":"gaussian"},"epsilon":0.3,"delta":0.00000000001,"rho":0.0125,"max_partitions":8,"max_rows":20},` +
		`"charge":{"id":"chg_1","epsilon":0.3,"delta":0.00000000001,"rho":0.0125,"blocks":["2026-01"],` +
		`"left":{"account":"allotment/transactions/2026-01","epsilon":2.1,"share":0.7,"similar_queries":37}},` +
		`"query":{"dataset":"transactions"},"policy_version":3,` +
		`"groups":[{"key":{"merchant_category":"dining, out"},"values":{"customers":{"value":-6,"low":-41,"high":29,"sd":17.9}}},` +
		`{"key":{"merchant_category":"grocery"},"values":{"customers":{"value":1234,"low":1199,"high":1269,"sd":17.9}}}]}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Totals and the ranking stand beside the groups, never among them.
func TestTotalsAndTheRankingStandBesideTheGroups(t *testing.T) {
	f := newFakes(t)
	var asked dp.Query
	f.ask = func(q dp.Query) (answer.Answer, error) {
		asked = q
		r := testRelease()
		r.Metrics = []string{"customers"}
		return answer.Answer{Release: r, Totals: []*dp.Value{{Value: 12, Low: 2, High: 22, SD: 5}}, Ranking: &answer.Ranking{Metric: "customers", N: 2, Of: 9, Unclear: []int{1}}, Left: testLeft()}, nil
	}
	body := `{"dataset":"transactions","metrics":["customers"],"by":["merchant_category"],"purpose":"reporting","totals":true,"top":{"metric":"customers","n":2}}`
	got := read[wire.Release](t, send(t, newTestServer(t, f), "product", "POST", "/v1/queries", body), 200)
	if !asked.Totals || asked.Top == nil || *asked.Top != (dp.Top{Metric: "customers", N: 2}) {
		t.Errorf("asked %+v", asked)
	}
	if len(got.Groups) != len(testRelease().Groups) || got.Totals["customers"].Value != 12 || got.Top.Of != 9 || !slices.Equal(got.Top.Unclear, []int{1}) {
		t.Errorf("got %+v", got)
	}
}

func TestReusedAnswerCostsNothingAndSaysSo(t *testing.T) {
	f := newFakes(t)
	f.ask = func(dp.Query) (answer.Answer, error) {
		return answer.Answer{Release: testRelease(), Reused: true, Stale: true, Charge: dp.Charge{Blocks: []string{"2026-01"}, Loss: dp.Loss{Rho: dp.RhoUnknown}}, Left: testLeft()}, nil
	}
	got := read[wire.Release](t, send(t, newTestServer(t, f), "product", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`), 200)
	if !*got.Reused || !*got.Stale || got.Charge.Epsilon != "0" || got.Charge.ID != "" || got.Charge.Rho != "" {
		t.Errorf("got %+v", got.ReleaseHead)
	}
}

func TestDerivedAnswerSaysWhereItIsFromAndHasNoID(t *testing.T) {
	f := newFakes(t)
	f.ask = func(dp.Query) (answer.Answer, error) {
		r := testRelease()
		r.ID = ""
		return answer.Answer{Release: r, Reused: true, DerivedFrom: []string{"rel_2"}, Left: testLeft()}, nil
	}
	body := bodyOf(t, send(t, newTestServer(t, f), "product", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`))
	if !strings.HasPrefix(body, `{"dataset":"transactions","reused":true,"stale":false,"derived_from":["rel_2"],`) {
		t.Errorf("got %s", body)
	}
}

func TestCombinedValuesStandBesideTheDraw(t *testing.T) {
	f := newFakes(t)
	f.ask = func(dp.Query) (answer.Answer, error) {
		r := testRelease()
		return answer.Answer{Release: r, Charge: r.Charge, Left: testLeft(), Combined: [][]*dp.Value{{nil}, {{Value: 1230, Low: 1206, High: 1254, SD: 12.6}}}}, nil
	}
	body := bodyOf(t, send(t, newTestServer(t, f), "product", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`))
	if !strings.Contains(body, `{"value":1234,"low":1199,"high":1269,"sd":17.9,"combined":{"value":1230,"low":1206,"high":1254,"sd":12.6}}`) || strings.Count(body, "combined") != 1 {
		t.Errorf("got %s", body)
	}
}

// What is told of noise, bounds and notes is of what would be answered, the price of a draw of the question's own.
func TestPlanThatIsFreeTellsOfWhatWouldBeAnswered(t *testing.T) {
	f := newFakes(t)
	f.quote = func(q dp.Query) (answer.Quote, error) {
		p, err := plan.Make(q, f.policies[0], nil, plan.DefaultLimits())
		if err != nil {
			return answer.Quote{}, err
		}
		reused := *p
		reused.Metrics = append([]plan.Metric{}, p.Metrics...)
		reused.Metrics[0].SD, reused.Notes = 7, []string{"derived"}
		return answer.Quote{Plan: p, Left: testLeft(), FreeFrom: "rel_1", Reused: &reused, Derived: true}, nil
	}
	got := read[wire.Plan](t, send(t, newTestServer(t, f), "product", "POST", "/v1/plans", `{"dataset":"transactions","metrics":["customers"],"from":"2026-01-01","to":"2026-01-31","purpose":"reporting"}`), 200)
	if got.Expected["customers"].SD != 7 || got.Notes[0] != "derived" || got.FreeFrom != "rel_1" || got.Charge.Epsilon.Float() != 0.1 {
		t.Errorf("got %+v", got)
	}
}

func TestComparisonsThatDoNotFitAreRefusedWithTheirPlace(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for body, place := range map[string]string{
		`{"from":{"release":"rel_1"}}`:                                             "to",
		`{"from":{"release":"rel_1"},"to":{"release":"rel_2"},"as":"sum"}`:         "as",
		`{"from":{"release":"rel_1","key":"x"},"to":{"release":"rel_2"}}`:          "from.key",
		`{"from":{"release":"rel_1"},"to":{"release":"rel_2"},"of":"x"}`:           "of",
		`{"from":{"release":"rel_1"},"to":{"release":"rel_2"},"confidence":"0.9"}`: "confidence",
	} {
		got := read[wire.Problem](t, send(t, v, "auditor", "POST", "/v1/compare", body), 400)
		if len(got.Errors) == 0 || !strings.Contains(got.Errors[0].Location, place) && !strings.Contains(got.Errors[0].Message, place) {
			t.Errorf("%s: %+v", body, got)
		}
	}
}

func TestPlanHasThePriceAndNoGroups(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	body := `{"dataset":"transactions","metrics":["customers"],"by":["merchant_category"],"from":"2026-01-01","to":"2026-02-28","purpose":"reporting","epsilon":0.1}`
	resp := send(t, v, "product", "POST", "/v1/plans", body)
	raw := bodyOf(t, resp)
	var got wire.Plan
	if err := json.Unmarshal([]byte(raw), &got); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, raw)
	}
	if strings.Contains(raw, `"groups":`) {
		t.Error("a plan has groups")
	}
	e := got.Expected["customers"]
	if !(e.SD > 0 && e.Within > e.SD) || got.Charge.ID != "" || !reflect.DeepEqual(got.Charge.Blocks, []string{"2026-01", "2026-02"}) {
		t.Errorf("got %s", raw)
	}
	if got.Charge.Epsilon.Float() <= 0 || got.Charge.Epsilon.Float() > 0.1 || got.Charge.Epsilon != got.Privacy.Epsilon || got.Privacy.Unit != "customer_id" || got.PolicyVersion != 3 {
		t.Errorf("got %s", raw)
	}
	if got.FreeFrom != "rel_1" || got.Alternatives[0].Epsilon != "0.05" || got.Charge.Left.SimilarQueries == nil || *got.Charge.Left.SimilarQueries != 37 || got.Confidence != "0.95" {
		t.Errorf("got %s", raw)
	}
}

// Each body is wrong in one way; the answer says where, and repeats nothing of it.
func TestQueriesThatDoNotFitAreRefusedWithThePlace(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	const rest = `"dataset":"transactions","metrics":["customers"],"purpose":"reporting"`
	for name, c := range map[string]struct{ body, location, message string }{
		"unknown field":         {`{` + rest + `,"secret-4711":1}`, "body.secret-4711", "unexpected property"},
		"other case":            {`{` + rest + `,"Fresh":true}`, "body.Fresh", "unexpected property"},
		"nested unknown":        {`{` + rest + `,"where":[{"field":"a","equals":"secret-4711"}]}`, "body.where[0].equals", "unexpected property"},
		"missing":               {`{"metrics":["customers"],"purpose":"reporting"}`, "body", "expected required property dataset to be present"},
		"wrong type":            {`{` + rest + `,"by":"secret-4711"}`, "body.by", "expected array"},
		"epsilon as text":       {`{` + rest + `,"epsilon":"secret-4711"}`, "body.epsilon", "expected number"},
		"list in eq":            {`{` + rest + `,"where":[{"field":"a","eq":["secret-4711"]}]}`, "body.where[0].eq", "expected value to match exactly one schema but matched none"},
		"three clamps":          {`{` + rest + `,"clamp":{"spend":[1,2,4711]}}`, "body.clamp.spend", "expected array length <= 2"},
		"too large an int":      {`{` + rest + `,"max_partitions":47114711471147114711}`, "body", "has a value of the wrong type or out of range at byte "},
		"number out of floats":  {`{` + rest + `,"epsilon":1e4711}`, "body.epsilon", "expected number"},
		"not an object":         {`"secret-4711"`, "body", "expected object"},
		"syntax":                {"{" + rest + ",\n \"by\": [secret-4711]}", "body", "not valid JSON at byte 82 (line 2, column 9)"},
		"cut":                   {`{"dataset":"secret-4711"`, "body", "not valid JSON: it ends too early, at byte 24"},
		"two values":            {`{` + rest + `} {"secret-4711":1}`, "body", "the body must be a single JSON value: something follows it"},
		"key twice":             {`{` + rest + `,"epsilon":0.1,"epsilon":4711}`, "body", "has a key twice in one object, before byte "},
		"key twice inside":      {`{` + rest + `,"where":[{"field":"a","eq":1},{"field":"b","eq":"secret-4711","eq":2}]}`, "body", "has a key twice in one object, before byte "},
		"not UTF-8":             {`{` + rest + `,"from":"secret-4711` + "\xff" + `"}`, "body", "the body is not UTF-8"},
		"idempotency key":       {`{` + rest + `}`, "header.Idempotency-Key", "expected string to match pattern ^[!-~]*$"},
		"unknown parameter":     {`{` + rest + `}`, "query.secret", "unknown query parameter"},
		"null instead of a map": {`{` + rest + `,"define":[null]}`, "body.define[0]", "expected object"},
	} {
		path, headers := "/v1/queries", []string{}
		switch name {
		case "idempotency key":
			headers = []string{"Idempotency-Key", "secret 4711"}
		case "unknown parameter":
			path += "?secret=4711"
		}
		resp := send(t, v, "analyst", "POST", path, c.body, headers...)
		p := refused(t, resp, 400, "invalid-query")
		if len(p.Errors) == 0 || p.Errors[0].Location != c.location || !strings.HasPrefix(p.Errors[0].Message, c.message) {
			t.Errorf("%s: got %+v", name, p.Errors)
			continue
		}
		said := p.Detail + p.Errors[0].Message
		if strings.Contains(said, "4711") {
			t.Errorf("%s: the answer repeats the input: %s", name, said)
		}
	}
	if len(f.asked) != 0 {
		t.Error("a query that does not fit was asked")
	}
	if f.loggedDigits("4711") {
		t.Error("the log repeats the input")
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	loss, left := testLoss(), testLeft()
	left.Epsilon = 100_000_000_000
	ask := func(err error) func() wire.Problem {
		return func() wire.Problem {
			f.ask = func(dp.Query) (answer.Answer, error) { return answer.Answer{}, err }
			resp := send(t, v, "analyst", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`)
			var e *dp.Error
			errors.As(err, &e)
			k := kindOf(e.Code)
			p := refused(t, resp, k.status, k.typeName())
			if retry := resp.Header.Get("Retry-After"); (retry != "") != (k.status == 429 || k.status == 503) || (retry != "" && retry != "3") {
				t.Errorf("%s: Retry-After %q", e.Code, retry)
			}
			return p
		}
	}
	p := ask(&dp.Error{Code: dp.CodeBudgetExhausted, Message: "Not enough is left.", Required: &loss, Left: &left,
		Alternatives: []dp.Alternative{{Change: "ask by quarter", Epsilon: 50_000_000_000}}, Err: errors.New("secret")})()
	if p.Required.Epsilon != "0.3" || p.Left.Epsilon != "0.1" || p.Left.Account == "" || p.Alternatives[0].Epsilon != "0.05" {
		t.Errorf("got %+v", p)
	}
	p = ask(&dp.Error{Code: dp.CodeAccuracyUnattainable, Message: "Too sharp.", Best: map[string]float64{"customers": 12.5}})()
	if p.Best["customers"] != "12.5" {
		t.Errorf("got %+v", p)
	}
	p = ask(&dp.Error{Code: dp.CodeInvalidQuery, Message: "See the places.", Locations: []dp.Location{{Path: "where[1].field", Message: "is no dimension"}}})()
	if p.Errors[0].Location != "body.where[1].field" {
		t.Errorf("got %+v", p)
	}
	for _, k := range kinds() {
		ask(&dp.Error{Code: k.code, Message: "Do this.", RetryAfter: 2*time.Second + time.Millisecond})()
	}
	// The statuses that the contract promises, written down a second time.
	for code, status := range map[dp.Code]int{dp.CodeInvalidQuery: 400, dp.CodeUnauthenticated: 401, dp.CodeForbidden: 403, dp.CodePurposeNotAllowed: 403,
		dp.CodeBudgetExhausted: 403, dp.CodeNotFound: 404, dp.CodeNotAcceptable: 406, dp.CodeConflict: 409, dp.CodePreconditionFailed: 412,
		dp.CodePreconditionRequired: 428, dp.CodeTooLarge: 413, dp.CodeAccuracyUnattainable: 422, dp.CodeRateLimited: 429, dp.CodeUnavailable: 503, dp.CodeInternal: 500} {
		if kindOf(code).status != status {
			t.Errorf("%s is %d", code, kindOf(code).status)
		}
	}
}

func TestUnknownErrorsStayInTheLogWithoutWhatTheyQuote(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.ask = func(dp.Query) (answer.Answer, error) {
		return answer.Answer{}, errors.New(`reading segment 12: parsing "customer-4711": bad`)
	}
	p := refused(t, send(t, v, "analyst", "POST", "/v1/queries", `{"dataset":"transactions","metrics":["customers"],"purpose":"reporting"}`), 500, "internal")
	if strings.Contains(p.Detail, "segment") {
		t.Error("the caller is told of the inside")
	}
	log := f.logged()
	if f.loggedDigits("4711") || !strings.Contains(log, "reading segment 12") || !strings.Contains(log, strings.TrimPrefix(p.Instance, "urn:discreet:request:")) {
		t.Errorf("log: %s", log)
	}
}
