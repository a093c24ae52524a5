package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// fixture is a ledger that is written to through its public methods.
type fixture struct {
	*ledger.Ledger
	t       testing.TB
	dir     string
	witness string
	mu      sync.Mutex
	now     time.Time // read by the ledger's own goroutine, too
	office  *office.Office
}

const lease = time.Minute

func newFixture(t testing.TB) *fixture {
	root := t.TempDir()
	f := &fixture{t: t, dir: filepath.Join(root, "ledger"), witness: filepath.Join(root, "elsewhere", "witness"), now: time.Date(2026, 4, 1, 12, 0, 0, 123456789, time.UTC)}
	f.open()
	t.Cleanup(f.close)
	f.must(f.Pair(t.Context(), [32]byte{7}))
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// wait has time pass, backwards if it is below 0.
func (f *fixture) wait(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) open() {
	f.t.Helper()
	l, err := ledger.Open(f.dir, ledger.Options{Clock: f.clock, Lease: lease, Witness: f.witness})
	f.must(err)
	f.Ledger, f.office = l, office.New(l, f.clock)
}

func (f *fixture) close() {
	f.t.Helper()
	if f.Ledger != nil {
		f.must(f.Ledger.Close())
		f.Ledger = nil
	}
}

func (f *fixture) reopen() {
	f.t.Helper()
	f.close()
	f.open()
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// policy puts the next version of a dataset's policy in force.
func (f *fixture) policy(name string, limit dp.Budget, ifMatch *uint64) {
	f.t.Helper()
	_, _, err := f.office.ApplyPolicy(f.t.Context(), "root", dp.Policy{
		Name: name, Kind: dp.Transactions, Population: 1_000_000,
		Unit: dp.Unit{Column: "customer_id", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "rfc3339"},
		Measures: []dp.Measure{{Name: "amount", Column: "amount", Scale: 2, Upper: 100}},
		Bounds:   dp.Bounds{MaxPartitions: 4, MaxRows: 4}, Cap: limit, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10},
		Purposes: []string{"reporting", "r"}, Audiences: []dp.Audience{dp.Internal},
	}, ifMatch, "a test")
	f.must(err)
}

func (f *fixture) hire(name string) {
	f.t.Helper()
	_, err := f.office.CreateConsumer(f.t.Context(), "root", dp.Consumer{Name: name, Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"reporting", "r"}}, "")
	f.must(err)
}

func (f *fixture) allot(consumer, dataset string, change func(*dp.Allotment)) {
	f.t.Helper()
	a, err := f.Allotment(f.t.Context(), consumer, dataset)
	f.must(err)
	var ifMatch *uint64
	if a.Version > 0 {
		ifMatch = &a.Version
	}
	change(&a)
	_, _, err = f.office.SetAllotment(f.t.Context(), "root", a, ifMatch, "a test")
	f.must(err)
}

// begin begins a load under the policy in force.
func (f *fixture) begin(dataset, name string, blocks []string) dp.Load {
	f.t.Helper()
	p, err := f.Policy(f.t.Context(), dataset)
	f.must(err)
	l, _, err := f.BeginLoad(f.t.Context(), dataset, p.Version, name, blocks)
	f.must(err)
	return l
}

func (f *fixture) load(dataset, name string, blocks []string) {
	f.t.Helper()
	l := f.begin(dataset, name, blocks)
	f.must(f.CommitLoad(f.t.Context(), l))
}

// pure is a loss of so many thousandths of epsilon, as Laplace noise costs it.
func pure(thousandths int64) dp.Loss {
	e := dp.Epsilon(thousandths) * dp.EpsilonOne / 1000
	return dp.Loss{Epsilon: e, Rho: accounting.PureRho(e)}
}

func (f *fixture) ask(consumer, dataset, plan string, l dp.Loss, blocks ...string) answer.ChargeRequest {
	f.t.Helper()
	p, err := f.Policy(f.t.Context(), dataset)
	f.must(err)
	return answer.ChargeRequest{Consumer: consumer, Dataset: dataset, PolicyVersion: p.Version, Purpose: "reporting", Plan: plan, Blocks: blocks, Loss: l}
}

func (f *fixture) charge(r answer.ChargeRequest) answer.Charged {
	f.t.Helper()
	c, err := f.Charge(f.t.Context(), r)
	f.must(err)
	return c
}

// publish answers a charge with a release of about so many bytes, and tells whether that became its outcome.
func (f *fixture) publish(c answer.Charged, id, plan string, size int) bool {
	f.t.Helper()
	list := []dp.Group{{Key: []string{"DE <&>" + strings.Repeat("x", size)}, Values: []dp.Value{{Value: 12.1, Low: 1. / 3, High: 23, SD: 5.98}}}}
	o, err := f.Publish(f.t.Context(), c.Charge.ID, c.Attempt, answer.Outcome{Release: &dp.Release{
		ID: id, Dataset: c.Charge.Dataset, PolicyVersion: c.Snapshot.PolicyVersion, Plan: plan, AsOf: c.Charge.At,
		Confidence: "0.95", By: []string{"country"}, Metrics: []string{"customers"},
		Groups: list, CanonicalQuery: `{"dataset":"<&>"}`,
		Charge: c.Charge, Blocks: c.Snapshot.Blocks, Also: c.Snapshot.Also, NoisedCoordinates: [][]int64{{12}}, PublishedByAttempt: c.Attempt,
	}})
	f.must(err)
	return o.Release != nil && o.Release.ID == id
}

func (f *fixture) fail(c answer.Charged) {
	f.t.Helper()
	_, err := f.Publish(f.t.Context(), c.Charge.ID, c.Attempt, answer.Outcome{Failure: &dp.Error{Code: dp.CodeUnavailable, Message: "no engine"}})
	f.must(err)
}

// months names so many months from January 2024 on.
func months(from, count int) (list []string) {
	for i := range count {
		list = append(list, time.Date(2024, time.Month(1+from+i), 1, 0, 0, 0, 0, time.UTC).Format("2006-01"))
	}
	return list
}

// verify checks a directory and fails the test if it could not.
func verify(t testing.TB, dir string, o Options) Report {
	t.Helper()
	r, err := Ledger(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fits checks that a directory fits.
func fits(t testing.TB, dir string, o Options) Report {
	t.Helper()
	r := verify(t, dir, o)
	if r.Finding != nil {
		t.Fatalf("an honest ledger does not fit: %v", r.Finding)
	}
	return r
}

// copyOf copies a directory, open or not.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := errors.Join(os.Mkdir(to, 0o700), copyFiles(context.Background(), dir, to)); err != nil {
		t.Fatal(err)
	}
	return to
}

// contents are the names and bytes of the files of a directory.
func contents(t testing.TB, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file.Name()+" "+string(text))
	}
	return strings.Join(slices.Sorted(slices.Values(all)), "\n")
}
