package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// reportGroup has batches of questions made.
type reportGroup struct {
	Run    reportRun    `cmd:"" help:"Have a report made: a file of questions, priced and charged as one. Waits for it."`
	List   reportList   `cmd:"" help:"List your reports, newest first."`
	Show   reportShow   `cmd:"" help:"Show how a report stands, or its figures."`
	Cancel reportCancel `cmd:"" help:"Ask no more of a report. What was charged stands."`
}

type reportRun struct {
	File string `arg:"" help:"YAML or JSON file of the report; - for standard input."`

	Plan           bool   `help:"Only price it: free, and sees no row."`
	Detach         bool   `help:"Do not wait: it is made in the background either way."`
	IdempotencyKey string `help:"Repeated calls with this key are charged once." placeholder:"TEXT"`

	remote
	output
}

// Run prices, or submits and waits.
func (c *reportRun) Run(ctx context.Context, t terminal) error {
	spec, err := readReport(c.File, t.stdin)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.Plan {
		plan, err := server.PlanReport(ctx, spec)
		if err != nil {
			return err
		}
		return c.print(t.stdout, reportPlanView(plan))
	}
	r, err := server.MakeReport(ctx, spec, c.IdempotencyKey)
	if err != nil {
		return err
	}
	if !c.Detach && !r.Scheduled {
		if r, err = waitForReport(ctx, t.stderr, server, r); err != nil {
			return fmt.Errorf("watching report %s, which is made in the background either way: %w", r.ID, err)
		}
	}
	if err := c.print(t.stdout, reportView(r)); err != nil {
		return err
	}
	return reportFailure(r)
}

// waitForReport returns once a report has ended, and draws a bar meanwhile where somebody looks at it.
func waitForReport(ctx context.Context, w io.Writer, server *client.Client, r wire.Report) (wire.Report, error) {
	bar := questionsBar(w, r)
	err := server.WatchReport(ctx, r.ID, func(now wire.Report) error {
		r = now
		if bar != nil {
			return bar.Set(now.Progress.Ended)
		}
		return nil
	})
	if bar != nil {
		_ = bar.Finish()
	}
	return r, err
}

// questionsBar shows on a terminal how many questions are answered; elsewhere there is none.
func questionsBar(w io.Writer, r wire.Report) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions(r.Progress.All,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(oneLine(r.Name)), progressbar.OptionShowCount(),
		progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
}

// reportFailure is the error of a report that ended without all of its answers.
func reportFailure(r wire.Report) error {
	if r.State != "failed" && r.State != "cancelled" {
		return nil
	}
	return fmt.Errorf("report %s is %s: %d of its questions have an answer", r.ID, r.State, answered(r))
}

func answered(r wire.Report) (n int) {
	for _, run := range r.Runs {
		for _, p := range run.Parts {
			if p.Release != "" {
				n++
			}
		}
	}
	return n
}

type reportList struct {
	Limit int `help:"At most so many." default:"50"`

	remote
	output
}

// Run lists.
func (c *reportList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	list, err := server.Reports(ctx, client.Page{Limit: c.Limit})
	if err != nil {
		return err
	}
	v := view{body: list, columns: []string{"id", "name", "state", "created", "answered", "runs"}, empty: "You have no report."}
	for _, r := range list.Items {
		v.rows = append(v.rows, []any{r.ID, r.Name, r.State, instant(r.Created), fmt.Sprintf("%d of %d", answered(r), r.Progress.All), len(r.Runs)})
	}
	if list.Next != "" {
		v.lines = append(v.lines, "There are more: raise --limit.")
	}
	return c.print(t.stdout, v)
}

type reportCancel struct {
	ID string `arg:"" help:"Id of the report (rep_…)."`

	remote
	output
}

// Run cancels.
func (c *reportCancel) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	r, err := server.CancelReport(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.print(t.stdout, reportView(r))
}

type reportShow struct {
	ID     string `arg:"" help:"Id of the report (rep_…)."`
	Format string `help:"table or json: how it stands; csv, ndjson, arrow or html (one page with charts): the figures of its answers." enum:"table,json,csv,ndjson,arrow,html" default:"table"`

	toFile
	remote
}

// Run shows.
func (c *reportShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return c.toFile.write(t.stdout, c.Format == "arrow", func(w io.Writer) error { return c.print(ctx, w, server) })
}

func (c *reportShow) print(ctx context.Context, w io.Writer, server *client.Client) error {
	if c.Format != "table" && c.Format != "json" {
		return server.WriteReport(ctx, w, c.ID, c.Format)
	}
	r, err := server.Report(ctx, c.ID)
	if err != nil {
		return err
	}
	return output{Format: c.Format}.print(w, reportView(r))
}

// reportView shows how a report stands: a line for each question.
func reportView(r wire.Report) view {
	v := view{body: r, columns: []string{"run", "question", "state", "epsilon", "release"}, empty: "It waits for a block to end."}
	stale := false
	for _, run := range r.Runs {
		name := run.Block
		if name == "" {
			name = fmt.Sprint(run.Number)
		}
		for _, p := range run.Parts {
			cost := any("held")
			if p.Charge != nil {
				cost = exactly{p.Charge.Epsilon}
			}
			state := p.State
			if p.Stale {
				state, stale = state+", stale", true
			}
			v.rows = append(v.rows, []any{name, p.Name, state, cost, p.Release})
			if p.Failure != nil {
				v.lines = append(v.lines, fmt.Sprintf("%-11s %s: %s", p.Name, p.Failure.Code, p.Failure.Detail))
			}
		}
		if f := run.Refused; f != nil {
			v.rows = append(v.rows, []any{name, "", "refused", exactly{f.Epsilon}, ""})
			v.lines = append(v.lines, fmt.Sprintf("%-11s %s: %s", name, f.Code, strings.Join(append([]string{f.Detail}, f.Places...), "; ")))
		}
		if len(run.Charges) > 0 {
			v.lines = append(v.lines, costLine(run.Charges, "cost"))
		}
	}
	if stale {
		v.lines = append(v.lines, "stale       rows were loaded since: ask with fresh: true for answers over them, which are charged anew")
	}
	v.lines = append(v.lines, fmt.Sprintf("%-11s %s, %s, made %s", "report", r.ID, r.State, instant(r.Created)))
	return v
}

// costLine says what a report costs its blocks: the most that one pays, and how many there are.
func costLine(costs []wire.BlockCost, label string) string {
	most := costs[0]
	for _, c := range costs {
		if c.Epsilon.Float() > most.Epsilon.Float() {
			most = c
		}
	}
	line := fmt.Sprintf("%-11s %s on %s", label, lossText(most.Epsilon, most.Delta), most.Block)
	if len(costs) > 1 {
		line += fmt.Sprintf(" and at most that on each of %d blocks, all questions together", len(costs))
	}
	return line
}

func reportPlanView(p wire.ReportPlan) view {
	v := view{body: p, columns: []string{"question", "metric", "mechanism", "expected_within", "sd", "epsilon"}}
	for _, q := range p.Queries {
		for metric, expected := range sorted(q.Plan.Expected) {
			cost := any(exactly{q.Plan.Charge.Epsilon})
			switch {
			case q.Plan.FreeFrom != "" && q.Plan.Stale:
				cost = "held, stale"
			case q.Plan.FreeFrom != "":
				cost = "held"
			}
			v.rows = append(v.rows, []any{q.Name, metric, q.Plan.Privacy.Mechanism[metric], approximate{expected.Within, expected.Within}, approximate{expected.SD, expected.SD}, cost})
		}
	}
	if len(p.Charges) > 0 {
		v.lines = append(v.lines, costLine(p.Charges, "would cost"))
	}
	for _, l := range p.Left {
		v.lines = append(v.lines, "left        "+leftText(l, "like this"))
	}
	return v
}
