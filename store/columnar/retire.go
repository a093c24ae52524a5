package columnar

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// errRetired is what a scan gives that would read blocks which were retired since they were charged for.
func errRetired() error {
	return refuse(dp.CodeInvalidQuery, "rows that the question is about are not kept any more: ask about later ones")
}

// checkRetired refuses to read on for blocks of which no row would be kept.
func checkRetired(blocks []string, before string, kind dp.Block) error {
	for _, block := range blocks {
		if rows.IsRetired(block, before) {
			first, err := rows.FirstKept(before, kind)
			if err != nil {
				return err
			}
			return refuse(dp.CodeInvalidInput, "the block %s is retired, and no row of it is kept: load from %s on", block, first)
		}
	}
	return nil
}

// retire has the catalog retire what is due, and takes the rows of retired blocks out of the files. Whoever calls it tends.
// It gives the datasets of which that is not done: the next run does it again.
func (s *Store) retire(ctx context.Context) (undone map[string]bool, err error) {
	list, err := s.catalog.Retire(ctx)
	if err != nil {
		return nil, fmt.Errorf("retiring blocks: %w", err)
	}
	undone = make(map[string]bool)
	var errs []error
	for _, r := range list {
		if err := guarded(func() error { return s.retireDataset(ctx, r) }); err != nil {
			undone[r.Dataset] = true
			errs = append(errs, fmt.Errorf("taking the rows of retired blocks out of dataset %s: %w", r.Dataset, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return undone, errors.Join(errs...)
}

// retireDataset drops the segments of retired blocks, and the texts that only they used. Every step can be done again: until
// the catalog knows that the rows are gone, the next run begins anew, and what an older copy of the files brought back goes
// as well. No scan reads a retired block (visible), nobody merges there (blocksWithRows), and no load commits to it.
func (s *Store) retireDataset(ctx context.Context, r dp.Retirement) error {
	prefixes, err := s.retiredPrefixes(r)
	if err != nil || len(prefixes) == 0 && r.Gone == r.Before {
		return err
	}
	leave, err := s.betweenLoads(ctx, r.Dataset) // no load of it has rows there, or uses a text from here on
	if err != nil {
		return err
	}
	defer leave()
	if err := s.db.scans.drained(ctx); err != nil {
		return fmt.Errorf("waiting for questions: %w", err)
	}
	if err := s.db.drop(prefixes...); err != nil {
		return err
	}
	if err := s.eraseRest(ctx, r.Dataset); err != nil {
		return err
	}
	s.columns.Clear()
	return s.catalog.EndRetirement(ctx, r.Dataset, r.Before)
}

// retiredPrefixes begin all keys of the retired blocks of a dataset under which there is anything.
func (s *Store) retiredPrefixes(r dp.Retirement) (prefixes [][]byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		for _, kind := range []string{"rows/", "merged/", "part/"} {
			all := []byte(kind + r.Dataset + "/")
			for key := after(txn, all, all); key != nil; {
				block, _, ok := bytes.Cut(key[len(all):], []byte("/"))
				if !ok {
					return errDamaged
				}
				prefix := append(bytes.Clone(all), block...)
				if rows.IsRetired(string(block), r.Before) {
					prefixes = append(prefixes, append(bytes.Clone(prefix), '/'))
				}
				key = after(txn, all, append(prefix, '/'+1))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for retired blocks: %w", err)
	}
	return prefixes, nil
}
