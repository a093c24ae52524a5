package api

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
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
