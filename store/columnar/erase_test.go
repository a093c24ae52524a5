package columnar

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

func mustErase(t *testing.T, s *Store, p dp.VersionedPolicy, units ...string) dp.Erasure {
	t.Helper()
	e, err := s.Erase(t.Context(), p, EraseSpec{By: "warehouse", Format: Lines}, strings.NewReader(strings.Join(units, "\n")), noError)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// bytesOf are those by which segments name a customer.
func bytesOf(customer string) []byte {
	return binary.LittleEndian.AppendUint64(nil, secrets{}.Pseudonym(customer))
}

// What names a customer, and what only they used, is found in the files first: of loads that were merged and that were
// not, and of one that failed. After the run it is in no file, and everybody else is still there.
func TestErasedCustomerLeavesAnswersAndFiles(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.BufferRows = 7
	s := open(t, dir, c, o)
	for i := range 5 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for _, user := range []string{"ann", "bob", "cid", "dee"} {
			for month := range 2 {
				fmt.Fprintf(&text, "%s,2026-%02d-05,only-%s-%d,1,x\n%s,2026-%02d-06,everybody,2,x\n", user, 1+month, user, i, user, 1+month)
			}
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), text.String())
		if i == 2 {
			if err := s.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := s.Load(t.Context(), clicks(), spec("failed"), strings.NewReader(clicksHeader+strings.Repeat("ann,2026-01-05,only-ann-failed,1,x\n", 20)), func() error { return io.ErrUnexpectedEOF })
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	mine := [][]byte{bytesOf("ann"), []byte("only-ann-0"), []byte("only-ann-4")}
	others := [][]byte{bytesOf("bob"), []byte("only-bob-0"), []byte("only-bob-4"), []byte("everybody")}
	check := func(where, dir string, gone bool) {
		t.Helper()
		for _, text := range mine {
			if inFiles(t, dir, text) == gone {
				t.Errorf("%s: %q in the files: %v", where, text, gone)
			}
		}
		for _, text := range others {
			if !inFiles(t, dir, text) {
				t.Errorf("%s: %q is in no file", where, text)
			}
		}
	}
	check("before", dir, false)
	checkTotals(t, s, c, []string{"2026-01"}, 4, 40)

	e := mustErase(t, s, clicks(), "ann")
	if e.Units != 1 || e.By != "warehouse" || e.Dataset != "clicks" || !e.Ended.IsZero() {
		t.Errorf("%+v", e)
	}
	check("while the erasure waits", dir, false)
	checkTotals(t, s, c, []string{"2026-01"}, 3, 30)
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after", dir, true)
	if inFiles(t, dir, []byte("only-ann-failed")) {
		t.Error("a text of the load that failed is in a file")
	}
	checkTotals(t, s, c, []string{"2026-01"}, 3, 30)
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 3, 60)
	if len(c.erasures) != 1 || c.erasures["clicks/"+e.ID].Ended.IsZero() {
		t.Errorf("the catalog has %+v", c.erasures)
	}
	if got := c.now("clicks", []string{"2026-01"}).Blocks[0].Version; got != 5 {
		t.Errorf("the block is at version %d, want 5 as before", got)
	}
	checkNothingLeftOver(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("after closing", dir, true)
	s = open(t, dir, c, o)
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 3, 60)
}

// erase asks for the erasure of some customers, and takes their rows out of what is expected.
func (h *history) erase(t *testing.T) {
	t.Helper()
	var units []string
	for range 1 + h.random.IntN(2) {
		units = append(units, fmt.Sprint("u", h.random.IntN(12))) // some of whom never were
	}
	mustErase(t, h.store, h.policy, units...)
	h.waiting = append(h.waiting, units...)
	h.forget(units)
}

func (h *history) forget(units []string) {
	gone := func(r rows.Row) bool {
		return slices.ContainsFunc(units, func(unit string) bool { return secrets{}.Pseudonym(unit) == r.Customer })
	}
	h.rows = slices.DeleteFunc(h.rows, gone)
	for i := range h.visible {
		h.visible[i] = slices.DeleteFunc(slices.Clone(h.visible[i]), gone)
	}
}

// Loads, merges, erasures, their runs and reopenings in random order give the reference's integers over the rows of
// everybody else, at every version.
func TestAnswersAfterErasuresAreThoseOfTheOthers(t *testing.T) {
	answers, runs := 0, 0
	for seed := range uint64(6) {
		h := &history{world: newWorld(t, 2000+seed)}
		h.load(t)
		if h.policy.Unit.Row {
			continue
		}
		h.erase(t)
		for range 10 {
			switch h.random.IntN(8) {
			case 0, 1, 2:
				h.load(t)
				h.forget(h.waiting) // who waits to be erased is not seen in later loads either
			case 3:
				if err := h.store.Close(); err != nil {
					t.Fatal(err)
				}
				h.store = open(t, h.store.dir, h.catalog, h.store.options)
			case 4:
				if err := h.store.compact(t.Context(), appetite{runs: 1 + h.random.IntN(6), loads: 1 + h.random.IntN(3)}, nil); err != nil {
					t.Fatal(err)
				}
			case 5:
				h.erase(t)
			default:
				if err := h.store.RunErasures(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.waiting = nil // and adds rows again
				runs++
			}
			answers += h.check(t, h.store, 3)
		}
	}
	if answers < 100 || runs < 5 {
		t.Errorf("only %d partitions were compared, around %d runs", answers, runs)
	}
}

// A customer who never was gets the same reply and the same record, and the run does the same.
func TestErasureOfNobodyLooksLikeAnyOther(t *testing.T) {
	c := newCatalog()
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	o := small()
	o.Shards, o.Clock = 1, func() time.Time { return at }
	s := open(t, t.TempDir(), c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\nbob,2026-01-05,home,1.5,x\n")
	first := mustErase(t, s, clicks(), "ann")
	second := mustErase(t, s, clicks(), "nobody")
	if first.ID == second.ID || len(first.ID) != len(second.ID) {
		t.Errorf("the erasures are %s and %s", first.ID, second.ID)
	}
	first.ID, second.ID = "", ""
	if first != second {
		t.Errorf("replies differ: %+v, %+v", first, second)
	}
	given := recordOf(t, s, shardOf{"clicks", "2026-01", 0}).Given
	for _, unit := range []string{"", "nobody", "bob"} {
		if unit != "" {
			mustErase(t, s, clicks(), unit)
		}
		if err := s.RunErasures(t.Context()); err != nil {
			t.Fatal(err)
		}
		given++
		if got := recordOf(t, s, shardOf{"clicks", "2026-01", 0}).Given; got != given {
			t.Errorf("after the erasure of %q generation %d is in force, want %d", unit, got, given)
		}
	}
	for id, e := range c.erasures {
		if e.Ended.IsZero() || e.Units != 1 {
			t.Errorf("%s: %+v", id, e)
		}
	}
}

// The files as they are whenever the run is about to write, and once it has, are those of a process that died there.
// The next run ends what it began.
func TestErasureThatDiesAnywhere(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	o := small()
	o.Shards, o.SegmentRows, o.BufferRows, o.MemTable = 2, 3, 8, 8<<20
	copies := 0
	copying := false
	quiet := o
	at := func() {
		if !copying {
			return
		}
		copies++
		image := filepath.Join(t.TempDir(), "image")
		copyFiles(t, dir, image)
		own := c.clone()
		s, err := Open(image, own, secrets{}, quiet)
		if err != nil {
			t.Error(err)
			return
		}
		checkTotals(t, s, own, []string{"2026-01"}, 3, 45)
		if err := s.RunErasures(t.Context()); err != nil {
			t.Error(err)
		}
		checkTotals(t, s, own, []string{"2026-01"}, 3, 45)
		for _, text := range [][]byte{bytesOf("ann"), []byte("only-ann")} {
			if inFiles(t, image, text) {
				t.Errorf("copy %d: %q is in a file after the next run", copies, text)
			}
		}
		if !inFiles(t, image, bytesOf("bob")) || !inFiles(t, image, []byte("only-bob")) {
			t.Errorf("copy %d: others are gone", copies)
		}
		for id, e := range own.erasures {
			if e.Ended.IsZero() {
				t.Errorf("copy %d: %s has not ended", copies, id)
			}
		}
		checkNothingLeftOver(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	o.Room = func() error { at(); return nil }
	s := open(t, dir, c, o)
	for i := range 3 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for _, user := range []string{"ann", "bob", "cid", "dee"} {
			fmt.Fprintf(&text, strings.Repeat("%[1]s,2026-01-05,only-%[1]s,1,x\n", 5), user)
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), text.String())
	}
	mustErase(t, s, clicks(), "ann")
	copying = true
	end := s.db.scans.begin()
	done := make(chan error, 1)
	go func() { done <- s.RunErasures(context.Background()) }()
	waitFor(t, "it waits for the scan", func() bool {
		s.db.scans.mu.Lock()
		defer s.db.scans.mu.Unlock()
		return s.db.scans.ended != nil
	})
	at()
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	at()
	if copies < 8 {
		t.Errorf("only %d images", copies)
	}
}

// clone is a catalog that goes on by itself.
func (c *catalog) clone() *catalog {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := newCatalog()
	for key, versions := range c.versions {
		own.versions[key] = slices.Clone(versions)
	}
	for key, e := range c.erasures {
		own.erasures[key] = e
	}
	own.retired = c.retired
	return own
}

func TestManyRowsOfOneCustomerAreHidden(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	var text strings.Builder
	text.WriteString(clicksHeader)
	for i := range 5*decodedAtOnce + 10 {
		fmt.Fprintf(&text, "%s,2026-01-05,home,1,x\n", []string{"ann", "ann", "bob"}[i%3])
	}
	mustLoad(t, s, clicks(), spec("one"), text.String())
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Rows = 1 << 20
	rows := aggregate(t, s, c, p)[0].Totals[1]
	mustErase(t, s, clicks(), "ann")
	if got := aggregate(t, s, c, p); got[0].Totals[0] != 1 || got[0].Totals[1] != rows/3 {
		t.Errorf("of %d rows, a third of them another's, %v are seen", rows, got)
	}
}

// What is kept takes place and is recorded, also where the catalog could not be told at first.
func TestErasureThatTheCatalogDidNotHearOf(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\nbob,2026-01-05,home,1.5,x\n")
	c.refused = &dp.Error{Code: dp.CodeUnavailable, Message: "full"}
	_, err := s.Erase(t.Context(), clicks(), EraseSpec{By: "warehouse", Format: Lines}, strings.NewReader("ann"), noError)
	checkRefusal(t, err, dp.CodeUnavailable, "full")
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
	if err := s.RunErasures(t.Context()); !errors.Is(err, c.refused) {
		t.Errorf("while the catalog refuses: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.refused = nil
	s = open(t, dir, c, small())
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range c.erasures {
		if e.Ended.IsZero() || e.By != "warehouse" || e.Units != 1 {
			t.Errorf("%+v", e)
		}
	}
	if len(c.erasures) != 1 || inFiles(t, dir, bytesOf("ann")) {
		t.Errorf("erasures are %v", c.erasures)
	}
}

func TestCustomersToEraseAreReadAsLoadsReadThem(t *testing.T) {
	names := []string{"ann", "Ünal", "a,b", `q"t`, "007"}
	for name, c := range map[string]struct {
		format load.Format
		text   string
	}{
		"lines":                   {Lines, "ann\nÜnal\r\n\na,b\nq\"t\n007"},
		"lines with a mark":       {Lines, "\ufeffann\nÜnal\na,b\nq\"t\n007\n"},
		"csv":                     {load.CSV, "name,user\nx,ann\nx,Ünal\nx,\"a,b\"\nx,\"q\"\"t\"\nx,007\n"},
		"ndjson":                  {load.NDJSON, `{"user":"ann"}` + "\n" + `{"user":"Ünal","age":3}` + "\n" + `{"user":"a,b"}` + "\n" + `{"user":"q\"t"}` + "\n" + `{"user":"007"}`},
		"the same one repeatedly": {Lines, "ann\nann\nÜnal\na,b\nq\"t\n007\nann"},
	} {
		t.Run(name, func(t *testing.T) {
			catalog := newCatalog()
			s := open(t, t.TempDir(), catalog, small())
			var text strings.Builder
			text.WriteString(clicksHeader)
			for _, n := range append(names, "bob") {
				fmt.Fprintf(&text, "\"%s\",2026-01-05,home,1,x\n", strings.ReplaceAll(n, `"`, `""`))
			}
			mustLoad(t, s, clicks(), spec("one"), text.String())
			e, err := s.Erase(t.Context(), clicks(), EraseSpec{Format: c.format}, strings.NewReader(c.text), noError)
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(strings.Count(c.text, "ann") + 4); e.Units != want {
				t.Errorf("%d were named, want %d", e.Units, want)
			}
			checkTotals(t, s, catalog, []string{"2026-01"}, 1, 1)
		})
	}
}

func TestErasuresThatAreRefusedRecordNothing(t *testing.T) {
	perRow := clicks()
	perRow.Unit = dp.Unit{Row: true, Block: dp.Month}
	cut := errors.New("cut")
	for name, c := range map[string]struct {
		policy dp.VersionedPolicy
		format load.Format
		text   string
		verify func() error
		code   dp.Code
		says   string
	}{
		"nobody":                 {clicks(), Lines, "\n\n", noError, dp.CodeInvalidInput, "nobody is named"},
		"nobody in a file":       {clicks(), load.CSV, "user\n", noError, dp.CodeInvalidInput, "nobody is named"},
		"no column":              {clicks(), load.CSV, "customer\nann\n", noError, dp.CodeInvalidInput, "user"},
		"an absent identifier":   {clicks(), load.NDJSON, `{"user":"ann"}` + "\n" + `{"user":null}`, noError, dp.CodeInvalidInput, "nothing was recorded"},
		"not UTF-8":              {clicks(), Lines, "ann\nb\xff\n", noError, dp.CodeInvalidInput, "not UTF-8"},
		"a long line":            {clicks(), Lines, "ann\n" + strings.Repeat("x", 5000), noError, dp.CodeTooLarge, "longer than an identifier"},
		"too many":               {clicks(), Lines, strings.Repeat("ann\n", 21), noError, dp.CodeTooLarge, "at most 20"},
		"too many that wait":     {clicks(), Lines, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n", noError, dp.CodeUnavailable, "at most 10"},
		"rows without customers": {perRow, Lines, "ann", noError, dp.CodeInvalidInput, "nobody to name"},
		"cut":                    {clicks(), Lines, "ann", func() error { return cut }, "", "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			catalog := newCatalog()
			o := small()
			o.EraseUnits, o.PendingUnits = 20, 10
			s := open(t, t.TempDir(), catalog, o)
			mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1,x\n")
			_, err := s.Erase(t.Context(), c.policy, EraseSpec{Format: c.format}, strings.NewReader(c.text), c.verify)
			if c.code == "" {
				if !errors.Is(err, cut) {
					t.Errorf("got %v", err)
				}
			} else {
				checkRefusal(t, err, c.code, c.says)
			}
			checkTotals(t, s, catalog, []string{"2026-01"}, 1, 1)
			if left, _, err := s.readErasures(); err != nil || len(left) > 0 || len(catalog.erasures) > 0 {
				t.Errorf("%v and %v were recorded, %v", left, catalog.erasures, err)
			}
		})
	}
}

func TestErasedRowsComeBackOnlyByAnotherLoad(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	text := clicksHeader + "ann,2026-01-05,only-ann,1.5,x\nbob,2026-01-05,home,1.5,x\n"
	mustLoad(t, s, clicks(), spec("one"), text)
	mustErase(t, s, clicks(), "ann")
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := mustLoad(t, s, clicks(), spec("one"), text); !r.Repeated {
		t.Errorf("%+v", r)
	}
	checkTotals(t, s, c, []string{"2026-01"}, 1, 1)
	mustLoad(t, s, clicks(), spec("two"), text)
	checkTotals(t, s, c, []string{"2026-01"}, 2, 3)
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	if got := aggregate(t, s, c, p); len(got) != 2 || got[1].Key[0] != "only-ann" {
		t.Errorf("got %v", got)
	}
}

// A text that leaves the dictionary leaves its code behind, for no other to take.
func TestCodeOfAPrunedTextIsNeverGivenAgain(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	codes := func(load int, pages ...string) {
		t.Helper()
		text := clicksHeader
		for i, page := range pages {
			text += fmt.Sprintf("u%d-%d,2026-01-05,%s,1,x\n", load, i, page)
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(load)), text)
	}
	erase := func(units ...string) {
		t.Helper()
		mustErase(t, s, clicks(), units...)
		if err := s.RunErasures(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want ...string) {
		t.Helper()
		d, err := s.dictionaries.get("clicks", "page")
		if err != nil {
			t.Fatal(err)
		}
		if got := d.all(); !slices.Equal(got, want) {
			t.Errorf("the dictionary is %q, want %q", got, want)
		}
	}
	codes(1, "a", "b", "c")
	erase("u1-0", "u1-2")
	check("", "b", "")
	codes(2, "c", "d")
	check("", "b", "", "c", "d")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c, small())
	check("", "b", "", "c", "d")
	erase("u2-0")
	check("", "b", "", "", "d")
	codes(3, "a")
	check("", "b", "", "", "d", "a")
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	p.Tree.Columns = p.Tree.Columns[:1]
	var pages []string
	for _, partition := range aggregate(t, s, c, p) {
		pages = append(pages, partition.Key[0])
		if partition.Totals[0] != 1 {
			t.Errorf("%v", partition)
		}
	}
	if !slices.Equal(pages, []string{"a", "b", "d"}) {
		t.Errorf("pages are %v", pages)
	}
	editions := 0
	if err := s.dictionaries.each([]byte("dict/"), func(_, _ string, _ uint32) error { editions++; return nil }); err != nil || editions != 1 {
		t.Errorf("%d editions are stored, %v", editions, err)
	}
}

func TestErasuresRunAtTheirHour(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	day := func(d, hour, minute int) time.Time { return time.Date(2026, 3, d, hour, minute, 0, 0, berlin) }
	for _, c := range []struct{ now, want time.Time }{
		{day(10, 4, 29), day(9, 4, 30)},
		{day(10, 4, 30), day(10, 4, 30)},
		{day(10, 23, 59), day(10, 4, 30)},
		{day(29, 12, 0), day(29, 4, 30)}, // the clock went forward that night
		{day(1, 0, 0), time.Date(2026, 2, 28, 4, 30, 0, 0, berlin)},
	} {
		if got := lastDue(c.now, 4*time.Hour+30*time.Minute); !got.Equal(c.want) {
			t.Errorf("at %v: %v, want %v", c.now, got, c.want)
		}
	}

	var mu sync.Mutex
	now := day(10, 12, 0)
	o := small()
	o.EraseAt = 3 * time.Hour
	o.Clock = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	e := mustErase(t, s, clicks(), "ann")
	ended := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.erasures["clicks/"+e.ID].Ended.IsZero()
	}
	for _, at := range []time.Time{day(11, 2, 59), day(11, 7, 0)} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		now = at
		mu.Unlock()
		s = open(t, dir, c, o)
		if at.Hour() < 3 {
			if due := s.dueErasures(); len(due) > 0 || ended() {
				t.Errorf("at %v it is due: %v", at, due)
			}
			continue
		}
		waitFor(t, "the run that is due takes place", ended) // it was down at three
	}
	e = mustErase(t, s, clicks(), "bob")
	s.EraseSoon()
	waitFor(t, "the run that was asked for takes place", ended)
}

func TestErasureInTheMiddleOfAScan(t *testing.T) {
	c := &pausing{catalog: newCatalog()}
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,only-ann,1.5,x\nbob,2026-01-06,about,1,x\n")
	duringScan(t, c, s, perBlock(clicks(), "2026-01"), func() { mustErase(t, s, clicks(), "ann") }, func() {
		checkTotals(t, s, c.catalog, []string{"2026-01"}, 1, 1)
	})
	checkTotals(t, s, c.catalog, []string{"2026-01"}, 1, 1)
}

// duringScan stops a question by page where it has its snapshot and no row, has rows removed and a run of erasures wait for it, looks at
// what others see, and lets it end: with what was there when it began.
func duringScan(t *testing.T, c *pausing, s *Store, p *plan.Plan, remove, meanwhile func()) {
	t.Helper()
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	want := aggregate(t, s, c.catalog, p)
	s.columns.Clear()
	reached, resume := c.pause()
	var asking sync.WaitGroup
	asking.Go(func() {
		got, err := aggregateAt(context.Background(), s, p, c.now("clicks", p.Blocks))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the scan that began before gets %v, %v", got, err)
		}
	})
	<-reached
	remove()
	done := make(chan error, 1)
	go func() { done <- s.RunErasures(context.Background()) }()
	waitFor(t, "it waits for the scan", func() bool {
		s.db.scans.mu.Lock()
		defer s.db.scans.mu.Unlock()
		return s.db.scans.ended != nil
	})
	meanwhile()
	close(resume)
	asking.Wait()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Loads, questions, merges, erasures and their runs at once lose nobody else.
func TestErasingWhileLoadingAndAsking(t *testing.T) {
	c := newCatalog()
	o := small()
	o.MergeLoads, o.MergeRuns, o.MergeEvery, o.BufferRows = 2, 2, time.Hour, 40
	s := open(t, t.TempDir(), c, o)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	p := perBlock(clicks(), "2026-01", "2026-02")
	others.Go(func() {
		for ctx.Err() == nil {
			at := c.now("clicks", p.Blocks)
			got, err := aggregateAt(context.Background(), s, p, at)
			if err != nil {
				t.Error(err)
				return
			}
			loads, rows := int64(at.Blocks[0].Version+at.Blocks[1].Version), int64(0)
			for _, partition := range got {
				rows += partition.Totals[1]
			}
			if rows < loads*40 || rows > loads*50 { // 10 of the rows of each block are of customers who go
				t.Errorf("%d rows of %v", rows, at.Blocks)
			}
		}
	})
	others.Go(func() {
		random := rand.New(rand.NewPCG(1, 1))
		for ctx.Err() == nil {
			_, err := s.Erase(context.Background(), clicks(), EraseSpec{Format: Lines}, strings.NewReader(fmt.Sprint("gone", random.IntN(20))), noError)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.RunErasures(context.Background()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var everybody []string
	for i := range 6 {
		var text strings.Builder
		text.WriteString(clicksHeader)
		for row := range 100 {
			user := fmt.Sprint("user", row%20)
			if row >= 80 {
				user = fmt.Sprint("gone", row%20)
			}
			fmt.Fprintf(&text, "%s,2026-0%d-05,page-of-%s,1,x\n", user, 1+row%2, user)
		}
		mustLoad(t, s, clicks(), spec(fmt.Sprint(i)), text.String())
	}
	cancel()
	others.Wait()
	for i := range 20 {
		everybody = append(everybody, fmt.Sprint("gone", i))
	}
	mustErase(t, s, clicks(), everybody...)
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkTotals(t, s, c, []string{"2026-01", "2026-02"}, 20, 480)
	for _, unit := range everybody {
		if inFiles(t, s.dir, bytesOf(unit)) || inFiles(t, s.dir, []byte("page-of-"+unit)) {
			t.Errorf("%s is still in a file", unit)
		}
	}
	if !inFiles(t, s.dir, []byte("page-of-user7")) {
		t.Error("others are gone")
	}
}

func TestErasureIsRecordedOnceUnderAnIdempotencyKey(t *testing.T) {
	c, dir := newCatalog(), t.TempDir()
	s := open(t, dir, c, small())
	erase := func(s *Store, by, key string, units ...string) (dp.Erasure, error) {
		return s.Erase(t.Context(), clicks(), EraseSpec{By: by, Format: Lines, Repeat: key}, strings.NewReader(strings.Join(units, "\n")), noError)
	}
	first, err := erase(s, "warehouse", "k", "ann", "bob")
	if err != nil {
		t.Fatal(err)
	}
	same := func(s *Store, want bool, by, key string, units ...string) {
		t.Helper()
		e, err := erase(s, by, key, units...)
		if err != nil || (e.ID == first.ID) != want || want && !reflect.DeepEqual(e, first) {
			t.Errorf("%s %s %q: got %+v, %v", by, key, units, e, err)
		}
	}
	time.Sleep(2 * time.Millisecond) // identifiers begin with the time
	same(s, true, "warehouse", "k", "bob", "ann")
	same(s, false, "warehouse", "l", "ann", "bob")
	same(s, false, "another", "k", "ann", "bob")
	same(s, false, "warehouse", "", "ann", "bob")
	var refused *dp.Error
	if _, err := erase(s, "warehouse", "k", "ann", "cid"); !errors.As(err, &refused) || refused.Code != dp.CodeConflict {
		t.Errorf("other customers under the key: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, c, small())
	same(s, true, "warehouse", "k", "ann", "bob")
	if err := s.RunErasures(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(s, false, "warehouse", "k", "ann", "cid") // nobody knows any more whom the first one named
}
