package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// replayed is what a chain that fits says of itself.
type replayed struct {
	head   head
	edge   edge // of the tree over the entries
	last   entryKind
	latest time.Time // of all entries
}

// replay reads the whole chain and compares what it leads to with what the database holds. An error names the
// first entry, or the kind of key, that does not fit. Nobody may write meanwhile.
//
// It takes about 60 bytes of memory for each key. Values are compared by their bytes' hash under a random seed:
// a change that nobody made with that seed at hand passes with a probability of 2^-64.
func replay(db *badger.DB, entries *entrySeal) (replayed, error) {
	length, err := lastEntry(db)
	if err != nil || length == 0 {
		return replayed{}, err
	}
	expected := newExpectations()
	expected.entries = entries
	r, err := replayEntries(db, length, expected)
	if err != nil {
		return r, err
	}
	expected.settle()
	// A kind of key, whatever it is, is one byte.
	err = parallel(256, func(kind int) error {
		if kind == kindEntry || kind == kindHashes { // which were compared as the entries were replayed
			return nil
		}
		return viewing(db, func(v view) error {
			return v.walk([]byte{byte(kind)}, nil, ascending, func(key, value []byte) (bool, error) {
				return true, expected.meet(key, value)
			})
		})
	})
	if err != nil {
		return r, err
	}
	return r, expected.rest()
}

// lastEntry is the number of the last entry, 0 where there is none.
func lastEntry(db *badger.DB) (number uint64, err error) {
	err = viewing(db, func(v view) error {
		number, err = v.length()
		return err
	})
	return number, err
}

// entriesAtOnce is how many entries one worker replays before it takes others: a power of two, so that they make up a
// perfect subtree.
const entriesAtOnce = 1 << 14

// replayEntries replays stretches of the chain side by side, and then looks whether each follows on the one
// before it.
func replayEntries(db *badger.DB, length uint64, expected *expectations) (replayed, error) {
	stretches := newStretches(length)
	err := parallel(stretches.count(), func(i int) error {
		s := stretches.at(i)
		return viewing(db, func(v view) error { return s.replay(v, expected) })
	})
	r := replayed{}
	for i := range stretches.count() {
		s := stretches.at(i)
		if s.head.length < s.first { // it was not read, because of an error there or before
			break
		}
		if s.previous != r.head.hash {
			return r, errUnchained(s.first)
		}
		if err == nil {
			if s.head.length == s.first+entriesAtOnce-1 {
				r.edge, err = r.edge.join(uint64(i), s.end, &s.tree)
			} else { // the last one
				r.edge = append(r.edge, s.tree.edge...)
			}
		}
		r.head, r.last = s.head, s.last
		if s.latest.After(r.latest) {
			r.latest = s.latest
		}
	}
	return r, err
}

// stretches are the parts of a chain. They are made when they are asked for: a length may be a damaged number.
type stretches struct {
	length uint64
	mu     sync.Mutex
	made   map[int]*stretch
}

func newStretches(length uint64) *stretches {
	return &stretches{length: length, made: map[int]*stretch{}}
}

func (all *stretches) count() int { return int((all.length + entriesAtOnce - 1) / entriesAtOnce) }

func (all *stretches) at(i int) *stretch {
	all.mu.Lock()
	defer all.mu.Unlock()
	s := all.made[i]
	if s == nil {
		s = &stretch{first: uint64(i)*entriesAtOnce + 1}
		s.head.length = s.first - 1
		s.end = min(s.head.length+entriesAtOnce, all.length)
		s.final = s.end == all.length
		all.made[i] = s
	}
	return s
}

// stretch is a part of the chain.
type stretch struct {
	replayed          // up to its end
	first, end uint64 // entries
	previous   [sha256.Size]byte
	tree       subtree
	final      bool // nothing comes after it
}

func (s *stretch) replay(v view, expected *expectations) error {
	err := v.walk([]byte{kindEntry}, entryKey(s.first), ascending, func(key, value []byte) (bool, error) {
		number := s.head.length + 1
		if len(key) != 1+numberBytes || numberOf(key) != number {
			return false, errMissing(number)
		}
		value, err := expected.entries.open(number, value)
		if err != nil {
			return false, err
		}
		e, err := decodeEntry(value)
		if err != nil || e.number != number {
			return false, fmt.Errorf("entry %d of the ledger cannot be read: %w", number, errLost)
		}
		switch {
		case number == s.first:
			s.previous = e.previous
		case e.previous != s.head.hash:
			return false, errUnchained(number)
		}
		for _, w := range e.writes {
			if w.key[0] == kindEntry || w.key[0] == kindHashes {
				return false, fmt.Errorf("entry %d of the ledger writes what is of the chain itself: %w", number, errLost)
			}
			expected.write(number, w)
		}
		if err := s.tree.add(number-s.first, value); err != nil {
			return false, err
		}
		s.head, s.last = s.head.after(value), e.kind
		if e.at.After(s.latest) {
			s.latest = e.at
		}
		return number < s.end, nil
	})
	if err == nil && s.head.length < s.end {
		err = errMissing(s.head.length + 1)
	}
	if err == nil {
		err = s.tree.compare(v, s.first, s.end, s.final)
	}
	return err
}

func errMissing(entry uint64) error {
	return fmt.Errorf("entry %d of the ledger is missing: %w", entry, errLost)
}

func errUnchained(entry uint64) error {
	return fmt.Errorf("entry %d of the ledger does not follow on entry %d: one of them was changed: %w", entry, entry-1, errLost)
}

// parallel runs work for 0 to n-1 on all processors, lower numbers first, and gives the error of the lowest.
func parallel(n int, work func(i int) error) error {
	var next, failed atomic.Int64
	failed.Store(math.MaxInt64)
	var mu sync.Mutex
	var lowest error
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && i < failed.Load(); i = next.Add(1) - 1 {
				if err := guarded(int(i), work); err != nil {
					mu.Lock()
					if i < failed.Load() {
						failed.Store(i)
						lowest = err
					}
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return lowest
}

// guarded returns a panic, which is Badger's over damaged tables, as an error.
func guarded(i int, work func(i int) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, errLost)
		}
	}()
	return work(i)
}

func viewing(db *badger.DB, read func(view) error) error {
	txn := db.NewTransaction(false)
	defer txn.Discard()
	return read(view{txn})
}

// expectations are the keys that a chain leads to, by two hashes under random seeds. They are divided by the
// first one, so that workers seldom wait for each other.
type expectations struct {
	entries *entrySeal // of the entries that lead to them
	seeds   [2]maphash.Seed
	parts   [64]struct {
		sync.Mutex
		keys map[[2]uint64]expectation
	}
}

type expectation struct {
	value uint64 // hash of the value
	entry uint64 // that wrote it last; with the highest bit set, that deleted it
}

const deleted = 1 << 63

func newExpectations() *expectations {
	x := &expectations{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	for i := range x.parts {
		x.parts[i].keys = map[[2]uint64]expectation{}
	}
	return x
}

// write notes what an entry writes, unless a later one was seen to write there.
func (x *expectations) write(number uint64, w entryWrite) {
	e := expectation{entry: number}
	switch w.op {
	case opDelete:
		e.entry |= deleted
	case opValue:
		e.value = maphash.Bytes(x.seeds[0], w.value)
	case opDigest:
		e.value = x.digest(w.length, w.digest)
	}
	name := x.of(w.key)
	part := &x.parts[name[0]%uint64(len(x.parts))]
	part.Lock()
	defer part.Unlock()
	if before, ok := part.keys[name]; !ok || before.entry&^deleted <= number {
		part.keys[name] = e
	}
}

// settle forgets what was deleted, once every entry was seen.
func (x *expectations) settle() {
	for i := range x.parts {
		maps.DeleteFunc(x.parts[i].keys, func(_ [2]uint64, e expectation) bool { return e.entry&deleted != 0 })
	}
}

func (x *expectations) of(key []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(x.seeds[0], key), maphash.Bytes(x.seeds[1], key)}
}

func (x *expectations) digest(length uint64, sum []byte) uint64 {
	return maphash.Bytes(x.seeds[1], append(binary.BigEndian.AppendUint64(nil, length), sum...))
}

// meet takes a key of the database off what is expected.
func (x *expectations) meet(key, value []byte) error {
	got := maphash.Bytes(x.seeds[0], value)
	if isDigested(key, len(value)) {
		sum := sha256.Sum256(value)
		got = x.digest(uint64(len(value)), sum[:])
	}
	name := x.of(key)
	part := &x.parts[name[0]%uint64(len(x.parts))]
	part.Lock()
	defer part.Unlock()
	want, ok := part.keys[name]
	if !ok {
		return fmt.Errorf("the ledger holds a key of kind %c that no entry wrote: %w", key[0], errLost)
	}
	if got != want.value {
		return fmt.Errorf("a key of kind %c is not as entry %d of the ledger wrote it: %w", key[0], want.entry, errLost)
	}
	delete(part.keys, name)
	return nil
}

// rest names the first entry of which a key is missing.
func (x *expectations) rest() error {
	first := uint64(0)
	for i := range x.parts {
		for _, e := range x.parts[i].keys {
			if first == 0 || e.entry < first {
				first = e.entry
			}
		}
	}
	if first != 0 {
		return fmt.Errorf("a key that entry %d of the ledger wrote is missing: %w", first, errLost)
	}
	return nil
}

// hashAt is the hash of an entry that replay has read, zeros for 0.
func hashAt(txn *badger.Txn, entries *entrySeal, number uint64) ([sha256.Size]byte, error) {
	if number == 0 {
		return [sha256.Size]byte{}, nil
	}
	value, err := get(txn, entryKey(number))
	if err == nil {
		value, err = entries.open(number, value)
	}
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(value), nil
}
