package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

const reportBody = `{"name": "spend", "dataset": "transactions", "purpose": "reporting", "from": "2026-01-01", "to": "2026-01-31", "epsilon": 1e-1, "delta": 1e-11,
	"weights": {"b": 2.50}, "schedule": "per_block", "equalise": "relative_error",
	"queries": [{"metrics": ["customers"]}, {"name": "b", "metrics": ["spend"], "by": ["time.day"], "where": [{"field": "amount", "gte": 10}], "within": {"spend": 5}}]}`

func TestReportIsReadAsItIsWritten(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	resp := send(t, v, "analyst", "POST", "/v1/reports", reportBody, "Idempotency-Key", "k")
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Location") != "/v1/reports/rep_k" {
		t.Fatalf("answered %s to %s", resp.Status, resp.Header.Get("Location"))
	}
	spec := f.specs[0]
	if spec.Epsilon != "1e-1" || spec.Delta != "1e-11" || spec.Weights["b"] != "2.50" || spec.Schedule != "per_block" || spec.Equalise != "relative_error" ||
		spec.Questions[0].Name != "" || spec.Questions[1].Name != "b" || spec.Questions[1].Query.Within["spend"] != "5" || *spec.Questions[1].Query.Where[0].Gte != "10" || spec.Questions[1].Query.Dataset != "" {
		t.Errorf("read %+v", spec)
	}
	for _, body := range []string{`{"queries": []}`, `{"name": "a", "queries": [{"metrics": ["m"], "nothing": 1}]}`, `{"name": "a", "equalise": "all", "queries": [{"metrics": ["m"]}]}`} {
		if resp := send(t, v, "analyst", "POST", "/v1/reports", body); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s answered %s", body, resp.Status)
		}
	}
}

func TestReportsAreTheirConsumersAlone(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	f.reports = []dp.Report{testReport("analyst", "rep_1", 2), testReport("partner", "rep_2", 1)}
	for path, want := range map[string]int{"/v1/reports/rep_1": 200, "/v1/reports/rep_2": 404, "/v1/reports/rep_2/events": 404, "/v1/reports": 200} {
		if resp := send(t, v, "analyst", "GET", path, ""); resp.StatusCode != want {
			t.Errorf("GET %s answered %s, not %d", path, resp.Status, want)
		}
	}
	if resp := send(t, v, "analyst", "DELETE", "/v1/reports/rep_2", ""); resp.StatusCode != 404 {
		t.Errorf("another consumer's report was cancelled: %s", resp.Status)
	}
	for _, role := range []string{"product", "officer", "custodian", "auditor"} {
		if resp := send(t, v, role, "GET", "/v1/reports", ""); resp.StatusCode != 403 {
			t.Errorf("%s lists reports: %s", role, resp.Status)
		}
	}
	var list wire.ReportList
	resp := send(t, v, "analyst", "GET", "/v1/reports", "")
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil || len(list.Items) != 1 || list.Items[0].State != "queued" || list.Items[0].Progress.All != 2 {
		t.Errorf("the list is %+v, %v", list, err)
	}
	resp = send(t, v, "analyst", "DELETE", "/v1/reports/rep_1", "")
	var r wire.Report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || r.State != "cancelled" || r.Cancelled == nil {
		t.Errorf("cancelled it is %+v, %v", r, err)
	}
}

// TestReportIsExportedAsItIsRead: every format comes whole, and one that cannot be read is cut off and not taken for whole.
func TestReportIsExportedAsItIsRead(t *testing.T) {
	f := newFakes(t)
	r := testReport("analyst", "rep_1", 3)
	r.Runs[0].Parts[0].Release, r.Runs[0].Parts[0].Query.By, r.Runs[0].Parts[0].Stale = "rel_1", []string{"merchant_category"}, true
	r.Runs[0].Parts[1].Failure = &dp.Error{Code: dp.CodeInternal, Message: "m"}
	f.reports = []dp.Report{r}
	url, stop := listen(t, newTestServer(t, f))
	defer stop()
	c, err := client.New(url, "dk_analyst", nil)
	if err != nil {
		t.Fatal(err)
	}
	now, err := c.Report(t.Context(), "rep_1")
	if err != nil || !now.Runs[0].Parts[0].Stale || now.Runs[0].Parts[1].Stale {
		t.Errorf("it stands at %+v, %v", now.Runs, err)
	}
	for format, want := range map[string]string{
		"csv":    "run,question,dataset,release,level,merchant_category,metric,value,low,high,sd,stale\n1,q1,transactions,rel_1,0,\"dining, out\",customers,-6,-41,29,17.9,true\n",
		"ndjson": `{"run":"1","question":"q1","dataset":"transactions","release":"rel_1","level":0,"key":{"merchant_category":"dining, out"},"metric":"customers","value":-6,`,
		"arrow":  "\xff\xff\xff\xff",
		"html":   "<!doctype html>",
	} {
		var b strings.Builder
		if err := c.WriteReport(t.Context(), &b, "rep_1", format); err != nil || !strings.HasPrefix(b.String(), want) {
			t.Errorf("%s is %.200q, %v", format, b.String(), err)
		}
		if format == "html" && (!strings.Contains(b.String(), "q2 has no answer: m") || !strings.Contains(b.String(), "Rows were loaded") || !strings.HasSuffix(b.String(), "</html>\n")) {
			t.Errorf("the page is\n%s", b.String())
		}
	}
	f.changeReport("rep_1", func(r *dp.Report) { r.Runs[0].Parts[2].Release = "rel_gone" })
	for _, format := range []string{"csv", "ndjson", "arrow", "html"} {
		if err := c.WriteReport(t.Context(), io.Discard, "rep_1", format); err == nil {
			t.Errorf("%s: half of a report is taken for all of it", format)
		}
	}
}

func TestReportPlanAddsUp(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	body := `{"name": "spend", "queries": [{"name": "a", "dataset": "transactions", "purpose": "reporting", "metrics": ["customers"], "from": "2026-01-01", "to": "2026-01-31"}]}`
	resp := send(t, v, "analyst", "POST", "/v1/report-plans", body)
	var p wire.ReportPlan
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || len(p.Queries) != 1 || p.Queries[0].Plan.Expected["customers"].Within <= 0 || p.Charges[0].Epsilon != "0.3" || len(p.Left) != 1 {
		t.Errorf("the plan is %+v, %v", p, err)
	}
	f.submit = &dp.Error{Code: dp.CodeInvalidQuery, Message: "no", Locations: []dp.Location{{Path: "queries[1].by[0]", Message: "is no field"}}}
	resp = send(t, v, "analyst", "POST", "/v1/report-plans", body)
	var problem wire.Problem
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || resp.StatusCode != 400 || problem.Errors[0].Location != "body.queries[1].by[0]" {
		t.Errorf("answered %s, %+v, %v", resp.Status, problem, err)
	}
}

func TestEventsTellOfEveryChangeUntilTheReportHasEnded(t *testing.T) {
	f := newFakes(t)
	f.reports = []dp.Report{testReport("analyst", "rep_1", 2)}
	url, stop := listen(t, newTestServer(t, f))
	defer stop()
	c, err := client.New(url, "dk_analyst", nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	err = c.WatchReport(t.Context(), "rep_1", func(r wire.Report) error {
		seen = append(seen, r.State)
		switch len(seen) {
		case 1:
			f.changeReport("rep_1", func(*dp.Report) {}) // nothing to tell
			f.changeReport("rep_1", func(r *dp.Report) { r.Runs[0].Parts[0].Release = "rel_1" })
		case 2:
			f.changeReport("rep_1", func(r *dp.Report) { r.Runs[0].Parts[1].Failure = &dp.Error{Code: dp.CodeInternal, Message: "m"} })
		}
		return nil
	})
	if err != nil || strings.Join(seen, " ") != "queued running failed" {
		t.Errorf("saw %v, %v", seen, err)
	}
}

func TestEventsEndWhereTheCallerLeavesOrTheServerStops(t *testing.T) {
	f := newFakes(t)
	f.reports = []dp.Report{testReport("analyst", "rep_1", 1)}
	url, stop := listen(t, newTestServer(t, f))
	open := func(ctx context.Context) *http.Response {
		req, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/reports/rep_1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer dk_analyst")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); got != eventsType {
			t.Errorf("events are sent as %s", got)
		}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: ") {
				return resp
			}
		}
		t.Fatal("no event came")
		return nil
	}
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	first := open(leaving)
	defer first.Body.Close()
	second := open(t.Context())
	defer second.Body.Close()
	leave()
	stop() // would wait for both
}
