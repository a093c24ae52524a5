// Package answer walks one query from a plan to a published release: find a held draw, charge, aggregate,
// add noise, publish. The walk is in one place, and the order of its steps is the guarantee: nothing that
// depends on rows happens before its charge is durable, and no byte leaves before its release is.
//
// The package owns the small interfaces that it needs of rows and of the ledger. It never stores anything.
package answer

import (
	"context"
	"errors"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// Aggregator computes exact, contribution-bounded integers over a snapshot of the rows.
type Aggregator interface {
	// Aggregate calls each with every partition that at least one kept customer has, once and in no particular
	// order, after it has read all rows: if it fails by itself, each was not called. Together they equal
	// bounding.Reference on the rows of the snapshot. It ends with each's first error. Where rows are not kept any more
	// it is a dp.Error with CodeInvalidQuery.
	Aggregate(ctx context.Context, p *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) error
}

// Policies finds what a dataset allows.
type Policies interface {
	// Policy returns the policy in force, or a dp.Error with CodeNotFound.
	Policy(ctx context.Context, dataset string) (dp.VersionedPolicy, error)
	// PolicyAt returns the policy of a version that was in force once, or a dp.Error with CodeNotFound.
	PolicyAt(ctx context.Context, dataset string, version uint64) (dp.VersionedPolicy, error)
}

// Ledger keeps the durable account of what was spent.
type Ledger interface {
	// Allotment returns the budget of a consumer on a dataset; without one, a zero budget.
	Allotment(ctx context.Context, consumer, dataset string) (dp.Allotment, error)
	// Charge admits and charges every touched account in one durable transaction, or changes nothing and
	// returns a dp.Error: CodeBudgetExhausted with Required and Left; CodeForbidden where the allotment is
	// paused, expired or the per-query maximum exceeded; CodeConflict where the idempotency key was used with
	// another body; CodeUnauthenticated where the caller's key ended meanwhile. ErrPolicyChanged where the policy's version is no longer the one that was priced.
	Charge(ctx context.Context, r ChargeRequest) (Charged, error)
	// Recall returns what was charged under a consumer's idempotency key, with its outcome if there is one;
	// known is false where nothing was. It changes nothing. A key that was used with another body is
	// CodeConflict.
	Recall(ctx context.Context, consumer, key string, body [32]byte) (c Charged, known bool, err error)
	// CheckRetired refuses, with CodeInvalidQuery, blocks whose rows are not kept any more. Charge refuses them, too.
	CheckRetired(ctx context.Context, dataset string, blocks []string, also ...dp.Touched) error
	// Left returns the touched account with least room and how many such charges all touched accounts still admit.
	Left(ctx context.Context, consumer, dataset string, blocks []string, loss dp.Loss, also ...dp.Touched) (dp.Left, error)
}

// Releases keeps noised answers for ever.
type Releases interface {
	// Find returns the draws of a plan that matter to a consumer, over the current versions of all touched blocks.
	Find(ctx context.Context, consumer, plan, dataset string, blocks []string, also ...dp.Touched) (Found, error)
	// HeldOver lists the releases that a consumer holds on a dataset and that were drawn over the current versions of
	// the blocks, among others perhaps, the last one first, without groups and coordinates. Of all that the consumer
	// holds at most so many are looked at.
	HeldOver(ctx context.Context, consumer, dataset string, blocks []string, most int) ([]dp.Release, error)
	// Publish joins the outcome to its charge in one durable transaction and returns the outcome that stands:
	// an earlier one if another attempt published first. A release that is larger than it keeps is CodeTooLarge.
	Publish(ctx context.Context, charge string, attempt int, o Outcome) (Outcome, error)
	// Renew gives a running attempt more time before the next one may begin. ErrAttemptLost says that another
	// one has begun, or that the charge has an outcome: this one cannot publish any more.
	Renew(ctx context.Context, charge string, attempt int) error
	// Abandon says that an attempt has ended without an outcome, so that the next one need not wait for its
	// lease.
	Abandon(ctx context.Context, charge string, attempt int) error
	// Release returns a release that the consumer holds, or a dp.Error with CodeNotFound.
	Release(ctx context.Context, consumer, id string) (dp.Release, error)
}

// ChargeRequest is who asks to be charged for what.
type ChargeRequest struct {
	Consumer      string
	Dataset       string
	PolicyVersion uint64
	Purpose       string
	Plan          string // plan.Plan.ID
	Blocks        []string
	Loss          dp.Loss
	Also          []dp.Touched // as dp.Charge.Also
	// Key is the caller's idempotency key, empty for none; Body the digest of all that the caller asked, so
	// that a key used twice for different questions is a conflict.
	Key  string
	Body [32]byte
	// Credential is the id of the key that the caller signed in with, empty where it was none: a charge is refused, with
	// CodeUnauthenticated, once that key is not in force any more.
	Credential string
	// Source is the release of another consumer that is handed out: the allotments pay its stored charge, the
	// caps nothing, and the outcome is that release, all in the same transaction. Empty for a new draw.
	Source string
}

type credentialKey struct{}

// WithCredential notes the id of the key that a caller signed in with, for every charge that is made under this context.
func WithCredential(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, credentialKey{}, key)
}

// CredentialOf gives that id; empty where there is none.
func CredentialOf(ctx context.Context) string {
	key, _ := ctx.Value(credentialKey{}).(string)
	return key
}

// Charged is an admitted charge.
type Charged struct {
	Charge   dp.Charge
	Snapshot dp.Snapshot
	Left     dp.Left
	Attempt  int // counts from 1; only the newest attempt may publish
	// Outcome is what an earlier attempt under the same key published; nil when this attempt must compute.
	Outcome *Outcome
}

// Found are the draws of one plan.
type Found struct {
	Held  string // held by the consumer, over the current block versions
	Stale string // the newest held by the consumer over older versions
	Other string // the earliest of anybody over the current versions
}

// Outcome is how a charge ended: with a release or with a failure, either of which is replayed.
type Outcome struct {
	Release *dp.Release
	Failure *dp.Error
}

// ErrAttemptLost says that an attempt is not the newest of its charge any more, or that its charge has ended.
var ErrAttemptLost = errors.New("another attempt at this question has begun, or ended it")

// ErrPolicyChanged says that a charge was priced under a policy version that is no longer in force: plan again.
var ErrPolicyChanged = errors.New("the policy changed since the query was priced")
