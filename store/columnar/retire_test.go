package columnar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

func (c *catalog) Retire(context.Context) ([]dp.Retirement, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return nil, c.refused
	}
	if c.retired.Before == "" {
		return nil, nil
	}
	return []dp.Retirement{c.retired}, nil
}

func (c *catalog) RetiredBefore(_ context.Context, dataset string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dataset != "clicks" {
		return "", nil
	}
	return c.retired.Before, nil
}

func (c *catalog) EndRetirement(_ context.Context, _, before string) error {
	if c.ending != nil {
		c.ending()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired.Gone = before
	return nil
}

// retire has what ends before a month be retired.
func (c *catalog) retire(before string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired.Dataset, c.retired.Before = "clicks", before
}

func (c *catalog) gone() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retired.Gone
}

// threeMonths loads rows of four customers into three months, each with texts that only one month has, merged and not.
func threeMonths(t *testing.T, s *Store) {
	t.Helper()
	for i := range 4 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for _, user := range []string{"ann", "bob", "cid", "dee"} {
			for month := 1; month <= 3; month++ {
				fmt.Fprintf(&text, "%s,2026-%02d-05,page-of-%d-%d,1,x\n%s,2026-%02d-06,everywhere,2,x\n", user, month, month, i, user, month)
			}
		}
		fmt.Fprintf(&text, "eve,2026-01-07,everywhere,1,x\n") // in January alone
		mustLoad(t, s, clicks(), days(fmt.Sprint(i), "2026-01-01", "2026-03-31"), text.String())
		if i == 1 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkJanuaryIsGone holds that nothing is left of January, and all of what follows.
func checkJanuaryIsGone(t *testing.T, s *Store, c *catalog) {
	t.Helper()
	_, err := aggregateAt(t.Context(), s, perBlock(clicks(), "2026-01"), c.now("clicks", []string{"2026-01"}))
	checkRefusal(t, err, dp.CodeInvalidQuery, "not kept")
	checkTotals(t, s, c, []string{"2026-02", "2026-03"}, 4, 64)
	for text, there := range map[string]bool{"page-of-1-0": false, "page-of-1-3": false, "page-of-2-0": true, "page-of-3-3": true, "everywhere": true} {
		if inFiles(t, s.dir, []byte(text)) != there {
			t.Errorf("%s is in the files: %v", text, !there)
		}
	}
	if inFiles(t, s.dir, bytesOf("eve")) || !inFiles(t, s.dir, bytesOf("ann")) {
		t.Error("a customer of January alone is in the files, or one of later months is not")
	}
	if left, err := s.retiredPrefixes(dp.Retirement{Dataset: "clicks", Before: "2026-02"}); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
	if c.gone() != "2026-02" {
		t.Error("it has not ended")
	}
	checkNothingLeftOver(t, s)
}

func TestRowsOfRetiredBlocksLeaveTheFiles(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.BufferRows = 7
	s := open(t, dir, c, o)
	threeMonths(t, s)
	for _, text := range [][]byte{bytesOf("eve"), []byte("page-of-1-0"), []byte("page-of-1-3")} {
		if !inFiles(t, dir, text) {
			t.Fatalf("%q is in no file before", text)
		}
	}
	if err := s.RunErasures(t.Context()); err != nil { // nothing is retired
		t.Fatal(err)
	}
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 5, 68)
	before := c.now("clicks", []string{"2026-01", "2026-02"})

	c.retire("2026-02")
	_, err := aggregateAt(t.Context(), s, perBlock(clicks(), "2026-01", "2026-02"), before)
	checkRefusal(t, err, dp.CodeInvalidQuery, "not kept") // at once
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkJanuaryIsGone(t, s, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c, o)
	checkJanuaryIsGone(t, s, c)
	// What follows goes on as before: loads, merges and erasures.
	mustLoad(t, s, clicks(), days("later", "2026-02-01", "2026-02-28"), clicksHeader+"ann,2026-02-05,page-of-2-9,1,x\n")
	mustErase(t, s, clicks(), "bob", "eve")
	if err := errors.Join(s.Compact(t.Context()), s.RunErasures(t.Context())); err != nil {
		t.Fatal(err)
	}
	checkTotals(t, s, c, []string{"2026-02", "2026-03"}, 3, 49)
	if inFiles(t, dir, bytesOf("bob")) {
		t.Error("the customer is in a file")
	}
	// A copy of the rows from before brings nothing back for longer than to the next run.
	c.retire("2026-03")
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkTotals(t, s, c, []string{"2026-03"}, 3, 24)
}

// A process that dies at any step leaves what the next run ends: at each, the files are copied and opened as it would find them.
func TestRetirementThatDiesIsEndedByTheNextRun(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	quiet := small()
	copies, copying := 0, false
	image := func(change func(s *Store)) {
		if !copying {
			return
		}
		copies++
		to := filepath.Join(t.TempDir(), "image")
		copyFiles(t, dir, to)
		own := c.clone()
		s, err := Open(to, own, secrets{}, quiet)
		if err != nil {
			t.Error(err)
			return
		}
		if change != nil {
			change(s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if s, err = Open(to, own, secrets{}, quiet); err != nil {
				t.Error(err)
				return
			}
		}
		checkTotals(t, s, own, []string{"2026-02", "2026-03"}, 4, 64)
		mustErase(t, s, clicks(), "nobody")
		if err := errors.Join(s.Compact(t.Context()), s.RunErasures(t.Context())); err != nil {
			t.Errorf("copy %d: %v", copies, err)
		}
		checkJanuaryIsGone(t, s, own)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	o := small()
	o.BufferRows = 7
	o.Room = func() error { image(nil); return nil }
	c.ending = func() { image(nil) }
	s := open(t, dir, c, o)
	threeMonths(t, s)
	c.retire("2026-02")
	copying = true
	image(nil)
	// Badger drops table by table: any part of it may be gone.
	prefixes, err := s.retiredPrefixes(c.retired)
	if err != nil || len(prefixes) != 3 {
		t.Fatalf("retired are %q, %v", prefixes, err)
	}
	for _, some := range [][][]byte{prefixes[:1], prefixes[1:2], prefixes[2:], prefixes[:2], prefixes[1:]} {
		image(func(s *Store) {
			if err := s.db.drop(some...); err != nil {
				t.Error(err)
			}
		})
	}
	end := s.db.scans.begin()
	done := make(chan error, 1)
	go func() { done <- s.RunErasures(context.Background()) }()
	waitFor(t, "it waits for the scan", func() bool {
		s.db.scans.mu.Lock()
		defer s.db.scans.mu.Unlock()
		return s.db.scans.ended != nil
	})
	image(nil)
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	image(nil)
	if copies < 9 {
		t.Errorf("only %d images", copies)
	}
	checkJanuaryIsGone(t, s, c)
}

func TestRetirementInTheMiddleOfAScan(t *testing.T) {
	c := &pausing{catalog: newCatalog()}
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), days("one", "2026-01-01", "2026-02-28"), clicksHeader+"ann,2026-01-05,home,1.5,x\nbob,2026-02-06,about,1,x\n")
	p := perBlock(clicks(), "2026-01", "2026-02")
	duringScan(t, c, s, p, func() { c.retire("2026-02") }, func() {
		_, err := aggregateAt(t.Context(), s, p, c.now("clicks", p.Blocks))
		checkRefusal(t, err, dp.CodeInvalidQuery, "not kept")
	})
	checkTotals(t, s, c.catalog, []string{"2026-02"}, 1, 1)
	if inFiles(t, s.dir, bytesOf("ann")) {
		t.Error("its rows are in a file")
	}
}

// The run of the day retires, and the first one of a process; what a load keeps from it waits, and with it the erasures of
// the dataset, which are of what is not retired alone.
func TestBlocksRetireWithTheRunOfTheDay(t *testing.T) {
	c := newCatalog()
	o := small()
	o.EraseAt, o.EraseRetry, o.EraseWait = 3*time.Hour, 5*time.Millisecond, 20*time.Millisecond
	var mu sync.Mutex
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	o.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	dir := t.TempDir()
	s := open(t, dir, c, o)
	waitFor(t, "the first run of the process", func() bool { return !s.dueRetirement() })
	threeMonths(t, s)
	c.retire("2026-02")
	if s.dueRetirement() {
		t.Error("another run is due on the same day")
	}
	mu.Lock()
	at = at.Add(15 * time.Hour)
	mu.Unlock()
	if !s.dueRetirement() {
		t.Error("no run is due on the next day")
	}

	body, rest := io.Pipe()
	loaded := make(chan error, 1)
	go func() {
		_, err := s.Load(context.Background(), clicks(), days("hangs", "2026-03-01", "2026-03-31"), body, noError)
		loaded <- err
	}()
	if _, err := io.WriteString(rest, clicksHeader+"ann,2026-03-06,page,1,x\n"); err != nil {
		t.Fatal(err)
	}
	mustErase(t, s, clicks(), "dee")
	if err := s.RunErasures(t.Context()); !errors.Is(err, errLoading) || c.gone() != "" || c.ended() != 0 {
		t.Errorf("while a load hangs: %v, gone %q, %d erasures ended", err, c.gone(), c.ended())
	}
	if err := rest.CloseWithError(io.ErrUnexpectedEOF); err != nil {
		t.Fatal(err)
	}
	if err := <-loaded; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	s.EraseSoon()
	waitFor(t, "it is tried again", func() bool { return c.gone() == "2026-02" && c.ended() == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.retire("2026-03")
	s = open(t, dir, c, o)
	waitFor(t, "the first run of the next process", func() bool { return c.gone() == "2026-03" })
	checkTotals(t, s, c, []string{"2026-03"}, 3, 24)
}

func TestRowsOfRetiredBlocksAreRejected(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	c.retire("2026-02")
	text := clicksHeader + "ann,2026-01-31,home,1,x\nbob,2026-02-01,home,1,x\ncid,2025-12-31,home,1,x\n"
	r := mustLoad(t, s, clicks(), days("one", "2026-02-01", "2026-02-28"), text)
	if r.Accepted != 1 || r.Rejected != 2 || len(r.Rejects) != 2 || r.Rejects[0].Line != 2 || r.Rejects[1].Line != 4 || !strings.Contains(r.Rejects[0].Reason, "retired") {
		t.Errorf("loaded %+v", r)
	}
	dry := LoadSpec{Format: spec("").Format, DryRun: true}
	got, err := s.Load(t.Context(), clicks(), dry, strings.NewReader(text), noError)
	if err != nil || got.Accepted != 1 || strings.Join(got.Load.Blocks, " ") != "2026-02" {
		t.Errorf("a dry run says %+v, %v", got, err)
	}
	dry = days("", "2026-01-01", "2026-02-28")
	dry.DryRun = true
	_, err = s.Load(t.Context(), clicks(), dry, strings.NewReader(text), noError)
	checkRefusal(t, err, dp.CodeInvalidInput, "from 2026-02-01 on")
}
