package ledger

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/report"
)

// other is a second dataset, which questions about the first one read for its customers.
const other = "chats"

// newPair is a fixture with a second dataset, on which both consumers have an allotment of 1 and the cap is 10.
func newPair(t testing.TB) *fixture {
	f := newFixture(t)
	f.applyPolicy(nil, func(p *dp.Policy) { p.Name = other })
	for _, name := range []string{alice, bob} {
		f.allotOn(name, other, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: dp.EpsilonOne} })
	}
	return f
}

func (f *fixture) allotOn(consumer, dataset string, change func(*dp.Allotment)) {
	f.t.Helper()
	a, err := f.Allotment(ctx, consumer, dataset)
	check(f.t, err)
	var ifMatch *uint64
	if a.Version > 0 {
		ifMatch = &a.Version
	}
	change(&a)
	_, _, err = f.office.SetAllotment(ctx, "root", a, ifMatch, "a test")
	check(f.t, err)
}

// recap changes the cap of the second dataset, whose policy has a version.
func (f *fixture) recap(version uint64, epsilon dp.Epsilon) {
	f.t.Helper()
	f.applyPolicy(&version, func(p *dp.Policy) { p.Name, p.Cap.Epsilon = other, epsilon })
}

func (f *fixture) loadInto(dataset, name string, digest byte, blocks []string) {
	f.t.Helper()
	l, _, err := f.BeginLoad(ctx, dataset, 1, name, blocks)
	check(f.t, err)
	l.Digest[0] = digest
	check(f.t, f.CommitLoad(ctx, l))
}

// spentOn is what an account of any dataset was charged.
func (f *fixture) spentOn(dataset, consumer, block string) (a accountRecord) {
	f.t.Helper()
	check(f.t, f.read(ctx, func(v view) (err error) {
		a, err = loadAccount(v, accountKey(dataset, block, consumer))
		return err
	}))
	return a
}

// join asks about January and February for a tenth each, of customers whom March costs three tenths and the second
// dataset's February and March two tenths each.
func join(consumer, plan string) answer.ChargeRequest {
	r := ask(consumer, plan)
	r.Blocks = quarter[:2]
	r.Also = []dp.Touched{
		{Dataset: dataset, PolicyVersion: 1, Blocks: quarter[2:], Loss: pure(300)},
		{Dataset: other, PolicyVersion: 1, Blocks: quarter[1:], Loss: pure(200)},
	}
	return r
}

// joined is an answer to such a charge.
func joined(c answer.Charged, id, plan string) *dp.Release {
	r := release(c, id, plan)
	r.Also = c.Snapshot.Also
	return r
}

func (f *fixture) publishJoined(c answer.Charged, id, plan string) {
	f.t.Helper()
	_, err := f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Release: joined(c, id, plan)})
	check(f.t, err)
}

func TestEveryPartOfAChargePaysItsOwnLoss(t *testing.T) {
	f := newPair(t)
	f.loadInto(other, "first", 1, quarter[2:])
	r := join(alice, "join")
	c := f.charge(r)
	for _, owner := range []string{alice, ""} {
		for account, want := range map[string]int64{
			dataset + "/2026-01": 100, dataset + "/2026-02": 100, dataset + "/2026-03": 300,
			other + "/2026-01": 0, other + "/2026-02": 200, other + "/2026-03": 200,
		} {
			name, block, _ := strings.Cut(account, "/")
			wanted := accountRecord{}
			if want > 0 {
				wanted = accountRecord{pure(want), 1}
			}
			if got := f.spentOn(name, owner, block); got != wanted {
				t.Errorf("account %s of %q holds %+v", account, owner, got)
			}
		}
	}
	want := dp.Snapshot{Dataset: dataset, PolicyVersion: 1, Blocks: []dp.BlockVersion{{Block: "2026-01"}, {Block: "2026-02"}}, Also: []dp.Snapshot{
		{Dataset: dataset, PolicyVersion: 1, Blocks: []dp.BlockVersion{{Block: "2026-03"}}},
		{Dataset: other, PolicyVersion: 1, Blocks: []dp.BlockVersion{{Block: "2026-02"}, {Block: "2026-03", Version: 1}}},
	}}
	if !reflect.DeepEqual(c.Snapshot, want) || !reflect.DeepEqual(c.Charge.Also, r.Also) || c.Charge.Loss != r.Loss || c.Charge.CapLoss != r.Loss {
		t.Errorf("charged %+v over %+v", c.Charge, c.Snapshot)
	}
	// March has least room, and admits two more at its own price; January would admit nine.
	if c.Left != (dp.Left{Account: "allotment/transactions/2026-03", Epsilon: pure(700).Epsilon, Share: 0.7, SimilarQueries: 2}) {
		t.Errorf("left is %+v", c.Left)
	}
	now, err := f.Left(ctx, alice, dataset, r.Blocks, r.Loss, r.Also...)
	check(t, err)
	if now != c.Left {
		t.Errorf("left is %+v a moment later", now)
	}
	f.recap(1, pure(450).Epsilon)
	now, err = f.Left(ctx, alice, dataset, r.Blocks, r.Loss, r.Also...)
	check(t, err)
	if now.Account != "cap/chats/2026-02" || now.Epsilon != pure(250).Epsilon || now.SimilarQueries != 1 {
		t.Errorf("with a lower cap left is %+v", now)
	}
}

func TestChargeIsListedForEachDatasetThatItTouches(t *testing.T) {
	f := newPair(t)
	c := f.charge(join(alice, "join"))
	plain := f.charge(ask(alice, "plain"))
	for name, want := range map[string]string{
		"": plain.Charge.ID + " " + c.Charge.ID, dataset: plain.Charge.ID + " " + c.Charge.ID, other: c.Charge.ID, "third": "",
	} {
		list, _, err := f.Entries(ctx, alice, name, "", 0)
		check(t, err)
		var ids []string
		for _, e := range list {
			ids = append(ids, e.ID)
			if e.ID == c.Charge.ID && !reflect.DeepEqual(e.Charge, c.Charge) {
				t.Errorf("listed as %+v", e)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("of %q are listed %s", name, got)
		}
	}
	accounts, _, err := f.DatasetAccounts(ctx, other, "", 0)
	check(t, err)
	mine, _, err := f.Accounts(ctx, alice, other, "", 0)
	check(t, err)
	if len(accounts) != 4 || accounts[0].Spent != pure(200) || len(mine) != 2 || mine[1].Name != "allotment/chats/2026-03" {
		t.Errorf("accounts are %+v, of alice %+v", accounts, mine)
	}
}

func TestChargeThatTheSecondDatasetRefusesChangesNothing(t *testing.T) {
	f := newPair(t)
	charge := func(r answer.ChargeRequest) func() error {
		return func() error { _, err := f.Charge(ctx, r); return err }
	}

	// By its cap. The first dataset's account has less room than the one that refuses, and is not to be named.
	low := ask(alice, "most of january")
	low.Loss = pure(850)
	f.charge(low)
	f.recap(1, pure(199).Epsilon)
	r := keyed(join(alice, "join"), "key", 1)
	r.Also[1].PolicyVersion = 2
	e := f.unchanged(dp.CodeBudgetExhausted, charge(r))
	if *e.Required != pure(200) || e.Left.Account != "cap/chats/2026-02" || e.Left.Epsilon != pure(199).Epsilon || e.Left.SimilarQueries != 0 {
		t.Errorf("refusal says %+v, %+v", e.Required, e.Left)
	}
	f.recap(2, pure(200).Epsilon)
	r.Also[1].PolicyVersion = 3
	f.charge(r)

	// By what of its cap another consumer spent, or the asker alone, in one of its blocks.
	by := join(bob, "join")
	by.Also[1].PolicyVersion, by.Also[1].Blocks = 3, quarter[:2]
	e = f.unchanged(dp.CodeBudgetExhausted, charge(by))
	if e.Left.Account != "cap/chats/2026-02" || e.Left.Epsilon != 0 {
		t.Errorf("refusal says %+v", e.Left)
	}

	// Where accounts of both refuse, the one with least room of these is named.
	f.allotOn(bob, dataset, func(a *dp.Allotment) { a.Budget.Epsilon = pure(90).Epsilon })
	f.allotOn(bob, other, func(a *dp.Allotment) { a.Budget.Epsilon = pure(50).Epsilon })
	both := join(bob, "both")
	both.Also[1].PolicyVersion, both.Also[1].Blocks = 3, january
	e = f.unchanged(dp.CodeBudgetExhausted, charge(both))
	if e.Left.Account != "allotment/chats/2026-01" || e.Left.Epsilon != pure(50).Epsilon || *e.Required != pure(200) {
		t.Errorf("refusal says %+v, %+v", e.Required, e.Left)
	}

	// By the policy that its part was priced under.
	by.Also[1].PolicyVersion = 2
	before := f.dump()
	if _, err := f.Charge(ctx, by); !errors.Is(err, answer.ErrPolicyChanged) {
		t.Fatalf("got %v", err)
	}
	// By a dataset that does not exist.
	gone := join(bob, "join")
	gone.Also[1].Dataset = "none"
	wantCode(t, dp.CodeNotFound, charge(gone)())
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
}

func TestAllotmentOfEachDatasetRulesItsPart(t *testing.T) {
	f := newPair(t)
	charge := func() error { _, err := f.Charge(ctx, join(alice, "join")); return err }
	for name, c := range map[string]struct {
		change func(*dp.Allotment)
		code   dp.Code
	}{
		"paused":         {func(a *dp.Allotment) { a.Paused = true }, dp.CodeForbidden},
		"expired":        {func(a *dp.Allotment) { a.Expires = firstDay }, dp.CodeForbidden},
		"maximum":        {func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(199).Epsilon }, dp.CodeForbidden},
		"too little":     {func(a *dp.Allotment) { a.Budget.Epsilon = pure(199).Epsilon }, dp.CodeBudgetExhausted},
		"none":           {func(a *dp.Allotment) { a.Budget = dp.Budget{} }, dp.CodeBudgetExhausted},
		"at the maximum": {func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(200).Epsilon }, ""},
	} {
		before, err := f.Allotment(ctx, alice, other)
		check(t, err)
		f.allotOn(alice, other, c.change)
		if c.code == "" {
			check(t, charge())
		} else if e := f.unchanged(c.code, charge); !strings.Contains(e.Message, other) && e.Left == nil {
			t.Errorf("%s: the refusal does not say of which dataset: %s", name, e.Message)
		} else if e.Left != nil && e.Left.Account != "allotment/chats/2026-02" {
			t.Errorf("%s: the refusal names %s", name, e.Left.Account)
		}
		f.allotOn(alice, other, func(a *dp.Allotment) {
			a.Budget, a.MaxEpsilonPerQuery, a.Expires, a.Paused = before.Budget, before.MaxEpsilonPerQuery, before.Expires, before.Paused
		})
	}
	// The maximum holds for the largest loss in its own dataset, and for no other.
	f.allotOn(alice, dataset, func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(299).Epsilon })
	f.unchanged(dp.CodeForbidden, charge)
	f.allotOn(alice, dataset, func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(300).Epsilon })
	f.allotOn(alice, other, func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(200).Epsilon })
	check(t, charge())
}

func TestImpossiblePartIsRefused(t *testing.T) {
	f := newPair(t)
	before := f.dump()
	for name, spoil := range map[string]func(*answer.ChargeRequest){
		"block of the question": func(r *answer.ChargeRequest) { r.Also[0].Blocks = []string{"2026-02"} },
		"block of another part": func(r *answer.ChargeRequest) { r.Also[0].Dataset = other },
		"same part twice":       func(r *answer.ChargeRequest) { r.Also = append(r.Also, r.Also[1]) },
		"repeated block":        func(r *answer.ChargeRequest) { r.Also[1].Blocks = []string{"2026-02", "2026-02"} },
		"unsorted blocks":       func(r *answer.ChargeRequest) { r.Also[1].Blocks = []string{"2026-03", "2026-02"} },
		"no name":               func(r *answer.ChargeRequest) { r.Also[1].Blocks = []string{""} },
		"no block":              func(r *answer.ChargeRequest) { r.Also[1].Blocks = nil },
		"no dataset":            func(r *answer.ChargeRequest) { r.Also[1].Dataset = "" },
		"no loss":               func(r *answer.ChargeRequest) { r.Also[1].Loss = dp.Loss{} },
		"no rho":                func(r *answer.ChargeRequest) { r.Also[1].Loss.Rho = 0 },
		"negative delta":        func(r *answer.ChargeRequest) { r.Also[1].Loss.Delta = -1 },
		"negative deltaz":       func(r *answer.ChargeRequest) { r.Also[1].Loss.DeltaZ = -1 },
	} {
		r := join(alice, "join")
		spoil(&r)
		if _, err := f.Charge(ctx, r); err == nil {
			t.Errorf("%s was charged", name)
		}
	}
	// Limits count all parts together.
	many := func(parts, blocks int) answer.ChargeRequest {
		r := ask(alice, "many")
		r.Loss = pure(1)
		for n := range parts {
			p := dp.Touched{Dataset: other, PolicyVersion: 1, Loss: pure(int64(1 + n))}
			for b := range blocks {
				p.Blocks = append(p.Blocks, fmt.Sprintf("%04d-%02d", 1900+10*n+b/12, 1+b%12))
			}
			r.Also = append(r.Also, p)
		}
		return r
	}
	for name, r := range map[string]answer.ChargeRequest{"nine parts": many(8, 1), "401 blocks": many(4, 100)} {
		_, err := f.Charge(ctx, r)
		if wantCode(t, dp.CodeTooLarge, err); err == nil {
			t.Errorf("%s were charged", name)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	largest := many(7, 57) // 400 blocks
	if c := f.charge(keyed(largest, "key", 1)); len(c.Snapshot.Also) != 7 || f.spentOn(other, alice, "1964-08").Spent != pure(7) {
		t.Fatalf("charged %d parts", len(c.Snapshot.Also))
	}
}

// TestClientsOfTwoDatasetsGetExactlyWhatFits races 64 clients, some of whom ask of one dataset and some of both, in
// either direction: 500 charges fit the shared cap of the second dataset's January, whoever wins.
func TestClientsOfTwoDatasetsGetExactlyWhatFits(t *testing.T) {
	const clients, each, fit = 64, 20, 500
	f := newPair(t)
	f.recap(1, pure(fit).Epsilon)
	loss := pure(1)
	var admitted, inFirst atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, clients*each)
	for client := range clients {
		group.Go(func() {
			for n := range each {
				first := dp.Touched{Dataset: dataset, PolicyVersion: 1, Blocks: january, Loss: pure(1)}
				second := dp.Touched{Dataset: other, PolicyVersion: 2, Blocks: january, Loss: loss}
				r := ask([]string{alice, bob}[client%2], fmt.Sprint(client, "/", n))
				switch client % 3 {
				case 0:
					r.Loss, r.Also = first.Loss, []dp.Touched{second}
				case 1:
					r.Dataset, r.PolicyVersion, r.Loss, r.Also = other, 2, loss, []dp.Touched{first}
				case 2:
					r.Dataset, r.PolicyVersion, r.Loss = other, 2, loss
				}
				_, err := f.Charge(ctx, r)
				var refused *dp.Error
				switch {
				case err == nil:
					admitted.Add(1)
					if client%3 != 2 {
						inFirst.Add(1)
					}
				case errors.As(err, &refused) && refused.Code == dp.CodeBudgetExhausted && refused.Left.Account == "cap/chats/2026-01":
				default:
					failures <- err
				}
			}
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		t.Fatal(err)
	}
	times := func(n int64) dp.Loss {
		return dp.Loss{Epsilon: dp.Epsilon(n) * loss.Epsilon, Rho: dp.Rho(n) * loss.Rho}
	}
	if admitted.Load() != fit || f.spentOn(other, "", "2026-01") != (accountRecord{times(fit), fit}) {
		t.Fatalf("%d charges were admitted, %d fit, and the cap holds %+v", admitted.Load(), fit, f.spentOn(other, "", "2026-01"))
	}
	n := inFirst.Load()
	if got := f.spentOn(dataset, "", "2026-01"); got != (accountRecord{times(n), uint64(n)}) || n == 0 || n == fit {
		t.Fatalf("the first dataset's cap holds %+v after %d charges", got, n)
	}
	for _, name := range []string{dataset, other} {
		a, b := f.spentOn(name, alice, "2026-01"), f.spentOn(name, bob, "2026-01")
		if accounting.Add(a.Spent, b.Spent) != f.spentOn(name, "", "2026-01").Spent {
			t.Errorf("allotments on %s hold %+v and %+v", name, a, b)
		}
	}
}

func TestDrawsAreFoundByTheVersionsOfAllParts(t *testing.T) {
	f := newPair(t)
	r := join(alice, "join")
	find := func(consumer string, also []dp.Touched, want answer.Found) {
		t.Helper()
		got, err := f.Find(ctx, consumer, "join", dataset, r.Blocks, also...)
		check(t, err)
		if got != want {
			t.Fatalf("%s finds %+v, want %+v", consumer, got, want)
		}
	}
	find(alice, r.Also, answer.Found{})
	f.publishJoined(f.charge(r), "rel_1", "join")
	find(alice, r.Also, answer.Found{Held: "rel_1", Other: "rel_1"})
	find(bob, r.Also, answer.Found{Other: "rel_1"})

	// Other further blocks, or none, are another draw's.
	elsewhere := join(alice, "join").Also
	elsewhere[1].Dataset = dataset
	elsewhere[1].Blocks = []string{"2026-04", "2026-05"}
	find(alice, elsewhere, answer.Found{Stale: "rel_1"})
	find(alice, nil, answer.Found{Stale: "rel_1"})
	find(alice, r.Also[:1], answer.Found{Stale: "rel_1"})
	find(alice, []dp.Touched{r.Also[1], r.Also[0]}, answer.Found{Stale: "rel_1"})

	// New rows of the second dataset that the question does not touch change nothing, those that it touches do.
	f.loadInto(other, "untouched", 1, january)
	find(alice, r.Also, answer.Found{Held: "rel_1", Other: "rel_1"})
	before := f.charge(join(bob, "join"))
	f.loadInto(other, "touched", 2, quarter[2:])
	find(alice, r.Also, answer.Found{Stale: "rel_1"})
	find(bob, r.Also, answer.Found{})
	f.publishJoined(before, "rel_2", "join") // over the versions that it was charged on
	find(bob, r.Also, answer.Found{Stale: "rel_2"})
	f.publishJoined(f.charge(r), "rel_3", "join")
	find(alice, r.Also, answer.Found{Held: "rel_3", Other: "rel_3"})
	find(bob, r.Also, answer.Found{Stale: "rel_2", Other: "rel_3"})

	// So do those of a further block of the first.
	f.loadInto(dataset, "march", 3, quarter[2:])
	find(alice, r.Also, answer.Found{Stale: "rel_3"})
}

func TestSnapshotsHaveDifferentDigests(t *testing.T) {
	at := func(names ...string) (list []dp.BlockVersion) {
		for _, n := range names {
			list = append(list, dp.BlockVersion{Block: n, Version: 1})
		}
		return list
	}
	seen := map[[digestBytes]byte]int{}
	for i, s := range []dp.Snapshot{
		{Blocks: at("a")}, {Blocks: at("a", "b")},
		{Blocks: at("a"), Also: []dp.Snapshot{{Blocks: at("b")}}},
		{Blocks: at("a"), Also: []dp.Snapshot{{Dataset: "d", Blocks: at("b")}}},
		{Blocks: at("a"), Also: []dp.Snapshot{{Dataset: "b", Blocks: at("d")}}},
		{Blocks: at("a"), Also: []dp.Snapshot{{Dataset: "d", Blocks: at("b", "c")}}},
		{Blocks: at("a"), Also: []dp.Snapshot{{Dataset: "d", Blocks: at("b")}, {Dataset: "d", Blocks: at("c")}}},
		{Blocks: at("a"), Also: []dp.Snapshot{{Dataset: "d", Blocks: at("c")}, {Dataset: "d", Blocks: at("b")}}},
	} {
		if j, ok := seen[digestVersions(s)]; ok {
			t.Errorf("snapshots %d and %d have one digest", j, i)
		}
		seen[digestVersions(s)] = i
	}
	// A ledger holds releases under the digests of earlier versions of this program.
	const earlier = "679d38266e4cfa499b69d9b346cfa6ff1001679c79611950b5e3742d9e0bc62d"
	if got := fmt.Sprintf("%x", digestVersions(dp.Snapshot{Dataset: "d", PolicyVersion: 2, Blocks: at("2026-01", "2026-02")})); got != earlier {
		t.Errorf("the digest of blocks alone is %s", got)
	}
}

func TestReleaseOfOtherFurtherBlocksIsNotPublished(t *testing.T) {
	f := newPair(t)
	c := f.charge(join(alice, "join"))
	before := f.dump()
	for name, spoil := range map[string]func([]dp.Snapshot) []dp.Snapshot{
		"none":          func([]dp.Snapshot) []dp.Snapshot { return nil },
		"one":           func(s []dp.Snapshot) []dp.Snapshot { return s[:1] },
		"another order": func(s []dp.Snapshot) []dp.Snapshot { return []dp.Snapshot{s[1], s[0]} },
		"dataset":       func(s []dp.Snapshot) []dp.Snapshot { s[1].Dataset = dataset; return s },
		"policy":        func(s []dp.Snapshot) []dp.Snapshot { s[1].PolicyVersion = 2; return s },
		"versions":      func(s []dp.Snapshot) []dp.Snapshot { s[1].Blocks[0].Version = 9; return s },
		"nested":        func(s []dp.Snapshot) []dp.Snapshot { s[1].Also = []dp.Snapshot{{}}; return s },
	} {
		r := joined(c, "rel_1", "join")
		var also []dp.Snapshot
		for _, s := range c.Snapshot.Also {
			s.Blocks = append([]dp.BlockVersion{}, s.Blocks...)
			also = append(also, s)
		}
		r.Also = spoil(also)
		if _, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Release: r}); err == nil {
			t.Errorf("%s was published", name)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	f.publishJoined(c, "rel_1", "join")
	f.reopen()
	got, err := f.Release(ctx, alice, "rel_1")
	check(t, err)
	if !reflect.DeepEqual(&got, joined(c, "rel_1", "join")) {
		t.Errorf("read %+v", got)
	}
	// Nothing is derived from it: its figures are of customers whom other blocks chose.
	f.publish(f.charge(ask(alice, "plain")), "rel_2", "plain")
	held, err := f.HeldOver(ctx, alice, dataset, january, 9)
	check(t, err)
	if len(held) != 1 || held[0].ID != "rel_2" {
		t.Errorf("to derive from there are %+v", held)
	}
}

func TestHandedOutDrawIsPaidByEachPart(t *testing.T) {
	f := newPair(t)
	f.publishJoined(f.charge(join(alice, "join")), "rel_1", "join")
	r := join(bob, "join")
	r.Source = "rel_1"
	cheaper, fewer, later := join(bob, "join"), join(bob, "join"), join(bob, "join")
	cheaper.Also[1].Loss, fewer.Also, later.Also[1].Blocks = pure(1), fewer.Also[:1], []string{"2026-04"}
	before := f.dump()
	for _, bad := range []answer.ChargeRequest{cheaper, fewer, later} {
		bad.Source = "rel_1"
		if _, err := f.Charge(ctx, bad); err == nil {
			t.Errorf("at another price it was handed out: %+v", bad.Also)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}

	// Who has no allotment on one of the datasets cannot tell whether there is such a draw.
	f.allotOn(bob, other, func(a *dp.Allotment) { a.Budget = dp.Budget{} })
	unknown := r
	unknown.Source = "rel_unknown"
	one := f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, r); return err })
	two := f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, unknown); return err })
	if !reflect.DeepEqual(one, two) || one.Left.Account != "allotment/chats/2026-02" {
		t.Errorf("refused by %+v, and of an unknown draw by %+v", one, two)
	}
	f.allotOn(bob, other, func(a *dp.Allotment) { a.Budget.Epsilon = pure(200).Epsilon })

	c := f.charge(r)
	if c.Outcome == nil || c.Outcome.Release.ID != "rel_1" || c.Charge.CapLoss != (dp.Loss{}) || !reflect.DeepEqual(c.Charge.Also, r.Also) {
		t.Fatalf("charged %+v", c)
	}
	for block, want := range map[string]dp.Loss{dataset + "/2026-01": pure(100), dataset + "/2026-03": pure(300), other + "/2026-02": pure(200)} {
		name, block, _ := strings.Cut(block, "/")
		if got := f.spentOn(name, bob, block); got != (accountRecord{want, 1}) {
			t.Errorf("bob spent %+v on %s of %s", got, block, name)
		}
		if got := f.spentOn(name, "", block); got != (accountRecord{want, 1}) {
			t.Errorf("the cap of %s on %s spent %+v", name, block, got)
		}
	}
	if c.Left.Account != "allotment/chats/2026-02" || c.Left.Epsilon != 0 {
		t.Errorf("left is %+v", c.Left)
	}
	found, err := f.Find(ctx, bob, "join", dataset, r.Blocks, r.Also...)
	check(t, err)
	if found.Held != "rel_1" {
		t.Errorf("bob finds %+v", found)
	}
	f.unchangedBy(func() { f.charge(r) })
}

func TestChargeOfSeveralPartsIsKeptThroughAllThatHappensToIt(t *testing.T) {
	f := newPair(t)
	r := keyed(join(alice, "join"), "key", 1)
	first := f.charge(r)
	same := func(c answer.Charged) {
		t.Helper()
		if !reflect.DeepEqual(c.Charge, first.Charge) || !reflect.DeepEqual(c.Snapshot, first.Snapshot) {
			t.Fatalf("charged %+v over %+v", c.Charge, c.Snapshot)
		}
	}
	check(t, f.Renew(ctx, first.Charge.ID, 1))
	check(t, f.Abandon(ctx, first.Charge.ID, 1))
	f.loadInto(other, "later", 1, quarter)
	f.advance(time.Second)
	same(f.charge(r))
	f.reopen()
	c := f.charge(r)
	same(c)
	f.publishJoined(c, "rel_1", "join")
	recalled, known, err := f.Recall(ctx, alice, "key", r.Body)
	check(t, err)
	if same(recalled); !known || recalled.Outcome == nil || len(recalled.Outcome.Release.Also) != 2 || recalled.Left.Account != "allotment/transactions/2026-03" {
		t.Errorf("recalled %+v", recalled)
	}
	lost := keyed(join(bob, "join"), "lost", 1)
	first = f.charge(lost)
	check(t, f.WriteOff(ctx, "root", "a test", &dp.Budget{}))
	recalled, _, err = f.Recall(ctx, bob, "lost", lost.Body)
	check(t, err)
	same(recalled)
	// What was written off counts in both datasets.
	e := f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, join(bob, "after")); return err })
	if e.Left.Epsilon != 0 {
		t.Errorf("left is %+v", e.Left)
	}
}

func TestReportSumsThePartsOfItsQuestions(t *testing.T) {
	f := newPair(t)
	part := func(n int, r answer.ChargeRequest) report.NewPart {
		p := partOf("rep_1", n, 1, january)
		r.Key, r.Body = p.Charge.Key, p.Charge.Body
		p.Charge = r
		return p
	}
	back := ask(alice, "back")
	back.Dataset, back.Blocks, back.Loss = other, quarter[1:2], pure(300)
	run := report.NewRun{Parts: []report.NewPart{part(0, join(alice, "one")), part(1, back), part(2, join(alice, "two"))}}
	f.allotOn(alice, other, func(a *dp.Allotment) { a.Budget.Epsilon = pure(699).Epsilon })
	dump := f.dump()
	_, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	e := wantCode(t, dp.CodeBudgetExhausted, err)
	if e.Required.Epsilon != pure(700).Epsilon || e.Left.Account != "allotment/chats/2026-02" || e.Left.Epsilon != pure(699).Epsilon {
		t.Errorf("the refusal says %v of %+v", e.Required.Epsilon, e.Left)
	}
	if !maps.Equal(dump, f.dump()) {
		t.Fatal("a refused report changed the ledger")
	}
	f.allotOn(alice, other, func(a *dp.Allotment) { a.Budget.Epsilon = pure(700).Epsilon })
	r, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	if f.spentOn(other, alice, "2026-02").Spent.Epsilon != pure(700).Epsilon || f.spentOn(other, "", "2026-03").Spent.Epsilon != pure(400).Epsilon || f.spent(alice, "2026-03").Epsilon != pure(600).Epsilon {
		t.Errorf("spent %+v", f.spentOn(other, alice, "2026-02"))
	}
	if got := r.Runs[0].Parts[0].Charge.Also; len(got) != 2 || got[1].Loss != pure(200) {
		t.Errorf("the report tells of %+v", got)
	}
}
