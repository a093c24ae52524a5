package load

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
)

// watched counts reads, and those that came after it was closed.
type watched struct {
	io.Reader
	closed atomic.Bool
	late   atomic.Int64
}

func (w *watched) Read(p []byte) (int, error) {
	if w.closed.Load() {
		w.late.Add(1)
	}
	return w.Reader.Read(p)
}

// Who gives the input, such as an HTTP server, takes it back when loading ends.
func TestNobodyReadsTheInputOnceTheLoopEnded(t *testing.T) {
	for range 5 {
		in := &watched{Reader: io.MultiReader(strings.NewReader("id,when,shop,visits,Amount (EUR)\n"), forever("ann,2026-01-05T10:00:00Z,grocery,1,1\n"))}
		r, err := NewReader(spend(), in, Source{Format: CSV}, hashed{})
		if err != nil {
			t.Fatal(err)
		}
		r.feed.(*textFeed).chunk = 1000
		for _, err := range r.Batches(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		in.closed.Store(true)
		if in.late.Load() > 0 {
			t.Fatal("the input was read after the loop")
		}
	}
}

func TestCancelledReadingEndsWithTheCause(t *testing.T) {
	cause := errors.New("the server stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, err := NewReader(spend(), forever("{}\n"), Source{Format: NDJSON}, hashed{})
	if err != nil {
		t.Fatal(err)
	}
	r.feed.(*textFeed).chunk = 1000
	n := 0
	for _, err = range r.Batches(ctx) {
		if n++; n == 3 {
			cancel(cause)
		}
	}
	if !errors.Is(err, cause) {
		t.Errorf("ended with %v", err)
	}
}

// A panic on another goroutine could not be recovered from by the caller, and would end the process.
func TestPanicReachesTheCaller(t *testing.T) {
	r, err := NewReader(spend(), strings.NewReader("id,when,shop,visits,Amount (EUR)\nann,2026-01-05T10:00:00Z,grocery,1,1\n"), Source{Format: CSV}, panicking{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() != "no key" {
			t.Error("the panic was lost")
		}
	}()
	for range r.Batches(t.Context()) {
		t.Error("a batch was given")
	}
}

type panicking struct{ hashed }

func (panicking) Pseudonym(string) uint64 { panic("no key") }

// Whatever the workers do, a row's number is its place in the input.
func TestRowPseudonymsFollowTheInput(t *testing.T) {
	p := spend()
	p.Unit.Row = true
	text := "id,when,shop,visits,Amount (EUR)\n" + strings.Repeat("a,2026-01-05T10:00:00Z,grocery,1,1\n\nb,never,grocery,1,1\n", 5000)
	r, err := NewReader(p, strings.NewReader(text), Source{Format: CSV, Load: 7}, hashed{})
	if err != nil {
		t.Fatal(err)
	}
	r.feed.(*textFeed).chunk = 1000
	ordinal := uint64(0)
	for batch, err := range r.Batches(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range batch {
			if ordinal++; record.Reason == "" && record.Row.Customer != (hashed{}).RowPseudonym(7, ordinal, "spend") {
				t.Fatalf("record %d has another pseudonym", ordinal)
			}
		}
	}
	if ordinal != 10_000 {
		t.Errorf("got %d records", ordinal)
	}
}
