package columnar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// catalog is the ledger's part in memory.
type catalog struct {
	mu       sync.Mutex
	ids      map[string]uint64
	named    map[string]dp.Load
	pending  map[string]dp.Load    // by dataset/number
	policies map[string]uint64     // likewise, the version that a load began with
	versions map[string][]uint64   // by dataset/block, the load of each version; 0: a repeat
	commit   func() error          // fails the next commits; nil: they succeed
	lost     bool                  // a failing commit took effect all the same
	erasures map[string]dp.Erasure // by dataset/id
	refused  error                 // that recording erasures gives; nil: it succeeds
	retired  dp.Retirement         // of clicks
	ending   func()                // is called before rows are recorded as gone; nil: nothing is
}

func newCatalog() *catalog {
	return &catalog{ids: map[string]uint64{}, named: map[string]dp.Load{}, pending: map[string]dp.Load{},
		policies: map[string]uint64{}, versions: map[string][]uint64{}, erasures: map[string]dp.Erasure{}}
}

func numbered(l dp.Load) string { return fmt.Sprint(l.Dataset, "/", l.ID) }

func (c *catalog) BeginLoad(_ context.Context, dataset string, policyVersion uint64, name string, blocks []string) (dp.Load, *dp.Load, error) {
	if len(blocks) == 0 {
		return dp.Load{}, nil, errors.New("a load declares no block")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[dataset]++
	begun := dp.Load{ID: c.ids[dataset], Dataset: dataset, Name: name, Blocks: blocks}
	c.pending[numbered(begun)], c.policies[numbered(begun)] = begun, policyVersion
	if earlier, ok := c.named[dataset+"/"+name]; ok && name != "" {
		return begun, &earlier, nil
	}
	return begun, nil, nil
}

func (c *catalog) LoadNamed(_ context.Context, dataset, name string) (*dp.Load, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if named, ok := c.named[dataset+"/"+name]; ok {
		return &named, nil
	}
	return nil, nil
}

func (c *catalog) CommitLoad(_ context.Context, l dp.Load) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commit != nil && !c.lost {
		return c.commit()
	}
	if err := c.end(l); err != nil {
		return err
	}
	c.named[l.Dataset+"/"+l.Name] = l
	for _, block := range l.Blocks {
		key := l.Dataset + "/" + block
		c.versions[key] = append(c.versions[key], l.ID)
	}
	if c.commit != nil {
		return c.commit()
	}
	return nil
}

func (c *catalog) RepeatLoad(_ context.Context, l dp.Load) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(l.Blocks, c.named[l.Dataset+"/"+l.Name].Blocks) {
		return refuse(dp.CodeConflict, "other blocks")
	}
	if err := c.end(l); err != nil {
		return err
	}
	for _, block := range l.Blocks {
		key := l.Dataset + "/" + block
		c.versions[key] = append(c.versions[key], 0)
	}
	return nil
}

// end takes a load off those that are pending.
func (c *catalog) end(l dp.Load) error {
	began, ok := c.pending[numbered(l)]
	if !ok || l.Name == "" || began.Name != "" && began.Name != l.Name || !slices.Equal(began.Blocks, l.Blocks) {
		return errors.New("a load ends that did not begin, or that began as another")
	}
	delete(c.pending, numbered(l))
	return nil
}

func (c *catalog) AbandonLoad(ctx context.Context, l dp.Load) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	delete(c.pending, numbered(l))
	return nil
}

func (c *catalog) PendingLoads(_ context.Context, dataset string) (list []dp.Load, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.pending {
		if dataset == "" || dataset == l.Dataset {
			list = append(list, l)
		}
	}
	return list, nil
}

func (c *catalog) CommittedLoads(_ context.Context, dataset, block string, version uint64) (loads []uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	versions := c.versions[dataset+"/"+block]
	for _, load := range versions[:min(uint64(len(versions)), version)] {
		if load != 0 {
			loads = append(loads, load)
		}
	}
	return loads, nil
}

func (c *catalog) RecordErasure(_ context.Context, e dp.Erasure) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return c.refused
	}
	if _, known := c.erasures[e.Dataset+"/"+e.ID]; !known {
		c.erasures[e.Dataset+"/"+e.ID] = e
	}
	return nil
}

func (c *catalog) EndErasure(_ context.Context, dataset, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil {
		return c.refused
	}
	e, known := c.erasures[dataset+"/"+id]
	if !known {
		return errors.New("an erasure ends that nobody asked for")
	}
	e.Ended = time.Now()
	c.erasures[dataset+"/"+id] = e
	return nil
}

func (c *catalog) PendingErasures(context.Context) (list []dp.Erasure, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.erasures {
		if e.Ended.IsZero() {
			list = append(list, e)
		}
	}
	return list, c.refused
}

// now is the snapshot of all that is committed.
func (c *catalog) now(dataset string, blocks []string) dp.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := dp.Snapshot{Dataset: dataset}
	for _, block := range blocks {
		at.Blocks = append(at.Blocks, dp.BlockVersion{Block: block, Version: uint64(len(c.versions[dataset+"/"+block]))})
	}
	return at
}

// secrets stand in for store/secrets.
type secrets struct{}

func (secrets) Pseudonym(customer string) uint64 {
	switch customer {
	case "least":
		return 0
	case "most":
		return math.MaxUint64
	}
	return hashOf(customer)
}

func (secrets) RowPseudonym(load, ordinal uint64, dataset string) uint64 {
	return hashOf(fmt.Sprint(load, " ", ordinal, dataset))
}

func (secrets) Salt(dataset string) []byte { return []byte("salt of " + dataset) }

func (secrets) ContentDigest() hash.Hash { return sha256.New() }

func hashOf(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

func small() Options {
	o := DefaultOptions()
	o.MemTable, o.BlockCache, o.IndexCache, o.CacheBytes = 16<<20, 1<<20, 1<<20, 1<<20
	o.Shards, o.MergeEvery, o.EraseAt = 3, 0, -1
	return o
}

func open(t testing.TB, dir string, c Catalog, o Options) *Store {
	t.Helper()
	s, err := Open(dir, c, secrets{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closing twice is allowed
	return s
}

func clicks() dp.VersionedPolicy {
	return dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "clicks", Unit: dp.Unit{Column: "user", Block: dp.Month},
		Time:       &dp.TimeColumn{Column: "at", Timezone: "Europe/Berlin", Format: "date"},
		Dimensions: []dp.Dimension{{Name: "page", Type: dp.StringDimension, Private: true, Missing: "none"}},
		Measures:   []dp.Measure{{Name: "seconds", Scale: 1, Upper: 6000}},
	}}
}

const clicksHeader = "user,at,page,seconds,secret\n"

// spec declares January and February.
func spec(name string) LoadSpec { return days(name, "2026-01-01", "2026-02-28") }

func days(name, from, to string) LoadSpec {
	s := LoadSpec{Name: name, Format: load.CSV}
	s.From, _ = rows.ParseDate(from)
	s.To, _ = rows.ParseDate(to)
	return s
}

// A process died while it kept identifiers in a scratch file.
func TestOpeningRemovesScratchFiles(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "spill", "spool-1")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("ann"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, newCatalog(), small())
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func noError() error { return nil }

func mustLoad(t *testing.T, s *Store, p dp.VersionedPolicy, spec LoadSpec, text string) Report {
	t.Helper()
	r, err := s.Load(context.Background(), p, spec, strings.NewReader(text), noError)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// perBlock counts customers and rows, without bounds that bind.
func perBlock(p dp.VersionedPolicy, blocks ...string) *plan.Plan {
	return &plan.Plan{Policy: p, Blocks: blocks, Tree: plan.Aggregate{
		Input: plan.Bound{
			Input:      plan.Group{Input: plan.Filter{Input: plan.Scan{Dataset: p.Name, Blocks: blocks}}},
			Partitions: 1000, Rows: 1000,
		},
		Columns: []plan.Column{{Count: plan.CountCustomers}, {Count: plan.CountRows}, {Count: plan.CountMeasured}},
	}}
}

func aggregate(t *testing.T, s *Store, c *catalog, p *plan.Plan) []bounding.Partition {
	t.Helper()
	got, err := aggregateAt(context.Background(), s, p, c.now(p.Policy.Name, p.Blocks))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// aggregateAt gives the partitions in the order of bounding.Reference.
func aggregateAt(ctx context.Context, s *Store, p *plan.Plan, at dp.Snapshot) ([]bounding.Partition, error) {
	all := []bounding.Partition{}
	err := s.Aggregate(ctx, p, at, func(one bounding.Partition) error {
		all = append(all, one)
		return nil
	})
	slices.SortFunc(all, func(a, b bounding.Partition) int {
		return bytes.Compare(rows.AppendKey(nil, a.Key), rows.AppendKey(nil, b.Key))
	})
	return all, err
}

func checkTotals(t *testing.T, s *Store, c *catalog, blocks []string, want ...int64) {
	t.Helper()
	got := aggregate(t, s, c, perBlock(clicks(), blocks...))
	if len(want) == 0 && len(got) == 0 {
		return
	}
	if len(got) != 1 || !slices.Equal(got[0].Totals[:len(want)], want) {
		t.Errorf("blocks %v: got %v, want %v", blocks, got, want)
	}
}

func checkRefusal(t *testing.T, err error, code dp.Code, says string) {
	t.Helper()
	var refusal *dp.Error
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %s that says %q", err, code, says)
	}
}

// checkNothingLeft finds what a load that failed should not leave: segments, and a load that has not ended.
func checkNothingLeft(t *testing.T, s *Store, c *catalog) {
	t.Helper()
	if keys := stored(t, s); len(keys) > 0 {
		t.Errorf("%d keys are left", len(keys))
	}
	if len(c.pending) > 0 {
		t.Errorf("pending are %v", c.pending)
	}
}

// stored gives every key of rows and parts.
func stored(t *testing.T, s *Store) (keys []string) {
	t.Helper()
	walk(t, s, func(key, _ []byte) {
		if bytes.HasPrefix(key, []byte("rows/")) || bytes.HasPrefix(key, []byte("part/")) {
			keys = append(keys, string(key))
		}
	})
	return keys
}

func walk(t *testing.T, s *Store, visit func(key, value []byte)) {
	t.Helper()
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			visit(it.Item().KeyCopy(nil), value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
