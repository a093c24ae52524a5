package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
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
	charged := answer.Charged{Charge: c.Charge, Snapshot: c.Snapshot, Attempt: c.Attempts, Left: left(d.accounts)}
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
	// Whoever asked may have been admitted before: what decides is how they stand here.
	who, err := checkCaller(t, r)
	if err != nil {
		return decision{}, err
	}
	if r.Key != "" {
		earlier, found, err := load[idempotencyRecord](t, idempotencyKey(r.Consumer, r.Key))
		if err != nil {
			return decision{}, err
		}
		if found {
			return l.repeat(t, r, earlier)
		}
	}

	parts := partsOfRequest(r)
	ceilings, err := ceilingsOf(t, r.Consumer, parts)
	if err != nil {
		return decision{}, err
	}
	for i, p := range parts {
		if ceilings[i].dataset.PolicyVersion != p.PolicyVersion {
			return decision{}, answer.ErrPolicyChanged
		}
	}
	if err := checkMayAsk(t, who, r.Purpose, parts); err != nil {
		return decision{}, err
	}
	if err := checkRetired(t, parts); err != nil {
		return decision{}, err
	}
	for i, p := range parts {
		if err := checkAllotment(ceilings[i].allotment, p.Loss, on(p.Dataset, r.Dataset), t.now); err != nil {
			return decision{}, err
		}
	}
	if r.Source != "" {
		held, _, err := load[holderRecord](t, holderKey(r.Consumer, r.Source))
		if err != nil {
			return decision{}, err
		}
		if held.Charge != "" { // nothing is paid twice
			return l.again(t, r, held.Charge)
		}
	}
	accounts, err := touch(t, parts, ceilings, r.Source == "")
	if err != nil {
		return decision{}, err
	}
	// Whether there is such a source is looked at afterwards: who may not pay for it is not told.
	if short := refusing(accounts); len(short) > 0 {
		return decision{}, &shortage{short}
	}

	c := chargeRecord{
		Charge: dp.Charge{
			ID: newID("chg_"), Consumer: r.Consumer, Dataset: r.Dataset, Blocks: r.Blocks,
			Loss: r.Loss, CapLoss: r.Loss, Also: r.Also, At: t.now,
		},
		Purpose: r.Purpose, Plan: r.Plan, Report: report, Attempts: 1, Lease: t.now.Add(l.lease), Opening: l.opening,
	}
	if report != "" && r.Source == "" { // its first attempt begins when it is its turn
		c.Attempts, c.Lease = 0, time.Time{}
	}
	if r.Source == "" {
		c.Snapshot, err = snapshotOf(t, parts)
	} else {
		err = handOut(t, r, &c)
	}
	if err != nil {
		return decision{}, err
	}
	if err := spend(t, accounts); err != nil {
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
		accounts, err = touch(t, parts, ceilings, true)
	}
	return decision{c, accounts}, err
}

// checkCaller refuses a charge by who is out, or cannot sign in any more. That is part of the transaction: the log has
// the end of a consumer or a key and the charges in one order, and none that was asked for before follows.
func checkCaller(t *tx, r answer.ChargeRequest) (who dp.Consumer, err error) {
	who, known, err := load[dp.Consumer](t, consumerKey(r.Consumer))
	switch {
	case err != nil:
		return who, err
	case !known:
		return who, errNoConsumer()
	case who.Suspended:
		return who, refuse(dp.CodeForbidden, "this consumer is suspended, and nothing was charged: ask an officer")
	case r.Credential == "":
		return who, nil
	}
	k, found, err := load[dp.Key](t, keyKey(r.Credential))
	if err == nil && (!found || k.Consumer != r.Consumer || !k.InForce(t.now)) {
		err = refuse(dp.CodeUnauthenticated, "the key of this call is not in force any more, and nothing was charged: ask an officer for a new one")
	}
	return who, err
}

// checkRequest asserts what the walk promises of a charge.
func (l *Ledger) checkRequest(r answer.ChargeRequest) error {
	if r.Consumer == "" || r.Plan == "" || r.Purpose == "" {
		return errors.New("a charge names its consumer, its plan and its purpose")
	}
	return l.checkParts(partsOfRequest(r))
}

// on names a dataset to who asked about one.
func on(dataset, asked string) string {
	if dataset == asked {
		return "this dataset"
	}
	return "the dataset " + dataset
}

// checkAllotment refuses what an officer's conditions on the consumer forbid, whatever is left.
func checkAllotment(a dp.Allotment, loss dp.Loss, on string, now time.Time) error {
	switch {
	case a.Paused:
		return refuse(dp.CodeForbidden, "your allotment on %s is paused, and nothing is charged to it: ask an officer to resume it", on)
	case !a.Expires.IsZero() && !now.Before(a.Expires):
		return refuse(dp.CodeForbidden, "your allotment on %s has expired: ask an officer to renew it", on)
	case a.MaxEpsilonPerQuery > 0 && loss.Epsilon > a.MaxEpsilonPerQuery:
		return refuse(dp.CodeForbidden, "this costs epsilon %s and your allotment on %s allows %s per query: ask for less, or for a wider interval", loss.Epsilon, on, a.MaxEpsilonPerQuery)
	}
	return nil
}

// shortage refuses a charge that some accounts do not admit.
type shortage struct {
	refusing []account // at least one
}

func (*shortage) Error() string { return "an account does not admit the charge" }

// account is the one to name: one without any allotment, for an officer can help there, or that with least room.
func (s *shortage) account() (a account, granted bool) {
	for _, a := range s.refusing {
		if a.owner != "" && a.budget == (dp.Budget{}) {
			return a, false
		}
	}
	a, _ = leastRoom(s.refusing)
	return a, true
}

// title names the kind of an account to who asked.
func (a account) title() string {
	if a.owner == "" {
		return "the dataset's cap on " + a.block
	}
	return "your allotment on " + a.block
}

// closed says why no price would be admitted; empty where a lower one would be. Of a cap, which others spend from too, it
// does not say whether it was lowered.
func (a account) closed(granted bool, on string) string {
	switch {
	case !granted:
		return fmt.Sprintf("you have no allotment on %s: ask an officer for one", on)
	case a.owner == "" && accounting.Room(a.budget, a.spent()) == 0:
		return fmt.Sprintf("the cap of %s admits nothing more on %s, whoever asks: ask about another time", on, a.block)
	case a.owner != "" && accounting.Frozen(a.budget, a.spent()):
		return fmt.Sprintf("your allotment on %s is frozen on %s, where you spent more than an officer has lowered it to since: ask an officer for more, or ask about another time", on, a.block)
	}
	return ""
}

// refusal says what the charge would have cost the account that is named, and what that still admits.
func (s *shortage) refusal(r answer.ChargeRequest) error {
	a, granted := s.account()
	required, rest := a.loss, left([]account{a})
	message := fmt.Sprintf("this costs epsilon %s and %s still admits %s: ask for less, or ask an officer for more", required.Epsilon, a.title(), rest.Epsilon)
	if why := a.closed(granted, on(a.dataset, r.Dataset)); why != "" {
		message = why
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
	parts := c.parts()
	ceilings, err := ceilingsOf(r, c.Charge.Consumer, parts)
	if err != nil {
		return decision{}, err
	}
	accounts, err := touch(r, parts, ceilings, true)
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

// putCharge asserts that a charge ended at most once, and is over the blocks that it pays for.
func putCharge(t *tx, c *chargeRecord) error {
	if c.Release != "" && c.Failure != nil || c.Attempts < 1 && c.Report == "" || c.Attempts > maxAttempts || !c.fits(c.Snapshot) {
		return errors.New("a charge contradicts itself and is not written")
	}
	return save(t, chargeKey(c.Charge.ID), *c)
}

// newID draws a name that nobody can guess, and that tells nothing of how many there are.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
