package dp

import "time"

// BudgetRequest is what a consumer asks an officer for: an allotment on a dataset. It is kept for ever, and ends once.
type BudgetRequest struct {
	ID       string
	Number   uint64 // in the order in which requests were made
	Consumer string // who asks
	Dataset  string
	Asked    Terms
	Reason   string
	// Query is a question that the allotment is wanted for; nil where none was named. It was priced and never run.
	Query *WantedQuery
	Made  time.Time
	// Decision is how it ended; nil while it is open.
	Decision *RequestDecision
}

// Terms are what an officer can give of an allotment: all but whether it is paused.
type Terms struct {
	Budget             Budget    // for each block
	MaxEpsilonPerQuery Epsilon   // 0: no maximum of its own
	Expires            time.Time // zero: never
}

// WantedQuery is a question that a request names.
type WantedQuery struct {
	Canonical string // its canonical text, which says nothing of the purpose
	Purpose   string
	// Price is what it cost, when it was named, on the blocks of the request's dataset, each of which is named once.
	Price []Touched
}

// RequestDecision is how a request ended.
type RequestDecision struct {
	State  RequestState // granted, denied or withdrawn
	By     string       // the officer; of a withdrawn one, who had asked
	At     time.Time
	Reason string
	// Seen is the version of the allotment that was decided on; 0: there was none. It is 0 of a withdrawn request.
	Seen uint64
	// Granted is what a grant gave, and Allotment the version that put it in force; nil and 0 of others.
	Granted   *Terms
	Allotment uint64
}

// RequestState says how a request stands.
type RequestState string

// The states of a request. It is open first, and ends in one of the others.
const (
	RequestOpen      RequestState = "open"
	RequestGranted   RequestState = "granted"
	RequestDenied    RequestState = "denied"
	RequestWithdrawn RequestState = "withdrawn"
)

// State says how the request stands.
func (r BudgetRequest) State() RequestState {
	if r.Decision == nil {
		return RequestOpen
	}
	return r.Decision.State
}

// RequestFilter chooses among requests; what is empty chooses all.
type RequestFilter struct {
	State    RequestState
	Consumer string
	Dataset  string
}

// Admits tells whether a request is among those that are chosen.
func (f RequestFilter) Admits(r BudgetRequest) bool {
	return (f.State == "" || f.State == r.State()) && (f.Consumer == "" || f.Consumer == r.Consumer) && (f.Dataset == "" || f.Dataset == r.Dataset)
}
