package verify

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// restored is a ledger that was restored from a copy of itself, with all of its entries or only with those of before the
// last charge.
func restored(t *testing.T, older bool) *fixture {
	f := newFixture(t)
	f.policy("cards", dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 1e9}, nil)
	f.hire("alice")
	f.allot("alice", "cards", func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: dp.EpsilonOne} })
	f.charge(f.ask("alice", "cards", "plan", pure(100), "2026-01"))
	s, err := f.Snapshot(t.Context())
	f.must(err)
	from := ledger.Restored{At: f.now.Add(time.Hour), Backup: "backup-1", Created: f.now, Length: s.Length, Head: slices.Clone(s.Head[:]), Program: "a test"}
	dir := filepath.Join(t.TempDir(), "restored")
	r, err := ledger.Restore(dir, f.Status().ID, ledger.Options{})
	f.must(err)
	f.must(s.Each(r.Put))
	s.Close()
	if older {
		f.charge(f.ask("alice", "cards", "another", pure(100), "2026-01"))
	}
	id := f.Status().ID
	f.close()
	f.must(r.Finish(id, [32]byte{7}, from))
	f.must(r.Close())
	f.dir = dir
	f.open()
	if older {
		f.must(f.WriteOff(t.Context(), "root", "restored", nil))
	}
	f.charge(f.ask("alice", "cards", "next", pure(10), "2027-01"))
	f.reopen()
	f.close()
	return f
}

func TestRestoredLedgerSaysSoOnce(t *testing.T) {
	for _, older := range []bool{false, true} {
		f := restored(t, older)
		if r := fits(t, f.dir, Options{Witness: f.witness}); r.Restores != 1 {
			t.Errorf("older %v: %d restores", older, r.Restores)
		}
		g := read(t, f.dir)
		names := map[string]int{}
		for _, e := range g.entries {
			if slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kindRestore }) {
				names[e.name]++
			}
		}
		want := "restore"
		if older {
			want = "write-off"
		}
		if len(names) != 1 || names[want] != 1 {
			t.Errorf("older %v: restores are in %v", older, names)
		}
		fits(t, g.write(), Options{})
	}
}

func TestForgedRestoresAreNamed(t *testing.T) {
	for _, older := range []bool{false, true} {
		for name, c := range map[string]struct {
			forge func(g *forger, at *entry, w *write)
			says  string
		}{
			"another length":  {func(g *forger, _ *entry, w *write) { edit(g, w, func(r *restoreRecord) { r.Length-- }) }, "another mark"},
			"another head":    {func(g *forger, _ *entry, w *write) { edit(g, w, func(r *restoreRecord) { r.Head[7]++ }) }, "another mark"},
			"nothing of what": {func(g *forger, _ *entry, w *write) { edit(g, w, func(r *restoreRecord) { r.Backup = "" }) }, "does not say"},
			"nothing of when": {func(g *forger, _ *entry, w *write) { edit(g, w, func(r *restoreRecord) { r.At = time.Time{} }) }, "does not say"},
			"another number":  {func(_ *forger, _ *entry, w *write) { w.key = numberedKey(2, kindRestore) }, "count up"},
			"only said": {func(_ *forger, at *entry, w *write) {
				at.writes = slices.DeleteFunc(at.writes, func(o *write) bool { return o == w })
				at.name = "restore"
			}, ""},
			"another field": {func(g *forger, _ *entry, w *write) { g.editJSON(w, func(m map[string]any) { m["Who"] = "me" }) }, ""},
			"later": {func(g *forger, at *entry, w *write) {
				at.writes = slices.DeleteFunc(at.writes, func(o *write) bool { return o == w })
				if at.name == "restore" {
					at.name = "open"
				}
				last := g.entries[len(g.entries)-1]
				last.writes = append(last.writes, w)
				last.name = "restore"
				slices.SortFunc(last.writes, func(a, b *write) int { return bytes.Compare(a.key, b.key) })
			}, "another mark"},
		} {
			f := restored(t, older)
			g := read(t, f.dir)
			i := slices.IndexFunc(g.entries, func(e *entry) bool {
				return slices.ContainsFunc(e.writes, func(w *write) bool { return w.key[0] == kindRestore })
			})
			at := g.entries[i]
			w := at.writes[slices.IndexFunc(at.writes, func(w *write) bool { return w.key[0] == kindRestore })]
			c.forge(g, at, w)
			r := verify(t, g.write(), Options{})
			if r.Finding == nil || !strings.Contains(r.Finding.Why, c.says) {
				t.Errorf("%s, older %v: %v, want %q", name, older, r.Finding, c.says)
			}
		}
	}
}
