package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
)

// CheckTables reads the tables of an open database whole, those that are asked for, and compares every checksum. It is
// for what is about to be rewritten: Badger does that on goroutines of its own, where a bit that flipped in the end of a
// block makes it slice out of range, which ends the process. To have it compare checksums itself
// (ChecksumVerificationMode) is no help: it slices first, and where it finds a difference it takes the rest of the table
// for absent, without a word, and removes the table. The database has no compression.
//
// Errors are ErrDamaged and name the file.
func CheckTables(db *badger.DB, asked func(badger.TableInfo) bool) error {
	keyOf, err := keysOfTables(db.Opts())
	if err != nil {
		return err
	}
	for _, t := range db.Tables() {
		if !asked(t) {
			continue
		}
		key, listed := keyOf(t.ID)
		if !listed { // Badger has rewritten it since, or lists it only now
			continue
		}
		err := checkTable(db.Opts().Dir, t.ID, allBlocks, packing{key: key})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // Badger has rewritten it since
			return err
		}
	}
	return nil
}

// keysOfTables gives the key of each table that an open database lists.
func keysOfTables(o badger.Options) (func(number uint64) (key []byte, listed bool), error) {
	if len(o.EncryptionKey) == 0 {
		return func(uint64) ([]byte, bool) { return nil, true }, nil
	}
	keys, err := readKeys(o)
	if err != nil {
		return nil, err
	}
	list, err := os.Open(filepath.Join(o.Dir, badger.ManifestFilename))
	if err != nil {
		return nil, fmt.Errorf("listing the tables of a database: %w", err)
	}
	defer list.Close() // it was only read
	all, _, err := badger.ReplayManifestFile(list, o.ExternalMagicVersion, o)
	if err != nil {
		return nil, fmt.Errorf("listing the tables of a database: %w: %w", err, ErrDamaged)
	}
	return func(number uint64) ([]byte, bool) {
		t, listed := all.Tables[number]
		return keys.of(t), listed
	}, nil
}

// blocks says which blocks of a table are checked.
type blocks int

const (
	noBlock blocks = iota
	lastBlock
	allBlocks
)

func checkTable(dir string, number uint64, which blocks, how packing) error {
	name := table.IDToFilename(number)
	whole, err := wholeTable(filepath.Join(dir, name), which, how)
	if err != nil {
		return fmt.Errorf("reading a table of a database: %w: %w", err, ErrDamaged)
	}
	if !whole {
		return fmt.Errorf("the file %s: %w", name, ErrDamaged)
	}
	return nil
}

// wholeTable checks what a table ends with: its index, the length of that (4 bytes, big-endian), a checksum, and
// the length of that (Badger v4, table.Builder); and
// blocks, each of which ends with a checksum of what comes before and the length of that.
func wholeTable(path string, which blocks, how packing) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close() // it is only read
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	left := info.Size()
	cut := func(n uint32) []byte { // the last n bytes of what is left, or nil
		if int64(n) > left || err != nil {
			return nil
		}
		end := make([]byte, n)
		left -= int64(n)
		_, err = file.ReadAt(end, left)
		return end
	}
	number := func() uint32 {
		if bytes := cut(4); len(bytes) == 4 {
			return binary.BigEndian.Uint32(bytes)
		}
		return 0
	}
	sum := cut(number())
	index := cut(number())
	if whole := len(index) > 0 && bytes.Equal(sum, checksum(index)); !whole || err != nil {
		return whole, err
	}
	if which == noBlock {
		return true, nil
	}
	if index, err = decrypt(index, how.key); err != nil {
		return false, nil
	}
	all, buf := fb.GetRootAsTableIndex(index, 0), []byte(nil)
	for i := range all.OffsetsLength() {
		var at fb.BlockOffset
		if which == lastBlock && i+1 < all.OffsetsLength() {
			continue
		}
		if !all.Offsets(&at, i) || int64(at.Offset())+int64(at.Len()) > left {
			return false, nil
		}
		if int(at.Len()) > len(buf) {
			buf = make([]byte, at.Len())
		}
		block := buf[:at.Len()]
		if _, err := file.ReadAt(block, int64(at.Offset())); err != nil {
			return false, err
		}
		var err error
		if block, err = how.unpack(block); err != nil || !wholeBlock(block) {
			return false, nil
		}
	}
	return true, nil
}

func wholeBlock(block []byte) bool {
	if len(block) < 4 {
		return false
	}
	block, length := block[:len(block)-4], binary.BigEndian.Uint32(block[len(block)-4:])
	if int64(length) > int64(len(block)) {
		return false
	}
	at := len(block) - int(length)
	return bytes.Equal(block[at:], checksum(block[:at]))
}

// checksum is how Badger writes one: a protobuf message with one field, number 2, the CRC-32C; of 0 there is no field.
func checksum(of []byte) []byte {
	sum := crc32.Checksum(of, crc32.MakeTable(crc32.Castagnoli))
	if sum == 0 {
		return []byte{}
	}
	return binary.AppendUvarint([]byte{2 << 3}, uint64(sum))
}
