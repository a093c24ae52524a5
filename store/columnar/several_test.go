package columnar

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Questions over several blocks of a customer, and over two datasets, give the reference's integers.
func TestSeveralBlocksEqualReference(t *testing.T) {
	partitions, joined, spilled := 0, 0, 0
	for seed, worlds := uint64(0), 0; worlds < 15; seed++ {
		w := newWorld(t, 7000+seed)
		if w.policy.Unit.Row || w.policy.Time == nil || w.heavy || w.policy.Time.Timezone == "America/St_Johns" {
			continue
		}
		worlds++
		second := linkedClicks()
		second.Unit.Block = w.policy.Unit.Block
		for _, p := range []*dp.Policy{&w.policy.Policy, &second.Policy} {
			p.Population, p.Bounds = 1000, dp.Bounds{MaxPartitions: 2 + w.random.Int64N(3), MaxRows: 1 + w.random.Int64N(3)}
			p.Default, p.Purposes = dp.Budget{Epsilon: dp.EpsilonOne, Delta: 1e10}, []string{"p"}
		}
		w.policy.Measures[0].Upper, w.policy.Measures[1].Lower, w.policy.Measures[1].Upper = 1000, -3, 40
		for range 1 + w.random.IntN(3) {
			w.load(t)
		}
		var text strings.Builder
		text.WriteString(clicksHeader)
		for range w.random.IntN(300) {
			fmt.Fprintf(&text, "u%d,2026-%02d-%02d,%s,%d,%s\n", w.random.IntN(w.users+3), 1+w.random.IntN(2), 1+w.random.IntN(28),
				pick(w.random, "", "home", "about"), w.random.IntN(9), pick(w.random, "", "2026-01-02"))
		}
		report := mustLoad(t, w.store, second, days("clicks", "2026-01-01", "2026-12-31"), text.String())
		all := map[string][]rows.Row{"world": w.grown(w.rows), "clicks": rowsOf(t, &second.Policy, text.String(), report.Load.ID)}
		if err := w.store.compact(t.Context(), appetite{runs: 1 + w.random.IntN(3), loads: 1}, nil); err != nil {
			t.Fatal(err)
		}
		for range 12 {
			q := severalQuestion(w.random)
			p, err := plan.Make(q, w.policy, nil, plan.DefaultLimits(), second)
			if err != nil {
				t.Fatalf("%v: %+v", err, q)
			}
			at := w.catalog.now("world", p.Blocks)
			for _, also := range p.Also {
				at.Also = append(at.Also, w.catalog.now(also.Dataset, also.Blocks))
			}
			want, err := bounding.ReferenceSeveral(p, secrets{}.Salt("world"), all)
			if err != nil {
				t.Fatal(err)
			}
			got, err := aggregateAt(t.Context(), w.store, p, at)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d: got %v, want %v of %s", seed, got, want, p.Canonical)
			}
			if partitions += len(got); len(got) > 0 && p.Tree.Input.Input.Profile.Consent {
				joined++
			}
			if w.store.options.GroupBytes < 2000 && len(got) > 6 {
				spilled++
			}
		}
	}
	t.Logf("%d partitions, %d answers of joins, %d that did not fit into memory", partitions, joined, spilled)
	if partitions < 500 || joined < 10 || spilled < 3 {
		t.Error("that is too little to tell")
	}
}

func severalQuestion(random *rand.Rand) dp.Query {
	where := func(field string, values ...string) []dp.Condition {
		v := pick(random, values...)
		return []dp.Condition{{Field: field, Eq: &v}}
	}
	q := dp.Query{
		Dataset: "world", Metrics: []string{"customers", "rows", "total", "average"}, Purpose: "p", Epsilon: "1",
		From: pick(random, "2025-10-01", "2025-10-26"), To: pick(random, "2025-11-01", "2026-03-31"),
		Define: []dp.Definition{{Name: "total", Aggregate: dp.Sum, Measure: "amount"}, {Name: "average", Aggregate: dp.Mean, Measure: "minutes"}},
	}
	if random.IntN(3) == 0 {
		q.Where = where("shop", "a", "b", "else")
	}
	if random.IntN(2) == 0 {
		c := dp.Cohort{Where: where("shop", "a", "b"), AtLeast: 1 + random.Int64N(2)}
		if random.IntN(2) == 0 {
			c = dp.Cohort{Dataset: "clicks", Where: where("page", "home", "about", "none", "nowhere"), From: "2026-01-01", To: "2026-02-28"}
		}
		q.Cohorts = []dp.Cohort{c}
	}
	keys := [][]string{{"first.month"}, {"first.week", "since.week"}, {"first.city"}, {"first.shop", "city"}, {"since.month", "age"}, {"first.region", "region"}, {"first.city", "first.region"}}
	if len(q.Cohorts) > 0 {
		keys = append(keys, nil, []string{"city"}, []string{"shop", "time.day"})
	}
	q.By = keys[random.IntN(len(keys))]
	if random.IntN(3) == 0 {
		q.First = where("shop", "a", "else")
	}
	if random.IntN(4) == 0 {
		q.Define, q.Metrics, q.By = nil, []string{"customers"}, []string{"funnel.step"}
		q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{where("shop", "a", "b"), where("shop", "b", "else")}, Within: pick(random, "", "30d", "1h")}
		if random.IntN(2) == 0 {
			q.By = append(q.By, pick(random, "first.city", "first.month"))
		}
	}
	return q
}
