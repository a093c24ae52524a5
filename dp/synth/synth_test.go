package synth

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// Every bank here has a fixed seed: a test that passes once passes always on the same architecture, and
// tolerances are there to tell a shape from its absence, not to catch luck.

func TestSameSeedMakesTheSameBytes(t *testing.T) {
	size := Size{Seed: 7, Customers: 300, First: rows.Date{Year: 2025, Month: time.March, Day: 20}, Days: 20}
	first, again := csvOf(t, size), csvOf(t, size)
	size.Seed = 8
	other := csvOf(t, size)
	for name, text := range first {
		if len(text) < 1000 {
			t.Errorf("%s: only %d bytes", name, len(text))
		}
		if again[name] != text {
			t.Errorf("%s: the same seed made other bytes", name)
		}
		if other[name] == text {
			t.Errorf("%s: another seed made the same bytes", name)
		}
	}
}

func TestDaysMadeAloneEqualTheSameDaysOfTheWhole(t *testing.T) {
	bank := newBank(t, Size{Seed: 7, Customers: 300, First: rows.Date{Year: 2025, Month: time.March, Day: 20}, Days: 20})
	for _, table := range bank.Tables() {
		middle := rows.Date{Year: 2025, Month: time.March, Day: 30} // the clocks change
		var parts, whole [][]string
		for _, part := range []Table{
			table.Between(bank.size.First, middle.AddDays(-1)),
			table.Between(middle, middle),
			table.Between(middle.AddDays(1), bank.Last().AddDays(100)),
		} {
			parts = append(parts, collect(part)...)
		}
		whole = collect(table)
		if !slices.EqualFunc(parts, whole, slices.Equal) {
			t.Errorf("%s: %d rows in parts, %d in one, or other ones", table.Name, len(parts), len(whole))
		}
	}
}

func TestRowsAreWellFormed(t *testing.T) {
	bank := newBank(t, Size{Seed: 3, Customers: 400, First: rows.Date{Year: 2025, Month: time.October, Day: 20}, Days: 40})
	written, err := rows.CompileTimeFormat(rows.RFC3339Format)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range bank.Tables() {
		zone, err := rows.LoadZone(timezone)
		if err != nil {
			t.Fatal(err)
		}
		before := bank.size.First
		for _, record := range collect(table) {
			if len(record) != len(table.Header) {
				t.Fatalf("%s: %d fields under a header of %d", table.Name, len(record), len(table.Header))
			}
			ms, err := written.Parse(record[1], zone)
			if err != nil {
				t.Fatalf("%s: time of a row: %v", table.Name, err)
			}
			date := rows.DateOf(ms, zone)
			if date.Before(before) || bank.Last().Before(date) {
				t.Fatalf("%s: a row of %v came after one of %v", table.Name, date, before)
			}
			before = date
			number, err := rows.ParseDecimal(record[len(record)-2], 2)
			if err != nil || number < 1 {
				t.Fatalf("%s: the measure of a row is %d, %v", table.Name, number, err)
			}
			if linked := record[len(record)-1]; linked != "" {
				if since, err := rows.ParseDate(linked); err != nil || date.Before(since) {
					t.Fatalf("%s: a row of %v is linked since %v, %v", table.Name, date, since, err)
				}
			}
		}
	}
}

// Some customers agree to be joined, each from one day on in both tables, whose rows are otherwise what they are without it.
func TestCustomersAgreeFromOneDayOn(t *testing.T) {
	size := Size{Seed: 3, Customers: 3000, First: rows.Date{Year: 2025, Month: time.October, Day: 1}, Days: 92}
	linked := newBank(t, size)
	size.Unlinked = true
	unlinked := newBank(t, size)
	since, seen := map[string]string{}, map[string]bool{}
	share := map[time.Month]float64{}
	for i, table := range linked.Tables() {
		if !strings.Contains(table.Policy, "\nlink: {consent: linked_at}\n") || strings.Contains(unlinked.Tables()[i].Policy, "link") {
			t.Errorf("policy of %s:\n%s", table.Name, table.Policy)
		}
		last := map[string]string{}
		months := map[time.Month][2]float64{}
		var without [][]string
		for _, record := range collect(table) {
			end := len(record) - 1
			without = append(without, record[:end])
			id, at := record[0], record[end]
			if last[id] != "" && at != last[id] || at != "" && since[id] != "" && at != since[id] {
				t.Fatalf("%s: a customer who agreed on %q and %q does on %q", table.Name, last[id], since[id], at)
			}
			last[id], seen[id] = at, true
			month, err := time.Parse("2006-01", record[1][:7])
			if err != nil {
				t.Fatal(err)
			}
			n := months[month.Month()]
			n[0]++
			if at != "" {
				since[id] = at
				n[1]++
			}
			months[month.Month()] = n
		}
		if !slices.EqualFunc(without, collect(unlinked.Tables()[i]), slices.Equal) {
			t.Errorf("%s: the other columns depend on who agrees", table.Name)
		}
		for month, n := range months {
			share[month] = n[1] / n[0]
			within(t, table.Name+": share of linked rows in "+month.String(), share[month], 0.1, 0.5)
		}
		if share[time.December] <= share[time.October] {
			t.Errorf("%s: %v", table.Name, share)
		}
	}
	within(t, "share of customers with rows who agree", float64(len(since))/float64(len(seen)), 0.3, 0.45)
}

func TestBanksOutOfRangeAreRefused(t *testing.T) {
	for _, size := range []Size{
		{Customers: 0, Days: 1}, {Customers: MostCustomers + 1, Days: 1}, {Customers: 1, Days: 0}, {Customers: 1, Days: MostDays + 1},
		{Customers: 1, Days: 1, PaymentsPerMonth: -1}, {Customers: 1, Days: 1, PaymentsPerMonth: math.NaN()}, {Customers: 1, Days: 1, PaymentsPerMonth: math.Inf(1)},
		{Customers: 1, Days: 1, Merchants: -1}, {Customers: 1, Days: 1, Merchants: MostMerchants + 1},
	} {
		if _, err := New(size); err == nil {
			t.Errorf("a bank of %+v was made", size)
		}
	}
}

func TestPoliciesDeclareThePopulation(t *testing.T) {
	bank := newBank(t, Size{Customers: 4321, First: rows.Date{Year: 2025, Month: time.January, Day: 1}, Days: 1})
	for _, table := range bank.Tables() {
		if !strings.Contains(table.Policy, "\npopulation: 4321\n") || !strings.Contains(table.Policy, "\nname: "+table.Name+"\n") {
			t.Errorf("policy of %s:\n%s", table.Name, table.Policy)
		}
	}
}

func TestAYearHasTheShapeOfABank(t *testing.T) {
	year := newBank(t, Size{Seed: 1, Customers: 1200, First: rows.Date{Year: 2025, Month: time.January, Day: 1}, Days: 365})
	app, cards := observe(t, year.Engagement()), observe(t, year.Transactions())

	within(t, "app events on a Sunday over a Monday", app.perDay(sunday)/app.perDay(monday), 0.55, 0.80)
	within(t, "payments on a Saturday over a Sunday", cards.perDay(saturday)/cards.perDay(sunday), 1.7, 2.5)
	within(t, "payments per day in mid December over mid November", cards.perDay(between(12, 10, 23))/cards.perDay(between(11, 10, 23)), 1.15, 1.6)
	within(t, "app events per day in July and August over May and June",
		app.perDay(months(7, 8))/app.perDay(months(5, 6)), 0.75, 0.97)
	within(t, "share of payments from 2 to 5 at night", cards.hours(2, 5)/cards.total, 0, 0.02)
	within(t, "share of payments from 11 to 19", cards.hours(11, 19)/cards.total, 0.5, 0.8)

	within(t, "share of the busiest hundredth of customers in app events", app.topShare(0.01), 0.05, 0.30)
	within(t, "share of the busiest tenth of customers in payments", cards.topShare(0.1), 0.25, 0.60)
	within(t, "tail index of amounts", hill(cards.amounts, 80), 0.9, 2.0)

	within(t, "share of customers with at most three payments", cards.quiet(3, 1200), 0.15, 0.45)
	within(t, "share of payers who first pay after June", cards.share(func(s span) bool { return s.first > 181 }), 0.12, 0.45)
	within(t, "share of payers who last pay before July", cards.share(func(s span) bool { return s.last < 181 }), 0.10, 0.45)

	both := 0
	for id := range cards.customers {
		if _, ok := app.customers[id]; ok {
			both++
		}
	}
	within(t, "share of payers who also use the app", float64(both)/float64(len(cards.customers)), 0.85, 1)
}

// observed is what a test counts of a table.
type observed struct {
	total     float64
	days      map[rows.Date]float64
	hour      [24]float64
	customers map[string]span
	amounts   []float64
}

// span is one customer's rows: how many, and the first and last day of the year.
type span struct{ rows, first, last int }

func observe(t *testing.T, table Table) observed {
	t.Helper()
	o := observed{days: map[rows.Date]float64{}, customers: map[string]span{}}
	for record := range table.Records() {
		at, err := time.Parse(time.RFC3339, record[1])
		if err != nil {
			t.Fatal(err)
		}
		o.total++
		o.hour[at.Hour()]++
		o.days[rows.Date{Year: at.Year(), Month: at.Month(), Day: at.Day()}]++
		s, seen := o.customers[record[0]]
		if !seen {
			s.first = at.YearDay()
		}
		s.rows++
		s.last = at.YearDay()
		o.customers[strings.Clone(record[0])] = s
		amount, err := strconv.ParseFloat(record[len(record)-2], 64)
		if err != nil {
			t.Fatal(err)
		}
		o.amounts = append(o.amounts, amount)
	}
	return o
}

func (o observed) perDay(on func(rows.Date) bool) float64 {
	sum, days := 0.0, 0.0
	for d, n := range o.days {
		if on(d) {
			sum += n
			days++
		}
	}
	return sum / days
}

func (o observed) hours(from, to int) float64 {
	sum := 0.0
	for _, n := range o.hour[from:to] {
		sum += n
	}
	return sum
}

func (o observed) topShare(fraction float64) float64 {
	var counts []int
	for _, s := range o.customers {
		counts = append(counts, s.rows)
	}
	slices.SortFunc(counts, func(a, b int) int { return b - a })
	top := 0
	for _, n := range counts[:int(fraction*float64(len(counts)))] {
		top += n
	}
	return float64(top) / o.total
}

// quiet is the share of so many customers who have at most so many rows.
func (o observed) quiet(most, customers int) float64 {
	loud := 0
	for _, s := range o.customers {
		if s.rows > most {
			loud++
		}
	}
	return 1 - float64(loud)/float64(customers)
}

func (o observed) share(of func(span) bool) float64 {
	n := 0
	for _, s := range o.customers {
		if of(s) {
			n++
		}
	}
	return float64(n) / float64(len(o.customers))
}

func monday(d rows.Date) bool   { return weekday(d) == time.Monday }
func saturday(d rows.Date) bool { return weekday(d) == time.Saturday }
func sunday(d rows.Date) bool   { return weekday(d) == time.Sunday }

func weekday(d rows.Date) time.Weekday {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Weekday()
}

func months(of ...time.Month) func(rows.Date) bool {
	return func(d rows.Date) bool { return slices.Contains(of, d.Month) }
}

func between(month time.Month, from, to int) func(rows.Date) bool {
	return func(d rows.Date) bool { return d.Month == month && d.Day >= from && d.Day <= to }
}

// hill estimates the tail index from the k largest values (Hill, Annals of Statistics 3, 1975).
func hill(values []float64, k int) float64 {
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, func(a, b float64) int {
		switch {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	sum := 0.0
	for _, v := range sorted[:k] {
		sum += math.Log(v / sorted[k])
	}
	return float64(k) / sum
}

func within(t *testing.T, what string, got, low, high float64) {
	t.Helper()
	if !(got >= low && got <= high) {
		t.Errorf("%s is %.3f, want %.2f to %.2f", what, got, low, high)
	} else {
		t.Logf("%s is %.3f", what, got)
	}
}

func newBank(t *testing.T, s Size) *Bank {
	t.Helper()
	bank, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return bank
}

func collect(table Table) [][]string {
	var all [][]string
	for record := range table.Records() {
		all = append(all, slices.Clone(record))
	}
	return all
}

func csvOf(t *testing.T, s Size) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, table := range newBank(t, s).Tables() {
		var b bytes.Buffer
		if err := table.WriteCSV(&b); err != nil {
			t.Fatal(err)
		}
		texts[table.Name] = b.String()
	}
	return texts
}
