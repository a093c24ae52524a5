package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/store/secrets"
	"golang.org/x/mod/sumdb/tlog"
)

// reader reads records, as they stand on disk or as a transaction sees them.
type reader interface {
	// get returns nil where there is no such key.
	get(key []byte) ([]byte, error)
}

// tx is what one request reads and writes. It sees the writes of earlier requests of its batch and its own.
type tx struct {
	txn    *badger.Txn
	hot    *hot
	now    time.Time
	kind   entryKind         // what the request is, for the chain
	staged map[string][]byte // nil: deleted
	bytes  int               // what staged takes in a transaction, at most
	lost   uint64            // number of the write-off that this is; 0: it is none
	opens  uint64            // number of the opening that this counts; 0: none
	long   bool              // a key is longer than any that is meant
}

func (t *tx) get(key []byte) ([]byte, error) {
	if value, ok := t.staged[string(key)]; ok {
		return value, nil
	}
	if !isHot(key) {
		return get(t.txn, key)
	}
	if value, known := t.hot.get(key); known {
		return value, nil
	}
	value, err := get(t.txn, key)
	if err == nil {
		t.hot.set(string(key), value)
	}
	return value, err
}

// entryOverhead is what Badger adds to key and value of one write, rounded up; it also keeps the number of
// writes of a batch below Badger's bound.
const entryOverhead = 96

func (t *tx) put(key, value []byte) { t.stage(key, value) }

func (t *tx) delete(key []byte) { t.stage(key, nil) }

// hashesBytes is what the hashes kept with an entry take in a transaction: two of them, as there are on average, and
// in a batch never more than one for each level of the tree beyond that.
const hashesBytes = 1 + numberBytes + 1 + 2*tlog.HashSize + entryOverhead

// maxKey is the length of a key in bytes beyond which a write is refused; Badger's own bound fails a whole batch.
const maxKey = 4096

func (t *tx) stage(key, value []byte) {
	t.long = t.long || len(key) > maxKey
	if old, ok := t.staged[string(key)]; ok {
		t.bytes -= stagedBytes(key, old)
	} else if len(t.staged) == 0 {
		t.bytes = 1 + numberBytes + entryHead + 1 + secrets.SealedBytes + entryOverhead + hashesBytes // the entry itself
	}
	t.staged[string(key)] = value
	t.bytes += stagedBytes(key, value)
}

// stagedBytes is what a write takes in a transaction, in the entry too.
func stagedBytes(key, value []byte) int {
	return len(key) + len(value) + entryOverhead + entryWriteBytes(key, value)
}

// view reads the committed state of one moment.
type view struct{ txn *badger.Txn }

func (v view) get(key []byte) ([]byte, error) { return get(v.txn, key) }

// read runs f over the committed state.
func (l *Ledger) read(ctx context.Context, f func(view) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.open.RLock()
	defer l.open.RUnlock()
	if l.closed {
		return errClosed()
	}
	l.durable.RLock()
	broken := l.broken.Load()
	txn := l.db.NewTransaction(false)
	l.durable.RUnlock()
	defer txn.Discard()
	if broken {
		return errBroken()
	}
	return f(view{txn})
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return value, nil
}

// order is the direction of a walk.
type order bool

const (
	ascending  order = false
	descending order = true
)

// walk calls each with every key under prefix and its value, beginning at start where that is not nil, until
// each returns false. Key and value are valid during the call only.
func (v view) walk(prefix, start []byte, o order, each func(key, value []byte) (bool, error)) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix = prefix
	opts.Reverse = bool(o)
	opts.PrefetchValues = false // none lies outside of its table, and each would be fetched by a goroutine
	it := v.txn.NewIterator(opts)
	defer it.Close()
	if start == nil {
		start = prefix
		if o == descending {
			start = append(append([]byte{}, prefix...), 0xff)
		}
	}
	for it.Seek(start); it.ValidForPrefix(prefix); it.Next() {
		more := false
		err := it.Item().Value(func(value []byte) (err error) {
			more, err = each(it.Item().Key(), value)
			return err
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// each calls take with every key under prefix and its value, as the transaction sees them, in the order of the keys.
func (t *tx) each(prefix []byte, take func(key, value []byte) error) error {
	keys, err := keysUnder(t, prefix)
	if err != nil {
		return err
	}
	for key := range t.staged {
		if strings.HasPrefix(key, string(prefix)) {
			keys = append(keys, []byte(key))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range slices.CompactFunc(keys, bytes.Equal) {
		value, err := t.get(key)
		if err != nil {
			return err
		}
		if value == nil { // deleted in this transaction
			continue
		}
		if err := take(key, value); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether there is any key under prefix, in the transaction's view.
func (t *tx) has(prefix []byte) bool {
	for key, value := range t.staged {
		if value != nil && len(key) >= len(prefix) && key[:len(prefix)] == string(prefix) {
			return true
		}
	}
	opts := badger.DefaultIteratorOptions
	opts.Prefix = prefix
	opts.PrefetchValues = false
	it := t.txn.NewIterator(opts)
	defer it.Close()
	it.Seek(prefix)
	return it.ValidForPrefix(prefix)
}
