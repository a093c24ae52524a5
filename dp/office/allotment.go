package office

import (
	"context"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// SetAllotment grants a consumer a budget on a dataset, for each of its blocks, or changes it. To change one,
// ifMatch is the version that the caller saw, and the reason is not empty. What was spent stays spent: a budget
// below it freezes those blocks. A budget of zero takes back what is left. An allotment above the dataset's cap
// is bound by the cap. An allotment that already stands is returned as it is. The Version of a is ignored. Where the dataset's
// policy asks for two persons, what does not narrow an allotment is a *Waiting.
//
// Errors: CodeInvalidInput, CodeNotFound, CodePreconditionRequired, CodePreconditionFailed.
func (o *Office) SetAllotment(ctx context.Context, actor string, a dp.Allotment, ifMatch *uint64, reason string) (set dp.Allotment, created bool, err error) {
	if a.MaxEpsilonPerQuery < 0 {
		return dp.Allotment{}, false, invalid("the maximum per query cannot be negative: give an epsilon above 0, or 0 for none")
	}
	if err := checkReason(reason, false); err != nil {
		return dp.Allotment{}, false, err
	}
	a.Expires = inUTC(a.Expires)
	err = o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		d, err := decideAllotment(tx, a, ifMatch, reason)
		if err != nil {
			return nil, err
		}
		set, created = d.after, d.before == nil
		switch {
		case d.before != nil && d.before.Version == d.after.Version:
			return nil, nil
		case d.two && !d.narrows():
			return propose(tx, actor, reason, dp.ProposedChange{Allotment: &dp.AllotmentChange{Before: d.before, After: d.after}}, now)
		}
		return nil, tx.PutAllotment(d.after)
	})
	if err != nil {
		return dp.Allotment{}, false, err
	}
	return set, created, nil
}

// allotmentDecision is what an allotment would become.
type allotmentDecision struct {
	before *dp.Allotment // nil: there is none
	after  dp.Allotment  // of the same version where it is so already
	two    bool          // the dataset asks for two persons
}

func (d allotmentDecision) narrows() bool {
	return d.before != nil && allotmentNarrows(*d.before, d.after)
}

func decideAllotment(tx Tx, a dp.Allotment, ifMatch *uint64, reason string) (d allotmentDecision, err error) {
	if _, ok, err := tx.Consumer(a.Consumer); err != nil {
		return d, err
	} else if !ok {
		return d, notFound("consumer")
	}
	policies, err := tx.Policies(a.Dataset)
	if err != nil {
		return d, err
	}
	if len(policies) == 0 {
		return d, notFound("dataset")
	}
	policy := policies[len(policies)-1]
	if err := CheckBudget("allotment", a.Budget, policy.Population); err != nil {
		return d, err
	}
	now, exists, err := tx.Allotment(a.Consumer, a.Dataset)
	if err != nil {
		return d, err
	}
	d.two = policy.TwoPerson
	if exists {
		d.before = &now
	}
	a.Version = now.Version
	if exists && a == now {
		d.after = now
		return d, nil
	}
	if err := checkMatch("allotment", exists, now.Version, ifMatch); err != nil {
		return d, err
	}
	if err := checkReason(reason, exists); err != nil {
		return d, err
	}
	a.Version++
	d.after = a
	return d, nil
}

// confirmAllotment puts a proposed allotment in force.
func confirmAllotment(tx Tx, after dp.Allotment, end dp.ProposalEnd) error {
	var seen *uint64
	if before := after.Version - 1; before > 0 {
		seen = &before
	}
	d, err := decideAllotment(tx, after, seen, end.Reason)
	if err != nil {
		return err
	}
	return tx.PutAllotment(d.after)
}
