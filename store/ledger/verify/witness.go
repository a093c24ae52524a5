package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"
)

// Witness is what the witness of a ledger says (store/FORMAT.md, "Witness").
type Witness struct {
	ID       [16]byte
	Sequence uint64
	Mark
	At time.Time
	// Ahead is how many entries the ledger has beyond it: what nobody was told of.
	Ahead uint64

	fork bool
}

// The layout of a witness.
const (
	slotBytes    = 512
	slotDistance = 4096
	slotMagic    = "DISCWIT\x01"
	slotSum      = 508
)

// hear reads the witness, without holding it.
func (c *chain) hear(path string, installation []byte) error {
	w, err := ReadWitness(path, installation)
	if err != nil {
		return err
	}
	c.witness = &w
	return nil
}

// ReadWitness reads what a witness says. It changes nothing and does not hold the file. Where a key is given, 32 bytes, only
// what was written under it counts.
//
// Errors: that there is none, which is fs.ErrNotExist, or that it is damaged.
func ReadWitness(path string, installation []byte) (Witness, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Witness{}, fmt.Errorf("there is no witness at %s: name the one that the server writes: %w", path, err)
	}
	if err != nil {
		return Witness{}, fmt.Errorf("reading the witness: %w", err)
	}
	defer f.Close()
	var slots []Witness
	for i := range 2 {
		slot := make([]byte, slotBytes)
		if _, err := f.ReadAt(slot, int64(i)*slotDistance); err != nil && !errors.Is(err, io.EOF) {
			return Witness{}, fmt.Errorf("reading the witness: %w", err)
		}
		ours := true
		if len(installation) > 0 {
			if ours, err = (&sealed{key: installation}).slot(slot); err != nil {
				return Witness{}, err
			}
		}
		if w, ok := parseSlot(slot); ok && ours && w.Sequence%2 == uint64(i) {
			slots = append(slots, w)
		}
	}
	switch {
	case len(slots) == 1:
		return slots[0], nil
	case len(slots) == 2 && slots[0].ID == slots[1].ID && slots[0].Sequence+1 == slots[1].Sequence:
		return slots[1], nil
	case len(slots) == 2 && slots[0].ID == slots[1].ID && slots[1].Sequence+1 == slots[0].Sequence:
		return slots[0], nil
	}
	return Witness{}, fmt.Errorf("the witness %s is damaged", path)
}

func parseSlot(slot []byte) (w Witness, whole bool) {
	sum := crc32.Checksum(slot[:slotSum], crc32.MakeTable(crc32.Castagnoli))
	if string(slot[:len(slotMagic)]) != slotMagic || binary.BigEndian.Uint32(slot[slotSum:]) != sum {
		return w, false
	}
	copy(w.ID[:], slot[8:24])
	w.Sequence = binary.BigEndian.Uint64(slot[24:])
	w.Length = binary.BigEndian.Uint64(slot[32:])
	copy(w.Head[:], slot[40:40+sha256.Size])
	w.At = time.UnixMicro(int64(binary.BigEndian.Uint64(slot[72:]))).UTC()
	return w, w.Sequence > 0
}

// checkWitness compares an entry with what the witness says of it.
func (c *chain) checkWitness(e *entry) {
	if c.witness != nil && c.witness.Length == e.number && c.witness.Head != e.hash {
		c.witness.fork = true
	}
}

// compareWitness gives what does not fit between ledger and witness, once all entries were read.
func (c *chain) compareWitness() *Finding {
	w := c.witness
	if w == nil {
		return nil
	}
	written := c.answers != nil && *c.answers == w.Mark // a write-off that the witness has not heard of
	switch {
	case w.ID != c.count.ID:
		return &Finding{Why: "the witness is that of another ledger"}
	case written:
	case w.Length > c.count.Entries:
		return &Finding{Why: fmt.Sprintf("the ledger has %d entries, and its witness saw %d: entries were lost, or an older copy was restored", c.count.Entries, w.Length)}
	case w.fork:
		return &Finding{Entry: w.Length, Why: "it is not the entry that the witness saw: two copies of the ledger were written to"}
	}
	if c.count.Entries > w.Length {
		w.Ahead = c.count.Entries - w.Length
	}
	return nil
}
