package disk

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// small is a file system of few blocks: what is on it is real, how much room there is is counted here.
type small struct {
	linux
	mu   sync.Mutex
	room int64
}

func (s *small) free(string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room, nil
}

func (s *small) allocate(fd int, from, length int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.allocated(fd)
	if err != nil {
		return err
	}
	if s.room < length {
		return syscall.ENOSPC
	}
	if err := s.linux.allocate(fd, from, length); err != nil {
		return err
	}
	after, err := s.allocated(fd)
	s.room -= after - before
	return err
}

func (s *small) add(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room += bytes
}

const mib = 1 << 20

// watchOver opens a watch that sees room bytes besides its reserve of 8 MiB.
func watchOver(t *testing.T, room int64) (*Watch, *small) {
	t.Helper()
	w, err := Open(t.TempDir(), Options{Keep: 64 * mib, Reserve: 8 * mib, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.file == nil {
		t.Skip("this file system cannot allocate")
	}
	s := &small{room: room}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.system = s
	return w, s
}

// shared maps a file of a length as Badger does.
func shared(t *testing.T, path string, length int) ([]byte, error) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(int64(length)); err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(file.Fd()), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		t.Cleanup(func() { _ = unix.Munmap(data) })
	}
	return data, err
}

func blocksOf(t *testing.T, path string) int64 {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	blocks := s.Blocks * 512
	if blocks > mib { // a file system that is cut up lists a file's pieces in blocks that it counts (ext4: 4 KiB)
		blocks -= blocks % (64 << 10)
	}
	return blocks
}

func TestMappedFilesHaveTheirBlocks(t *testing.T) {
	w, _ := watchOver(t, 1<<40)
	table := filepath.Join(w.dir, "ledger", "000001.sst")
	if err := os.Mkdir(filepath.Dir(table), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := shared(t, table, 3*mib); err != nil {
		t.Fatal(err)
	}
	if got := blocksOf(t, table); got < 3*mib {
		t.Errorf("a mapped table of 3 MiB has %d bytes of blocks", got)
	}
	log := filepath.Join(w.dir, "ledger", "00001.mem")
	if _, err := shared(t, log, 16*mib); err != nil {
		t.Fatal(err)
	}
	if got := blocksOf(t, log); got < 10*mib || got > 11*mib {
		t.Errorf("a mapped log of 16 MiB has %d bytes of blocks, want 10 MiB", got)
	}
	outside := filepath.Join(t.TempDir(), "000001.sst")
	if _, err := shared(t, outside, 3*mib); err != nil {
		t.Fatal(err)
	}
	if got := blocksOf(t, outside); got != 0 {
		t.Errorf("a file outside of the watched directory was given %d bytes", got)
	}
}

// A second server of a directory, with other sizes, ends before it does any harm to the first.
func TestReserveThatAnotherProcessHoldsIsLeftAlone(t *testing.T) {
	w, _ := watchOver(t, 0)
	for _, size := range []int64{4 * mib, 16 * mib} {
		if other, err := Open(w.dir, Options{Keep: 1, Reserve: size, Every: time.Hour}); !errors.Is(err, durable.ErrHeld) {
			t.Fatalf("watched twice: %v, %v", other, err)
		}
		if got := blocksOf(t, filepath.Join(w.dir, reserveName)); got != 8*mib {
			t.Fatalf("the reserve has %d MiB on disk, want 8", got/mib)
		}
	}
}

func TestReserveIsGivenToFilesThatNeedIt(t *testing.T) {
	w, _ := watchOver(t, 0)
	give := func(held int64) { // the double counts what is given back as the file system would
		t.Helper()
		if w.held != held {
			t.Errorf("the reserve holds %d MiB, want %d", w.held/mib, held/mib)
		}
		if got := blocksOf(t, filepath.Join(w.dir, reserveName)); got != held {
			t.Errorf("the reserve has %d MiB on disk, want %d", got/mib, held/mib)
		}
	}
	give(8 * mib)
	w.system = returning{w.system.(*small), w}
	if _, err := shared(t, filepath.Join(w.dir, "000001.sst"), 3*mib); err != nil {
		t.Fatal(err)
	}
	give(5 * mib)
	fresh := filepath.Join(w.dir, "000002.sst")
	if _, err := shared(t, fresh, 6*mib); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("mapping more than there is: %v", err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file that got no blocks is still there: %v", err)
	}
	give(0)
}

// returning credits the double with what the reserve gave back.
type returning struct {
	*small
	watch *Watch
}

func (r returning) allocate(fd int, from, length int64) error {
	r.mu.Lock()
	r.room = 8*mib - r.watch.held - r.taken()
	r.mu.Unlock()
	return r.small.allocate(fd, from, length)
}

// taken is what the files besides the reserve have.
func (r returning) taken() (bytes int64) {
	entries, _ := os.ReadDir(r.watch.dir)
	for _, e := range entries {
		var s unix.Stat_t
		if e.Name() != reserveName && unix.Stat(filepath.Join(r.watch.dir, e.Name()), &s) == nil {
			bytes += s.Blocks * 512
		}
	}
	return bytes
}

func TestWritesAreRefusedEarlyAndRecoverByThemselves(t *testing.T) {
	w, s := watchOver(t, 100*mib)
	var log bytes.Buffer
	w.options.Log = slog.New(slog.NewTextHandler(&log, nil))
	ledger, rows := w.Ledger(), w.Rows()
	admits := func(g *Guard, want bool, when string) {
		t.Helper()
		err := g.Room()
		if (err == nil) != want {
			t.Errorf("%s, %s: %v", g.what, when, err)
		}
		var refused *dp.Error
		if err != nil && (!errors.As(err, &refused) || refused.Code != dp.CodeUnavailable || refused.RetryAfter <= 0) {
			t.Errorf("%s, %s: refused with %v", g.what, when, err)
		}
	}
	admits(ledger, true, "with room")
	admits(rows, true, "with room")
	s.add(-40 * mib) // 60: below 64
	admits(rows, false, "below what rows keep free")
	admits(ledger, true, "below what rows keep free")
	s.add(-53 * mib) // 7: below an eighth of 64
	admits(ledger, false, "below what the ledger keeps free")
	s.add(1 * mib)
	admits(ledger, false, "at its limit, which must not be crossed with every write")
	s.add(1 * mib)
	admits(ledger, true, "above its limit")
	s.add(59 * mib) // 68
	admits(rows, false, "a little above its limit")
	s.add(4 * mib)
	admits(rows, true, "well above its limit")
	if n := bytes.Count(log.Bytes(), []byte("\n")); n != 4 {
		t.Errorf("%d lines for two refusals and two recoveries:\n%s", n, &log)
	}
}

func TestReserveIsMadeWholeBeforeWritesAreAdmittedAgain(t *testing.T) {
	w, s := watchOver(t, 0)
	w.mu.Lock()
	w.give(6 * mib)
	w.mu.Unlock()
	ledger := w.Ledger()
	s.add(12 * mib) // enough for the ledger's 8, not for the reserve besides
	if ledger.Room() == nil {
		t.Error("admitted without a whole reserve")
	}
	s.add(20 * mib)
	if err := ledger.Room(); err != nil {
		t.Errorf("refused with room and reserve: %v", err)
	}
	if w.held != 8*mib {
		t.Errorf("the reserve holds %d MiB", w.held/mib)
	}
}

func TestReserveOutlivesTheWatchAndFollowsItsSize(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int64{4 * mib, 6 * mib, 2 * mib} {
		w, err := Open(dir, Options{Keep: 8 * mib, Reserve: size})
		if err != nil {
			t.Fatal(err)
		}
		if w.file == nil {
			t.Skip("this file system cannot allocate")
		}
		if got := blocksOf(t, filepath.Join(dir, reserveName)); got != size {
			t.Errorf("a reserve of %d MiB has %d bytes", size/mib, got)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManifestHasRoomForFurtherEntries(t *testing.T) {
	w, _ := watchOver(t, 1<<40)
	manifest := filepath.Join(w.dir, "MANIFEST")
	if err := os.WriteFile(manifest, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := shared(t, filepath.Join(w.dir, "000001.sst"), mib); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 5000 || blocksOf(t, manifest) < 5000+manifestAhead {
		t.Errorf("the list of tables has %d bytes of blocks and is %d long", blocksOf(t, manifest), info.Size())
	}
}
