package columnar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// LoadSpec says what a delivery of rows is.
type LoadSpec struct {
	Name   string // a repeat of the same content under it adds nothing; empty: a load that nothing repeats
	Format load.Format
	Gzip   bool
	// From and To are days, both included: the load covers the whole blocks that they touch. Zero: the blocks
	// of its rows.
	From, To rows.Date
	DryRun   bool // reads and reports, stores nothing
}

// Report is what became of a delivery.
type Report struct {
	Load     dp.Load // as it was committed; of a dry run, what would have been
	Repeated bool    // the same content was loaded under this name before: nothing was added
	Accepted int64
	Rejected int64
	Reasons  []Reason // most frequent first
	Rejects  []Reject // the first ones, by line
}

// Reason counts the records that were rejected for one reason.
type Reason struct {
	Reason  string
	Records int64
}

// Reject is a record that was not loaded.
type Reject struct {
	Line   int64 // counts from 1, the header included
	Reason string
}

// Load reads in to its end, stores what it accepts, calls verify, and commits. Nothing is committed where
// reading or verify fails, whose errors it returns (that of verify as it is), or where no record could be
// accepted: a body may end early and cleanly when an upload was cut, which only verify can tell. Loads of one
// dataset wait for each other.
//
// Refusals are *dp.Error: CodeInvalidInput and CodeTooLarge with what to do, CodeConflict where the name was
// used for other content or blocks. The report is of use with any error: it says what was rejected so far.
func (s *Store) Load(ctx context.Context, policy dp.VersionedPolicy, spec LoadSpec, in io.Reader, verify func() error) (Report, error) {
	blocks, err := s.coveredBlocks(&policy.Policy, spec)
	if err != nil {
		return Report{}, err
	}
	release, err := s.admit(ctx, policy.Name)
	if err != nil {
		return Report{}, fmt.Errorf("waiting for other loads of dataset %s: %w", policy.Name, err)
	}
	defer release()
	d := &delivery{store: s, policy: &policy.Policy, spec: spec, declared: blocks, reasons: make(map[string]int64)}
	return d.load(ctx, in, verify)
}

// delivery is one call of Load.
type delivery struct {
	store    *Store
	policy   *dp.Policy
	spec     LoadSpec
	declared []string // nil: those of its rows
	writer   *writer  // nil: nothing is stored

	report  Report
	reasons map[string]int64
	seen    map[string]bool // blocks of accepted rows
}

func (d *delivery) load(ctx context.Context, in io.Reader, verify func() error) (Report, error) {
	s := d.store
	begun := dp.Load{Dataset: d.policy.Name, Name: d.spec.Name, Blocks: d.declared}
	var earlier *dp.Load
	if !d.spec.DryRun {
		if err := s.sweep(ctx, d.policy.Name); err != nil {
			return Report{}, err
		}
		var err error
		if begun, earlier, err = s.catalog.BeginLoad(ctx, d.policy.Name, d.spec.Name, d.declared); err != nil {
			return Report{}, fmt.Errorf("beginning a load of dataset %s: %w", d.policy.Name, err)
		}
		if earlier == nil {
			if d.writer, err = s.newWriter(d.policy, begun); err != nil {
				return Report{}, fmt.Errorf("beginning a load of dataset %s: %w", d.policy.Name, err)
			}
		}
	}
	done, err := d.readAll(ctx, begun, in)
	d.finishReport(done)
	if err == nil {
		err = verify()
	}
	if err == nil {
		err = d.checkReport(done)
	}
	if err == nil {
		err = d.end(ctx, done, earlier)
	}
	if err != nil && d.writer != nil {
		err = d.writer.abandon(err)
	}
	return d.report, err
}

// end commits what was read, or, if it was loaded before, records that it came again.
func (d *delivery) end(ctx context.Context, done dp.Load, earlier *dp.Load) error {
	switch {
	case d.spec.DryRun:
		return nil
	case earlier == nil:
		return d.writer.commit(ctx, done)
	case earlier.Digest != done.Digest:
		return refuse(dp.CodeConflict, "a load of this name was committed with other content: give this one another name")
	}
	if d.declared == nil {
		done.Blocks = earlier.Blocks
	}
	if err := d.store.catalog.RepeatLoad(context.WithoutCancel(ctx), done); err != nil {
		return fmt.Errorf("repeating a load of dataset %s: %w", d.policy.Name, err)
	}
	d.report.Load, d.report.Repeated = *earlier, true
	return nil
}

// readAll reads the input to its end and gives the load with its digest and blocks.
func (d *delivery) readAll(ctx context.Context, begun dp.Load, in io.Reader) (dp.Load, error) {
	digest := d.store.secrets.ContentDigest()
	source := load.Source{
		Format: d.spec.Format, Gzip: d.spec.Gzip, Blocks: d.declared,
		Load: begun.ID, Limits: d.store.options.Limits, Content: digest,
	}
	reader, err := load.NewReader(d.policy, in, source, d.store.secrets)
	if err != nil {
		return begun, err
	}
	d.seen = make(map[string]bool)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return begun, fmt.Errorf("loading rows: %w", context.Cause(ctx))
		}
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return begun, err
		}
		if err := d.take(ctx, record); err != nil {
			return begun, err
		}
	}
	if d.declared == nil {
		for block := range d.seen {
			begun.Blocks = append(begun.Blocks, block)
		}
		slices.Sort(begun.Blocks) // names of one kind of block sort as the calendar does
	}
	copy(begun.Digest[:], digest.Sum(nil))
	return begun, nil
}

func (d *delivery) take(ctx context.Context, record *load.Record) error {
	if record.Reason != "" {
		d.report.Rejected++
		d.reasons[record.Reason]++
		if len(d.report.Rejects) < d.store.options.Rejects {
			d.report.Rejects = append(d.report.Rejects, Reject{record.Line, record.Reason})
		}
		return nil
	}
	d.report.Accepted++
	if !d.seen[record.Block] {
		d.seen[record.Block] = true
		if len(d.seen) > d.store.options.LoadBlocks {
			return d.store.tooManyBlocks()
		}
	}
	if d.writer == nil {
		return nil
	}
	return d.writer.add(ctx, record)
}

func (d *delivery) finishReport(done dp.Load) {
	d.report.Load = done
	for reason, records := range d.reasons {
		d.report.Reasons = append(d.report.Reasons, Reason{reason, records})
	}
	slices.SortFunc(d.report.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Reason, b.Reason))
	})
}

// checkReport refuses what would commit nothing by mistake. Most often the policy does not fit the file, and
// once such a load had its name, the mended file could not be loaded under it.
func (d *delivery) checkReport(done dp.Load) error {
	switch {
	case d.spec.DryRun:
		return nil
	case d.report.Accepted == 0 && d.report.Rejected > 0:
		e := refuse(dp.CodeInvalidInput, "every record was rejected and nothing was loaded: mend the records, or the policy")
		for _, r := range d.report.Rejects[:min(len(d.report.Rejects), 10)] {
			e.Locations = append(e.Locations, dp.Location{Path: fmt.Sprintf("line %d", r.Line), Message: r.Reason})
		}
		return e
	case len(done.Blocks) == 0:
		return refuse(dp.CodeInvalidInput, "no rows and no days: say with from and to which days have none")
	}
	return nil
}

// coveredBlocks are those that a load declares; nil where it leaves them to its rows.
func (s *Store) coveredBlocks(p *dp.Policy, spec LoadSpec) ([]string, error) {
	none := rows.Date{}
	switch {
	case p.Time == nil || p.Unit.Block == dp.All:
		return []string{rows.AllBlock}, nil
	case spec.From == none && spec.To == none:
		return nil, nil
	case spec.From == none || spec.To == none:
		return nil, refuse(dp.CodeInvalidInput, "from and to go together: give both, or neither for the days of the rows")
	case spec.To.Before(spec.From):
		return nil, refuse(dp.CodeInvalidInput, "to lies before from: exchange them")
	}
	blocks := rows.Blocks(spec.From, spec.To, p.Unit.Block)
	if len(blocks) > s.options.LoadBlocks {
		return nil, s.tooManyBlocks()
	}
	return blocks, nil
}

func (s *Store) tooManyBlocks() error {
	return refuse(dp.CodeTooLarge, "a load may cover at most %d blocks: split it", s.options.LoadBlocks)
}

// admit waits until no other load of the dataset is under way and few enough of others are.
func (s *Store) admit(ctx context.Context, dataset string) (release func(), err error) {
	s.mu.Lock()
	own := s.loading[dataset]
	if own == nil {
		own = make(chan struct{}, 1)
		s.loading[dataset] = own
	}
	s.mu.Unlock()
	for i, token := range []chan struct{}{own, s.slots} {
		select {
		case token <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-own
			}
			return nil, context.Cause(ctx)
		}
	}
	return func() { <-s.slots; <-own }, nil
}

func refuse(code dp.Code, format string, args ...any) *dp.Error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
