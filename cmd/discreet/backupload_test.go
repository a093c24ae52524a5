package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// While rows are loaded, merged and erased, and questions asked, each backup is of one moment: it holds every charge and
// release up to its mark, every row of the loads that its ledger knows, and none of others.
func TestBackupUnderWayIsOfOneMoment(t *testing.T) {
	b := newBacked(t)
	b.apply(strings.Replace(shopPolicy, "{epsilon: 6, delta: 1e-9}", "{epsilon: 100, delta: 1e-6}", 1))
	b.allot("team", "shop", "90", "2e-7")
	team, custodian := b.client(b.team), b.client(b.custodian)
	ctx := t.Context()

	// Load i brings customers that no other has, and one that all have.
	customersOf := func(load int) (list []string) {
		for c := range 40 {
			list = append(list, fmt.Sprintf("c-%d-%d", load, c))
		}
		return append(list, "everywhere")
	}
	var end atomic.Bool
	var busy sync.WaitGroup
	var mu sync.Mutex
	erased := map[string]string{} // customer to id of the erasure
	busy.Go(func() {
		for i := 0; !end.Load(); i++ {
			text := crowd(customersOf(i)...)
			up := client.Upload{Body: strings.NewReader(text), Length: int64(len(text)), Format: "csv", Name: fmt.Sprint("load-", i), From: "2026-01-01", To: "2026-01-31"}
			if _, err := custodian.Load(ctx, "shop", up); err != nil {
				t.Error(err)
				return
			}
			if i%3 == 2 {
				customer := fmt.Sprintf("c-%d-%d", i-1, i%40)
				e, err := custodian.EraseOne(ctx, "shop", customer, true, "")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				erased[customer] = e.ID
				mu.Unlock()
			}
		}
	})
	for n := range 2 {
		busy.Go(func() {
			for i := 0; !end.Load(); i++ {
				q := wire.Query{Dataset: "shop", Metrics: []string{"customers"}, Purpose: "product-analytics", From: "2026-01-01", To: "2026-01-31", Epsilon: wire.Decimal(fmt.Sprintf("0.00%d%d", 1+n, 1+i%9)), Fresh: true}
				if _, err := team.Query(ctx, q, ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var made []wire.Backup
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		made = append(made, b.backUp())
	}
	end.Store(true)
	busy.Wait()
	loads := func(c *client.Client) (names []string) {
		list, err := c.Loads(ctx, "shop", client.Page{Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list.Items {
			names = append(names, l.Name)
		}
		return names
	}
	if len(loads(custodian)) < 6 || len(erased) < 2 {
		t.Fatalf("too little was under way: %d loads, %d erasures", len(loads(custodian)), len(erased))
	}
	for i, of := range made {
		b.restore(of)
		r, err := verify.Ledger(ctx, filepath.Join(b.dir, "ledger"), verify.Options{})
		if err != nil || r.Finding != nil || r.Entries != of.Ledger.Length || fmt.Sprintf("%x", r.Head) != of.Ledger.Head {
			t.Fatalf("backup %d: %v, %v, %d entries of %d", i, r.Finding, err, r.Entries, of.Ledger.Length)
		}
		b.begin()
		b.must(b.officer, "budget", "write-off", "--reason", "restored")
		b.apply(strings.Replace(shopPolicy, "{epsilon: 6, delta: 1e-9}", "{epsilon: 690, delta: 1e-5}", 1))
		b.allot("team", "shop", "600", "9e-6")
		known := loads(b.client(b.custodian))
		want := map[string]bool{}
		for _, name := range known {
			var n int
			if _, err := fmt.Sscanf(name, "load-%d", &n); err != nil {
				t.Fatal(err)
			}
			for _, c := range customersOf(n) {
				want[c] = true
			}
		}
		for c := range erased {
			delete(want, c)
		}
		if got := b.count(b.team); got != float64(len(want)) {
			t.Errorf("backup %d: %v customers, want %d of %d loads", i, got, len(want), len(known))
		}
		// A load whose number another one had in what was lost does not bring that one's rows to light.
		b.load("afterwards", "late")
		if got := b.count(b.team); got != float64(len(want)+1) {
			t.Errorf("backup %d: %v customers once more are loaded, want %d", i, got, len(want)+1)
		}
		b.must(b.custodian, "erase", "--now", "--wait")
		if got := b.count(b.team); got != float64(len(want)+1) {
			t.Errorf("backup %d: %v customers after a run, want %d", i, got, len(want)+1)
		}
		b.stop()
		for c := range erased {
			if found := filesWith(t, b.dir, b.pseudonym(c), []byte("own-city-of-"+c+"\n")); len(found) > 0 {
				t.Errorf("backup %d: %s is in %v", i, c, found)
			}
		}
		b.verify()
	}
}

// manyRows gives a row for each of so many customers, each in a city of its own.
func manyRows(customers int) string {
	text := []byte("customer,at,category,city,amount\n")
	for i := range customers {
		text = fmt.Appendf(text, "customer-%d,2026-01-09,travel,own-city-of-%d,2\n", i, i)
	}
	return string(text)
}

// A process that is killed while it makes a backup leaves nothing that passes for one, and no other harm.
func TestKilledBackupLeavesNoFileThatPassesForOne(t *testing.T) {
	if raceEnabled {
		t.Skip("the processes of this test share nothing that the race detector could watch")
	}
	recipient, file := identity(t)
	home := t.TempDir()
	dir := filepath.Join(home, "backups")
	p := newProcess(t, home, "--backups", dir, "--backup-recipient", recipient, "--keep-free", "64MiB", "--reserve", "16MiB")
	h := &harness{t: t, url: "http://" + p.address, officer: keyIn(p.printed)}
	p.openShop()
	custodian := h.hire("keeper", "custodian")
	h.must(custodian, "load", "shop", h.file("many.csv", manyRows(60_000)), "--from", "2026-01-01", "--to", "2026-01-31", "--name", "many")
	random := rand.New(rand.NewPCG(uint64(setting(t, "DISCREET_SEED", 1)), 9))
	cut := 0
	for i := range short(8) {
		if _, err := h.client(custodian).BackUp(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(25)) * time.Millisecond)
		p.kill()
		partial, err := filepath.Glob(filepath.Join(dir, "*.partial"))
		if err != nil {
			t.Fatal(err)
		}
		cut += len(partial)
		whole, err := filepath.Glob(filepath.Join(dir, "backup-*.age"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range partial {
			if !strings.Contains(path, ".age") {
				continue // a note
			}
			if r := h.run("", "restore", path, "--data", filepath.Join(t.TempDir(), "restored"), "--identity", file, "--erasures", dir); r.code == exitDone {
				// All of it was there but its name.
				t.Logf("kill %d came between the last byte and the name", i)
			}
		}
		for _, path := range whole {
			h.must("", "restore", path, "--data", filepath.Join(t.TempDir(), "restored"), "--identity", file, "--erasures", dir)
		}
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.partial")); len(left) > 0 {
			t.Errorf("kill %d: left are %v", i, left)
		}
	}
	t.Logf("%d backups were cut", cut)
	var made wire.Backup
	h.mustJSON(&made, custodian, "backup", "--wait")
	if made.State != "done" {
		t.Errorf("%+v", made)
	}
}
