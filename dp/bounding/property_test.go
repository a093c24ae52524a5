package bounding

import (
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

const cases = 2000

// The bounding lemma: without one (customer, block), at most L0 partitions change, each column by at most its
// bound, and by exactly what that (customer, block) adds alone: nobody else's kept rows change.
func TestRemovingOneCustomerBlockChangesAtMostTheBounds(t *testing.T) {
	var reached [7]bool // each kind of column changed by all of its bound
	reachedPartitions := false
	for seed := range uint64(cases) {
		c := newCase(seed)
		if len(c.rows) == 0 {
			continue
		}
		whole := reference(t, c.plan, c.rows)
		victim := c.rows[c.random.IntN(len(c.rows))]
		e := c.evaluator(t)
		block := e.block(&victim)
		without := slices.DeleteFunc(slices.Clone(c.rows), func(r rows.Row) bool {
			return r.Customer == victim.Customer && e.block(&r) == block
		})
		only := slices.DeleteFunc(slices.Clone(c.rows), func(r rows.Row) bool {
			return r.Customer != victim.Customer || e.block(&r) != block
		})
		before, after, alone := byKey(whole), byKey(reference(t, c.plan, without)), byKey(reference(t, c.plan, only))

		changed := int64(0)
		for key := range union(before, after) {
			differs := !reflect.DeepEqual(before[key], after[key])
			if differs {
				changed++
			}
			for i, column := range c.plan.Tree.Columns {
				all, bound := new(big.Int), c.bound(column) // of a histogram all bins together
				for at := c.plan.Tree.At(i); at < c.plan.Tree.At(i)+column.Width(); at++ {
					change := new(big.Int).Sub(value(before, key, at), value(after, key, at))
					all.Add(all, new(big.Int).Abs(change))
					if column.Count != plan.CountCustomers && !c.extreme && change.Cmp(value(alone, key, at)) != 0 {
						t.Fatalf("case %d: column %+v of %q changed by %v, alone it is %v", seed, column, key, change, value(alone, key, at))
					}
				}
				if all.Cmp(bound) > 0 {
					t.Fatalf("case %d: column %+v of %q changed by %v, bound %v", seed, column, key, all, bound)
				}
				reached[column.Count] = reached[column.Count] || differs && all.Cmp(bound) == 0
			}
		}
		if changed > c.partitions() {
			t.Fatalf("case %d: %d partitions changed, L0 is %d", seed, changed, c.partitions())
		}
		reachedPartitions = reachedPartitions || changed > 1 && changed == c.partitions()
	}
	if reached != [7]bool{true, true, true, true, true, true, true} || !reachedPartitions {
		t.Errorf("the cases are too tame to show anything: bounds reached %v, partitions %v", reached, reachedPartitions)
	}
}

func TestOrderOfRowsIsIrrelevant(t *testing.T) {
	for seed := range uint64(cases / 4) {
		c := newCase(seed)
		want := reference(t, c.plan, c.rows)
		c.random.Shuffle(len(c.rows), func(i, j int) { c.rows[i], c.rows[j] = c.rows[j], c.rows[i] })
		if got := reference(t, c.plan, c.rows); !reflect.DeepEqual(got, want) {
			t.Fatalf("case %d: got %v, want %v", seed, got, want)
		}
	}
}

// What Needs leaves out changes nothing: engines need not read it.
func TestNeedsAreEnough(t *testing.T) {
	dropped := 0
	for seed := range uint64(cases) {
		c := newCase(seed)
		want := reference(t, c.plan, c.rows)
		needs := c.evaluator(t).Needs()
		read := make([]rows.Row, len(c.rows))
		for i, r := range c.rows {
			read[i] = c.blank(needs, r)
		}
		if got := reference(t, c.plan, read); !reflect.DeepEqual(got, want) {
			t.Fatalf("case %d: got %v, want %v", seed, got, want)
		}
		for _, p := range c.unbounded(t) {
			if _, kept := byKey(want)[strings.Join(p.Key, "\x00")]; !kept {
				dropped++
			}
		}
	}
	if dropped == 0 {
		t.Error("no case drops a partition")
	}
}

// randomCase is a policy, a plan and rows that meet every edge often: few customers and values, so that
// rows repeat; times at the edges of days, blocks and clock changes; bounds so small that they bind.
type randomCase struct {
	random  *rand.Rand
	plan    *plan.Plan
	rows    []rows.Row
	extreme bool // values reach the ends of 64 bits
}

func newCase(seed uint64) *randomCase {
	random := rand.New(rand.NewPCG(seed, 17))
	c := &randomCase{random: random, extreme: random.IntN(4) == 0}
	policy := c.policy()
	blocks := map[dp.Block][]string{
		dp.Month: {"2025-10", "2025-11", "2026-03"}, dp.Quarter: {"2025-Q4", "2026-Q1"}, dp.Year: {"2025", "2026"}, dp.All: {"all"},
	}[policy.Unit.Block]
	if policy.Time == nil {
		blocks = []string{"all"}
	}
	b := bounds{1 + random.Int64N(3), 1 + random.Int64N(3)}
	if random.IntN(8) == 0 {
		b = bounds{math.MaxInt64, math.MaxInt64}
	}
	c.plan = planOf(policy, blocks[:1+random.IntN(len(blocks))], b, c.tests(), c.keys(policy), c.columns()...)
	scan := &c.plan.Tree.Input.Input.Input.Input
	if random.IntN(3) == 0 {
		scan.Bounded, scan.From, scan.To = true, at("2025-10-20"), at("2026-03-29")
	}
	for range random.IntN(60) {
		c.rows = append(c.rows, c.row(policy))
	}
	return c
}

func (c *randomCase) policy() dp.Policy {
	p := dp.Policy{
		Name: "random",
		Unit: dp.Unit{Column: "id", Block: pick(c.random, dp.Month, dp.Quarter, dp.Year, dp.All)},
		Time: &dp.TimeColumn{Timezone: pick(c.random, "UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia")},
		Dimensions: []dp.Dimension{
			{Name: "shop", Type: dp.StringDimension, Values: []string{"a", "b", "else"}, Other: pick(c.random, "", "else")},
			{Name: "city", Type: dp.StringDimension, Private: true, Missing: pick(c.random, "", "unknown")},
			{Name: "age", Type: dp.IntDimension, Values: []string{"-10", "0", "10", "none"}, Bin: &dp.Bin{Step: 10, Up: c.random.IntN(2) == 0}, Missing: "none"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2}, {Name: "minutes"}},
		Derived: []dp.Derived{
			{Name: "region", Of: "city", Groups: []dp.LabelGroup{{Label: "west", Values: []string{"Köln", "unknown"}}, {Label: "south", Values: []string{"Ulm"}}}, Other: pick(c.random, "", "abroad")},
			{Name: "grown", Of: "age", Groups: []dp.LabelGroup{{Label: "no", Values: []string{"-10", "0"}}}, Other: "yes"},
			{Name: "side", Of: "region", Groups: []dp.LabelGroup{{Label: "this", Values: []string{"south"}}}, Other: "that"},
		},
	}
	if c.random.IntN(10) == 0 {
		p.Time, p.Unit.Block = nil, dp.All
	}
	p.Unit.Row = c.random.IntN(10) == 0
	return p
}

func (c *randomCase) keys(p dp.Policy) []plan.Key {
	var keys []plan.Key
	for i := range p.Dimensions {
		if c.random.IntN(2) == 0 {
			key := byDimension(p, i)
			if key.Domain != nil && c.random.IntN(3) == 0 {
				key.Domain = key.Domain[:2]
			}
			keys = append(keys, key)
		}
	}
	for i, d := range p.Derived {
		if fold, err := rows.NewFold(&p, i); c.random.IntN(4) == 0 && err == nil {
			keys = append(keys, plan.Key{Name: d.Name, Field: plan.Field{Index: fold.Base, Derived: 1 + i}, Domain: fold.Labels})
		}
	}
	if c.random.IntN(2) == 0 {
		unit := pick(c.random, rows.TimeUnits()...)
		keys = append(keys, plan.Key{Name: unit.Field(), Field: plan.Field{Kind: plan.TimeField, Unit: unit}})
	}
	return keys
}

func (c *randomCase) tests() []plan.Test {
	var tests []plan.Test
	if c.random.IntN(4) == 0 {
		tests = append(tests, plan.Test{Name: "shop", NotIn: []string{"b"}})
	}
	if c.random.IntN(4) == 0 {
		least := int64(-3)
		tests = append(tests, plan.Test{Name: "minutes", Field: plan.Field{Kind: plan.MeasureField, Index: 1}, Least: &least})
	}
	if c.random.IntN(4) == 0 {
		tests = append(tests, plan.Test{Name: "time.hour", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Hour}, In: []string{"00", "01", "23"}})
	}
	if c.random.IntN(4) == 0 {
		tests = append(tests, plan.Test{Name: "region", Field: plan.Field{Index: 1, Derived: 1}, In: []string{"south", "west"}})
	}
	return tests
}

func (c *randomCase) columns() []plan.Column {
	lower, upper := c.number(), c.number()
	if lower > upper {
		lower, upper = upper, lower
	}
	all := []plan.Column{
		{Count: plan.CountCustomers},
		{Count: plan.CountRows},
		{Count: plan.Total, Measure: c.random.IntN(2), Lower: lower, Upper: upper},
		{Count: plan.Centred, Measure: c.random.IntN(2), Lower: lower, Upper: upper},
		{Count: plan.CountMeasured, Measure: c.random.IntN(2)},
		{Count: plan.Squared, Measure: c.random.IntN(2), Lower: -3, Upper: 4},
		c.histogram(),
	}
	// Columns with tests of their own, some of which share them.
	for _, tests := range [][]plan.Test{c.tests(), c.tests()} {
		for range c.random.IntN(4) {
			own := pick(c.random, all...)
			own.Tests = tests
			all = append(all, own)
		}
	}
	c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+c.random.IntN(len(all))]
}

// histogram has bins of one value or of several, the last of them narrower or not.
func (c *randomCase) histogram() plan.Column {
	wide := 1 + c.random.Int64N(4)
	return plan.Column{Count: plan.Histogram, Measure: c.random.IntN(2), Lower: -7, Upper: 6, Bins: int(13/wide) + 1, BinWidth: wide}
}

func (c *randomCase) row(p dp.Policy) rows.Row {
	r := rows.Row{Customer: c.random.Uint64N(5)}
	if c.random.IntN(5) == 0 {
		r.Customer = math.MaxUint64 - r.Customer
	}
	if p.Time != nil {
		edge := pick(c.random, "2025-10-01", "2025-10-26", "2025-11-01", "2025-11-02", "2026-01-01", "2026-03-08", "2026-03-29", "2026-04-01")
		r.Time = at(edge) + pick[int64](c.random, -1, 0, 1, 3_599_999, 3_600_000, 7_200_000, -3_600_000, -3_600_001, 14_400_000)
	}
	optional := func(values ...string) rows.Text {
		if c.random.IntN(5) == 0 {
			return rows.Text{}
		}
		return text(pick(c.random, values...))
	}
	r.Dimensions = []rows.Text{optional("a", "b", "x"), optional("Köln", "1:a", "", "Ulm"), optional("-11", "-10", "-1", "0", "7", "10", "11", "9223372036854775807")}
	for range p.Measures {
		n := number(c.number())
		if c.random.IntN(5) == 0 {
			n = rows.Number{}
		}
		r.Measures = append(r.Measures, n)
	}
	return r
}

func (c *randomCase) number() int64 {
	if c.extreme {
		return pick[int64](c.random, math.MinInt64, math.MinInt64+1, -1, 0, 1, math.MaxInt64-1, math.MaxInt64)
	}
	return c.random.Int64N(21) - 10
}

func (c *randomCase) evaluator(t *testing.T) *Evaluator {
	t.Helper()
	e, err := Compile(c.plan)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// unbounded are the partitions before any bound.
func (c *randomCase) unbounded(t *testing.T) []Partition {
	free := *c.plan
	free.Tree.Input.Partitions, free.Tree.Input.Rows = math.MaxInt64, math.MaxInt64
	return reference(t, &free, c.rows)
}

func (c *randomCase) partitions() int64 {
	if c.plan.Policy.Unit.Row {
		return 1
	}
	return c.plan.Tree.Input.Partitions
}

// bound is what one (customer, block) may change of a column in one partition.
func (c *randomCase) bound(column plan.Column) *big.Int {
	linf := c.plan.Tree.Input.Rows
	if c.plan.Policy.Unit.Row {
		linf = 1
	}
	lower, upper := big.NewInt(column.Lower), big.NewInt(column.Upper)
	switch column.Count {
	case plan.CountCustomers:
		return big.NewInt(1)
	case plan.CountRows, plan.CountMeasured, plan.Histogram:
		return big.NewInt(linf)
	case plan.Total:
		if lower.CmpAbs(upper) > 0 {
			return lower.Abs(lower)
		}
		return upper.Abs(upper)
	}
	width := upper.Sub(upper, lower)
	if column.Count == plan.Squared {
		width.Mul(width, width)
	}
	return width.Mul(width, big.NewInt(linf))
}

// blank removes what an engine may leave out.
func (c *randomCase) blank(n Needs, r rows.Row) rows.Row {
	r.Dimensions, r.Measures = slices.Clone(r.Dimensions), slices.Clone(r.Measures)
	for i := range r.Dimensions {
		if !n.Dimensions[i] {
			r.Dimensions[i] = rows.Text{}
		}
	}
	for i := range r.Measures {
		if !n.Measures[i] {
			r.Measures[i] = rows.Number{}
		}
	}
	return r
}

func byKey(all []Partition) map[string][]int64 {
	m := make(map[string][]int64)
	for _, p := range all {
		m[strings.Join(p.Key, "\x00")] = p.Totals
	}
	return m
}

func union(a, b map[string][]int64) map[string]bool {
	keys := make(map[string]bool)
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	return keys
}

func value(of map[string][]int64, key string, at int) *big.Int {
	if totals, ok := of[key]; ok {
		return big.NewInt(totals[at])
	}
	return new(big.Int)
}

func pick[V any](random *rand.Rand, from ...V) V { return from[random.IntN(len(from))] }
