package dp

import "time"

// Proposal is a change that one officer decided and that waits for another one, because a dataset's policy says so
// (Policy.TwoPerson). It is kept for ever, and ends once.
type Proposal struct {
	ID      string
	Number  uint64 // in the order in which proposals were made
	By      string // the officer who proposes
	Reason  string
	Made    time.Time
	Expires time.Time // from then on it cannot be confirmed
	Change  ProposedChange
	// End is how it ended; nil while it is open.
	End *ProposalEnd
}

// ProposedChange is what would change: exactly one of these. Whoever confirms it confirms what stands here, on the
// version that comes before After's.
type ProposedChange struct {
	Policy    *PolicyChange    `json:",omitempty"`
	Allotment *AllotmentChange `json:",omitempty"`
	Consumer  *ConsumerChange  `json:",omitempty"`
	Key       *Key             `json:",omitempty"` // a further one; Created is when it is confirmed
}

// PolicyChange is a next version of a policy. The one before it is in the catalog.
type PolicyChange struct {
	After VersionedPolicy
}

// AllotmentChange is a next version of an allotment.
type AllotmentChange struct {
	Before  *Allotment `json:",omitempty"` // nil: there is none
	After   Allotment
	Request string `json:",omitempty"` // the budget request that it grants
}

// ConsumerChange is a consumer's next version.
type ConsumerChange struct {
	Before *Consumer `json:",omitempty"` // nil: it is created, and After's Created is when that is confirmed
	After  Consumer
}

// ProposalEnd is how a proposal ended.
type ProposalEnd struct {
	State  ProposalState
	By     string // who confirmed or rejected it; its proposer who withdrew it; who found it stale or expired
	At     time.Time
	Reason string
}

// ProposalState says how a proposal stands.
type ProposalState string

// The states of a proposal. It is open first, and ends in one of the others.
const (
	ProposalOpen      ProposalState = "open"
	ProposalConfirmed ProposalState = "confirmed"
	ProposalRejected  ProposalState = "rejected"
	ProposalWithdrawn ProposalState = "withdrawn"
	ProposalStale     ProposalState = "stale"   // what it was about changed meanwhile
	ProposalExpired   ProposalState = "expired" // nobody confirmed it in time
)

// State says how the proposal stands at a time.
func (p Proposal) State(now time.Time) ProposalState {
	switch {
	case p.End != nil:
		return p.End.State
	case !now.Before(p.Expires):
		return ProposalExpired
	}
	return ProposalOpen
}
