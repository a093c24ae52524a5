// Package backup keeps copies of an installation: of its ledger, its secrets and its rows, as they stood at one moment,
// each in a file that only its recipients can read, and beside them a list of who was erased, so that nobody comes back
// with an older copy. It makes them while the service runs, on demand and each day, and reads them for whoever restores
// one. store/FORMAT.md describes the files.
//
// It never opens a database and never sends a backup anywhere: Source gives it what to write.
package backup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// Backup is what became of one backup.
type Backup struct {
	ID        string    `json:"id"`
	State     State     `json:"state"`
	By        string    `json:"by"` // who asked for it; empty: the schedule did
	Begun     time.Time `json:"begun"`
	Ended     time.Time `json:"ended,omitzero"`
	Bytes     int64     `json:"bytes"` // of its file, so far
	Ledger    string    `json:"ledger"`
	Length    uint64    `json:"length"` // of the ledger; 0 until its moment was taken
	Head      string    `json:"head"`   // hexadecimal
	File      string    `json:"file,omitempty"`
	Sum       string    `json:"sha256,omitempty"` // of the file, hexadecimal
	Encrypted bool      `json:"encrypted"`
	Program   string    `json:"program"`
	Request   string    `json:"request,omitempty"` // digest of who asked under which key
	Failure   string    `json:"-"`                 // why there is none
}

// State is how far a backup is.
type State string

// The states.
const (
	Running State = "running"
	Done    State = "done"
	Failed  State = "failed"
)

// Source is what is backed up.
type Source interface {
	// Moment takes ledger and rows as they stand now. It is closed.
	Moment(ctx context.Context) (Moment, error)
}

// Moment is the installation as it stood at one moment: every load that its ledger has committed is whole in its rows,
// and nothing else is in them. What it reads for others waits until it is closed.
type Moment interface {
	Mark() (length uint64, head [sha256.Size]byte)
	Secrets() []byte // a secrets file
	Ledger(each func(key, value []byte) error) error
	Rows(each func(key, body []byte) error) error
	Close()
}

// Options are a keeper's surroundings.
type Options struct {
	Dir        string // of the backups; made where there is none
	Recipients Recipients
	Ledger     string // id of the ledger
	Program    string // version of discreet
	// At is how long after midnight, in UTC, a backup is made each day; negative: none is. Of those, the newest Keep stay;
	// 0: all do.
	At   time.Duration
	Keep int
	// Within is how long one may take, since rows that were merged or erased leave the files only afterwards. Default 2 h.
	Within time.Duration
	// Room refuses while the disk of Dir has too little room. Default: there is always room.
	Room  func() error
	Clock func() time.Time
	Log   *slog.Logger
	// Ended is told of each backup that ended, and may be nil.
	Ended func(Backup)
}

// Keeper makes backups, one at a time. It is safe for concurrent use.
type Keeper struct {
	options Options
	source  Source
	list    *list

	mu      sync.Mutex
	running *Backup
	failed  []Backup // since the server started, the newest first
	retry   time.Time
	stop    context.CancelFunc
	ctx     context.Context
	ongoing sync.WaitGroup
}

const (
	backupSuffix = ".backup"
	ageSuffix    = ".age"
	noteSuffix   = ".json"
	// partial ends the names of files that are being written. Nothing takes them for anything.
	partial = ".partial"
	// mostFailed is how many failures are remembered.
	mostFailed = 20
	// roomEvery is how many bytes are written until the room is looked at again.
	roomEvery = 16 << 20
	// retryAfter is how long after a failure the day's backup is tried again.
	retryAfter = 10 * time.Minute
)

// Open opens a directory of backups, and removes what a process left there that died while it wrote. Backups are made
// once it was started.
func Open(o Options) (*Keeper, error) {
	if o.Within <= 0 {
		o.Within = 2 * time.Hour
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := durable.MakeDir(o.Dir); err != nil {
		return nil, fmt.Errorf("making the directory of backups: %w", err)
	}
	l, err := openList(o.Dir, o.Ledger, o.Recipients, o.Clock().UTC())
	if err != nil {
		return nil, err
	}
	k := &Keeper{options: o, list: l}
	if err := k.removePartial(); err != nil { // the list is held: they are nobody's
		return nil, errors.Join(err, l.close())
	}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k, nil
}

// Start has backups made of a source, and the schedule begin.
func (k *Keeper) Start(source Source) {
	k.mu.Lock()
	k.source = source
	k.mu.Unlock()
	if k.options.At >= 0 {
		k.ongoing.Go(k.schedule)
	}
}

// Close ends a backup that runs, which leaves nothing, and returns once it has ended.
func (k *Keeper) Close() error {
	k.stop()
	k.ongoing.Wait()
	return k.list.close()
}

// Erased lists an erasure, and returns once that is durable.
func (k *Keeper) Erased(e dp.Erasure, customers []uint64) error {
	return k.list.add(Erased{Erasure: e, Customers: customers})
}

// Begin begins a backup, or returns the one that the same caller began under the same key, where there is a key.
//
// Errors: CodeConflict while another one runs.
func (k *Keeper) Begin(by, key string) (Backup, error) {
	request := ""
	if key != "" {
		sum := sha256.Sum256([]byte(by + "\x00" + key))
		request = hex.EncodeToString(sum[:])
		all, err := k.Backups()
		if err != nil {
			return Backup{}, err
		}
		for _, b := range all {
			if b.Request == request && b.State != Failed { // one that failed may be asked for again
				return b, nil
			}
		}
	}
	return k.begin(by, request)
}

func (k *Keeper) begin(by, request string) (Backup, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil || k.source == nil {
		return Backup{}, &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Minute, Message: "the server is starting or stopping: ask again once it runs"}
	}
	if k.running != nil {
		if request != "" && k.running.Request == request {
			return *k.running, nil
		}
		return Backup{}, &dp.Error{Code: dp.CodeConflict, Message: "a backup is being made: wait until it has ended, or use it"}
	}
	b := Backup{ID: newID(k.options.Clock()), State: Running, By: by, Begun: k.options.Clock().UTC().Round(0), Ledger: k.options.Ledger,
		Encrypted: len(k.options.Recipients) > 0, Program: k.options.Program, Request: request}
	k.running = &b
	k.ongoing.Go(func() { k.run(b) })
	return b, nil
}

// newID names a backup by its time, so that names sort by it.
func newID(at time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // it never fails
	return "backup-" + at.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:])
}

// run makes a backup to its end, whatever that is.
func (k *Keeper) run(b Backup) {
	ctx, cancel := context.WithTimeoutCause(k.ctx, k.options.Within, errSlow(k.options.Within))
	defer cancel()
	err := k.make(ctx, &b)
	b.Ended = k.options.Clock().UTC().Round(0)
	if err == nil {
		b.State = Done
		err = k.note(b)
	}
	if err != nil {
		b.State, b.Failure = Failed, failureOf(err)
		k.options.Log.Error("backup: none was made", "id", b.ID, "error", err)
	} else {
		k.options.Log.Info("backup: made", "id", b.ID, "bytes", b.Bytes, "entries", b.Length)
	}
	k.mu.Lock()
	k.running = nil
	if err != nil {
		k.failed = slices.Insert(k.failed, 0, b)
		k.failed = k.failed[:min(len(k.failed), mostFailed)]
		k.retry = k.options.Clock().Add(retryAfter)
	}
	k.mu.Unlock()
	if k.options.Ended != nil {
		k.options.Ended(b)
	}
	if err == nil && b.By == "" {
		if err := k.thin(); err != nil {
			k.options.Log.Error("backup: removing those that are too old", "error", err)
		}
	}
}

func errSlow(within time.Duration) error {
	return fmt.Errorf("it took longer than %s: write to a faster disk", within)
}

// failureOf says why there is no backup: a refusal or what the system said of a file, never what is stored.
func failureOf(err error) string {
	var refused *dp.Error
	var path *fs.PathError
	switch {
	case errors.As(err, &refused):
		return refused.Message
	case errors.As(err, &path):
		return "the directory of backups: " + path.Op + ": " + path.Err.Error()
	case errors.Is(err, context.Canceled):
		return "the server was stopped"
	}
	return err.Error()
}

// make writes the file of a backup: under another name, which it loses when it is whole and synced.
func (k *Keeper) make(ctx context.Context, b *Backup) (err error) {
	if err := k.options.Room(); err != nil {
		return err
	}
	name := b.ID + backupSuffix
	if b.Encrypted {
		name += ageSuffix
	}
	path := filepath.Join(k.options.Dir, name)
	file, err := os.OpenFile(path+partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making a backup's file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path+partial))
		}
	}()
	out := &counted{keeper: k, ctx: ctx, file: file, sum: sha256.New()}
	err = k.write(ctx, b, out)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+partial, path); err != nil {
		return fmt.Errorf("naming a backup: %w", err)
	}
	b.File, b.Bytes, b.Sum = name, out.bytes, hex.EncodeToString(out.sum.Sum(nil))
	return durable.SyncDir(k.options.Dir)
}

// write has what is stored go through a pipe, so that a disk that hangs keeps nobody waiting beyond the time that a
// backup has: the moment is let go of then, whatever the disk does.
func (k *Keeper) write(ctx context.Context, b *Backup, out io.Writer) error {
	from, to := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		to.CloseWithError(k.archive(ctx, b, to))
	}()
	defer context.AfterFunc(ctx, func() { from.CloseWithError(context.Cause(ctx)) })()
	sealed, err := k.options.Recipients.seal(out)
	if err == nil {
		_, err = io.CopyBuffer(sealed, struct{ io.Reader }{from}, make([]byte, 1<<18))
	}
	if err == nil {
		err = sealed.Close()
	}
	from.CloseWithError(err) // whoever writes gives up
	<-ended
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// archive writes what is stored at one moment.
func (k *Keeper) archive(ctx context.Context, b *Backup, out io.Writer) error {
	head := Head{Format: format, Program: b.Program, ID: b.ID, Ledger: b.Ledger}
	// The list comes before the moment: an erasure that the list has by then may be in what is stored or not.
	head.Listed, head.Since = k.list.state()
	moment, err := k.source.Moment(ctx)
	if err != nil {
		return err
	}
	defer moment.Close()
	length, hash := moment.Mark()
	head.Length, head.Head, head.Created = length, hash[:], k.options.Clock().UTC().Round(0)
	b.Length, b.Head = length, hex.EncodeToString(hash[:])
	k.progress(func(now *Backup) { now.Length, now.Head = b.Length, b.Head })

	a, err := newArchiver(out, head)
	if err == nil {
		err = a.secrets(moment.Secrets())
	}
	if err == nil {
		err = moment.Ledger(func(key, value []byte) error { return errors.Join(context.Cause(ctx), a.ledger(key, value)) })
	}
	if err == nil {
		err = moment.Rows(func(key, body []byte) error { return errors.Join(context.Cause(ctx), a.rows(key, body)) })
	}
	if err == nil {
		err = a.close()
	}
	return err
}

// counted writes to a backup's file, and looks from time to time whether there is room.
type counted struct {
	keeper *Keeper
	ctx    context.Context
	file   *os.File
	sum    hash.Hash
	bytes  int64
	looked int64 // bytes when the room was looked at
}

func (c *counted) Write(data []byte) (int, error) {
	if c.bytes-c.looked >= roomEvery {
		if err := c.keeper.options.Room(); err != nil {
			return 0, err
		}
		c.looked = c.bytes
	}
	n, err := c.file.Write(data)
	c.sum.Write(data[:n])
	c.bytes += int64(n)
	c.keeper.progress(func(now *Backup) { now.Bytes = c.bytes })
	return n, err
}

// progress notes how far the one that runs is.
func (k *Keeper) progress(note func(*Backup)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running != nil {
		note(k.running)
	}
}

// note writes what a backup is beside it, in plain: who cannot read the one can know the other.
func (k *Keeper) note(b Backup) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the note of a backup: %w", err)
	}
	path := filepath.Join(k.options.Dir, b.ID+noteSuffix)
	file, err := os.OpenFile(path+partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the note of a backup: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(path+partial, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the note of a backup: %w", err), os.Remove(path+partial))
	}
	return durable.SyncDir(k.options.Dir)
}

// Backups lists the backups of this ledger in the directory, the one that runs, and those that failed since the server
// started, the newest first.
func (k *Keeper) Backups() ([]Backup, error) {
	k.mu.Lock()
	all := slices.Clone(k.failed)
	if k.running != nil {
		all = append(all, *k.running)
	}
	k.mu.Unlock()
	notes, err := k.notes()
	if err != nil {
		return nil, err
	}
	for _, b := range notes {
		if !slices.ContainsFunc(all, func(other Backup) bool { return other.ID == b.ID }) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b Backup) int { return strings.Compare(b.ID, a.ID) })
	return all, nil
}

// notes gives the backups whose notes and files are there.
func (k *Keeper) notes() (all []Backup, err error) {
	paths, err := filepath.Glob(filepath.Join(k.options.Dir, "backup-*"+noteSuffix))
	if err != nil {
		return nil, fmt.Errorf("listing backups: %w", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // it was removed since
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing backups: %w", err)
		}
		var b Backup
		if json.Unmarshal(text, &b) != nil || b.ID+noteSuffix != filepath.Base(path) || b.Ledger != k.options.Ledger || b.File != filepath.Base(b.File) {
			continue // it is none of ours
		}
		if _, err := os.Stat(filepath.Join(k.options.Dir, b.File)); err == nil {
			all = append(all, b)
		}
	}
	return all, nil
}

// ListFile is the name of the list of erasures in the directory.
func (k *Keeper) ListFile() string { return ListName(k.options.Ledger) }

// removePartial removes what was never finished.
func (k *Keeper) removePartial() error {
	files, err := os.ReadDir(k.options.Dir)
	if err != nil {
		return fmt.Errorf("looking through the directory of backups: %w", err)
	}
	for _, f := range files {
		ours := strings.HasPrefix(f.Name(), "backup-") || strings.HasPrefix(f.Name(), ListName(k.options.Ledger))
		if !ours || !strings.HasSuffix(f.Name(), partial) {
			continue
		}
		if err := os.Remove(filepath.Join(k.options.Dir, f.Name())); err != nil {
			return fmt.Errorf("removing a backup that was never finished: %w", err)
		}
	}
	return nil
}

// thin removes the oldest of the day's backups. Those that somebody asked for stay.
func (k *Keeper) thin() error {
	if k.options.Keep <= 0 {
		return nil
	}
	all, err := k.notes()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(b Backup) bool { return b.By != "" })
	slices.SortFunc(all, func(a, b Backup) int { return strings.Compare(b.ID, a.ID) })
	for _, b := range all[min(len(all), k.options.Keep):] {
		// The note goes last: what it names may still have to go.
		for _, name := range []string{b.File, b.ID + noteSuffix} {
			if err := os.Remove(filepath.Join(k.options.Dir, name)); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(k.options.Dir)
}

// schedule makes the day's backup at its hour, or later where the process was down then or it failed.
func (k *Keeper) schedule() {
	for {
		if k.due() {
			if _, err := k.begin("", ""); err != nil && k.ctx.Err() == nil {
				var refused *dp.Error
				if !errors.As(err, &refused) { // one that somebody asked for runs
					k.options.Log.Error("backup: the day's backup could not begin", "error", err)
				}
			}
		}
		select {
		case <-time.After(time.Minute):
		case <-k.ctx.Done():
			return
		}
	}
}

// due tells whether no backup was made by the schedule since its hour.
func (k *Keeper) due() bool {
	now := k.options.Clock().UTC()
	k.mu.Lock()
	wait := k.running != nil || now.Before(k.retry)
	k.mu.Unlock()
	if wait {
		return false
	}
	all, err := k.notes()
	if err != nil {
		k.options.Log.Error("backup: looking for the day's backup", "error", err)
		return false
	}
	last := now.Truncate(24 * time.Hour).Add(k.options.At)
	if last.After(now) {
		last = last.Add(-24 * time.Hour)
	}
	return !slices.ContainsFunc(all, func(b Backup) bool { return b.By == "" && !b.Begun.Before(last) })
}
