package dp

import "time"

// Load is one declared delivery of rows: whole blocks under a name.
type Load struct {
	ID        uint64 // counts the loads of a dataset from 1 and is never reused; names its segments
	Dataset   string
	Name      string   // a repeat under the same name and content adds nothing
	Digest    [32]byte // keyed digest of the content
	Blocks    []string // in calendar order
	Committed time.Time
}
