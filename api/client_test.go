package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

func dial(t testing.TB, base, as string) *client.Client {
	t.Helper()
	c, err := client.New(base+"/", "dk_"+as, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The client and the server are two readings of one contract: each call goes through both.
func TestClientSpeaksWithTheServer(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	ctx := context.Background()
	analyst, officer, custodian := dial(t, base, "analyst"), dial(t, base, "officer"), dial(t, base, "custodian")
	check := func(what string, ok bool, err error) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", what, ok, err)
		}
	}

	check("ready", true, analyst.Ready(ctx))
	me, err := analyst.Me(ctx)
	check("me", me.Name == "analyst", err)

	ten := wire.Text("10.50")
	q := wire.Query{Dataset: "transactions", Metrics: []string{"customers"}, Purpose: "reporting", From: "2026-01-01", To: "2026-01-31",
		Where: []wire.Condition{{Field: "amount", Gte: &ten}}, Within: map[string]wire.Decimal{"customers": "35"}}
	r, err := analyst.Query(ctx, q, "k-1")
	check("query", r.Groups[1].Values["customers"].Value == 1234 && *r.Charge.Left.SimilarQueries == 37 && !*r.Reused, err)
	a := f.asked[0]
	check("query as asked", a.key == "k-1" && *a.query.Where[0].Gte == "10.50" && a.query.Where[0].In == nil && a.query.Within["customers"] == "35" && a.query.Epsilon == "", nil)
	p, err := analyst.Plan(ctx, wire.Query{Dataset: "transactions", Metrics: []string{"customers"}, Purpose: "reporting", From: "2026-01-01", To: "2026-01-31"})
	check("plan", p.Expected["customers"].Within > 0, err)

	compared, err := analyst.Compare(ctx, wire.Comparison{From: wire.Cell{Release: "rel_1"}, To: wire.Cell{Release: "rel_2", Key: map[string]string{"a": "b"}, Metric: "m"}, As: "ratio", Confidence: "0.90"})
	check("compare", compared.As == "ratio" && *compared.Cells[0].Change.Low == 7 && compared.Cells[1].Change.Low == nil && compared.Cells[0].Verdict == "up" && compared.Missing == 1, err)
	cmp := f.compared[0].comparison
	check("comparison as asked", f.compared[0].who == "analyst" && cmp.Ratio && cmp.Confidence == "0.90" && cmp.From.Key == nil && cmp.To.Key["a"] == "b" && cmp.To.Metric == "m", nil)

	list, err := analyst.Releases(ctx, "transactions", client.Page{Limit: 10})
	check("releases", len(list.Items) == 1, err)
	r, err = analyst.Release(ctx, "rel_1")
	check("release", len(r.Groups) == 2 && r.Reused == nil, err)
	var csv bytes.Buffer
	err = analyst.WriteRelease(ctx, &csv, "rel_1", "csv")
	check("release as CSV", strings.HasPrefix(csv.String(), "merchant_category,"), err)
	budget, err := analyst.Budget(ctx, "", client.Page{})
	check("budget", len(budget.Accounts) == 0, err)

	datasets, err := analyst.Datasets(ctx, client.Page{})
	check("datasets", len(datasets.Items) == 1, err)
	d, err := officer.Dataset(ctx, "transactions")
	check("dataset", d.Version == 3, err)
	d, err = officer.ApplyPolicy(ctx, "transactions", []byte(policySource), client.Change{IfMatch: 3, Reason: "größere Grenzen"})
	check("policy", d.Version == 4 && *f.changes[0].ifMatch == 3 && f.changes[0].reason == "größere Grenzen", err)
	accounts, err := officer.Accounts(ctx, "transactions", client.Page{})
	check("accounts", len(accounts.Items) == 0, err)

	c, err := officer.CreateConsumer(ctx, wire.NewConsumer{Name: "growth", Role: "product"}, client.Change{})
	check("create consumer", c.Name == "growth", err)
	role := "analyst"
	_, err = officer.PatchConsumer(ctx, "growth", wire.ConsumerPatch{Role: &role}, client.Change{IfMatch: 1})
	check("patch consumer", *f.changes[2].patch.Role == dp.Analyst && f.changes[2].patch.Purposes == nil, err)
	c, err = officer.Consumer(ctx, "product")
	check("consumer", c.Role == "product", err)
	consumers, err := officer.Consumers(ctx, client.Page{Limit: 2})
	check("consumers", len(consumers.Items) == 2 && consumers.Next != "", err)
	k, err := officer.IssueKey(ctx, "product", wire.NewKey{}, client.Change{})
	check("issue key", k.Text == "dk_new", err)
	keys, err := officer.Keys(ctx, "product", client.Page{})
	check("keys", len(keys.Items) == 2, err)
	check("revoke key", true, officer.RevokeKey(ctx, "product", "key_a", client.Change{}))
	al, err := officer.SetAllotment(ctx, "product", "transactions", wire.NewAllotment{Epsilon: "0.1", Delta: "1e-11"}, client.Change{IfNone: true})
	check("set allotment", al.Epsilon == "0.1" && f.changes[len(f.changes)-1].allotment.Budget == dp.Budget{Epsilon: 100_000_000_000, Delta: 10_000_000}, err)
	als, err := officer.Allotments(ctx, "product", client.Page{})
	check("allotments", len(als.Items) == 0, err)

	body := csvOf(100_000)
	for _, length := range []int64{int64(len(body)), -1} {
		report, err := custodian.Load(ctx, "transactions", client.Upload{Body: strings.NewReader(body), Length: length, Format: "csv", Name: "january", From: "2026-01-01", To: "2026-01-31", DryRun: true})
		check("load", err == nil && report.Accepted == 2 && f.lastLoad(t).body == body && f.lastLoad(t).spec.DryRun, err)
	}
	z := compress(t, body)
	_, err = custodian.Load(ctx, "transactions", client.Upload{Body: strings.NewReader(z), Length: -1, Format: "ndjson", Gzip: true, IdempotencyKey: "k"})
	check("compressed load", f.lastLoad(t).body == body && f.lastLoad(t).spec.Name == "k" && f.lastLoad(t).spec.Format == NDJSON, err)
	loads, err := custodian.Loads(ctx, "transactions", client.Page{})
	check("loads", len(loads.Items) == 1, err)
}

func TestClientHandsOutProblemsAsTheyAre(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	loss, left := testLoss(), testLeft()
	f.ask = func(dp.Query) (answer.Answer, error) {
		return answer.Answer{}, &dp.Error{Code: dp.CodeBudgetExhausted, Message: "Not enough is left.", Required: &loss, Left: &left, Alternatives: []dp.Alternative{{Change: "ask less", Epsilon: 1}}}
	}
	_, err := dial(t, base, "analyst").Query(context.Background(), wire.Query{Dataset: "transactions", Metrics: []string{"customers"}, Purpose: "reporting"}, "")
	var p *client.Problem
	if !errors.As(err, &p) || p.Code != "budget-exhausted" || p.Status != 403 || p.Required.Epsilon != "0.3" || p.Left.Epsilon != "2.1" || p.Alternatives[0].Epsilon != "0.000000000001" {
		t.Errorf("got %#v", err)
	}
	f.ask = func(dp.Query) (answer.Answer, error) {
		return answer.Answer{}, &dp.Error{Code: dp.CodeUnavailable, Message: "Later."}
	}
	_, err = dial(t, base, "analyst").Query(context.Background(), wire.Query{Dataset: "transactions", Metrics: []string{}, Purpose: "reporting"}, "")
	if !errors.As(err, &p) || p.Code != "unavailable" || p.RetryAfter != 1 {
		t.Errorf("got %#v", err)
	}
	_, err = dial(t, base, "nobody").Me(context.Background())
	if !errors.As(err, &p) || p.Code != "unauthenticated" {
		t.Errorf("got %#v", err)
	}
}

func TestUploadWhoseSourceFailsIsNotTakenForAWholeOne(t *testing.T) {
	f := newFakes(t)
	base, stop := listen(t, newTestServer(t, f))
	defer stop()
	body := csvOf(100_000)
	for _, length := range []int64{int64(len(body)), -1} {
		source := io.MultiReader(strings.NewReader(body[:60_000]), iotest.ErrReader(errors.New("the disk went away")))
		_, err := dial(t, base, "custodian").Load(context.Background(), "transactions", client.Upload{Body: source, Length: length, Format: "csv"})
		if err == nil {
			t.Error("loaded")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.loads {
		if l.readErr == nil && l.verifyErr == nil {
			t.Error("verified")
		}
	}
}

// Closing the connection on a sender would destroy the answer that says why.
func TestRefusalOfALargeUploadArrives(t *testing.T) {
	base, stop := listen(t, newTestServer(t, newFakes(t), func(o *Options) { o.MaxUpload = 1000 }))
	defer stop()
	body := csvOf(20_000_000)
	for range 10 {
		for as, code := range map[string]string{"nobody": "unauthenticated", "analyst": "forbidden", "custodian": "too-large"} {
			_, err := dial(t, base, as).Load(context.Background(), "transactions", client.Upload{Body: strings.NewReader(body), Length: int64(len(body)), Format: "csv"})
			var p *client.Problem
			if !errors.As(err, &p) || p.Code != code {
				t.Errorf("as %s: got %v", as, err)
			}
		}
	}
}
