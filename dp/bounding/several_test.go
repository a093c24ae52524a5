package bounding_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// A history by hand: customer, day, what they did, amount; yes where the row carries consent.
const usage = `
1 2026-01-05 visit 1 yes
1 2026-01-06 chat  1
1 2026-02-10 chat  1 yes
1 2026-02-20 buy   5
2 2026-01-31 visit 1
2 2026-02-01 buy   7
2 2026-03-30 visit 1
3 2026-02-02 chat  1 yes
3 2026-02-02 visit 1
3 2026-03-03 buy   2
4 2026-03-01 buy   9
`

const cardRows = `
1 2026-02-03 buy 40 yes
1 2026-03-03 buy 50
2 2026-02-03 buy 60 yes
3 2026-02-03 buy 70 yes
3 2026-02-04 buy 80
`

func TestSeveralBlocksByHand(t *testing.T) {
	none := int64(0)
	for name, c := range map[string]struct {
		ask  func(q *dp.Query)
		want string
	}{
		"a cohort leaves its customers' rows": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: is("chat"), AtLeast: 1}} },
			"[]:2,7", // 1 and 3, each with their chats
		},
		"at least so many rows": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: is("chat"), AtLeast: 2}} },
			"[]:1,4",
		},
		"of a range of its own": {
			func(q *dp.Query) {
				q.Cohorts = []dp.Cohort{{Where: is("chat"), From: "2026-01-01", To: "2026-01-31"}}
			},
			"[]:1,4",
		},
		"a metric counts rows of its own": { // of 1 and 3, who chatted, visits and who made any
			func(q *dp.Query) {
				q.Cohorts = []dp.Cohort{{Where: is("chat")}}
				q.Define = []dp.Definition{{Name: "visitors", Aggregate: dp.Customers, Where: is("visit")}, {Name: "visits", Aggregate: dp.Rows, Where: is("visit")}, {Name: "buys", Aggregate: dp.Rows, Where: is("buy")}}
				q.Metrics = []string{"rows", "visitors", "visits", "buys"}
			},
			"[]:2,7,2,2", // buys, rows, visitors, visits
		},
		"who did not": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: is("chat"), AtMost: &none}} },
			"[]:2,4", // 2 and 4
		},
		"all of several cohorts": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Where: is("chat")}, {Where: is("visit"), AtMost: &none}} },
			"",
		},
		// Of usage, blocks with consent are 1's January and February and 3's February; of cards, 1's, 2's and 3's February.
		"a join counts blocks whose rows carry consent": {
			func(q *dp.Query) { q.Cohorts = []dp.Cohort{{Dataset: "cards", AtLeast: 1}} },
			"[]:2,6", // 1 with four rows, 3 with two
		},
		"of the other dataset too": {
			func(q *dp.Query) {
				q.Cohorts = []dp.Cohort{{Dataset: "cards", From: "2026-03-01", To: "2026-03-31"}}
			},
			"",
		},
		"retention by month of first appearance": {
			func(q *dp.Query) { q.By = []string{"first.month", "since.month"} },
			"[2026-01 0]:2,3 [2026-01 1]:2,3 [2026-01 2]:1,1 [2026-02 0]:1,2 [2026-02 1]:1,1 [2026-03 0]:1,1",
		},
		"of those who appeared early enough, on some days": {
			func(q *dp.Query) {
				last := "2026-02-28"
				q.By = []string{"since.day"}
				q.Where = []dp.Condition{{Field: "first.day", Lte: &last}, {Field: "since.day", In: []string{"0", "1", "29"}}}
			},
			"[0]:3,4 [1]:2,2 [29]:1,1",
		},
		"an appearance of its own, and what comes after": {
			func(q *dp.Query) { q.First, q.By = is("chat"), []string{"kind"} },
			"[buy]:2,2 [chat]:2,3 [visit]:1,1", // 3's visit comes at the same time as the chat
		},
		"sides by what was seen first": {
			func(q *dp.Query) { q.By = []string{"first.kind"} },
			"[buy]:1,1 [chat]:1,3 [visit]:2,7",
		},
		"steps in the order of time": {
			func(q *dp.Query) {
				q.Metrics, q.By = []string{"customers"}, []string{"funnel.step"}
				q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{is("visit"), is("chat"), is("buy")}}
			},
			"[1]:3 [2]:2 [3]:2", // 3's visit and chat at one time are in order
		},
		"steps within a time": {
			func(q *dp.Query) {
				q.Metrics, q.By = []string{"customers"}, []string{"funnel.step"}
				q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{is("visit"), is("chat"), is("buy")}, Within: "30d"}
			},
			"[1]:3 [2]:2 [3]:1", // 1's first visit was 46 days before the purchase
		},
		"a row is one step": {
			func(q *dp.Query) {
				q.Metrics, q.By = []string{"customers"}, []string{"funnel.step"}
				q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{is("buy"), is("buy")}}
			},
			"[1]:4",
		},
		"a funnel by first appearance": {
			func(q *dp.Query) {
				q.Metrics, q.By = []string{"customers"}, []string{"first.month", "funnel.step"}
				q.Funnel = &dp.Funnel{Steps: [][]dp.Condition{is("visit"), is("buy")}}
			},
			"[2026-01 1]:2 [2026-01 2]:2 [2026-02 1]:1 [2026-02 2]:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := dp.Query{Dataset: "usage", Metrics: []string{"customers", "rows"}, From: "2026-01-01", To: "2026-03-31", Purpose: "p", Epsilon: "1"}
			c.ask(&q)
			p, err := plan.Make(q, policy("usage"), nil, plan.DefaultLimits(), policy("cards"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := bounding.ReferenceSeveral(p, []byte("salt"), map[string][]rows.Row{"usage": history(t, usage), "cards": history(t, cardRows)})
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, partition := range got {
				texts = append(texts, fmt.Sprintf("%v:%s", partition.Key, strings.Trim(strings.ReplaceAll(fmt.Sprint(partition.Totals), " ", ","), "[]")))
			}
			if got := strings.Join(texts, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func is(kind string) []dp.Condition { return []dp.Condition{{Field: "kind", Eq: &kind}} }

func policy(name string) dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: name, Kind: dp.Custom, Population: 1000, Unit: dp.Unit{Column: "c", Block: dp.Month},
		Time:       &dp.TimeColumn{Column: "t", Timezone: "UTC", Format: "date"},
		Dimensions: []dp.Dimension{{Name: "kind", Column: "kind", Type: dp.StringDimension, Values: []string{"visit", "chat", "buy"}}},
		Measures:   []dp.Measure{{Name: "amount", Column: "amount", Lower: 0, Upper: 100}},
		Bounds:     dp.Bounds{MaxPartitions: 100, MaxRows: 100}, Cap: dp.Budget{Epsilon: 100 * dp.EpsilonOne},
		Default: dp.Budget{Epsilon: dp.EpsilonOne}, Purposes: []string{"p"}, Audiences: []dp.Audience{dp.Internal},
		Link: &dp.Link{Consent: "agreed"},
	}}
}

func history(t *testing.T, text string) (all []rows.Row) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(text)) {
		var customer uint64
		var day, kind, agreed string
		var amount int64
		if n, _ := fmt.Sscan(line, &customer, &day, &kind, &amount, &agreed); n < 4 {
			t.Fatalf("the history has a line of %d parts", n)
		}
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows.Row{
			Customer: customer, Time: at.UnixMilli(), Dimensions: []rows.Text{{Value: kind, Valid: true}},
			Measures: []rows.Number{{Value: amount, Valid: true}}, Consented: agreed == "yes",
		})
	}
	return all
}
