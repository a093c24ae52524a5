package bounding

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/dchest/siphash"
)

// The hash goes over what customers and blocks share once, and is SipHash all the same.
func TestHashIsSipHashOfTheWholeText(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	text := func(most int) []byte {
		b := make([]byte, random.IntN(most))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for range 300 {
		salt := text(40)
		h := NewHasher(salt)
		for range 4 {
			customer, block := random.Uint64()>>random.IntN(64), string(text(12))
			h.Begin(customer, block)
			for range 4 {
				canonical := text(40)
				whole := appendNetstring(appendNetstring(appendNetstring(appendNetstring(nil, salt), strconv.FormatUint(customer, 10)), block), canonical)
				if got, want := h.Hash(canonical), siphash.Hash(0, 0, whole); got != want {
					t.Fatalf("%x %d %q %x: got %x, want %x", salt, customer, block, canonical, got, want)
				}
			}
		}
	}
}
