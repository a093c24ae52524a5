// Command reconcile asks a year of groceries for weekly spend by department and household income, with its totals, and
// compares the errors of figures that were made to add up with those that were not: over the same bounded sums, at the
// same price.
package main

import (
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func main() {
	data := flag.String("data", filepath.Join("..", "..", "shared", "data", "completejourney"), "directory of transactions_sample.csv, products.csv and demographics.csv")
	runs := flag.Int("runs", 40, "draws of each question")
	flag.Parse()
	if err := run(*data, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "reconcile:", err)
		os.Exit(1)
	}
}

func run(data string, runs int) error {
	all, policy, err := read(data)
	if err != nil {
		return err
	}
	fmt.Println("| departments of one household and month | figures | groups | drawn, not reconciled | reconciled | and kept from being negative | finest alone at the whole price, added up | finest alone over reconciled | exact figures |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, most := range []int64{17, 6} {
		if err := compare(policy, all, most, runs); err != nil {
			return err
		}
	}
	return nil
}

// question is a year of weekly spend at epsilon 1 for each month.
func question(most int64, levels ...[]string) dp.Query {
	return dp.Query{Dataset: "groceries", Metrics: []string{"spend"}, By: []string{"time.week", "department", "income"}, From: "2017-01-01", To: "2017-12-31",
		Purpose: "reporting", Epsilon: "1", Delta: "1e-7", MaxPartitions: most, Reconcile: levels}
}

func compare(policy dp.Policy, all []rows.Row, most int64, runs int) error {
	p, err := plan.Make(question(most, []string{"time.week", "department"}, []string{"time.week", "income"}, []string{"time.week"}, []string{}), dp.VersionedPolicy{Policy: policy, Version: 1}, nil, plan.DefaultLimits())
	if err != nil {
		return fmt.Errorf("planning: %w", err)
	}
	alone, err := plan.Make(question(most), dp.VersionedPolicy{Policy: policy, Version: 1}, nil, plan.DefaultLimits())
	if err != nil {
		return fmt.Errorf("planning the finest level alone: %w", err)
	}
	partitions, err := bounding.Reference(p, []byte("benchmark"), all)
	if err != nil {
		return fmt.Errorf("bounding: %w", err)
	}
	groups, h := p.LevelGroups(), p.Hierarchy()
	exact := sums(h, finest(groups[0], partitions))
	vectors := []mechanism.Vector{p.Metrics[0].Vector}
	for _, l := range p.Levels {
		vectors = append(vectors, l.Vectors[0])
	}
	var sds []float64
	for _, v := range vectors {
		sds = append(sds, v.Draw(0).SD())
	}
	r := mechanism.NewReconciliation(h, sds)
	noise := mechanism.Secure()
	errs := make([][4]float64, len(exact)) // sums of squares: drawn, reconciled, not negative, finest alone
	for range runs {
		drawn := make([][]int64, len(exact))
		for level, cells := range exact {
			if drawn[level], err = draw(noise, cells, vectors[level].Draw(0)); err != nil {
				return err
			}
		}
		single, err := draw(noise, exact[0], alone.Metrics[0].Vector.Draw(0))
		if err != nil {
			return err
		}
		added, solved := sums(h, single), r.Solve(drawn)
		positive := r.NonNegative(solved)
		for level, cells := range exact {
			for i, truth := range cells {
				for n, v := range []float64{float64(drawn[level][i]), solved.Values[level][i], positive[level][i], float64(added[level][i])} {
					errs[level][n] += (v - float64(truth)) * (v - float64(truth))
				}
			}
		}
	}
	for level, names := range []string{"week, department, income", "week, department", "week, income", "week", "year"} {
		n := float64(runs * len(exact[level]))
		rms := func(i int) float64 { return math.Sqrt(errs[level][i]/n) / 100 }
		size := 0.0
		for _, v := range exact[level] {
			size += float64(v) * float64(v) / float64(len(exact[level]))
		}
		fmt.Printf("| %d | %s | %d | %.0f | %.0f | %.0f | %.0f | %.2f | %.0f |\n", most, names, len(exact[level]), rms(0), rms(1), rms(2), rms(3), rms(3)/rms(1), math.Sqrt(size)/100)
	}
	return nil
}

func draw(noise mechanism.Noise, exact []int64, d mechanism.Draw) ([]int64, error) {
	out := make([]int64, len(exact))
	for i, v := range exact {
		var err error
		if out[i], err = noise.Add(v, d); err != nil {
			return nil, fmt.Errorf("drawing: %w", err)
		}
	}
	return out, nil
}

// finest gives the total of every group, in order.
func finest(groups [][]string, partitions []bounding.Partition) []int64 {
	byKey := map[string]int64{}
	for _, p := range partitions {
		byKey[strings.Join(p.Key, "\x00")] = p.Totals[0]
	}
	out := make([]int64, len(groups))
	for i, key := range groups {
		out[i] = byKey[strings.Join(key, "\x00")]
	}
	return out
}

func sums(h mechanism.Hierarchy, finest []int64) [][]int64 {
	all := [][]int64{finest}
	for _, l := range h.Levels {
		cells := make([]int64, l.Cells)
		for i, at := range l.Of {
			cells[at] += finest[i]
		}
		all = append(all, cells)
	}
	return all
}

// read joins purchases with the department of the product and the income of the household, where they are known.
func read(data string) ([]rows.Row, dp.Policy, error) {
	department, err := column(filepath.Join(data, "products.csv"), "product_id", "department")
	if err != nil {
		return nil, dp.Policy{}, err
	}
	income, err := column(filepath.Join(data, "demographics.csv"), "household_id", "income")
	if err != nil {
		return nil, dp.Policy{}, err
	}
	purchases, err := records(filepath.Join(data, "transactions_sample.csv"))
	if err != nil {
		return nil, dp.Policy{}, err
	}
	var all []rows.Row
	households := map[string]uint64{}
	for _, p := range purchases {
		at, err := time.Parse(time.RFC3339, p["transaction_timestamp"])
		if err != nil {
			return nil, dp.Policy{}, errors.New("a purchase has no time")
		}
		cents, err := rows.ParseDecimal(p["sales_value"], 2)
		if err != nil {
			return nil, dp.Policy{}, errors.New("a purchase has no value")
		}
		household, known := households[p["household_id"]]
		if !known {
			household = uint64(len(households))
			households[p["household_id"]] = household
		}
		text := func(s string) rows.Text { return rows.Text{Valid: s != "", Value: s} }
		all = append(all, rows.Row{Customer: household, Time: at.UnixMilli(), Measures: []rows.Number{{Valid: true, Value: cents}},
			Dimensions: []rows.Text{text(department[p["product_id"]]), text(income[p["household_id"]])}})
	}
	return all, dp.Policy{
		Name: "groceries", Kind: dp.Custom, Population: 2000, Unit: dp.Unit{Column: "household_id", Block: dp.Month}, Time: &dp.TimeColumn{Timezone: "UTC"},
		Dimensions: []dp.Dimension{
			{Name: "department", Type: dp.StringDimension, Values: values(department), Missing: "none"},
			{Name: "income", Type: dp.StringDimension, Values: values(income), Missing: "none"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2, Upper: 100_00}},
		Metrics:  []dp.Metric{{Name: "spend", Aggregate: dp.Sum, Measure: "amount"}},
		Bounds:   dp.Bounds{MaxPartitions: 17, MaxRows: 20}, Cap: dp.Budget{Epsilon: 6 * dp.EpsilonOne, Delta: 1e12}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 1e10},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}, nil
}

// values are the labels that occur, and none for what is not known: a store knows its departments, and brackets of
// income are declared.
func values(of map[string]string) []string {
	list := []string{"none"}
	for _, v := range of {
		if v != "" && !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list
}

func column(path, key, value string) (map[string]string, error) {
	list, err := records(path)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	for _, r := range list {
		of[r[key]] = r[value]
	}
	return of, nil
}

func records(path string) ([]map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the data: %w", err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	var list []map[string]string
	for _, record := range all[1:] {
		r := map[string]string{}
		for i, v := range record {
			r[all[0][i]] = v
		}
		list = append(list, r)
	}
	return list, nil
}
