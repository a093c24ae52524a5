package answer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// What a refusal by accuracy and a plan offer in place of a question is priced as it would be asked, and cheaper.
func TestVariantsArePricedAsTheyWouldBeAsked(t *testing.T) {
	policy := shop()
	policy.Unit.Block, policy.Time = dp.Month, &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "unix"}
	policy.Bounds.MaxPartitions = 200
	policy.Dimensions[0].Values = []string{"food", "toys", "books", "pets"}
	category := policy.Dimensions[0]
	policy.Dimensions = append(policy.Dimensions, dp.Dimension{Name: "aisle", Column: category.Column, Type: dp.StringDimension, Values: []string{"cold", "dry"}})
	policy.Dimensions[0].Parent = "aisle"
	policy.Derived = []dp.Derived{{Name: "kind", Of: category.Name, Groups: []dp.LabelGroup{{Label: "food", Values: category.Values[:1]}}, Other: "others"}}
	m := newMemory(policy, policy.Cap)
	s := newService(m, &engine{m: m}, exact{})
	q := byCategory()
	q.By, q.From, q.To = append(q.By, "time.day"), "2026-01-01", "2026-01-31"
	q.Metrics, q.Epsilon, q.Delta = []string{"customers"}, "", ""
	q.Within = map[string]string{"customers": "3"}
	_, err := s.Plan(context.Background(), ann, q)
	var refused *dp.Error
	if !errors.As(err, &refused) || refused.Code != dp.CodeAccuracyUnattainable || len(refused.Best) != 1 {
		t.Fatalf("got %v", err)
	}
	without := q
	without.By = nil
	if _, err := s.Plan(context.Background(), ann, without); err != nil {
		t.Fatalf("the case is too hard for any variant: %v", err)
	}

	q.Within["customers"] = "60"
	quote, err := s.Plan(context.Background(), ann, q)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, a := range quote.Alternatives {
		if a.Epsilon >= quote.Plan.Loss.Epsilon {
			t.Errorf("%q costs %s, the question %s", a.Change, a.Epsilon, quote.Plan.Loss.Epsilon)
		}
		other := q
		switch {
		case strings.HasPrefix(a.Change, "group by time.week instead of time.day: customers within "):
			other.By = []string{q.By[0], "time.week"}
		case strings.HasPrefix(a.Change, "group by aisle instead of "+q.By[0]+": "):
			other.By = []string{"aisle", "time.day"}
		case strings.HasPrefix(a.Change, "group by kind instead of "+q.By[0]+": "):
			other.By = []string{"kind", "time.day"}
		case strings.HasPrefix(a.Change, "leave out "+q.By[0]+": "):
			other.By = []string{"time.day"}
		case strings.HasPrefix(a.Change, "ask for intervals twice as wide: "):
			other.Within = map[string]string{"customers": "120"}
		default:
			continue
		}
		found[a.Change] = true
		if priced, err := s.Plan(context.Background(), ann, other); err != nil || priced.Plan.Loss.Epsilon != a.Epsilon {
			t.Errorf("%q is offered at %s and priced at %v, %v", a.Change, a.Epsilon, priced.Plan.Loss.Epsilon, err)
		}
	}
	if len(found) < 5 {
		t.Errorf("offered are %+v", quote.Alternatives)
	}
	if len(m.journal) != 0 {
		t.Errorf("pricing touched %v", m.journal)
	}
}
