package columnar

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
)

// loadRecord says what became of a load. Records stay, so that a number is never used twice.
type loadRecord struct {
	State  loadState `json:"state"`
	Blocks []string  `json:"blocks"` // that it declares: it has segments in no other
}

type loadState string

const (
	writing    loadState = "writing"    // its segments are nobody's once it is over
	committing loadState = "committing" // the catalog knows
	committed  loadState = "committed"
	removed    loadState = "removed" // it failed, and its segments are gone
)

func (s *Store) setLoad(l dp.Load, state loadState) error {
	err := s.db.Update(func(txn *badger.Txn) error {
		return setJSON(txn, loadKey(l.Dataset, l.ID), loadRecord{State: state, Blocks: l.Blocks})
	})
	if err != nil {
		return fmt.Errorf("recording a load of dataset %s: %w", l.Dataset, err)
	}
	return nil
}

// sweep removes the segments of loads that failed or died, and ends those loads. Of one dataset it removes what
// loads of this process left: none is under way when the next one begins. Of all (dataset empty), when the store
// opens, it also settles those whose commit was under way when the process died. A load whose commit failed in
// this process is left alone until then, because the catalog may yet have it.
func (s *Store) sweep(ctx context.Context, dataset string) error {
	unfinished, err := s.unfinished(dataset)
	if err != nil {
		return fmt.Errorf("looking for unfinished loads: %w", err)
	}
	var inDoubt []uint64 // of the dataset
	for _, l := range unfinished {
		state := l.state
		if state == committing {
			if dataset != "" {
				inDoubt = append(inDoubt, l.load.ID)
				continue
			}
			if state, err = s.settle(ctx, l.load); err != nil {
				return err
			}
		}
		if state != committed {
			if err := s.remove(l.load); err != nil {
				return fmt.Errorf("removing a load of dataset %s that was not committed: %w", l.load.Dataset, err)
			}
			state = removed
		}
		if err := s.setLoad(l.load, state); err != nil {
			return err
		}
	}
	return s.endPending(ctx, dataset, inDoubt)
}

// endPending ends the loads that nobody will end any more, those without segments too.
func (s *Store) endPending(ctx context.Context, dataset string, inDoubt []uint64) error {
	pending, err := s.catalog.PendingLoads(ctx, dataset)
	if err != nil {
		return fmt.Errorf("looking for unfinished loads: %w", err)
	}
	for _, l := range pending {
		if slices.Contains(inDoubt, l.ID) {
			continue
		}
		if err := s.catalog.AbandonLoad(ctx, l); err != nil {
			return fmt.Errorf("abandoning a load of dataset %s: %w", l.Dataset, err)
		}
	}
	return nil
}

// settle asks the catalog whether a load was committed. All of its blocks were, or none.
func (s *Store) settle(ctx context.Context, l dp.Load) (loadState, error) {
	if len(l.Blocks) == 0 { // every load declares some
		return "", errDamaged
	}
	visible, err := s.catalog.CommittedLoads(ctx, l.Dataset, l.Blocks[0], math.MaxUint64)
	if err != nil {
		return "", fmt.Errorf("asking whether a load of dataset %s was committed: %w", l.Dataset, err)
	}
	if slices.Contains(visible, l.ID) {
		return committed, nil
	}
	return writing, nil
}

type unfinishedLoad struct {
	load  dp.Load
	state loadState
}

func (s *Store) unfinished(dataset string) (list []unfinishedLoad, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = loadPrefix(dataset)
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			body, err := unseal(key, value)
			if err != nil {
				return err
			}
			var r loadRecord
			if json.Unmarshal(body, &r) != nil {
				return errDamaged
			}
			if r.State != committed && r.State != removed {
				list = append(list, unfinishedLoad{loadOf(key, r), r.State})
			}
		}
		return nil
	})
	return list, err
}

// loadOf reads the dataset and the number from a loadKey.
func loadOf(key []byte, r loadRecord) dp.Load {
	name := strings.TrimPrefix(string(key[:len(key)-9]), "load/")
	return dp.Load{Dataset: name, ID: binary.BigEndian.Uint64(key[len(key)-8:]), Blocks: r.Blocks}
}

// remove drops every segment and part of a load that nobody can see.
func (s *Store) remove(l dp.Load) error {
	var prefixes [][]byte
	for _, block := range l.Blocks {
		prefixes = append(prefixes, partKey(l.Dataset, block, l.ID))
		for shard := range s.shards {
			prefixes = append(prefixes, segmentPrefix(l.Dataset, block, shard, l.ID))
		}
	}
	return s.db.drop(prefixes...)
}
