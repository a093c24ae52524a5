package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// usage is a dataset that can be joined with cards once both name a column of consent.
func usage() dp.VersionedPolicy {
	p := cards()
	p.Name, p.Version, p.Unit.Block = "usage", 7, dp.Quarter
	p.Link = &dp.Link{Consent: "linked_at"}
	return p
}

func linkedCards() dp.VersionedPolicy {
	p := cards()
	p.Link = &dp.Link{Consent: "linked_at"}
	return p
}

func isGrocery() []dp.Condition { return []dp.Condition{{Field: "category", Eq: text("grocery")}} }

// prices are what each touched block pays, as dataset/block:epsilon.
func prices(p *plan.Plan) string {
	var all []string
	add := func(dataset string, blocks []string, loss dp.Loss) {
		for _, b := range blocks {
			all = append(all, fmt.Sprintf("%s/%s:%s", dataset, b, loss.Epsilon))
		}
	}
	add(p.Policy.Name, p.Blocks, p.Loss)
	for _, t := range p.Also {
		add(t.Dataset, t.Blocks, t.Loss)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestEveryBlockThatCanMatterIsChargedByHowFarItReaches(t *testing.T) {
	for name, c := range map[string]struct {
		ask  func(*dp.Query)
		want string
	}{
		"no profile": {func(*dp.Query) {}, "cards/2026-01:0.6 cards/2026-02:0.6 cards/2026-03:0.6"},
		"a cohort of one month": {
			func(q *dp.Query) {
				q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2026-03-05", To: "2026-03-06"}}
			},
			"cards/2026-01:0.2 cards/2026-02:0.2 cards/2026-03:0.6",
		},
		"a cohort of a month before": {
			func(q *dp.Query) {
				q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2025-12-31", To: "2025-12-31"}}
			},
			"cards/2025-12:0.6 cards/2026-01:0.2 cards/2026-02:0.2 cards/2026-03:0.2",
		},
		"a join": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Dataset: "usage", From: "2025-12-31", To: "2026-01-01"}} },
			"cards/2026-01:0.2 cards/2026-02:0.2 cards/2026-03:0.2 usage/2025-Q4:0.6 usage/2026-Q1:0.6",
		},
		"first appearances": {
			func(q *dp.Query) { q.By = []string{"first.month"} },
			"cards/2026-01:0.6 cards/2026-02:0.6 cards/2026-03:0.6",
		},
		"first appearances of a cohort": { // of 5 and of 3 blocks
			func(q *dp.Query) {
				q.By = []string{"first.month"}
				q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2025-12-31", To: "2025-12-31"}}
			},
			"cards/2025-12:0.36 cards/2026-01:0.6 cards/2026-02:0.6 cards/2026-03:0.6",
		},
		"a funnel of a cohort": {
			func(q *dp.Query) {
				q.Metrics, q.By = []string{"customers"}, []string{"funnel.step"}
				q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{isGrocery(), isGrocery()}}
				q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2025-12-31", To: "2025-12-31"}}
			},
			"cards/2025-12:0.6 cards/2026-01:0.6 cards/2026-02:0.6 cards/2026-03:0.6",
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := question()
			q.Metrics, q.Epsilon, q.Delta = []string{"rows"}, "0.6", "0"
			c.ask(&q)
			p, err := plan.Make(q, linkedCards(), nil, plan.DefaultLimits(), usage())
			if err != nil {
				t.Fatal(err)
			}
			if got := prices(p); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if p.MostLoss().Epsilon != dp.EpsilonOne*6/10 {
				t.Errorf("the dearest block pays %s, asked was 0.6", p.MostLoss().Epsilon)
			}
		})
	}
}

func TestCustomersWithoutGroupsCostNoMoreForACohort(t *testing.T) {
	q := question()
	q.Epsilon, q.Delta = "0.6", "0"
	plain := mustMake(t, q)
	q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2026-03-05", To: "2026-03-06"}}
	of := mustMake(t, q)
	// One number changes by one at most, whatever the blocks.
	if of.Metrics[0].SD != plain.Metrics[0].SD || prices(of) != "cards/2026-01:0.6 cards/2026-02:0.6 cards/2026-03:0.6" {
		t.Errorf("noise of %v for %s, without a cohort %v", of.Metrics[0].SD, prices(of), plain.Metrics[0].SD)
	}
}

func TestPriceAboveWhatIsSpentAtMostIsThatOfTheDearestBlock(t *testing.T) {
	q := question()
	q.Metrics, q.Epsilon, q.Delta, q.SpendAtMost = []string{"rows"}, "0.6", "0", "0.5"
	q.Cohorts = []dp.Cohort{{Dataset: "usage"}}
	_, err := plan.Make(q, linkedCards(), nil, plan.DefaultLimits(), usage())
	if err == nil || !strings.Contains(err.Error(), "0.6") {
		t.Errorf("got %v, of a block of the other dataset that pays 0.6", err)
	}
}

func TestSpellingOfAProfileDoesNotChangeAPlan(t *testing.T) {
	most := int64(4)
	a, b := question(), question()
	a.Cohorts = []dp.Cohort{{Where: isGrocery()}, {Dataset: "usage", AtMost: &most}}
	b.Cohorts = []dp.Cohort{{Dataset: "usage", AtMost: &most, From: a.From, To: a.To}, {Dataset: "cards", Where: isGrocery(), AtLeast: 1}, {Where: append(isGrocery(), isGrocery()...)}}
	a.By, b.By = []string{"first.week", "since.week"}, []string{"since.week", "first.week"}
	a.Where, b.Where, b.First = isGrocery(), isGrocery(), isGrocery()
	one, err := plan.Make(a, linkedCards(), nil, plan.DefaultLimits(), usage())
	if err != nil {
		t.Fatal(err)
	}
	other, err := plan.Make(b, linkedCards(), nil, plan.DefaultLimits(), usage())
	if err != nil {
		t.Fatal(err)
	}
	if one.ID != other.ID {
		t.Errorf("%s\n%s", one.Canonical, other.Canonical)
	}
	if !strings.Contains(string(one.Question), `"policy_version":7`) {
		t.Errorf("the version of the other dataset's policy is not part of %s", one.Question)
	}
}

func TestFirstAppearanceThatNothingReadsCostsNothing(t *testing.T) {
	q := question()
	q.Where = isGrocery()
	plain := mustMake(t, q)
	q.First = isGrocery()
	if p := mustMake(t, q); p.ID != plain.ID || p.Loss != plain.Loss {
		t.Errorf("%s for %s, without first %s", p.Canonical, p.Loss.Epsilon, plain.Loss.Epsilon)
	}
}

func TestDifferentProfilesAreDifferentPlans(t *testing.T) {
	none := int64(0)
	ids := map[string]string{}
	for name, ask := range map[string]func(*dp.Query){
		"none":                       func(*dp.Query) {},
		"cohort":                     func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: isGrocery()}} },
		"of two rows":                func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: isGrocery(), AtLeast: 2}} },
		"who did not":                func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: isGrocery(), AtMost: &none}} },
		"of another range":           func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: isGrocery(), From: "2026-01-01", To: "2026-01-02"}} },
		"joined":                     func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Dataset: "usage", Where: isGrocery()}} },
		"first of all, of groceries": func(q *dp.Query) { q.First, q.Where = []dp.Condition{}, isGrocery() },
		"groceries":                  func(q *dp.Query) { q.Where = isGrocery() },
		"first of some":              func(q *dp.Query) { q.First = isGrocery() },
		"first category":             func(q *dp.Query) { q.By = []string{"first.category"} },
		"category":                   func(q *dp.Query) { q.By = []string{"category"} },
		"funnel":                     funnel("", isGrocery(), isGrocery()),
		"funnel of an hour":          funnel("1h", isGrocery(), isGrocery()),
		"funnel of 2 hours":          funnel("2h", isGrocery(), isGrocery()),
		"funnel of 3":                funnel("", isGrocery(), isGrocery(), isGrocery()),
		"funnel of anything":         funnel("", isGrocery(), nil),
	} {
		q := question()
		ask(&q)
		p, err := plan.Make(q, linkedCards(), nil, plan.DefaultLimits(), usage())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if same := ids[p.ID]; same != "" {
			t.Errorf("%s and %s are one plan: %s", name, same, p.Canonical)
		}
		ids[p.ID] = name
	}
}

func funnel(within string, steps ...[]dp.Condition) func(*dp.Query) {
	return func(q *dp.Query) {
		q.By, q.Funnel = []string{"funnel.step"}, &dp.Funnel{Steps: steps, Within: within}
	}
}

func TestWhatHasNoBoundOrNoMeaningOverSeveralBlocksIsRefusedWithTheReason(t *testing.T) {
	most := int64(1)
	rowsOfTheirOwn, timeless := linkedCards(), linkedCards()
	rowsOfTheirOwn.Unit, rowsOfTheirOwn.Link = dp.Unit{Row: true, Block: dp.Month}, nil
	timeless.Time, timeless.Unit.Block = nil, dp.All
	for name, c := range map[string]struct {
		policy dp.VersionedPolicy
		ask    func(*dp.Query)
		path   string
		says   string
	}{
		"an unknown dataset": {linkedCards(), func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Dataset: "secret"}} }, "cohorts[0].dataset", "may ask"},
		"no consent":         {cards(), func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Dataset: "usage"}} }, "cohorts[0].dataset", "consent"},
		"bounds that cross":  {linkedCards(), func(q *dp.Query) { q.Cohorts = []dp.Cohort{{AtLeast: 2, AtMost: &most}} }, "cohorts[0].at_least", "second"},
		"a value of no domain": {linkedCards(), func(q *dp.Query) {
			q.Cohorts = []dp.Cohort{{Where: []dp.Condition{{Field: "category", Eq: text("yachts")}}}}
		}, "cohorts[0].where[0].eq", "not a value"},
		"a cohort's first": {linkedCards(), func(q *dp.Query) {
			q.Cohorts = []dp.Cohort{{Where: []dp.Condition{{Field: "first.month", Eq: text("2026-01")}}}}
		}, "cohorts[0].where", "customer"},
		"too many cohorts":         {linkedCards(), func(q *dp.Query) { q.Cohorts = make([]dp.Cohort, 6) }, "cohorts", "5"},
		"half a range":             {linkedCards(), func(q *dp.Query) { q.Cohorts = []dp.Cohort{{From: "2026-01-01"}} }, "cohorts[0].from", "both"},
		"rows of their own":        {rowsOfTheirOwn, func(q *dp.Query) { q.Cohorts = []dp.Cohort{{}} }, "cohorts[0]", "of its own"},
		"rows of their own, first": {rowsOfTheirOwn, func(q *dp.Query) { q.By = []string{"first.month"} }, "by[0]", "of its own"},
		"no time":                  {timeless, func(q *dp.Query) { q.From, q.To, q.By = "", "", []string{"first.category"} }, "by[0]", "time"},
		"first of an hour":         {linkedCards(), func(q *dp.Query) { q.By = []string{"first.hour"} }, "by[0]", "no groups"},
		"since an hour":            {linkedCards(), func(q *dp.Query) { q.By = []string{"since.hour"} }, "by[0]", "since.day"},
		"first of a measure":       {linkedCards(), func(q *dp.Query) { q.By = []string{"first.amount"} }, "by[0]", "no groups"},
		"first of a first":         {linkedCards(), func(q *dp.Query) { q.By = []string{"first.first.week"} }, "by[0]", "not a field"},
		"first of a time key":      {linkedCards(), func(q *dp.Query) { q.By = []string{"first.time.week"} }, "by[0]", "not a field"},
		"first of a step": {linkedCards(), func(q *dp.Query) {
			funnel("", nil, nil)(q)
			q.By = append(q.By, "first.funnel.step")
		}, "by[1]", "not a field"},
		"combinations of firsts": {linkedCards(), func(q *dp.Query) {
			q.Metrics, q.Define = []string{"x"}, []dp.Definition{{Name: "x", Aggregate: dp.Mean, Per: dp.PerCustomer, Distinct: []string{"first.category"}}}
		}, "define[0].distinct", "of the customer"},
		"since a city":          {linkedCards(), func(q *dp.Query) { q.By = []string{"since.city"} }, "by[0]", "since.day"},
		"a long range":          {linkedCards(), func(q *dp.Query) { q.To, q.By = "2027-03-31", []string{"first.month"} }, "to", "400"},
		"step without a funnel": {linkedCards(), func(q *dp.Query) { q.By = []string{"funnel.step"} }, "by[0]", "steps"},
		"a funnel of one step":  {linkedCards(), funnel("", nil), "funnel.steps", "2 to 10"},
		"a funnel of many":      {linkedCards(), funnel("", make([][]dp.Condition, 9)...), "funnel.steps", "8 groups"},
		"a funnel without step": {linkedCards(), func(q *dp.Query) {
			funnel("", nil, nil)(q)
			q.By = nil
		}, "by", "funnel.step"},
		"a funnel by rows": {linkedCards(), func(q *dp.Query) {
			funnel("", nil, nil)(q)
			q.By = append(q.By, "category")
		}, "by", "first.month"},
		"sums of a funnel": {linkedCards(), func(q *dp.Query) {
			funnel("", nil, nil)(q)
			q.Metrics = []string{"spend"}
		}, "metrics", "customers alone"},
		"a funnel of no time":     {linkedCards(), funnel("0d", nil, nil), "funnel.within", "30m"},
		"a funnel of a long time": {linkedCards(), funnel("9999999d", nil, nil), "funnel.within", "3660"},
		"levels": {linkedCards(), func(q *dp.Query) {
			q.Metrics, q.By, q.Cohorts, q.Reconcile = []string{"rows"}, []string{"category"}, []dp.Cohort{{}}, [][]string{{}}
		}, "reconcile", "one level"},
	} {
		t.Run(name, func(t *testing.T) {
			q := question()
			c.ask(&q)
			_, err := plan.Make(q, c.policy, nil, plan.DefaultLimits(), usage())
			refused := locationsOf(err)
			if !strings.Contains(refused[c.path], c.says) {
				t.Errorf("%s is not refused with %q: %v", c.path, c.says, refused)
			}
		})
	}
}

// What a release says of itself is enough to know how it was drawn.
func TestSeveralBlocksAreReadFromTheirRelease(t *testing.T) {
	for _, ask := range []func(*dp.Query){
		func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: isGrocery()}, {Dataset: "usage", AtLeast: 3}} },
		func(q *dp.Query) { q.By, q.First = []string{"first.category", "since.month"}, isGrocery() },
		func(q *dp.Query) { q.First = []dp.Condition{} },
		funnel("90m", isGrocery(), nil, isGrocery()),
	} {
		q := question()
		ask(&q)
		p, err := plan.Make(q, linkedCards(), nil, plan.DefaultLimits(), usage())
		if err != nil {
			t.Fatal(err)
		}
		noise, mechanisms := map[string]dp.Noise{}, map[string]string{}
		for _, m := range p.Metrics {
			noise[m.Name], mechanisms[m.Name] = dp.Noise{Epsilon: m.Vector.Epsilon, Delta: m.Vector.Delta}, string(m.Vector.Kind)
		}
		r := dp.Release{
			Dataset: "cards", PolicyVersion: 1, Plan: p.ID, CanonicalQuery: string(p.Question),
			Privacy: dp.Privacy{Noise: noise, Mechanism: mechanisms, MaxPartitions: p.Tree.Input.Partitions, MaxRows: p.Tree.Input.Rows},
		}
		drawn, err := plan.Drawn(r, linkedCards(), usage())
		if err != nil {
			t.Fatalf("%v: %s", err, p.Question)
		}
		if drawn.ID != p.ID || drawn.Metrics[0].SD != p.Metrics[0].SD {
			t.Errorf("the draw is read as %s", drawn.Question)
		}
		if len(q.Cohorts) > 1 {
			if _, err := plan.Drawn(r, linkedCards()); err == nil {
				t.Error("a draw of a joined dataset is read without its policy")
			}
		}
	}
}

// locationsOf are the messages of a refusal by path.
func locationsOf(err error) map[string]string {
	var refused *dp.Error
	all := map[string]string{}
	if errors.As(err, &refused) {
		for _, l := range refused.Locations {
			all[l.Path] = l.Message
		}
	}
	return all
}
