package columnar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// history is a world with all of its snapshots, and the rows that each has.
type history struct {
	*world
	snapshots []dp.Snapshot
	visible   [][]rows.Row
	waiting   []string // customers that are to be erased
}

func (h *history) load(t *testing.T) {
	t.Helper()
	h.world.load(t)
	h.snapshots = append(h.snapshots, h.catalog.now("world", h.blocks))
	h.visible = append(h.visible, slices.Clone(h.rows))
}

// check asks random questions of random snapshots, and counts the partitions.
func (h *history) check(t *testing.T, s *Store, questions int) (partitions int) {
	t.Helper()
	for range questions {
		at := h.random.IntN(len(h.snapshots))
		p := h.plan()
		want, err := bounding.Reference(p, secrets{}.Salt("world"), h.grown(h.visible[at]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := aggregateAt(context.Background(), s, p, h.snapshots[at])
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("after load %d: got %v, want %v", at+1, got, want)
		}
		partitions += len(got)
	}
	return partitions
}

// Loads, merges of whatever waits, and reopenings in random order give the reference's integers at every version.
func TestCompactionChangesNoAnswer(t *testing.T) {
	answers, mergers := 0, 0
	for seed := range uint64(5) {
		h := &history{world: newWorld(t, 1000+seed)}
		h.load(t)
		for range 8 {
			switch h.random.IntN(5) {
			case 0, 1:
				h.load(t)
			case 2:
				if err := h.store.Close(); err != nil {
					t.Fatal(err)
				}
				h.store = open(t, h.store.dir, h.catalog, h.store.options)
			default:
				a := appetite{runs: 1 + h.random.IntN(6), loads: 1 + h.random.IntN(3)}
				if err := h.store.compact(t.Context(), a, nil); err != nil {
					t.Fatal(err)
				}
				mergers++
			}
			answers += h.check(t, h.store, 4)
		}
		if err := h.store.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		answers += h.check(t, h.store, 6)
		checkCompact(t, h.store, h.catalog)
	}
	if answers < 250 || mergers < 8 {
		t.Errorf("only %d partitions were compared, around %d mergers", answers, mergers)
	}
}

// checkCompact finds a shard of a block that has more than one chain, a segment that could be fuller, and segments
// that nobody reads.
func checkCompact(t *testing.T, s *Store, c *catalog) {
	t.Helper()
	blocks, err := s.blocksWithRows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	for _, at := range blocks {
		for at.shard = range s.shards {
			loads, err := s.committed(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			from := &reader{txn: txn}
			m, err := readMerged(from, at)
			if err != nil {
				t.Fatal(err)
			}
			chains, err := s.chains(from, at, m, loads)
			if err != nil {
				t.Fatal(err)
			}
			if len(chains) > 1 {
				t.Errorf("%v has %d chains", at, len(chains))
			}
			for _, c := range chains {
				for n := c.first; n < c.last; n++ {
					named[string(columnKey(c.prefix, n, columnID{}))[:len(c.prefix)+4]] = true
					r := segmentReader{reader: from, prefix: c.prefix, sequence: n}
					h, err := r.readHeader()
					if err != nil {
						t.Fatal(err)
					}
					if m.Segments > 0 && n+1 < c.last && h.Rows != s.options.SegmentRows {
						t.Errorf("segment %d of %v has %d rows", n, at, h.Rows)
					}
				}
			}
		}
	}
	for _, key := range stored(t, s) {
		if !strings.HasPrefix(key, "rows/") {
			continue
		}
		at := strings.Index(key[5:], "/") + 6
		at += strings.Index(key[at:], "/") + 1
		if !named[key[:at+2+8+4]] {
			t.Errorf("nobody reads %q", key)
		}
	}
}

func TestManyRunsAreMergedInSeveralPasses(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.BufferRows, o.SegmentRows = 1, 1, 50
	s := open(t, t.TempDir(), c, o)
	var text strings.Builder
	text.WriteString(clicksHeader)
	const count = 4*mostSideBySideMerged + 7
	for i := range count {
		fmt.Fprintf(&text, "user%d,2026-01-%02d,page%d,%d,x\n", i*7919%1000, 1+i%28, i%5, i)
	}
	mustLoad(t, s, clicks(), spec("one"), text.String())
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	p.Tree.Columns = append(p.Tree.Columns, plan.Column{Count: plan.Total, Upper: 1 << 30})
	before := aggregate(t, s, c, p)
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := aggregate(t, s, c, p); !reflect.DeepEqual(after, before) {
		t.Errorf("got %v, want %v", after, before)
	}
	checkCompact(t, s, c)
}

func TestColumnTooLongForOneSegmentIsCut(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.BufferRows, o.SegmentRows = 1, 20_000, 200_000
	s := open(t, t.TempDir(), c, o)
	for load := range 2 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for i := range 60_000 {
			fmt.Fprintf(&text, "user%d,2026-01-05,home,%d,x\n", i, (i+load)*39_916_801%1_000_000_007*1_000)
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(load)), text.String())
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	segments := 0
	walk(t, s, func(key, value []byte) {
		if bytes.HasPrefix(key, []byte("rows/")) && len(value) > maxValue+100 {
			t.Errorf("a column of %d bytes", len(value))
		}
		if bytes.HasPrefix(key, []byte("rows/")) && key[len(key)-1] == byte(customersColumn) {
			segments++
		}
	})
	if segments != 2 {
		t.Errorf("%d segments, want two halves", segments)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 60_000, 120_000, 120_000)
}

// A question that began before a merge reads what was there, and nothing is dropped until it has ended.
func TestCompactionInTheMiddleOfAScan(t *testing.T) {
	c := &pausing{catalog: newCatalog()}
	s := open(t, t.TempDir(), c, small())
	for i := range 5 {
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), clicksHeader+"ann,2026-01-05,home,1.5,x\nbob,2026-01-06,about,1,x\n")
		if i == 2 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := perBlock(clicks(), "2026-01")
	want := aggregate(t, s, c.catalog, p)
	s.columns.Clear()
	reached, resume := c.pause()
	var got []bounding.Partition
	var asking sync.WaitGroup
	asking.Go(func() {
		var err error
		if got, err = aggregateAt(context.Background(), s, p, c.now("clicks", p.Blocks)); err != nil {
			t.Error(err)
		}
	})
	<-reached
	merged := make(chan error, 1)
	go func() { merged <- s.Compact(context.Background()) }()
	last := shardOf{"clicks", "2026-02", 2}
	waitFor(t, "all is merged", func() bool { return len(recordOf(t, s, last).Loads) == 5 })
	time.Sleep(20 * time.Millisecond)
	select {
	case err := <-merged:
		t.Errorf("what the scan reads was dropped: %v", err)
	default:
	}
	later := aggregate(t, s, c.catalog, p) // of what was merged
	if !reflect.DeepEqual(later, want) {
		t.Errorf("a scan that began later got %v, want %v", later, want)
	}
	close(resume)
	asking.Wait()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := <-merged; err != nil {
		t.Error(err)
	}
	checkCompact(t, s, c.catalog)
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func recordOf(t *testing.T, s *Store, at shardOf) merged {
	t.Helper()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	m, err := readMerged(&reader{txn: txn}, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pausing is a catalog that stops who asks next for the loads of a snapshot.
type pausing struct {
	*catalog
	mu              sync.Mutex
	reached, resume chan struct{}
}

func (c *pausing) pause() (reached, resume chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached, c.resume = make(chan struct{}), make(chan struct{})
	return c.reached, c.resume
}

func (c *pausing) CommittedLoads(ctx context.Context, dataset, block string, version uint64) ([]uint64, error) {
	c.mu.Lock()
	reached, resume := c.reached, c.resume
	c.reached = nil
	c.mu.Unlock()
	if reached != nil {
		close(reached)
		<-resume
	}
	return c.catalog.CommittedLoads(ctx, dataset, block, version)
}

// The files as they are whenever a merge is about to write a segment, and before it drops what it replaced, give
// the same answers: what a process that dies there leaves. Nothing is left over once they were opened.
func TestCompactionThatDiesAnywhere(t *testing.T) {
	h := &history{world: newWorld(t, 7)}
	dir := h.store.dir
	o := h.store.options
	if err := h.store.Close(); err != nil {
		t.Fatal(err)
	}
	copies := 0
	var copying bool
	at := func() {
		if !copying {
			return
		}
		copies++
		image := filepath.Join(t.TempDir(), "image")
		copyFiles(t, dir, image)
		quiet := o
		quiet.Room = nil
		s, err := Open(image, h.catalog, secrets{}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		h.check(t, s, 3)
		checkNothingLeftOver(t, s)
		if copies%3 == 0 {
			if err := s.Compact(t.Context()); err != nil {
				t.Error(err)
			}
			h.check(t, s, 3)
			checkCompact(t, s, h.catalog)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	o.Shards, o.SegmentRows, o.BufferRows, o.MemTable = 2, 30, 25, 8<<20
	o.Room = func() error { at(); return nil }
	dir = t.TempDir()
	h.store = open(t, dir, h.catalog, o)
	for range 2 {
		h.load(t)
		h.load(t)
		copying = true
		// The scan holds up what would be dropped.
		end := h.store.db.scans.begin()
		done := make(chan error, 1)
		go func() { done <- h.store.Compact(context.Background()) }()
		waitFor(t, "it waits for the scan", func() bool {
			scans := &h.store.db.scans
			scans.mu.Lock()
			defer scans.mu.Unlock()
			return scans.ended != nil
		})
		at()
		copying = false
		end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		checkCompact(t, h.store, h.catalog)
	}
	if copies < 10 {
		t.Errorf("only %d images", copies)
	}
}

// checkNothingLeftOver finds segments that nobody can see.
func checkNothingLeftOver(t *testing.T, s *Store) {
	t.Helper()
	blocks, err := s.blocksWithRows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	for _, at := range blocks {
		for at.shard = range s.shards {
			left, err := s.leftover(txn, at)
			if err != nil || len(left) > 0 {
				t.Errorf("%v has %d leftovers, %v", at, len(left), err)
			}
		}
	}
}

// copyFiles copies a directory of a database that nobody writes to at the moment.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		in, err := os.Open(filepath.Join(from, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // Badger removes files by the way
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(to, e.Name()))
		if err == nil {
			_, err = io.Copy(out, in)
		}
		if err := errors.Join(err, in.Close(), out.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// What merging replaced is gone from the files, so that the same rows take no more room than before.
func TestWhatWasMergedLeavesTheFiles(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	for i := range 6 {
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), clicksHeader+strings.Repeat("ann,2026-01-05,home,1.5,x\n", 100))
	}
	place := shardOf{"clicks", "2026-01", int(hashOf("ann") % 3)}.place(1)
	if !inFiles(t, dir, place) {
		t.Fatal("the segments of the first load are in no file")
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if inFiles(t, dir, place) {
		t.Error("the segments of the first load are still in a file")
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 600)
}

// inFiles tells whether bytes are anywhere in the files of a directory.
func inFiles(t *testing.T, dir string, text []byte) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestGenerationIsNeverGivenTwice(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	full := &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	after, asked := 1<<30, 0
	o := small()
	o.Shards, o.SegmentRows = 1, 1
	o.Room = func() error {
		if asked++; asked > after {
			return full
		}
		return nil
	}
	s := open(t, dir, c, o)
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\nbob,2026-01-05,home,1.5,x\n"
	for i := range 3 {
		mustLoad(t, s, clicks(), days(fmt.Sprint(i), "2026-01-01", "2026-01-31"), text)
	}
	at := shardOf{"clicks", "2026-01", 0}
	for n := range uint64(3) {
		asked, after = 0, 3
		if err := s.Compact(t.Context()); !errors.Is(err, full) {
			t.Fatalf("without room: %v", err)
		}
		if m := recordOf(t, s, at); m.Given != n+1 || m.Generation != 0 {
			t.Errorf("%+v, want generation %d given and none in force", m, n+1)
		}
		after = 1 << 30
		checkTotals(t, s, c, []string{"2026-01"}, 2, 6)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, c, o)
		checkNothingLeftOver(t, s)
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := recordOf(t, s, at); m.Given != 4 || m.Generation != 4 || m.Segments != 6 {
		t.Errorf("%+v", m)
	}
}

func TestLoadsAreMergedInTheBackgroundOnceEnoughWait(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.MergeLoads, o.MergeRuns, o.MergeEvery = 1, 3, 100, time.Hour
	s := open(t, t.TempDir(), c, o)
	at := shardOf{"clicks", "2026-01", 0}
	for i := range 2 {
		mustLoad(t, s, clicks(), days(fmt.Sprint(i), "2026-01-01", "2026-01-31"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	}
	time.Sleep(50 * time.Millisecond)
	if m := recordOf(t, s, at); m.Given != 0 {
		t.Errorf("two loads were merged: %+v", m)
	}
	mustLoad(t, s, clicks(), days("third", "2026-01-01", "2026-01-31"), clicksHeader+"bob,2026-01-05,home,1.5,x\n")
	waitFor(t, "three loads are merged", func() bool { return len(recordOf(t, s, at).Loads) == 3 })
	checkTotals(t, s, c, []string{"2026-01"}, 2, 3)
}

// Loads, questions and merges at once lose and double nothing.
func TestCompactionWhileLoadingAndAsking(t *testing.T) {
	c := newCatalog()
	o := small()
	o.MergeLoads, o.MergeRuns, o.MergeEvery, o.BufferRows = 2, 2, time.Hour, 40
	s := open(t, t.TempDir(), c, o)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	p := perBlock(clicks(), "2026-01", "2026-02")
	for range 2 {
		others.Go(func() {
			for ctx.Err() == nil {
				at := c.now("clicks", p.Blocks)
				got, err := aggregateAt(context.Background(), s, p, at)
				if err != nil {
					t.Error(err)
					return
				}
				loads := int64(at.Blocks[0].Version + at.Blocks[1].Version)
				rows := int64(0)
				for _, partition := range got {
					rows += partition.Totals[1]
				}
				if rows != loads*50 { // of each load, 50 rows are in each of its blocks
					t.Errorf("%d rows of %v", rows, at.Blocks)
				}
			}
		})
	}
	for i := range 12 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for row := range 100 {
			fmt.Fprintf(&text, "user%d,2026-0%d-05,home,1,x\n", row%20, 1+row%2)
		}
		if i%4 == 3 { // one that fails is removed, which has all others wait
			_, err := s.Load(t.Context(), clicks(), spec(fmt.Sprint(i)), strings.NewReader(text.String()), func() error { return io.ErrUnexpectedEOF })
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), text.String())
	}
	cancel()
	others.Wait()
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkCompact(t, s, c)
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 20, 1200)
}

func TestMergingIsSlowedDown(t *testing.T) {
	busy := false
	p := &pace{bytes: 1 << 20, busy: func() bool { return busy }}
	for _, c := range []struct {
		busy       bool
		bytes      int
		took, want time.Duration
	}{
		{false, 1 << 19, 100 * time.Millisecond, 400 * time.Millisecond},
		{true, 1 << 19, 100 * time.Millisecond, 400 * time.Millisecond},
		{false, 1 << 10, 100 * time.Millisecond, 0},
		{true, 1 << 10, 100 * time.Millisecond, 300 * time.Millisecond},
	} {
		busy = c.busy
		if got := p.pause(c.bytes, c.took); got != c.want {
			t.Errorf("%+v: it rests %v", c, got)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.wait(ctx, 1<<30, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
