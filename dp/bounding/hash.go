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
// It is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) with a zero key, of the
// netstring of the bytes and the hash of the (customer, block), which is SipHash-2-4 of the netstrings of salt and
// block and the customer; numbers are 8 bytes, little-endian. Every engine computes the same (store/FORMAT.md has
// vectors). The guarantee holds for any salt, known or not, because what is kept of one customer's block depends on
// nothing but that block's own rows.
func Hash(salt []byte, customer uint64, block string, canonical []byte) uint64 {
	units, key := HashUnits(salt, block), HashKey(canonical)
	return key.Of(units.Of(customer))
}

// Prefix is a text to whose hash only a number is missing. An engine prepares it once for many customers.
type Prefix struct {
	v0, v1, v2, v3 uint64 // the state after the text's whole words
	tail           uint64 // the bytes that follow them
	shift          uint8  // bits of these
	length         uint8  // of text and number, in bytes, modulo 256
}

// HashUnits gives the hashes of the (customer, block)s of a block: of each customer.
func HashUnits(salt []byte, block string) Prefix {
	return newPrefix(appendNetstring(appendNetstring(nil, salt), block))
}

// HashKey gives the hashes of canonical bytes: of each hash of a (customer, block).
func HashKey(canonical []byte) Prefix { return newPrefix(appendNetstring(nil, canonical)) }

func newPrefix(text []byte) Prefix {
	p := Prefix{
		v0: 0x736f6d6570736575, v1: 0x646f72616e646f6d, v2: 0x6c7967656e657261, v3: 0x7465646279746573,
		length: uint8(len(text) + 8),
	}
	for ; len(text) >= 8; text = text[8:] {
		word := binary.LittleEndian.Uint64(text)
		p.v3 ^= word
		p.v0, p.v1, p.v2, p.v3 = round(p.v0, p.v1, p.v2, p.v3)
		p.v0, p.v1, p.v2, p.v3 = round(p.v0, p.v1, p.v2, p.v3)
		p.v0 ^= word
	}
	for i, b := range text {
		p.tail |= uint64(b) << (8 * i)
	}
	p.shift = uint8(8 * len(text))
	return p
}

// IsZero tells whether the prefix is of no text at all: it was not made here. (The state after a text is zeros for
// one of 2^128.)
func (p *Prefix) IsZero() bool { return p.v0|p.v1 == 0 }

// Of gives the hash of the text and a number. It is written out because nothing in a scan is computed more often.
func (p *Prefix) Of(number uint64) uint64 {
	v0, v1, v2, v3 := p.v0, p.v1, p.v2, p.v3
	word := p.tail | number<<p.shift
	v3 ^= word
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= word
	word = number>>(64-p.shift) | uint64(p.length)<<56
	v3 ^= word
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= word
	v2 ^= 0xff
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
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
