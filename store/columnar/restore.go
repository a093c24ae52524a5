package columnar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/engine"
)

// Restoration is a store that is being restored from a backup.
type Restoration struct {
	dir   string
	db    *badger.DB
	batch *badger.WriteBatch
}

// Restore begins a store in a new directory from what a Snapshot gave.
func Restore(dir string, o Options) (*Restoration, error) {
	db, err := engine.Open(badgerOptions(dir, o))
	if err != nil {
		return nil, fmt.Errorf("making the database of rows: %w", err)
	}
	return &Restoration{dir: dir, db: db, batch: db.NewWriteBatch()}, nil
}

// Put takes one key with its body.
func (r *Restoration) Put(key, body []byte) error {
	if len(key) == 0 || len(body) >= valueThreshold {
		return errDamaged
	}
	key = bytes.Clone(key)
	if err := r.batch.Set(key, seal(key, body)); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

// Erase has customers (ascending) be erased whose erasure was asked for after the backup was made: no question sees them
// once the store is open, and the next run takes them out of the files.
func (r *Restoration) Erase(e dp.Erasure, customers []uint64) error {
	if e.Dataset == "" || e.ID == "" || e.Units < 1 || bytes.ContainsRune([]byte(e.Dataset+e.ID), '/') {
		return errDamaged
	}
	head := erasurePrefix(e.Dataset, e.ID)
	i := uint32(0)
	for part := range slices.Chunk(customers, mostInPart) {
		var body []byte
		for _, customer := range part {
			body = binary.LittleEndian.AppendUint64(body, customer)
		}
		if err := r.Put(binary.BigEndian.AppendUint32(bytes.Clone(head), i), body); err != nil {
			return err
		}
		i++
	}
	if err := setJSON(r.batch, head, erasureHead{By: e.By, At: e.At, Units: e.Units}); err != nil {
		return fmt.Errorf("writing an erasure: %w", err)
	}
	return nil
}

// Finish returns once all is durable. Nothing of the store counts unless it succeeds.
func (r *Restoration) Finish() error {
	if err := errors.Join(r.batch.Flush(), r.db.Sync()); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

// Close closes the database.
func (r *Restoration) Close() error {
	r.batch.Cancel()
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("closing the database of rows: %w", err)
	}
	return durable.SyncDir(r.dir)
}
