package answer_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// linkedShop is a shop by months whose customers may be joined with those of usage.
func linkedShop() (shops, usage dp.VersionedPolicy) {
	shops = shop()
	shops.Unit.Block, shops.Time = dp.Month, &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "unix"}
	shops.Link = &dp.Link{Consent: "agrees"}
	usage = shops
	usage.Name = "usage"
	return shops, usage
}

// joined asks of customers of two months who did something in another dataset.
func joined(with string) dp.Query {
	return dp.Query{
		Dataset: "shop", Metrics: []string{"rows"}, By: []string{"category"}, From: "2026-01-01", To: "2026-02-28", Purpose: "reporting",
		Cohorts: []dp.Cohort{{Dataset: with}},
	}
}

func TestDatasetThatMayNotBeJoinedIsLikeOneThatIsNot(t *testing.T) {
	shops, usage := linkedShop()
	usage.Audiences = []dp.Audience{dp.ThirdParty}
	m := newMemory(shops, shops.Cap)
	m.others = []dp.VersionedPolicy{usage}
	s := newService(m, &engine{m: m}, exact{})
	var refusals []*dp.Error
	for _, dataset := range []string{"usage", "nowhere"} {
		for _, purpose := range []string{"reporting", "fraud"} {
			q := joined(dataset)
			q.Purpose = purpose
			ann := ann
			ann.Purposes = []string{"reporting", "fraud"}
			var refused *dp.Error
			if _, err := s.Ask(context.Background(), ann, q, ""); !errors.As(err, &refused) || refused.Code != dp.CodeInvalidQuery {
				t.Fatalf("%s for %s: %v", dataset, purpose, err)
			}
			refusals = append(refusals, refused)
		}
	}
	for _, r := range refusals[1:] {
		if !reflect.DeepEqual(r, refusals[0]) {
			t.Errorf("one refusal is %+v, another %+v", refusals[0], r)
		}
	}
	if len(m.journal) != 0 {
		t.Errorf("refusals touched %v", m.journal)
	}
}

func TestOfManyCohortsFewDatasetsAreLookedUp(t *testing.T) {
	shops, _ := linkedShop()
	m := newMemory(shops, shops.Cap)
	q := joined("nowhere")
	for range 1000 {
		q.Cohorts = append(q.Cohorts, dp.Cohort{Dataset: "nowhere"})
	}
	_, err := newService(m, &engine{m: m}, exact{}).Ask(context.Background(), ann, q, "")
	if code(err) != dp.CodeInvalidQuery || m.lookups > 10 {
		t.Errorf("got %v after %d lookups", err, m.lookups)
	}
}

func TestJoinNeedsAPurposeOfBothDatasets(t *testing.T) {
	shops, usage := linkedShop()
	usage.Purposes = []string{"fraud"}
	m := newMemory(shops, shops.Cap)
	m.others = []dp.VersionedPolicy{usage}
	_, err := newService(m, &engine{m: m}, exact{}).Ask(context.Background(), ann, joined("usage"), "")
	if code(err) != dp.CodePurposeNotAllowed || len(m.journal) != 0 {
		t.Errorf("got %v after %v", err, m.journal)
	}
}

// A joined dataset can pay more than the one that is asked, and what is offered instead is priced by what it pays.
func TestVariantsOfAJoinArePricedByTheDearestBlock(t *testing.T) {
	shops, usage := linkedShop()
	m := newMemory(shops, shops.Cap)
	m.others = []dp.VersionedPolicy{usage}
	s := newService(m, &engine{m: m}, exact{})
	q := joined("usage")
	q.Within = map[string]string{"rows": "200"}
	quote, err := s.Plan(context.Background(), ann, q)
	if err != nil {
		t.Fatal(err)
	}
	if most := quote.Plan.MostLoss().Epsilon; most <= quote.Plan.Loss.Epsilon {
		t.Fatalf("the joined dataset pays %s, the other %s", most, quote.Plan.Loss.Epsilon)
	}
	offered := 0
	for _, a := range quote.Alternatives {
		other := q
		switch {
		case strings.HasPrefix(a.Change, "leave out category: "):
			other.By = nil
		case strings.HasPrefix(a.Change, "ask for intervals twice as wide: "):
			other.Within = map[string]string{"rows": "400"}
		default:
			continue
		}
		offered++
		if priced, err := s.Plan(context.Background(), ann, other); err != nil || priced.Plan.MostLoss().Epsilon != a.Epsilon {
			t.Errorf("%q is offered at %s and costs %v, %v", a.Change, a.Epsilon, priced.Plan.MostLoss().Epsilon, err)
		}
	}
	if offered == 0 {
		t.Errorf("offered are %+v", quote.Alternatives)
	}

	// What is left for it is offered to those who join as to others.
	m.budget = dp.Budget{Epsilon: dp.EpsilonOne / 10}
	q.Within = nil
	if quote, err = s.Plan(context.Background(), ann, q); err != nil {
		t.Fatal(err)
	}
	if len(quote.Alternatives) == 0 || !strings.HasPrefix(quote.Alternatives[0].Change, "ask with epsilon 0.1 ") || quote.Alternatives[0].Epsilon != dp.EpsilonOne/10 {
		t.Errorf("of a budget that is too small: %+v", quote.Alternatives)
	}
}
