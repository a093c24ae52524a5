package plan

import "github.com/discreet-analytics/discreet/dp/rows"

// Operator is one step from stored rows to exact, bounded integers. The tree is over names and strings, so
// that every engine interprets the same one; engines translate strings to their own codes, and a string they
// do not know matches nothing.
type Operator interface{ operator() }

// Aggregate is the root: it adds up, per partition, what bounding kept. Each column is one integer of every
// partition, accumulated in 128 bits and clamped to 64 at the end.
type Aggregate struct {
	Input   Bound
	Columns []Column
}

// Bound keeps, of each (customer, block), at most Partitions partitions and in each of them at most Rows rows
// for row-level columns. What is kept depends on that customer's rows of that block alone.
type Bound struct {
	Input      Group
	Partitions int64 // L0
	Rows       int64 // Linf
}

// Group names the partition of a row. A row whose label is in no domain counts in no partition and takes no
// place among those that bounding keeps.
type Group struct {
	Input Filter
	Keys  []Key // sorted by name; none: one partition with the empty key
}

// Filter keeps the rows that pass every test.
type Filter struct {
	Input Scan
	Tests []Test
}

// Scan reads the rows of the blocks with From <= time < To, in milliseconds since 1970 UTC. A dataset
// without time ignores From and To.
type Scan struct {
	Dataset  string
	Blocks   []string
	Bounded  bool // From and To apply
	From, To int64
}

func (Aggregate) operator() {}
func (Bound) operator()     {}
func (Group) operator()     {}
func (Filter) operator()    {}
func (Scan) operator()      {}

// Field is what a key or a test reads of a row.
type Field struct {
	Kind  FieldKind
	Index int           // position in the policy's dimensions or measures
	Unit  rows.TimeUnit // for TimeField
}

// FieldKind tells dimensions, measures and time keys apart.
type FieldKind int

// The kinds of field.
const (
	DimensionField FieldKind = iota
	MeasureField
	TimeField
)

// Key is one part of a partition's key.
type Key struct {
	Name  string
	Field Field
	// Domain holds every label that can occur, in the order of answers, already narrowed by the tests on
	// this very field; nil when the dimension is private.
	Domain []string
}

// Test is everything that is asked of one field: labels for dimensions and time keys (see PassesLabel),
// numbers for measures (see PassesNumber). A missing measure passes no test; a row whose dimension has no
// label passes none either.
type Test struct {
	Name  string
	Field Field

	// In and NotIn compare labels (the domain's, after binning); sorted, nil when not asked.
	In, NotIn []string
	// From and To are inclusive label ranges of time keys, compared as text; empty when not asked.
	From, To string

	// Numbers compare fixed-point measures (10^-Scale) or raw ints; nil when not asked.
	Least, Most  *int64
	InNumbers    []int64
	NotInNumbers []int64
}

// Column is one integer that the tree computes in every partition.
type Column struct {
	Count   Count
	Measure int // position in the policy's measures, for Total, Centred and Measured
	// Lower and Upper clamp the total of one (customer, block, partition) for Total, each row for Centred,
	// in 10^-Scale.
	Lower, Upper int64
}

// Count says what a column adds up.
type Count int

// What columns add up.
const (
	// CountCustomers counts customers whose partition was kept in any block.
	CountCustomers Count = iota
	// CountRows counts kept rows.
	CountRows
	// Total adds, for each (customer, block), the clamped sum of the measure over all rows of the partition;
	// rows where it is null are skipped, and a partition without any value adds nothing.
	Total
	// Centred adds 2x-Lower-Upper over kept rows, x being the clamped measure; null is skipped.
	Centred
	// CountMeasured counts the kept rows where the measure is not null.
	CountMeasured
)
