package ledger

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/report"
)

// partOf is a question of a report, which costs so many thousandths.
func partOf(id string, n int, thousandths int64, blocks []string) report.NewPart {
	r := ask(alice, fmt.Sprint("plan ", n))
	r.Blocks, r.Loss = blocks, pure(thousandths)
	r.Key, r.Body = fmt.Sprintf("report\x00%s\x00%d", id, n), [32]byte{byte(n)}
	return report.NewPart{Name: fmt.Sprint("q", n), Query: dp.Query{Dataset: dataset, Metrics: []string{"customers"}, Purpose: "reporting"}, Charge: r}
}

func named(id string) dp.Report {
	return dp.Report{ID: id, Consumer: alice, Name: "a report", Spec: []byte(`{"Name":"a report"}`)}
}

func TestReportIsChargedAsOneOrNotAtAll(t *testing.T) {
	f := newFixture(t)
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 300, quarter), partOf("rep_1", 1, 200, january), partOf("rep_1", 2, 100, quarter[1:])}}
	before := f.Status().Length
	r, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	if f.Status().Length != before+1 {
		t.Errorf("a report is %d entries", f.Status().Length-before)
	}
	for block, thousandths := range map[string][]int64{"2026-01": {300, 200}, "2026-02": {300, 100}, "2026-03": {300, 100}} {
		want := accounting.Add(pure(thousandths[0]), pure(thousandths[1]))
		for _, who := range []string{alice, ""} {
			if got := f.spent(who, block); got != want {
				t.Errorf("%q spent %+v on %s, not %+v", who, got, block, want)
			}
		}
	}
	if len(r.Runs) != 1 || len(r.Runs[0].Parts) != 3 || report.StateOf(r) != report.Queued {
		t.Fatalf("the report is %+v", r)
	}

	// Half a thousandth too much in one block: nothing of it is charged.
	dump := f.dump()
	run = report.NewRun{Parts: []report.NewPart{partOf("rep_2", 3, 400, quarter), partOf("rep_2", 4, 101, january)}}
	_, err = f.BeginReport(ctx, named("rep_2"), [32]byte{2}, &run)
	refused := wantCode(t, dp.CodeBudgetExhausted, err)
	if refused.Required.Epsilon != 501*dp.EpsilonOne/1000 || refused.Left == nil || refused.Left.Epsilon != dp.EpsilonOne/2 {
		t.Errorf("the refusal says %+v of %+v", refused.Required, refused.Left)
	}
	if !reflect.DeepEqual(f.dump(), dump) {
		t.Error("a refused report changed the ledger")
	}
	_, err = f.Report(ctx, alice, "rep_2")
	wantCode(t, dp.CodeNotFound, err)
	_, err = f.Report(ctx, bob, "rep_1")
	wantCode(t, dp.CodeNotFound, err)
}

// TestReportIsRefusedByTheAccountThatHasNoRoom: of several blocks and datasets, the refusal names the one that is short.
func TestReportIsRefusedByTheAccountThatHasNoRoom(t *testing.T) {
	f := newFixture(t)
	spent := ask(alice, "plan spent")
	spent.Blocks, spent.Loss = []string{"2026-03"}, pure(900)
	f.publish(f.charge(spent), "rel_spent", "plan spent")
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 50, january), partOf("rep_1", 1, 60, quarter), partOf("rep_1", 2, 70, quarter[1:])}}
	_, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	refused := wantCode(t, dp.CodeBudgetExhausted, err)
	if refused.Required.Epsilon != 130*dp.EpsilonOne/1000 || refused.Left == nil || refused.Left.Epsilon != dp.EpsilonOne/10 || !strings.HasSuffix(refused.Left.Account, "/2026-03") || !strings.Contains(refused.Message, "2026-03") {
		t.Errorf("it says %q: %+v of %+v", refused.Message, refused.Required, refused.Left)
	}
}

func TestReportIsChargedOnce(t *testing.T) {
	f := newFixture(t)
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 300, january)}}
	first, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	f.reopen()
	dump := state(f.dump())
	again, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	if !reflect.DeepEqual(first, again) || !reflect.DeepEqual(state(f.dump()), dump) {
		t.Errorf("the same report is %+v, then %+v", first, again)
	}
	_, err = f.BeginReport(ctx, named("rep_1"), [32]byte{2}, &run)
	wantCode(t, dp.CodeConflict, err)
}

func TestQuestionOfAReportHasThreeAttemptsOfItsOwn(t *testing.T) {
	f := newFixture(t)
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 300, january), partOf("rep_1", 1, 200, january)}}
	_, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	for attempt := range 3 {
		c := f.charge(run.Parts[0].Charge)
		if c.Attempt != attempt+1 || c.Outcome != nil {
			t.Fatalf("attempt %d is %+v", attempt+1, c)
		}
		f.reopen() // the process died
	}
	c := f.charge(run.Parts[0].Charge)
	if c.Outcome == nil || c.Outcome.Failure == nil {
		t.Fatalf("after three attempts it is %+v", c)
	}
	c = f.charge(run.Parts[1].Charge)
	f.publish(c, "rel_1", "plan 1")
	r, err := f.Report(ctx, alice, "rep_1")
	check(t, err)
	if report.StateOf(r) != report.Failed || r.Runs[0].Parts[1].Release != "rel_1" || r.Runs[0].Parts[0].Failure == nil {
		t.Errorf("the report is %+v", r)
	}
	if got, want := f.spent(alice, "2026-01"), accounting.Add(pure(300), pure(200)); got != want {
		t.Errorf("spent %+v, not %+v", got, want)
	}
	if open, err := f.OpenReports(ctx); err != nil || len(open) != 0 {
		t.Errorf("open are %+v, %v", open, err)
	}
}

func TestHeldAndOthersAnswersAreNotDrawnAgainForAReport(t *testing.T) {
	f := newFixture(t)
	check(t, f.CommitLoad(ctx, mustBegin(f, january)))
	mine, theirs := ask(alice, "plan 0"), ask(bob, "plan 1")
	f.publish(f.charge(mine), "rel_mine", "plan 0")
	f.publish(f.charge(theirs), "rel_theirs", "plan 1")
	capBefore, mineBefore := f.spent("", "2026-01"), f.spent(alice, "2026-01")

	held := report.NewPart{Name: "held", Held: "rel_mine"}
	handed := partOf("rep_1", 1, 100, january)
	handed.Charge.Source = "rel_theirs"
	r, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &report.NewRun{Parts: []report.NewPart{held, handed}})
	check(t, err)
	if report.StateOf(r) != report.Done || r.Runs[0].Parts[0].Charge.ID != "" || r.Runs[0].Parts[1].Release != "rel_theirs" {
		t.Errorf("the report is %+v", r)
	}
	if f.spent("", "2026-01") != capBefore || f.spent(alice, "2026-01") != accounting.Add(mineBefore, pure(100)) {
		t.Errorf("the cap spent %+v, the allotment %+v", f.spent("", "2026-01"), f.spent(alice, "2026-01"))
	}
	foreign := report.NewPart{Name: "foreign", Held: "rel_unknown"}
	if _, err := f.BeginReport(ctx, named("rep_2"), [32]byte{2}, &report.NewRun{Parts: []report.NewPart{foreign}}); err == nil {
		t.Error("a release that nobody holds answers a question")
	}
}

func TestAnswersAreStaleOnceRowsWereLoadedIntoTheirBlocks(t *testing.T) {
	f := newFixture(t)
	check(t, f.CommitLoad(ctx, mustBegin(f, quarter)))
	mine := ask(alice, "plan 0")
	f.publish(f.charge(mine), "rel_mine", "plan 0") // over January
	run := report.NewRun{Parts: []report.NewPart{{Name: "held", Held: "rel_mine"}, partOf("rep_1", 1, 100, quarter), partOf("rep_1", 2, 100, quarter[1:])}}
	_, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	f.publish(f.charge(run.Parts[1].Charge), "rel_1", "plan 1")
	stale := func() (now [3]bool) {
		r, err := f.Report(ctx, alice, "rep_1")
		check(t, err)
		list, _, err := f.Reports(ctx, alice, "", 10)
		check(t, err)
		if !reflect.DeepEqual(list, []dp.Report{r}) {
			t.Errorf("listed it is %+v, and read %+v", list, r)
		}
		for i, p := range r.Runs[0].Parts {
			now[i] = p.Stale
		}
		return now
	}
	if got := stale(); got != [3]bool{} {
		t.Errorf("before any load %v are stale", got)
	}
	again, _ := f.begin("another load", quarter[2:])
	check(t, f.CommitLoad(ctx, again))
	if got := stale(); got != [3]bool{false, true, false} {
		t.Errorf("after a load of March %v are stale", got)
	}
	again, _ = f.begin("a third load", january)
	check(t, f.CommitLoad(ctx, again))
	f.reopen()
	if got := stale(); got != [3]bool{true, true, false} {
		t.Errorf("after a load of January %v are stale", got)
	}
}

func mustBegin(f *fixture, blocks []string) dp.Load {
	f.t.Helper()
	l, _ := f.begin("a load", blocks)
	return l
}

func TestCancelledReportIsAskedNoMore(t *testing.T) {
	f := newFixture(t)
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 300, january), partOf("rep_1", 1, 200, january), partOf("rep_1", 2, 100, january)}}
	_, err := f.BeginReport(ctx, named("rep_1"), [32]byte{1}, &run)
	check(t, err)
	f.publish(f.charge(run.Parts[0].Charge), "rel_0", "plan 0")
	running := f.charge(run.Parts[1].Charge)
	why := dp.Error{Code: dp.CodeConflict, Message: "cancelled"}
	_, err = f.CancelReport(ctx, bob, "rep_1", why)
	wantCode(t, dp.CodeNotFound, err)
	f.advance(time.Second)
	r, err := f.CancelReport(ctx, alice, "rep_1", why)
	check(t, err)
	parts := r.Runs[0].Parts
	if report.StateOf(r) != report.Cancelled || parts[0].Release != "rel_0" || parts[1].Failure == nil || parts[2].Failure == nil || parts[2].Attempts != 0 {
		t.Errorf("the report is %+v", r)
	}
	// An attempt that was under way publishes nothing any more.
	o, err := f.Publish(ctx, running.Charge.ID, running.Attempt, answer.Outcome{Release: release(running, "rel_1", "plan 1")})
	check(t, err)
	if o.Release != nil || o.Failure == nil || o.Failure.Message != why.Message {
		t.Errorf("published %+v", o)
	}
	if c := f.charge(run.Parts[2].Charge); c.Outcome == nil || c.Outcome.Failure == nil {
		t.Errorf("asked after it was cancelled: %+v", c)
	}
	dump := f.dump()
	if again, err := f.CancelReport(ctx, alice, "rep_1", why); err != nil || !reflect.DeepEqual(again, r) || !reflect.DeepEqual(f.dump(), dump) {
		t.Errorf("cancelled again it is %+v, %v", again, err)
	}
	// One that has ended is left as it is.
	single := report.NewRun{Parts: []report.NewPart{partOf("rep_2", 3, 100, january)}}
	_, err = f.BeginReport(ctx, named("rep_2"), [32]byte{2}, &single)
	check(t, err)
	f.publish(f.charge(single.Parts[0].Charge), "rel_3", "plan 3")
	if r, err := f.CancelReport(ctx, alice, "rep_2", why); err != nil || report.StateOf(r) != report.Done {
		t.Errorf("a report that is done is %+v, %v", r, err)
	}
}

func TestScheduledReportHasRunsUntilItIsCancelled(t *testing.T) {
	f := newFixture(t)
	scheduled := named("rep_1")
	scheduled.Scheduled = true
	_, err := f.BeginReport(ctx, scheduled, [32]byte{1}, nil)
	check(t, err)
	check(t, f.CommitLoad(ctx, mustBegin(f, quarter)))
	if blocks, err := f.LoadedBlocks(ctx, dataset); err != nil || !reflect.DeepEqual(blocks, quarter) {
		t.Errorf("loaded are %v, %v", blocks, err)
	}
	one := report.NewRun{Block: "2026-01", Parts: []report.NewPart{partOf("rep_1", 1, 100, january)}}
	check(t, f.AddRun(ctx, "rep_1", 1, one))
	dump := f.dump()
	check(t, f.AddRun(ctx, "rep_1", 1, one))
	if !reflect.DeepEqual(f.dump(), dump) {
		t.Error("a run that exists was charged again")
	}
	if f.AddRun(ctx, "rep_1", 3, one) == nil {
		t.Error("a run was skipped")
	}
	check(t, f.AddRun(ctx, "rep_1", 2, report.NewRun{Block: "2026-02", Refused: &dp.Error{Code: dp.CodeBudgetExhausted, Message: "no", Required: &dp.Loss{Epsilon: 1}}}))
	f.reopen()
	open, err := f.OpenReports(ctx)
	check(t, err)
	if len(open) != 1 || len(open[0].Runs) != 2 || open[0].Runs[1].Refused == nil || open[0].Runs[1].Refused.Required.Epsilon != 1 || report.StateOf(open[0]) != report.Running {
		t.Fatalf("open are %+v", open)
	}
	_, err = f.CancelReport(ctx, alice, "rep_1", dp.Error{Code: dp.CodeConflict, Message: "cancelled"})
	check(t, err)
	wantCode(t, dp.CodeConflict, f.AddRun(ctx, "rep_1", 3, one))
	if open, err := f.OpenReports(ctx); err != nil || len(open) != 0 {
		t.Errorf("open are %+v, %v", open, err)
	}
	list, next, err := f.Reports(ctx, alice, "", 10)
	if err != nil || len(list) != 1 || next != "" || report.StateOf(list[0]) != report.Cancelled {
		t.Errorf("the list is %+v, %q, %v", list, next, err)
	}
}

func TestScheduledReportsOfOneConsumerAreBounded(t *testing.T) {
	f := newFixture(t)
	begin := func(who string, n int) error {
		r := named(fmt.Sprint("rep_", who, n))
		r.Consumer, r.Scheduled = who, true
		_, err := f.BeginReport(ctx, r, [32]byte{1}, nil)
		return err
	}
	for n := range report.MaxScheduled {
		check(t, begin(alice, n))
	}
	wantCode(t, dp.CodeConflict, begin(alice, report.MaxScheduled))
	check(t, begin(alice, 7)) // is one of them
	check(t, begin(bob, 1))
	_, err := f.CancelReport(ctx, alice, fmt.Sprint("rep_", alice, 3), dp.Error{Code: dp.CodeConflict, Message: "cancelled"})
	check(t, err)
	check(t, begin(alice, report.MaxScheduled))
}

func TestReportLargerThanAnEntryIsRefused(t *testing.T) {
	f := newFixture(t)
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 1000 * dp.EpsilonOne })
	large := named("rep_1")
	large.Spec = make([]byte, 2<<20)
	run := report.NewRun{Parts: []report.NewPart{partOf("rep_1", 0, 300, january)}}
	_, err := f.BeginReport(ctx, large, [32]byte{1}, &run)
	wantCode(t, dp.CodeTooLarge, err)
	if got := f.spent(alice, "2026-01"); got != (dp.Loss{}) {
		t.Errorf("spent %+v", got)
	}
}
