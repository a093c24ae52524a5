package dp

import "time"

// Report is a named batch of questions: priced and charged as one, and answered one after the other in the background.
type Report struct {
	ID        string
	Consumer  string
	Name      string
	Spec      []byte    // what was asked for, as JSON (dp/report)
	Scheduled bool      // it has a run for every block that ends, until it is cancelled
	Created   time.Time // when it was charged, or scheduled
	Cancelled time.Time // zero: it was not
	Runs      []ReportRun
}

// ReportRun is one time that a report's questions are asked. All that its parts cost was charged together.
type ReportRun struct {
	Number  uint64 // counts the runs of a report from 1
	Block   string // that a scheduled run is about; empty otherwise
	At      time.Time
	Refused *Error // why nothing of it was charged; nil where it was
	Parts   []ReportPart
}

// ReportPart is one question of a run.
type ReportPart struct {
	Name  string
	Query Query // as it is asked, with its part of the budget
	// Charge is what it cost; it has no ID where the consumer held the answer already.
	Charge   Charge
	Attempts int
	Release  string // the answer; empty while there is none
	Stale    bool   // rows were loaded since the answer was drawn
	Failure  *Error // how it ended without one
}

// Ended tells whether nothing more will come of the part.
func (p ReportPart) Ended() bool { return p.Release != "" || p.Failure != nil }
