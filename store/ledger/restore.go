package ledger

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// Restored says which backup a ledger was restored from. The first entry after that holds it.
type Restored struct {
	At      time.Time // when it was restored
	Backup  string    // id of the backup
	Created time.Time // when the backup was made
	Length  uint64    // of the ledger in it
	Head    []byte
	Program string // version of discreet that restored it
}

// Restoration is a ledger that is being restored from a backup.
type Restoration struct {
	dir   string
	key   *secrets.Key
	seal  *entrySeal
	db    *badger.DB
	batch *badger.WriteBatch
}

// Restore begins a ledger of an id in a new directory, from what a Snapshot held. Of the options, the key counts.
func Restore(dir, id string, o Options) (*Restoration, error) {
	o = o.withDefaults()
	parsed, err := parseID(id)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's id: %w", errLost)
	}
	db, err := openEngine(dir, o)
	if err != nil {
		return nil, fmt.Errorf("making the ledger's database: %w", err)
	}
	return &Restoration{dir: dir, key: o.Key, seal: newEntrySeal(o.Key, parsed), db: db, batch: db.NewWriteBatch()}, nil
}

// Put takes one key with its value.
func (r *Restoration) Put(key, value []byte) error {
	if len(key) == 0 || len(key) > maxKey {
		return errLost
	}
	value = append([]byte{}, value...)
	if key[0] == kindEntry {
		if len(key) != 1+numberBytes {
			return errLost
		}
		value = r.seal.seal(numberOf(key), value)
	}
	if err := r.batch.Set(append([]byte{}, key...), value); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	return nil
}

// Finish replays what was put, and holds it against what the backup says: that all entries lead to that mark, that the
// ledger has that id, and that its rows were written with those secrets. Nothing of the ledger counts unless it succeeds.
func (r *Restoration) Finish(id string, secrets [32]byte, from Restored) error {
	if err := r.batch.Flush(); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	l := &Ledger{db: r.db, key: r.key, dir: &directory{path: r.dir}}
	replayed, err := l.inspect()
	if err != nil {
		return fmt.Errorf("checking the ledger of the backup: %w", err)
	}
	if replayed.head.length != from.Length || string(replayed.head.hash[:]) != string(from.Head) || l.id.String() != id || len(from.Head) != sha256.Size {
		return errNotSame
	}
	err = viewing(r.db, func(v view) error {
		m, err := mustLoad[metaRecord](v, metaKey())
		if err == nil && string(m.Secrets) != string(secrets[:]) {
			err = errors.New("the secrets of the backup are not those that its rows were written with")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := writeRestored(r.dir, from, r.key); err != nil {
		return fmt.Errorf("writing down what was restored: %w", err)
	}
	if err := l.markCreated(""); err != nil {
		return err
	}
	return l.dir.sync()
}

// Due tells whether an erasure that the list beside the backups has is to be done again: no run had ended it when the
// backup was made, and its dataset was there.
func (r *Restoration) Due(e dp.Erasure) (due bool, err error) {
	err = viewing(r.db, func(v view) error {
		ended, err := v.get(erasureEndKey(e.Dataset, e.ID))
		if err != nil || ended != nil {
			return err
		}
		declared, err := v.get(datasetKey(e.Dataset))
		due = declared != nil
		return err
	})
	return due, err
}

// Close closes the database.
func (r *Restoration) Close() error {
	r.batch.Cancel()
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("closing the ledger's database: %w", err)
	}
	return durable.SyncDir(r.dir)
}

// restoredName is the file that says that the ledger was restored, until an entry says so.
const restoredName = "restored"

func writeRestored(dir string, from Restored, key *secrets.Key) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	text = key.Sealer(sealRestored).Seal(text, nil)
	file, err := os.OpenFile(filepath.Join(dir, restoredName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// readRestored gives what that file says, nil where there is none or an entry has said it: there are more entries than
// the backup had.
func (l *Ledger) readRestored() (*Restored, error) {
	text, err := os.ReadFile(filepath.Join(l.dir.path, restoredName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the ledger was restored from: %w", err)
	}
	var from Restored
	if text, err = l.key.Sealer(sealRestored).Open(text, nil); err != nil {
		return nil, fmt.Errorf("the file %s of the ledger: %w: %w", restoredName, err, errLost)
	}
	if json.Unmarshal(text, &from) != nil || len(from.Head) != sha256.Size {
		return nil, fmt.Errorf("the file %s of the ledger does not say what it was restored from: %w", restoredName, errLost)
	}
	l.noted = true
	if from.Length < l.head.length { // whose witness may not have heard of it yet
		return nil, nil
	}
	if from.Length != l.head.length || string(from.Head) != string(l.head.hash[:]) {
		return nil, fmt.Errorf("the file %s of the ledger names another ledger than the entries make: %w", restoredName, errLost)
	}
	return &from, nil
}

// recordRestore writes into an entry that the ledger was restored, if it was and no entry says so. It is the first one
// that is written since, and the one that counts the opening.
func (l *Ledger) recordRestore(t *tx) error {
	if l.restored == nil {
		return nil
	}
	number := uint64(1)
	err := view{t.txn}.walk([]byte{kindRestore}, nil, descending, func(key, _ []byte) (bool, error) {
		number = numberOf(key) + 1
		return false, nil
	})
	if err != nil {
		return err
	}
	return save(t, restoreKey(number), *l.restored)
}

// forgetRestored removes the file once an entry says what it says. Where it stays, it is passed over.
func (l *Ledger) forgetRestored() {
	if !l.noted {
		return
	}
	l.restored, l.noted = nil, false
	if err := os.Remove(filepath.Join(l.dir.path, restoredName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("ledger: removing the note of a restore", "error", err)
	}
}
