package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// history does so many things at random that a service does with its ledger, and counts them.
type history struct {
	*fixture
	random   *rand.Rand
	charges  int
	releases int
	open     []answer.Charged
	plans    map[string]string // charge -> plan
	keys     map[string]answer.ChargeRequest
	drawn    []drawn
	accounts map[string]bool
	several  int               // charges of several prices
	versions map[string]uint64 // of policies
	loads    []dp.Load
	serial   int
}

type drawn struct {
	request answer.ChargeRequest
	release string
}

var datasets = []string{"engagement", "transactions"}

func newHistory(t testing.TB, seed uint64) *history {
	h := &history{
		fixture: newFixture(t), random: rand.New(rand.NewPCG(seed, 17)),
		plans: map[string]string{}, keys: map[string]answer.ChargeRequest{}, accounts: map[string]bool{}, versions: map[string]uint64{},
	}
	for _, d := range datasets {
		h.raise(d)
	}
	for _, c := range []string{"alice", "bob", "carol"} {
		h.hire(c)
		for _, d := range datasets {
			h.allot(c, d, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 2 * dp.EpsilonOne, Delta: 1e9} })
		}
	}
	return h
}

func (h *history) name(of string) string {
	h.serial++
	return fmt.Sprint(of, "-", h.serial)
}

func (h *history) raise(dataset string) {
	var ifMatch *uint64
	if v := h.versions[dataset]; v > 0 {
		ifMatch = &v
	}
	h.versions[dataset]++
	h.policy(dataset, dp.Budget{Epsilon: dp.Epsilon(4+h.versions[dataset]) * dp.EpsilonOne, Delta: 1e10}, ifMatch)
}

// span is a run of months: mostly few, sometimes so many that a charge is too long for the chain.
func (h *history) span() []string {
	if h.random.IntN(6) == 0 {
		return months(h.random.IntN(3), 14+h.random.IntN(20))
	}
	return months(h.random.IntN(24), 1+h.random.IntN(3))
}

func (h *history) step() {
	h.t.Helper()
	h.wait(time.Duration(h.random.Int64N(int64(20 * time.Second))))
	if h.random.IntN(50) == 0 {
		h.wait(-time.Hour) // clocks do that
	}
	ctx := h.t.Context()
	dataset := datasets[h.random.IntN(2)]
	consumer := []string{"alice", "bob", "carol"}[h.random.IntN(3)]
	switch h.random.IntN(16) {
	case 0, 1, 2, 3, 4:
		h.newCharge(consumer, dataset)
	case 5, 6, 7:
		if c, ok := h.pick(); ok {
			id := h.name("rel")
			r := h.request(c)
			if h.publish(c, id, r.Plan, []int{0, 100, 2000, 600_000}[h.random.IntN(4)]) {
				h.releases++
				h.drawn = append(h.drawn, drawn{r, id})
			}
		}
	case 8:
		if c, ok := h.pick(); ok {
			h.fail(c)
		}
	case 9:
		h.handOut(consumer)
	case 10:
		h.again()
	case 11:
		if len(h.open) > 0 {
			c := h.open[h.random.IntN(len(h.open))]
			if h.random.IntN(2) == 0 {
				h.must(h.Abandon(ctx, c.Charge.ID, c.Attempt))
			} else if err := h.Renew(ctx, c.Charge.ID, c.Attempt); err != nil && !errors.Is(err, answer.ErrAttemptLost) {
				h.t.Fatal(err)
			}
		}
	case 12:
		h.deliver(dataset)
	case 13:
		h.decide(consumer, dataset)
	case 14:
		if h.random.IntN(3) == 0 {
			h.reopen()
		}
	case 15:
		if h.random.IntN(12) == 0 {
			h.must(h.WriteOff(ctx, "root", "a test", nil))
		}
	}
}

// decide changes something that an officer decides.
func (h *history) decide(consumer, dataset string) {
	ctx := h.t.Context()
	switch h.random.IntN(6) {
	case 0:
		h.raise(dataset)
	case 1:
		h.allot(consumer, dataset, func(a *dp.Allotment) { a.Budget.Epsilon += dp.EpsilonOne / 2 })
	case 2:
		_, k, err := h.office.IssueKey(ctx, "root", office.NewKey{Consumer: consumer}, "a test")
		h.must(err)
		if h.random.IntN(2) == 0 {
			_, err := h.office.RevokeKey(ctx, "root", consumer, k.ID, "a test")
			h.must(err)
		}
	case 3:
		purposes := []string{"reporting"}
		for range h.random.IntN(60) { // sometimes longer than what else the chain holds
			purposes = append(purposes, h.name("purpose-of-a-considerable-length"))
		}
		patch := office.ConsumerPatch{Purposes: &purposes}
		if subject := consumer + "@" + h.name("issuer"); h.random.IntN(2) == 0 {
			if h.random.IntN(3) == 0 {
				subject = ""
			}
			patch.Subject = &subject
		}
		now, err := h.Consumer(ctx, consumer)
		h.must(err)
		_, err = h.office.PatchConsumer(ctx, "root", consumer, patch, &now.Version, "a test")
		h.must(err)
	case 4:
		_, _, _, err := h.office.RotateKey(ctx, "root", consumer, time.Duration(h.random.IntN(4))*time.Hour, time.Time{}, "a test")
		h.must(err)
	case 5:
		h.ownKeys(consumer)
	}
}

// ownKeys has a consumer make a key itself, and something end.
func (h *history) ownKeys(consumer string) {
	ctx := h.t.Context()
	_, held, err := h.office.IssueKey(ctx, "root", office.NewKey{Consumer: consumer}, "a test")
	h.must(err)
	var grace *time.Duration
	if h.random.IntN(2) == 0 {
		hour := time.Hour
		grace = &hour
	}
	_, own, _, err := h.office.IssueOwnKey(ctx, consumer, held.ID, grace, time.Time{})
	var refused *dp.Error
	if errors.As(err, &refused) && (refused.Code == dp.CodeConflict || refused.Code == dp.CodeRateLimited) {
		return
	}
	h.must(err)
	if h.random.IntN(2) == 0 {
		_, err = h.office.RevokeOwnKey(ctx, consumer, held.ID)
	} else {
		_, err = h.office.RevokeKey(ctx, "root", consumer, []string{held.ID, own.ID}[h.random.IntN(2)], "a test")
	}
	h.must(err)
}

func (h *history) newCharge(consumer, dataset string) {
	r := h.ask(consumer, dataset, h.name("plan"), h.price(), h.span()...)
	if h.random.IntN(2) == 0 {
		r.Also = h.also(r)
	}
	if h.random.IntN(2) == 0 {
		r.Key, r.Body = h.name("key"), [32]byte{byte(h.serial)}
	}
	if c, ok := h.try(r); ok {
		h.open = append(h.open, c)
	}
}

// also are further blocks of a question: some of its own dataset, of the other one, or of both.
func (h *history) also(r answer.ChargeRequest) (list []dp.Touched) {
	own := slices.DeleteFunc(h.span(), func(b string) bool { return slices.Contains(r.Blocks, b) })
	if h.random.IntN(2) == 0 && len(own) > 0 {
		list = append(list, dp.Touched{Dataset: r.Dataset, PolicyVersion: r.PolicyVersion, Blocks: own, Loss: h.price()})
	}
	if h.random.IntN(3) > 0 {
		i := slices.Index(datasets, r.Dataset)
		list = append(list, dp.Touched{Dataset: datasets[1-i], PolicyVersion: h.versions[datasets[1-i]], Blocks: h.span(), Loss: h.price()})
	}
	return list
}

// price is a pure loss, or one of Gaussian noise that only the second certificate bears for long.
func (h *history) price() dp.Loss {
	if h.random.IntN(2) == 0 {
		return pure(1 + h.random.Int64N(300))
	}
	return dp.Loss{Epsilon: dp.Epsilon(1 + h.random.Int64N(7e11)), Delta: 1e8, Rho: dp.Rho(1 + h.random.Int64N(1e10)), DeltaZ: dp.Delta(h.random.Int64N(1e6))}
}

// try charges, and counts where it is admitted.
func (h *history) try(r answer.ChargeRequest) (answer.Charged, bool) {
	h.t.Helper()
	c, err := h.Charge(h.t.Context(), r)
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code == dp.CodeBudgetExhausted {
		return c, false
	}
	h.must(err)
	h.charges++
	h.plans[c.Charge.ID] = r.Plan
	if r.Key != "" {
		h.keys[c.Charge.ID] = r
	}
	for _, p := range append([]dp.Touched{{Dataset: r.Dataset, Blocks: r.Blocks}}, r.Also...) {
		for _, b := range p.Blocks {
			h.accounts[p.Dataset+"/"+b+"/"+r.Consumer] = true
			if r.Source == "" {
				h.accounts[p.Dataset+"/"+b] = true
			}
		}
	}
	if len(r.Also) > 0 {
		h.several++
	}
	return c, true
}

func (h *history) request(c answer.Charged) answer.ChargeRequest {
	return answer.ChargeRequest{
		Consumer: c.Charge.Consumer, Dataset: c.Charge.Dataset, PolicyVersion: c.Snapshot.PolicyVersion, Purpose: "reporting",
		Plan: h.plans[c.Charge.ID], Blocks: c.Charge.Blocks, Loss: c.Charge.Loss, Also: c.Charge.Also,
	}
}

// pick takes an open charge off the list.
func (h *history) pick() (answer.Charged, bool) {
	if len(h.open) == 0 {
		return answer.Charged{}, false
	}
	i := h.random.IntN(len(h.open))
	c := h.open[i]
	h.open = slices.Delete(h.open, i, i+1)
	return c, true
}

// handOut gives a consumer what another one paid for.
func (h *history) handOut(consumer string) {
	if len(h.drawn) == 0 {
		return
	}
	d := h.drawn[h.random.IntN(len(h.drawn))]
	r := d.request
	current := r.PolicyVersion == h.versions[r.Dataset] && !slices.ContainsFunc(r.Also, func(p dp.Touched) bool { return p.PolicyVersion != h.versions[p.Dataset] })
	if r.Consumer == consumer || !current {
		return
	}
	if _, err := h.Release(h.t.Context(), consumer, d.release); err == nil {
		return
	}
	r.Consumer, r.Source = consumer, d.release
	h.try(r)
}

// again repeats a question under its key, after its attempt has ended.
func (h *history) again() {
	for i, c := range h.open {
		r, ok := h.keys[c.Charge.ID]
		if !ok || c.Attempt >= 3 || r.PolicyVersion != h.versions[r.Dataset] {
			continue
		}
		h.wait(2*time.Hour + lease)
		next, err := h.Charge(h.t.Context(), r)
		h.must(err)
		if next.Outcome != nil { // it was settled
			h.open = slices.Delete(h.open, i, i+1)
		} else {
			h.open[i] = next
		}
		return
	}
}

// deliver loads rows: anew, again, or not to the end.
func (h *history) deliver(dataset string) {
	ctx := h.t.Context()
	switch h.random.IntN(4) {
	case 0:
		h.must(h.AbandonLoad(ctx, h.begin(dataset, "", h.span())))
	case 1:
		for _, l := range h.loads {
			if l.Dataset == dataset {
				again := h.begin(dataset, "", l.Blocks)
				again.Name, again.Digest = l.Name, l.Digest
				h.must(h.RepeatLoad(ctx, again))
				return
			}
		}
	default:
		blocks := h.span()
		if h.random.IntN(4) == 0 {
			blocks = months(0, 120) // too long for the chain
		}
		l := h.begin(dataset, h.name("load"), blocks)
		if h.random.IntN(3) == 0 {
			h.raise(dataset)
		}
		h.must(h.CommitLoad(ctx, l))
		h.loads = append(h.loads, l)
	}
}

func TestHonestHistoriesFit(t *testing.T) {
	for seed := range max(1, 3/thin) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, uint64(seed))
			for range 200 {
				h.step()
			}
			s := h.Status()
			h.close()
			before := contents(t, h.dir)
			r := fits(t, h.dir, Options{Witness: h.witness, AtLeast: []Mark{{s.Length, s.Head}}})
			if contents(t, h.dir) != before {
				t.Error("verifying changed the files")
			}
			if r.Entries != s.Length || r.Head != s.Head || fmt.Sprintf("%x", r.ID) != s.ID {
				t.Errorf("verified %d entries of %x, the ledger has %d of %s", r.Entries, r.ID, s.Length, s.ID)
			}
			if h.several < 5 {
				t.Errorf("%d charges have several prices: the history shows less than it should", h.several)
			}
			if r.Charges != h.charges || r.Releases != h.releases || r.Accounts != len(h.accounts) || r.Open > len(h.open) || len(r.Datasets) != 2 {
				t.Errorf("verified %+v; %d charges, %d releases, %d accounts, at most %d open", r.Counts, h.charges, h.releases, len(h.accounts), len(h.open))
			}
			for _, d := range r.Datasets {
				if d.PolicyVersion != h.versions[d.Name] || d.Cap == nil || d.Allotment == nil || d.Cap.Spent <= 0 {
					t.Errorf("verified %+v", d)
				}
			}
		})
	}
}

// A copy of the files of a running server is what a killed one leaves.
func TestUncleanLedgerIsVerifiedInACopy(t *testing.T) {
	f := newFixture(t)
	f.policy("transactions", dp.Budget{Epsilon: dp.EpsilonOne}, nil)
	f.hire("alice")
	if _, err := Ledger(t.Context(), f.dir, Options{}); !errors.Is(err, ErrServed) {
		t.Fatalf("a served ledger is verified: %v", err)
	}
	killed := copyOf(t, f.dir)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	before := contents(t, killed)
	if r := fits(t, killed, Options{Witness: f.witness}); r.Entries != f.Status().Length {
		t.Errorf("verified %d entries of %d", r.Entries, f.Status().Length)
	}
	if contents(t, killed) != before {
		t.Error("verifying changed the files")
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("%d files are left behind, %v", len(left), err)
	}
}

// Badger removes, even when it only reads, tables that its manifest does not name.
func TestVerifyingLeavesTablesOfAnInterruptedCompaction(t *testing.T) {
	f := newFixture(t)
	f.close()
	stray := filepath.Join(f.dir, "000099.sst")
	f.must(os.WriteFile(stray, []byte("left"), 0o600))
	fits(t, f.dir, Options{})
	text, err := os.ReadFile(stray)
	f.must(err)
	if string(text) != "left" {
		t.Error("verifying changed a table")
	}
	files, err := ListFiles(f.dir, "created")
	f.must(err)
	if !slices.Equal(files.Unlisted, []string{"000099.sst"}) || len(files.Missing)+len(files.Foreign) > 0 {
		t.Errorf("the files are %+v", files)
	}
}

func TestOlderCopyFallsShortOfWhatWasSeen(t *testing.T) {
	f := newFixture(t)
	f.policy("transactions", dp.Budget{Epsilon: dp.EpsilonOne}, nil)
	f.close()
	old, seen := copyOf(t, f.dir), filepath.Join(t.TempDir(), "witness")
	f.must(copyFile(f.witness, seen))
	f.open()
	f.hire("alice")
	s := f.Status()
	f.close()

	if r := fits(t, f.dir, Options{Witness: seen}); r.Witness == nil || r.Witness.Ahead == 0 {
		t.Errorf("the ledger is not ahead of its old witness: %+v", r.Witness)
	}
	for name, o := range map[string]Options{"witness": {Witness: f.witness}, "head": {AtLeast: []Mark{{s.Length, s.Head}}}} {
		if r := verify(t, old, o); r.Finding == nil || r.Finding.Entry != 0 {
			t.Errorf("%s: the older copy fits: %+v", name, r.Finding)
		}
	}
	wrong := s.Head
	wrong[3] ^= 1
	if r := verify(t, f.dir, Options{AtLeast: []Mark{{s.Length, wrong}}}); r.Finding == nil || r.Finding.Entry != s.Length {
		t.Errorf("another head fits: %+v", r.Finding)
	}
	if _, err := Ledger(t.Context(), f.dir, Options{Witness: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a witness that is not there: %v", err)
	}
	text, err := os.ReadFile(f.witness)
	f.must(err)
	text[20] ^= 1
	text[slotDistance+20] ^= 1
	f.must(os.WriteFile(seen, text, 0o600))
	if _, err := Ledger(t.Context(), f.dir, Options{Witness: seen}); err == nil {
		t.Error("a damaged witness is believed")
	}
	other := newFixture(t)
	other.close()
	if r := verify(t, f.dir, Options{Witness: other.witness}); r.Finding == nil {
		t.Error("the witness of another ledger fits")
	}
}

func TestWhatIsNoLedgerIsNotMadeOne(t *testing.T) {
	dir := t.TempDir()
	if _, err := Ledger(t.Context(), dir, Options{}); err == nil {
		t.Fatal("an empty directory is a ledger")
	}
	if left := contents(t, dir); left != "" {
		t.Fatalf("verifying made %q", left)
	}
}
