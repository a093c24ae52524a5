package columnar

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// ErrAhead says that rows were merged of a load that the catalog did not know yet at its moment: take both anew.
var ErrAhead = errors.New("rows were merged that are newer than the ledger's moment")

// Snapshot is the rows of one moment: of the loads that the catalog has committed by then, each whole, and of no other.
//
// It holds one iterator, from its beginning to its end. Badger (v4.9.6, table.NewConcatIterator, DB.getMemTables) has
// that refer to all tables and logs of its moment, so that it reads what is dropped meanwhile; the goroutines of
// Badger's own Stream begin theirs one after the other, and would miss it. What is dropped leaves the disk once no
// iterator refers to it, which is why a snapshot counts as a scan: whoever removes rows waits until it is closed.
type Snapshot struct {
	committed map[string][]uint64 // loads of each dataset, ascending
	editions  map[string]uint32   // of dictionaries, by dictionaryPrefix
	merged    map[shardOf]merged

	txn *badger.Txn
	it  *badger.Iterator
	end func()
	one sync.Once
}

// Snapshot takes the rows as they stand, of the loads of each dataset that the catalog had committed at a moment before.
// It is closed, before the store is.
//
// Errors: ErrAhead.
func (s *Store) Snapshot(ctx context.Context, committed map[string][]uint64) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	end := s.db.scans.begin()
	txn := s.db.NewTransaction(false)
	n := &Snapshot{committed: make(map[string][]uint64), editions: make(map[string]uint32), merged: make(map[shardOf]merged),
		txn: txn, it: txn.NewIterator(badger.IteratorOptions{}), end: end}
	for dataset, loads := range committed {
		n.committed[dataset] = slices.Sorted(slices.Values(loads))
	}
	if err := guarded(n.look); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close lets go of it.
func (n *Snapshot) Close() {
	n.one.Do(func() {
		n.it.Close()
		n.txn.Discard()
		n.end()
	})
}

// look reads what says which of all keys count.
func (n *Snapshot) look() error {
	err := n.walk([]byte("edition/"), func(key, body []byte) error {
		var e edition
		if json.Unmarshal(body, &e) != nil {
			return errDamaged
		}
		n.editions["dict/"+string(key[len("edition/"):])+"/"] = e.Number
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking through dictionaries: %w", err)
	}
	err = n.walk([]byte("merged/"), func(key, body []byte) error {
		at, err := shardOfKey(key)
		if err != nil {
			return err
		}
		var m merged
		if json.Unmarshal(body, &m) != nil {
			return errDamaged
		}
		if slices.ContainsFunc(m.Loads, func(load uint64) bool { return !n.knows(at.dataset, load) }) {
			return ErrAhead
		}
		n.merged[at] = m
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking through what was merged: %w", err)
	}
	return nil
}

func (n *Snapshot) knows(dataset string, load uint64) bool {
	_, found := slices.BinarySearch(n.committed[dataset], load)
	return found
}

// walk calls each with what is under a prefix, checked. Key and body are valid during the call only.
func (n *Snapshot) walk(prefix []byte, each func(key, body []byte) error) error {
	for n.it.Seek(prefix); n.it.ValidForPrefix(prefix); n.it.Next() {
		key := n.it.Item().Key()
		err := n.it.Item().Value(func(value []byte) error {
			body, err := unseal(key, value)
			if err != nil {
				return err
			}
			return each(key, body)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Each calls each with every key that counts and its body, until one fails. Both are valid during the call only. Each
// body is compared with its checksum.
func (n *Snapshot) Each(each func(key, body []byte) error) error {
	return guarded(func() error {
		for n.it.Rewind(); n.it.Valid(); n.it.Next() {
			key := n.it.Item().Key()
			counts, err := n.counts(key)
			if err != nil {
				return err
			}
			if !counts {
				continue
			}
			err = n.it.Item().Value(func(value []byte) error {
				body, err := unseal(key, value)
				if err == nil && bytes.HasPrefix(key, []byte("load/")) {
					body, err = n.settled(key, body)
				}
				if err != nil {
					return err
				}
				return each(key, body)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// counts tells whether anybody can see what a key holds, or needs it later.
func (n *Snapshot) counts(key []byte) (bool, error) {
	word, _, _ := bytes.Cut(key, []byte("/"))
	switch string(word) {
	case "dict":
		at := len(key) - 8 // edition and count
		if at < 0 {
			return false, errDamaged
		}
		return binary.BigEndian.Uint32(key[at:]) == n.editions[string(key[:at])], nil
	case "part", "rows":
	default: // layout, load, merged, edition, erase: what is there counts
		return true, nil
	}
	words := bytes.SplitN(key, []byte("/"), 4) // names hold no slash; what follows may
	if len(words) != 4 {
		return false, errDamaged
	}
	dataset, rest := string(words[1]), words[3]
	if string(word) == "part" {
		return len(rest) == 8 && n.knows(dataset, binary.BigEndian.Uint64(rest)), nil
	}
	if len(rest) < 2+8+4+1 {
		return false, errDamaged
	}
	m := n.merged[shardOf{dataset, string(words[2]), int(binary.BigEndian.Uint16(rest))}]
	number := binary.BigEndian.Uint64(rest[2:])
	if number&mergedMark != 0 {
		return number == mergedMark|m.Generation, nil
	}
	return n.knows(dataset, number) && !slices.Contains(m.Loads, number), nil
}

// settled is the record of a load with the state that the catalog gives it.
func (n *Snapshot) settled(key, body []byte) ([]byte, error) {
	if len(key) < len("load/")+1+8 {
		return nil, errDamaged
	}
	var r loadRecord
	if json.Unmarshal(body, &r) != nil {
		return nil, errDamaged
	}
	l := loadOf(key, r)
	r.State = removed
	if n.knows(l.Dataset, l.ID) {
		r.State = committed
	}
	return json.Marshal(r)
}
