package wire

import "time"

// Proposal is a change that waits for a second officer, or waited for one.
type Proposal struct {
	ID      string            `json:"id" example:"pro_01k3x8"`
	State   string            `json:"state" enum:"open,confirmed,rejected,withdrawn,stale,expired" doc:"stale: what it was about changed meanwhile" example:"open"`
	Kind    string            `json:"kind" enum:"policy,allotment,grant,consumer,key" example:"policy"`
	On      string            `json:"on" doc:"The dataset, the consumer, or the consumer and the dataset" example:"transactions"`
	Request string            `json:"request,omitempty" doc:"The budget request that it grants" example:"req_01k3x8"`
	Seen    uint64            `json:"seen" doc:"The version that it was proposed on; 0: there was none" example:"3"`
	Changes []string          `json:"changes" doc:"What would change: lines that go begin with -, lines that come with +" example:"[\"- cap: {epsilon: 6, delta: 0.000000001}\",\"+ cap: {epsilon: 8, delta: 0.000000001}\"]"`
	By      string            `json:"by" doc:"The officer who proposed it" example:"ada"`
	Reason  string            `json:"reason" example:"the launch in spring"`
	Made    time.Time         `json:"made"`
	Expires time.Time         `json:"expires" doc:"From then on it cannot be confirmed"`
	End     *ProposalDecision `json:"decision,omitempty" doc:"Absent while it is open, and where it expired unseen"`
}

// ProposalDecision is how a proposal ended.
type ProposalDecision struct {
	By     string    `json:"by" example:"grace"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty" example:"agreed"`
}

// NewConfirmation confirms or rejects a proposal.
type NewConfirmation struct {
	Confirm bool `json:"confirm" doc:"true: make the change, exactly as it is shown; false: reject it" example:"true"`
}

// ProposalList is a page of proposals, newest first.
type ProposalList struct {
	Items []Proposal `json:"items"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
