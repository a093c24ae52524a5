package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/ledger/verify"
)

// identity makes a key pair of age: what serve is given, and the file that opens backups.
func identity(t testing.TB) (recipient, file string) {
	t.Helper()
	pair, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte("# created for a test\n"+pair.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return pair.Recipient().String(), file
}

// backed is a served data directory with a directory of backups.
type backed struct {
	*harness
	backups, identity string
	flags             []string
	stop              func()

	team, custodian string // keys
}

func newBacked(t *testing.T) *backed {
	t.Helper()
	recipient, file := identity(t)
	b := &backed{harness: &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}, backups: filepath.Join(t.TempDir(), "backups"), identity: file}
	b.flags = []string{"--backups", b.backups, "--backup-recipient", recipient, "--reserve", "16MiB", "--keep-free", "64MiB"}
	b.officer = keyIn(b.begin())
	b.apply(shopPolicy)
	b.team, b.custodian = b.hire("team", dp.Product, "product-analytics"), b.hire("warehouse", dp.Custodian)
	b.allot("team", "shop", "3", "5e-10")
	return b
}

// begin starts the server.
func (b *backed) begin() (started string) {
	b.t.Helper()
	started, b.stop = b.startAt(exact{}, time.Now, b.flags...)
	b.t.Cleanup(b.stop)
	return started
}

// load loads January for some customers.
func (b *backed) load(name string, customers ...string) {
	b.t.Helper()
	b.must(b.custodian, "load", "shop", b.file(name+".csv", crowd(customers...)), "--from", "2026-01-01", "--to", "2026-01-31", "--name", name)
}

// backUp makes a backup, and gives what the server says of it.
func (b *backed) backUp() (made wire.Backup) {
	b.t.Helper()
	b.mustJSON(&made, b.officer, "backup", "--wait")
	if made.State != "done" || made.Ledger == nil || made.Bytes != 0 || len(made.Files) != 3 || !made.Encrypted {
		b.t.Fatalf("made %+v", made)
	}
	return made
}

// backUpStopped stops the server, and makes a backup of its directory.
func (b *backed) backUpStopped() (made wire.Backup) {
	b.t.Helper()
	b.stop()
	b.mustJSON(&made, "", append([]string{"backup", "--data", b.dir, "--witness", b.state + "/"}, slices.DeleteFunc(slices.Clone(b.flags), func(flag string) bool {
		return strings.Contains(flag, "reserve") || strings.Contains(flag, "keep-free") || strings.HasSuffix(flag, "MiB")
	})...)...)
	if made.State != "done" || made.Ledger.Length == 0 {
		b.t.Fatalf("made %+v", made)
	}
	return made
}

func (b *backed) path(of wire.Backup) string { return filepath.Join(b.backups, of.Files[0]) }

// restore restores a backup into a new directory, which is what is served from then on.
func (b *backed) restore(of wire.Backup, flags ...string) (printed string) {
	b.t.Helper()
	b.stop()
	b.dir = filepath.Join(b.t.TempDir(), "restored")
	return b.must("", append([]string{"restore", b.path(of), "--data", b.dir, "--identity", b.identity, "--witness", b.state + "/"}, flags...)...)
}

// verify replays the ledger of the served directory, once it has ended.
func (b *backed) verify() verify.Report {
	b.t.Helper()
	b.stop()
	r, err := verify.Ledger(b.t.Context(), filepath.Join(b.dir, "ledger"), verify.Options{})
	if err != nil || r.Finding != nil {
		b.t.Fatalf("%v, %v", r.Finding, err)
	}
	return r
}

func TestRestoredBackupIsTheSameService(t *testing.T) {
	b := newBacked(t)
	b.load("one", "ann", "bob", "cid")
	b.load("two", "ann", "dee")
	if got := b.count(b.team); got != 4 {
		t.Fatalf("%v customers", got)
	}
	releases := b.must(b.team, "release", "list", "--format", "json")
	made := b.backUpStopped()
	printed := b.restore(made)
	if !strings.Contains(printed, "nothing is missing") || !strings.Contains(printed, made.Ledger.Head) {
		t.Errorf("backed up %+v; printed %s", made.Ledger, printed)
	}
	started := b.begin()
	if strings.Contains(started, "First start") || strings.Contains(started, "No question") {
		t.Errorf("started with %s", started)
	}
	if got := b.must(b.team, "release", "list", "--format", "json"); got != releases {
		t.Errorf("releases were %s and are %s", releases, got)
	}
	if got := b.count(b.team); got != 4 {
		t.Errorf("%v customers", got)
	}
	b.load("three", "eve")
	if got := b.count(b.team); got != 5 {
		t.Errorf("%v customers once more are loaded", got)
	}
	if r := b.verify(); r.Restores != 1 {
		t.Errorf("the log holds %d restores", r.Restores)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "ledger", "restored")); !os.IsNotExist(err) {
		t.Errorf("the note of the restore is still there: %v", err)
	}
}

func (h *harness) ledgerStatus() wire.Ledger {
	h.t.Helper()
	s, err := h.client(h.officer).Ledger(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func TestOlderBackupIsServedOnceWhatIsMissingIsWrittenOff(t *testing.T) {
	b := newBacked(t)
	b.load("one", "ann", "bob")
	b.count(b.team)
	made := b.backUp()
	b.load("two", "cid") // after the backup
	b.count(b.team)
	printed := b.restore(made)
	if !strings.Contains(printed, "entries more") {
		t.Errorf("printed %s", printed)
	}
	started := b.begin()
	if s := b.ledgerStatus(); s.State != "behind" || !strings.Contains(started, "No question") {
		t.Errorf("%+v, started with %s", s, started)
	}
	if r := b.run(b.officer, "backup", "--wait"); r.code != exitFailed || !strings.Contains(r.stderr, "unavailable") {
		t.Errorf("a ledger that lacks entries was backed up: %+v", r)
	}
	b.must(b.officer, "budget", "write-off", "--reason", "the disk is gone")
	if s := b.ledgerStatus(); s.State != "ok" {
		t.Errorf("%+v", s)
	}
	b.load("two", "cid") // what was lost comes again
	b.apply(strings.Replace(shopPolicy, "{epsilon: 6, delta: 1e-9}", "{epsilon: 60, delta: 1e-7}", 1))
	b.allot("team", "shop", "30", "5e-8")
	if r := b.verify(); r.Restores != 1 {
		t.Errorf("the log holds %d restores", r.Restores)
	}
}

// Who was erased after a backup must not come back with it.
func TestErasedAfterTheBackupStaysErasedOnceItIsRestored(t *testing.T) {
	b := newBacked(t)
	everybody := []string{"ann", "bob", "cid", "dee"}
	b.load("one", everybody...)
	b.must(b.custodian, "erase", "shop", "dee", "--now", "--wait") // before the backup: ended
	made := b.backUp()
	b.must(b.custodian, "erase", "shop", "ann", "--now", "--wait") // after it: ended
	b.must(b.custodian, "erase", "shop", "bob")                    // after it: waits
	if got := b.count(b.team); got != 1 {
		t.Fatalf("%v customers", got)
	}
	old := b.dir
	printed := b.restore(made)
	if !strings.Contains(printed, "Erasures done again: 2.") {
		t.Errorf("printed %s", printed)
	}
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	b.begin()
	b.must(b.officer, "budget", "write-off", "--reason", "restored")
	b.apply(strings.Replace(shopPolicy, "{epsilon: 6, delta: 1e-9}", "{epsilon: 60, delta: 1e-7}", 1))
	b.allot("team", "shop", "30", "5e-8")
	if got := b.count(b.team); got != 1 {
		t.Errorf("%v customers before a run, want 1", got)
	}
	b.must(b.custodian, "erase", "--now", "--wait")
	if got := b.count(b.team); got != 1 {
		t.Errorf("%v customers after a run, want 1", got)
	}
	var all wire.ErasureList
	b.mustJSON(&all, b.officer, "erase", "shop", "--list")
	if len(all.Items) != 3 {
		t.Errorf("the ledger knows of %+v", all.Items)
	}
	for _, e := range all.Items {
		if e.Ended == nil {
			t.Errorf("%+v has not ended", e)
		}
	}
	b.stop()
	for _, dir := range []string{b.dir, b.backups} {
		for _, c := range everybody {
			pseudonym, city := b.pseudonym(c), []byte("own-city-of-"+c)
			found := filesWith(t, dir, pseudonym, city)
			if (len(found) > 0) != (c == "cid" && dir == b.dir) {
				t.Errorf("%s is in %v", c, found)
			}
		}
	}
	b.verify()
}

func TestRestoreRefusesWithoutTheListOfErasures(t *testing.T) {
	b := newBacked(t)
	b.load("one", "ann", "bob")
	made := b.backUp()
	b.must(b.custodian, "erase", "shop", "ann")
	b.stop()
	alone := filepath.Join(t.TempDir(), "copy.backup.age")
	copyFile(t, b.path(made), alone)
	target := filepath.Join(t.TempDir(), "restored")
	try := func(file string, flags ...string) result {
		return b.run("", append([]string{"restore", file, "--data", target, "--identity", b.identity, "--witness", b.state + "/"}, flags...)...)
	}
	refusedWith := func(r result, says string) {
		t.Helper()
		if r.code != exitUsage || !strings.Contains(r.stderr, says) {
			t.Errorf("%+v, want %q", r, says)
		}
		if _, err := os.Stat(target); !os.IsNotExist(err) {
			t.Errorf("it left %s: %v", target, err)
		}
	}
	refusedWith(try(alone), "erasures-"+made.Ledger.ID)
	_, stranger := identity(t)
	refusedWith(b.run("", "restore", b.path(made), "--data", target, "--identity", stranger), "private keys")
	refusedWith(b.run("", "restore", b.path(made), "--data", target), "--identity")
	// A list that began after the backup may lack erasures.
	list := filepath.Join(b.backups, "erasures-"+made.Ledger.ID)
	kept := list + ".kept"
	if err := os.Rename(list, kept); err != nil {
		t.Fatal(err)
	}
	b.begin()
	b.stop()
	refusedWith(try(b.path(made)), "began after")
	if err := os.Rename(kept, list); err != nil {
		t.Fatal(err)
	}
	if r := try(alone, "--erasures", b.backups); r.code != exitDone || !strings.Contains(r.stdout, "Erasures done again: 1.") {
		t.Errorf("%+v", r)
	}
	if r := try(alone, "--erasures", b.backups); r.code != exitUsage || !strings.Contains(r.stderr, "not empty") {
		t.Errorf("it was restored over another: %+v", r)
	}
	target = filepath.Join(t.TempDir(), "empty")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := try(alone, "--without-erasures"); r.code != exitDone || !strings.Contains(r.stdout, "Erase again") {
		t.Errorf("%+v", r)
	}
}

func TestBackupFlagsThatCannotBeAreRefused(t *testing.T) {
	recipient, _ := identity(t)
	data := filepath.Join(t.TempDir(), "data")
	for says, flags := range map[string][]string{
		"--backups":                  {"--backup-recipient", recipient},
		"outside of --data":          {"--backups", filepath.Join(data, "b"), "--backup-recipient", recipient},
		"(discreet backup key makes": {"--backups", data + "-b"},
		"exclude":                    {"--backups", data + "-b", "--backup-recipient", recipient, "--backup-plain"},
		"no public key":              {"--backups", data + "-b", "--backup-recipient", "age1abc"},
		"no such file":               {"--backups", data + "-b", "--backup-recipient", "nothing"},
		"--backup-at":                {"--backups", data + "-b", "--backup-recipient", recipient, "--backup-keep", "3"},
		"hours and minutes":          {"--backups", data + "-b", "--backup-recipient", recipient, "--backup-at", "25:00"},
		"name the directory of bac":  {"--backup-at", "03:00"},
	} {
		r := (&harness{t: t}).run("", append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, flags...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, says) {
			t.Errorf("%v: %+v", flags, r)
		}
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Error("a refused start made a data directory")
	}
}

func TestDailyBackupsAreMadeAndThinned(t *testing.T) {
	recipient, _ := identity(t)
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	dir := filepath.Join(t.TempDir(), "backups")
	now := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	var asked string
	for day := range 4 {
		clock := now.AddDate(0, 0, day)
		started, stop := h.startAt(exact{}, func() time.Time { return clock }, "--backups", dir, "--backup-recipient", recipient, "--backup-at", "03:00", "--backup-keep", "2", "--reserve", "16MiB", "--keep-free", "64MiB")
		if day == 0 {
			h.officer = keyIn(started)
		}
		var list wire.BackupList
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			h.mustJSON(&list, h.officer, "backup", "list")
			if len(list.Items) > 0 && list.Items[0].State == "done" && list.Items[0].Begun.Equal(clock) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("day %d: %+v", day, list.Items)
			}
		}
		if day == 0 {
			var made wire.Backup
			h.mustJSON(&made, h.officer, "backup", "--wait")
			asked = made.ID
		}
		stop()
	}
	notes, err := filepath.Glob(filepath.Join(dir, "backup-*.json"))
	files, err2 := filepath.Glob(filepath.Join(dir, "backup-*.backup.age"))
	if err != nil || err2 != nil || len(notes) != 3 || len(files) != 3 { // two of the schedule's, and the one that was asked for
		t.Fatalf("left are %v and %v", notes, files)
	}
	scheduled := 0
	for _, note := range notes {
		text, err := os.ReadFile(note)
		if err != nil {
			t.Fatal(err)
		}
		var b struct{ ID, By string }
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatal(err)
		}
		if b.By == "" {
			scheduled++
		} else if b.ID != asked {
			t.Errorf("left is %+v", b)
		}
		if info, err := os.Stat(note); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if scheduled != 2 {
		t.Errorf("%d of the schedule's are left", scheduled)
	}
}

// TestReadmeDrillBringsTheServiceBack does what the README has operators practise.
func TestReadmeDrillBringsTheServiceBack(t *testing.T) {
	sequential(t)
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("sh is not installed")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	drill := regexp.MustCompile("(?s)```sh drill\n(.*?)```").FindStringSubmatch(string(text))
	if drill == nil {
		t.Fatal("the README has no drill")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	printed := shell(t, strings.ReplaceAll(drill[1], "127.0.0.1:8089", address))
	for _, part := range []string{"done", "Restored backup-", "Every entry fits", "auditor"} {
		if !strings.Contains(printed, part) {
			t.Errorf("the drill prints no %q:\n%s", part, printed)
		}
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("copying: %w", err))
	}
}
