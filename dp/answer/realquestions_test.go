package answer

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// realQuestion is a question of one kind about the real page views or purchases, of every aggregate and operator one.
type realQuestion struct {
	name    string
	dataset string
	query   dp.Query
	bounds  dp.Bounds // of the dataset's policy
	private bool
}

// realWorld is the page views and the purchases as two datasets that can be joined. Three things are made up, since no
// real data have them: the n-th reader is the n-th household, most of them agree to be joined, and page views are on a clock
// that is five times as slow, so that sixteen days fall into three months.
type realWorld struct {
	policies map[string]dp.Policy
	rows     map[string][]rows.Row
}

const (
	views, purchases = "views", "purchases"
	slower           = 5
)

func newRealWorld(t *testing.T) *realWorld {
	t.Helper()
	budget := dp.Budget{Epsilon: 100 * dp.EpsilonOne, Delta: dp.DeltaOne / 100_000}
	policy := dp.Policy{
		Cap: budget, Default: budget, Purposes: []string{"p"}, Audiences: []dp.Audience{dp.Internal}, Link: &dp.Link{Consent: "agreed"},
	}
	v, b := policy, policy
	v.Name, v.Kind, v.Population = views, dp.Engagement, 10_000
	v.Unit, v.Time = dp.Unit{Column: "uuid", Block: dp.Month}, &dp.TimeColumn{Column: "timestamp", Timezone: "UTC", Format: "rfc3339"}
	v.Dimensions = []dp.Dimension{
		{Name: "section", Column: "url", Type: dp.StringDimension, Values: []string{"shuttle", "images", "history", "else"}, Other: "else"},
		{Name: "page", Column: "url", Type: dp.StringDimension, Private: true},
	}
	b.Name, b.Kind, b.Population = purchases, dp.Transactions, 2400
	b.Unit, b.Time = dp.Unit{Column: "household_id", Block: dp.Month}, &dp.TimeColumn{Column: "transaction_timestamp", Timezone: "UTC", Format: "rfc3339"}
	b.Dimensions = []dp.Dimension{
		{Name: "department", Column: "product_id", Type: dp.StringDimension, Values: []string{"GROCERY", "DRUG GM", "PRODUCE", "else"}, Other: "else"},
		{Name: "product", Column: "product_id", Type: dp.StringDimension, Private: true},
	}
	b.Measures = []dp.Measure{
		{Name: "amount", Column: "sales_value", Scale: 2, Upper: 2000}, {Name: "quantity", Column: "quantity", Upper: 20},
		{Name: "balance", Column: "quantity", Upper: 20, Level: true}, // what was bought last, read as a level
	}
	w := &realWorld{map[string]dp.Policy{views: v, purchases: b}, map[string][]rows.Row{
		views: realRows(t, &v, "wikimedia-sessions/session_dataset.csv"), purchases: realRows(t, &b, "completejourney/transactions_sample.csv"),
	}}
	departments := realDepartments(t)
	start := time.Date(2014, 1, 7, 0, 0, 0, 0, time.UTC).UnixMilli()
	for i := range w.rows[views] {
		r := &w.rows[views][i]
		r.Time = start + slower*(r.Time-start)
		_, path, _ := strings.Cut(r.Dimensions[0].Value, "://")
		_, path, _ = strings.Cut(path, "/")
		r.Dimensions[0].Value, _, _ = strings.Cut(path, "/")
	}
	for i := range w.rows[purchases] {
		r := &w.rows[purchases][i]
		r.Dimensions[0].Value = departments[r.Dimensions[0].Value]
	}
	for _, of := range w.rows {
		for i := range of {
			of[i].Consented = of[i].Customer%4 > 0 || i%3 == 0
		}
	}
	return w
}

// realDepartments are those of products.
func realDepartments(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "..", "shared", "data", "completejourney", "products.csv"))
	if err != nil {
		t.Skipf("without the real data: %v", err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	product, department := slices.Index(records[0], "product_id"), slices.Index(records[0], "department")
	of := make(map[string]string)
	for _, record := range records[1:] {
		of[record[product]] = record[department]
	}
	return of
}

// plan prices a question.
func (w *realWorld) plan(t *testing.T, q realQuestion, confidence string) *plan.Plan {
	t.Helper()
	asked, own := q.query, w.policies[q.dataset]
	asked.Dataset, asked.Purpose, asked.Confidence, own.Bounds = q.dataset, "p", confidence, q.bounds
	var others []dp.VersionedPolicy
	for name, of := range w.policies {
		if name != q.dataset {
			of.Bounds = q.bounds
			others = append(others, dp.VersionedPolicy{Policy: of, Version: 1})
		}
	}
	for _, d := range asked.Define {
		if !slices.Contains(asked.Metrics, d.Name) {
			asked.Metrics = append(slices.Clone(asked.Metrics), d.Name)
		}
	}
	p, err := plan.Make(asked, dp.VersionedPolicy{Policy: own, Version: 1}, nil, plan.DefaultLimits(), others...)
	if err != nil {
		t.Fatalf("%s: %v", q.name, err)
	}
	return p
}

// exact are the bounded integers of a plan over rows.
func (w *realWorld) exact(t *testing.T, p *plan.Plan, all map[string][]rows.Row) []bounding.Partition {
	t.Helper()
	var partitions []bounding.Partition
	var err error
	if p.Tree.Input.Input.Profile != nil {
		partitions, err = bounding.ReferenceSeveral(p, []byte("salt"), all)
	} else {
		partitions, err = bounding.Reference(p, []byte("salt"), all[p.Policy.Name])
	}
	if err != nil {
		t.Fatal(err)
	}
	return partitions
}

// realQuestions are of every aggregate, and of every operator for both kinds of data.
func realQuestions() (all []realQuestion) {
	is := func(field, value string) []dp.Condition { return []dp.Condition{{Field: field, Eq: &value}} }
	add := func(dataset, name string, bounds dp.Bounds, q dp.Query) {
		q.From, q.To = map[string]string{views: "2014-01-12", purchases: "2017-01-10"}[dataset], map[string]string{views: "2014-03-20", purchases: "2017-04-20"}[dataset]
		if q.Epsilon == "" {
			q.Epsilon, q.Delta = "2", "1e-6"
		}
		private := slices.Contains(q.By, "page") || slices.Contains(q.By, "product")
		all = append(all, realQuestion{dataset + ", " + name, dataset, q, bounds, private})
	}
	most := int64(3)
	few := dp.Bounds{MaxPartitions: 2, MaxRows: 3}
	for _, d := range []struct {
		name, dimension, private string
		labels                   [3]string
		metrics, additive        []string // additive are also of the Gaussian's choice
		other                    dp.Cohort
		define                   []dp.Definition
	}{
		{
			views, "section", "page", [3]string{"shuttle", "images", "history"}, []string{"customers", "rows", "active_days", "sessions", "stickiness"}, []string{"customers", "rows"},
			dp.Cohort{Dataset: purchases, From: "2017-01-01", To: "2017-03-31", Where: is("department", "GROCERY"), AtLeast: 2},
			[]dp.Definition{
				{Name: "a_share", Aggregate: dp.Share, Of: "rows"}, {Name: "a_ratio", Aggregate: dp.Ratio, Numerator: "rows", Denominator: "customers"},
				{Name: "each", Aggregate: dp.Mean, Per: dp.PerCustomer}, {Name: "of_shuttle", Aggregate: dp.Rows, Where: is("section", "shuttle")},
			},
		},
		{
			purchases, "department", "product", [3]string{"GROCERY", "DRUG GM", "PRODUCE"}, []string{"customers", "rows", "spend"}, []string{"customers", "spend"},
			dp.Cohort{Dataset: views, From: "2014-01-07", To: "2014-02-28", Where: is("section", "shuttle"), AtMost: &most},
			[]dp.Definition{
				{Name: "a_mean", Aggregate: dp.Mean, Measure: "amount"}, {Name: "a_variance", Aggregate: dp.Variance, Measure: "amount"}, {Name: "a_stddev", Aggregate: dp.StdDev, Measure: "amount"},
				{Name: "a_median", Aggregate: dp.Quantile, Measure: "quantity", Rank: "0.5"}, {Name: "a_min", Aggregate: dp.Min, Measure: "quantity"}, {Name: "a_max", Aggregate: dp.Max, Measure: "quantity"},
				{Name: "a_share", Aggregate: dp.Share, Of: "spend"}, {Name: "a_ratio", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"},
				{Name: "each", Aggregate: dp.Mean, Measure: "amount", Per: dp.PerCustomer}, {Name: "of_large", Aggregate: dp.Rows, Where: []dp.Condition{{Field: "amount", Gte: new("5")}}},
			},
		},
	} {
		everything := dp.Query{Metrics: d.metrics, Define: d.define, By: []string{d.dimension}}
		pure := everything
		pure.Epsilon, pure.Delta = "8", "0"
		add(d.name, "every aggregate", few, everything)
		add(d.name, "every aggregate, Laplace noise", few, pure)
		add(d.name, "filtered", few, dp.Query{Metrics: d.metrics, By: []string{"time.week"}, Where: []dp.Condition{{Field: d.dimension, In: []string{d.labels[0], d.labels[1]}}}})
		add(d.name, "private keys", few, dp.Query{Metrics: d.additive, By: []string{d.private}})
		add(d.name, "many private keys", dp.Bounds{MaxPartitions: 40, MaxRows: 3}, dp.Query{Metrics: d.additive, By: []string{d.private, "time.month"}, Epsilon: "0.5", Delta: "1e-6"})
		add(d.name, "reconciled", few, dp.Query{Metrics: d.metrics[1:2], By: []string{d.dimension, "time.week"}, Reconcile: [][]string{{d.dimension}, {"time.week"}, {}}})
		add(d.name, "cohort", few, dp.Query{Metrics: d.additive, By: []string{d.dimension}, Cohorts: []dp.Cohort{{Where: is(d.dimension, d.labels[1]), AtLeast: 2}}})
		add(d.name, "cohorts, Laplace noise", few, dp.Query{Metrics: d.additive, By: []string{"time.month"}, Epsilon: "2", Delta: "0", Cohorts: []dp.Cohort{
			{Where: is(d.dimension, d.labels[0])}, {Where: is(d.dimension, d.labels[2]), AtMost: &most},
		}})
		add(d.name, "retention", few, dp.Query{Metrics: []string{"customers"}, By: []string{"first.month", "since.month"}})
		add(d.name, "retention, Laplace noise", few, dp.Query{Metrics: []string{"customers"}, By: []string{"since.week"}, First: is(d.dimension, d.labels[0]), Epsilon: "4", Delta: "0"})
		add(d.name, "variants", few, dp.Query{Metrics: d.additive, By: []string{"first." + d.dimension}})
		steps := [][]dp.Condition{is(d.dimension, d.labels[0]), is(d.dimension, d.labels[1]), is(d.dimension, d.labels[2])}
		add(d.name, "funnel", dp.Bounds{MaxPartitions: 3, MaxRows: 3}, dp.Query{Metrics: []string{"customers"}, By: []string{"funnel.step"}, Funnel: &dp.Funnel{Steps: steps, Within: "40d"}})
		add(d.name, "funnel by variants, Laplace noise", few, dp.Query{Metrics: []string{"customers"}, By: []string{"funnel.step", "first." + d.dimension}, Funnel: &dp.Funnel{Steps: steps[:2]}, Epsilon: "2", Delta: "0"})
		add(d.name, "join", few, dp.Query{Metrics: d.additive, By: []string{d.dimension}, Cohorts: []dp.Cohort{d.other}})
		add(d.name, "join by months, Laplace noise", few, dp.Query{Metrics: d.additive, By: []string{"time.month"}, Cohorts: []dp.Cohort{d.other}, Epsilon: "2", Delta: "0"})
	}
	add(purchases, "balances", few, dp.Query{By: []string{"time.month"}, Define: []dp.Definition{
		{Name: "a_balance", Aggregate: dp.Mean, Measure: "balance"}, {Name: "a_middle", Aggregate: dp.Quantile, Measure: "balance", Rank: "0.5"},
	}})
	return all
}
