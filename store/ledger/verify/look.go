package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Glance is what a ledger says of itself, without being replayed.
type Glance struct {
	Format   int
	ID       [16]byte
	Openings uint64
	Secrets  []byte // fingerprint of the secrets that it is bound to; empty where there is none yet
	Length   uint64
	Head     [sha256.Size]byte
	Last     time.Time // of the last entry
	// Witness is what does not fit between the ledger and the witness that was given, nil where all does.
	Witness *Finding
}

// Look opens the ledger in dir and reads its last entry and its own record. It changes nothing there, and checks
// nothing but that these can be read, and that the ledger has what a witness saw, where one is given. Of an installation that
// is encrypted, the key of 32 bytes is needed.
//
// Errors: ErrServed, or what kept it from looking.
func Look(ctx context.Context, dir string, w *Witness, installation []byte) (g Glance, err error) {
	defer func() {
		if p := recover(); p != nil { // Badger's, over some damages
			err = errors.New("the files of the database are damaged: restore the ledger from a backup")
		}
	}()
	db, err := openDatabase(ctx, dir, installation)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, db.close()) }()

	value, err := db.get(key(kindMeta))
	if err != nil {
		return g, err
	}
	m, err := decodeRecord[metaRecord](value, parts)
	if err != nil {
		return g, errors.New("the ledger's own record is missing or damaged: restore the ledger from a backup")
	}
	g.Format, g.Openings, g.Secrets = m.Format, m.Openings, m.Secrets
	if m.Format != format {
		return g, fmt.Errorf("the ledger has format %d, and this version of discreet reads %d: run the version that wrote it", m.Format, format)
	}
	if g.ID, err = parseID(m.ID); err != nil {
		return g, err
	}
	last, err := db.last()
	if err != nil {
		return g, err
	}
	g.Length, g.Head, g.Last = last.number, last.hash, last.at
	if w == nil {
		return g, nil
	}

	seen := *w
	c := &chain{replay: newReplay(db), witness: &seen}
	c.count.ID, c.count.Entries = g.ID, g.Length
	if c.answers, err = c.answeredBy(last); err != nil {
		return g, err
	}
	if w.Length > 0 && w.Length <= g.Length {
		e, err := db.entry(w.Length)
		if err != nil {
			return g, err
		}
		c.checkWitness(e)
	}
	g.Witness = c.compareWitness()
	return g, nil
}

// last reads the last entry.
func (d *database) last() (*entry, error) {
	o := badger.DefaultIteratorOptions
	o.Prefix, o.Reverse, o.PrefetchValues = []byte{kindEntry}, true, false
	it := d.txn.NewIterator(o)
	defer it.Close()
	it.Seek([]byte{kindEntry, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	if !it.ValidForPrefix(o.Prefix) {
		return nil, errors.New("the ledger has no entry: everything was lost: restore it from a backup")
	}
	value, err := it.Item().ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	if value, err = d.sealed.entry(it.Item().Key(), value); err != nil {
		return nil, err
	}
	return parseEntry(value)
}

func (d *database) entry(number uint64) (*entry, error) {
	value, err := d.get(numberedKey(number, kindEntry))
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("entry %d of the ledger is missing: restore the ledger from a backup", number)
	}
	return parseEntry(value)
}

// Served tells whether a process holds the database in dir.
func Served(dir string) (bool, error) {
	release, err := lock(dir)
	if errors.Is(err, ErrServed) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, release()
}

// Files are the files of a database, as far as there is something to say about them.
type Files struct {
	Version  int      // of the manifest
	Missing  []string // tables that the manifest names
	Unlisted []string // tables that it does not name: left by an interrupted compaction, removed when it is opened
	Foreign  []string // what is no file of the database
}

// ListFiles compares the files in dir with the manifest of the database there. It is to be asked while no process
// holds the directory; own are names of files that stand there besides those of Badger.
func ListFiles(dir string, own ...string) (f Files, err error) {
	manifest, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return f, fmt.Errorf("opening the manifest: %w", err)
	}
	defer manifest.Close()
	var magic [8]byte
	if _, err := manifest.ReadAt(magic[:], 0); err != nil || string(magic[:4]) != "Bdgr" {
		return f, errors.New("the manifest of the database is damaged: restore it from a backup")
	}
	f.Version = int(magic[6])<<8 | int(magic[7])
	listed, _, err := badger.ReplayManifestFile(manifest, 0, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return f, errors.New("the manifest of the database is damaged, or of another version of Badger: restore it from a backup")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return f, fmt.Errorf("listing the files: %w", err)
	}
	tables := listed.Tables
	for _, e := range entries {
		name := e.Name()
		base, suffix, _ := strings.Cut(name, ".")
		number, err := strconv.ParseUint(base, 10, 64)
		_, wanted := tables[number]
		switch {
		case err == nil && suffix == "sst" && wanted:
			delete(tables, number)
		case err == nil && suffix == "sst":
			f.Unlisted = append(f.Unlisted, name)
		case err == nil && (suffix == "mem" || suffix == "vlog"):
		case slices.Contains([]string{badger.ManifestFilename, "KEYREGISTRY", "DISCARD", "LOCK"}, name) || slices.Contains(own, name):
		default:
			f.Foreign = append(f.Foreign, name)
		}
	}
	for number := range tables {
		f.Missing = append(f.Missing, fmt.Sprintf("%06d.sst", number))
	}
	slices.Sort(f.Missing)
	return f, nil
}
