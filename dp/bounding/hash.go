package bounding

import (
	"bytes"
	"cmp"
	"strconv"

	"github.com/dchest/siphash"
)

// Hash orders what bounding may keep of one (customer, block): partitions by the canonical bytes of their
// keys, rows by their own (rows.AppendKey, rows.AppendRow). What has the smaller hash is kept; of equal hashes,
// what has the smaller bytes.
//
// It is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) with a zero key over
// four netstrings: salt, customer as decimal text, block, bytes. Every engine computes the same
// (store/FORMAT.md has vectors). The guarantee holds for any salt, known or not, because what is kept of one
// customer's block depends on nothing but that block's own rows.
func Hash(salt []byte, customer uint64, block string, canonical []byte) uint64 {
	var h Hasher
	h.Begin(salt, customer, block)
	return h.Hash(canonical)
}

// Hasher is Hash for many bytes of one (customer, block).
type Hasher struct {
	text   []byte
	prefix int // bytes that all share
}

func (h *Hasher) Begin(salt []byte, customer uint64, block string) {
	var scratch [20]byte
	h.text = appendNetstring(h.text[:0], salt)
	h.text = appendNetstring(h.text, strconv.AppendUint(scratch[:0], customer, 10))
	h.text = appendNetstring(h.text, block)
	h.prefix = len(h.text)
}

func (h *Hasher) Hash(canonical []byte) uint64 {
	h.text = appendNetstring(h.text[:h.prefix], canonical)
	return siphash.Hash(0, 0, h.text)
}

func appendNetstring[T string | []byte](buf []byte, text T) []byte {
	buf = strconv.AppendInt(buf, int64(len(text)), 10)
	buf = append(buf, ':')
	return append(buf, text...)
}

// compareRank is negative where what has hash a and bytes x is kept before what has hash b and bytes y.
func compareRank(a, b uint64, x, y []byte) int {
	return cmp.Or(cmp.Compare(a, b), bytes.Compare(x, y))
}
