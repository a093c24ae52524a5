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

// Event is the dimension that messages look for, and messageLabels are those of its labels that count as one.
const Event = "event"

func messageLabels() []string { return []string{"message", "message_received", "message_sent"} }

// Of gives every metric of a dataset, sorted by name: those of its kind whose measure the policy has, and
// the policy's own, which add to them or replace one of the same name. A built-in ratio or share is left out where one
// that it is read from is not there, or was replaced by one from which it cannot be read.
func Of(p *dp.Policy) []dp.Metric {
	all := slices.Clone(p.Metrics)
	builtIns := builtIn(p)
	for _, derived := range []bool{false, true} { // parts before what is read from them
		for _, m := range builtIns {
			if derived == (len(Parts(m)) > 0) && !has(p.Metrics, m.Name) && isOffered(p, m) && hasParts(p, all, m) {
				all = append(all, m)
			}
		}
	}
	slices.SortFunc(all, func(a, b dp.Metric) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// builtIn gives what a kind brings. Their clamps are the measure's own.
func builtIn(p *dp.Policy) []dp.Metric {
	all := []dp.Metric{
		{Name: "customers", Aggregate: dp.Customers},
		{Name: "rows", Aggregate: dp.Rows},
	}
	switch p.Kind {
	case dp.Engagement:
		return append(all,
			dp.Metric{Name: "active_users", Aggregate: dp.Customers},
			dp.Metric{Name: "active_days", Aggregate: dp.Days},
			dp.Metric{Name: "sessions", Aggregate: dp.Sessions},
			dp.Metric{Name: "stickiness", Aggregate: dp.Ratio, Numerator: "active_days", Denominator: "active_users", PerDay: true},
			dp.Metric{Name: "events", Aggregate: dp.Rows},
			dp.Metric{Name: "messages", Aggregate: dp.Rows, Where: []dp.Condition{{Field: Event, In: messagesOf(p)}}},
			dp.Metric{Name: "mean_session", Aggregate: dp.Mean, Measure: Duration},
			dp.Metric{Name: "median_session", Aggregate: dp.Quantile, Measure: Duration, Rank: "0.5"},
			dp.Metric{Name: "time_spent", Aggregate: dp.Sum, Measure: Duration},
		)
	case dp.Transactions:
		return append(all,
			dp.Metric{Name: "balance_mean", Aggregate: dp.Mean, Measure: Balance},
			dp.Metric{Name: "balance_median", Aggregate: dp.Quantile, Measure: Balance, Rank: "0.5"},
			dp.Metric{Name: "average_ticket", Aggregate: dp.Mean, Measure: Amount},
			dp.Metric{Name: "median_ticket", Aggregate: dp.Quantile, Measure: Amount, Rank: "0.5"},
			dp.Metric{Name: "spend", Aggregate: dp.Sum, Measure: Amount},
			dp.Metric{Name: "spend_share", Aggregate: dp.Share, Of: "spend"},
			dp.Metric{Name: "transactions", Aggregate: dp.Rows},
		)
	}
	return all
}

// messagesOf are the labels of messages that the policy declares.
func messagesOf(p *dp.Policy) (labels []string) {
	at := slices.IndexFunc(p.Dimensions, func(d dp.Dimension) bool { return d.Name == Event && !d.Private })
	if at < 0 {
		return nil
	}
	for _, label := range messageLabels() {
		if slices.Contains(p.Dimensions[at].Values, label) {
			labels = append(labels, label)
		}
	}
	return labels
}

// Parts names the metrics that a ratio or a share is read from; none of others.
func Parts(m dp.Metric) []string {
	switch m.Aggregate {
	case dp.Ratio:
		return []string{m.Numerator, m.Denominator}
	case dp.Share:
		return []string{m.Of}
	}
	return nil
}

// AddsUp tells whether a ratio or a share can be read from a metric: it must count or add up, and for a share parts must
// add up to the whole and none be negative.
func AddsUp(p *dp.Policy, part dp.Metric, into dp.Aggregate) bool {
	switch part.Aggregate {
	case dp.Rows, dp.Days, dp.Sessions:
		return true
	case dp.Customers:
		return into == dp.Ratio
	case dp.Sum:
		lower := part.Lower
		if i := slices.IndexFunc(p.Measures, func(m dp.Measure) bool { return m.Name == part.Measure }); lower == nil && i >= 0 {
			lower = &p.Measures[i].Lower
		}
		return into == dp.Ratio || lower != nil && *lower >= 0
	}
	return false
}

// hasParts says whether everything that a metric is read from is among all, and can be.
func hasParts(p *dp.Policy, all []dp.Metric, m dp.Metric) bool {
	for _, name := range Parts(m) {
		if !slices.ContainsFunc(all, func(part dp.Metric) bool { return part.Name == name && AddsUp(p, part, m.Aggregate) }) {
			return false
		}
	}
	return true
}

func has(metrics []dp.Metric, name string) bool {
	return slices.ContainsFunc(metrics, func(m dp.Metric) bool { return m.Name == name })
}

// isOffered says whether the policy has what a built-in metric reads. Balances do not add up, and flows have no last
// known value.
func isOffered(p *dp.Policy, m dp.Metric) bool {
	switch {
	case len(m.Where) > 0:
		return len(m.Where[0].In) > 0
	case m.Measure != "":
		return slices.ContainsFunc(p.Measures, func(of dp.Measure) bool { return of.Name == m.Measure && of.Level == (m.Measure == Balance) })
	case m.Aggregate == dp.Days || m.Aggregate == dp.Sessions || m.PerDay:
		return p.Time != nil
	}
	return true
}
