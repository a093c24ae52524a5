package ledger

import (
	"os"
	"path/filepath"
	"testing"
)

// A process that is killed while Badger writes a table leaves part of it, which the database does not list yet.
func TestTableThatWasBeingWrittenIsNoDamage(t *testing.T) {
	f := newFixture(t)
	f.charge(ask(alice, "plan"))
	want := state(f.dump())
	check(t, f.Close())
	tables, err := filepath.Glob(filepath.Join(f.dir, "*.sst"))
	check(t, err)
	if len(tables) == 0 {
		t.Fatal("closing wrote no table")
	}
	whole, err := os.ReadFile(tables[0])
	check(t, err)
	for _, part := range []int{0, len(whole) / 2, len(whole)} {
		half := append(append([]byte{}, whole[:part]...), make([]byte, len(whole)-part)...)
		stray := filepath.Join(f.dir, "000099.sst")
		check(t, os.WriteFile(stray, half, 0o600))
		g := f.at(f.copied())
		if g.Status().State != StateOK {
			t.Errorf("with %d bytes of a table that is not listed: %s", part, g.Status().Reason)
		}
		if got := state(g.dump()); len(got) < len(want) {
			t.Errorf("with %d bytes of a table that is not listed, %d keys of %d are there", part, len(got), len(want))
		}
	}
}
