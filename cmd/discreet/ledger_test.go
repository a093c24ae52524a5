package main

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// An older copy of the data directory is served: nothing new is answered, what is held can be read, an officer
// writes off what may be missing, and a raised budget lets questions be asked again.
func TestRestoredBackupIsRefusedUntilItsDifferenceIsWrittenOff(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	started, stop := h.start(exact{})
	h.officer = keyIn(started)
	h.apply(shopPolicy)
	team := h.hire("team", dp.Product, "product-analytics")
	h.allot("team", "shop", "3", "1e-10")
	h.must(team, "query", "shop", "customers", "--by", "category", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.5")
	stop()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	_, stop = h.start(exact{})
	lost := []string{"query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "1"}
	h.must(team, lost...)
	stop()

	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(h.dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(h.dir, "secrets", "secrets"), 0o600); err != nil {
		t.Fatal(err)
	}
	started = h.serve(exact{})
	if !strings.Contains(started, "older copy") {
		t.Errorf("the start says nothing of it:\n%s", started)
	}
	if r := h.run(team, lost...); r.code == exitDone || !strings.Contains(r.stderr, "write-off") {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	resp, err := http.Get(h.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 503 || !strings.Contains(string(body), "older copy") {
		t.Errorf("readyz: %d %s", resp.StatusCode, body)
	}
	var releases wire.ReleaseList
	h.mustJSON(&releases, team, "release", "list")
	if len(releases.Items) != 1 {
		t.Fatalf("%d releases can be read", len(releases.Items))
	}
	h.must(team, "release", "show", releases.Items[0].ID)

	if r := h.run(h.officer, "budget", "write-off"); r.code != exitUsage {
		t.Errorf("without a reason: exit %d: %s", r.code, r.stderr)
	}
	if r := h.run(team, "budget", "write-off", "--reason", "I want more"); r.code == exitDone {
		t.Error("a team wrote off")
	}
	var now wire.Ledger
	h.mustJSON(&now, h.officer, "budget", "write-off", "--reason", "the backup of last night was restored", "--epsilon", "2")
	if now.State != "ok" || now.Reason != "" || len(now.Head) != 64 || filepath.Dir(now.Witness) != h.state {
		t.Errorf("afterwards the ledger is %+v", now)
	}
	if r := h.run(team, lost...); r.code != exitRefused {
		t.Fatalf("what was written off is asked for again: exit %d: %s", r.code, r.stderr)
	}
	if r := h.run(h.officer, "budget", "write-off", "--reason", "once more"); r.code == exitDone || !strings.Contains(r.stderr, "nothing needs to be written off") {
		t.Errorf("twice: exit %d: %s", r.code, r.stderr)
	}
	if text := h.must(h.officer, "budget", "shop", "--all"); !strings.Contains(text, "(cap)") {
		t.Errorf("the budget is shown as %s", text)
	}
}

func TestWitnessIsOutsideOfTheDataDirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	from := surroundings{state: func() (string, error) { return "/state", nil }}
	for flag, want := range map[string]witness{
		"":                         {dir: "/state"},
		data + ".witness":          {file: data + ".witness"},
		t.TempDir():                {},
		filepath.Dir(data) + "/w/": {dir: filepath.Dir(data) + "/w/"},
	} {
		if want == (witness{}) {
			want.dir = flag
		}
		if got, err := findWitness(flag, data, from); err != nil || got != want {
			t.Errorf("%q: %+v, %v", flag, got, err)
		}
	}
	for _, flag := range []string{data, filepath.Join(data, "witness"), data + "/../data/ledger/w"} {
		if _, err := findWitness(flag, data, from); err == nil {
			t.Errorf("%s lies in --data", flag)
		}
	}
}

// The data stays and its ledger is lost: nothing is begun in its place, whatever part of it is left.
func TestDataWithoutItsLedgerIsNotServed(t *testing.T) {
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	_, stop := h.start(exact{})
	stop()
	ledger := filepath.Join(h.dir, "ledger")
	serve := func() error {
		s, err := openService(t.Context(), storage{dir: h.dir, witness: witness{dir: h.state}, disk: demoDisk()}, production(), slog.New(slog.DiscardHandler))
		if err == nil {
			err = s.close()
		}
		return err
	}
	for name, lose := range map[string]func() error{
		"all of it":         func() error { return os.RemoveAll(ledger) },
		"what it holds":     func() error { return errors.Join(os.RemoveAll(ledger), os.Mkdir(ledger, 0o700)) },
		"it, and secrets":   func() error { return errors.Join(os.RemoveAll(ledger), os.RemoveAll(filepath.Join(h.dir, "secrets"))) },
		"an empty database": func() error { return emptyDatabase(ledger) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			err := serve()
			if err == nil || !strings.Contains(err.Error(), "ledger of "+h.dir+" is gone") || !strings.Contains(err.Error(), "restore") {
				t.Fatalf("without %s: %v", name, err)
			}
		}
	}
	witnesses, err := os.ReadDir(h.state)
	if err != nil || len(witnesses) != 1 {
		t.Fatalf("witnesses: %v, %v", witnesses, err)
	}
}

func emptyDatabase(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return err
	}
	return db.Close()
}
