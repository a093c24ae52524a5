// Package metrics knows the questions that a dataset can be asked by name: those that its kind brings and
// those that its policy lists. It computes none of them and prices none of them.
package metrics

import (
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// The measures that built-in metrics look for by name.
const (
	Amount   = "amount"   // of a transaction
	Duration = "duration" // of an event
	Balance  = "balance"  // a level
)

// Of gives every metric of a dataset, sorted by name: those of its kind whose measure the policy has, and
// the policy's own, which add to them or replace one of the same name.
func Of(p *dp.Policy) []dp.Metric {
	all := slices.Clone(p.Metrics)
	for _, m := range builtIn(p.Kind) {
		if has(p.Metrics, m.Name) || !isOffered(p, m) {
			continue
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b dp.Metric) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// builtIn gives what a kind brings. Their clamps are the measure's own.
func builtIn(k dp.Kind) []dp.Metric {
	all := []dp.Metric{
		{Name: "customers", Aggregate: dp.Customers},
		{Name: "rows", Aggregate: dp.Rows},
	}
	switch k {
	case dp.Engagement:
		return append(all,
			dp.Metric{Name: "active_users", Aggregate: dp.Customers},
			dp.Metric{Name: "active_days", Aggregate: dp.Days},
			dp.Metric{Name: "sessions", Aggregate: dp.Sessions},
			dp.Metric{Name: "stickiness", Aggregate: dp.Ratio, Numerator: "active_days", Denominator: "active_users", PerDay: true},
			dp.Metric{Name: "events", Aggregate: dp.Rows},
			dp.Metric{Name: "mean_session", Aggregate: dp.Mean, Measure: Duration},
			dp.Metric{Name: "time_spent", Aggregate: dp.Sum, Measure: Duration},
		)
	case dp.Transactions:
		return append(all,
			dp.Metric{Name: "balance_mean", Aggregate: dp.Mean, Measure: Balance},
			dp.Metric{Name: "balance_median", Aggregate: dp.Quantile, Measure: Balance, Rank: "0.5"},
			dp.Metric{Name: "average_ticket", Aggregate: dp.Mean, Measure: Amount},
			dp.Metric{Name: "spend", Aggregate: dp.Sum, Measure: Amount},
			dp.Metric{Name: "transactions", Aggregate: dp.Rows},
		)
	}
	return all
}

func has(metrics []dp.Metric, name string) bool {
	return slices.ContainsFunc(metrics, func(m dp.Metric) bool { return m.Name == name })
}

// isOffered says whether the policy has what a built-in metric reads. Balances do not add up, and flows have no last
// known value.
func isOffered(p *dp.Policy, m dp.Metric) bool {
	switch {
	case m.Measure != "":
		return slices.ContainsFunc(p.Measures, func(of dp.Measure) bool { return of.Name == m.Measure && of.Level == (m.Measure == Balance) })
	case m.Aggregate == dp.Days || m.Aggregate == dp.Sessions || m.PerDay:
		return p.Time != nil
	}
	return true
}
