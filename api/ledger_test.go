package api

import (
	"net/http"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func refusingFakes(t *testing.T) *fakes {
	f := newFakes(t)
	f.status = LedgerStatus{State: "behind", Reason: "it has 5 entries and its witness saw 7", ID: "1f", Length: 5, Head: "ab", Witness: "/state/1f.witness"}
	f.ready = &dp.Error{Code: dp.CodeUnavailable, Message: f.status.Reason}
	return f
}

func TestLedgerThatRefusesSaysWhyAndIsNotReady(t *testing.T) {
	f := refusingFakes(t)
	v := newTestServer(t, f)
	for _, who := range []string{"officer", "auditor"} {
		got := read[wire.Ledger](t, send(t, v, who, "GET", "/v1/ledger", ""), 200)
		want := wire.Ledger{State: "behind", Reason: f.status.Reason, ID: "1f", Length: 5, Head: "ab", Witness: "/state/1f.witness"}
		if got != want {
			t.Errorf("%s reads %+v", who, got)
		}
	}
	if p := refused(t, send(t, v, "", "GET", "/readyz", ""), 503, "unavailable"); p.Detail != f.status.Reason {
		t.Errorf("not ready, because %q", p.Detail)
	}
}

func TestWriteOffNeedsAReasonAndIsDoneOnce(t *testing.T) {
	f := refusingFakes(t)
	v := newTestServer(t, f)
	post := func(who, body string, headers ...string) *http.Response {
		return send(t, v, who, "POST", "/v1/ledger/write-off", body, headers...)
	}
	refused(t, post("officer", ""), 400, "invalid-input")
	refused(t, post("auditor", "", "Discreet-Reason", "restored"), 403, "forbidden")
	refused(t, post("officer", `{"epsilon": -1}`, "Discreet-Reason", "restored"), 400, "invalid-input")
	refused(t, post("officer", `{"delta": 1e300}`, "Discreet-Reason", "restored"), 400, "invalid-input")
	if len(f.changes) != 0 {
		t.Fatalf("refused calls changed %+v", f.changes)
	}

	if got := read[wire.Ledger](t, post("officer", `{"epsilon": 12.0000000000001, "delta": 1e-9}`, "Discreet-Reason", "restored"), 200); got.State != "ok" {
		t.Errorf("afterwards the ledger is %+v", got)
	}
	want := change{what: "write-off", actor: "officer", reason: "restored", amount: dp.Budget{Epsilon: 12*dp.EpsilonOne + 1, Delta: dp.DeltaOne / 1_000_000_000}}
	if len(f.changes) != 1 || f.changes[0] != want {
		t.Fatalf("written off as %+v", f.changes)
	}
	// A repeat, perhaps of a call whose reply was lost.
	refused(t, post("officer", "", "Discreet-Reason", "restored"), 409, "conflict")
	read[wire.Ledger](t, post("officer", `{"force": true}`, "Discreet-Reason", "restored"), 200)
	if len(f.changes) != 2 || f.changes[1].amount != (dp.Budget{}) {
		t.Fatalf("written off as %+v", f.changes)
	}
}
