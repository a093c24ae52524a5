package columnar

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// world is a dataset whose policy grows from load to load, and all rows that were loaded so far as load.Reader
// reads them.
type world struct {
	random  *rand.Rand
	store   *Store
	catalog *catalog
	policy  dp.VersionedPolicy // as it will be in the end
	blocks  []string
	rows    []rows.Row
	loads   int
	tame    bool // amounts are as the quick way takes them: there, of one size, and not too large
	heavy   bool // some customers have more rows in a segment than are decoded at once
	days    []string
	cities  []string
	users   int
	agrees  *rand.Rand // whether rows carry consent
	ends    bool       // some customers have the first and the last pseudonym
	// Keys of the calendar have the labels of these days, which rows do not keep to.
	from, to rows.Date
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 5))
	w := &world{random: random, agrees: rand.New(rand.NewPCG(seed, 6)), catalog: newCatalog()}
	w.from, w.to = rows.Date{Year: 2025, Month: 10, Day: 1}, rows.Date{Year: 2026, Month: 3, Day: 20}
	o := small()
	o.Shards, o.Workers = 1+random.IntN(5), 1+random.IntN(3)
	o.BufferRows, o.SegmentRows = 1+random.IntN(60), 1+random.IntN(20)
	if w.tame = random.IntN(2) == 0; w.tame {
		o.BufferRows, o.SegmentRows = 1+random.IntN(1000), 1+random.IntN(400)
		if w.heavy = random.IntN(4) == 0; w.heavy {
			o.BufferRows, o.SegmentRows = 1<<13, 1<<13
		}
	}
	if random.IntN(2) == 0 {
		o.GroupBytes = random.IntN(2000) // few partitions fit into memory
	}
	w.store = open(t, t.TempDir(), w.catalog, o)
	w.policy = dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "world", Unit: dp.Unit{Column: "id", Block: pick(random, dp.Month, dp.Quarter, dp.All)},
		Time: &dp.TimeColumn{Column: "at", Timezone: pick(random, "UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns"), Format: "unix_ms"},
		Dimensions: []dp.Dimension{
			{Name: "shop", Type: dp.StringDimension, Values: []string{"a", "b", "else"}, Other: "else"},
			{Name: "age", Type: dp.IntDimension, Values: []string{"0", "10", "none"}, Bin: &dp.Bin{Step: 10}, Missing: "none", Other: "none"},
			{Name: "city", Type: dp.StringDimension, Private: true, Missing: "unknown"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2}, {Name: "minutes"}},
		Derived: []dp.Derived{
			{Name: "region", Of: "city", Groups: []dp.LabelGroup{{Label: "west", Values: []string{"Köln", "unknown"}}, {Label: "south", Values: []string{"Ulm"}}}, Other: "abroad"},
			{Name: "grown", Of: "age", Groups: []dp.LabelGroup{{Label: "no", Values: []string{"0"}}}},
		},
	}}
	if random.IntN(6) == 0 {
		w.policy.Unit.Row = true
	}
	w.policy.Link = &dp.Link{Consent: "agreed"}
	if random.IntN(6) == 0 {
		w.policy.Time, w.policy.Unit.Block = nil, dp.All
	}
	w.days, w.cities, w.users = []string{"2025-10-01", "2025-10-26", "2025-11-01", "2026-03-29", "2026-04-01"}, []string{"Köln", "Ulm", "Bonn"}, 9
	if w.tame {
		w.users = pick(random, 1, 9, 200)
		w.days = append(w.days, rows.TimeKeys(rows.Date{Year: 2025, Month: 10, Day: 1}, rows.Date{Year: 2025, Month: 11, Day: 20}, rows.Day)...)
		for i := range pick(random, 1, 90) {
			w.cities = append(w.cities, fmt.Sprint("city ", i))
		}
	}
	w.ends = random.IntN(3) == 0
	w.blocks = map[dp.Block][]string{dp.Month: {"2025-10", "2025-11", "2026-03"}, dp.Quarter: {"2025-Q4", "2026-Q1"}, dp.All: {"all"}}[w.policy.Unit.Block]
	if w.policy.Time != nil && w.policy.Unit.Block == dp.Month && w.tame && random.IntN(2) == 0 { // many blocks
		w.users = max(w.users, 9)
		w.blocks = rows.TimeKeys(rows.Date{Year: 2023, Month: 1, Day: 1}, rows.Date{Year: 2026, Month: 4, Day: 30}, rows.Month)
		for _, month := range w.blocks {
			w.days = append(w.days, month+"-01", month+"-14")
		}
	}
	if w.policy.Time != nil && w.policy.Time.Timezone == "America/St_Johns" { // where clocks were put back over midnight
		w.days = append(w.days, "2009-11-01", "2010-11-07", "2009-11-01", "2010-11-07")
		w.blocks = append(map[dp.Block][]string{dp.Month: {"2009-10", "2009-11", "2010-11"}, dp.Quarter: {"2009-Q4", "2010-Q4"}}[w.policy.Unit.Block], w.blocks...)
		w.from, w.to = rows.Date{Year: 2009, Month: 10, Day: 1}, rows.Date{Year: 2010, Month: 11, Day: 8}
	}
	return w
}

// load loads random rows, first under a policy without city and minutes, and sometimes without link.
func (w *world) load(t *testing.T) {
	t.Helper()
	p := w.policy
	if w.loads == 0 {
		p.Dimensions, p.Measures = p.Dimensions[:2], p.Measures[:1]
	}
	w.loads++
	if w.agrees.IntN(4) == 0 {
		p.Link = nil
	}
	var text strings.Builder
	text.WriteString("id,at,shop,age,city,amount,minutes,agreed\n")
	share := pick(w.agrees, 0, 1, 50, 99, 100) // of rows that carry consent
	optional := func(values ...string) string { return pick(w.random, append(values, "")...) }
	count, amounts := w.random.IntN(150), []string{"-1.005", "0", "12.345", "92233720368547758.07", ""}
	if w.tame {
		count, amounts = w.random.IntN(pick(w.random, 150, 700)), pick(w.random, []string{"0", "0.01", "1.5", "2.55"}, []string{"0.5", "3", "19.99", "700"}, []string{"1", "70000"}, []string{"-1", "4"},
			// around what is small enough to add up many: 2^52 either side of 0, and 2^32 below that; and 2^56, which is not
			[]string{"720575940379279.36", "720575940379279.3"}, []string{"-720575940379279.36", "-720575940379279.3"},
			[]string{"-45035996273704.95", "-45035996273704.94"}, []string{"-45035996273704.96", "-45035996273704.97"},
			[]string{"45035953324031.99", "45035996273704.94"}, []string{"45035953324032", "45035996273704.96", "45035996273704.97"})
	}
	if w.heavy {
		count = 1500 + w.random.IntN(2500)
	}
	user := func() string {
		n := int(float64(w.users) * w.random.Float64() * w.random.Float64())
		if ends := []string{"least", "most"}; n < len(ends) && w.ends {
			return ends[n]
		}
		return fmt.Sprint("u", n)
	}
	for range count {
		day, err := time.Parse(time.DateOnly, pick(w.random, w.days...))
		if err != nil {
			t.Fatal(err)
		}
		at := day.UnixMilli() + pick[int64](w.random, -1, 0, 3_600_000, -3_600_001, 7_200_000, 9_900_000, 39_600_000)
		if w.heavy {
			at += w.random.Int64N(1000)
		}
		fmt.Fprintf(&text, "%s,%d,%s,%s,%s,%s,%s,%s\n", user(), at, optional("a", "b", "x"), optional("0", "7", "12", "-1", "99"),
			optional(w.cities...), pick(w.random, amounts...), optional("3", "-4", "50"),
			map[bool]string{true: "2026-01-05"}[w.agrees.IntN(100) < share])
	}
	report := mustLoad(t, w.store, p, days(fmt.Sprint(w.loads), "2009-10-01", "2026-04-30"), text.String())
	w.rows = append(w.rows, rowsOf(t, &p.Policy, text.String(), report.Load.ID)...)
}

// rowsOf gives the rows of a CSV text.
func rowsOf(t *testing.T, p *dp.Policy, text string, number uint64) (all []rows.Row) {
	t.Helper()
	r, err := load.NewReader(p, strings.NewReader(text), load.Source{Format: load.CSV, Load: number}, secrets{})
	if err != nil {
		t.Fatal(err)
	}
	for batch, err := range r.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range batch {
			if record.Reason != "" {
				t.Fatal(record.Reason)
			}
			row := record.Row
			row.Dimensions, row.Measures = slices.Clone(row.Dimensions), slices.Clone(row.Measures)
			all = append(all, row)
		}
	}
	return all
}

// grown gives rows the columns that the policy gained after they were loaded.
func (w *world) grown(all []rows.Row) []rows.Row {
	grown := slices.Clone(all)
	for i := range grown {
		grown[i].Dimensions = append(slices.Clone(grown[i].Dimensions), rows.Text{})[:3]
		grown[i].Measures = append(slices.Clone(grown[i].Measures), rows.Number{})[:2]
	}
	return grown
}

func (w *world) plan() *plan.Plan {
	random := w.random
	from := random.IntN(len(w.blocks))
	blocks := w.blocks[from : from+1+random.IntN(len(w.blocks)-from)]
	if random.IntN(3) == 0 {
		blocks = w.blocks
	}
	p := perBlock(w.policy, blocks...)
	p.Tree.Input.Partitions, p.Tree.Input.Rows = 1+random.Int64N(4), 1+random.Int64N(4)
	if random.IntN(4) == 0 {
		p.Tree.Input.Partitions, p.Tree.Input.Rows = pick[int64](random, 5, 13, 63, 64, 65, 300, math.MaxInt64), pick[int64](random, 1, 40, 1030, math.MaxInt64)
	}
	for i, d := range w.policy.Dimensions {
		if random.IntN(2) == 0 {
			p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: d.Name, Field: plan.Field{Index: i}, Domain: d.Values})
		}
	}
	for i, d := range w.policy.Derived {
		if fold, err := rows.NewFold(&w.policy.Policy, i); random.IntN(4) == 0 && err == nil {
			p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: d.Name, Field: plan.Field{Index: fold.Base, Derived: 1 + i}, Domain: fold.Labels})
		}
	}
	if w.policy.Time != nil && random.IntN(2) == 0 {
		unit := pick(random, rows.TimeUnits()...)
		domain := rows.TimeKeys(w.from, w.to, unit)
		p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: unit.Field(), Field: plan.Field{Kind: plan.TimeField, Unit: unit}, Domain: domain})
	}
	if w.policy.Time != nil && random.IntN(4) == 0 {
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests,
			plan.Test{Name: "time.day", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Day}, From: w.from.AddDays(19).String(), NotIn: []string{"2026-03-08"}})
	}
	if random.IntN(4) == 0 {
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests, plan.Test{Name: "shop", In: []string{"a", "else"}})
	}
	if random.IntN(3) == 0 {
		least := random.Int64N(100)
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests, plan.Test{Name: "amount", Field: plan.Field{Kind: plan.MeasureField, Index: random.IntN(2)}, Least: &least})
	}
	if w.policy.Unit.Block == dp.All || random.IntN(3) == 0 { // as a range of days does
		scan := &p.Tree.Input.Input.Input.Input
		scan.Bounded, scan.From, scan.To = true, 1761436800000, 1774742400000
		if w.from.Year < 2025 {
			scan.From, _ = rows.Span(pick(random, w.from, rows.Date{Year: 2009, Month: 11, Day: 1}, rows.Date{Year: 2010, Month: 11, Day: 7}), w.to, w.zone())
		}
	}
	p.Tree.Columns = []plan.Column{
		{Count: plan.CountCustomers}, {Count: plan.CountRows},
		{Count: plan.Total, Measure: random.IntN(2), Lower: pick[int64](random, -50, 0, 120), Upper: pick[int64](random, 150, 2000, 1<<40, 1<<53)},
		{Count: plan.Centred, Measure: random.IntN(2), Lower: -50, Upper: 2000},
		{Count: plan.CountMeasured, Measure: random.IntN(2)},
		{Count: plan.Squared, Measure: random.IntN(2), Lower: -50, Upper: 2000},
		{Count: plan.Histogram, Measure: random.IntN(2), Lower: -50, Upper: 2000, Bins: 21, BinWidth: 100},
		{Count: plan.Total, Measure: random.IntN(2), Lower: -50, Upper: 2000, Last: true},
		{Count: plan.Squared, Measure: random.IntN(2), Lower: -50, Upper: 2000, Last: true},
		{Count: plan.Histogram, Measure: random.IntN(2), Lower: -50, Upper: 2000, Bins: 21, BinWidth: 100, Last: true},
	}
	p.Tree.Columns = append(p.Tree.Columns,
		plan.Column{Count: plan.Squared, Measure: random.IntN(2), Lower: -500, Upper: 5000, Of: plan.ValueTotal},
		plan.Column{Count: plan.Histogram, Measure: random.IntN(2), Lower: -500, Upper: 5000, Bins: 6, BinWidth: 1000, Of: plan.ValueTotal},
		plan.Column{Count: plan.Histogram, Upper: 9, Bins: 10, BinWidth: 1, Of: plan.ValueRows},
		plan.Column{Count: plan.Centred, Upper: 9, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: random.IntN(3)}}},
	)
	if w.policy.Time != nil {
		unit := pick(random, rows.TimeUnits()...)
		p.Tree.Columns = append(p.Tree.Columns, plan.Column{Count: plan.CountMeasured, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: 0}}},
			plan.Column{Count: plan.Histogram, Upper: 9, Bins: 10, BinWidth: 1, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: 1}, {Kind: plan.TimeField, Unit: unit}}})
		p.Tree.Columns = append(p.Tree.Columns, plan.Column{Count: plan.CountDays, Upper: 1 + random.Int64N(31)}, plan.Column{Count: plan.CountSessions, Upper: 1 + random.Int64N(9)})
	}
	// Columns with tests of their own, some of which share them.
	for range random.IntN(3) {
		tests := w.ownTests()
		for range 1 + random.IntN(4) {
			own := pick(random, p.Tree.Columns...)
			own.Tests = tests
			p.Tree.Columns = append(p.Tree.Columns, own)
		}
	}
	random.Shuffle(len(p.Tree.Columns), func(i, j int) {
		p.Tree.Columns[i], p.Tree.Columns[j] = p.Tree.Columns[j], p.Tree.Columns[i]
	})
	if random.IntN(2) == 0 { // what is asked most
		p.Tree.Columns = slices.DeleteFunc(p.Tree.Columns, func(c plan.Column) bool {
			return c.ReadsRows() || c.Count.ReadsTimes() || c.Last || c.Of != plan.ValueRow
		})
	}
	p.Tree.Columns = p.Tree.Columns[:1+random.IntN(len(p.Tree.Columns))]
	return p
}

// ownTests are those of a column: on dimensions, private ones too, measures and times.
func (w *world) ownTests() (tests []plan.Test) {
	least := w.random.Int64N(100)
	all := []plan.Test{
		{Name: "shop", In: []string{"a"}},
		{Name: "city", Field: plan.Field{Index: 2}, NotIn: []string{"Ulm"}},
		{Name: "region", Field: plan.Field{Index: 2, Derived: 1}, NotIn: []string{"west"}},
		{Name: "minutes", Field: plan.Field{Kind: plan.MeasureField, Index: w.random.IntN(2)}, Least: &least},
	}
	if w.policy.Time != nil {
		all = append(all, plan.Test{Name: "time.hour", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Hour}, NotIn: []string{"00", "01"}},
			plan.Test{Name: "time.day", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Day}, From: w.from.AddDays(25).String()})
	}
	for _, t := range all {
		if w.random.IntN(2) == 0 {
			tests = append(tests, t)
		}
	}
	return tests
}

func (w *world) zone() *time.Location {
	zone, err := rows.LoadZone(w.policy.Time.Timezone)
	if err != nil {
		panic(err)
	}
	return zone
}

func pick[V any](random *rand.Rand, from ...V) V { return from[random.IntN(len(from))] }
