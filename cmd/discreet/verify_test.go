package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// stopped is a data directory that was served and asked, and whose server has ended.
func stopped(t *testing.T) *harness {
	t.Helper()
	h, stop := running(t)
	stop()
	return h
}

// running is likewise, and still served.
func running(t *testing.T) (h *harness, stop func()) {
	t.Helper()
	h = &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: t.TempDir()}
	started, stop := h.start(exact{})
	t.Cleanup(stop)
	h.officer = keyIn(started)
	h.apply(trapPolicy)
	return h, stop
}

const trapPolicy = `name: cards
kind: custom
population: 1000
unit: {column: customer_id, block: month}
time: {column: at, timezone: UTC, format: date}
dimensions:
  - {name: country, values: [DE, FR]}
bounds: {max_partitions: 2, max_rows: 2}
cap: {epsilon: 1, delta: 1e-9}
default: {epsilon: 0.1, delta: 0}
purposes: [reporting]
audiences: [internal]
`

// offline calls a verb that opens the data directory itself.
func (h *harness) offline(args ...string) result {
	h.t.Helper()
	return h.offlineAt(time.Now, args...)
}

func (h *harness) offlineAt(clock func() time.Time, args ...string) result {
	h.t.Helper()
	var stdout, stderr safeBuffer
	code := run(h.t.Context(), append(args, "--data", h.dir),
		terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment},
		surroundings{clock: clock, state: func() (string, error) { return h.state, nil }})
	return result{code, stdout.String(), stderr.String()}
}

func TestVerifyChecksAStoppedServersLedger(t *testing.T) {
	h, stop := running(t)
	product := h.hire("ann", "product", "reporting")
	h.allot("ann", "cards", "1", "0")
	h.must(product, "query", "cards", "rows", "--from", "2026-01-01", "--to", "2026-01-31", "--epsilon", "0.25", "--purpose", "reporting")

	if r := h.offline("verify"); r.code != exitFailed || !strings.Contains(r.stderr, "stop it") {
		t.Errorf("verify of a served directory: exit %d, %s", r.code, r.stderr)
	}
	stop()
	r := h.offline("verify")
	if r.code != exitDone || !strings.Contains(r.stdout, "Every entry fits.") || !strings.Contains(r.stdout, "allotment/cards/2026-01 of ann") || !strings.Contains(r.stdout, "25 %") {
		t.Fatalf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	var body verified
	if r = h.offline("verify", "--format", "json"); json.Unmarshal([]byte(r.stdout), &body) != nil {
		t.Fatalf("verify printed %s", r.stdout)
	}
	if !body.Fits || body.Charges != 1 || body.Releases != 1 || body.Open != 0 || len(body.Datasets) != 1 || *body.Datasets[0].Cap.Share != 0.25 || body.Witness.Ahead != 0 {
		t.Errorf("verify says %+v", body)
	}

	seen := fmt.Sprintf("%d:%s", body.Entries, body.Head)
	if r = h.offline("verify", "--at-least", seen); r.code != exitDone {
		t.Errorf("its own head: exit %d, %s", r.code, r.stderr)
	}
	if r = h.offline("verify", "--at-least", fmt.Sprintf("%d:%s", body.Entries+1, body.Head)); r.code != exitFailed || !strings.Contains(r.stderr, "entries were lost") {
		t.Errorf("a head beyond it: exit %d, %s", r.code, r.stderr)
	}
	for _, bad := range []string{"", "1", "x:y", "1:ab", "-1:" + body.Head, "0:" + body.Head} {
		if r = h.offline("verify", "--at-least="+bad); r.code != exitUsage || !strings.Contains(r.stderr, "LENGTH:HEAD") {
			t.Errorf("--at-least %q: exit %d, %s", bad, r.code, r.stderr)
		}
	}
}

func TestVerifyNamesWhatDoesNotFit(t *testing.T) {
	h := stopped(t)
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(h.dir, "ledger")).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("E\x00\x00\x00\x00\x00\x00\x00\x03")
	err = db.Update(func(txn *badger.Txn) error { return txn.Set(key, []byte{1}) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	r := h.offline("verify")
	if r.code != exitFailed || !strings.Contains(r.stderr, "entry 3 does not fit") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	var body verified
	if r = h.offline("verify", "--format", "json"); json.Unmarshal([]byte(r.stdout), &body) != nil || body.Fits || body.Finding == nil || *body.Finding.Entry != 3 || body.Entries != 2 {
		t.Errorf("verify printed %s", r.stdout)
	}
}

func TestVerifyAndDoctorNeedADataDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, verb := range []string{"verify", "doctor"} {
		r := (&harness{t: t, dir: dir, state: dir}).offline(verb)
		if r.code != exitFailed || !strings.Contains(r.stderr, "name the data directory") {
			t.Errorf("%s: exit %d, %s", verb, r.code, r.stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files were made, %v", len(left), err)
	}
}

func TestDoctorFindsAHealthyDirectoryHealthy(t *testing.T) {
	h, stop := running(t)
	served := h.offline("doctor", "--url", h.url, "--keep-free", "1MiB")
	if served.code != exitDone || !strings.Contains(served.stdout, "a server holds the directory") || !strings.Contains(served.stdout, "the server is ready") {
		t.Errorf("served: exit %d\n%s%s", served.code, served.stdout, served.stderr)
	}
	stop()
	before := listing(t, h.dir)
	r := h.offline("doctor", "--keep-free", "1MiB")
	if r.code != exitDone {
		t.Errorf("stopped: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, want := range []string{
		"only its owner reads", "everything belongs to the owner", "no server holds", "are free", "the ledger opens", "in step",
		"the clock is not behind", "whole and that of the ledger", "the database ledger has all", "the database data has all",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("doctor does not say %q:\n%s", want, r.stdout)
		}
	}
	if after := listing(t, h.dir); after != before {
		t.Errorf("doctor changed the directory from\n%s\nto\n%s", before, after)
	}
	var body struct{ Checks []symptom }
	if r = h.offline("doctor", "--format", "json"); json.Unmarshal([]byte(r.stdout), &body) != nil || len(body.Checks) < 10 {
		t.Errorf("doctor printed %s", r.stdout)
	}
}

// listing names every file below a directory with its size and time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDoctorSaysWhatToDo(t *testing.T) {
	h := stopped(t)
	ledgerDir := filepath.Join(h.dir, "ledger")
	table := func() string {
		tables, err := filepath.Glob(filepath.Join(ledgerDir, "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatalf("the ledger has no table: %v", err)
		}
		return tables[0]
	}()
	write := func(path, text string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	secret := filepath.Join(h.dir, "secrets", "secrets")
	whole, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	another := func() string {
		other := stopped(t)
		text, err := os.ReadFile(filepath.Join(other.dir, "secrets", "secrets"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}()
	restored := func(path string) func(*testing.T) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return write(path, string(text))
	}
	removed := func(path string) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	mode := func(m fs.FileMode) func(*testing.T) {
		return func(t *testing.T) {
			if err := os.Chmod(h.dir, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	nothing := func(*testing.T) {}
	stray, unlisted := filepath.Join(h.dir, "dump.csv"), filepath.Join(ledgerDir, "000099.sst")
	for name, c := range map[string]struct {
		harm, mend func(*testing.T)
		args       []string
		says       string
		code       int
	}{
		"open to others":     {mode(0o750), mode(0o700), nil, "fail  others may read the data directory", exitFailed},
		"writable by others": {mode(0o722), mode(0o700), nil, "fail  others may write to the data directory", exitFailed},
		"secrets missing":    {removed(secret), write(secret, string(whole)), nil, "fail  the secrets file is missing — restore it", exitFailed},
		"other secrets":      {write(secret, another), write(secret, string(whole)), nil, "fail  the secrets file is not that of the ledger", exitFailed},
		"cut secrets":        {write(secret, string(whole[:50])), write(secret, string(whole)), nil, "has 50 bytes", exitFailed},
		"table lost":         {removed(table), restored(table), nil, "fail  the database ledger lacks " + filepath.Base(table), exitFailed},
		"table left over":    {write(unlisted, ""), removed(unlisted), nil, "warn  the database ledger has 1 tables", exitDone},
		"foreign file":       {write(stray, "x"), removed(stray), nil, `warn  in the data directory are files that nobody reads: ["dump.csv"]`, exitDone},
		"no server answers":  {nothing, nothing, []string{"--url", "http://127.0.0.1:1"}, "fail  no server answers", exitFailed},
		"little room":        {nothing, nothing, []string{"--keep-free", "1000000TiB"}, "fail  ", exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c.harm(t)
			defer c.mend(t)
			r := h.offline(append([]string{"doctor"}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.stdout, c.says) || c.code == exitFailed && !strings.Contains(r.stderr, "failed") {
				t.Errorf("exit %d, want %d and %q:\n%s%s", r.code, c.code, c.says, r.stdout, r.stderr)
			}
			if bytes.Contains([]byte(r.stdout+r.stderr), whole[8:40]) {
				t.Error("it prints a secret")
			}
		})
	}

	t.Run("clock behind", func(t *testing.T) {
		r := h.offlineAt(func() time.Time { return time.Now().Add(-time.Hour) }, "doctor")
		if r.code != exitFailed || !strings.Contains(r.stdout, "set the clock") {
			t.Errorf("exit %d\n%s", r.code, r.stdout)
		}
	})
	t.Run("witness of another ledger", func(t *testing.T) {
		others, err := filepath.Glob(filepath.Join(stopped(t).state, "*.witness"))
		if err != nil || len(others) != 1 {
			t.Fatal(others, err)
		}
		r := h.offline("doctor", "--witness", others[0])
		if r.code != exitFailed || !strings.Contains(r.stdout, "not in step: the witness is that of another ledger") {
			t.Errorf("exit %d\n%s", r.code, r.stdout)
		}
	})
	t.Run("no witness", func(t *testing.T) {
		alone := &harness{t: t, dir: h.dir, state: t.TempDir()}
		for _, args := range [][]string{{"doctor"}, {"doctor", "--witness", filepath.Join(alone.state, "none")}} {
			if r := alone.offline(args...); r.code != exitFailed || !strings.Contains(r.stdout, "there is no witness") {
				t.Errorf("exit %d\n%s", r.code, r.stdout)
			}
		}
		if r := alone.offline("verify"); r.code != exitDone || !strings.Contains(r.stdout, "witness     not compared") {
			t.Errorf("exit %d\n%s", r.code, r.stdout)
		}
	})
}
