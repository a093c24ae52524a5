package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
)

// data is one size of rows with everything that is made of it: files, DuckDB's databases and Discreet's directory.
type data struct {
	dir       string
	customers int
	rows      int64  // that were made
	policy    string // as a file
	made      string // digest of how the rows were made
}

const (
	dataset   = "transactions"
	purpose   = "reporting"
	merchants = 100_000
	firstDay  = "2025-01-01"
	lastDay   = "2025-12-31"
)

func (d *data) csv() string      { return filepath.Join(d.dir, "rows.csv") }
func (d *data) parquet() string  { return filepath.Join(d.dir, "rows.parquet") }
func (d *data) byTime() string   { return filepath.Join(d.dir, "by_time.duckdb") }
func (d *data) sorted() string   { return filepath.Join(d.dir, "sorted.duckdb") }
func (d *data) discreet() string { return filepath.Join(d.dir, "discreet") }

// bank makes about so many rows in a year.
func bank(rowCount, customers int) (*synth.Bank, error) {
	first, err := rows.ParseDate(firstDay)
	if err != nil {
		return nil, err
	}
	const days = 365
	return synth.New(synth.Size{
		Seed: 1, Customers: customers, First: first, Days: days, Merchants: merchants, Unlinked: true,
		PaymentsPerMonth: float64(rowCount) / float64(customers) / (days / (365.25 / 12)),
	})
}

// prepare gives the rows of a size, made now or before.
func prepare(s settings, rowCount, customers int) (*data, error) {
	d := &data{dir: filepath.Join(s.dir, fmt.Sprintf("%d-%d", rowCount, customers)), customers: customers}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return nil, err
	}
	b, err := bank(rowCount, customers)
	if err != nil {
		return nil, err
	}
	table := b.Transactions()
	d.policy = benchmarkPolicy(table.Policy)

	// The first day tells whether the generator is still the one that made the file.
	digest := sha256.New()
	first, err := rows.ParseDate(firstDay)
	if err != nil {
		return nil, err
	}
	if err := table.Between(first, first).WriteCSV(digest); err != nil {
		return nil, err
	}
	d.made = hex.EncodeToString(digest.Sum(nil))
	var made struct {
		Digest string
		Rows   int64
	}
	if recall(d.csv(), &made) && made.Digest == d.made {
		d.rows = made.Rows
		return d, nil
	}
	if err := d.writeCSV(table); err != nil {
		return nil, fmt.Errorf("making rows: %w", err)
	}
	made.Digest, made.Rows = d.made, d.rows
	return d, remember(d.csv(), made)
}

func (d *data) writeCSV(table synth.Table) error {
	begin := time.Now()
	file, err := os.Create(d.csv())
	if err != nil {
		return err
	}
	defer file.Close()
	w := &lineCounter{to: file}
	if err := table.WriteCSV(w); err != nil {
		return err
	}
	d.rows = w.lines - 1
	note("made %d rows, %.2f M/s", d.rows, float64(d.rows)/1e6/time.Since(begin).Seconds())
	return file.Close()
}

// benchmarkPolicy has room for thousands of questions, and for partitions of every day of a month.
func benchmarkPolicy(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "bounds:"):
			line = "bounds: {max_partitions: 31, max_rows: 20}\n"
		case strings.HasPrefix(line, "cap:"):
			line = fmt.Sprintf("cap: {epsilon: %d, delta: %s}\n", capEpsilon, capDelta)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

const (
	capEpsilon = 600
	capDelta   = "1e-8"
)

// lineCounter counts the lines that are written to a file.
type lineCounter struct {
	to    *os.File
	lines int64
}

func (l *lineCounter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			l.lines++
		}
	}
	return l.to.Write(p)
}

// remember says beside a file what it was made of; it is written last, so that what is half made is made again.
func remember(path string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return os.WriteFile(path+".json", text, 0o644)
}

// recall reads that, and tells whether there is anything.
func recall(path string, what any) bool {
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return false
	}
	if _, err := os.Stat(path); err != nil {
		return false
	}
	return json.Unmarshal(text, what) == nil
}

// built makes a file or directory unless it was made of the same before.
func built(path, of string, rebuild bool, make func() error) error {
	var was string
	if !rebuild && recall(path, &was) && was == of {
		return nil
	}
	for _, p := range []string{path + ".json", path, path + ".wal", path + ".witness"} {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := make(); err != nil {
		return fmt.Errorf("making %s: %w", filepath.Base(path), err)
	}
	note("made %s in %s", filepath.Base(path), short(time.Since(begin)))
	return remember(path, of)
}

// note tells who waits what goes on.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s   %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// loaded is data with both engines open.
type loaded struct {
	*data
	ours           *store
	byTime, sorted *duck
}

// open prepares a size for both engines.
func open(ctx context.Context, s settings, rowCount, customers int) (l *loaded, err error) {
	d, err := prepare(s, rowCount, customers)
	if err != nil {
		return nil, err
	}
	if err := d.buildDuck(ctx, s.rebuild); err != nil {
		return nil, err
	}
	if err := d.buildDiscreet(ctx, s.rebuild); err != nil {
		return nil, err
	}
	l = &loaded{data: d}
	if l.ours, err = openStore(ctx, d.discreet()); err != nil {
		return nil, err
	}
	if l.byTime, err = openDuck(d.byTime(), true); err != nil {
		return nil, err
	}
	l.sorted, err = openDuck(d.sorted(), true)
	return l, err
}

func (l *loaded) close() error {
	l.byTime.close()
	l.sorted.close()
	return l.ours.close()
}
