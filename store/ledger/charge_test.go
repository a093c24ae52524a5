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
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
)

func TestConcurrentChargesFillAnAllotmentExactly(t *testing.T) {
	const clients, each, fit = 64, 20, 1000
	f := newFixture(t)
	loss := pure(1) // of an allotment of 1, delta 0
	var admitted atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, clients*each)
	for client := range clients {
		group.Go(func() {
			for n := range each {
				r := ask(alice, fmt.Sprint(client, "/", n))
				r.Loss = loss
				_, err := f.Charge(ctx, r)
				var refused *dp.Error
				switch {
				case err == nil:
					admitted.Add(1)
				case errors.As(err, &refused) && refused.Code == dp.CodeBudgetExhausted:
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
	if got := admitted.Load(); got != fit {
		t.Fatalf("%d charges were admitted, %d fit", got, fit)
	}
	want := dp.Loss{Epsilon: dp.EpsilonOne, Rho: fit * loss.Rho}
	for _, owner := range []string{alice, ""} {
		if got := f.spent(owner, "2026-01"); got != want {
			t.Fatalf("account of %q holds %v, charges sum to %v", owner, got, want)
		}
	}
	listed, cursor := 0, ""
	for {
		list, next, err := f.Entries(ctx, alice, dataset, cursor, 300)
		check(t, err)
		listed += len(list)
		if cursor = next; cursor == "" {
			break
		}
	}
	if listed != fit {
		t.Fatalf("%d entries are listed", listed)
	}
}

func TestChargeTakesEveryTouchedAccountAndSaysWhatIsLeft(t *testing.T) {
	f := newFixture(t)
	f.load("march", 1, quarter[2:])
	f.charge(ask(alice, "january alone"))
	r := ask(alice, "quarter")
	r.Blocks, r.Loss = quarter, pure(300)
	c := f.charge(r)
	for block, want := range map[string]int64{"2026-01": 400, "2026-02": 300, "2026-03": 300, "2026-04": 0} {
		for _, owner := range []string{alice, ""} {
			if got := f.spent(owner, block).Epsilon; got != pure(want).Epsilon {
				t.Errorf("account of %q in %s holds %v", owner, block, got)
			}
		}
	}
	if c.Left.Account != "allotment/transactions/2026-01" || c.Left.Epsilon != pure(600).Epsilon || c.Left.Share != 0.6 || c.Left.SimilarQueries != 2 {
		t.Errorf("left is %+v", c.Left)
	}
	if want := []dp.BlockVersion{{Block: "2026-01"}, {Block: "2026-02"}, {Block: "2026-03", Version: 1}}; fmt.Sprint(c.Snapshot.Blocks) != fmt.Sprint(want) ||
		c.Snapshot.Dataset != dataset || c.Snapshot.PolicyVersion != 1 {
		t.Errorf("snapshot is %+v", c.Snapshot)
	}
	if c.Attempt != 1 || c.Outcome != nil || c.Charge.CapLoss != r.Loss || !c.Charge.At.Equal(firstDay) {
		t.Errorf("charged %+v", c)
	}
	left, err := f.Left(ctx, alice, dataset, quarter, r.Loss)
	check(t, err)
	if left != c.Left {
		t.Errorf("left is %+v a moment later", left)
	}
	list, _, err := f.Accounts(ctx, alice, "", "", 0)
	check(t, err)
	if len(list) != 3 || list[0].Name != "allotment/transactions/2026-01" || list[0].Spent != accounting.Add(pure(100), pure(300)) || list[0].Budget.Epsilon != dp.EpsilonOne {
		t.Errorf("accounts are %+v", list)
	}
}

func TestRefusedChargeChangesNothing(t *testing.T) {
	f := newFixture(t)
	over := ask(alice, "too much")
	over.Loss = pure(1001)
	e := f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, over); return err })
	if *e.Required != over.Loss || e.Left.Account != "allotment/transactions/2026-01" || e.Left.Epsilon != dp.EpsilonOne || e.Left.SimilarQueries != 0 {
		t.Errorf("refusal says %+v, %+v", e.Required, e.Left)
	}

	// One full block refuses the whole charge, the blocks with room included.
	full := ask(alice, "fills february")
	full.Blocks, full.Loss = []string{"2026-02"}, pure(1000)
	f.charge(full)
	all := ask(alice, "quarter")
	all.Blocks = quarter
	e = f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, keyed(all, "key", 1)); return err })
	if e.Left.Account != "allotment/transactions/2026-02" || e.Left.Epsilon != 0 {
		t.Errorf("refusal says %+v", e.Left)
	}

	// A cap refuses although the allotment has room, and names itself.
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 100 * dp.EpsilonOne })
	over.Loss = pure(10_001)
	e = f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, over); return err })
	if e.Left.Account != "cap/transactions/2026-01" {
		t.Errorf("refusal says %+v", e.Left)
	}

	// Lowered below what is spent it is frozen there, and says so; elsewhere it still gives what it has.
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = pure(120).Epsilon })
	frozen := ask(alice, "frozen")
	frozen.Blocks, frozen.Loss = []string{"2026-02"}, pure(1)
	e = f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, frozen); return err })
	if e.Left.Account != "allotment/transactions/2026-02" || !strings.Contains(e.Message, "your allotment on this dataset is frozen on 2026-02") {
		t.Errorf("refusal says %+v: %s", e.Left, e.Message)
	}
	free := frozen
	free.Plan, free.Blocks = "not frozen", []string{"2026-07"}
	f.charge(free)
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 100 * dp.EpsilonOne })

	f.allot(alice, func(a *dp.Allotment) { a.MaxEpsilonPerQuery = pure(50).Epsilon })
	f.unchanged(dp.CodeForbidden, func() error { _, err := f.Charge(ctx, ask(alice, "above the maximum")); return err })
	small := ask(alice, "at the maximum")
	small.Loss = pure(50)
	f.charge(small)

	f.allot(alice, func(a *dp.Allotment) { a.Expires = firstDay })
	f.unchanged(dp.CodeForbidden, func() error { _, err := f.Charge(ctx, small); return err })
	f.allot(alice, func(a *dp.Allotment) { a.Expires = firstDay.Add(time.Nanosecond) })
	f.charge(small)

	f.allot(alice, func(a *dp.Allotment) { a.Paused = true })
	f.unchanged(dp.CodeForbidden, func() error { _, err := f.Charge(ctx, small); return err })

	_, err := f.office.CreateConsumer(ctx, "root", dp.Consumer{Name: "carol", Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}, "")
	check(t, err)
	nobody := ask("carol", "no allotment")
	e = f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, nobody); return err })
	if e.Left.Epsilon != 0 {
		t.Errorf("without an allotment %v is left", e.Left.Epsilon)
	}
	elsewhere := ask(alice, "no dataset")
	elsewhere.Dataset = "none"
	f.unchanged(dp.CodeNotFound, func() error { _, err := f.Charge(ctx, elsewhere); return err })
	wide := ask(alice, "too wide")
	wide.Blocks = nil
	for n := range 401 {
		wide.Blocks = append(wide.Blocks, fmt.Sprintf("%04d", n))
	}
	f.unchanged(dp.CodeTooLarge, func() error { _, err := f.Charge(ctx, wide); return err })
}

// What the walk never sends is refused too: a repeated block would be charged once, a negative loss would refill.
func TestImpossibleChargeIsRefused(t *testing.T) {
	f := newFixture(t)
	before := f.dump()
	for name, spoil := range map[string]func(*answer.ChargeRequest){
		"repeated block":  func(r *answer.ChargeRequest) { r.Blocks = []string{"2026-01", "2026-01"} },
		"unsorted blocks": func(r *answer.ChargeRequest) { r.Blocks = []string{"2026-02", "2026-01"} },
		"no block":        func(r *answer.ChargeRequest) { r.Blocks = nil },
		"no loss":         func(r *answer.ChargeRequest) { r.Loss = dp.Loss{} },
		"negative loss":   func(r *answer.ChargeRequest) { r.Loss.Epsilon = -1 },
		"negative delta":  func(r *answer.ChargeRequest) { r.Loss.Delta = -1 },
		"negative rho":    func(r *answer.ChargeRequest) { r.Loss.Rho = -1 },
		"negative deltaz": func(r *answer.ChargeRequest) { r.Loss.DeltaZ = -1 },
		"no plan":         func(r *answer.ChargeRequest) { r.Plan = "" },
		"no source":       func(r *answer.ChargeRequest) { r.Source = "rel_unknown" },
	} {
		r := ask(alice, "plan")
		spoil(&r)
		if _, err := f.Charge(ctx, r); err == nil {
			t.Errorf("%s was charged", name)
		}
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
}

func TestLargestChargeFits(t *testing.T) {
	f := newFixture(t)
	r := ask(alice, "many blocks")
	r.Blocks = nil
	for n := range 400 {
		r.Blocks = append(r.Blocks, fmt.Sprintf("%04d-%02d", 1990+n/12, 1+n%12))
	}
	c := f.charge(keyed(r, "key", 1))
	if len(c.Snapshot.Blocks) != 400 || f.spent(alice, "1990-01") != r.Loss || f.spent("", "2023-04") != r.Loss {
		t.Fatalf("charged %d blocks", len(c.Snapshot.Blocks))
	}
}

func TestChargeUnderAnEarlierPolicyIsPricedAgain(t *testing.T) {
	f := newFixture(t)
	one := uint64(1)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 5 * dp.EpsilonOne })
	before := f.dump()
	if _, err := f.Charge(ctx, ask(alice, "plan")); !errors.Is(err, answer.ErrPolicyChanged) {
		t.Fatalf("got %v", err)
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	r := ask(alice, "plan")
	r.PolicyVersion = 2
	f.charge(r)
}

func TestChangedBudgetKeepsWhatWasSpent(t *testing.T) {
	f := newFixture(t)
	r := ask(alice, "plan")
	r.Loss = pure(600)
	f.charge(r)
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = pure(500).Epsilon })
	e := f.unchanged(dp.CodeBudgetExhausted, func() error { _, err := f.Charge(ctx, ask(alice, "frozen")); return err })
	if e.Left.Epsilon != 0 {
		t.Fatalf("%v is left of a frozen account", e.Left.Epsilon)
	}
	one := uint64(1)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 20 * dp.EpsilonOne })
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = pure(700).Epsilon })
	next := ask(alice, "thawed")
	next.PolicyVersion = 2
	c := f.charge(next)
	if c.Left.Epsilon != 0 || f.spent("", "2026-01").Epsilon != pure(700).Epsilon {
		t.Fatalf("left %v after %v", c.Left, f.spent("", "2026-01"))
	}
}

func TestIdempotencyKeyIsChargedOnce(t *testing.T) {
	f := newFixture(t)
	f.load("first", 1, january)
	r := keyed(ask(alice, "plan"), "key", 1)
	first := f.charge(r)

	// While the attempt runs, the same question waits and another one is a conflict.
	e := f.unchanged(dp.CodeUnavailable, func() error { _, err := f.Charge(ctx, r); return err })
	if e.RetryAfter != lease {
		t.Fatalf("retry after %v", e.RetryAfter)
	}
	f.unchanged(dp.CodeConflict, func() error { _, err := f.Charge(ctx, keyed(r, "key", 2)); return err })

	// Rows that come meanwhile do not change what the charge answers over.
	f.load("second", 2, january)
	f.advance(lease)
	second := f.charge(r)
	if second.Charge.ID != first.Charge.ID || second.Attempt != 2 || second.Outcome != nil || second.Snapshot.Blocks[0].Version != 1 {
		t.Fatalf("the second attempt is %+v", second)
	}

	published := f.publish(second, "rel_1", "plan")
	for range 2 {
		var again answer.Charged
		f.unchangedBy(func() { again = f.charge(r) })
		if again.Charge.ID != first.Charge.ID || again.Outcome == nil || fmt.Sprintf("%+v", *again.Outcome.Release) != fmt.Sprintf("%+v", *published.Release) {
			t.Fatalf("the repeat is %+v", again)
		}
	}
	f.unchanged(dp.CodeConflict, func() error { _, err := f.Charge(ctx, keyed(r, "key", 2)); return err })

	// A key is the caller's own, and without one every charge is new.
	f.charge(keyed(ask(bob, "plan"), "key", 2))
	bare := ask(alice, "plan")
	if one, other := f.charge(bare), f.charge(bare); one.Charge.ID == other.Charge.ID {
		t.Fatal("charges without a key are one")
	}
	if got := f.spent(alice, "2026-01").Epsilon; got != pure(300).Epsilon {
		t.Fatalf("spent %v by three charges of 0.1", got)
	}
}

func (f *fixture) unchangedBy(call func()) {
	f.t.Helper()
	before := f.dump()
	call()
	if !maps.Equal(before, f.dump()) {
		f.t.Fatal("a repeat changed the ledger")
	}
}

func TestThirdDeadAttemptSettlesTheCharge(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	var last answer.Charged
	for n := 1; n <= 3; n++ {
		last = f.charge(r)
		if last.Attempt != n || last.Outcome != nil {
			t.Fatalf("attempt %d is %+v", n, last)
		}
		f.advance(lease)
	}
	settled := f.charge(r)
	if settled.Outcome == nil || settled.Outcome.Failure == nil || settled.Outcome.Failure.Code != dp.CodeUnavailable {
		t.Fatalf("the fourth is %+v", settled)
	}
	// The slow third attempt comes too late: what was said stands.
	late := f.publish(last, "rel_late", "plan")
	if late.Release != nil || late.Failure.Message != settled.Outcome.Failure.Message {
		t.Fatalf("the late attempt got %+v", late)
	}
	if again := f.charge(r); again.Outcome.Failure.Message != settled.Outcome.Failure.Message {
		t.Fatalf("the repeat is %+v", again.Outcome)
	}
	if got := f.spent(alice, "2026-01"); got != r.Loss {
		t.Fatalf("spent %v by one charge", got)
	}
	entries, _, err := f.Entries(ctx, alice, "", "", 0)
	check(t, err)
	if len(entries) != 1 || entries[0].Failure != dp.CodeUnavailable || entries[0].Attempts != 3 || entries[0].Release != "" {
		t.Fatalf("entries are %+v", entries)
	}
}

func TestAttemptOfAnEndedProcessIsDeadAtOnce(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	f.charge(r)
	f.reopen()
	if second := f.charge(r); second.Attempt != 2 {
		t.Fatalf("attempt %d", second.Attempt)
	}
}

// Another plan is another draw with another price: the charge for the first cannot pay for it.
func TestChangedPlanUnderAKeySettlesTheCharge(t *testing.T) {
	f := newFixture(t)
	f.charge(keyed(ask(alice, "plan under version 1"), "key", 1))
	f.advance(lease)
	c := f.charge(keyed(ask(alice, "plan under version 2"), "key", 1))
	if c.Outcome == nil || c.Outcome.Failure == nil || c.Outcome.Failure.Code != dp.CodeUnavailable {
		t.Fatalf("got %+v", c)
	}
}

func TestConcurrentRequestsUnderOneKeyAreOneCharge(t *testing.T) {
	f := newFixture(t)
	var group sync.WaitGroup
	var charged, told atomic.Int64
	for range 32 {
		group.Go(func() {
			_, err := f.Charge(ctx, keyed(ask(alice, "plan"), "key", 1))
			var e *dp.Error
			switch {
			case err == nil:
				charged.Add(1)
			case errors.As(err, &e) && e.Code == dp.CodeUnavailable:
				told.Add(1)
			}
		})
	}
	group.Wait()
	if charged.Load() != 1 || told.Load() != 31 || f.spent(alice, "2026-01") != pure(100) {
		t.Fatalf("%d charged, %d told to wait, spent %v", charged.Load(), told.Load(), f.spent(alice, "2026-01"))
	}
}
