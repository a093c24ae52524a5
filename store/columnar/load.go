package columnar

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// LoadSpec says what a delivery of rows is.
type LoadSpec struct {
	Name   string // a repeat of the same content under it adds nothing; empty: a name made of the content
	Format load.Format
	Gzip   bool
	// From and To are days, both included: the load covers the whole blocks that they touch. They are required
	// unless rows have no time, the block is all, or the run is dry, and never taken from the rows: askers see
	// which blocks a load covered.
	From, To rows.Date
	DryRun   bool // reads and reports, stores nothing
}

// Report is what became of a delivery.
type Report struct {
	Load     dp.Load // as it was committed; of a dry run, what would have been, or the blocks of its rows
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
	retired, err := s.catalog.RetiredBefore(ctx, policy.Name)
	if err == nil && spec.DryRun { // of others the catalog decides
		err = checkRetired(blocks, retired, policy.Unit.Block)
	}
	if err != nil {
		return Report{}, err
	}
	d := &delivery{store: s, policy: policy, spec: spec, declared: blocks, retired: retired, reasons: make(map[string]int64)}
	return d.load(ctx, in, verify)
}

// delivery is one call of Load.
type delivery struct {
	store    *Store
	policy   dp.VersionedPolicy
	spec     LoadSpec
	declared []string // nil: those of its rows, which is for dry runs alone
	retired  string   // month before which blocks end that are retired

	begun   dp.Load
	earlier *dp.Load // the committed load of the name that was given
	writer  *writer  // nil: nothing is stored

	report  Report
	reasons map[string]int64
	seen    map[string]bool // blocks of accepted rows, where none are declared
}

func (d *delivery) load(ctx context.Context, in io.Reader, verify func() error) (Report, error) {
	d.begun = dp.Load{Dataset: d.policy.Name, Name: d.spec.Name, Blocks: d.declared}
	if !d.spec.DryRun {
		if err := d.begin(ctx); err != nil {
			return Report{}, err
		}
	}
	done, err := d.readAll(ctx, in)
	d.finishReport(done)
	if err == nil {
		err = verify()
	}
	if err == nil {
		err = d.checkReport()
	}
	if err == nil && !d.spec.DryRun {
		err = d.end(ctx, done)
	}
	if err != nil && !d.spec.DryRun {
		err = d.abandon(ctx, err)
	}
	return d.report, err
}

// begin removes what failed loads left, and tells the catalog that this one begins.
func (d *delivery) begin(ctx context.Context) (err error) {
	if err := d.store.room(); err != nil {
		return err
	}
	if err := d.store.sweep(ctx, d.policy.Name); err != nil {
		return err
	}
	if d.begun, d.earlier, err = d.store.catalog.BeginLoad(ctx, d.policy.Name, d.policy.Version, d.spec.Name, d.declared); err != nil {
		return fmt.Errorf("beginning a load of dataset %s: %w", d.policy.Name, err)
	}
	if d.earlier != nil {
		return nil
	}
	if d.writer, err = d.store.newWriter(&d.policy.Policy, d.begun); err != nil {
		return d.abandon(ctx, fmt.Errorf("beginning a load of dataset %s: %w", d.policy.Name, err))
	}
	return nil
}

// end commits what was read, or, if it was loaded before, records that it came again.
func (d *delivery) end(ctx context.Context, done dp.Load) error {
	earlier := d.earlier
	if d.spec.Name == "" {
		var err error
		if earlier, err = d.store.catalog.LoadNamed(ctx, done.Dataset, done.Name); err != nil {
			return fmt.Errorf("looking for an earlier load of dataset %s: %w", done.Dataset, err)
		}
	}
	if earlier == nil {
		return d.writer.commit(ctx, done)
	}
	if earlier.Digest != done.Digest {
		return refuse(dp.CodeConflict, "a load of this name was committed with other content: give this one another name")
	}
	if err := d.store.catalog.RepeatLoad(context.WithoutCancel(ctx), done); err != nil {
		return fmt.Errorf("repeating a load of dataset %s: %w", done.Dataset, err)
	}
	d.report.Load, d.report.Repeated = *earlier, true
	if d.writer != nil {
		_ = d.writer.remove() // the repeat counts, whatever happens now: the next sweep removes what is left
	}
	return nil
}

// abandon removes what a failed load wrote, and ends it. What cannot be done now, the next sweep does.
func (d *delivery) abandon(ctx context.Context, cause error) error {
	if d.writer != nil && d.writer.inDoubt {
		return cause
	}
	if d.writer != nil {
		if err := d.writer.remove(); err != nil {
			return errors.Join(cause, fmt.Errorf("removing rows of dataset %s that were not committed: %w", d.policy.Name, err))
		}
	}
	if err := d.store.catalog.AbandonLoad(context.WithoutCancel(ctx), d.begun); err != nil {
		return errors.Join(cause, fmt.Errorf("abandoning a load of dataset %s: %w", d.policy.Name, err))
	}
	return cause
}

// readAll reads the input to its end and gives the load with its digest and name.
func (d *delivery) readAll(ctx context.Context, in io.Reader) (dp.Load, error) {
	digest := d.store.secrets.ContentDigest()
	source := load.Source{
		Format: d.spec.Format, Gzip: d.spec.Gzip, Blocks: d.declared, RetiredBefore: d.retired,
		Load: d.begun.ID, Limits: d.store.options.Limits, Content: digest,
		Spool: load.Spool{Dir: d.store.spillDir(), Room: func() error {
			if ctx.Err() != nil {
				return fmt.Errorf("loading rows: %w", context.Cause(ctx))
			}
			return d.store.room()
		}},
	}
	done := d.begun
	reader, err := load.NewReader(&d.policy.Policy, in, source, d.store.secrets)
	if err != nil {
		return done, err
	}
	d.seen = make(map[string]bool)
	for batch, err := range reader.Batches(ctx) {
		if err != nil {
			return done, err
		}
		for i := range batch {
			if err := d.take(ctx, &batch[i]); err != nil {
				return done, err
			}
		}
	}
	if d.declared == nil {
		done.Blocks = slices.Sorted(maps.Keys(d.seen)) // names of one kind of block sort as the calendar does
	}
	copy(done.Digest[:], digest.Sum(nil))
	if done.Name == "" {
		done.Name = contentName(done.Digest)
	}
	return done, nil
}

// contentName names a load that was given no name. The digest is keyed: the name tells nothing of the content to
// who has only the ledger.
func contentName(digest [32]byte) string { return "content-" + hex.EncodeToString(digest[:16]) }

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
	if d.declared == nil && !d.seen[record.Block] {
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
func (d *delivery) checkReport() error {
	if d.spec.DryRun || d.report.Accepted > 0 || d.report.Rejected == 0 {
		return nil
	}
	e := refuse(dp.CodeInvalidInput, "every record was rejected and nothing was loaded: mend the records, or the policy")
	for _, r := range d.report.Rejects[:min(len(d.report.Rejects), 10)] {
		e.Locations = append(e.Locations, dp.Location{Path: fmt.Sprintf("line %d", r.Line), Message: r.Reason})
	}
	return e
}

// coveredBlocks are those that a load declares; nil where a dry run leaves them to its rows.
func (s *Store) coveredBlocks(p *dp.Policy, spec LoadSpec) ([]string, error) {
	none := rows.Date{}
	switch {
	case p.Time == nil || p.Unit.Block == dp.All:
		return []string{rows.AllBlock}, nil
	case spec.From == none && spec.To == none && spec.DryRun:
		return nil, nil
	case spec.From == none || spec.To == none:
		return nil, refuse(dp.CodeInvalidInput, "from and to are missing: give the first and the last day that this load covers, such as 2026-01-01 and 2026-01-31; every %s that they touch counts as loaded, with rows or without", p.Unit.Block)
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
	leave, err := s.alone(ctx, dataset)
	if err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// alone waits until no load of the dataset is under way, and keeps others from it.
func (s *Store) alone(ctx context.Context, dataset string) (leave func(), err error) {
	s.mu.Lock()
	own := s.loading[dataset]
	if own == nil {
		own = make(chan struct{}, 1)
		s.loading[dataset] = own
	}
	s.mu.Unlock()
	select {
	case own <- struct{}{}:
		return func() { <-own }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func refuse(code dp.Code, format string, args ...any) *dp.Error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
