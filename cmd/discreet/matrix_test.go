package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// access is what one operation answers to whom: which roles are let in, and what those are answered about an object of their
// own, about one of somebody else's that there is, and about one that there is not. A cell holds a status, then the roles
// that it is for, where not for all; what differs by role is parted by semicolons; whoever is not in it has no such object. What is not let in is
// answered 403, whatever the object; who is not signed in, 401.
type access struct {
	may     string // roles; "any" role, or "open" to all
	own     string
	another string
	missing string

	query, body string // with {…} as in the path, and {release}, {second}
	headers     map[string]string
	// apart says that what there is of others is not to be told from what there is not, byte for byte.
	apart bool
}

const (
	everyone = "any"
	asking   = "product analyst"
	over     = "officer auditor"
)

// accesses is the whole table, by operation. An operation of the API that has no row here fails the test.
func accesses() map[string]access {
	reason := map[string]string{"Discreet-Reason": "a test"}
	versioned := func(v string) map[string]string {
		return map[string]string{"Discreet-Reason": "a test", "If-Match": strconv.Quote(v)}
	}
	const query = `{"dataset": "{dataset}", "metrics": ["rows"], "from": "2026-01-01", "to": "2026-01-31", "epsilon": 0.1, "purpose": "reporting"}`
	const report = `{"name": "matrix", "dataset": "{dataset}", "purpose": "reporting", "from": "2026-01-01", "to": "2026-01-31", "epsilon": 0.1, "queries": [{"name": "rows", "metrics": ["rows"]}]}`
	return map[string]access{
		"livez":  {may: "open", own: "200"},
		"readyz": {may: "open", own: "200"},

		"get-me":         {may: everyone, own: "200"},
		"list-own-keys":  {may: everyone, own: "200"},
		"issue-own-key":  {may: everyone, own: "201", body: `{}`},
		"revoke-own-key": {may: everyone, own: "204", another: "404", missing: "404", apart: true},

		"ask":           {may: asking, own: "200", another: "404", missing: "404", apart: true, body: query},
		"plan":          {may: asking, own: "200", another: "404", missing: "404", apart: true, body: query},
		"compare":       {may: everyone, own: "200 product analyst", another: "404", missing: "404", apart: true, body: `{"from": {"release": "{release}"}, "to": {"release": "{second}"}}`},
		"list-releases": {may: everyone, own: "200"},
		"get-release":   {may: everyone, own: "200 product analyst", another: "404", missing: "404", apart: true},

		"make-report":   {may: "analyst", own: "202", another: "404", missing: "404", apart: true, body: report},
		"plan-report":   {may: "analyst", own: "200", another: "404", missing: "404", apart: true, body: report},
		"list-reports":  {may: "analyst", own: "200"},
		"get-report":    {may: "analyst", own: "200", another: "404", missing: "404", apart: true},
		"watch-report":  {may: "analyst", own: "200", another: "404", missing: "404", apart: true},
		"cancel-report": {may: "analyst", own: "200", another: "404", missing: "404", apart: true},

		// Those who set, load and oversee know of datasets of every audience.
		"list-datasets": {may: everyone, own: "200"},
		"get-dataset":   {may: everyone, own: "200", another: "404 product analyst; 200", missing: "404", apart: true},
		"put-dataset":   {may: "officer", own: "200", another: "428", body: strings.Replace(trapPolicy, "name: cards", "name: {dataset}", 1), headers: map[string]string{"Content-Type": "application/yaml", "Discreet-Reason": "a test"}},
		"load-rows":     {may: "custodian", own: "415", another: "415", missing: "404", body: `{}`},
		"list-loads":    {may: "custodian", own: "200", another: "200", missing: "404"},
		"erase":         {may: "custodian", own: "202", another: "202", missing: "404", body: `{"unit": "nobody"}`},
		"list-erasures": {may: "custodian officer auditor", own: "200", another: "200", missing: "404"},
		"run-erasures":  {may: "custodian", own: "202"},
		"list-accounts": {may: over, own: "200", another: "200", missing: "404"},
		"worst-case":    {may: over, own: "200", another: "200", missing: "404"},
		"what-if":       {may: over, own: "200", another: "200", missing: "404", body: `{"cap": {"epsilon": 2}}`},

		"get-budget":              {may: everyone, own: "200"},
		"request-budget":          {may: asking, own: "200", another: "404", missing: "404", apart: true, body: `{"dataset": "{dataset}", "epsilon": 0.9, "reason": "more"}`},
		"list-budget-requests":    {may: everyone, own: "200"},
		"get-budget-request":      {may: everyone, own: "200 product analyst", another: "404 product analyst custodian; 200", missing: "404", apart: true},
		"withdraw-budget-request": {may: everyone, own: "200 product analyst", another: "404", missing: "404", apart: true},
		"decide-budget-request":   {may: "officer", another: "428", missing: "404", body: `{"decision": "deny"}`, headers: reason},

		"list-consumers":  {may: "officer", own: "200"},
		"create-consumer": {may: "officer", own: "409", another: "409", body: `{"name": "{consumer}", "role": "product"}`},
		"get-consumer":    {may: "officer", own: "200", another: "200", missing: "404"},
		"patch-consumer":  {may: "officer", own: "428", another: "428", missing: "404", body: `{"organisation": "elsewhere"}`, headers: reason},
		"list-keys":       {may: "officer", own: "200", another: "200", missing: "404"},
		"issue-key":       {may: "officer", own: "201", another: "201", missing: "404", body: `{}`},
		"revoke-key":      {may: "officer", own: "204", another: "404", missing: "404", apart: true},
		"list-allotments": {may: "officer", own: "200", another: "200", missing: "404"},
		"set-allotment":   {may: "officer", own: "412", another: "412", missing: "404", body: `{"epsilon": 0.1}`, headers: versioned("99")},

		"list-proposals":    {may: over, own: "200"},
		"get-proposal":      {may: over, own: "200 officer", another: "200", missing: "404"},
		"decide-proposal":   {may: "officer", own: "403", another: "200", missing: "404", body: `{"confirm": false}`, headers: reason},
		"withdraw-proposal": {may: "officer", own: "200", another: "403", missing: "404", headers: reason},

		"get-ledger":            {may: over, own: "200"},
		"write-off":             {may: "officer", own: "409", body: `{"epsilon": 0, "delta": 0}`, headers: reason},
		"list-audit":            {may: over, own: "200"},
		"get-audit-checkpoint":  {may: over, own: "200"},
		"export-audit":          {may: over, own: "200"},
		"get-audit-consistency": {may: over, own: "200", query: "from=1"},
		"get-audit-proof":       {may: over, own: "200", missing: "404"},
		"list-backups":          {may: "officer custodian", own: "200"},
		"back-up":               {may: "officer custodian", own: "202 officer; 202|409 custodian"}, // one at a time
	}
}

// stage is a served ledger with somebody of every role, in every state of their credentials, and objects of theirs.
type stage struct {
	*harness
	keys  map[dp.Role]string            // in force
	out   map[string]map[dp.Role]string // by why they are not
	ids   map[string]string             // of objects: kind, and whose: a role's name, or another
	ahead atomic.Int64
}

func stageRoles() []dp.Role {
	return []dp.Role{dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor}
}

func newStage(t *testing.T) *stage {
	s := &stage{harness: &harness{t: t, dir: t.TempDir() + "/data", state: t.TempDir()}, keys: map[dp.Role]string{}, ids: map[string]string{},
		out: map[string]map[dp.Role]string{"expired": {}, "revoked": {}, "suspended": {}}}
	started, stop := s.startAt(exact{}, func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }, "--failed-sign-ins", "1000", "--backups", t.TempDir(), "--backup-plain")
	t.Cleanup(stop)
	s.officer = keyIn(started)
	issue := func(name string, more ...string) wire.IssuedKey {
		var k wire.IssuedKey
		s.mustJSON(&k, s.officer, append([]string{"key", "add", name, "--reason", "a test"}, more...)...)
		return k
	}
	s.hire("team", dp.Analyst, "reporting")
	grace := s.hire("grace", dp.Officer)
	s.ids["key another"] = issue("team").ID
	for _, role := range stageRoles() {
		name := string(role)
		s.keys[role] = s.officer
		if role != dp.Officer {
			s.keys[role] = s.hire(name, role, "reporting")
		}
		s.ids["key "+name] = issue(name).ID
		s.out["expired"][role] = issue(name, "--expires", time.Now().Add(time.Hour).Format(time.RFC3339)).Text
		revoked := issue(name)
		s.must(s.officer, "key", "revoke", name, revoked.ID, "--reason", "a test")
		s.out["revoked"][role] = revoked.Text
		s.out["suspended"][role] = s.hire(name+"-gone", role)
		s.must(s.officer, "consumer", "set", name+"-gone", "--suspended", "--reason", "a test")
	}
	s.apply(trapPolicy)
	s.apply(strings.NewReplacer("name: cards", "name: outside", "[internal]", "[third-party]").Replace(trapPolicy))

	team := issue("team").Text
	for name, key := range map[string]string{"product": s.keys[dp.Product], "analyst": s.keys[dp.Analyst], "another": team} {
		consumer, metric := name, "rows"
		if name == "another" {
			consumer, metric = "team", "customers"
		}
		s.allot(consumer, "cards", "0.9", "0")
		var release wire.Release
		s.mustJSON(&release, key, "query", "cards", metric, "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.1", "--purpose", "reporting")
		s.ids["release "+name] = release.ID
		s.mustJSON(&release, key, "query", "cards", metric, "--from", "2026-02-01", "--to", "2026-02-28", "--epsilon", "0.1", "--purpose", "reporting")
		s.ids["second "+name] = release.ID
		s.ids["request "+name] = s.posted(key, "/v1/budget-requests", `{"dataset": "cards", "epsilon": 0.9, "reason": "more"}`)
		if name == "product" {
			continue
		}
		id := s.posted(key, "/v1/reports", fmt.Sprintf(`{"name": "own", "dataset": "cards", "purpose": "reporting", "from": "2026-02-01", "to": "2026-02-28", "epsilon": 0.1, "queries": [{"name": "rows", "metrics": [%q]}]}`, metric))
		if err := s.client(key).WatchReport(t.Context(), id, func(wire.Report) error { return nil }); err != nil {
			t.Fatal(err)
		}
		s.ids["report "+name] = id
	}
	s.apply(strings.Replace(trapPolicy, "name: cards", "name: pair", 1) + "two_person: true\n")
	s.ids["proposal officer"] = s.proposed(s.officer, "allotment", "set", "team", "pair", "--epsilon", "0.5", "--reason", "a test").ID
	s.ids["proposal another"] = s.proposed(grace, "allotment", "set", "product", "pair", "--epsilon", "0.5", "--reason", "a test").ID
	s.ahead.Store(int64(2 * time.Hour)) // ends the keys that expire
	return s
}

// posted makes something and gives its id.
func (s *stage) posted(key, path, body string) string {
	s.t.Helper()
	status, _, text := s.raw(refusal{key: key, method: http.MethodPost, path: path, body: body})
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status >= 300 || made.ID == "" {
		s.t.Fatalf("POST %s: %d %s", path, status, text)
	}
	return made.ID
}

// idKinds is what {id} stands for in a path.
func idKind(path string) string {
	for part, kind := range map[string]string{"/releases/": "release", "/reports/": "report", "/budget-requests/": "request", "/proposals/": "proposal"} {
		if strings.Contains(path, part) {
			return kind
		}
	}
	return ""
}

// fill names an object in a path or a body: whose is a role, "another" or "missing".
func (s *stage) fill(text, path, whose string) string {
	names := map[string][3]string{ // own, another's, missing
		"dataset": {"cards", "outside", "none"}, "consumer": {whose, "team", "nobody"}, "index": {"0", "0", "99999999"},
	}
	at := 0
	switch whose {
	case "another":
		at = 1
	case "missing":
		at = 2
	}
	var pairs []string
	for name, list := range names {
		if strings.Contains(path, "{consumer}") && strings.Contains(path, "{key}") && name == "consumer" && at > 0 {
			list[at] = string(dp.Officer) // whose key it would be
		}
		pairs = append(pairs, "{"+name+"}", list[at])
	}
	id := func(kind string) string {
		if at == 2 {
			return kind + "_none"
		}
		if own := s.ids[kind+" "+whose]; own != "" {
			return own
		}
		return s.ids[kind+" another"] // of who has none, and is not let in
	}
	return strings.NewReplacer(append(pairs, "{id}", id(idKind(path)), "{key}", id("key"), "{release}", id("release"), "{second}", id("second"))...).Replace(text)
}

// operation is one of the OpenAPI document.
type operation struct {
	method, path string
	open         bool
	may          string // as its description ends
}

// publishedOperations are those that the committed document has, by id.
func publishedOperations(t *testing.T) map[string]operation {
	t.Helper()
	text, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string
			Description string
			Security    []map[string][]string
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	all := map[string]operation{}
	for path, methods := range document.Paths {
		for method, op := range methods {
			_, may, _ := strings.Cut(op.Description[strings.LastIndex(op.Description, "For ")+1:], " ")
			all[op.OperationID] = operation{strings.ToUpper(method), path, len(op.Security) == 0, strings.TrimSuffix(may, ".")}
		}
	}
	return all
}

// cell reads a cell of the table for a role: the status, or several, and whether the role has such an object.
func cell(text string, role dp.Role) (want []string, has bool) {
	for part := range strings.SplitSeq(text, ";") {
		fields := strings.Fields(part)
		if len(fields) == 1 || len(fields) > 1 && slices.Contains(fields[1:], string(role)) {
			return strings.Split(fields[0], "|"), true
		}
	}
	return nil, false
}

func (a access) admits(role dp.Role) bool {
	return a.may == everyone || a.may == "open" || slices.Contains(strings.Fields(a.may), string(role))
}

// TestWhoMayDoWhatToWhichObject holds every operation, for every role, under every state of its credentials, about objects of
// its own, of others and of nobody, to the table above, over a real server.
func TestWhoMayDoWhatToWhichObject(t *testing.T) {
	sequential(t)
	table, published := accesses(), publishedOperations(t)
	for id := range published {
		if _, ok := table[id]; !ok {
			t.Errorf("%s has no row: say in the table who may do it, and what they are answered", id)
		}
	}
	for id := range table {
		if _, ok := published[id]; !ok {
			t.Errorf("there is a row of %s, but no such operation", id)
		}
	}
	s := newStage(t)
	calls := 0
	for _, id := range slices.Sorted(maps.Keys(published)) {
		a, op := table[id], published[id]
		said := strings.Fields(strings.NewReplacer("every role", everyone, " or ", " ").Replace(op.may))
		if a.may == "open" && !op.open || a.may != "open" && (op.open || !slices.Equal(slices.Sorted(slices.Values(said)), slices.Sorted(slices.Values(strings.Fields(a.may))))) {
			t.Errorf("%s is for %q, and the document says %q", id, a.may, op.may)
		}
		call := func(key, whose string) (int, string) {
			calls++
			path := s.fill(op.path, op.path, whose)
			if a.query != "" {
				path += "?" + a.query
			}
			return s.status(refusal{name: id, key: key, method: op.method, path: path, body: s.fill(a.body, op.path, whose), headers: a.headers})
		}
		if a.may == "open" {
			if status, _ := call("", "missing"); strconv.Itoa(status) != a.own {
				t.Errorf("%s answers %d", id, status)
			}
			continue
		}

		// Who is not signed in learns nothing, not even why.
		_, unknown := call("dk_"+strings.Repeat("x", 43), "missing")
		for state, key := range map[string]string{"none": "", "malformed": "secret", "foreign": "dk_foreign"} {
			if status, body := call(key, "another"); status != 401 || !strings.Contains(body, "#unauthenticated") || state == "foreign" && body != unknown {
				t.Errorf("%s with a key that is %s: %d %s", id, state, status, body)
			}
		}
		for state, keys := range s.out {
			for role, key := range keys {
				for _, whose := range []string{string(role), "another", "missing"} {
					if status, body := call(key, whose); status != 401 || body != unknown {
						t.Errorf("%s as %s, %s, of %s: %d %s", id, role, state, whose, status, body)
					}
				}
			}
		}

		for _, role := range stageRoles() {
			if !a.admits(role) {
				var first string
				for _, whose := range []string{string(role), "another", "missing"} {
					status, body := call(s.keys[role], whose)
					if first == "" {
						first = body
					}
					if status != 403 || body != first || !strings.Contains(body, "#forbidden") {
						t.Errorf("%s as %s, of %s: %d %s", id, role, whose, status, body)
					}
				}
				continue
			}
			answers := map[string]string{}
			for _, c := range []struct{ whose, text string }{{string(role), a.own}, {"another", a.another}, {"missing", a.missing}} {
				want, has := cell(c.text, role)
				if !has {
					continue
				}
				status, body := call(s.keys[role], c.whose)
				if !slices.Contains(want, strconv.Itoa(status)) {
					t.Errorf("%s as %s, of %s: %d, want %v: %.300s", id, role, c.whose, status, want, body)
				}
				answers[c.whose] = fmt.Sprint(status, " ", body)
			}
			if other, ok := answers["another"]; a.apart && ok && !strings.HasPrefix(other, "200 ") && other != answers["missing"] {
				t.Errorf("%s as %s tells what is of others from what is not:\n%s\n%s", id, role, other, answers["missing"])
			}
		}
	}
	t.Logf("%d calls of %d operations", calls, len(published))
}
