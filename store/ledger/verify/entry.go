package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// entry is one entry of the chain (store/FORMAT.md, "Chain").
type entry struct {
	number   uint64
	at       time.Time // of the writer, to the microsecond
	previous [sha256.Size]byte
	hash     [sha256.Size]byte
	name     string // of what the request was
	writes   []*write
}

// write is one key that an entry wrote or deleted.
type write struct {
	key     []byte
	deleted bool
	value   []byte            // nil where it was too long for the chain
	length  uint64            // of the value
	digest  [sha256.Size]byte // of the value

	claimed bool // some rule called for it
}

const (
	entryVersion = 1
	// inlineBytes is the length up to which the chain holds a value itself, unless it is a piece of a release.
	inlineBytes = 1024
	// inlineConsumer is that length for a consumer.
	inlineConsumer = 16384

	opDelete = 0
	opValue  = 1
	opDigest = 2
)

// parseEntry reads an entry. Its parts are copied: the text may be reused.
func parseEntry(text []byte) (*entry, error) {
	r := parser{rest: text}
	version := r.byte()
	e := &entry{hash: sha256.Sum256(text), number: r.uint64(), at: time.UnixMicro(int64(r.uint64())).UTC()}
	copy(e.previous[:], r.take(sha256.Size))
	e.name = string(r.sized())
	if version != entryVersion && !r.failed {
		return nil, misfitf("it has version %d, which this version of discreet does not know", version)
	}
	var last []byte
	for n := r.uvarint(); n > 0 && !r.failed; n-- {
		w := &write{key: bytes.Clone(r.sized())}
		switch op := r.byte(); op {
		case opDelete:
			w.deleted = true
		case opValue:
			w.value = append([]byte{}, r.sized()...)
			w.length, w.digest = uint64(len(w.value)), sha256.Sum256(w.value)
			r.failed = r.failed || w.byDigest()
		case opDigest:
			w.length = r.uvarint()
			copy(w.digest[:], r.take(sha256.Size))
			r.failed = r.failed || !w.byDigest()
		default:
			r.failed = true
		}
		if len(w.key) == 0 || w.key[0] == kindEntry || w.key[0] == kindHashes || bytes.Compare(last, w.key) >= 0 {
			r.failed = true
		}
		last = w.key
		e.writes = append(e.writes, w)
	}
	if r.failed || len(r.rest) > 0 || len(e.writes) == 0 {
		return nil, misfitf("its bytes are not those of an entry")
	}
	return e, nil
}

// byDigest tells whether the chain holds a value by its digest only: long ones, and pieces of releases, so that no
// entry holds a figure of an answer.
func (w *write) byDigest() bool {
	switch {
	case len(w.key) > 0 && w.key[0] == kindBlob:
		return true
	case len(w.key) > 0 && w.key[0] == kindConsumer:
		return w.length > inlineConsumer
	}
	return w.length > inlineBytes
}

// parser cuts what it is asked for from the front. Once something is missing, all that follows is empty.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) take(n uint64) []byte {
	if p.failed || n > uint64(len(p.rest)) {
		p.failed, p.rest = true, nil
		return nil
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *parser) byte() byte {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(numberBytes); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (p *parser) uvarint() uint64 {
	n, size := binary.Uvarint(p.rest)
	if size <= 0 || size > 1 && p.rest[size-1] == 0 { // there is one spelling of a number
		p.failed = true
		return 0
	}
	p.take(uint64(size))
	return n
}

func (p *parser) sized() []byte { return p.take(p.uvarint()) }
