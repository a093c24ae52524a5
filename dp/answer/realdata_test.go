package answer

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// realRows reads a file of the real data beside the checkout by a policy, and skips the test without it. customer is the
// header of the customers' column; without one every row is a customer.
func realRows(t *testing.T, p *dp.Policy, name string) []rows.Row {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", filepath.FromSlash(name)))
	if err != nil {
		t.Skipf("without the real data: %v", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]int)
	for i, header := range records[0] {
		at[header] = i
	}
	customers := make(map[string]uint64)
	var all []rows.Row
	for i, record := range records[1:] {
		r := rows.Row{Customer: uint64(i)}
		if !p.Unit.Row {
			id := record[at[p.Unit.Column]]
			if _, ok := customers[id]; !ok {
				customers[id] = uint64(len(customers))
			}
			r.Customer = customers[id]
		}
		if p.Time != nil {
			moment, err := time.Parse(time.RFC3339, record[at[p.Time.Column]])
			if err != nil {
				t.Fatal(err)
			}
			r.Time = moment.UnixMilli()
		}
		for _, d := range p.Dimensions {
			r.Dimensions = append(r.Dimensions, rows.Text{Valid: true, Value: record[at[d.Column]]})
		}
		for _, m := range p.Measures {
			value, err := rows.ParseDecimal(record[at[m.Column]], m.Scale)
			if err != nil {
				t.Fatal(err)
			}
			r.Measures = append(r.Measures, rows.Number{Valid: true, Value: value})
		}
		all = append(all, r)
	}
	return all
}

// realCase is a question about real data in which every aggregate occurs that the data have something for.
type realCase struct {
	file    string
	policy  dp.Policy
	measure string
	metrics []string
	share   string
	query   dp.Query
	ranked  string // the measure of quantiles, where a tree is not of too many numbers to draw this often
}

func realCases() []realCase {
	budget := dp.Budget{Epsilon: 100 * dp.EpsilonOne, Delta: dp.DeltaOne / 100_000}
	return []realCase{{
		file: "restaurant/week_data.csv",
		policy: dp.Policy{
			Name: "restaurant", Kind: dp.Custom, Population: 2850, Unit: dp.Unit{Column: "VisitorId", Block: dp.All},
			Dimensions: []dp.Dimension{{Name: "day", Column: "Day", Type: dp.IntDimension, Values: []string{"1", "2", "3", "4", "5", "6", "7"}}},
			Measures:   []dp.Measure{{Name: "stay", Column: "Time spent (minutes)", Upper: 100}, {Name: "euros", Column: "Money spent (euros)", Upper: 60}},
			Metrics:    []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "euros"}},
			Bounds:     dp.Bounds{MaxPartitions: 7, MaxRows: 1}, Cap: budget, Default: budget, Purposes: []string{"p"},
		},
		measure: "stay", metrics: []string{"customers", "rows", "spend"}, share: "rows",
		query: dp.Query{By: []string{"day"}, Where: []dp.Condition{{Field: "day", In: []string{"6", "7"}}}, Epsilon: "12", Delta: "1e-7"},
	}, {
		file: "pums/PUMS.csv",
		policy: dp.Policy{
			Name: "pums", Kind: dp.Custom, Population: 1000, Unit: dp.Unit{Row: true, Block: dp.All},
			Dimensions: []dp.Dimension{{Name: "sex", Column: "sex", Type: dp.StringDimension, Values: []string{"0", "1"}}},
			Measures:   []dp.Measure{{Name: "age", Column: "age", Upper: 100}, {Name: "income", Column: "income", Upper: 500_000}},
			Metrics:    []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "income"}},
			Bounds:     dp.Bounds{MaxPartitions: 1, MaxRows: 1}, Cap: budget, Default: budget, Purposes: []string{"p"},
		},
		measure: "age", metrics: []string{"customers", "rows", "spend"}, share: "spend", ranked: "age",
		query: dp.Query{By: []string{"sex"}, Epsilon: "6", Delta: "0"},
	}, {
		file: "completejourney/transactions_sample.csv",
		policy: dp.Policy{
			Name: "journey", Kind: dp.Transactions, Population: 2000, Unit: dp.Unit{Column: "household_id", Block: dp.Month},
			Time:     &dp.TimeColumn{Column: "transaction_timestamp", Timezone: "UTC", Format: "rfc3339"},
			Measures: []dp.Measure{{Name: "amount", Column: "sales_value", Scale: 2, Upper: 2000}, {Name: "quantity", Column: "quantity", Upper: 20}},
			Bounds:   dp.Bounds{MaxPartitions: 3, MaxRows: 10}, Cap: budget, Default: budget, Purposes: []string{"p"},
		},
		measure: "amount", ranked: "quantity", metrics: []string{"customers", "rows", "spend"}, share: "spend",
		query: dp.Query{By: []string{"time.month"}, From: "2017-02-01", To: "2017-04-30", Epsilon: "2", Delta: "1e-6"},
	}, {
		file: "wikimedia-sessions/session_dataset.csv",
		policy: dp.Policy{
			Name: "wikimedia", Kind: dp.Engagement, Population: 10_000, Unit: dp.Unit{Column: "uuid", Block: dp.Month},
			Time:   &dp.TimeColumn{Column: "timestamp", Timezone: "UTC", Format: "rfc3339"},
			Bounds: dp.Bounds{MaxPartitions: 5, MaxRows: 40}, Cap: budget, Default: budget, Purposes: []string{"p"},
		},
		metrics: []string{"customers", "rows", "sessions"}, share: "rows",
		query: dp.Query{By: []string{"time.week"}, From: "2014-01-06", To: "2014-01-26", Epsilon: "1", Delta: "1e-6"},
	}}
}

// plan prices the question with all that is asked.
func (c realCase) plan(t *testing.T, confidence string) *plan.Plan {
	t.Helper()
	q := c.query
	q.Dataset, q.Purpose, q.Confidence, q.Metrics = c.policy.Name, "p", confidence, slices.Clone(c.metrics)
	define := func(d dp.Definition) { q.Define, q.Metrics = append(q.Define, d), append(q.Metrics, d.Name) }
	define(dp.Definition{Name: "part", Aggregate: dp.Share, Of: c.share})
	define(dp.Definition{Name: "per_head", Aggregate: dp.Ratio, Numerator: "rows", Denominator: "customers"})
	if c.measure != "" {
		for _, a := range []dp.Aggregate{dp.Mean, dp.Variance, dp.StdDev} {
			define(dp.Definition{Name: string(a), Aggregate: a, Measure: c.measure})
		}
	}
	if c.ranked != "" {
		define(dp.Definition{Name: "median", Aggregate: dp.Quantile, Measure: c.ranked, Rank: "0.5"})
		define(dp.Definition{Name: "p90", Aggregate: dp.Quantile, Measure: c.ranked, Rank: "0.9"})
		define(dp.Definition{Name: "min", Aggregate: dp.Min, Measure: c.ranked})
		define(dp.Definition{Name: "max", Aggregate: dp.Max, Measure: c.ranked})
	}
	p, err := plan.Make(q, dp.VersionedPolicy{Policy: c.policy, Version: 1}, nil, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// none is no noise, for the exact figures.
type none struct{}

func (none) Add(x int64, _ mechanism.Draw) (int64, error) { return x, nil }

// TestRealFiguresAreUnbiasedAndLieInTheirIntervals draws every aggregate of each data set, and of both kinds every operator (cohorts,
// retention, variants, funnels, joins), 500 times, or as often as
// DISCREET_DRAWS says, over integers that are computed once, and reads each draw at three confidences. How many figures are
// covered is compared with the least that the confidence promises, by Hoeffding's inequality in its Kullback-Leibler form,
// and the mean of counts and sums with the exact one by the normal law of so many draws; a right answer fails anywhere with a probability of at most 1e-6 a run.
//
// The same noise times four fails the first comparison. So it does for the median of the ages of PUMS, of which each bin
// has few rows; where one bin has many, quantiles are found in it whatever the noise is.
func TestRealFiguresAreUnbiasedAndLieInTheirIntervals(t *testing.T) {
	if raceDetector {
		t.Skip("statistics of one goroutine")
	}
	runs := 500
	if text := os.Getenv("DISCREET_DRAWS"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil || runs < 500 {
			t.Fatal("DISCREET_DRAWS is no number of at least 500")
		}
	}
	for _, c := range realCases() {
		t.Run(c.policy.Name, func(t *testing.T) {
			t.Parallel()
			exact := func(p *plan.Plan) ([]bounding.Partition, error) {
				return bounding.Reference(p, []byte("salt"), realRows(t, &c.policy, c.file))
			}
			compareCoverage(t, c.plan, exact, runs, c.ranked == "age")
		})
	}
	w := newRealWorld(t)
	for _, q := range realQuestions() {
		if q.private || len(q.query.Reconcile) > 0 {
			continue // which groups are drawn depends on the noise; figures of several levels have no draw of their own
		}
		if runs < 2000 && (strings.Contains(q.name, "every aggregate") || strings.Contains(q.name, "filtered") || strings.Contains(q.name, "balances")) {
			continue // the cases above have nearly all of it
		}
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			ask := func(t *testing.T, confidence string) *plan.Plan { return w.plan(t, q, confidence) }
			exact := func(p *plan.Plan) ([]bounding.Partition, error) { return w.exact(t, p, w.rows), nil }
			compareCoverage(t, ask, exact, runs, false)
		})
	}
}

// cell is what became of one figure of one group.
type cell struct {
	covered              [3]int // at each confidence
	wrong                int    // at the second, with noise of four times the scale
	sum, squares, stated float64
}

// compareCoverage draws what ask plans at each confidence; sensitive says that the median feels noise of the wrong scale.
func compareCoverage(t *testing.T, ask func(t *testing.T, confidence string) *plan.Plan, exactly func(*plan.Plan) ([]bounding.Partition, error), runs int, sensitive bool) {
	const wrongRuns = 500
	n := float64(runs)
	confidences := [3]float64{0.5, 0.9, 0.99}
	var read [3]figures
	var p *plan.Plan
	for i, confidence := range confidences {
		p = ask(t, strconv.FormatFloat(confidence, 'g', -1, 64))
		read[i] = newFigures(p)
	}
	partitions, err := exactly(p)
	if err != nil {
		t.Fatal(err)
	}
	draw := func(n mechanism.Noise) (keys [][]string, noised [][]int64) {
		drawing := newNoising(p, n, plan.DefaultLimits())
		for _, part := range partitions {
			if err := drawing.take(bounding.Partition{Key: part.Key, Totals: slices.Clone(part.Totals)}); err != nil {
				t.Fatal(err)
			}
		}
		groups, err := drawing.end(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			keys, noised = append(keys, g.key), append(noised, g.coordinates)
		}
		return keys, noised
	}
	keys, integers := draw(none{})
	exact := read[0].groups(keys, integers, nil)

	covers := func(m int, v dp.Value, truth float64) bool {
		if p.Metrics[m].Tree.Leaves > 0 { // the exact value is that of the bin, one unit wide, that the estimate lies in
			truth = math.Floor(truth)
		}
		return v.Low <= truth+1e-9 && truth-1e-9 <= v.High
	}
	cells := make([][]cell, len(exact))
	for g := range cells {
		cells[g] = make([]cell, len(p.Metrics))
	}
	for run := range runs {
		_, noised := draw(mechanism.Secure())
		for i := range confidences {
			for g, group := range read[i].groups(keys, noised, nil) {
				for m, v := range group.Values {
					of, off := &cells[g][m], v.Value-exact[g].Values[m].Value
					if covers(m, v, exact[g].Values[m].Value) {
						of.covered[i]++
					}
					if i == 0 {
						of.sum, of.squares, of.stated = of.sum+off, of.squares+off*off, of.stated+v.SD
					}
				}
			}
		}
		if run >= wrongRuns {
			continue
		}
		for g := range noised {
			for j, x := range integers[g] {
				noised[g][j] = x + 4*(noised[g][j]-x)
			}
		}
		for g, group := range read[1].groups(keys, noised, nil) {
			for m, v := range group.Values {
				if covers(m, v, exact[g].Values[m].Value) {
					cells[g][m].wrong++
				}
			}
		}
	}

	for m, metric := range p.Metrics {
		tree := metric.Tree.Leaves > 0
		for g := range exact {
			name, of, truth := metric.Name+" of "+strings.Join(exact[g].Key, " "), cells[g][m], exact[g].Values[m]
			bias, deviation := of.sum/n, math.Sqrt(of.squares/n)
			t.Logf("%-22s exact %12.4f bias %9.4f deviation %10.4f stated %10.4f covered %v of %d, with four times the noise %d of %d",
				name, truth.Value, bias, deviation, of.stated/n, of.covered, runs, of.wrong, wrongRuns)
			for i, confidence := range confidences {
				if isBelow(of.covered[i], runs, confidence) {
					t.Errorf("%s at %v: %d of %d are covered", name, confidence, of.covered[i], runs)
				}
			}
			if additive := len(metric.Columns) == 1 && !tree; additive && math.Abs(bias) > 6*truth.SD/math.Sqrt(n) {
				t.Errorf("%s is biased by %v, its deviation is %v", name, bias, truth.SD)
			}
			if (!tree || metric.Name == "median" && sensitive) && !isBelow(of.wrong, wrongRuns, confidences[1]) {
				t.Errorf("%s: noise of four times the scale passes: %d of %d covered", name, of.wrong, wrongRuns)
			}
		}
	}
}

// isBelow says whether so few of n successes are less likely than 1e-6 over all comparisons of a run, at rate p or more.
func isBelow(k, n int, p float64) bool {
	q := float64(k) / float64(n)
	if q >= p {
		return false
	}
	term := func(a, b float64) float64 {
		if a == 0 {
			return 0
		}
		return a * math.Log(a/b)
	}
	const comparisons = 2000
	return float64(n)*(term(q, p)+term(1-q, 1-p)) > math.Log(comparisons/1e-6)
}
