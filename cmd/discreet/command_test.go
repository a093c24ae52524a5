package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

const shopPolicy = `name: shop
kind: transactions
population: 1000
unit: {column: customer, block: month}
time: {column: at, timezone: Europe/Berlin, format: date}
dimensions:
  - {name: category, values: [grocery, travel], other: other}
  - {name: city, selection: private, missing: unknown}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 100, kind: flow}
bounds: {max_partitions: 3, max_rows: 5}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [product-analytics]
audiences: [internal]
`

const shopRows = `customer,at,category,city,amount
a,2026-01-05,grocery,Bonn,10.50
a,2026-01-06,grocery,Bonn,4.50
b,2026-01-07,travel,Ulm,99.99
c,2026-01-08,pets,,1
,2026-01-08,grocery,Bonn,1
d,2026-02-30,grocery,Bonn,1
e,2026-02-01,grocery,Bonn,20
`

// newShop serves a small shop with a product team, which may spend epsilon 3 on each month.
func newShop(t testing.TB, noise mechanism.Noise) (h *harness, team, custodian string) {
	t.Helper()
	h = newHarness(t, noise)
	h.apply(shopPolicy)
	team, custodian = h.hire("team", dp.Product, "product-analytics"), h.hire("warehouse", dp.Custodian)
	h.allot("team", "shop", "3", "5e-10")
	return h, team, custodian
}

func TestQuestionIsAnsweredFromEmptyDirectoryToPriceAndWhatIsLeft(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	rowsFile := h.file("shop.csv", shopRows)

	var reports []wire.LoadReport
	h.mustJSON(&reports, custodian, "load", "shop", rowsFile)
	if r := reports[0]; r.Accepted != 5 || r.Rejected != 2 || strings.Join(r.Load.Blocks, " ") != "2026-01 2026-02" {
		t.Errorf("the load reports %+v", r)
	}

	ask := []string{"query", "shop", "customers", "spend", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}
	var plan wire.Plan
	h.mustJSON(&plan, team, append(ask, "--plan")...)
	var release wire.Release
	h.mustJSON(&release, team, ask...)
	got := map[string][2]float64{}
	for _, g := range release.Groups {
		got[g.Key["category"]] = [2]float64{g.Values["customers"].Value, g.Values["spend"].Value}
	}
	want := map[string][2]float64{"grocery": {1, 15}, "travel": {1, 99.99}, "other": {1, 1}}
	for category, values := range want {
		if got[category] != values {
			t.Errorf("%s has %v, want %v", category, got[category], values)
		}
	}
	if release.Charge.Epsilon != plan.Charge.Epsilon || release.Charge.Epsilon.Float() <= 0 {
		t.Errorf("it cost epsilon %s, planned was %s", release.Charge.Epsilon, plan.Charge.Epsilon)
	}
	if within := plan.Expected["customers"].Within; within <= 0 {
		t.Errorf("customers are expected within %v", within)
	}

	table := h.must(team, ask...)
	for _, part := range []string{"category", "grocery", "±", "price", "epsilon 0 ", "left", "allotment/shop/2026-01", "answered before", "protects"} {
		if !strings.Contains(table, part) {
			t.Errorf("the table lacks %q:\n%s", part, table)
		}
	}

	var budget wire.Budget
	h.mustJSON(&budget, team, "budget", "shop")
	if len(budget.Accounts) != 1 || budget.Accounts[0].Spent.Epsilon != release.Charge.Epsilon || len(budget.Charges) != 1 {
		t.Errorf("after one paid question the budget is %+v", budget)
	}
	if text := h.must(h.officer, "budget", "shop", "--all"); !strings.Contains(text, "(cap)") || !strings.Contains(text, "team") {
		t.Errorf("the officer sees\n%s", text)
	}
}

func TestReleaseIsReadAgainInEveryFormat(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	var release wire.Release
	h.mustJSON(&release, team, "query", "shop", "customers", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics")
	if list := h.must(team, "release", "list"); !strings.Contains(list, release.ID) {
		t.Errorf("the list lacks %s:\n%s", release.ID, list)
	}
	records, err := csv.NewReader(strings.NewReader(h.must(team, "release", "show", release.ID, "--format", "csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1+len(release.Groups) || records[0][0] != "category" {
		t.Errorf("as CSV it is %v", records)
	}
	lines := strings.Split(strings.TrimSpace(h.must(team, "release", "show", release.ID, "--format", "ndjson")), "\n")
	if len(lines) != len(release.Groups) || !json.Valid([]byte(lines[0])) {
		t.Errorf("as NDJSON it is %q", lines)
	}
}

func TestExitCodesAndErrorsTellWhatToDo(t *testing.T) {
	h, team, custodian := newShop(t, exact{})
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	ask := func(more ...string) []string {
		return append([]string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31"}, more...)
	}
	for _, c := range []struct {
		name string
		key  string
		args []string
		code int
		says string
	}{
		{"no verb", team, nil, exitUsage, "--help"},
		{"unknown verb", team, []string{"ask"}, exitUsage, "--help"},
		{"no purpose", team, ask(), exitUsage, "--purpose"},
		{"no key", "", ask("--purpose", "product-analytics"), exitUsage, "DISCREET_KEY"},
		{"bad address", team, ask("--purpose", "product-analytics", "--url", "nowhere"), exitUsage, "http://"},
		{"nobody there", team, ask("--purpose", "product-analytics", "--url", "http://127.0.0.1:1"), exitFailed, "discreet serve"},
		{"no such machine", team, ask("--purpose", "product-analytics", "--url", "http://nowhere.invalid"), exitFailed, "nowhere.invalid"},
		{"https to http", team, ask("--purpose", "product-analytics", "--url", strings.Replace(h.url, "http:", "https:", 1)), exitFailed, "http://"},
		{"no key at all", "secret", ask("--purpose", "product-analytics"), exitUsage, "dk_"},
		{"unknown key", "dk_unknown", ask("--purpose", "product-analytics"), exitFailed, "unauthenticated"},
		{"not a number", team, ask("--purpose", "product-analytics", "--epsilon", "x"), exitUsage, "--epsilon"},
		{"unknown metric", team, []string{"query", "shop", "profit", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}, exitUsage, "invalid-query: metrics[0]: is not a metric"},
		{"unknown dataset", team, []string{"query", "shops", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}, exitFailed, "not-found"},
		{"purpose not allowed", team, ask("--purpose", "advertising"), exitRefused, "purpose"},
		{"budget exhausted", team, ask("--purpose", "product-analytics", "--epsilon", "3.5"), exitRefused, "still admits 3"},
		{"too expensive", team, ask("--purpose", "product-analytics", "--epsilon", "0.2", "--spend-at-most", "0.1"), exitRefused, ""},
		{"role", team, []string{"consumer", "list"}, exitRefused, "forbidden"},
		{"missing file", custodian, []string{"load", "shop", "none.csv"}, exitUsage, "none.csv"},
		{"stdin without dates", custodian, []string{"load", "shop", "-"}, exitUsage, "--from"},
		{"bad policy", h.officer, []string{"dataset", "apply", h.file("bad.yaml", strings.Replace(shopPolicy, "upper: 100", "upper: -1", 1))}, exitUsage, "10:"},
		{"change without reason", h.officer, []string{"dataset", "apply", h.file("same.yaml", strings.Replace(shopPolicy, "epsilon: 6", "epsilon: 5", 1))}, exitUsage, "reason"},
		{"stale version", h.officer, []string{"dataset", "apply", h.file("same.yaml", strings.Replace(shopPolicy, "epsilon: 6", "epsilon: 5", 1)), "--reason", "x", "--if-version", "7"}, exitFailed, "read it again"},
		{"network without TLS", "", []string{"serve", "--data", t.TempDir(), "--listen", "0.0.0.0:0"}, exitUsage, "--insecure"},
		{"directory in use", "", []string{"serve", "--data", h.dir, "--listen", "127.0.0.1:0"}, exitFailed, "another discreet"},
		{"nothing to change", h.officer, []string{"consumer", "set", "warehouse"}, exitUsage, "--purposes"},
		{"no such allotment", h.officer, []string{"allotment", "show", "warehouse", "shop"}, exitFailed, "allotment set"},
		{"allotment without epsilon", h.officer, []string{"allotment", "set", "warehouse", "shop"}, exitUsage, "--epsilon"},
	} {
		r := h.run(c.key, c.args...)
		if r.code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.name, r.code, c.code, r.stderr)
		}
		if !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "discreet: ") {
			t.Errorf("%s: want one line that says %q, got %q", c.name, c.says, r.stderr)
		}
		if strings.Contains(r.stderr, "secret") || strings.Contains(r.stderr, "%!") {
			t.Errorf("%s: prints %q", c.name, r.stderr)
		}
		if r.stdout != "" {
			t.Errorf("%s: prints %q", c.name, r.stdout)
		}
	}
}

func TestEmptyListsAreListsInJSON(t *testing.T) {
	h := newHarness(t, exact{})
	for _, args := range [][]string{{"dataset", "list"}, {"allotment", "list", "officer"}, {"release", "list"}, {"budget"}} {
		if text := h.must(h.officer, append(args, "--format", "json")...); strings.Contains(text, "null") {
			t.Errorf("%v prints %s", args, text)
		}
	}
}

func TestConsumersKeysAndAllotmentsAreChangedInPlace(t *testing.T) {
	h, team, _ := newShop(t, exact{})
	h.must(h.officer, "allotment", "set", "team", "shop", "--paused", "--reason", "holiday")
	var allotment wire.Allotment
	h.mustJSON(&allotment, h.officer, "allotment", "show", "team", "shop")
	if !allotment.Paused || allotment.Epsilon != "3" || allotment.Version != 2 {
		t.Errorf("after pausing the allotment is %+v", allotment)
	}
	if r := h.run(team, "query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"); r.code != exitRefused {
		t.Errorf("a paused consumer asks: exit %d, %s%s", r.code, r.stdout, r.stderr)
	}
	h.must(h.officer, "allotment", "set", "team", "shop", "--no-paused", "--reason", "back")

	// Lowered below what is spent it is frozen, and whoever looks sees where.
	question := []string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.2"}
	h.must(team, question...)
	if text := h.must(h.officer, "allotment", "set", "team", "shop", "--epsilon", "0.1", "--reason", "less"); !strings.Contains(text, "Frozen on 2026-01") {
		t.Errorf("lowering says\n%s", text)
	}
	for _, shown := range []string{h.must(team, "budget"), h.must(h.officer, "consumer", "show", "team"), h.must(h.officer, "budget", "shop", "--all")} {
		if !strings.Contains(shown, "frozen") {
			t.Errorf("this does not say that it is frozen:\n%s", shown)
		}
	}
	h.fails(team, exitRefused, "frozen on 2026-01", append(question, "--fresh")...)
	h.must(h.officer, "allotment", "set", "team", "shop", "--epsilon", "3", "--reason", "back")
	h.must(h.officer, "consumer", "set", "team", "--purposes", "product-analytics,reporting", "--reason", "asked")
	var consumer wire.Consumer
	h.mustJSON(&consumer, h.officer, "consumer", "show", "team")
	if strings.Join(consumer.Purposes, " ") != "product-analytics reporting" {
		t.Errorf("after the change the consumer is %+v", consumer)
	}

	var keys wire.KeyList
	h.mustJSON(&keys, h.officer, "key", "list", "team")
	if len(keys.Items) != 1 {
		t.Fatalf("team has keys %+v", keys.Items)
	}
	h.must(h.officer, "key", "revoke", "team", keys.Items[0].ID)
	if r := h.run(team, "budget"); r.code != exitFailed || !strings.Contains(r.stderr, "unauthenticated") {
		t.Errorf("with a revoked key: exit %d, %s", r.code, r.stderr)
	}
}

func TestPolicyIsPrintedToBeChangedAndAppliedAgain(t *testing.T) {
	h, _, _ := newShop(t, exact{})
	file := h.must(h.officer, "dataset", "show", "shop", "--policy")
	lower := strings.Replace(file, "cap: {epsilon: 6", "cap: {epsilon: 5", 1)
	if lower == file {
		t.Fatalf("the policy has no such cap:\n%s", file)
	}
	h.must(h.officer, "dataset", "apply", h.file("lower.yaml", lower), "--reason", "less")
	var d wire.Dataset
	h.mustJSON(&d, h.officer, "dataset", "show", "shop")
	if d.Version != 2 {
		t.Errorf("after the change the policy has version %d", d.Version)
	}
	if now := h.must(h.officer, "dataset", "show", "shop", "--policy"); now != lower {
		t.Errorf("what was applied\n%s\nis printed as\n%s", lower, now)
	}
}

func TestDirectoryServedAgainKeepsAnswersAndPrintsNoSecondKey(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data")}
	started, stop := h.start(exact{})
	h.officer = keyIn(started)
	h.apply(shopPolicy)
	team, custodian := h.hire("team", dp.Product, "product-analytics"), h.hire("warehouse", dp.Custodian)
	h.allot("team", "shop", "3", "5e-10")
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	ask := []string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics"}
	var before, after wire.Release
	h.mustJSON(&before, team, ask...)
	stop()

	started, stop = h.start(mechanism.Secure())
	defer stop()
	if key := keyIn(started); key != "" {
		t.Error("the second start printed a key")
	}
	h.mustJSON(&after, team, ask...)
	if after.ID != before.ID || after.Groups[0].Values["customers"] != before.Groups[0].Values["customers"] {
		t.Errorf("before %+v, after %+v", before.Groups, after.Groups)
	}
	info, err := os.Stat(h.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory is %v, %v", info.Mode(), err)
	}
}

func TestSecureNoiseDiffersFromTheDouble(t *testing.T) {
	h, team, custodian := newShop(t, mechanism.Secure())
	h.must(custodian, "load", "shop", h.file("shop.csv", shopRows))
	// At epsilon 0.001 the scale is 1000: forty fresh draws are all exactly 3 with probability below 1e-120.
	for range 40 {
		var release wire.Release
		h.mustJSON(&release, team, "query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.001", "--fresh")
		if release.Groups[0].Values["customers"].Value != 3 {
			return
		}
	}
	t.Error("forty answers hold no noise")
}
