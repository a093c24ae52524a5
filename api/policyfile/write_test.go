package policyfile_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
)

// comesBack checks that a policy written as YAML and as JSON is read as itself.
func comesBack(t *testing.T, p dp.Policy) {
	t.Helper()
	yaml, err := policyfile.Format(p)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(policyfile.JSON(p))
	if err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(policyfile.JSON(p), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	for _, written := range [][]byte{yaml, encoded, indented} {
		got, err := policyfile.Parse(written, policyfile.DefaultLimits())
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if !reflect.DeepEqual(got, p) {
			t.Fatalf("came back as %+v\nwant %+v\nby %s", got, p, written)
		}
	}
}

func TestAPolicyIsWrittenAsItsFile(t *testing.T) {
	p := mustParse(t, base)
	comesBack(t, p)
	got, err := policyfile.Format(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"name: transactions\n",
		"unit: {column: customer_id, block: month}\n",
		"  - {name: merchant_category, values: [grocery, travel, dining, fuel, other], other: other}\n",
		`  - {name: minutes, column: "Time spent (minutes)", type: int, bin: {step: 10, round: up}, values: {from: 10, to: 180, step: 10}}` + "\n",
		"  - {name: amount, scale: 2, lower: 0, upper: 500, kind: flow}\n",
		"cap: {epsilon: 6, delta: 0.000000001}\n",
	} {
		if !strings.Contains(string(got), line) {
			t.Errorf("misses %q in\n%s", line, got)
		}
	}
}

func TestNumbersAreNumbersInJSON(t *testing.T) {
	encoded, err := json.Marshal(policyfile.JSON(mustParse(t, base)))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"cap":{"epsilon":6,"delta":0.000000001}`, `"lower":0,"upper":500,"kind":"flow"`, `"values":{"from":10,"to":180,"step":10}`, `"population":1000000`,
	} {
		if !strings.Contains(string(encoded), part) {
			t.Errorf("misses %s in %s", part, encoded)
		}
	}
}

func TestAwkwardTextsComeBack(t *testing.T) {
	awkward := []string{
		"true", "No", "null", "~", "1", "1e3", "0x1F", "-", "- a", "a: b", "a #b", "#b", "[a]", "{a}", "*a", "&a", "!a", "%a", "@a", "`a", "'a'", `"a"`, `\`, `\n`,
		" a", "a ", "é", "日本", "😀", "a,b", "?", "|", ">", "<<", "---", "...", "=", "1:2", "<a>&", "2026-01-31", ".inf", "y", "Ünïcode ß", "a\u00a0b", "\u3000", "٣",
	}
	p := mustParse(t, base)
	p.Unit.Column = `"customer": #1`
	p.Dimensions = []dp.Dimension{{Name: "x", Column: "- [x]: {y}", Type: dp.StringDimension, Values: append(awkward, "#other", "'missing"), Other: "#other", Missing: "'missing"}}
	comesBack(t, p)
}

func TestIntDomainsComeBackWhateverTheirLabels(t *testing.T) {
	ints := dp.IntDimension
	bin := &dp.Bin{Step: 10}
	tests := []dp.Dimension{
		{Values: []string{"1", "2", "3"}},
		{Values: []string{"1", "2"}},
		{Values: []string{"3", "2", "1"}},
		{Values: []string{"1", "2", "4"}},
		{Values: []string{"1", "2", "3", "rest"}, Other: "rest"},
		{Values: []string{"1", "2", "3", "rest", "none"}, Other: "rest", Missing: "none"},
		{Values: []string{"1", "2", "3", "none", "rest"}, Other: "rest", Missing: "none"},
		{Values: []string{"rest", "1", "2", "3"}, Other: "rest"},
		{Values: []string{"1", "2", "3", "rest"}, Other: "rest", Missing: "rest"},
		{Values: []string{"1", "2", "3"}, Other: "3"},
		{Values: []string{"1", "2", "3", "4"}, Other: "4"},
		{Values: []string{"1", "2", "03"}, Other: "03"},
		{Values: []string{"-10", "-5", "0"}, Other: "-5", Bin: bin},
		{Values: []string{"-10", "0", "10"}, Bin: bin},
		{Values: []string{"-9223372036854775808", "0", "9223372036854775807"}},
	}
	for _, d := range tests {
		p := mustParse(t, base)
		d.Name, d.Column, d.Type = "x", "x", ints
		p.Dimensions = []dp.Dimension{d}
		comesBack(t, p)
	}
}

// FuzzParse looks for inputs that make Parse panic, refuse without a place, or read back differently.
func FuzzParse(f *testing.F) {
	f.Add([]byte(base))
	for _, seed := range []string{
		"", "a", "{}", "[]", "name: x\nkind: custom\npopulation: 1\nunit: {row: true}\ncap: {epsilon: 1}\ndefault: {epsilon: 1}\npurposes: [a]\n",
		`{"name":"x","kind":"custom","population":1,"unit":{"row":true},"dimensions":[{"name":"a","values":["\ud83d\ude00","b\/c","\u00e9"]}],"cap":{"epsilon":1},"default":{"epsilon":1},"purposes":["a"]}`,
		"name: |\n  x\nkind: >-\n  custom\n", "? a\n", "a: &b\n", "- - - -\n", "a:\n\t- b", "\"\\x\"", "a: 'b", "{a: b, c", "&a\n---\n*a", "!!a", "a: !", "--- a\n...\n--- b", "a: [\n]\n,", ": a", "%",
		"dimensions:\n  - name: a\n    type: int\n    bin: {step: 3, round: up}\n    values: {from: -9, to: 9}\n    other: \"5\"\n    missing: x\n",
	} {
		f.Add([]byte(seed))
	}
	limits := policyfile.DefaultLimits()
	limits.Bytes, limits.Values = 1<<14, 500
	f.Fuzz(func(t *testing.T, source []byte) {
		p, err := policyfile.Parse(source, limits)
		if err != nil {
			problems(t, err)
			return
		}
		comesBack(t, p)
	})
}

// listed are metrics of every aggregate.
const listed = `  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 1000}
  - {name: p90, aggregate: quantile, measure: amount, upper: 200, rank: 0.90}
  - {name: tail, aggregate: quantile, measure: amount, rank: 1e-9}
  - {name: smallest, aggregate: min, measure: amount}
  - {name: largest, aggregate: max, measure: amount}
  - {name: unequal, aggregate: variance, measure: amount}
  - {name: spread, aggregate: stddev, measure: amount, lower: 1, upper: 99.5}
  - {name: days_active, aggregate: days}
  - {name: visits, aggregate: sessions}
  - {name: basket, aggregate: mean, measure: amount}
  - {name: per_head, aggregate: ratio, numerator: spend, denominator: customers}
  - {name: daily, aggregate: ratio, numerator: days_active, denominator: customers, per_day: true}
  - {name: part, aggregate: share, of: spend}
  - {name: heads, aggregate: customers}
  - {name: payments, aggregate: rows}
  - {name: large, aggregate: rows, where: [{field: amount, gte: 100}, {field: merchant_category, in: [grocery, "travel"]}]}
  - {name: morning, aggregate: customers, where: [{field: time.hour, in: ["08", 09]}, {field: minutes, not_in: []}]}
  - {name: mean_customer, aggregate: mean, measure: amount, upper: 700, per: customer, where: [{field: country, eq: DE}]}
  - {name: kinds, aggregate: quantile, rank: 0.5, per: customer, distinct: [merchant_category, time.day]}
  - {name: often, aggregate: max, per: customer}`

func TestMetricsOfEveryAggregateComeBack(t *testing.T) {
	p := mustParse(t, with(t, "  - {name: spend", listed))
	if got := p.Metrics[1]; got.Aggregate != dp.Quantile || got.Rank != "0.9" || *got.Upper != 20_000 || got.Lower != nil {
		t.Errorf("p90 is %+v", got)
	}
	if got := p.Metrics[11]; got.Numerator != "days_active" || got.Denominator != "customers" || !got.PerDay {
		t.Errorf("daily is %+v", got)
	}
	if got := p.Metrics[12]; got.Of != "spend" {
		t.Errorf("part is %+v", got)
	}
	comesBack(t, p)
}

func TestWhatCountsDaysNeedsTimes(t *testing.T) {
	timeless := strings.NewReplacer("time: {column: booked_at, timezone: Europe/Berlin, format: rfc3339}\n", "", "block: month", "block: all")
	for _, metric := range []string{"aggregate: days", "aggregate: sessions", "aggregate: ratio, numerator: rows, denominator: customers, per_day: true"} {
		source := with(t, "  - {name: spend", "  - {name: m, "+metric+"}")
		mustParse(t, source)
		if _, err := parse(timeless.Replace(source)); err == nil || !strings.Contains(err.Error(), "needs event times") {
			t.Errorf("%s without times: %v", metric, err)
		}
	}
}

// Where no delta is in force a variance is drawn with Laplace noise, which needs more room.
func TestVariancesWithoutDeltaNeedMoreRoom(t *testing.T) {
	source := with(t, "  - {name: spend", "  - {name: v, aggregate: variance, measure: amount, upper: 35000}")
	mustParse(t, source)
	_, err := parse(strings.NewReplacer("cap: {epsilon: 6, delta: 1e-9}", "cap: {epsilon: 6, delta: 0}", "delta: 1e-11", "delta: 0", "  - {name: city, selection: private, parent: country, missing: unknown}\n", "").Replace(source))
	if err == nil || !strings.Contains(err.Error(), "5 times") {
		t.Errorf("without delta: %v", err)
	}
}

func TestDimensionsThatAreMadeOfOthersComeBack(t *testing.T) {
	p := mustParse(t, with(t, "  - {name: country", `  - {name: country, values: [DE, FR]}
  - {name: region, of: city, groups: {south: [Munich, "Bad Tölz"], "north, east": [Kiel], "1": [Ulm]}, other: abroad}
  - {name: sea, of: region, groups: {near: ["north, east"], far: [south, "1", abroad]}}
`))
	if len(p.Dimensions) != 4 || len(p.Derived) != 2 || p.Derived[0].Groups[1].Label != "north, east" || p.Derived[1].Of != "region" {
		t.Errorf("read as %+v", p.Derived)
	}
	comesBack(t, p)
}
