package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/discreet-analytics/discreet/store/durable"
)

// settings are those of the rows, which are not compressed.
func settings(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithCompression(options.None).WithLogger(nil).WithSyncWrites(true).WithMemTableSize(1 << 20).WithValueLogFileSize(1 << 20).WithValueThreshold(1 << 10)
}

// database is a closed one with a table, or as a killed process leaves it: with a log.
func database(t *testing.T, closed bool) string {
	t.Helper()
	dir := t.TempDir()
	db, err := Open(settings(dir))
	check(t, err)
	check(t, db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("key"), []byte("value")) }))
	if closed {
		check(t, db.Close())
		return dir
	}
	left := filepath.Join(t.TempDir(), "left")
	check(t, os.CopyFS(left, os.DirFS(dir)))
	check(t, db.Close())
	return left
}

// reads opens a database and finds the key there.
func reads(t *testing.T, dir string) error {
	t.Helper()
	db, err := Open(settings(dir))
	if err != nil {
		return err
	}
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte("key"))
		if err != nil {
			return err
		}
		value, err := item.ValueCopy(nil)
		if err == nil && string(value) != "value" {
			err = fmt.Errorf("the value is %q", value)
		}
		return err
	})
	return errors.Join(err, db.Close())
}

// A process that is killed, or a machine that loses its power, between naming a log and giving it a length.
func TestLogThatWasNeverBegunIsNoDamage(t *testing.T) {
	for _, closed := range []bool{true, false} {
		for _, name := range []string{"00099.mem", "000099.vlog"} {
			dir := database(t, closed)
			check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			if err := reads(t, dir); err != nil {
				t.Errorf("with an empty %s: %v", name, err)
			}
		}
	}
}

// A process that is killed while Badger writes a table leaves part of it, which the database does not list yet.
func TestTableThatWasBeingWrittenIsNoDamage(t *testing.T) {
	dir := database(t, true)
	whole, err := os.ReadFile(oneTable(t, dir))
	check(t, err)
	for _, part := range []int{0, len(whole) / 2, len(whole)} {
		half := append(append([]byte{}, whole[:part]...), make([]byte, len(whole)-part)...)
		check(t, os.WriteFile(filepath.Join(dir, "000099.sst"), half, 0o600))
		if err := reads(t, dir); err != nil {
			t.Errorf("with %d bytes of a table that is not listed: %v", part, err)
		}
	}
}

func TestTableThatIsNotWholeIsDamage(t *testing.T) {
	dir := database(t, true)
	path := oneTable(t, dir)
	whole, err := os.ReadFile(path)
	check(t, err)
	for _, damage := range []func([]byte) []byte{
		func([]byte) []byte { return nil },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		func(b []byte) []byte { b[len(b)-4] ^= 0x80; return b },
		func(b []byte) []byte { b[len(b)-6] ^= 4; return b },
		func(b []byte) []byte { return b[:2] },
		func(b []byte) []byte { b[0] ^= 1; return b }, // of its only block
	} {
		check(t, os.WriteFile(path, damage(append([]byte{}, whole...)), 0o600))
		if err := reads(t, dir); !errors.Is(err, ErrDamaged) {
			t.Errorf("a damaged table: %v, want ErrDamaged", err)
		}
	}
	check(t, os.Remove(path))
	if err := reads(t, dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("a missing table: %v, want ErrDamaged", err)
	}
}

// Only what is asked for is read; the last block of each is, when the database opens.
func TestBlockThatIsNotWholeIsFoundWhereItIsAskedFor(t *testing.T) {
	dir := database(t, true)
	db, err := Open(settings(dir))
	check(t, err)
	check(t, db.Update(func(txn *badger.Txn) error {
		for i := range 100 {
			if err := txn.Set(fmt.Appendf(nil, "key %d", i), make([]byte, 1000)); err != nil {
				return err
			}
		}
		return nil
	}))
	check(t, db.Close())
	for i, damaged := range []bool{false, true} {
		if damaged {
			path := filepath.Join(dir, "000002.sst")
			table, err := os.ReadFile(path)
			check(t, err)
			table[100] ^= 1
			check(t, os.WriteFile(path, table, 0o600))
		}
		db, err := Open(settings(dir))
		check(t, err)
		if err := CheckTables(db, func(badger.TableInfo) bool { return true }); errors.Is(err, ErrDamaged) != damaged || err != nil && !damaged {
			t.Errorf("%d: of all tables: %v", i, err)
		}
		if err := CheckTables(db, func(info badger.TableInfo) bool { return info.ID == 1 }); err != nil {
			t.Errorf("%d: of the other table: %v", i, err)
		}
		check(t, db.Close())
	}
}

// Another process has named a log and not given it its length yet.
func TestFilesOfADatabaseThatIsOpenAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(settings(dir))
	check(t, err)
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	if other, err := Open(settings(dir)); !errors.Is(err, durable.ErrHeld) {
		t.Errorf("opened twice: %v, %v", other, err)
	}
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a log of the process that has it open is gone: %v", err)
		}
	}
	check(t, db.Close())
	db, err = Open(settings(dir))
	check(t, err)
	check(t, db.Close())
}

func oneTable(t *testing.T, dir string) string {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	check(t, err)
	if len(tables) == 0 {
		t.Fatal("closing wrote no table")
	}
	return tables[0]
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
