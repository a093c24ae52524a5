// Package engine opens Badger over what a crash left, for the ledger and for the rows. It knows which files Badger
// (v4.9.6) cannot open, or ends the process over, and nothing of what they hold.
package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

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
			err = fmt.Errorf("it panicked with a %T: %w", p, ErrDamaged) // its value may hold what is stored
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

// checkTables checks the end of every table that the database lists, by which Badger finds the rest, with the last
// block, of which it takes the last key: it opens tables in goroutines of its own, and a length or a kind of checksum
// that is wrong there ends the process. A table that
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
	keys, err := readKeys(o)
	if err != nil {
		return err
	}
	for number, t := range listed.Tables {
		which := lastBlock
		if t.Compression == options.ZSTD {
			which = noBlock // its checksum lies within, and nobody here compresses so
		}
		if err := checkTable(dir, number, which, packing{keys.of(t), t.Compression == options.Snappy}); err != nil {
			return err
		}
	}
	return nil
}
