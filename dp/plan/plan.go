// Package plan validates and prices a query: it turns a question and a policy into a tree of operators that
// every engine interprets, the blocks it touches, and what the answer will cost and how exact it will be.
//
// A plan is a pure function of query, policy and static ceilings. The package never reads a row, never reads
// what is spent, and never draws noise.
package plan

import (
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// Plan is a priced question.
type Plan struct {
	// ID identifies the draw: canonical question, policy version, bounds, mechanisms and their parameters.
	// It covers neither the purpose nor the confidence: they change no draw, only who may see it and how wide its
	// intervals are drawn.
	ID string
	// Canonical is the question as JSON with sorted keys, metrics, filters and values.
	Canonical []byte
	// Question is the part of Canonical that says what is drawn, without price, accuracy and confidence: others
	// who are handed the draw may read it.
	Question []byte
	Policy   dp.VersionedPolicy
	Purpose  string
	Tree     Aggregate
	Blocks   []string // every block that can matter and has the price of Loss, in calendar order
	// Also are the others that can matter, at their own prices, of other datasets too.
	Also    []dp.Touched
	Metrics []Metric // sorted by name
	// Selection decides which private partitions are shown; nil when every key is public.
	Selection *mechanism.Selection
	// SelectedBy is the index in Metrics of the customers metric whose draw is also selection's, or -1.
	SelectedBy int
	Confidence mechanism.Confidence
	Loss       dp.Loss // the sum over metrics and selection, for each of Blocks
	// GroupsMayBeHidden is true where keys must pass selection.
	GroupsMayBeHidden bool
	Notes             []string // what bounding does to the figures, in words
	Levels            []Level  // coarser ones, drawn as well and reconciled; nil: none
	NonNegative       bool     // of reconciled figures
	// Totals and Top are how the answer is shown, which its identity does not cover: every draw can be shown so.
	Totals bool
	Top    *dp.Top

	reaches         []reach // Blocks first, then Also
	apart           bool    // no partition has rows of two blocks, so that what several blocks add lies apart
	groups          shape
	selectionColumn int
	asked           question
}

// SelectionName is under what name a release keeps how selection was drawn, beside its metrics.
const SelectionName = "selection"

// SelectionColumn is the position in Tree.Columns of the customer count by which private partitions are
// selected; it means nothing where every key is public.
func (p *Plan) SelectionColumn() int { return p.selectionColumn }

// Metric is one priced figure of every group.
type Metric struct {
	Name         string
	Aggregate    dp.Aggregate
	Measure      int // position in the policy's measures, -1 for those that read none
	Scale        int // decimal places of the figure
	Lower, Upper int64
	Rank         float64 // of quantile, min and max
	// Drawn is the position in Metrics of the metric whose noised numbers this one is read from: its own, except where
	// several are read from the same ones, as all quantiles of a measure are from one tree. Only a metric that has its own
	// costs anything.
	Drawn int
	// Parts are the positions in Metrics of a ratio's numerator and denominator, or of what a share is of. Such a metric
	// is read from theirs, and Drawn is -1.
	Parts []int
	// PerDay divides a ratio by the days of its group (Plan.Days).
	PerDay bool
	Of     Value // whose values are read
	// Tests are the metric's own, which its columns have.
	Tests []Test
	Last  bool // the measure is a level: of each (customer, block, partition) its last known value counts
	// Columns are the positions in Tree.Columns of what is noised: one for customers, rows, sum and the quantiles; the
	// centred sum and the count for mean; count, centred sum and sum of squares for variance and stddev.
	Columns []int
	Tree    mechanism.Tree // of quantile, min and max
	Vector  mechanism.Vector
	// SD and Within are what to expect: standard deviation of the noise and half-width of the interval, in
	// the measure's own unit. Where the figure depends on how many rows there are, they are stated for the declared
	// population spread over the public groups; -1 where nothing can be said before.
	SD, Within float64
}

// Draws is how many integers of each group are noised for the metric, where it is not read from another's.
func (m Metric) Draws() int {
	if m.Tree.Leaves > 0 {
		return int(m.Tree.Nodes())
	}
	return len(m.Columns)
}

// Limits are the sizes beyond which a question is refused. They depend on nothing that is stored.
type Limits struct {
	Metrics    int // asked and defined, each
	Keys       int // in by
	Conditions int
	Values     int // of one condition
	Blocks     int
	Groups     int // public partitions of one answer
	Draws      int // noised integers of all public partitions: they take time and room after they are charged
	Text       int // bytes of the canonical question, which every release of it is kept with
}

// MostPrivateLabels is how many different labels a private key can have: stores take no more. With the declared
// labels of the other keys they bound the partitions that an engine can be asked to number, by what is declared
// alone (DESIGN: limits never depend on rows).
const (
	MostPrivateLabels = 1 << 22
	mostPartitions    = 1<<62 - 1
)

// DefaultLimits are those of a server that configures none.
func DefaultLimits() Limits {
	return Limits{Metrics: 20, Keys: 6, Conditions: 30, Values: 1000, Blocks: 400, Groups: 100_000, Draws: 1_000_000, Text: 64 << 10}
}
