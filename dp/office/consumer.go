package office

import (
	"context"
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

// CreateConsumer adds a consumer without keys and without allotments. Created and Version of c are ignored.
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
	err := o.change(ctx, actor, reason, func(tx Tx, now time.Time) error {
		_, taken, err := tx.Consumer(c.Name)
		if err != nil {
			return err
		}
		if taken {
			return refuse(dp.CodeConflict, "a consumer of that name exists, and names are never reused: choose another, or change that one")
		}
		if err := checkSubjectFree(tx, c); err != nil {
			return err
		}
		c.Created, c.Version = now, 1
		return tx.PutConsumer(c)
	})
	if err != nil {
		return dp.Consumer{}, err
	}
	return c, nil
}

// PatchConsumer changes a consumer. Where ifMatch is given, it must be the version that stands.
//
// Errors: CodeInvalidInput, also for a subject without a reason; CodeNotFound; CodePreconditionFailed; CodeConflict where
// another consumer has the subject.
func (o *Office) PatchConsumer(ctx context.Context, actor, name string, patch ConsumerPatch, ifMatch *uint64, reason string) (dp.Consumer, error) {
	if err := checkReason(reason, patch.Subject != nil); err != nil {
		return dp.Consumer{}, err
	}
	var patched dp.Consumer
	err := o.change(ctx, actor, reason, func(tx Tx, _ time.Time) error {
		c, ok, err := tx.Consumer(name)
		if err != nil {
			return err
		}
		if !ok {
			return notFound("consumer")
		}
		if ifMatch != nil {
			if err := checkMatch("consumer", true, c.Version, ifMatch); err != nil {
				return err
			}
		}
		patch.apply(&c)
		if err := checkConsumer(c); err != nil {
			return err
		}
		if err := checkSubjectFree(tx, c); err != nil {
			return err
		}
		c.Version++
		patched = c
		return tx.PutConsumer(c)
	})
	if err != nil {
		return dp.Consumer{}, err
	}
	return patched, nil
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
