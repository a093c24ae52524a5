// Package engine opens Badger over what a crash left, for the ledger and for the rows. It knows which files Badger
// (v4.9.6) cannot open, or ends the process over, and nothing of what they hold.
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
	"github.com/dgraph-io/badger/v4/table"

	"github.com/discreet-analytics/discreet/store/durable"
)

// ErrDamaged says that the files do not hold what Badger wrote there.
var ErrDamaged = errors.New("the database is damaged")

// Open opens the database in o.Dir, and makes it where there is none. Errors that are ErrDamaged name the file or
// what is wrong with it; durable.ErrHeld says that another process has it open, whose files are left alone.
func Open(o badger.Options) (db *badger.DB, err error) {
	if err := durable.MakeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("making the directory of a database: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, ErrDamaged)
		}
	}()
	if err := prepare(o); err != nil {
		return nil, err
	}
	return badger.Open(o)
}

// prepare makes the directory one that Badger can open. It holds the lock that Badger takes, a flock on the directory,
// and lets go of it before Badger does: a process that is faster then has a directory that is prepared.
func prepare(o badger.Options) (err error) {
	dir, err := os.Open(o.Dir)
	if err != nil {
		return fmt.Errorf("opening the directory of a database: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := durable.Hold(dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("holding the directory of a database: %w", err)
	}
	if err := removeUnbegun(o.Dir); err != nil {
		return err
	}
	return checkTables(o.Dir, o)
}

// removeUnbegun removes logs of length 0. Badger names a new log first and gives it its length next; of one that
// crashed in between it says "Create a new file", and does not open (memtable.go, openMemTables; value.go, open).
// What it acknowledged lies in the bytes of a log, so one without bytes holds nothing.
func removeUnbegun(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		logs, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range logs {
			info, err := os.Stat(path)
			if err == nil && info.Size() == 0 {
				err = os.Remove(path)
			}
			if err != nil {
				return fmt.Errorf("removing a log that was never begun: %w", err)
			}
		}
	}
	return nil
}

// checkTables checks the end of every table that the database lists, by which Badger finds the rest: it opens tables
// in goroutines of its own, and a length or a kind of checksum that is wrong there ends the process. A table that
// is not listed was being written when a process died; Badger removes it.
func checkTables(dir string, o badger.Options) error {
	list, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing the tables of a database: %w", err)
	}
	defer list.Close() // it was only read
	listed, _, err := badger.ReplayManifestFile(list, o.ExternalMagicVersion, o)
	if err != nil {
		return fmt.Errorf("listing the tables of a database: %w: %w", err, ErrDamaged)
	}
	for number := range listed.Tables {
		name := table.IDToFilename(number)
		whole, err := wholeTable(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("reading a table of a database: %w: %w", err, ErrDamaged)
		}
		if !whole {
			return fmt.Errorf("the file %s: %w", name, ErrDamaged)
		}
	}
	return nil
}

// wholeTable checks what a table ends with: its index, the length of that (4 bytes, big-endian), a checksum, and
// the length of that (Badger v4, table.Builder). The checksum is a protobuf message with one field, number 2: the
// CRC-32C of the index.
func wholeTable(path string) (bool, error) {
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
	want := []byte{} // of a checksum that is 0
	if n := crc32.Checksum(index, crc32.MakeTable(crc32.Castagnoli)); n != 0 {
		want = binary.AppendUvarint([]byte{2 << 3}, uint64(n))
	}
	return len(index) > 0 && bytes.Equal(sum, want), err
}
