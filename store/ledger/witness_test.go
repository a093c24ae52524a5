package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// The bytes of a slot are those of store/FORMAT.md.
func TestWitnessKeepsItsBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "w")
	w, err := newWitness(path)
	check(t, err)
	id := ledgerID{0x11, 15: 0x22}
	check(t, w.write(id, head{}, time.UnixMicro(5)))
	check(t, w.write(id, head{length: 0x0102, hash: [32]byte{0xaa, 31: 0xbb}}, time.UnixMicro(0x0304)))
	check(t, w.close())
	data, err := os.ReadFile(path)
	check(t, err)
	slot := "DISCWIT\x01" + string(id[:]) + "\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00\x01\x02" +
		"\xaa" + strings.Repeat("\x00", 30) + "\xbb" + "\x00\x00\x00\x00\x00\x00\x03\x04" + strings.Repeat("\x00", 428)
	if len(data) != 8192 || string(data[:508]) != slot || string(data[4096:4104]) != "DISCWIT\x01" || data[4096+31] != 1 {
		t.Fatalf("the witness is written as\n%x", data[:512])
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Fatalf("beside the witness: %v, %v", entries, err)
	}
}

// site is a ledger's directory and its witness, without a process that uses them.
type site struct{ dir, witness string }

func (f *fixture) site() site { return site{f.dir, f.dir + ".witness"} }

// copied is a copy of both as they are on disk now.
func (f *fixture) copied() site {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "copy")
	copyDir(f.t, f.dir, dir)
	copyFile(f.t, f.dir+".witness", dir+".witness")
	return site{dir, dir + ".witness"}
}

// at opens the ledger of a site in place of the one that is open.
func (f *fixture) at(s site) *fixture {
	f.t.Helper()
	l, err := Open(s.dir, Options{Clock: f.clock, Lease: lease, Witness: s.witness})
	check(f.t, err)
	f.t.Cleanup(func() { check(f.t, l.Close()) })
	g := *f
	g.Ledger, g.dir, g.office = l, s.dir, office.New(l, f.clock)
	return &g
}

// refuses checks that nothing can be written, that all can be read, and that the status says why.
func (f *fixture) refuses(want State) {
	f.t.Helper()
	s := f.Status()
	if s.State != want || s.Reason == "" {
		f.t.Fatalf("the state is %s (%s), want %s", s.State, s.Reason, want)
	}
	for name, write := range map[string]func() error{
		"charge": func() error { _, err := f.Charge(ctx, ask(alice, "plan")); return err },
		"publish": func() error {
			_, err := f.Publish(ctx, f.openCharges()[0], 1, answer.Outcome{Failure: &dp.Error{}})
			return err
		},
		"abandon": func() error { return f.Abandon(ctx, f.openCharges()[0], 1) },
		"load":    func() error { _, _, err := f.BeginLoad(ctx, dataset, 1, "l", january); return err },
		"change": func() error {
			_, err := f.office.CreateConsumer(ctx, "root", dp.Consumer{Name: "carol", Role: dp.Analyst, Audience: dp.Internal}, "")
			return err
		},
	} {
		e := f.unchanged(dp.CodeUnavailable, write)
		if !strings.Contains(e.Message, s.Reason) {
			f.t.Errorf("%s does not say why: %s", name, e.Message)
		}
	}
	wantCode(f.t, dp.CodeUnavailable, f.Ready(ctx))
	if _, err := f.CommittedLoads(ctx, dataset, "2026-01", 1); err == nil {
		f.t.Error("told which segments nobody knows of")
	}
	if list, _, err := f.Accounts(ctx, alice, "", "", 0); err != nil || len(list) == 0 {
		f.t.Fatalf("accounts cannot be read: %v, %v", list, err)
	}
	if _, err := f.Release(ctx, alice, "rel_0"); err != nil {
		f.t.Fatalf("a held release cannot be read: %v", err)
	}
}

// works checks that the ledger takes charges.
func (f *fixture) works() {
	f.t.Helper()
	if s := f.Status(); s.State != StateOK || s.Reason != "" || f.Ready(ctx) != nil {
		f.t.Fatalf("the state is %s (%s)", s.State, s.Reason)
	}
	before := f.spent(alice, "2026-01")
	r := ask(alice, fmt.Sprint("works after ", before))
	r.Loss = pure(1)
	f.charge(r)
	if f.spent(alice, "2026-01") == before {
		f.t.Fatal("a charge spent nothing")
	}
}

// withRelease is a fixture in which alice holds rel_0 and a charge of bob's is open.
func withRelease(t testing.TB) *fixture {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_0", "plan")
	r := ask(bob, "without an answer")
	r.Blocks = []string{"2025-01"}
	f.charge(r)
	return f
}

// edit changes the witness behind the ledger's back.
func (s site) edit(t testing.TB, change func(data []byte)) {
	t.Helper()
	data, err := os.ReadFile(s.witness)
	check(t, err)
	change(data)
	check(t, os.WriteFile(s.witness, data, 0o600))
}

func TestLedgerThatFitsItsWitnessOpens(t *testing.T) {
	f := withRelease(t)
	f.works()
	f.reopen()
	f.works()
}

// What a crash between the database's commit and the witness leaves was not acknowledged, and stands.
func TestLedgerAheadOfItsWitnessIsRolledForward(t *testing.T) {
	f := withRelease(t)
	for _, entries := range []int{1, 2, 5} {
		old := f.copied().witness
		for n := range entries {
			f.charge(ask(bob, fmt.Sprint("plan ", entries, n)))
		}
		s := f.copied()
		s.witness = old
		g := f.at(s)
		g.works()
		if got, want := g.spent(bob, "2026-01"), f.spent(bob, "2026-01"); got != want {
			t.Fatalf("%d entries ahead: spent %v, not %v", entries, got, want)
		}
		check(t, g.Close())
		f.at(s).works()
		f.allot(bob, func(a *dp.Allotment) { a.Budget.Epsilon += dp.EpsilonOne })
	}
}

func TestRestoredOlderLedgerRefuses(t *testing.T) {
	f := withRelease(t)
	old := f.copied()
	f.charge(ask(alice, "another"))
	check(t, f.Ledger.Close())
	old.witness = f.site().witness
	g := f.at(old)
	g.refuses(StateBehind)
	check(t, g.Close())
	f.at(old).refuses(StateBehind) // and goes on refusing
}

func TestForkedLedgerRefuses(t *testing.T) {
	f := withRelease(t)
	clone := f.copied()
	g := f.at(clone)
	for n := range 5 { // ahead of the other in length
		g.charge(ask(bob, fmt.Sprint(n)))
	}
	check(t, g.Close())
	f.charge(ask(alice, "another"))
	check(t, f.Ledger.Close())
	clone.witness = f.site().witness
	f.at(clone).refuses(StateFork)
}

func TestLedgerWithoutItsWitnessRefuses(t *testing.T) {
	f := withRelease(t)
	check(t, f.Ledger.Close())
	check(t, os.Rename(f.site().witness, f.site().witness+".away"))
	g := f.at(f.site())
	g.refuses(StateMissing)
	check(t, g.Close())
	check(t, os.Rename(f.site().witness+".away", f.site().witness))
	f.at(f.site()).works()
}

func TestAnotherLedgersWitnessIsNotTouched(t *testing.T) {
	f, other := withRelease(t), newFixture(t)
	check(t, errors.Join(f.Ledger.Close(), other.Ledger.Close()))
	before, err := os.ReadFile(other.site().witness)
	check(t, err)
	for _, dir := range []string{f.dir, filepath.Join(t.TempDir(), "empty")} {
		l, err := Open(dir, Options{Witness: other.site().witness})
		if err == nil {
			t.Fatal("opened with another ledger's witness", l.Close())
		}
	}
	after, err := os.ReadFile(other.site().witness)
	check(t, err)
	if string(before) != string(after) {
		t.Fatal("another ledger's witness was changed")
	}
}

func TestOneTornSlotIsSurvivedAndTwoAreNot(t *testing.T) {
	f := withRelease(t)
	check(t, f.Ledger.Close())
	for slot := range 2 {
		for _, at := range []int{0, 20, 35, 45, 200, 511} {
			s := f.copied()
			s.edit(t, func(data []byte) { data[slot*slotDistance+at] ^= 0x10 })
			f.at(s).works()
		}
	}
	for name, change := range map[string]func([]byte){
		"both slots": func(data []byte) { data[40]++; data[slotDistance+40]++ },
		"zeros":      func(data []byte) { clear(data) },
		"twice the same slot": func(data []byte) {
			copy(data[:slotBytes], data[slotDistance:])
			data[slotDistance]++
		},
	} {
		s := f.copied()
		s.edit(t, change)
		t.Log(name)
		f.at(s).refuses(StateDamaged)
	}
	s := f.copied()
	check(t, os.Truncate(s.witness, 0))
	f.at(s).refuses(StateDamaged)
}

func TestWitnessIsHeldByOneProcess(t *testing.T) {
	f := withRelease(t)
	clone := f.copied()
	clone.witness = f.site().witness
	if l, err := Open(clone.dir, Options{Witness: clone.witness}); err == nil {
		t.Fatal("a clone opened beside its original", l.Close())
	}
	check(t, f.Ledger.Close())
	f.at(clone).works()
	if l, err := Open(f.dir, Options{}); err == nil {
		t.Fatal("an original opened beside its clone", l.Close())
	}
}

func TestCloneThatWasUsedKeepsItsOriginalFromGoingOn(t *testing.T) {
	f := withRelease(t)
	check(t, f.Ledger.Close())
	clone := f.copied()
	clone.witness = f.site().witness
	g := f.at(clone)
	g.works()
	check(t, g.Close())
	f.at(f.site()).refuses(StateBehind)
}

// Somebody who does not care for the lock writes to the witness, or puts another file in its place.
func TestLedgerStopsWhenItsWitnessMoves(t *testing.T) {
	for name, move := range map[string]func(s site) error{
		"written to": func(s site) error {
			file, err := os.OpenFile(s.witness, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			w := &witness{path: s.witness, file: file}
			if w.info, err = file.Stat(); err != nil {
				return err
			}
			for i := range w.slots {
				if w.slots[i], err = w.read(i); err != nil {
					return err
				}
			}
			saw, _ := w.newest()
			return errors.Join(w.write(saw.id, saw.head, saw.at), file.Close())
		},
		"replaced": func(s site) error {
			data, err := os.ReadFile(s.witness)
			return errors.Join(err, os.Remove(s.witness), os.WriteFile(s.witness, data, 0o600))
		},
		"removed": func(s site) error { return os.Remove(s.witness) },
	} {
		f := withRelease(t)
		before := f.dump()
		check(t, move(f.site()))
		_, err := f.Charge(ctx, ask(alice, "another"))
		wantCode(t, dp.CodeUnavailable, err)
		f.refuses(StateMoved)
		if !maps.Equal(before, f.dump()) {
			t.Fatalf("%s: something was written", name)
		}
		check(t, f.Ledger.Close())
		want := StateOK
		if name == "removed" {
			want = StateMissing
		}
		if got := f.at(f.site()).Status().State; got != want {
			t.Fatalf("%s: opened again it is %s", name, got)
		}
	}
}

// A process that ended at any step of making a ledger leaves something that opens.
func TestLedgerThatWasNotQuiteMadeOpens(t *testing.T) {
	for _, explicit := range []bool{false, true} {
		f := newFixture(t)
		check(t, f.Ledger.Close())
		dir := filepath.Join(t.TempDir(), "new")
		o := Options{Clock: f.clock}
		if explicit {
			o.Witness = filepath.Join(t.TempDir(), "state", "witness")
		}
		// The witness, and nothing else.
		l := &Ledger{dir: &directory{path: dir}, clock: f.clock}
		check(t, l.found(o))
		check(t, l.witness.close())
		l, err := Open(dir, o)
		check(t, err)
		if l.Status().State != StateOK || l.Status().Length != 1 {
			t.Fatalf("opened as %+v", l.Status())
		}
		check(t, l.Close())
		// All but the mark that it was made.
		check(t, os.Remove(filepath.Join(dir, createdName)))
		l, err = Open(dir, o)
		check(t, err)
		if l.Status().State != StateOK || l.Status().Length != 2 {
			t.Fatalf("opened as %+v", l.Status())
		}
		check(t, l.Close())
		if id, err := readCreated(dir); err != nil || id != l.Status().ID {
			t.Fatalf("the ledger's id is %s, %v", id, err)
		}
	}
}

func TestWitnessIsNamedAfterItsLedger(t *testing.T) {
	dir, state := filepath.Join(t.TempDir(), "ledger"), filepath.Join(t.TempDir(), "state")
	for range 2 {
		l, err := Open(dir, Options{WitnessDir: state})
		check(t, err)
		s := l.Status()
		check(t, l.Close())
		if want := filepath.Join(state, s.ID+".witness"); s.Witness != want || s.State != StateOK {
			t.Fatalf("the witness is %s, want %s", s.Witness, want)
		}
		if info, err := os.Stat(s.Witness); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
	}
}

// flipped is what became of a ledger of which a bit was flipped.
type flipped string

const (
	refusedToOpen flipped = "does not open"
	refusesWrites flipped = "refuses writes"
	identical     flipped = "identical"
)

// Every file of a small ledger, one flipped bit at a time: it is detected, or what stands is the same.
func TestFlippedBitNeverGivesBudgetBack(t *testing.T) {
	f := withRelease(t)
	f.load("first", 1, quarter)
	for n := range 3 {
		f.charge(ask(bob, fmt.Sprint("plan ", n)))
	}
	f.publish(f.charge(ask(alice, "large")), "rel_large", "large")
	want := state(f.dump())
	killed := f.copied() // whose log was not made into tables
	check(t, f.Ledger.Close())
	seen := map[flipped]int{}
	for _, origin := range []site{killed, f.copied()} {
		files, err := os.ReadDir(origin.dir)
		check(t, err)
		paths := []string{"../" + filepath.Base(origin.witness)}
		for _, file := range files {
			paths = append(paths, file.Name())
		}
		for _, name := range paths {
			data, err := os.ReadFile(filepath.Join(origin.dir, name))
			check(t, err)
			used := len(bytes.TrimRight(data, "\x00")) // what follows is not read
			for try := range min(flipsOfAFile, used) {
				at := (try*used/flipsOfAFile + 13*try) % used
				s := (&fixture{t: t, dir: origin.dir}).copied()
				path := filepath.Join(s.dir, name)
				if strings.HasPrefix(name, "../") {
					path = s.witness
				}
				data[at] ^= 1 << (try % 8)
				check(t, os.WriteFile(path, data, 0o600))
				data[at] ^= 1 << (try % 8)
				result := f.afterFlip(s, want)
				if result == "" {
					t.Fatalf("bit %d of byte %d of %s: the ledger changed and nobody noticed", try%8, at, name)
				}
				seen[result]++
				check(t, os.RemoveAll(s.dir))
			}
		}
	}
	t.Log(seen)
	if seen[refusesWrites] == 0 || seen[refusedToOpen] == 0 || seen[identical] == 0 {
		t.Fatalf("the flips show nothing: %v", seen)
	}
}

// flipsOfAFile is how many bits of each file are flipped, one at a time.
const flipsOfAFile = 4

func (f *fixture) afterFlip(s site, want map[string]string) flipped {
	f.t.Helper()
	l, err := Open(s.dir, Options{Clock: f.clock, Witness: s.witness})
	if err != nil {
		return refusedToOpen
	}
	g := &fixture{t: f.t, Ledger: l}
	defer func() { check(f.t, l.Close()) }()
	if l.Status().State != StateOK {
		wantCode(f.t, dp.CodeUnavailable, l.Ready(ctx))
		return refusesWrites
	}
	if maps.Equal(want, state(g.dump())) {
		return identical
	}
	return ""
}
