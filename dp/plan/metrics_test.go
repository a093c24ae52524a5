package plan_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// define asks for metrics that the query brings itself.
func define(all ...dp.Definition) dp.Query {
	q := question()
	q.Metrics = nil
	for _, d := range all {
		q.Metrics = append(q.Metrics, d.Name)
	}
	q.Define, q.Epsilon, q.Delta = all, "1", "1e-9"
	return q
}

func quantile(name, rank string) dp.Definition {
	return dp.Definition{Name: name, Aggregate: dp.Quantile, Measure: "amount", Rank: rank}
}

func TestWrongMetricsAreRefusedWithTheirLocation(t *testing.T) {
	const secret = "geheim"
	ratio := func(of, by string) dp.Definition {
		return dp.Definition{Name: "r", Aggregate: dp.Ratio, Numerator: of, Denominator: by}
	}
	within := func(q dp.Query, name string) dp.Query {
		q.Epsilon, q.Within = "", map[string]string{name: "5"}
		return q
	}
	clamped := define(ratio("spend", "customers"))
	clamped.Clamp = map[string]dp.Clamp{"r": {Lower: "0", Upper: "1"}}
	for name, c := range map[string]struct {
		query dp.Query
		at    string
	}{
		"quantile without rank":          {define(quantile("q", "")), "define[0].rank"},
		"rank of a mean":                 {define(dp.Definition{Name: "m", Aggregate: dp.Mean, Measure: "amount", Rank: "0.5"}), "define[0].rank"},
		"rank of a minimum":              {define(dp.Definition{Name: "m", Aggregate: dp.Min, Measure: "amount", Rank: "0.5"}), "define[0].rank"},
		"rank 0":                         {define(quantile("q", "0")), "define[0].rank"},
		"rank 1":                         {define(quantile("q", "1")), "define[0].rank"},
		"rank that rounds to 0":          {define(quantile("q", "1e-12")), "define[0].rank"},
		"negative rank":                  {define(quantile("q", "-0.5")), "define[0].rank"},
		"rank that is none":              {define(quantile("q", secret)), "define[0].rank"},
		"rank that is not a number":      {define(quantile("q", "NaN")), "define[0].rank"},
		"quantile without measure":       {define(dp.Definition{Name: "q", Aggregate: dp.Quantile, Rank: "0.5"}), "define[0]"},
		"unknown aggregate":              {define(dp.Definition{Name: "q", Aggregate: secret, Measure: "amount"}), "define[0]"},
		"own condition on nothing":       {define(where("m", dp.Rows, dp.Condition{Field: secret, Eq: text("x")})), "define[0].where[0].field"},
		"own condition without operator": {define(where("m", dp.Rows, dp.Condition{Field: "amount"})), "define[0].where[0]"},
		"own condition on no value":      {define(where("m", dp.Rows, dp.Condition{Field: "category", Eq: text(secret)})), "define[0].where[0].eq"},
		"own condition on a customer":    {define(where("m", dp.Rows, dp.Condition{Field: "first.month", Eq: text("2026-01")})), "define[0].where"},
		"own condition of a share":       {define(dp.Definition{Name: "s", Aggregate: dp.Share, Of: "rows", Where: []dp.Condition{{Field: "amount", Gte: text("1")}}}), "define[0].where"},
		"ratio without denominator":      {define(ratio("spend", "")), "define[0].numerator"},
		"ratio of an unknown metric":     {define(ratio("spend", secret)), "define[0]"},
		"ratio of a mean":                {define(ratio("average_ticket", "customers")), "define[0]"},
		"ratio of a quantile":            {define(ratio("median_ticket", "customers")), "define[0]"},
		"ratio of itself":                {define(ratio("r", "customers")), "define[0]"},
		"ratio of one metric":            {define(ratio("spend", "spend")), "define[0].denominator"},
		"ratio with a measure":           {define(dp.Definition{Name: "r", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "rows", Measure: "amount"}), "define[0]"},
		"numerator of a sum":             {define(dp.Definition{Name: "s", Aggregate: dp.Sum, Measure: "amount", Numerator: "rows"}), "define[0].numerator"},
		"share of nothing":               {define(dp.Definition{Name: "s", Aggregate: dp.Share}), "define[0].of"},
		"share of customers":             {define(dp.Definition{Name: "s", Aggregate: dp.Share, Of: "customers"}), "define[0]"},
		"share of a share":               {define(dp.Definition{Name: "s", Aggregate: dp.Share, Of: "spend_share"}), "define[0]"},
		"share of what can be negative":  {define(dp.Definition{Name: "s", Aggregate: dp.Share, Of: "refunds"}), "define[0]"},
		"of of a sum":                    {define(dp.Definition{Name: "s", Aggregate: dp.Sum, Measure: "amount", Of: "rows"}), "define[0].of"},
		"within of a ratio":              {within(define(ratio("spend", "customers")), "r"), "within.r"},
		"within of what nobody asks for": {within(define(ratio("spend", "customers")), "rows"), "within"},
		"clamp of a ratio":               {clamped, "clamp.r"},
	} {
		policy := cards()
		policy.Measures = append(policy.Measures, dp.Measure{Name: "change", Lower: -10, Upper: 10})
		policy.Metrics = []dp.Metric{{Name: "refunds", Aggregate: dp.Sum, Measure: "change"}}
		_, err := plan.Make(c.query, policy, []dp.Budget{policy.Cap}, plan.DefaultLimits())
		var refused *dp.Error
		if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if len(refused.Locations) != 1 || refused.Locations[0].Path != c.at {
			t.Errorf("%s: locations %+v, want %s", name, refused.Locations, c.at)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the refusal echoes the input: %v", name, err)
		}
	}
}

func TestMetricsOfOneDrawCostOnce(t *testing.T) {
	for name, all := range map[string][]dp.Definition{
		"quantiles": {
			quantile("p50", "0.5"), quantile("p90", "0.9"),
			{Name: "low", Aggregate: dp.Min, Measure: "amount"}, {Name: "top", Aggregate: dp.Max, Measure: "amount"},
		},
		"variance and its root": {{Name: "v", Aggregate: dp.Variance, Measure: "amount"}, {Name: "w", Aggregate: dp.StdDev, Measure: "amount"}},
	} {
		one, together := mustMake(t, define(all[0])), mustMake(t, define(all...))
		if one.Loss != together.Loss {
			t.Errorf("%s: one costs %+v, all cost %+v", name, one.Loss, together.Loss)
		}
		own := 0
		for i, m := range together.Metrics {
			if m.Drawn == i {
				own++
			}
			if m.Vector.Epsilon != dp.EpsilonOne || m.Within <= 0 {
				t.Errorf("%s: %s is drawn with epsilon %s, expected within %v", name, m.Name, m.Vector.Epsilon, m.Within)
			}
		}
		if own != 1 || len(together.Tree.Columns) != len(one.Tree.Columns) {
			t.Errorf("%s: %d draws over %d columns", name, own, len(together.Tree.Columns))
		}
	}

	// Another clamp is another draw.
	clamped := define(quantile("p50", "0.5"), quantile("p90", "0.9"))
	clamped.Clamp = map[string]dp.Clamp{"p90": {Lower: "0", Upper: "100"}}
	if p := mustMake(t, clamped); p.Metrics[0].Vector.Epsilon != dp.EpsilonOne/2 || p.Metrics[1].Drawn != 1 {
		t.Errorf("quantiles of two clamps: %+v", p.Metrics)
	}
	means := mustMake(t, define(dp.Definition{Name: "a", Aggregate: dp.Mean, Measure: "amount"}, dp.Definition{Name: "b", Aggregate: dp.Sum, Measure: "amount"}))
	if means.Metrics[1].Drawn != 1 || means.Metrics[0].Vector.Epsilon != dp.EpsilonOne/2 {
		t.Errorf("a mean and a sum are %+v", means.Metrics)
	}
}

// Names cost nothing: what is the same number is drawn once, and selection's is among them.
func TestMetricsThatOnlyDifferInNameCostOnce(t *testing.T) {
	for _, aggregate := range []dp.Aggregate{dp.Customers, dp.Rows, dp.Sum, dp.Mean} {
		a := dp.Definition{Name: "a", Aggregate: aggregate}
		if aggregate == dp.Sum || aggregate == dp.Mean {
			a.Measure = "amount"
		}
		b := a
		b.Name = "b"
		for _, by := range []string{"category", "city"} {
			one, two := define(a), define(a, b)
			one.By, two.By = []string{by}, []string{by}
			p, alone := mustMake(t, two), mustMake(t, one)
			if p.Loss != alone.Loss || p.Metrics[1].Drawn != 0 || p.Metrics[1].Within != alone.Metrics[0].Within {
				t.Errorf("%s by %s: one costs %+v, two cost %+v: %+v", aggregate, by, alone.Loss, p.Loss, p.Metrics)
			}
		}
	}
}

func TestRatiosAndSharesCostWhatTheyAreReadFrom(t *testing.T) {
	r := dp.Definition{Name: "per_head", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"}
	s := dp.Definition{Name: "part", Aggregate: dp.Share, Of: "spend"}
	q := define(r, s)
	q.By = []string{"category"}
	p := mustMake(t, q)
	var names []string
	for _, m := range p.Metrics {
		names = append(names, m.Name)
	}
	if !slices.Equal(names, []string{"customers", "part", "per_head", "spend"}) {
		t.Fatalf("answered are %v", names)
	}
	if p.Metrics[1].Drawn != -1 || p.Metrics[2].Drawn != -1 || !slices.Equal(p.Metrics[2].Parts, []int{3, 0}) || !slices.Equal(p.Metrics[1].Parts, []int{3}) {
		t.Errorf("read from %+v", p.Metrics)
	}
	q = question()
	q.Metrics, q.By, q.Epsilon, q.Delta = []string{"customers", "spend"}, []string{"category"}, "1", "1e-9"
	if alone := mustMake(t, q); alone.Loss != p.Loss {
		t.Errorf("with ratio and share it costs %+v, without %+v", p.Loss, alone.Loss)
	}
	if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, "per_head is read from spend and customers, which are answered and paid for beside it") {
		t.Errorf("the notes do not say what is paid for:\n%s", notes)
	}

	// How exact must be said of what it is read from, whether that was listed or not.
	within := define(r)
	within.Epsilon, within.Within = "", map[string]string{"customers": "40", "spend": "5000"}
	p = mustMake(t, within)
	for _, m := range p.Metrics {
		if target := map[string]float64{"customers": 40, "spend": 5000}[m.Name]; m.Name != "per_head" && !(m.Within > 0 && m.Within <= target) {
			t.Errorf("%s is expected within %v, asked were %v", m.Name, m.Within, target)
		}
	}
}

func TestAccuracyOfMetricsThatShareADrawIsReachedForAll(t *testing.T) {
	ask := func(within map[string]string) *plan.Plan {
		q := define(quantile("p50", "0.5"), quantile("p99", "0.99"))
		q.Epsilon, q.Within = "", within
		return mustMake(t, q)
	}
	middle, end := ask(map[string]string{"p50": "10"}), ask(map[string]string{"p99": "12"})
	both := ask(map[string]string{"p50": "10", "p99": "12"})
	if both.Metrics[0].Within > 10 || both.Metrics[1].Within > 12 {
		t.Errorf("expected are %v and %v, asked 10 and 12", both.Metrics[0].Within, both.Metrics[1].Within)
	}
	if both.Loss.Rho != max(middle.Loss.Rho, end.Loss.Rho) {
		t.Errorf("both cost rho %s, one %s, the other %s", both.Loss.Rho, middle.Loss.Rho, end.Loss.Rho)
	}
	q := define(quantile("p50", "0.5"), quantile("p99", "0.99"))
	q.Epsilon, q.Within = "", map[string]string{"p50": "0.001", "p99": "12"}
	_, err := plan.Make(q, cards(), []dp.Budget{cards().Cap}, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeAccuracyUnattainable || !(refused.Best["p50"] > 0.001) || math.IsInf(refused.Best["p99"], 0) {
		t.Errorf("got %+v", err)
	}
}

func TestEveryAggregateReachesTheAccuracyThatItIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		definition dp.Definition
		within     string
		target     float64
	}{
		{dp.Definition{Aggregate: dp.Mean, Measure: "amount"}, "5", 5},
		{dp.Definition{Aggregate: dp.Variance, Measure: "amount"}, "2000", 2000},
		{dp.Definition{Aggregate: dp.StdDev, Measure: "amount"}, "8", 8},
		{dp.Definition{Aggregate: dp.Quantile, Measure: "amount", Rank: "0.25"}, "20", 20},
		{dp.Definition{Aggregate: dp.Min, Measure: "amount"}, "10", 10},
		{dp.Definition{Aggregate: dp.Max, Measure: "amount"}, "10", 10},
	} {
		c.definition.Name = "m"
		q := define(c.definition)
		q.Epsilon, q.Within = "", map[string]string{"m": c.within}
		p := mustMake(t, q)
		if m := p.Metrics[0]; !(m.Within <= c.target && m.Within > c.target*0.9) || !(m.SD > 0 && m.SD < m.Within) {
			t.Errorf("%s: asked within %v, expected are %v with deviation %v", c.definition.Aggregate, c.target, m.Within, m.SD)
		}
	}
}

func TestARankIsPartOfTheQuestion(t *testing.T) {
	ids := map[string]string{}
	for _, rank := range []string{"0.5", "0.9", "0.900000001"} {
		ids[mustMake(t, define(quantile("q", rank))).ID] = rank
	}
	if len(ids) != 3 {
		t.Errorf("three ranks are %d draws", len(ids))
	}
	if a, b := mustMake(t, define(quantile("q", "0.9"))), mustMake(t, define(quantile("q", "9e-1"))); a.ID != b.ID || string(a.Canonical) != string(b.Canonical) {
		t.Errorf("two spellings of a rank differ:\n%s\n%s", a.Canonical, b.Canonical)
	}
	one := define(dp.Definition{Name: "r", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"}, dp.Definition{Name: "s", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "rows"})
	other := one
	other.Define = []dp.Definition{one.Define[1], one.Define[0]}
	other.Define[0].Name, other.Define[1].Name = "r", "s"
	if mustMake(t, one).ID == mustMake(t, other).ID {
		t.Error("what a ratio is read from changes nothing")
	}
}

// How many numbers are noised is known before anything is charged, also where a tree has many.
func TestTreesOfTooManyGroupsAreRefused(t *testing.T) {
	q := define(quantile("p50", "0.5"), quantile("p90", "0.9"))
	q.Epsilon = "5"
	q.By, q.From, q.To = []string{"time.day"}, "2024-03-01", "2026-02-28" // 730 groups of 1335 numbers
	mustMake(t, q)
	q.By = []string{"time.day", "category"}
	_, err := plan.Make(q, cards(), nil, plan.DefaultLimits())
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery || refused.Locations[0].Path != "metrics" {
		t.Errorf("got %v", err)
	}
}

// Where the groups are not known before, each has fewer numbers.
func TestTreesOfPrivateGroupsAreSmaller(t *testing.T) {
	q := define(quantile("p50", "0.5"))
	public := mustMake(t, q)
	q.By = []string{"city"}
	private := mustMake(t, q)
	if n := public.Metrics[0].Draws(); n <= 400 || n > 1364 {
		t.Errorf("of all customers %d numbers are drawn", n)
	}
	if n := private.Metrics[0].Draws(); n > 340 || private.Metrics[0].Tree.Leaves > 256 {
		t.Errorf("of a private group %d numbers are drawn", n)
	}
	for _, p := range []*plan.Plan{public, private} {
		c := p.Tree.Columns[p.Metrics[0].Columns[0]]
		if c.Bin(c.Upper) != c.Bins-1 || c.Bin(c.Lower) != 0 || p.Metrics[0].Vector.Bounds[0] != 20 {
			t.Errorf("the histogram is %+v, drawn by %+v", c, p.Metrics[0].Vector)
		}
	}
}

// Whatever the width of a clamp, its histogram reaches from end to end.
func TestHistogramsCoverTheirClamp(t *testing.T) {
	for _, width := range []int64{1, 2, 255, 256, 257, 1022, 1023, 1024, 1025, 2047, 2048, 1 << 40, 1<<53 - 2} {
		policy := cards()
		upper := int64(-7) + width
		lower := int64(-7)
		policy.Metrics = []dp.Metric{{Name: "q", Aggregate: dp.Quantile, Rank: "0.5", Measure: "amount", Lower: &lower, Upper: &upper}}
		q := question()
		q.Metrics, q.Epsilon, q.Delta = []string{"q"}, "1", "0"
		p, err := plan.Make(q, policy, nil, plan.DefaultLimits())
		if err != nil {
			t.Errorf("width %d: %v", width, err)
			continue
		}
		c := p.Tree.Columns[0]
		if c.Bins > mechanism.MaxLeaves || c.Bin(upper) != c.Bins-1 || c.Bin(lower) != 0 || c.Bins != p.Metrics[0].Tree.Leaves {
			t.Errorf("width %d: %+v", width, c)
		}
	}
}

func where(name string, aggregate dp.Aggregate, conditions ...dp.Condition) dp.Definition {
	return dp.Definition{Name: name, Aggregate: aggregate, Where: conditions}
}

// Conditions of a metric decide which rows its columns read; neither groups nor price follow from them, and metrics with the
// same ones share a draw.
func TestConditionsOfAMetricAreItsColumnsAlone(t *testing.T) {
	large := dp.Condition{Field: "amount", Gte: text("100")}
	q := define(where("many", dp.Rows, large), where("also", dp.Rows, dp.Condition{Field: "amount", Gte: text("1e2")}), where("who", dp.Customers, large))
	q.Metrics = append(q.Metrics, "rows", "customers")
	p := mustMake(t, q)
	if len(p.Tree.Input.Input.Input.Tests) > 0 || len(p.Tree.Columns) != 4 {
		t.Errorf("the question has tests %v, and columns %+v", p.Tree.Input.Input.Input.Tests, p.Tree.Columns)
	}
	at := map[string]plan.Metric{}
	for _, m := range p.Metrics {
		at[m.Name] = m
	}
	if p.Metrics[at["many"].Drawn].Name != "also" || at["many"].Drawn == at["rows"].Drawn || at["who"].Drawn == at["customers"].Drawn {
		t.Errorf("drawn are %+v", p.Metrics)
	}
	if at["many"].Vector.Bounds[0] != at["rows"].Vector.Bounds[0] || at["many"].SD != at["rows"].SD {
		t.Error("a condition changed the noise")
	}
	plain := define(dp.Definition{Name: "many", Aggregate: dp.Rows})
	if mustMake(t, plain).ID == mustMake(t, define(where("many", dp.Rows, large))).ID {
		t.Error("a condition does not change what is drawn")
	}
	spelled := define(where("many", dp.Rows, dp.Condition{Field: "amount", Gte: text("99.999")}, dp.Condition{Field: "amount", Gte: text("100.00")}))
	if mustMake(t, spelled).ID != mustMake(t, define(where("many", dp.Rows, large))).ID {
		t.Error("its spelling does")
	}
}

// Which private groups are shown follows from all customers: from those with a row that meets a metric's conditions, a group
// without any could get noise.
func TestSelectionIsNeverByAMetricWithConditions(t *testing.T) {
	q := define(where("who", dp.Customers, dp.Condition{Field: "amount", Gte: text("100")}))
	q.By = []string{"city"}
	p := mustMake(t, q)
	if p.Selection == nil || p.SelectedBy >= 0 || len(p.Tree.Columns[p.SelectionColumn()].Tests) > 0 {
		t.Errorf("selected by metric %d and column %+v", p.SelectedBy, p.Tree.Columns[p.SelectionColumn()])
	}
	q.Metrics = append(q.Metrics, "customers")
	p = mustMake(t, q)
	if p.SelectedBy < 0 || p.Metrics[p.SelectedBy].Name != "customers" {
		t.Errorf("selected by metric %d", p.SelectedBy)
	}
}

// How an answer is shown changes neither its draw nor its price.
func TestTotalsAndTopAreNoPartOfAPlansIdentity(t *testing.T) {
	q := question()
	q.By = []string{"category"}
	plain := mustMake(t, q)
	q.Totals, q.Top = true, &dp.Top{Metric: "customers", N: 3}
	p := mustMake(t, q)
	if p.ID != plain.ID || p.Loss != plain.Loss || string(p.Canonical) != string(plain.Canonical) || !p.Totals || p.Top.N != 3 {
		t.Errorf("%s costs %v, with totals and top %s %v", plain.ID, plain.Loss, p.ID, p.Loss)
	}
}

func TestWrongTopsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dp.Query)
		at     string
	}{
		"of a metric that is not asked": {func(q *dp.Query) { q.Top.Metric = "spend" }, "top.metric"},
		"of none":                       {func(q *dp.Query) { q.Top.N = 0 }, "top.n"},
		"of more than there can be":     {func(q *dp.Query) { q.Top.N = 1 << 40 }, "top.n"},
		"of no groups":                  {func(q *dp.Query) { q.By = nil }, "top"},
		"of several levels":             {func(q *dp.Query) { q.Reconcile = [][]string{{}} }, "top"},
	} {
		q := question()
		q.Metrics, q.By, q.Top, q.Delta = []string{"rows"}, []string{"category"}, &dp.Top{Metric: "rows", N: 3}, "1e-9"
		c.change(&q)
		_, err := plan.Make(q, cards(), []dp.Budget{cards().Cap}, plan.DefaultLimits())
		var refused *dp.Error
		if !errors.As(err, &refused) || !slices.ContainsFunc(refused.Locations, func(l dp.Location) bool { return l.Path == c.at }) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Days and sessions are noised for no more of them than one group can have of a customer.
func TestDaysAndSessionsAreBoundedByTheDaysOfAGroup(t *testing.T) {
	for by, want := range map[string][2]int64{"": {31, 20}, "time.week": {7, 20}, "time.day": {1, 20}, "time.hour": {31, 20}, "category": {31, 20}} {
		for _, rowsEach := range []int64{20, 1000} {
			policy := cards()
			policy.Bounds.MaxRows = rowsEach
			q := question()
			q.Metrics, q.Define = []string{"d", "s"}, []dp.Definition{{Name: "d", Aggregate: dp.Days}, {Name: "s", Aggregate: dp.Sessions}}
			if by != "" {
				q.By = []string{by}
			}
			p, err := plan.Make(q, policy, nil, plan.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			sessions := want[1]
			if rowsEach == 1000 {
				sessions = min(1000, 51*want[0])
			}
			if p.Metrics[0].Upper != want[0] || p.Metrics[1].Upper != sessions {
				t.Errorf("by %q of %d rows: at most %d days and %d sessions, want %d and %d", by, rowsEach, p.Metrics[0].Upper, p.Metrics[1].Upper, want[0], sessions)
			}
		}
	}
}
