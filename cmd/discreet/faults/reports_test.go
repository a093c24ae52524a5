package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/report"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// batch is a report that is sent, or one that is cancelled.
type batch struct {
	asker, key string
	spec       report.Spec
	cancel     string    // its id, where it is cancelled
	made       dp.Report // as it was told
}

// reported is a report that was acknowledged.
type reported struct {
	asker   string
	charges []string // of its questions; empty for those that were held
	ended   bool     // it was told to be cancelled, or to have ended
}

// beginBatch sends a report: a new one, or one that was sent before under its key. Its parts cost what no question by
// itself does, so that none is the same as theirs.
func (w *world) beginBatch() {
	b := &batch{}
	if n := len(w.model.sent); n > 0 && w.choose.IntN(3) == 0 {
		sent := w.model.sent[w.choose.IntN(n)]
		b.asker, b.key, b.spec = sent.asker, sent.key, sent.spec
	} else {
		b.asker, b.key = names[w.choose.IntN(len(names))], fmt.Sprint("report ", n)
		questions := 1 + w.choose.IntN(4)
		b.spec = report.Spec{Name: "a report", Dataset: shop, Purpose: "reporting", From: "2026-01-01",
			Epsilon: (dp.Epsilon(questions) * []dp.Epsilon{30, 110}[w.choose.IntN(2)] * dp.EpsilonOne / 1000).String()}
		for _, shape := range w.choose.Perm(12)[:questions] {
			b.spec.Questions = append(b.spec.Questions, report.Question{Query: dp.Query{
				Metrics: [][]string{{"customers"}, {"customers", "spend"}}[shape%2], By: [][]string{nil, {"category"}}[shape/2%2],
				From: "2026-01-01", To: []string{"2026-01-31", "2026-02-28", "2026-03-31"}[shape/4], Fresh: w.choose.IntN(3) == 0,
			}})
		}
		w.model.sent = append(w.model.sent, *b)
	}
	service := w.choose.IntN(len(w.reports))
	w.start(&call{question: question{service: service}, batch: b}, func(ctx context.Context, _ *call) error {
		var err error
		b.made, err = w.reports[service].Submit(ctx, consumer(b.asker), b.spec, b.key)
		return err
	})
}

// beginPart asks a question of a report that has no answer yet, as the service does in the background; or cancels the
// report.
func (w *world) beginPart() {
	open, err := w.ledger.OpenReports(context.Background())
	w.fail(err, "finding open reports")
	if len(open) == 0 {
		return
	}
	r := open[w.choose.IntN(len(open))]
	if w.choose.IntN(12) == 0 {
		b := &batch{asker: r.Consumer, cancel: r.ID}
		service := w.choose.IntN(len(w.reports))
		w.start(&call{question: question{service: service}, batch: b}, func(ctx context.Context, _ *call) error {
			var err error
			b.made, err = w.reports[service].Cancel(ctx, b.asker, b.cancel)
			return err
		})
		return
	}
	for i, p := range r.Runs[0].Parts {
		if p.Ended() {
			continue
		}
		text, err := json.Marshal(p.Query)
		w.fail(err, "writing a question")
		shape, known := w.model.shapes[string(text)]
		if !known {
			shape = 1000 + len(w.model.shapes)
			w.model.shapes[string(text)] = shape
		}
		w.did.Parts++
		w.beginAsking(question{asker: r.Consumer, key: w.model.keys[r.ID][i], service: w.choose.IntN(2), shape: shape, query: p.Query, part: true})
		return
	}
	w.fail(fmt.Errorf("report %s is open and all of its questions have ended", r.ID), "finding open reports")
}

// toldOfReport is what the sender of a report hears.
func (w *world) toldOfReport(b *batch) {
	ids := []string{}
	ended := true
	for _, p := range b.made.Runs[0].Parts {
		ids = append(ids, p.Charge.ID)
		ended = ended && p.Ended()
	}
	if b.cancel != "" {
		w.did.Cancelled++
	}
	w.fail(w.model.reported(b, ids, ended || !b.made.Cancelled.IsZero()), "making a report")
}

// reported is told of a report that the ledger acknowledged.
func (m *model) reported(b *batch, charges []string, ended bool) error {
	now := reported{b.made.Consumer, charges, ended}
	if b.cancel != "" && (b.made.ID != b.cancel || !ended) {
		return fmt.Errorf("report %s was cancelled and is %+v", b.cancel, b.made)
	}
	if b.cancel == "" {
		name := b.asker + "/" + b.key
		if earlier, ok := m.reportOf[name]; ok && earlier != b.made.ID {
			return fmt.Errorf("%s was report %s, and then %s", name, earlier, b.made.ID)
		}
		m.reportOf[name] = b.made.ID
	}
	if earlier, ok := m.reports[b.made.ID]; ok && (earlier.asker != now.asker || fmt.Sprint(earlier.charges) != fmt.Sprint(now.charges) || earlier.ended && !now.ended) {
		return fmt.Errorf("report %s was %+v and is %+v", b.made.ID, earlier, now)
	}
	m.reports[b.made.ID] = now
	for i, p := range b.made.Runs[0].Parts {
		if p.Charge.ID == "" {
			continue
		}
		if err := m.charged(answer.ChargeRequest{Consumer: now.asker, Key: m.keys[b.made.ID][i]}, answer.Charged{Charge: p.Charge}); err != nil {
			return err
		}
	}
	return nil
}

// compareReports holds reports to what was told, and every report of which a charge is there to all of its charges:
// none is charged in part.
func (m *model) compareReports(l *ledger.Ledger, entries map[string]dp.Entry) error {
	of := map[string]map[string]bool{} // report -> charges
	asker := map[string]string{}
	for _, id := range sorted(m.reports) {
		of[id], asker[id] = map[string]bool{}, m.reports[id].asker
	}
	for _, id := range sorted(entries) {
		e := entries[id]
		if e.Report == "" {
			continue
		}
		if of[e.Report] == nil {
			of[e.Report], asker[e.Report] = map[string]bool{}, e.Consumer
		}
		of[e.Report][id] = true
	}
	for _, id := range sorted(of) {
		r, err := l.Report(context.Background(), asker[id], id)
		if err != nil {
			return fmt.Errorf("report %s: %w", id, err)
		}
		var charges []string
		ended := true
		for i, p := range r.Runs[0].Parts {
			charges = append(charges, p.Charge.ID)
			ended = ended && p.Ended()
			if p.Charge.ID == "" && p.Release == "" {
				return fmt.Errorf("question %d of report %s is neither charged nor held", i, id)
			}
			if p.Charge.ID != "" && !of[id][p.Charge.ID] {
				return fmt.Errorf("charge %s of report %s is not among the charges", p.Charge.ID, id)
			}
			delete(of[id], p.Charge.ID)
		}
		if len(of[id]) > 0 {
			return fmt.Errorf("charges %v are not among those of their report %s", of[id], id)
		}
		if !r.Cancelled.IsZero() && !ended {
			return fmt.Errorf("report %s was cancelled, and a question of it goes on", id)
		}
		if told, ok := m.reports[id]; ok && (fmt.Sprint(told.charges) != fmt.Sprint(charges) || told.ended && !ended) {
			return fmt.Errorf("report %s was told as %+v and is %+v", id, told, r)
		}
	}
	return nil
}

// book is a port as report.Book: what a report needs to be sent and cancelled.
type book struct{ *port }

var errNotHere = errors.New("no history does this")

// BeginReport adds what plans touch besides, and keeps the keys of the questions.
func (b book) BeginReport(ctx context.Context, r dp.Report, body [32]byte, first *report.NewRun) (dp.Report, error) {
	c := ctx.Value(callKey{}).(*call)
	run := report.NewRun{}
	var keys []string
	for _, p := range first.Parts {
		if p.Held == "" {
			p.Charge.Also = further(p.Charge.Plan, p.Charge.Loss, p.Charge.PolicyVersion, c.planned[p.Charge.Plan])
			p.Charge.Plan = planUnder(p.Charge.Plan, c.planned[p.Charge.Plan])
		}
		run.Parts, keys = append(run.Parts, p), append(keys, p.Charge.Key)
	}
	w := b.world
	for i, key := range w.model.keys[r.ID] { // one that was sent before, when less was held
		if keys[i] == "" {
			keys[i] = key
		}
	}
	w.model.keys[r.ID] = keys
	made, err := use(b.port, ctx, func() (dp.Report, error) { return w.ledger.BeginReport(ctx, r, body, &run) })
	if err == nil {
		w.did.Reports++
		for _, p := range made.Runs[0].Parts {
			if _, before := w.model.charges[p.Charge.ID]; p.Charge.ID != "" && !before {
				w.fail(admitted(w.ledger, p.Charge), "charging a report")
				if len(p.Charge.Also) > 0 && p.Charge.CapLoss == (dp.Loss{}) {
					w.did.HandedOut++
				}
			}
		}
	}
	var short *dp.Error
	if errors.As(err, &short) && short.Code == dp.CodeBudgetExhausted {
		w.did.ReportsRefused++
		if short.Required == nil || short.Left == nil || short.Required.Epsilon <= short.Left.Epsilon {
			w.fail(fmt.Errorf("a report that needs %+v is refused with %+v left", short.Required, short.Left), "being refused")
		}
	}
	return made, err
}

func (b book) CancelReport(ctx context.Context, consumer, id string, why dp.Error) (dp.Report, error) {
	return use(b.port, ctx, func() (dp.Report, error) { return b.world.ledger.CancelReport(ctx, consumer, id, why) })
}

func (b book) Report(ctx context.Context, consumer, id string) (dp.Report, error) {
	if err := b.pause(ctx); err != nil {
		return dp.Report{}, err
	}
	return b.world.ledger.Report(ctx, consumer, id)
}

func (b book) AddRun(context.Context, string, uint64, report.NewRun) error { return errNotHere }
func (b book) EndParts(context.Context, string, []string, dp.Error) error  { return errNotHere }
func (b book) OpenReports(context.Context) ([]dp.Report, error)            { return nil, errNotHere }
func (b book) LoadedBlocks(context.Context, string) ([]string, error)      { return nil, errNotHere }
func (b book) Reports(context.Context, string, string, int) ([]dp.Report, string, error) {
	return nil, "", errNotHere
}
