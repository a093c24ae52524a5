package ledger

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/discreet-analytics/discreet/store/durable"
)

// witness is a small file outside of the ledger's directory that knows how long the ledger is and its head, so
// that a ledger that lost entries is noticed (store/FORMAT.md, Witness). It is held by one process at a time.
type witness struct {
	path  string
	file  *os.File
	info  fs.FileInfo // of file
	slots [2][]byte   // as they are on disk: as read, or as written last
	// temporary is the file's name while it is not linked to path.
	temporary string
	code      []byte // key of each slot's message authentication code; nil: they have none
	strange   bool   // slots without that code, or with another key's, count until the first one is written
}

// testimony is what one slot says.
type testimony struct {
	id       ledgerID
	sequence uint64
	head     head
	at       time.Time
}

const (
	slotBytes = 512
	// slotDistance keeps slots in different sectors of a disk, so that a write that was cut damages one of them.
	slotDistance = 4096
	witnessBytes = 2 * slotDistance
	slotMagic    = "DISCWIT\x01"
	slotCodeAt   = 80
	slotSumAt    = slotBytes - 4
)

var (
	errWitnessHeld      = errors.New("another discreet holds it")
	errWitnessMoved     = errors.New("it was written or replaced by something else while this ledger was open")
	errWitnessOfAnother = errors.New("it is another ledger's")
)

// openWitness opens a witness and holds it. An error that is fs.ErrNotExist says that there is none.
func openWitness(path string) (*witness, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the witness: %w", err)
	}
	w := &witness{path: path, file: file}
	if err := w.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the witness %s: %w", path, err), file.Close())
	}
	return w, nil
}

// newWitness makes a witness where there is none. It has its name once it was written to.
func newWitness(path string) (*witness, error) {
	dir := filepath.Dir(path)
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the directory of the witness: %w", err)
	}
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("making the witness: %w", err)
	}
	w := &witness{path: path, file: file, temporary: file.Name()}
	if _, err := file.Write(make([]byte, witnessBytes)); err != nil {
		return nil, errors.Join(fmt.Errorf("making the witness: %w", err), w.close())
	}
	if err := w.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("making the witness: %w", err), w.close())
	}
	return w, nil
}

// begin holds the file and reads it.
func (w *witness) begin() error {
	err := durable.Hold(w.file)
	switch {
	case errors.Is(err, durable.ErrHeld):
		return errWitnessHeld
	case err != nil:
		return fmt.Errorf("holding the witness: %w", err)
	}
	if w.info, err = w.file.Stat(); err != nil {
		return err
	}
	if w.temporary == "" && !w.named() { // it was replaced between opening and holding it
		return errWitnessHeld
	}
	for i := range w.slots {
		if w.slots[i], err = w.read(i); err != nil {
			return err
		}
	}
	return nil
}

// read reads a slot. What a shorter file lacks is zeros.
func (w *witness) read(i int) ([]byte, error) {
	slot := make([]byte, slotBytes)
	if _, err := w.file.ReadAt(slot, int64(i)*slotDistance); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return slot, nil
}

// named tells whether the path still names the file.
func (w *witness) named() bool {
	info, err := os.Lstat(w.path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		info, err = os.Stat(w.path)
	}
	return err == nil && os.SameFile(info, w.info)
}

// newest is what the witness says; false where no slot is whole or the slots contradict each other.
func (w *witness) newest() (testimony, bool) {
	a, aWhole := w.decode(0)
	b, bWhole := w.decode(1)
	switch {
	case aWhole && bWhole:
		if a.id != b.id || a.sequence+1 != b.sequence && b.sequence+1 != a.sequence {
			return testimony{}, false
		}
		if a.sequence > b.sequence {
			return a, true
		}
		return b, true
	case aWhole:
		return a, true
	default:
		return b, bWhole
	}
}

// still fails where anything but this process wrote to the witness or replaced it.
func (w *witness) still() error {
	if w.temporary != "" {
		return nil
	}
	if !w.named() {
		return errWitnessMoved
	}
	for i := range w.slots {
		slot, err := w.read(i)
		if err != nil {
			return fmt.Errorf("reading the witness: %w", err)
		}
		if !bytes.Equal(slot, w.slots[i]) {
			return errWitnessMoved
		}
	}
	return nil
}

// retake takes what the file says now for what this process wrote last, and tells whether the path still names
// the file. What says that it is another ledger's is not taken.
func (w *witness) retake(id ledgerID) (bool, error) {
	if w.temporary != "" {
		return true, nil
	}
	if !w.named() {
		return false, nil
	}
	now := witness{code: w.code, strange: w.strange}
	for i := range now.slots {
		var err error
		if now.slots[i], err = w.read(i); err != nil {
			return false, fmt.Errorf("reading the witness: %w", err)
		}
	}
	if saw, ok := now.newest(); ok && saw.id != id {
		return false, errWitnessOfAnother
	}
	w.slots = now.slots
	return true, nil
}

// write makes the witness say something new, and returns once that is durable.
func (w *witness) write(id ledgerID, h head, at time.Time) error {
	if err := w.still(); err != nil {
		return err
	}
	last, ok := w.newest()
	if !ok { // nothing that is left may contradict what follows
		for i := range w.slots {
			w.slots[i] = make([]byte, slotBytes)
			if _, err := w.file.WriteAt(w.slots[i], int64(i)*slotDistance); err != nil {
				return fmt.Errorf("clearing the witness: %w", err)
			}
		}
	}
	t := testimony{id: id, sequence: last.sequence + 1, head: h, at: at}
	i := t.slot()
	slot := t.encode(w.code)
	w.slots[i], w.strange = slot, false
	if _, err := w.file.WriteAt(slot, int64(i)*slotDistance); err != nil {
		return fmt.Errorf("writing the witness: %w", err)
	}
	if err := syncData(w.file); err != nil {
		return fmt.Errorf("syncing the witness: %w", err)
	}
	if w.temporary != "" {
		return w.link()
	}
	return nil
}

// link gives a new witness its name, which nothing may have yet.
func (w *witness) link() error {
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("syncing the witness: %w", err)
	}
	if err := os.Link(w.temporary, w.path); err != nil {
		return fmt.Errorf("naming the witness: %w", err)
	}
	if err := os.Remove(w.temporary); err != nil {
		return fmt.Errorf("naming the witness: %w", err)
	}
	w.temporary = ""
	if err := durable.SyncDir(filepath.Dir(w.path)); err != nil {
		return fmt.Errorf("naming the witness: %w", err)
	}
	return nil
}

// close lets go of the witness.
func (w *witness) close() error {
	var err error
	if w.temporary != "" {
		err = os.Remove(w.temporary)
	}
	if err := errors.Join(err, w.file.Close()); err != nil {
		return fmt.Errorf("closing the witness: %w", err)
	}
	return nil
}

func (t testimony) slot() int { return int(t.sequence % 2) }

// encode writes a slot, with a message authentication code where there is a key for that.
func (t testimony) encode(code []byte) []byte {
	slot := make([]byte, slotBytes)
	copy(slot, slotMagic)
	copy(slot[8:], t.id[:])
	binary.BigEndian.PutUint64(slot[24:], t.sequence)
	binary.BigEndian.PutUint64(slot[32:], t.head.length)
	copy(slot[40:], t.head.hash[:])
	binary.BigEndian.PutUint64(slot[72:], uint64(t.at.UnixMicro()))
	if code != nil {
		copy(slot[slotCodeAt:], slotCode(code, slot))
	}
	binary.BigEndian.PutUint32(slot[slotSumAt:], crc32.Checksum(slot[:slotSumAt], crc32.MakeTable(crc32.Castagnoli)))
	return slot
}

// slotCode is HMAC-SHA-256 over what a slot says.
func slotCode(code, slot []byte) []byte {
	mac := hmac.New(sha256.New, code)
	mac.Write(slot[:slotCodeAt])
	return mac.Sum(nil)
}

// decode reads a slot, and tells whether it is whole and, where there is a key for that, written under it.
func (w *witness) decode(place int) (testimony, bool) {
	t, whole := decodeSlot(w.slots[place], place)
	if w.code != nil && !w.strange && !hmac.Equal(slotCode(w.code, w.slots[place]), w.slots[place][slotCodeAt:slotCodeAt+sha256.Size]) {
		return testimony{}, false
	}
	return t, whole
}

// decodeSlot reads the slot at a place, and tells whether it is whole.
func decodeSlot(slot []byte, place int) (testimony, bool) {
	var t testimony
	sum := crc32.Checksum(slot[:slotSumAt], crc32.MakeTable(crc32.Castagnoli))
	if string(slot[:len(slotMagic)]) != slotMagic || binary.BigEndian.Uint32(slot[slotSumAt:]) != sum {
		return t, false
	}
	copy(t.id[:], slot[8:])
	t.sequence = binary.BigEndian.Uint64(slot[24:])
	t.head.length = binary.BigEndian.Uint64(slot[32:])
	copy(t.head.hash[:], slot[40:])
	t.at = time.UnixMicro(int64(binary.BigEndian.Uint64(slot[72:]))).UTC()
	return t, t.sequence > 0 && t.slot() == place
}
