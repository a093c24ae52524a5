package office

import (
	"context"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// SetAllotment grants a consumer a budget on a dataset, for each of its blocks, or changes it. To change one,
// ifMatch is the version that the caller saw, and the reason is not empty. What was spent stays spent: a budget
// below it freezes those blocks. A budget of zero takes back what is left. An allotment above the dataset's cap
// is bound by the cap. An allotment that already stands is returned as it is. The Version of a is ignored.
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
	err = o.change(ctx, actor, reason, func(tx Tx, _ time.Time) error {
		set, created, err = decideAllotment(tx, a, ifMatch, reason)
		return err
	})
	if err != nil {
		return dp.Allotment{}, false, err
	}
	return set, created, nil
}

func decideAllotment(tx Tx, a dp.Allotment, ifMatch *uint64, reason string) (dp.Allotment, bool, error) {
	if _, ok, err := tx.Consumer(a.Consumer); err != nil {
		return dp.Allotment{}, false, err
	} else if !ok {
		return dp.Allotment{}, false, notFound("consumer")
	}
	policies, err := tx.Policies(a.Dataset)
	if err != nil {
		return dp.Allotment{}, false, err
	}
	if len(policies) == 0 {
		return dp.Allotment{}, false, notFound("dataset")
	}
	if err := CheckBudget("allotment", a.Budget, policies[len(policies)-1].Population); err != nil {
		return dp.Allotment{}, false, err
	}
	now, exists, err := tx.Allotment(a.Consumer, a.Dataset)
	if err != nil {
		return dp.Allotment{}, false, err
	}
	a.Version = now.Version
	if exists && a == now {
		return now, false, nil
	}
	if err := checkMatch("allotment", exists, now.Version, ifMatch); err != nil {
		return dp.Allotment{}, false, err
	}
	if err := checkReason(reason, exists); err != nil {
		return dp.Allotment{}, false, err
	}
	a.Version = now.Version + 1
	return a, !exists, tx.PutAllotment(a)
}
