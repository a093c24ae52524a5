// Package office decides every change of policy, budget, consumer and key: who may be overwritten, what is
// fixed once rows are loaded, what has to be said for it, and what takes two persons. It also decides on what consumers
// ask for.
//
// It stores nothing, reads no row and spends no budget. Whether the actor's role allows a change is decided
// before it is called; that they still have it, and are not suspended, is part of the change.
package office

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
)

// Book is where decisions stand.
type Book interface {
	// Change runs decide in one durable transaction and records who changed what, when and why in the same
	// one. An error of decide changes nothing and is returned as it is. Decide may run more than once, must
	// not keep the Tx, and must not call the Book.
	Change(ctx context.Context, c Change, decide func(Tx) error) error
}

// Tx reads and writes what the office decides on. It sees its own writes.
type Tx interface {
	// Policies returns every version of a dataset's policy, oldest first; none where there is no dataset.
	Policies(dataset string) ([]dp.VersionedPolicy, error)
	// PoliciesInForce returns the newest version of every dataset's policy.
	PoliciesInForce() ([]dp.VersionedPolicy, error)
	// LoadedUnder returns the version of the policy under which the first rows were loaded, 0 while there
	// are none.
	LoadedUnder(dataset string) (uint64, error)
	// PutPolicy adds a version, which counts from 1 without gaps.
	PutPolicy(dp.VersionedPolicy) error

	Consumer(name string) (dp.Consumer, bool, error)
	// AnyConsumer tells whether there is a consumer at all.
	AnyConsumer() (bool, error)
	// ConsumerOfSubject names the consumer that has a subject.
	ConsumerOfSubject(subject string) (name string, ok bool, err error)
	// Officers returns every consumer with that role, suspended ones too.
	Officers() ([]dp.Consumer, error)
	PutConsumer(dp.Consumer) error

	Key(id string) (dp.Key, bool, error)
	// Keys returns every key of a consumer.
	Keys(consumer string) ([]dp.Key, error)
	// PutKey refuses a key whose secret another one has, with CodeConflict.
	PutKey(dp.Key) error

	Allotment(consumer, dataset string) (dp.Allotment, bool, error)
	PutAllotment(dp.Allotment) error

	Request(id string) (dp.BudgetRequest, bool, error)
	// OpenRequests returns the open requests of a consumer: at most one on each dataset.
	OpenRequests(consumer string) ([]dp.BudgetRequest, error)
	// RequestsSince returns when a consumer made each of its requests since then, whatever became of them.
	RequestsSince(consumer string, since time.Time) ([]time.Time, error)
	// AddRequest adds a request and returns it with its number.
	AddRequest(dp.BudgetRequest) (dp.BudgetRequest, error)
	// EndRequest ends an open request.
	EndRequest(id string, d dp.RequestDecision) error

	Proposal(id string) (dp.Proposal, bool, error)
	// OpenProposals returns those that have not ended, expired ones too.
	OpenProposals() ([]dp.Proposal, error)
	// AddProposal adds a proposal and returns it with its number.
	AddProposal(dp.Proposal) (dp.Proposal, error)
	// EndProposal ends an open proposal.
	EndProposal(id string, e dp.ProposalEnd) error
}

// Change is who changes something, when and why. What is changed follows from the writes of the transaction.
type Change struct {
	Actor  string // name of the consumer who acts
	Reason string
	At     time.Time
}

// Office decides changes and has the Book keep them. It is safe for concurrent use.
type Office struct {
	book  Book
	clock func() time.Time
}

// New makes an office that keeps its decisions in book and takes the time from clock.
func New(book Book, clock func() time.Time) *Office {
	return &Office{book: book, clock: clock}
}

// change records a decision under the actor's name. Times are kept in UTC and without a monotonic reading, so
// that what is read back equals what was written.
func (o *Office) change(ctx context.Context, actor, reason string, decide func(tx Tx, now time.Time) error) error {
	now := o.clock().UTC().Round(0)
	return o.book.Change(ctx, Change{Actor: actor, Reason: strings.TrimSpace(reason), At: now}, func(tx Tx) error {
		if err := checkActor(tx, actor); err != nil {
			return err
		}
		return decide(tx, now)
	})
}

// changeAsOfficer records a decision that is an officer's.
func (o *Office) changeAsOfficer(ctx context.Context, actor, reason string, decide func(tx Tx, now time.Time) error) error {
	return o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		if err := checkActor(tx, actor, dp.Officer); err != nil {
			return err
		}
		return decide(tx, now)
	})
}

// checkActor refuses who was let in to act and is suspended by now, or has none of the roles by now. That is part of the
// transaction: the log has the end of somebody's rights and what they did in one order. Who is no consumer acts at the first start.
func checkActor(tx Tx, actor string, roles ...dp.Role) error {
	c, known, err := tx.Consumer(actor)
	switch {
	case err != nil || !known:
		return err
	case c.Suspended:
		return refuse(dp.CodeForbidden, "you are suspended, and nothing was changed: ask an officer")
	case len(roles) > 0 && !slices.Contains(roles, c.Role):
		return refuse(dp.CodeForbidden, "your role was changed meanwhile, and nothing else was: ask an officer")
	}
	return nil
}

// changeOrWait records a decision that may have to wait for a second officer: then the proposal is recorded, and it
// returns a *Waiting.
func (o *Office) changeOrWait(ctx context.Context, actor, reason string, decide func(tx Tx, now time.Time) (*Waiting, error)) error {
	var waits *Waiting
	err := o.changeAsOfficer(ctx, actor, reason, func(tx Tx, now time.Time) (err error) {
		waits, err = decide(tx, now)
		return err
	})
	if err == nil && waits != nil {
		return waits
	}
	return err
}

// Limits of what is typed in.
const (
	maxReason       = 1000 // bytes
	maxOrganisation = 200  // bytes
	maxPurposes     = 100
	maxSubject      = 255 // bytes; OpenID Connect Core 1.0, section 2: sub is at most 255 ASCII characters
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

const nameRule = "use 1 to 63 characters: a lower-case letter first, then lower-case letters, digits, _ or -"

// checkName refuses what cannot be the name of a dataset, a consumer or a purpose.
func checkName(of, name string) error {
	if !namePattern.MatchString(name) {
		return invalid("the name of the %s cannot be used: %s", of, nameRule)
	}
	return nil
}

// checkReason refuses a reason that an auditor could not read; required says that there must be one.
func checkReason(reason string, required bool) error {
	if required && strings.TrimSpace(reason) == "" {
		return invalid("say why: a change of a policy, a budget or a consumer needs a reason, which is kept for auditors")
	}
	if !isLine(reason, maxReason) {
		return invalid("shorten the reason to one line of at most %d bytes of UTF-8", maxReason)
	}
	return nil
}

// isLine tells whether text is one line of UTF-8 of at most so many bytes, that is shown as it is: whoever confirms a
// proposal reads it there. Marks of direction can have a text read otherwise than it is (Unicode Technical Report 36,
// section 2.8; Technical Report 55), and U+2028 and U+2029 end a line.
func isLine(text string, most int) bool {
	return len(text) <= most && utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
	})
}

func checkPurposes(purposes []string) error {
	if len(purposes) > maxPurposes {
		return invalid("list at most %d purposes", maxPurposes)
	}
	for i, p := range purposes {
		if err := checkName("purpose", p); err != nil {
			return err
		}
		if slices.Contains(purposes[:i], p) {
			return invalid("name each purpose once")
		}
	}
	return nil
}

func isAudience(a dp.Audience) bool { return a == dp.Internal || a == dp.ThirdParty }

// checkMatch compares the version that the caller saw with the one that stands.
func checkMatch(of string, exists bool, version uint64, ifMatch *uint64) error {
	switch {
	case !exists && ifMatch == nil:
		return nil
	case !exists:
		return refuse(dp.CodePreconditionFailed, "there is no such %s yet: leave out If-Match to create it", of)
	case ifMatch == nil:
		return refuse(dp.CodePreconditionRequired, "the %s exists: read it, and send its version (%d now) as If-Match to change it", of, version)
	case *ifMatch != version:
		return refuse(dp.CodePreconditionFailed, "the %s was changed meanwhile and is at version %d: read it again and repeat the change on that", of, version)
	}
	return nil
}

// maxDelta is the largest delta that a cap or an allotment may have: one in ten of the declared customers
// would otherwise be free to be shown as they are.
func maxDelta(population int64) dp.Delta { return dp.DeltaOne / 10 / dp.Delta(population) }

// CheckBudget refuses a budget that cannot be a cap or an allotment; of names it.
//
// Errors: CodeInvalidInput.
func CheckBudget(of string, b dp.Budget, population int64) error {
	if b.Epsilon < 0 || b.Delta < 0 {
		return invalid("the %s cannot be negative: give epsilon and delta of 0 or more", of)
	}
	if most := maxDelta(population); b.Delta > most {
		return invalid("the delta of the %s is above 1/(10 * population): give at most %s, or 0", of, most)
	}
	return nil
}
