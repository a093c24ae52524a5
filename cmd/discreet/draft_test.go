package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
)

func TestDraftGuessesTheColumnsOfRealFiles(t *testing.T) {
	for _, c := range []struct {
		file string
		want []string
	}{
		{"restaurant/week_data.csv", []string{"name: week_data\n", "kind: custom", "column: VisitorId", `column: "Time entered"`, `column: "Time spent (minutes)"`, `column: "Money spent (euros)"`, "{name: day, column: Day, selection: private}"}},
		{"completejourney/transactions_sample.csv", []string{"kind: transactions", "column: household_id", "column: transaction_timestamp", "- name: quantity\n", "- name: sales_value\n", "{name: store_id, selection: private}"}},
		{"wikimedia-sessions/session_dataset.csv", []string{"column: uuid", "column: timestamp", "measures: []"}},
		{"pums/PUMS_dup.csv", []string{"name: pums_dup\n", "column: pid", "block: all", "- name: income\n"}},
		{"pums/PUMS.csv", []string{"unit: {row: true}", "block: all", "{name: age, selection: private}", "- name: income\n"}},
	} {
		out := (&harness{t: t}).run("", "dataset", "draft", realData(t, c.file)) // needs no server
		if out.code != exitDone {
			t.Fatalf("%s: %s", c.file, out.stderr)
		}
		for _, part := range c.want {
			if !strings.Contains(out.stdout, part) {
				t.Errorf("%s: misses %q in\n%s", c.file, part, out.stdout)
			}
		}
		// What only an officer can decide is left to the officer.
		if _, err := policyfile.Parse([]byte(out.stdout), policyfile.DefaultLimits()); err == nil {
			t.Errorf("%s: the draft can be applied as it is", c.file)
		}
	}
}

func TestDraftReadsNothingBeyondTheHeader(t *testing.T) {
	file := filepath.Join(t.TempDir(), "Cards 2026.csv")
	if err := os.WriteFile(file, []byte("\ufeffcustomer_id,amount\nsecret-customer,\"unclosed"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := (&harness{t: t}).run("", "dataset", "draft", file)
	if out.code != exitDone || strings.Contains(out.stdout, "secret") || !strings.Contains(out.stdout, "column: customer_id") || !strings.Contains(out.stdout, "name: cards_2026\n") {
		t.Errorf("exit %d, %s, draft\n%s", out.code, out.stderr, out.stdout)
	}
	if _, err := readHeader(strings.NewReader("")); exitCode(err) != exitUsage {
		t.Errorf("an empty file gives %v", err)
	}
}

func TestAppliedDraftsNameTheirFirstBlanksInOneLine(t *testing.T) {
	h := newHarness(t, exact{})
	text := h.must("", "dataset", "draft", h.file("cards.csv", "customer_id,booked_at,amount\n"))
	r := h.runWith(h.officer, text, "dataset", "apply", "-")
	if r.code != exitUsage || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "population: missing") || !strings.Contains(r.stderr, "; and 9 more") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

func TestFilesGiveDatasetsTheirNames(t *testing.T) {
	for file, want := range map[string]string{
		"/data/week_data.csv": "week_data", "Cards 2026.CSV": "cards_2026", "2026.csv": "dataset_2026", "ä.csv": "dataset",
		strings.Repeat("x", 200) + ".csv": strings.Repeat("x", 63),
	} {
		if got := datasetNameFor(file); got != want {
			t.Errorf("%s gives %s, want %s", file, got, want)
		}
	}
}
