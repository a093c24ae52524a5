package office

import (
	"context"
	"crypto/rand"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// Limits of proposals. Those that have ended are kept for ever, and do not count.
const (
	// MaxOpenProposals is how many proposals are open at a time.
	MaxOpenProposals = 100
	// ProposalLife is for how long a proposal can be confirmed.
	ProposalLife = 7 * 24 * time.Hour
)

// Waiting says that a change is not made yet: it waits for a second officer, as the proposal that it holds.
type Waiting struct{ Proposal dp.Proposal }

func (w *Waiting) Error() string {
	return "this waits for a second officer: proposal " + w.Proposal.ID
}

// propose keeps a change until a second officer agrees. What the same officer proposed before and is open is that proposal.
func propose(tx Tx, actor, reason string, change dp.ProposedChange, now time.Time) (*Waiting, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, invalid("say why: this takes a second officer, who reads the reason before they agree")
	}
	if err := checkReason(reason, true); err != nil {
		return nil, err
	}
	if active, err := activeOfficer(tx, actor); err != nil {
		return nil, err
	} else if !active {
		return nil, refuse(dp.CodeForbidden, "this takes two officers, and you are none: ask one")
	}
	all, err := tx.OpenProposals()
	if err != nil {
		return nil, err
	}
	open := 0
	for _, p := range all {
		switch {
		case p.State(now) == dp.ProposalExpired: // which makes room
			if err := tx.EndProposal(p.ID, dp.ProposalEnd{State: dp.ProposalExpired, By: actor, At: now}); err != nil {
				return nil, err
			}
			continue
		case p.By == actor && sameChange(p.Change, change):
			return &Waiting{p}, nil
		}
		open++
	}
	if open >= MaxOpenProposals {
		return nil, refuse(dp.CodeConflict, "there are %d open proposals, as many as there may be: confirm, reject or withdraw some", open)
	}
	p, err := tx.AddProposal(dp.Proposal{ID: "pro_" + strings.ToLower(rand.Text()), By: actor, Reason: strings.TrimSpace(reason),
		Made: now, Expires: now.Add(ProposalLife), Change: change})
	if err != nil {
		return nil, err
	}
	return &Waiting{p}, nil
}

// sameChange tells whether two proposals are for the same, but for the id that was drawn for a new key.
func sameChange(a, b dp.ProposedChange) bool {
	if a.Key != nil && b.Key != nil {
		return a.Key.Consumer == b.Key.Consumer && a.Key.Hash == b.Key.Hash && a.Key.Expires.Equal(b.Key.Expires)
	}
	return reflect.DeepEqual(a, b)
}

// DecideProposal confirms or rejects what another officer proposed. To confirm it makes the change, exactly as it was
// proposed and in the same transaction, and decides on it anew: where what it is about has changed since, or who proposed
// it is no officer any more, the proposal ends as stale and nothing else changes. To decide the same again changes nothing.
//
// Errors: CodeInvalidInput, CodeNotFound, CodeForbidden for a proposal of the actor's own and for who is no officer,
// CodeConflict where the proposal is open no more, and whatever the change itself may be refused with.
func (o *Office) DecideProposal(ctx context.Context, actor, id string, confirm bool, reason string) (p dp.Proposal, err error) {
	if strings.TrimSpace(reason) == "" {
		return p, invalid("say why: a decision on a proposal needs a reason, which is kept for auditors")
	}
	if err := checkReason(reason, true); err != nil {
		return p, err
	}
	var late error // why it ended otherwise than was asked for
	err = o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		end := dp.ProposalEnd{State: dp.ProposalRejected, By: actor, At: now, Reason: strings.TrimSpace(reason)}
		if confirm {
			end.State = dp.ProposalConfirmed
		}
		p, late, err = decideProposal(tx, id, end)
		return err
	})
	if err == nil {
		err = late
	}
	if err != nil {
		return dp.Proposal{}, err
	}
	return p, nil
}

func decideProposal(tx Tx, id string, end dp.ProposalEnd) (p dp.Proposal, late, err error) {
	p, ok, err := tx.Proposal(id)
	if err != nil {
		return p, nil, err
	}
	if !ok {
		return p, nil, noProposal()
	}
	if p.End != nil {
		if p.End.State == end.State && p.End.By == end.By {
			return p, nil, nil
		}
		return p, nil, endedProposal(p)
	}
	if p.By == end.By {
		return p, nil, refuse(dp.CodeForbidden, "nobody agrees to a proposal of their own: have another officer look at it, or withdraw it")
	}
	if active, err := activeOfficer(tx, end.By); err != nil || !active {
		if err == nil {
			err = refuse(dp.CodeForbidden, "only officers decide on proposals")
		}
		return p, nil, err
	}
	if end.State == dp.ProposalConfirmed {
		if end.State, late, err = confirmed(tx, p, end); err != nil {
			return p, nil, err
		}
	}
	p.End = &end
	return p, late, tx.EndProposal(p.ID, end)
}

// confirmed makes the change of a proposal, and gives the state in which that ends: another one than confirmed where it
// came too late.
func confirmed(tx Tx, p dp.Proposal, end dp.ProposalEnd) (state dp.ProposalState, late, err error) {
	if p.State(end.At) == dp.ProposalExpired {
		return dp.ProposalExpired, refuse(dp.CodeConflict, "the proposal expired on %s: propose the change again", p.Expires.UTC().Format(time.DateOnly)), nil
	}
	active, err := activeOfficer(tx, p.By)
	if err != nil {
		return "", nil, err
	}
	stands := false
	if active {
		if stands, err = base(tx, p.Change); err != nil {
			return "", nil, err
		}
	}
	if !stands {
		return dp.ProposalStale, refuse(dp.CodeConflict, "what the proposal is about changed meanwhile, and nothing came of it: look at what is in force, and propose the change again"), nil
	}
	switch c := p.Change; {
	case c.Policy != nil:
		err = confirmPolicy(tx, c.Policy.After, end)
	case c.Allotment != nil && c.Allotment.Request != "":
		err = confirmGrant(tx, *c.Allotment, p, end)
	case c.Allotment != nil:
		err = confirmAllotment(tx, c.Allotment.After, end)
	case c.Consumer != nil:
		err = confirmConsumer(tx, c.Consumer.After, end)
	default:
		err = confirmKey(tx, *c.Key, end)
	}
	return dp.ProposalConfirmed, nil, err
}

// base tells whether what a proposal is about stands as when it was proposed.
func base(tx Tx, c dp.ProposedChange) (bool, error) {
	switch {
	case c.Policy != nil:
		versions, err := tx.Policies(c.Policy.After.Name)
		return uint64(len(versions))+1 == c.Policy.After.Version, err
	case c.Allotment != nil:
		after := c.Allotment.After
		now, _, err := tx.Allotment(after.Consumer, after.Dataset)
		if err != nil || now.Version+1 != after.Version || c.Allotment.Request == "" {
			return now.Version+1 == after.Version, err
		}
		r, ok, err := tx.Request(c.Allotment.Request)
		return ok && r.Decision == nil, err
	case c.Consumer != nil:
		now, _, err := tx.Consumer(c.Consumer.After.Name)
		return now.Version+1 == c.Consumer.After.Version, err
	}
	_, taken, err := tx.Key(c.Key.ID)
	return !taken, err
}

// WithdrawProposal takes an open proposal of the officer's own back. One that was withdrawn already stays as it is.
//
// Errors: CodeInvalidInput, CodeNotFound, CodeForbidden for a proposal of another officer, CodeConflict where it has ended.
func (o *Office) WithdrawProposal(ctx context.Context, actor, id, reason string) (p dp.Proposal, err error) {
	if err := checkReason(reason, false); err != nil {
		return dp.Proposal{}, err
	}
	err = o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		var ok bool
		if p, ok, err = tx.Proposal(id); err != nil {
			return err
		}
		switch {
		case !ok:
			return noProposal()
		case p.By != actor:
			return refuse(dp.CodeForbidden, "only who proposed it withdraws a proposal: reject it instead")
		case p.End != nil && p.End.State == dp.ProposalWithdrawn:
			return nil
		case p.End != nil:
			return endedProposal(p)
		}
		p.End = &dp.ProposalEnd{State: dp.ProposalWithdrawn, By: actor, At: now, Reason: strings.TrimSpace(reason)}
		return tx.EndProposal(id, *p.End)
	})
	if err != nil {
		return dp.Proposal{}, err
	}
	return p, nil
}

// activeOfficer tells whether a consumer is an officer now.
func activeOfficer(tx Tx, name string) (bool, error) {
	c, ok, err := tx.Consumer(name)
	return ok && c.Role == dp.Officer && !c.Suspended, err
}

// twoAsked tells whether two officers must agree on who is an officer: wherever one dataset asks for two persons, or one
// officer could make the second one.
func twoAsked(tx Tx) (bool, error) {
	policies, err := tx.PoliciesInForce()
	return slices.ContainsFunc(policies, func(p dp.VersionedPolicy) bool { return p.TwoPerson }), err
}

func endedProposal(p dp.Proposal) error {
	return refuse(dp.CodeConflict, "the proposal was %s on %s and ends once: propose the change again", p.End.State, p.End.At.UTC().Format(time.DateOnly))
}

func noProposal() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "there is no such proposal: list them"}
}
