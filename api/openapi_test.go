package api

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/policyfile"
)

var update = flag.Bool("update", false, "write api/openapi.json")

// The document in the repository is the one that is served. After a change: go test ./api -run OpenAPI -update
func TestCommittedOpenAPIDocumentIsTheOneServed(t *testing.T) {
	got := newTestServer(t, newFakes(t)).OpenAPI()
	if *update {
		if err := os.WriteFile("openapi.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Error("api/openapi.json differs from what the server publishes: run go test ./api -run OpenAPI -update, and look at the difference")
	}
	if !json.Valid(got) {
		t.Error("the document is not JSON")
	}
}

// resolve follows a reference into the document's schemas.
func resolve(t *testing.T, v *Server, s *huma.Schema) (name string, target *huma.Schema) {
	t.Helper()
	name = s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	target = v.huma.OpenAPI().Components.Schemas.Map()[name]
	if target == nil {
		t.Fatalf("no schema %q", s.Ref)
	}
	return name, target
}

func TestEveryBodyIsANamedSchemaWithAnExampleThatFits(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	check := func(where, media string, m *huma.MediaType) {
		if m.Schema.Ref == "" {
			t.Errorf("%s: its %s body has no named schema", where, media)
			return
		}
		name, s := resolve(t, v, m.Schema)
		if len(s.Examples) != 1 {
			t.Errorf("%s: %s has no example", where, name)
			return
		}
		var example any
		if err := unmarshal(s.Examples[0].(json.RawMessage), &example); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var res huma.ValidateResult
		huma.Validate(v.huma.OpenAPI().Components.Schemas, m.Schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, example, &res)
		for _, err := range res.Errors {
			t.Errorf("%s: the example of %s does not fit: %v", where, name, err)
		}
	}
	for id, op := range operations(v) {
		if op.RequestBody != nil {
			for media, m := range op.RequestBody.Content {
				check(id, media, m)
			}
		}
		errors := 0
		for status, r := range op.Responses {
			for media, m := range r.Content {
				check(id+" "+status, media, m)
				if media == problemType {
					errors++
				}
			}
		}
		if errors < 3 {
			t.Errorf("%s documents %d errors", id, errors)
		}
		if op.Summary == "" || len(op.Tags) != 1 {
			t.Errorf("%s has no summary or tag", id)
		}
	}
}

// The calls as the contract lists them, written down a second time.
func TestDocumentHasTheCallsOfTheContract(t *testing.T) {
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(newTestServer(t, newFakes(t)).OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	want := "GET /livez|GET /readyz|GET /v1/budget|GET /v1/consumers|POST /v1/consumers|GET /v1/consumers/{consumer}|PATCH /v1/consumers/{consumer}|" +
		"GET /v1/consumers/{consumer}/allotments|PUT /v1/consumers/{consumer}/allotments/{dataset}|GET /v1/consumers/{consumer}/keys|POST /v1/consumers/{consumer}/keys|" +
		"DELETE /v1/consumers/{consumer}/keys/{key}|GET /v1/datasets|GET /v1/datasets/{dataset}|PUT /v1/datasets/{dataset}|GET /v1/datasets/{dataset}/accounts|GET /v1/datasets/{dataset}/worst-case|POST /v1/datasets/{dataset}/what-if|" +
		"GET /v1/datasets/{dataset}/loads|GET /v1/datasets/{dataset}/erasures|POST /v1/datasets/{dataset}/erasures|POST /v1/erasure-runs|POST /v1/datasets/{dataset}/rows|GET /v1/ledger|POST /v1/ledger/write-off|GET /v1/backups|POST /v1/backups|GET /v1/me|POST /v1/budget-requests|GET /v1/budget-requests|GET /v1/budget-requests/{id}|DELETE /v1/budget-requests/{id}|POST /v1/budget-requests/{id}/decision|GET /v1/proposals|GET /v1/proposals/{id}|DELETE /v1/proposals/{id}|POST /v1/proposals/{id}/confirmation|POST /v1/compare|POST /v1/plans|POST /v1/queries|GET /v1/releases|GET /v1/releases/{id}"
	for call := range strings.SplitSeq(want, "|") {
		method, path, _ := strings.Cut(call, " ")
		if doc.Paths[path][strings.ToLower(method)] == nil {
			t.Errorf("%s is missing", call)
		}
	}
}

func TestParametersAreDocumented(t *testing.T) {
	all := operations(newTestServer(t, newFakes(t)))
	for id, want := range map[string]string{
		"list-consumers": "query:cursor query:limit", "get-dataset": "path:dataset", "load-rows": "query:name query:from query:to query:dry_run header:Idempotency-Key header:Content-Digest",
		"put-dataset": "path:dataset header:If-Match header:Discreet-Reason", "set-allotment": "path:consumer path:dataset header:If-Match", "ask": "header:Idempotency-Key", "back-up": "header:Idempotency-Key", "list-backups": "query:cursor query:limit",
		"request-budget": "header:Idempotency-Key", "list-budget-requests": "query:cursor query:limit query:state query:dataset query:consumer", "decide-budget-request": "path:id header:If-Match header:Discreet-Reason",
	} {
		have := map[string]bool{}
		for _, p := range all[id].Parameters {
			have[p.In+":"+p.Name] = true
		}
		for p := range strings.FieldsSeq(want) {
			if !have[p] {
				t.Errorf("%s: %s is not documented", id, p)
			}
		}
	}
}

// What is documented of headers and formats is what is sent.
func TestDocumentTellsNothingThatIsNotSent(t *testing.T) {
	all := operations(newTestServer(t, newFakes(t)))
	for _, c := range []struct {
		operation, status, header string
		want                      bool
	}{
		{"ask", "200", "ETag", false}, {"get-release", "200", "ETag", true}, {"put-dataset", "201", "ETag", true}, {"set-allotment", "201", "ETag", true}, {"get-budget-request", "200", "ETag", true},
		{"get-me", "401", "WWW-Authenticate", true}, {"ask", "503", "Retry-After", true},
	} {
		r := all[c.operation].Responses[c.status]
		if r == nil || (r.Headers[c.header] != nil) != c.want {
			t.Errorf("%s %s documents %s: %v", c.operation, c.status, c.header, !c.want)
		}
	}
	if all["get-release"].Responses["304"] == nil {
		t.Error("nothing tells that a release answers 304")
	}
	if content := all["put-dataset"].RequestBody.Content; len(content) != 2 || content[jsonType] == nil || content[yamlType] == nil {
		t.Errorf("a policy is said to come in %d formats", len(content))
	}
}

func TestExamplesOfPoliciesCanBeApplied(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for _, name := range []string{"PolicyFile", "Document"} {
		example := v.huma.OpenAPI().Components.Schemas.Map()[name].Examples[0].(json.RawMessage)
		text := []byte(example)
		if name == "PolicyFile" {
			var file string
			if err := json.Unmarshal(example, &file); err != nil {
				t.Fatal(err)
			}
			text = []byte(file)
		}
		if _, err := policyfile.Parse(text, policyfile.DefaultLimits()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	v := newTestServer(t, newFakes(t))
	for _, path := range []string{"/", "/docs"} {
		resp := send(t, v, "", "GET", path, "")
		page, policy := bodyOf(t, resp), resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		for _, outside := range []string{"src=", "@import", "url(", "https://"} {
			if strings.Contains(page, outside) {
				t.Errorf("%s has %s", path, outside)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(page, "/*ST") || strings.Contains(page, "/*SC") {
			t.Errorf("%s: policy %s", path, policy)
		}
		// What the policy allows by its hash is what stands in the page.
		for _, tag := range []string{"style", "script"} {
			_, rest, found := strings.Cut(page, "<"+tag+">")
			text, _, _ := strings.Cut(rest, "</"+tag+">")
			if found != strings.Contains(policy, tag+"-src "+hashSource(text)) {
				t.Errorf("%s: its %s is not the one that the policy allows", path, tag)
			}
		}
		tag := resp.Header.Get("ETag")
		if again := send(t, v, "", "GET", path, "", "If-None-Match", tag); tag == "" || again.StatusCode != 304 {
			t.Errorf("%s: %d for %q", path, again.StatusCode, tag)
		}
	}
	docs := bodyOf(t, send(t, v, "", "GET", "/docs", ""))
	for _, k := range kinds() {
		if !strings.Contains(docs, `<dt id="`+k.typeName()+`">`) {
			t.Errorf("/docs does not explain %s, to which problems point", k.typeName())
		}
	}
	if start := bodyOf(t, send(t, v, "", "GET", "/", "")); !strings.Contains(start, "curl ") || !strings.Contains(start, `href="/docs"`) {
		t.Error("the start page shows no first call")
	}
	if resp := send(t, v, "", "GET", "/openapi.json", ""); bodyOf(t, resp) != string(v.OpenAPI()) || resp.Header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("headers %v", resp.Header)
	}
}
