package main

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ownMounts makes the test binary run a test in a mount namespace of its own, over a small file system.
const ownMounts = "DISCREET_TEST_FILE_SYSTEM"

// TestFullDiskEndsNothing fills the server's file system to the last byte while clients ask, and holds it there.
//
// The long form, which benchmarks/RESULTS.md has the figures of:
//
//	DISCREET_FILLS=20 go test -run TestFullDiskEndsNothing -v -timeout 1h ./cmd/discreet
func TestFullDiskEndsNothing(t *testing.T) {
	output := inOwnMounts(t, "640m", fillDisk)
	for line := range strings.Lines(output) {
		if strings.Contains(line, "fills") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// inOwnMounts runs a part of the test that calls it in a process of its own, over a file system of the given size that only that process
// sees, and returns what it printed: once the test itself runs again as that process, where it returns nothing.
func inOwnMounts(t *testing.T, size string, part func(t *testing.T, dir string)) string {
	t.Helper()
	if raceEnabled {
		t.Skip("the processes of this test share nothing that the race detector could watch")
	}
	if dir := os.Getenv(ownMounts); dir != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("discreet", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Fatal(err)
		}
		part(t, dir)
		return ""
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1h")
	again.Env = append(os.Environ(), ownMounts+"="+t.TempDir())
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	output, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(output), syscall.EPERM.Error()) {
		missing(t, "only root may mount a file system")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

func fillDisk(t *testing.T, home string) {
	fills, seed := setting(t, "DISCREET_FILLS", 3), setting(t, "DISCREET_SEED", 1)
	choose := rand.New(rand.NewPCG(uint64(seed), 1))
	// Questions are refused below 64 MiB.
	p := newProcess(t, home, "--keep-free", "512MiB", "--reserve", "192MiB")
	a := newAsker(t, p, p.openShop())

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer func() { cancel(); clients.Wait() }()
	var next atomic.Int64
	for range 16 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if a.ask(ctx, int(next.Add(1))) != nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(hang); !done(); time.Sleep(time.Millisecond) {
			if !p.running() {
				t.Fatalf("the server ended by itself before %s: %v\n%s", what, p.wait(), p.lastWords())
			}
			if time.Now().After(deadline) {
				t.Fatalf("not %s", what)
			}
		}
	}
	for fill := range fills {
		settled := a.settled()
		answered := settled + 100 + choose.IntN(1000)
		until("answered before the fill", func() bool { return a.settled() > answered })
		empty := startFilling(t, home, fill%2 == 0)
		defer empty()
		refused := a.refused.Load()
		until("refused when full", func() bool { return roomOn(t, home) == 0 && a.refused.Load() > refused+50 })
		early := a.keys()[0]
		for _, key := range a.keys()[:answered/2] { // reading goes on: a key that was answered is answered again
			if a.endOf(key) != (settlement{}) {
				early = key
			}
		}
		if err := a.ask(ctx, early); err != nil {
			t.Errorf("fill %d: what was answered cannot be read: %v", fill, err)
		}
		// A restart while full, by the operator or by a power cut.
		if fill%3 == 2 {
			p.kill()
		} else if err := p.stop(); err != nil {
			t.Fatalf("fill %d: the server did not end cleanly: %v\n%s", fill, err, p.lastWords())
		}
		if roomOn(t, home) != 0 {
			t.Logf("fill %d: %d bytes of room when the server was down", fill, roomOn(t, home))
		}
		if err := p.start(); err != nil {
			t.Fatalf("fill %d: starting while full: %v", fill, err)
		}
		if err := a.ask(ctx, early); err != nil {
			t.Errorf("fill %d: after a restart what was answered cannot be read: %v", fill, err)
		}
		refused = a.refused.Load()
		until("refused after a restart while full", func() bool { return a.refused.Load() > refused+50 })
		empty()
		settled = a.settled()
		until("answered again once there is room", func() bool { return a.settled() > settled+20 })
	}
	cancel()
	clients.Wait()
	a.askAgain(t.Context())
	if err := p.stop(); err != nil {
		t.Fatalf("the server did not end cleanly: %v\n%s", err, p.lastWords())
	}
	a.checkBooks(p.data(), filepath.Join(p.home, "witness"))
	t.Logf("%d fills, %d keys with one charge each, %d requests refused", fills, len(a.keys()), a.refused.Load())
}

func (a *asker) endOf(key int) settlement {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ends[key]
}

func roomOn(t *testing.T, dir string) uint64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return s.Bavail
}

// startFilling takes all room of a file system, at once or by writing, and whatever becomes free, until empty
// is called.
func startFilling(t *testing.T, dir string, atOnce bool) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		chunk := make([]byte, 1<<20)
		at := int64(0)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if s := (syscall.Statfs_t{}); atOnce && syscall.Statfs(dir, &s) == nil && s.Bavail > 0 {
				room := int64(s.Bavail) * s.Bsize
				if syscall.Fallocate(int(file.Fd()), 0, at, room) == nil {
					at += room
					continue
				}
			}
			for len(chunk) > 0 {
				n, err := file.WriteAt(chunk, at)
				at += int64(n)
				if errors.Is(err, syscall.ENOSPC) {
					break
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-stopped
		if err := errors.Join(file.Close(), os.Remove(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}
