package policyfile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
)

func draft(t *testing.T, header ...string) string {
	t.Helper()
	out, err := policyfile.Draft(header, "trial")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestADraftProposesAPlaceForEveryColumn(t *testing.T) {
	tests := []struct {
		header []string
		want   []string
	}{
		{
			[]string{"VisitorId", "Time entered", "Time spent (minutes)", "Money spent (euros)", "Day"},
			[]string{"column: VisitorId", `column: "Time entered"`, "name: time_spent_minutes\n    column: \"Time spent (minutes)\"",
				"name: money_spent_euros\n", "{name: day, column: Day, selection: private}"},
		},
		{
			[]string{"household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc", "week", "transaction_timestamp"},
			[]string{"kind: transactions", "column: household_id", "column: transaction_timestamp", "name: sales_value\n    scale:", "name: quantity\n",
				"{name: store_id, selection: private}", "{name: week, selection: private}"},
		},
		{
			[]string{"uuid", "timestamp", "url"},
			[]string{"kind: engagement", "column: uuid", "column: timestamp", "{name: url, selection: private}", "measures: []"},
		},
		{
			[]string{"age", "sex", "income"},
			[]string{"unit: {row: true}", "block: all", "# time:", "{name: age, selection: private}", "name: income\n"},
		},
		{
			[]string{"時間", "9lives", "a b", "a-b", "rows", "time"},
			[]string{`{name: column, column: "時間"`, "{name: column_9lives, column: \"9lives\"", `{name: a_b, column: "a b"`, "{name: a_b_2, column: a-b", "{name: rows_2, column: rows"},
		},
	}
	for _, test := range tests {
		got := draft(t, test.header...)
		for _, part := range test.want {
			if !strings.Contains(got, part) {
				t.Errorf("misses %q in\n%s", part, got)
			}
		}
	}
}

// isBlank says whether a problem is that something was not filled in.
func isBlank(l dp.Location) bool {
	return strings.Contains(l.Message, ": missing: ") || strings.Contains(l.Message, ": no value: ")
}

func TestADraftIsRefusedUntilItsBlanksAreFilledIn(t *testing.T) {
	source := draft(t, "customer_id", "booked_at", "amount", "Country", "merchant category")
	_, err := parse(source)
	for _, l := range problems(t, err) {
		if !isBlank(l) {
			t.Errorf("%s: %s", l.Path, l.Message)
		}
	}
	filled := strings.NewReplacer(
		"population: ", "population: 1000 ", "block:  ", "block: month ", "timezone: ", "timezone: UTC ", "format:  ", "format: date ",
		"scale: ", "scale: 2 ", "lower: ", "lower: 0 ", "upper: ", "upper: 100 ", "max_partitions: ", "max_partitions: 8 ", "max_rows: ", "max_rows: 5 ",
		"epsilon:         # such as 6", "epsilon: 6", "delta:           # such as 1e-9", "delta: 1e-9 #",
		"epsilon:         # such as 0.1", "epsilon: 0.1", "delta:           # such as 1e-11", "delta: 1e-11 #",
		"purposes: ", "purposes: [reporting] ",
	).Replace(source)
	p := mustParse(t, filled)
	if p.Unit.Column != "customer_id" || p.Time.Column != "booked_at" || len(p.Dimensions) != 2 || len(p.Measures) != 1 || p.Kind != dp.Transactions {
		t.Errorf("got %+v", p)
	}
	for _, d := range p.Dimensions {
		if !d.Private {
			t.Errorf("%s is public though nobody declared its domain", d.Name)
		}
	}
}

func TestHeadersThatCannotBeDraftedAreRefused(t *testing.T) {
	many := make([]string, 129)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	for says, header := range map[string][]string{
		"no header":       {},
		"column 2":        {"a", ""},
		"used twice":      {"a", "b", "a"},
		"cannot be seen":  {"a\nb"},
		"more than 128":   many,
		"longer than 256": {strings.Repeat("x", 257)},
	} {
		_, err := policyfile.Draft(header, "trial")
		var refusal *dp.Error
		if !errors.As(err, &refusal) || refusal.Code != dp.CodeInvalidInput || !strings.Contains(refusal.Message, says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	if _, err := policyfile.Draft([]string{"a"}, "No Name"); err == nil {
		t.Error("a name that is none was accepted")
	}
}

func FuzzDraft(f *testing.F) {
	f.Add("VisitorId,Time entered,Time spent (minutes)")
	f.Add("a,\"b: c\",#,- x,{y},'")
	f.Fuzz(func(t *testing.T, header string) {
		out, err := policyfile.Draft(strings.Split(header, ","), "trial")
		if err != nil {
			return
		}
		_, err = parse(string(out))
		for _, l := range problems(t, err) {
			if !isBlank(l) {
				t.Fatalf("%s: %s in\n%s", l.Path, l.Message, out)
			}
		}
	})
}
