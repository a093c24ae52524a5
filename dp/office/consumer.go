package office

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// ConsumerPatch is what may change about a consumer; nil leaves a part as it is.
type ConsumerPatch struct {
	Role         *dp.Role
	Organisation *string
	Audience     *dp.Audience
	Purposes     *[]string
	Suspended    *bool
	Subject      *string // empty: none any more
}

// CreateConsumer adds a consumer without keys and without allotments. Created, Version and Suspended of c are ignored.
// While any dataset asks for two persons, a new officer is a *Waiting.
//
// Errors: CodeInvalidInput, also for a subject without a reason; CodeConflict where the name is or was taken, for names
// are never reused, or where another consumer has the subject.
func (o *Office) CreateConsumer(ctx context.Context, actor string, c dp.Consumer, reason string) (dp.Consumer, error) {
	if err := checkConsumer(c); err != nil {
		return dp.Consumer{}, err
	}
	if err := checkReason(reason, c.Subject != ""); err != nil {
		return dp.Consumer{}, err
	}
	err := o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		_, taken, err := tx.Consumer(c.Name)
		if err != nil {
			return nil, err
		}
		if taken {
			return nil, refuse(dp.CodeConflict, "a consumer of that name exists, and names are never reused: choose another, or change that one")
		}
		if err := checkSubjectFree(tx, c); err != nil {
			return nil, err
		}
		c.Created, c.Version, c.Suspended = now, 1, false
		if c.Role == dp.Officer {
			two, err := twoAsked(tx)
			if err != nil {
				return nil, err
			}
			if two {
				proposed := c
				proposed.Created = time.Time{}
				return propose(tx, actor, reason, dp.ProposedChange{Consumer: &dp.ConsumerChange{After: proposed}}, now)
			}
		}
		return nil, tx.PutConsumer(c)
	})
	if err != nil {
		return dp.Consumer{}, err
	}
	return c, nil
}

// PatchConsumer changes a consumer. IfMatch is the version that the caller saw, and the reason is not empty. While any
// dataset asks for two persons, what does not narrow a consumer is a *Waiting, whoever it is: who is let in, and as what,
// is what the second officer is for.
//
// Errors: CodeInvalidInput, CodeNotFound, CodePreconditionRequired, CodePreconditionFailed; CodeConflict where too few
// officers would remain, where somebody would become an officer whose key others may know or whose subject one person chose,
// or where another consumer has the subject.
func (o *Office) PatchConsumer(ctx context.Context, actor, name string, patch ConsumerPatch, ifMatch *uint64, reason string) (dp.Consumer, error) {
	if err := checkReason(reason, true); err != nil {
		return dp.Consumer{}, err
	}
	var patched dp.Consumer
	err := o.changeOrWait(ctx, actor, reason, func(tx Tx, now time.Time) (*Waiting, error) {
		before, ok, err := tx.Consumer(name)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, notFound("consumer")
		}
		if err := checkMatch("consumer", true, before.Version, ifMatch); err != nil {
			return nil, err
		}
		patched = before
		patch.apply(&patched)
		patched.Version++
		if err := checkConsumer(patched); err != nil {
			return nil, err
		}
		if err := checkSubjectFree(tx, patched); err != nil {
			return nil, err
		}
		two, err := twoAsked(tx)
		if err != nil {
			return nil, err
		}
		if two && !consumerNarrows(before, patched) {
			if err := checkNewOfficer(tx, before, patched, now); err != nil {
				return nil, err
			}
			return propose(tx, actor, reason, dp.ProposedChange{Consumer: &dp.ConsumerChange{Before: &before, After: patched}}, now)
		}
		return nil, keepOfficers(tx, now, func() error { return tx.PutConsumer(patched) })
	})
	if err != nil {
		return dp.Consumer{}, err
	}
	return patched, nil
}

// confirmConsumer makes a proposed consumer, or a proposed change of one.
func confirmConsumer(tx Tx, after dp.Consumer, end dp.ProposalEnd) error {
	before, exists, err := tx.Consumer(after.Name)
	if err != nil {
		return err
	}
	if err := checkConsumer(after); err != nil {
		return err
	}
	if err := checkSubjectFree(tx, after); err != nil {
		return err
	}
	if !exists {
		after.Created = end.At
		return tx.PutConsumer(after)
	}
	if err := checkNewOfficer(tx, before, after, end.At); err != nil {
		return err
	}
	return keepOfficers(tx, end.At, func() error { return tx.PutConsumer(after) })
}

// checkNewOfficer refuses to make an officer of somebody who holds a key already: whoever issued it saw its text, and
// could then agree with themselves. So could who chose a subject of their own for it, which the proposal does not show.
func checkNewOfficer(tx Tx, before, after dp.Consumer, now time.Time) error {
	if before.Role == dp.Officer || after.Role != dp.Officer {
		return nil
	}
	if after.Subject != "" && after.Subject == before.Subject {
		return refuse(dp.CodeConflict, "tokens sign this consumer in, who would become an officer, and one officer alone chose which: take its subject away first, and give it together with the role")
	}
	keys, err := tx.Keys(after.Name)
	if err == nil && slices.ContainsFunc(keys, func(k dp.Key) bool { return k.InForce(now) }) {
		err = refuse(dp.CodeConflict, "somebody else may have seen a key of this consumer, who would become an officer: revoke its keys first, and afterwards give it one by its hash")
	}
	return err
}

func (p ConsumerPatch) apply(c *dp.Consumer) {
	if p.Role != nil {
		c.Role = *p.Role
	}
	if p.Organisation != nil {
		c.Organisation = *p.Organisation
	}
	if p.Audience != nil {
		c.Audience = *p.Audience
	}
	if p.Purposes != nil {
		c.Purposes = *p.Purposes
	}
	if p.Suspended != nil {
		c.Suspended = *p.Suspended
	}
	if p.Subject != nil {
		c.Subject = *p.Subject
	}
}

// checkSubjectFree refuses a subject that signs another consumer in.
func checkSubjectFree(tx Tx, c dp.Consumer) error {
	if c.Subject == "" {
		return nil
	}
	has, taken, err := tx.ConsumerOfSubject(c.Subject)
	if err == nil && taken && has != c.Name {
		err = refuse(dp.CodeConflict, "another consumer has this subject, and a token signs in one of them: take it from that one first")
	}
	return err
}

func checkConsumer(c dp.Consumer) error {
	if err := checkName("consumer", c.Name); err != nil {
		return err
	}
	switch c.Role {
	case dp.Product, dp.Analyst, dp.Officer, dp.Custodian, dp.Auditor:
	default:
		return invalid("give the consumer a role: product, analyst, officer, custodian or auditor")
	}
	if !isAudience(c.Audience) {
		return invalid("give the consumer an audience: internal or third-party")
	}
	if !isLine(c.Organisation, maxOrganisation) {
		return invalid("shorten the organisation to one line of at most %d bytes of UTF-8", maxOrganisation)
	}
	if !isLine(c.Subject, maxSubject) || strings.TrimSpace(c.Subject) != c.Subject {
		return invalid("write the subject as the issuer's tokens have it: one line of at most %d bytes of UTF-8, without spaces around it", maxSubject)
	}
	return checkPurposes(c.Purposes)
}
