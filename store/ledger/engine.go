package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// The sizes of the storage engine. The ledger is small and hot; what matters is that each write is synced.
const (
	memtableBytes = 8 << 20
	cacheBytes    = 16 << 20
	// thresholdBytes keeps every value out of the value log, whose sync errors Badger only logs.
	thresholdBytes = 1 << 20
	// maxRequest and maxBatch bound one request's and one transaction's bytes, entries included, below Badger's
	// own bound of 15 % of the memtable.
	maxRequest = 1 << 20
	maxBatch   = 1 << 20
)

func engineOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithDetectConflicts(false). // there is one writer
		WithMemTableSize(memtableBytes).
		WithNumMemtables(2).
		WithValueThreshold(thresholdBytes).
		WithValueLogFileSize(2 << 20).
		WithBlockCacheSize(cacheBytes).
		WithIndexCacheSize(cacheBytes).
		WithNumCompactors(2).
		WithMetricsEnabled(false).
		// Not when a table is opened: Badger ends the process where a checksum is wrong (v4.9.6, table.VerifyChecksum
		// reads an offset from the block that it did not get). Opening the ledger reads every block anyway.
		WithChecksumVerificationMode(options.OnBlockRead).
		WithLogger(engineLog{log})
}

// engineLog passes on what Badger warns of. Its lines hold file names and keys of the ledger, never rows.
type engineLog struct{ log *slog.Logger }

func (e engineLog) Errorf(format string, values ...any) {
	e.log.Error("ledger: " + fmt.Sprintf(format, values...))
}
func (e engineLog) Warningf(format string, values ...any) {
	e.log.Warn("ledger: " + fmt.Sprintf(format, values...))
}
func (e engineLog) Infof(string, ...any)  {}
func (e engineLog) Debugf(string, ...any) {}

// openEngine opens the database.
func openEngine(dir string, o Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, errLost)
		}
	}()
	engine := engineOptions(dir, o.Log)
	if err := checkTables(dir, engine); err != nil {
		return nil, err
	}
	return badger.Open(engine)
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
		return fmt.Errorf("listing the ledger's tables: %w", err)
	}
	defer list.Close() // it was only read
	listed, _, err := badger.ReplayManifestFile(list, o.ExternalMagicVersion, o)
	if err != nil {
		return fmt.Errorf("listing the ledger's tables: %w: %w", err, errLost)
	}
	for number := range listed.Tables {
		path := table.IDToFilename(number)
		data, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return fmt.Errorf("reading a table of the ledger: %w: %w", err, errLost)
		}
		if !wholeTable(data) {
			return fmt.Errorf("the file %s of the ledger is damaged: %w", path, errLost)
		}
	}
	return nil
}

// wholeTable checks what a table ends with: its index, the length of that (4 bytes, big-endian), a checksum, and
// the length of that (Badger v4, table.Builder). The checksum is a protobuf message with one field, number 2: the
// CRC-32C of the index.
func wholeTable(data []byte) bool {
	cut := func(n uint32) []byte {
		if uint64(n) > uint64(len(data)) {
			return nil
		}
		end := data[len(data)-int(n):]
		data = data[:len(data)-int(n)]
		return end
	}
	length := cut(4)
	if length == nil {
		return false
	}
	sum := cut(binary.BigEndian.Uint32(length))
	if length = cut(4); length == nil {
		return false
	}
	index := cut(binary.BigEndian.Uint32(length))
	want := []byte{} // of a checksum that is 0
	if n := crc32.Checksum(index, crc32.MakeTable(crc32.Castagnoli)); n != 0 {
		want = binary.AppendUvarint([]byte{2 << 3}, uint64(n))
	}
	return len(index) > 0 && bytes.Equal(sum, want)
}
