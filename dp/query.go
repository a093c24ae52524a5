package dp

// Query is a question as it was asked. Values are text as the asker wrote it: dp/plan gives them their
// canonical form and refuses what it does not understand.
type Query struct {
	Dataset       string
	Metrics       []string
	Define        []Definition
	By            []string
	Where         []Condition
	From, To      string // dates, both included; empty when the block is all
	Purpose       string
	Within        map[string]string // half-width of the interval per metric, in the measure's unit
	Epsilon       string            // decimal text; empty when not asked
	Delta         string
	Confidence    string           // decimal text; empty means 0.95
	Clamp         map[string]Clamp // per metric, only tighter than the policy's
	MaxPartitions int64            // 0: the policy's; otherwise only tighter
	SpendAtMost   string           // epsilon as decimal text: refuse if the price is higher
	Fresh         bool             // always pay for a new draw
	// Reconcile are coarser levels, each a list of some of By: their figures are drawn, too, and all are made to add up.
	Reconcile   [][]string `json:",omitempty"`
	NonNegative bool       `json:",omitempty"` // of reconciled figures
	// Cohorts leave the rows of those customers who are in all of them.
	Cohorts []Cohort `json:",omitempty"`
	// First are conditions on the row that makes a customer's first appearance, for keys first.* and since.*; nil: it is the
	// first row of the range that passes Where.
	First []Condition `json:",omitzero"`
	// Funnel counts customers by how far they came, for the key funnel.step; nil: not asked.
	Funnel *Funnel `json:",omitempty"`
	// Totals adds up all groups, and Top leaves those with the largest figures. Both follow from the noised groups: they change
	// neither what is drawn nor its price.
	Totals bool `json:",omitempty"`
	Top    *Top `json:",omitempty"`
}

// Cohort is customers by what they did: those with at least AtLeast and at most AtMost rows that pass Where.
type Cohort struct {
	Dataset  string // empty: the query's own; another one joins both
	Where    []Condition
	From, To string // dates, both included; empty: the query's
	AtLeast  int64  // 0 means 1, unless AtMost is set
	AtMost   *int64 // nil: any number
}

// Funnel is steps in the order of time.
type Funnel struct {
	Steps  [][]Condition // each is a row that passes all of them, besides Where
	Within string        // from the first step to the last, such as 7d, 24h or 30m; empty: all of the range
}

// Top asks for the groups with the largest figures of a metric.
type Top struct {
	Metric string
	N      int64
}

// Definition is a metric that a query brings itself.
type Definition struct {
	Name        string
	Aggregate   Aggregate
	Measure     string // empty for customers, rows, ratio and share
	Rank        string // of a quantile: decimal text from 0 to 1
	Numerator   string // of a ratio: names of metrics
	Denominator string
	Of          string // of a share: the name of a metric
	// Per customer reads, in place of rows, one number of each (customer, block) in a group: what its rows add up to in the
	// measure, without one how many rows there are, or how many combinations of Distinct.
	Per      Per
	Distinct []string
	// Where are conditions of the metric's own: other rows do not count for it. Which groups a customer counts in is decided
	// without them.
	Where []Condition `json:",omitempty"`
}

// Per says whose numbers an aggregate of values reads.
type Per string

// The choices of Per.
const (
	PerRow      Per = ""
	PerCustomer Per = "customer"
)

// Clamp is a pair of decimal texts in the measure's unit.
type Clamp struct {
	Lower, Upper string
}

// Condition keeps rows whose Field satisfies every operator that is set.
type Condition struct {
	Field string   // a dimension, a measure, or time.hour day week month quarter year
	Eq    *string  // equal to
	In    []string // one of; nil when not asked
	NotIn []string // none of; nil when not asked
	Gte   *string  // at least
	Lte   *string  // at most
}
