package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

func TestPublishedReleaseIsReadBackAsItWas(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	want := release(c, "rel_1", "plan")
	published := f.publish(c, "rel_1", "plan")
	if !reflect.DeepEqual(published.Release, want) {
		t.Fatalf("published %+v, not %+v", published.Release, want)
	}
	f.reopen()
	got, err := f.Release(ctx, alice, "rel_1")
	check(t, err)
	if !reflect.DeepEqual(&got, want) {
		t.Fatalf("read %+v, not %+v", got, want)
	}
	for _, id := range []string{"rel_2", "", strings.Repeat("x", 100_000), "rel_1\x00\x01"} {
		f.unchanged(dp.CodeNotFound, func() error { _, err := f.Release(ctx, alice, id); return err })
	}
	f.unchanged(dp.CodeNotFound, func() error { _, err := f.Release(ctx, bob, "rel_1"); return err })
}

func TestReleaseThatDoesNotMatchItsChargeIsNotPublished(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "earlier")), "rel_taken", "earlier")
	c := f.charge(ask(alice, "plan"))
	before := f.dump()
	for name, spoil := range map[string]func(*dp.Release){
		"no id":          func(r *dp.Release) { r.ID = "" },
		"taken id":       func(r *dp.Release) { r.ID = "rel_taken" },
		"another plan":   func(r *dp.Release) { r.Plan = "other" },
		"another charge": func(r *dp.Release) { r.Charge.ID = "chg_other" },
		"dataset":        func(r *dp.Release) { r.Dataset = "other" },
		"policy":         func(r *dp.Release) { r.PolicyVersion = 2 },
		"versions":       func(r *dp.Release) { r.Blocks = []dp.BlockVersion{{Block: "2026-01", Version: 9}} },
	} {
		r := release(c, "rel_1", "plan")
		spoil(r)
		if _, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Release: r}); err == nil {
			t.Errorf("%s was published", name)
		}
	}
	both := answer.Outcome{Release: release(c, "rel_1", "plan"), Failure: &dp.Error{}}
	for name, o := range map[string]answer.Outcome{"both": both, "neither": {}} {
		if _, err := f.Publish(ctx, c.Charge.ID, 1, o); err == nil {
			t.Errorf("%s were published", name)
		}
	}
	if _, err := f.Publish(ctx, "chg_unknown", 1, answer.Outcome{Failure: &dp.Error{}}); err == nil {
		t.Error("an unknown charge ended")
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	f.publish(c, "rel_1", "plan")
}

func TestOnlyTheNewestAttemptPublishes(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	first := f.charge(r)
	f.advance(lease)
	second := f.charge(r)

	f.unchanged(dp.CodeUnavailable, func() error {
		_, err := f.Publish(ctx, first.Charge.ID, first.Attempt, answer.Outcome{Release: release(first, "rel_first", "plan")})
		return err
	})
	f.publish(second, "rel_second", "plan")
	var loser answer.Outcome
	f.unchangedBy(func() { loser = f.publish(first, "rel_first", "plan") })
	if loser.Release.ID != "rel_second" {
		t.Fatalf("the loser got %s", loser.Release.ID)
	}
	// A loser that drew under the winner's very id gets the winner's draw, not its own.
	same := release(first, "rel_second", "plan")
	same.NoisedCoordinates = [][]int64{{99}}
	f.unchangedBy(func() {
		o, err := f.Publish(ctx, first.Charge.ID, first.Attempt, answer.Outcome{Release: same})
		check(t, err)
		loser = o
	})
	if loser.Release.NoisedCoordinates[0][0] != 12 {
		t.Fatalf("the loser got %+v", loser.Release)
	}
	// The winner that did not hear of its success hears of it now.
	var again answer.Outcome
	f.unchangedBy(func() { again = f.publish(second, "rel_second", "plan") })
	if again.Release.ID != "rel_second" {
		t.Fatalf("the winner got %s", again.Release.ID)
	}
}

func TestFailureIsAnOutcomeThatStandsWithoutItsCause(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	c := f.charge(r)
	failure := &dp.Error{Code: dp.CodeInternal, Message: "report the charge", Err: errors.New("cause that holds a row")}
	o, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Failure: failure})
	check(t, err)
	if o.Failure.Code != dp.CodeInternal || failure.Err == nil {
		t.Fatalf("published %+v", o)
	}
	for key, value := range f.dump() {
		if strings.Contains(value, "cause that holds a row") {
			t.Fatalf("the cause is kept under %q", key)
		}
	}
	if again := f.charge(r); again.Outcome.Failure.Message != "report the charge" {
		t.Fatalf("replayed %+v", again.Outcome)
	}
	found, err := f.Find(ctx, alice, "plan", dataset, january)
	check(t, err)
	if found != (answer.Found{}) {
		t.Fatalf("a failure is found as %+v", found)
	}
}

func TestDrawsAreFoundByPlanAndBlockVersions(t *testing.T) {
	f := newFixture(t)
	find := func(consumer string, want answer.Found) {
		t.Helper()
		got, err := f.Find(ctx, consumer, "plan", dataset, january)
		check(t, err)
		if got != want {
			t.Fatalf("%s finds %+v, want %+v", consumer, got, want)
		}
	}
	find(alice, answer.Found{})
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	f.publish(f.charge(ask(alice, "another plan")), "rel_x", "another plan")
	find(alice, answer.Found{Held: "rel_1", Other: "rel_1"})
	find(bob, answer.Found{Other: "rel_1"})

	f.publish(f.charge(ask(bob, "plan")), "rel_2", "plan") // a fresh draw of his own
	find(bob, answer.Found{Held: "rel_2", Other: "rel_1"})
	find(alice, answer.Found{Held: "rel_1", Other: "rel_1"})

	f.load("more rows elsewhere", 1, quarter[1:])
	find(bob, answer.Found{Held: "rel_2", Other: "rel_1"})

	before := f.charge(ask(bob, "plan"))
	f.load("more rows", 2, january)
	find(alice, answer.Found{Stale: "rel_1"})
	f.publish(before, "rel_3", "plan") // over the versions that it was charged on
	find(bob, answer.Found{Stale: "rel_3"})
	find(alice, answer.Found{Stale: "rel_1"})

	f.publish(f.charge(ask(alice, "plan")), "rel_4", "plan")
	find(alice, answer.Found{Held: "rel_4", Other: "rel_4"})
	find(bob, answer.Found{Stale: "rel_3", Other: "rel_4"})
}

func TestDrawOfAnotherConsumerIsPaidByTheAllotmentAlone(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	r := keyed(ask(bob, "plan"), "key", 1)
	r.Source = "rel_1"
	c := f.charge(r)
	if c.Outcome == nil || c.Outcome.Release.ID != "rel_1" || c.Charge.CapLoss != (dp.Loss{}) || c.Charge.Loss != r.Loss {
		t.Fatalf("charged %+v", c)
	}
	if f.spent(bob, "2026-01") != r.Loss || f.spent("", "2026-01") != r.Loss {
		t.Fatalf("bob spent %v, the cap %v", f.spent(bob, "2026-01"), f.spent("", "2026-01"))
	}
	if c.Left.Account != "allotment/transactions/2026-01" || c.Left.Epsilon != pure(900).Epsilon {
		t.Fatalf("left is %+v", c.Left)
	}
	// What he holds tells nothing of who drew it, and is his for ever.
	got, err := f.Release(ctx, bob, "rel_1")
	check(t, err)
	text, err := json.Marshal(got)
	check(t, err)
	if strings.Contains(string(text), alice) || got.Charge.ID != c.Charge.ID {
		t.Fatalf("bob reads %s", text)
	}
	list, _, err := f.Held(ctx, bob, "", "", 0)
	check(t, err)
	if len(list) != 1 || list[0].Charge.ID != c.Charge.ID || list[0].Groups != nil || list[0].NoisedCoordinates != nil {
		t.Fatalf("bob holds %+v", list)
	}
	found, err := f.Find(ctx, bob, "plan", dataset, january)
	check(t, err)
	if found.Held != "rel_1" {
		t.Fatalf("bob finds %+v", found)
	}

	// The same again costs nothing, under the key, under a new one and without.
	f.unchangedBy(func() { f.charge(r) })
	other := keyed(r, "another key", 1)
	if again := f.charge(other); again.Charge.ID != c.Charge.ID || again.Outcome.Release.ID != "rel_1" {
		t.Fatalf("charged again %+v", again)
	}
	f.unchanged(dp.CodeConflict, func() error { _, err := f.Charge(ctx, keyed(r, "another key", 2)); return err })
	if f.spent(bob, "2026-01") != r.Loss {
		t.Fatalf("bob spent %v", f.spent(bob, "2026-01"))
	}
}

func TestDrawOfAnotherConsumerIsRefusedBeyondTheAllotmentOrAtAnotherPrice(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	r := ask(bob, "plan")
	r.Source = "rel_1"
	f.allot(bob, func(a *dp.Allotment) { a.Budget.Epsilon = pure(99).Epsilon })
	f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, r); return err })
	f.allot(bob, func(a *dp.Allotment) { a.Budget.Epsilon = dp.EpsilonOne })
	before := f.dump()
	for name, spoil := range map[string]func(*answer.ChargeRequest){
		"cheaper":       func(r *answer.ChargeRequest) { r.Loss = pure(10) },
		"another plan":  func(r *answer.ChargeRequest) { r.Plan = "other" },
		"fewer blocks":  func(r *answer.ChargeRequest) { r.Blocks = []string{"2026-02"} },
		"unknown draws": func(r *answer.ChargeRequest) { r.Source = "rel_2" },
	} {
		bad := r
		spoil(&bad)
		if _, err := f.Charge(ctx, bad); err == nil {
			t.Errorf("%s was handed out", name)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}

	// A full cap does not stand in the way: nothing new is learned by all consumers together.
	one := uint64(1)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = pure(100).Epsilon })
	r.PolicyVersion = 2
	if _, err := f.Charge(ctx, r); err == nil {
		t.Fatal("a draw under an earlier policy was handed out")
	}
}

func TestFullCapStillHandsOutWhatWasDrawn(t *testing.T) {
	f := newFixture(t)
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 10 * dp.EpsilonOne })
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	rest := ask(alice, "all the rest")
	rest.Loss = pure(9900)
	f.charge(rest)
	f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, ask(bob, "plan")); return err })
	r := ask(bob, "plan")
	r.Source = "rel_1"
	if c := f.charge(r); c.Outcome.Release.ID != "rel_1" || c.Left.Account != "cap/transactions/2026-01" {
		t.Fatalf("charged %+v", c)
	}
}

// large makes a release of so many groups.
func large(c answer.Charged, id string, groups int) *dp.Release {
	r := release(c, id, "plan")
	r.Groups, r.NoisedCoordinates = nil, nil
	for n := range groups {
		r.Groups = append(r.Groups, dp.Group{Key: []string{fmt.Sprintf("group %06d", n)}, Values: []dp.Value{{Value: 1.1 * 7, Low: -3.3, High: 9.25, SD: 3.73}}})
		r.NoisedCoordinates = append(r.NoisedCoordinates, []int64{int64(n)})
	}
	return r
}

func TestLargeReleaseIsPublishedAtOnce(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	groups := 100_000 // the most that a plan may have
	if raceEnabled {
		groups = 20_000
	}
	want := large(c, "rel_large", groups)
	o, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Release: want})
	check(t, err)
	f.reopen()
	got, err := f.Release(ctx, alice, "rel_large")
	check(t, err)
	if !reflect.DeepEqual(&got, want) || len(o.Release.Groups) != groups {
		t.Fatal("the release came back changed")
	}
}

func TestUnfinishedReleaseIsInvisibleAndRemoved(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	c := f.charge(r)
	before := f.dump()
	if _, err := f.writeRelease(ctx, large(c, "rel_large", 8_000)); err != nil {
		t.Fatal(err)
	}
	if len(f.dump()) <= len(before) {
		t.Fatal("no piece was written")
	}
	f.unchanged(dp.CodeNotFound, func() error { _, err := f.Release(ctx, alice, "rel_large"); return err })
	f.reopen()
	after := f.dump()
	if !maps.Equal(state(before), state(after)) {
		t.Fatal("pieces were left behind")
	}
	// A late attempt leaves no pieces either.
	second := f.charge(r)
	f.publish(second, "rel_2", "plan")
	before = f.dump()
	if _, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Release: large(c, "rel_large", 8_000)}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(state(before), state(f.dump())) {
		t.Fatal("a late attempt changed the ledger")
	}
}

func TestReleaseBeyondTheLimitIsTooLarge(t *testing.T) {
	f := newFixture(t)
	f.limits.ReleaseBytes = 1000
	c := f.charge(ask(alice, "plan"))
	f.unchanged(dp.CodeTooLarge, func() error {
		_, err := f.Publish(ctx, c.Charge.ID, 1, answer.Outcome{Release: large(c, "rel_large", 100)})
		return err
	})
}

func TestHeldReleasesArePagedNewestFirst(t *testing.T) {
	f := newFixture(t)
	for n := range 5 {
		f.publish(f.charge(ask(alice, fmt.Sprint(n))), fmt.Sprint("rel_", n), fmt.Sprint(n))
	}
	var ids []string
	for cursor, more := "", true; more; more = cursor != "" {
		list, next, err := f.Held(ctx, alice, dataset, cursor, 2)
		check(t, err)
		for _, r := range list {
			ids = append(ids, r.ID)
		}
		cursor = next
	}
	if got := strings.Join(ids, " "); got != "rel_4 rel_3 rel_2 rel_1 rel_0" {
		t.Fatalf("held %s", got)
	}
	if list, _, err := f.Held(ctx, alice, "other", "", 2); err != nil || len(list) != 0 {
		t.Fatalf("of another dataset %v, %v", list, err)
	}
	_, _, err := f.Held(ctx, alice, "", "not a cursor!", 2)
	wantCode(t, dp.CodeInvalidInput, err)
}

func TestReleasesToReuseAreThoseHeldOverCurrentRows(t *testing.T) {
	f := newFixture(t)
	held := func(consumer string, blocks []string, most int, want string) {
		t.Helper()
		list, err := f.HeldOver(ctx, consumer, dataset, blocks, most)
		check(t, err)
		ids := []string{}
		for _, r := range list {
			ids = append(ids, r.ID)
			if r.Groups != nil || r.NoisedCoordinates != nil || r.Charge.Consumer != "" {
				t.Errorf("%s tells more than how it was drawn: %+v", r.ID, r)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Fatalf("%s holds %q over %v, want %q", consumer, got, blocks, want)
		}
	}
	over := func(consumer, plan string, blocks []string) answer.Charged {
		r := ask(consumer, plan)
		r.Blocks = blocks
		return f.charge(r)
	}
	f.publish(over(alice, "q", quarter), "rel_quarter", "q")
	f.publish(over(alice, "j", january), "rel_january", "j")
	f.publish(over(bob, "b", quarter), "rel_bob", "b")
	failed := over(alice, "f", quarter)
	_, err := f.Publish(ctx, failed.Charge.ID, 1, answer.Outcome{Failure: &dp.Error{Code: dp.CodeInternal}})
	check(t, err)
	over(alice, "open", quarter)

	held(alice, january, 9, "rel_january rel_quarter")
	held(alice, quarter, 9, "rel_quarter")
	held(alice, quarter[1:2], 9, "rel_quarter")
	held(alice, january, 1, "rel_january")
	held(alice, quarter, 1, "")
	held(alice, []string{"2026-04"}, 9, "")
	held(bob, quarter, 9, "rel_bob")
	handed := ask(bob, "q")
	handed.Blocks, handed.Source = quarter, "rel_quarter"
	f.charge(handed)
	held(bob, january, 9, "rel_quarter rel_bob")

	f.load("more rows", 1, january)
	held(alice, january, 9, "")
	held(alice, quarter, 9, "")
	held(alice, quarter[1:], 9, "rel_quarter")
	f.publish(over(alice, "j", january), "rel_new", "j")
	held(alice, january, 9, "rel_new")
	if list, err := f.HeldOver(ctx, alice, "other", january, 9); err != nil || len(list) != 0 {
		t.Fatalf("of another dataset %v, %v", list, err)
	}
}

func TestPoliciesThatWereInForceAreKept(t *testing.T) {
	f := newFixture(t)
	first, err := f.Policy(ctx, dataset)
	check(t, err)
	f.applyPolicy(&first.Version, func(p *dp.Policy) { p.Population++ })
	then, err := f.PolicyAt(ctx, dataset, first.Version)
	check(t, err)
	now, err := f.PolicyAt(ctx, dataset, first.Version+1)
	check(t, err)
	if !reflect.DeepEqual(then, first) || now.Population != first.Population+1 {
		t.Fatalf("of version %d there is %+v, of the next %+v", first.Version, then, now)
	}
	for name, version := range map[string]uint64{dataset: 3, "other": 1} {
		_, err := f.PolicyAt(ctx, name, version)
		wantCode(t, dp.CodeNotFound, err)
	}
}

func TestDamagedReleaseIsNotHandedOut(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	for key, value := range f.dump() {
		if key[0] == kindBlob {
			check(t, f.write(ctx, func(t *tx) error {
				t.kind = entryPiece
				t.put([]byte(key), []byte(strings.Replace(value, "12.1", "12.2", 1)))
				return nil
			}))
		}
	}
	if _, err := f.Release(ctx, alice, "rel_1"); !errors.Is(err, errDamaged) {
		t.Fatalf("got %v", err)
	}
}
