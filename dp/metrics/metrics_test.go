package metrics_test

import (
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/metrics"
)

func names(list []dp.Metric) []string {
	var out []string
	for _, m := range list {
		out = append(out, m.Name)
	}
	return out
}

func TestEachKindBringsItsMetricsWhoseMeasureThePolicyHas(t *testing.T) {
	amount := []dp.Measure{{Name: "amount"}}
	duration := []dp.Measure{{Name: "duration"}}
	balances := []dp.Measure{{Name: "amount", Level: true}, {Name: "balance", Level: true}}
	flow := []dp.Measure{{Name: "balance"}}
	refunds := []dp.Measure{{Name: "amount", Lower: -100, Upper: 100}}
	time := &dp.TimeColumn{Column: "at"}
	tests := []struct {
		name     string
		kind     dp.Kind
		time     *dp.TimeColumn
		measures []dp.Measure
		want     []string
	}{
		{"custom", dp.Custom, nil, amount, []string{"customers", "rows"}},
		{"engagement", dp.Engagement, time, duration, []string{"active_days", "active_users", "customers", "events", "mean_session", "median_session", "rows", "sessions", "stickiness", "time_spent"}},
		{"engagement without duration", dp.Engagement, time, amount, []string{"active_days", "active_users", "customers", "events", "rows", "sessions", "stickiness"}},
		{"engagement without time", dp.Engagement, nil, nil, []string{"active_users", "customers", "events", "rows"}},
		{"transactions", dp.Transactions, time, amount, []string{"average_ticket", "customers", "median_ticket", "rows", "spend", "spend_share", "transactions"}},
		{"transactions without amount", dp.Transactions, time, nil, []string{"customers", "rows", "transactions"}},
		{"transactions with balances", dp.Transactions, time, balances, []string{"balance_mean", "balance_median", "customers", "rows", "transactions"}},
		{"transactions with a flow of that name", dp.Transactions, time, flow, []string{"customers", "rows", "transactions"}},
		{"transactions with refunds", dp.Transactions, time, refunds, []string{"average_ticket", "customers", "median_ticket", "rows", "spend", "transactions"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := names(metrics.Of(&dp.Policy{Kind: test.kind, Time: test.time, Measures: test.measures}))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// A share or ratio of the kind's is read from what the policy calls so.
func TestBuiltInRatiosFollowWhatThePolicyReplaces(t *testing.T) {
	below, zero := int64(-1), int64(0)
	for name, c := range map[string]struct {
		spend dp.Metric
		want  bool
	}{
		"another clamp":        {dp.Metric{Name: "spend", Aggregate: dp.Sum, Measure: "amount", Lower: &zero}, true},
		"a clamp below zero":   {dp.Metric{Name: "spend", Aggregate: dp.Sum, Measure: "amount", Lower: &below}, false},
		"a mean":               {dp.Metric{Name: "spend", Aggregate: dp.Mean, Measure: "amount"}, false},
		"the number of rows":   {dp.Metric{Name: "spend", Aggregate: dp.Rows}, true},
		"a count of customers": {dp.Metric{Name: "spend", Aggregate: dp.Customers}, false},
	} {
		p := &dp.Policy{Kind: dp.Transactions, Measures: []dp.Measure{{Name: "amount", Upper: 100}}, Metrics: []dp.Metric{c.spend}}
		if got := slices.Contains(names(metrics.Of(p)), "spend_share"); got != c.want {
			t.Errorf("spend is %s: spend_share is offered: %v", name, got)
		}
	}
}

func TestMetricsOfThePolicyAddAndReplace(t *testing.T) {
	upper := int64(100000)
	p := &dp.Policy{
		Kind:     dp.Transactions,
		Measures: []dp.Measure{{Name: "amount"}},
		Metrics: []dp.Metric{
			{Name: "spend", Aggregate: dp.Sum, Measure: "amount", Upper: &upper},
			{Name: "basket", Aggregate: dp.Mean, Measure: "amount"},
		},
	}
	got := metrics.Of(p)
	want := []string{"average_ticket", "basket", "customers", "median_ticket", "rows", "spend", "spend_share", "transactions"}
	if !slices.Equal(names(got), want) {
		t.Fatalf("got %v, want %v", names(got), want)
	}
	if got[5].Upper != &upper {
		t.Error("the policy's spend did not replace the built-in one")
	}
	if len(p.Metrics) != 2 || p.Metrics[0].Name != "spend" {
		t.Error("the policy's own list changed")
	}
}

// Messages are what the policy's own labels call so, and replaced by what it calls messages itself.
func TestMessagesAreTheEventsThatThePolicyDeclaresAsSuch(t *testing.T) {
	of := func(event dp.Dimension, own ...dp.Metric) (found []dp.Metric) {
		for _, m := range metrics.Of(&dp.Policy{Kind: dp.Engagement, Dimensions: []dp.Dimension{event}, Metrics: own}) {
			if m.Name == "messages" {
				found = append(found, m)
			}
		}
		return found
	}
	labels := []string{"login", "message_sent", "message_received", "message_deleted"}
	got := of(dp.Dimension{Name: "event", Values: labels})
	if len(got) != 1 || got[0].Aggregate != dp.Rows || got[0].Where[0].Field != "event" || !slices.Equal(got[0].Where[0].In, []string{"message_received", "message_sent"}) {
		t.Errorf("messages are %+v", got)
	}
	for name, event := range map[string]dp.Dimension{
		"no such label": {Name: "event", Values: []string{"login"}}, "another dimension": {Name: "kind", Values: labels}, "a private one": {Name: "event", Private: true},
	} {
		if got := of(event); len(got) > 0 {
			t.Errorf("%s: messages are offered: %+v", name, got)
		}
	}
	if got := of(dp.Dimension{Name: "event", Values: labels}, dp.Metric{Name: "messages", Aggregate: dp.Customers}); len(got) != 1 || got[0].Aggregate != dp.Customers {
		t.Errorf("the policy's own is %+v", got)
	}
}
