package ledger

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// Record is a snapshot as it is shown to somebody else: every entry, and what entries hold by digest.
type Record struct {
	*Snapshot
	ctx  context.Context
	at   time.Time
	seen exposed // of the snapshot alone, which others may be ahead of
}

// Record reads a snapshot until ctx ends.
func (s *Snapshot) Record(ctx context.Context) *Record {
	r := &Record{Snapshot: s, ctx: ctx, at: s.l.clock().UTC(), seen: newExposed()}
	r.seen.entries = s.l.entries
	return r
}

// Log is the id of the ledger, and how many entries it has.
func (r *Record) Log() (id string, size uint64) { return r.ID, r.Length }

// Entries calls each with every entry in order: its bytes, valid during the call only.
func (r *Record) Entries(each func(entry []byte) error) error {
	return guarded(0, func(int) error {
		return view{r.txn}.walk([]byte{kindEntry}, nil, ascending, func(key, value []byte) (bool, error) {
			if err := r.ctx.Err(); err != nil {
				return false, err
			}
			entry, err := r.l.entries.open(numberOf(key), value)
			if err != nil {
				return false, err
			}
			return true, each(entry)
		})
	})
}

// LongValues calls each, in the order of the entries and of their writes, with every value that an entry holds by digest
// and that its key still has, but for pieces of releases.
func (r *Record) LongValues(each func(value []byte) error) error {
	return r.Entries(func(text []byte) error {
		e, err := decodeEntry(text)
		if err != nil {
			return err
		}
		for _, w := range e.writes {
			if w.op != opDigest || w.key[0] == kindBlob {
				continue
			}
			value, err := view{r.txn}.get(w.key)
			if err != nil {
				return err
			}
			if value == nil || uint64(len(value)) != w.length || sha256.Sum256(value) != [sha256.Size]byte(w.digest) {
				continue // it was written over
			}
			if err := each(value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Policies calls each with every version of every policy, by dataset and version.
func (r *Record) Policies(each func(dp.VersionedPolicy) error) error {
	return view{r.txn}.walk([]byte{kindPolicy}, nil, ascending, func(_, value []byte) (bool, error) {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		p, err := decode[dp.VersionedPolicy](value)
		if err != nil {
			return false, err
		}
		return true, each(p)
	})
}

// Exposure is Ledger.Exposure of the snapshot.
func (r *Record) Exposure(dataset string) (exposure.Book, error) {
	return exposureOf(r.ctx, view{r.txn}, &r.seen, r.at, dataset)
}
