package bounding

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// The vectors of store/FORMAT.md, computed by another implementation of SipHash-2-4.
func TestHashVectors(t *testing.T) {
	for _, v := range []struct {
		salt, block, canonical string
		customer               uint64
		want                   uint64
	}{
		{"", "all", "", 0, 10952077732971657824},
		{"salt", "2026-01", "7:grocery", 17, 15103026312716690331},
		{"salt", "2026-Q1", "7:grocery2:DE", math.MaxUint64, 1489590371176741343},
		{"\x00\xff", "all", "5:café-4:199913:1769902200000", 1, 2382469936043295644},
	} {
		if got := Hash([]byte(v.salt), v.customer, v.block, []byte(v.canonical)); got != v.want {
			t.Errorf("%q %d %s %q: %d", v.salt, v.customer, v.block, v.canonical, got)
		}
	}
}

func TestEachColumnCountsWhatItSays(t *testing.T) {
	policy := spending()
	p := planOf(policy, []string{"2026-01", "2026-02"}, bounds{10, 2}, nil, []plan.Key{byDimension(policy, 0)},
		plan.Column{Count: plan.CountCustomers},
		plan.Column{Count: plan.CountRows},
		plan.Column{Count: plan.Total, Lower: 5, Upper: 60},
		plan.Column{Count: plan.Centred, Lower: 0, Upper: 10},
		plan.Column{Count: plan.CountMeasured},
	)
	null := rows.Number{}
	got := reference(t, p, []rows.Row{
		row(1, "2026-01-05", "food", number(7)),
		row(1, "2026-01-06", "food", number(50)),
		row(1, "2026-02-06", "food", number(-100)), // another block: another total, the same customer
		row(2, "2026-01-05", "food", null),         // counts, but has no total to clamp up to 5
		row(2, "2026-01-05", "toys", number(4)),
		row(3, "2026-03-05", "toys", number(4)), // a block that is not scanned
	})
	want := []Partition{
		{[]string{"food"}, []int64{2, 4, 57 + 5, (14 - 10) + (20 - 10) + (0 - 10), 3}},
		{[]string{"toys"}, []int64{1, 1, 5, 8 - 10, 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRowsBeyondTheBoundAreLeftOutOfRowLevelColumnsOnly(t *testing.T) {
	p := planOf(spending(), []string{"2026-01"}, bounds{1, 2}, nil, nil,
		plan.Column{Count: plan.CountRows}, plan.Column{Count: plan.CountMeasured}, plan.Column{Count: plan.Total, Upper: math.MaxInt64})
	var all []rows.Row
	for range 5 {
		all = append(all, row(1, "2026-01-05", "food", number(math.MaxInt64/4)))
	}
	got := reference(t, p, all)
	if want := []Partition{{nil, []int64{2, 2, math.MaxInt64}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTotalsAreAddedBeforeTheyAreClamped(t *testing.T) {
	p := planOf(spending(), []string{"2026-01"}, bounds{1, 1}, nil, nil, plan.Column{Count: plan.Total, Lower: -10, Upper: 10})
	got := reference(t, p, []rows.Row{
		row(1, "2026-01-05", "food", number(math.MaxInt64)),
		row(1, "2026-01-05", "food", number(math.MaxInt64)),
		row(1, "2026-01-05", "food", number(-math.MaxInt64)),
		row(1, "2026-01-05", "food", number(-math.MaxInt64+3)),
	})
	if got[0].Totals[0] != 3 {
		t.Errorf("got %d, want 3", got[0].Totals[0])
	}
}

func TestPartitionsBeyondTheBoundAreDroppedByHash(t *testing.T) {
	policy := spending()
	p := planOf(policy, []string{"2026-01"}, bounds{2, 1}, nil, []plan.Key{byDimension(policy, 0)}, plan.Column{Count: plan.CountCustomers})
	names := []string{"food", "toys", "shoes", "fuel"}
	var all []rows.Row
	for _, name := range names {
		all = append(all, row(1, "2026-01-05", name, number(1)))
	}
	hash := func(name string) uint64 { return Hash(salt(), 1, "2026-01", rows.AppendKey(nil, []string{name})) }
	got := reference(t, p, all)
	if len(got) != 2 {
		t.Fatalf("kept %d partitions", len(got))
	}
	for _, name := range names {
		kept := name == got[0].Key[0] || name == got[1].Key[0]
		smaller := 0
		for _, other := range names {
			if hash(other) < hash(name) {
				smaller++
			}
		}
		if kept != (smaller < 2) {
			t.Errorf("%s: kept %v with %d smaller hashes", name, kept, smaller)
		}
	}
}

func TestRowWithoutLabelTakesNoPlace(t *testing.T) {
	policy := spending()
	policy.Dimensions[0] = dp.Dimension{Name: "shop", Type: dp.StringDimension, Values: []string{"food", "toys"}}
	key := byDimension(policy, 0)
	key.Domain = []string{"toys"} // narrowed by a test on shop
	p := planOf(policy, []string{"2026-01"}, bounds{1, 1}, nil, []plan.Key{key}, plan.Column{Count: plan.CountCustomers})
	var all []rows.Row
	for customer := uint64(1); customer <= 20; customer++ {
		for _, shop := range []string{"food", "casino", "toys"} {
			all = append(all, row(customer, "2026-01-05", shop, number(1)))
		}
		all = append(all, rows.Row{Customer: customer, Time: at("2026-01-05"), Dimensions: []rows.Text{{}, {}}, Measures: []rows.Number{{}}})
	}
	got := reference(t, p, all)
	if want := []Partition{{[]string{"toys"}, []int64{20}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTestsAreOnLabelsNumbersAndTime(t *testing.T) {
	policy := spending()
	day := plan.Field{Kind: plan.TimeField, Unit: rows.Day}
	shop := plan.Field{Kind: plan.DimensionField, Index: 0}
	age := plan.Field{Kind: plan.DimensionField, Index: 1}
	amount := plan.Field{Kind: plan.MeasureField, Index: 0}
	least, most := int64(-5), int64(5)
	// Customers 1 to 5; 5 has neither shop, age nor amount.
	all := []rows.Row{
		{Customer: 1, Time: at("2026-01-01"), Dimensions: []rows.Text{text("food"), text("-7")}, Measures: []rows.Number{number(-6)}},
		{Customer: 2, Time: at("2026-01-02"), Dimensions: []rows.Text{text("toys"), text("3")}, Measures: []rows.Number{number(-5)}},
		{Customer: 3, Time: at("2026-01-03"), Dimensions: []rows.Text{text("food"), text("12")}, Measures: []rows.Number{number(5)}},
		{Customer: 4, Time: at("2026-01-04"), Dimensions: []rows.Text{text("fuel"), text("5")}, Measures: []rows.Number{number(6)}},
		{Customer: 5, Time: at("2026-01-05"), Dimensions: []rows.Text{{}, {}}, Measures: []rows.Number{{}}},
	}
	for name, c := range map[string]struct {
		test plan.Test
		want string
	}{
		"in":                  {plan.Test{Field: shop, In: []string{"food", "nowhere"}}, "13"},
		"in nothing":          {plan.Test{Field: shop, In: []string{}}, ""},
		"not in":              {plan.Test{Field: shop, NotIn: []string{"food"}}, "24"},
		"int at least":        {plan.Test{Field: age, Least: &least}, "234"},
		"int range":           {plan.Test{Field: age, Least: &least, Most: &most}, "24"},
		"int in":              {plan.Test{Field: age, In: []string{"-7"}}, "1"},
		"measure range":       {plan.Test{Field: amount, Least: &least, Most: &most}, "23"},
		"measure in":          {plan.Test{Field: amount, InNumbers: []int64{5, 6}}, "34"},
		"measure not in":      {plan.Test{Field: amount, NotInNumbers: []int64{5, 6}}, "12"},
		"time in":             {plan.Test{Field: day, In: []string{"2026-01-04"}}, "4"},
		"time from":           {plan.Test{Field: day, From: "2026-01-04"}, "45"},
		"time to":             {plan.Test{Field: day, To: "2026-01-02"}, "12"},
		"time from and to":    {plan.Test{Field: day, From: "2026-01-02", To: "2026-01-02"}, "2"},
		"not asked: no limit": {plan.Test{Field: day}, "12345"},
	} {
		t.Run(name, func(t *testing.T) {
			c.test.Name = name
			p := planOf(policy, []string{"2026-01"}, bounds{1, 1}, []plan.Test{c.test}, nil)
			e, err := Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for i := range all {
				if _, ok := e.Key(nil, &all[i]); ok {
					got += string(rune('0' + all[i].Customer))
				}
			}
			if got != c.want {
				t.Errorf("customers %q pass, want %q", got, c.want)
			}
		})
	}
}

func TestScannedTimeIsHalfOpen(t *testing.T) {
	p := planOf(spending(), []string{"2026-01"}, bounds{1, 1}, nil, nil, plan.Column{Count: plan.CountCustomers})
	scan := &p.Tree.Input.Input.Input.Input
	scan.Bounded, scan.From, scan.To = true, at("2026-01-03"), at("2026-01-05")
	var all []rows.Row
	for i, ms := range []int64{scan.From - 1, scan.From, scan.To - 1, scan.To} {
		r := row(uint64(i), "2026-01-01", "food", number(1))
		r.Time = ms
		all = append(all, r)
	}
	if got := reference(t, p, all); got[0].Totals[0] != 2 {
		t.Errorf("got %d customers, want 2", got[0].Totals[0])
	}
	p.Policy.Time, p.Policy.Unit.Block, scan.Blocks = nil, dp.All, []string{"all"}
	if got := reference(t, p, all); got[0].Totals[0] != 4 {
		t.Errorf("without time: got %d customers, want 4", got[0].Totals[0])
	}
}

func TestRowUnitCountsEveryRowOnce(t *testing.T) {
	policy := spending()
	policy.Unit.Row = true
	p := planOf(policy, []string{"2026-01"}, bounds{50, 50}, nil, []plan.Key{byDimension(policy, 0)}, plan.Column{Count: plan.CountRows})
	// Two rows that share a pseudonym, which is as likely as a collision of hashes.
	got := reference(t, p, []rows.Row{row(1, "2026-01-05", "food", number(1)), row(1, "2026-01-05", "food", number(2)), row(1, "2026-01-05", "toys", number(2))})
	if len(got) != 1 || got[0].Totals[0] != 1 {
		t.Errorf("got %v", got)
	}
}

func TestTreesThatCannotBeAreRefused(t *testing.T) {
	policy := spending()
	for name, spoil := range map[string]func(*plan.Plan){
		"no partitions":  func(p *plan.Plan) { p.Tree.Input.Partitions = 0 },
		"no rows":        func(p *plan.Plan) { p.Tree.Input.Rows = 0 },
		"no such zone":   func(p *plan.Plan) { p.Policy.Time.Timezone = "Mars/Olympus" },
		"no dimension":   func(p *plan.Plan) { p.Tree.Input.Input.Keys[0].Field.Index = 2 },
		"key of measure": func(p *plan.Plan) { p.Tree.Input.Input.Keys[0].Field = plan.Field{Kind: plan.MeasureField} },
		"no measure":     func(p *plan.Plan) { p.Tree.Columns[0] = plan.Column{Count: plan.Total, Measure: 1} },
		"inverted":       func(p *plan.Plan) { p.Tree.Columns[0] = plan.Column{Count: plan.Total, Lower: 1} },
		"test":           func(p *plan.Plan) { p.Tree.Input.Input.Input.Tests = []plan.Test{{Field: plan.Field{Index: -1}}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(policy, []string{"2026-01"}, bounds{1, 1}, nil, []plan.Key{byDimension(policy, 0)}, plan.Column{Count: plan.CountRows})
			zone := *policy.Time
			p.Policy.Time = &zone
			if _, err := Compile(p); err != nil {
				t.Fatal(err)
			}
			spoil(p)
			if _, err := Reference(p, salt(), nil); err == nil {
				t.Error("it compiled")
			}
		})
	}
}

func TestTimeKeysAreTheCalendars(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Australia/Lord_Howe"} {
		zone, err := rows.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range rows.TimeUnits() {
			k := newTimeKeys(unit, zone)
			for ms := at("2010-12-20"); ms < at("2012-01-10"); ms += 67*60_000 + 59_999 {
				for _, at := range []int64{ms, ms - 86_400_000*200} {
					if got := k.key(at); got != rows.TimeKey(at, unit, zone) {
						t.Fatalf("%s %s %d: got %s, want %s", name, unit, at, got, rows.TimeKey(at, unit, zone))
					}
				}
			}
		}
	}
}

// spending has a private shop, an int age and an amount, by month of UTC.
func spending() dp.Policy {
	return dp.Policy{
		Name: "spending", Unit: dp.Unit{Column: "id", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "when", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{
			{Name: "shop", Type: dp.StringDimension, Private: true},
			{Name: "age", Type: dp.IntDimension, Private: true},
		},
		Measures: []dp.Measure{{Name: "amount", Lower: -100, Upper: 100}},
	}
}

type bounds struct{ partitions, rows int64 }

func planOf(policy dp.Policy, blocks []string, b bounds, tests []plan.Test, keys []plan.Key, columns ...plan.Column) *plan.Plan {
	return &plan.Plan{
		Policy: dp.VersionedPolicy{Policy: policy, Version: 1},
		Blocks: blocks,
		Tree: plan.Aggregate{
			Input: plan.Bound{
				Input: plan.Group{
					Input: plan.Filter{Input: plan.Scan{Dataset: policy.Name, Blocks: blocks}, Tests: tests},
					Keys:  keys,
				},
				Partitions: b.partitions, Rows: b.rows,
			},
			Columns: columns,
		},
	}
}

func byDimension(p dp.Policy, i int) plan.Key {
	return plan.Key{Name: p.Dimensions[i].Name, Field: plan.Field{Kind: plan.DimensionField, Index: i}, Domain: p.Dimensions[i].Values}
}

func row(customer uint64, day, shop string, amount rows.Number) rows.Row {
	return rows.Row{Customer: customer, Time: at(day), Dimensions: []rows.Text{text(shop), {}}, Measures: []rows.Number{amount}}
}

func at(day string) int64 {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t.UnixMilli()
}

func text(s string) rows.Text { return rows.Text{Value: s, Valid: true} }

func number(v int64) rows.Number { return rows.Number{Value: v, Valid: true} }

func salt() []byte { return []byte("a salt of any length") }

func reference(t *testing.T, p *plan.Plan, all []rows.Row) []Partition {
	t.Helper()
	got, err := Reference(p, salt(), all)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
