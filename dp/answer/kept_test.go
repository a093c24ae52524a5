package answer

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// TestPlansOfReleasesTakeBoundedMemory: what is kept is what it says that it takes, and no more than is allowed.
func TestPlansOfReleasesTakeBoundedMemory(t *testing.T) {
	policy := dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "till", Kind: dp.Transactions, Population: 1000, Unit: dp.Unit{Column: "customer", Block: dp.Month},
		Time:   &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Bounds: dp.Bounds{MaxPartitions: 4, MaxRows: 3}, Cap: dp.Budget{Epsilon: dp.EpsilonOne}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 2},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}}
	release := func(i int, to string) dp.Release {
		p, err := plan.Make(dp.Query{Dataset: "till", Metrics: []string{"rows"}, By: []string{"time.day", "time.week", "time.month"}, From: "2000-01-01", To: to, Purpose: "reporting"}, policy, nil, plan.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		return dp.Release{ID: fmt.Sprint("rel_", i), Dataset: "till", PolicyVersion: 1, Plan: p.ID, Privacy: Privacy(p), CanonicalQuery: string(p.Question)}
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var kept drawnPlans
	for _, to := range []string{"2000-01-31", "2004-12-31", "2032-12-31"} {
		kept = drawnPlans{}
		r := release(0, to)
		before := heap()
		p := kept.of(r, policy)
		if after := heap(); p == nil || after-before > int64(p.Bytes())+1<<16 {
			t.Errorf("the plan of a release until %s takes %d bytes and says %d", to, after-before, p.Bytes())
		}
		runtime.KeepAlive(&kept)
	}
	if len(kept.plans) != 0 {
		t.Error("a plan is kept that is larger than one may be")
	}
	most := 0
	for i := range 300 {
		kept.of(release(i, "2003-12-31"), policy)
		sum := 0
		for _, p := range kept.plans {
			sum += p.Bytes() + 200
		}
		if most = max(most, sum); sum != kept.bytes || sum > mostDrawn {
			t.Fatalf("after %d releases %d bytes are kept, counted as %d", i, sum, kept.bytes)
		}
	}
	if most < mostDrawn/2 || len(kept.plans) == 300 {
		t.Errorf("at most %d bytes were kept: the test shows nothing", most)
	}
	kept.of(dp.Release{ID: "rel_of_earlier_version"}, policy)
	if p, known := kept.plans["rel_of_earlier_version"]; p != nil || !known {
		t.Error("that a release cannot be reused is not kept")
	}
}

// TestRecentDrawsTakeBoundedMemory: no more numbers are kept than are allowed, however many draws are made.
func TestRecentDrawsTakeBoundedMemory(t *testing.T) {
	var kept recent
	draw := func(groups, width int) (noised [][]int64) {
		for range groups {
			noised = append(noised, make([]int64, width))
		}
		return noised
	}
	most := 0
	for i := range 2000 {
		id := fmt.Sprint("rel_", i)
		kept.keep(id, draw(100, 1+i%40))
		kept.keep(id, draw(100, 1+i%40)) // again
		numbers := 0
		for _, noised := range kept.byRelease {
			for _, g := range noised {
				numbers += len(g) + 4
			}
		}
		if most = max(most, numbers); numbers != kept.numbers || numbers > mostRecent {
			t.Fatalf("after %d draws %d numbers are kept, counted as %d", i, numbers, kept.numbers)
		}
		if kept.of(id) == nil {
			t.Fatalf("draw %d is not kept", i)
		}
	}
	if most < mostRecent/2 || len(kept.byRelease) == 2000 {
		t.Errorf("at most %d numbers were kept: the test shows nothing", most)
	}
	before := kept.numbers
	if kept.keep("large", draw(mostOfOne/5, 2)); kept.of("large") != nil || kept.numbers != before {
		t.Error("a draw is kept that is larger than one may be")
	}
}

// TestDigestOfAQuestionStays: keys are kept for ever with the digest of what was asked under them, and the questions of
// reports with the key that they were charged under. Whoever adds a field to dp.Query, or to what it holds, has it left
// out where it is absent; else every key that was used before is refused as another question's.
func TestDigestOfAQuestionStays(t *testing.T) {
	gte, eq := "10", "DE"
	q := dp.Query{
		Dataset: "transactions", Metrics: []string{"customers", "p90"}, By: []string{"category"}, From: "2026-01-01", To: "2026-01-31", Purpose: "reporting",
		Define: []dp.Definition{{Name: "p90", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.9"}},
		Where:  []dp.Condition{{Field: "amount", Gte: &gte}, {Field: "country", Eq: &eq}, {Field: "city", In: []string{}}},
		Within: map[string]string{"customers": "35"}, Clamp: map[string]dp.Clamp{"p90": {Lower: "0", Upper: "100"}}, Confidence: "0.9", Fresh: true,
	}
	for name, c := range map[string]struct {
		query dp.Query
		want  string
	}{
		"an empty question": {dp.Query{}, "9628781f65aec20e"},
		"a question":        {q, "dac5fffefc85b193"},
	} {
		got, err := Digest(c.query)
		if err != nil || fmt.Sprintf("%x", got[:8]) != c.want {
			t.Errorf("the digest of %s begins with %x, %v, and began with %s", name, got[:8], err, c.want)
		}
	}
}
