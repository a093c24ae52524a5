package columnar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// Several loads under a policy that grows, cut into many small segments of which some are merged, with customers who
// are erased in between, give the reference's integers at every version of their blocks. DISCREET_TRIPLES is how many
// random triples of data, policy and question there are.
func TestAggregateEqualsReference(t *testing.T) {
	triples, partitions := 360, 0
	if text := os.Getenv("DISCREET_TRIPLES"); text != "" {
		var err error
		if triples, err = strconv.Atoi(text); err != nil {
			t.Fatalf("reading DISCREET_TRIPLES: %v", err)
		}
	}
	const questions = 12
	for seed := range uint64((triples + questions - 1) / questions) {
		h := &history{world: newWorld(t, seed)}
		for range 1 + h.random.IntN(4) {
			h.load(t)
			h.forget(h.waiting)
			switch h.random.IntN(6) {
			case 0, 1:
				if err := h.store.compact(t.Context(), appetite{runs: 1 + h.random.IntN(3), loads: 1}, nil); err != nil {
					t.Fatal(err)
				}
			case 2:
				if !h.policy.Unit.Row { // of which nobody is a customer
					h.erase(t)
				}
			}
		}
		partitions += h.check(t, h.store, questions)
		if err := h.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d triples with %d partitions", (triples+questions-1)/questions*questions, partitions)
	if partitions < 4*triples {
		t.Errorf("only %d partitions were compared", partitions)
	}
}

// Partitions whose hashes are equal are chosen by the bytes of their keys, however they are looked for.
func TestEqualHashesAreChosenByKeys(t *testing.T) {
	for _, labels := range []int{9, 200} { // with a bit of a word each, and without
		policy := clicks()
		policy.Dimensions[0] = dp.Dimension{Name: "page", Type: dp.StringDimension}
		for i := range labels {
			policy.Dimensions[0].Values = append(policy.Dimensions[0].Values, fmt.Sprintf("page-%03d", (i*7+3)%labels))
		}
		p := perBlock(policy, "2026-01")
		p.Tree.Input.Partitions, p.Tree.Columns = 3, []plan.Column{{Count: plan.CountCustomers}}
		p.Tree.Input.Input.Keys = []plan.Key{{Name: "page", Domain: policy.Dimensions[0].Values}}
		q, err := translate(p, [][]string{policy.Dimensions[0].Values, nil})
		if err != nil {
			t.Fatal(err)
		}
		b, err := newBounder(&aggregation{store: &Store{}, question: q, plan: p, blocks: []scannedBlock{{name: "2026-01", units: bounding.HashUnits(nil, "2026-01")}}}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b.keys = make([]bounding.Prefix, q.size)
		for i := range b.keys {
			b.keys[i] = bounding.HashKey([]byte("the same"))
		}
		numbers, mask := []int64{0, 1, 2, 3, 4, 5, 6, 7, 8}, uint64(1<<9-1)
		b.at(1, 0)
		chosen := b.chosen(numbers)
		bar := b.ranks[len(chosen)] // the first that is not
		var got []string
		for _, r := range append(slices.Clone(chosen), bar) {
			got = append(got, q.labelsOf(r.number)[0])
		}
		all := slices.Clone(policy.Dimensions[0].Values[:9])
		slices.Sort(all)
		if !slices.Equal(got, all[:4]) {
			t.Errorf("of %d: chosen are %q, want %q", labels, got, all[:4])
		}
		if labels > mostFew {
			continue
		}
		var few []string
		for kept := b.quick.few.chosen(1, 0, mask); kept != 0; kept &= kept - 1 {
			few = append(few, q.labelsOf(int64(bits.TrailingZeros64(kept)))[0])
		}
		slices.Sort(few)
		if !slices.Equal(few, all[:3]) {
			t.Errorf("the quick way chose %q, want %q", few, all[:3])
		}
	}
}

func TestPolicyThatReordersAndGainsColumnsReadsOldRows(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	p := clicks()
	p.Dimensions = []dp.Dimension{{Name: "device", Type: dp.StringDimension, Private: true, Missing: "unknown"}, p.Dimensions[0]}
	p.Measures = []dp.Measure{{Name: "scrolls", Upper: 10}, p.Measures[0]}
	mustLoad(t, s, p, spec("two"), "user,at,page,seconds,device,scrolls\nbob,2026-01-05,home,2,phone,3\n")
	q := perBlock(p, "2026-01")
	q.Tree.Input.Input.Keys = []plan.Key{{Name: "device"}, {Name: "page", Field: plan.Field{Index: 1}}}
	q.Tree.Columns = []plan.Column{{Count: plan.Total, Measure: 0, Upper: 100}, {Count: plan.Total, Measure: 1, Upper: 100}}
	want := []bounding.Partition{{Key: []string{"phone", "home"}, Totals: []int64{3, 20}}, {Key: []string{"unknown", "home"}, Totals: []int64{0, 15}}}
	if got := aggregate(t, s, c, q); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestScaleThatChangedIsAnError(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	p := clicks()
	p.Measures[0].Scale = 2
	_, err := aggregateAt(context.Background(), s, perBlock(p, "2026-01"), c.now("clicks", []string{"2026-01"}))
	if err == nil || !strings.Contains(err.Error(), "a scale is fixed once rows are loaded") {
		t.Errorf("got %v", err)
	}
}

func TestBlockThatWasNotChargedForIsNotRead(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	p := perBlock(clicks(), "2026-01", "2026-02")
	if _, err := aggregateAt(context.Background(), s, p, c.now("clicks", []string{"2026-02"})); err == nil {
		t.Error("a block outside of the snapshot was read")
	}
	if _, err := aggregateAt(context.Background(), s, p, c.now("other", p.Blocks)); err == nil {
		t.Error("a plan for another dataset was answered")
	}
}

func TestPartitionsThatDoNotFitIntoMemoryGoToDisk(t *testing.T) {
	c := newCatalog()
	o := small()
	s := open(t, t.TempDir(), c, o)
	var text strings.Builder
	text.WriteString(clicksHeader)
	for i := range 3000 {
		fmt.Fprintf(&text, "user-%d,2026-01-05,page-%d,1,x\nuser-%d,2026-02-05,page-%d,1,x\n", i%500, i, i%500, i)
	}
	mustLoad(t, s, clicks(), spec("one"), text.String())
	p := perBlock(clicks(), "2026-01", "2026-02")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	inMemory := aggregate(t, s, c, p)
	if _, err := os.Stat(s.spillDir()); err == nil {
		t.Error("little went to disk")
	}
	s.options.GroupBytes = 1000
	if onDisk := aggregate(t, s, c, p); !reflect.DeepEqual(onDisk, inMemory) || len(onDisk) != 3000 {
		t.Errorf("%d partitions on disk, %d in memory", len(onDisk), len(inMemory))
	}
	if left, err := os.ReadDir(s.spillDir()); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
	asked, room := 0, 1
	s.options.Room = func() error {
		if asked++; asked > room {
			return errors.New("no room")
		}
		return nil
	}
	if onDisk := aggregate(t, s, c, p); !reflect.DeepEqual(onDisk, inMemory) {
		t.Error("where room ends meanwhile, the answer is another")
	}
	if asked != 1 {
		t.Errorf("room was asked for %d times", asked)
	}
}

// Whether a question with private keys is refused for want of room does not depend on whether its partitions need any.
func TestRoomIsAskedForWhateverTheRowsAre(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	s.options.Room = func() error { return errors.New("no room") }
	for _, block := range []string{"2026-01", "2026-02", "2026-03"} { // with rows, without rows, never loaded
		p := perBlock(clicks(), block)
		if _, err := aggregateAt(t.Context(), s, p, c.now("clicks", p.Blocks)); err != nil {
			t.Errorf("block %s without keys: %v", block, err)
		}
		p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
		if _, err := aggregateAt(t.Context(), s, p, c.now("clicks", p.Blocks)); err == nil || !strings.Contains(err.Error(), "no room") {
			t.Errorf("block %s by a private key: %v", block, err)
		}
		p.Tree.Input.Input.Keys[0].Domain = []string{"home"}
		if _, err := aggregateAt(t.Context(), s, p, c.now("clicks", p.Blocks)); err != nil {
			t.Errorf("block %s by a public key: %v", block, err)
		}
		for i := range 300_000 {
			p.Tree.Input.Input.Keys[0].Domain = append(p.Tree.Input.Input.Keys[0].Domain, fmt.Sprint(i))
		}
		if _, err := aggregateAt(t.Context(), s, p, c.now("clicks", p.Blocks)); err == nil || !strings.Contains(err.Error(), "no room") {
			t.Errorf("block %s by more public labels than fit: %v", block, err)
		}
	}
}

// Customers with far more partitions than bounding keeps, and more rows in each, contribute what the reference says,
// and so do those who come after them.
func TestCustomersFarAboveEveryBound(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := newCatalog()
		o := small()
		o.Shards, o.Workers = 1, 1
		s := open(t, t.TempDir(), c, o)
		var text strings.Builder
		text.WriteString(clicksHeader)
		for user := range 6 {
			for range 1200 {
				fmt.Fprintf(&text, "user%d,2026-01-%02d,page-%d,%d,x\n", user, 1+random.IntN(28), random.IntN(300), random.IntN(50))
			}
		}
		mustLoad(t, s, clicks(), spec("one"), text.String())
		policy := clicks()
		all := rowsOf(t, &policy.Policy, text.String(), 1)
		p := perBlock(policy, "2026-01", "2026-02")
		p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
		p.Tree.Input.Partitions, p.Tree.Input.Rows = pick(random, 1+random.Int64N(20), math.MaxInt64), 2
		p.Tree.Columns = []plan.Column{{Count: plan.CountCustomers}, {Count: plan.Centred, Lower: 0, Upper: 500}, {Count: plan.CountMeasured}}
		want, err := bounding.Reference(p, secrets{}.Salt("clicks"), all)
		if err != nil {
			t.Fatal(err)
		}
		if got := aggregate(t, s, c, p); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}

// Customers of many rows lie between others in one segment, and are decoded by another way than those. Amounts of 2^56
// cannot be added up in 64 bits.
func TestCustomersOfManyRowsAmongOthers(t *testing.T) {
	for i, lengths := range [][]int{{1025, 10, 1025}, {10, 1025, 10}, {1024, 1024, 1}, {2100, 1000, 1030, 700, 1100}, {300, 900, 200}} {
		least := []int{0, 7205759403792793}[i/4]
		names := make([]string, len(lengths))
		for i := range names {
			names[i] = fmt.Sprint("user ", i)
		}
		slices.SortFunc(names, func(a, b string) int { return cmp.Compare(hashOf(a), hashOf(b)) })
		random := rand.New(rand.NewPCG(3, 4))
		var text strings.Builder
		text.WriteString(clicksHeader)
		for i, length := range lengths {
			for range length {
				fmt.Fprintf(&text, "%s,2026-01-%02d,page-%d,%d,x\n", names[i], 1+random.IntN(28), random.IntN(40), least+random.IntN(500))
			}
		}
		c := newCatalog()
		o := small()
		o.Shards = 1
		s := open(t, t.TempDir(), c, o)
		policy := clicks()
		mustLoad(t, s, policy, spec("one"), text.String())
		p := perBlock(policy, "2026-01")
		p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
		p.Tree.Input.Partitions, p.Tree.Input.Rows = []int64{9, 50}[i/4], 20
		if i == 4 {
			p.Tree.Input.Input.Keys = nil
		}
		p.Tree.Columns = []plan.Column{{Count: plan.CountCustomers}, {Count: plan.CountRows}, {Count: plan.Total, Lower: 0, Upper: 100_000}}
		want, err := bounding.Reference(p, secrets{}.Salt("clicks"), rowsOf(t, &policy.Policy, text.String(), 1))
		if err != nil {
			t.Fatal(err)
		}
		if got := aggregate(t, s, c, p); !reflect.DeepEqual(got, want) {
			t.Errorf("customers of %v rows: got %v, want %v", lengths, got, want)
		}
	}
}

func TestLostPartOfADictionaryIsDamage(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\nann,2026-01-06,home,1.5,x\n")
	if err := s.db.Update(func(txn *badger.Txn) error {
		return txn.Delete(append(editionPrefix("clicks", "page", 0), 0, 0, 0, 0))
	}); err != nil {
		t.Fatal(err)
	}
	s.dictionaries = newDictionaries(s.db) // as after a restart
	p := perBlock(clicks(), "2026-01")
	p.Tree.Input.Rows = 1
	if _, err := aggregateAt(context.Background(), s, p, c.now("clicks", p.Blocks)); !errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestClocksOfFarYearsHaveAnEnd(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Pacific/Apia", "UTC", "Australia/Lord_Howe"} {
		zone, err := rows.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, span := range [][2]int{{2040, 2041}, {2044, 2045}, {1900, 9999}} {
			start, end := rows.Span(rows.Date{Year: span[0], Month: 1, Day: 1}, rows.Date{Year: span[1], Month: 12, Day: 31}, zone)
			c := calendar{offsets: offsetsBetween(start, end, zone)}
			random := rand.New(rand.NewPCG(uint64(span[0]), 3))
			for range 5000 {
				ms := start + random.Int64N(end-start)
				_, ahead := time.UnixMilli(ms).In(zone).Zone()
				shown, _ := c.local(ms)
				if got := shown - ms; got != int64(ahead)*1000 {
					t.Fatalf("%s at %d: %d ms ahead, want %d s", name, ms, got, ahead)
				}
			}
		}
	}
}

// Where clocks are put back over midnight, and wherever else they are changed, the day of a row is that of rows.DateOf,
// and its hour what the clocks show.
func TestDaysFollowEachOtherWhateverClocksDo(t *testing.T) {
	for _, name := range []string{"America/St_Johns", "America/Goose_Bay", "America/Havana", "Asia/Manila", "Atlantic/Azores", "Pacific/Kwajalein", "Pacific/Apia", "Europe/Berlin"} {
		zone, err := rows.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		start, end := rows.Span(rows.Date{Year: 1920, Month: 1, Day: 1}, rows.Date{Year: 2030, Month: 12, Day: 31}, zone)
		var hours []int64
		for hour := range int64(24) {
			hours = append(hours, hour)
		}
		for _, change := range offsetsBetween(start, end, zone)[1:] {
			for begin := change.start - 30*hourMilliseconds; begin < change.start+30*hourMilliseconds; begin += 127 * 60_000 {
				days := calendar{offsets: offsetsBetween(begin, begin+30*hourMilliseconds, zone), hours: hours}
				for ms := begin; ms < begin+30*hourMilliseconds; ms += 17 * 60_000 {
					_, day := days.local(ms)
					if want := (rows.Date{Year: 1970, Month: 1, Day: 1}).DaysUntil(rows.DateOf(ms, zone)); day != int64(want) {
						t.Fatalf("%s at %v: day %d, want %d", name, time.UnixMilli(ms).In(zone), day, want)
					}
					if hour := days.number(ms); hour != int64(time.UnixMilli(ms).In(zone).Hour()) {
						t.Fatalf("%s at %v: hour %d", name, time.UnixMilli(ms).In(zone), hour)
					}
				}
			}
		}
	}
}

func TestCancelledAggregationEnds(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	why := errors.New("the caller went away")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := aggregateAt(ctx, s, perBlock(clicks(), "2026-01"), c.now("clicks", []string{"2026-01"})); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

// A customer may have any number of segments, and cancelling waits for none of them but the one at hand.
func TestCancelledAggregationEndsWithinOneCustomer(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.SegmentRows = 1, 1
	s := open(t, t.TempDir(), c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+strings.Repeat("ann,2026-01-05,home,1.5,x\n", 50))
	p, why := perBlock(clicks(), "2026-01"), errors.New("the caller went away")
	a := &aggregation{store: s, plan: p, txn: s.db.NewTransaction(false)}
	defer a.txn.Discard()
	if err := a.find(t.Context(), c.now("clicks", p.Blocks)); err != nil {
		t.Fatal(err)
	}
	from := &reader{txn: a.txn, cache: s.columns}
	chains, err := a.chains(from, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	b, err := newBounder(a, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	one, err := a.stream(ctx, from, 0, chains, b, false)
	if err != nil {
		t.Fatal(err)
	}
	cancel(why)
	b.begin(one.open[0].customer, 0)
	if _, err := one.open[0].take(ctx, one.open[0].customer, b); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if read := one.open[0].chain.first; read != 1 {
		t.Errorf("%d segments were read", read)
	}
}

// Of a question about many blocks no worker holds more than a few segments, or more partitions than it may; the memory of keys
// is there once they are needed.
func TestMemoryOfManyBlocksIsBounded(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.Workers, o.CacheBytes = 1, 1, 64<<20
	s := open(t, t.TempDir(), c, o)
	policy := clicks()
	var months []string
	for i, month := range rows.TimeKeys(rows.Date{Year: 2020, Month: 1, Day: 1}, rows.Date{Year: 2025, Month: 12, Day: 31}, rows.Month) {
		months = append(months, month)
		var text strings.Builder
		text.WriteString(clicksHeader)
		for user := range 300 {
			fmt.Fprintf(&text, "user-%d,%s-05,page-%d,1,x\n", user, month, i*300+user)
		}
		mustLoad(t, s, policy, days(month, month+"-01", month+"-28"), text.String())
	}
	p := perBlock(policy, months...)
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	want := aggregate(t, s, c, p)
	if len(want) != 300*len(months) {
		t.Fatalf("%d partitions", len(want))
	}
	a := &aggregation{store: s, plan: p, txn: s.db.NewTransaction(false)}
	defer a.txn.Discard()
	if err := a.find(t.Context(), c.now("clicks", months)); err != nil || !a.apart {
		t.Fatalf("apart: %v, %v", a.apart, err)
	}
	from := &reader{txn: a.txn, cache: s.columns}
	b, err := newBounder(a, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	var streams []*stream
	for block := range a.blocks {
		chains, err := a.chains(from, 0, block)
		if err != nil {
			t.Fatal(err)
		}
		one, err := a.stream(t.Context(), from, block, chains, b, true)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, one)
	}
	census := newCensus(b, streams)
	for _, s := range streams {
		for _, c := range s.open {
			if c.segment != nil || c.buffers != nil {
				t.Fatal("a cursor holds its segment")
			}
		}
	}
	if err := census.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if most := len(b.totals.numbers); most > 10_000/b.totals.slotBytes() {
		t.Errorf("%d partitions are in memory", most)
	}
	if b.keys != nil {
		t.Error("nobody needed keys")
	}
	// The same with segments that are let go of and with disk gives what memory gives.
	s.options.GroupBytes = 10_000
	if got := aggregate(t, s, c, p); !reflect.DeepEqual(got, want) {
		t.Errorf("%d partitions, want %d", len(got), len(want))
	}
}

// Whatever value is damaged, lost or in another's place, an aggregation that needs it fails, and tells nothing
// of what is stored.
func TestDamageIsNoticed(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards = 1
	s := open(t, t.TempDir(), c, o)
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,PAGE77,1.5,x\nbob,2026-02-05,PAGE77,7.7,x\n")
	mustLoad(t, s, clicks(), days("two", "2026-01-01", "2026-01-31"), clicksHeader+"cid,2026-01-05,PAGE77,1.5,x\n")
	var keys []string
	values := map[string][]byte{}
	walk(t, s, func(key, value []byte) {
		if strings.HasPrefix(string(key), "rows/") || strings.HasPrefix(string(key), "part/") {
			keys = append(keys, string(key))
			values[string(key)] = value
		}
	})
	if len(keys) != 3*(1+5) {
		t.Fatalf("%d keys", len(keys))
	}
	write := func(key string, value []byte) {
		err := s.db.Update(func(txn *badger.Txn) error {
			if value == nil {
				return txn.Delete([]byte(key))
			}
			return txn.Set([]byte(key), value)
		})
		if err != nil {
			t.Fatal(err)
		}
		s.columns.Clear() // as after a restart
		s.dictionaries = newDictionaries(s.db)
	}
	p := perBlock(clicks(), "2026-01", "2026-02")
	p.Tree.Input.Input.Keys = []plan.Key{{Name: "page"}}
	whole := aggregate(t, s, c, p)
	check := func(what, key string) {
		t.Helper()
		_, err := aggregateAt(context.Background(), s, p, c.now("clicks", p.Blocks))
		if !errors.Is(err, errDamaged) {
			t.Errorf("%s of %q: %v", what, key, err)
		} else if strings.Contains(err.Error(), "PAGE77") {
			t.Error("the error holds what is stored")
		}
		write(key, values[key])
	}
	for i, key := range keys {
		for _, at := range []int{0, 1, len(values[key]) / 2, len(values[key]) - 1} {
			flipped := slices.Clone(values[key])
			flipped[at] ^= 0x10
			write(key, flipped)
			check("bit flipped", key)
		}
		write(key, values[key][:len(values[key])-1])
		check("end cut", key)
		write(key, nil)
		check("value lost", key)
		write(key, values[keys[(i+6)%len(keys)]])
		check("another's value", key)
	}
	if got := aggregate(t, s, c, p); !reflect.DeepEqual(got, whole) {
		t.Errorf("mended: got %v, want %v", got, whole)
	}
}

// world is a dataset whose policy grows from load to load, and all rows that were loaded so far as load.Reader
// reads them.
type world struct {
	random  *rand.Rand
	store   *Store
	catalog *catalog
	policy  dp.VersionedPolicy // as it will be in the end
	blocks  []string
	rows    []rows.Row
	loads   int
	tame    bool // amounts are as the quick way takes them: there, of one size, and not too large
	heavy   bool // some customers have more rows in a segment than are decoded at once
	days    []string
	cities  []string
	users   int
	agrees  *rand.Rand // whether rows carry consent
	ends    bool       // some customers have the first and the last pseudonym
	// Keys of the calendar have the labels of these days, which rows do not keep to.
	from, to rows.Date
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 5))
	w := &world{random: random, agrees: rand.New(rand.NewPCG(seed, 6)), catalog: newCatalog()}
	w.from, w.to = rows.Date{Year: 2025, Month: 10, Day: 1}, rows.Date{Year: 2026, Month: 3, Day: 20}
	o := small()
	o.Shards, o.Workers = 1+random.IntN(5), 1+random.IntN(3)
	o.BufferRows, o.SegmentRows = 1+random.IntN(60), 1+random.IntN(20)
	if w.tame = random.IntN(2) == 0; w.tame {
		o.BufferRows, o.SegmentRows = 1+random.IntN(1000), 1+random.IntN(400)
		if w.heavy = random.IntN(4) == 0; w.heavy {
			o.BufferRows, o.SegmentRows = 1<<13, 1<<13
		}
	}
	if random.IntN(2) == 0 {
		o.GroupBytes = random.IntN(2000) // few partitions fit into memory
	}
	w.store = open(t, t.TempDir(), w.catalog, o)
	w.policy = dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "world", Unit: dp.Unit{Column: "id", Block: pick(random, dp.Month, dp.Quarter, dp.All)},
		Time: &dp.TimeColumn{Column: "at", Timezone: pick(random, "UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns"), Format: "unix_ms"},
		Dimensions: []dp.Dimension{
			{Name: "shop", Type: dp.StringDimension, Values: []string{"a", "b", "else"}, Other: "else"},
			{Name: "age", Type: dp.IntDimension, Values: []string{"0", "10", "none"}, Bin: &dp.Bin{Step: 10}, Missing: "none", Other: "none"},
			{Name: "city", Type: dp.StringDimension, Private: true, Missing: "unknown"},
		},
		Measures: []dp.Measure{{Name: "amount", Scale: 2}, {Name: "minutes"}},
		Derived: []dp.Derived{
			{Name: "region", Of: "city", Groups: []dp.LabelGroup{{Label: "west", Values: []string{"Köln", "unknown"}}, {Label: "south", Values: []string{"Ulm"}}}, Other: "abroad"},
			{Name: "grown", Of: "age", Groups: []dp.LabelGroup{{Label: "no", Values: []string{"0"}}}},
		},
	}}
	if random.IntN(6) == 0 {
		w.policy.Unit.Row = true
	}
	w.policy.Link = &dp.Link{Consent: "agreed"}
	if random.IntN(6) == 0 {
		w.policy.Time, w.policy.Unit.Block = nil, dp.All
	}
	w.days, w.cities, w.users = []string{"2025-10-01", "2025-10-26", "2025-11-01", "2026-03-29", "2026-04-01"}, []string{"Köln", "Ulm", "Bonn"}, 9
	if w.tame {
		w.users = pick(random, 1, 9, 200)
		w.days = append(w.days, rows.TimeKeys(rows.Date{Year: 2025, Month: 10, Day: 1}, rows.Date{Year: 2025, Month: 11, Day: 20}, rows.Day)...)
		for i := range pick(random, 1, 90) {
			w.cities = append(w.cities, fmt.Sprint("city ", i))
		}
	}
	w.ends = random.IntN(3) == 0
	w.blocks = map[dp.Block][]string{dp.Month: {"2025-10", "2025-11", "2026-03"}, dp.Quarter: {"2025-Q4", "2026-Q1"}, dp.All: {"all"}}[w.policy.Unit.Block]
	if w.policy.Time != nil && w.policy.Unit.Block == dp.Month && w.tame && random.IntN(2) == 0 { // many blocks
		w.users = max(w.users, 9)
		w.blocks = rows.TimeKeys(rows.Date{Year: 2023, Month: 1, Day: 1}, rows.Date{Year: 2026, Month: 4, Day: 30}, rows.Month)
		for _, month := range w.blocks {
			w.days = append(w.days, month+"-01", month+"-14")
		}
	}
	if w.policy.Time != nil && w.policy.Time.Timezone == "America/St_Johns" { // where clocks were put back over midnight
		w.days = append(w.days, "2009-11-01", "2010-11-07", "2009-11-01", "2010-11-07")
		w.blocks = append(map[dp.Block][]string{dp.Month: {"2009-10", "2009-11", "2010-11"}, dp.Quarter: {"2009-Q4", "2010-Q4"}}[w.policy.Unit.Block], w.blocks...)
		w.from, w.to = rows.Date{Year: 2009, Month: 10, Day: 1}, rows.Date{Year: 2010, Month: 11, Day: 8}
	}
	return w
}

// load loads random rows, first under a policy without city and minutes, and sometimes without link.
func (w *world) load(t *testing.T) {
	t.Helper()
	p := w.policy
	if w.loads == 0 {
		p.Dimensions, p.Measures = p.Dimensions[:2], p.Measures[:1]
	}
	w.loads++
	if w.agrees.IntN(4) == 0 {
		p.Link = nil
	}
	var text strings.Builder
	text.WriteString("id,at,shop,age,city,amount,minutes,agreed\n")
	share := pick(w.agrees, 0, 1, 50, 99, 100) // of rows that carry consent
	optional := func(values ...string) string { return pick(w.random, append(values, "")...) }
	count, amounts := w.random.IntN(150), []string{"-1.005", "0", "12.345", "92233720368547758.07", ""}
	if w.tame {
		count, amounts = w.random.IntN(pick(w.random, 150, 700)), pick(w.random, []string{"0", "0.01", "1.5", "2.55"}, []string{"0.5", "3", "19.99", "700"}, []string{"1", "70000"}, []string{"-1", "4"},
			// around what is small enough to add up many: 2^52 either side of 0, and 2^32 below that; and 2^56, which is not
			[]string{"720575940379279.36", "720575940379279.3"}, []string{"-720575940379279.36", "-720575940379279.3"},
			[]string{"-45035996273704.95", "-45035996273704.94"}, []string{"-45035996273704.96", "-45035996273704.97"},
			[]string{"45035953324031.99", "45035996273704.94"}, []string{"45035953324032", "45035996273704.96", "45035996273704.97"})
	}
	if w.heavy {
		count = 1500 + w.random.IntN(2500)
	}
	user := func() string {
		n := int(float64(w.users) * w.random.Float64() * w.random.Float64())
		if ends := []string{"least", "most"}; n < len(ends) && w.ends {
			return ends[n]
		}
		return fmt.Sprint("u", n)
	}
	for range count {
		day, err := time.Parse(time.DateOnly, pick(w.random, w.days...))
		if err != nil {
			t.Fatal(err)
		}
		at := day.UnixMilli() + pick[int64](w.random, -1, 0, 3_600_000, -3_600_001, 7_200_000, 9_900_000, 39_600_000)
		if w.heavy {
			at += w.random.Int64N(1000)
		}
		fmt.Fprintf(&text, "%s,%d,%s,%s,%s,%s,%s,%s\n", user(), at, optional("a", "b", "x"), optional("0", "7", "12", "-1", "99"),
			optional(w.cities...), pick(w.random, amounts...), optional("3", "-4", "50"),
			map[bool]string{true: "2026-01-05"}[w.agrees.IntN(100) < share])
	}
	report := mustLoad(t, w.store, p, days(fmt.Sprint(w.loads), "2009-10-01", "2026-04-30"), text.String())
	w.rows = append(w.rows, rowsOf(t, &p.Policy, text.String(), report.Load.ID)...)
}

// rowsOf gives the rows of a CSV text.
func rowsOf(t *testing.T, p *dp.Policy, text string, number uint64) (all []rows.Row) {
	t.Helper()
	r, err := load.NewReader(p, strings.NewReader(text), load.Source{Format: load.CSV, Load: number}, secrets{})
	if err != nil {
		t.Fatal(err)
	}
	for batch, err := range r.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range batch {
			if record.Reason != "" {
				t.Fatal(record.Reason)
			}
			row := record.Row
			row.Dimensions, row.Measures = slices.Clone(row.Dimensions), slices.Clone(row.Measures)
			all = append(all, row)
		}
	}
	return all
}

// grown gives rows the columns that the policy gained after they were loaded.
func (w *world) grown(all []rows.Row) []rows.Row {
	grown := slices.Clone(all)
	for i := range grown {
		grown[i].Dimensions = append(slices.Clone(grown[i].Dimensions), rows.Text{})[:3]
		grown[i].Measures = append(slices.Clone(grown[i].Measures), rows.Number{})[:2]
	}
	return grown
}

func (w *world) plan() *plan.Plan {
	random := w.random
	from := random.IntN(len(w.blocks))
	blocks := w.blocks[from : from+1+random.IntN(len(w.blocks)-from)]
	if random.IntN(3) == 0 {
		blocks = w.blocks
	}
	p := perBlock(w.policy, blocks...)
	p.Tree.Input.Partitions, p.Tree.Input.Rows = 1+random.Int64N(4), 1+random.Int64N(4)
	if random.IntN(4) == 0 {
		p.Tree.Input.Partitions, p.Tree.Input.Rows = pick[int64](random, 5, 13, 63, 64, 65, 300, math.MaxInt64), pick[int64](random, 1, 40, 1030, math.MaxInt64)
	}
	for i, d := range w.policy.Dimensions {
		if random.IntN(2) == 0 {
			p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: d.Name, Field: plan.Field{Index: i}, Domain: d.Values})
		}
	}
	for i, d := range w.policy.Derived {
		if fold, err := rows.NewFold(&w.policy.Policy, i); random.IntN(4) == 0 && err == nil {
			p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: d.Name, Field: plan.Field{Index: fold.Base, Derived: 1 + i}, Domain: fold.Labels})
		}
	}
	if w.policy.Time != nil && random.IntN(2) == 0 {
		unit := pick(random, rows.TimeUnits()...)
		domain := rows.TimeKeys(w.from, w.to, unit)
		p.Tree.Input.Input.Keys = append(p.Tree.Input.Input.Keys, plan.Key{Name: unit.Field(), Field: plan.Field{Kind: plan.TimeField, Unit: unit}, Domain: domain})
	}
	if w.policy.Time != nil && random.IntN(4) == 0 {
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests,
			plan.Test{Name: "time.day", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Day}, From: w.from.AddDays(19).String(), NotIn: []string{"2026-03-08"}})
	}
	if random.IntN(4) == 0 {
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests, plan.Test{Name: "shop", In: []string{"a", "else"}})
	}
	if random.IntN(3) == 0 {
		least := random.Int64N(100)
		p.Tree.Input.Input.Input.Tests = append(p.Tree.Input.Input.Input.Tests, plan.Test{Name: "amount", Field: plan.Field{Kind: plan.MeasureField, Index: random.IntN(2)}, Least: &least})
	}
	if w.policy.Unit.Block == dp.All || random.IntN(3) == 0 { // as a range of days does
		scan := &p.Tree.Input.Input.Input.Input
		scan.Bounded, scan.From, scan.To = true, 1761436800000, 1774742400000
		if w.from.Year < 2025 {
			scan.From, _ = rows.Span(pick(random, w.from, rows.Date{Year: 2009, Month: 11, Day: 1}, rows.Date{Year: 2010, Month: 11, Day: 7}), w.to, w.zone())
		}
	}
	p.Tree.Columns = []plan.Column{
		{Count: plan.CountCustomers}, {Count: plan.CountRows},
		{Count: plan.Total, Measure: random.IntN(2), Lower: pick[int64](random, -50, 0, 120), Upper: pick[int64](random, 150, 2000, 1<<40, 1<<53)},
		{Count: plan.Centred, Measure: random.IntN(2), Lower: -50, Upper: 2000},
		{Count: plan.CountMeasured, Measure: random.IntN(2)},
		{Count: plan.Squared, Measure: random.IntN(2), Lower: -50, Upper: 2000},
		{Count: plan.Histogram, Measure: random.IntN(2), Lower: -50, Upper: 2000, Bins: 21, BinWidth: 100},
		{Count: plan.Total, Measure: random.IntN(2), Lower: -50, Upper: 2000, Last: true},
		{Count: plan.Squared, Measure: random.IntN(2), Lower: -50, Upper: 2000, Last: true},
		{Count: plan.Histogram, Measure: random.IntN(2), Lower: -50, Upper: 2000, Bins: 21, BinWidth: 100, Last: true},
	}
	p.Tree.Columns = append(p.Tree.Columns,
		plan.Column{Count: plan.Squared, Measure: random.IntN(2), Lower: -500, Upper: 5000, Of: plan.ValueTotal},
		plan.Column{Count: plan.Histogram, Measure: random.IntN(2), Lower: -500, Upper: 5000, Bins: 6, BinWidth: 1000, Of: plan.ValueTotal},
		plan.Column{Count: plan.Histogram, Upper: 9, Bins: 10, BinWidth: 1, Of: plan.ValueRows},
		plan.Column{Count: plan.Centred, Upper: 9, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: random.IntN(3)}}},
	)
	if w.policy.Time != nil {
		unit := pick(random, rows.TimeUnits()...)
		p.Tree.Columns = append(p.Tree.Columns, plan.Column{Count: plan.CountMeasured, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: 0}}},
			plan.Column{Count: plan.Histogram, Upper: 9, Bins: 10, BinWidth: 1, Of: plan.ValueDistinct, Distinct: []plan.Field{{Index: 1}, {Kind: plan.TimeField, Unit: unit}}})
		p.Tree.Columns = append(p.Tree.Columns, plan.Column{Count: plan.CountDays, Upper: 1 + random.Int64N(31)}, plan.Column{Count: plan.CountSessions, Upper: 1 + random.Int64N(9)})
	}
	// Columns with tests of their own, some of which share them.
	for range random.IntN(3) {
		tests := w.ownTests()
		for range 1 + random.IntN(4) {
			own := pick(random, p.Tree.Columns...)
			own.Tests = tests
			p.Tree.Columns = append(p.Tree.Columns, own)
		}
	}
	random.Shuffle(len(p.Tree.Columns), func(i, j int) {
		p.Tree.Columns[i], p.Tree.Columns[j] = p.Tree.Columns[j], p.Tree.Columns[i]
	})
	if random.IntN(2) == 0 { // what is asked most
		p.Tree.Columns = slices.DeleteFunc(p.Tree.Columns, func(c plan.Column) bool {
			return c.ReadsRows() || c.Count.ReadsTimes() || c.Last || c.Of != plan.ValueRow
		})
	}
	p.Tree.Columns = p.Tree.Columns[:1+random.IntN(len(p.Tree.Columns))]
	return p
}

// ownTests are those of a column: on dimensions, private ones too, measures and times.
func (w *world) ownTests() (tests []plan.Test) {
	least := w.random.Int64N(100)
	all := []plan.Test{
		{Name: "shop", In: []string{"a"}},
		{Name: "city", Field: plan.Field{Index: 2}, NotIn: []string{"Ulm"}},
		{Name: "region", Field: plan.Field{Index: 2, Derived: 1}, NotIn: []string{"west"}},
		{Name: "minutes", Field: plan.Field{Kind: plan.MeasureField, Index: w.random.IntN(2)}, Least: &least},
	}
	if w.policy.Time != nil {
		all = append(all, plan.Test{Name: "time.hour", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Hour}, NotIn: []string{"00", "01"}},
			plan.Test{Name: "time.day", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Day}, From: w.from.AddDays(25).String()})
	}
	for _, t := range all {
		if w.random.IntN(2) == 0 {
			tests = append(tests, t)
		}
	}
	return tests
}

func (w *world) zone() *time.Location {
	zone, err := rows.LoadZone(w.policy.Time.Timezone)
	if err != nil {
		panic(err)
	}
	return zone
}

func pick[V any](random *rand.Rand, from ...V) V { return from[random.IntN(len(from))] }
