package main

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// realData gives the path of a file of the real data beside the checkout, and skips the test without it.
func realData(t testing.TB, name string) string {
	t.Helper()
	sequential(t)
	path := filepath.Join("..", "..", "..", "shared", "data", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("without the real data: %v", err)
	}
	return path
}

// example gives the text of a policy that is committed as an example, with replacements.
func example(t testing.TB, name string, replacements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "api", "policyfile", "examples", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(replacements...).Replace(string(text))
}

// loaded serves a dataset of one real file, applied, loaded and allotted by the command, and gives an
// analyst's key and what the load reported.
func loaded(t testing.TB, noise mechanism.Noise, policy, path string) (h *harness, analyst string, report wire.LoadReport) {
	t.Helper()
	h = newHarness(t, noise)
	h.apply(policy)
	parsed, err := policyfile.Parse([]byte(policy), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	analyst = h.hire("analyst", dp.Analyst, parsed.Purposes...)
	h.allot("analyst", parsed.Name, parsed.Cap.Epsilon.String(), parsed.Cap.Delta.String())
	var reports []wire.LoadReport
	h.mustJSON(&reports, h.hire("warehouse", dp.Custodian), "load", parsed.Name, path)
	return h, analyst, reports[0]
}

// column gives one metric of every group, in the order of the answer.
func column(r wire.Release, metric string) []float64 {
	var values []float64
	for _, g := range r.Groups {
		values = append(values, g.Values[metric].Value)
	}
	return values
}

var (
	publishedVisits  = []float64{300, 300, 400, 400, 450, 500, 500}
	publishedRevenue = []float64{8678, 8696, 12088, 12079, 13765, 16576, 16500}
)

func TestRestaurantEqualsThePublishedResults(t *testing.T) {
	path := realData(t, "restaurant/week_data.csv")
	h, analyst, report := loaded(t, exact{}, example(t, "restaurant-week"), path)
	if report.Accepted != 2850 || report.Rejected != 0 {
		t.Errorf("accepted %d, rejected %d rows of 2,850", report.Accepted, report.Rejected)
	}
	var release wire.Release
	h.mustJSON(&release, analyst, "query", "restaurant-week", "visits", "revenue", "--by", "day", "--purpose", "reporting")
	if got := column(release, "visits"); !slices.Equal(got, publishedVisits) {
		t.Errorf("visits per day are %v, published were %v", got, publishedVisits)
	}
	if got := column(release, "revenue"); !slices.Equal(got, publishedRevenue) {
		t.Errorf("revenue per day is %v, published was %v", got, publishedRevenue)
	}
}

// TestRestaurantValuesLieInTheirIntervalsAtTheStatedRate asks 250 times at each of four confidences: 1,000 fresh
// runs with 14 values each. The number of covered values is compared with its binomial law at a false-alarm
// rate of 1e-6 a run. Intervals of 0.7 times the width fail the same comparison, and so do those of 1.3 times
// where enough values lie outside for it to be seen; that a right answer fails this second part by chance is
// less likely than 1e-6, too.
func TestRestaurantValuesLieInTheirIntervalsAtTheStatedRate(t *testing.T) {
	path := realData(t, "restaurant/week_data.csv")
	policy := example(t, "restaurant-week", "cap: {epsilon: 10, ", "cap: {epsilon: 400, ")
	h, analyst, _ := loaded(t, mechanism.Secure(), policy, path)
	c := h.client(analyst)
	published := map[string][]float64{"visits": publishedVisits, "revenue": publishedRevenue}
	for _, cell := range []struct {
		confidence string
		rate       float64
		seesWide   bool
	}{{"0.5", 0.5, true}, {"0.9", 0.9, true}, {"0.95", 0.95, false}, {"0.99", 0.99, false}} {
		var covered, narrow, wide, n int
		for range 250 {
			r, err := c.Query(t.Context(), wire.Query{Dataset: "restaurant-week", Metrics: []string{"visits", "revenue"}, By: []string{"day"},
				Purpose: "reporting", Epsilon: "0.1", Delta: "0", Confidence: wire.Decimal(cell.confidence), Fresh: true}, "")
			if err != nil {
				t.Fatal(err)
			}
			for metric, truth := range published {
				for i, g := range r.Groups {
					v := g.Values[metric]
					half, off := (v.High-v.Low)/2, math.Abs(v.Value-truth[i])
					covered += count(off <= half)
					narrow += count(off <= 0.7*half)
					wide += count(off <= 1.3*half)
					n++
				}
			}
		}
		if !plausible(covered, n, cell.rate) {
			t.Errorf("at %s: %d of %d values lie in their intervals", cell.confidence, covered, n)
		}
		if plausible(narrow, n, cell.rate) || cell.seesWide && plausible(wide, n, cell.rate) {
			t.Errorf("at %s: the test would accept intervals of a wrong width (%d and %d of %d)", cell.confidence, narrow, wide, n)
		}
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// plausible says whether k of n successes are likely enough at rate p: Hoeffding's inequality in its
// Kullback-Leibler form bounds either tail by exp(-n*KL(k/n || p)), here at 1e-6 over the eight tails of a run.
func plausible(k, n int, p float64) bool {
	q := float64(k) / float64(n)
	term := func(a, b float64) float64 {
		if a == 0 {
			return 0
		}
		return a * math.Log(a/b)
	}
	return float64(n)*(term(q, p)+term(1-q, 1-p)) < math.Log(8/1e-6)
}

func TestRowsAndCustomersOfOutliersDiffer(t *testing.T) {
	path := realData(t, "restaurant/outliers_week_data.csv")
	h, analyst, _ := loaded(t, exact{}, example(t, "restaurant-outliers"), path)
	var release wire.Release
	h.mustJSON(&release, analyst, "query", "restaurant-outliers", "rows", "customers", "--by", "minutes", "--purpose", "reporting")
	want := map[string][2]float64{"110": {38, 38}, "180": {38, 10}}
	for _, g := range release.Groups {
		if w, ok := want[g.Key["minutes"]]; ok {
			if got := [2]float64{g.Values["rows"].Value, g.Values["customers"].Value}; got != w {
				t.Errorf("the %s minute group has %v rows and customers, want %v", g.Key["minutes"], got, w)
			}
			delete(want, g.Key["minutes"])
		}
	}
	if len(want) > 0 {
		t.Errorf("groups %v are missing", want)
	}
}

func TestSelectionShowsGroupsOfManyCustomersNotOfManyRows(t *testing.T) {
	path := realData(t, "restaurant/outliers_week_data.csv")
	h, analyst, _ := loaded(t, exact{}, example(t, "restaurant-outliers-private", "delta: 1e-5", "delta: 1e-4"), path)
	var release wire.Release
	// At this price tau lies between the 10 customers of the 180 minute group and the 38 of the 110 minute group.
	h.mustJSON(&release, analyst, "query", "restaurant-outliers-private", "customers", "--by", "minutes", "--epsilon", "2", "--delta", "2e-5", "--max-partitions", "4", "--purpose", "reporting")
	shown := map[string]bool{}
	for _, g := range release.Groups {
		shown[g.Key["minutes"]] = true
	}
	if !shown["110"] || shown["180"] || !release.GroupsMayBeHidden {
		t.Errorf("shown are %v", shown)
	}
}

func TestMeanAgeOfPUMSIsExact(t *testing.T) {
	path := realData(t, "pums/PUMS.csv")
	h, analyst, report := loaded(t, mechanism.Secure(), example(t, "pums"), path)
	if report.Accepted != 1000 || report.Rejected != 0 {
		t.Errorf("accepted %d, rejected %d rows of 1,000", report.Accepted, report.Rejected)
	}
	ask := []string{"query", "pums", "mean_age", "--epsilon", "1", "--delta", "0", "--purpose", "research"}
	var priced wire.Plan
	h.mustJSON(&priced, analyst, append(ask, "--plan")...)
	var release wire.Release
	h.mustJSON(&release, analyst, ask...)
	v := release.Groups[0].Values["mean_age"]
	if half := (v.High - v.Low) / 2; half > 0.31 || priced.Expected["mean_age"].Within > 0.31 {
		t.Errorf("the half-width is %v, planned was %v; at most 0.31 on 1,000 rows", half, priced.Expected["mean_age"].Within)
	}
	// Of 1,000 rows the mean is 44.797; noise of scale 0.1 is further off than 2.5 less often than once in 1e9.
	if math.Abs(v.Value-44.797) > 2.5 {
		t.Errorf("the mean age is %v", v.Value)
	}
}

func TestPeopleOfPUMSAreCountedOnceAndMissingOnesRejected(t *testing.T) {
	h, analyst, _ := loaded(t, exact{}, example(t, "pums"), realData(t, "pums/PUMS.csv"))
	var married wire.Release
	h.mustJSON(&married, analyst, "query", "pums", "customers", "--by", "married", "--purpose", "research")
	if got := column(married, "customers"); !slices.Equal(got, []float64{451, 549}) {
		t.Errorf("single and married are %v, want 451 and 549", got)
	}

	h, analyst, report := loaded(t, exact{}, example(t, "pums-dup"), realData(t, "pums/PUMS_dup.csv"))
	if report.Accepted != 1948 || report.Rejected != 0 {
		t.Errorf("of PUMS_dup %d accepted, %d rejected", report.Accepted, report.Rejected)
	}
	var people wire.Release
	h.mustJSON(&people, analyst, "query", "pums-dup", "customers", "--purpose", "research")
	if got := column(people, "customers"); !slices.Equal(got, []float64{1000}) {
		t.Errorf("1,948 rows are of %v people, want 1,000", got)
	}

	_, _, report = loaded(t, exact{}, example(t, "pums-null"), realData(t, "pums/PUMS_null.csv"))
	if report.Accepted != 1860 || report.Rejected != 88 {
		t.Errorf("of PUMS_null %d accepted, %d rejected, want 88 without a pid", report.Accepted, report.Rejected)
	}
}

// departments writes the transactions with the department of each product, as a warehouse would join them.
func departments(t testing.TB) string {
	t.Helper()
	of := map[string]string{}
	for _, r := range records(t, realData(t, "completejourney/products.csv")) {
		of[r["product_id"]] = r["department"]
	}
	path := filepath.Join(t.TempDir(), "departments.csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(f)
	_ = w.Write([]string{"household_id", "department", "quantity", "sales_value", "transaction_timestamp"})
	for _, r := range records(t, realData(t, "completejourney/transactions_sample.csv")) {
		_ = w.Write([]string{r["household_id"], of[r["product_id"]], r["quantity"], r["sales_value"], r["transaction_timestamp"]})
	}
	w.Flush()
	if err := w.Error(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// records reads a CSV file as maps from header to value.
func records(t testing.TB, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	list := make([]map[string]string, 0, len(all)-1)
	for _, record := range all[1:] {
		r := make(map[string]string, len(record))
		for i, v := range record {
			r[all[0][i]] = v
		}
		list = append(list, r)
	}
	return list
}

func TestWeeklySpendByDepartmentEqualsBoundingAndPlainSums(t *testing.T) {
	path := departments(t)
	policy := example(t, "completejourney-departments")
	h, analyst, report := loaded(t, exact{}, policy, path)
	if report.Accepted != 75_000 || report.Rejected != 0 {
		t.Errorf("accepted %d, rejected %d of 75,000", report.Accepted, report.Rejected)
	}
	keyOf := func(department, week string) string { return department + " " + week }

	plain := map[string]float64{}
	for _, r := range records(t, path) {
		at, err := time.Parse(time.RFC3339, r["transaction_timestamp"])
		if err != nil {
			t.Fatal(err)
		}
		cents, err := rows.ParseDecimal(r["sales_value"], 2)
		if err != nil {
			t.Fatal(err)
		}
		department := r["department"]
		if department == "" {
			department = "none"
		}
		plain[keyOf(department, rows.TimeKey(at.UnixMilli(), rows.Week, time.UTC))] += float64(cents)
	}

	for _, limit := range []int64{17, 3} {
		query := dp.Query{Dataset: "completejourney-departments", Metrics: []string{"spend", "customers"}, By: []string{"department", "time.week"},
			From: "2017-01-01", To: "2018-01-31", Purpose: "reporting", MaxPartitions: limit}
		want := reference(t, h, policy, path, query)
		r, err := h.client(analyst).Query(t.Context(), wire.Query{Dataset: query.Dataset, Metrics: query.Metrics, By: query.By,
			From: query.From, To: query.To, Purpose: query.Purpose, MaxPartitions: limit}, "")
		if err != nil {
			t.Fatal(err)
		}
		differs := 0
		for _, g := range r.Groups {
			key := keyOf(g.Key["department"], g.Key["time.week"])
			if got := g.Values["spend"].Value; got != want[key][1]/100 || g.Values["customers"].Value != want[key][0] {
				t.Errorf("L0 %d: %s has %v, bounding gives %v", limit, key, g.Values, want[key])
			}
			if math.Abs(g.Values["spend"].Value*100-plain[key]) > 0.5 {
				differs++
			}
		}
		if limit == 17 && differs > 0 {
			t.Errorf("with L0 17 and clamp 100 nothing is cut, but %d groups differ from the plain sums", differs)
		}
		if limit == 3 && differs == 0 {
			t.Error("with L0 3 no group differs from the plain sums: nothing was bounded")
		}
	}
}

// boundedRows is what a plan computes over the rows of a file, by dp/bounding, under the server's own secrets.
func boundedRows(t testing.TB, h *harness, made *plan.Plan, path string) []bounding.Partition {
	t.Helper()
	keys, err := secrets.Open(filepath.Join(h.dir, "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	salt, all := keys.Salt(made.Policy.Name), readRows(t, &made.Policy.Policy, f, keys)
	var partitions []bounding.Partition
	if made.Tree.Input.Input.Profile == nil {
		partitions, err = bounding.Reference(made, salt, all)
	} else {
		partitions, err = bounding.ReferenceSeveral(made, salt, map[string][]rows.Row{made.Policy.Name: all})
	}
	if err != nil {
		t.Fatal(err)
	}
	return partitions
}

// reference computes a query by dp/bounding over the rows of a file, read as the server reads them. Totals come
// in the order of the plan's columns.
func reference(t testing.TB, h *harness, policy, path string, q dp.Query) map[string][]float64 {
	t.Helper()
	p, err := policyfile.Parse([]byte(policy), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	made, err := plan.Make(q, dp.VersionedPolicy{Policy: p, Version: 1}, []dp.Budget{p.Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	partitions := boundedRows(t, h, made, path)
	want := make(map[string][]float64, len(partitions))
	for _, part := range partitions {
		var totals []float64
		for _, v := range part.Totals {
			totals = append(totals, float64(v))
		}
		want[strings.Join(part.Key, " ")] = totals
	}
	// Empty public groups are zeros.
	for _, key := range made.Groups() {
		if name := strings.Join(key, " "); want[name] == nil {
			want[name] = make([]float64, made.Tree.Width())
		}
	}
	return want
}

func TestDailyActiveReadersOfWikimediaAreCounted(t *testing.T) {
	path := realData(t, "wikimedia-sessions/session_dataset.csv")
	h, analyst, report := loaded(t, exact{}, example(t, "wikimedia-sessions"), path)
	if report.Accepted != 63_524 || report.Rejected != 0 {
		t.Errorf("accepted %d, rejected %d of 63,524", report.Accepted, report.Rejected)
	}
	active := map[string]map[string]bool{}
	for _, r := range records(t, path) {
		day := r["timestamp"][:10]
		if active[day] == nil {
			active[day] = map[string]bool{}
		}
		active[day][r["uuid"]] = true
	}
	var release wire.Release
	h.mustJSON(&release, analyst, "query", "wikimedia-sessions", "active_users", "--by", "time.day", "--from", "2014-01-01", "--to", "2014-01-31", "--purpose", "product-analytics")
	if len(release.Groups) != 31 {
		t.Errorf("%d days are answered, want 31, empty ones too", len(release.Groups))
	}
	for _, g := range release.Groups {
		if day := g.Key["time.day"]; g.Values["active_users"].Value != float64(len(active[day])) {
			t.Errorf("on %s there are %v active readers, want %d", day, g.Values["active_users"].Value, len(active[day]))
		}
	}
}

func TestEveryRealFileLoadsAsItIs(t *testing.T) {
	for _, c := range []struct {
		policy, file       string
		accepted, rejected int64
	}{
		{"restaurant-day", "restaurant/day_data.csv", 450, 0},
		{"restaurant-week", "restaurant/week_data.csv", 2850, 0},
		{"restaurant-outliers", "restaurant/outliers_week_data.csv", 2779, 0},
		{"restaurant-outliers-private", "restaurant/outliers_week_data.csv", 2779, 0},
		{"completejourney-demographics", "completejourney/demographics.csv", 801, 0},
		{"completejourney-products", "completejourney/products.csv", 92_331, 0},
		{"completejourney-transactions", "completejourney/transactions_sample.csv", 75_000, 0},
	} {
		t.Run(c.policy, func(t *testing.T) {
			_, _, report := loaded(t, exact{}, example(t, c.policy), realData(t, c.file))
			if report.Accepted != c.accepted || report.Rejected != c.rejected {
				t.Errorf("accepted %d, rejected %d, want %d and %d", report.Accepted, report.Rejected, c.accepted, c.rejected)
			}
		})
	}
}

func readRows(t testing.TB, p *dp.Policy, f *os.File, keys *secrets.Secrets) []rows.Row {
	t.Helper()
	reader, err := load.NewReader(p, f, load.Source{Format: load.CSV}, keys)
	if err != nil {
		t.Fatal(err)
	}
	var all []rows.Row
	for batch, err := range reader.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range batch {
			if record.Reason != "" {
				t.Fatalf("line %d is rejected: %s", record.Line, record.Reason)
			}
			row := record.Row
			row.Dimensions, row.Measures = slices.Clone(row.Dimensions), slices.Clone(row.Measures)
			all = append(all, row)
		}
	}
	return all
}
