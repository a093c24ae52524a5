package synth

import (
	"bytes"
	"encoding/csv"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// The laws that the package promises, each computed from what it made. The seeds are fixed, see synth_test.go.

func TestCSVHoldsTheRecords(t *testing.T) {
	bank := newBank(t, Size{Seed: 4, Customers: 500, First: rows.Date{Year: 2025, Month: time.October, Day: 20}, Days: 14, Merchants: 100_000})
	for _, table := range bank.Tables() {
		var text bytes.Buffer
		if err := table.WriteCSV(&text); err != nil {
			t.Fatal(err)
		}
		read, err := csv.NewReader(&text).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", table.Name, err)
		}
		want := append([][]string{table.Header}, collect(table)...)
		if len(want) < 1000 || !slices.EqualFunc(read, want, slices.Equal) {
			t.Errorf("%s: %d lines of CSV for %d records, or other ones", table.Name, len(read), len(want))
		}
	}
}

func TestPlacesOfTimeSurviveTheChangeOfClocks(t *testing.T) {
	for _, date := range []rows.Date{{Year: 2025, Month: time.March, Day: 30}, {Year: 2025, Month: time.October, Day: 26}} {
		d := newBank(t, Size{Customers: 1, First: date, Days: 1}).day(0)
		for second := 0; second < 25*3600; second += 7 {
			var r record
			r.moment(&d, second)
			want := d.start.Add(min(time.Duration(second)*time.Second, d.length-time.Second)).Format(time.RFC3339)
			if got := string(r.line[:len(r.line)-1]); got != want {
				t.Fatalf("second %d of %v is %s, want %s", second, date, got, want)
			}
		}
	}
}

func TestCustomersBeyondThoseKeptInMemoryAreTheSame(t *testing.T) {
	bank := newBank(t, Size{Seed: 7, Customers: 300, First: rows.Date{Year: 2025, Month: time.March, Day: 20}, Days: 20})
	kept, derived := newMaker(bank).population(bank.size, 300), newMaker(bank).population(bank.size, 100)
	for _, i := range []int{0, 99, 100, 299, 101, 100} {
		if *kept(i) != *derived(i) {
			t.Errorf("customer %d differs", i)
		}
	}
}

func TestPaymentsPerMonthAreThoseAskedFor(t *testing.T) {
	for _, size := range []Size{
		{Seed: 1, Customers: 8_000, Days: 365, PaymentsPerMonth: 1.67},
		{Seed: 2, Customers: 8_000, Days: 31, PaymentsPerMonth: 10},
	} {
		size.First = rows.Date{Year: 2025, Month: time.January, Day: 1}
		made := 0
		newBank(t, size).Transactions().each(func(*record) bool { made++; return true })
		perMonth := float64(made) / float64(size.Customers) / float64(size.Days) * 365.25 / 12
		within(t, "payments per month over those asked for", perMonth/size.PaymentsPerMonth, 0.97, 1.05)
	}
}

// TestMerchantsFollowZipf fits the exponent to the counts of the first ranks of one category, by least squares of
// logarithms: 1.25 as declared, and not 1.15 or 1.35.
func TestMerchantsFollowZipf(t *testing.T) {
	bank := newBank(t, Size{
		Seed: 6, Customers: 8_000, First: rows.Date{Year: 2025, Month: time.May, Day: 1}, Days: 31, PaymentsPerMonth: 30, Merchants: 100_000,
	})
	counts := map[string]float64{}
	total := 0.0
	for record := range bank.Transactions().Records() {
		if record[2] == "grocery" {
			counts[strings.Clone(record[3])]++
			total++
		}
	}
	m := newMaker(bank)
	grocery := &bank.world.categories[0]
	named := func(rank int) string {
		m.record.begin()
		m.merchant(grocery, rank)
		return string(m.record.line[:len(m.record.line)-1])
	}
	var n, sx, sy, sxx, sxy float64
	for rank := range 100 {
		x, y := math.Log(float64(rank)+merchantOffset), math.Log(counts[named(rank)])
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	within(t, "Zipf exponent of grocers", -(n*sxy-sx*sy)/(n*sxx-sx*sx), 1.21, 1.29)
	within(t, "share of the first grocer", counts[named(0)]/total, 0.95*bank.ranks.cumulative[0], 1.05*bank.ranks.cumulative[0])

	names := map[string]bool{}
	ranks := bank.merchantsPerCategory()
	for i := range bank.world.categories {
		for rank := range ranks {
			m.record.begin()
			m.merchant(&bank.world.categories[i], rank)
			names[string(m.record.line)] = true
		}
	}
	if want := 9 * (100_000 / 9); len(names) != want {
		t.Errorf("%d merchants have different names, want %d", len(names), want)
	}
	if len(counts) < ranks/3 {
		t.Errorf("only %d of %d grocers were paid", len(counts), ranks)
	}
}

// TestCustomersAreAsUnequalAsDeclared looks at a short time, in which few come or leave, and at many payments, so
// that what is counted of a customer is near to what is usual for them.
func TestCustomersAreAsUnequalAsDeclared(t *testing.T) {
	const customers = 8_000
	bank := newBank(t, Size{Seed: 9, Customers: customers, First: rows.Date{Year: 2025, Month: time.May, Day: 1}, Days: 28, PaymentsPerMonth: 40})
	payments := map[string]int{}
	total := 0.0
	for record := range bank.Transactions().Records() {
		payments[strings.Clone(record[0])]++
		total++
	}
	var counts []int
	for _, n := range payments {
		counts = append(counts, n)
	}
	counts = append(counts, make([]int, customers-len(counts))...)
	slices.SortFunc(counts, func(a, b int) int { return b - a })
	share := func(of float64) float64 {
		sum := 0
		for _, n := range counts[:int(of*customers)] {
			sum += n
		}
		return float64(sum) / total
	}
	// Of a lognormal law the top q have the share normal(sigma - z), z being the normal quantile of 1-q; here q is
	// counted among the three quarters that are awake.
	normal := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	for _, q := range []float64{0.02, 0.1} {
		z := math.Sqrt2 * math.Erfinv(1-2*q/(1-dormantShare))
		want := normal(paymentsSigma - z)
		within(t, "share of the busiest customers over its law", share(q)/want, 0.93, 1.07)
	}
	median := counts[int((1-dormantShare)/2*customers)]
	asleep := 0
	for _, n := range counts {
		if float64(n) < float64(median)*math.Sqrt(dormantFactor) {
			asleep++
		}
	}
	within(t, "share of customers asleep", float64(asleep)/customers, 0.24, 0.31)
}

func TestWeekdaysAndSeasonsHaveTheirShares(t *testing.T) {
	bank := newBank(t, Size{Seed: 3, Customers: 1200, First: rows.Date{Year: 2025, Month: time.January, Day: 1}, Days: 364, PaymentsPerMonth: 20})
	made, expected := map[time.Weekday]float64{}, map[time.Weekday]float64{}
	monthMade, monthExpected := map[time.Month]float64{}, map[time.Month]float64{}
	total, all := 0.0, 0.0
	for n := range bank.size.Days {
		d := bank.day(n)
		want := d.cardFactor() * bank.present(n)
		expected[d.weekday] += want
		monthExpected[d.date.Month] += want
		all += want
	}
	bank.Transactions().each(func(r *record) bool {
		date, err := rows.ParseDate(string(r.line[r.ends[0]+1:][:len(time.DateOnly)]))
		if err != nil {
			t.Fatal(err)
		}
		made[weekday(date)]++
		monthMade[date.Month]++
		total++
		return true
	})
	for day := range expected {
		within(t, "payments on "+day.String()+" over their law", made[day]/total/(expected[day]/all), 0.98, 1.02)
	}
	for month := range monthExpected {
		// Customers abroad pay more often, which is part of no day's factor: hence more in summer.
		within(t, "payments in "+month.String()+" over their law", monthMade[month]/total/(monthExpected[month]/all), 0.93, 1.07)
	}
	within(t, "payments on a Saturday over a Sunday", made[time.Saturday]/made[time.Sunday], 1.38/0.66*0.96, 1.38/0.66*1.04)
	within(t, "payments in December over February", monthMade[time.December]/monthMade[time.February], 1.1, 1.7)
}
