// Package disk keeps a full disk from ending the process or losing what was acknowledged. It watches the room of
// one file system, refuses writes early, holds a reserve file, and gives every file that the storage engine maps
// its blocks before it is written to. It never looks into a file and knows nothing of what is stored.
//
// # Why a full disk kills
//
// Badger (v4.9.6) writes through shared mappings of sparse files: z.OpenMmapFileUsing of ristretto v2.2.0 makes a
// file longer with ftruncate, maps it, and copies into it. A page of a mapping that has no block and gets none
// is SIGBUS, which Go cannot turn into an error. There is no option against it. The files, by who makes them:
//
//	NNNNN.mem       memtable.go   mapped at 2*MemTableSize; rotated once MemTableSize is written (isFull), and one
//	                              transaction of at most 15 % of it follows, so 5/8 of the mapping is ever written
//	NNNNNN.sst      table.go      mapped at its size: a flushed memtable at every rotation, at Close, and at Open of
//	                              what a killed process left; and compactions, whenever Badger sees fit
//	NNNNNN.vlog     value.go      mapped at 2*ValueLogFileSize; a new one at every Open
//	DISCARD         discard.go    mapped at 1 MiB
//	MANIFEST        manifest.go   appended to by write; after a failed append Badger's memory and its file differ
//	KEYREGISTRY     written once, by write and rename
//	LOCK            the process number, by write, at every Open ([Watch.OpenEngine])
//
// # What is done about it
//
// First, [Guard.Room] refuses writes while the disk still has room: what Badger has begun can end, and other
// programs can go on. Both limits are 16 times the default memtable of who asks (ledger 8 MiB, rows 64 MiB),
// which holds a rotation (old table, new log) and a compaction of the first level (5 to 15 memtables).
//
// That alone only makes it unlikely: another program can take any room in one call. So second, while a
// [Watch] is open, whatever file under its directory is mapped for writing has its blocks allocated first (see
// mapping_linux.go); where there are none left, they are taken from the reserve file, a MiB at a time. If that
// is used up too, mapping fails with an error, which Badger returns or retries, and never with a signal.
// MANIFEST gets room for further entries at the same time.
//
// The reserve (256 MiB by default) therefore suffices for what Badger must write when no write is admitted any
// more: of the ledger a table of at most 10 MiB at Close and, at the next Open, a log of 10 MiB and a value log
// of 4 MiB; of the rows 80 MiB each for table and log, and again 4 MiB. It is made whole again as soon as there
// is room, and before writes are admitted again.
//
// A new file's name is synced at the same time, which Badger forgets for the tables that it writes out of memory.
//
// What it does not see: a quota of the user below that of the file system. On systems other than Linux there is
// neither watch nor reserve.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// Watch guards the file system of one directory. It is safe for concurrent use.
type Watch struct {
	dir     string // absolute, without symbolic links
	options Options
	system  system

	mu   sync.Mutex
	file *os.File // the reserve; nil where the file system cannot allocate
	held int64    // bytes of it

	quit, done chan struct{}
	unwatch    func()
}

// Options are the sizes of a watch. Zero values mean the defaults.
type Options struct {
	// Keep is how much room in bytes rows leave free: loads are refused below it, and whatever the ledger writes
	// below an eighth of it, so that questions go on when loads have filled the disk. Default 1 GiB.
	Keep int64
	// Reserve is the size of the reserve file in bytes. Default 256 MiB.
	Reserve int64
	// Every is how often the watch looks by itself; default one second. Guards look before every write.
	Every time.Duration
	Log   *slog.Logger // default none
}

const (
	defaultKeep    = 1 << 30
	defaultReserve = 256 << 20
	ledgerShare    = 8 // the ledger keeps Keep/ledgerShare

	// reserveName is the file in the watched directory.
	reserveName = "reserve"
	// step is how much the reserve gives or takes at once.
	step = 1 << 20
	// openAttempts is how often an engine is opened on a full disk.
	openAttempts = 50
)

func (o Options) withDefaults() Options {
	if o.Keep <= 0 {
		o.Keep = defaultKeep
	}
	if o.Reserve <= 0 {
		o.Reserve = defaultReserve
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// system is what a watch needs of the operating system.
type system interface {
	// free is how many bytes a file system has left for this user.
	free(dir string) (int64, error)
	// allocate gives a range of a file its blocks without changing its length or content.
	allocate(fd int, from, length int64) error
	// allocated is how many bytes of blocks a file has.
	allocated(fd int) (int64, error)
	// release takes all blocks back from a file that holds nothing yet.
	release(fd int, length int64) error
}

// Open begins to guard the file system of dir, which is made where there is none. It must be open before any
// storage engine is opened below dir, and closed after all of them. The error is durable.ErrHeld while another
// process watches dir.
func Open(dir string, o Options) (*Watch, error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	w := &Watch{dir: real, options: o.withDefaults(), system: newSystem(), quit: make(chan struct{}), done: make(chan struct{})}
	if err := w.openReserve(); err != nil {
		return nil, fmt.Errorf("opening the disk reserve: %w", err)
	}
	if w.unwatch, err = watchMappings(w); err != nil {
		return nil, errors.Join(err, w.closeReserve())
	}
	go w.run()
	return w, nil
}

// Close ends the watch. What is missing of the reserve is taken from what the closed storage engines gave
// back, so that the next Open finds it.
func (w *Watch) Close() error {
	close(w.quit)
	<-w.done
	w.unwatch()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fill()
	if err := w.closeReserve(); err != nil {
		return fmt.Errorf("closing the disk reserve: %w", err)
	}
	return nil
}

// OpenEngine opens the storage engine of dir by calling open, also where there is no room at all: of what Badger
// then writes without mapping it, only LOCK is not there yet. It is given its block here, so that Badger, which
// empties it and writes it again, gives that block away for microseconds only; where another program was
// faster all the same, it is tried again.
func (w *Watch) OpenEngine(dir string, open func() error) error {
	if err := durable.MakeDir(dir); err != nil && !IsFull(err) {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := w.ensureLock(filepath.Join(dir, "LOCK"))
		if err == nil {
			err = open()
		}
		if !IsFull(err) || attempt == openAttempts || !w.ease() {
			return err
		}
	}
}

// ensureLock makes a file of one byte, where there is none. Its content is for people: it names the process.
func (w *Watch) ensureLock(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() == 0 {
		_, err = file.WriteString("\n")
	}
	return errors.Join(err, file.Close())
}

// ease gives a little of the reserve back for small writes, and tells whether there was any.
func (w *Watch) ease() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.give(step)
}

// IsFull tells whether an error is for want of room. Badger tells so only in words.
func IsFull(err error) bool {
	return err != nil && (errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()))
}

// Ledger guards writes of the ledger, and Rows those of loads.
func (w *Watch) Ledger() *Guard {
	return &Guard{watch: w, what: "ledger", least: w.options.Keep / ledgerShare}
}

// Rows guards writes of loads.
func (w *Watch) Rows() *Guard { return &Guard{watch: w, what: "rows", least: w.options.Keep} }

// Guard refuses writes of one kind while there is little room. It is safe for concurrent use.
type Guard struct {
	watch *Watch
	what  string
	least int64

	mu       sync.Mutex
	refusing bool
}

// retryAfter is what refused callers are told. Somebody has to free space first.
const retryAfter = 30 * time.Second

// Room returns a *dp.Error of CodeUnavailable while nothing may be written. It recovers once there is an eighth
// more room than it asks for, so that a limit is not crossed with every write, and the reserve is whole.
func (g *Guard) Room() error {
	free, err := g.watch.system.free(g.watch.dir)
	if err != nil {
		return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: retryAfter, Err: err,
			Message: "nothing can be written, because the room on the disk of the data cannot be found out: ask the operator to look at that disk; what was answered can be read"}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	least := g.least
	if g.refusing {
		least += g.least / 8
	}
	if refuse := free < least || !g.watch.whole(free); refuse != g.refusing {
		g.refusing = refuse
		if refuse {
			g.watch.options.Log.Warn("disk: little room, writes are refused", "of", g.what, "free", free, "least", g.least)
		} else {
			g.watch.options.Log.Info("disk: there is room again, writes go on", "of", g.what, "free", free)
		}
	}
	if g.refusing {
		return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: retryAfter,
			Message: "the disk of the data is nearly full, so nothing is written to it: free space there, or ask the operator to, and ask again; nothing that was acknowledged is lost, and what was answered can be read"}
	}
	return nil
}

// run makes the reserve whole again even where nobody writes.
func (w *Watch) run() {
	defer close(w.done)
	tick := time.NewTicker(w.options.Every)
	defer tick.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-tick.C:
			if free, err := w.system.free(w.dir); err == nil {
				w.whole(free)
			}
		}
	}
}

// whole tells whether all of the reserve is there, and makes it so where that leaves the ledger its room.
func (w *Watch) whole(free int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return true
	}
	missing := w.options.Reserve - w.held
	if missing > 0 && free-missing >= w.options.Keep/ledgerShare {
		w.fill()
		missing = w.options.Reserve - w.held
	}
	return missing <= 0
}

func (w *Watch) openReserve() error {
	file, err := os.OpenFile(filepath.Join(w.dir, reserveName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) { // a first start: there is nothing that could be given back
			return fmt.Errorf("the disk is full: free space on it: %w", err)
		}
		return err
	}
	w.file = file
	// The reserve is that of the process that holds it, and is neither cut nor filled by another.
	if err := durable.Hold(file); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(err, w.closeReserve())
	}
	if w.held, err = w.system.allocated(int(file.Fd())); err != nil {
		return errors.Join(err, w.closeReserve())
	}
	if w.held > w.options.Reserve {
		w.give(w.held - w.options.Reserve)
	}
	free, err := w.system.free(w.dir)
	if err != nil {
		return errors.Join(err, w.closeReserve())
	}
	w.whole(free)
	return nil
}

func (w *Watch) closeReserve() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

// fill takes blocks until the reserve is whole or there are none. The caller holds mu.
func (w *Watch) fill() {
	for w.file != nil && w.held < w.options.Reserve {
		err := w.system.allocate(int(w.file.Fd()), w.held, min(step, w.options.Reserve-w.held))
		switch {
		case err == nil:
			w.held = min(w.held+step, w.options.Reserve)
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, errors.ErrUnsupported):
			w.options.Log.Warn("disk: this file system cannot allocate blocks ahead; a full disk may end the process", "error", err)
			_ = w.file.Close() // it is empty
			w.file = nil
		default:
			return
		}
	}
}

// give gives bytes of the reserve back to the file system, and tells whether there were any. The caller holds mu.
func (w *Watch) give(bytes int64) bool {
	if w.file == nil || w.held == 0 {
		return false
	}
	left := max(0, w.held-bytes)
	// The reserve is kept beyond the file's end, where cutting it to a length that it has already frees all of
	// it; so it is made as long as what shall stay, and then cut there.
	if err := errors.Join(w.file.Truncate(left+1), w.file.Truncate(left)); err != nil {
		w.options.Log.Error("disk: the reserve cannot be given back", "error", err)
		return false
	}
	w.held = left
	return true
}

// provide gives the first bytes of a file of a storage engine their blocks, those of the reserve if there are
// no others.
func (w *Watch) provide(fd int, from, length int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := from; at < from+length; {
		err := w.system.allocate(fd, at, min(step, from+length-at))
		switch {
		case err == nil:
			at += step
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, errors.ErrUnsupported):
			return nil // which fill has warned of
		case errors.Is(err, syscall.ENOSPC) && w.give(step):
		default:
			return err
		}
	}
	return nil
}
