package ledger

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
)

// Tree is the tree over all durable entries: how many there are, and its root.
func (l *Ledger) Tree(ctx context.Context) (size uint64, root tlog.Hash, err error) {
	err = l.read(ctx, func(v view) (err error) {
		if size, err = v.length(); err != nil {
			return err
		}
		root, err = tlog.TreeHash(int64(size), tree{v})
		return err
	})
	return size, root, err
}

// Proof is a proof that an entry is in the tree of the first Size entries (tlog.CheckRecord).
type Proof struct {
	Index  uint64 // of the entry, from 0
	Size   uint64
	Entry  []byte // its bytes, of which the leaf's hash is that of tlog.RecordHash
	Hashes tlog.RecordProof
}

// Proof proves that the entry with an index, from 0, is in the tree of the first so many entries; of all of them where
// size is 0. CodeNotFound where there is no such entry, or not so many.
func (l *Ledger) Proof(ctx context.Context, index, size uint64) (Proof, error) {
	p := Proof{Index: index, Size: size}
	err := l.read(ctx, func(v view) error {
		length, err := v.length()
		if err != nil {
			return err
		}
		if p.Size == 0 {
			p.Size = length
		}
		if p.Size > length || index >= p.Size {
			return refuse(dp.CodeNotFound, "there is no such entry, or the log does not have so many: it has %d, whose index begins at 0", length)
		}
		if p.Entry, err = v.get(entryKey(index + 1)); err != nil {
			return err
		}
		p.Hashes, err = tlog.ProveRecord(int64(p.Size), int64(index), tree{v})
		return err
	})
	if err != nil {
		return Proof{}, err
	}
	return p, nil
}

// Consistency proves that the tree of the first from entries is the beginning of that of the first so many; of all of
// them where to is 0 (tlog.CheckTree). CodeInvalidInput where there are not so many.
func (l *Ledger) Consistency(ctx context.Context, from, to uint64) (hashes tlog.TreeProof, err error) {
	err = l.read(ctx, func(v view) error {
		length, err := v.length()
		if err != nil {
			return err
		}
		if to == 0 {
			to = length
		}
		if from == 0 || from > to || to > length {
			return refuse(dp.CodeInvalidInput, "the log has %d entries: name sizes with 1 <= from <= to <= %d", length, length)
		}
		hashes, err = tlog.ProveTree(int64(to), int64(from), tree{v})
		return err
	})
	return hashes, err
}

// length is the number of the last entry, 0 where there is none.
func (v view) length() (number uint64, err error) {
	err = v.walk([]byte{kindEntry}, nil, descending, func(key, _ []byte) (bool, error) {
		if len(key) == 1+numberBytes {
			number = numberOf(key)
		}
		if number == 0 || number > math.MaxInt64 {
			return false, fmt.Errorf("the ledger holds a key that no entry has: %w", errLost)
		}
		return false, nil
	})
	return number, err
}
