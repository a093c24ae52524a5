package columnar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/durable"
)

// Compact merges the segments of all committed loads without pausing. It returns when each shard of each block has
// one chain of full segments, or with what stopped it; what was merged by then stays merged.
//
// Errors: that of Options.Room.
func (s *Store) Compact(ctx context.Context) error {
	return s.compact(ctx, appetite{runs: 2, loads: 2}, nil)
}

// appetite is how much has to wait in a shard of a block before it is merged: runs of segments, merged ones counted
// as one, or loads.
type appetite struct{ runs, loads int }

// compact merges wherever enough waits, and drops what was replaced. A block that cannot be merged keeps no other
// from it.
func (s *Store) compact(ctx context.Context, a appetite, p *pace) error {
	done, err := s.tend(ctx)
	if err != nil {
		return fmt.Errorf("waiting to compact: %w", err)
	}
	defer done()
	return guarded(func() error { return s.compactAll(ctx, a, p) })
}

func (s *Store) compactAll(ctx context.Context, a appetite, p *pace) error {
	blocks, err := s.blocksWithRows(ctx)
	if err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	var errs []error
	for _, at := range blocks {
		err := guarded(func() error { return s.compactBlock(ctx, at, a, p) })
		var refused *dp.Error
		if errors.As(err, &refused) || ctx.Err() != nil { // it concerns every block
			return err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("compacting dataset %s, block %s: %w", at.dataset, at.block, err))
		}
	}
	return errors.Join(append(errs, s.tidy(ctx))...)
}

// mostUntidy is how many bytes are replaced, about, before they are dropped: Badger answers nobody meanwhile.
const mostUntidy = 64 << 20

func (s *Store) compactBlock(ctx context.Context, at shardOf, a appetite, p *pace) error {
	loads, err := s.committed(ctx, at)
	if err != nil {
		return err
	}
	for at.shard = range s.shards {
		if err := s.compactShard(ctx, at, loads, a, p); err != nil {
			return err
		}
		if s.untidy < mostUntidy {
			continue
		}
		if err := s.tidy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compactShard merges what some committed loads have there, if enough of it waits.
func (s *Store) compactShard(ctx context.Context, at shardOf, loads []uint64, a appetite, p *pace) error {
	txn := s.db.NewTransaction(false) // younger than the catalog's answer: it sees all parts of those loads
	defer txn.Discard()
	from := &reader{txn: txn}
	m, err := readMerged(from, at)
	if err != nil {
		return err
	}
	waiting := 0
	for _, load := range loads {
		if !slices.Contains(m.Loads, load) {
			waiting++
		}
	}
	if waiting == 0 {
		return nil
	}
	chains, err := s.chains(from, at, m, loads)
	if err != nil || waiting < a.loads && len(chains) < a.runs {
		return err
	}
	return s.mergeShard(ctx, at, loads, nil, p)
}

// committed gives the loads of a block that the catalog knows, ascending.
func (s *Store) committed(ctx context.Context, at shardOf) ([]uint64, error) {
	loads, err := s.catalog.CommittedLoads(ctx, at.dataset, at.block, math.MaxUint64)
	if err != nil {
		return nil, fmt.Errorf("asking for the loads of dataset %s: %w", at.dataset, err)
	}
	slices.Sort(loads)
	return loads, nil
}

// mostSideBySideMerged is how many chains are merged at once: of each, one segment is in memory.
const mostSideBySideMerged = 64

// mergeShard writes what some committed loads (ascending) and those merged before have there anew, without some
// customers (nil: with all), and has it count from then on. What it replaces is untidy. A process that dies leaves
// what was before, or what is after, and something untidy.
func (s *Store) mergeShard(ctx context.Context, at shardOf, loads []uint64, without map[uint64]struct{}, p *pace) error {
	from := &reader{txn: s.db.NewTransaction(false)}
	defer func() { from.txn.Discard() }()
	before, err := readMerged(from, at)
	if err != nil {
		return err
	}
	chains, err := s.chains(from, at, before, loads)
	if err != nil {
		return err
	}
	next := before
	m := merger{from: from, without: without, most: s.options.SegmentRows}
	begin := func() (*generationWriter, error) {
		next.Given++
		before.Given = next.Given
		s.untidy = max(1, s.untidy)
		w := &generationWriter{store: s, ctx: ctx, place: at.place(mergedMark | next.Given), pace: p}
		m.write = w.write
		return w, s.setMerged(at, before)
	}
	if len(chains) > mostSideBySideMerged {
		// A generation that never counts holds what is merged first.
		between, err := begin()
		if err != nil {
			return err
		}
		for len(chains) > mostSideBySideMerged {
			c := chain{prefix: between.place, first: between.segments}
			if err := m.merge(ctx, chains[:mostSideBySideMerged]); err != nil {
				return err
			}
			c.last = between.segments
			chains = append(chains[mostSideBySideMerged:], c)
			from.txn.Discard()
			from.txn = s.db.NewTransaction(false) // nothing is dropped meanwhile but by whoever tends
		}
	}
	w, err := begin()
	if err != nil {
		return err
	}
	if err := m.merge(ctx, chains); err != nil {
		return err
	}
	next.Generation, next.Segments = next.Given, w.segments
	next.Loads = slices.Concat(before.Loads, loads)
	slices.Sort(next.Loads)
	next.Loads = slices.Compact(next.Loads)
	// The names of the files with the segments must last as long as the record that names the segments.
	if err := durable.SyncDir(s.dir); err != nil {
		return fmt.Errorf("making merged rows durable: %w", err)
	}
	return s.setMerged(at, next)
}

func (s *Store) setMerged(at shardOf, m merged) error {
	if err := s.db.Update(func(txn *badger.Txn) error { return setJSON(txn, at.key(), m) }); err != nil {
		return fmt.Errorf("recording what was merged: %w", err)
	}
	return nil
}

// generationWriter writes the segments of a generation, which is invisible until a record names it.
type generationWriter struct {
	store    *Store
	ctx      context.Context
	place    []byte
	pace     *pace
	segments uint32
}

func (w *generationWriter) write(columns []encodedColumn) error {
	if err := w.store.room(); err != nil {
		return err
	}
	size, began := 0, time.Now()
	err := w.store.db.batch(func(b *badger.WriteBatch) error {
		for _, c := range columns {
			key := columnKey(w.place, w.segments, c.id)
			if err := b.Set(key, seal(key, c.body)); err != nil {
				return err
			}
			size += len(c.body)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing merged rows: %w", err)
	}
	w.segments++
	w.store.untidy += int64(size)
	return w.pace.wait(w.ctx, size, time.Since(began))
}

// pace slows merging down, so that loads and questions have the disk and the processors.
type pace struct {
	bytes int         // to write in a second
	busy  func() bool // whether a question is being answered
}

// pause is how long to rest after so many bytes were written in some time: three times as long as that took, where a
// question is being answered.
func (p *pace) pause(bytes int, took time.Duration) time.Duration {
	pause := time.Duration(float64(bytes)/float64(p.bytes)*float64(time.Second)) - took
	if p.busy() {
		pause = max(pause, 3*took)
	}
	return max(0, pause)
}

func (p *pace) wait(ctx context.Context, bytes int, took time.Duration) error {
	if p == nil {
		return nil
	}
	timer := time.NewTimer(p.pause(bytes, took))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tidy drops what was replaced, once the questions have ended that may still read it.
func (s *Store) tidy(ctx context.Context) error {
	if s.untidy == 0 {
		return nil
	}
	if err := s.db.scans.drained(ctx); err != nil {
		return fmt.Errorf("waiting for questions: %w", err)
	}
	if err := s.sweepMerged(); err != nil {
		return err
	}
	s.untidy = 0
	return nil
}

// tend waits until nobody else merges or erases.
func (s *Store) tend(ctx context.Context) (done func(), err error) {
	select {
	case s.tending <- struct{}{}:
		return func() { <-s.tending }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// blocksWithRows gives each block of each dataset that a load wrote to and that is not retired, as its shard 0. Of retired
// ones some may be dropped already.
func (s *Store) blocksWithRows(ctx context.Context) (list []shardOf, err error) {
	all, err := s.blocksWithParts()
	if err != nil {
		return nil, err
	}
	retired := make(map[string]string)
	for _, at := range all {
		before, known := retired[at.dataset]
		if !known {
			if before, err = s.catalog.RetiredBefore(ctx, at.dataset); err != nil {
				return nil, fmt.Errorf("asking for the retired blocks of dataset %s: %w", at.dataset, err)
			}
			retired[at.dataset] = before
		}
		if !rows.IsRetired(at.block, before) {
			list = append(list, at)
		}
	}
	return list, nil
}

// blocksWithParts gives each block of each dataset that has a part of a load.
func (s *Store) blocksWithParts() (list []shardOf, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		prefix := []byte("part/")
		for key := after(txn, prefix, prefix); key != nil; {
			words := bytes.SplitN(key, []byte("/"), 4)
			if len(words) != 4 || len(words[3]) != 8 {
				return errDamaged
			}
			at := shardOf{dataset: string(words[1]), block: string(words[2])}
			list = append(list, at)
			last := partKey(at.dataset, at.block, math.MaxUint64)
			key = after(txn, prefix, append(last, 0))
		}
		return nil
	})
	return list, err
}

// compactInBackground merges from time to time, and when a load was committed.
func (s *Store) compactInBackground(ctx context.Context) {
	p := &pace{bytes: s.options.MergeBytes, busy: s.db.scans.any}
	ticker := time.NewTicker(s.options.MergeEvery)
	defer ticker.Stop()
	for {
		err := s.compact(ctx, appetite{runs: s.options.MergeRuns, loads: s.options.MergeLoads}, p)
		var refused *dp.Error
		if err != nil && ctx.Err() == nil && !errors.As(err, &refused) { // a refusal is told by who refuses, and passes
			s.options.Log.Warn("rows: merging segments failed, and is tried again later", "error", err)
		}
		select {
		case <-ticker.C:
		case <-s.arrived:
		case <-ctx.Done():
			return
		}
	}
}
