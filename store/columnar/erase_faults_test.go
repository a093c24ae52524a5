package columnar

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
)

// A load that was under way when the run began, and commits before it has ended, brings nobody back.
func TestLoadThatCommitsDuringARunBringsNobodyBack(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.Shards, o.BufferRows = 1, 2
	s := open(t, dir, c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
	body, rest := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		_, err := s.Load(context.Background(), clicks(), spec("two"), body, noError)
		loaded <- err
	}()
	if _, err := io.WriteString(rest, clicksHeader+strings.Repeat("ann,2026-01-06,only-ann,1,x\n", 10)); err != nil {
		t.Fatal(err)
	}
	e := mustErase(t, s, clicks(), "ann")
	done := make(chan error, 1)
	go func() { done <- s.RunErasures(context.Background()) }()
	waitFor(t, "the rows that are there are written anew", func() bool {
		return recordOf(t, s, shardOf{"clicks", "2026-01", 0}).Generation > 0
	})
	time.Sleep(20 * time.Millisecond) // it drops them, and waits for the load
	if _, err := io.WriteString(rest, "bob,2026-01-07,home,1,x\n"); err != nil {
		t.Fatal(err)
	}
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ended := range []chan error{loaded, done} {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if c.erasures["clicks/"+e.ID].Ended.IsZero() {
		t.Error("the erasure has not ended")
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 2)
	for _, text := range [][]byte{bytesOf("ann"), []byte("only-ann")} {
		if inFiles(t, dir, text) {
			t.Errorf("%q is in a file", text)
		}
	}
	checkNothingLeftOver(t, s)
}

// A load that hangs, with the only slot there is, keeps its dataset's erasures waiting and nobody else's.
func TestLoadThatHangsKeepsOnlyItsDatasetWaiting(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Loads, o.BufferRows, o.EraseWait = 1, 2, 20*time.Millisecond
	s := open(t, t.TempDir(), c, o)
	other := clicks()
	other.Name = "visits" // which comes after clicks
	for _, p := range []dp.VersionedPolicy{clicks(), other} {
		mustLoad(t, s, p, spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
	}
	body, rest := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		_, err := s.Load(context.Background(), clicks(), spec("two"), body, noError)
		loaded <- err
	}()
	if _, err := io.WriteString(rest, clicksHeader+"ann,2026-01-06,home,1,x\n"); err != nil {
		t.Fatal(err)
	}
	hanging, free := mustErase(t, s, clicks(), "ann"), mustErase(t, s, other, "ann")
	ended := func(e dp.Erasure) bool { return !c.erasures[e.Dataset+"/"+e.ID].Ended.IsZero() }
	generation := uint64(0)
	for run := range 2 {
		if err := s.RunErasures(t.Context()); !errors.Is(err, errLoading) {
			t.Fatalf("run %d: %v", run, err)
		}
		if ended(hanging) || !ended(free) {
			t.Errorf("run %d: ended are %v and %v, want the second", run, ended(hanging), ended(free))
		}
		before := generation
		if generation = recordOf(t, s, shardOf{"clicks", "2026-01", int(secrets{}.Pseudonym("ann") % 3)}).Generation; run > 0 && generation != before {
			t.Errorf("run %d wrote rows anew, and will again", run)
		}
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Errorf("merging: %v", err)
	}
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	if err := s.RunErasures(t.Context()); err != nil || !ended(hanging) {
		t.Errorf("once the load has ended: %v, ended %v", err, ended(hanging))
	}
}

// Texts that a failed load left in memory do not get into the files with a later load.
func TestTextsOfAFailedLoadEndWithTheRun(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"bob,2026-01-05,home,1,x\n")
	_, err := s.Load(t.Context(), clicks(), spec("failed"), strings.NewReader(clicksHeader+"ann,2026-01-05,only-ann,1,x\n"), func() error { return io.ErrUnexpectedEOF })
	if err == nil {
		t.Fatal("it did not fail")
	}
	mustErase(t, s, clicks(), "ann")
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, s, clicks(), spec("two"), clicksHeader+"bob,2026-01-05,about,1,x\n")
	if inFiles(t, dir, []byte("only-ann")) || !inFiles(t, dir, []byte("about")) {
		t.Error("a later load wrote a text of the failed one")
	}
}

// Badger drops table by table, and a process may die between two that hold one erasure. What is left of it, with its
// head or without, keeps nothing from opening, and goes with the next run.
func TestErasureOfWhichAPartWasDroppedIsDroppedFurther(t *testing.T) {
	for name, gone := range map[string]func(id string) []byte{
		"head": func(id string) []byte { return erasurePrefix("clicks", id) },
		"part": func(id string) []byte { return append(erasurePrefix("clicks", id), 0, 0, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := newCatalog(), t.TempDir()
			s := open(t, dir, c, small())
			mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
			mustErase(t, s, clicks(), "cid")
			e := mustErase(t, s, clicks(), "ann")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			key := gone(e.ID)
			s = open(t, dir, c, small())
			if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(key) }); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, c, small())
			if err := s.RunErasures(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left, err := s.db.present([][]byte{[]byte("erase/")}); err != nil || len(left) > 0 {
				t.Errorf("something waits to be erased: %v, %v", left, err)
			}
			for id, e := range c.erasures {
				if e.Ended.IsZero() {
					t.Errorf("%s has not ended", id)
				}
			}
			if len(c.erasures) != 2 {
				t.Errorf("the catalog has %v", c.erasures)
			}
		})
	}
}

// A run that somebody asked for, and that failed, is tried again without being asked.
func TestRunThatFailedIsTriedAgain(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	var full atomic.Bool
	var refused atomic.Int64
	o := small()
	o.EraseRetry = 10 * time.Millisecond
	o.Room = func() error {
		if !full.Load() {
			return nil
		}
		refused.Add(1)
		return &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	}
	s := open(t, dir, c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
	mustErase(t, s, clicks(), "ann")
	full.Store(true)
	s.EraseSoon()
	waitFor(t, "it fails", func() bool { return refused.Load() > 1 })
	full.Store(false)
	waitFor(t, "it is tried again", func() bool { return c.ended() == 1 })
	if inFiles(t, dir, bytesOf("ann")) {
		t.Error("ann is in a file")
	}
}

// Where the process died between the end of a run and the record of it, or the catalog could not be told, the next
// start records it.
func TestEndOfARunIsRecordedLater(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
	e := mustErase(t, s, clicks(), "ann")
	if err := s.eraseDataset(t.Context(), "clicks", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !c.erasures["clicks/"+e.ID].Ended.IsZero() {
		t.Fatal("it is recorded already")
	}
	open(t, dir, c, small())
	waitFor(t, "the end is recorded", func() bool { return c.ended() == 1 })
}

// ended counts the erasures that have ended.
func (c *catalog) ended() (count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.erasures {
		if !e.Ended.IsZero() {
			count++
		}
	}
	return count
}

// Closing does not wait for a run that is paced, and the next opening ends it.
func TestClosingEndsAPacedRun(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.MergeBytes, o.EraseAt = 1, 0 // a byte in a second
	at := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	o.Clock = func() time.Time { return at }
	s := open(t, dir, c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\nbob,2026-01-05,home,1,x\n")
	mustErase(t, s, clicks(), "ann")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	at = at.Add(24 * time.Hour)
	s = open(t, dir, c, o)
	shard := shardOf{"clicks", "2026-01", int(hashOf("ann") % 3)}
	waitFor(t, "the run begins", func() bool { return recordOf(t, s, shard).Given > 0 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if c.ended() > 0 {
		t.Error("it ended in no time")
	}
	o.MergeBytes = 1 << 30
	s = open(t, dir, c, o)
	waitFor(t, "it ends", func() bool { return c.ended() == 1 })
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
	if inFiles(t, dir, bytesOf("ann")) {
		t.Error("ann is in a file")
	}
}
