package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

func operations(v *Server) map[string]*huma.Operation {
	all := map[string]*huma.Operation{}
	for _, path := range v.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete, path.Patch, path.Head} {
			if op != nil {
				all[op.OperationID] = op
			}
		}
	}
	return all
}

// callOf fills an operation's path with names that fit.
func callOf(op *huma.Operation) string {
	path := strings.NewReplacer("{dataset}", "transactions", "{consumer}", "product", "{id}", "rel_1", "{key}", "key_1", "{index}", "0").Replace(op.Path)
	if op.OperationID == "get-audit-consistency" {
		path += "?from=1"
	}
	return path
}

func TestOperationWithoutARuleIsRefused(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	all := operations(v)
	for id := range all {
		if _, ok := v.rules[id]; !ok {
			t.Errorf("%s has no rule", id)
		}
	}
	for id := range v.rules {
		if all[id] == nil {
			t.Errorf("there is a rule of %s, but no such operation", id)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an operation without a rule was registered")
		}
	}()
	delete(v.rules, "get-me")
	register(v, huma.Operation{OperationID: "get-me", Method: http.MethodGet, Path: "/v1/me2"}, v.getMe)
}

func TestEveryOperationAdmitsItsRolesAndNoOther(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for id, op := range operations(v) {
		rule := v.rules[id]
		if rule.open {
			continue
		}
		for _, role := range roles() {
			resp := send(t, v, string(role), op.Method, callOf(op), "")
			allowed := len(rule.roles) == 0
			for _, r := range rule.roles {
				allowed = allowed || r == role
			}
			if allowed != (resp.StatusCode != http.StatusForbidden) {
				t.Errorf("%s as %s: status %d", id, role, resp.StatusCode)
			}
			if !allowed {
				refused(t, resp, http.StatusForbidden, "forbidden")
			}
		}
	}
}

// The roles as the contract has them, written down a second time.
func TestRolesAreThoseOfTheContract(t *testing.T) {
	contract := map[string]string{
		"ask": "product analyst", "plan": "product analyst", "compare": "", "put-dataset": "officer", "load-rows": "custodian", "list-loads": "custodian", "erase": "custodian", "run-erasures": "custodian", "list-erasures": "custodian officer auditor",
		"list-accounts": "officer auditor", "worst-case": "officer auditor", "what-if": "officer auditor", "get-ledger": "officer auditor", "list-audit": "officer auditor", "get-audit-checkpoint": "officer auditor", "export-audit": "officer auditor", "get-audit-proof": "officer auditor", "get-audit-consistency": "officer auditor", "write-off": "officer", "back-up": "officer custodian", "list-backups": "officer custodian", "list-consumers": "officer", "create-consumer": "officer", "get-consumer": "officer",
		"patch-consumer": "officer", "list-keys": "officer", "issue-key": "officer", "revoke-key": "officer", "list-own-keys": "", "issue-own-key": "", "revoke-own-key": "", "list-allotments": "officer",
		"request-budget": "product analyst", "list-budget-requests": "", "get-budget-request": "", "withdraw-budget-request": "", "decide-budget-request": "officer",
		"list-proposals": "officer auditor", "get-proposal": "officer auditor", "decide-proposal": "officer", "withdraw-proposal": "officer",
		"set-allotment": "officer", "make-report": "analyst", "plan-report": "analyst", "list-reports": "analyst", "get-report": "analyst", "cancel-report": "analyst", "watch-report": "analyst", "get-me": "", "list-releases": "", "get-release": "", "list-datasets": "", "get-dataset": "", "get-budget": "",
	}
	for id, rule := range rules() {
		if rule.open {
			if id != "livez" && id != "readyz" {
				t.Errorf("%s is open", id)
			}
			continue
		}
		want, ok := contract[id]
		if got := strings.ReplaceAll(roleText(rule.roles), " or ", " "); !ok || got != want {
			t.Errorf("%s admits %q, want %q", id, got, want)
		}
	}
}

func TestWithoutAKeyNothingIsAnswered(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for id, op := range operations(v) {
		if v.rules[id].open {
			continue
		}
		for name, header := range map[string]string{"none": "", "unknown": "Bearer dk_unknown", "basic": "Basic dk_analyst", "bare": "dk_analyst", "wrong prefix": "Bearer analyst"} {
			resp := send(t, v, "", op.Method, callOf(op), "", "Authorization", header)
			refused(t, resp, http.StatusUnauthorized, "unauthenticated")
			if resp.Header.Get("WWW-Authenticate") != `Bearer realm="discreet"` {
				t.Errorf("%s with %s: no WWW-Authenticate", id, name)
			}
		}
	}
}

func TestMeTellsWhoCallsAndNeverTheKey(t *testing.T) {
	f := newFakes(t)
	v := newTestServer(t, f)
	me := read[wire.Me](t, send(t, v, "analyst", "GET", "/v1/me", ""), 200)
	if me.Name != "analyst" || me.Role != "analyst" || me.Key != "key_analyst" || me.Purposes[0] != "reporting" || me.Version != 2 {
		t.Errorf("got %+v", me)
	}
	if log := f.logged(); strings.Contains(log, "dk_") || !strings.Contains(log, "consumer=analyst") {
		t.Errorf("log: %s", log)
	}
}

func TestDatasetsOfOtherAudiencesDoNotExist(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	list := read[wire.DatasetList](t, send(t, v, "partner", "GET", "/v1/datasets", ""), 200)
	if len(list.Items) != 0 {
		t.Errorf("a third party sees %v", list.Items)
	}
	hidden := refused(t, send(t, v, "partner", "GET", "/v1/datasets/transactions", ""), 404, "not-found")
	none := refused(t, send(t, v, "partner", "GET", "/v1/datasets/nothing", ""), 404, "not-found")
	if hidden.Title != none.Title || hidden.Detail != none.Detail {
		t.Error("a hidden dataset is refused in other words than one that does not exist")
	}
	if list := read[wire.DatasetList](t, send(t, v, string(dp.Auditor), "GET", "/v1/datasets", ""), 200); len(list.Items) != 1 {
		t.Errorf("an auditor sees %v", list.Items)
	}
}
