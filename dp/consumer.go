package dp

import "time"

// Consumer is a person, team or program that may call Discreet.
type Consumer struct {
	Name         string
	Role         Role
	Organisation string
	Audience     Audience
	Purposes     []string
	Suspended    bool `json:",omitempty"` // no key of it is in force, and nothing is charged to it
	Created      time.Time
	Version      uint64 // counts changes from 1; what If-Match compares
	// Subject is who its tokens are about, in the words of the issuer; empty: tokens sign nobody in. No two
	// consumers have one.
	Subject string `json:",omitempty"`
}

// Role is what a consumer may do. Each consumer has one.
type Role string

// The roles.
const (
	Product   Role = "product"   // asks
	Analyst   Role = "analyst"   // asks and reports
	Officer   Role = "officer"   // sets policies, budgets, consumers
	Custodian Role = "custodian" // loads and erases
	Auditor   Role = "auditor"   // reads accounts and the log
)

// Key is a consumer's credential as the ledger keeps it: never the secret, only its SHA-256.
type Key struct {
	ID       string
	Consumer string
	Hash     [32]byte
	Created  time.Time
	Expires  time.Time // zero: never
	Revoked  time.Time // zero: in force
	// Under is the id of the key under which its consumer made it; empty: an officer did. It ends no later than that one
	// was to end then, and an officer who revokes that one revokes it, too.
	Under string `json:",omitempty"`
}

// InForce tells whether a key signs anybody in at a moment.
func (k Key) InForce(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

// Allotment is the budget of one consumer on one dataset, for each block of it.
type Allotment struct {
	Consumer           string
	Dataset            string
	Budget             Budget
	MaxEpsilonPerQuery Epsilon   // 0: no maximum of its own
	Expires            time.Time // zero: never
	Paused             bool
	Version            uint64
}
