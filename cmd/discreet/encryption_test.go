package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/store/ledger"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// keyFile writes an encryption key into a file of its own.
func keyFile(t testing.TB, key byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(bytes.Repeat([]byte{key}, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// encrypted is a served data directory that is encrypted.
func newEncrypted(t *testing.T) (b *backed, key string) {
	t.Helper()
	key = keyFile(t, 7)
	recipient, file := identity(t)
	b = &backed{harness: &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}, backups: filepath.Join(t.TempDir(), "backups"), identity: file}
	b.flags = []string{"--backups", b.backups, "--backup-recipient", recipient, "--encryption-key-file", key, "--reserve", "16MiB", "--keep-free", "64MiB"}
	b.officer = keyIn(b.begin())
	b.apply(shopPolicy)
	b.team, b.custodian = b.hire("team-of-secrets", "product", "product-analytics"), b.hire("warehouse", "custodian")
	b.allot("team-of-secrets", "shop", "3", "5e-10")
	return b, key
}

func (b *backed) fits(key string) verify.Report {
	b.t.Helper()
	raw := make([]byte, 32)
	if text, err := os.ReadFile(key); err != nil {
		b.t.Fatal(err)
	} else if _, err := hex.Decode(raw, bytes.TrimSpace(text)); err != nil {
		b.t.Fatal(err)
	}
	r, err := verify.Ledger(b.t.Context(), filepath.Join(b.dir, "ledger"), verify.Options{Key: raw})
	if err != nil || r.Finding != nil {
		b.t.Fatalf("%v, %v", r.Finding, err)
	}
	return r
}

// The whole way through an encrypted directory: rows, questions, an erasure, alerts, a kill and a start. Nothing that names
// anybody or anything is found in any file of it, nor in the witness, nor beside the backups.
func TestEncryptedDirectoryShowsNothingAndIsServedLikeAnother(t *testing.T) {
	b, key := newEncrypted(t)
	everybody := []string{"ann", "bob", "cid"}
	b.load("load-of-january", everybody...)
	if got := b.count(b.team); got != 3 {
		t.Fatalf("%v customers", got)
	}
	b.backUp()
	var texts [][]byte
	for _, text := range []string{"own-city-of-", "Bonn", "grocery", "team-of-secrets", "load-of-january", "product-analytics", "customer", "shop", "2026-01", "epsilon", "root"} {
		texts = append(texts, []byte(text))
	}
	check := func(when string) {
		t.Helper()
		for _, dir := range []string{b.dir, b.state} {
			for text, files := range filesWith(t, dir, texts...) {
				t.Errorf("%s: %q is in %v", when, text, files)
			}
		}
		for _, text := range texts[:5] {
			if files := filesWith(t, b.backups, text); len(files) > 0 {
				t.Errorf("%s: the backups show %v", when, files)
			}
		}
	}
	check("served")
	b.must(b.custodian, "erase", "shop", "ann", "--now", "--wait")
	b.load("another-load-of-january", "dee", "eve")
	if got := b.count(b.team); got != 4 {
		t.Errorf("%v customers", got)
	}
	b.stop()
	check("stopped")
	b.fits(key)
	b.begin()
	if got := b.count(b.team); got != 4 {
		t.Errorf("%v customers after another start", got)
	}
	if r := b.run("", "doctor", "--data", b.dir, "--encryption-key-file", key, "--witness", b.state+"/", "--url", b.url); strings.Contains(r.stdout, "fail") && strings.Contains(r.stdout, "secrets") {
		t.Errorf("%+v", r)
	}
	b.stop()

	// Another key, or none; and a key where there should be none.
	other := keyFile(t, 8)
	for says, flags := range map[string][]string{
		"is encrypted: give its key": {},
		"is not the one":             {"--encryption-key-file", other},
		"outside of --data":          {"--encryption-key-file", filepath.Join(b.dir, "secrets", "secrets")},
		"holds no encryption key":    {"--encryption-key-file", b.identity},
	} {
		for _, verb := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"verify"}, {"doctor"}} {
			r := b.run("", append(append(verb, "--data", b.dir, "--witness", b.state+"/"), flags...)...)
			if r.code != exitUsage || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%v %v: %+v, want %q", verb, flags, r, says)
			}
		}
	}
	b.begin() // none of that did any harm

	// The key is changed by restoring under another one, and encryption ends by restoring without.
	made := b.backUp()
	b.restore(made, "--encryption-key-file", other)
	b.flags[5] = other
	if started := b.begin(); strings.Contains(started, "No question") {
		t.Errorf("started with %s", started)
	}
	if got := b.count(b.team); got != 4 {
		t.Errorf("%v customers under another key", got)
	}
	check("restored")
	b.stop()
	if r := b.fits(other); r.Restores != 1 {
		t.Errorf("%d restores", r.Restores)
	}
	made = b.backUpStopped()
	b.restore(made)
	if r := b.run("", "serve", "--data", b.dir, "--listen", "127.0.0.1:0", "--encryption-key-file", other); r.code != exitUsage || !strings.Contains(r.stderr, "is not encrypted") {
		t.Errorf("%+v", r)
	}
	b.flags = append(b.flags[:4:4], b.flags[6:]...)
	b.begin()
	if got := b.count(b.team); got != 4 {
		t.Errorf("%v customers without a key", got)
	}
	b.verify()
}

// An existing installation is encrypted by a backup of it.
func TestExistingInstallationIsEncryptedByRestoringIt(t *testing.T) {
	b := newBacked(t)
	b.load("one", "ann", "bob")
	made := b.backUpStopped()
	key := keyFile(t, 7)
	printed := b.restore(made, "--encryption-key-file", key)
	if !strings.Contains(printed, "nothing is missing") {
		t.Errorf("printed %s", printed)
	}
	if r := b.run("", "verify", "--data", b.dir, "--witness", b.state+"/", "--encryption-key-file", key); r.code != exitDone || !strings.Contains(r.stdout, "Every entry fits") {
		t.Errorf("%+v", r)
	}
	b.flags = append(b.flags, "--encryption-key-file", key)
	if started := b.begin(); strings.Contains(started, "No question") {
		t.Errorf("started with %s", started)
	}
	if got := b.count(b.team); got != 2 {
		t.Errorf("%v customers", got)
	}
	b.stop()
	for text, files := range filesWith(t, b.dir, []byte("own-city-of"), []byte("warehouse"), b.pseudonymUnder(key, "ann")) {
		t.Errorf("%q is in %v", text, files)
	}
	r := b.run("", "serve", "--data", b.dir+"-new", "--listen", "127.0.0.1:0", "--backups", b.backups, "--backup-plain", "--encryption-key-file", key)
	if r.code != exitUsage || !strings.Contains(r.stderr, "--backup-plain would write in plain") {
		t.Errorf("%+v", r)
	}
}

// Bits that flip in the tables of an encrypted ledger are noticed when it is opened, or what they hit was of no account.
func TestFlipsInAnEncryptedLedgerAreNoticed(t *testing.T) {
	b, file := newEncrypted(t)
	b.load("one", "ann", "bob")
	b.count(b.team)
	ended := b.ledgerStatus()
	b.stop()
	key, err := secrets.ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	noticed := 0
	const flips = 60
	for range flips {
		home := t.TempDir()
		dir := filepath.Join(home, "ledger")
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(b.dir, "ledger"))); err != nil {
			t.Fatal(err)
		}
		copyFile(t, ended.Witness, filepath.Join(home, "witness"))
		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		if err != nil || len(tables) == 0 {
			t.Fatalf("%v, %v", tables, err)
		}
		table := tables[random.IntN(len(tables))]
		whole, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		whole[random.IntN(len(whole))] ^= 1 << random.IntN(8)
		if err := os.WriteFile(table, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(dir, ledger.Options{Witness: filepath.Join(home, "witness"), Key: key})
		if err != nil {
			noticed++
			continue
		}
		if now := l.Status(); now.State != ledger.StateOK || now.Length != ended.Length+1 {
			noticed++
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if noticed < flips*9/10 {
		t.Errorf("%d of %d flips were noticed", noticed, flips)
	}
	b.begin()
	if s := b.ledgerStatus(); s.State != "ok" {
		t.Errorf("%+v", s)
	}
}

func TestWitnessThatWasForgedWithoutTheKeyDoesNotCount(t *testing.T) {
	b, _ := newEncrypted(t)
	b.count(b.team)
	path := b.ledgerStatus().Witness
	b.stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 4096} { // the length, with a checksum that fits
		whole[at+39]--
		binary.BigEndian.PutUint32(whole[at+508:], crc32.Checksum(whole[at:at+508], crc32.MakeTable(crc32.Castagnoli)))
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	b.begin()
	if s := b.ledgerStatus(); s.State != "damaged" {
		t.Errorf("%+v", s)
	}
}
