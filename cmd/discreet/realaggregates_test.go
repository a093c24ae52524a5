package main

import (
	"math"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// ofEvery are definitions of every aggregate that reads a measure.
func ofEvery(measure string) []wire.Definition {
	return []wire.Definition{
		{Name: "a_mean", Aggregate: "mean", Measure: measure}, {Name: "a_variance", Aggregate: "variance", Measure: measure},
		{Name: "a_stddev", Aggregate: "stddev", Measure: measure}, {Name: "a_sum", Aggregate: "sum", Measure: measure},
		{Name: "a_min", Aggregate: "min", Measure: measure}, {Name: "a_max", Aggregate: "max", Measure: measure},
		{Name: "p25", Aggregate: "quantile", Measure: measure, Rank: "0.25"}, {Name: "p50", Aggregate: "quantile", Measure: measure, Rank: "0.5"},
		{Name: "p99", Aggregate: "quantile", Measure: measure, Rank: "0.99"},
		{Name: "per_head", Aggregate: "ratio", Numerator: "a_sum", Denominator: "customers"}, {Name: "a_share", Aggregate: "share", Of: "rows"},
	}
}

// TestEveryAggregateOfRealDataIsThatOfTheBoundedRows asks the server, without noise, and works the figures out of the
// integers of dp/bounding over the same rows.
func TestEveryAggregateOfRealDataIsThatOfTheBoundedRows(t *testing.T) {
	for _, c := range []struct {
		policy, file string
		query        wire.Query
	}{
		{"restaurant-week", "restaurant/week_data.csv", wire.Query{By: []string{"day"}, Define: ofEvery("euros"), Purpose: "reporting"}},
		{"pums", "pums/PUMS.csv", wire.Query{By: []string{"sex"}, Define: ofEvery("age"), Purpose: "research"}},
		{"completejourney-departments", "", wire.Query{
			By: []string{"department"}, From: "2017-02-01", To: "2017-03-31", MaxPartitions: 3, Define: ofEvery("amount"), Purpose: "reporting",
		}},
		{"wikimedia-sessions", "wikimedia-sessions/session_dataset.csv", wire.Query{
			By: []string{"time.week"}, From: "2014-01-06", To: "2014-01-26", MaxPartitions: 2, Purpose: "product-analytics",
			Define: []wire.Definition{{Name: "per_head", Aggregate: "ratio", Numerator: "rows", Denominator: "customers"}, {Name: "a_share", Aggregate: "share", Of: "rows"}},
		}},
	} {
		t.Run(c.policy, func(t *testing.T) {
			var path string
			if c.file == "" {
				path = departments(t)
			} else {
				path = realData(t, c.file)
			}
			policy := example(t, c.policy)
			h, analyst, _ := loaded(t, exact{}, policy, path)
			q := c.query
			q.Dataset, q.Epsilon, q.Delta, q.Metrics = c.policy, "5", "1e-8", []string{"customers", "rows"}
			for _, d := range q.Define {
				q.Metrics = append(q.Metrics, d.Name)
			}
			release, err := h.client(analyst).Query(t.Context(), q, "")
			if err != nil {
				t.Fatal(err)
			}
			want := exactFigures(t, h, policy, path, q)
			if len(release.Groups) == 0 || len(release.Groups) != len(want) {
				t.Fatalf("%d groups, want %d", len(release.Groups), len(want))
			}
			compared := 0
			for _, g := range release.Groups {
				for metric, v := range g.Values {
					key := strings.Join(keyOf(g, q.By), " ")
					low, high := want[key][metric][0], want[key][metric][1]
					if math.IsNaN(low) {
						continue // of no rows
					}
					slack := 1e-9 * max(1, math.Abs(low))
					if metric == "a_stddev" {
						slack = 1e-5 // the root of a difference of large numbers
					}
					if v.Value < low-slack || v.Value > high+slack {
						t.Errorf("%s of %s is %v, want %v to %v", metric, key, v.Value, low, high)
					}
					if v.Low > v.Value || v.High < v.Value || v.Low > low+slack || v.High < high-slack {
						t.Errorf("%s of %s lies in [%v, %v], it is %v", metric, key, v.Low, v.High, v.Value)
					}
					compared++
				}
			}
			if compared < 2*len(q.Metrics) {
				t.Errorf("only %d figures were compared", compared)
			}
		})
	}
}

func keyOf(g wire.Group, by []string) []string {
	key := make([]string, len(by))
	for i, name := range by {
		key[i] = g.Key[name]
	}
	return key
}

// exactFigures are the least and the largest that the figure of every metric in every public group can be: of quantiles the
// ends of the bin that holds them, of others twice the same; NaN where there are no rows.
func exactFigures(t *testing.T, h *harness, policy, path string, q wire.Query) map[string]map[string][2]float64 {
	t.Helper()
	p, err := policyfile.Parse([]byte(policy), policyfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	asked := dp.Query{Dataset: q.Dataset, Metrics: q.Metrics, By: q.By, From: q.From, To: q.To, Purpose: q.Purpose, Epsilon: string(q.Epsilon), Delta: string(q.Delta), MaxPartitions: q.MaxPartitions}
	for _, d := range q.Define {
		asked.Define = append(asked.Define, dp.Definition{
			Name: d.Name, Aggregate: dp.Aggregate(d.Aggregate), Measure: d.Measure, Rank: string(d.Rank), Numerator: d.Numerator, Denominator: d.Denominator, Of: d.Of,
		})
	}
	made, err := plan.Make(asked, dp.VersionedPolicy{Policy: p, Version: 1}, []dp.Budget{p.Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	partitions := boundedRows(t, h, made, path)
	totals := make(map[string][]int64)
	for _, key := range made.Groups() {
		totals[strings.Join(key, " ")] = make([]int64, made.Tree.Width())
	}
	for _, part := range partitions {
		totals[strings.Join(part.Key, " ")] = part.Totals
	}
	allRows := 0.0
	figures := make(map[string]map[string][2]float64)
	for key, of := range totals {
		figures[key] = make(map[string][2]float64)
		for _, m := range made.Metrics {
			if m.Drawn < 0 {
				continue
			}
			low, high := figureOf(made, m, of)
			unit := math.Pow10(m.Scale)
			switch m.Aggregate {
			case dp.Variance:
				unit *= unit
			case dp.Rows:
				allRows += low
			}
			figures[key][m.Name] = [2]float64{low / unit, high / unit}
		}
	}
	for _, of := range figures {
		numerator := of["rows"][0]
		if sum, ok := of["a_sum"]; ok {
			numerator = sum[0]
		}
		ratio, share := numerator/of["customers"][0], of["rows"][0]/allRows
		if of["customers"][0] == 0 {
			ratio = math.NaN()
		}
		of["per_head"], of["a_share"] = [2]float64{ratio, ratio}, [2]float64{share, share}
	}
	return figures
}

// figureOf works one figure out of integers, in units of 10^-scale.
func figureOf(p *plan.Plan, m plan.Metric, totals []int64) (low, high float64) {
	at := func(i int) float64 { return float64(totals[p.Tree.At(m.Columns[i])]) }
	lower, upper := float64(m.Lower), float64(m.Upper)
	switch m.Aggregate {
	case dp.Mean:
		mean := (lower+upper)/2 + at(0)/at(1)/2
		return mean, mean
	case dp.Variance, dp.StdDev: // number, sum of w and of 2w^2-R^2 with w = 2x-lower-upper
		n, sum, r := at(0), at(1), upper-lower
		variance := (at(2)+n*r*r)/2/n/4 - (sum/n/2)*(sum/n/2)
		if m.Aggregate == dp.StdDev {
			variance = math.Sqrt(variance)
		}
		return variance, variance
	case dp.Quantile, dp.Min, dp.Max:
		column := p.Tree.Columns[m.Columns[0]]
		bins := totals[p.Tree.At(m.Columns[0]):][:column.Bins]
		rows := int64(0)
		for _, n := range bins {
			rows += n
		}
		before := int64(0)
		for i, n := range bins {
			if before += n; rows > 0 && float64(before) >= m.Rank*float64(rows) {
				from := m.Lower + int64(i)*column.BinWidth
				return float64(from), float64(min(from+column.BinWidth-1, m.Upper))
			}
		}
		return math.NaN(), math.NaN()
	}
	return at(0), at(0)
}
