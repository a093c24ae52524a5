package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// fixture is an open ledger with a dataset, two consumers with allotments on it, and a clock that stands still.
type fixture struct {
	*Ledger
	t      testing.TB
	dir    string
	now    *atomic.Int64 // nanoseconds since 1970
	office *office.Office
}

const (
	dataset = "transactions"
	alice   = "alice"
	bob     = "bob"
	lease   = time.Minute
)

var (
	ctx      = context.Background()
	january  = []string{"2026-01"}
	quarter  = []string{"2026-01", "2026-02", "2026-03"}
	firstDay = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
)

func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t, dir: filepath.Join(t.TempDir(), "ledger"), now: new(atomic.Int64)}
	f.now.Store(firstDay.UnixNano())
	f.reopen()
	f.applyPolicy(nil, func(*dp.Policy) {})
	for _, name := range []string{alice, bob} {
		_, err := f.office.CreateConsumer(ctx, "root", dp.Consumer{Name: name, Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting"}}, "")
		check(t, err)
		f.allot(name, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: dp.EpsilonOne} })
	}
	return f
}

func (f *fixture) clock() time.Time        { return time.Unix(0, f.now.Load()) }
func (f *fixture) advance(d time.Duration) { f.now.Add(int64(d)) }

// reopen opens the ledger, closing it first where it is open.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.Ledger != nil {
		check(f.t, f.Ledger.Close())
	}
	f.Ledger = openAt(f.t, f.dir, f.clock)
	f.office = office.New(f.Ledger, f.clock)
}

func openAt(t testing.TB, dir string, clock func() time.Time) *Ledger {
	t.Helper()
	l, err := Open(dir, Options{Clock: clock, Lease: lease, Key: benchmarkKey(t)})
	check(t, err)
	t.Cleanup(func() { check(t, l.Close()) })
	return l
}

// applyPolicy puts the next version of the dataset's policy in force.
func (f *fixture) applyPolicy(ifMatch *uint64, change func(*dp.Policy)) dp.VersionedPolicy {
	f.t.Helper()
	p := dp.Policy{
		Name: dataset, Kind: dp.Transactions, Population: 1_000_000,
		Unit: dp.Unit{Column: "customer_id", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Measures: []dp.Measure{{Name: "amount", Column: "amount", Scale: 2, Upper: 100}},
		Bounds:   dp.Bounds{MaxPartitions: 4, MaxRows: 4},
		Cap:      dp.Budget{Epsilon: 10 * dp.EpsilonOne}, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10},
		Purposes: []string{"reporting"}, Audiences: []dp.Audience{dp.Internal},
	}
	change(&p)
	applied, _, err := f.office.ApplyPolicy(ctx, "root", p, ifMatch, "a test")
	check(f.t, err)
	return applied
}

// allot changes the allotment of a consumer.
func (f *fixture) allot(consumer string, change func(*dp.Allotment)) {
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

// pure is a loss of so many thousandths of epsilon, as Laplace noise costs it.
func pure(thousandths int64) dp.Loss {
	e := dp.Epsilon(thousandths) * dp.EpsilonOne / 1000
	return dp.Loss{Epsilon: e, Rho: accounting.PureRho(e)}
}

// ask asks for a tenth of epsilon in January.
func ask(consumer, plan string) answer.ChargeRequest {
	return answer.ChargeRequest{Consumer: consumer, Dataset: dataset, PolicyVersion: 1, Purpose: "reporting",
		Plan: plan, Blocks: january, Loss: pure(100)}
}

// keyed is a question under an idempotency key.
func keyed(r answer.ChargeRequest, key string, body byte) answer.ChargeRequest {
	r.Key, r.Body = key, [32]byte{body}
	return r
}

func (f *fixture) charge(r answer.ChargeRequest) answer.Charged {
	f.t.Helper()
	c, err := f.Charge(ctx, r)
	check(f.t, err)
	return c
}

// release is an answer to a charge.
func release(c answer.Charged, id, plan string) *dp.Release {
	return &dp.Release{
		ID: id, Dataset: c.Charge.Dataset, PolicyVersion: c.Snapshot.PolicyVersion, Plan: plan, AsOf: c.Charge.At,
		Confidence: "0.95", By: []string{"country"}, Metrics: []string{"customers"},
		Groups: []dp.Group{{Key: []string{"DE"}, Values: []dp.Value{{Value: 12.1, Low: 1. / 3, High: 23, SD: 5.98}}}},
		Charge: c.Charge, Blocks: c.Snapshot.Blocks, NoisedCoordinates: [][]int64{{12}}, PublishedByAttempt: c.Attempt,
	}
}

func (f *fixture) publish(c answer.Charged, id, plan string) answer.Outcome {
	f.t.Helper()
	o, err := f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Release: release(c, id, plan)})
	check(f.t, err)
	return o
}

// load commits a load of blocks.
func (f *fixture) load(name string, digest byte, blocks []string) dp.Load {
	f.t.Helper()
	l, _ := f.begin(name, blocks)
	l.Digest[0] = digest
	check(f.t, f.CommitLoad(ctx, l))
	return l
}

// spent is what an account was charged; an empty consumer names the cap.
func (f *fixture) spent(consumer, block string) dp.Loss {
	f.t.Helper()
	var a accountRecord
	check(f.t, f.read(ctx, func(v view) (err error) {
		a, err = loadAccount(v, accountKey(dataset, block, consumer))
		return err
	}))
	return a.Spent
}

// dump is every key and value of the ledger.
func (f *fixture) dump() map[string]string {
	f.t.Helper()
	all := map[string]string{}
	check(f.t, f.read(ctx, func(v view) error {
		it := v.txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			all[string(it.Item().KeyCopy(nil))] = string(value)
		}
		return nil
	}))
	return all
}

// state is a dump without what every opening adds: the count of openings and entries.
func state(dump map[string]string) map[string]string {
	rest := maps.Clone(dump)
	delete(rest, string(metaKey()))
	maps.DeleteFunc(rest, func(key, _ string) bool { return key[0] == kindEntry || key[0] == kindHashes })
	return rest
}

// unchanged runs what is to be refused, and checks the code and that not a byte of the ledger changed.
func (f *fixture) unchanged(code dp.Code, refused func() error) *dp.Error {
	f.t.Helper()
	before := f.dump()
	e := wantCode(f.t, code, refused())
	if !maps.Equal(before, f.dump()) {
		f.t.Fatal("a refusal changed the ledger")
	}
	return e
}

func wantCode(t testing.TB, code dp.Code, err error) *dp.Error {
	t.Helper()
	var e *dp.Error
	if !errors.As(err, &e) || e.Code != code || e.Message == "" {
		t.Fatalf("got %v, want %s with advice", err, code)
	}
	return e
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReopenedLedgerHoldsAllThatWasAcknowledged(t *testing.T) {
	f := newFixture(t)
	f.load("first", 1, quarter)
	c := f.charge(keyed(ask(alice, "plan"), "key", 1))
	f.publish(c, "rel_1", "plan")
	before := f.dump()
	f.reopen()
	after := f.dump()
	if len(state(before)) < 15 || !maps.Equal(state(before), state(after)) {
		t.Fatalf("%d records before, %d after", len(before), len(after))
	}
}

// A copy of the files right after an acknowledgement is what a killed process leaves.
func TestAcknowledgedChargeSurvivesTheProcess(t *testing.T) {
	f := newFixture(t)
	for n := range 5 {
		c := f.charge(ask(alice, fmt.Sprint("plan ", n)))
		f.publish(c, fmt.Sprint("rel_", n), fmt.Sprint("plan ", n))
		copied := filepath.Join(t.TempDir(), "copy")
		copyDir(t, f.dir, copied)
		copyFile(t, f.dir+".witness", copied+".witness")
		g := &fixture{t: t, Ledger: openAt(t, copied, f.clock)}
		if got, want := g.spent(alice, "2026-01"), f.spent(alice, "2026-01"); got != want || got.Epsilon != dp.Epsilon(n+1)*dp.EpsilonOne/10 {
			t.Fatalf("after %d charges the copy holds %v, the ledger %v", n+1, got, want)
		}
		if _, err := g.Release(ctx, alice, fmt.Sprint("rel_", n)); err != nil {
			t.Fatal(err)
		}
		check(t, g.Close())
	}
}

// copyDir copies a directory as it is at one moment: Badger may be replacing a log by a table meanwhile.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	names := func() (names []string) {
		entries, err := os.ReadDir(from)
		check(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	for {
		before := names()
		check(t, os.Mkdir(to, 0o700))
		var gone error
		for _, name := range before {
			if gone = tryCopy(filepath.Join(from, name), filepath.Join(to, name)); gone != nil {
				break
			}
		}
		if gone == nil && slices.Equal(before, names()) {
			return
		}
		if gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			t.Fatal(gone)
		}
		check(t, os.RemoveAll(to))
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	check(t, tryCopy(from, to))
}

func tryCopy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

func TestDirectoryIsHeldByOneLedger(t *testing.T) {
	f := newFixture(t)
	if l, err := Open(f.dir, Options{}); err == nil {
		t.Fatal("opened twice", l.Close())
	}
}

func TestLedgerOfAnotherFormatIsNotOpened(t *testing.T) {
	f := newFixture(t)
	check(t, f.write(ctx, func(t *tx) error {
		t.kind = entryChange
		return save(t, metaKey(), metaRecord{Format: format + 1})
	}))
	check(t, f.Ledger.Close())
	if l, err := Open(f.dir, Options{}); err == nil {
		t.Fatal("opened a format of the future", l.Close())
	}
}

func TestLedgerIsBoundToItsSecrets(t *testing.T) {
	f := newFixture(t)
	check(t, f.Pair(ctx, [32]byte{1}))
	f.reopen()
	check(t, f.Pair(ctx, [32]byte{1}))
	before := f.dump()
	if f.Pair(ctx, [32]byte{2}) == nil {
		t.Fatal("other secrets were accepted")
	}
	if !maps.Equal(before, f.dump()) {
		t.Fatal("a refusal changed the ledger")
	}
}

func TestClosedLedgerRefuses(t *testing.T) {
	f := newFixture(t)
	check(t, f.Ledger.Close())
	check(t, f.Ledger.Close())
	_, err := f.Charge(ctx, ask(alice, "plan"))
	wantCode(t, dp.CodeUnavailable, err)
	_, err = f.Policy(ctx, dataset)
	wantCode(t, dp.CodeUnavailable, err)
}
