package office

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// Limits of requests. Those that have ended are kept for ever, and do not count.
const (
	// MaxOpenRequests is how many requests of one consumer are open at a time: at most one on each dataset.
	MaxOpenRequests = 20
	// MaxRequestsADay is how many requests a consumer makes within 24 hours, whatever became of them: each is kept for ever.
	MaxRequestsADay = 100
	// MaxWantedQuery is the length in bytes of the canonical text of the question that a request names.
	MaxWantedQuery = 16 << 10
)

// RequestBudget asks for an allotment in the name of a consumer. ID, Number, Consumer, Made and Decision of r are
// ignored. What is asked for again while it is open, or at any time under the same key (empty: none), is returned
// as it stands, and not made.
//
// Errors: CodeInvalidInput; CodeNotFound, also for a dataset whose answers the consumer may not receive;
// CodeConflict where another request of the consumer is open on the dataset, where too many are, or where the key
// was used for another request; CodeRateLimited after MaxRequestsADay; CodeTooLarge.
func (o *Office) RequestBudget(ctx context.Context, consumer string, r dp.BudgetRequest, key string) (made dp.BudgetRequest, created bool, err error) {
	if err := checkReason(r.Reason, true); err != nil {
		return dp.BudgetRequest{}, false, err
	}
	if r.Query != nil && len(r.Query.Canonical) > MaxWantedQuery {
		return dp.BudgetRequest{}, false, refuse(dp.CodeTooLarge, "the query is longer than %d bytes in its canonical form: leave it out, and describe it in the reason", MaxWantedQuery)
	}
	r.ID, r.Consumer, r.Reason, r.Decision = requestID(consumer, key), consumer, strings.TrimSpace(r.Reason), nil
	r.Asked.Expires = inUTC(r.Asked.Expires)
	err = o.change(ctx, consumer, r.Reason, func(tx Tx, now time.Time) error {
		r.Made = now
		made, created, err = decideNewRequest(tx, r, now)
		return err
	})
	if err != nil {
		return dp.BudgetRequest{}, false, err
	}
	return made, created, nil
}

func decideNewRequest(tx Tx, r dp.BudgetRequest, now time.Time) (dp.BudgetRequest, bool, error) {
	asker, ok, err := tx.Consumer(r.Consumer)
	if err != nil {
		return dp.BudgetRequest{}, false, err
	}
	if !ok {
		return dp.BudgetRequest{}, false, notFound("consumer")
	}
	if known, found, err := tx.Request(r.ID); err != nil || found {
		if err == nil && !sameRequest(known, r) {
			err = refuse(dp.CodeConflict, "this Idempotency-Key was used for another request: use a new key")
		}
		return known, false, err
	}
	policies, err := tx.Policies(r.Dataset)
	if err != nil {
		return dp.BudgetRequest{}, false, err
	}
	if len(policies) == 0 || !slices.Contains(policies[len(policies)-1].Audiences, asker.Audience) {
		return dp.BudgetRequest{}, false, notFound("dataset")
	}
	if err := checkTerms(r.Asked, policies[len(policies)-1].Population, now); err != nil {
		return dp.BudgetRequest{}, false, err
	}
	open, err := tx.OpenRequests(r.Consumer)
	if err != nil {
		return dp.BudgetRequest{}, false, err
	}
	for _, known := range open {
		switch {
		case known.Dataset != r.Dataset:
		case sameRequest(known, r):
			return known, false, nil
		default:
			return dp.BudgetRequest{}, false, refuse(dp.CodeConflict, "your request %s on this dataset is open: wait for its decision, or withdraw it to ask for something else", known.ID)
		}
	}
	if len(open) >= MaxOpenRequests {
		return dp.BudgetRequest{}, false, refuse(dp.CodeConflict, "you have %d open requests, as many as one may have: wait for a decision, or withdraw one", len(open))
	}
	recent, err := tx.RequestsSince(r.Consumer, now.Add(-day))
	if err != nil {
		return dp.BudgetRequest{}, false, err
	}
	if len(recent) >= MaxRequestsADay {
		wait := max(time.Second, slices.MinFunc(recent, time.Time.Compare).Add(day).Sub(now))
		return dp.BudgetRequest{}, false, &dp.Error{Code: dp.CodeRateLimited, RetryAfter: wait,
			Message: fmt.Sprintf("you have made %d budget requests within a day, as many as one may: withdrawn and decided ones count, for all are kept", len(recent))}
	}
	if r, err = tx.AddRequest(r); err != nil {
		return dp.BudgetRequest{}, false, err
	}
	return r, true, nil
}

const day = 24 * time.Hour

// sameRequest tells whether two requests ask for the same. What a question costs may have changed in between.
func sameRequest(a, b dp.BudgetRequest) bool {
	if a.Consumer != b.Consumer || a.Dataset != b.Dataset || !sameTerms(a.Asked, b.Asked) || a.Reason != b.Reason || (a.Query == nil) != (b.Query == nil) {
		return false
	}
	return a.Query == nil || a.Query.Canonical == b.Query.Canonical && a.Query.Purpose == b.Query.Purpose
}

func sameTerms(a, b dp.Terms) bool {
	return a.Budget == b.Budget && a.MaxEpsilonPerQuery == b.MaxEpsilonPerQuery && a.Expires.Equal(b.Expires)
}

// Decision is what an officer decides on a request.
type Decision struct {
	Grant bool
	Terms *dp.Terms // that are granted; nil: as asked
}

// DecideRequest grants or denies a request. IfMatch is the version of the allotment that the officer saw, nil (or 0)
// where there was none. A grant sets the allotment, whatever it was, in the same change; whether it is paused stays as
// it is. The allotment is returned as it stands then. Where the dataset's policy asks for two persons, a grant that does not
// narrow the allotment is a *Waiting.
//
// Errors: CodeInvalidInput, CodeNotFound, CodeForbidden for a request of the actor's own, CodePreconditionRequired,
// CodePreconditionFailed, and CodeConflict where the request is open no more.
func (o *Office) DecideRequest(ctx context.Context, actor, id string, d Decision, ifMatch *uint64, reason string) (r dp.BudgetRequest, a dp.Allotment, err error) {
	if strings.TrimSpace(reason) == "" {
		return r, a, invalid("say why: a decision on a request needs a reason, which the consumer reads and which is kept for auditors")
	}
	if err := checkReason(reason, true); err != nil {
		return r, a, err
	}
	if d.Terms != nil && !d.Grant {
		return r, a, invalid("a denial gives nothing: leave the amounts out, or grant them")
	}
	err = o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		decision := dp.RequestDecision{State: dp.RequestDenied, By: actor, At: now, Reason: strings.TrimSpace(reason)}
		j, err := decideRequest(tx, id, d, decision, ifMatch, now)
		if err != nil {
			return nil, err
		}
		if d.Grant && j.allotment.two && !j.allotment.narrows() {
			return propose(tx, actor, reason, dp.ProposedChange{Allotment: &dp.AllotmentChange{Before: j.allotment.before, After: j.allotment.after, Request: id}}, now)
		}
		r, a = j.request, j.allotment.after
		return nil, j.put(tx)
	})
	if err != nil {
		return dp.BudgetRequest{}, dp.Allotment{}, err
	}
	return r, a, nil
}

// judged is a request with a decision, and the allotment after it.
type judged struct {
	request   dp.BudgetRequest
	allotment allotmentDecision
}

func (j judged) put(tx Tx) error {
	if j.request.Decision.State == dp.RequestGranted {
		if err := tx.PutAllotment(j.allotment.after); err != nil {
			return err
		}
	}
	return tx.EndRequest(j.request.ID, *j.request.Decision)
}

func decideRequest(tx Tx, id string, d Decision, decision dp.RequestDecision, ifMatch *uint64, now time.Time) (j judged, err error) {
	r, ok, err := tx.Request(id)
	if err != nil {
		return j, err
	}
	if !ok {
		return j, noRequest()
	}
	if r.Consumer == decision.By {
		return j, refuse(dp.CodeForbidden, "nobody decides on a request of their own: have another officer decide on it")
	}
	if r.Decision != nil {
		return j, ended(r)
	}
	a, exists, err := tx.Allotment(r.Consumer, r.Dataset)
	if err != nil {
		return j, err
	}
	if !exists && ifMatch != nil && *ifMatch == 0 { // which is how a request shows that there is none
		ifMatch = nil
	}
	if err := checkMatch("allotment", exists, a.Version, ifMatch); err != nil {
		return j, err
	}
	if exists {
		before := a
		j.allotment.before = &before
	}
	decision.Seen = a.Version
	if d.Grant {
		terms := r.Asked
		if d.Terms != nil {
			terms = *d.Terms
			terms.Expires = inUTC(terms.Expires)
		}
		policies, err := tx.Policies(r.Dataset)
		if err != nil {
			return j, err
		}
		if len(policies) == 0 {
			return j, notFound("dataset")
		}
		policy := policies[len(policies)-1]
		if err := checkTerms(terms, policy.Population, now); err != nil {
			return j, err
		}
		// A grant is a version of its own even where the allotment is so already: whoever reads the log finds it there.
		a.Consumer, a.Dataset, a.Version = r.Consumer, r.Dataset, a.Version+1
		a.Budget, a.MaxEpsilonPerQuery, a.Expires = terms.Budget, terms.MaxEpsilonPerQuery, terms.Expires
		decision.State, decision.Granted, decision.Allotment = dp.RequestGranted, &terms, a.Version
		j.allotment.two = policy.TwoPerson
	}
	r.Decision = &decision
	j.request, j.allotment.after = r, a
	return j, nil
}

// confirmGrant grants a request as it was proposed. The consumer reads the reason of who proposed it.
func confirmGrant(tx Tx, c dp.AllotmentChange, p dp.Proposal, end dp.ProposalEnd) error {
	seen := c.After.Version - 1
	d := Decision{Grant: true, Terms: &dp.Terms{Budget: c.After.Budget, MaxEpsilonPerQuery: c.After.MaxEpsilonPerQuery, Expires: c.After.Expires}}
	j, err := decideRequest(tx, c.Request, d, dp.RequestDecision{By: end.By, At: end.At, Reason: p.Reason}, &seen, end.At)
	if err != nil {
		return err
	}
	return j.put(tx)
}

// WithdrawRequest takes an open request of the consumer's own back. One that was withdrawn already stays as it is.
//
// Errors: CodeInvalidInput; CodeNotFound, also for a request of another consumer; CodeConflict where it was decided.
func (o *Office) WithdrawRequest(ctx context.Context, consumer, id, reason string) (r dp.BudgetRequest, err error) {
	if err := checkReason(reason, false); err != nil {
		return dp.BudgetRequest{}, err
	}
	err = o.change(ctx, consumer, reason, func(tx Tx, now time.Time) error {
		var ok bool
		if r, ok, err = tx.Request(id); err != nil {
			return err
		}
		switch {
		case !ok || r.Consumer != consumer:
			return noRequest()
		case r.State() == dp.RequestWithdrawn:
			return nil
		case r.Decision != nil:
			return ended(r)
		}
		r.Decision = &dp.RequestDecision{State: dp.RequestWithdrawn, By: consumer, At: now, Reason: strings.TrimSpace(reason)}
		return tx.EndRequest(id, *r.Decision)
	})
	if err != nil {
		return dp.BudgetRequest{}, err
	}
	return r, nil
}

// checkTerms refuses what no allotment may be, and one that would be in force at no time or for nothing.
func checkTerms(t dp.Terms, population int64, now time.Time) error {
	if t.Budget.Epsilon <= 0 {
		return invalid("an allotment of epsilon 0 allows nothing: give an epsilon above 0")
	}
	if t.MaxEpsilonPerQuery < 0 {
		return invalid("the maximum per query cannot be negative: give an epsilon above 0, or 0 for none")
	}
	if !t.Expires.IsZero() && !t.Expires.After(now) {
		return invalid("the allotment would have expired already: give an expiry in the future, or none")
	}
	return CheckBudget("allotment", t.Budget, population)
}

// inUTC is a time as it is kept.
func inUTC(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}

// requestID is random, or follows from who asks and the key that they gave.
func requestID(consumer, key string) string {
	if key == "" {
		return "req_" + strings.ToLower(rand.Text())
	}
	return "req_" + idUnder("request", consumer, key)
}

// idUnder is the id of what somebody makes under an idempotency key.
func idUnder(kind, who, key string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + who + "\x00" + key))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

func ended(r dp.BudgetRequest) error {
	return refuse(dp.CodeConflict, "the request was %s on %s and is decided once: ask again with a new one, or as an officer change the allotment itself", r.Decision.State, r.Decision.At.UTC().Format(time.DateOnly))
}

func noRequest() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "there is no such request among those that you may see: list them"}
}
