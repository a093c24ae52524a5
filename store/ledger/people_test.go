package ledger

import (
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

func TestNoChargeFollowsTheEndOfTheKeyThatAskedForIt(t *testing.T) {
	f := newFixture(t)
	_, k, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: alice, Expires: f.clock().Add(time.Hour)}, "")
	check(t, err)
	under := func(plan, key string) error {
		r := ask(alice, plan)
		r.Credential = key
		_, err := f.Charge(ctx, r)
		return err
	}
	check(t, under("plan one", k.ID))
	_, others, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: bob}, "")
	check(t, err)
	f.unchanged(dp.CodeUnauthenticated, func() error { return under("plan two", others.ID) })
	f.unchanged(dp.CodeUnauthenticated, func() error { return under("plan two", "key_none") })
	_, err = f.office.RevokeKey(ctx, "root", alice, k.ID, "leaked")
	check(t, err)
	f.unchanged(dp.CodeUnauthenticated, func() error { return under("plan two", k.ID) })

	_, k, err = f.office.IssueKey(ctx, "root", office.NewKey{Consumer: alice, Expires: f.clock().Add(time.Hour)}, "")
	check(t, err)
	f.advance(time.Hour - 1)
	check(t, under("plan two", k.ID))
	f.advance(1)
	f.unchanged(dp.CodeUnauthenticated, func() error { return under("plan three", k.ID) })
	check(t, under("plan three", "")) // what a scheduled report is charged under
}

func TestTokensSignInTheConsumerOfTheirSubject(t *testing.T) {
	f := newFixture(t)
	set := func(name, subject string) {
		t.Helper()
		now, err := f.Consumer(ctx, name)
		check(t, err)
		_, err = f.office.PatchConsumer(ctx, "root", name, office.ConsumerPatch{Subject: &subject}, &now.Version, "a test")
		check(t, err)
	}
	signs := func(subject, name string) {
		t.Helper()
		c, err := f.Subject(ctx, subject)
		if name == "" {
			wantCode(t, dp.CodeUnauthenticated, err)
		} else if err != nil || c.Name != name {
			t.Errorf("%s signs in %q: %v", subject, c.Name, err)
		}
	}
	signs("one", "")
	set(alice, "one")
	signs("one", alice)
	set(alice, "two")
	signs("one", "")
	signs("two", alice)
	set(bob, "one")
	signs("one", bob)
	suspended := true
	now, err := f.Consumer(ctx, bob)
	check(t, err)
	_, err = f.office.PatchConsumer(ctx, "root", bob, office.ConsumerPatch{Suspended: &suspended}, &now.Version, "left")
	check(t, err)
	signs("one", "")
	set(alice, "")
	signs("two", "")
	err = f.Change(ctx, office.Change{Actor: "root"}, func(tx office.Tx) error {
		c, _, err := tx.Consumer(alice)
		check(t, err)
		c.Subject, c.Version = "one", c.Version+1
		return tx.PutConsumer(c)
	})
	if err == nil {
		t.Error("two consumers were given one subject")
	}
}
