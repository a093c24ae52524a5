package main

import (
	"os"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
)

func TestDraftIsAValidPolicyWhateverTheHeader(t *testing.T) {
	for _, header := range [][]string{
		{"customer_id", "booked_at", "merchant", "amount"},
		{"User ID", "timestamp", "Event", "Duration (s)"},
		{"", "", "x"},
		{"a", "A", "a a", "ä: [\"'\\", "#!", "1st"},
		{"age", "sex", "income"},
		{strings.Repeat("long", 100), "uuid"},
		{"time", "name", "null", "true", "by"},
	} {
		text := draft("drafted", header)
		p, err := policyfile.Parse([]byte(text), policyfile.DefaultLimits())
		if err != nil {
			t.Errorf("%q: %v\n%s", header, err, text)
			continue
		}
		for _, d := range p.Dimensions {
			if !d.Private {
				t.Errorf("%q: dimension %s was drafted as public", header, d.Name)
			}
		}
	}
}

func TestDraftGuessesTheColumnsOfRealFiles(t *testing.T) {
	for _, c := range []struct {
		file, unit, time string
		kind             dp.Kind
		measures         []string
	}{
		{"restaurant/week_data.csv", "VisitorId", "Time entered", dp.Custom, []string{"Time spent (minutes)", "Money spent (euros)"}},
		{"completejourney/transactions_sample.csv", "household_id", "transaction_timestamp", dp.Transactions, []string{"quantity", "sales_value"}},
		{"wikimedia-sessions/session_dataset.csv", "uuid", "timestamp", dp.Engagement, nil},
		{"pums/PUMS_dup.csv", "pid", "", dp.Custom, []string{"income"}},
		{"pums/PUMS.csv", "", "", dp.Custom, []string{"income"}},
	} {
		f, err := os.Open(realData(t, c.file))
		if err != nil {
			t.Fatal(err)
		}
		header, err := readHeader(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		p, err := policyfile.Parse([]byte(draft("drafted", header)), policyfile.DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		when := ""
		if p.Time != nil {
			when = p.Time.Column
		}
		if p.Unit.Column != c.unit || when != c.time || p.Kind != c.kind {
			t.Errorf("%s: unit %q, time %q, kind %s; want %q, %q, %s", c.file, p.Unit.Column, when, p.Kind, c.unit, c.time, c.kind)
		}
		columns := map[string]bool{}
		for _, m := range p.Measures {
			columns[m.Column] = true
		}
		for _, want := range c.measures {
			if !columns[want] {
				t.Errorf("%s: %s is no measure", c.file, want)
			}
		}
	}
}

func TestDraftReadsNothingBeyondTheHeader(t *testing.T) {
	header, err := readHeader(strings.NewReader("customer_id,amount\nsecret-customer,\"unclosed"))
	if err != nil {
		t.Fatal(err)
	}
	if text := draft("drafted", header); strings.Contains(text, "secret") {
		t.Errorf("the draft holds a value:\n%s", text)
	}
	if _, err := readHeader(strings.NewReader("")); exitCode(err) != exitUsage {
		t.Errorf("an empty file gives %v", err)
	}
}
