// Package ledger owns the durable account of what was spent and of all that decides it: policies, loads and
// block versions, budgets, charges, releases, consumers and keys, in one Badger database, so that a change and
// its record are one transaction.
//
// Every write goes through one writer (writer.go), which groups what waits into a transaction that is synced
// before any of it is acknowledged. Every write is an entry of a hash chain (chain.go), and a leaf of a Merkle tree
// over it (merkle.go), by which whoever audits is shown what stands in it (audit.go). The chain's head is kept by a
// witness outside of the ledger's directory too, before a write is acknowledged (witness.go): a ledger that lost
// entries is noticed when it is opened and refuses to be written to (open.go). What is written is append-only
// or counts upwards: spent losses never shrink, numbers and names are never reused, releases never change.
//
// The package never reads a row, never computes a price or noise, and never keeps a key's secret. It
// implements the Ledger, Releases and Policies of dp/answer and the Book of dp/office. The bytes are described
// in store/FORMAT.md.
package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// Ledger is an open ledger. It is safe for concurrent use; one process at a time can hold a directory.
type Ledger struct {
	db          *badger.DB
	dir         *directory
	clock       func() time.Time
	log         *slog.Logger
	lease       time.Duration
	settleAfter time.Duration
	limits      Limits
	opening     uint64 // counts how often the directory was opened; attempts of earlier openings are dead. 0: not durable yet
	id          ledgerID

	restored *Restored // what it was restored from, until an entry says so; the writer's, once it runs
	noted    bool      // there is a note of that

	summaries   summaries
	exposed     exposed
	hot         *hot // the writer's
	witnessPath string
	key         *secrets.Key // nil: nothing is encrypted
	entries     *entrySeal
	witness     *witness // the writer's, once it runs; nil where none is held

	queue chan *request
	quit  chan struct{} // closed when no more requests are taken
	done  chan struct{} // closed when the writer has ended

	// durable is held while a batch is committed, so that no reader sees what is not yet on disk.
	durable sync.RWMutex
	// room refuses writes while the disk is nearly full. What opening writes is not asked for: a ledger must open
	// on a full disk, and the disk watch holds back what that takes.
	room   func() error
	opened atomic.Bool
	// head is where the durable chain ends. The writer changes it while it holds durable.
	head   head
	edge   edge      // of the tree over the durable entries; the writer's
	latest time.Time // of all entries, as the ledger was opened
	// lost is the number of the last write-off, 0 without one: charges before it that had no outcome may have had
	// one in what was lost, and get none any more.
	lost atomic.Uint64
	// refusal is set while nothing but a write-off is written.
	refusal atomic.Pointer[refusal]
	// broken is set once a commit failed: what is on disk is then unknown until the directory is opened again.
	broken atomic.Bool
	// changes counts what office changed; admitted remembers keys that were in force after so many.
	changes  atomic.Uint64
	admitted sync.Map // SHA-256 of a secret -> admission
	// readers are consumers and the datasets whose releases they may read, as it was after so many changes; remembered
	// bounds them. access is what each version of a policy says of it.
	readers    sync.Map // consumer and datasets -> changes
	remembered atomic.Int64
	access     sync.Map // key of the version -> answer.Access
	events     events
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
	// Witness is the path of the file outside of the ledger's directory that knows how long the ledger is; best
	// on another disk, out of the reach of what restores the ledger. Where it is empty, WitnessDir is the
	// directory in which the witness is named after the ledger's id. Default: beside the ledger's directory,
	// under its name and .witness.
	Witness    string
	WitnessDir string
	// Key encrypts the database and authenticates entries and witness. Nil: they are in plain. It is the same whenever a
	// ledger is opened.
	Key *secrets.Key
	// Exists says that there was a ledger, as who finds what is only made after it knows: then none is begun where
	// dir holds no entries, and Open returns ErrGone.
	Exists bool
	// Lease is how long an attempt to answer may run without being renewed before another one may take over;
	// default 2 minutes.
	Lease time.Duration
	// SettleAfter is how long after its charge a question that got no answer may still get one; then it is
	// settled as failed. Default 24 hours.
	SettleAfter time.Duration
	Limits      Limits
	// Gather is for how long events are gathered (Note) before they become one entry; default 1 second.
	Gather time.Duration
	// Room refuses, with an error for the caller, whatever would be written while the disk has too little room.
	// It is asked for every batch and must be quick. Default: there is always room.
	Room func() error
}

// Limits are the sizes beyond which the ledger refuses. Zero values mean the defaults.
type Limits struct {
	Waiting      int           // writes that wait for the writer; further ones wait outside. Default 1024
	Wait         time.Duration // of one write until the writer takes it; then it is refused. Default 5 seconds
	ChargeBlocks int           // of one charge. Default 400
	Datasets     int           // that may be declared, so that a write-off, which is one entry, holds all of them. Default 400
	LoadBlocks   int           // of one load. Default 2400: two centuries of months
	ReleaseBytes int64         // of one encoded release. Default 256 MiB
	Page         int           // entries of one page of a list. Default 1000
	Looked       int           // entries that one page of the log looks at. Default 5000
}

// ErrGone says that a directory which should hold a ledger holds no entry of one.
var ErrGone = errors.New("the ledger is gone")

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
	orDefault(&o.Lease, 2*time.Minute)
	orDefault(&o.SettleAfter, 24*time.Hour)
	orDefault(&o.Gather, time.Second)
	orDefault(&o.Limits.Waiting, 1024)
	orDefault(&o.Limits.Wait, 5*time.Second)
	orDefault(&o.Limits.ChargeBlocks, 400)
	orDefault(&o.Limits.Datasets, 400)
	orDefault(&o.Limits.LoadBlocks, 2400)
	orDefault(&o.Limits.ReleaseBytes, 256<<20)
	orDefault(&o.Limits.Page, 1000)
	orDefault(&o.Limits.Looked, 5000)
	return o
}

func orDefault[T ~int | ~int64](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// Close ends the ledger. Writes that wait are refused; the one that is being committed ends first.
func (l *Ledger) Close() error {
	l.endEvents()
	l.open.Lock()
	defer l.open.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.changes.Add(1)
	close(l.quit)
	<-l.done
	var errs []error
	if err := l.db.Close(); err != nil {
		errs = append(errs, fmt.Errorf("closing the ledger's database: %w", err))
	}
	if l.witness != nil { // last, so that nobody else begins before the database is closed
		errs = append(errs, l.witness.close())
	}
	return errors.Join(errs...)
}
