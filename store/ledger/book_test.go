package ledger

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// changes reads the log of changes, oldest first.
func (f *fixture) changes() (log []changeRecord) {
	f.t.Helper()
	check(f.t, f.read(ctx, func(v view) error {
		return v.walk([]byte{kindChange}, nil, ascending, func(_, value []byte) (bool, error) {
			c, err := decode[changeRecord](value)
			log = append(log, c)
			return true, err
		})
	}))
	return log
}

func TestEveryChangeIsRecordedWithWhoWhenAndWhy(t *testing.T) {
	f := newFixture(t)
	before := len(f.changes())
	f.advance(time.Hour)
	one := uint64(1)
	_, _, err := f.office.SetAllotment(ctx, "officer", dp.Allotment{Consumer: alice, Dataset: dataset, Budget: dp.Budget{Epsilon: 5}}, &one, " the quarter ended ")
	check(t, err)
	log := f.changes()
	last := log[len(log)-1]
	if len(log) != before+1 || last.Actor != "officer" || last.Reason != "the quarter ended" || !last.At.Equal(firstDay.Add(time.Hour)) ||
		fmt.Sprint(last.Changed) != "[{allotment alice/transactions 2}]" {
		t.Fatalf("recorded %+v", last)
	}
	// What is refused, or changes nothing, leaves no record.
	f.unchanged(dp.CodePreconditionFailed, func() error {
		_, _, err := f.office.SetAllotment(ctx, "officer", dp.Allotment{Consumer: alice, Dataset: dataset}, &one, "stale")
		return err
	})
	f.unchangedBy(func() {
		secret, err := f.office.Bootstrap(ctx)
		if err != nil || secret != "" {
			t.Fatalf("bootstrap over existing consumers: %v", err)
		}
	})
}

func TestDecisionThatFailsHalfwayLeavesNothing(t *testing.T) {
	f := newFixture(t)
	before := f.dump()
	broken := errors.New("the second half failed")
	err := f.Change(ctx, office.Change{Actor: "root"}, func(tx office.Tx) error {
		if err := tx.PutConsumer(dp.Consumer{Name: "half", Version: 1}); err != nil {
			return err
		}
		if c, ok, err := tx.Consumer("half"); err != nil || !ok || c.Name != "half" {
			t.Errorf("a transaction does not see its own write: %v", err)
		}
		return broken
	})
	if !errors.Is(err, broken) || !maps.Equal(before, f.dump()) {
		t.Fatalf("got %v, or something was written", err)
	}
}

func TestVersionsCannotBeOverwritten(t *testing.T) {
	f := newFixture(t)
	before := f.dump()
	for name, write := range map[string]func(office.Tx) error{
		"policy": func(tx office.Tx) error {
			return tx.PutPolicy(dp.VersionedPolicy{Policy: dp.Policy{Name: dataset}, Version: 1})
		},
		"consumer": func(tx office.Tx) error { return tx.PutConsumer(dp.Consumer{Name: alice, Version: 1}) },
		"allotment": func(tx office.Tx) error {
			return tx.PutAllotment(dp.Allotment{Consumer: alice, Dataset: dataset, Version: 5})
		},
	} {
		if f.Change(ctx, office.Change{}, write) == nil {
			t.Errorf("a %s was overwritten", name)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
}

func TestOneOfManyConcurrentChangesWins(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	var won atomic.Int64
	one := uint64(1)
	for n := range 16 {
		group.Go(func() {
			a := dp.Allotment{Consumer: alice, Dataset: dataset, Budget: dp.Budget{Epsilon: dp.Epsilon(n + 1)}}
			if _, _, err := f.office.SetAllotment(ctx, "root", a, &one, "a race"); err == nil {
				won.Add(1)
			}
		})
	}
	group.Wait()
	a, err := f.Allotment(ctx, alice, dataset)
	check(t, err)
	if won.Load() != 1 || a.Version != 2 {
		t.Fatalf("%d won, version is %d", won.Load(), a.Version)
	}
}

func TestKeyAuthenticatesWhileItIsInForce(t *testing.T) {
	f := newFixture(t)
	secret, key, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: alice, Expires: firstDay.Add(time.Hour)}, "")
	check(t, err)
	c, k, err := f.Authenticate(ctx, office.HashKey(secret))
	check(t, err)
	if c.Name != alice || k.ID != key.ID {
		t.Fatalf("authenticated %s by %s", c.Name, k.ID)
	}
	for key, value := range f.dump() {
		if strings.Contains(key+value, secret) || strings.Contains(key+value, strings.TrimPrefix(secret, office.KeyPrefix)) {
			t.Fatal("the secret is kept")
		}
	}
	refusal := func(hash [32]byte) string {
		t.Helper()
		_, _, err := f.Authenticate(ctx, hash)
		return wantCode(t, dp.CodeUnauthenticated, err).Message
	}
	unknown := refusal([32]byte{1})

	f.advance(time.Hour)
	if expired := refusal(office.HashKey(secret)); expired != unknown {
		t.Fatalf("an expired key is told apart: %s", expired)
	}
	secret, key, err = f.office.IssueKey(ctx, "root", office.NewKey{Consumer: alice}, "")
	check(t, err)
	for range 2 { // the second time it is remembered
		_, _, err = f.Authenticate(ctx, office.HashKey(secret))
		check(t, err)
	}
	audience := dp.ThirdParty
	_, err = f.office.PatchConsumer(ctx, "root", alice, office.ConsumerPatch{Audience: &audience}, new(uint64(1)), "a test")
	check(t, err)
	if c, _, err = f.Authenticate(ctx, office.HashKey(secret)); err != nil || c.Audience != dp.ThirdParty {
		t.Fatalf("a changed consumer is admitted as %+v, %v", c, err)
	}
	_, err = f.office.RevokeKey(ctx, "root", bob, key.ID, "")
	wantCode(t, dp.CodeNotFound, err)
	_, err = f.office.RevokeKey(ctx, "root", alice, key.ID, "")
	check(t, err)
	if revoked := refusal(office.HashKey(secret)); revoked != unknown {
		t.Fatalf("a revoked key is told apart: %s", revoked)
	}
	keys, err := f.Keys(ctx, alice)
	check(t, err)
	if len(keys) != 2 || keys[1].ID != key.ID || !keys[1].Revoked.Equal(firstDay.Add(time.Hour)) || keys[0].Hash == keys[1].Hash {
		t.Fatalf("keys are %+v", keys)
	}
}

func TestSuspendedConsumerIsOutAtOnceAndChargedNothing(t *testing.T) {
	f := newFixture(t)
	secret, _, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: alice}, "")
	check(t, err)
	if _, _, err = f.Authenticate(ctx, office.HashKey(secret)); err != nil {
		t.Fatal(err)
	}
	_, _, unknown := f.Authenticate(ctx, [32]byte{1})
	keyed := ask(alice, "plan one")
	keyed.Key = "key"
	c := f.charge(keyed)
	f.publish(c, "rel_1", "plan one")
	set := func(suspended bool) {
		now, err := f.Consumer(ctx, alice)
		check(t, err)
		_, err = f.office.PatchConsumer(ctx, "root", alice, office.ConsumerPatch{Suspended: &suspended}, &now.Version, "a test")
		check(t, err)
	}

	set(true)
	if _, _, err = f.Authenticate(ctx, office.HashKey(secret)); err == nil || err.Error() != unknown.Error() {
		t.Fatalf("a suspended consumer is refused with %v", err)
	}
	// Who was admitted just before is caught by the transaction: a new question, one that is sold, one that is repeated.
	sold := ask(alice, "plan two")
	for _, r := range []answer.ChargeRequest{ask(alice, "plan two"), sold, keyed} {
		f.unchanged(dp.CodeForbidden, func() error { _, err := f.Charge(ctx, r); return err })
	}
	f.charge(ask(bob, "plan two"))
	f.reopen()
	f.unchanged(dp.CodeForbidden, func() error { _, err := f.Charge(ctx, sold); return err })

	set(false)
	if _, _, err = f.Authenticate(ctx, office.HashKey(secret)); err != nil {
		t.Fatal(err)
	}
	f.charge(sold)
}

func TestFirstStartMakesOneOfficer(t *testing.T) {
	f := &fixture{t: t, dir: t.TempDir(), now: new(atomic.Int64)}
	f.reopen()
	secret, err := f.office.Bootstrap(ctx)
	check(t, err)
	c, _, err := f.Authenticate(ctx, office.HashKey(secret))
	check(t, err)
	if c.Role != dp.Officer || c.Name != office.FirstOfficer {
		t.Fatalf("bootstrapped %+v", c)
	}
	f.reopen()
	if secret, err := f.office.Bootstrap(ctx); err != nil || secret != "" {
		t.Fatalf("bootstrapped again, %v", err)
	}
	list, err := f.Consumers(ctx)
	check(t, err)
	if len(list) != 1 {
		t.Fatalf("consumers are %+v", list)
	}
}

func TestConsumersAndTheirBudgetsAreListed(t *testing.T) {
	f := newFixture(t)
	list, err := f.Consumers(ctx)
	check(t, err)
	if len(list) != 2 || list[0].Name != alice || list[1].Name != bob {
		t.Fatalf("consumers are %+v", list)
	}
	allotments, err := f.Allotments(ctx, alice)
	check(t, err)
	if len(allotments) != 1 || allotments[0].Budget.Epsilon != dp.EpsilonOne || allotments[0].Version != 1 {
		t.Fatalf("allotments are %+v", allotments)
	}
	_, err = f.Consumer(ctx, "nobody")
	wantCode(t, dp.CodeNotFound, err)

	f.charge(ask(alice, "plan"))
	r := ask(bob, "other plan")
	r.Blocks = quarter
	f.charge(r)
	var names []string
	for cursor, more := "", true; more; more = cursor != "" {
		accounts, next, err := f.DatasetAccounts(ctx, dataset, cursor, 3)
		check(t, err)
		for _, a := range accounts {
			names = append(names, a.Name+a.Consumer+" "+a.Spent.Epsilon.String()+"/"+a.Budget.Epsilon.String())
		}
		cursor = next
	}
	want := "cap/transactions/2026-01 0.2/10, allotment/transactions/2026-01alice 0.1/1, allotment/transactions/2026-01bob 0.1/1, " +
		"cap/transactions/2026-02 0.1/10, allotment/transactions/2026-02bob 0.1/1, cap/transactions/2026-03 0.1/10, allotment/transactions/2026-03bob 0.1/1"
	if got := strings.Join(names, ", "); got != want {
		t.Fatalf("accounts are %s", got)
	}
}
