package dp

// Entry is a charge as the ledger tells of it: what it was for and how it ended.
type Entry struct {
	Charge
	Purpose       string
	PolicyVersion uint64
	Plan          string   // identity of the plan that was charged for
	Metrics       []string // of the release; nil while there is none
	Release       string   // the release that it paid for; empty while there is none
	Source        string   // the release of another consumer that was handed out; empty for a new draw
	Failure       Code     // how it ended without a release; empty otherwise
	Attempts      int      // how many times it was tried to answer, at most three
	Report        string   // whose question it was; empty for a question by itself
}
