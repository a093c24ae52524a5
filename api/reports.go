package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/export"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/report"
)

const eventsType = "text/event-stream"

type reportSpecInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"The same report sent again under this key is charged once"`
	Body           wire.ReportSpec
}

type reportPlanInput struct {
	Body wire.ReportSpec
}

type reportPlanOutput struct {
	Body wire.ReportPlan
}

type reportOutput struct {
	Location string `header:"Location"`
	Body     wire.Report
}

type reportsOutput struct {
	Body wire.ReportList
}

// ReportParam names a report.
type ReportParam struct {
	ID string `path:"id" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"rep_01k3x8"`
}

type getReportInput struct {
	ReportParam
	Format string `query:"format" enum:"json,csv,ndjson,arrow,html" doc:"Overrides Accept"`
	negotiated
}

type getReportOutput struct {
	CacheControl string `header:"Cache-Control"`
	Vary         string `header:"Vary"`
	Security     string `header:"Content-Security-Policy"`
	Body         func(huma.Context)
}

type eventsOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         func(huma.Context)
}

func (v *Server) registerReports() {
	register(v, huma.Operation{
		OperationID: "make-report", Method: http.MethodPost, Path: "/v1/reports", Tags: []string{"Ask"}, DefaultStatus: http.StatusAccepted,
		Summary: "Have a report made",
		Description: "Takes a batch of questions, charges all of them together or none, and answers them one after the other in the background, again where the server " +
			"stopped. With schedule, nothing is charged now: each block is, once it has ended and was loaded.",
		Metadata: map[string]any{invalidCode: dp.CodeInvalidQuery},
		Errors:   []int{404, 409, 422},
	}, v.makeReport)
	register(v, huma.Operation{
		OperationID: "plan-report", Method: http.MethodPost, Path: "/v1/report-plans", Tags: []string{"Ask"},
		Summary:     "Price a report",
		Description: "Takes the body of a report and answers with the price of each question, and what all cost each block. Free, and sees no row.",
		Metadata:    map[string]any{invalidCode: dp.CodeInvalidQuery},
		Errors:      []int{404, 409, 422},
	}, v.planReport)
	register(v, huma.Operation{
		OperationID: "list-reports", Method: http.MethodGet, Path: "/v1/reports", Tags: []string{"Ask"},
		Summary: "List your reports", Description: "Newest first.",
	}, v.listReports)
	register(v, huma.Operation{
		OperationID: "get-report", Method: http.MethodGet, Path: "/v1/reports/{id}", Tags: []string{"Ask"},
		Summary:     "How a report stands, or its figures",
		Description: "As JSON its questions, their prices, and the releases that answer them. In the other formats the figures of all answers that it has: a line for each, or one page with charts that needs nothing else.",
		Metadata:    map[string]any{produces: []string{jsonType, csvType, ndjsonType, arrowType, htmlType}},
		Responses: map[string]*huma.Response{"200": {Description: "The report", Content: map[string]*huma.MediaType{
			jsonType:   {Schema: v.schema(reflect.TypeFor[wire.Report]())},
			csvType:    {Schema: v.textSchema("ReportCSV", "A line for each figure: run, question, dataset, release, level, a column for every key that any question has (one that is named as another column has key_ before its name), metric, value, low, high, sd, stale. Texts that a spreadsheet would take for a formula begin with an apostrophe")},
			ndjsonType: {Schema: v.schema(reflect.TypeFor[export.Figure]())},
			arrowType:  {Schema: v.textSchema("ReportArrow", "An Arrow IPC stream with the columns of the CSV")},
			htmlType:   {Schema: v.textSchema("ReportPage", "One page with charts and tables; it loads nothing and runs nothing")},
		}}},
		Errors: []int{404},
	}, v.getReport)
	register(v, huma.Operation{
		OperationID: "cancel-report", Method: http.MethodDelete, Path: "/v1/reports/{id}", Tags: []string{"Ask"}, DefaultStatus: http.StatusOK,
		Summary:     "Cancel a report",
		Description: "Questions that have no answer yet are not asked any more, and a schedule ends. What was charged stands, and answers that were given stay. One that has ended is left as it is.",
		Errors:      []int{404},
	}, v.cancelReport)
	register(v, huma.Operation{
		OperationID: "watch-report", Method: http.MethodGet, Path: "/v1/reports/{id}/events", Tags: []string{"Ask"},
		Summary: "Watch a report",
		Description: "Server-sent events: the report, as event report, now and whenever it changes, until it has ended. A stream ends after some minutes: connect again, " +
			"which browsers do by themselves, and begin with how it stands then.",
		Metadata: map[string]any{produces: []string{eventsType}},
		Responses: map[string]*huma.Response{"200": {Description: "Events whose data is a Report", Content: map[string]*huma.MediaType{
			eventsType: {Schema: v.schema(reflect.TypeFor[wire.Report]())},
		}}},
		Errors: []int{404},
	}, v.watchReport)
}

func (v *Server) makeReport(ctx context.Context, in *reportSpecInput) (*reportOutput, error) {
	requestOf(ctx).dataset = in.Body.Dataset
	r, err := v.services.Reports.Submit(ctx, callerOf(ctx).Consumer, specOf(in.Body), in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return &reportOutput{Location: "/v1/reports/" + r.ID, Body: reportOf(r)}, nil
}

func (v *Server) planReport(ctx context.Context, in *reportPlanInput) (*reportPlanOutput, error) {
	requestOf(ctx).dataset = in.Body.Dataset
	p, err := v.services.Reports.Plan(ctx, callerOf(ctx).Consumer, specOf(in.Body))
	if err != nil {
		return nil, err
	}
	out := wire.ReportPlan{Queries: []wire.PlannedQuery{}, Charges: []wire.BlockCost{}, Left: []wire.Left{}}
	for _, part := range p.Parts {
		out.Queries = append(out.Queries, wire.PlannedQuery{Name: part.Name, Plan: planOf(part.Quote)})
	}
	for _, b := range p.Blocks {
		out.Charges = append(out.Charges, blockCostOf(b))
	}
	for _, l := range p.Left {
		out.Left = append(out.Left, *leftOf(l))
	}
	return &reportPlanOutput{Body: out}, nil
}

func (v *Server) listReports(ctx context.Context, in *PageParams) (*reportsOutput, error) {
	p := in.page()
	list, next, err := v.services.Reports.Reports(ctx, callerOf(ctx).Name, p.Cursor, p.Limit)
	if err != nil {
		return nil, err
	}
	out := &reportsOutput{Body: wire.ReportList{Items: []wire.Report{}, Next: next}}
	for _, r := range list {
		out.Body.Items = append(out.Body.Items, reportOf(r))
	}
	return out, nil
}

func (v *Server) getReport(ctx context.Context, in *getReportInput) (*getReportOutput, error) {
	caller := callerOf(ctx).Name
	r, err := v.services.Reports.Report(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	out := &getReportOutput{CacheControl: releaseCacheControl, Vary: releaseVary}
	format := shortOf(in.accepted)
	if in.Format != "" {
		format = in.Format
	}
	if format == "json" {
		out.Body = v.body(jsonType, 0, func(w io.Writer) error { return json.NewEncoder(w).Encode(reportOf(r)) })
		return out, nil
	}
	figures := v.figuresOf(callerOf(ctx), r)
	switch format {
	case "csv":
		out.Body = v.streamed(csvType+"; charset=utf-8", func(w io.Writer) error { return export.CSV(w, figures) })
	case "ndjson":
		out.Body = v.streamed(ndjsonType, func(w io.Writer) error { return export.NDJSON(w, figures) })
	case "arrow":
		out.Body = v.streamed(arrowType, func(w io.Writer) error { return export.Arrow(w, figures) })
	default:
		out.Security = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
		out.Body = v.streamed(htmlType+"; charset=utf-8", func(w io.Writer) error { return export.Page(w, figures) })
	}
	return out, nil
}

// figuresOf names the answers of a report, which are read while they are written.
func (v *Server) figuresOf(who caller, r dp.Report) export.Report {
	out := export.Report{Name: r.Name, ID: r.ID, State: string(report.StateOf(r)), Created: r.Created,
		Read: func(id string) (dp.Release, error) { // it outlives the handler
			if err := who.again(v.base); err != nil {
				return dp.Release{}, err
			}
			r, err := v.services.Releases.Release(v.base, who.Name, id)
			if err == nil {
				v.noteReading(who.Name, "get-report", id)
			}
			return r, err
		}}
	for _, run := range r.Runs {
		name := run.Block
		if name == "" {
			name = strconv.FormatUint(run.Number, 10)
		}
		if run.Refused != nil {
			out.Missing = append(out.Missing, name+" was refused: "+run.Refused.Message)
		}
		for _, p := range run.Parts {
			if p.Release == "" {
				why := "has no answer yet."
				if p.Failure != nil {
					why = "has no answer: " + p.Failure.Message
				}
				out.Missing = append(out.Missing, p.Name+" "+why)
				continue
			}
			out.Answers = append(out.Answers, export.Answer{Run: name, Question: p.Name, Release: p.Release, By: p.Query.By, Stale: p.Stale})
		}
	}
	return out
}

func (v *Server) cancelReport(ctx context.Context, in *ReportParam) (*reportOutput, error) {
	r, err := v.services.Reports.Cancel(ctx, callerOf(ctx).Name, in.ID)
	if err != nil {
		return nil, err
	}
	return &reportOutput{Body: reportOf(r)}, nil
}

// heartbeat is how often a stream of events says that it is there, so that a caller who left is noticed, and one who is not
// let in any more.
const heartbeat = 2 * time.Second

// watchReport streams how a report stands. The stream outlives the handler: it may use neither its context nor what
// Fiber gives back.
func (v *Server) watchReport(ctx context.Context, in *ReportParam) (*eventsOutput, error) {
	who := callerOf(ctx)
	if _, err := v.services.Reports.Report(ctx, who.Name, in.ID); err != nil {
		return nil, err
	}
	id := requestOf(ctx).id
	until := time.Now().Add(v.options.WriteTimeout * 4 / 5) // then the connection would be cut
	return &eventsOutput{CacheControl: "no-store", Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", eventsType)
		ctx.SetStatus(http.StatusOK)
		fast := fiberOf(ctx).Context()
		if fast.IsHead() {
			return
		}
		fast.SetBodyStreamWriter(func(w *bufio.Writer) {
			defer func() {
				if value := recover(); value != nil {
					v.options.Log.Error("events cut off", "id", id, "panic", panicText(value))
				}
			}()
			if err := v.writeEvents(w, who, in.ID, until); err != nil {
				v.options.Log.Debug("events ended", "id", id, "error", logText(err))
			}
		})
	}}, nil
}

// writeEvents returns once the report has ended, the caller has left or is not let in any more, the server stops, or the
// stream is old.
func (v *Server) writeEvents(w *bufio.Writer, who caller, id string, until time.Time) error {
	if _, err := w.WriteString("retry: 1000\n\n"); err != nil {
		return err
	}
	last := ""
	for {
		changed := v.services.Reports.Changed() // before reading: what changes meanwhile is read again
		if err := who.again(v.base); err != nil {
			return err
		}
		r, err := v.services.Reports.Report(v.base, who.Name, id)
		if err != nil {
			return err
		}
		text, err := json.Marshal(reportOf(r))
		if err != nil {
			return fmt.Errorf("encoding a report: %w", err)
		}
		event := ": here\n\n"
		if string(text) != last {
			last, event = string(text), "event: report\ndata: "+string(text)+"\n\n"
		}
		if _, err := w.WriteString(event); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		state := report.StateOf(r)
		if state == report.Done || state == report.Failed || state == report.Cancelled || time.Now().After(until) {
			return nil
		}
		beat := time.NewTimer(heartbeat)
		select {
		case <-changed:
		case <-beat.C:
		case <-v.stopping:
			beat.Stop()
			return nil
		}
		beat.Stop()
	}
}

// specOf is a report as dp has it. Numbers stay the text that was sent.
func specOf(in wire.ReportSpec) report.Spec {
	out := report.Spec{
		Name: in.Name, Dataset: in.Dataset, Purpose: in.Purpose, From: in.From, To: in.To, Confidence: string(in.Confidence),
		Epsilon: string(in.Epsilon), Delta: string(in.Delta), Equalise: in.Equalise, Schedule: in.Schedule, NonNegative: in.NonNegative,
	}
	for name, weight := range in.Weights {
		if out.Weights == nil {
			out.Weights = map[string]string{}
		}
		out.Weights[name] = string(weight)
	}
	for _, q := range in.Queries {
		out.Questions = append(out.Questions, report.Question{Name: q.Name, Query: QueryOf(q.Query())})
	}
	return out
}

func reportOf(r dp.Report) wire.Report {
	ended, all := report.Progress(r)
	out := wire.Report{
		ID: r.ID, Name: r.Name, State: string(report.StateOf(r)), Created: r.Created.UTC(), Cancelled: timeOf(r.Cancelled), Scheduled: r.Scheduled,
		Progress: wire.Progress{Ended: ended, All: all}, Runs: []wire.ReportRun{},
	}
	for _, run := range r.Runs {
		next := wire.ReportRun{Number: run.Number, Block: run.Block, State: string(report.StateOfRun(run)), At: run.At.UTC(),
			Refused: partFailureOf(run.Refused), Charges: []wire.BlockCost{}, Parts: []wire.ReportPart{}}
		for _, b := range report.Costs(run) {
			next.Charges = append(next.Charges, blockCostOf(b))
		}
		for _, p := range run.Parts {
			part := wire.ReportPart{Name: p.Name, State: string(report.StateOfPart(p)), Dataset: p.Query.Dataset, Release: p.Release, Stale: p.Stale, Failure: partFailureOf(p.Failure), Attempts: p.Attempts}
			if p.Charge.ID != "" {
				charge := chargeOf(p.Charge, nil)
				part.Charge = &charge
			}
			next.Parts = append(next.Parts, part)
		}
		out.Runs = append(out.Runs, next)
	}
	return out
}

func blockCostOf(b report.BlockCost) wire.BlockCost {
	return wire.BlockCost{Dataset: b.Dataset, Block: b.Block, Epsilon: wire.Decimal(b.Loss.Epsilon.String()), Delta: wire.Decimal(b.Loss.Delta.String()), Rho: rhoOf(b.Loss.Rho)}
}

func partFailureOf(e *dp.Error) *wire.PartFailure {
	if e == nil {
		return nil
	}
	out := &wire.PartFailure{Code: kindOf(e.Code).typeName(), Detail: e.Message}
	for _, l := range e.Locations {
		out.Places = append(out.Places, l.Path+": "+l.Message)
	}
	if e.Required != nil {
		out.Epsilon = wire.Decimal(e.Required.Epsilon.String())
	}
	if e.Left != nil {
		out.Left = leftOf(*e.Left)
	}
	return out
}
