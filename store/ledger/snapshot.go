package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// Snapshot is all that the ledger held at one moment, durable and witnessed, while it goes on.
type Snapshot struct {
	ID     string
	Length uint64
	Head   [sha256.Size]byte

	txn *badger.Txn
	end sync.Once
	l   *Ledger
}

// Snapshot takes the ledger as it stands. It is closed, before the ledger is.
//
// Errors: CodeUnavailable while the ledger takes no writes: what it holds may not be all.
func (l *Ledger) Snapshot(ctx context.Context) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.open.RLock()
	if l.closed {
		l.open.RUnlock()
		return nil, errClosed()
	}
	l.durable.RLock()
	s := &Snapshot{ID: l.id.String(), Length: l.head.length, Head: l.head.hash, txn: l.db.NewTransaction(false), l: l}
	broken, refusal := l.broken.Load(), l.refusal.Load()
	l.durable.RUnlock()
	switch {
	case broken:
		s.Close()
		return nil, errBroken()
	case refusal != nil:
		s.Close()
		return nil, refusal.err()
	}
	return s, nil
}

// Close lets go of it.
func (s *Snapshot) Close() {
	s.end.Do(func() {
		s.txn.Discard()
		s.l.open.RUnlock()
	})
}

// Each calls each with every key and its value, in the order of keys, until one fails. Both are valid during the call only.
func (s *Snapshot) Each(each func(key, value []byte) error) error {
	return guarded(0, func(int) error {
		return view{s.txn}.walk(nil, nil, ascending, func(key, value []byte) (bool, error) {
			if key[0] == kindEntry { // as they are in plain: a restored copy may have another key
				entry, err := s.l.entries.open(numberOf(key), value)
				if err != nil {
					return false, err
				}
				value = entry
			}
			err := each(key, value)
			return err == nil, err
		})
	})
}

// Loads gives the committed loads of each dataset.
func (s *Snapshot) Loads() (map[string][]uint64, error) {
	loads := make(map[string][]uint64)
	err := view{s.txn}.walk([]byte{kindLoad}, nil, ascending, func(key, _ []byte) (bool, error) {
		dataset := partsOf(key[:len(key)-numberBytes])[0]
		loads[dataset] = append(loads[dataset], numberOf(key))
		return true, nil
	})
	return loads, err
}

// errNotSame says that what was restored is not the ledger that was backed up.
var errNotSame = errors.New("the entries do not lead to the mark that the backup names")
