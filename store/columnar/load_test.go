package columnar

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/store/load"
)

func TestLoadedRowsAreCountedAndRejectsReported(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	r := mustLoad(t, s, clicks(), days("one", "2026-01-01", "2026-02-28"), clicksHeader+
		"ann,2026-01-05,home,1.5,x\nann,2026-01-06,home,,x\nbob,2026-01-05,,2,x\n,2026-01-05,home,1,x\nann,2026-02-01,home,1,x\nann,2026-03-01,home,1,x\n,2026-01-05,home,1,x\n")
	if r.Accepted != 4 || r.Rejected != 3 || r.Repeated || !slices.Equal(r.Load.Blocks, []string{"2026-01", "2026-02"}) {
		t.Errorf("%+v", r)
	}
	if want := []Reason{{"customer: missing", 2}, {"time: outside of the blocks that the load covers", 1}}; !reflect.DeepEqual(r.Reasons, want) {
		t.Errorf("reasons %v", r.Reasons)
	}
	if want := (Reject{5, "customer: missing"}); len(r.Rejects) != 3 || r.Rejects[0] != want {
		t.Errorf("rejects %v", r.Rejects)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 2, 3, 2)
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 2, 4, 3)
	checkTotals(t, s, c, []string{"2026-03"})
}

func TestLoadSurvivesReopening(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	mustLoad(t, s, clicks(), spec(""), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := small()
	o.Shards = 7 // of a new store only
	checkTotals(t, open(t, dir, c, o), c, []string{"2026-01"}, 1, 1, 1)
}

func TestEveryDeclaredBlockIsBumpedWithRowsOrWithout(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	r := mustLoad(t, s, clicks(), days("one", "2026-01-15", "2026-03-02"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	if !slices.Equal(r.Load.Blocks, []string{"2026-01", "2026-02", "2026-03"}) {
		t.Errorf("blocks %v", r.Load.Blocks)
	}
	for _, v := range c.now("clicks", r.Load.Blocks).Blocks {
		if v.Version != 1 {
			t.Errorf("%+v", v)
		}
	}
	mustLoad(t, s, clicks(), days("none", "2026-02-01", "2026-02-28"), clicksHeader)
	checkTotals(t, s, c, []string{"2026-02", "2026-03"})
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 1, 1)
}

func TestSameLoadTwiceAddsNothing(t *testing.T) {
	for name, first := range map[string]LoadSpec{"declared": days("one", "2026-01-01", "2026-02-28"), "of its rows": spec("one")} {
		t.Run(name, func(t *testing.T) {
			c := newCatalog()
			s := open(t, t.TempDir(), c, small())
			text := clicksHeader + "ann,2026-01-05,home,1.5,x\n"
			done := mustLoad(t, s, clicks(), first, text)
			before := stored(t, s)
			again := mustLoad(t, s, clicks(), first, text)
			if !again.Repeated || again.Accepted != 1 || again.Load.ID != done.Load.ID {
				t.Errorf("%+v", again)
			}
			if !slices.Equal(stored(t, s), before) {
				t.Error("the repeat stored something")
			}
			if v := c.now("clicks", []string{"2026-01"}).Blocks[0].Version; v != 2 {
				t.Errorf("version %d, want a bump by the repeat", v)
			}
			checkTotals(t, s, c, []string{"2026-01"}, 1, 1)

			_, err := s.Load(context.Background(), clicks(), first, strings.NewReader(text+"bob,2026-01-05,home,1.5,x\n"), noError)
			checkRefusal(t, err, dp.CodeConflict, "give this one another name")
			_, err = s.Load(context.Background(), clicks(), days("one", "2026-01-01", "2026-03-28"), strings.NewReader(text), noError)
			checkRefusal(t, err, dp.CodeConflict, "other blocks")
			checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
		})
	}
}

func TestUnnamedLoadsAreNeverRepeats(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	for range 2 {
		mustLoad(t, s, clicks(), spec(""), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 2)
}

func TestEveryRowIsItsOwnCustomerAcrossLoads(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	p := clicks()
	p.Unit, p.Time = dp.Unit{Row: true, Block: dp.All}, nil
	for range 2 {
		mustLoad(t, s, p, spec(""), "page,seconds\nhome,1\nhome,1\nhome,1\n")
	}
	if got := aggregate(t, s, c, perBlock(p, "all")); got[0].Totals[0] != 6 {
		t.Errorf("%v customers, want 6", got[0].Totals[0])
	}
}

func TestDryRunStoresNothing(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	dry := spec("one")
	dry.DryRun = true
	r := mustLoad(t, s, clicks(), dry, clicksHeader+"ann,2026-01-05,home,1.5,x\n,,,,\n")
	if r.Accepted != 1 || r.Rejected != 1 || !slices.Equal(r.Load.Blocks, []string{"2026-01"}) {
		t.Errorf("%+v", r)
	}
	if len(stored(t, s)) > 0 || c.ids["clicks"] != 0 {
		t.Error("something was stored")
	}
}

// A failure at any step leaves nothing that counts and nothing on disk that anybody would find.
func TestFailedLoadLeavesNothing(t *testing.T) {
	rows := clicksHeader + strings.Repeat("ann,2026-01-05,home,1.5,x\n", 50)
	cut := errors.New("body is shorter than its Content-Length")
	for name, c := range map[string]struct {
		in     io.Reader
		verify func() error
		want   func(*testing.T, error)
	}{
		"cut upload": {strings.NewReader(rows), func() error { return cut }, func(t *testing.T, err error) {
			if err != cut {
				t.Errorf("got %v", err)
			}
		}},
		"broken connection": {io.MultiReader(strings.NewReader(rows), failing{cut}), noError, func(t *testing.T, err error) {
			if !errors.Is(err, cut) {
				t.Errorf("got %v", err)
			}
		}},
		"too many blocks": {strings.NewReader(rows + "ann,2026-02-05,home,1,x\nann,2026-03-05,home,1,x\nann,2026-04-05,home,1,x\n"), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeTooLarge, "at most 3 blocks")
		}},
		"all rejected": {strings.NewReader(clicksHeader + "ann,5.1.2026,home,1,x\n"), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeInvalidInput, "line 2: time: not a date")
		}},
		"nothing at all": {strings.NewReader(clicksHeader), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeInvalidInput, "from and to")
		}},
		"no header": {strings.NewReader(""), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeInvalidInput, "no header")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			catalog := newCatalog()
			o := small()
			o.BufferRows, o.LoadBlocks = 10, 3
			s := open(t, t.TempDir(), catalog, o)
			_, err := s.Load(context.Background(), clicks(), spec("one"), c.in, c.verify)
			c.want(t, err)
			if keys := stored(t, s); len(keys) > 0 {
				t.Errorf("%d keys are left", len(keys))
			}
			checkTotals(t, s, catalog, []string{"2026-01"})
			mustLoad(t, s, clicks(), spec("one"), rows) // the name is free
			checkTotals(t, s, catalog, []string{"2026-01"}, 1, 50)
		})
	}
}

func TestCancelledLoadLeavesNothing(t *testing.T) {
	c := newCatalog()
	o := small()
	o.BufferRows = 500
	s := open(t, t.TempDir(), c, o)
	ctx, cancel := context.WithCancel(context.Background())
	body := io.MultiReader(
		strings.NewReader(clicksHeader+strings.Repeat("ann,2026-01-05,home,1.5,x\n", 100_000)),
		calling(cancel),
		strings.NewReader(strings.Repeat("ann,2026-01-05,home,1.5,x\n", 100_000)))
	if _, err := s.Load(ctx, clicks(), spec("one"), body, noError); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(stored(t, s)) > 0 {
		t.Error("keys are left")
	}
}

// While nobody knows whether the ledger committed, the segments stay and do not count; at the next start the
// ledger knows.
func TestCommitInDoubtIsSettledByTheCatalog(t *testing.T) {
	for name, lost := range map[string]bool{"not committed": false, "committed, the reply was lost": true} {
		t.Run(name, func(t *testing.T) {
			c, dir := newCatalog(), t.TempDir()
			s := open(t, dir, c, small())
			c.commit, c.lost = func() error { return errors.New("ledger is gone") }, lost
			_, err := s.Load(context.Background(), clicks(), spec("one"), strings.NewReader(clicksHeader+"ann,2026-01-05,home,1.5,x\n"), noError)
			if err == nil {
				t.Fatal("no error")
			}
			c.commit = nil
			if len(stored(t, s)) == 0 {
				t.Error("segments are gone while in doubt")
			}
			mustLoad(t, s, clicks(), spec("two"), clicksHeader+"bob,2026-01-05,home,1.5,x\n") // does not sweep them
			before := len(stored(t, s))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, c, small())
			if kept := len(stored(t, s)) == before; kept != lost {
				t.Errorf("segments kept: %v, committed: %v", kept, lost)
			}
			want := int64(1)
			if lost {
				want = 2
			}
			checkTotals(t, s, c, []string{"2026-01"}, want, want)
		})
	}
}

func TestLoadThatTheCatalogRefusesIsRemoved(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	c.commit = func() error { return refuse(dp.CodeConflict, "the policy changed") }
	_, err := s.Load(context.Background(), clicks(), spec("one"), strings.NewReader(clicksHeader+"ann,2026-01-05,home,1.5,x\n"), noError)
	checkRefusal(t, err, dp.CodeConflict, "the policy changed")
	if len(stored(t, s)) > 0 {
		t.Error("segments are left")
	}
}

func TestLoadThatDiedIsSweptAtTheNextStart(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.BufferRows = 10
	s := open(t, dir, c, o)
	p := clicks()
	begun, _, err := c.BeginLoad(context.Background(), "clicks", "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &delivery{store: s, policy: &p.Policy, spec: spec("one"), reasons: map[string]int64{}}
	if d.writer, err = s.newWriter(&p.Policy, begun); err != nil {
		t.Fatal(err)
	}
	if _, err := d.readAll(context.Background(), begun, strings.NewReader(clicksHeader+strings.Repeat("ann,2026-01-05,home,1.5,x\n", 35))); err != nil {
		t.Fatal(err)
	}
	if len(stored(t, s)) == 0 {
		t.Fatal("nothing was written before the process died")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c, o)
	if keys := stored(t, s); len(keys) > 0 {
		t.Errorf("%d keys are left", len(keys))
	}
	mustLoad(t, s, p, spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
}

func TestNumberOfALoadIsNeverUsedTwice(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\n"
	mustLoad(t, s, clicks(), spec("one"), text)
	c.ids["clicks"] = 0 // an older ledger was restored beside newer rows
	_, err := s.Load(context.Background(), clicks(), spec("two"), strings.NewReader(text), noError)
	if err == nil || !strings.Contains(err.Error(), "the ledger is older than the rows") {
		t.Errorf("got %v", err)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
}

func TestDaysOfALoadAreChecked(t *testing.T) {
	o := small()
	o.LoadBlocks = 12
	s := open(t, t.TempDir(), newCatalog(), o)
	for name, c := range map[string]struct {
		spec LoadSpec
		code dp.Code
		says string
	}{
		"only from":       {days("", "2026-01-01", ""), dp.CodeInvalidInput, "go together"},
		"only to":         {days("", "", "2026-01-01"), dp.CodeInvalidInput, "go together"},
		"inverted":        {days("", "2026-01-02", "2026-01-01"), dp.CodeInvalidInput, "exchange"},
		"too many blocks": {days("", "2026-01-01", "2027-01-01"), dp.CodeTooLarge, "at most 12 blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Load(context.Background(), clicks(), c.spec, strings.NewReader(clicksHeader), noError)
			checkRefusal(t, err, c.code, c.says)
		})
	}
}

func TestLoadsOfOneDatasetWaitForEachOther(t *testing.T) {
	c := newCatalog()
	o := small()
	o.BufferRows, o.Loads = 7, 2
	s := open(t, t.TempDir(), c, o)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			p := clicks()
			if i%2 == 0 {
				p.Name = "other"
			}
			var text strings.Builder
			text.WriteString(clicksHeader)
			for row := range 40 {
				fmt.Fprintf(&text, "user%d,2026-0%d-05,home,1,x\n", row%10, 1+row%2)
			}
			if _, err := s.Load(context.Background(), p, spec(fmt.Sprint(i)), strings.NewReader(text.String()), noError); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 10, 160)

	release, err := s.admit(context.Background(), "clicks")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Load(ctx, clicks(), spec(""), strings.NewReader(""), noError); !errors.Is(err, context.Canceled) {
		t.Errorf("while another loads: %v", err)
	}
	release()
}

func TestIdentifiersAndUnlistedColumnsAreNeverStored(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"IDENTIFIER77,2026-01-05,PAGE77,1.5,UNLISTED77\n")
	found := false
	check := func(where string, content []byte) {
		for _, secret := range []string{"IDENTIFIER77", "UNLISTED77"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds %s", where, secret)
			}
		}
		found = found || bytes.Contains(content, []byte("PAGE77"))
	}
	walk(t, s, func(key, value []byte) { check(string(key), value) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		check(filepath.Base(path), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("not even the page was found: the test looks in the wrong place")
	}
}

func TestLongTextsStayBelowTheValueLog(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	var text strings.Builder
	text.WriteString(clicksHeader)
	for i := range 1500 {
		fmt.Fprintf(&text, "ann,2026-01-05,%04000d,1,x\n", i)
	}
	mustLoad(t, s, clicks(), spec("one"), text.String())
	segments := 0
	walk(t, s, func(key, value []byte) {
		if len(value) >= valueThreshold {
			t.Errorf("a value has %d bytes", len(value))
		}
		if bytes.HasPrefix(key, []byte("rows/")) && key[len(key)-1] == byte(headerColumn) {
			segments++
		}
	})
	if segments < 6 {
		t.Errorf("6 MB of texts in %d segments", segments)
	}
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	p.Tree.Input.Partitions = 5000
	if got := aggregate(t, s, c, p); len(got) != 1500 {
		t.Errorf("%d pages", len(got))
	}
}

func TestGzipAndNDJSONAreTheSameContent(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	text := `{"user":"ann","at":"2026-01-05","page":"home","seconds":1.5}`
	j := spec("one")
	j.Format = load.NDJSON
	mustLoad(t, s, clicks(), j, text)
	j.Gzip = true
	if r := mustLoad(t, s, clicks(), j, packed(t, text)); !r.Repeated {
		t.Error("the compressed file is another content")
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// calling is an empty reader that calls a function.
type calling func()

func (c calling) Read([]byte) (int, error) {
	c()
	return 0, io.EOF
}
