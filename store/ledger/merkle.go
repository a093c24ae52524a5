package ledger

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// The entries are the leaves of a Merkle tree (RFC 6962, section 2.1; golang.org/x/mod/sumdb/tlog): leaf i, from 0,
// is entry i+1. With each entry are kept the hashes of the subtrees that it completes, its own first, so that every
// hash of the tree is found in one read. They follow from the entries: no entry writes them, and opening the ledger
// compares them (store/FORMAT.md, Tree).

// edge is the right edge of a tree: the roots of the perfect subtrees that its leaves make up, the largest first.
type edge []tlog.Hash

// add gives the edge once leaf n was added, and the hashes that it completes, its own first.
func (e edge) add(n uint64, leaf tlog.Hash) (edge, []tlog.Hash, error) {
	// The subtrees that the leaf completes go on from the smallest ones at the edge, which are asked for as they stand.
	old := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) > len(e) {
			return nil, errors.New("the edge of the tree is not that of so many leaves")
		}
		return e[len(e)-len(indexes):], nil
	})
	hashes, err := tlog.StoredHashesForRecordHash(int64(n), leaf, old)
	if err != nil {
		return nil, nil, fmt.Errorf("adding an entry to the tree: %w", err)
	}
	return append(e[:len(e)-len(hashes)+1], hashes[len(hashes)-1]), hashes, nil
}

// hashesOf is how many hashes are kept with an entry.
func hashesOf(entry uint64) int { return bits.TrailingZeros64(entry) + 1 }

func encodeHashes(hashes []tlog.Hash) []byte {
	value := make([]byte, 1, 1+len(hashes)*tlog.HashSize)
	value[0] = recordVersion
	for _, h := range hashes {
		value = append(value, h[:]...)
	}
	return value
}

// tree reads the hashes of the tree over the entries of a view.
type tree struct{ view }

// ReadHashes implements tlog.HashReader.
func (t tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, n := tlog.SplitStoredHashIndex(index)
		entry := uint64(n+1) << level
		value, err := t.get(hashesKey(entry))
		if err != nil {
			return nil, err
		}
		if len(value) != 1+hashesOf(entry)*tlog.HashSize || value[0] != recordVersion {
			return nil, errUntreed(entry)
		}
		copy(hashes[i][:], value[1+level*tlog.HashSize:])
	}
	return hashes, nil
}

func errUntreed(entry uint64) error {
	return fmt.Errorf("the hashes kept with entry %d of the ledger are not those of the tree over its entries: %w", entry, errLost)
}

// subtree is the part of the tree over one stretch of the chain, while that is replayed.
type subtree struct {
	edge   edge
	hashes []byte // of its entries, in order: those that lie within the stretch
	above  []byte // as kept with the last entry: those of larger subtrees that it completes
}

func (t *subtree) add(n uint64, entry []byte) error {
	var hashes []tlog.Hash
	var err error
	t.edge, hashes, err = t.edge.add(n, tlog.RecordHash(entry))
	for _, h := range hashes {
		t.hashes = append(t.hashes, h[:]...)
	}
	return err
}

// compare holds what is kept with the entries of a stretch to what follows from them. Nothing may be kept after the
// last stretch.
func (t *subtree) compare(v view, first, end uint64, last bool) error {
	number, rest := first, t.hashes
	start := hashesKey(first)
	if first == 1 {
		start = nil
	}
	err := v.walk([]byte{kindHashes}, start, ascending, func(key, value []byte) (bool, error) {
		if number > end {
			if last {
				return false, fmt.Errorf("the ledger holds a key of kind %c that no entry wrote: %w", key[0], errLost)
			}
			return false, nil
		}
		within := hashesOf(number-first+1) * tlog.HashSize
		if len(key) != 1+numberBytes || numberOf(key) != number || len(value) != 1+hashesOf(number)*tlog.HashSize ||
			value[0] != recordVersion || !bytes.Equal(value[1:1+within], rest[:within]) {
			return false, errUntreed(number)
		}
		t.above = slices.Clone(value[1+within:])
		number, rest = number+1, rest[within:]
		return true, nil
	})
	if err == nil && number <= end {
		err = errUntreed(number)
	}
	t.hashes = nil
	return err
}

// join adds the tree over stretch i, which is full, to an edge of such ones, and compares what was kept of what is
// above it.
func (e edge) join(i, end uint64, t *subtree) (edge, error) {
	joined, hashes, err := e.add(i, t.edge[0])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(encodeHashes(hashes[1:])[1:], t.above) {
		return nil, errUntreed(end)
	}
	return joined, nil
}

const _ = uint(tlog.HashSize-sha256.Size) + uint(sha256.Size-tlog.HashSize) // both are one size
