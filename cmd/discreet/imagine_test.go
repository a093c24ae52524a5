package main

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
	"github.com/discreet-analytics/discreet/store/load"
)

// policyTexts are the example policies, those of the demo, and one with everything that those lack.
func policyTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	files, err := filepath.Glob(filepath.Join("..", "..", "api", "policyfile", "examples", "*.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	bank, err := synth.New(synth.Size{Customers: 1, First: rows.Date{Year: 2026, Month: time.January, Day: 1}, Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range bank.Tables() {
		texts["demo "+table.Name] = table.Policy
	}
	for i, format := range []string{"rfc3339", "date", "unix", "unix_ms", "YYYY-MM-DD hh:mm:ss", "DD.MM.YYYY hh:mm"} {
		zone := []string{"Europe/Berlin", "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca", "America/Havana"}[i]
		texts["awkward "+format] = fmt.Sprintf(awkwardPolicy, zone, format)
	}
	return texts
}

const awkwardPolicy = `
name: awkward
kind: custom
population: 1000
unit: {column: "who, exactly", block: quarter}
time: {column: when, timezone: %s, format: %q}
dimensions:
  - {name: country, values: ["D,E", 'say "FR"', " AT "], other: elsewhere}
  - {name: city, selection: private, parent: country, missing: nowhere}
  - {name: side, of: city, groups: {left: [Aachen, "Bad, Ems"], right: [Cottbus]}, other: neither}
  - {name: district, selection: private, parent: city}
  - {name: age, type: int, bin: {step: 10, round: up}, values: {from: -20, to: 60}, other: older}
  - {name: shop, type: int, selection: private}
  - {name: twice, column: amount, type: int, bin: {step: 50, round: down}, selection: private}
measures:
  - {name: amount, scale: 2, lower: -20, upper: 300}
  - {name: balance, scale: 2, lower: -100, upper: 5000, kind: level}
  - {name: debt, scale: 0, lower: -900, upper: -10}
bounds: {max_partitions: 4, max_rows: 10}
cap: {epsilon: 3, delta: 1e-6}
default: {epsilon: 0.1, delta: 1e-8}
purposes: [research]
link: {consent: agreed_at}
`

func TestImaginedRowsAreLoadedUnderTheirPolicyWithoutRejects(t *testing.T) {
	for name, text := range policyTexts(t) {
		p, err := policyfile.Parse([]byte(text), policyfile.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// The clocks of one zone change in it, and Apia's calendar jumps over a day.
		first := rows.Date{Year: 2011, Month: time.October, Day: 20}
		const days, customers = 75, 400
		table, err := synth.Imagine(p, synth.Imagination{Seed: 3, Customers: customers, First: first, Days: days})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var blocks []string
		if p.Time != nil {
			blocks = rows.Blocks(first, first.AddDays(days-1), p.Unit.Block)
		}
		loaded := imaginedRows(t, &p, table, blocks)
		if least := customers; len(loaded) < least {
			t.Errorf("%s: %d rows of %d customers", name, len(loaded), customers)
		}
		for _, d := range p.Derived {
			if slices.Contains(table.Header, d.Name) {
				t.Errorf("%s: the derived dimension %s has a column", name, d.Name)
			}
		}
	}
}

// imaginedRows are a table's, as a load reads them. One that is rejected fails the test.
func imaginedRows(t *testing.T, p *dp.Policy, table synth.Table, blocks []string) (all []rows.Row) {
	t.Helper()
	var text bytes.Buffer
	if err := table.WriteCSV(&text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	reader, err := load.NewReader(p, &text, load.Source{Format: load.CSV, Blocks: blocks}, plainIDs{})
	if err != nil {
		t.Fatalf("%s: %v", p.Name, err)
	}
	for batch, err := range reader.Batches(t.Context()) {
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		for _, record := range batch {
			if record.Reason != "" {
				t.Fatalf("%s: line %d is rejected: %s: %s", p.Name, record.Line, record.Reason, lines[record.Line-1])
			}
			row := record.Row
			row.Dimensions, row.Measures = slices.Clone(row.Dimensions), slices.Clone(row.Measures)
			all = append(all, row)
		}
	}
	return all
}

func TestImagineWritesTheSameRowsByNameAndSeed(t *testing.T) {
	h := &harness{t: t} // needs no server
	policy := h.file("awkward.yaml", fmt.Sprintf(awkwardPolicy, "Europe/Berlin", "rfc3339"))
	ask := []string{"dataset", "imagine", policy, "--customers", "50", "--from", "2026-01-01", "--to", "2026-01-31"}
	printed := h.run("", ask...)
	read, err := csv.NewReader(strings.NewReader(printed.stdout)).ReadAll()
	if printed.code != exitDone || err != nil || len(read) < 100 {
		t.Fatalf("exit %d, %d lines, %v: %s", printed.code, len(read), err, printed.stderr)
	}
	if want := []string{"who, exactly", "when", "country", "city", "district", "age", "shop", "amount", "balance", "debt", "agreed_at"}; !slices.Equal(read[0], want) {
		t.Errorf("the header is %q, want %q", read[0], want)
	}
	file := filepath.Join(t.TempDir(), "rows.csv.gz")
	if out := h.run("", append(ask, "--output", file)...); out.code != exitDone || out.stdout != "" {
		t.Fatalf("exit %d: %s%s", out.code, out.stdout, out.stderr)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(unzipped); err != nil || string(text) != printed.stdout {
		t.Errorf("the file holds %d bytes, %v, want the %d that are printed", len(text), err, len(printed.stdout))
	}
	if other := h.run("", append(ask, "--seed", "2")...); other.stdout == printed.stdout {
		t.Error("another seed makes the same rows")
	}
}

func TestImagineRefusesNonsenseInOneLine(t *testing.T) {
	h := &harness{t: t}
	timed := h.file("timed.yaml", fmt.Sprintf(awkwardPolicy, "Europe/Berlin", "rfc3339"))
	timeless := filepath.Join("..", "..", "api", "policyfile", "examples", "pums.yaml")
	unfit := h.file("unfit.yaml", strings.ReplaceAll(fmt.Sprintf(awkwardPolicy, "Europe/Berlin", "rfc3339"), "column: amount, type: int", "column: when, type: int"))
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{timed}, "--from"},
		{[]string{timed, "--from", "2026-01-01"}, "--to"},
		{[]string{timed, "--from", "tomorrow", "--to", "2026-01-31"}, "2026-01-01"},
		{[]string{timed, "--from", "2026-02-01", "--to", "2026-01-31"}, "--to must be"},
		{[]string{timed, "--from", "1900-01-01", "--to", "2026-01-31"}, "days"},
		{[]string{timed, "--from", "2026-01-01", "--to", "2026-01-31", "--customers", "0"}, "customers must be"},
		{[]string{timed, "--from", "2026-01-01", "--to", "2026-01-31", "--rows-per-month", "-1"}, "--rows-per-month"},
		{[]string{unfit, "--from", "2026-01-01", "--to", "2026-01-31"}, `column "when"`},
		{[]string{timeless, "--from", "2026-01-01", "--to", "2026-01-31"}, "has no time"},
		{[]string{filepath.Join(t.TempDir(), "none.yaml")}, "none.yaml"},
		{[]string{h.file("bad.yaml", "name: bad\n")}, "kind"},
	} {
		out := h.run("", append([]string{"dataset", "imagine"}, c.args...)...)
		if out.code != exitUsage || out.stdout != "" || strings.Count(out.stderr, "\n") != 1 || !strings.Contains(out.stderr, c.says) {
			t.Errorf("%v: exit %d, %q, want %q", c.args[1:], out.code, out.stderr, c.says)
		}
	}
}
