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
