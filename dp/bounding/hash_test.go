package bounding

import (
	"encoding/binary"
	"math/rand/v2"
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
		salt, block := text(300), string(text(12))
		units := HashUnits(salt, block)
		for range 4 {
			customer := random.Uint64() >> random.IntN(64)
			unit := siphash.Hash(0, 0, binary.LittleEndian.AppendUint64(appendNetstring(appendNetstring(nil, salt), block), customer))
			if got := units.Of(customer); got != unit {
				t.Fatalf("%x %q %d: got %x, want %x", salt, block, customer, got, unit)
			}
			for range 4 {
				canonical := text(40)
				want := siphash.Hash(0, 0, binary.LittleEndian.AppendUint64(appendNetstring(nil, canonical), unit))
				if got := Hash(salt, customer, block, canonical); got != want {
					t.Fatalf("%x %q %d %x: got %x, want %x", salt, block, customer, canonical, got, want)
				}
			}
		}
	}
}
