package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// head is where the chain of entries ends: how many there are, and the hash of the last one. It stands for all
// that the ledger holds (store/FORMAT.md, Chain).
type head struct {
	length uint64
	hash   [sha256.Size]byte // zeros while there is no entry
}

// after is the head once an entry was added.
func (h head) after(entry []byte) head {
	return head{length: h.length + 1, hash: sha256.Sum256(entry)}
}

// entryKind names what a request was, for whoever reads the chain.
type entryKind string

const (
	entryCreate     entryKind = "create"
	entryOpen       entryKind = "open"
	entryPair       entryKind = "pair"
	entryCharge     entryKind = "charge"
	entryAttempt    entryKind = "attempt"
	entryRenew      entryKind = "renew"
	entryAbandon    entryKind = "abandon"
	entryOutcome    entryKind = "outcome"
	entrySettle     entryKind = "settle"
	entryPiece      entryKind = "piece"
	entryClear      entryKind = "clear"
	entryChange     entryKind = "change"
	entryLoadBegin  entryKind = "load-begin"
	entryLoadCommit entryKind = "load-commit"
	entryLoadRepeat entryKind = "load-repeat"
	entryLoadEnd    entryKind = "load-end"
	entryWriteOff   entryKind = "write-off"
	entryErasure    entryKind = "erasure"
	entryErasureEnd entryKind = "erasure-end"
	entryRetire     entryKind = "retire"
	entryRetireEnd  entryKind = "retire-end"
	entryReport     entryKind = "report"
	entryRun        entryKind = "run"
	entryReportEnd  entryKind = "report-end"
	entryRestore    entryKind = "restore"
	entryEvents     entryKind = "events"
)

const (
	entryVersion = 1
	// inlineValue is the length up to which an entry holds a value itself, not its digest, where it may (isDigested).
	inlineValue = 1024
	// inlineConsumer is that length for a consumer, longer than any that the office admits.
	inlineConsumer = 16 << 10

	opDelete = 0
	opValue  = 1
	opDigest = 2

	// entryHead is the length of what an entry holds beside its writes, at most.
	entryHead = 1 + numberBytes + 8 + digestBytes + 1 + maxEntryKind + binary.MaxVarintLen64
	// maxEntryKind bounds the name of an entry.
	maxEntryKind = 32
)

// isDigested tells whether an entry holds a value by its length and digest only: a long one, and every piece of a
// release. So the entries hold no figure of any answer, and whoever may see them all need not hold the releases.
// What consumers were is always held: it says who could decide, and is written over.
func isDigested[K string | []byte](key K, length int) bool {
	switch {
	case len(key) > 0 && key[0] == kindBlob:
		return true
	case len(key) > 0 && key[0] == kindConsumer:
		return length > inlineConsumer
	}
	return length > inlineValue
}

// entryWriteBytes is what one write adds to an entry, at most.
func entryWriteBytes(key, value []byte) int {
	const lengths = 3 + 1 + 3 // two uvarints below 2^21 and the operation
	if isDigested(key, len(value)) {
		return len(key) + lengths + digestBytes
	}
	return len(key) + lengths + len(value)
}

// encodeEntry writes the entry that follows a head: the writes of one request, nil values being deletions.
func encodeEntry(after head, at time.Time, kind entryKind, writes map[string][]byte) []byte {
	size := entryHead
	for key, value := range writes {
		size += entryWriteBytes([]byte(key), value)
	}
	e := make([]byte, 0, size)
	e = append(e, entryVersion)
	e = binary.BigEndian.AppendUint64(e, after.length+1)
	e = binary.BigEndian.AppendUint64(e, uint64(at.UnixMicro()))
	e = append(e, after.hash[:]...)
	e = binary.AppendUvarint(e, uint64(len(kind)))
	e = append(e, kind...)
	e = binary.AppendUvarint(e, uint64(len(writes)))
	for _, key := range slices.Sorted(maps.Keys(writes)) {
		value := writes[key]
		e = binary.AppendUvarint(e, uint64(len(key)))
		e = append(e, key...)
		switch {
		case value == nil:
			e = append(e, opDelete)
		case isDigested(key, len(value)):
			e = append(e, opDigest)
			e = binary.AppendUvarint(e, uint64(len(value)))
			sum := sha256.Sum256(value)
			e = append(e, sum[:]...)
		default:
			e = append(e, opValue)
			e = binary.AppendUvarint(e, uint64(len(value)))
			e = append(e, value...)
		}
	}
	return e
}

// chainEntry is a decoded entry. Its slices belong to the bytes that it was decoded from.
type chainEntry struct {
	number   uint64
	at       time.Time
	previous [sha256.Size]byte
	kind     entryKind
	writes   []entryWrite
}

// entryWrite is one write of an entry.
type entryWrite struct {
	key    []byte
	op     byte
	value  []byte // of opValue
	length uint64 // of opDigest
	digest []byte // of opDigest
}

var errEntry = errors.New("an entry is not written as entries are")

// decodeEntry accepts exactly what encodeEntry writes.
func decodeEntry(data []byte) (chainEntry, error) {
	r := cutter{data: data}
	var e chainEntry
	if version := r.take(1); r.failed || version[0] != entryVersion {
		return e, errEntry
	}
	e.number = r.uint64()
	e.at = time.UnixMicro(int64(r.uint64())).UTC()
	copy(e.previous[:], r.take(sha256.Size))
	kind := r.take(r.length(maxEntryKind))
	e.kind = entryKind(kind)
	count := r.length(uint64(len(data)))
	if r.failed || len(kind) == 0 || count == 0 {
		return e, errEntry
	}
	e.writes = make([]entryWrite, 0, min(count, 64))
	for range count {
		w := entryWrite{key: r.take(r.length(maxKey))}
		if op := r.take(1); !r.failed {
			w.op = op[0]
		}
		switch w.op {
		case opDelete:
		case opValue:
			w.value = r.take(r.length(inlineConsumer))
			r.failed = r.failed || isDigested(w.key, len(w.value))
		case opDigest:
			w.length = r.uvarint()
			r.failed = r.failed || w.length > math.MaxInt64 || !isDigested(w.key, int(w.length))
			w.digest = r.take(sha256.Size)
		default:
			r.failed = true
		}
		if last := len(e.writes) - 1; r.failed || len(w.key) == 0 || last >= 0 && bytes.Compare(e.writes[last].key, w.key) >= 0 {
			return e, errEntry
		}
		e.writes = append(e.writes, w)
	}
	if len(r.data) != 0 {
		return e, errEntry
	}
	return e, nil
}

// cutter cuts bytes into fields. Once a field is missing it has failed, and gives empty ones.
type cutter struct {
	data   []byte
	failed bool
}

func (c *cutter) take(n uint64) []byte {
	if c.failed || n > uint64(len(c.data)) {
		c.failed = true
		return nil
	}
	field := c.data[:n:n]
	c.data = c.data[n:]
	return field
}

func (c *cutter) uint64() uint64 {
	if field := c.take(8); field != nil {
		return binary.BigEndian.Uint64(field)
	}
	return 0
}

// uvarint refuses longer spellings of a number, so that an entry is written in one way.
func (c *cutter) uvarint() uint64 {
	n, size := binary.Uvarint(c.data)
	if c.failed || size <= 0 || size > 1 && c.data[size-1] == 0 {
		c.failed = true
		return 0
	}
	c.data = c.data[size:]
	return n
}

// length reads a length or a count that is at most so large.
func (c *cutter) length(most uint64) uint64 {
	n := c.uvarint()
	if n > most {
		c.failed = true
		return 0
	}
	return n
}

func (h head) String() string { return fmt.Sprintf("%d:%x", h.length, h.hash) }
