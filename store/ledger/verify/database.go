package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	badgeroptions "github.com/dgraph-io/badger/v4/options"
)

// database is one moment of a ledger's database, which nothing changes.
type database struct {
	db  *badger.DB
	txn *badger.Txn
	dir string // of the copy that was made, empty for none
	// sealed opens entries; nil where they are in plain.
	sealed *sealed
}

// ErrServed says that the ledger is in use.
var ErrServed = errors.New("the ledger is in use: stop the server, or give a copy of the directory")

// openDatabase opens the database in dir, and changes nothing there. After a clean stop Badger reads it as it is.
// Otherwise opening writes: the write-ahead log is replayed, and tables that an interrupted compaction left are
// removed, in Badger's read-only mode too (v4.9.6, revertToManifest in levels.go). Then a copy is made in the
// directory for temporary files, and opened instead.
func openDatabase(ctx context.Context, dir string, key []byte) (d *database, err error) {
	// Badger would make what is not there.
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); err != nil {
		return nil, fmt.Errorf("there is no ledger in %s: name the data directory of a server: %w", dir, err)
	}
	release, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if f, err := ListFiles(dir); err == nil && len(f.Unlisted) == 0 {
		options, err := encryptedOptions(dir, key)
		if err != nil {
			return nil, err
		}
		db, err := badger.Open(options.WithReadOnly(true))
		if err == nil {
			d = &database{db: db, txn: db.NewTransaction(false)}
			return d.unseal(key)
		}
	}
	if d, err = openCopy(ctx, dir, key); err != nil {
		return nil, err
	}
	return d.unseal(key)
}

// ErrKey says that the ledger is encrypted with another key than the one that was given, or with one where none was.
var ErrKey = errors.New("the ledger is encrypted and the key is not its own, or a key was given and it is not encrypted: name the key that the server was started with (--encryption-key-file), or none where it has none")

// unseal finds out for which ledger entries are encrypted.
func (d *database) unseal(installation []byte) (*database, error) {
	if len(installation) == 0 {
		return d, nil
	}
	d.sealed = &sealed{key: installation}
	value, err := d.get(key(kindMeta))
	if err != nil || value == nil {
		return d, err
	}
	m, err := decodeRecord[metaRecord](value, parts)
	if err != nil {
		return d, nil // which is found when the entries are replayed
	}
	if id, err := parseID(m.ID); err == nil {
		d.sealed.id = id[:]
	}
	return d, nil
}

// encryptedOptions are those of a database that may be encrypted.
func encryptedOptions(dir string, installation []byte) (badger.Options, error) {
	options := engineOptions(dir)
	if len(installation) == 0 {
		return options, nil
	}
	key, err := (&sealed{key: installation}).derive("ledger/1")
	// Not when a table is opened: where a block of an encrypted one was changed, Badger (v4.9.6, Table.VerifyChecksum) ends the
	// process. All of them are read anyway.
	return options.WithEncryptionKey(key).WithChecksumVerificationMode(badgeroptions.OnBlockRead), err
}

func engineOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).
		WithDetectConflicts(false).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithValueThreshold(1 << 20).
		WithValueLogFileSize(2 << 20).
		WithBlockCacheSize(16 << 20).
		WithIndexCacheSize(16 << 20).
		WithNumCompactors(2).
		WithMetricsEnabled(false).
		WithChecksumVerificationMode(badgeroptions.OnTableAndBlockRead).
		WithLogger(nil)
}

// openCopy copies the directory, which the caller locks, and opens the copy.
func openCopy(ctx context.Context, dir string, key []byte) (d *database, err error) {
	d = &database{}
	if d.dir, err = os.MkdirTemp("", "discreet-verify-"); err != nil {
		return nil, fmt.Errorf("making a directory for a copy of the ledger: %w", err)
	}
	if err = copyFiles(ctx, dir, d.dir); err == nil {
		var options badger.Options
		if options, err = encryptedOptions(d.dir, key); err == nil {
			d.db, err = badger.Open(options)
		}
	}
	if err != nil {
		d.db = nil // what Badger returns then cannot be closed
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return nil, errors.Join(ErrKey, d.close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening a copy of the ledger (the server was not stopped cleanly): %w", err), d.close())
	}
	d.txn = d.db.NewTransaction(false)
	return d, nil
}

// copyFiles copies the files of a directory.
func copyFiles(ctx context.Context, from, to string) error {
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f.Type().IsRegular() {
			continue
		}
		if empty, err := isUnbegunLog(f); empty || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := copyFile(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isUnbegunLog tells whether a crash left a log without a byte, which Badger does not open and which holds nothing.
func isUnbegunLog(f fs.DirEntry) (bool, error) {
	if ext := filepath.Ext(f.Name()); ext != ".mem" && ext != ".vlog" {
		return false, nil
	}
	info, err := f.Info()
	return err == nil && info.Size() == 0, err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (d *database) close() error {
	var errs []error
	if d.txn != nil {
		d.txn.Discard()
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// get returns nil where there is no such key.
func (d *database) get(k []byte) ([]byte, error) {
	item, err := d.txn.Get(k)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	if k[0] == kindEntry {
		return d.sealed.entry(k, value)
	}
	return value, nil
}

// walk calls each with the keys under a prefix, in order, and their values, which are valid during the call only.
func (d *database) walk(ctx context.Context, prefix []byte, each func(key, value []byte) error) error {
	o := badger.DefaultIteratorOptions
	o.Prefix = prefix
	it := d.txn.NewIterator(o)
	defer it.Close()
	for it.Seek(prefix); it.ValidForPrefix(prefix); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		item := it.Item()
		err := item.Value(func(value []byte) (err error) {
			if k := item.Key(); k[0] == kindEntry {
				if value, err = d.sealed.entry(k, value); err != nil {
					return err
				}
			}
			return each(item.Key(), value)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *database) entries(ctx context.Context, each func(key, entry []byte) error) error {
	return d.walk(ctx, []byte{kindEntry}, each)
}

func (d *database) held(w *write) ([]byte, error) {
	value, err := d.get(w.key)
	if err != nil || value == nil || uint64(len(value)) != w.length || sha256.Sum256(value) != w.digest {
		return nil, err
	}
	return value, nil
}

func (d *database) figures() bool { return true }

func (d *database) blob(name string, most int64) (text []byte, pieces int, err error) {
	for {
		piece, err := d.get(numberedKey(uint64(pieces), kindBlob, name))
		if err != nil {
			return nil, 0, err
		}
		if piece == nil || int64(len(text)) > most {
			return text, pieces, nil
		}
		text = append(text, piece...)
		pieces++
	}
}

// compare holds the database to what the entries leave: exactly these keys, each with exactly that value. Of several
// differences it names the earliest entry.
func (r *replay) compare(ctx context.Context, db *database) (*Finding, error) {
	var first *Finding
	note := func(entry uint64, why error) {
		if first == nil || entry != 0 && (first.Entry == 0 || entry < first.Entry) {
			first = &Finding{Entry: entry, Why: why.Error()}
		}
	}
	var seen, kept uint64
	err := db.walk(ctx, nil, func(k, value []byte) error {
		switch k[0] {
		case kindEntry:
			seen++
			return nil
		case kindHashes: // those of each entry were compared with it
			kept++
			return nil
		}
		id := r.digest(k)
		h, ok := r.held[id]
		delete(r.held, id)
		sum := sha256.Sum256(value)
		switch {
		case !ok:
			note(0, misfitf("the database holds %s that no entry wrote", describe(k)))
		case r.digest(sum[:]) != h.value:
			note(h.entry, misfitf("%s that it wrote is not what the database holds", describe(k)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, h := range r.held {
		note(h.entry, misfitf("the database has lost %s that it wrote", word([]byte{h.kind})))
	}
	if kept != r.count.Entries {
		note(0, misfitf("the database holds hashes of the tree that belong to no entry"))
	}
	if seen != r.count.Entries {
		note(0, misfitf("the database holds entries that are not of the chain"))
	}
	return first, nil
}
