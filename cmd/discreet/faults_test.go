package main

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

// TestKilledServerForgetsNothing kills the server again and again while 64 clients ask and repeat.
//
// The long form, which benchmarks/RESULTS.md has the figures of:
//
//	DISCREET_KILLS=500 DISCREET_RETRIES=10000 go test -run TestKilledServerForgetsNothing -v -timeout 2h ./cmd/discreet
func TestKilledServerForgetsNothing(t *testing.T) {
	kills, retries, seed := setting(t, "DISCREET_KILLS", short(6)), setting(t, "DISCREET_RETRIES", 200), setting(t, "DISCREET_SEED", 1)
	t.Logf("%d kills, at least %d retries, moments of DISCREET_SEED=%d", kills, retries, seed)
	moments := rand.New(rand.NewPCG(uint64(seed), 1))

	p := newProcess(t, t.TempDir())
	a := newAsker(t, p, p.openShop())

	stop := a.keepAsking(64, uint64(seed))
	var slowest time.Duration
	for kill := 0; kill < kills || a.retries.Load() < int64(retries); kill++ {
		settled := a.settled()
		time.Sleep(time.Duration(moments.IntN(400)) * time.Millisecond)
		if !p.running() {
			t.Fatalf("the server ended by itself: %s", p.lastWords())
		}
		p.kill()
		began := time.Now()
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
		// Every few kills something is answered, or the test would show nothing.
		for deadline := time.Now().Add(hang); kill%4 == 3 && a.settled() == settled; time.Sleep(time.Millisecond) {
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
	t.Logf("%d keys, %d of them answered or failed for good, %d retries; it answered again within %v of a kill",
		len(a.keys()), a.settled(), a.retries.Load(), slowest.Round(time.Millisecond))
}
