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
	balance := []dp.Measure{{Name: "amount", Level: true}}
	tests := []struct {
		name     string
		kind     dp.Kind
		measures []dp.Measure
		want     []string
	}{
		{"custom", dp.Custom, amount, []string{"customers", "rows"}},
		{"engagement", dp.Engagement, duration, []string{"active_users", "customers", "events", "mean_session", "rows", "time_spent"}},
		{"engagement without duration", dp.Engagement, amount, []string{"active_users", "customers", "events", "rows"}},
		{"transactions", dp.Transactions, amount, []string{"average_ticket", "customers", "rows", "spend", "transactions"}},
		{"transactions without amount", dp.Transactions, nil, []string{"customers", "rows", "transactions"}},
		{"transactions with a balance", dp.Transactions, balance, []string{"customers", "rows", "transactions"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := names(metrics.Of(&dp.Policy{Kind: test.kind, Measures: test.measures}))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
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
	want := []string{"average_ticket", "basket", "customers", "rows", "spend", "transactions"}
	if !slices.Equal(names(got), want) {
		t.Fatalf("got %v, want %v", names(got), want)
	}
	if got[4].Upper != &upper {
		t.Error("the policy's spend did not replace the built-in one")
	}
	if len(p.Metrics) != 2 || p.Metrics[0].Name != "spend" {
		t.Error("the policy's own list changed")
	}
}
