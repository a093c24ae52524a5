package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/api"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

const appPolicy = `name: app
kind: engagement
population: 1000
unit: {column: customer, block: month}
time: {column: at, timezone: UTC, format: date}
dimensions:
  - {name: event, values: [open, chat, pay]}
  - {name: variant, values: [red, blue]}
bounds: {max_partitions: 8, max_rows: 20}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 0}
purposes: [product-analytics]
audiences: [internal]
link: {consent: linked_at}
`

const cardsPolicy = `name: cards
kind: transactions
population: 1000
unit: {column: customer, block: month}
time: {column: at, timezone: UTC, format: date}
dimensions:
  - {name: category, values: [grocery, travel]}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 100}
bounds: {max_partitions: 8, max_rows: 20}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 0}
purposes: [product-analytics]
audiences: [internal]
link: {consent: linked_at}
`

// newLinked serves an app and its cards: of 40 customers, each opens the app in a week of January that its number says,
// the even ones saw red first; every fourth chats in February, every eighth pays after; all of them use their card in
// January and February, and the first 20 agree that both are joined.
func newLinked(t *testing.T) (h *harness, team string) {
	t.Helper()
	h = newHarness(t, exact{})
	h.apply(appPolicy)
	h.apply(cardsPolicy)
	team = h.hire("team", dp.Product, "product-analytics")
	h.allot("team", "app", "3", "5e-10")
	h.allot("team", "cards", "3", "5e-10")
	custodian := h.hire("warehouse", dp.Custodian)
	var app, cards strings.Builder
	app.WriteString("customer,at,event,variant,linked_at\n")
	cards.WriteString("customer,at,category,amount,linked_at\n")
	for i := range 40 {
		consent := ""
		if i < 20 {
			consent = "2026-01-01"
		}
		variant := []string{"red", "blue"}[i%2]
		fmt.Fprintf(&app, "c%d,2026-01-%02d,open,%s,%s\n", i, 5+7*(i%3), variant, consent) // a Monday
		if i%4 == 0 {
			fmt.Fprintf(&app, "c%d,2026-02-%02d,chat,blue,%s\n", i, 2+7*(i%3), consent)
		}
		if i%8 == 0 {
			fmt.Fprintf(&app, "c%d,2026-02-%02d,pay,blue,%s\n", i, 3+7*(i%3), consent)
		}
		for month := 1; month <= 2; month++ {
			fmt.Fprintf(&cards, "c%d,2026-%02d-10,grocery,%d,%s\n", i, month, 10*month, consent)
		}
	}
	h.must(custodian, "load", "app", h.file("app.csv", app.String()), "--from", "2026-01-01", "--to", "2026-02-28")
	h.must(custodian, "load", "cards", h.file("cards.csv", cards.String()), "--from", "2026-01-01", "--to", "2026-02-28")
	return h, team
}

// cells are a metric of the groups, by their keys.
func cells(r wire.Release, metric string, by ...string) string {
	var all []string
	for _, g := range r.Groups {
		all = append(all, fmt.Sprintf("%s:%v", strings.Join(keyOf(g, by), "/"), g.Values[metric].Value))
	}
	return strings.Join(all, " ")
}

func (h *harness) ask(team string, args ...string) (r wire.Release) {
	h.t.Helper()
	h.mustJSON(&r, team, append([]string{"query"}, append(args, "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics")...)...)
	return r
}

func TestSpendOfCustomersWhoUsedChatIsThatOfThoseWhoAgreed(t *testing.T) {
	h, team := newLinked(t)
	args := []string{"cards", "customers", "spend", "--by", "time.month", "--cohort", "dataset=app; event=chat; from=2026-02-01; to=2026-02-28", "--epsilon", "0.5"}
	r := h.ask(team, args...)
	if got := cells(r, "customers", "time.month") + " " + cells(r, "spend", "time.month"); got != "2026-01:5 2026-02:5 2026-01:50 2026-02:100" {
		t.Errorf("got %s, of 5 customers who chatted and agreed", got)
	}
	// The block of the app decides about two months of cards; each pays for how far it reaches.
	if c := r.Charge; c.Epsilon != "0.25" || len(c.Blocks) != 2 || len(c.Also) != 1 || c.Also[0].Dataset != "app" || c.Also[0].Epsilon != "0.5" || strings.Join(c.Also[0].Blocks, " ") != "2026-02" {
		t.Errorf("it was charged %+v", c)
	}
	var budget wire.Budget
	h.mustJSON(&budget, team, "budget")
	spent := map[string]wire.Decimal{}
	for _, a := range budget.Accounts {
		spent[a.Dataset+"/"+a.Block] = a.Spent.Epsilon
	}
	if fmt.Sprint(spent) != "map[app/2026-02:0.5 cards/2026-01:0.25 cards/2026-02:0.25]" {
		t.Errorf("accounts have spent %v", spent)
	}

	// Again it is free; another team's allotments pay, on both datasets, and the caps nothing.
	if again := h.ask(team, args...); again.ID != r.ID || again.Charge.Epsilon != "0" {
		t.Errorf("asked again it is %s for %s", again.ID, again.Charge.Epsilon)
	}
	other := h.hire("other", dp.Product, "product-analytics")
	h.allot("other", "cards", "3", "5e-10")
	refused := h.run(other, append([]string{"query"}, append(args, "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics")...)...)
	if refused.code != exitRefused || !strings.Contains(refused.stderr, "allotment") {
		t.Errorf("without an allotment on the app: %d %s", refused.code, refused.stderr)
	}
	h.allot("other", "app", "3", "5e-10")
	handed := h.ask(other, args...)
	if handed.ID != r.ID || handed.Reused == nil || !*handed.Reused || handed.Charge.Also[0].Epsilon != "0.5" {
		t.Errorf("the other team has %s, reused %t, for %+v", handed.ID, handed.Reused != nil, handed.Charge)
	}
}

// Who may not ask the other dataset cannot tell it from one that does not exist.
func TestJoinWithWhatOneMayNotAskIsRefusedLikeOneThatIsNot(t *testing.T) {
	h, _ := newLinked(t)
	h.apply(strings.NewReplacer("audiences: [internal]", "audiences: [third-party]", "name: app", "name: hidden").Replace(appPolicy))
	team := h.hire("outside", dp.Product, "product-analytics")
	h.allot("outside", "cards", "3", "0")
	ask := func(dataset string) string {
		return h.run(team, "query", "cards", "customers", "--cohort", "dataset="+dataset, "--from", "2026-01-01", "--to", "2026-02-28", "--purpose", "product-analytics").stderr
	}
	if hidden, missing := ask("hidden"), ask("missing"); hidden != missing || !strings.Contains(hidden, "not a dataset that you may ask") {
		t.Errorf("hidden: %smissing: %s", hidden, missing)
	}
}

func TestRetentionFunnelAndVariantsOnTheCommandLine(t *testing.T) {
	h, team := newLinked(t)
	by := []string{"first.week", "since.week"}
	retention := h.ask(team, "app", "customers", "--by", strings.Join(by, ","), "--where", "since.week=0,4", "--where", "first.week<=2026-W04", "--epsilon", "0.3")
	// c0, c12, c24, c36 began in the first week, and chat four weeks later.
	if got := cells(retention, "customers", by...); got != "2026-W01/0:0 2026-W01/4:0 2026-W02/0:14 2026-W02/4:4 2026-W03/0:13 2026-W03/4:3 2026-W04/0:13 2026-W04/4:3" {
		t.Errorf("retention is %s", got)
	}
	if retention.Privacy.Epsilon != "0.3" || retention.Charge.Also != nil {
		t.Errorf("it costs %+v", retention.Charge)
	}
	// The share that came back is a ratio of two cells.
	var returned wire.Compared
	h.mustJSON(&returned, team, "release", "compare", retention.ID, retention.ID, "--ratio", "--metric", "customers",
		"--group", "first.week=2026-W02,since.week=0", "--to-group", "first.week=2026-W02,since.week=4")
	if len(returned.Cells) != 1 || returned.Cells[0].Change.Value < 0.28 || returned.Cells[0].Change.Value > 0.29 || returned.Cells[0].Change.Low == nil {
		t.Errorf("of 14 customers 4 came back: %+v", returned.Cells)
	}

	funnel := h.ask(team, "app", "customers", "--by", "funnel.step", "--step", "event=open", "--step", "event=chat", "--step", "event=pay", "--funnel-within", "60d", "--epsilon", "0.3")
	if got := cells(funnel, "customers", "funnel.step"); got != "1:40 2:10 3:5" {
		t.Errorf("the funnel is %s", got)
	}

	variants := h.ask(team, "app", "customers", "events", "--by", "first.variant", "--first", "event=open", "--epsilon", "0.3")
	if got := cells(variants, "customers", "first.variant") + " " + cells(variants, "events", "first.variant"); got != "blue:20 red:20 blue:20 red:35" {
		t.Errorf("the variants have %s", got)
	}

	usage := h.run(team, "query", "app", "customers", "--cohort", "at_least=many", "--purpose", "product-analytics")
	if usage.code != exitUsage || !strings.Contains(usage.stderr, "whole number") {
		t.Errorf("%d %s", usage.code, usage.stderr)
	}
}

// Cohorts, retention, variants and funnels of real households are served with the integers of dp/bounding over their file.
func TestQuestionsAboutRealHouseholdsAreThoseOfTheReference(t *testing.T) {
	path, policy := departments(t), example(t, "completejourney-departments")
	h, analyst, _ := loaded(t, exact{}, policy, path)
	is := func(department wire.Text) []wire.Condition {
		return []wire.Condition{{Field: "department", Eq: &department}}
	}
	last := wire.Text("2017-02")
	for name, q := range map[string]wire.Query{
		"cohort": {
			Metrics: []string{"customers", "spend"}, By: []string{"department"},
			Cohorts: []wire.Cohort{{Where: is("PRODUCE"), AtLeast: 3, From: "2017-02-01", To: "2017-03-31"}},
		},
		"retention": {
			Metrics: []string{"customers", "spend"}, By: []string{"first.month", "since.week"},
			Where: []wire.Condition{{Field: "first.month", Lte: &last}},
		},
		"variants": {Metrics: []string{"customers", "spend"}, By: []string{"first.department"}, First: &wire.First{Where: is("GROCERY")}},
		"funnel": {
			Metrics: []string{"customers"}, By: []string{"funnel.step"},
			Funnel: &wire.Funnel{Steps: []wire.Step{{Where: is("GROCERY")}, {Where: is("MEAT")}, {Where: is("PASTRY")}}, Within: "14d"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q.Dataset, q.From, q.To, q.Purpose, q.Epsilon = "completejourney-departments", "2017-01-01", "2017-03-31", "reporting", "1"
			want := reference(t, h, policy, path, api.QueryOf(q))
			r, err := h.client(analyst).Query(t.Context(), q, "")
			if err != nil {
				t.Fatal(err)
			}
			some := 0
			for _, g := range r.Groups {
				key := strings.Join(keyOf(g, q.By), " ")
				for i, unit := range map[int]float64{0: 1, 1: 100} {
					if i >= len(q.Metrics) {
						continue
					}
					if got := g.Values[q.Metrics[i]].Value; want[key] == nil || got != want[key][i]/unit {
						t.Errorf("%s of %s is %v, bounding gives %v", q.Metrics[i], key, got, want[key])
					}
				}
				if g.Values["customers"].Value > 0 {
					some++
				}
			}
			if len(r.Groups) != len(want) || some == 0 {
				t.Errorf("%d groups, %d with customers, want %d", len(r.Groups), some, len(want))
			}
		})
	}
}
