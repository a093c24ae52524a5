package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/columnar"
	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/load"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// TestKilledServerHasTheRowsOfAcknowledgedLoads kills the server again and again while it takes loads in and merges
// what the last ones left, and compares the rows of every version of every block with what was acknowledged.
//
// The long form:
//
//	DISCREET_KILLS=100 go test -run TestKilledServerHasTheRowsOfAcknowledgedLoads -v -timeout 1h ./cmd/discreet
func TestKilledServerHasTheRowsOfAcknowledgedLoads(t *testing.T) {
	kills, seed := setting(t, "DISCREET_KILLS", short(5)), setting(t, "DISCREET_SEED", 1)
	t.Logf("%d kills, moments of DISCREET_SEED=%d", kills, seed)
	moments := rand.New(rand.NewPCG(uint64(seed), 3))
	p := newProcess(t, t.TempDir())
	p.openShop()
	d := &deliverer{process: p, seed: uint64(seed), custodian: p.hireCustodian()}
	for kill := range kills {
		stop := d.keepLoading()
		// Not before something was acknowledged, so that there is something to lose.
		for before, deadline := d.acknowledged.Load(), time.Now().Add(hang); kill%2 == 0 && d.acknowledged.Load() < before+2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing is loaded any more: %s", p.lastWords())
			}
		}
		time.Sleep(time.Duration(moments.IntN(200)) * time.Millisecond)
		if !p.running() {
			t.Fatalf("the server ended by itself: %s", p.lastWords())
		}
		p.kill()
		stop()
		d.checkRows()
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.stop(); err != nil {
		t.Fatalf("stopping the server: %v: %s", err, p.lastWords())
	}
	d.checkRows()
	t.Logf("%d loads", d.acknowledged.Load())
}

// hireCustodian gives the key of who may load.
func (p *process) hireCustodian() string {
	p.t.Helper()
	h := &harness{t: p.t, dir: p.data(), url: "http://" + p.address, officer: keyIn(p.printed)}
	return h.hire("warehouse", dp.Custodian)
}

// deliverer loads one file after the other, each under its own name until it is acknowledged.
type deliverer struct {
	process      *process
	seed         uint64
	custodian    string
	acknowledged atomic.Int64         // load-1 to load-n
	rows         map[int64][]rows.Row // of loads, as far as they were read
	erased       map[string]bool      // customers; no later load has them
}

// keepLoading loads until stop is called.
func (d *deliverer) keepLoading() (stop func()) {
	ctx, cancel := context.WithCancel(d.process.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := client.New("http://"+d.process.address, d.custodian, nil)
		if err != nil {
			d.process.t.Error(err)
			return
		}
		for ctx.Err() == nil {
			next := d.acknowledged.Load() + 1
			text := d.file(next)
			_, err := c.Load(ctx, "shop", client.Upload{Body: strings.NewReader(text), Length: int64(len(text)), Format: "csv", From: "2026-01-01", To: "2026-02-28", Name: loadName(next)})
			var problem *client.Problem
			switch {
			case err == nil:
				d.acknowledged.Add(1)
			case errors.As(err, &problem):
				d.process.t.Errorf("load %d: %v", next, err)
				return
			default:
				time.Sleep(2 * time.Millisecond) // the server is gone
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func loadName(n int64) string { return fmt.Sprint("load-", n) }

// onlyIn is a customer whom one load has and no other.
func onlyIn(n int64) string { return fmt.Sprintf("only-in-%d.", n) }

// file gives the rows of a load, always the same.
func (d *deliverer) file(n int64) string {
	random := rand.New(rand.NewPCG(d.seed, uint64(n)))
	var text strings.Builder
	text.WriteString("customer,at,category,city,amount\n")
	count := 50 + random.IntN(400)
	if n%5 == 0 {
		count *= 10
	}
	for range count {
		fmt.Fprintf(&text, "u%d,2026-%02d-%02d,%s,city%d,%d.%02d\n", random.IntN(3000), 1+random.IntN(2), 1+random.IntN(28),
			[]string{"grocery", "travel", "pets"}[random.IntN(3)], random.IntN(20), random.IntN(100), random.IntN(100))
	}
	fmt.Fprintf(&text, "%[1]s,2026-01-01,grocery,own-city-of-%[1]s,1\n%[1]s,2026-02-01,pets,own-city-of-%[1]s,2\n", onlyIn(n))
	return text.String()
}

// checkRows compares the rows of a data directory that nobody serves with the files that were acknowledged. One more may
// be there, whose acknowledgement did not arrive.
func (d *deliverer) checkRows() {
	t, ctx := d.process.t, context.Background()
	t.Helper()
	l, err := ledger.Open(filepath.Join(d.process.data(), "ledger"), ledger.Options{Witness: filepath.Join(d.process.home, "witness")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keys, err := secrets.Open(filepath.Join(d.process.data(), "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	sizes := columnar.DefaultOptions()
	sizes.MergeEvery = 0
	store, err := columnar.Open(filepath.Join(d.process.data(), "data"), l, keys, sizes)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	policy, err := l.Policy(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}

	loads, err := l.Loads(ctx, "shop")
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := d.acknowledged.Load()
	names := map[uint64]int64{}
	for _, one := range loads {
		names[one.ID] = -1
		for n := range acknowledged + 1 {
			if one.Name == loadName(n+1) {
				names[one.ID] = n + 1
			}
		}
		if names[one.ID] < 0 {
			t.Errorf("%s was never sent", one.Name)
		}
	}
	if extra := int64(len(names)) - acknowledged; extra != 0 && extra != 1 {
		t.Errorf("%d loads are there, %d were acknowledged", len(names), acknowledged)
	}
	if d.rows == nil {
		d.rows = map[int64][]rows.Row{}
	}
	gone := map[uint64]bool{}
	for customer := range d.erased {
		gone[keys.Pseudonym(customer)] = true
	}
	for _, block := range []string{"2026-01", "2026-02"} {
		now, err := l.Versions(ctx, "shop", []string{block})
		if err != nil {
			t.Fatal(err)
		}
		// The newest version, and one before it.
		for _, version := range []uint64{now[0].Version, uint64(acknowledged) / 2} {
			if version == 0 {
				continue
			}
			visible, err := l.CommittedLoads(ctx, "shop", block, version)
			if err != nil {
				t.Fatal(err)
			}
			var all []rows.Row
			for _, id := range visible {
				n := names[id]
				if d.rows[n] == nil {
					d.rows[n] = d.read(policy, keys, n)
				}
				all = append(all, d.rows[n]...)
			}
			all = slices.DeleteFunc(all, func(r rows.Row) bool { return gone[r.Customer] })
			q := everything(policy, block)
			want, err := bounding.Reference(q, keys.Salt("shop"), all)
			if err != nil {
				t.Fatal(err)
			}
			var got []bounding.Partition
			at := dp.Snapshot{Dataset: "shop", PolicyVersion: policy.Version, Blocks: []dp.BlockVersion{{Block: block, Version: version}}}
			err = store.Aggregate(ctx, q, at, func(one bounding.Partition) error {
				got = append(got, one)
				return nil
			})
			if err != nil {
				t.Fatalf("block %s at version %d: %v", block, version, err)
			}
			sortByKey(got)
			sortByKey(want)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("block %s at version %d differs from the files of %d loads: got %v, want %v", block, version, len(visible), got, want)
			}
		}
	}
}

// read gives the rows of a load as they were taken in.
func (d *deliverer) read(policy dp.VersionedPolicy, keys *secrets.Secrets, n int64) (all []rows.Row) {
	t := d.process.t
	t.Helper()
	r, err := load.NewReader(&policy.Policy, strings.NewReader(d.file(n)), load.Source{Format: load.CSV, Limits: load.DefaultLimits()}, keys)
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

// everything counts and adds up by category and city, with bounds that do not bind.
func everything(policy dp.VersionedPolicy, block string) *plan.Plan {
	return &plan.Plan{Policy: policy, Blocks: []string{block}, Tree: plan.Aggregate{
		Input: plan.Bound{
			Input: plan.Group{
				Input: plan.Filter{Input: plan.Scan{Dataset: policy.Name, Blocks: []string{block}}},
				Keys: []plan.Key{
					{Name: "category", Field: plan.Field{Index: 0}, Domain: policy.Dimensions[0].Values},
					{Name: "city", Field: plan.Field{Index: 1}},
				},
			},
			Partitions: 1 << 20, Rows: 1 << 20,
		},
		Columns: []plan.Column{{Count: plan.CountCustomers}, {Count: plan.CountRows}, {Count: plan.Total, Upper: math.MaxInt32}},
	}}
}

func sortByKey(all []bounding.Partition) {
	slices.SortFunc(all, func(a, b bounding.Partition) int { return slices.Compare(a.Key, b.Key) })
}
