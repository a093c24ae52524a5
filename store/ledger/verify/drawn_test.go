package verify

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// shops are two datasets whose rows may be joined.
var shops = []string{"club", "shop"}

// openShops declares them, and two consumers with large allotments.
func (f *fixture) openShops(blocks ...dp.Block) {
	f.t.Helper()
	var kinds []string
	for i := range 40 {
		kinds = append(kinds, fmt.Sprintf("k%02d", i))
	}
	for i, name := range shops {
		_, _, err := f.office.ApplyPolicy(f.t.Context(), "root", dp.Policy{
			Name: name, Kind: dp.Transactions, Population: 1000,
			Unit: dp.Unit{Column: "customer", Block: blocks[i]}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "date"},
			Dimensions: []dp.Dimension{{Name: "kind", Type: dp.StringDimension, Values: kinds}, {Name: "city", Type: dp.StringDimension, Private: true}},
			Measures:   []dp.Measure{{Name: "amount", Upper: 100}},
			Metrics: []dp.Metric{
				{Name: "spread", Aggregate: dp.Variance, Measure: "amount"}, {Name: "deviation", Aggregate: dp.StdDev, Measure: "amount"},
				{Name: "middle", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.5"}, {Name: "high", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.9"},
				{Name: "few", Aggregate: dp.Rows}, {Name: "many", Aggregate: dp.Rows, Where: []dp.Condition{{Field: "amount", Gte: pointer("50")}}},
				{Name: "each", Aggregate: dp.Ratio, Numerator: "rows", Denominator: "customers"}, {Name: "average", Aggregate: dp.Mean, Measure: "amount"},
				{Name: "total", Aggregate: dp.Sum, Measure: "amount"},
			},
			Bounds: dp.Bounds{MaxPartitions: 40, MaxRows: 5},
			Cap:    dp.Budget{Epsilon: 600 * dp.EpsilonOne, Delta: 1e14}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 1e10},
			Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal}, Link: &dp.Link{Consent: "joined"},
		}, nil, "a test")
		f.must(err)
	}
	for _, name := range []string{"ann", "bob"} {
		f.hire(name)
		for _, d := range shops {
			f.allot(name, d, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 500 * dp.EpsilonOne, Delta: 1e14} })
		}
	}
}

// question is one at random: of every shape that decides how a draw counts over several blocks.
func question(random *rand.Rand) dp.Query {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	q := dp.Query{Dataset: shops[random.IntN(2)], Purpose: "reporting", From: pick("2026-01-01", "2026-02-10", "2025-11-05"), To: pick("2026-03-31", "2026-04-20", "2026-02-28")}
	q.Epsilon, q.Delta = pick("0.1", "0.37", "2", "0.0004"), pick("0", "1e-11", "1e-10", "3e-12")
	metrics := [][]string{{"customers"}, {"rows"}, {"total"}, {"customers", "rows"}, {"spread", "deviation", "few", "many"}, {"middle", "high"}, {"rows", "each", "customers"}, {"average", "rows", "customers"}}
	q.Metrics = metrics[random.IntN(len(metrics))]
	bys := [][]string{nil, {"kind"}, {"kind", "time.week"}, {"time.day"}, {"kind", "time.month"}, {"time.quarter"}, {"city"}, {"city", "time.month"}, {"time.hour"}, {"first.month"}, {"since.month", "kind"}}
	q.By = bys[random.IntN(len(bys))]
	switch random.IntN(6) {
	case 0:
		q.Cohorts = []dp.Cohort{{Dataset: shops[random.IntN(2)], AtLeast: 2, From: "2025-12-01", To: pick("2026-01-31", "2026-03-31")}}
	case 1:
		q.Cohorts = []dp.Cohort{{Where: []dp.Condition{{Field: "kind", In: []string{"k01"}}}}}
	case 2:
		q.Metrics, q.By = []string{"customers"}, []string{"funnel.step"}
		if random.IntN(2) == 0 {
			q.By = append(q.By, "first.month")
		}
		q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{{{Field: "kind", In: []string{"k01"}}}, {{Field: "kind", In: []string{"k02"}}}}}
	case 3:
		q.Where = []dp.Condition{{Field: "first.month", Gte: pointer("2026-02")}}
	}
	return q
}

func pointer[T any](v T) *T { return &v }

// draw asks a question of a plan's, and answers it; it is false where there is no such question.
func (f *fixture) draw(consumer, id string, q dp.Query, answered bool, datasets ...string) (answer.ChargeRequest, bool) {
	f.t.Helper()
	policy, err := f.Policy(f.t.Context(), q.Dataset)
	f.must(err)
	var others []dp.VersionedPolicy
	for _, name := range datasets {
		if name != q.Dataset {
			other, err := f.Policy(f.t.Context(), name)
			f.must(err)
			others = append(others, other)
		}
	}
	p, err := plan.Make(q, policy, []dp.Budget{policy.Cap}, plan.DefaultLimits(), others...)
	if err != nil {
		return answer.ChargeRequest{}, false
	}
	r := answer.ChargeRequest{Consumer: consumer, Dataset: q.Dataset, PolicyVersion: policy.Version, Purpose: "reporting", Plan: p.ID, Blocks: p.Blocks, Loss: p.Loss, Also: p.Also}
	c := f.charge(r)
	if !answered {
		return r, true
	}
	var names []string
	for _, m := range p.Metrics {
		names = append(names, m.Name)
	}
	_, err = f.Publish(f.t.Context(), c.Charge.ID, c.Attempt, answer.Outcome{Release: &dp.Release{
		ID: id, Dataset: q.Dataset, PolicyVersion: policy.Version, Plan: p.ID, AsOf: c.Charge.At, Confidence: "0.95", By: q.By, Metrics: names,
		GroupsMayBeHidden: p.GroupsMayBeHidden, Privacy: answer.Privacy(p), CanonicalQuery: string(p.Question),
		Charge: c.Charge, Blocks: c.Snapshot.Blocks, Also: c.Snapshot.Also, PublishedByAttempt: c.Attempt,
	}})
	f.must(err)
	return r, true
}

// TestWorstCaseOfDrawsIsThatOfTheServer asks at random what the planner can price, so that all that is known of how a release
// was drawn is read again from the log alone.
func TestWorstCaseOfDrawsIsThatOfTheServer(t *testing.T) {
	drawn, conservative, charges := 0, 0, 0
	for seed := range uint64(2) {
		f, random := newFixture(t), rand.New(rand.NewPCG(seed, 77))
		blocks := [][]dp.Block{{dp.Quarter, dp.Month}, {dp.All, dp.Month}}[seed]
		f.openShops(blocks...)
		for i := range 40 {
			consumer := []string{"ann", "bob"}[random.IntN(2)]
			id := fmt.Sprint("rel-", i)
			q := question(random)
			if blocks[slices.Index(shops, q.Dataset)] == dp.All && random.IntN(2) == 0 {
				q.From, q.To = "", ""
			}
			r, ok := f.draw(consumer, id, q, i%9 > 0, shops...)
			if !ok {
				continue
			}
			drawn++
			if other := map[string]string{"ann": "bob", "bob": "ann"}[consumer]; i%9 > 0 && random.IntN(5) == 0 {
				r.Consumer, r.Source = other, id
				f.charge(r)
			}
		}
		if seed == 1 {
			f.must(f.WriteOff(t.Context(), "root", "a test", &dp.Budget{Epsilon: 700 * dp.EpsilonOne}))
		}
		want := f.stated()
		f.close()
		g := fits(t, f.dir, Options{Witness: f.witness, WorstCase: true}).Guarantee
		got, err := g.JSON()
		f.must(err)
		same(t, "what the verifier works out", string(got), want)
		for _, d := range g.Datasets {
			for _, s := range d.Owners[0].Spent {
				if s.Scope == ofHistory {
					conservative, charges = conservative+int(s.Conservative), charges+int(s.Charges)
				}
			}
		}
	}
	if drawn < 50 || conservative == 0 || conservative > charges/2 {
		t.Errorf("of %d questions, %d of %d charges count by group privacy: the test shows less than it should", drawn, conservative, charges)
	}
}

// example is a ledger with one dataset, as the tables of dp/PRIVACY.md have it, and what an export of it says of all consumers.
func example(t *testing.T, limit dp.Budget, write func(f *fixture)) OwnerGuarantee {
	t.Helper()
	f := newFixture(t)
	var kinds []string
	for i := range 60 {
		kinds = append(kinds, fmt.Sprintf("k%02d", i))
	}
	_, _, err := f.office.ApplyPolicy(t.Context(), "root", dp.Policy{
		Name: "shop", Kind: dp.Custom, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{{Name: "kind", Type: dp.StringDimension, Values: kinds}}, Measures: []dp.Measure{{Name: "amount", Upper: 100}},
		Bounds: dp.Bounds{MaxPartitions: 60, MaxRows: 5}, Cap: limit, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 10_000_000},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}, nil, "a test")
	f.must(err)
	f.hire("ann")
	f.allot("ann", "shop", func(a *dp.Allotment) { a.Budget = limit })
	write(f)
	keys := keysOf(t, f.Status().ID, 1)
	return fitsExport(t, f.export(keys), wording()).Guarantee.Datasets[0].Owners[0]
}

// TestTablesOfPrivacyFollowFromAnExportedLog works the tables of dp/PRIVACY.md out from nothing but exports: group privacy
// (section 1), and several blocks, as accounting (section 3).
func TestTablesOfPrivacyFollowFromAnExportedLog(t *testing.T) {
	document, err := os.ReadFile("../../../dp/PRIVACY.md")
	if err != nil {
		t.Fatal(err)
	}
	short := func(text string) string {
		n, ok := new(big.Float).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		return n.Text('g', 4)
	}
	var rows []string
	for _, c := range []struct {
		name     string
		query    dp.Query
		answered bool
	}{
		{"customers by kind, Laplace", dp.Query{Metrics: []string{"customers"}, By: []string{"kind"}, Epsilon: "0.2", Delta: "0"}, true},
		{"customers by kind and month, Laplace", dp.Query{Metrics: []string{"customers"}, By: []string{"kind", "time.month"}, Epsilon: "0.2", Delta: "0"}, true},
		{"rows by kind and week, Gaussian", dp.Query{Metrics: []string{"rows"}, By: []string{"kind", "time.week"}, Epsilon: "0.2", Delta: "1e-11"}, true},
		{"rows by kind and day, Gaussian", dp.Query{Metrics: []string{"rows"}, By: []string{"kind", "time.day"}, Epsilon: "0.2", Delta: "1e-11"}, true},
		{"rows by kind and week, no outcome", dp.Query{Metrics: []string{"rows"}, By: []string{"kind", "time.week"}, Epsilon: "0.2", Delta: "1e-11"}, false},
	} {
		all := example(t, dp.Budget{Epsilon: 6 * dp.EpsilonOne, Delta: 1_000_000_000}, func(f *fixture) {
			q := c.query
			q.Dataset, q.Purpose, q.From, q.To = "shop", "reporting", "2026-01-01", "2026-03-31"
			if _, ok := f.draw("ann", "rel", q, c.answered, "shop"); !ok {
				t.Fatalf("%s: there is no such question", c.name)
			}
		})
		block, year := all.Spent[0], all.Spent[1]
		if block.Scope != ofBlock || year.Scope != ofYear || year.Name != "2026" || year.Blocks != 3 {
			t.Fatalf("%s: %+v", c.name, all.Spent)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s, %s | %s | %s, %s | %s |", c.name,
			short(block.Basic.Epsilon), short(block.Basic.Delta), short(block.Rho), short(year.Basic.Epsilon), short(year.Basic.Delta), short(year.Rho)))
	}
	for _, blocks := range []int{1, 2, 3, 12} {
		all := example(t, dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1_000_000_000}, func(f *fixture) { f.load("shop", "rows", months(0, blocks)) })
		history := all.Promises[2]
		if history.Scope != ofHistory || history.Blocks != int64(blocks) || history.Vacuous {
			t.Fatalf("%d blocks: %+v", blocks, history)
		}
		rows = append(rows, fmt.Sprintf("| %d | %s | %s |", blocks, history.Epsilon, short(history.Delta)))
	}
	for _, row := range rows {
		if !strings.Contains(string(document), row) {
			t.Errorf("PRIVACY.md lacks %s", row)
		}
	}
}
