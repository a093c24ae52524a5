package answer_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func market(partitions int64) dp.VersionedPolicy {
	p := shop()
	p.Unit.Block, p.Time = dp.Month, &dp.TimeColumn{Timezone: "UTC"}
	p.Bounds = dp.Bounds{MaxPartitions: partitions, MaxRows: 2}
	p.Dimensions = []dp.Dimension{
		{Name: "category", Type: dp.StringDimension, Values: []string{"a", "b", "c", "d"}},
		{Name: "region", Type: dp.StringDimension, Values: []string{"x", "y", "z"}},
		{Name: "city", Type: dp.StringDimension, Private: true},
	}
	p.Measures = []dp.Measure{{Name: "amount", Scale: 2, Upper: 300}}
	return p
}

func spending(by []string, levels ...[]string) dp.Query {
	return dp.Query{Dataset: "shop", Metrics: []string{"rows", "spend"},
		By: by, From: "2026-01-10", To: "2026-02-20", Purpose: "reporting", Reconcile: levels, Delta: "1e-8", Epsilon: "1"}
}

func sale(customer uint64, day, category, region string, cents int64) rows.Row {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	text := func(s string) rows.Text { return rows.Text{Valid: true, Value: s} }
	return rows.Row{Customer: customer, Time: at.UnixMilli() + int64(cents%1000), Dimensions: []rows.Text{text(category), text(region), {}}, Measures: []rows.Number{{Valid: true, Value: cents}}}
}

// at adds up partitions at a level, exactly.
func sumsAt(p *plan.Plan, level int, partitions []bounding.Partition, metric int) map[string]int64 {
	sums := map[string]int64{}
	for _, part := range partitions {
		key := part.Key
		if level >= 0 {
			key = p.KeyAt(level, key)
		}
		sums[strings.Join(key, "\x00")] += part.Totals[p.Metrics[metric].Columns[0]]
	}
	return sums
}

// TestRemovingOneCustomerBlockMovesAllLevelsByAtMostTheirSensitivity compares neighbours, whose customers do their worst:
// everything at the clamp, in as many groups as count, all within one group of some level. In units of the sensitivity
// that each level is drawn with, all levels together move by at most 1, and no level by more than its share; sums of
// squares that ignored how many groups fall together would be too small.
func TestRemovingOneCustomerBlockMovesAllLevelsByAtMostTheirSensitivity(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	keys := []string{"category", "region", "time.day", "time.month", "time.week"}
	values := map[string][]string{"category": {"a", "b", "c", "d"}, "region": {"x", "y", "z"}}
	reached, exceeded, largest := 0, 0, 0.0
	for range 1200 {
		policy := market(1 + random.Int64N(7))
		by := pick(random, keys, 2+random.IntN(3))
		var levels [][]string
		for range 1 + random.IntN(3) {
			levels = append(levels, pick(random, by, random.IntN(len(by))))
		}
		p, err := plan.Make(spending(by, levels...), policy, nil, plan.DefaultLimits())
		if err != nil {
			if code(err) == dp.CodeInvalidQuery && strings.Contains(err.Error(), "not nested") {
				continue
			}
			t.Fatal(err)
		}
		all := crowd(random, values)
		victim := all[random.IntN(len(all))]
		month := time.UnixMilli(victim.Time).UTC().Month()
		without := slices.DeleteFunc(slices.Clone(all), func(r rows.Row) bool {
			return r.Customer == victim.Customer && time.UnixMilli(r.Time).UTC().Month() == month
		})
		before, after := reference(t, p, all), reference(t, p, without)
		l0 := p.Tree.Input.Partitions
		for i, m := range p.Metrics {
			bound := map[string]int64{"rows": 2, "spend": 300}[m.Name] // Linf, and the clamp
			moved := 0.0
			for level := -1; level < len(p.Levels); level++ {
				a, b := sumsAt(p, level, before, i), sumsAt(p, level, after, i)
				var l1, l2, changed int64
				for key, v := range a {
					d := v - b[key]
					if d != 0 {
						changed++
					}
					l1, l2 = l1+max(d, -d), l2+d*d
				}
				fold, draw := int64(1), m.Vector.Draw(0)
				if level >= 0 {
					fold, draw = p.Levels[level].Fold, p.Levels[level].Vectors[i].Draw(0)
				}
				squares := (l0/fold*fold*fold + (l0%fold)*(l0%fold)) * bound * bound
				if l2 > squares || l1 > l0*bound || changed > l0 {
					t.Fatalf("by %v at level %d: %s changed by L1 %d and squares %d in %d groups; L0 is %d, fold %d", by, level, m.Name, l1, l2, changed, l0, fold)
				}
				if level >= 0 && fold > 1 && l2 == squares {
					reached++
				}
				if l2 > l0*bound*bound {
					exceeded++
				}
				moved += float64(l2) / (float64(draw.L0) * float64(draw.Bound) * float64(draw.Bound))
			}
			if moved > 1 {
				t.Fatalf("by %v: all levels of %s move by %g", by, m.Name, moved)
			}
			largest = max(largest, moved)
		}
	}
	if reached < 20 || exceeded < 20 || largest < 0.99 {
		t.Errorf("the cases are too tame to show anything: %d reach the squares of a level, %d exceed those of the finest, together they move by up to %g", reached, exceeded, largest)
	}
}

func pick(random *rand.Rand, from []string, n int) []string {
	from = slices.Clone(from)
	random.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	return from[:n]
}

// crowd is a few customers, of whom some spend all they can in one day, category or region.
func crowd(random *rand.Rand, values map[string][]string) (all []rows.Row) {
	for customer := range uint64(4) {
		held := random.IntN(4)
		day, category, region := random.IntN(42), random.IntN(4), random.IntN(3)
		for range 30 + random.IntN(100) {
			d, c, r := random.IntN(42), random.IntN(4), random.IntN(3)
			switch held {
			case 1:
				d = day
			case 2:
				c = category
			case 3:
				r, d = region, day+random.IntN(3)
			}
			date := time.Date(2026, 1, 10+d, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
			all = append(all, sale(customer, date, values["category"][c], values["region"][r], 300))
		}
	}
	return all
}

func reference(t *testing.T, p *plan.Plan, all []rows.Row) []bounding.Partition {
	t.Helper()
	partitions, err := bounding.Reference(p, []byte("salt"), all)
	if err != nil {
		t.Fatal(err)
	}
	return partitions
}

func TestLevelsAreSumsOfTheSameBoundedRows(t *testing.T) {
	m := newMemory(market(3), shop().Cap)
	random := rand.New(rand.NewPCG(13, 14))
	all := crowd(random, map[string][]string{"category": {"a", "b", "c", "d"}, "region": {"x", "y", "z"}})
	q := spending([]string{"category", "region", "time.month"}, []string{}, []string{"category", "time.month"}, []string{"category"}, []string{"time.month", "category"})
	a := ask(t, newReader(m, reader{all}, exact{}, plan.DefaultLimits()), ann, q, "")
	r := a.Release
	if !reflect.DeepEqual(r.Levels, [][]string{{"category", "time.month"}, {"category"}, {}}) || len(r.Groups) != 24+8+4+1 {
		t.Fatalf("its levels are %v, %d groups", r.Levels, len(r.Groups))
	}
	p, err := plan.Make(q, market(3), nil, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	partitions := reference(t, p, all)
	for i, metric := range []string{"rows", "spend"} {
		unit := []float64{1, 100}[i]
		for level := -1; level < 3; level++ {
			sums, seen := sumsAt(p, level, partitions, i), 0
			for _, g := range r.Groups {
				if g.Level != level+1 {
					continue
				}
				seen++
				if want := float64(sums[strings.Join(g.Key, "\x00")]) / unit; math.Abs(g.Values[i].Value-want) > 1e-9 {
					t.Errorf("%s of %q at level %d is %g, not %g", metric, g.Key, g.Level, g.Values[i].Value, want)
				}
			}
			if seen < len(sums) {
				t.Errorf("level %d has %d groups of %d", level+1, seen, len(sums))
			}
		}
	}
	if total := r.Groups[len(r.Groups)-1]; total.Values[0].Value == 0 || !(total.Values[0].SD < p.Levels[2].Vectors[0].Draw(0).SD()) {
		t.Errorf("the total is %+v, drawn with %+v", total, p.Levels[2].Vectors[0])
	}
}

func TestReconciledPlanIsPaidForEveryLevel(t *testing.T) {
	policy := market(4)
	flat, err := plan.Make(spending([]string{"category", "region"}), policy, nil, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(spending([]string{"category", "region"}, []string{"category"}, nil), policy, nil, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if p.Loss.Epsilon != dp.EpsilonOne || p.Loss.Delta != dp.Delta(1e10) || p.Loss.Rho >= dp.RhoOne/2 || p.Loss.DeltaZ != 2*4*3*5000 || p.ID == flat.ID {
		t.Errorf("it costs %+v", p.Loss)
	}
	for i, m := range p.Metrics {
		for level, v := range []mechanism.Vector{m.Vector, p.Levels[0].Vectors[i], p.Levels[1].Vectors[i]} {
			if v.Kind != mechanism.Gaussian || v.Epsilon != dp.EpsilonOne/2 || v.Delta != dp.Delta(5e9)-4*3*5000 {
				t.Errorf("level %d of %s is drawn with %+v", level, m.Name, v)
			}
		}
	}
	spelled, err := plan.Make(spending([]string{"region", "category"}, []string{}, []string{"category", "category"}), policy, nil, plan.DefaultLimits())
	if err != nil || spelled.ID != p.ID {
		t.Errorf("another spelling is another plan: %v", err)
	}
}

func TestLevelsThatDoNotAddUpAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dp.Query)
		path   string
	}{
		"private keys":      {func(q *dp.Query) { q.By = append(q.By, "city") }, "reconcile"},
		"customers":         {func(q *dp.Query) { q.Metrics = append(q.Metrics, "customers") }, "reconcile"},
		"unknown key":       {func(q *dp.Query) { q.Reconcile = [][]string{{"time.day"}} }, "reconcile[0]"},
		"the finest":        {func(q *dp.Query) { q.Reconcile = [][]string{{"region", "category"}} }, "reconcile[0]"},
		"within":            {func(q *dp.Query) { q.Epsilon, q.Delta, q.Within = "", "", map[string]string{"rows": "10"} }, "within"},
		"no delta":          {func(q *dp.Query) { q.Delta = "0" }, "reconcile"},
		"sign without need": {func(q *dp.Query) { q.Reconcile, q.NonNegative = nil, true }, "non_negative"},
		"too many": {func(q *dp.Query) {
			for range 13 {
				q.Reconcile = append(q.Reconcile, []string{"region"})
			}
		}, "reconcile"},
	} {
		q := spending([]string{"category", "region"}, []string{"category"})
		c.change(&q)
		_, err := plan.Make(q, market(3), nil, plan.DefaultLimits())
		var refused *dp.Error
		if refused, _ = err.(*dp.Error); refused == nil || refused.Code != dp.CodeInvalidQuery || refused.Locations[0].Path != c.path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNonNegativeAnswersHoldTheirFigures(t *testing.T) {
	m := newMemory(market(3), shop().Cap)
	q := spending([]string{"category", "region", "time.week"}, []string{"category", "region"}, []string{"category"}, []string{})
	q.NonNegative = true
	r := ask(t, newReader(m, reader{[]rows.Row{sale(1, "2026-01-12", "a", "x", 300)}}, mechanism.Secure(), plan.DefaultLimits()), ann, q, "").Release
	zeros := 0
	sums := map[int]float64{}
	for _, g := range r.Groups {
		for i, v := range g.Values {
			if v.Value < 0 || v.Low < 0 || v.Low > v.Value || v.High < v.Value {
				t.Errorf("%q has %+v", g.Key, v)
			}
			if v.Value == 0 {
				zeros++
			}
			if i == 1 {
				sums[g.Level] += v.Value
			}
		}
	}
	if zeros == 0 || math.Abs(sums[0]-sums[3]) > 1e-6 || math.Abs(sums[1]-sums[3]) > 1e-6 {
		t.Errorf("%d figures are 0; levels add up to %v", zeros, sums)
	}
}

func TestSumsOfLevelsNeverWrap(t *testing.T) {
	policy := market(7)
	m := newMemory(policy, shop().Cap)
	q := spending([]string{"category"}, []string{})
	q.Metrics = []string{"rows"}
	e := &engine{m: m}
	for _, c := range []string{"a", "b", "c", "d"} {
		e.partitions = append(e.partitions, bounding.Partition{Key: []string{c}, Totals: []int64{math.MaxInt64}})
	}
	m.policy = policy
	r := ask(t, newService(m, e, exact{}), ann, q, "").Release
	most := new(big.Int).Lsh(big.NewInt(1), 62)
	if got := r.NoisedCoordinates[4][0]; got != most.Int64() {
		t.Errorf("four of the largest numbers add up to %d", got)
	}
}
