package ledger

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// behind is a ledger that was restored from an older copy: alice's second charge is not in it.
func behind(t testing.TB) *fixture {
	f := withRelease(t)
	old := f.copied()
	r := ask(alice, "lost")
	r.Loss = pure(300)
	f.charge(r)
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	return f.at(old)
}

func TestWriteOffSpendsAllThatWasInForce(t *testing.T) {
	f := behind(t)
	f.refuses(StateBehind)
	before := f.Status()
	check(t, f.WriteOff(ctx, "root", "restored the copy of last night", nil))

	s := f.Status()
	if s.State != StateOK || s.Length != before.Length+2 { // the second settles bob's charge
		t.Fatalf("the status is %+v", s)
	}
	// One that was charged, and one that was not.
	for _, c := range []struct {
		consumer, block string
		want            dp.Loss
	}{
		{alice, "2026-01", accounting.Add(pure(100), dp.Loss{Epsilon: dp.EpsilonOne, Rho: dp.RhoUnknown})},
		{"", "2026-01", accounting.Add(pure(100), dp.Loss{Epsilon: 10 * dp.EpsilonOne, Rho: dp.RhoUnknown})},
		{bob, "2026-03", dp.Loss{Epsilon: dp.EpsilonOne, Rho: dp.RhoUnknown}},
		{"somebody who was lost", "1999-12", dp.Loss{Epsilon: dp.EpsilonOne, Rho: dp.RhoUnknown}},
		{"", "2026-04", dp.Loss{Epsilon: 10 * dp.EpsilonOne, Rho: dp.RhoUnknown}}, // that of now
		{bob, "2026-05", dp.Loss{}},
		{"", "2026-05", dp.Loss{}},
	} {
		if got := f.counted(c.consumer, c.block); got != c.want {
			t.Errorf("%s %s has spent %+v, want %+v", c.consumer, c.block, got, c.want)
		}
	}
	// Nothing more is admitted, not the least, nor by an allotment alone.
	for _, who := range []string{alice, bob} {
		r := ask(who, "after")
		r.Loss = dp.Loss{Epsilon: 1, Rho: 1}
		_, err := f.Charge(ctx, r)
		if e := wantCode(t, dp.CodeBudgetExhausted, err); e.Left == nil || e.Left.Epsilon != 0 {
			t.Fatalf("left is %+v", e.Left)
		}
	}
	// The future begins fresh.
	r := ask(bob, "after")
	r.Blocks, r.Loss = []string{"2026-05"}, pure(1000)
	f.charge(r)
}

// counted is what an account has spent, with what was written off.
func (f *fixture) counted(consumer, block string) (spent dp.Loss) {
	f.t.Helper()
	check(f.t, f.read(ctx, func(v view) error {
		a, err := accountOf(v, dataset, block, consumer)
		spent = a.Spent
		return err
	}))
	return spent
}

func TestBudgetRaisedAfterAWriteOffAdmitsWhatIsAboveIt(t *testing.T) {
	f := behind(t)
	check(t, f.WriteOff(ctx, "root", "restored", nil))
	one := uint64(1)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 11 * dp.EpsilonOne })
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 2 * dp.EpsilonOne })
	// 0.1 is remembered of the cap and of the allotment, 10 and 1 were written off: 0.9 is left of both.
	r := ask(alice, "after")
	r.PolicyVersion, r.Loss = 2, pure(901)
	_, err := f.Charge(ctx, r)
	wantCode(t, dp.CodeBudgetExhausted, err)
	r.Loss = pure(900)
	f.charge(r)
	r.Loss, r.Plan = dp.Loss{Epsilon: 1, Rho: 1}, "the least"
	_, err = f.Charge(ctx, r)
	wantCode(t, dp.CodeBudgetExhausted, err)

	// It all stands after the ledger was opened again.
	check(t, f.Ledger.Close())
	l, err := Open(f.dir, Options{Clock: f.clock, Witness: f.Status().Witness})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	f.Ledger = l
	_, err = f.Charge(ctx, r)
	wantCode(t, dp.CodeBudgetExhausted, err)
}

func TestWriteOffTakesTheGreaterOfBudgetAndAmount(t *testing.T) {
	f := behind(t)
	check(t, f.WriteOff(ctx, "root", "the cap was 12 for a week", &dp.Budget{Epsilon: 12 * dp.EpsilonOne, Delta: 7}))
	lost := dp.Loss{Epsilon: 12 * dp.EpsilonOne, Delta: 7, Rho: dp.RhoUnknown, DeltaZ: 7}
	if got := f.counted("", "2026-02"); got != lost {
		t.Errorf("a cap has spent %+v", got)
	}
	if got := f.counted(bob, "2026-02"); got != lost {
		t.Errorf("an allotment has spent %+v", got)
	}
	// A second one adds to the first.
	check(t, f.WriteOff(ctx, "root", "and once more", nil))
	if got, want := f.counted("", "2026-02").Epsilon, 22*dp.EpsilonOne; got != want {
		t.Errorf("a cap has spent %v after two write-offs, want %v", got, want)
	}
	if got, want := f.counted(bob, "2026-02").Epsilon, 13*dp.EpsilonOne; got != want {
		t.Errorf("an allotment has spent %v after two write-offs, want %v", got, want)
	}
}

// Another consumer's larger allotment may have been this one's, in what was lost.
func TestWriteOffSpendsTheLargestAllotmentOfAll(t *testing.T) {
	f := newFixture(t)
	f.allot(bob, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 5} })
	check(t, f.WriteOff(ctx, "root", "ledger and witness were restored together", nil))
	want := dp.Loss{Epsilon: 3 * dp.EpsilonOne, Delta: 5, Rho: dp.RhoUnknown, DeltaZ: 5}
	if got := f.counted(alice, "2026-01"); got != want {
		t.Fatalf("alice has spent %+v, want %+v", got, want)
	}
}

// Rows or charges of a later block may have been lost as well as those that are remembered.
func TestWriteOffReachesBlocksOfTheFutureThatWereChargedOrLoaded(t *testing.T) {
	for name, touch := range map[string]func(*fixture){
		"charged": func(f *fixture) {
			r := ask(alice, "future")
			r.Blocks = []string{"2026-07"}
			f.charge(r)
		},
		"loaded": func(f *fixture) { f.load("future", 1, []string{"2026-07"}) },
	} {
		f := newFixture(t)
		touch(f)
		check(t, f.WriteOff(ctx, "root", "lost", nil))
		if f.counted(bob, "2026-07").Rho != dp.RhoUnknown || f.counted(bob, "2026-06").Rho != dp.RhoUnknown || f.counted(bob, "2026-08") != (dp.Loss{}) {
			t.Errorf("%s: the accounts of 2026-06 to 2026-08 have spent %v, %v, %v", name, f.counted(bob, "2026-06"), f.counted(bob, "2026-07"), f.counted(bob, "2026-08"))
		}
	}
}

// A dataset that was declared in what was lost may have been charged there.
func TestDatasetDeclaredAfterAWriteOffHasItsFirstCapSpent(t *testing.T) {
	f := newFixture(t)
	const fresh = "fresh"
	declare := func(f *fixture) {
		f.applyPolicy(nil, func(p *dp.Policy) { p.Name, p.Cap.Delta = fresh, 7 })
		_, _, err := f.office.SetAllotment(ctx, "root", dp.Allotment{Consumer: alice, Dataset: fresh, Budget: dp.Budget{Epsilon: 10 * dp.EpsilonOne}}, nil, "a test")
		check(t, err)
	}
	charge := func(f *fixture, version uint64, block string, thousandths int64) error {
		r := ask(alice, fmt.Sprint("plan ", block, thousandths))
		r.Dataset, r.PolicyVersion, r.Blocks, r.Loss = fresh, version, []string{block}, pure(thousandths)
		_, err := f.Charge(ctx, r)
		return err
	}
	old := f.copied()
	declare(f)
	check(t, charge(f, 1, "2026-01", 10_000))
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	f = f.at(old)
	check(t, f.WriteOff(ctx, "root", "restored", nil))

	declare(f)
	wantCode(t, dp.CodeBudgetExhausted, charge(f, 1, "2026-01", 1))
	wantCode(t, dp.CodeBudgetExhausted, charge(f, 1, "2026-04", 1))
	check(t, charge(f, 1, "2026-05", 1)) // had no rows in what was lost
	// An officer raises both on purpose.
	one, two := uint64(1), uint64(2)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Name, p.Cap.Delta, p.Cap.Epsilon = fresh, 7, 12*dp.EpsilonOne })
	wantCode(t, dp.CodeBudgetExhausted, charge(f, 2, "2026-01", 1))
	_, _, err := f.office.SetAllotment(ctx, "root", dp.Allotment{Consumer: alice, Dataset: fresh, Budget: dp.Budget{Epsilon: 12 * dp.EpsilonOne, Delta: 28}}, &one, "a test")
	check(t, err)
	f.applyPolicy(&two, func(p *dp.Policy) { p.Name, p.Cap.Delta, p.Cap.Epsilon = fresh, 28, 12*dp.EpsilonOne })
	wantCode(t, dp.CodeBudgetExhausted, charge(f, 3, "2026-01", 2001))
	check(t, charge(f, 3, "2026-01", 2000))

	// Each write-off may stand for another loss; one that says more counts for more.
	check(t, f.WriteOff(ctx, "root", "and once more", &dp.Budget{Epsilon: 11 * dp.EpsilonOne}))
	f.applyPolicy(nil, func(p *dp.Policy) { p.Name = "another" })
	var got []writtenOff
	check(t, f.read(ctx, func(v view) error {
		d, err := mustLoad[datasetRecord](v, datasetKey("another"))
		got = d.WrittenOff
		return err
	}))
	if len(got) != 2 || got[0].Cap.Epsilon != 10*dp.EpsilonOne || got[1].Cap.Epsilon != 11*dp.EpsilonOne || got[1].Through != "2026-04" || got[1].Cap != got[1].Allotments {
		t.Fatalf("a dataset begins with %+v", got)
	}
	f.verified()
}

// A write-off is one entry: there are no more datasets than it holds, several times over.
func TestWriteOffHoldsAsManyDatasetsAsThereMayBe(t *testing.T) {
	f := newFixture(t)
	policy, err := f.Policy(ctx, dataset)
	check(t, err)
	declare := func(number int) error {
		return f.Change(ctx, office.Change{At: f.clock(), Actor: "root"}, func(b office.Tx) error {
			p := policy
			p.Name, p.Version = fmt.Sprintf("%s-%03d", strings.Repeat("n", 60), number), 1
			return b.PutPolicy(p)
		})
	}
	errs := make([]error, f.limits.Datasets-1)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = declare(i) })
	}
	all.Wait()
	check(t, errors.Join(errs...))
	wantCode(t, dp.CodeTooLarge, declare(len(errs)))
	for range 8 {
		check(t, f.WriteOff(ctx, "root", strings.Repeat("r", maxReason), nil))
	}
	f.verified()
}

// Until rows are loaded, a policy may go from one kind of block to another: what was lost may have done so.
func TestWriteOffReachesBlocksOfEveryKind(t *testing.T) {
	for kind, blocks := range map[dp.Block]struct{ past, future string }{
		dp.Quarter: {"2026-Q2", "2026-Q3"}, dp.Year: {"2026", "2027"}, dp.All: {"all", ""}, dp.Month: {"2026-04", "2026-05"},
	} {
		f := newFixture(t)
		work := func(f *fixture) error {
			one := uint64(1)
			f.applyPolicy(&one, func(p *dp.Policy) { p.Unit.Block, p.Default.Epsilon = kind, dp.EpsilonOne/20 })
			f.load("first", 1, []string{blocks.past})
			r := ask(alice, "plan")
			r.PolicyVersion, r.Blocks, r.Loss = 2, []string{blocks.past}, pure(1000)
			_, err := f.Charge(ctx, r)
			return err
		}
		old := f.copied()
		check(t, work(f))
		check(t, f.Ledger.Close())
		old.witness = f.site().witness
		f = f.at(old)
		check(t, f.WriteOff(ctx, "root", "restored", nil))
		wantCode(t, dp.CodeBudgetExhausted, work(f))
		if blocks.future != "" {
			r := ask(alice, "plan")
			r.PolicyVersion, r.Blocks, r.Loss = 2, []string{blocks.future}, pure(1000)
			f.charge(r)
		}
		f.verified()
	}
}

// What was charged by quarter before the policy went over to months ends later than the month of now.
func TestWriteOffReachesTheEndOfBlocksOfAnEarlierKind(t *testing.T) {
	f := newFixture(t)
	one, two := uint64(1), uint64(2)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Unit.Block = dp.Quarter })
	r := ask(alice, "plan")
	r.PolicyVersion, r.Blocks = 2, []string{"2026-Q3"}
	f.charge(r)
	f.applyPolicy(&two, func(*dp.Policy) {})
	check(t, f.WriteOff(ctx, "root", "lost", nil))
	if f.counted(bob, "2026-09").Rho != dp.RhoUnknown || f.counted(bob, "2026-10") != (dp.Loss{}) {
		t.Fatalf("September and October have spent %v and %v", f.counted(bob, "2026-09"), f.counted(bob, "2026-10"))
	}
	f.verified()
}

// A clock that was set back does not shorten what was lost.
func TestWriteOffReachesTheWitnesssTime(t *testing.T) {
	f := behind(t)
	f.advance(-100 * 24 * time.Hour)
	check(t, f.WriteOff(ctx, "root", "lost", nil))
	if f.counted(bob, "2026-04").Rho != dp.RhoUnknown {
		t.Fatal("the block of the witness's time is fresh")
	}
}

func TestWriteOffIsTheWayOutOfEveryState(t *testing.T) {
	for name, prepare := range map[State]func(f *fixture) site{
		StateBehind: func(f *fixture) site {
			old := f.copied()
			f.charge(ask(alice, "lost"))
			check(f.t, f.Ledger.Close())
			return site{old.dir, f.site().witness}
		},
		StateFork: func(f *fixture) site {
			clone := f.copied()
			g := f.at(clone)
			g.charge(ask(bob, "one"))
			g.charge(ask(bob, "two"))
			check(f.t, g.Close())
			f.charge(ask(alice, "lost"))
			check(f.t, f.Ledger.Close())
			return site{clone.dir, f.site().witness}
		},
		StateMissing: func(f *fixture) site {
			s := f.copied()
			return site{s.dir, s.dir + ".elsewhere"}
		},
		StateDamaged: func(f *fixture) site {
			s := f.copied()
			s.edit(f.t, func(data []byte) { data[0]++; data[slotDistance]++ })
			return s
		},
	} {
		f := withRelease(t)
		s := prepare(f)
		g := f.at(s)
		g.refuses(name)
		check(t, g.WriteOff(ctx, "root", "lost", nil))
		r := ask(bob, "after")
		r.Blocks = []string{"2026-09"}
		g.charge(r)
		if g.counted(alice, "2026-01").Rho != dp.RhoUnknown {
			t.Errorf("%s: nothing was written off", name)
		}
		check(t, g.Close())
		h := f.at(s)
		if got := h.Status(); got.State != StateOK {
			t.Errorf("%s: opened again it is %+v", name, got)
		}
		if h.opening == 0 || h.opening < 3 {
			t.Errorf("%s: the opening was not counted", name)
		}
	}
}

func TestWriteOffAfterTheWitnessMoved(t *testing.T) {
	for name, move := range map[string]func(path string, old []byte) error{
		"removed": func(path string, _ []byte) error { return os.Remove(path) },
		"replaced": func(path string, old []byte) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, old, 0o600))
		},
		"written over": func(path string, old []byte) error { return os.WriteFile(path, old, 0o600) },
	} {
		f := newFixture(t)
		old, err := os.ReadFile(f.site().witness)
		check(t, err)
		f.publish(f.charge(ask(alice, "plan")), "rel_0", "plan")
		check(t, move(f.site().witness, old))
		_, err = f.Charge(ctx, ask(alice, "another"))
		wantCode(t, dp.CodeUnavailable, err)
		check(t, f.WriteOff(ctx, "root", "the disk of the witness is gone", nil))
		r := ask(bob, "after")
		r.Blocks = []string{"2026-09"}
		f.charge(r)
		f.reopen()
		if s := f.Status(); s.State != StateOK {
			t.Fatalf("%s: opened again it is %+v", name, s)
		}
	}
}

// The first one that is durable counts the opening, however many were tried before.
func TestWriteOffAfterOneThatFailedCountsTheOpening(t *testing.T) {
	f := newFixture(t)
	s := f.site()
	check(t, f.Ledger.Close())
	check(t, os.Remove(s.witness))
	full := &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	var nearly atomic.Bool
	l, err := Open(s.dir, Options{Clock: f.clock, Lease: lease, Witness: s.witness, Room: func() error {
		if nearly.Load() {
			return full
		}
		return nil
	}})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	f.Ledger = l
	nearly.Store(true)
	if err := f.WriteOff(ctx, "root", "lost", nil); !errors.Is(err, full) {
		t.Fatalf("without room: %v", err)
	}
	nearly.Store(false)
	check(t, f.WriteOff(ctx, "root", "lost", nil))
	r := ask(bob, "after")
	r.Blocks = []string{"2026-09"}
	f.charge(r)
	m, err := decode[metaRecord]([]byte(f.dump()[string(metaKey())]))
	check(t, err)
	if m.Openings != 2 || f.opening != 2 {
		t.Fatalf("this is opening %d, and %d are counted, want 2", f.opening, m.Openings)
	}
	f.verified()
}

// Where a write-off cannot have the witness, the ledger says that it moved, and takes nothing until it can.
func TestWriteOffThatCannotHaveTheWitnessLeavesTheLedgerRefusing(t *testing.T) {
	for name, c := range map[string]struct {
		move func(f *fixture, path string) error
		want dp.Code
	}{
		"of another ledger in its place": {func(f *fixture, path string) error {
			data, err := os.ReadFile(newFixture(t).site().witness)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, data, 0o600))
		}, dp.CodeConflict},
		"of another ledger written over it": {func(f *fixture, path string) error {
			data, err := os.ReadFile(newFixture(t).site().witness)
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		}, dp.CodeConflict},
		"a directory in its place": {func(f *fixture, path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, dp.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			f := withRelease(t)
			path := f.Status().Witness
			before, err := os.ReadFile(path)
			check(t, err)
			check(t, c.move(f, path))
			wantCode(t, c.want, f.WriteOff(ctx, "root", "lost", nil))
			f.refuses(StateMoved)
			check(t, os.RemoveAll(path))
			check(t, os.WriteFile(path, before, 0o600))
			f.refuses(StateMoved)
			check(t, f.WriteOff(ctx, "root", "lost", nil))
			r := ask(bob, "after")
			r.Blocks = []string{"2026-09"}
			f.charge(r)
			f.verified()
		})
	}
}

// The write-off is durable before the witness is set anew. If the process ends in between, the next one goes on.
func TestWriteOffWhoseWitnessWasNotSetAnewIsNotDueAgain(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_0", "plan")
	old := f.copied()
	f.publish(f.charge(ask(alice, "lost")), "rel_1", "lost")
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	f = f.at(old)
	before := f.Status().Witness + ".before"
	copyFile(t, f.Status().Witness, before)
	check(t, f.WriteOff(ctx, "root", "lost", nil))
	want := f.counted(alice, "2026-01")
	s := f.copiedFrom(before)
	g := f.at(s)
	if got := g.Status(); got.State != StateOK || g.counted(alice, "2026-01") != want {
		t.Fatalf("opened as %+v", got)
	}
	check(t, g.Close())

	// One entry later it does not answer for that witness any more.
	r := ask(bob, "after")
	r.Blocks = []string{"2026-09"}
	f.charge(r)
	if got := f.at(f.copiedFrom(before)).Status(); got.State == StateOK {
		t.Fatal("an old witness is taken for a new one")
	}
}

// copiedFrom is a copy of the ledger as it is on disk now, with another witness.
func (f *fixture) copiedFrom(witness string) site {
	f.t.Helper()
	dir := f.t.TempDir() + "/copy"
	copyDir(f.t, f.dir, dir)
	copyFile(f.t, witness, dir+".witness")
	return site{dir, dir + ".witness"}
}

// What was lost may hold the answer to a charge that is remembered as open: another draw would be one that
// nobody paid for.
func TestOpenChargeIsNotAnsweredAfterAWriteOff(t *testing.T) {
	f := newFixture(t)
	r := keyed(ask(alice, "plan"), "key", 1)
	c := f.charge(r)
	old := f.copied()
	f.publish(c, "rel_lost", "plan")
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	g := f.at(old)
	check(t, g.WriteOff(ctx, "root", "lost", nil))
	if open := g.openCharges(); len(open) != 0 {
		t.Fatalf("open charges %v", open)
	}
	again, err := g.Charge(ctx, r)
	check(t, err)
	if again.Outcome == nil || again.Outcome.Failure == nil || again.Outcome.Failure.Code != dp.CodeUnavailable {
		t.Fatalf("asked again: %+v", again)
	}
}

func TestRunningAttemptCannotPublishAfterAWriteOff(t *testing.T) {
	f := newFixture(t)
	small, big := f.charge(ask(alice, "small")), f.charge(ask(alice, "plan"))
	free := f.hold() // so that the write-off and what follows wait together
	off, renewed := make(chan error), make(chan error)
	go func() { off <- f.WriteOff(ctx, "root", "ledger and witness were restored together", nil) }()
	f.queued(1)
	go func() { renewed <- f.Renew(ctx, small.Charge.ID, small.Attempt) }()
	f.queued(2)
	free()
	check(t, <-off)
	if err := <-renewed; !errors.Is(err, answer.ErrAttemptLost) {
		t.Fatalf("a lease was renewed: %v", err)
	}
	for _, c := range []answer.Charged{small, big} {
		plan := f.planOf(c)
		groups := 8_000 // in pieces that are written before
		if plan == "small" {
			groups = 1
		}
		r := large(c, "rel_"+plan, groups)
		r.Plan = plan
		o, err := f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Release: r})
		check(t, err)
		if o.Failure == nil {
			t.Fatal("a charge from before the write-off was answered")
		}
	}
	for key := range f.dump() {
		if key[0] == kindRelease || key[0] == kindBlob || key[0] == kindUnfinished || key[0] == kindOpen {
			t.Fatalf("a key of kind %c is left", key[0])
		}
	}
}

// What waits before a write-off is durable before it is decided, or comes to nothing.
func TestWriteOffLeavesPiecesThatAreBeingWrittenToTheirPublisher(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	r := large(c, "rel_1", 12_000)
	data, err := encode(*r)
	check(t, err)
	b := blob{name: "blob", data: data, pieces: (len(data) + pieceBytes - 1) / pieceBytes, stored: true}
	for i := range b.pieces {
		if i == 2 {
			check(t, f.WriteOff(ctx, "root", "ledger and witness were restored together", nil))
		}
		check(t, f.writePiece(ctx, b, i))
	}
	check(t, f.write(ctx, func(t *tx) error {
		t.kind = entryOutcome
		_, _, err := f.decideOutcome(t, c.Charge.ID, c.Attempt, answer.Outcome{Release: r}, b)
		return err
	}))
	for key := range f.dump() {
		if key[0] == kindBlob || key[0] == kindUnfinished {
			t.Fatalf("a key of kind %c is left", key[0])
		}
	}
	f.verified()
}

// Pieces of a process that ended while the ledger refuses go with the write-off.
func TestWriteOffRemovesWhatEndedProcessesLeft(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	data, err := encode(*large(c, "rel_1", 12_000))
	check(t, err)
	b := blob{name: "blob", data: data, pieces: 2}
	for i := range b.pieces {
		check(t, f.writePiece(ctx, b, i))
	}
	old := f.copied()
	f.charge(ask(alice, "lost"))
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	f = f.at(old)
	check(t, f.WriteOff(ctx, "root", "restored", nil))
	for key := range f.dump() {
		if key[0] == kindBlob || key[0] == kindUnfinished {
			t.Fatalf("a key of kind %c is left", key[0])
		}
	}
	f.verified()
}

func TestWriteOffRestsOnNothingThatWasRefused(t *testing.T) {
	f := newFixture(t)
	policy, err := f.Policy(ctx, dataset)
	check(t, err)
	one, larger := uint64(1), policy.Policy
	larger.Cap.Epsilon *= 2
	var changed, off error
	f.splitByRefusal(
		func() { _, _, changed = f.office.ApplyPolicy(ctx, "root", larger, &one, "a test") },
		func() { off = f.WriteOff(ctx, "root", "the witness was replaced", nil) })
	wantCode(t, dp.CodeUnavailable, changed)
	check(t, off)
	policy, err = f.Policy(ctx, dataset)
	check(t, err)
	if want := (dp.Loss{Epsilon: 10 * dp.EpsilonOne, Rho: dp.RhoUnknown}); policy.Version != 1 || f.counted("", "2026-01") != want {
		t.Fatalf("version %d of the policy is in force, and its cap has spent %+v", policy.Version, f.counted("", "2026-01"))
	}
	f.verified()
}

func TestWriteOffAmongWaitingWritesNamesTheHeadThatItWasMadeOver(t *testing.T) {
	f := newFixture(t)
	free := f.hold()
	var before, off, after error
	var all sync.WaitGroup
	all.Go(func() { _, before = f.Charge(ctx, ask(alice, "before")) })
	f.queued(1)
	all.Go(func() { off = f.WriteOff(ctx, "root", "ledger and witness were restored together", nil) })
	f.queued(2)
	all.Go(func() {
		r := ask(bob, "after")
		r.Blocks = []string{"2026-09"}
		_, after = f.Charge(ctx, r)
	})
	f.queued(3)
	free()
	all.Wait()
	check(t, errors.Join(before, off, after))
	f.verified()
}

// verified closes the ledger and has it verified from outside.
func (f *fixture) verified() {
	f.t.Helper()
	path := f.Status().Witness
	check(f.t, f.Ledger.Close())
	r, err := verify.Ledger(ctx, f.dir, verify.Options{Witness: path})
	check(f.t, err)
	if r.Finding != nil {
		f.t.Fatalf("verify: %s", r.Finding)
	}
}

func TestWriteOffIsRecorded(t *testing.T) {
	f := behind(t)
	before := f.Status()
	check(t, f.WriteOff(ctx, "root", "  restored the copy of last night ", &dp.Budget{Epsilon: 1}))
	var found int
	for key, value := range f.dump() {
		switch key[0] {
		case kindWriteOff:
			w, err := decode[writeOffRecord]([]byte(value))
			check(t, err)
			if w.Actor != "root" || w.Reason != "restored the copy of last night" || w.State != StateBehind || w.Cause == "" ||
				w.Length != before.Length || string(w.Head) != string(before.Head[:]) || w.WitnessLength <= w.Length || len(w.WitnessHead) != 32 || w.Amount.Epsilon != 1 {
				t.Errorf("recorded as %+v", w)
			}
			found++
		case kindChange:
			if strings.Contains(value, "write-off") {
				found++
			}
		}
	}
	if found != 2 {
		t.Fatalf("%d records", found)
	}
}

// Numbers of loads that were lost name segments of rows that are still there.
func TestLoadAfterAWriteOffGetsANumberThatNobodyHad(t *testing.T) {
	f := newFixture(t)
	old := f.copied()
	lost := f.load("lost", 1, january)
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	g := f.at(old)
	check(t, g.WriteOff(ctx, "root", "lost", nil))
	if next := g.load("again", 1, january); next.ID <= lost.ID {
		t.Fatalf("load %d after load %d was lost", next.ID, lost.ID)
	}
}

func TestWriteOffWithoutReasonOrWithAnAmountThatCannotBeIsRefused(t *testing.T) {
	f := behind(t)
	before := f.dump()
	for _, reason := range []string{"", "  ", "two\nlines", strings.Repeat("x", maxReason+1)} {
		wantCode(t, dp.CodeInvalidInput, f.WriteOff(ctx, "root", reason, nil))
	}
	for _, amount := range []dp.Budget{{Epsilon: -1}, {Delta: -1}, {Delta: dp.DeltaOne + 1}} {
		wantCode(t, dp.CodeInvalidInput, f.WriteOff(ctx, "root", "lost", &amount))
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	f.refuses(StateBehind)
}

func TestWriteOffIsRefusedWhileAnotherProcessHoldsTheWitness(t *testing.T) {
	f := withRelease(t)
	s := f.copied()
	check(t, os.Remove(s.witness))
	g := f.at(s)
	g.refuses(StateMissing)
	copyFile(t, f.site().witness, s.witness)
	h, err := openWitness(s.witness)
	check(t, err)
	before := g.dump()
	wantCode(t, dp.CodeConflict, g.WriteOff(ctx, "root", "lost", nil))
	if !maps.Equal(before, g.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
	check(t, h.close())
}
