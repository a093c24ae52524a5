package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
)

// blob is the content of a release, kept in pieces under a name of its own: two attempts never share one.
type blob struct {
	name    string
	data    []byte
	sum     [sha256.Size]byte
	release dp.Release // read back from data
	pieces  int
	stored  bool // its pieces are written already
}

const (
	// pieceBytes is the size of a piece.
	pieceBytes = 256 << 10
	// inlineBytes is the size up to which the pieces are written by the publishing transaction itself.
	inlineBytes = 2 * pieceBytes
)

// writeRelease encodes a release and, where it is large, writes its pieces. They are visible once a release
// record names the blob; until then they belong to nobody, and opening the ledger removes them.
func (l *Ledger) writeRelease(ctx context.Context, r *dp.Release) (blob, error) {
	data, err := encode(*r)
	if err != nil {
		return blob{}, err
	}
	if int64(len(data)) > l.limits.ReleaseBytes {
		return blob{}, refuse(dp.CodeTooLarge, "the answer is larger than the ledger keeps: ask for fewer groups")
	}
	b := blob{name: newID(""), data: data, sum: sha256.Sum256(data), pieces: (len(data) + pieceBytes - 1) / pieceBytes}
	if b.release, err = decode[dp.Release](data); err != nil {
		return blob{}, fmt.Errorf("reading back what would be stored: %w", err)
	}
	if len(data) <= inlineBytes {
		return b, nil
	}
	b.stored = true
	for i := range b.pieces {
		if err := l.writePiece(ctx, b, i); err != nil {
			b.pieces = i
			l.clear(ctx, b)
			return blob{}, err
		}
	}
	return b, nil
}

// clear removes the pieces of a release that came to nothing. Where it cannot, opening the ledger does.
func (l *Ledger) clear(ctx context.Context, b blob) {
	if !b.stored || b.pieces == 0 {
		return
	}
	if err := l.sweep(ctx, []blob{b}); err != nil {
		l.log.Warn("ledger: clearing a release that was not published", "error", err)
	}
}

func (l *Ledger) writePiece(ctx context.Context, b blob, i int) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entryPiece
		t.put(blobKey(b.name, uint64(i)), b.piece(i))
		return save(t, unfinishedKey(b.name), unfinishedRecord{Blob: b.name, Pieces: i + 1})
	})
}

func (b blob) piece(i int) []byte { return b.data[i*pieceBytes : min((i+1)*pieceBytes, len(b.data))] }

// publish makes the pieces part of what is kept, in the transaction that names the blob.
func (b blob) publish(t *tx) {
	if b.stored {
		t.delete(unfinishedKey(b.name))
		return
	}
	for i := range b.pieces {
		t.put(blobKey(b.name, uint64(i)), b.piece(i))
	}
}

// remove deletes pieces that were written for nothing.
func (b blob) remove(t *tx) {
	if !b.stored {
		return
	}
	for i := range b.pieces {
		t.delete(blobKey(b.name, uint64(i)))
	}
	t.delete(unfinishedKey(b.name))
}

// unfinished returns the releases whose pieces are written and which no record names.
func (l *Ledger) unfinished(ctx context.Context) (blobs []blob, err error) {
	err = l.read(ctx, func(v view) error {
		return v.walk([]byte{kindUnfinished}, nil, ascending, func(_, value []byte) (bool, error) {
			u, err := decode[unfinishedRecord](value)
			blobs = append(blobs, blob{name: u.Blob, pieces: u.Pieces, stored: true})
			return true, err
		})
	})
	return blobs, err
}

// sweep removes the pieces of releases that nobody will publish: the process that wrote them has ended, or could not write all.
func (l *Ledger) sweep(ctx context.Context, unfinished []blob) error {
	for _, b := range unfinished {
		if err := l.writeAlways(ctx, func(t *tx) error { t.kind = entryClear; b.remove(t); return nil }); err != nil {
			return fmt.Errorf("removing an unfinished release: %w", err)
		}
	}
	return nil
}
