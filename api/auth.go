package api

import (
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// rule says who may call an operation.
type rule struct {
	open  bool      // anybody, without a key
	roles []dp.Role // who may; empty: any role
	views bool      // shows what is others': that somebody looked is in the audit log
}

func (r rule) viewing() rule {
	r.views = true
	return r
}

// rules is the table of which role may call what. An operation without a rule cannot be registered.
func rules() map[string]rule {
	asks := rule{roles: []dp.Role{dp.Product, dp.Analyst}}
	reports := rule{roles: []dp.Role{dp.Analyst}}
	officer := rule{roles: []dp.Role{dp.Officer}}
	custodian := rule{roles: []dp.Role{dp.Custodian}}
	oversees := rule{roles: []dp.Role{dp.Officer, dp.Auditor}}
	keeps := rule{roles: []dp.Role{dp.Officer, dp.Custodian}}
	anyRole := rule{}
	open := rule{open: true}
	return map[string]rule{
		"get-me":          anyRole,
		"ask":             asks,
		"plan":            asks,
		"compare":         anyRole, // who holds them
		"list-releases":   anyRole, // who holds it
		"get-release":     anyRole, // who holds it
		"make-report":     reports,
		"plan-report":     reports,
		"list-reports":    reports,
		"get-report":      reports,
		"cancel-report":   reports,
		"watch-report":    reports,
		"list-datasets":   anyRole,
		"get-dataset":     anyRole,
		"put-dataset":     officer,
		"load-rows":       custodian,
		"list-loads":      custodian,
		"erase":           custodian,
		"list-erasures":   {roles: []dp.Role{dp.Custodian, dp.Officer, dp.Auditor}},
		"run-erasures":    custodian,
		"list-accounts":   oversees.viewing(),
		"worst-case":      oversees.viewing(),
		"what-if":         oversees.viewing(),
		"get-budget":      anyRole, // its own
		"get-ledger":      oversees,
		"write-off":       officer,
		"back-up":         keeps,
		"list-backups":    keeps,
		"list-consumers":  officer.viewing(),
		"create-consumer": officer,
		"get-consumer":    officer.viewing(),
		"patch-consumer":  officer,
		"list-keys":       officer.viewing(),
		"issue-key":       officer,
		"revoke-key":      officer,
		"list-own-keys":   anyRole,
		"issue-own-key":   anyRole,
		"revoke-own-key":  anyRole,
		"list-allotments": officer.viewing(),
		"set-allotment":   officer,

		"request-budget":          asks,
		"list-budget-requests":    anyRole, // its own; officers and auditors all
		"get-budget-request":      anyRole, // likewise
		"withdraw-budget-request": anyRole, // its own
		"decide-budget-request":   officer,

		"list-proposals":        oversees,
		"get-proposal":          oversees,
		"decide-proposal":       officer,
		"withdraw-proposal":     officer, // its own
		"list-audit":            oversees.viewing(),
		"get-audit-checkpoint":  oversees,
		"export-audit":          oversees,
		"get-audit-proof":       oversees,
		"get-audit-consistency": oversees,

		"livez":  open,
		"readyz": open,
	}
}

func roleText(roles []dp.Role) string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = string(r)
	}
	return strings.Join(names, " or ")
}
