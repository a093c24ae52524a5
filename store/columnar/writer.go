package columnar

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/load"
)

// writer turns the rows of one load into segments. Until commit they are invisible.
type writer struct {
	store   *Store
	policy  *dp.Policy
	load    dp.Load
	buffer  *buffer
	spare   *buffer          // that is being written, or empty
	parts   map[string]*part // by block
	inDoubt bool             // the catalog was asked to commit, and did not refuse

	dictionaries []*dictionary // by dimension
	flushing     chan error    // gives what became of what is being written; nil: nothing is
}

// part says which segments a load has in one block. Every block of a committed load has one, with segments or
// without, so that a lost segment is noticed.
type part struct {
	// Runs gives for each shard how many segments each flush of the load wrote there. The segments of one run
	// follow on each other: no customer of one comes before any of the segment before it.
	Runs [][]uint32 `json:"runs"`
}

// newWriter records that the load writes, before its first segment: what it leaves behind can then be found.
func (s *Store) newWriter(p *dp.Policy, begun dp.Load) (*writer, error) {
	err := s.db.View(func(txn *badger.Txn) error {
		var r loadRecord
		found, err := getJSON(txn, loadKey(begun.Dataset, begun.ID), &r)
		if err == nil && found {
			err = errors.New("rows of a load with this number are there already: the ledger is older than the rows, restore both from one backup")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	dictionaries := make([]*dictionary, len(p.Dimensions))
	for i, d := range p.Dimensions {
		if dictionaries[i], err = s.dictionaries.get(p.Name, d.Name); err != nil {
			return nil, err
		}
	}
	w := &writer{
		store: s, policy: p, load: begun, dictionaries: dictionaries, parts: make(map[string]*part),
		buffer: newBuffer(p, dictionaries, s.shards, s.options.DictionaryBytes),
		spare:  newBuffer(p, dictionaries, s.shards, s.options.DictionaryBytes),
	}
	return w, s.setLoad(begun, writing)
}

func (w *writer) add(ctx context.Context, record *load.Record) error {
	if err := w.buffer.add(record.Block, &record.Row); err != nil {
		return err
	}
	if w.buffer.len() < w.store.options.BufferRows {
		return nil
	}
	return w.flush(ctx)
}

// flush begins to write the buffer as segments, once what was begun before is written. The next rows go to another
// buffer meanwhile.
func (w *writer) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("loading rows: %w", context.Cause(ctx))
	}
	if err := w.wait(); err != nil {
		return err
	}
	if err := w.store.room(); err != nil {
		return err
	}
	if w.buffer.len() == 0 {
		return nil
	}
	for _, d := range w.dictionaries {
		if err := w.store.dictionaries.store(d); err != nil {
			return err
		}
	}
	full := w.buffer
	w.buffer, w.spare = w.spare, full
	w.flushing = make(chan error, 1)
	go func() { w.flushing <- w.write(full) }()
	return nil
}

// wait returns once nothing is being written, with what became of it.
func (w *writer) wait() error {
	if w.flushing == nil {
		return nil
	}
	err := <-w.flushing
	w.flushing = nil
	return err
}

// write writes a buffer and empties it.
func (w *writer) write(b *buffer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing rows of dataset %s: it panicked with a %T", w.policy.Name, p) // its value may hold rows
		}
	}()
	shards, err := w.encode(b)
	if err != nil {
		return fmt.Errorf("writing rows of dataset %s: %w", w.policy.Name, err)
	}
	err = w.store.db.batch(func(batch *badger.WriteBatch) error {
		for shard, segments := range shards {
			for _, s := range segments {
				if err := w.writeSegment(batch, shard, s); err != nil {
					return err
				}
			}
		}
		return nil
	})
	b.reset()
	if err != nil {
		return fmt.Errorf("writing rows of dataset %s: %w", w.policy.Name, err)
	}
	return nil
}

// encodedSegment is a segment that is to be written.
type encodedSegment struct {
	block   string
	first   bool // of a run
	columns []encodedColumn
}

// encode sorts and encodes the rows of each shard, on all processors.
func (w *writer) encode(b *buffer) ([][]encodedSegment, error) {
	shards := b.byShard()
	encoded, errs := make([][]encodedSegment, len(shards)), make([]error, len(shards))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(shards), runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			e := &encoder{}
			for shard := int(next.Add(1)) - 1; shard < len(shards); shard = int(next.Add(1)) - 1 {
				encoded[shard], errs[shard] = w.encodeShard(b, e, shards[shard])
			}
		})
	}
	workers.Wait()
	return encoded, errors.Join(errs...)
}

func (w *writer) encodeShard(b *buffer, e *encoder, order []int32) (segments []encodedSegment, err error) {
	defer func() {
		if p := recover(); p != nil { // of one load, which must not end the process
			err = fmt.Errorf("encoding rows: it panicked with a %T", p)
		}
	}()
	b.sort(order)
	for start := 0; start < len(order); {
		end := start + 1
		block := b.block[order[start]]
		for end < len(order) && b.block[order[end]] == block {
			end++
		}
		first := len(segments)
		for _, rows := range cut(order[start:end], w.store.options.SegmentRows) {
			if segments, err = w.encodeSegments(segments, b, e, b.blocks[block], rows); err != nil {
				return nil, err
			}
		}
		segments[first].first = true
		start = end
	}
	return segments, nil
}

// encodeSegments appends rows of one shard and block as one segment, or as two halves where a column is too long.
func (w *writer) encodeSegments(to []encodedSegment, b *buffer, e *encoder, block string, order []int32) ([]encodedSegment, error) {
	columns, longest, err := b.encode(w.policy, e, order)
	if err != nil {
		return nil, err
	}
	if longest <= maxValue || len(order) == 1 {
		return append(to, encodedSegment{block: block, columns: columns}), nil
	}
	for _, half := range cut(order, (len(order)+1)/2) {
		if to, err = w.encodeSegments(to, b, e, block, half); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// writeSegment writes a segment as the next one of its run.
func (w *writer) writeSegment(batch *badger.WriteBatch, shard int, s encodedSegment) error {
	p := w.part(s.block)
	if s.first {
		p.Runs[shard] = append(p.Runs[shard], 0)
	}
	runs := p.Runs[shard]
	prefix := segmentPrefix(w.policy.Name, s.block, shard, w.load.ID)
	for _, c := range s.columns {
		key := columnKey(prefix, segmentsOf(runs), c.id)
		if err := batch.Set(key, seal(key, c.body)); err != nil {
			return err
		}
	}
	runs[len(runs)-1]++
	return nil
}

func (w *writer) part(block string) *part {
	p := w.parts[block]
	if p == nil {
		p = &part{Runs: make([][]uint32, w.store.shards)}
		w.parts[block] = p
	}
	return p
}

// segmentsOf is how many segments runs have together.
func segmentsOf(runs []uint32) (count uint32) {
	for _, segments := range runs {
		count += segments
	}
	return count
}

// commit writes what is left, makes it durable, and then visible.
func (w *writer) commit(ctx context.Context, done dp.Load) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := w.wait(); err != nil {
		return err
	}
	err := w.store.db.batch(func(batch *badger.WriteBatch) error {
		for _, block := range done.Blocks {
			if err := setJSON(batch, partKey(done.Dataset, block, done.ID), w.part(block)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing rows of dataset %s: %w", done.Dataset, err)
	}
	// From here on only the catalog knows whether the load counts.
	if err := w.store.setLoad(done, committing); err != nil {
		return err
	}
	// Badger syncs what it writes into a new file, but not the directory that names it (ristretto 2.2.0,
	// z.OpenMmapFileUsing, does so only for files of size 0).
	if err := durable.SyncDir(w.store.dir); err != nil {
		return fmt.Errorf("making the rows of dataset %s durable: %w", done.Dataset, err)
	}
	w.inDoubt = true
	if err := w.store.catalog.CommitLoad(context.WithoutCancel(ctx), done); err != nil {
		var refusal *dp.Error
		w.inDoubt = !errors.As(err, &refusal) || refusal.Code != dp.CodeConflict
		return fmt.Errorf("committing a load of dataset %s: %w", done.Dataset, err)
	}
	// The load counts, whatever happens now: without this record the next Open asks the catalog.
	_ = w.store.setLoad(done, committed)
	select {
	case w.store.arrived <- struct{}{}: // something may be worth merging
	default:
	}
	return nil
}

// remove takes back what was written.
func (w *writer) remove() error {
	_ = w.wait() // what it wrote is removed, whatever became of it
	if err := w.store.remove(w.load); err != nil {
		return err
	}
	return w.store.setLoad(w.load, removed)
}

// cut splits order into runs of at most most.
func cut(order []int32, most int) [][]int32 {
	return slices.Collect(slices.Chunk(order, max(1, most)))
}
