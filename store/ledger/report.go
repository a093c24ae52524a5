package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/report"
)

// reportRecord is a batch of questions.
type reportRecord struct {
	Number    uint64
	Consumer  string
	Name      string
	Spec      []byte
	Body      []byte // digest of what was asked
	Scheduled bool
	Created   time.Time
}

// reportEndRecord says when a report was cancelled.
type reportEndRecord struct {
	At time.Time
}

// runRecord is one time that a report's questions were asked. How they ended stands with their charges.
type runRecord struct {
	Block   string
	At      time.Time
	Refused *dp.Error
	Parts   []partRecord
}

// partRecord is one question: a charge pays for it, or a release answers it that was held already.
type partRecord struct {
	Name    string
	Query   dp.Query
	Charge  string
	Release string
}

var _ report.Book = (*Ledger)(nil)

// BeginReport implements report.Book.
func (l *Ledger) BeginReport(ctx context.Context, r dp.Report, body [32]byte, first *report.NewRun) (dp.Report, error) {
	if r.ID == "" || r.Consumer == "" || (first == nil) != r.Scheduled {
		return dp.Report{}, errors.New("a report names its consumer and has a run, or runs to come")
	}
	if r.Scheduled {
		if err := l.checkScheduled(ctx, r); err != nil {
			return dp.Report{}, err
		}
	}
	err := l.write(ctx, func(t *tx) error {
		t.kind = entryReport
		known, found, err := load[reportRecord](t, reportKey(r.ID))
		if err != nil {
			return err
		}
		if found {
			if known.Consumer != r.Consumer || !bytes.Equal(known.Body, body[:]) {
				return refuse(dp.CodeConflict, "this Idempotency-Key was used for another report: use a new key")
			}
			return nil
		}
		record := reportRecord{Consumer: r.Consumer, Name: r.Name, Spec: r.Spec, Body: body[:], Scheduled: r.Scheduled, Created: t.now}
		if record.Number, err = nextNumber(t); err != nil {
			return err
		}
		if err := save(t, reportKey(r.ID), record); err != nil {
			return err
		}
		t.put(reportOfKey(r.Consumer, record.Number), []byte(r.ID))
		if first == nil {
			t.put(scheduledKey(record.Number), []byte(r.ID))
			return nil
		}
		return l.addRun(t, r.Consumer, r.ID, 1, *first)
	})
	if err != nil {
		return dp.Report{}, l.shortOf(ctx, err, first)
	}
	return l.Report(ctx, r.Consumer, r.ID)
}

// checkScheduled refuses a further scheduled report of a consumer that has as many as one may have. Several at the same
// moment may all pass: what is bounded is what a consumer can make the ledger look through again and again.
func (l *Ledger) checkScheduled(ctx context.Context, r dp.Report) error {
	of := 0
	err := l.read(ctx, func(v view) error {
		return v.walk([]byte{kindScheduled}, nil, ascending, func(_, value []byte) (bool, error) {
			known, err := mustLoad[reportRecord](v, reportKey(string(value)))
			if err != nil || string(value) == r.ID { // it is known: that is not refused
				of = 0
				return false, err
			}
			if known.Consumer == r.Consumer {
				of++
			}
			return true, nil
		})
	})
	if err == nil && of >= report.MaxScheduled {
		err = refuse(dp.CodeConflict, "you have %d scheduled reports, as many as one may have: cancel one first", report.MaxScheduled)
	}
	return err
}

// AddRun implements report.Book.
func (l *Ledger) AddRun(ctx context.Context, id string, number uint64, run report.NewRun) error {
	err := l.write(ctx, func(t *tx) error {
		t.kind = entryRun
		r, err := mustLoad[reportRecord](t, reportKey(id))
		if err != nil {
			return err
		}
		cancelled, err := t.get(reportEndKey(id))
		if err != nil {
			return err
		}
		if !r.Scheduled || cancelled != nil {
			return refuse(dp.CodeConflict, "the report has no further runs: it was cancelled, or has but one")
		}
		if known, err := t.get(runKey(id, number)); err != nil || known != nil {
			return err
		}
		if number > 1 {
			if _, err := mustLoad[runRecord](t, runKey(id, number-1)); err != nil {
				return err
			}
		}
		return l.addRun(t, r.Consumer, id, number, run)
	})
	return l.shortOf(ctx, err, &run)
}

// addRun charges whatever a run asks that is not held, and writes it down.
func (l *Ledger) addRun(t *tx, consumer, id string, number uint64, run report.NewRun) error {
	record := runRecord{Block: run.Block, At: t.now, Refused: run.Refused}
	if record.Refused != nil {
		record.Refused = withoutCause(*record.Refused)
	}
	for _, p := range run.Parts {
		part := partRecord{Name: p.Name, Query: p.Query, Release: p.Held}
		if part.Release != "" {
			if _, err := mustLoad[holderRecord](t, holderKey(consumer, part.Release)); err != nil {
				return err
			}
		} else {
			if p.Charge.Consumer != consumer {
				return errors.New("a report's question names another consumer")
			}
			if err := l.checkRequest(p.Charge); err != nil {
				return err
			}
			d, err := l.decideCharge(t, p.Charge, id)
			if err != nil {
				return err
			}
			if part.Charge = d.charge.Charge.ID; d.charge.Report != id { // it came to hold the answer meanwhile
				part.Charge, part.Release = "", d.charge.Release
			}
		}
		record.Parts = append(record.Parts, part)
	}
	return save(t, runKey(id, number), record)
}

// shortOf words the refusal of a run by an account: with what all of it costs, and what is left without any of it.
func (l *Ledger) shortOf(ctx context.Context, err error, run *report.NewRun) error {
	var short *shortage
	if !errors.As(err, &short) {
		return err
	}
	a, granted := short.account()
	consumer, asked := "", ""
	var sum dp.Loss
	for _, p := range run.Parts {
		if p.Held != "" || a.owner == "" && p.Charge.Source != "" { // the caps pay for no draw twice
			continue
		}
		for _, part := range partsOfRequest(p.Charge) {
			if part.Dataset == a.dataset && slices.Contains(part.Blocks, a.block) {
				consumer, asked = p.Charge.Consumer, p.Charge.Dataset
				sum = accounting.Add(sum, part.Loss)
			}
		}
	}
	left, leftErr := l.Left(ctx, consumer, a.dataset, []string{a.block}, sum)
	if leftErr != nil {
		return leftErr
	}
	message := fmt.Sprintf("this report costs epsilon %s on %s and %s still admits %s; nothing was charged: ask for less, or ask an officer for more", sum.Epsilon, a.block, a.title(), left.Epsilon)
	if why := a.closed(granted, on(a.dataset, asked)); why != "" {
		message = why
	}
	return &dp.Error{Code: dp.CodeBudgetExhausted, Message: message, Required: &sum, Left: &left}
}

// withoutCause is an error without what is for the log of the process.
func withoutCause(e dp.Error) *dp.Error {
	e.Err = nil
	return &e
}

// EndParts implements report.Book.
func (l *Ledger) EndParts(ctx context.Context, id string, charges []string, why dp.Error) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entrySettle
		return endParts(t, id, charges, why)
	})
}

func endParts(t *tx, id string, charges []string, why dp.Error) error {
	for _, charge := range charges {
		c, err := mustLoad[chargeRecord](t, chargeKey(charge))
		if err != nil {
			return err
		}
		if c.Report != id {
			return errors.New("a report ends a charge that is not its own")
		}
		if c.ended() {
			continue
		}
		c.Failure = withoutCause(why)
		if err := saveCharge(t, &c); err != nil {
			return err
		}
	}
	return nil
}

// CancelReport implements report.Book.
func (l *Ledger) CancelReport(ctx context.Context, consumer, id string, why dp.Error) (dp.Report, error) {
	before, err := l.Report(ctx, consumer, id)
	if err != nil {
		return dp.Report{}, err
	}
	if !before.Cancelled.IsZero() {
		return before, nil
	}
	err = l.write(ctx, func(t *tx) error {
		t.kind = entryReportEnd
		r, err := mustLoad[reportRecord](t, reportKey(id))
		if err != nil {
			return err
		}
		if known, err := t.get(reportEndKey(id)); err != nil || known != nil {
			return err
		}
		// Runs are only ever added to scheduled reports, and those that were added since are read here.
		open, err := openParts(t, id)
		if err != nil || len(open) == 0 && !r.Scheduled {
			return err // it has ended
		}
		if err := endParts(t, id, open, why); err != nil {
			return err
		}
		if r.Scheduled {
			t.delete(scheduledKey(r.Number))
		}
		return save(t, reportEndKey(id), reportEndRecord{At: t.now})
	})
	if err != nil {
		return dp.Report{}, err
	}
	return l.Report(ctx, consumer, id)
}

// openParts are the charges of a report that have no outcome.
func openParts(t *tx, id string) (open []string, err error) {
	for number := uint64(1); ; number++ {
		run, found, err := load[runRecord](t, runKey(id, number))
		if err != nil || !found {
			return open, err
		}
		for _, p := range run.Parts {
			if p.Charge == "" {
				continue
			}
			c, err := mustLoad[chargeRecord](t, chargeKey(p.Charge))
			if err != nil {
				return nil, err
			}
			if !c.ended() {
				open = append(open, p.Charge)
			}
		}
	}
}

// Report implements report.Book.
func (l *Ledger) Report(ctx context.Context, consumer, id string) (r dp.Report, err error) {
	err = l.read(ctx, func(v view) error {
		record, found, err := load[reportRecord](v, reportKey(id))
		if err != nil {
			return err
		}
		if !found || consumer != record.Consumer {
			return refuse(dp.CodeNotFound, "there is no such report among yours: list your reports")
		}
		r, err = l.reportReader(v).report(id)
		return err
	})
	return r, err
}

// Reports implements report.Book.
func (l *Ledger) Reports(ctx context.Context, consumer, cursor string, limit int) (list []dp.Report, next string, err error) {
	versions := map[string]uint64{}
	next, err = l.page(ctx, makeKey(kindReportOf, consumer), descending, cursor, limit, func(v view, _, value []byte) (bool, error) {
		r, err := (&reportReader{v, &l.summaries, versions}).report(string(value))
		list = append(list, r)
		return true, err
	})
	return list, next, err
}

// OpenReports implements report.Book.
func (l *Ledger) OpenReports(ctx context.Context) (list []dp.Report, err error) {
	err = l.read(ctx, func(v view) error {
		seen := map[string]bool{}
		add := func(id string) error {
			if id == "" || seen[id] {
				return nil
			}
			seen[id] = true
			r, err := (&reportReader{view: v}).report(id)
			list = append(list, r)
			return err
		}
		err := v.walk([]byte{kindOpen}, nil, ascending, func(_, value []byte) (bool, error) {
			c, err := mustLoad[chargeRecord](v, chargeKey(string(value)))
			if err == nil {
				err = add(c.Report)
			}
			return true, err
		})
		if err != nil {
			return err
		}
		return v.walk([]byte{kindScheduled}, nil, ascending, func(_, value []byte) (bool, error) {
			return true, add(string(value))
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// reportReader reads reports, and each block's version once for all of their answers.
type reportReader struct {
	view
	summaries *summaries
	versions  map[string]uint64 // by key; nil: it does not matter which answers are stale
}

func (l *Ledger) reportReader(v view) *reportReader {
	return &reportReader{view: v, summaries: &l.summaries, versions: map[string]uint64{}}
}

// report reads a report with its runs and how their questions stand.
func (v *reportReader) report(id string) (dp.Report, error) {
	record, err := mustLoad[reportRecord](v, reportKey(id))
	if err != nil {
		return dp.Report{}, err
	}
	r := dp.Report{ID: id, Consumer: record.Consumer, Name: record.Name, Spec: record.Spec, Scheduled: record.Scheduled, Created: record.Created}
	ended, _, err := load[reportEndRecord](v, reportEndKey(id))
	if err != nil {
		return dp.Report{}, err
	}
	r.Cancelled = ended.At
	err = v.walk(makeKey(kindRun, id), nil, ascending, func(key, value []byte) (bool, error) {
		run, err := decode[runRecord](value)
		if err != nil {
			return false, err
		}
		out := dp.ReportRun{Number: numberOf(key), Block: run.Block, At: run.At, Refused: run.Refused}
		for _, p := range run.Parts {
			part := dp.ReportPart{Name: p.Name, Query: p.Query, Release: p.Release}
			if p.Charge != "" {
				c, err := mustLoad[chargeRecord](v, chargeKey(p.Charge))
				if err != nil {
					return false, err
				}
				part.Charge, part.Attempts, part.Release, part.Failure = c.Charge, c.Attempts, c.Release, c.Failure
			}
			if part.Stale, err = v.stale(part.Release); err != nil {
				return false, err
			}
			out.Parts = append(out.Parts, part)
		}
		r.Runs = append(r.Runs, out)
		return true, nil
	})
	return r, err
}

// stale tells whether rows were loaded into a block since a release was drawn over it.
func (v *reportReader) stale(release string) (bool, error) {
	if release == "" || v.versions == nil {
		return false, nil
	}
	r, err := v.summaries.of(v, release)
	if err != nil {
		return false, err
	}
	for _, over := range append([]dp.Snapshot{{Dataset: r.Dataset, Blocks: r.Blocks}}, r.Also...) {
		for _, b := range over.Blocks {
			key := blockKey(over.Dataset, b.Block)
			now, known := v.versions[string(key)]
			if !known {
				if now, err = loadNumber(v, key); err != nil {
					return false, fmt.Errorf("reading a block's version: %w", err)
				}
				v.versions[string(key)] = now
			}
			if now != b.Version {
				return true, nil
			}
		}
	}
	return false, nil
}

// LoadedBlocks implements report.Book.
func (l *Ledger) LoadedBlocks(ctx context.Context, dataset string) (list []string, err error) {
	err = l.read(ctx, func(v view) error {
		return v.walk(makeKey(kindBlock, dataset), nil, ascending, func(key, _ []byte) (bool, error) {
			list = append(list, partsOf(key)[1])
			return true, nil
		})
	})
	return list, err
}
