package ledger

import (
	"context"
	"fmt"
	"math"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
)

// LogName is the name of the log that the entries are: what checkpoints and their signatures go by.
func (l *Ledger) LogName() string { return "discreet/" + l.id.String() }

// Signer signs checkpoints under the log's name.
type Signer interface {
	note.Signer
	// Verifier is the text of the key that signatures are verified with (note.NewVerifier).
	Verifier() string
}

// Checkpoint signs the size and the root of the log as it stands: nothing that is not durable and acknowledged.
func (l *Ledger) Checkpoint(ctx context.Context, s Signer) (dp.AuditCheckpoint, error) {
	size, root, err := l.Tree(ctx)
	if err != nil {
		return dp.AuditCheckpoint{}, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", l.LogName(), size, root)
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return dp.AuditCheckpoint{}, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return dp.AuditCheckpoint{Log: l.LogName(), Size: size, Root: root, Note: signed, Key: s.Verifier()}, nil
}

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

// AuditProof proves that the entry with an index, from 0, is in the tree of the first so many entries; of all of them
// where size is 0. CodeNotFound where there is no such entry, or not so many.
func (l *Ledger) AuditProof(ctx context.Context, index, size uint64) (dp.AuditProof, error) {
	p := dp.AuditProof{Index: index, Size: size}
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
		if p.Entry, err = v.get(entryKey(index + 1)); err == nil {
			p.Entry, err = l.entries.open(index+1, p.Entry)
		}
		if err != nil {
			return err
		}
		hashes, err := tlog.ProveRecord(int64(p.Size), int64(index), tree{v})
		p.Hashes = plainHashes(hashes)
		return err
	})
	if err != nil {
		return dp.AuditProof{}, err
	}
	return p, nil
}

// AuditConsistency proves that the tree of the first from entries is the beginning of that of the first to; of all of
// them where to is 0, and it returns of how many (RFC 6962, section 2.1.2; tlog.CheckTree). CodeInvalidInput where
// there are not so many.
func (l *Ledger) AuditConsistency(ctx context.Context, from, to uint64) (hashes [][32]byte, of uint64, err error) {
	err = l.read(ctx, func(v view) error {
		length, err := v.length()
		if err != nil {
			return err
		}
		if of = to; of == 0 {
			of = length
		}
		if from == 0 || from > of || of > length {
			return refuse(dp.CodeInvalidInput, "the log has %d entries: name sizes with 1 <= from <= to <= %d", length, length)
		}
		proof, err := tlog.ProveTree(int64(of), int64(from), tree{v})
		hashes = plainHashes(proof)
		return err
	})
	return hashes, of, err
}

func plainHashes(hashes []tlog.Hash) [][32]byte {
	plain := make([][32]byte, len(hashes))
	for i, h := range hashes {
		plain[i] = h
	}
	return plain
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
