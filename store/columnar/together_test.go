package columnar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// unit is one customer's rows in a block of one of the datasets.
type unit struct {
	customer uint64
	part     int
	block    string
}

// readTogether goes through all shards, and gives the rows of every unit. It fails where customers do not ascend, or are
// in another's shard, or where rows do not follow in time.
func readTogether(ctx context.Context, t *testing.T, s *Store, parts []scanned, l togetherLimits) (map[unit][]rows.Row, error) {
	t.Helper()
	got := map[unit][]rows.Row{}
	defer s.db.scans.begin()()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	from := &reader{txn: txn, cache: s.columns}
	for shard := range s.shards {
		together, err := s.newTogetherWithin(ctx, from, shard, parts, l)
		if err != nil {
			return nil, err
		}
		last, met := uint64(0), false
		for {
			customer, of, ok, err := together.next(ctx)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			if met && customer <= last || customer%uint64(s.shards) != uint64(shard) || len(of) != len(parts) {
				t.Fatalf("customer %d comes after %d in shard %d, with rows of %d datasets", customer, last, shard, len(of))
			}
			last, met = customer, true
			for part, units := range of {
				before := -1
				for _, u := range units {
					if u.part != part || u.block <= before || len(u.rows) == 0 {
						t.Fatalf("block %d of dataset %d comes after block %d of dataset %d, with %d rows", u.block, u.part, before, part, len(u.rows))
					}
					before = u.block
					key := unit{customer, part, parts[part].blocks[u.block].name}
					for i, r := range u.rows {
						if r.Customer != customer || i > 0 && r.Time < u.rows[i-1].Time {
							t.Fatalf("row %d of customer %d is of customer %d, at %d after %d", i, customer, r.Customer, r.Time, u.rows[i-1].Time)
						}
						r.Dimensions, r.Measures = slices.Clone(r.Dimensions), slices.Clone(r.Measures)
						got[key] = append(got[key], r)
					}
				}
			}
		}
	}
	return got, nil
}

// asWanted adds the rows of a dataset to those that are to be read, without what is not wanted.
func asWanted(into map[unit][]rows.Row, part int, d *scanned, all []rows.Row, blockOf func(ms int64) string) {
	for _, r := range all {
		block := blockOf(r.Time)
		if !slices.ContainsFunc(d.blocks, func(b scannedBlock) bool { return b.name == block }) {
			continue
		}
		r.Dimensions, r.Measures = slices.Clone(r.Dimensions), slices.Clone(r.Measures)
		for i, wanted := range d.want.Dimensions {
			if !wanted {
				r.Dimensions[i] = rows.Text{}
			}
		}
		for i, wanted := range d.want.Measures {
			if !wanted {
				r.Measures[i] = rows.Number{}
			}
		}
		if !d.want.time {
			r.Time = 0
		}
		r.Consented = r.Consented && d.want.consent
		key := unit{r.Customer, part, block}
		into[key] = append(into[key], r)
	}
}

// inOrder sorts rows by all that they have.
func inOrder(p *dp.Policy, units map[unit][]rows.Row, part int) {
	for u, all := range units {
		if u.part == part {
			slices.SortFunc(all, func(x, y rows.Row) int {
				return cmp.Or(strings.Compare(string(rows.AppendRow(nil, p, &x)), string(rows.AppendRow(nil, p, &y))), strings.Compare(fmt.Sprint(x.Consented), fmt.Sprint(y.Consented)))
			})
		}
	}
}

// Rows of two datasets come back as they were loaded, at every version, whatever was merged and erased in between, and
// whether segments are let go of or not.
func TestTogetherGivesTheRowsThatWereLoaded(t *testing.T) {
	read, let, joined, agreed := 0, 0, 0, 0
	for seed := range uint64(4) {
		h := &history{world: newWorld(t, 3000+seed)}
		second := linkedClicks()
		months := []string{"2026-01", "2026-02"}
		var clicked []rows.Row
		var hidden []string // from clicks
		var clicksAt []dp.Snapshot
		var clicksOf [][]rows.Row
		click := func() {
			var text strings.Builder
			text.WriteString(clicksHeader)
			for range h.random.IntN(80) {
				fmt.Fprintf(&text, "u%d,2026-%02d-%02d,%s,%d,%s\n", h.random.IntN(h.users+3), 1+h.random.IntN(2), 1+h.random.IntN(28),
					pick(h.random, "", "home", "about"), h.random.IntN(9), pick(h.random, "", "2026-01-02"))
			}
			report := mustLoad(t, h.store, second, spec(fmt.Sprint(len(clicksAt))), text.String())
			clicked = append(clicked, rowsOf(t, &second.Policy, text.String(), report.Load.ID)...)
			gone := func(r rows.Row) bool {
				return slices.ContainsFunc(hidden, func(unit string) bool { return secrets{}.Pseudonym(unit) == r.Customer })
			}
			clicked = slices.DeleteFunc(clicked, gone)
			clicksAt, clicksOf = append(clicksAt, h.catalog.now("clicks", months)), append(clicksOf, slices.Clone(clicked))
			for i := range clicksOf {
				clicksOf[i] = slices.DeleteFunc(clicksOf[i], gone)
			}
		}
		h.load(t)
		click()
		for range 6 {
			switch h.random.IntN(6) {
			case 0, 1:
				h.load(t)
				h.forget(h.waiting)
				click()
			case 2:
				a := appetite{runs: 1 + h.random.IntN(6), loads: 1 + h.random.IntN(3)}
				if err := h.store.compact(t.Context(), a, nil); err != nil {
					t.Fatal(err)
				}
			case 3:
				if !h.policy.Unit.Row {
					h.erase(t)
				}
				mustErase(t, h.store, second, fmt.Sprint("u", h.random.IntN(5)), "u99")
				hidden = nil
				for _, customer := range h.store.erasures.of["clicks"].customers {
					for n := range 5 {
						if unit := fmt.Sprint("u", n); slices.Contains(customer, secrets{}.Pseudonym(unit)) {
							hidden = append(hidden, unit)
						}
					}
				}
			case 4:
				if err := h.store.RunErasures(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.waiting, hidden = nil, nil
			default:
				if err := h.store.Close(); err != nil {
					t.Fatal(err)
				}
				h.store = open(t, h.store.dir, h.catalog, h.store.options)
			}
			if len(hidden) > 0 { // from what was loaded before
				gone := func(r rows.Row) bool {
					return slices.ContainsFunc(hidden, func(unit string) bool { return secrets{}.Pseudonym(unit) == r.Customer })
				}
				clicked = slices.DeleteFunc(clicked, gone)
				for i := range clicksOf {
					clicksOf[i] = slices.DeleteFunc(clicksOf[i], gone)
				}
			}
			for range 2 {
				i, j := h.random.IntN(len(h.snapshots)), h.random.IntN(len(clicksAt))
				at := h.snapshots[i]
				at.Also = []dp.Snapshot{clicksAt[j]}
				blocks := slices.DeleteFunc(slices.Clone(h.blocks), func(string) bool { return h.random.IntN(3) == 0 })
				policies := []*dp.Policy{&h.policy.Policy, &second.Policy}
				parts := make([]scanned, 2)
				for k, names := range [][]string{blocks, months} {
					want := everything(policies[k])
					for _, one := range [][]bool{want.Dimensions, want.Measures, {want.time}} {
						for d := range one {
							one[d] = h.random.IntN(4) > 0
						}
					}
					want.time, want.consent = h.random.IntN(4) > 0 && policies[k].Time != nil, h.random.IntN(4) > 0
					var err error
					if parts[k], err = h.store.scanTogether(t.Context(), at, policies[k], names, want); err != nil {
						t.Fatal(err)
					}
				}
				l := defaultTogether()
				if h.random.IntN(2) == 0 {
					l = togetherLimits{open: h.random.IntN(3), bytes: h.random.IntN(10_000), most: 200, fewest: 1}
					let++
				}
				got, err := readTogether(t.Context(), t, h.store, parts, l)
				if err != nil {
					t.Fatal(err)
				}
				want := map[unit][]rows.Row{}
				asWanted(want, 0, &parts[0], h.grown(h.visible[i]), func(ms int64) string {
					if h.policy.Time == nil {
						return "all"
					}
					return rows.BlockOf(ms, h.policy.Unit.Block, h.zone())
				})
				asWanted(want, 1, &parts[1], clicksOf[j], func(ms int64) string {
					zone, err := rows.LoadZone(second.Time.Timezone)
					if err != nil {
						t.Fatal(err)
					}
					return rows.BlockOf(ms, dp.Month, zone)
				})
				for k, p := range policies {
					inOrder(p, got, k)
					inOrder(p, want, k)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d: got %v, want %v", seed, got, want)
				}
				customers := map[uint64]bool{}
				for u, all := range got {
					read += len(all)
					if u.part == 0 {
						customers[u.customer] = true
					}
					for _, r := range all {
						if r.Consented {
							agreed++
						}
					}
				}
				for u := range got {
					if u.part == 1 && customers[u.customer] {
						joined++
					}
				}
			}
		}
	}
	t.Logf("%d rows, %d of them with consent; %d units of customers in both; %d times segments may have been let go of", read, agreed, joined, let)
	if read < 5000 || agreed < 1000 || joined < 50 || let < 10 {
		t.Error("that is too little to tell")
	}
}

// Customers of more rows than are decoded ahead have all of them, also where they fill many segments, and little is kept
// of their memory.
func TestTogetherAcrossSegmentsOfOneCustomer(t *testing.T) {
	c := newCatalog()
	o := small()
	o.Shards, o.SegmentRows, o.BufferRows = 1, 100, 1000
	s := open(t, t.TempDir(), c, o)
	var text strings.Builder
	text.WriteString(clicksHeader)
	const many = 9000
	for i := range many {
		fmt.Fprintf(&text, "ann,2026-01-%02d,home,%d,yes\n", 1+i%28, i)
	}
	for user := range 3000 {
		fmt.Fprintf(&text, "user%d,2026-02-05,about,%d,\n", user, user)
	}
	mustLoad(t, s, linkedClicks(), spec("one"), text.String())
	p := linkedClicks()
	at := c.now("clicks", []string{"2026-01", "2026-02"})
	d, err := s.scanTogether(t.Context(), at, &p.Policy, []string{"2026-01", "2026-02"}, everything(&p.Policy))
	if err != nil {
		t.Fatal(err)
	}
	got, err := readTogether(t.Context(), t, s, []scanned{d}, defaultTogether())
	if err != nil {
		t.Fatal(err)
	}
	ann := got[unit{secrets{}.Pseudonym("ann"), 0, "2026-01"}]
	seen := map[int64]bool{}
	for _, r := range ann {
		seen[r.Measures[0].Value] = true
		if !r.Consented || r.Dimensions[0].Value != "home" {
			t.Fatalf("a row is %+v", r)
		}
	}
	if len(ann) != many || len(seen) != many || len(got) != 3001 {
		t.Errorf("%d rows, %d different, %d units", len(ann), len(seen), len(got))
	}

	// Where few segments may be open, none stays so, and few rows are there before it is their turn.
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	one, err := s.newTogetherWithin(t.Context(), &reader{txn: txn, cache: s.columns}, 0, []scanned{d}, togetherLimits{open: 1, bytes: 0, most: 1, fewest: 7})
	if err != nil {
		t.Fatal(err)
	}
	units := 0
	for {
		_, of, ok, err := one.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		for _, u := range of[0] {
			units++
			if len(u.rows) != 1 && len(u.rows) != many {
				t.Fatalf("%d rows", len(u.rows))
			}
		}
		for _, turn := range slices.Concat(one.turns, one.taken) {
			if len(turn.rows) > 7 && len(turn.rows) < many || cap(turn.rows) > 28 && len(turn.rows) < many {
				t.Fatalf("%d rows are in memory, which has room for %d", len(turn.rows), cap(turn.rows))
			}
			for _, c := range turn.open {
				if c.segment != nil {
					t.Fatal("a cursor holds its segment")
				}
			}
		}
	}
	if units != 3001 {
		t.Errorf("%d units", units)
	}
}

func TestTogetherRefusesWhatIsNotInTheSnapshot(t *testing.T) {
	c := newCatalog()
	s := open(t, t.TempDir(), c, small())
	mustLoad(t, s, clicks(), spec("one"), clicksHeader+"ann,2026-01-05,home,1.5,x\n")
	p := clicks()
	if _, err := s.scanTogether(t.Context(), c.now("clicks", []string{"2026-01"}), &p.Policy, []string{"2026-02"}, everything(&p.Policy)); err == nil {
		t.Error("a block that nobody charged was read")
	}
	if _, err := s.scanTogether(t.Context(), c.now("other", []string{"2026-01"}), &p.Policy, []string{"2026-01"}, everything(&p.Policy)); err == nil {
		t.Error("a dataset that nobody charged was read")
	}
	d, err := s.scanTogether(t.Context(), c.now("clicks", []string{"2026-01", "2026-03"}), &p.Policy, []string{"2026-01", "2026-03"}, everything(&p.Policy))
	if err != nil || len(d.blocks) != 1 {
		t.Fatalf("%d blocks, %v", len(d.blocks), err)
	}
	why := errors.New("the caller went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := readTogether(ctx, t, s, []scanned{d}, defaultTogether()); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	d.dictionaries[0] = nil
	if _, err := readTogether(t.Context(), t, s, []scanned{d}, defaultTogether()); !errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
}
