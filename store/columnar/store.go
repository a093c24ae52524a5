// Package columnar keeps rows in Badger as column segments and aggregates them: it takes loads in, makes them
// visible through the ledger's catalog, and bounds what every customer contributes. dp/bounding says what that is: plans
// are compiled, hashed and added up by it, and the bounder of this package, which reads columns and not rows, gives the
// numbers of its Reference.
//
// A segment holds rows of one (dataset, block, shard) from one load, sorted by customer then time, one Badger
// value per column (store/FORMAT.md). Segments are written first; what the catalog has not committed is
// invisible, and is removed when the store opens or the next load of the dataset begins. The package never
// keeps an identifier or a column that the policy does not name, never draws noise, and no error or log line
// of it holds a row or a count.
package columnar

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/engine"
	"github.com/discreet-analytics/discreet/store/load"
)

// Store is the rows of one installation. It is safe for concurrent use; one process has it open.
type Store struct {
	dir     string
	db      *database
	catalog Catalog
	secrets Secrets
	options Options
	shards  int // fixed when the store was made

	dictionaries *dictionaries
	columns      *columns
	workers      chan struct{} // tokens of the scans that run at once

	tending chan struct{} // holds a token while segments are merged
	// Whoever tends has these.
	untidy  int64           // bytes, about, that were merged and not dropped since
	hanging map[string]bool // datasets of which a load was under way as long as a run waits
	arrived chan struct{}   // a load was committed

	erasures erasures
	eraseNow chan struct{} // somebody asked for a run
	retired  atomic.Int64  // when blocks were retired last and their rows left, in Unix nanoseconds; 0: never by this process
	stop     context.CancelFunc
	ongoing  sync.WaitGroup // in the background

	slots   chan struct{} // of loads at once
	mu      sync.Mutex
	loading map[string]chan struct{} // per dataset, holds a token while it loads
}

// Catalog decides which loads are visible. The ledger is one.
type Catalog interface {
	// BeginLoad gives a load its number, which is never given again, and remembers by which version of the policy
	// its rows are read. Where a load of that name was committed, it returns that one too. An empty name is none
	// yet: the load ends under another.
	BeginLoad(ctx context.Context, dataset string, policyVersion uint64, name string, blocks []string) (begun dp.Load, earlier *dp.Load, err error)
	// LoadNamed returns the committed load of a name, or nil.
	LoadNamed(ctx context.Context, dataset, name string) (*dp.Load, error)
	// CommitLoad makes a load visible whose segments are durable.
	CommitLoad(ctx context.Context, loaded dp.Load) error
	// RepeatLoad records that the content of a committed load was sent again, which adds nothing.
	RepeatLoad(ctx context.Context, repeated dp.Load) error
	// AbandonLoad ends a load that is not to be committed. One that has ended stays as it is.
	AbandonLoad(ctx context.Context, abandoned dp.Load) error
	// PendingLoads returns the loads that began and have not ended, of one dataset or (empty) of all.
	PendingLoads(ctx context.Context, dataset string) ([]dp.Load, error)
	// RecordErasure records that an erasure was asked for. One that is recorded stays as it is.
	RecordErasure(ctx context.Context, asked dp.Erasure) error
	// EndErasure records that a run has ended an erasure. One that has ended stays as it is.
	EndErasure(ctx context.Context, dataset, id string) error
	// PendingErasures returns the recorded erasures that have not ended, of all datasets.
	PendingErasures(ctx context.Context) ([]dp.Erasure, error)
	// Retire retires the blocks whose time is over, and returns what is retired of all datasets.
	Retire(ctx context.Context) ([]dp.Retirement, error)
	// EndRetirement records that no rows are left of what was retired before a month.
	EndRetirement(ctx context.Context, dataset, before string) error
	// RetiredBefore is the month before which the retired blocks of a dataset end; empty: none is retired.
	RetiredBefore(ctx context.Context, dataset string) (month string, err error)
	// CommittedLoads returns the numbers of the loads whose rows of a block are visible at a version of it.
	CommittedLoads(ctx context.Context, dataset, block string, version uint64) ([]uint64, error)
}

// Secrets derives what loading and bounding need of the installation's secret.
type Secrets interface {
	load.Pseudonyms
	// Salt is what bounding hashes with.
	Salt(dataset string) []byte
	// ContentDigest is a keyed 32-byte digest of what is loaded.
	ContentDigest() hash.Hash
}

// Options are the sizes of a store. None of them depends on what is stored.
type Options struct {
	Shards      int // of a new store; a customer lives in one of them
	Workers     int // shards that are read at once, by all aggregations together
	Loads       int // loads at once; others wait
	LoadBlocks  int // blocks of one load
	Rejects     int // rejected rows that a report names
	BufferRows  int // rows that a load sorts in memory at once
	SegmentRows int // rows of a segment
	// DictionaryBytes are bytes of the different texts of one dimension, which stay in memory once they were asked for.
	DictionaryBytes int
	Limits          load.Limits

	// Segments of a shard of a block are merged once so many runs of them wait there, or so many loads; after a load,
	// and every MergeEvery (0: never, unless Compact is called). MergeBytes are written in a second, at most.
	MergeRuns, MergeLoads int
	MergeEvery            time.Duration
	MergeBytes            int

	EraseUnits   int // customers that may be named in one erasure
	PendingUnits int // customers of a dataset that may wait to be erased; of each, some 30 bytes are in memory
	// EraseAt is how long after midnight the day's erasures and retirements run, in minutes, by the wall clock that Clock shows. Negative:
	// they run when somebody asks.
	EraseAt time.Duration
	// EraseRetry is after how long a run that failed is tried again. It begins anew: it is no shorter than a run takes.
	EraseRetry time.Duration
	// EraseWait is how long a run waits for a load of a dataset to end. Then it leaves the dataset to the next run.
	EraseWait time.Duration
	// Clock says when an erasure was asked for, and when one is due. Nil: time.Now.
	Clock func() time.Time

	CacheBytes int64 // of columns that are kept in memory
	GroupBytes int   // of partitions that one aggregation keeps in memory; private ones beyond go to disk

	MemTable, BlockCache, IndexCache int64 // bytes that Badger may use

	// Room refuses loads, with an error for who loads, while the disk has too little room. It is asked before
	// anything of a load is written and must be quick. Nil: there is always room.
	Room func() error

	// Key, of 32 bytes, encrypts the database. Nil: it is in plain. It is the same whenever a store is opened.
	Key []byte

	// Erased is told of each erasure, with its customers' pseudonyms (ascending), before it is acknowledged; where it
	// fails, so does asking for the erasure, which takes place all the same. Nil: nobody is told.
	Erased func(dp.Erasure, []uint64) error

	// Log is told what fails in the background. Nil: slog.Default().
	Log *slog.Logger
}

// DefaultOptions suit a small server: about 300 MB at rest, 512 MB of columns once they were asked for, and 50 MB
// for each load at once.
func DefaultOptions() Options {
	return Options{
		Shards: 16, Workers: runtime.GOMAXPROCS(0), Loads: 4, LoadBlocks: 400, Rejects: 1000,
		BufferRows: 1 << 18, SegmentRows: 1 << 16, DictionaryBytes: 64 << 20,
		Limits:    load.DefaultLimits(),
		MergeRuns: 8, MergeLoads: 4, MergeEvery: 10 * time.Minute, MergeBytes: 64 << 20,
		EraseUnits: 500_000, PendingUnits: 2_000_000, EraseAt: 3 * time.Hour, EraseRetry: 10 * time.Minute, EraseWait: time.Minute,
		CacheBytes: 512 << 20, GroupBytes: 128 << 20,
		MemTable: 64 << 20, BlockCache: 8 << 20, IndexCache: 32 << 20,
	}
}

// Open opens the rows in dir, making them where there are none, and removes what loads left that were never
// committed. The catalog must be open already. Close it before the catalog.
func Open(dir string, catalog Catalog, secrets Secrets, o Options) (*Store, error) {
	opened, err := engine.Open(badgerOptions(dir, o))
	if err != nil {
		return nil, fmt.Errorf("opening rows: %w", err)
	}
	db := &database{DB: opened}
	if err := durable.Empty(filepath.Join(dir, spillName)); err != nil {
		return nil, errors.Join(fmt.Errorf("opening rows: %w", err), db.Close())
	}
	columns, err := newColumns(o.CacheBytes)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &Store{
		dir: dir, columns: columns, db: db, catalog: catalog, secrets: secrets, options: o,
		slots: make(chan struct{}, max(1, o.Loads)), loading: make(map[string]chan struct{}),
		dictionaries: newDictionaries(db), workers: make(chan struct{}, max(1, o.Workers)),
		hanging: make(map[string]bool),
		tending: make(chan struct{}, 1), arrived: make(chan struct{}, 1), eraseNow: make(chan struct{}, 1),
	}
	if s.options.Log == nil {
		s.options.Log = slog.Default()
	}
	if s.options.Clock == nil {
		s.options.Clock = time.Now
	}
	if err := guarded(s.start); err != nil {
		columns.Close()
		_ = db.Close() // the first error says what to do
		return nil, fmt.Errorf("opening rows: %w", err)
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	if o.MergeEvery > 0 {
		s.ongoing.Go(func() { s.compactInBackground(ctx) })
	}
	s.ongoing.Go(func() { s.eraseInBackground(ctx) })
	return s, nil
}

// Close ends what runs in the background, and flushes and closes the files. No call may be under way.
func (s *Store) Close() error {
	s.stop()
	s.ongoing.Wait()
	s.columns.Close()
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing rows: %w", err)
	}
	return nil
}

func (s *Store) start() error {
	if err := s.readLayout(); err != nil {
		return err
	}
	if s.room() == nil { // what merging left is invisible, and can wait
		if err := s.sweepMerged(); err != nil {
			return err
		}
		if err := s.dictionaries.sweep(); err != nil {
			return err
		}
	} else {
		s.untidy = 1
	}
	asked, customers, err := s.readErasures()
	if err != nil {
		return err
	}
	for i, e := range asked {
		s.erasures.add(e, customers[i])
	}
	if err = s.RecordErasures(context.Background()); err == nil {
		err = s.sweep(context.Background(), "")
	}
	var refused *dp.Error
	if errors.As(err, &refused) && refused.Code == dp.CodeUnavailable {
		// The catalog writes nothing at the moment. What failed loads left is invisible and can wait for the next
		// load or opening; what can be asked must not.
		return nil
	}
	return err
}

// room refuses while nothing may be written.
func (s *Store) room() error {
	if s.options.Room == nil {
		return nil
	}
	return s.options.Room()
}

// spillDir is where scans and loads keep what does not fit into memory, in scratch files.
func (s *Store) spillDir() string { return filepath.Join(s.dir, spillName) }

const spillName = "spill"

// readLayout fixes the number of shards when the store is made, and keeps it ever after.
func (s *Store) readLayout() error {
	var l layout
	found := false
	err := s.db.View(func(txn *badger.Txn) (err error) {
		found, err = getJSON(txn, layoutKey(), &l)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the layout: %w", err)
	}
	if !found {
		if s.options.Shards < 1 || s.options.Shards > maxShards {
			return fmt.Errorf("a store has 1 to %d shards", maxShards)
		}
		l = layout{Shards: s.options.Shards}
		err := s.db.Update(func(txn *badger.Txn) error { return setJSON(txn, layoutKey(), l) })
		if err != nil {
			return fmt.Errorf("writing the layout: %w", err)
		}
	}
	s.shards = l.Shards
	return nil
}

// layout is what never changes once the store is made.
type layout struct {
	Shards int `json:"shards"`
}

const maxShards = 1 << 12

// maxValue is how long a column should be, in bytes. Badger keeps values from valueThreshold on in a value
// log, whose failures to sync it only logs; segments are cut so that no column gets there.
const (
	maxValue       = 768 << 10
	valueThreshold = 1 << 20
)

func badgerOptions(dir string, o Options) badger.Options {
	return badger.DefaultOptions(dir).
		WithEncryptionKey(o.Key).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithSyncWrites(true). // the ledger must never commit what is not durable
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithMemTableSize(o.MemTable).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithBlockCacheSize(o.BlockCache).
		WithIndexCacheSize(o.IndexCache).
		// Values are checked here (unseal). Badger would take a block that its checksum does not fit for absent (v4.9.6,
		// levelHandler.get), and an older version of a key for the newest.
		WithChecksumVerificationMode(options.NoVerification).
		WithCompression(options.None). // columns are narrow, and read at the speed of memory
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(2 << 20) // nothing is kept there, and the disk watch allocates it
}
