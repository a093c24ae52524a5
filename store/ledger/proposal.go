package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// proposalRecord is a change that waits for a second officer. It is written once.
type proposalRecord struct {
	Number  uint64
	By      string
	Reason  string
	Made    time.Time
	Expires time.Time
	Change  dp.ProposedChange
}

// The versions of a proposal that a change names.
const (
	proposalMade  = 1
	proposalEnded = 2
)

// proposalOf reads a proposal with how it ended.
func proposalOf(r reader, id string) (dp.Proposal, bool, error) {
	record, found, err := load[proposalRecord](r, proposalKey(id))
	if err != nil || !found {
		return dp.Proposal{}, false, err
	}
	out := dp.Proposal{ID: id, Number: record.Number, By: record.By, Reason: record.Reason, Made: record.Made, Expires: record.Expires, Change: record.Change}
	end, ended, err := load[dp.ProposalEnd](r, proposalEndKey(id))
	if ended {
		out.End = &end
	}
	return out, err == nil, err
}

func mustProposal(r reader, id string) (dp.Proposal, error) {
	p, found, err := proposalOf(r, id)
	if err == nil && !found {
		err = errDamaged
	}
	return p, err
}

func (b *bookTx) Proposal(id string) (dp.Proposal, bool, error) { return proposalOf(b.tx, id) }

func (b *bookTx) OpenProposals() (list []dp.Proposal, err error) {
	err = b.tx.each(makeKey(kindProposalOpen), func(_, id []byte) error {
		p, err := mustProposal(b.tx, string(id))
		list = append(list, p)
		return err
	})
	return list, err
}

func (b *bookTx) AddProposal(p dp.Proposal) (dp.Proposal, error) {
	if p.ID == "" || p.By == "" || p.End != nil {
		return p, errors.New("a proposal names itself and who made it, and is open")
	}
	if known, err := b.tx.get(proposalKey(p.ID)); err != nil || known != nil {
		return p, errors.Join(err, errors.New("the proposal exists"))
	}
	var err error
	if p.Number, err = nextNumber(b.tx); err != nil {
		return p, err
	}
	b.tx.put(proposalsKey(p.Number), []byte(p.ID))
	b.tx.put(proposalOpenKey(p.Number), []byte(p.ID))
	b.note("proposal", p.ID, proposalMade)
	return p, save(b.tx, proposalKey(p.ID), proposalRecord{Number: p.Number, By: p.By, Reason: p.Reason, Made: p.Made, Expires: p.Expires, Change: p.Change})
}

func (b *bookTx) EndProposal(id string, e dp.ProposalEnd) error {
	p, err := mustProposal(b.tx, id)
	if err != nil {
		return err
	}
	if p.End != nil || e.State == "" || e.State == dp.ProposalOpen {
		return errors.New("a proposal ends once")
	}
	b.tx.delete(proposalOpenKey(p.Number))
	b.note("proposal", id, proposalEnded)
	return save(b.tx, proposalEndKey(id), e)
}

// Proposal returns a proposal, or CodeNotFound.
func (l *Ledger) Proposal(ctx context.Context, id string) (p dp.Proposal, err error) {
	err = l.read(ctx, func(v view) error {
		var found bool
		if p, found, err = proposalOf(v, id); err == nil && !found {
			err = refuse(dp.CodeNotFound, "there is no such proposal: list them")
		}
		return err
	})
	return p, err
}

// Proposals lists proposals, the newest first, all of them or those that are open, expired ones left out. Next is empty after
// the last page; an unknown cursor is CodeInvalidInput.
func (l *Ledger) Proposals(ctx context.Context, open bool, cursor string, limit int) (list []dp.Proposal, next string, err error) {
	// Both lists end their keys with the number, so that a cursor of one is one of the other.
	prefix := makeKey(kindProposals)
	if open {
		prefix = makeKey(kindProposalOpen)
	}
	now := l.clock()
	next, err = l.page(ctx, prefix, descending, cursor, limit, func(v view, _, value []byte) (bool, error) {
		p, err := mustProposal(v, string(value))
		if err != nil || open && p.State(now) != dp.ProposalOpen {
			return false, err
		}
		list = append(list, p)
		return true, nil
	})
	return list, next, err
}
