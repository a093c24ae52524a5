// Package ledger owns the durable account of what was spent and of all that decides it: policies, loads and
// block versions, budgets, charges, releases, consumers and keys, in one Badger database, so that a change and
// its record are one transaction.
//
// Every write goes through one writer (writer.go), which groups what waits into a transaction that is synced
// before any of it is acknowledged. What is written is append-only or counts upwards: spent losses never
// shrink, numbers and names are never reused, releases never change.
//
// The package never reads a row, never computes a price or noise, and never keeps a key's secret. It
// implements the Ledger, Releases and Policies of dp/answer and the Book of dp/office. The bytes are described
// in store/FORMAT.md.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

// Ledger is an open ledger. It is safe for concurrent use; one process at a time can hold a directory.
type Ledger struct {
	db      *badger.DB
	dir     *directory
	clock   func() time.Time
	log     *slog.Logger
	lease   time.Duration
	limits  Limits
	opening uint64 // counts how often the directory was opened; attempts of earlier openings are dead

	queue chan *request
	quit  chan struct{} // closed when no more requests are taken
	done  chan struct{} // closed when the writer has ended

	// durable is held while a batch is committed, so that no reader sees what is not yet on disk.
	durable sync.RWMutex
	// room refuses writes while the disk is nearly full. What opening writes is not asked for: a ledger must open
	// on a full disk, and the disk watch holds back what that takes.
	room   func() error
	opened atomic.Bool
	// broken is set once a commit failed: what is on disk is then unknown until the directory is opened again.
	broken atomic.Bool
	// changes counts what office changed; admitted remembers keys that were in force after so many.
	changes  atomic.Uint64
	admitted sync.Map // SHA-256 of a secret -> admission
	// open is held by readers, so that Close waits for them.
	open   sync.RWMutex
	closed bool
}

var (
	_ answer.Ledger   = (*Ledger)(nil)
	_ answer.Releases = (*Ledger)(nil)
	_ answer.Policies = (*Ledger)(nil)
	_ office.Book     = (*Ledger)(nil)
)

// Options are a ledger's surroundings. Zero values mean the defaults.
type Options struct {
	Clock func() time.Time // default time.Now
	Log   *slog.Logger     // gets the storage engine's warnings; default none
	// Lease is how long an attempt to answer may run before another one may take over; default 2 minutes.
	Lease  time.Duration
	Limits Limits
	// Room refuses, with an error for the caller, whatever would be written while the disk has too little room.
	// It is asked for every batch and must be quick. Default: there is always room.
	Room func() error
}

// Limits are the sizes beyond which the ledger refuses. Zero values mean the defaults.
type Limits struct {
	Waiting      int   // writes that wait for the writer; further ones wait outside until their context ends. Default 1024
	ChargeBlocks int   // of one charge. Default 400
	LoadBlocks   int   // of one load. Default 2400: two centuries of months
	ReleaseBytes int64 // of one encoded release. Default 256 MiB
	Page         int   // entries of one page of a list. Default 1000
}

const defaultLease = 2 * time.Minute

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	orDefault(&o.Lease, defaultLease)
	orDefault(&o.Limits.Waiting, 1024)
	orDefault(&o.Limits.ChargeBlocks, 400)
	orDefault(&o.Limits.LoadBlocks, 2400)
	orDefault(&o.Limits.ReleaseBytes, 256<<20)
	orDefault(&o.Limits.Page, 1000)
	return o
}

func orDefault[T ~int | ~int64](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// Open opens the ledger in dir, and makes it where there is none. It fails where another process holds dir.
func Open(dir string, o Options) (*Ledger, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the ledger's directory: %w", err)
	}
	db, err := badger.Open(engineOptions(dir, o.Log))
	if err != nil {
		return nil, fmt.Errorf("opening the ledger's database: %w", err)
	}
	l := &Ledger{
		db: db, dir: &directory{path: dir}, clock: o.Clock, log: o.Log, lease: o.Lease, limits: o.Limits, room: o.Room,
		queue: make(chan *request, o.Limits.Waiting), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.dir.sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("syncing the ledger's directory: %w", err), db.Close())
	}
	go l.run()
	if err := l.begin(context.Background()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.opened.Store(true)
	return l, nil
}

// The sizes of the storage engine. The ledger is small and hot; what matters is that each write is synced.
const (
	memtableBytes = 8 << 20
	cacheBytes    = 16 << 20
	// thresholdBytes keeps every value out of the value log, whose sync errors Badger only logs.
	thresholdBytes = 1 << 20
	// maxRequest and maxBatch bound one request's and one transaction's bytes, below Badger's own bound of
	// 15 % of the memtable.
	maxRequest = 768 << 10
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
		WithChecksumVerificationMode(options.OnTableAndBlockRead).
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

// begin checks that the format is ours, counts this opening and removes what an ended process left behind.
func (l *Ledger) begin(ctx context.Context) error {
	err := l.write(ctx, func(tx *tx) error {
		m, found, err := load[metaRecord](tx, metaKey())
		if err != nil {
			return err
		}
		if !found {
			m.Format = format
		}
		if m.Format != format {
			return fmt.Errorf("the ledger has format %d and this version of discreet reads %d: run the version that wrote it", m.Format, format)
		}
		m.Openings++
		l.opening = m.Openings
		return save(tx, metaKey(), m)
	})
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if err := l.sweep(ctx); err != nil {
		return fmt.Errorf("removing unfinished releases: %w", err)
	}
	return nil
}

// Pair binds the ledger to the secrets that its data was written with, by their fingerprint: the first call
// keeps it, and later ones fail under another, for the same customer would then count twice.
func (l *Ledger) Pair(ctx context.Context, fingerprint [32]byte) error {
	return l.write(ctx, func(tx *tx) error {
		m, _, err := load[metaRecord](tx, metaKey())
		if err != nil {
			return err
		}
		switch string(m.Secrets) {
		case string(fingerprint[:]):
			return nil
		case "":
			m.Secrets = fingerprint[:]
			return save(tx, metaKey(), m)
		}
		return errors.New("the secrets file is not the one that this ledger's data was written with: restore it from the backup of this installation")
	})
}

// Close ends the ledger. Writes that wait are refused; the one that is being committed ends first.
func (l *Ledger) Close() error {
	l.open.Lock()
	defer l.open.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.changes.Add(1)
	close(l.quit)
	<-l.done
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("closing the ledger's database: %w", err)
	}
	return nil
}
