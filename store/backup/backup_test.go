package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/discreet-analytics/discreet/dp"
)

const ledgerID = "00112233445566778899aabbccddeeff"

// held is what a moment holds.
type held struct {
	pairs  [][2]string // of the ledger
	bodies [][2]string // of the rows
	wait   func(ctx context.Context)
	closed int
}

func (h *held) Moment(context.Context) (Moment, error)    { return h, nil }
func (h *held) Mark() (uint64, [sha256.Size]byte)         { return 7, [32]byte{1, 2} }
func (h *held) Secrets() []byte                           { return []byte("the secrets") }
func (h *held) Close()                                    { h.closed++ }
func (h *held) Ledger(each func(k, v []byte) error) error { return give(h.pairs, each) }
func (h *held) Rows(each func(k, v []byte) error) error {
	if h.wait != nil {
		h.wait(context.Background())
	}
	return give(h.bodies, each)
}

func give(pairs [][2]string, each func(k, v []byte) error) error {
	for _, p := range pairs {
		if err := each([]byte(p[0]), []byte(p[1])); err != nil {
			return err
		}
	}
	return nil
}

func some() *held {
	h := &held{}
	for i := range 200 {
		h.pairs = append(h.pairs, [2]string{fmt.Sprintf("key-%03d", i), strings.Repeat("v", i)})
	}
	for i := range 30 {
		h.bodies = append(h.bodies, [2]string{fmt.Sprintf("rows/%03d", i), strings.Repeat(fmt.Sprint("body", i), 1+i*200)})
	}
	return h
}

// keeper opens a directory of backups of a source, with a key pair.
func keeper(t *testing.T, source Source, change func(*Options)) (*Keeper, []age.Identity) {
	t.Helper()
	pair, err := age.GenerateX25519Identity()
	must(t, err)
	o := Options{Dir: filepath.Join(t.TempDir(), "backups"), Recipients: Recipients{pair.Recipient()}, Ledger: ledgerID, Program: "a test", At: -1}
	if change != nil {
		change(&o)
	}
	k, err := Open(o)
	must(t, err)
	k.Start(source)
	t.Cleanup(func() { must(t, k.Close()) })
	return k, []age.Identity{pair}
}

// ended waits until nothing runs, and gives the newest backup.
func ended(t *testing.T, k *Keeper) Backup {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		all, err := k.Backups()
		must(t, err)
		if len(all) > 0 && all[0].State != Running {
			return all[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("it has not ended: %+v", all)
		}
	}
}

// collect reads a backup whole.
func collect(path string, identities []age.Identity) (h held, head Head, secrets string, err error) {
	head, err = Read(path, identities, Visitor{
		Head:    func(Head) error { return nil },
		Secrets: func(file []byte) error { secrets = string(file); return nil },
		Ledger:  func(k, v []byte) error { h.pairs = append(h.pairs, [2]string{string(k), string(v)}); return nil },
		Rows:    func(k, v []byte) error { h.bodies = append(h.bodies, [2]string{string(k), string(v)}); return nil },
	})
	return h, head, secrets, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBackupHoldsWhatItWasGiven(t *testing.T) {
	for _, plain := range []bool{false, true} {
		source := some()
		k, identities := keeper(t, source, func(o *Options) {
			if plain {
				o.Recipients = nil
			}
		})
		begun, err := k.Begin("root", "key")
		must(t, err)
		made := ended(t, k)
		if made.State != Done || made.ID != begun.ID || made.By != "root" || made.Length != 7 || made.Encrypted == plain || source.closed != 1 {
			t.Fatalf("%+v", made)
		}
		path := filepath.Join(k.options.Dir, made.File)
		text, err := os.ReadFile(path)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		if sum := sha256.Sum256(text); fmt.Sprintf("%x", sum) != made.Sum || made.Bytes != int64(len(text)) || info.Mode().Perm() != 0o600 {
			t.Errorf("%+v of %d bytes, mode %v", made, len(text), info.Mode())
		}
		if bytes.Contains(text, []byte("the secrets")) != plain {
			t.Error("an encrypted backup can be read, or a plain one cannot")
		}
		got, head, secrets, err := collect(path, identities)
		must(t, err)
		if !slices.Equal(got.pairs, source.pairs) || !slices.Equal(got.bodies, source.bodies) || secrets != "the secrets" || head.Length != 7 || head.Ledger != ledgerID || head.ID != made.ID {
			t.Errorf("it holds something else: %+v", head)
		}
		if again, err := k.Begin("root", "key"); err != nil || again.ID != made.ID {
			t.Errorf("the same call made another: %+v, %v", again, err)
		}
		if other, err := k.Begin("warehouse", "key"); err != nil || other.ID == made.ID {
			t.Errorf("another's call under the same key got %+v, %v", other, err)
		}
		ended(t, k)
	}
}

// Whatever is cut, changed, moved or added, nothing passes for a backup.
func TestEveryCutAndFlipOfABackupIsRefused(t *testing.T) {
	for _, plain := range []bool{false, true} {
		k, identities := keeper(t, some(), func(o *Options) {
			if plain {
				o.Recipients = nil
			}
		})
		_, err := k.Begin("root", "")
		must(t, err)
		whole, err := os.ReadFile(filepath.Join(k.options.Dir, ended(t, k).File))
		must(t, err)
		path := filepath.Join(t.TempDir(), "spoilt")
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 400 {
			spoilt := slices.Clone(whole)
			at := random.IntN(len(spoilt))
			if i < 60 { // what is most telling
				at = min(i, len(spoilt)-1)
			} else if i < 120 {
				at = len(spoilt) - (i - 60) - 1
			}
			switch i % 4 {
			case 0:
				spoilt = spoilt[:at]
			case 1:
				spoilt[at] ^= 1 << random.IntN(8)
			case 2:
				spoilt = slices.Insert(spoilt, at, byte(random.Uint32()))
			default:
				from := random.IntN(len(spoilt))
				spoilt[at], spoilt[from] = spoilt[from], spoilt[at]
			}
			if bytes.Equal(spoilt, whole) {
				continue
			}
			must(t, os.WriteFile(path, spoilt, 0o600))
			if _, _, _, err := collect(path, identities); err == nil {
				t.Fatalf("plain %v: change %d at %d passes", plain, i, at)
			} else if strings.Contains(err.Error(), "vvvv") || strings.Contains(err.Error(), "body") {
				t.Fatalf("the error tells what is stored: %v", err)
			}
		}
		must(t, os.WriteFile(path, append(slices.Clone(whole), whole...), 0o600))
		if _, _, _, err := collect(path, identities); !errors.Is(err, ErrDamaged) {
			t.Errorf("two backups pass for one: %v", err)
		}
	}
}

func TestOneBackupIsMadeAtATime(t *testing.T) {
	source, go_ := some(), make(chan struct{})
	source.wait = func(context.Context) { <-go_ }
	k, _ := keeper(t, source, nil)
	first, err := k.Begin("root", "key")
	must(t, err)
	var refused *dp.Error
	if _, err := k.Begin("root", ""); !errors.As(err, &refused) || refused.Code != dp.CodeConflict {
		t.Errorf("a second one began: %v", err)
	}
	if again, err := k.Begin("root", "key"); err != nil || again.ID != first.ID || again.State != Running {
		t.Errorf("%+v, %v", again, err)
	}
	close(go_)
	if made := ended(t, k); made.State != Done {
		t.Errorf("%+v", made)
	}
}

func TestBackupThatFailsLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		source Source
		change func(*Options)
		says   string
	}{
		"no room": {some(), func(o *Options) {
			o.Room = func() error { return &dp.Error{Code: dp.CodeUnavailable, Message: "too little room"} }
		}, "too little room"},
		"too slow": {func() Source {
			h := some()
			h.wait = func(context.Context) { time.Sleep(200 * time.Millisecond) }
			return h
		}(), func(o *Options) { o.Within = 50 * time.Millisecond }, "longer than"},
		"the source": {sourceOf(func() (Moment, error) { return nil, errors.New("the ledger refuses") }), nil, "the ledger refuses"},
	} {
		k, _ := keeper(t, c.source, c.change)
		_, err := k.Begin("root", "key")
		must(t, err)
		b := ended(t, k)
		if b.State != Failed || !strings.Contains(b.Failure, c.says) || b.Ended.IsZero() {
			t.Errorf("%s: %+v", name, b)
		}
		files, err := os.ReadDir(k.options.Dir)
		must(t, err)
		if len(files) != 1 || files[0].Name() != ListName(ledgerID) {
			t.Errorf("%s: left are %v", name, files)
		}
		if again, err := k.Begin("root", "key"); err != nil || again.ID == b.ID {
			t.Errorf("%s: one that failed cannot be asked for again: %+v, %v", name, again, err)
		}
		ended(t, k)
	}
}

type sourceOf func() (Moment, error)

func (s sourceOf) Moment(context.Context) (Moment, error) { return s() }

func TestUnfinishedFilesAreRemovedAndOthersStay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"backup-20260401T000000Z-00000000.backup.age.partial", "backup-20260401T000000Z-00000000.json.partial", "other.partial", "backup-of-mine"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600))
	}
	k, _ := keeper(t, some(), func(o *Options) { o.Dir = dir })
	files, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	if want := []string{"backup-of-mine", ListName(ledgerID), "other.partial"}; !slices.Equal(names, want) {
		t.Errorf("left are %v", names)
	}
	if all, err := k.Backups(); err != nil || len(all) > 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// erased is an erasure of some customers.
func erased(i int) Erased {
	e := Erased{Erasure: dp.Erasure{Dataset: "shop", ID: fmt.Sprint("era_", i), By: "warehouse", At: time.Date(2026, 4, 1, i, 0, 0, 0, time.UTC), Units: int64(i + 1)}}
	for c := range i * 100 {
		e.Customers = append(e.Customers, uint64(c)<<32)
	}
	return e
}

func equal(a, b Erased) bool { return a.Erasure == b.Erasure && slices.Equal(a.Customers, b.Customers) }

func TestListOfErasuresIsKept(t *testing.T) {
	k, identities := keeper(t, some(), nil)
	for i := range 3 {
		must(t, k.Erased(erased(i).Erasure, erased(i).Customers))
	}
	_, since := k.list.state()
	head := Head{Ledger: ledgerID, Created: since.Add(time.Hour), Listed: 2, Since: since}
	all, err := ReadList(k.options.Dir, head, identities)
	must(t, err)
	if len(all) != 3 || !equal(all[2], erased(2)) {
		t.Errorf("%d erasures", len(all))
	}
	head.Listed = 4
	if _, err := ReadList(k.options.Dir, head, identities); !errors.Is(err, ErrIncomplete) {
		t.Errorf("an older copy of the list passes: %v", err)
	}
	head.Listed, head.Created = 2, since.Add(-time.Hour)
	if _, err := ReadList(k.options.Dir, head, identities); !errors.Is(err, ErrIncomplete) {
		t.Errorf("a list that began later passes: %v", err)
	}
	if _, err := ReadList(k.options.Dir, Head{Ledger: ledgerID, Created: since}, nil); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("it was read without a key: %v", err)
	}
	if other, err := Open(k.options); err == nil {
		t.Error(errors.Join(errors.New("two processes write the list"), other.Close()))
	}
}

// A crash cuts the last record, whose erasure was not acknowledged. Anything else that is changed is noticed.
func TestListThatWasCutGoesOnAndOneThatWasChangedDoesNot(t *testing.T) {
	dir := t.TempDir()
	pair, err := age.GenerateX25519Identity()
	must(t, err)
	make_ := func() *list {
		l, err := openList(dir, ledgerID, Recipients{pair.Recipient()}, time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC))
		must(t, err)
		return l
	}
	l := make_()
	var ends []int64
	for i := range 4 {
		must(t, l.add(erased(i)))
		ends = append(ends, l.end)
	}
	must(t, l.close())
	path := filepath.Join(dir, ListName(ledgerID))
	whole, err := os.ReadFile(path)
	must(t, err)
	head := Head{Ledger: ledgerID, Created: time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC)}
	read := func() (int, error) {
		all, err := ReadList(dir, head, []age.Identity{pair})
		return len(all), err
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 { // cut
		at := int64(listHeader) + random.Int64N(int64(len(whole)-listHeader))
		must(t, os.WriteFile(path, whole[:at], 0o600))
		left := 0
		for _, end := range ends {
			if end <= at {
				left++
			}
		}
		if n, err := read(); err != nil || n != left {
			t.Fatalf("cut at %d: %d erasures, %v, want %d", at, n, err, left)
		}
		l := make_()
		if l.records != uint64(left) {
			t.Fatalf("cut at %d: %d records", at, l.records)
		}
		must(t, l.add(erased(7)))
		must(t, l.close())
		if n, err := read(); err != nil || n != left+1 {
			t.Fatalf("cut at %d and gone on: %d erasures, %v", at, n, err)
		}
	}
	for range 200 { // flip, before the last record
		spoilt := slices.Clone(whole)
		at := random.IntN(int(ends[2]))
		spoilt[at] ^= 1 << random.IntN(8)
		must(t, os.WriteFile(path, spoilt, 0o600))
		if n, err := read(); err == nil && n == 4 {
			t.Fatalf("a flip at %d passes", at)
		}
	}
	for i := range 3 { // a record left out
		from := int64(listHeader)
		if i > 0 {
			from = ends[i-1]
		}
		must(t, os.WriteFile(path, append(slices.Clone(whole[:from]), whole[ends[i]:]...), 0o600))
		if _, err := read(); err == nil {
			t.Errorf("record %d can be left out", i)
		}
	}
}

func TestKeyFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	first, err := KeyIn(path)
	must(t, err)
	again, err := KeyIn(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if first != again || !strings.HasPrefix(first, "age1") || info.Mode().Perm() != 0o600 {
		t.Errorf("%s, %s, %v", first, again, info.Mode())
	}
	recipients, err := ReadRecipients([]string{first})
	must(t, err)
	var sealed bytes.Buffer
	out, err := recipients.seal(&sealed)
	must(t, err)
	_, err = io.WriteString(out, "text")
	must(t, errors.Join(err, out.Close()))
	identities, err := ReadIdentities(path)
	must(t, err)
	in, err := open(&sealed, identities)
	must(t, err)
	if text, err := io.ReadAll(in); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}
