package answer_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// till is a dataset by month, with a dimension that has a label for everything and one that has not.
func till() dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "till", Kind: dp.Transactions, Population: 1000,
		Unit: dp.Unit{Column: "customer", Block: dp.Month},
		Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Dimensions: []dp.Dimension{
			{Name: "category", Type: dp.StringDimension, Values: []string{"food", "other", "toys"}, Other: "other"},
			{Name: "country", Type: dp.StringDimension, Values: []string{"DE", "FR"}},
			{Name: "age", Type: dp.IntDimension, Values: []string{"20", "30", "40"}},
			{Name: "city", Type: dp.StringDimension, Private: true},
		},
		Measures:  []dp.Measure{{Name: "amount", Scale: 2, Upper: 100_00}, {Name: "balance", Scale: 2, Upper: 100_00, Level: true}},
		Bounds:    dp.Bounds{MaxPartitions: 4, MaxRows: 3},
		Cap:       dp.Budget{Epsilon: 500 * dp.EpsilonOne, Delta: dp.DeltaOne / 10_000},
		Default:   dp.Budget{Epsilon: dp.EpsilonOne / 2, Delta: dp.DeltaOne / 1_000_000},
		Purposes:  []string{"reporting"},
		Audiences: []dp.Audience{dp.Internal},
	}}
}

// specification is an engine that runs the specification over rows in memory, once for each question.
type specification struct {
	rows  []rows.Row
	known map[string][]bounding.Partition
}

func (r specification) Aggregate(_ context.Context, p *plan.Plan, _ dp.Snapshot, each func(bounding.Partition) error) (err error) {
	name := fmt.Sprint(string(p.Question), p.Tree.Input.Partitions)
	if r.known[name] == nil {
		if r.known[name], err = bounding.Reference(p, []byte("salt"), r.rows); err != nil {
			return err
		}
	}
	for _, part := range r.known[name] {
		if err := each(bounding.Partition{Key: part.Key, Totals: slices.Clone(part.Totals)}); err != nil {
			return err
		}
	}
	return nil
}

func tillRows(random *rand.Rand, n int) (all []rows.Row) {
	pick := func(from ...string) rows.Text {
		if v := from[random.IntN(len(from))]; v != "" {
			return rows.Text{Value: v, Valid: true}
		}
		return rows.Text{}
	}
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range n {
		all = append(all, rows.Row{
			Customer: uint64(random.IntN(40)), Time: first.Add(time.Duration(random.IntN(90*24)) * time.Hour).UnixMilli(),
			Dimensions: []rows.Text{pick("food", "toys", "unheard of"), pick("DE", "FR", "IT"), pick("20", "30", "40"), pick("Bonn")},
			Measures:   []rows.Number{{Value: int64(random.IntN(120_00)), Valid: random.IntN(10) > 0}, {Value: 1, Valid: true}},
		})
	}
	return all
}

// newTill is a till whose answers have a noise, over random rows.
func newTill(n mechanism.Noise) (*memory, *answer.Service) {
	m := newMemory(till(), till().Cap)
	return m, newTillOver(m, n)
}

func newTillOver(m *memory, n mechanism.Noise) *answer.Service {
	e := specification{tillRows(rand.New(rand.NewPCG(1, 2)), 2000), map[string][]bounding.Partition{}}
	return answer.New(m, m, m, e, n, answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// tilled is a question about the till in the first quarter.
func tilled(change func(*dp.Query)) dp.Query {
	q := dp.Query{Dataset: "till", Metrics: []string{"transactions", "spend"}, From: "2026-01-01", To: "2026-03-31", Purpose: "reporting"}
	if change != nil {
		change(&q)
	}
	return q
}

// loose asks for so little that whatever is held is exact enough.
func loose(q *dp.Query) { q.Within = map[string]string{"transactions": "1e6", "spend": "1e8"} }

func word(s string) *string { return &s }

// fine is what is held in most tests: all keys that derivations are about.
func fine(q *dp.Query) {
	q.By = []string{"category", "country", "time.day"}
	q.Epsilon = "5"
}

// sumOf adds up, by another way than the service's, the values of those groups of a release that lead to a key.
func sumOf(r dp.Release, metric string, lead func(label func(name string) string) (key string, ok bool)) map[string]float64 {
	sums := map[string]float64{}
	at := slices.Index(r.Metrics, metric)
	for _, g := range r.Groups {
		key, ok := lead(func(name string) string { return g.Key[slices.Index(r.By, name)] })
		if ok {
			sums[key] += g.Values[at].Value
		}
	}
	return sums
}

// month, quarter and ISO week of a day's label, by its text and by package time.
func month(day string) string { return day[:7] }
func week(day string) string {
	t, _ := time.Parse(time.DateOnly, day)
	year, week := t.ISOWeek()
	return fmt.Sprintf("%04d-W%02d", year, week)
}

type label = func(name string) string

// derivations are questions that follow from fine, each with how its groups are made of those.
var derivations = map[string]struct {
	ask  func(*dp.Query)
	lead func(label) (string, bool)
}{
	"the total": {func(*dp.Query) {}, func(label) (string, bool) { return "", true }},
	"a dimension dropped": {func(q *dp.Query) { q.By = []string{"category", "time.day"} },
		func(l label) (string, bool) { return l("category") + "|" + l("time.day"), true }},
	"days to months": {func(q *dp.Query) { q.By = []string{"time.month", "country"} },
		func(l label) (string, bool) { return l("country") + "|" + month(l("time.day")), true }},
	"days to weeks": {func(q *dp.Query) { q.By = []string{"time.week"} },
		func(l label) (string, bool) { return week(l("time.day")), true }},
	"days with their months": {func(q *dp.Query) { q.By = []string{"time.month", "time.day"} },
		func(l label) (string, bool) { return l("time.day") + "|" + month(l("time.day")), true }},
	"days to the year": {func(q *dp.Query) { q.By = []string{"time.year"} },
		func(l label) (string, bool) { return l("time.day")[:4], true }},
	"a range within": {func(q *dp.Query) { q.From, q.To, q.By = "2026-01-20", "2026-02-10", []string{"time.day"} },
		func(l label) (string, bool) {
			return l("time.day"), l("time.day") >= "2026-01-20" && l("time.day") <= "2026-02-10"
		}},
	"a condition on a key": {func(q *dp.Query) {
		q.By, q.Where = []string{"category"}, []dp.Condition{{Field: "country", Eq: word("DE")}}
	}, func(l label) (string, bool) { return l("category"), l("country") == "DE" }},
	"a condition on a key that stays": {func(q *dp.Query) {
		q.By, q.Where = []string{"category"}, []dp.Condition{{Field: "category", NotIn: []string{"other"}}}
	}, func(l label) (string, bool) { return l("category"), l("category") != "other" }},
	"a condition on the calendar": {func(q *dp.Query) {
		q.By, q.Where = []string{"country"}, []dp.Condition{{Field: "time.month", In: []string{"2026-01", "2026-03"}}}
	}, func(l label) (string, bool) { return l("country"), month(l("time.day")) != "2026-02" }},
	"one metric": {func(q *dp.Query) { q.Metrics, q.By = []string{"spend"}, []string{"country"} },
		func(l label) (string, bool) { return l("country"), true }},
	"all conditions at once": {func(q *dp.Query) {
		q.From, q.By = "2026-01-15", []string{"time.month", "country"}
		q.Where = []dp.Condition{{Field: "time.day", Lte: word("2026-03-10")}, {Field: "category", In: []string{"food", "toys"}}}
	}, func(l label) (string, bool) {
		day := l("time.day")
		return l("country") + "|" + month(day), day >= "2026-01-15" && day <= "2026-03-10" && l("category") != "other"
	}},
}

func TestDerivedFiguresAreSumsOfTheReleasesFigures(t *testing.T) {
	for _, noise := range []mechanism.Noise{exact{}, mechanism.Secure()} {
		m, s := newTill(noise)
		held := ask(t, s, ann, tilled(fine), "")
		for name, c := range derivations {
			q := tilled(loose)
			c.ask(&q)
			for metric := range q.Within {
				if !slices.Contains(q.Metrics, metric) {
					delete(q.Within, metric)
				}
			}
			quote, err := s.Plan(context.Background(), ann, q)
			if err != nil || quote.FreeFrom != held.Release.ID || quote.Reused == nil {
				t.Errorf("%s: the plan is free from %q, error %v", name, quote.FreeFrom, err)
			}
			a := ask(t, s, ann, q, "")
			if !a.Reused || a.Stale || !slices.Equal(a.DerivedFrom, []string{held.Release.ID}) || a.Release.ID != "" || a.Charge.Loss != (dp.Loss{}) {
				t.Errorf("%s: reused %v, derived from %v, charged %v", name, a.Reused, a.DerivedFrom, a.Charge.Loss)
				continue
			}
			for at, metric := range a.Release.Metrics {
				want := sumOf(held.Release, metric, c.lead)
				if len(a.Release.Groups) != len(want) {
					t.Errorf("%s: %d groups, want %d", name, len(a.Release.Groups), len(want))
				}
				for _, g := range a.Release.Groups {
					key, v := strings.Join(g.Key, "|"), g.Values[at]
					if math.Abs(v.Value-want[key]) > 1e-6 {
						t.Errorf("%s: %s of %s is %v, its parts %v", name, metric, key, v.Value, want[key])
					}
					if !(v.Low < v.Value && v.Value < v.High && v.SD > 0) {
						t.Errorf("%s: %s of %s has the interval %+v", name, metric, key, v)
					}
				}
				if expected := quote.Reused.Metrics[at]; a.Release.Groups[0].Values[at].SD > expected.SD*(1+1e-9) {
					t.Errorf("%s: sd of %s is %v, more than the plan's %v", name, metric, a.Release.Groups[0].Values[at].SD, expected.SD)
				}
			}
			if p := a.Release.Privacy; p.MaxPartitions != held.Release.Privacy.MaxPartitions || p.Loss != held.Release.Privacy.Loss {
				t.Errorf("%s: states bounds and price %+v, not the release's", name, p)
			}
			if note := strings.Join(a.Release.Notes, " "); !strings.Contains(note, held.Release.ID) || !strings.Contains(note, "at most 4 of the groups") {
				t.Errorf("%s: notes %q", name, note)
			}
		}
		if len(m.charges) != 1 || len(m.releases) != 1 {
			t.Errorf("%d charges and %d releases, want those of what is held", len(m.charges), len(m.releases))
		}
	}
}

// TestSharesAndRatiosFollowFromTheirParts: exactly, under the double.
func TestSharesAndRatiosFollowFromTheirParts(t *testing.T) {
	_, s := newTill(exact{})
	held := ask(t, s, ann, tilled(fine), "")
	q := tilled(func(q *dp.Query) {
		loose(q)
		q.By, q.Metrics = []string{"category"}, []string{"ticket", "portion"}
		q.Define = []dp.Definition{
			{Name: "ticket", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "transactions"},
			{Name: "portion", Aggregate: dp.Share, Of: "spend"},
		}
	})
	a := ask(t, s, ann, q, "")
	if len(a.DerivedFrom) != 1 {
		t.Fatalf("derived from %v", a.DerivedFrom)
	}
	spend := sumOf(held.Release, "spend", func(l label) (string, bool) { return l("category"), true })
	count := sumOf(held.Release, "transactions", func(l label) (string, bool) { return l("category"), true })
	whole := spend["food"] + spend["toys"] + spend["other"]
	for _, g := range a.Release.Groups {
		key := g.Key[0]
		for metric, want := range map[string]float64{"ticket": spend[key] / count[key], "portion": spend[key] / whole, "spend": spend[key]} {
			v := g.Values[slices.Index(a.Release.Metrics, metric)]
			if math.Abs(v.Value-want) > 1e-9*math.Abs(want) || !(v.Low < want && want < v.High) {
				t.Errorf("%s of %s: %+v, want %v", metric, key, v, want)
			}
		}
	}
}

// TestWhatDoesNotFollowIsDrawn: each of these questions costs something although fine is held.
func TestWhatDoesNotFollowIsDrawn(t *testing.T) {
	at := func(hour string) []dp.Condition { return []dp.Condition{{Field: "time.hour", Eq: word(hour)}} }
	for name, change := range map[string]func(*dp.Query){
		"distinct customers":   func(q *dp.Query) { q.Metrics, q.Within = []string{"customers"}, map[string]string{"customers": "1e6"} },
		"a mean":               func(q *dp.Query) { q.Metrics, q.Within = []string{"average_ticket"}, nil },
		"a ratio of customers": func(q *dp.Query) { perHead(q) },
		"a quantile":           func(q *dp.Query) { q.Metrics, q.Within = []string{"median_ticket"}, nil },
		"days of visits":       func(q *dp.Query) { define(q, dp.Definition{Name: "x", Aggregate: dp.Days}) },
		"sessions":             func(q *dp.Query) { define(q, dp.Definition{Name: "x", Aggregate: dp.Sessions}) },
		"balances": func(q *dp.Query) {
			define(q, dp.Definition{Name: "x", Aggregate: dp.Sum, Measure: "balance"})
			q.By = []string{"time.month"}
		},
		"rows that meet a condition of the metric's own": func(q *dp.Query) {
			define(q, dp.Definition{Name: "x", Aggregate: dp.Rows, Where: []dp.Condition{{Field: "country", Eq: word("DE")}}})
		},
		"a private key":            func(q *dp.Query) { q.By = []string{"city"} },
		"a private condition":      func(q *dp.Query) { q.Where = []dp.Condition{{Field: "city", Eq: word("Bonn")}} },
		"a key that is not there":  func(q *dp.Query) { q.By = []string{"age"} },
		"a condition on another":   func(q *dp.Query) { q.Where = []dp.Condition{{Field: "age", Gte: word("30")}} },
		"a condition on a measure": func(q *dp.Query) { q.Where = []dp.Condition{{Field: "amount", Gte: word("5")}} },
		"hours":                    func(q *dp.Query) { q.By = []string{"time.hour"} },
		"one hour":                 func(q *dp.Query) { q.Where = at("09") },
		"an earlier day":           func(q *dp.Query) { q.From = "2025-12-31" },
		"a later day":              func(q *dp.Query) { q.To = "2026-04-01" },
		"another clamp":            func(q *dp.Query) { q.Clamp = map[string]dp.Clamp{"spend": {Lower: "0", Upper: "50"}} },
		"another max_partitions":   func(q *dp.Query) { q.MaxPartitions = 2 },
		"fresh":                    func(q *dp.Query) { q.Fresh = true },
		"more exactly":             func(q *dp.Query) { q.Within["transactions"] = "5" },
		"at the default's price":   func(q *dp.Query) { q.Within = nil },
		"at a price":               func(q *dp.Query) { q.Within, q.Epsilon = nil, "0.5" },
	} {
		m, s := newTill(exact{})
		held := ask(t, s, ann, tilled(fine), "")
		q := tilled(loose)
		change(&q)
		a := ask(t, s, ann, q, "")
		if a.Reused || len(a.DerivedFrom) > 0 || a.Charge.Loss == (dp.Loss{}) || a.Release.ID == held.Release.ID || len(m.charges) != 2 {
			t.Errorf("%s: reused %v, derived from %v", name, a.Reused, a.DerivedFrom)
		}
	}
}

// Rows that meet conditions of a metric's own add up as all rows do, for metrics that have the same.
func TestMetricsWithTheSameConditionsFollow(t *testing.T) {
	large := func(name, least string) dp.Definition {
		return dp.Definition{Name: name, Aggregate: dp.Rows, Where: []dp.Condition{{Field: "amount", Gte: word(least)}}}
	}
	m, s := newTill(mechanism.Secure())
	q := tilled(fine)
	q.Metrics, q.Define = []string{"large", "transactions"}, []dp.Definition{large("large", "60")}
	held := ask(t, s, ann, q, "")
	q = tilled(nil)
	define(&q, large("big", "6e1"))
	a := ask(t, s, ann, q, "")
	want := sumOf(held.Release, "large", func(label) (string, bool) { return "", true })[""]
	if len(a.DerivedFrom) != 1 || len(m.charges) != 1 || math.Abs(a.Release.Groups[0].Values[0].Value-want) > 1e-6 {
		t.Errorf("derived from %v: %+v, want %v", a.DerivedFrom, a.Release.Groups, want)
	}
	define(&q, large("big", "61"))
	if a := ask(t, s, ann, q, ""); len(a.DerivedFrom) > 0 {
		t.Error("rows of 61 and more followed from those of 60 and more")
	}
}

func perHead(q *dp.Query) {
	q.Metrics, q.Within = []string{"x"}, map[string]string{"spend": "1e8", "customers": "1e6"}
	q.Define = []dp.Definition{{Name: "x", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "customers"}}
}

func define(q *dp.Query, d dp.Definition) {
	q.Metrics, q.Define, q.Within = []string{d.Name}, []dp.Definition{d}, map[string]string{d.Name: "1e8"}
}

// TestOnlyWholeGroupsFollow: of a release by month neither days nor half months follow, of one by week no months.
func TestOnlyWholeGroupsFollow(t *testing.T) {
	for _, c := range []struct {
		held, asked func(*dp.Query)
		follows     bool
	}{
		{func(q *dp.Query) { q.By = []string{"time.month"} }, func(q *dp.Query) { q.By = []string{"time.quarter"} }, true},
		{func(q *dp.Query) { q.By = []string{"time.month"} }, func(q *dp.Query) { q.From = "2026-02-01" }, true},
		{func(q *dp.Query) { q.By = []string{"time.month"} }, func(q *dp.Query) { q.From = "2026-02-02" }, false},
		{func(q *dp.Query) { q.By = []string{"time.month"} }, func(q *dp.Query) { q.By = []string{"time.day"} }, false},
		{func(q *dp.Query) { q.By = []string{"time.week"} }, func(q *dp.Query) { q.By = []string{"time.month"} }, false},
		{func(q *dp.Query) { q.By = []string{"time.week", "time.month"} }, func(q *dp.Query) { q.By = []string{"time.month"} }, true},
		{func(q *dp.Query) { q.By = []string{"time.week"} }, func(q *dp.Query) { q.To = "2026-03-29" }, true}, // a Sunday
		{func(q *dp.Query) { q.By = []string{"time.week"} }, func(q *dp.Query) { q.To = "2026-03-30" }, false},
		// What ends in the middle of a period ends there in both.
		{func(q *dp.Query) { q.By, q.To = []string{"time.month"}, "2026-03-10" }, func(q *dp.Query) { q.To = "2026-03-10" }, true},
		{func(q *dp.Query) { q.To = "2026-01-31" }, func(q *dp.Query) { q.To, q.By = "2026-01-31", []string{"time.month"} }, true},
		{func(q *dp.Query) { q.By = []string{"time.hour"} }, func(q *dp.Query) { q.Where = []dp.Condition{{Field: "time.hour", Lte: word("11")}} }, true},
		{func(q *dp.Query) { q.By = []string{"category"} }, func(q *dp.Query) { q.From = "2026-02-01" }, false},
		// Conditions that groups do not tell apart must be the same; those on keys, within.
		{func(q *dp.Query) { q.By, q.Where = []string{"category"}, older("30") }, func(q *dp.Query) { q.Where = older("30") }, true},
		{func(q *dp.Query) { q.By, q.Where = []string{"category"}, older("30") }, func(*dp.Query) {}, false},
		{func(q *dp.Query) { q.By, q.Where = []string{"age"}, older("30") }, func(q *dp.Query) { q.Where = older("40") }, true},
		{func(q *dp.Query) { q.By, q.Where = []string{"age"}, older("40") }, func(q *dp.Query) { q.Where = older("30") }, false},
		{func(q *dp.Query) { q.By, q.Where = []string{"age"}, older("30") }, func(*dp.Query) {}, false},
		{func(q *dp.Query) { q.Where = german() }, func(q *dp.Query) { q.By, q.Where = []string{"country"}, german() }, true},
		{func(*dp.Query) {}, func(q *dp.Query) { q.By, q.Where = []string{"country"}, german() }, false},
		{func(q *dp.Query) { q.By, q.Where = []string{"time.day"}, notFebruary() }, func(q *dp.Query) { q.To = "2026-01-31" }, true},
		{func(q *dp.Query) { q.By, q.Where = []string{"time.day"}, notFebruary() }, func(q *dp.Query) { q.To = "2026-02-01" }, false},
		// Empty groups that a condition leaves are not in what is held.
		{func(q *dp.Query) { q.By, q.Where = []string{"time.day"}, notFebruary() }, func(q *dp.Query) { q.By, q.Where = []string{"time.day"}, notFebruary() }, true},
	} {
		_, s := newTill(exact{})
		held := ask(t, s, ann, tilled(func(q *dp.Query) { c.held(q); q.Epsilon = "5" }), "")
		asked := tilled(func(q *dp.Query) { c.asked(q); loose(q) })
		a := ask(t, s, ann, asked, "")
		if follows := a.Charge.Loss == (dp.Loss{}); follows != c.follows {
			t.Errorf("from %s: %+v follows %v, want %v", held.Release.CanonicalQuery, asked, follows, c.follows)
		}
	}
}

func older(than string) []dp.Condition { return []dp.Condition{{Field: "age", Gte: word(than)}} }
func german() []dp.Condition           { return []dp.Condition{{Field: "country", Eq: word("DE")}} }
func notFebruary() []dp.Condition {
	return []dp.Condition{{Field: "time.month", NotIn: []string{"2026-02"}}}
}

// TestReleasesOfOthersAndOfOtherVersionsAreNotUsed: nothing that the asker does not hold, nothing over older rows, nothing
// under another policy, and no failure.
func TestReleasesOfOthersAndOfOtherVersionsAreNotUsed(t *testing.T) {
	follow := func(s *answer.Service, who dp.Consumer) bool {
		quote, err := s.Plan(context.Background(), who, tilled(loose))
		if err != nil {
			t.Fatal(err)
		}
		return quote.FreeFrom != ""
	}
	m, s := newTill(exact{})
	held := ask(t, s, ann, tilled(fine), "")
	if !follow(s, ann) || follow(s, bob) {
		t.Fatalf("it follows for who holds it: %v; for another consumer: %v", follow(s, ann), follow(s, bob))
	}
	if a := ask(t, s, bob, tilled(loose), ""); a.Reused || len(a.DerivedFrom) > 0 {
		t.Error("another consumer's release was used")
	}
	m.releases = m.releases[:1]
	// Bob comes to hold the very release, for his allotment: from then on it is his to use.
	if a := ask(t, s, bob, tilled(fine), ""); a.Release.ID != held.Release.ID || a.Charge.Loss == (dp.Loss{}) {
		t.Fatalf("bob got %s", a.Release.ID)
	}
	if !follow(s, bob) {
		t.Error("a release that was handed out does not answer")
	}

	m.version++
	if follow(s, ann) {
		t.Error("a release over older rows was used")
	}
	m.version--
	m.earlier = map[uint64]dp.VersionedPolicy{1: m.policy}
	m.policy.Version++
	if follow(s, ann) {
		t.Error("a release under another policy was used")
	}
	m.policy.Version--
	spoiled := m.releases[0]
	for name, spoil := range map[string]func(*dp.Release){
		"price": func(r *dp.Release) {
			r.Privacy.Noise = map[string]dp.Noise{"spend": r.Privacy.Noise["spend"], "transactions": {Epsilon: 7}}
		},
		"no noise":       func(r *dp.Release) { r.Privacy.Noise = nil },
		"max_rows":       func(r *dp.Release) { r.Privacy.MaxRows++ },
		"max_partitions": func(r *dp.Release) { r.Privacy.MaxPartitions-- },
		"plan":           func(r *dp.Release) { r.Plan = "plan_other" },
		"question": func(r *dp.Release) {
			r.CanonicalQuery = strings.Replace(r.CanonicalQuery, "2026-01-01", "2025-12-01", 1)
		},
		"no question":   func(r *dp.Release) { r.CanonicalQuery = "" },
		"hidden groups": func(r *dp.Release) { r.GroupsMayBeHidden = true },
	} {
		m.releases[0] = spoiled
		spoil(&m.releases[0])
		if follow(newTillOver(m, exact{}), ann) {
			t.Errorf("a release whose %s does not fit was used", name)
		}
	}
	m.releases[0] = spoiled
	if !follow(newTillOver(m, exact{}), ann) {
		t.Error("the release itself does not answer any more")
	}
}

// TestWhatIsHeldComesInOrder: the very answer first, then the most exact that it follows from, then the answer over older
// rows, and only then what others drew.
func TestWhatIsHeldComesInOrder(t *testing.T) {
	m, s := newTill(exact{})
	total := tilled(loose)
	ask(t, s, bob, total, "")
	coarse := ask(t, s, ann, tilled(func(q *dp.Query) { fine(q); q.Epsilon = "1" }), "")
	if a := ask(t, s, ann, total, ""); !slices.Equal(a.DerivedFrom, []string{coarse.Release.ID}) {
		t.Fatalf("what ann holds does not come before bob's: %v", a.DerivedFrom)
	}
	sharp := ask(t, s, ann, tilled(fine), "")
	if a := ask(t, s, ann, total, ""); !slices.Equal(a.DerivedFrom, []string{sharp.Release.ID}) {
		t.Errorf("derived from %v, not from the most exact", a.DerivedFrom)
	}
	own := ask(t, s, ann, tilled(func(q *dp.Query) { loose(q); q.Fresh = true }), "")
	if a := ask(t, s, ann, total, ""); a.Release.ID != own.Release.ID || len(a.DerivedFrom) > 0 {
		t.Errorf("the very answer does not come first: %+v", a)
	}
	m.version++
	if a := ask(t, s, ann, total, ""); !a.Stale || a.Release.ID != own.Release.ID {
		t.Errorf("over newer rows the older answer is not handed out: %+v", a)
	}
	fresh := ask(t, s, ann, tilled(func(q *dp.Query) { fine(q); q.Fresh = true }), "")
	if a := ask(t, s, ann, total, ""); a.Stale || !slices.Equal(a.DerivedFrom, []string{fresh.Release.ID}) {
		t.Errorf("what follows from newer rows does not come before the older answer: %+v", a)
	}
}

// TestAMoreExactDrawOfTheSameQuestionAnswersIt: whatever the metric, because nothing is added up.
func TestAMoreExactDrawOfTheSameQuestionAnswersIt(t *testing.T) {
	m, s := newTill(mechanism.Secure())
	q := tilled(func(q *dp.Query) {
		q.Metrics, q.By, q.Epsilon = []string{"customers", "average_ticket"}, []string{"category"}, "2"
	})
	held := ask(t, s, ann, q, "")
	q.Epsilon, q.Confidence = "1", "0.5"
	a := ask(t, s, ann, q, "")
	if a.Release.ID != held.Release.ID || !a.Reused || len(a.DerivedFrom) > 0 || len(m.charges) != 1 {
		t.Fatalf("a lower price drew again: %s after %s", a.Release.ID, held.Release.ID)
	}
	for i, g := range a.Release.Groups {
		for j, v := range g.Values {
			if was := held.Release.Groups[i].Values[j]; v.Value != was.Value || v.High-v.Low >= was.High-was.Low {
				t.Errorf("at 50 %%: %+v, at 95 %%: %+v", v, was)
			}
		}
	}
	quote, err := s.Plan(context.Background(), ann, q)
	if err != nil || quote.FreeFrom != held.Release.ID || quote.Reused.Metrics[1].SD >= quote.Plan.Metrics[1].SD {
		t.Errorf("plan: free from %q, error %v", quote.FreeFrom, err)
	}
	q.Epsilon = "3"
	if a := ask(t, s, ann, q, ""); a.Reused {
		t.Error("a higher price was answered by a draw of a lower one")
	}
}

// TestAReleaseSaysHowItWasDrawn: the plan of a release is read back from the release, for every aggregate, kind of key and
// condition.
func TestAReleaseSaysHowItWasDrawn(t *testing.T) {
	for name, change := range map[string]func(*dp.Query){
		"counts and sums": func(q *dp.Query) { q.By = []string{"category", "time.day"} },
		"customers":       func(q *dp.Query) { q.Metrics = []string{"customers", "average_ticket", "median_ticket"} },
		"private keys":    func(q *dp.Query) { q.By, q.Metrics = []string{"city", "time.month"}, []string{"spend"} },
		"private, counted": func(q *dp.Query) {
			q.By, q.Metrics, q.Epsilon = []string{"city", "category"}, []string{"customers", "transactions", "average_ticket"}, "1"
		},
		"conditions": func(q *dp.Query) {
			q.Where = []dp.Condition{
				{Field: "category", In: []string{}}, {Field: "age", Gte: word("30"), NotIn: []string{"40"}}, {Field: "amount", Gte: word("1.5"), Lte: word("90"), NotIn: []string{"7"}},
				{Field: "time.week", Gte: word("2026-W02")}, {Field: "city", Eq: word("Bonn")},
			}
		},
		"exactly": func(q *dp.Query) {
			q.Within, q.MaxPartitions = map[string]string{"spend": "500"}, 3
			q.By = []string{"country"}
		},
		"clamped": func(q *dp.Query) { q.Clamp = map[string]dp.Clamp{"spend": {Lower: "1", Upper: "50.25"}} },
		"all aggregates": func(q *dp.Query) {
			q.Metrics, q.By, q.Epsilon = nil, []string{"time.month"}, "20"
			for _, d := range []dp.Definition{
				{Name: "a", Aggregate: dp.Variance, Measure: "amount"}, {Name: "b", Aggregate: dp.StdDev, Measure: "amount"},
				{Name: "c", Aggregate: dp.Quantile, Measure: "amount", Rank: "0.25"}, {Name: "d", Aggregate: dp.Max, Measure: "amount"},
				{Name: "e", Aggregate: dp.Min, Measure: "amount"}, {Name: "f", Aggregate: dp.Days}, {Name: "g", Aggregate: dp.Sessions},
				{Name: "h", Aggregate: dp.Sum, Measure: "balance"}, {Name: "i", Aggregate: dp.Mean, Measure: "balance"},
				{Name: "j", Aggregate: dp.Ratio, Numerator: "f", Denominator: "g"}, {Name: "k", Aggregate: dp.Share, Of: "h"},
				{Name: "l", Aggregate: dp.Mean, Measure: "amount", Per: dp.PerCustomer}, {Name: "m", Aggregate: dp.Quantile, Rank: "0.5", Per: dp.PerCustomer},
				{Name: "n", Aggregate: dp.Mean, Per: dp.PerCustomer, Distinct: []string{"country", "time.day"}},
				{Name: "o", Aggregate: dp.Rows, Where: []dp.Condition{{Field: "amount", Gte: word("5")}, {Field: "city", NotIn: []string{"Bonn"}}}},
				{Name: "p", Aggregate: dp.Customers, Where: []dp.Condition{{Field: "category", In: []string{}}}},
			} {
				q.Define, q.Metrics = append(q.Define, d), append(q.Metrics, d.Name)
			}
		},
	} {
		p, err := plan.Make(tilled(change), till(), nil, plan.DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := dp.Release{ID: "rel_1", Dataset: "till", PolicyVersion: 1, Plan: p.ID, CanonicalQuery: string(p.Question), Privacy: answer.Privacy(p), GroupsMayBeHidden: p.GroupsMayBeHidden}
		read, err := plan.Drawn(r, till())
		if err != nil {
			t.Errorf("%s is not read: %v", name, err)
			continue
		}
		for i := range p.Metrics { // what to expect depends on the asker's confidence
			p.Metrics[i].SD, p.Metrics[i].Within, read.Metrics[i].SD, read.Metrics[i].Within = 0, 0, 0, 0
		}
		if !reflect.DeepEqual(read.Metrics, p.Metrics) || !reflect.DeepEqual(read.Tree, p.Tree) || !reflect.DeepEqual(read.Groups(), p.Groups()) ||
			!reflect.DeepEqual(read.Selection, p.Selection) || read.SelectedBy != p.SelectedBy || !slices.Equal(read.Notes, p.Notes) || !slices.Equal(read.Blocks, p.Blocks) {
			t.Errorf("%s is read as\n%+v, drawn as\n%+v", name, read, p)
		}
	}
}

// TestPlansSayWhatWouldFollowLessExactly: the change that they offer is free.
func TestPlansSayWhatWouldFollowLessExactly(t *testing.T) {
	_, s := newTill(exact{})
	held := ask(t, s, ann, tilled(fine), "")
	quote, err := s.Plan(context.Background(), ann, tilled(nil))
	if err != nil || quote.FreeFrom != "" || len(quote.Alternatives) == 0 {
		t.Fatalf("free from %q, alternatives %v, error %v", quote.FreeFrom, quote.Alternatives, err)
	}
	offer := quote.Alternatives[0]
	within := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.Split(offer.Change, ":")[0], "ask within "), ", ") {
		metric, text, _ := strings.Cut(part, " ")
		within[metric] = text
	}
	if len(within) != 2 || offer.Epsilon != 0 || !strings.Contains(offer.Change, held.Release.ID) {
		t.Fatalf("the offer is %+v", offer)
	}
	if a := ask(t, s, ann, tilled(func(q *dp.Query) { q.Within = within }), ""); len(a.DerivedFrom) != 1 {
		t.Errorf("%v is not free", within)
	}
}

// TestDerivedIntervalsCover: over many noise draws of a release by category and day, the intervals of derived totals,
// ratios and shares hold the exact sums of the release's bounded figures as often as they say. A false alarm has a
// probability below 1e-6 in one run (binomial tails at 1e-8 on either side of 18 cells); noise that is scaled by 0.4 or 2.5
// fails.
func TestDerivedIntervalsCover(t *testing.T) {
	if answer.RaceDetector {
		t.Skip("nothing here is concurrent")
	}
	const runs = 300
	byDay := func(delta string) dp.Query {
		return tilled(func(q *dp.Query) {
			q.By, q.To, q.Epsilon, q.Delta, q.Fresh = []string{"category", "time.day"}, "2026-01-10", "1", delta, true
		})
	}
	total := func(confidence string, metrics ...string) dp.Query {
		return tilled(func(q *dp.Query) {
			loose(q)
			q.To, q.By, q.Confidence, q.Metrics = "2026-01-10", []string{"category"}, confidence, append(metrics, "spend", "transactions")
			define := map[string]dp.Definition{
				"ticket":  {Name: "ticket", Aggregate: dp.Ratio, Numerator: "spend", Denominator: "transactions"},
				"portion": {Name: "portion", Aggregate: dp.Share, Of: "spend"},
			}
			for _, name := range metrics {
				q.Define = append(q.Define, define[name])
			}
		})
	}
	for _, delta := range []string{"0", "1e-6"} { // laplace, gaussian
		covers := func(scale float64, questions ...dp.Query) map[string]int {
			of := map[string]int{}
			noise := &scaled{with: mechanism.Secure(), by: scale, off: true}
			m, s := newTill(noise)
			m.budget.Epsilon = math.MaxInt64 / 2
			truth := ask(t, s, bob, byDay(delta), "")
			noise.off = false
			spend := sumOf(truth.Release, "spend", func(l label) (string, bool) { return l("category"), true })
			count := sumOf(truth.Release, "transactions", func(l label) (string, bool) { return l("category"), true })
			for range runs {
				m.releases, m.keys, m.spent = nil, map[string]string{}, map[string]dp.Loss{}
				ask(t, s, ann, byDay(delta), "")
				for _, q := range questions {
					a := ask(t, s, ann, q, "")
					if len(a.DerivedFrom) != 1 {
						t.Fatal("it does not follow")
					}
					g := a.Release.Groups[0]
					key := g.Key[0]
					for at, metric := range a.Release.Metrics {
						want := map[string]float64{
							"spend": spend[key], "transactions": count[key], "ticket": spend[key] / count[key],
							"portion": spend[key] / (spend["food"] + spend["other"] + spend["toys"]),
						}[metric]
						if v := g.Values[at]; v.Low <= want && want <= v.High {
							of[metric+" at "+q.Confidence]++
						}
					}
				}
			}
			return of
		}
		for cell, n := range covers(1, total("0.5"), total("0.9", "ticket", "portion")) {
			metric, confidence, _ := strings.Cut(cell, " at ")
			least, most := binomialRange(runs, map[string]float64{"0.5": 0.5, "0.9": 0.9}[confidence])
			// Ratios and shares cover at least so often: their tests are at half the miss, or of rounded numbers.
			if n < least || n > most && (metric == "spend" || metric == "transactions") {
				t.Errorf("delta %s: %s covered %d of %d, not within %d..%d", delta, cell, n, runs, least, most)
			}
		}
		for wrong, at := range map[float64]float64{0.4: 0.5, 2.5: 0.9} {
			confidence := fmt.Sprint(at)
			least, most := binomialRange(runs, at)
			if n := covers(wrong, total(confidence))["spend at "+confidence]; n >= least && n <= most {
				t.Errorf("delta %s: noise of %v times the scale passes: %d of %d", delta, wrong, n, runs)
			}
		}
	}
}

// scaled is noise that is scaled wrongly on purpose, or off.
type scaled struct {
	with mechanism.Noise
	by   float64
	off  bool
}

func (s *scaled) Add(x int64, d mechanism.Draw) (int64, error) {
	n, err := s.with.Add(0, d)
	if s.off {
		n = 0
	}
	return x + int64(math.Round(float64(n)*s.by)), err
}

// binomialRange holds a binomial number but with a probability of 1e-8 on either side.
func binomialRange(n int, p float64) (least, most int) {
	below, above := 0.0, 0.0
	mass := func(k int) float64 {
		a, _ := math.Lgamma(float64(n) + 1)
		b, _ := math.Lgamma(float64(k) + 1)
		c, _ := math.Lgamma(float64(n-k) + 1)
		return math.Exp(a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	for least = 0; below+mass(least) < 1e-8; least++ {
		below += mass(least)
	}
	for most = n; above+mass(most) < 1e-8; most-- {
		above += mass(most)
	}
	return least, most
}

// TestWhatFollowsIsWhatAQuestionOfItsOwnWouldSay: where bounds leave nothing out, over rows that all have labels, the
// derived figure of any question from any release is the one that a draw of the question gives, for random pairs of them.
func TestWhatFollowsIsWhatAQuestionOfItsOwnWouldSay(t *testing.T) {
	if answer.RaceDetector {
		t.Skip("nothing here is concurrent")
	}
	random := rand.New(rand.NewPCG(3, 4))
	policy := till()
	policy.Bounds = dp.Bounds{MaxPartitions: 1 << 20, MaxRows: 1 << 10}
	policy.Measures[0].Upper = 1 << 24
	policy.Derived = []dp.Derived{
		{Name: "kind", Of: "category", Groups: []dp.LabelGroup{{Label: "goods", Values: []string{"food", "toys"}}}, Other: "rest"},
		{Name: "young", Of: "age", Groups: []dp.LabelGroup{{Label: "yes", Values: []string{"20"}}, {Label: "no", Values: []string{"30", "40"}}}},
	}
	all := slices.DeleteFunc(tillRows(random, 700), func(r rows.Row) bool { return r.Dimensions[1].Value == "IT" })

	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	some := func(from ...string) (list []string) {
		for _, v := range from {
			if random.IntN(3) > 0 {
				list = append(list, v)
			}
		}
		return append(list, pick(from...))
	}
	where := func() (list []dp.Condition) {
		for _, c := range []dp.Condition{
			{Field: "category", In: some("food", "other", "toys")},
			{Field: "country", NotIn: []string{pick("DE", "FR")}},
			{Field: "age", Gte: word(pick("20", "30", "40"))},
			{Field: "time.hour", Gte: word(pick("00", "06", "12"))},
			{Field: "time.month", In: some("2026-01", "2026-02", "2026-03")},
			{Field: "time.week", Lte: word(pick("2026-W05", "2026-W09"))},
			{Field: "time.day", Gte: word(pick("2026-01-05", "2026-02-01"))},
			{Field: "amount", Gte: word("20")},
			{Field: "kind", Eq: word(pick("goods", "rest"))},
			{Field: "young", In: some("yes", "no")},
		} {
			if random.IntN(8) == 0 {
				list = append(list, c)
			}
		}
		return list
	}
	keys := func(of int) (list []string) {
		for _, k := range []string{"category", "country", "age", "time.hour", "time.day", "time.week", "time.month", "time.quarter", "kind", "young"} {
			if random.IntN(of) == 0 && len(list) < 4 {
				list = append(list, k)
			}
		}
		return list
	}
	question := func(keysOf int) dp.Query {
		return tilled(func(q *dp.Query) {
			q.By, q.Where = keys(keysOf), where()
			switch random.IntN(4) {
			case 0:
				q.From, q.To = pick("2026-01-05", "2026-02-01", "2026-02-03"), pick("2026-02-08", "2026-02-28", "2026-03-15")
			case 1:
				q.From = "2026-02-01"
			}
			q.Epsilon, q.Delta = "1", "0"
		})
	}
	followed, folded, asked := 0, 0, 0
	for range 600 {
		held, q := question(2), question(5)
		if random.IntN(4) > 0 { // a question that is close to the first
			q.By, q.Where = nil, append(slices.Clone(held.Where), slices.DeleteFunc(q.Where, func(c dp.Condition) bool {
				return !slices.Contains(held.By, c.Field) && random.IntN(4) > 0
			})...)
			for _, k := range held.By {
				if random.IntN(2) == 0 {
					q.By = append(q.By, k)
				}
			}
			for of, derived := range map[string]string{"category": "kind", "age": "young"} {
				if slices.Contains(held.By, of) && random.IntN(2) == 0 {
					q.By = append(q.By, derived)
				}
			}
			if slices.Contains(held.By, "time.day") {
				q.By = append(q.By, pick("time.week", "time.month", "time.quarter", "time.year"))
			}
			if random.IntN(3) > 0 {
				q.From, q.To = held.From, held.To
			}
		}
		m := newMemory(policy, dp.Budget{Epsilon: math.MaxInt64 / 2, Delta: dp.DeltaOne / 2})
		s := answer.New(m, m, m, specification{all, map[string][]bounding.Partition{}}, exact{}, answer.Options{
			Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if _, err := s.Ask(context.Background(), ann, held, ""); err != nil {
			continue // two conditions that leave no label, or too many groups
		}
		q.Epsilon, q.Delta, q.Within = "", "", map[string]string{"transactions": "1e8", "spend": "1e8"}
		derived, err := s.Ask(context.Background(), ann, q, "")
		if err != nil {
			continue
		}
		if asked++; len(derived.DerivedFrom) == 0 {
			continue
		}
		followed++
		if slices.ContainsFunc(q.By, func(k string) bool { return (k == "kind" || k == "young") && !slices.Contains(held.By, k) }) {
			folded++
		}
		q.Fresh = true
		own := ask(t, s, ann, q, "")
		if !slices.Equal(own.Release.By, derived.Release.By) || len(own.Release.Groups) != len(derived.Release.Groups) {
			t.Fatalf("%+v from %+v: %d groups by %v, of its own %d by %v", q, held, len(derived.Release.Groups), derived.Release.By, len(own.Release.Groups), own.Release.By)
		}
		for i, g := range own.Release.Groups {
			other := derived.Release.Groups[i]
			if !slices.Equal(g.Key, other.Key) || math.Abs(g.Values[0].Value-other.Values[0].Value) > 1e-6 || math.Abs(g.Values[1].Value-other.Values[1].Value) > 1e-6 {
				t.Fatalf("%+v from %+v: %v is %v, of its own %v is %v", q, held, other.Key, other.Values, g.Key, g.Values)
			}
		}
	}
	if followed < 30 || folded < 10 {
		t.Errorf("only %d of %d followed, %d of them by what is made of the release's keys", followed, asked, folded)
	}
}

func TestNamesOfOneNumberAreAddedUpOnce(t *testing.T) {
	_, s := newTill(exact{})
	named := func(q *dp.Query) {
		q.Metrics = []string{"spend", "turnover", "visits", "transactions"}
		q.Define = []dp.Definition{{Name: "turnover", Aggregate: dp.Sum, Measure: "amount"}, {Name: "visits", Aggregate: dp.Rows}}
	}
	held := ask(t, s, ann, tilled(fine), "").Release
	a := ask(t, s, ann, tilled(func(q *dp.Query) {
		named(q)
		loose(q)
		q.By = []string{"category"}
		q.Within["turnover"], q.Within["visits"] = "1e8", "1e6"
	}), "")
	if len(a.DerivedFrom) != 1 || a.DerivedFrom[0] != held.ID {
		t.Fatalf("derived from %v", a.DerivedFrom)
	}
	for metric, of := range map[string]string{"spend": "spend", "turnover": "spend", "visits": "transactions", "transactions": "transactions"} {
		sums := sumOf(held, of, func(label label) (string, bool) { return label("category"), true })
		for _, g := range a.Release.Groups {
			for i, name := range a.Release.Metrics {
				if got, want := g.Values[i].Value, sums[g.Key[0]]; name == metric && math.Abs(got-want) > 1e-6 {
					t.Errorf("%s of %s is %v, and its parts add up to %v", metric, g.Key[0], got, want)
				}
			}
		}
	}
}
