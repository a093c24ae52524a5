package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// maxAttempts is how often one charge may be tried to be answered.
const maxAttempts = 3

// Charge implements answer.Ledger. All that it decides, it decides and writes in one transaction; what a
// refusal or an answer tells of what is left is worked out afterwards, over the state that was decided on.
//
// Under an idempotency key that was charged before, the same question gets the earlier charge: with its
// outcome once there is one; while an attempt runs, CodeUnavailable with RetryAfter; after it died, a further
// attempt over the same block versions, at most three in all. Keys are kept for ever.
func (l *Ledger) Charge(ctx context.Context, r answer.ChargeRequest) (answer.Charged, error) {
	if err := l.checkRequest(r); err != nil {
		return answer.Charged{}, err
	}
	var d decision
	err := l.write(ctx, func(t *tx) (err error) {
		t.kind = entryCharge
		d, err = l.decideCharge(t, r, "")
		return err
	})
	var short *shortage
	if errors.As(err, &short) {
		return answer.Charged{}, short.refusal(r)
	}
	if err != nil {
		return answer.Charged{}, err
	}
	return l.charged(ctx, d)
}

// charged tells of a decision: what is left, and the outcome if there is one.
func (l *Ledger) charged(ctx context.Context, d decision) (answer.Charged, error) {
	c := d.charge
	charged := answer.Charged{Charge: c.Charge, Snapshot: c.Snapshot, Attempt: c.Attempts, Left: left(c.Charge.Dataset, d.accounts, c.Charge.Loss)}
	if c.ended() {
		outcome, err := l.outcome(ctx, &c)
		if err != nil {
			return answer.Charged{}, fmt.Errorf("reading the outcome of charge %s: %w", c.Charge.ID, err)
		}
		charged.Outcome = &outcome
	}
	return charged, nil
}

// decision is a charge that stands, and the accounts that it touches as it left them.
type decision struct {
	charge   chargeRecord
	accounts []account
}

// decideCharge admits a charge or refuses it. It may be that of a report's question.
func (l *Ledger) decideCharge(t *tx, r answer.ChargeRequest, report string) (decision, error) {
	if r.Key != "" {
		earlier, found, err := load[idempotencyRecord](t, idempotencyKey(r.Consumer, r.Key))
		if err != nil {
			return decision{}, err
		}
		if found {
			return l.repeat(t, r, earlier)
		}
	}

	dataset, found, err := load[datasetRecord](t, datasetKey(r.Dataset))
	if err != nil {
		return decision{}, err
	}
	if !found {
		return decision{}, errNoDataset()
	}
	if dataset.PolicyVersion != r.PolicyVersion {
		return decision{}, answer.ErrPolicyChanged
	}
	allotment, err := allotmentOf(t, r.Consumer, r.Dataset)
	if err != nil {
		return decision{}, err
	}
	if err := checkAllotment(allotment, r.Loss, t.now); err != nil {
		return decision{}, err
	}

	c := chargeRecord{
		Charge: dp.Charge{
			ID: newID("chg_"), Consumer: r.Consumer, Dataset: r.Dataset, Blocks: r.Blocks,
			Loss: r.Loss, CapLoss: r.Loss, At: t.now,
		},
		Purpose: r.Purpose, Plan: r.Plan, Report: report, Attempts: 1, Lease: t.now.Add(l.lease), Opening: l.opening,
	}
	if report != "" && r.Source == "" { // its first attempt begins when it is its turn
		c.Attempts, c.Lease = 0, time.Time{}
	}
	if r.Source == "" {
		versions, err := blockVersions(t, r.Dataset, r.Blocks)
		if err != nil {
			return decision{}, err
		}
		c.Snapshot = dp.Snapshot{Dataset: r.Dataset, PolicyVersion: r.PolicyVersion, Blocks: versions}
	} else {
		held, _, err := load[holderRecord](t, holderKey(r.Consumer, r.Source))
		if err != nil {
			return decision{}, err
		}
		if held.Charge != "" { // nothing is paid twice
			return l.again(t, r, held.Charge)
		}
		if err := handOut(t, r, &c); err != nil {
			return decision{}, err
		}
	}

	accounts, err := touch(t, dataset, allotment, r.Blocks, r.Source == "")
	if err != nil {
		return decision{}, err
	}
	if !admitted(accounts, r.Loss) {
		return decision{}, &shortage{accounts: accounts, granted: allotment.Budget != dp.Budget{}}
	}
	if err := spend(t, r.Dataset, accounts, r.Loss); err != nil {
		return decision{}, err
	}
	if c.Number, err = nextNumber(t); err != nil {
		return decision{}, err
	}
	if r.Source != "" {
		if err := hold(t, &c); err != nil {
			return decision{}, err
		}
	}
	if err := newCharge(t, &c); err != nil {
		return decision{}, err
	}
	indexed := []byte(c.Charge.ID)
	t.put(chargeOfKey(r.Consumer, c.Number), indexed)
	if err := remember(t, r, c.Charge.ID); err != nil {
		return decision{}, err
	}
	if r.Source != "" {
		// What is left is told of all accounts, the untouched caps included.
		accounts, err = touch(t, dataset, allotment, r.Blocks, true)
	}
	return decision{c, accounts}, err
}

// checkRequest asserts what the walk promises of a charge.
func (l *Ledger) checkRequest(r answer.ChargeRequest) error {
	s := r.Loss
	switch {
	case r.Consumer == "" || r.Plan == "":
		return errors.New("a charge names its consumer and its plan")
	case s.Epsilon <= 0 || s.Delta < 0 || s.Rho <= 0 || s.DeltaZ < 0:
		return errors.New("a charge has a loss above 0 in every part that has to have one")
	case len(r.Also) > 0:
		return refuse(dp.CodeInvalidQuery, "blocks of several prices cannot be charged at once yet: ask about one")
	case len(r.Blocks) == 0:
		return errors.New("a charge touches at least one block")
	case len(r.Blocks) > l.limits.ChargeBlocks:
		return refuse(dp.CodeTooLarge, "a query may touch at most %d blocks: ask for a shorter time", l.limits.ChargeBlocks)
	}
	return checkBlocks(r.Blocks)
}

// checkBlocks asserts that no block is named twice, for its account would be charged once.
func checkBlocks(blocks []string) error {
	for i, b := range blocks {
		if b == "" || i > 0 && blocks[i-1] >= b {
			return errors.New("blocks are named once each, in calendar order")
		}
	}
	return nil
}

// checkAllotment refuses what an officer's conditions on the consumer forbid, whatever is left.
func checkAllotment(a dp.Allotment, loss dp.Loss, now time.Time) error {
	switch {
	case a.Paused:
		return refuse(dp.CodeForbidden, "your allotment on this dataset is paused: ask an officer to resume it")
	case !a.Expires.IsZero() && !now.Before(a.Expires):
		return refuse(dp.CodeForbidden, "your allotment on this dataset has expired: ask an officer to renew it")
	case a.MaxEpsilonPerQuery > 0 && loss.Epsilon > a.MaxEpsilonPerQuery:
		return refuse(dp.CodeForbidden, "this costs epsilon %s and your allotment allows %s per query: ask for less, or for a wider interval", loss.Epsilon, a.MaxEpsilonPerQuery)
	}
	return nil
}

// shortage refuses a charge that some account does not admit.
type shortage struct {
	accounts []account
	granted  bool
}

func (*shortage) Error() string { return "an account does not admit the charge" }

// refusal says what the charge would have cost and what the account with least room still admits.
func (s *shortage) refusal(r answer.ChargeRequest) error {
	required, rest := r.Loss, left(r.Dataset, s.accounts, r.Loss)
	message := fmt.Sprintf("this costs epsilon %s and the account with least room still admits %s: ask for less, or ask an officer for more", required.Epsilon, rest.Epsilon)
	if !s.granted {
		message = "you have no allotment on this dataset: ask an officer for one"
	}
	return &dp.Error{Code: dp.CodeBudgetExhausted, Message: message, Required: &required, Left: &rest}
}

// repeat answers a request under a key that was charged before, without a further charge.
func (l *Ledger) repeat(t *tx, r answer.ChargeRequest, earlier idempotencyRecord) (decision, error) {
	c, err := recalled(t, earlier, r.Body)
	if err != nil {
		return decision{}, err
	}
	if !c.ended() {
		t.kind = entryAttempt
		if err := l.nextAttempt(t, r, &c); err != nil {
			return decision{}, err
		}
		if err := saveCharge(t, &c); err != nil {
			return decision{}, err
		}
	}
	return withAccounts(t, c)
}

// nextAttempt starts a further attempt at a charge whose last one died, or settles a charge that cannot be
// answered any more. An attempt is dead when its lease has ended, or when it began in an earlier opening of
// the ledger: one process at a time holds it.
func (l *Ledger) nextAttempt(t *tx, r answer.ChargeRequest, c *chargeRecord) error {
	if c.Failure = l.settled(c, t.now); c.Failure != nil {
		return nil
	}
	if l.alive(c, t.now) {
		return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: c.Lease.Sub(t.now),
			Message: "this question is being answered: ask again with the same Idempotency-Key, which costs nothing more"}
	}
	switch {
	case c.Plan != r.Plan:
		// What was charged was another draw: its noise and its price were those of an earlier policy.
		c.Failure = &dp.Error{Code: dp.CodeUnavailable,
			Message: "the question was not answered before its dataset's policy changed, and the charge stands: ask again with a new Idempotency-Key, which is charged anew"}
	default:
		c.Attempts++
		c.Lease, c.Opening = t.now.Add(l.lease), l.opening
	}
	return nil
}

// again hands out a release that the consumer came to hold meanwhile, by the charge that paid for it.
func (l *Ledger) again(t *tx, r answer.ChargeRequest, charge string) (decision, error) {
	c, err := mustLoad[chargeRecord](t, chargeKey(charge))
	if err != nil {
		return decision{}, err
	}
	if err := remember(t, r, charge); err != nil {
		return decision{}, err
	}
	return withAccounts(t, c)
}

// remember binds the caller's key to a charge, for ever.
func remember(t *tx, r answer.ChargeRequest, charge string) error {
	if r.Key == "" {
		return nil
	}
	return save(t, idempotencyKey(r.Consumer, r.Key), idempotencyRecord{Charge: charge, Body: r.Body[:]})
}

// withAccounts adds the accounts of a charge as they stand now.
func withAccounts(r reader, c chargeRecord) (decision, error) {
	d, err := mustLoad[datasetRecord](r, datasetKey(c.Charge.Dataset))
	if err != nil {
		return decision{}, err
	}
	allotment, err := allotmentOf(r, c.Charge.Consumer, c.Charge.Dataset)
	if err != nil {
		return decision{}, err
	}
	accounts, err := touch(r, d, allotment, c.Charge.Blocks, true)
	return decision{c, accounts}, err
}

// newCharge writes a charge for the first time, and lists it while it is open.
func newCharge(t *tx, c *chargeRecord) error {
	if !c.ended() {
		t.put(openKey(c.Number), []byte(c.Charge.ID))
	}
	return putCharge(t, c)
}

// saveCharge writes a charge that was open, and takes it off the list of open ones once it has ended.
func saveCharge(t *tx, c *chargeRecord) error {
	if c.ended() {
		t.delete(openKey(c.Number))
	}
	return putCharge(t, c)
}

// putCharge asserts that a charge ended at most once.
func putCharge(t *tx, c *chargeRecord) error {
	if c.Release != "" && c.Failure != nil || c.Attempts < 1 && c.Report == "" || c.Attempts > maxAttempts || len(c.Charge.Blocks) != len(c.Snapshot.Blocks) {
		return errors.New("a charge contradicts itself and is not written")
	}
	return save(t, chargeKey(c.Charge.ID), *c)
}

// newID draws a name that nobody can guess, and that tells nothing of how many there are.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
