package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
)

// harness is a served data directory, driven by the command and the client over loopback as users drive it.
type harness struct {
	t       testing.TB
	dir     string // data directory
	state   string // directory of the witness
	url     string
	officer string // key
}

// exact is the noise-free double: answers are the bounded integers themselves.
type exact struct{}

func (exact) Add(x int64, _ mechanism.Draw) (int64, error) { return x, nil }

// newHarness serves a new data directory with a noise until the test ends.
func newHarness(t testing.TB, noise mechanism.Noise) *harness {
	t.Helper()
	return newHarnessWith(t, noise)
}

// newHarnessWith is newHarness with more flags of serve.
func newHarnessWith(t testing.TB, noise mechanism.Noise, flags ...string) *harness {
	t.Helper()
	h := &harness{t: t, dir: filepath.Join(t.TempDir(), "data"), state: filepath.Join(t.TempDir(), "state")}
	started, stop := h.startAt(noise, time.Now, flags...)
	t.Cleanup(stop)
	h.officer = keyIn(started)
	if h.officer == "" {
		t.Fatalf("the first start printed no key:\n%s", started)
	}
	return h
}

// serve runs discreet serve over the data directory, and stops it when the test ends. It gives what the start
// printed.
func (h *harness) serve(noise mechanism.Noise) string {
	h.t.Helper()
	started, stop := h.start(noise)
	h.t.Cleanup(stop)
	return started
}

// start runs discreet serve until stop is called.
func (h *harness) start(noise mechanism.Noise) (started string, stop func()) {
	h.t.Helper()
	return h.startAt(noise, time.Now)
}

// startAt is start by another clock, with more flags.
func (h *harness) startAt(noise mechanism.Noise, clock func() time.Time, flags ...string) (started string, stop func()) {
	h.t.Helper()
	var stdout, stderr safeBuffer
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--data", h.dir, "--listen", "127.0.0.1:0"}, flags...),
			terminal{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: noEnvironment},
			surroundings{noise: noise, clock: clock, state: func() (string, error) { return h.state, nil }})
	}()
	address := regexp.MustCompile(`https?://[0-9.:]+\n`)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if found := address.FindString(stdout.String()); found != "" {
			h.url = strings.TrimSpace(found)
			break
		}
		select {
		case code := <-ended:
			h.t.Fatalf("serve ended with %d: %s", code, stderr.String())
		default:
		}
		if time.Now().After(deadline) {
			cancel()
			h.t.Fatalf("serve printed no address: %s%s", stdout.String(), stderr.String())
		}
	}
	return stdout.String(), sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != exitDone {
			h.t.Errorf("serve ended with %d: %s", code, stderr.String())
		}
	})
}

// result is what one call of the command gave.
type result struct {
	code           int
	stdout, stderr string
}

// run calls the command as the holder of a key.
func (h *harness) run(key string, args ...string) result {
	h.t.Helper()
	return h.runWith(key, "", args...)
}

// runWith calls the command with standard input.
func (h *harness) runWith(key, stdin string, args ...string) result {
	h.t.Helper()
	var stdout, stderr safeBuffer
	code := run(h.t.Context(), args, terminal{
		stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr,
		lookup: func(name string) (string, bool) {
			value := map[string]string{"DISCREET_URL": h.url, "DISCREET_KEY": key}[name]
			return value, value != ""
		},
	}, production())
	return result{code, stdout.String(), stderr.String()}
}

// must calls the command and fails the test unless it succeeds.
func (h *harness) must(key string, args ...string) string {
	h.t.Helper()
	r := h.run(key, args...)
	if r.code != exitDone {
		h.t.Fatalf("discreet %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// mustJSON calls the command with --format json and decodes what it prints.
func (h *harness) mustJSON(into any, key string, args ...string) {
	h.t.Helper()
	text := h.must(key, append(args, "--format", "json")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		h.t.Fatalf("discreet %s printed %q: %v", strings.Join(args, " "), text, err)
	}
}

// hire adds a consumer that may ask for any of the purposes, and gives its key.
func (h *harness) hire(name string, role dp.Role, purposes ...string) string {
	h.t.Helper()
	args := []string{"consumer", "add", name, "--role", string(role)}
	if len(purposes) > 0 {
		args = append(args, "--purposes", strings.Join(purposes, ","))
	}
	h.must(h.officer, args...)
	var issued struct{ Text string }
	h.mustJSON(&issued, h.officer, "key", "add", name)
	return issued.Text
}

// allot gives a consumer a budget.
func (h *harness) allot(consumer, dataset, epsilon, delta string) {
	h.t.Helper()
	h.must(h.officer, "allotment", "set", consumer, dataset, "--epsilon", epsilon, "--delta", delta, "--reason", "test")
}

// apply puts a policy in force.
func (h *harness) apply(policy string) {
	h.t.Helper()
	h.must(h.officer, "dataset", "apply", h.file("policy.yaml", policy), "--reason", "test")
}

// client gives the Go client as the holder of a key.
func (h *harness) client(key string) *client.Client {
	h.t.Helper()
	c, err := client.New(h.url, key, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// file writes a file that is gone when the test ends.
func (h *harness) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func noEnvironment(string) (string, bool) { return "", false }

// safeBuffer is written to by one goroutine and read by another.
type safeBuffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *safeBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.String()
}

// keyIn finds a key in what was printed.
func keyIn(text string) string { return regexp.MustCompile(`dk_[A-Za-z0-9_-]+`).FindString(text) }

// sequential skips a test that does one thing at a time where the race detector watches: there is nothing to see, and much to wait for.
func sequential(t testing.TB) {
	t.Helper()
	if raceEnabled {
		t.Skip("one thing happens at a time here")
	}
}
