package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/load"
)

// loadCommand delivers rows.
type loadCommand struct {
	Dataset string   `arg:"" help:"Which dataset."`
	Files   []string `arg:"" name:"file" help:"CSV, NDJSON or Parquet files, also as .gz; - for standard input."`

	From    string `help:"First date that the files cover, included; whole blocks are loaded, and whoever asks can see which. Without it, the first date of each file's rows, which becomes public." placeholder:"DATE"`
	To      string `help:"Last date that the files cover, included. Without it, the last date of each file's rows." placeholder:"DATE"`
	Name    string `help:"Name of the load: the same content under the same name adds nothing. Without it, the server names the load after its content." placeholder:"NAME"`
	Type    string `help:"csv, ndjson or parquet; without it, what the file's name ends in." enum:"csv,ndjson,parquet," default:"" placeholder:"TYPE"`
	Rejects string `help:"Write rejected lines and reasons to this file." placeholder:"FILE"`
	DryRun  bool   `help:"Read and report; load nothing."`

	remote
	output
}

// Run loads one file after the other.
func (c *loadCommand) Run(ctx context.Context, t terminal) error {
	if (c.From == "") != (c.To == "") {
		return usagef("give --from and --to together")
	}
	if c.Name != "" && len(c.Files) > 1 {
		return usagef("--name names one load: give one file, or leave it out")
	}
	if len(c.Files) > 1 && slices.Contains(c.Files, "-") {
		return usagef("standard input allows no other file beside it")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	known, err := server.Dataset(ctx, c.Dataset)
	if err != nil {
		return err
	}
	policy, err := policyfile.Parse(known.Policy, policyfile.DefaultLimits())
	if err != nil {
		return fmt.Errorf("reading the dataset's policy: %w", err)
	}
	if c.Files[0] == "-" && c.lacksDays(&policy) {
		return usagef("standard input needs --from and --to")
	}
	var rejects *rejectsFile
	if c.Rejects != "" {
		if rejects, err = createRejects(c.Rejects); err != nil {
			return err
		}
	}
	v, failed := c.loadAll(ctx, t, server, &policy, rejects)
	if err := rejects.close(); err != nil {
		return errors.Join(failed, err)
	}
	if len(v.rows) > 0 || failed == nil {
		if err := c.print(t.stdout, v); err != nil {
			return errors.Join(failed, err)
		}
	}
	return failed
}

// loadAll loads the files until one fails, and tells of those that are loaded whether or not one did: a load
// that was committed stays, and a repeat adds nothing to it.
func (c *loadCommand) loadAll(ctx context.Context, t terminal, server *client.Client, policy *dp.Policy, rejects *rejectsFile) (view, error) {
	v := view{columns: []string{"file", "load", "from_block", "to_block", "accepted", "rejected", "outcome"}}
	reports := []wire.LoadReport{}
	var failed error
	for i, file := range c.Files {
		report, err := c.load(ctx, t, server, policy, file)
		if err != nil {
			failed = fmt.Errorf("loading %s: %w", file, err)
			if i > 0 && !c.DryRun {
				failed = fmt.Errorf("%w; the files before it are loaded: the same command again goes on with the others", failed)
			}
			break
		}
		reports = append(reports, report)
		v.rows = append(v.rows, loadRow(file, report))
		v.lines = append(v.lines, rejectLines(file, report)...)
		if failed = rejects.add(file, report); failed != nil {
			break
		}
	}
	v.body = reports
	return v, failed
}

// lacksDays tells whether days must be declared that were not given.
func (c *loadCommand) lacksDays(p *dp.Policy) bool {
	return c.From == "" && p.Time != nil && p.Unit.Block != dp.All
}

func loadRow(file string, r wire.LoadReport) []any {
	outcome := "loaded"
	switch {
	case r.DryRun:
		outcome = "dry run"
	case r.Repeat:
		outcome = "loaded before"
	}
	var id any // a dry run has none
	if r.Load.ID != 0 {
		id = r.Load.ID
	}
	first, last := "", ""
	if n := len(r.Load.Blocks); n > 0 {
		first, last = r.Load.Blocks[0], r.Load.Blocks[n-1]
	}
	return []any{file, id, first, last, r.Accepted, r.Rejected, outcome}
}

// rejectLines shows the first rejected lines.
func rejectLines(file string, r wire.LoadReport) []string {
	const shown = 5
	var lines []string
	for i, reject := range r.Rejects {
		if i == shown {
			lines = append(lines, fmt.Sprintf("%s: %d lines were rejected; --rejects FILE lists them", file, r.Rejected))
			break
		}
		lines = append(lines, fmt.Sprintf("%s:%d: %s", file, reject.Line, reject.Reason))
	}
	return lines
}

// load sends one file.
func (c *loadCommand) load(ctx context.Context, t terminal, server *client.Client, policy *dp.Policy, file string) (wire.LoadReport, error) {
	format, err := c.formatOf(file)
	if err != nil {
		return wire.LoadReport{}, err
	}
	up := client.Upload{
		From: c.From, To: c.To, Name: c.Name, DryRun: c.DryRun, Length: -1, Body: t.stdin,
		Format: string(format), Gzip: strings.HasSuffix(file, ".gz"),
	}
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return wire.LoadReport{}, usagef("it cannot be read: %v", errors.Unwrap(err))
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return wire.LoadReport{}, fmt.Errorf("looking at the file: %w", fileError(err))
		}
		if !info.Mode().IsRegular() {
			return wire.LoadReport{}, usagef("it is no regular file: pipe it in, and write - with --from and --to")
		}
		if c.lacksDays(policy) {
			if err := declareDays(ctx, t.stderr, &up, policy, f, info.Size()); err != nil {
				return wire.LoadReport{}, err
			}
			c.sayDays(t.stderr, file, up)
		}
		up.Body, up.Length = f, info.Size()
	}
	if bar := progress(t.stderr, up.Length, filepath.Base(file)); bar != nil {
		defer bar.Close()
		up.Body = io.TeeReader(up.Body, bar)
	}
	return server.Load(ctx, c.Dataset, up)
}

// formatOf is what --type says, else what the file's name ends in; standard input without --type is CSV.
func (c *loadCommand) formatOf(file string) (load.Format, error) {
	name := c.Type
	switch {
	case name != "":
	case file == "-":
		name = string(load.CSV)
	default:
		name = filepath.Base(file)
	}
	format, err := load.ParseFormat(name)
	if err != nil {
		return "", fmt.Errorf("%w; --type says which", err)
	}
	return format, nil
}

// declareDays takes the days that a load covers from the file itself. It goes back to the file's beginning.
func declareDays(ctx context.Context, stderr io.Writer, up *client.Upload, policy *dp.Policy, f *os.File, size int64) error {
	source := load.Source{Format: load.Format(up.Format), Gzip: up.Gzip}
	var in io.Reader = f // Parquet is read where it is
	if bar := progress(stderr, size, "finding the dates in "+filepath.Base(f.Name())); bar != nil && source.Format != load.Parquet {
		defer bar.Close()
		in = io.TeeReader(f, bar)
	}
	first, last, counts, err := load.Span(ctx, policy, in, source)
	if err != nil {
		return err
	}
	if counts.Accepted == 0 {
		return usagef("none of its %d rows can be loaded: compare it with the policy, or give --from and --to to see the reasons", counts.Rejected)
	}
	up.From, up.To = first.String(), last.String()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the file again: %w", fileError(err))
	}
	return nil
}

// sayDays tells, before anything is sent, which days are declared for want of others.
func (c *loadCommand) sayDays(w io.Writer, file string, up client.Upload) {
	become := "they become public"
	if c.DryRun {
		become = "without --dry-run they become public"
	}
	fmt.Fprintf(w, "%s: declares %s to %s, the first and the last date of its rows: %s; --from and --to declare others\n", oneLine(file), up.From, up.To, become)
}

// progress draws a bar on a terminal; elsewhere there is none.
func progress(w io.Writer, size int64, what string) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return newBar(w, size, what)
}

// newBar shows the share that is done, bytes per second, and the time that it took and will take. Of a size of -1
// nothing is known but the bytes and their rate.
func newBar(w io.Writer, size int64, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(oneLine(what)), progressbar.OptionShowBytes(true),
		progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

// rejectsFile collects rejected lines as CSV: file, line, reason. A nil one collects nothing.
type rejectsFile struct {
	f   *os.File
	csv *csv.Writer
}

func createRejects(path string) (*rejectsFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, usagef("%v", fileError(err))
	}
	r := &rejectsFile{f: f, csv: csv.NewWriter(f)}
	return r, r.csv.Write([]string{"file", "line", "reason"})
}

func (r *rejectsFile) add(file string, report wire.LoadReport) error {
	if r == nil {
		return nil
	}
	for _, reject := range report.Rejects {
		if err := r.csv.Write([]string{file, strconv.FormatInt(reject.Line, 10), reject.Reason}); err != nil {
			return fmt.Errorf("writing rejects: %w", fileError(err))
		}
	}
	if more := report.Rejected - int64(len(report.Rejects)); more > 0 {
		if err := r.csv.Write([]string{file, "", fmt.Sprintf("and %d more lines, which the server did not list", more)}); err != nil {
			return fmt.Errorf("writing rejects: %w", fileError(err))
		}
	}
	return nil
}

func (r *rejectsFile) close() error {
	if r == nil {
		return nil
	}
	r.csv.Flush()
	if err := r.csv.Error(); err != nil {
		return fmt.Errorf("writing rejects: %w", fileError(err))
	}
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("writing rejects: %w", fileError(err))
	}
	return nil
}
