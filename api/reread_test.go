package api

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
)

// countedReleases counts how often a release is read from the ledger.
type countedReleases struct {
	Releases
	reads int
}

func (c *countedReleases) Release(ctx context.Context, consumer, id string) (dp.Release, error) {
	c.reads++
	return c.Releases.Release(ctx, consumer, id)
}

// revocable refuses everybody once it is shut.
type revocable struct {
	Directory
	shut bool
}

func (r *revocable) Authenticate(ctx context.Context, hash [sha256.Size]byte) (dp.Consumer, string, error) {
	if r.shut {
		return dp.Consumer{}, "", &dp.Error{Code: dp.CodeUnauthenticated, Message: "this key is not in force"}
	}
	return r.Directory.Authenticate(ctx, hash)
}

func TestReleaseIsRereadFromMemoryByteByByte(t *testing.T) {
	f := newFakes(t)
	counted, keys := &countedReleases{Releases: f}, &revocable{Directory: f}
	v := newTestServer(t, f)
	v.services.Releases, v.services.Directory = counted, keys
	first := send(t, v, "analyst", "GET", "/v1/releases/rel_1", "")
	text := bodyOf(t, first)
	for range 3 {
		again := send(t, v, "analyst", "GET", "/v1/releases/rel_1", "")
		if got := bodyOf(t, again); got != text || again.StatusCode != 200 {
			t.Fatalf("read again: %d %s", again.StatusCode, got)
		}
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control", "Vary", "Content-Security-Policy", "X-Content-Type-Options"} {
			if again.Header.Get(name) != first.Header.Get(name) || first.Header.Get(name) == "" {
				t.Errorf("%s is %q, then %q", name, first.Header.Get(name), again.Header.Get(name))
			}
		}
	}
	if counted.reads != 1 {
		t.Errorf("%d readings of the ledger for four of the release", counted.reads)
	}
	if !strings.Contains(f.logged(), "route=/v1/releases/{id}") && !strings.Contains(f.logged(), `"route":"/v1/releases/{id}"`) {
		t.Errorf("a rereading is logged as %s", f.logged())
	}

	// What another consumer reads is not kept for this one, nor is anything read by who is not admitted.
	refused(t, send(t, v, "product", "GET", "/v1/releases/rel_1", ""), 404, "not-found")
	keys.shut = true
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1", ""), 401, "unauthenticated")
	keys.shut = false

	// Nor is it kept from the policy in force.
	f.hidden = []string{"transactions"}
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1", ""), 404, "not-found")
	f.hidden = nil

	// Whatever is not plain is answered by the operation itself.
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1", "", "Accept", "image/png"), 406, "not-acceptable")
	refused(t, send(t, v, "analyst", "GET", "/v1/releases/rel_1?format=xml", ""), 400, "invalid-input")
	if resp := send(t, v, "analyst", "HEAD", "/v1/releases/rel_1", ""); resp.StatusCode != 200 || bodyOf(t, resp) != "" {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
}

func TestRereadingKeepsWhatFits(t *testing.T) {
	k := newRereading(100)
	put := func(release string, size int) {
		k.put(&keptRelease{name: nameOf("a", release), body: make([]byte, size)})
	}
	put("one", 40)
	put("two", 40)
	if k.get("a", "one") == nil {
		t.Error("what fits is not kept")
	}
	put("three", 40) // two was read longest ago
	if k.get("a", "two") != nil || k.get("a", "one") == nil || k.get("a", "three") == nil || k.bytes != 80 {
		t.Errorf("kept %d bytes", k.bytes)
	}
	put("three", 40)
	put("large", 101)
	if k.get("a", "large") != nil || k.bytes != 80 || k.get("b", "one") != nil {
		t.Errorf("kept %d bytes", k.bytes)
	}
}
