package ledger

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
)

func (f *fixture) lines(filter dp.AuditFilter) (all []dp.AuditLine) {
	f.t.Helper()
	for cursor := ""; ; {
		lines, next, _, err := f.AuditLines(ctx, filter, cursor, 7)
		check(f.t, err)
		all = append(all, lines...)
		if next == "" {
			return all
		}
		cursor = next
	}
}

func TestEveryEntryIsALine(t *testing.T) {
	f := newFixture(t)
	f.wander(rand.New(rand.NewPCG(5, 6)), 60)
	leaves := f.leaves()
	lines := f.lines(dp.AuditFilter{OldestFirst: true})
	if len(lines) != len(leaves) {
		t.Fatalf("%d entries are %d lines", len(leaves), len(lines))
	}
	charges := 0
	for i, l := range lines {
		if l.Index != uint64(i) || l.Kind == "" || tlog.Hash(l.Hash) != leaves[i] || l.Bytes == 0 {
			t.Fatalf("entry %d is the line %+v", i, l)
		}
		if l.Kind == string(entryCharge) {
			charges += len(l.Charges)
			if len(l.Charges) != 1 || l.Charges[0].Loss.Epsilon == 0 || l.Actor == "" || !slices.Contains(l.Datasets, dataset) {
				t.Fatalf("a charge is the line %+v", l)
			}
		}
	}
	if charges == 0 {
		t.Fatal("nothing was charged")
	}
	slices.Reverse(lines)
	if newest := f.lines(dp.AuditFilter{}); !reflect.DeepEqual(newest, lines) {
		t.Fatal("the newest first is not the oldest first reversed")
	}
}

func TestLinesSayWhoDidWhatToWhat(t *testing.T) {
	f := newFixture(t)
	c := f.charge(ask(alice, "plan"))
	f.publish(c, "rel_1", "plan")
	failed := f.charge(ask(bob, "other"))
	_, err := f.Publish(ctx, failed.Charge.ID, failed.Attempt, answer.Outcome{Failure: &dp.Error{Code: dp.CodeUnavailable, Message: "no engine"}})
	check(t, err)
	f.load("first", 1, quarter)
	check(t, f.RecordErasure(ctx, dp.Erasure{ID: "era_1", Dataset: dataset, By: "warehouse", At: f.clock(), Units: 2}))
	f.allot(bob, func(a *dp.Allotment) { a.Budget.Epsilon++ })

	last := func(filter dp.AuditFilter) dp.AuditLine {
		t.Helper()
		lines := f.lines(filter)
		if len(lines) == 0 {
			t.Fatalf("no line for %+v", filter)
		}
		return lines[0]
	}
	has := func(l dp.AuditLine, kind, name string) {
		t.Helper()
		if !slices.ContainsFunc(l.Objects, func(o dp.AuditObject) bool { return o.Kind == kind && o.Name == name }) {
			t.Errorf("%+v names no %s %s", l, kind, name)
		}
	}
	charge := last(dp.AuditFilter{Kind: "charge", Consumer: alice})
	if charge.Actor != alice || len(charge.Charges) != 1 || !reflect.DeepEqual(charge.Charges[0].Charge, c.Charge) || charge.Charges[0].Purpose != "reporting" {
		t.Errorf("charged: %+v", charge)
	}
	outcome := last(dp.AuditFilter{Kind: "outcome", Consumer: alice})
	has(outcome, "charge", c.Charge.ID)
	has(outcome, "release", "rel_1")
	if l := last(dp.AuditFilter{Kind: "outcome", Consumer: bob}); l.Failure != dp.CodeUnavailable {
		t.Errorf("failed: %+v", l)
	}
	has(last(dp.AuditFilter{Kind: "load-commit", Dataset: dataset}), "load", dataset)
	if l := last(dp.AuditFilter{Kind: "erasure", Consumer: "warehouse"}); l.Datasets[0] != dataset {
		t.Errorf("erased: %+v", l)
	}
	change := last(dp.AuditFilter{Kind: "change", Consumer: bob})
	has(change, "allotment", bob+"/"+dataset)
	if change.Actor != "root" || change.Reason == "" {
		t.Errorf("changed: %+v", change)
	}
	_, key, err := f.office.IssueKey(ctx, "root", office.NewKey{Consumer: bob}, "a test")
	check(t, err)
	has(last(dp.AuditFilter{Kind: "change", Consumer: bob}), "key", key.ID)
	asked := f.request(alice, 2000)
	check(t, f.decide(asked.ID, false, 1))
	decided := last(dp.AuditFilter{Kind: "change", Consumer: alice, Dataset: dataset})
	has(decided, "request", asked.ID)
	if decided.Actor != "officer" || decided.Reason != "decided" {
		t.Errorf("decided: %+v", decided)
	}
	if got := f.lines(dp.AuditFilter{Dataset: "nothing"}); len(got) != 0 {
		t.Errorf("a dataset that is not there has the lines %+v", got)
	}
}

func TestLinesAreFilteredByTimeAndEvent(t *testing.T) {
	f := newFixture(t)
	f.advance(time.Hour)
	from := f.clock()
	f.charge(ask(alice, "plan"))
	f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: alice})
	f.Note(dp.AuditEvent{Kind: dp.AuditSignIn, Consumer: bob})
	f.flushEvents()
	f.advance(time.Hour)
	to := f.clock()
	f.charge(ask(alice, "another"))
	if got := f.lines(dp.AuditFilter{From: from, To: to}); len(got) != 2 || got[0].Kind != "events" || got[1].Kind != "charge" {
		t.Errorf("within the hour: %+v", got)
	}
	got := f.lines(dp.AuditFilter{Kind: "sign-in", Consumer: bob})
	if len(got) != 1 || len(got[0].Events) != 1 || got[0].Events[0].Consumer != bob {
		t.Errorf("bob signed in: %+v", got)
	}
}

// A page looks at so many entries and no more, and hands out where to go on.
func TestPageOfLinesIsBounded(t *testing.T) {
	f := newFixture(t)
	f.limits.Looked = 20
	f.wander(rand.New(rand.NewPCG(7, 8)), 60)
	size := f.Status().Length
	if size <= 20 {
		t.Fatalf("there are %d entries", size)
	}
	lines, next, of, err := f.AuditLines(ctx, dp.AuditFilter{Kind: "create"}, "", 10)
	if err != nil || len(lines) != 0 || next != fmt.Sprint(size-20) || of != size {
		t.Fatalf("%d lines, next %q of %d, %v", len(lines), next, of, err)
	}
	if lines := f.lines(dp.AuditFilter{Kind: "create"}); len(lines) != 1 {
		t.Fatalf("page after page there are %d lines", len(lines))
	}
	for _, bad := range []string{"x", "0", fmt.Sprint(size + 100)} {
		_, _, _, err := f.AuditLines(ctx, dp.AuditFilter{}, bad, 10)
		wantCode(t, dp.CodeInvalidInput, err)
	}
}
