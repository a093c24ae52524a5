package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// travelled is cards with dimensions that are made of others: of a public one, of a private one, and of one that is made itself.
func travelled() dp.VersionedPolicy {
	p := cards()
	group := func(label string, values ...string) dp.LabelGroup { return dp.LabelGroup{Label: label, Values: values} }
	p.Derived = []dp.Derived{
		{Name: "need", Of: "category", Groups: []dp.LabelGroup{group("yes", "grocery")}, Other: "no"},
		{Name: "region", Of: "city", Groups: []dp.LabelGroup{group("south", "Munich", "Ulm"), group("north", "Kiel")}, Other: "abroad"},
		{Name: "sea", Of: "region", Groups: []dp.LabelGroup{group("near", "north")}, Other: "far"},
		{Name: "adult", Of: "age", Groups: []dp.LabelGroup{group("hardly", "18", "19"), group("yes", "20", "100")}},
	}
	return p
}

func travel(t *testing.T, change func(*dp.Query)) *plan.Plan {
	t.Helper()
	q := question()
	change(&q)
	p, err := plan.Make(q, travelled(), []dp.Budget{travelled().Cap}, plan.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKeysOfOneDimensionOccurInTuplesThatAgree(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dp.Query)
		want   string
	}{
		"a derived one alone":     {func(q *dp.Query) { q.By = []string{"need"} }, "[[no] [yes]]"},
		"of a private one":        {func(q *dp.Query) { q.By = []string{"region"} }, "[[abroad] [north] [south]]"},
		"with what it is made of": {func(q *dp.Query) { q.By = []string{"need", "category"} }, "[[grocery yes] [other no] [travel no]]"},
		"two of a private one":    {func(q *dp.Query) { q.By = []string{"sea", "region"} }, "[[abroad far] [north near] [south far]]"},
		"under a condition on it": {func(q *dp.Query) {
			q.By, q.Where = []string{"need", "category"}, []dp.Condition{{Field: "need", Eq: text("no")}}
		}, "[[other no] [travel no]]"},
		"under one on the other": {func(q *dp.Query) {
			q.By, q.Where = []string{"need"}, []dp.Condition{{Field: "category", In: []string{"travel", "other"}}}
		}, "[[no]]"},
		"narrowing what it is made of": {func(q *dp.Query) {
			q.By, q.Where = []string{"age"}, []dp.Condition{{Field: "adult", Eq: text("hardly")}}
		}, "[[18] [19]]"},
		"beside others": {func(q *dp.Query) {
			q.By, q.Where = []string{"adult", "need", "age"}, []dp.Condition{{Field: "age", Gte: text("19")}}
		}, "[[hardly 19 no] [hardly 19 yes] [yes 20 no] [yes 20 yes] [yes 100 no] [yes 100 yes]]"},
	} {
		p := travel(t, c.change)
		if got := fmt.Sprint(p.Groups()); got != c.want || p.GroupsMayBeHidden {
			t.Errorf("%s: groups %s, want %s", name, got, c.want)
		}
	}
	// One customer can be in no more groups than there are.
	if p := travel(t, func(q *dp.Query) { q.By = []string{"need", "category"} }); p.Tree.Input.Partitions != 3 {
		t.Errorf("L0 is %d", p.Tree.Input.Partitions)
	}
	if p := travel(t, func(q *dp.Query) { q.By, q.Delta = []string{"region", "city"}, "1e-9" }); !p.GroupsMayBeHidden || p.Tree.Input.Partitions != 8 {
		t.Errorf("with a private key: hidden %v, L0 %d", p.GroupsMayBeHidden, p.Tree.Input.Partitions)
	}
}

// A level that leaves out a city keeps its region: no more fall together there than it has cities.
func TestLevelsOfPlacesFoldWhatIsMadeOfThem(t *testing.T) {
	p := travel(t, func(q *dp.Query) {
		q.Metrics, q.By, q.Delta, q.Epsilon = []string{"rows"}, []string{"adult", "age"}, "1e-9", "1"
		q.Reconcile = [][]string{{"adult"}, {"age"}, {}}
	})
	folds := map[string]int64{}
	for _, l := range p.Levels {
		name := ""
		for _, k := range l.Keys {
			name += p.Tree.Input.Input.Keys[k].Name
		}
		folds[name] = l.Fold
	}
	if folds["adult"] != 2 || folds["age"] != 1 || folds[""] != 4 {
		t.Errorf("folds are %v", folds)
	}
	if h := p.Hierarchy(); h.Finest != 4 || !slices.Equal(h.Levels[0].Of, []int{0, 0, 1, 1}) {
		t.Errorf("the hierarchy is %+v", h)
	}
}

func TestQuestionsThatPlacesCannotAnswerAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dp.Query)
		at     string
	}{
		"a label that there is not": {func(q *dp.Query) { q.Where = []dp.Condition{{Field: "region", Eq: text("west")}} }, "where[0].eq"},
		"a range of labels":         {func(q *dp.Query) { q.Where = []dp.Condition{{Field: "adult", Gte: text("yes")}} }, "where[0]"},
		"none that is left": {func(q *dp.Query) {
			q.By, q.Where = []string{"need"}, []dp.Condition{{Field: "category", Eq: text("grocery")}, {Field: "need", Eq: text("no")}}
		}, "by[0]"},
		"no combination that is left": {func(q *dp.Query) {
			q.By, q.Where = []string{"region", "sea"}, []dp.Condition{{Field: "region", Eq: text("south")}, {Field: "sea", Eq: text("near")}}
		}, "by"},
	} {
		q := question()
		c.change(&q)
		_, err := plan.Make(q, travelled(), nil, plan.DefaultLimits())
		var refused *dp.Error
		if !errors.As(err, &refused) || !slices.ContainsFunc(refused.Locations, func(l dp.Location) bool { return l.Path == c.at }) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
