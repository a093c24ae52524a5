package synth

import (
	"bytes"
	"encoding/csv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// shops has a public dimension, a private one below it, a flow and a level.
func shops() dp.Policy {
	return dp.Policy{
		Name: "shops", Kind: dp.Transactions, Population: 1000,
		Unit: dp.Unit{Column: "who", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "when", Timezone: "Europe/Berlin", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "city", Type: dp.StringDimension, Private: true, Parent: "country", Missing: "none"},
			{Name: "country", Type: dp.StringDimension, Values: []string{"DE", "FR", "elsewhere"}, Other: "elsewhere"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2, Upper: 50_000}, {Name: "balance", Scale: 2, Upper: 1_000_000, Level: true}},
		Link:     &dp.Link{Consent: "agreed, at"},
	}
}

func spring() Imagination {
	return Imagination{Seed: 1, Customers: 3000, First: rows.Date{Year: 2026, Month: time.March, Day: 1}, Days: 56}
}

func imagine(t *testing.T, p dp.Policy, s Imagination) Table {
	t.Helper()
	table, err := Imagine(p, s)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestImaginedDaysAloneAreThoseOfTheWhole(t *testing.T) {
	table := imagine(t, shops(), spring())
	middle := spring().First.AddDays(20)
	var parts [][]string
	for _, part := range []Table{table.Between(spring().First, middle.AddDays(-1)), table.Between(middle, middle), table.Between(middle.AddDays(1), spring().First.AddDays(99))} {
		parts = append(parts, collect(part)...)
	}
	whole := collect(table)
	if len(whole) < 5000 || !slices.EqualFunc(whole, parts, slices.Equal) {
		t.Errorf("%d rows in parts, %d as a whole, or other ones", len(parts), len(whole))
	}
	other := spring()
	other.Seed = 2
	if slices.EqualFunc(whole, collect(imagine(t, shops(), other)), slices.Equal) {
		t.Error("another seed makes the same rows")
	}
}

func TestImaginedCSVHoldsTheRecords(t *testing.T) {
	table := imagine(t, shops(), spring())
	if want := []string{"who", "when", "city", "country", "amount", "balance", "agreed, at"}; !slices.Equal(table.Header, want) {
		t.Fatalf("the header is %q", table.Header)
	}
	var text bytes.Buffer
	if err := table.WriteCSV(&text); err != nil {
		t.Fatal(err)
	}
	read, err := csv.NewReader(&text).ReadAll()
	if err != nil || !slices.EqualFunc(read, append([][]string{table.Header}, collect(table)...), slices.Equal) {
		t.Errorf("%d lines of CSV, %v, or others than the records", len(read), err)
	}
}

func TestImaginedCustomersWeekdaysAndValuesAreUnequal(t *testing.T) {
	all := collect(imagine(t, shops(), spring()))
	perCustomer, perWeekday, perHour, perCity, countries, beyond, agreed := map[string]int{}, map[time.Weekday]int{}, map[int]int{}, map[string]int{}, map[string]int{}, 0.0, 0.0
	for _, row := range all {
		at, err := time.Parse(time.RFC3339, row[1])
		if err != nil {
			t.Fatal(err)
		}
		perCustomer[row[0]]++
		perWeekday[at.Weekday()]++
		perHour[at.Hour()]++
		perCity[row[2]]++
		countries[row[3]]++
		if amount, err := strconv.ParseFloat(row[4], 64); err != nil || amount < 0 {
			t.Fatalf("amount %s", row[4])
		} else if amount > 500 {
			beyond++
		}
		if row[6] != "" {
			agreed++
		}
		// A city is in one country.
		if strings.HasPrefix(row[3], "FR") != strings.HasPrefix(row[2], "FR") && row[2] != "" {
			t.Fatalf("city %s is in %s", row[2], row[3])
		}
	}
	n := float64(len(all))
	counts := slices.SortedFunc(maps.Values(perCustomer), func(a, b int) int { return b - a })
	top := 0
	for _, count := range counts[:spring().Customers/10] {
		top += count
	}
	within(t, "share of the busiest tenth", float64(top)/n, 0.25, 0.6)
	within(t, "rows per customer in a month", n/float64(spring().Customers)/56*365.25/12, 0.9*UsualRowsPerMonth, 1.1*UsualRowsPerMonth)
	within(t, "Saturdays over Sundays", float64(perWeekday[time.Saturday])/float64(perWeekday[time.Sunday]), 1.6, 2.6)
	within(t, "rows of noon over those of four in the morning", float64(perHour[12])/float64(perHour[4]+1), 5, 1e9)
	within(t, "share of flows beyond the clamp", beyond/n, 0.01, 0.06)
	within(t, "share of rows with consent", agreed/n, 0.05, 0.5)
	within(t, "share of rows without city", float64(perCity[""])/n, missingShare/1.3, missingShare*1.3)
	within(t, "share of rows outside of the domain", 1-float64(countries["DE"]+countries["FR"])/n, otherShare/1.3, otherShare*1.3)
	within(t, "first city over the tenth", float64(perCity["DE city 1"])/float64(perCity["DE city 10"]), math.Pow(12/3.0, 1.2)/1.6, math.Pow(12/3.0, 1.2)*1.6)
}

func TestImaginedLevelsMoveButStayTheCustomersOwn(t *testing.T) {
	type sums struct{ n, x, xx float64 }
	each := map[string]*sums{}
	var whole sums
	add := func(s *sums, x float64) { s.n, s.x, s.xx = s.n+1, s.x+x, s.xx+x*x }
	variance := func(s *sums) float64 { return s.xx/s.n - s.x/s.n*s.x/s.n }
	for _, row := range collect(imagine(t, shops(), spring())) {
		balance, err := strconv.ParseFloat(row[5], 64)
		if err != nil || balance <= 0 {
			t.Fatalf("balance %s", row[5])
		}
		if each[row[0]] == nil {
			each[row[0]] = new(sums)
		}
		add(each[row[0]], math.Log(balance))
		add(&whole, math.Log(balance))
	}
	inside := sums{}
	for _, s := range each {
		if s.n >= 10 {
			add(&inside, variance(s))
		}
	}
	within(t, "variance of one customer's balances over that of all", inside.x/inside.n/variance(&whole), 0.005, 0.2)
}

func TestRowsWithoutTimeAreImaginedPerCustomerOrOneByOne(t *testing.T) {
	p := shops()
	p.Time, p.Unit.Block, p.Link = nil, dp.All, nil
	perCustomer := map[string]int{}
	n := 0
	for _, row := range collect(imagine(t, p, Imagination{Customers: 2000})) {
		perCustomer[row[0]]++
		n++
	}
	if len(perCustomer) != 2000 {
		t.Errorf("%d of 2000 customers have rows", len(perCustomer))
	}
	within(t, "rows of a customer", float64(n)/2000, 0.85*UsualRowsPerMonth, 1.15*UsualRowsPerMonth)
	p.Unit = dp.Unit{Row: true, Block: dp.All}
	table := imagine(t, p, Imagination{Customers: 2000})
	if got := len(collect(table)); got != 2000 || table.Header[0] != "city" {
		t.Errorf("%d rows of 2000, columns %q", got, table.Header)
	}
	p.Dimensions, p.Measures = p.Dimensions[1:], nil
	p.Dimensions[0].Missing = "unknown" // a single column whose value may be missing
	p.Dimensions[0].Parent = ""
	var text bytes.Buffer
	if err := imagine(t, p, Imagination{Customers: 500}).WriteCSV(&text); err != nil {
		t.Fatal(err)
	}
	if empty := strings.Count(text.String(), "\n\n"); empty > 0 || strings.Count(text.String(), "\n") != 501 {
		t.Errorf("%d empty lines, %d lines", empty, strings.Count(text.String(), "\n"))
	}
}

func TestImaginationsBeyondTheLimitsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Imagination, *dp.Policy){
		"customers":     func(s *Imagination, _ *dp.Policy) { s.Customers = MostCustomers + 1 },
		"no customers":  func(s *Imagination, _ *dp.Policy) { s.Customers = 0 },
		"days":          func(s *Imagination, _ *dp.Policy) { s.Days = MostDays + 1 },
		"no days":       func(s *Imagination, _ *dp.Policy) { s.Days = 0 },
		"years":         func(s *Imagination, _ *dp.Policy) { s.First = rows.LastDate() },
		"rows":          func(s *Imagination, _ *dp.Policy) { s.RowsPerMonth = MostRowsPerMonth + 1 },
		"rows below 0":  func(s *Imagination, _ *dp.Policy) { s.RowsPerMonth = -1 },
		"rows, no ones": func(s *Imagination, _ *dp.Policy) { s.RowsPerMonth = math.NaN() },
		"zone":          func(_ *Imagination, p *dp.Policy) { p.Time.Timezone = "Local" },
		"no column": func(_ *Imagination, p *dp.Policy) {
			*p = dp.Policy{Name: "none", Unit: dp.Unit{Row: true, Block: dp.All}}
		},
		"a measure of times": func(_ *Imagination, p *dp.Policy) { p.Measures[0].Column = "when" },
	} {
		p, s := shops(), spring()
		change(&s, &p)
		if _, err := Imagine(p, s); err == nil {
			t.Errorf("%s: imagined", name)
		}
	}
}
