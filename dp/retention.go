package dp

import "time"

// MaxRetainMonths is how long rows can be retained at most, unless it is for ever.
const MaxRetainMonths = 1200

// Retirement says which blocks of a dataset are retired, and how far that went.
type Retirement struct {
	Dataset string
	// Before is a month, as 2026-01: every block that ends before it begins is retired, whether or not there ever were rows,
	// and no block comes back. Empty: none is.
	Before        string
	At            time.Time // since when
	PolicyVersion uint64    // of the policy that said so
	// Gone is the month that rows have left the files up to, since GoneAt.
	Gone   string
	GoneAt time.Time
}
