package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestPowerCutForgetsNothingAcknowledged cuts the power at the Nth change or sync of the disk while clients ask,
// and goes on with a disk that has forgotten, in any combination, what was not synced.
//
// The disk is benchmarks/forgetful, which DISCREET_FORGETFUL names. The long form, which benchmarks/RESULTS.md
// has the figures of:
//
//	(cd benchmarks && go build -o /tmp/forgetful ./forgetful)
//	DISCREET_FORGETFUL=/tmp/forgetful DISCREET_CUTS=500 go test -run TestPowerCut -v -timeout 2h ./cmd/discreet
func TestPowerCutForgetsNothingAcknowledged(t *testing.T) {
	cuts, seed := setting(t, "DISCREET_CUTS", 10), setting(t, "DISCREET_SEED", 1)
	disk := newForgetful(t)
	choose := rand.New(rand.NewPCG(uint64(seed), 1))
	t.Logf("%d cuts, moments and losses of DISCREET_SEED=%d", cuts, seed)

	p := newProcess(t, disk.path)
	a := newAsker(t, p, p.openShop())
	stop := a.keepAsking(8, uint64(seed))
	var slowest time.Duration
	var lost forgotten
	for cut := range cuts {
		disk.cutAfter(1 + choose.IntN(1<<(1+choose.IntN(11)))) // often within a start, sometimes after hundreds of charges
		disk.waitForCut()
		lost.add(disk.losePower(p, choose.Uint64()))
		began := time.Now()
		if err := p.start(); err != nil {
			t.Fatalf("after cut %d: %v", cut, err)
		}
		slowest = max(slowest, time.Since(began))
		for settled, deadline := a.settled(), time.Now().Add(hang); cut%4 == 3 && a.settled() == settled; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing is answered any more")
			}
		}
	}
	stop()
	a.askAgain(t.Context())
	if err := p.stop(); err != nil {
		t.Fatalf("stopping the server: %v: %s", err, p.lastWords())
	}
	a.checkBooks(p.data(), filepath.Join(p.home, "witness"))
	t.Logf("%d cuts: %d keys, %d retries; %+v; it answered again within %v",
		cuts, len(a.keys()), a.retries.Load(), lost, slowest.Round(time.Millisecond))
	if cuts >= 10 && (lost.lostPages == 0 || lost.keptPages == 0 || lost.tornPages == 0) {
		t.Error("the disk has not forgotten in every way: the test shows less than it should")
	}
}

// TestPowerCutWhileTheFirstStartWrites cuts the power anywhere in the first start over a new directory: the next
// start works, and either has the officer whose key was printed or prints a key.
func TestPowerCutWhileTheFirstStartWrites(t *testing.T) {
	cuts, seed := setting(t, "DISCREET_CUTS", 10), setting(t, "DISCREET_SEED", 1)
	disk := newForgetful(t)
	choose := rand.New(rand.NewPCG(uint64(seed), 2))
	for cut := range cuts {
		p := idleProcess(t, filepath.Join(disk.path, fmt.Sprint("home-", cut)))
		if err := os.Mkdir(p.home, 0o700); err != nil {
			t.Fatal(err)
		}
		step := 1 + choose.IntN(150)
		disk.cutAfter(step)
		printed := make(chan string, 1)
		go func() {
			_ = p.start() // it may wait for the disk until it is killed
			printed <- keyIn(p.stdout.String())
		}()
		disk.waitForCut()
		disk.losePower(p, choose.Uint64())
		first := <-printed
		if err := os.MkdirAll(p.home, 0o700); err != nil { // it may have been forgotten itself
			t.Fatal(err)
		}
		if err := p.start(); err != nil {
			t.Fatalf("cut at step %d of the first start: %v", step, err)
		}
		officer := keyIn(p.printed)
		if officer == "" {
			officer = first
		}
		h := &harness{t: t, dir: p.data(), url: "http://" + p.address, officer: officer}
		h.apply(shopPolicy)
		if err := p.stop(); err != nil {
			t.Fatalf("stopping the server: %v: %s", err, p.lastWords())
		}
	}
}

// forgetful is a disk that loses what was not synced when its power is cut.
type forgetful struct {
	t       *testing.T
	path    string // where it is mounted
	orders  io.Writer
	cuts    chan struct{}
	mounted chan forgotten
}

// forgotten counts what was not synced when the power was cut.
type forgotten struct{ lostPages, keptPages, tornPages, lostNames, keptNames int }

func (f *forgotten) add(g forgotten) {
	f.lostPages += g.lostPages
	f.keptPages += g.keptPages
	f.tornPages += g.tornPages
	f.lostNames += g.lostNames
	f.keptNames += g.keptNames
}

// newForgetful mounts an empty disk until the test ends.
func newForgetful(t *testing.T) *forgetful {
	t.Helper()
	if raceEnabled {
		t.Skip("the processes of this test share nothing that the race detector could watch")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("this kernel has no FUSE")
	}
	program := os.Getenv("DISCREET_FORGETFUL")
	if program == "" {
		missing(t, "DISCREET_FORGETFUL must name the program that (cd benchmarks && go build ./forgetful) builds")
	}
	if os.Geteuid() != 0 {
		missing(t, "only root may mount a file system")
	}
	f := &forgetful{t: t, path: t.TempDir(), cuts: make(chan struct{}, 1), mounted: make(chan forgotten, 1)}
	command := exec.Command(program, "-mount", f.path)
	command.Stderr = os.Stderr
	orders, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.orders = orders
	answers, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(answers); lines.Scan(); {
			f.hear(lines.Text())
		}
	}()
	t.Cleanup(func() {
		_ = orders.Close()
		<-ended
		if err := command.Wait(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	f.waitMounted()
	return f
}

func (f *forgetful) hear(line string) {
	if line == "cut" {
		f.cuts <- struct{}{}
		return
	}
	var l forgotten
	_, err := fmt.Sscanf(line, "mounted {lostPages:%d keptPages:%d tornPages:%d lostNames:%d keptNames:%d}",
		&l.lostPages, &l.keptPages, &l.tornPages, &l.lostNames, &l.keptNames)
	if err != nil && line != "mounted" {
		f.t.Errorf("the disk says %q", line)
	}
	f.mounted <- l
}

func (f *forgetful) order(order string, values ...any) {
	f.t.Helper()
	if _, err := fmt.Fprintf(f.orders, order+"\n", values...); err != nil {
		f.t.Fatalf("the disk is gone: %v", err)
	}
}

// cutAfter has the power go at a change or sync from now.
func (f *forgetful) cutAfter(steps int) {
	f.t.Helper()
	f.order("after %d", steps)
}

// waitForCut returns once the power is gone: by now, if little is written.
func (f *forgetful) waitForCut() {
	f.t.Helper()
	select {
	case <-f.cuts:
		return
	case <-time.After(3 * time.Second):
	}
	f.order("cut")
	select {
	case <-f.cuts:
	case <-time.After(hang):
		f.t.Fatal("the power cannot be cut")
	}
}

// losePower ends a process whose disk has lost its power, and gives the disk its power back.
func (f *forgetful) losePower(p *process, seed uint64) forgotten {
	f.t.Helper()
	if !p.running() {
		f.t.Fatalf("the server ended by itself: %s", p.lastWords())
	}
	_ = p.command.Process.Kill()
	f.order("release")
	_ = p.wait() // killed
	f.order("lose %d", seed)
	return f.waitMounted()
}

func (f *forgetful) waitMounted() forgotten {
	f.t.Helper()
	select {
	case l := <-f.mounted:
		return l
	case <-time.After(hang):
		f.t.Fatal("the disk is not mounted")
		return forgotten{}
	}
}

// missing skips a test that needs what is not here, or fails it where everything is required.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("DISCREET_REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip(why)
}
