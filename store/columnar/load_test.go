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
	"github.com/discreet-analytics/discreet/dp/rows"
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
	for name, first := range map[string]LoadSpec{"named": spec("one"), "named by its content": spec("")} {
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
			for _, v := range c.now("clicks", []string{"2026-01", "2026-02"}).Blocks {
				if v.Version != 2 {
					t.Errorf("version %+v, want a bump by the repeat", v)
				}
			}
			checkTotals(t, s, c, []string{"2026-01"}, 1, 1)

			longer := first
			longer.To = rows.Date{Year: 2026, Month: 3, Day: 28}
			_, err := s.Load(context.Background(), clicks(), longer, strings.NewReader(text), noError)
			checkRefusal(t, err, dp.CodeConflict, "other blocks")
			if !slices.Equal(stored(t, s), before) || len(c.pending) > 0 {
				t.Errorf("the refused one left something; pending are %v", c.pending)
			}
		})
	}
}

func TestNameOfALoadIsForOneContent(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\n"
	mustLoad(t, s, clicks(), spec("one"), text)
	before := stored(t, s)
	_, err := s.Load(context.Background(), clicks(), spec("one"), strings.NewReader(text+"bob,2026-01-05,home,1.5,x\n"), noError)
	checkRefusal(t, err, dp.CodeConflict, "give this one another name")
	if !slices.Equal(stored(t, s), before) || len(c.pending) > 0 {
		t.Errorf("the refused one left something; pending are %v", c.pending)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
}

func TestLoadWithoutANameIsNamedByTheKeyedDigestOfItsContent(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\n"
	digest := secrets{}.ContentDigest()
	digest.Write([]byte(text))
	want := fmt.Sprintf("content-%x", digest.Sum(nil)[:16])
	dry := spec("")
	dry.DryRun = true
	if r := mustLoad(t, s, clicks(), dry, text); r.Load.Name != want {
		t.Errorf("a dry run is named %q, want %q", r.Load.Name, want)
	}
	for _, more := range []string{"", "bob,2026-01-05,home,1.5,x\n"} {
		r := mustLoad(t, s, clicks(), spec(""), text+more)
		if (r.Load.Name == want) != (more == "") || r.Repeated {
			t.Errorf("a load is named %q, repeated %v", r.Load.Name, r.Repeated)
		}
		if named := c.named["clicks/"+r.Load.Name]; named.ID != r.Load.ID {
			t.Errorf("committed was %+v", named)
		}
	}
	checkTotals(t, s, c, []string{"2026-01"}, 2, 3)
}

func TestEveryRowIsItsOwnCustomerAcrossLoads(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	p := clicks()
	p.Unit, p.Time = dp.Unit{Row: true, Block: dp.All}, nil
	undeclared := LoadSpec{Format: load.CSV} // there is one block
	for _, last := range []string{"home,1\n", "home,1\n", "away,1\n"} {
		mustLoad(t, s, p, undeclared, "page,seconds\nhome,1\nhome,1\n"+last)
	}
	if got := aggregate(t, s, c, perBlock(p, "all")); got[0].Totals[0] != 6 {
		t.Errorf("%v customers of two different loads, want 6", got[0].Totals[0])
	}
}

// What rows mean follows from the policy by which they were read, whichever is in force when their load begins.
func TestLoadBeginsUnderThePolicyThatItsRowsAreReadBy(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	p := clicks()
	for _, version := range []uint64{3, 7} {
		p.Version = version
		r := mustLoad(t, s, p, spec(fmt.Sprint(version)), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
		if got := c.policies[numbered(r.Load)]; got != version {
			t.Errorf("it began under version %d, want %d", got, version)
		}
	}
}

func TestDryRunStoresNothing(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	dry := LoadSpec{Name: "one", Format: load.CSV, DryRun: true}
	text := clicksHeader + "ann,2026-02-05,home,1.5,x\n,,,,\nann,2026-01-05,home,1.5,x\n"
	for want, spec := range map[string]LoadSpec{"2026-01 2026-02": dry, "2026-02 2026-03": days("one", "2026-02-01", "2026-03-01")} {
		spec.DryRun = true
		r := mustLoad(t, s, clicks(), spec, text)
		accepted := int64(2)
		if spec != dry {
			accepted = 1
		}
		if r.Accepted != accepted || r.Rejected != 3-accepted || strings.Join(r.Load.Blocks, " ") != want {
			t.Errorf("%+v, want blocks %s", r, want)
		}
	}
	if len(stored(t, s)) > 0 || c.ids["clicks"] != 0 {
		t.Error("something was stored")
	}
}

// A failure at any step leaves nothing that counts and nothing on disk that anybody would find.
func TestFailedLoadLeavesNothing(t *testing.T) {
	text := clicksHeader + strings.Repeat("ann,2026-01-05,home,1.5,x\n", 50)
	cut := errors.New("body is shorter than its Content-Length")
	for name, c := range map[string]struct {
		in     io.Reader
		verify func() error
		want   func(*testing.T, error)
	}{
		"cut upload": {strings.NewReader(text), func() error { return cut }, func(t *testing.T, err error) {
			if err != cut {
				t.Errorf("got %v", err)
			}
		}},
		"broken connection": {io.MultiReader(strings.NewReader(text), failing{cut}), noError, func(t *testing.T, err error) {
			if !errors.Is(err, cut) {
				t.Errorf("got %v", err)
			}
		}},
		"all rejected": {strings.NewReader(clicksHeader + "ann,5.1.2026,home,1,x\n"), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeInvalidInput, "line 2: time: not a date")
		}},
		"no header": {strings.NewReader(""), noError, func(t *testing.T, err error) {
			checkRefusal(t, err, dp.CodeInvalidInput, "no header")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			catalog := newCatalog()
			o := small()
			o.BufferRows = 10
			s := open(t, t.TempDir(), catalog, o)
			_, err := s.Load(context.Background(), clicks(), spec("one"), c.in, c.verify)
			c.want(t, err)
			checkNothingLeft(t, s, catalog)
			checkTotals(t, s, catalog, []string{"2026-01"})
			mustLoad(t, s, clicks(), spec("one"), text) // the name is free
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
	checkNothingLeft(t, s, c)
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
			if _, pending := c.pending["clicks/1"]; pending == lost {
				t.Error("a load in doubt was ended")
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, c, small())
			if kept := len(stored(t, s)) == before; kept != lost {
				t.Errorf("segments kept: %v, committed: %v", kept, lost)
			}
			if len(c.pending) > 0 {
				t.Errorf("pending are %v", c.pending)
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
	checkNothingLeft(t, s, c)
}

func TestLoadThatDiedIsSweptAtTheNextStart(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.BufferRows = 10
	s := open(t, dir, c, o)
	p := clicks()
	d := &delivery{store: s, policy: p, spec: spec("one"), declared: []string{"2026-01"}, reasons: map[string]int64{}}
	if err := d.begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.readAll(context.Background(), strings.NewReader(clicksHeader+strings.Repeat("ann,2026-01-05,home,1.5,x\n", 35))); err != nil {
		t.Fatal(err)
	}
	if len(stored(t, s)) == 0 {
		t.Fatal("nothing was written before the process died")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c, o)
	checkNothingLeft(t, s, c)
	mustLoad(t, s, p, spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
}

// A load that repeats has no segments, so that only the catalog knows of it.
func TestRepeatThatDiedIsEndedByTheNextLoad(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	text := clicksHeader + "ann,2026-01-05,home,1.5,x\n"
	mustLoad(t, s, clicks(), spec("one"), text)
	d := &delivery{store: s, policy: clicks(), spec: spec("one"), declared: []string{"2026-01", "2026-02"}}
	if err := d.begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(c.pending) != 1 || d.earlier == nil {
		t.Fatalf("pending are %v, the earlier load is %v", c.pending, d.earlier)
	}
	mustLoad(t, s, clicks(), spec("two"), text)
	if len(c.pending) > 0 {
		t.Errorf("pending are %v", c.pending)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 2)
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
		"none":            {LoadSpec{Format: load.CSV}, dp.CodeInvalidInput, "give the first and the last day"},
		"only from":       {days("", "2026-01-01", ""), dp.CodeInvalidInput, "give the first and the last day"},
		"only to":         {days("", "", "2026-01-01"), dp.CodeInvalidInput, "give the first and the last day"},
		"dry, only from":  {LoadSpec{Format: load.CSV, DryRun: true, From: rows.FirstDate()}, dp.CodeInvalidInput, "give the first and the last day"},
		"inverted":        {days("", "2026-01-02", "2026-01-01"), dp.CodeInvalidInput, "exchange"},
		"too many blocks": {days("", "2026-01-01", "2027-01-01"), dp.CodeTooLarge, "at most 12 blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Load(context.Background(), clicks(), c.spec, strings.NewReader(clicksHeader), noError)
			checkRefusal(t, err, c.code, c.says)
		})
	}
	p := clicks()
	p.Unit.Block = dp.All
	mustLoad(t, s, p, LoadSpec{Format: load.CSV}, clicksHeader) // there is only one to cover
}

func TestDryRunOverTooManyBlocksIsRefused(t *testing.T) {
	o := small()
	o.LoadBlocks = 3
	s := open(t, t.TempDir(), newCatalog(), o)
	var text strings.Builder
	text.WriteString(clicksHeader)
	for month := range 4 {
		fmt.Fprintf(&text, "ann,2026-%02d-05,home,1,x\n", month+1)
	}
	_, err := s.Load(context.Background(), clicks(), LoadSpec{Format: load.CSV, DryRun: true}, strings.NewReader(text.String()), noError)
	checkRefusal(t, err, dp.CodeTooLarge, "at most 3 blocks")
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
	parts := 0
	walk(t, s, func(key, value []byte) {
		if len(value) >= valueThreshold {
			t.Errorf("a value has %d bytes", len(value))
		}
		if bytes.HasPrefix(key, []byte("dict/")) {
			parts++
		}
	})
	if parts < 6 {
		t.Errorf("6 MB of texts in %d parts", parts)
	}
	s.dictionaries = newDictionaries(s.db) // as after a restart
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
