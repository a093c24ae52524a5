package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/report"
)

func (f *fixture) part(id string, n int, thousandths int64, blocks ...string) report.NewPart {
	c := f.ask("alice", "cards", fmt.Sprint(id, " plan ", n), pure(thousandths), blocks...)
	c.Key, c.Body = fmt.Sprintf("report\x00%s\x00%d", id, n), [32]byte{byte(n)}
	return report.NewPart{Name: fmt.Sprint("q", n), Query: dp.Query{Dataset: "cards"}, Charge: c}
}

// reported is an honest ledger with reports in every state.
func reported(t *testing.T) *fixture {
	f := newFixture(t)
	ctx := t.Context()
	f.policy("cards", dp.Budget{Epsilon: 3 * dp.EpsilonOne, Delta: 1e9}, nil)
	for _, name := range []string{"alice", "bob"} {
		f.hire(name)
		f.allot(name, "cards", func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 2 * dp.EpsilonOne} })
	}
	f.load("cards", "first", []string{"2026-01", "2026-02"})
	theirs := f.ask("bob", "cards", "theirs", pure(10), "2026-01")
	f.publish(f.charge(theirs), "rel_theirs", "theirs", 0) // charge 1, outcome 1

	made := func(id string, run *report.NewRun, spec int) {
		_, err := f.BeginReport(ctx, dp.Report{ID: id, Consumer: "alice", Name: id, Spec: make([]byte, spec), Scheduled: run == nil}, [32]byte{1}, run)
		f.must(err)
	}
	handed := f.part("rep_1", 2, 10, "2026-01")
	handed.Charge.Source, handed.Charge.Plan = "rel_theirs", "theirs"
	first := report.NewRun{Parts: []report.NewPart{f.part("rep_1", 0, 100, "2026-01", "2026-02"), f.part("rep_1", 1, 50, "2026-02"), handed, f.part("rep_1", 3, 20, months(2, 18)...)}}
	made("rep_1", &first, 3000) // report 1; its last question is too long for the chain
	one := f.charge(first.Parts[0].Charge)
	f.publish(one, "rel_1", "rep_1 plan 0", 0)
	again := report.NewRun{Parts: []report.NewPart{{Name: "held", Held: "rel_1"}, f.part("rep_2", 1, 30, "2026-01")}}
	made("rep_2", &again, 10)       // report 2
	f.charge(again.Parts[1].Charge) // attempt of a question that dies
	f.reopen()
	f.charge(again.Parts[1].Charge)
	_, err := f.CancelReport(ctx, "alice", "rep_2", dp.Error{Code: dp.CodeConflict, Message: "cancelled"}) // report-end 1
	f.must(err)
	made("rep_3", nil, 2000) // report 3
	run := report.NewRun{Block: "2026-01", Parts: []report.NewPart{f.part("rep_3", 0, 40, "2026-01"), f.part("rep_3", 1, 40, "2026-01")}}
	f.must(f.AddRun(ctx, "rep_3", 1, run)) // run 1
	f.must(f.AddRun(ctx, "rep_3", 2, report.NewRun{Block: "2026-02", Refused: &dp.Error{Code: dp.CodeBudgetExhausted, Message: "no"}}))
	r, err := f.Report(ctx, "alice", "rep_3")
	f.must(err)
	f.must(f.EndParts(ctx, "rep_3", []string{r.Runs[0].Parts[0].Charge.ID, r.Runs[0].Parts[1].Charge.ID}, dp.Error{Code: dp.CodeForbidden, Message: "no more"}))
	long := f.charge(first.Parts[3].Charge)
	f.wait(time.Second)
	f.fail(long)
	_, err = f.CancelReport(ctx, "alice", "rep_3", dp.Error{Code: dp.CodeConflict, Message: "cancelled"})
	f.must(err)
	f.reopen()
	f.close()
	return f
}

func TestLedgerWithReportsFits(t *testing.T) {
	f := reported(t)
	r := fits(t, f.dir, Options{Witness: f.witness})
	if r.Charges != 8 || r.Releases != 2 || r.Open != 1 {
		t.Errorf("verified %+v", r.Counts)
	}
}

func TestForgedReportsAreNamed(t *testing.T) {
	f := reported(t)
	fits(t, read(t, f.dir).write(), Options{})
	// charges of an entry that are short enough for the chain
	inline := func(e *entry) (list []*write) {
		for _, w := range e.writes {
			if w.key[0] == kindCharge && w.value != nil {
				list = append(list, w)
			}
		}
		return list
	}
	for name, c := range map[string]struct {
		forge func(g *forger) *entry
		why   string
	}{
		"a part is not paid": {func(g *forger) *entry {
			e := g.the("report", 1)
			g.adjust(e, accountID{"cards", "2026-02", "alice"}, func(a *accountRecord) { a.spent.Epsilon -= 50e9; a.charges-- })
			return e
		}, "does not go up by exactly"},
		"several charges without a report": {func(g *forger) *entry {
			e := g.the("run", 1)
			for _, w := range inline(e) {
				edit(g, w, func(c *chargeRecord) { c.Report = ""; c.Attempts = 1; c.Lease = c.Charge.At.Add(lease) })
			}
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return w.key[0] == kindRun })
			e.name = "charge"
			return e
		}, "several charges that no report ties together"},
		"a charge that the run does not name": {func(g *forger) *entry {
			e := g.the("run", 1)
			edit(g, g.first(e, kindRun), func(r *runRecord) { r.Parts = r.Parts[:1] })
			return e
		}, "does not ask for it in this entry"},
		"a charge of another report": {func(g *forger) *entry {
			e := g.the("run", 1)
			for _, w := range inline(e) {
				edit(g, w, func(c *chargeRecord) { c.Report = "rep_9" })
			}
			return e
		}, "not made with it"},
		"a question begins with an attempt": {func(g *forger) *entry {
			e := g.the("run", 1)
			edit(g, inline(e)[0], func(c *chargeRecord) { c.Attempts = 1; c.Lease = c.Charge.At.Add(lease) })
			return e
		}, "does not begin with its first attempt"},
		"an answer that nobody gave": {func(g *forger) *entry {
			e := g.the("report", 2)
			edit(g, g.first(e, kindRun), func(r *runRecord) { r.Parts[0].Release = "rel_9" })
			return e
		}, "never given"},
		"a run after the end": {func(g *forger) *entry {
			e, end := g.the("run", 1), g.the("report-end", 2)
			end.writes, e.writes = append(end.writes, g.first(e, kindRun)), slices.DeleteFunc(e.writes, func(w *write) bool { return w.key[0] == kindRun })
			return e
		}, "does not ask for it in this entry"},
		"a schedule that goes on": {func(g *forger) *entry {
			e := g.the("report-end", 2)
			e.writes = slices.DeleteFunc(e.writes, func(w *write) bool { return w.key[0] == kindScheduled })
			return e
		}, "should delete the list of scheduled reports"},
		"named as something else": {func(g *forger) *entry {
			e := g.the("report", 2)
			e.name = "charge"
			return e
		}, "not what its name says"},
	} {
		t.Run(name, func(t *testing.T) {
			g := read(t, f.dir)
			at := c.forge(g)
			r := verify(t, g.write(), Options{})
			switch {
			case r.Finding == nil:
				t.Fatal("it fits")
			case r.Finding.Entry != at.number || !strings.Contains(r.Finding.Why, c.why):
				t.Errorf("found %q, want entry %d and %q", r.Finding, at.number, c.why)
			}
		})
	}
}
