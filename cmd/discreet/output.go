package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/discreet-analytics/discreet/api/export"
	"github.com/discreet-analytics/discreet/api/wire"
)

// output is the choice of how a verb prints.
type output struct {
	Format string `help:"How to print: table, json, csv or ndjson." enum:"table,json,csv,ndjson" default:"table"`
}

// view is what a verb shows, for people and for programs.
type view struct {
	body    any      // as the server wrote it: json
	columns []string // csv, ndjson and table
	rows    [][]any  // strings, numbers, booleans; nil is left empty
	lines   []string // under the table, for people alone
	empty   string   // instead of a table without rows
}

// print writes a view in the chosen format.
func (o output) print(w io.Writer, v view) error {
	switch o.Format {
	case "json":
		return printJSON(w, v.body)
	case "csv":
		return printCSV(w, v)
	case "ndjson":
		return printNDJSON(w, v)
	}
	return printTable(w, v)
}

func printJSON(w io.Writer, body any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

func printCSV(w io.Writer, v view) error {
	out := csv.NewWriter(w)
	columns := make([]string, len(v.columns))
	for i, name := range v.columns {
		columns[i] = export.Cell(name)
	}
	if err := out.Write(columns); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	for _, row := range v.rows {
		cells := texts(row)
		for i, cell := range row {
			switch c := cell.(type) {
			case interface{ machine() string }:
				cells[i] = c.machine()
			case string, []string:
				cells[i] = export.Cell(cells[i])
			}
		}
		if err := out.Write(cells); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

func printNDJSON(w io.Writer, v view) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, row := range v.rows {
		object := map[string]any{}
		for i, column := range v.columns {
			object[column] = row[i]
		}
		if err := e.Encode(object); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	return nil
}

func printTable(w io.Writer, v view) error {
	var b strings.Builder
	switch {
	case len(v.rows) > 0:
		table(&b, v.columns, v.rows)
	case v.empty != "":
		b.WriteString(v.empty + "\n")
	}
	if len(v.rows) > 0 && len(v.lines) > 0 {
		b.WriteString("\n")
	}
	for _, line := range v.lines {
		b.WriteString(oneLine(line) + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// table writes columns side by side, numbers to the right.
func table(b *strings.Builder, columns []string, rows [][]any) {
	widths := make([]int, len(columns))
	numeric := make([]bool, len(columns))
	for i, column := range columns {
		widths[i] = runewidth.StringWidth(column)
		numeric[i] = true
	}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(oneLine(text(cell))))
			switch cell.(type) {
			case string, []string, bool:
				numeric[i] = false
			}
		}
	}
	line := func(cells []string) {
		var l strings.Builder
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-runewidth.StringWidth(cell))
			if i > 0 {
				l.WriteString("  ")
			}
			if numeric[i] {
				l.WriteString(pad + cell)
			} else {
				l.WriteString(cell + pad)
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(columns)
	for _, row := range rows {
		cells := texts(row)
		for i := range cells {
			cells[i] = oneLine(cells[i])
		}
		line(cells)
	}
}

// approximate is a number that people see with the digits that its scale deserves, and programs as it is.
type approximate struct{ value, scale float64 }

func (a approximate) String() string { return rounded(a.value, a.scale) }

func (a approximate) machine() string { return strconv.FormatFloat(a.value, 'g', -1, 64) }

// MarshalJSON writes the whole number.
func (a approximate) MarshalJSON() ([]byte, error) { return json.Marshal(a.value) }

// exactly is a decimal that people see short, 1e-9 for 0.000000001 and 0.6764 for 0.676389130983, and programs
// as it is. Absent ones are left empty.
type exactly struct{ wire.Decimal }

func (e exactly) String() string {
	text := string(e.Decimal)
	if len(text) <= 7 && !strings.HasPrefix(text, "0.000") {
		return text
	}
	return strings.Replace(strconv.FormatFloat(e.Float(), 'g', 4, 64), "e-0", "e-", 1)
}

func (e exactly) machine() string { return string(e.Decimal) }

// MarshalJSON writes the decimal, or null.
func (e exactly) MarshalJSON() ([]byte, error) {
	if e.Decimal == "" {
		return []byte("null"), nil
	}
	return e.Decimal.MarshalJSON()
}

// interval is text that stands to the right, as numbers do.
type interval string

func text(cell any) string {
	switch c := cell.(type) {
	case nil:
		return ""
	case string:
		return c
	case []string:
		return strings.Join(c, " ")
	}
	return fmt.Sprint(cell)
}

func texts(row []any) []string {
	cells := make([]string, len(row))
	for i, cell := range row {
		cells[i] = text(cell)
	}
	return cells
}

// sorted goes through a map in the order of its keys.
func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
