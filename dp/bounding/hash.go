package bounding

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"strconv"
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
	h := NewHasher(salt)
	h.Begin(customer, block)
	return h.Hash(canonical)
}

// Hasher is Hash for many customers, blocks and bytes under one salt. It goes over what they share once.
type Hasher struct {
	salt, begun state  // after the salt, and after customer and block too
	rest        []byte // what the states have not taken, less than a word, and then what is to be hashed
	saltRest    int    // bytes of it that belong to the salt
	begunRest   int
	saltTail    [8]byte
}

// NewHasher prepares a hasher.
func NewHasher(salt []byte) Hasher {
	h := Hasher{salt: newState()}
	h.rest = appendNetstring(nil, salt)
	h.rest = h.salt.take(h.rest)
	h.saltRest = copy(h.saltTail[:], h.rest)
	return h
}

// Begin sets the (customer, block) of what is hashed next.
func (h *Hasher) Begin(customer uint64, block string) {
	var scratch [20]byte
	h.rest = append(h.rest[:0], h.saltTail[:h.saltRest]...)
	h.rest = appendNetstring(h.rest, strconv.AppendUint(scratch[:0], customer, 10))
	h.rest = appendNetstring(h.rest, block)
	h.begun = h.salt
	left := h.begun.take(h.rest)
	h.begunRest = copy(h.rest, left)
}

// Hash hashes canonical bytes.
func (h *Hasher) Hash(canonical []byte) uint64 {
	h.rest = appendNetstring(h.rest[:h.begunRest], canonical)
	s := h.begun
	return s.end(s.take(h.rest))
}

// state is SipHash's, and how many bytes it took.
type state struct {
	v0, v1, v2, v3 uint64
	taken          int
}

func newState() state {
	return state{v0: 0x736f6d6570736575, v1: 0x646f72616e646f6d, v2: 0x6c7967656e657261, v3: 0x7465646279746573}
}

// take goes over whole words and gives what is left.
func (s *state) take(text []byte) (left []byte) {
	v0, v1, v2, v3 := s.v0, s.v1, s.v2, s.v3
	for ; len(text) >= 8; text = text[8:] {
		word := binary.LittleEndian.Uint64(text)
		v3 ^= word
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
		v0 ^= word
		s.taken += 8
	}
	s.v0, s.v1, s.v2, s.v3 = v0, v1, v2, v3
	return text
}

// end gives the hash, with what is left of the text.
func (s *state) end(left []byte) uint64 {
	word := uint64(s.taken+len(left)) << 56
	for i, b := range left {
		word |= uint64(b) << (8 * i)
	}
	v0, v1, v2, v3 := s.v0, s.v1, s.v2, s.v3^word
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= word
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = round(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func round(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

func appendNetstring[T string | []byte](buf []byte, text T) []byte {
	buf = strconv.AppendInt(buf, int64(len(text)), 10)
	buf = append(buf, ':')
	return append(buf, text...)
}

// compareRank orders by hash, ties by bytes.
func compareRank(a, b uint64, x, y []byte) int {
	return cmp.Or(cmp.Compare(a, b), bytes.Compare(x, y))
}
