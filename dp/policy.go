package dp

// Policy is what a privacy officer declares about a dataset. Every limit on what can be learned follows
// from it and never from rows.
type Policy struct {
	Name       string
	Kind       Kind
	Population int64 // declared number of customers; bounds delta
	Unit       Unit
	Time       *TimeColumn // nil: rows have no time and the block is all
	Dimensions []Dimension
	Derived    []Derived `json:",omitempty"`
	Measures   []Measure
	Metrics    []Metric // those that the policy lists; the kind brings more (dp/metrics)
	Bounds     Bounds
	Cap        Budget
	Default    Budget // what a metric of a query costs that asks for neither epsilon nor within
	Purposes   []string
	Audiences  []Audience
	Link       *Link
	// TwoPerson has every change that could let more be learned of the dataset wait for a second officer (dp/office).
	TwoPerson bool `json:",omitempty"`
	// RetainMonths is how long rows are kept after their block has ended, in calendar months: then the block is retired.
	// 0: for ever.
	RetainMonths int64 `json:",omitempty"`
}

// VersionedPolicy is a policy as it stands in the ledger's catalog. Versions count from 1.
type VersionedPolicy struct {
	Policy
	Version uint64
}

// Kind says which built-in metrics a dataset brings.
type Kind string

// The kinds of dataset.
const (
	Engagement   Kind = "engagement"
	Transactions Kind = "transactions"
	Custom       Kind = "custom"
)

// Unit says whose rows are protected together.
type Unit struct {
	Column string // header of the customer's column; empty when Row
	Row    bool   // every row is its own customer: MaxPartitions and MaxRows are then 1
	Block  Block
}

// Block is the period of event time within which one customer's rows are protected together.
type Block string

// The blocks.
const (
	Month   Block = "month"
	Quarter Block = "quarter"
	Year    Block = "year"
	All     Block = "all"
)

// TimeColumn says where a row's time stands and how it is written.
type TimeColumn struct {
	Column   string
	Timezone string // IANA name; decides blocks and time keys
	Format   string // rfc3339, date, unix, unix_ms, or a layout of YYYY MM DD hh mm ss
}

// Dimension is a column that can be grouped by and filtered on. Raw values are stored; they are mapped to
// the domain when a query runs.
type Dimension struct {
	Name    string
	Column  string // header; Name where the policy gives none
	Type    DimensionType
	Bin     *Bin
	Values  []string // the public domain in declared order, Other and Missing included; nil when Private
	Private bool     // keys must pass selection
	Other   string   // label of values outside the domain; empty: such rows are rejected
	Missing string   // label of an absent value; empty: Other is used, else the row is rejected
	Parent  string   // name of the dimension one step coarser, or empty
}

// Derived is a public dimension that follows from another one's label, as a region from a city: nothing of it is stored, and
// it is worked out when a query runs.
type Derived struct {
	Name   string
	Of     string       // name of a dimension, or of a derived one that is declared before
	Groups []LabelGroup // in declared order; no value is in two
	Other  string       // label of all other values; empty: there are none
}

// LabelGroup is the values that have one label.
type LabelGroup struct {
	Label  string
	Values []string
}

// DimensionType is how a dimension's raw value is read.
type DimensionType string

// The types of a dimension.
const (
	StringDimension DimensionType = "string"
	IntDimension    DimensionType = "int"
)

// Bin maps an int dimension to multiples of Step.
type Bin struct {
	Step int64
	Up   bool // to the next multiple at or above; otherwise at or below
}

// Measure is a number of each row, kept as an integer of 10^-Scale units.
type Measure struct {
	Name   string
	Column string // header; Name where the policy gives none
	Scale  int    // decimal places kept, 0 to 9
	Lower  int64  // clamp of one row, in 10^-Scale
	Upper  int64
	Level  bool // a balance: the last known value counts, not the sum
}

// Metric is a question that can be asked by name.
type Metric struct {
	Name      string
	Aggregate Aggregate
	Measure   string // empty for customers, rows, ratio and share
	Rank      string // of a quantile: decimal text from 0 to 1
	// Numerator and Denominator of a ratio, and Of of a share, are names of metrics that count or add up.
	Numerator, Denominator, Of string
	// PerDay divides a ratio by the number of days that its group is about.
	PerDay bool `json:",omitempty"`
	// Lower and Upper clamp what one (customer, block, partition) adds for sum, its number where Per is customer, or one row for the others,
	// in 10^-Scale of the measure. Nil: the measure's own.
	Lower, Upper *int64
	// Per and Distinct are as a Definition has them.
	Per      Per      `json:",omitempty"`
	Distinct []string `json:",omitempty"`
	// Where are conditions of the metric's own: other rows do not count for it.
	Where []Condition `json:",omitempty"`
}

// Aggregate is what a metric computes in each partition.
type Aggregate string

// The aggregates.
const (
	Customers Aggregate = "customers" // distinct customers
	Rows      Aggregate = "rows"      // rows, at most Bounds.MaxRows of each (customer, block, partition)
	Sum       Aggregate = "sum"       // clamped totals of each (customer, block, partition)
	Mean      Aggregate = "mean"      // mean of clamped rows
	Variance  Aggregate = "variance"  // mean squared distance of clamped rows from their mean
	StdDev    Aggregate = "stddev"    // its square root
	Quantile  Aggregate = "quantile"  // the value below which a share (the rank) of clamped rows lies
	Min       Aggregate = "min"       // the quantile of a rank close to 0
	Max       Aggregate = "max"       // the quantile of a rank close to 1
	Ratio     Aggregate = "ratio"     // of two metrics that count or add up
	Days      Aggregate = "days"      // days on which customers have rows, of each (customer, block, partition)
	Sessions  Aggregate = "sessions"  // rows with no longer pause than half an hour between them, cut at blocks
	Share     Aggregate = "share"     // of a group in what a metric adds up to over all groups that are shown
)

// Bounds limits what one customer adds within one block.
type Bounds struct {
	MaxPartitions int64 // L0
	MaxRows       int64 // Linf: rows per partition
}

// Audience is who may receive answers.
type Audience string

// The audiences.
const (
	Internal   Audience = "internal"
	ThirdParty Audience = "third-party"
)

// Link says that rows may be joined with those of other datasets for customers who agree to it.
type Link struct {
	// Consent is the header of the column in which a row says that its customer agrees, by when they did or by a word:
	// anything but nothing, 0, false, no and the like. A row keeps what it said when it was loaded; one that was loaded
	// under a policy without link carries no consent.
	Consent string
}
