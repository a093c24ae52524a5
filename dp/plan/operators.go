package plan

import "github.com/discreet-analytics/discreet/dp/rows"

// Operator is one step from stored rows to exact, bounded integers. The tree is over names and strings, so
// that every engine interprets the same one; engines translate strings to their own codes, and a string they
// do not know matches nothing.
type Operator interface{ operator() }

// Aggregate is the root: it adds up, per partition, what bounding kept. Each column is one integer of every
// partition, a histogram as many as it has bins, accumulated in 128 bits and clamped to 64 at the end.
type Aggregate struct {
	Input   Bound
	Columns []Column
}

// Width is how many integers all columns together give of every partition, one after the other.
func (a Aggregate) Width() (width int) {
	for _, c := range a.Columns {
		width += c.Width()
	}
	return width
}

// At is the position of a column's first integer among those of a partition.
func (a Aggregate) At(column int) (at int) {
	for _, c := range a.Columns[:column] {
		at += c.Width()
	}
	return at
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
	// Profile is what decides about a row beside the row itself: all that the customer did, in several blocks perhaps. Nil:
	// nothing, and each (customer, block) counts by its own rows alone.
	Profile *Profile
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
	Index int // position in the policy's dimensions or measures
	// Derived is 1 and the position in the policy's derived dimensions, of which Index is the one that is stored; 0: none.
	Derived int
	Unit    rows.TimeUnit // for TimeField
	// Moment is of which row of the customer it is read: other than of the row itself, it needs the customer's profile.
	Moment Moment
}

// FieldKind tells dimensions, measures and time keys apart.
type FieldKind int

// The kinds of field.
const (
	DimensionField FieldKind = iota
	MeasureField
	TimeField
	// StepField is a step of the profile's funnel that the customer reached: 1, 2, ...
	StepField
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
	Measure int // position in the policy's measures, for all that read one
	// Lower and Upper clamp the total of one (customer, block, partition) for Total, each row for the others that
	// read values, in 10^-Scale. Upper is the most that one (customer, block, partition) adds for CountDays and
	// CountSessions.
	Lower, Upper int64
	// Last reads, of each (customer, block, partition), only the last row that has the measure: of those with the latest
	// event time the one with the largest canonical bytes (rows.AppendRow). It is how levels are read.
	Last bool
	// Of is whose value a column reads that reads the values of rows. Other than rows, there is one in each (customer,
	// block, partition), and Last does not apply.
	Of Value
	// Distinct are the fields of which ValueDistinct counts the combinations of labels.
	Distinct []Field
	// Tests are the column's own: of the rows of each kept (customer, block, partition) it reads those that pass all of
	// them, and of a customer nothing where none does. The rows that are kept for it are chosen among those.
	Tests []Test
	// Bins are equal parts of Lower..Upper, each of BinWidth values but the last, which may be narrower.
	Bins     int
	BinWidth int64
}

// MostBins is how many bins a histogram can have.
const MostBins = 1 << 10

// Width is how many integers the column gives of every partition.
func (c Column) Width() int { return max(1, c.Bins) }

// Bin is the position of a clamped value.
func (c Column) Bin(value int64) int {
	value = max(c.Lower, min(value, c.Upper))
	return int((uint64(value) - uint64(c.Lower)) / uint64(c.BinWidth))
}

// Value is a number that a column reads.
type Value int

// What values are read of.
const (
	// ValueRow is the measure of a kept row.
	ValueRow Value = iota
	// ValueTotal is what all rows of the (customer, block, partition) add up to in the measure; none where none has it.
	ValueTotal
	// ValueRows is how many rows these are.
	ValueRows
	// ValueDistinct is how many combinations of labels these have; rows without a label have none.
	ValueDistinct
)

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
	// Squared adds 2w^2-R^2 over kept rows, where w is 2x-Lower-Upper of the clamped x and R is Upper-Lower; null is
	// skipped. R^2 is below 2^53 (dp/mechanism refuses others), so that no row's number leaves 64 bits.
	Squared
	// Histogram counts, for each bin, the kept rows whose clamped value lies in it; null is skipped.
	Histogram
	// CountDays adds, for each (customer, block), the days of the dataset's calendar on which it has rows in the partition.
	CountDays
	// CountSessions adds, for each (customer, block), its sessions in the partition: rows of which each comes at most
	// SessionGap after the one before. Blocks cut sessions.
	CountSessions
)

// SessionGap is how long a session lasts without a row, in milliseconds: 30 minutes, as web analytics count since the
// measurements of Catledge and Pitkow ("Characterizing Browsing Strategies in the World-Wide Web", 1995) put it near 25.
const SessionGap = 30 * 60 * 1000

// ReadsRows tells whether a column depends on which rows are kept, not only on how many.
func (c Column) ReadsRows() bool { return c.Count.readsValues() && c.Of == ValueRow && !c.Last }

// ReadsMeasure tells whether a column reads a measure.
func (c Column) ReadsMeasure() bool {
	return c.Count == Total || c.Count.readsValues() && c.Of != ValueRows && c.Of != ValueDistinct
}

func (c Count) readsValues() bool { return c >= Centred && c <= Histogram }

// ReadsTimes tells whether a column reads the event times of all rows.
func (c Count) ReadsTimes() bool { return c == CountDays || c == CountSessions }
