// Package rows says what a row is: its type, the block and the time keys of its event time, the labels
// of its dimensions, the decimals of its measures, and the canonical bytes of rows and partition keys
// that every engine hashes.
//
// Everything here is a pure function of its arguments and of the time zone database. The package never
// reads a file, counts a row or decides what a query may see, and its errors never hold a value.
package rows

// Row is one row of a dataset as every engine sees it after load.
type Row struct {
	Customer   uint64   // keyed pseudonym, never the identifier itself
	Time       int64    // milliseconds since 1970-01-01 UTC; 0 in a dataset without time
	Dimensions []Text   // raw values in policy order
	Measures   []Number // in policy order
	// Consented is the customer's consent to be joined with other datasets, as this row carries it (dp.Link). It is no part
	// of the row's canonical bytes.
	Consented bool
}

// Text is the raw value of a dimension, or its absence. An int dimension holds canonical decimal text
// (see CanonicalInt), so that equal numbers are equal text.
type Text struct {
	Value string
	Valid bool
}

// Number is the value of a measure in units of 10^-Scale, or its absence.
type Number struct {
	Value int64
	Valid bool
}
