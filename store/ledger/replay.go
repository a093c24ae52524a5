package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// replayed is what a chain that fits says of itself.
type replayed struct {
	head   head
	last   entryKind
	latest time.Time // of all entries
}

// replay reads the whole chain and compares what it leads to with what the database holds. An error names the
// first entry, or the kind of key, that does not fit.
//
// It takes about 60 bytes of memory for each key. Values are compared by their bytes' hash under a random seed:
// a change that nobody made with that seed at hand passes with a probability of 2^-64.
func replay(txn *badger.Txn) (replayed, error) {
	r := replayed{}
	expected := expectations{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, keys: map[[2]uint64]expectation{}}
	err := view{txn}.walk([]byte{kindEntry}, nil, ascending, func(key, value []byte) (bool, error) {
		if len(key) != 1+numberBytes || numberOf(key) != r.head.length+1 {
			return false, fmt.Errorf("entry %d of the ledger is missing: %w", r.head.length+1, errLost)
		}
		e, err := decodeEntry(value)
		if err != nil || e.number != r.head.length+1 {
			return false, fmt.Errorf("entry %d of the ledger cannot be read: %w", r.head.length+1, errLost)
		}
		if e.previous != r.head.hash {
			return false, fmt.Errorf("entry %d of the ledger does not follow on entry %d: one of them was changed: %w", e.number, r.head.length, errLost)
		}
		for _, w := range e.writes {
			if w.key[0] == kindEntry {
				return false, fmt.Errorf("entry %d of the ledger writes an entry: %w", e.number, errLost)
			}
			expected.write(e.number, w)
		}
		r.head, r.last = r.head.after(value), e.kind
		if e.at.After(r.latest) {
			r.latest = e.at
		}
		return true, nil
	})
	if err != nil {
		return r, err
	}
	for _, start := range [][]byte{nil, {kindEntry + 1}} { // around the entries
		err := view{txn}.walk(nil, start, ascending, func(key, value []byte) (bool, error) {
			if key[0] == kindEntry {
				return false, nil
			}
			return true, expected.meet(key, value)
		})
		if err != nil {
			return r, err
		}
	}
	return r, expected.rest()
}

// expectations are the keys that a chain leads to, by two hashes under random seeds.
type expectations struct {
	seeds [2]maphash.Seed
	keys  map[[2]uint64]expectation
}

type expectation struct {
	value uint64 // hash of the value
	entry uint64 // that wrote it last
}

func (x *expectations) of(key []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(x.seeds[0], key), maphash.Bytes(x.seeds[1], key)}
}

func (x *expectations) write(number uint64, w entryWrite) {
	switch w.op {
	case opDelete:
		delete(x.keys, x.of(w.key))
	case opValue:
		x.keys[x.of(w.key)] = expectation{maphash.Bytes(x.seeds[0], w.value), number}
	case opDigest:
		x.keys[x.of(w.key)] = expectation{x.digest(w.length, w.digest), number}
	}
}

func (x *expectations) digest(length uint64, sum []byte) uint64 {
	return maphash.Bytes(x.seeds[1], append(binary.BigEndian.AppendUint64(nil, length), sum...))
}

// meet takes a key of the database off what is expected.
func (x *expectations) meet(key, value []byte) error {
	name := x.of(key)
	want, ok := x.keys[name]
	if !ok {
		return fmt.Errorf("the ledger holds a key of kind %c that no entry wrote: %w", key[0], errLost)
	}
	got := maphash.Bytes(x.seeds[0], value)
	if len(value) > inlineValue {
		sum := sha256.Sum256(value)
		got = x.digest(uint64(len(value)), sum[:])
	}
	if got != want.value {
		return fmt.Errorf("a key of kind %c is not as entry %d of the ledger wrote it: %w", key[0], want.entry, errLost)
	}
	delete(x.keys, name)
	return nil
}

// rest names the first entry of which a key is missing.
func (x *expectations) rest() error {
	first := uint64(0)
	for _, e := range x.keys {
		if first == 0 || e.entry < first {
			first = e.entry
		}
	}
	if first != 0 {
		return fmt.Errorf("a key that entry %d of the ledger wrote is missing: %w", first, errLost)
	}
	return nil
}

// hashAt is the hash of an entry that replay has read, zeros for 0.
func hashAt(txn *badger.Txn, number uint64) ([sha256.Size]byte, error) {
	if number == 0 {
		return [sha256.Size]byte{}, nil
	}
	value, err := get(txn, entryKey(number))
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(value), nil
}
