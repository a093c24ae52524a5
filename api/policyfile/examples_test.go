package policyfile_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// table reads a file of the shared data, skipping the test where there is none.
func table(t *testing.T, path string) (header []string, records [][]string) {
	t.Helper()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("no go.mod above")
		}
		root = filepath.Dir(root)
	}
	file, err := os.Open(filepath.Join(root, "..", "shared", "data", filepath.FromSlash(path)))
	if os.IsNotExist(err) {
		t.Skip("the shared data is not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return all[0], all[1:]
}

func example(t *testing.T, name string) dp.Policy {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("examples", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(source))
}

// joined is the table of transactions with the department of each product.
func joined(t *testing.T) (header []string, records [][]string) {
	t.Helper()
	productHeader, products := table(t, "completejourney/products.csv")
	header, records = table(t, "completejourney/transactions_sample.csv")
	id, department := slices.Index(productHeader, "product_id"), slices.Index(productHeader, "department")
	departments := map[string]string{}
	for _, p := range products {
		departments[p[id]] = p[department]
	}
	id = slices.Index(header, "product_id")
	for i, r := range records {
		records[i] = append(slices.Clone(r), departments[r[id]])
	}
	return append(slices.Clone(header), "department"), records
}

// counted is a row as its policy sees it.
type counted struct {
	customer string
	block    string
	labels   map[string]string
	measures map[string]rows.Number
}

// count reads the records as a policy declares them; what the policy rejects is counted.
func count(t *testing.T, p dp.Policy, header []string, records [][]string) (list []counted, rejected int) {
	t.Helper()
	positions := map[string]int{}
	for i, h := range header {
		positions[h] = i
	}
	at := func(column string) int {
		i, found := positions[column]
		if !found {
			t.Fatalf("the file has no column %q", column)
		}
		return i
	}
	loc, err := rows.Location(&p)
	if err != nil {
		t.Fatal(err)
	}
	var format rows.TimeFormat
	if p.Time != nil {
		if format, err = rows.CompileTimeFormat(p.Time.Format); err != nil {
			t.Fatal(err)
		}
	}
	labelers := make([]*rows.Labeler, len(p.Dimensions))
	for i := range p.Dimensions {
		labelers[i] = rows.NewLabeler(&p.Dimensions[i])
	}
next:
	for n, r := range records {
		c := counted{customer: strconv.Itoa(n), block: rows.AllBlock, labels: map[string]string{}, measures: map[string]rows.Number{}}
		if !p.Unit.Row {
			if c.customer = r[at(p.Unit.Column)]; c.customer == "" {
				rejected++
				continue
			}
		}
		if p.Time != nil {
			ms, err := format.Parse(r[at(p.Time.Column)], loc)
			if err != nil {
				rejected++
				continue
			}
			c.block = rows.BlockOf(ms, p.Unit.Block, loc)
			c.labels[rows.Week.Field()] = rows.TimeKey(ms, rows.Week, loc)
		}
		for i, d := range p.Dimensions {
			raw := rows.Text{Value: r[at(d.Column)], Valid: r[at(d.Column)] != ""}
			if raw.Valid && d.Type == dp.IntDimension {
				if raw.Value, err = rows.CanonicalInt(raw.Value); err != nil {
					rejected++
					continue next
				}
			}
			label, ok := labelers[i].Label(raw)
			if !ok {
				rejected++
				continue next
			}
			c.labels[d.Name] = label
		}
		for _, m := range p.Measures {
			text := r[at(m.Column)]
			if text == "" {
				continue
			}
			v, err := rows.ParseDecimal(text, m.Scale)
			if err != nil {
				rejected++
				continue next
			}
			c.measures[m.Name] = rows.Number{Value: v, Valid: true}
		}
		list = append(list, c)
	}
	return list, rejected
}

func TestTheExamplesFitTheirFilesAsTheyAre(t *testing.T) {
	for _, test := range []struct {
		example, file  string
		rows, rejected int
	}{
		{"restaurant-day", "restaurant/day_data.csv", 450, 0},
		{"restaurant-week", "restaurant/week_data.csv", 2850, 0},
		{"restaurant-outliers", "restaurant/outliers_week_data.csv", 2779, 0},
		{"restaurant-outliers-private", "restaurant/outliers_week_data.csv", 2779, 0},
		{"pums", "pums/PUMS.csv", 1000, 0},
		{"pums-dup", "pums/PUMS_dup.csv", 1948, 0},
		{"pums-null", "pums/PUMS_null.csv", 1948, 88},
		{"completejourney-transactions", "completejourney/transactions_sample.csv", 75000, 0},
		{"completejourney-demographics", "completejourney/demographics.csv", 801, 0},
		{"completejourney-products", "completejourney/products.csv", 92331, 0},
		{"wikimedia-sessions", "wikimedia-sessions/session_dataset.csv", 63524, 0},
	} {
		t.Run(test.example, func(t *testing.T) {
			header, records := table(t, test.file)
			list, rejected := count(t, example(t, test.example), header, records)
			if len(records) != test.rows || rejected != test.rejected || len(list) != test.rows-test.rejected {
				t.Errorf("%d rows, %d accepted, %d rejected; want %d rows, %d rejected", len(records), len(list), rejected, test.rows, test.rejected)
			}
		})
	}
}

func TestTheRestaurantsBoundsLeaveNoVisitOut(t *testing.T) {
	p := example(t, "restaurant-week")
	header, records := table(t, "restaurant/week_data.csv")
	list, _ := count(t, p, header, records)
	revenue := p.Metrics[slices.IndexFunc(p.Metrics, func(m dp.Metric) bool { return m.Name == "revenue" })]

	visits, euros := map[string]int{}, map[string]int64{}
	days, perDay, spent := map[string]map[string]bool{}, map[[2]string]int64{}, map[[2]string]int64{}
	for _, c := range list {
		day := c.labels["day"]
		visits[day]++
		euros[day] += c.measures["euros"].Value
		if days[c.customer] == nil {
			days[c.customer] = map[string]bool{}
		}
		days[c.customer][day] = true
		perDay[[2]string{c.customer, day}]++
		spent[[2]string{c.customer, day}] += c.measures["euros"].Value
	}
	wantVisits := []int{300, 300, 400, 400, 450, 500, 500}
	wantEuros := []int64{8678, 8696, 12088, 12079, 13765, 16576, 16500}
	for i := range 7 {
		day := strconv.Itoa(i + 1)
		if visits[day] != wantVisits[i] || euros[day] != wantEuros[i] {
			t.Errorf("day %s: %d visits and %d euros, want %d and %d", day, visits[day], euros[day], wantVisits[i], wantEuros[i])
		}
	}
	for _, list := range days {
		if int64(len(list)) > p.Bounds.MaxPartitions {
			t.Errorf("a visitor comes on %d days", len(list))
		}
	}
	for key, n := range perDay {
		if n > p.Bounds.MaxRows || spent[key] < *revenue.Lower || spent[key] > *revenue.Upper {
			t.Errorf("a visitor's day has %d visits and %d euros", n, spent[key])
		}
	}
}

func TestTheOutliersGroupsDifferInCustomersOnly(t *testing.T) {
	for _, name := range []string{"restaurant-outliers", "restaurant-outliers-private"} {
		p := example(t, name)
		header, records := table(t, "restaurant/outliers_week_data.csv")
		list, _ := count(t, p, header, records)
		visits, customers, perCustomer := map[string]int{}, map[string]map[string]int64{}, map[string]map[string]bool{}
		for _, c := range list {
			minutes := c.labels["minutes"]
			visits[minutes]++
			if customers[minutes] == nil {
				customers[minutes] = map[string]int64{}
			}
			customers[minutes][c.customer]++
			if perCustomer[c.customer] == nil {
				perCustomer[c.customer] = map[string]bool{}
			}
			perCustomer[c.customer][minutes] = true
		}
		for minutes, want := range map[string][2]int{"110": {38, 38}, "180": {38, 10}} {
			if visits[minutes] != want[0] || len(customers[minutes]) != want[1] {
				t.Errorf("%s, %s minutes: %d rows of %d customers, want %v", name, minutes, visits[minutes], len(customers[minutes]), want)
			}
			for _, n := range customers[minutes] {
				if n > p.Bounds.MaxRows {
					t.Errorf("%s: a customer has %d rows in one group", name, n)
				}
			}
		}
		for _, groups := range perCustomer {
			if int64(len(groups)) > p.Bounds.MaxPartitions {
				t.Errorf("%s: a customer is in %d groups", name, len(groups))
			}
		}
	}
}

func TestWeeklySpendByDepartmentIsNotClipped(t *testing.T) {
	p := example(t, "completejourney-departments")
	header, records := joined(t)
	list, rejected := count(t, p, header, records)
	if rejected != 0 {
		t.Errorf("%d rows are rejected", rejected)
	}
	type customer struct{ id, block string }
	spent := map[customer]map[[2]string]int64{}
	for _, c := range list {
		key := customer{c.customer, c.block}
		if spent[key] == nil {
			spent[key] = map[[2]string]int64{}
		}
		spent[key][[2]string{c.labels["department"], c.labels["time.week"]}] += c.measures["amount"].Value
	}
	for _, groups := range spent {
		if int64(len(groups)) > p.Bounds.MaxPartitions {
			t.Errorf("a household is in %d groups of one month", len(groups))
		}
		for _, cents := range groups {
			if cents > *p.Metrics[0].Upper {
				t.Errorf("a household spends %d cents in one group", cents)
			}
		}
	}
}
