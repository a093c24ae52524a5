package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Head is what a backup says of itself before anything that it holds.
type Head struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // version of discreet that wrote it
	ID      string    `json:"id"`
	Ledger  string    `json:"ledger"` // id of the ledger
	Length  uint64    `json:"length"` // number of its last entry
	Head    []byte    `json:"head"`   // hash of that
	Created time.Time `json:"created"`
	// Listed is how many erasures the list beside the backups had, and Since when that list began: one that is read
	// with the backup must have as many, and begin no later than the backup.
	Listed uint64    `json:"listed"`
	Since  time.Time `json:"since"`
}

// End is what a backup says of itself after all that it holds.
type End struct {
	Ledger int64 `json:"ledger"` // keys
	Rows   int64 `json:"rows"`   // keys
	Bytes  int64 `json:"bytes"`  // before the end
}

// format is the version of archives that is written and read here.
const format = 1

// magic begins an archive; its last byte is the version of the frames.
const magic = "DISCBAK\x01"

// The kinds of frame: a byte, the length of the body (4 bytes, big-endian) and the body.
const (
	frameHead    = 'H'
	frameSecrets = 'S'
	frameLedger  = 'L'
	frameRows    = 'R'
	frameEnd     = 'E'
)

const (
	frameBytes = 1 + 4
	// maxBody is the longest body of a frame: a key and a value of either database are shorter.
	maxBody = 4 << 20
)

// ErrDamaged says that a file is not, or not all of, what was written as a backup.
var ErrDamaged = errors.New("the backup is damaged or was cut")

// archiver writes an archive.
type archiver struct {
	out   *bufio.Writer
	sum   hash.Hash
	end   End
	frame []byte
}

func newArchiver(out io.Writer, head Head) (*archiver, error) {
	a := &archiver{out: bufio.NewWriterSize(out, 1<<18), sum: sha256.New()}
	text, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encoding a backup's head: %w", err)
	}
	if err := a.write([]byte(magic)); err != nil {
		return nil, err
	}
	return a, a.add(frameHead, text)
}

func (a *archiver) write(data []byte) error {
	a.sum.Write(data)
	a.end.Bytes += int64(len(data))
	_, err := a.out.Write(data)
	return err
}

// add writes a frame with a body of several parts.
func (a *archiver) add(kind byte, parts ...[]byte) error {
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	if length > maxBody {
		return errors.New("something is too long for a backup")
	}
	a.frame = binary.BigEndian.AppendUint32(append(a.frame[:0], kind), uint32(length))
	if err := a.write(a.frame); err != nil {
		return err
	}
	for _, p := range parts {
		if err := a.write(p); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) secrets(file []byte) error { return a.add(frameSecrets, file) }

func (a *archiver) ledger(key, value []byte) error {
	a.end.Ledger++
	return a.pair(frameLedger, key, value)
}

func (a *archiver) rows(key, body []byte) error {
	a.end.Rows++
	return a.pair(frameRows, key, body)
}

func (a *archiver) pair(kind byte, key, value []byte) error {
	return a.add(kind, binary.AppendUvarint(nil, uint64(len(key))), key, value)
}

// close writes the end: what was written, and the SHA-256 of every byte before that.
func (a *archiver) close() error {
	text, err := json.Marshal(a.end)
	if err != nil {
		return fmt.Errorf("encoding a backup's end: %w", err)
	}
	a.frame = binary.BigEndian.AppendUint32(append(a.frame[:0], frameEnd), uint32(len(text)+sha256.Size))
	if err := errors.Join(a.write(a.frame), a.write(text)); err != nil {
		return err
	}
	if _, err := a.out.Write(a.sum.Sum(nil)); err != nil {
		return err
	}
	return a.out.Flush()
}

// Visitor takes what an archive holds, in its order: the head, the secrets, the ledger, the rows. Nothing of it may be
// relied on before Read has returned without an error. Slices are valid during the call only.
type Visitor struct {
	Head    func(Head) error
	Secrets func(file []byte) error
	Ledger  func(key, value []byte) error
	Rows    func(key, body []byte) error
}

// readArchive reads an archive to its end. Errors that are ErrDamaged say that it is not whole; those of the visitor are
// returned as they are.
func readArchive(from io.Reader, v Visitor) (Head, error) {
	r := &unarchiver{in: bufio.NewReaderSize(from, 1<<18), sum: sha256.New()}
	head, err := r.read(v)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends early: %w", ErrDamaged)
	}
	return head, err
}

// unarchiver reads an archive.
type unarchiver struct {
	in   *bufio.Reader
	sum  hash.Hash
	got  End
	body []byte
}

func (r *unarchiver) read(v Visitor) (head Head, err error) {
	begin := make([]byte, len(magic))
	if err := r.take(begin); err != nil {
		return head, err
	}
	if string(begin) != magic {
		if bytes.HasPrefix(begin, []byte(magic[:len(magic)-1])) {
			return head, fmt.Errorf("the backup has version %d, and this version of discreet reads %d: run the version that wrote it", begin[len(magic)-1], magic[len(magic)-1])
		}
		return head, fmt.Errorf("it does not begin as a backup does: %w", ErrDamaged)
	}
	kind, body, err := r.next()
	if err != nil {
		return head, err
	}
	if kind != frameHead || json.Unmarshal(body, &head) != nil {
		return head, fmt.Errorf("its head cannot be read: %w", ErrDamaged)
	}
	if head.Format != format {
		return head, fmt.Errorf("the backup has format %d, and this version of discreet reads %d: run the version that wrote it", head.Format, format)
	}
	if err := v.Head(head); err != nil {
		return head, err
	}
	if kind, body, err = r.next(); err != nil {
		return head, err
	}
	if kind != frameSecrets {
		return head, fmt.Errorf("it has no secrets: %w", ErrDamaged)
	}
	if err := v.Secrets(body); err != nil {
		return head, err
	}
	for last := byte(frameLedger); ; {
		before := r.got.Bytes
		if kind, body, err = r.next(); err != nil {
			return head, err
		}
		switch {
		case kind == frameEnd:
			return head, r.end(body, before)
		case kind != frameLedger && kind != frameRows, kind == frameLedger && last == frameRows:
			return head, fmt.Errorf("it holds something else than backups do: %w", ErrDamaged)
		}
		last = kind
		length, used := binary.Uvarint(body)
		if used <= 0 || length == 0 || length > uint64(len(body)-used) {
			return head, fmt.Errorf("it holds something without a key: %w", ErrDamaged)
		}
		key, value := body[used:used+int(length)], body[used+int(length):]
		if kind == frameLedger {
			r.got.Ledger++
			err = v.Ledger(key, value)
		} else {
			r.got.Rows++
			err = v.Rows(key, value)
		}
		if err != nil {
			return head, err
		}
	}
}

// next reads a frame. Of the last one, the sum is not in the sum.
func (r *unarchiver) next() (kind byte, body []byte, err error) {
	var begin [frameBytes]byte
	if err := r.take(begin[:]); err != nil {
		return 0, nil, err
	}
	kind, length := begin[0], binary.BigEndian.Uint32(begin[1:])
	if length > maxBody || kind == frameEnd && length < sha256.Size {
		return 0, nil, fmt.Errorf("it holds something of an impossible length: %w", ErrDamaged)
	}
	if int(length) > cap(r.body) {
		r.body = make([]byte, length)
	}
	body = r.body[:length]
	if kind != frameEnd {
		return kind, body, r.take(body)
	}
	if err := r.take(body[:length-sha256.Size]); err != nil {
		return 0, nil, err
	}
	_, err = io.ReadFull(r.in, body[length-sha256.Size:])
	return kind, body, err
}

func (r *unarchiver) take(data []byte) error {
	if _, err := io.ReadFull(r.in, data); err != nil {
		return err
	}
	r.sum.Write(data)
	r.got.Bytes += int64(len(data))
	return nil
}

// end compares what was read with what the end says, and makes sure that nothing follows.
func (r *unarchiver) end(body []byte, before int64) error {
	text, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	if !bytes.Equal(sum, r.sum.Sum(nil)) {
		return fmt.Errorf("its checksum does not match: %w", ErrDamaged)
	}
	var said End
	r.got.Bytes = before
	if json.Unmarshal(text, &said) != nil || said != r.got {
		return fmt.Errorf("it does not hold what its end says: %w", ErrDamaged)
	}
	if _, err := r.in.ReadByte(); err == nil {
		return fmt.Errorf("something follows its end: %w", ErrDamaged)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
