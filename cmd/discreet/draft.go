package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
)

// datasetDraft proposes a policy.
type datasetDraft struct {
	File string `arg:"" help:"CSV file; only its first line is read."`
	Name string `help:"Name of the dataset; the file's when absent." placeholder:"NAME"`
}

// Run prints the proposal as a policy file.
func (c *datasetDraft) Run(t terminal) error {
	f, err := os.Open(c.File)
	if err != nil {
		return usagef("%v", fileError(err))
	}
	defer f.Close()
	header, err := readHeader(f)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = identifier(strings.TrimSuffix(filepath.Base(c.File), filepath.Ext(c.File)), nil)
	}
	if _, err := io.WriteString(t.stdout, draft(name, header)); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// maxHeader bounds the header line of a CSV file, maxColumn one name in it: a policy refuses longer ones.
const (
	maxHeader = 64 << 10
	maxColumn = 256
)

func readHeader(r io.Reader) ([]string, error) {
	header, err := csv.NewReader(io.LimitReader(r, maxHeader)).Read()
	if errors.Is(err, io.EOF) {
		return nil, usagef("the file is empty: its first line must name the columns")
	}
	if err != nil {
		return nil, usagef("the first line is no CSV header of at most %d bytes", maxHeader)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	return header, nil
}

// draft guesses what each column is from its name. What the header cannot tell is left to the officer, in
// comments; the result is valid as it stands, with every dimension private.
func draft(name string, header []string) string {
	var b strings.Builder
	unit, when := -1, -1
	for i, column := range header {
		switch role(column) {
		case unitColumn:
			if unit < 0 {
				unit = i
			}
		case timeColumn:
			if when < 0 {
				when = i
			}
		}
	}

	fmt.Fprintf(&b, "# Drafted from the header line; no row was read. Go through every line before applying it.\n")
	fmt.Fprintf(&b, "name: %s\n", name)
	fmt.Fprintf(&b, "kind: %s\n", guessKind(header))
	fmt.Fprintf(&b, "population: 100000 # declare how many customers there are; cap delta must be at most 1/(10 * population)\n")
	block := "month"
	if when < 0 {
		block = "all"
	}
	if unit >= 0 {
		fmt.Fprintf(&b, "unit: {column: %s, block: %s}\n", quote(header[unit]), block)
	} else {
		fmt.Fprintf(&b, "unit: {row: true} # no column looks like a customer: every row is its own; if there is one, write {column: NAME, block: %s}\n", block)
	}
	if when >= 0 {
		fmt.Fprintf(&b, "time: {column: %s, timezone: UTC, format: rfc3339} # or date, unix, unix_ms, or a layout such as \"YYYY-MM-DD hh:mm:ss\"\n", quote(header[when]))
	}

	taken := map[string]bool{}
	var dimensions, measures []string
	for i, column := range header {
		if i == unit || i == when || strings.TrimSpace(column) == "" {
			continue
		}
		if len(column) > maxColumn || !utf8.ValidString(column) || strings.ContainsFunc(column, unicode.IsControl) {
			fmt.Fprintf(&b, "# column %d is left out: its name is longer than %d bytes or not plain text\n", i+1, maxColumn)
			continue
		}
		own := identifier(column, taken)
		taken[own] = true
		from := ""
		if own != column {
			from = ", column: " + quote(column)
		}
		if role(column) == measureColumn {
			measures = append(measures, fmt.Sprintf("  - {name: %s%s, scale: 2, lower: 0, upper: 1000, kind: flow}\n", quote(own), from))
		} else {
			dimensions = append(dimensions, fmt.Sprintf("  - {name: %s%s, selection: private, missing: unknown}\n", quote(own), from))
		}
	}
	if len(dimensions) > 0 {
		b.WriteString("dimensions: # delete what nobody needs; where the values are known to all, write values: [a, b], other: other instead of selection\n")
		b.WriteString(strings.Join(dimensions, ""))
	}
	if len(measures) > 0 {
		b.WriteString("measures: # lower and upper clamp one row: choose them from what is usual, never from the data\n")
		b.WriteString(strings.Join(measures, ""))
	}
	if unit >= 0 {
		b.WriteString("bounds: {max_partitions: 4, max_rows: 10} # of one customer within one block, at most so many groups, and rows in each\n")
	} else {
		b.WriteString("bounds: {max_partitions: 1, max_rows: 1}\n")
	}
	b.WriteString("cap: {epsilon: 6, delta: 1e-9} # all that anybody can ever learn about one customer within one block\n")
	b.WriteString("default: {epsilon: 0.1, delta: 1e-11}\n")
	b.WriteString("purposes: [reporting]\n")
	b.WriteString("audiences: [internal]\n")
	return b.String()
}

// columnRole is what a column's name suggests.
type columnRole int

const (
	dimensionColumn columnRole = iota
	unitColumn
	timeColumn
	measureColumn
)

func role(column string) columnRole {
	words := wordsOf(column)
	has := func(any ...string) bool {
		return slices.ContainsFunc(any, func(w string) bool { return slices.Contains(words, w) })
	}
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
	}
	person := has("customer", "user", "visitor", "household", "client", "person", "member", "account", "subscriber", "patient")
	switch {
	case has("uuid", "uid", "pid", "userid", "customerid", "visitorid"), person && (last == "id" || last == "number" || len(words) == 1):
		return unitColumn
	case has("amount", "price", "value", "revenue", "spend", "spent", "cost", "total", "balance", "duration", "quantity", "seconds", "minutes", "income", "discount", "disc", "fee"):
		return measureColumn
	case has("timestamp", "datetime", "date", "time", "day"), last == "at":
		return timeColumn
	}
	return dimensionColumn
}

func guessKind(header []string) dp.Kind {
	words := map[string]bool{}
	for _, column := range header {
		for _, word := range wordsOf(column) {
			words[word] = true
		}
	}
	switch {
	case words["event"] || words["session"] || words["screen"] || words["url"] || words["page"]:
		return dp.Engagement
	case words["merchant"] || words["transaction"] || words["amount"] || words["basket"] || words["payment"]:
		return dp.Transactions
	}
	return dp.Custom
}

// wordsOf cuts a column's name at case changes and at what is no letter or digit.
func wordsOf(column string) []string {
	var spaced strings.Builder
	var before rune
	for _, r := range column {
		upper := r >= 'A' && r <= 'Z'
		if upper && before >= 'a' && before <= 'z' {
			spaced.WriteByte(' ')
		}
		spaced.WriteRune(r)
		before = r
	}
	return strings.FieldsFunc(strings.ToLower(spaced.String()), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// identifier makes a name of a policy out of a column's, different from those that are taken.
func identifier(column string, taken map[string]bool) string {
	name := strings.Join(wordsOf(column), "_")
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "c_" + name
	}
	if len(name) > 55 {
		name = name[:55]
	}
	unique := name
	for i := 2; taken[unique]; i++ {
		unique = fmt.Sprintf("%s_%d", name, i)
	}
	return unique
}

// quote writes a header as a YAML scalar.
func quote(header string) string {
	plain := header != "" && strings.IndexFunc(header, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
	}) < 0
	// Words that YAML takes for something else than text.
	if slices.Contains([]string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(header)) {
		plain = false
	}
	if plain && (header[0] < '0' || header[0] > '9') {
		return header
	}
	return fmt.Sprintf("%q", header)
}
