package bounding_test

import (
	"fmt"
	"math"
	"math/rand/v2"
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

// The lemma of several blocks (dp/PRIVACY.md, "Several blocks of one customer") by brute force: of random questions over
// random small histories, leaving out any (customer, block) of any dataset changes the exact figures by no more than the
// block is charged for, and leaving out one that is not charged changes nothing.
func TestRemovingOneBlockChangesSeveralBlocksByAtMostWhatItIsChargedFor(t *testing.T) {
	const worlds = 4000
	reached := make(map[string]float64) // by kind of question, noise and metric: the largest part of the price
	for seed := range uint64(worlds) {
		random := rand.New(rand.NewPCG(seed, 5))
		q := severalQuestion(random)
		usage, cards := severalPolicy("usage"), severalPolicy("cards")
		// Blocks of another length, that begin at other moments; and labels that nobody declared.
		cards.Unit.Block = []dp.Block{dp.Month, dp.Quarter, dp.Year, dp.All}[random.IntN(4)]
		cards.Time.Timezone = []string{"UTC", "Pacific/Auckland", "America/Lima"}[random.IntN(3)]
		if random.IntN(4) == 0 {
			at := random.IntN(2)
			usage.Dimensions[at].Private, usage.Dimensions[at].Values = true, nil
			if q.Delta == "0" {
				q.Delta = "1e-7"
			}
		}
		policies := map[string]dp.Policy{"usage": usage.Policy, "cards": cards.Policy}
		p, err := plan.Make(q, usage, nil, plan.DefaultLimits(), cards)
		if err != nil {
			t.Fatalf("world %d: %v of %+v", seed, err, q)
		}
		all := world(random)
		exact := figuresOf(t, p, all)
		for _, removed := range unitsOf(t, policies, all) {
			without := map[string][]rows.Row{}
			for dataset, of := range all {
				without[dataset] = slices.DeleteFunc(slices.Clone(of), func(r rows.Row) bool {
					return dataset == removed.dataset && r.Customer == removed.customer && blockOf(t, policies[dataset], r) == removed.block
				})
			}
			changes := changesOf(exact, figuresOf(t, p, without))
			paid, charged := paidBy(p, removed)
			if !charged {
				if len(changes) > 0 {
					t.Fatalf("world %d: a block that is not charged changes %v of %+v", seed, changes, q)
				}
				continue
			}
			lost, kind := lossOf(p, changes)
			if lost.epsilon > float64(paid.Epsilon)*(1+1e-9) || lost.rho > float64(paid.Rho)*(1+1e-9) || lost.delta > float64(paid.DeltaZ) {
				t.Fatalf("world %d: leaving out %+v changes by epsilon %v of %v, rho %v of %v, delta %v of %v: %+v", seed, removed,
					lost.epsilon, paid.Epsilon, lost.rho, paid.Rho, lost.delta, paid.DeltaZ, q)
			}
			name := kindOf(q) + " " + kind + " " + strings.Join(q.Metrics, " ")
			part := lost.rho / float64(paid.Rho)
			if kind == "laplace" {
				part = lost.epsilon / float64(paid.Epsilon)
			}
			reached[name] = max(reached[name], part)
		}
	}
	// Bounds that nothing reaches would show nothing.
	for name, least := range map[string]float64{
		"cohort laplace customers": 1, "cohort laplace rows": 0.8, "cohort laplace spent": 0.8, "join laplace customers": 1, "join laplace rows": 1,
		"funnel laplace customers": 1, "first laplace customers": 0.99, "first laplace rows": 0.8,
		"cohort gaussian customers": 0.99, "cohort gaussian rows": 0.99, "funnel gaussian customers": 0.99, "first gaussian customers": 0.99,
	} {
		if reached[name] < least-1e-6 {
			t.Errorf("%s reached %.3f of its price: the worlds are too tame", name, reached[name])
		}
	}
}

// paidBy is what a block is charged.
func paidBy(p *plan.Plan, u unit) (loss dp.Loss, charged bool) {
	if u.dataset == p.Policy.Name && slices.Contains(p.Blocks, u.block) {
		return p.Loss, true
	}
	for _, t := range p.Also {
		if u.dataset == t.Dataset && slices.Contains(t.Blocks, u.block) {
			return t.Loss, true
		}
	}
	return dp.Loss{}, false
}

// loss is what changes tell, in the units of dp.Epsilon, dp.Rho and dp.Delta. Gaussian noise has no epsilon of its own.
type loss struct{ epsilon, rho, delta float64 }

// change is that of one partition.
type change struct {
	by   []int64 // of each exact figure
	lone bool    // no other customer is in the partition
}

// cut is what each number costs in delta that gets Gaussian noise and changes (dp/PRIVACY.md 6).
const cut = 5000

// lossOf adds up what each noised number tells: a shift of d under Laplace noise of scale b tells d/b and has a rho of
// f(d/b), under Gaussian noise d^2/(2 sigma^2) and its cut (dp/PRIVACY.md 5, 6). A partition that is shown because of this
// customer alone tells of it by as much as the threshold fails (8).
func lossOf(p *plan.Plan, changes []change) (sum loss, kind string) {
	add := func(draw mechanism.Draw, change int64) {
		d := math.Abs(float64(change))
		if draw.Kind == mechanism.Gaussian && d > 0 {
			sigma2 := draw.SD()*draw.SD() - 1.0/12 // the rest is rounding's
			sum.rho += d * d / (2 * sigma2) * float64(dp.RhoOne)
			sum.delta += cut
			return
		}
		e := d * float64(draw.Epsilon) / float64(draw.L0*draw.Bound)
		sum.epsilon += e
		e /= float64(dp.EpsilonOne)
		sum.rho += (e + math.Exp(-e) - 1) * float64(dp.RhoOne)
	}
	for at, m := range p.Metrics {
		kind = string(m.Vector.Kind)
		if m.Drawn != at {
			continue
		}
		for i, column := range m.Columns {
			for _, of := range changes {
				from := p.Tree.At(column)
				if m.Tree.Leaves == 0 {
					add(m.Vector.Draw(i), of.by[from])
					continue
				}
				// All levels have one noise.
				for _, node := range m.Tree.Counts(of.by[from : from+m.Tree.Leaves]) {
					add(m.Vector.Draw(0), node)
				}
			}
		}
	}
	if p.Selection == nil {
		return sum, kind
	}
	fails := float64(p.Selection.Delta)
	if p.Selection.Kind == mechanism.Gaussian {
		fails = (fails - cut*float64(p.Selection.Partitions)) / 2
	}
	for _, of := range changes {
		if p.SelectedBy < 0 {
			add(p.Selection.Draw(), of.by[p.Tree.At(p.SelectionColumn())])
		}
		if of.lone {
			sum.delta += fails / float64(p.Selection.Partitions)
		}
	}
	return sum, kind
}

func kindOf(q dp.Query) string {
	switch {
	case q.Funnel != nil:
		return "funnel"
	case q.First != nil || slices.ContainsFunc(q.By, func(k string) bool { return strings.HasPrefix(k, "first.") || strings.HasPrefix(k, "since.") }):
		return "first"
	case slices.ContainsFunc(q.Cohorts, func(c dp.Cohort) bool { return c.Dataset == "cards" }):
		return "join"
	}
	return "cohort"
}

func severalPolicy(name string) dp.VersionedPolicy {
	least := "2"
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: name, Kind: dp.Custom, Population: 1000, Unit: dp.Unit{Column: "c", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "t", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{
			{Name: "kind", Column: "kind", Type: dp.StringDimension, Values: []string{"a", "b", "c"}},
			{Name: "variant", Column: "variant", Type: dp.StringDimension, Values: []string{"x", "y"}},
		},
		Derived:  []dp.Derived{{Name: "band", Of: "kind", Groups: []dp.LabelGroup{{Label: "low", Values: []string{"a", "b"}}}, Other: "high"}},
		Measures: []dp.Measure{{Name: "n", Column: "n", Lower: -3, Upper: 5}},
		Metrics: []dp.Metric{
			{Name: "spent", Aggregate: dp.Sum, Measure: "n"}, {Name: "average", Aggregate: dp.Mean, Measure: "n"},
			{Name: "spread", Aggregate: dp.Variance, Measure: "n"}, {Name: "middle", Aggregate: dp.Quantile, Measure: "n", Rank: "0.5"},
			{Name: "active_days", Aggregate: dp.Days}, {Name: "visits", Aggregate: dp.Sessions},
			{Name: "of_each", Aggregate: dp.Mean, Measure: "n", Per: dp.PerCustomer},
			{Name: "with_two", Aggregate: dp.Customers, Where: []dp.Condition{{Field: "n", Gte: &least}}},
		},
		Bounds: dp.Bounds{MaxPartitions: 3, MaxRows: 2}, Cap: dp.Budget{Epsilon: 100 * dp.EpsilonOne, Delta: 1e8},
		Default: dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1e7}, Purposes: []string{"p"}, Audiences: []dp.Audience{dp.Internal},
		Link: &dp.Link{Consent: "agreed"},
	}}
}

// severalQuestion is a random question over January to March, at most.
func severalQuestion(random *rand.Rand) (q dp.Query) {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	where := func(kinds ...string) []dp.Condition {
		kind := pick(kinds...)
		return []dp.Condition{{Field: "kind", Eq: &kind}}
	}
	q = dp.Query{Dataset: "usage", Metrics: [][]string{
		{"customers"}, {"customers"}, {"rows"}, {"rows"}, {"spent"}, {"spent"},
		{"average"}, {"customers", "rows", "spent"}, {"spread", "middle"}, {"active_days", "visits"}, {"of_each", "with_two"},
	}[random.IntN(11)], Purpose: "p", From: "2026-01-10", To: pick("2026-01-31", "2026-02-20", "2026-03-31"), Epsilon: "0.5", Delta: "0"}
	exact := random.IntN(2) == 0
	defer func() {
		if exact { // of least rho, which is Gaussian noise's
			q.Epsilon, q.Delta, q.Within = "", "1e-7", map[string]string{}
			for _, m := range q.Metrics {
				q.Within[m] = "40"
			}
		}
	}()
	if random.IntN(3) == 0 {
		q.Where = where("a", "b")
	}
	switch random.IntN(4) {
	case 0, 1:
		for range 1 + random.IntN(2) {
			c := dp.Cohort{Where: where("a", "b", "c"), AtLeast: int64(1 + random.IntN(2))}
			if random.IntN(2) == 0 {
				c.Dataset = "cards"
			}
			if random.IntN(2) == 0 {
				c.From, c.To = "2026-02-01", pick("2026-02-28", "2026-04-30")
			}
			if random.IntN(4) == 0 {
				most := int64(1)
				c.AtLeast, c.AtMost = 0, &most
			}
			q.Cohorts = append(q.Cohorts, c)
		}
		q.By = [][]string{nil, {"kind"}, {"time.month"}, {"kind", "time.month"}, {"time.week"}, {"band", "kind"}}[random.IntN(6)]
		if random.IntN(4) == 0 {
			q.By = append(q.By, "first.variant")
		}
	case 2:
		q.By = [][]string{{"first.month"}, {"since.month"}, {"first.month", "since.month"}, {"first.week", "time.month"}, {"first.variant"}, {"first.variant", "kind"}, {"since.week"}, {"first.band", "band"}, {"first.band", "first.kind"}}[random.IntN(9)]
		if random.IntN(2) == 0 {
			q.First = where("a", "b", "c")
		}
		if random.IntN(3) == 0 {
			last := pick("2026-01", "2026-02")
			q.Where = append(q.Where, dp.Condition{Field: "first.month", Lte: &last})
		}
		if random.IntN(3) == 0 {
			q.Where = append(q.Where, dp.Condition{Field: "since.month", In: []string{"0", "2"}})
		}
	case 3:
		q.Where, q.Metrics, q.By = nil, []string{"customers"}, []string{"funnel.step"}
		q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{where("a"), where("b"), where("c", "a")}[:2+random.IntN(2)], Within: pick("", "7d", "24h")}
		if random.IntN(2) == 0 {
			q.By = append(q.By, pick("first.variant", "first.month"))
		}
		if random.IntN(3) == 0 {
			q.Cohorts = []dp.Cohort{{Where: where("b"), Dataset: pick("", "cards")}}
		}
	}
	return q
}

// world is a history of few customers with many coincidences, in both datasets and also where nobody asks.
func world(random *rand.Rand) map[string][]rows.Row {
	all := map[string][]rows.Row{}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	many := 2 + random.IntN(14)
	for _, dataset := range []string{"usage", "cards"} {
		for customer := range uint64(2) {
			agrees := random.IntN(4)
			for range random.IntN(many) {
				at := start.AddDate(0, 0, random.IntN(120))
				all[dataset] = append(all[dataset], rows.Row{
					Customer: customer, Time: at.UnixMilli(),
					Dimensions: []rows.Text{{Value: string("abc"[random.IntN(3)]), Valid: true}, {Value: string("xy"[random.IntN(2)]), Valid: true}},
					Measures:   []rows.Number{{Value: int64(random.IntN(13) - 5), Valid: random.IntN(8) > 0}},
					Consented:  random.IntN(4) < agrees,
				})
			}
		}
	}
	return all
}

type unit struct {
	dataset  string
	customer uint64
	block    string
}

func unitsOf(t *testing.T, policies map[string]dp.Policy, all map[string][]rows.Row) (units []unit) {
	for dataset, of := range all {
		for _, r := range of {
			u := unit{dataset, r.Customer, blockOf(t, policies[dataset], r)}
			if !slices.Contains(units, u) {
				units = append(units, u)
			}
		}
	}
	return units
}

func blockOf(t *testing.T, p dp.Policy, r rows.Row) string {
	t.Helper()
	zone, err := rows.Location(&p)
	if err != nil {
		t.Fatal(err)
	}
	return rows.BlockOf(r.Time, p.Unit.Block, zone)
}

func figuresOf(t *testing.T, p *plan.Plan, all map[string][]rows.Row) map[string][]int64 {
	t.Helper()
	partitions, err := bounding.ReferenceSeveral(p, []byte("salt"), all)
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]bool{}
	hides := p.GroupsMayBeHidden
	for _, key := range p.Groups() {
		public[fmt.Sprint(key)] = true
	}
	figures := map[string][]int64{}
	for _, of := range partitions {
		if !hides && !public[fmt.Sprint(of.Key)] {
			t.Fatalf("the partition %q is no group of %s", of.Key, p.Canonical)
		}
		figures[fmt.Sprint(of.Key)] = of.Totals
	}
	return figures
}

// changesOf are the differences in each partition that has any.
func changesOf(before, after map[string][]int64) (changes []change) {
	for key, of := range before {
		by := slices.Clone(of)
		for i, v := range after[key] {
			by[i] -= v
		}
		changes = append(changes, change{by, after[key] == nil})
	}
	for key, of := range after {
		if before[key] == nil {
			by := slices.Clone(of)
			for i := range by {
				by[i] = -by[i]
			}
			changes = append(changes, change{by, true})
		}
	}
	return slices.DeleteFunc(changes, func(c change) bool {
		return !slices.ContainsFunc(c.by, func(v int64) bool { return v != 0 })
	})
}
