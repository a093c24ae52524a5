package policyfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
)

// base is the example of the contract, one field per line so that tests can replace one.
const base = `name: transactions
kind: transactions
population: 1000000
unit: {column: customer_id, block: month}
time: {column: booked_at, timezone: Europe/Berlin, format: rfc3339}
dimensions:
  - {name: merchant_category, values: [grocery, travel, dining, fuel], other: other}
  - {name: minutes, column: "Time spent (minutes)", type: int, bin: {step: 10, round: up}, values: {from: 10, to: 180, step: 10}}
  - {name: city, selection: private, parent: country, missing: unknown}
  - {name: country, values: [DE, FR]}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 500, kind: flow}
metrics:
  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 1000}
bounds: {max_partitions: 8, max_rows: 20}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [product-analytics, reporting]
audiences: [internal]
link: {consent: linked_at}
`

// with replaces a line of base, given by its beginning; an empty replacement removes it.
func with(t *testing.T, beginning, replacement string) string {
	t.Helper()
	lines := strings.SplitAfter(base, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, beginning) {
			lines[i] = replacement
			if replacement != "" {
				lines[i] += "\n"
			}
			return strings.Join(lines, "")
		}
	}
	t.Fatalf("no line of base begins with %q", beginning)
	return ""
}

func parse(source string) (dp.Policy, error) {
	return policyfile.Parse([]byte(source), policyfile.DefaultLimits())
}

func mustParse(t *testing.T, source string) dp.Policy {
	t.Helper()
	p, err := parse(source)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// problems gives the locations of a refusal, after checking what every refusal has.
func problems(t *testing.T, err error) []dp.Location {
	t.Helper()
	var refusal *dp.Error
	if !errors.As(err, &refusal) || refusal.Code != dp.CodeInvalidPolicy || len(refusal.Locations) == 0 {
		t.Fatalf("got %v, want a refusal with code invalid-policy and places", err)
	}
	return refusal.Locations
}

func TestTheContractsExampleIsRead(t *testing.T) {
	lower, upper := int64(0), int64(100000)
	minutes := []string{"10", "20", "30", "40", "50", "60", "70", "80", "90", "100", "110", "120", "130", "140", "150", "160", "170", "180"}
	want := dp.Policy{
		Name: "transactions", Kind: dp.Transactions, Population: 1000000,
		Unit: dp.Unit{Column: "customer_id", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "booked_at", Timezone: "Europe/Berlin", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "merchant_category", Column: "merchant_category", Type: dp.StringDimension, Values: []string{"grocery", "travel", "dining", "fuel", "other"}, Other: "other"},
			{Name: "minutes", Column: "Time spent (minutes)", Type: dp.IntDimension, Bin: &dp.Bin{Step: 10, Up: true}, Values: minutes},
			{Name: "city", Column: "city", Type: dp.StringDimension, Private: true, Parent: "country", Missing: "unknown"},
			{Name: "country", Column: "country", Type: dp.StringDimension, Values: []string{"DE", "FR"}},
		},
		Measures:  []dp.Measure{{Name: "amount", Column: "amount", Scale: 2, Lower: 0, Upper: 50000}},
		Metrics:   []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "amount", Lower: &lower, Upper: &upper}},
		Bounds:    dp.Bounds{MaxPartitions: 8, MaxRows: 20},
		Cap:       dp.Budget{Epsilon: 6 * dp.EpsilonOne, Delta: 1_000_000_000},
		Default:   dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 10_000_000},
		Purposes:  []string{"product-analytics", "reporting"},
		Audiences: []dp.Audience{dp.Internal},
		Link:      &dp.Link{Consent: "linked_at"},
	}
	if got := mustParse(t, base); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	p := mustParse(t, `name: small
kind: custom
population: 10
unit: {row: true}
dimensions:
  - {name: age, type: int, bin: {step: 10}, values: {from: 0, to: 20}, other: older, missing: older}
  - {name: code, type: int, values: [3, "-4", 5.0, 1e1, 007], missing: none}
  - {name: flag, values: [true, 1.0, 1e3, 0x1F, "null", yes]}
measures: [{name: x, scale: 0, lower: -5, upper: 5}]
cap: {epsilon: 1}
default: {epsilon: 1e-3}
purposes: [research]
`)
	want := dp.Policy{
		Name: "small", Kind: dp.Custom, Population: 10, Unit: dp.Unit{Row: true, Block: dp.All},
		Dimensions: []dp.Dimension{
			{Name: "age", Column: "age", Type: dp.IntDimension, Bin: &dp.Bin{Step: 10}, Values: []string{"0", "10", "20", "older"}, Other: "older", Missing: "older"},
			{Name: "code", Column: "code", Type: dp.IntDimension, Values: []string{"3", "-4", "5", "10", "7", "none"}, Missing: "none"},
			{Name: "flag", Column: "flag", Type: dp.StringDimension, Values: []string{"true", "1.0", "1e3", "0x1F", "null", "yes"}},
		},
		Measures:  []dp.Measure{{Name: "x", Column: "x", Lower: -5, Upper: 5}},
		Bounds:    dp.Bounds{MaxPartitions: 1, MaxRows: 1},
		Cap:       dp.Budget{Epsilon: dp.EpsilonOne},
		Default:   dp.Budget{Epsilon: dp.EpsilonOne / 1000},
		Purposes:  []string{"research"},
		Audiences: []dp.Audience{dp.Internal},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestAPolicyMayHaveEveryFormOfUnitAndTime(t *testing.T) {
	for _, source := range []string{
		with(t, "unit:", "unit: {column: customer_id, block: all}"),
		with(t, "unit:", "unit: {column: customer_id, block: quarter}"),
		with(t, "time:", "time: {column: booked_at, timezone: UTC}"),
		with(t, "time:", `time: {column: booked_at, timezone: UTC, format: "DD.MM.YYYY hh:mm"}`),
		with(t, "cap:", "cap: {epsilon: 6, delta: 1e-7}"), // exactly 1/(10*population)
		strings.ReplaceAll(with(t, "cap:", "cap: {epsilon: 6, delta: 0}"), "delta: 1e-11", "delta: 0"),
		strings.ReplaceAll(base, "\n", "\r\n"),
		"\xef\xbb\xbf" + base,
		"---\n" + base + "...\n",
		"# a comment\n---\n" + base,
	} {
		if _, err := parse(source); err != nil {
			t.Errorf("%v\n%s", err, source)
		}
	}
}

func TestEveryRefusalSaysWhereAndWhatToWrite(t *testing.T) {
	tests := []struct {
		line, replacement string // of base; the replacement may have several lines
		at, field, says   string
	}{
		// the file's shape
		{"kind:", "knid: transactions", "2:1", "", "did you mean kind?"},
		{"kind:", "colour: red", "2:1", "", "unknown key: write name, kind"},
		{"kind:", "kind: transactions\nkind: custom", "3:1", "", "same key as at 2:1"},
		{"kind:", "kind: &k transactions", "2:7", "", "anchors"},
		{"kind:", "kind: *k", "2:7", "", "anchors"},
		{"kind:", "<<: {kind: custom}", "2:1", "", "merge keys"},
		{"kind:", "kind: !!str transactions", "2:7", "", "tags"},
		{"kind:", "? kind\n: transactions", "2:1", "", "keys beginning with ?"},
		{"kind:", "kind: custom\n---\nname: second", "3:1", "", "second document"},
		{"kind:", "kind: custom\n...\nname: second", "4:1", "", "second document"},
		{"kind:", "\tkind: custom", "2:1", "", "spaces instead of tabs"},
		{"kind:", "kind: [custom", "3:1", "", "bracket"},
		{"kind:", "kind: 'custom", "2:7", "", "quote"},
		{"kind:", "kind: custom\n  more", "2:7", "kind", "several lines"},
		{"kind:", "kind: [custom]", "2:7", "kind", "wrong type"},
		{"kind:", "kind:", "2:1", "kind", "missing: write engagement"},
		{"kind:", "", "1:1", "kind", "missing: write engagement, transactions or custom"},
		{"kind:", "kind: transaction", "2:7", "kind", "did you mean transactions?"},
		{"kind:", "kind: banking", "2:7", "kind", "write engagement, transactions or custom"},
		{"kind:", "kind: \"cust\x01om\"", "2:12", "", "control character"},
		{"kind:", "kind: \xff", "2:7", "", "not UTF-8"},

		// who is protected
		{"name:", "name: Transactions", "1:7", "name", "lower-case"},
		{"name:", "name: " + strings.Repeat("x", 64), "1:7", "name", "at most 63"},
		{"name:", "", "1:1", "name", "missing"},
		{"population:", "population: 0", "3:13", "population", "at least 1"},
		{"population:", "population: many", "3:13", "population", "whole number"},
		{"population:", "population: \"1000\"", "3:13", "population", "without quotes"},
		{"population:", "population: 1e13", "3:13", "population", "more than"},
		{"population:", "population: 9223372036854775807", "3:13", "population", "more than"},
		{"population:", "", "1:1", "population", "it bounds delta"},
		{"unit:", "unit: customer_id", "4:7", "unit", "write a mapping with column, row, block"},
		{"unit:", "unit: {block: month}", "4:7", "unit.column", "or row: true"},
		{"unit:", "unit: {column: customer_id}", "4:7", "unit.block", "month, quarter, year or all"},
		{"unit:", "unit: {column: customer_id, block: week}", "4:36", "unit.block", "write month, quarter, year or all"},
		{"unit:", "unit: {column: customer_id, row: true, block: month}", "4:16", "unit.column", "both column and row"},
		{"unit:", "unit: {row: false, block: month}", "4:13", "unit.row", "row: true"},
		{"unit:", "unit: {row: true, block: month}", "15:26", "bounds.max_partitions", "write 1 or leave bounds out"},
		{"unit:", "unit: {row: true, block: month}", "20:17", "link.consent", "leave link out"},
		{"time:", "", "4:36", "unit.block", "write block: all"},
		{"time:", "time: {column: booked_at, timezone: Berlin}", "5:37", "time.timezone", "IANA"},
		{"time:", "time: {column: booked_at, timezone: Local}", "5:37", "time.timezone", "IANA"},
		{"time:", "time: {column: booked_at}", "5:7", "time.timezone", "missing: write the IANA name"},
		{"time:", "time: {timezone: UTC}", "5:7", "time.column", "missing"},
		{"time:", "time: {column: booked_at, timezone: UTC, format: iso}", "5:50", "time.format", "YYYY-MM-DD hh:mm:ss"},
		{"time:", "time: {column: booked_at, timezone: UTC, format: }", "5:42", "time.format", "no value"},

		// dimensions
		{"  - {name: country", "  - {name: country}", "10:5", "dimensions[3].selection", "needs selection"},
		{"  - {name: country", "  - {name: country, selection: public}", "10:32", "dimensions[3].selection", "selection: private"},
		{"  - {name: country", "  - {name: country, values: [DE], selection: private}", "10:29", "dimensions[3].values", "both values and selection"},
		{"  - {name: country", "  - {name: country, selection: private, other: rest}", "10:48", "dimensions[3].other", "leave it out"},
		{"  - {name: country", "  - {name: country, values: []}", "10:29", "dimensions[3].values", "empty domain"},
		{"  - {name: country", "  - {name: country, values: DE}", "10:29", "dimensions[3].values", "in brackets"},
		{"  - {name: country", "  - {name: country, values: [DE, DE]}", "10:34", "dimensions[3].values[1]", "listed twice"},
		{"  - {name: country", "  - {name: country, values: [DE, [FR]]}", "10:34", "dimensions[3].values[1]", "wrong type"},
		{"  - {name: country", "  - {name: country, values: [DE, ~]}", "10:34", "dimensions[3].values[1]", "in quotes"},
		{"  - {name: country", "  - {name: country, values: [DE, \"\"]}", "10:34", "dimensions[3].values[1]", "empty text"},
		{"  - {name: country", "  - {name: country, values: [DE, \"a\\nb\"]}", "10:34", "dimensions[3].values[1]", "cannot be seen"},
		{"  - {name: country", "  - {name: country, values: [" + strings.Repeat("x", 257) + "]}", "10:30", "dimensions[3].values[0]", "longer than 256 bytes"},
		{"  - {name: country", "  - {name: country, values: {from: 1, to: 3}}", "10:29", "dimensions[3].values", "add type: int"},
		{"  - {name: country", "  - {name: country, type: int, values: [1, 1.5]}", "10:44", "dimensions[3].values[1]", "whole number"},
		{"  - {name: country", "  - {name: country, type: int, values: [1, 01]}", "10:44", "dimensions[3].values[1]", "listed twice"},
		{"  - {name: country", "  - {name: country, type: int, values: {from: 3, to: 1}}", "10:54", "dimensions[3].values.to", "below from"},
		{"  - {name: country", "  - {name: country, type: int, values: {from: 0, to: 95, step: 10}}", "10:54", "dimensions[3].values.to", "steps of 10"},
		{"  - {name: country", "  - {name: country, type: int, values: {from: 0, to: 10000}}", "10:54", "dimensions[3].values.to", "more than 10000 values"},
		{"  - {name: country", "  - {name: country, type: int, values: {from: -9223372036854775808, to: 9223372036854775807}}", "10:73", "dimensions[3].values.to", "more than 10000 values"},
		{"  - {name: country", "  - {name: country, type: int, values: {from: 0, to: 10, step: 0}}", "10:64", "dimensions[3].values.step", "at least 1"},
		{"  - {name: country", "  - {name: country, type: int, values: {to: 10}}", "10:40", "dimensions[3].values.from", "missing"},
		{"  - {name: country", "  - {name: country, type: int, bin: {step: 10}, values: {from: 5, to: 25}}", "10:64", "dimensions[3].values.from", "multiples of bin.step"},
		{"  - {name: country", "  - {name: country, type: int, bin: {step: 10}, values: [10, 15]}", "10:62", "dimensions[3].values[1]", "multiples of 10"},
		{"  - {name: country", "  - {name: country, bin: {step: 10}, values: [a]}", "10:26", "dimensions[3].bin", "add type: int"},
		{"  - {name: country", "  - {name: country, type: int, bin: {step: 0}, values: [1]}", "10:44", "dimensions[3].bin.step", "at least 1"},
		{"  - {name: country", "  - {name: country, type: int, bin: {step: 1, round: nearest}, values: [1]}", "10:54", "dimensions[3].bin.round", "up or down"},
		{"  - {name: country", "  - {name: country, type: float, values: [1]}", "10:27", "dimensions[3].type", "string or int"},
		{"  - {name: country", "  - {name: Country, values: [DE]}", "10:12", "dimensions[3].name", "lower-case"},
		{"  - {name: country", "  - {name: time, values: [DE]}", "10:12", "dimensions[3].name", "reserved"},
		{"  - {name: country", "  - {name: time.day, values: [DE]}", "10:12", "dimensions[3].name", "not a name"},
		{"  - {name: country", "  - {name: city, values: [DE]}", "10:12", "dimensions[3].name", "same name as at 9:12"},
		{"  - {name: country", "  - {name: average_ticket, values: [DE]}", "10:12", "dimensions[3].name", "name of a metric"},
		{"  - {name: country", "  - {name: country, column: customer_id, values: [DE]}", "10:29", "dimensions[3].column", "customer's column"},
		{"  - {name: country", "  - {name: customer_id, values: [DE]}", "10:12", "dimensions[3].name", "customer's column"},
		{"  - {name: country", "  - {name: country, values: [DE], parent: world}", "10:43", "dimensions[3].parent", "no such dimension"},
		{"  - {name: country", "  - {name: country, values: [DE], parent: country}", "10:43", "dimensions[3].parent", "is the dimension itself"},
		{"  - {name: country", "  - {name: country, values: [DE], parent: city}", "10:43", "dimensions[3].parent", "leads back"},
		{"  - {name: country", "  - {name: part, of: merchant_category, groups: {home: [grocery]}}", "10:49", "dimensions[3].other", "in no group"},
		{"  - {name: country", "  - {name: part, of: city, groups: {home: [Ulm]}}", "10:36", "dimensions[3].other", "in no group"},
		{"  - {name: country", "  - {name: part, of: shop, groups: {home: [a]}, other: b}", "10:22", "dimensions[3].of", "no such dimension"},
		{"  - {name: country", "  - {name: part, of: part, groups: {home: [a]}, other: b}", "10:22", "dimensions[3].of", "no such dimension"},
		{"  - {name: country", "  - {name: part, groups: {home: [a]}, other: b}", "10:5", "dimensions[3].of", "missing"},
		{"  - {name: country", "  - {name: part, of: city, other: b}", "10:5", "dimensions[3].groups", "missing"},
		{"  - {name: country", "  - {name: part, of: city, groups: [a], other: b}", "10:36", "dimensions[3].groups", "each label with its values"},
		{"  - {name: country", "  - {name: part, of: city, groups: {}, other: b}", "10:36", "dimensions[3].groups", "each label with its values"},
		{"  - {name: country", "  - {name: part, of: city, groups: {home: Ulm}, other: b}", "10:43", "dimensions[3].groups.home", "in brackets"},
		{"  - {name: country", "  - {name: part, of: city, groups: {home: [Ulm], away: [Ulm]}, other: b}", "10:57", "dimensions[3].groups.away[0]", "listed twice"},
		{"  - {name: country", "  - {name: part, of: merchant_category, groups: {home: [toys]}, other: b}", "10:57", "dimensions[3].groups.home[0]", "no value of that dimension"},
		{"  - {name: country", "  - {name: part, of: city, groups: {home: [Ulm]}, other: b, column: part}", "10:69", "dimensions[3].column", "leave it out"},
		{"  - {name: country", "  - {name: city, of: minutes, groups: {few: [10]}, other: b}", "10:12", "dimensions[3].name", "same name"},
		{"  - {name: country", "  - {name: spend_share, of: city, groups: {few: [a]}, other: b}", "10:12", "dimensions.spend_share", "name of a metric"},
		{"  - {name: country", "  - {name: country, values: [DE], missing: \"\"}", "10:44", "dimensions[3].missing", "empty text"},
		{"  - {name: country", "  - {name: country, values: [DE], slection: private}", "10:35", "dimensions[3]", "did you mean selection?"},
		{"  - {name: country", "  - country", "10:5", "dimensions[3]", "write a mapping"},

		// measures
		{"  - {name: amount", "  - {name: amount, lower: 0, upper: 500}", "12:5", "measures[0].scale", "2 for cents"},
		{"  - {name: amount", "  - {name: amount, scale: 10, lower: 0, upper: 500}", "12:27", "measures[0].scale", "0 to 9"},
		{"  - {name: amount", "  - {name: amount, scale: 2, upper: 500}", "12:5", "measures[0].lower", "missing"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 500, upper: 0}", "12:49", "measures[0].upper", "inverted bounds"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 5, upper: 5}", "12:47", "measures[0].upper", "inverted bounds"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 0, upper: 0.005}", "12:47", "measures[0].upper", "2 decimal places"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 0, upper: .inf}", "12:47", "measures[0].upper", "not a decimal number"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 0, upper: 1e30}", "12:47", "measures[0].upper", "out of range"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: \"0\", upper: 500}", "12:37", "measures[0].lower", "without quotes"},
		{"  - {name: amount", "  - {name: amount, scale: 2, lower: 0, upper: 500, kind: stock}", "12:58", "measures[0].kind", "flow or level"},
		{"  - {name: amount", "  - {name: country, scale: 2, lower: 0, upper: 500}", "12:12", "measures[0].name", "same name as at 10:12"},
		{"  - {name: amount", "  - {name: amount, column: customer_id, scale: 2, lower: 0, upper: 500}", "12:28", "measures[0].column", "customer's column"},
		{"  - {name: amount", "  - {name: amount, scale: 9, lower: 0, upper: 2000000}", "12:5", "measures[0]", "sum overflows"},
		{"  - {name: amount", "  - {name: amount, scale: 9, lower: 0, upper: 30000}", "12:5", "measures[0]", "mean overflows"},

		// metrics
		{"  - {name: spend", "  - {name: spend, measure: amount}", "14:5", "metrics[0].aggregate", "customers, rows, days"},
		{"  - {name: spend", "  - {name: spend, aggregate: median, measure: amount}", "14:30", "metrics[0].aggregate", "ratio or share"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount}", "14:5", "metrics[0].rank", "0.5 for the median"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: merchant_category, in: [grocery, toys]}]}", "14:81", "metrics[0].where[0].in[1]", "not a value of merchant_category"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: shop, eq: a}]}", "14:48", "metrics[0].where[0].field", "not a field"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: customer_id, eq: a}]}", "14:48", "metrics[0].where[0].field", "nobody can be singled out"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: amount}]}", "14:40", "metrics[0].where[0]", "eq, in, not_in, gte, lte"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: amount, gte: much}]}", "14:61", "metrics[0].where[0].gte", "must be a number"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{eq: a}]}", "14:40", "metrics[0].where[0].field", "missing"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: [{field: first.country, eq: DE}]}", "14:39", "metrics[0].where", "only fields of rows"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: []}", "14:39", "metrics[0].where", "no condition"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, where: amount}", "14:39", "metrics[0].where", "list of mappings"},
		{"  - {name: spend", "  - {name: p, aggregate: share, of: rows, where: [{field: amount, gte: 1}]}", "14:50", "metrics[0].where", "share does not use it"},
		{"  - {name: spend", "  - {name: p, aggregate: rows, per: customer}", "14:37", "metrics[0].per", "rows does not use it"},
		{"  - {name: spend", "  - {name: p, aggregate: mean, per: household}", "14:37", "metrics[0].per", "customer"},
		{"  - {name: spend", "  - {name: p, aggregate: mean, per: customer, upper: 3}", "14:54", "metrics[0].upper", "clamps a measure"},
		{"  - {name: spend", "  - {name: p, aggregate: mean, measure: amount, distinct: [country]}", "14:59", "metrics[0].distinct", "goes with per"},
		{"  - {name: spend", "  - {name: p, aggregate: mean, per: customer, distinct: [amount]}", "14:57", "metrics[0].distinct", "has a measure"},
		{"  - {name: spend", "  - {name: p, aggregate: mean, per: customer, measure: amount, distinct: [country]}", "14:74", "metrics[0].distinct", "takes no measure"},
		{"  - {name: spend", "  - {name: p, aggregate: variance, per: customer, measure: amount, upper: 9e5}", "14:5", "metrics[0]", "variance overflows"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, rank: 0.5}", "14:5", "metrics[0].measure", "missing"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount, rank: 1}", "14:59", "metrics[0].rank", "not between 0 and 1"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount, rank: -0.5}", "14:59", "metrics[0].rank", "not between 0 and 1"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount, rank: 0.1234567891}", "14:59", "metrics[0].rank", "9 decimal places"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount, rank: half}", "14:59", "metrics[0].rank", "not a decimal number"},
		{"  - {name: spend", "  - {name: p, aggregate: quantile, measure: amount, rank: \"0.5\"}", "14:59", "metrics[0].rank", "without quotes"},
		{"  - {name: spend", "  - {name: p, aggregate: min, measure: amount, rank: 0.5}", "14:54", "metrics[0].rank", "min does not use it"},
		{"  - {name: spend", "  - {name: p, aggregate: variance, measure: amount, upper: 9e5}", "14:5", "metrics[0]", "variance overflows: 3 times"},
		{"  - {name: spend", "  - {name: p, aggregate: stddev, measure: amount, upper: 9e5}", "14:5", "metrics[0]", "stddev overflows"},
		{"  - {name: spend", "  - {name: p, aggregate: max, measure: amount, upper: 9.1e13}", "14:5", "metrics[0]", "max overflows: lower and upper"},
		{"  - {name: spend", "  - {name: spend, aggregate: ratio}", "14:5", "metrics[0].numerator", "counts or adds up"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: spend}", "14:5", "metrics[0].denominator", "missing"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: spend, denominator: heads}", "14:64", "metrics[0].denominator", "no such metric"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: average_ticket, denominator: rows}", "14:44", "metrics[0].numerator", "count or add up"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: p, denominator: rows}", "14:44", "metrics[0].numerator", "count or add up"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: rows, denominator: rows}", "14:63", "metrics[0].denominator", "is the numerator"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: spend, denominator: rows, per_day: often}", "14:79", "metrics[0].per_day", "true or false"},
		{"  - {name: spend", "  - {name: p, aggregate: ratio, numerator: spend, denominator: rows, of: spend}", "14:74", "metrics[0].of", "leave it out"},
		{"  - {name: spend", "  - {name: p, aggregate: share}", "14:5", "metrics[0].of", "missing"},
		{"  - {name: spend", "  - {name: p, aggregate: share, of: customers}", "14:37", "metrics[0].of", "customers count in several groups"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, lower: -5}\n  - {name: p, aggregate: share, of: spend}", "15:37", "metrics[1].of", "not negative"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, rank: 0.5}", "14:58", "metrics[0].rank", "leave it out"},
		{"  - {name: spend", "  - {name: spend, aggregate: rows, measure: amount}", "14:45", "metrics[0].measure", "leave it out"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum}", "14:5", "metrics[0].measure", "missing"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amunt}", "14:44", "metrics[0].measure", "no such measure"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, upper: 0.001}", "14:59", "metrics[0].upper", "2 decimal places"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, upper: -1}", "14:59", "metrics[0].upper", "inverted bounds"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, lower: 500}", "14:59", "metrics[0].lower", "inverted bounds"},
		{"  - {name: spend", "  - {name: city, aggregate: rows}", "14:12", "metrics[0].name", "same name as at 9:12"},
		{"  - {name: spend", "  - {name: spend, aggregate: rows}\n  - {name: spend, aggregate: rows}", "15:12", "metrics[1].name", "same name as at 14:12"},
		{"  - {name: spend", "  - {name: spend, aggregate: sum, measure: amount, upper: 1e14}", "14:5", "metrics[0]", "sum overflows"},

		// budgets
		{"bounds:", "", "1:1", "bounds", "how many groups"},
		{"bounds:", "bounds: {max_partitions: 8}", "15:9", "bounds.max_rows", "missing"},
		{"bounds:", "bounds: {max_partitions: 0, max_rows: 1}", "15:26", "bounds.max_partitions", "at least 1"},
		{"bounds:", "bounds: {max_partitions: 1.5, max_rows: 1}", "15:26", "bounds.max_partitions", "whole number"},
		{"bounds:", "bounds: {max_partitions: 94906266, max_rows: 94906266}", "15:9", "bounds", "below 2^53"},
		{"bounds:", "bounds: {max_partitions: 9223372036854775807, max_rows: 9223372036854775807}", "15:9", "bounds", "below 2^53"},
		{"cap:", "cap: {epsilon: 0, delta: 1e-9}", "16:16", "cap.epsilon", "above 0"},
		{"cap:", "cap: {epsilon: 1e-13, delta: 1e-9}", "16:16", "cap.epsilon", "above 0"},
		{"cap:", "cap: {epsilon: -1, delta: 1e-9}", "16:16", "cap.epsilon", "not negative"},
		{"cap:", "cap: {epsilon: 700.1, delta: 1e-9}", "16:16", "cap.epsilon", "at most 700"},
		{"cap:", "cap: {epsilon: 6, delta: 1.00000000001e-7}", "16:26", "cap.delta", "1/(10*population), which is 0.0000001"},
		{"cap:", "cap: {epsilon: 6, delta: 2}", "16:26", "cap.delta", "at most 1"},
		{"cap:", "cap: {delta: 1e-9}", "16:6", "cap.epsilon", "missing"},
		{"cap:", "cap: 6", "16:6", "cap", "write a mapping with epsilon, delta"},
		{"cap:", "", "1:1", "cap", "anyone can ever learn"},
		{"default:", "default: {epsilon: 6.1, delta: 1e-11}", "17:20", "default.epsilon", "above cap.epsilon"},
		{"default:", "default: {epsilon: 0.1, delta: 1e-9}", "17:32", "default.delta", "quarter of cap.delta, which is 0.00000000025"},
		{"default:", "", "1:1", "default", "missing"},

		// governance
		{"purposes:", "", "1:1", "purposes", "missing"},
		{"purposes:", "purposes: []", "18:11", "purposes", "empty"},
		{"purposes:", "purposes: research", "18:11", "purposes", "such as [product-analytics]"},
		{"purposes:", "purposes: [research, Research]", "18:22", "purposes[1]", "lower-case"},
		{"purposes:", "purposes: [research, research]", "18:22", "purposes[1]", "listed twice"},
		{"audiences:", "audiences: [public]", "19:13", "audiences[0]", "internal or third-party"},
		{"audiences:", "audiences: [third_party]", "19:13", "audiences[0]", "did you mean third-party?"},
		{"audiences:", "audiences: []", "19:12", "audiences", "empty"},
		{"audiences:", "audiences: [internal, internal]", "19:23", "audiences[1]", "listed twice"},
		{"link:", "retain: 24", "20:9", "retain", "24 months"},
		{"link:", "retain: 0 months", "20:9", "retain", "not a length"},
		{"link:", "retain: 101 years", "20:9", "retain", "1200 months"},
		{"unit:", "retain: 2 quarters\nunit: {column: customer_id, block: year}", "4:9", "retain", "at least 1 year"},
		{"unit:", "retain: 24 months\nunit: {column: customer_id, block: all}", "4:9", "retain", "never ends"},
		{"link:", "two_person: yes", "20:13", "two_person", "neither true nor false"},
		{"link:", "two_person: \"true\"", "20:13", "two_person", "neither true nor false"},
		{"link:", "two_person: [true]", "20:13", "two_person", "write true"},
		{"link:", "link: {}", "20:7", "link.consent", "missing"},
		{"link:", "link: {consent: customer_id}", "20:17", "link.consent", "customer's column"},
		{"link:", "link: {consent: booked_at}", "20:17", "link.consent", "time's column"},
	}
	for _, test := range tests {
		t.Run(test.replacement, func(t *testing.T) {
			_, err := parse(with(t, test.line, test.replacement))
			list := problems(t, err)
			for _, l := range list {
				if l.Path == test.at && strings.HasPrefix(l.Message, test.field) && strings.Contains(l.Message, test.says) {
					return
				}
			}
			t.Errorf("got %+v\nwant one at %s of %q that says %q", list, test.at, test.field, test.says)
		})
	}
}

func TestAFileThatHoldsNoPolicyIsRefused(t *testing.T) {
	for source, says := range map[string]string{
		"":                     "empty file",
		"# nothing\n":          "empty file",
		"---\n":                "empty file",
		"text":                 "write a mapping",
		"[1, 2]":               "write a mapping",
		"%YAML 1.2\n---\na: 1": "directives",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "nested deeper",
		strings.Repeat("{a: ", 5000):                        "nested deeper",
		strings.Repeat("- ", 100000):                        "nested deeper",
		"a: " + strings.Repeat("x", 1<<20):                  "larger than",
		strings.Repeat("a:\n", 5001):                        "more than 5000 keys",
		strings.Repeat("--- a\n", 50000):                    "second document",
		strings.Repeat("- a\n", 100001):                     "words and signs",
		"a:\n b:\n  c:\n   d:\n    e:\n     f:\n      g:\n       h:\n        i:\n         j:\n          k:\n           l:\n            m:\n             n: 1": "nested deeper",
	} {
		_, err := parse(source)
		if list := problems(t, err); !strings.Contains(list[0].Message, says) {
			t.Errorf("%.20q: got %+v, want %q", source, list, says)
		}
	}
}

func TestAllProblemsAreReportedInTheOrderOfTheFile(t *testing.T) {
	source := strings.NewReplacer("kind: transactions", "kind: bank", "block: month", "block: week", "[DE, FR]", "[]", "epsilon: 6", "epsilon: 0").Replace(base)
	_, err := parse(source)
	var paths []string
	for _, l := range problems(t, err) {
		paths = append(paths, l.Path)
	}
	if want := []string{"2:7", "4:36", "10:29", "16:16"}; !reflect.DeepEqual(paths, want) {
		t.Errorf("got %v, want %v", paths, want)
	}
	if !strings.Contains(err.Error(), "4 problems") {
		t.Errorf("got %v", err)
	}
}

func TestCountsAreLimited(t *testing.T) {
	limits := policyfile.DefaultLimits()
	limits.Dimensions, limits.Measures, limits.Metrics, limits.Purposes, limits.Values, limits.Problems = 3, 0, 0, 1, 4, 2
	_, err := policyfile.Parse([]byte(base), limits)
	list := problems(t, err)
	if len(list) != 2 || !strings.Contains(err.Error(), "of which the first 2 are listed") {
		t.Errorf("got %v", err)
	}
	limits.Problems = 100
	_, err = policyfile.Parse([]byte(base), limits)
	var fields []string
	for _, l := range problems(t, err) {
		field, _, _ := strings.Cut(l.Message, ":")
		fields = append(fields, field)
	}
	if want := []string{"dimensions", "measures", "metrics", "purposes"}; !reflect.DeepEqual(fields, want) {
		t.Errorf("got %v, want %v", fields, want)
	}
	limits = policyfile.DefaultLimits()
	limits.Values = 4 // merchant_category has 4 and the label of other
	if _, err = policyfile.Parse([]byte(base), limits); err == nil || !strings.Contains(err.Error(), "dimensions[0].values: more than 4 values with the labels") {
		t.Errorf("got %v", err)
	}
}

func TestRefusalsDoNotRepeatTheFile(t *testing.T) {
	const secret = "zq7zq7"
	for _, line := range []string{
		"name: Z-" + secret, "kind: " + secret, "kind: [" + secret, "kind: '" + secret, secret + ": 1", "kind: &" + secret + " a", "kind: *" + secret,
		"population: " + secret, "time: {column: a, timezone: " + secret + "}", "time: {column: a, timezone: UTC, format: " + secret + "}",
		"dimensions: [{name: a, parent: " + secret + ", selection: private}]", "purposes: [Z" + secret + "]", "cap: {epsilon: " + secret + "}",
		"unit: {row: " + secret + "}", "measures: [{name: a, scale: " + secret + ", lower: " + secret + "}]", secret + " " + secret, "a: b: " + secret, "@" + secret, "%" + secret,
	} {
		_, err := parse(line + "\n")
		problems(t, err)
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestEveryExampleIsAPolicyAndComesBackFromItsFormats(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := mustParse(t, string(source))
			if p.Name+".yaml" != filepath.Base(file) {
				t.Errorf("the policy is named %s", p.Name)
			}
			comesBack(t, p)
		})
	}
}

// A retention is kept in months, and written in the periods of the blocks.
func TestRetentionIsReadAndWritten(t *testing.T) {
	for _, c := range []struct {
		block, retain string
		months        int64
		written       string
	}{
		{"month", "24 months", 24, "24 months"}, {"month", "2 years", 24, "24 months"}, {"month", "1 month", 1, "1 month"},
		{"quarter", "24 months", 24, "8 quarters"}, {"quarter", "4 months", 4, "4 months"}, {"year", "36 months", 36, "3 years"},
		{"year", "1 year", 12, "1 year"}, {"year", "5 quarters", 15, "15 months"},
	} {
		p := mustParse(t, strings.Replace(base, "unit: {column: customer_id, block: month}", "unit: {column: customer_id, block: "+c.block+"}", 1)+"retain: "+c.retain+"\n")
		text, err := policyfile.Format(p)
		if p.RetainMonths != c.months || err != nil || !strings.Contains(string(text), `retain: "`+c.written+`"`) {
			t.Errorf("%+v is %d months, written as %s, %v", c, p.RetainMonths, text, err)
		}
		if again := mustParse(t, string(text)); !reflect.DeepEqual(again, p) {
			t.Errorf("%+v is read back as %+v", c, again)
		}
	}
}

func TestTwoPersonsAreAskedForByTrueAlone(t *testing.T) {
	for text, want := range map[string]bool{"": false, "two_person: true\n": true, "two_person: false\n": false} {
		p := mustParse(t, base+text)
		written, err := policyfile.Format(p)
		if err != nil || p.TwoPerson != want || strings.Contains(string(written), "two_person: true\n") != want || strings.Contains(string(written), "two_person") != want {
			t.Errorf("%q: %v, written %v\n%s", text, p.TwoPerson, err, written)
		}
		if again := mustParse(t, string(written)); !reflect.DeepEqual(again, p) {
			t.Errorf("%q: read back as %+v", text, again)
		}
	}
}
