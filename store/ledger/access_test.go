package ledger

import (
	"errors"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// patch changes who may ask for what.
func (f *fixture) patch(consumer string, p office.ConsumerPatch) {
	f.t.Helper()
	c, err := f.Consumer(ctx, consumer)
	check(f.t, err)
	_, err = f.office.PatchConsumer(ctx, "root", consumer, p, &c.Version, "a test")
	check(f.t, err)
}

// A question is held to purposes and audiences once more where it is charged: they may have changed since it was priced.
func TestChargeIsHeldToWhatItsConsumerMayAskForNow(t *testing.T) {
	f := newFixture(t)
	third, none := dp.ThirdParty, []string{"marketing"}
	own := dp.Internal
	reporting := []string{"reporting"}
	other := ask(alice, "other purpose")
	other.Purpose = "marketing"
	f.unchanged(dp.CodePurposeNotAllowed, func() error { _, err := f.Charge(ctx, other); return err })
	f.patch(alice, office.ConsumerPatch{Purposes: &none})
	f.unchanged(dp.CodePurposeNotAllowed, func() error { _, err := f.Charge(ctx, ask(alice, "plan")); return err })
	f.patch(alice, office.ConsumerPatch{Purposes: &reporting, Audience: &third})
	f.unchanged(dp.CodeNotFound, func() error { _, err := f.Charge(ctx, ask(alice, "plan")); return err })
	f.patch(alice, office.ConsumerPatch{Audience: &own})
	f.charge(ask(alice, "plan"))
}

// Every way of the ledger to a release passes the policies in force.
func TestReleaseIsReadUnderThePolicyInForce(t *testing.T) {
	f := newFixture(t)
	first := keyed(ask(alice, "plan"), "key", 1)
	f.publish(f.charge(first), "rel_1", "plan")
	ways := map[string]func() error{
		"release": func() error { _, err := f.Release(ctx, alice, "rel_1"); return err },
		"recall":  func() error { _, _, err := f.Recall(ctx, alice, "key", first.Body); return err },
		"repeat":  func() error { _, err := f.Charge(ctx, first); return err },
		"memory":  func() error { return f.MayRead(ctx, alice, []string{dataset}) },
		"list": func() error {
			list, _, err := f.Held(ctx, alice, "", "", 0)
			if err == nil && len(list) == 0 {
				err = answer.ErrHidden
			}
			return err
		},
	}
	try := func(when string, want func(error) bool) {
		t.Helper()
		for range 2 { // once more from what is remembered
			for name, way := range ways {
				if err := way(); !want(err) {
					t.Errorf("%s: %s gives %v", when, name, err)
				}
			}
		}
	}
	readable := func(err error) bool { return err == nil }
	code := func(c dp.Code) func(error) bool {
		return func(err error) bool {
			var refused *dp.Error
			return errors.Is(err, answer.ErrHidden) || errors.As(err, &refused) && refused.Code == c
		}
	}
	version := uint64(1)
	apply := func(change func(*dp.Policy)) {
		t.Helper()
		version = f.applyPolicy(&version, change).Version
	}
	try("at first", readable)
	apply(func(p *dp.Policy) { p.Audiences = []dp.Audience{dp.ThirdParty} })
	try("for another audience", code(dp.CodeNotFound))
	apply(func(p *dp.Policy) { p.Purposes = []string{"fraud"} })
	try("for another purpose", code(dp.CodePurposeNotAllowed))
	both := []string{"fraud", "reporting"}
	f.patch(alice, office.ConsumerPatch{Purposes: &both})
	try("for a purpose that its reader holds", readable)
	third := dp.ThirdParty
	f.patch(alice, office.ConsumerPatch{Audience: &third})
	try("by another audience", code(dp.CodeNotFound))
}
