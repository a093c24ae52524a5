package ledger

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// happened are the events in the log, the oldest first.
func (f *fixture) happened() (list []dp.AuditEvent, lost int64) {
	f.t.Helper()
	f.flushEvents()
	lines, _, _, err := f.AuditLines(ctx, dp.AuditFilter{Kind: "events", OldestFirst: true}, "", 0)
	check(f.t, err)
	for _, l := range lines {
		list = append(list, l.Events...)
		lost += l.Lost
	}
	return list, lost
}

func TestEventsOfAMomentAreOneEntry(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	before := f.Status().Length
	reading := dp.AuditEvent{Kind: dp.AuditReading, Consumer: alice, Operation: "get-release", Release: "rel_1"}
	refusal := dp.AuditEvent{Kind: dp.AuditRefusal, Consumer: bob, Operation: "ask", Code: dp.CodeBudgetExhausted, Dataset: dataset}
	for range 1000 {
		f.Note(reading)
	}
	f.Note(refusal)
	got, lost := f.happened()
	reading.Count, refusal.Count = 1000, 1
	if want := []dp.AuditEvent{reading, refusal}; !slices.Equal(got, want) || lost != 0 || f.Status().Length != before+1 {
		t.Fatalf("%+v, %d lost, %d entries more", got, lost, f.Status().Length-before)
	}
	f.reopen()
	f.verified()
}

// What is gathered is written after the moment, and when the ledger is closed.
func TestEventsAreWrittenWithoutBeingAskedFor(t *testing.T) {
	f := newFixture(t)
	f.events.every = time.Millisecond
	f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: alice})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if lines, _, _, err := f.AuditLines(ctx, dp.AuditFilter{Kind: string(dp.AuditSignIn)}, "", 0); err == nil && len(lines) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no entry was written")
		}
	}
	f.events.every = time.Hour
	f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: bob})
	f.reopen()
	if got, _ := f.happened(); len(got) != 2 || got[1].Consumer != bob {
		t.Fatalf("after closing there are %+v", got)
	}
}

// An event names what there is; whatever else was said is left out, or counted.
func TestEventsNameOnlyWhatThereIs(t *testing.T) {
	f := newFixture(t)
	f.publish(f.charge(ask(alice, "plan")), "rel_1", "plan")
	for _, e := range []dp.AuditEvent{
		{Kind: dp.AuditRefusal, Consumer: alice, Operation: "ask", Code: dp.CodeNotFound, Dataset: "a-guess"},
		{Kind: dp.AuditRefusal, Consumer: alice, Operation: "ask", Code: dp.CodeNotFound, Dataset: "Mrs. Miller, 4711"},
		{Kind: dp.AuditRefusal, Consumer: "nobody", Operation: "ask", Code: dp.CodeNotFound},
		{Kind: dp.AuditReading, Consumer: bob, Operation: "get-release", Release: "rel_1"},
		{Kind: dp.AuditSignIn, Consumer: bob, Key: "key_of_nobody"},
		{Kind: dp.AuditFailedSignIn, Code: dp.Code(dp.KeyUnknown), Count: 7},
	} {
		f.Note(e)
	}
	got, lost := f.happened()
	want := []dp.AuditEvent{
		{Kind: dp.AuditFailedSignIn, Code: "unknown", Count: 7},
		{Kind: dp.AuditRefusal, Consumer: alice, Operation: "ask", Code: dp.CodeNotFound, Count: 2},
		{Kind: dp.AuditSignIn, Consumer: bob, Count: 1},
	}
	if !slices.Equal(got, want) || lost != 2 {
		t.Fatalf("%+v, %d lost", got, lost)
	}
	for key, value := range f.dump() {
		if strings.Contains(value, "a-guess") || strings.Contains(value, "Miller") {
			t.Errorf("a key of kind %c holds what was said", key[0])
		}
	}
	f.verified()
}

// However many different things happen at once, one entry tells of them, and nothing goes uncounted.
func TestEventsAreBounded(t *testing.T) {
	f := newFixture(t)
	var noted int64
	for i := range 1000 {
		for _, who := range []string{alice, bob} {
			f.Note(dp.AuditEvent{Kind: dp.AuditRefusal, Consumer: who, Operation: fmt.Sprint("operation-", i), Code: dp.CodeNotFound})
			noted++
		}
	}
	for i := range 1000 {
		f.Note(dp.AuditEvent{Kind: dp.AuditRefusal, Consumer: fmt.Sprint("consumer-", i)})
		noted++
	}
	if len(f.events.counts) > maxCoarse {
		t.Fatalf("%d events are gathered", len(f.events.counts))
	}
	got, lost := f.happened()
	further := 0
	for _, e := range got {
		lost += e.Count
		if e.Further {
			further++
		}
	}
	if lost != noted || len(got) > maxCoarse || further != 2 {
		t.Fatalf("%d of %d are accounted for, in %d events, %d of them further ones", lost, noted, len(got), further)
	}
	f.verified()
}

// A ledger that takes no writes holds nobody up; what it did not take is counted in the next entry.
func TestEventsThatTheLedgerDoesNotTakeAreCounted(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	full := true
	f.room = func() error {
		if full {
			return refuse(dp.CodeUnavailable, "the disk is full: free space")
		}
		return nil
	}
	for range 3 {
		f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: alice})
		f.flushEvents()
	}
	if n := strings.Count(log.String(), "only counted"); n != 1 {
		t.Errorf("the log tells of it %d times: %s", n, &log)
	}
	full = false
	f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: bob})
	if got, lost := f.happened(); len(got) != 1 || lost != 3 {
		t.Fatalf("%+v, %d lost", got, lost)
	}
	f.verified()
}

func BenchmarkNote(b *testing.B) {
	f := newFixture(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f.Note(dp.AuditEvent{Kind: dp.AuditReading, Consumer: alice, Operation: "get-release", Release: "rel_1"})
		}
	})
}
