package columnar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/engine"
)

// database is Badger with a way to remove things from the files, too. What rows and customers are told by is
// written once, never overwritten and never deleted key by key: Badger would keep its bytes until the tables
// with them happen to be compacted. It is dropped (drop), so that what no key holds no file holds.
type database struct {
	*badger.DB
	// Badger refuses writes while it drops (v4.9.6, DB.DropPrefix): those who write have it for reading.
	writes sync.RWMutex
	scans  scans
}

// Update is Badger's.
func (d *database) Update(write func(*badger.Txn) error) error {
	d.writes.RLock()
	defer d.writes.RUnlock()
	return d.DB.Update(write)
}

// batch writes what fill sets, in as many transactions as it takes.
func (d *database) batch(fill func(*badger.WriteBatch) error) error {
	d.writes.RLock()
	defer d.writes.RUnlock()
	b := d.NewWriteBatch()
	defer b.Cancel()
	if err := fill(b); err != nil {
		return err
	}
	return b.Flush()
}

// mostDropped is how many prefixes are dropped at once. Badger holds each key of the tables that it rewrites against
// each of them.
const mostDropped = 256

// drop removes everything under some prefixes, from the files as well. Where a file is damaged that it would rewrite, it
// refuses, and leaves what can still be read. Nobody else may write or read there. All
// other reads and writes wait while it rewrites tables, and nothing happens where nothing is. If the process dies
// meanwhile, whatever is left can be seen and dropped again: as long as each key was written once, Badger has it in
// one place.
func (d *database) drop(prefixes ...[]byte) error {
	present, err := d.present(prefixes)
	if err != nil || len(present) == 0 {
		return err
	}
	if err := d.checkTables(present); err != nil {
		return fmt.Errorf("dropping stored rows: %w", err)
	}
	d.writes.Lock()
	defer d.writes.Unlock()
	for some := range slices.Chunk(present, mostDropped) {
		if err := d.DropPrefix(some...); err != nil {
			return fmt.Errorf("dropping stored rows: %w", err)
		}
	}
	// Badger only logs where it could not rewrite its newest tables (levelsController.dropPrefixes).
	left, err := d.present(present)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return errors.New("dropping stored rows: the database kept some of them, and is asked again later")
	}
	return durable.SyncDir(d.Opts().Dir)
}

// checkTables checks the tables that Badger rewrites to drop some prefixes: those that may have them, and those of the
// first two levels in use (levelsController.dropPrefixes).
func (d *database) checkTables(prefixes [][]byte) error {
	base := 0
	for _, l := range d.Levels() {
		if l.IsBaseLevel {
			base = l.Level
		}
	}
	err := engine.CheckTables(d.DB, func(t badger.TableInfo) bool {
		return t.Level <= base || slices.ContainsFunc(prefixes, func(prefix []byte) bool {
			return bytes.Compare(prefix, t.Right) <= 0 && (bytes.Compare(t.Left, prefix) <= 0 || bytes.HasPrefix(t.Left, prefix))
		})
	})
	if errors.Is(err, engine.ErrDamaged) {
		return fmt.Errorf("%w: %w", err, errDamaged)
	}
	return err
}

// present gives the prefixes under which there is anything.
func (d *database) present(prefixes [][]byte) (present [][]byte, err error) {
	err = d.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for _, prefix := range prefixes {
			if it.Seek(prefix); it.ValidForPrefix(prefix) {
				present = append(present, prefix)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking through stored rows: %w", err)
	}
	return present, nil
}

// after gives the least key under prefix that is not less than from, or nil.
func after(txn *badger.Txn, prefix, from []byte) []byte {
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	if it.Seek(from); it.ValidForPrefix(prefix) {
		return it.Item().KeyCopy(nil)
	}
	return nil
}

// scans knows which aggregations are under way. Each sees the records of the moment at which it began, and reads
// the segments that those name until it ends: what a newer record no longer names may go once they have ended.
type scans struct {
	mu      sync.Mutex
	moment  uint64
	ongoing map[uint64]int // by the moment at which they began
	ended   chan struct{}  // closed when one ends, where somebody waits
}

// begin counts one in. It must come before its first look at the database, and end after the last.
func (s *scans) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ongoing == nil {
		s.ongoing = make(map[uint64]int)
	}
	began := s.moment
	s.ongoing[began]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ongoing[began]--; s.ongoing[began] == 0 {
			delete(s.ongoing, began)
		}
		if s.ended != nil {
			close(s.ended)
			s.ended = nil
		}
	}
}

// any tells whether one is under way.
func (s *scans) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ongoing) > 0
}

// drained returns once those have ended that are under way.
func (s *scans) drained(ctx context.Context) error {
	s.mu.Lock()
	before := s.moment
	s.moment++
	s.mu.Unlock()
	for {
		s.mu.Lock()
		oldest := uint64(math.MaxUint64)
		for began := range s.ongoing {
			oldest = min(oldest, began)
		}
		if oldest > before {
			s.mu.Unlock()
			return nil
		}
		if s.ended == nil {
			s.ended = make(chan struct{})
		}
		ended := s.ended
		s.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
