package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// State is what a ledger's witness makes of it.
type State string

// The states. In every one but StateOK the ledger takes no write but a write-off, and can be read.
const (
	StateOK      State = "ok"
	StateBehind  State = "behind"  // the ledger is shorter than it was: entries were lost or an older copy was restored
	StateFork    State = "fork"    // the ledger is not the one that the witness saw: two copies were written to
	StateMissing State = "missing" // there is no witness
	StateDamaged State = "damaged" // the witness cannot be read
	StateMoved   State = "moved"   // something else wrote or replaced the witness while the ledger was open
)

// Status is what a ledger says of itself.
type Status struct {
	State   State
	Reason  string // why it refuses and the way out; empty for StateOK
	ID      string
	Length  uint64            // number of the last durable entry
	Head    [sha256.Size]byte // hash of that
	Witness string            // path
}

// Status returns the ledger's state and the head of its chain.
func (l *Ledger) Status() Status {
	l.durable.RLock()
	defer l.durable.RUnlock()
	s := Status{State: StateOK, ID: l.id.String(), Length: l.head.length, Head: l.head.hash, Witness: l.witnessPath}
	if r := l.refusal.Load(); r != nil {
		s.State, s.Reason = r.state, r.message()
	}
	return s
}

// Ready returns nil while the ledger takes writes, else a dp.Error with CodeUnavailable that says why not.
func (l *Ledger) Ready(ctx context.Context) error {
	if r := l.refusal.Load(); r != nil {
		return r.err()
	}
	return l.read(ctx, func(view) error { return nil })
}

// refusal is why the ledger takes no writes.
type refusal struct {
	state State
	cause string
	saw   testimony // of the witness; zero where it said nothing
}

func (r *refusal) message() string {
	const writeOff = "an officer writes off as spent what may be missing (discreet budget write-off)"
	out := "restore the newest copy of the ledger, or if there is none, " + writeOff
	switch r.state {
	case StateMissing:
		out = "bring it back or say where it is (--witness), or if it is lost, " + writeOff
	case StateDamaged:
		out = writeOff
	case StateMoved:
		out = "stop whatever uses a copy of this ledger, and start the service again"
	}
	return "the ledger takes no charges and no changes: " + r.cause + ": " + out
}

func (r *refusal) err() error {
	return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: 10 * time.Minute, Message: r.message()}
}

// refuseWrites puts the ledger in a state in which it takes no writes.
func (l *Ledger) refuseWrites(r *refusal) {
	l.refusal.Store(r)
	l.log.Error("ledger: "+r.message(), "witness", l.witnessPath)
}

// Open opens the ledger in dir, and makes it where there is none. It reads all of it, and compares it with its
// witness: a ledger that fits its witness or is ahead of it is opened; one that is not takes no writes until
// somebody writes off what may be missing (Status, WriteOff).
//
// It fails where another process holds dir or the witness, where the witness is another ledger's, and where what
// the directory holds does not fit together.
func Open(dir string, o Options) (*Ledger, error) {
	o = o.withDefaults()
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); o.Exists && errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone // before a database is made where one is to be restored
	}
	db, err := openEngine(dir, o)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger's database: %w", err)
	}
	l := &Ledger{
		db: db, key: o.Key, dir: &directory{path: dir}, clock: o.Clock, log: o.Log, lease: o.Lease, settleAfter: o.SettleAfter, limits: o.Limits, room: o.Room, events: events{every: o.Gather}, hot: newHot(), exposed: newExposed(),
		queue: make(chan *request, o.Limits.Waiting), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.establish(o); err != nil {
		err = errors.Join(err, db.Close())
		if l.witness != nil {
			err = errors.Join(err, l.witness.close())
		}
		return nil, err
	}
	go l.run()
	if l.refusal.Load() == nil {
		if err := l.begin(context.Background()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	l.opened.Store(true)
	go l.settleOpen()
	return l, nil
}

// establish finds out which ledger this is and whether it is whole, before anything is written.
func (l *Ledger) establish(o Options) error {
	if err := l.dir.sync(); err != nil {
		return fmt.Errorf("syncing the ledger's directory: %w", err)
	}
	known, err := readCreated(l.dir.path)
	if err != nil {
		return err
	}
	r, err := l.inspect()
	if err != nil {
		return fmt.Errorf("checking the ledger: %w", err)
	}
	l.head, l.edge, l.latest = r.head, r.edge, r.latest
	if r.head.length == 0 {
		if known != "" {
			return fmt.Errorf("every entry of the ledger %s is gone: %w", known, errLost)
		}
		if o.Exists {
			return ErrGone
		}
		return l.found(o)
	}
	if known != "" && known != l.id.String() {
		return fmt.Errorf("the file %s names another ledger than the entries do: %w", createdName, errLost)
	}
	if l.restored, err = l.readRestored(); err != nil {
		return err
	}
	l.witnessPath = o.witnessOf(l.dir.path, l.id)
	if err := l.hear(r); err != nil {
		return err
	}
	return l.markCreated(known)
}

// inspect replays the chain and reads the ledger's id.
func (l *Ledger) inspect() (r replayed, err error) {
	defer func() {
		if p := recover(); p != nil { // Badger's, over damaged tables
			err = fmt.Errorf("%v: %w", p, errLost)
		}
	}()
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	m, found, err := load[metaRecord](view{txn}, metaKey())
	if err != nil {
		return r, err
	}
	if found && m.Format != format {
		return r, fmt.Errorf("it has format %d and this version of discreet reads %d: run the version that wrote it", m.Format, format)
	}
	if found { // entries are sealed for the ledger of an id, and one of them says which it is
		if l.id, err = parseID(m.ID); err != nil {
			return r, fmt.Errorf("reading the ledger's id: %w", errLost)
		}
	}
	l.sealEntries()
	if r, err = replay(l.db, l.entries); err != nil || r.head.length == 0 {
		return r, err
	}
	if !found {
		return r, fmt.Errorf("reading the ledger's id: %w", errLost)
	}
	lost, err := lastWriteOff(txn)
	l.lost.Store(lost)
	return r, err
}

// found begins a new ledger. Its witness comes first: if the process ends in between, the next one takes over
// both.
func (l *Ledger) found(o Options) error {
	if _, err := rand.Read(l.id[:]); err != nil {
		return fmt.Errorf("naming the ledger: %w", err)
	}
	l.witnessPath = o.witnessOf(l.dir.path, l.id)
	l.sealEntries()
	var err error
	if l.witness, err = l.openWitness(); err == nil {
		saw, ok := l.witness.newest()
		if !ok || saw.head.length != 0 {
			return fmt.Errorf("the ledger is empty and its witness %s is not: restore the ledger, or to begin a new one move that file away or name another (--witness)", l.witnessPath)
		}
		l.id = saw.id
		l.sealEntries()
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.witness, err = l.newWitness(); err != nil {
		return err
	}
	return l.witness.write(l.id, head{}, l.clock())
}

// hear compares the ledger with what its witness says.
func (l *Ledger) hear(r replayed) error {
	w, err := l.openWitness()
	if errors.Is(err, fs.ErrNotExist) {
		l.refuseWrites(&refusal{state: StateMissing, cause: "its witness is not where it should be, so that entries may be missing"})
		return nil
	}
	if err != nil {
		return err
	}
	l.witness = w
	saw, ok := w.newest()
	if !ok {
		l.refuseWrites(&refusal{state: StateDamaged, cause: "its witness is damaged, so that entries may be missing"})
		return nil
	}
	if saw.id != l.id {
		return fmt.Errorf("the witness %s is that of the ledger %s, and this is the ledger %s: name its own (--witness)", l.witnessPath, saw.id, l.id)
	}
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	if answered, err := writtenOffSince(txn, r, saw.head); err != nil || answered {
		return err
	}
	if saw.head.length > l.head.length {
		l.refuseWrites(&refusal{state: StateBehind, saw: saw,
			cause: fmt.Sprintf("it has %d entries and its witness saw %d, so that entries were lost or an older copy was restored", l.head.length, saw.head.length)})
		return nil
	}
	hash, err := hashAt(txn, l.entries, saw.head.length)
	if err != nil {
		return err
	}
	if hash != saw.head.hash {
		l.refuseWrites(&refusal{state: StateFork, saw: saw,
			cause: fmt.Sprintf("its entry %d is not the one that its witness saw, so that two copies of the ledger were written to", saw.head.length)})
	}
	return nil
}

// openWitness opens the ledger's witness. One that a service wrote before the ledger was restored under this key may have no
// code yet, or another key's.
func (l *Ledger) openWitness() (*witness, error) {
	w, err := openWitness(l.witnessPath)
	if err == nil {
		w.code, w.strange = l.key.Derive(sealWitness), l.noted
	}
	return w, err
}

func (l *Ledger) newWitness() (*witness, error) {
	w, err := newWitness(l.witnessPath)
	if err == nil {
		w.code = l.key.Derive(sealWitness)
	}
	return w, err
}

// takeWitness holds the witness that the path names, making it where there is none, so that it can be set anew. Where
// it fails, the one that was held so far is still held.
func (l *Ledger) takeWitness() error {
	if l.witness != nil {
		taken, err := l.witness.retake(l.id)
		if taken || err != nil {
			return untakeable(err)
		}
	}
	w, err := l.openWitness()
	if errors.Is(err, fs.ErrNotExist) {
		w, err = l.newWitness()
	}
	if err != nil {
		return untakeable(err)
	}
	if saw, ok := w.newest(); ok && saw.id != l.id {
		return errors.Join(untakeable(errWitnessOfAnother), w.close())
	}
	if l.witness != nil {
		if err := l.witness.close(); err != nil {
			l.log.Warn("ledger: letting go of the old witness", "error", err)
		}
	}
	l.witness = w
	return nil
}

// untakeable says why a witness cannot be set anew, and what to do.
func untakeable(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWitnessHeld):
		return refuse(dp.CodeConflict, "another discreet holds this ledger's witness: stop it before anything is written off")
	case errors.Is(err, errWitnessOfAnother):
		return refuse(dp.CodeConflict, "the witness is another ledger's: name this one's own (--witness)")
	}
	return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Minute, Err: err,
		Message: "the witness cannot be written to: see to its disk and directory before anything is written off"}
}

// begin counts this opening and removes what an ended process left behind.
func (l *Ledger) begin(ctx context.Context) error {
	created := l.head.length == 0
	unfinished, err := l.unfinished(ctx)
	if err != nil {
		return fmt.Errorf("finding unfinished releases: %w", err)
	}
	err = l.write(ctx, func(tx *tx) error {
		tx.kind = entryOpen
		switch {
		case created:
			tx.kind = entryCreate
		case l.restored != nil:
			tx.kind = entryRestore
		}
		return l.countOpening(tx)
	})
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if created {
		if err := l.markCreated(""); err != nil {
			return err
		}
	}
	if err := l.sweep(ctx, unfinished); err != nil {
		return err
	}
	return l.settle(ctx)
}

// countOpening makes every attempt of earlier openings a dead one. The entry that does is the first one since the ledger
// was opened, and says where it was restored from, too.
func (l *Ledger) countOpening(tx *tx) error {
	m, _, err := load[metaRecord](tx, metaKey())
	if err != nil {
		return err
	}
	m.Format, m.ID = format, l.id.String()
	m.Openings++
	tx.opens = m.Openings
	if err := l.recordRestore(tx); err != nil {
		return err
	}
	return save(tx, metaKey(), m)
}

// Pair binds the ledger to the secrets that its data was written with, by their fingerprint: the first call
// keeps it, and later ones fail under another, for the same customer would then count twice.
func (l *Ledger) Pair(ctx context.Context, fingerprint [32]byte) error {
	var m metaRecord
	err := l.read(ctx, func(v view) (err error) {
		m, _, err = load[metaRecord](v, metaKey())
		return err
	})
	if err == nil && len(m.Secrets) == 0 {
		err = l.write(ctx, func(t *tx) error {
			t.kind = entryPair
			if m, _, err = load[metaRecord](t, metaKey()); err != nil || len(m.Secrets) > 0 {
				return err
			}
			m.Secrets = fingerprint[:]
			return save(t, metaKey(), m)
		})
	}
	if err != nil {
		return fmt.Errorf("binding the ledger to its secrets: %w", err)
	}
	if string(m.Secrets) != string(fingerprint[:]) {
		return errors.New("the secrets file is not the one that this ledger's data was written with: restore it from the backup of this installation")
	}
	return nil
}

// ledgerID tells one ledger from another: 128 random bits.
type ledgerID [16]byte

func (id ledgerID) String() string { return hex.EncodeToString(id[:]) }

func parseID(text string) (id ledgerID, err error) {
	if len(text) != hex.EncodedLen(len(id)) {
		return id, errDamaged
	}
	_, err = hex.Decode(id[:], []byte(text))
	return id, err
}

func (o Options) witnessOf(dir string, id ledgerID) string {
	switch {
	case o.Witness != "":
		return o.Witness
	case o.WitnessDir != "":
		return filepath.Join(o.WitnessDir, id.String()+".witness")
	default:
		return filepath.Clean(dir) + ".witness"
	}
}

// createdName is the file that says that the ledger was created: with it, an empty database is one that lost
// everything.
const createdName = "created"

// readCreated returns the id in that file; empty where there is none.
func readCreated(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, createdName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the ledger's id: %w", err)
	}
	id, whole := strings.CutSuffix(string(text), "\n")
	if _, err := parseID(id); err != nil || !whole {
		return "", fmt.Errorf("the file %s of the ledger does not hold an id: %w", createdName, errLost)
	}
	return id, nil
}

// markCreated writes that file where it is not known to be there.
func (l *Ledger) markCreated(known string) error {
	if known != "" {
		return nil
	}
	if err := l.writeCreated(); err != nil {
		return fmt.Errorf("writing down the ledger's id: %w", err)
	}
	return nil
}

func (l *Ledger) writeCreated() error {
	file, err := os.CreateTemp(l.dir.path, createdName+".*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(l.id.String() + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), filepath.Join(l.dir.path, createdName)); err != nil {
		return err
	}
	return durable.SyncDir(l.dir.path)
}
