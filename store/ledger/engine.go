package ledger

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/discreet-analytics/discreet/store/engine"
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
func openEngine(dir string, o Options) (*badger.DB, error) {
	options := engineOptions(dir, o.Log)
	if o.Key != nil {
		options = options.WithEncryptionKey(o.Key.Derive(sealDatabase))
	}
	db, err := engine.Open(options)
	err = explainKey(err, o.Key)
	if errors.Is(err, engine.ErrDamaged) {
		err = fmt.Errorf("%w: %w", err, errLost)
	}
	return db, err
}
