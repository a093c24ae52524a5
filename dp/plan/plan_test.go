package plan_test

import (
	"errors"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// cards is a policy with every sort of dimension, measure and time.
func cards() dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "cards", Kind: dp.Transactions, Population: 10_000,
		Unit: dp.Unit{Column: "customer_id", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "booked_at", Timezone: "Europe/Berlin", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "category", Type: dp.StringDimension, Values: []string{"grocery", "travel", "other"}, Other: "other"},
			{Name: "age", Type: dp.IntDimension, Values: []string{"18", "19", "20", "100"}},
			{Name: "minutes", Type: dp.IntDimension, Bin: &dp.Bin{Step: 10, Up: true}, Values: []string{"10", "20", "30"}},
			{Name: "city", Type: dp.StringDimension, Private: true},
		},
		Measures: []dp.Measure{
			{Name: "amount", Scale: 2, Lower: 0, Upper: 50_000},
			{Name: "balance", Scale: 2, Lower: 0, Upper: 50_000, Level: true},
		},
		Bounds:    dp.Bounds{MaxPartitions: 8, MaxRows: 20},
		Cap:       dp.Budget{Epsilon: 6 * dp.EpsilonOne, Delta: 1_000_000_000},
		Default:   dp.Budget{Epsilon: dp.EpsilonOne / 10, Delta: 10_000_000},
		Purposes:  []string{"product-analytics"},
		Audiences: []dp.Audience{dp.Internal},
	}}
}

func question() dp.Query {
	return dp.Query{Dataset: "cards", Metrics: []string{"customers"}, From: "2026-01-01", To: "2026-03-31", Purpose: "product-analytics"}
}

func text(s string) *string { return &s }

func mustMake(t *testing.T, q dp.Query) *plan.Plan {
	t.Helper()
	p, err := plan.Make(q, cards(), []dp.Budget{cards().Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatalf("making a plan: %v", err)
	}
	return p
}

func TestSpellingAndOrderDoNotChangeAPlan(t *testing.T) {
	one := question()
	one.Metrics = []string{"customers", "spend"}
	one.By = []string{"time.month", "category"}
	one.Where = []dp.Condition{
		{Field: "amount", Gte: text("10")},
		{Field: "category", In: []string{"grocery", "travel"}},
	}
	one.Epsilon = "0.5"

	other := question()
	other.Metrics = []string{"spend", "customers", "spend"}
	other.By = []string{"category", "time.month", "category"}
	other.Where = []dp.Condition{
		{Field: "category", In: []string{"travel", "grocery", "travel", "other"}},
		{Field: "category", NotIn: []string{"other"}, In: []string{"grocery", "travel"}},
		{Field: "amount", Gte: text("1e1")},
		{Field: "amount", Gte: text("9.999")},
	}
	// The first spelling excludes other through its list alone; say it the same way.
	one.Where = append(one.Where, dp.Condition{Field: "category", NotIn: []string{"other"}})
	other.Epsilon = "5e-1"
	other.Confidence = "0.950"

	a, b := mustMake(t, one), mustMake(t, other)
	if a.ID != b.ID || string(a.Canonical) != string(b.Canonical) {
		t.Fatalf("two spellings of one question differ:\n%s\n%s", a.Canonical, b.Canonical)
	}
	if !reflect.DeepEqual(a.Tree, b.Tree) {
		t.Fatalf("two spellings of one question have different trees:\n%+v\n%+v", a.Tree, b.Tree)
	}
}

func TestWhatChangesTheDrawChangesTheIdentity(t *testing.T) {
	base := mustMake(t, question())
	for name, change := range map[string]func(*dp.Query){
		"metric":         func(q *dp.Query) { q.Metrics = []string{"transactions"} },
		"key":            func(q *dp.Query) { q.By = []string{"category"} },
		"condition":      func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category", Eq: text("travel")}} },
		"empty list":     func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category", In: []string{}}} },
		"range":          func(q *dp.Query) { q.To = "2026-03-30" },
		"epsilon":        func(q *dp.Query) { q.Epsilon = "0.2" },
		"max_partitions": func(q *dp.Query) { q.By, q.MaxPartitions = []string{"category"}, 2 },
	} {
		q := question()
		change(&q)
		if mustMake(t, q).ID == base.ID {
			t.Errorf("another %s gives the same draw", name)
		}
	}
	for name, same := range map[string]func(*dp.Query){
		"confidence":                   func(q *dp.Query) { q.Confidence = "0.5" },
		"fresh":                        func(q *dp.Query) { q.Fresh = true },
		"spending":                     func(q *dp.Query) { q.SpendAtMost = "1" },
		"nothing left out of labels":   func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category", NotIn: []string{}}} },
		"nothing left out of measures": func(q *dp.Query) { q.Where = []dp.Condition{{Field: "amount", NotIn: []string{}}} },
	} {
		q := question()
		same(&q)
		if mustMake(t, q).ID != base.ID {
			t.Errorf("another %s gives another draw", name)
		}
	}
}

func TestPartitionsOfABlockFollowFromDomainsAndCalendar(t *testing.T) {
	for _, c := range []struct {
		name       string
		by         []string
		from, to   string
		where      []dp.Condition
		partitions int64
		groups     int
	}{
		{"no key", nil, "2026-01-01", "2026-03-31", nil, 1, 1},
		{"the block's own period", []string{"time.month"}, "2026-01-01", "2026-03-31", nil, 1, 3},
		{"quarter of a month", []string{"time.quarter"}, "2026-01-01", "2026-06-30", nil, 1, 2},
		{"weeks: a month touches up to six", []string{"time.week"}, "2026-08-01", "2026-08-31", nil, 6, 6},
		{"days beyond the policy", []string{"time.day"}, "2026-01-01", "2026-01-31", nil, 8, 31},
		{"few days", []string{"time.day"}, "2026-01-30", "2026-02-03", nil, 3, 5},
		{"day and its month agree", []string{"time.day", "time.month"}, "2026-01-30", "2026-02-03", nil, 3, 5},
		{"domain", []string{"category"}, "2026-01-01", "2026-01-31", nil, 3, 3},
		{"domain narrowed", []string{"category"}, "2026-01-01", "2026-01-31", []dp.Condition{{Field: "category", NotIn: []string{"other"}}}, 2, 2},
		{"ints narrowed by a range", []string{"age"}, "2026-01-01", "2026-01-31", []dp.Condition{{Field: "age", Gte: text("19"), Lte: text("20")}}, 2, 2},
		{"product", []string{"category", "time.month"}, "2026-01-01", "2026-02-28", nil, 3, 6},
		{"private", []string{"city"}, "2026-01-01", "2026-01-31", nil, 8, 0},
		{"hours", []string{"time.hour"}, "2026-01-01", "2026-01-01", []dp.Condition{{Field: "time.hour", Gte: text("22")}}, 2, 2},
	} {
		q := question()
		q.By, q.From, q.To, q.Where = c.by, c.from, c.to, c.where
		p := mustMake(t, q)
		if p.Tree.Input.Partitions != c.partitions {
			t.Errorf("%s: L0 is %d, want %d", c.name, p.Tree.Input.Partitions, c.partitions)
		}
		if got := len(p.Groups()); got != c.groups {
			t.Errorf("%s: %d groups, want %d", c.name, got, c.groups)
		}
	}
}

func TestGroupsOfIntsComeInTheOrderOfNumbers(t *testing.T) {
	q := question()
	q.By = []string{"age"}
	var got []string
	for _, g := range mustMake(t, q).Groups() {
		got = append(got, g[0])
	}
	if want := []string{"18", "19", "20", "100"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("groups come as %v, want %v", got, want)
	}
}

func TestEveryTouchedBlockIsNamedAndABlockInPartCountsWhole(t *testing.T) {
	q := question()
	q.From, q.To = "2025-12-31", "2026-02-01"
	if got, want := mustMake(t, q).Blocks, []string{"2025-12", "2026-01", "2026-02"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("blocks %v, want %v", got, want)
	}
}

func TestEpsilonIsSplitEquallyAndAddsUpToWhatWasAsked(t *testing.T) {
	q := question()
	q.Metrics, q.Epsilon, q.Delta = []string{"customers", "transactions", "spend"}, "1", "0"
	p := mustMake(t, q)
	if p.Loss.Epsilon != dp.EpsilonOne || p.Loss.Delta != 0 {
		t.Fatalf("three metrics at epsilon 1 cost %s, %s", p.Loss.Epsilon, p.Loss.Delta)
	}
	for _, m := range p.Metrics {
		if e := m.Vector.Epsilon; e < dp.EpsilonOne/3 || e > dp.EpsilonOne/3+1 {
			t.Errorf("%s gets epsilon %s", m.Name, e)
		}
	}
}

func TestCustomersAndSelectionShareOneDraw(t *testing.T) {
	q := question()
	q.By, q.Epsilon, q.Delta = []string{"city"}, "1", "1e-9"
	alone := mustMake(t, q)
	if alone.SelectedBy != 0 || alone.Selection == nil || alone.Selection.Epsilon != dp.EpsilonOne {
		t.Fatalf("customers by a private key: selected by %d with %+v", alone.SelectedBy, alone.Selection)
	}
	if alone.Loss.Epsilon != dp.EpsilonOne || alone.Loss.Delta > 1_000_000_000 {
		t.Fatalf("one draw costs %s, %s", alone.Loss.Epsilon, alone.Loss.Delta)
	}
	q.Metrics = []string{"spend"}
	separate := mustMake(t, q)
	if separate.SelectedBy != -1 || separate.Selection.Epsilon != dp.EpsilonOne/2 || separate.Loss.Epsilon > dp.EpsilonOne {
		t.Fatalf("spend by a private key: selected by %d with %+v at %s", separate.SelectedBy, separate.Selection, separate.Loss.Epsilon)
	}
}

func TestAccuracyFindsTheLeastLossThatReachesIt(t *testing.T) {
	q := question()
	q.Within = map[string]string{"customers": "35"}
	p := mustMake(t, q)
	if got := p.Metrics[0].Within; got > 35 {
		t.Fatalf("asked within 35, expect %v", got)
	}
	q.Within = map[string]string{"customers": "70"}
	if wider := mustMake(t, q); wider.Loss.Rho >= p.Loss.Rho {
		t.Fatalf("twice the interval costs rho %s, not less than %s", wider.Loss.Rho, p.Loss.Rho)
	}
}

func TestUnattainableAccuracyNamesTheBest(t *testing.T) {
	q := question()
	q.Metrics, q.Within = []string{"spend"}, map[string]string{"spend": "0.01"}
	_, err := plan.Make(q, cards(), []dp.Budget{{Epsilon: dp.EpsilonOne, Delta: 1_000_000_000}}, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeAccuracyUnattainable || refused.Best["spend"] <= 0.01 {
		t.Fatalf("got %v", err)
	}
}

func TestAnyCeilingWithoutDeltaMeansLaplace(t *testing.T) {
	q := question()
	q.By, q.Epsilon, q.Delta = []string{"time.day"}, "0.1", "1e-3"
	withDelta := mustMake(t, q)
	if withDelta.Metrics[0].Vector.Kind != "gaussian" {
		t.Fatalf("eight partitions at epsilon 1 use %s", withDelta.Metrics[0].Vector.Kind)
	}
	p, err := plan.Make(q, cards(), []dp.Budget{{Epsilon: dp.EpsilonOne, Delta: 0}}, plan.DefaultLimits())
	if err != nil || p.Metrics[0].Vector.Kind != "laplace" || p.Loss.Delta != 0 {
		t.Fatalf("a ceiling without delta: %v %+v", err, p)
	}
}

func TestAPriceAboveSpendAtMostIsRefused(t *testing.T) {
	q := question()
	q.Epsilon, q.SpendAtMost = "0.5", "0.4"
	_, err := plan.Make(q, cards(), nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeConflict || refused.Required == nil {
		t.Fatalf("got %v", err)
	}
}

func TestWrongQueriesAreRefusedWithTheirLocation(t *testing.T) {
	secret := "Hauptstrasse 1"
	for _, c := range []struct {
		name   string
		change func(*dp.Query)
		at     string
	}{
		{"no metric", func(q *dp.Query) { q.Metrics = nil }, "metrics"},
		{"unknown metric", func(q *dp.Query) { q.Metrics = []string{secret} }, "metrics[0]"},
		{"unknown key", func(q *dp.Query) { q.By = []string{secret} }, "by[0]"},
		{"measure as key", func(q *dp.Query) { q.By = []string{"amount"} }, "by[0]"},
		{"customer as key", func(q *dp.Query) { q.By = []string{"customer_id"} }, "by[0]"},
		{"customer as filter", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "customer_id", Eq: &secret}} }, "where[0].field"},
		{"unknown field", func(q *dp.Query) { q.Where = []dp.Condition{{Field: secret, Eq: &secret}} }, "where[0].field"},
		{"bare time", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "time", Eq: &secret}} }, "where[0].field"},
		{"no operator", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category"}} }, "where[0]"},
		{"value outside a public domain", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category", Eq: &secret}} }, "where[0].eq"},
		{"range over strings", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "category", Gte: text("grocery")}} }, "where[0]"},
		{"range over bins", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "minutes", Gte: text("10")}} }, "where[0]"},
		{"no number", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "amount", Lte: &secret}} }, "where[0].lte"},
		{"no int", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "age", Gte: &secret}} }, "where[0].gte"},
		{"no day", func(q *dp.Query) { q.Where = []dp.Condition{{Field: "time.day", Eq: text("2026-02-30")}} }, "where[0].eq"},
		{"domain emptied", func(q *dp.Query) {
			q.By, q.Where = []string{"category"}, []dp.Condition{{Field: "category", In: []string{}}}
		}, "by[0]"},
		{"no dates", func(q *dp.Query) { q.From, q.To = "", "" }, "from"},
		{"dates reversed", func(q *dp.Query) { q.From, q.To = q.To, q.From }, "to"},
		{"no date", func(q *dp.Query) { q.From = secret }, "from"},
		{"too many blocks", func(q *dp.Query) { q.From, q.To = "1980-01-01", "2026-01-01" }, "to"},
		{"too many groups", func(q *dp.Query) {
			q.From, q.To, q.By = "2000-01-01", "2026-01-01", []string{"time.day", "time.hour"}
		}, "by"},
		{"no purpose", func(q *dp.Query) { q.Purpose = "" }, "purpose"},
		{"price and accuracy", func(q *dp.Query) { q.Epsilon, q.Within = "1", map[string]string{"customers": "3"} }, "epsilon"},
		{"no epsilon", func(q *dp.Query) { q.Epsilon = secret }, "epsilon"},
		{"epsilon zero", func(q *dp.Query) { q.Epsilon = "0" }, "epsilon"},
		{"epsilon huge", func(q *dp.Query) { q.Epsilon = "701" }, "epsilon"},
		{"delta one", func(q *dp.Query) { q.Delta = "1" }, "delta"},
		{"within of another metric", func(q *dp.Query) { q.Within = map[string]string{"spend": "3"} }, "within"},
		{"within zero", func(q *dp.Query) { q.Within = map[string]string{"customers": "0"} }, "within.customers"},
		{"confidence", func(q *dp.Query) { q.Confidence = "1" }, "confidence"},
		{"wider clamp", func(q *dp.Query) {
			q.Metrics, q.Clamp = []string{"spend"}, map[string]dp.Clamp{"spend": {Lower: "0", Upper: "501"}}
		}, "clamp.spend"},
		{"inverted clamp", func(q *dp.Query) {
			q.Metrics, q.Clamp = []string{"spend"}, map[string]dp.Clamp{"spend": {Lower: "5", Upper: "4"}}
		}, "clamp.spend"},
		{"clamp of a count", func(q *dp.Query) { q.Clamp = map[string]dp.Clamp{"customers": {Lower: "0", Upper: "1"}} }, "clamp.customers"},
		{"more partitions than the policy", func(q *dp.Query) { q.MaxPartitions = 9 }, "max_partitions"},
		{"private key without delta", func(q *dp.Query) { q.By, q.Delta = []string{"city"}, "0" }, "by"},
		{"sum of balances", func(q *dp.Query) {
			q.Metrics, q.Define = []string{"b"}, []dp.Definition{{Name: "b", Aggregate: dp.Sum, Measure: "balance"}}
		}, "metrics"},
		{"definition nobody asks for", func(q *dp.Query) { q.Define = []dp.Definition{{Name: "b", Aggregate: dp.Rows}} }, "define[0].name"},
		{"definition of a name that exists", func(q *dp.Query) { q.Define = []dp.Definition{{Name: "customers", Aggregate: dp.Rows}} }, "define[0].name"},
	} {
		q := question()
		c.change(&q)
		_, err := plan.Make(q, cards(), []dp.Budget{cards().Cap}, plan.DefaultLimits())
		var refused *dp.Error
		if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if len(refused.Locations) != 1 || refused.Locations[0].Path != c.at {
			t.Errorf("%s: locations %+v, want %s", c.name, refused.Locations, c.at)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the refusal echoes the input: %v", c.name, err)
		}
	}
}

// Every release is kept with its question: one that cannot be kept must be refused before it is charged.
func TestAQuestionThatIsTooLongToKeepIsRefused(t *testing.T) {
	q := question()
	values := make([]string, 100)
	for i := range values {
		values[i] = strings.Repeat("x", 400) + string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	q.Where = []dp.Condition{{Field: "city", In: values}}
	mustMake(t, q)
	for i := range values {
		values[i] = strings.Repeat("<", 110) + values[i] // six bytes each in JSON
	}
	_, err := plan.Make(q, cards(), nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery || refused.Locations[0].Path != "where" {
		t.Fatalf("got %v", err)
	}
}

// What an answer takes after it is charged is bounded by what is declared, before it is charged.
func TestMoreFiguresThanOneAnswerHoldsAreRefused(t *testing.T) {
	q := question()
	q.From, q.To, q.By = "2001-01-01", "2026-12-31", []string{"time.day", "category"}
	q.Metrics = []string{"spend"}
	mustMake(t, q)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r"} {
		q.Metrics = append(q.Metrics, name)
		q.Define = append(q.Define, dp.Definition{Name: name, Aggregate: dp.Mean, Measure: "amount"})
	}
	q.Clamp = make(map[string]dp.Clamp) // of one clamp all would be one draw
	for i, name := range q.Metrics[1:] {
		q.Clamp[name] = dp.Clamp{Lower: "0", Upper: strconv.Itoa(400 + i)}
	}
	q.Epsilon, q.Delta = "5", "0"
	mustMake(t, withMetrics(q, 18)) // 28,488 groups of 35 figures
	_, err := plan.Make(q, cards(), nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery || refused.Locations[0].Path != "metrics" {
		t.Fatalf("got %v", err)
	}
}

// How many partitions a plan can have follows from what is declared: private keys beyond two are refused whatever
// the rows hold.
func TestMorePrivateKeysThanCanBeToldApartAreRefused(t *testing.T) {
	policy := cards()
	for _, name := range []string{"street", "shop"} {
		policy.Dimensions = append(policy.Dimensions, dp.Dimension{Name: name, Type: dp.StringDimension, Private: true})
	}
	q := question()
	q.By = []string{"city", "street", "category", "time.day"}
	if _, err := plan.Make(q, policy, nil, plan.DefaultLimits()); err != nil {
		t.Errorf("two private keys: %v", err)
	}
	q.By = []string{"city", "street", "shop"}
	_, err := plan.Make(q, policy, nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery || refused.Locations[0].Path != "by" {
		t.Errorf("three private keys: %v", err)
	}
}

// withMetrics keeps the first n metrics of a query.
func withMetrics(q dp.Query, n int) dp.Query {
	q.Metrics, q.Define, q.Clamp = q.Metrics[:n], q.Define[:n-1], maps.Clone(q.Clamp)
	maps.DeleteFunc(q.Clamp, func(name string, _ dp.Clamp) bool { return !slices.Contains(q.Metrics, name) })
	return q
}

// Whoever wrote the policy: a bound that wraps around would be noised as a small one.
func TestBoundsThatDoNotFitAreRefused(t *testing.T) {
	const third = 1<<64/6 + 1 // three times twice that many wrap around to 2
	extremes := []int64{math.MinInt64, -1 << 62, -third, 5, third, 1 << 62, math.MaxInt64}
	for _, aggregate := range []dp.Aggregate{dp.Sum, dp.Mean} {
		for i, lower := range extremes {
			for _, upper := range extremes[i+1:] {
				p := cards()
				p.Bounds.MaxRows = 3
				p.Metrics = []dp.Metric{{Name: "m", Aggregate: aggregate, Measure: "amount", Lower: &lower, Upper: &upper}}
				q := question()
				q.Metrics = []string{"m"}
				if _, err := plan.Make(q, p, nil, plan.DefaultLimits()); err == nil {
					t.Errorf("%s within %d and %d was priced", aggregate, lower, upper)
				}
			}
		}
	}
}

func TestEveryProblemIsNamedAtOnce(t *testing.T) {
	q := question()
	q.Metrics, q.By, q.Purpose = []string{"nothing"}, []string{"nowhere"}, ""
	_, err := plan.Make(q, cards(), nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || len(refused.Locations) != 3 {
		t.Fatalf("got %v", err)
	}
}

func TestNoConfidenceChangesTheDraw(t *testing.T) {
	// Where Laplace and Gaussian noise are close, which of them is narrower depends on the confidence.
	for _, epsilon := range []string{"0.1", "0.3", "1", "3"} {
		for _, delta := range []string{"1e-3", "1e-6", "1e-9"} {
			q := question()
			q.By, q.Epsilon, q.Delta = []string{"time.day"}, epsilon, delta
			ids := map[string]bool{}
			for _, confidence := range []string{"0.5", "0.9", "0.95", "0.99", "0.999"} {
				q.Confidence = confidence
				ids[mustMake(t, q).ID] = true
			}
			if len(ids) != 1 {
				t.Errorf("at epsilon %s and delta %s, five confidences lead to %d draws", epsilon, delta, len(ids))
			}
		}
	}
}
