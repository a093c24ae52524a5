// Package load reads CSV and NDJSON as typed rows with pseudonyms, for every engine: it finds the columns
// that a policy names, reads their values at the policy's types, says in which block each row lies, and
// rejects rows with a line number and a reason.
//
// It reads in constant memory whatever the input holds. It never keeps a column that the policy does not
// name, never stores anything, and no reason and no error of it holds a value of the input.
package load

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Reader reads the records of one input, one at a time. It is not safe for concurrent use.
type Reader struct {
	records records
	columns columns
	format  rows.TimeFormat
	zone    *time.Location
	blocks  *blocks
	ids     Pseudonyms
	source  Source

	dataset string
	ordinal uint64 // of the record, counted from 1
	cells   []cell // by position in columns.names
	record  Record
}

// Pseudonyms turns identifiers into the only form in which they are kept.
type Pseudonyms interface {
	// Pseudonym stands for a customer: a keyed hash of the identifier.
	Pseudonym(customer string) uint64
	// RowPseudonym stands for a row where every row is its own customer.
	RowPseudonym(load, ordinal uint64, dataset string) uint64
}

// Source says what an input is.
type Source struct {
	Format Format
	Gzip   bool // the input is compressed, as its Content-Encoding or its file name says
	// Blocks are those that the input covers; a row in another one is rejected. Nil: any block.
	Blocks []string
	// Load is the number of the load, which no other load of the dataset has. Where every row is its own
	// customer, the row's pseudonym is made of it.
	Load   uint64
	Limits Limits // a zero is the default's
	// Content receives the whole input as it is read, after decompression: a digest. Nil: nobody.
	Content io.Writer
}

// Limits are the sizes beyond which input is refused.
type Limits struct {
	Bytes   int64 // of the whole input, after decompression
	Record  int   // bytes of one record: a line of NDJSON, a row of CSV with its quoted newlines
	Columns int   // of a CSV header
	Value   int   // bytes of one value that is kept, and of a customer's identifier
}

// DefaultLimits are 64 GiB, 1 MiB, 1,000 columns and 4 KiB.
func DefaultLimits() Limits {
	return Limits{Bytes: 64 << 30, Record: 1 << 20, Columns: 1000, Value: 4 << 10}
}

// Record is one record of the input: a row, or why it was rejected.
type Record struct {
	Line   int64    // on which the record begins, counted from 1, the header included
	Row    rows.Row // its Customer is a pseudonym
	Block  string
	Reason string // why the record was rejected; empty: it was accepted, and Row and Block are set
}

// NewReader reads what comes before the first record. Missing and ambiguous columns, an empty CSV, a
// compressed input that is none and a format that is not understood are a *dp.Error with CodeInvalidInput.
func NewReader(p *dp.Policy, in io.Reader, s Source, ids Pseudonyms) (*Reader, error) {
	s.Limits = s.Limits.orDefault()
	r := &Reader{columns: newColumns(p), ids: ids, source: s, dataset: p.Name}
	var err error
	if r.zone, err = rows.Location(p); err != nil {
		return nil, fmt.Errorf("finding the time zone of dataset %s: %w", p.Name, err)
	}
	if p.Time != nil {
		if r.format, err = rows.CompileTimeFormat(p.Time.Format); err != nil {
			return nil, fmt.Errorf("reading the time format of dataset %s: %w", p.Name, err)
		}
	}
	r.blocks = newBlocks(p, r.zone, s.Blocks)
	text, err := newInput(in, s)
	if err != nil {
		return nil, err
	}
	if r.records, err = newRecords(s.Format, text, r.columns.names, s.Limits); err != nil {
		return nil, err
	}
	r.cells = make([]cell, len(r.columns.names))
	r.record.Row.Dimensions = make([]rows.Text, len(r.columns.dimensions))
	r.record.Row.Measures = make([]rows.Number, len(r.columns.measures))
	return r, nil
}

// Next reads one record. The record and its slices are valid until the next call; its texts share memory
// with the whole record, so clone what is kept. After the last record the error is io.EOF. A record that
// cannot be a row is returned with its Reason and reading goes on; input that cannot be read on is an error:
// a *dp.Error with CodeInvalidInput or CodeTooLarge, or the error of the underlying reader, wrapped.
func (r *Reader) Next() (*Record, error) {
	clear(r.cells)
	line, reason, err := r.records.next(r.cells)
	if err != nil {
		if err == io.EOF || isRefusal(err) {
			return nil, err
		}
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	r.ordinal++
	r.record.Line = line
	r.record.Block = ""
	if reason == "" {
		reason = r.read()
	}
	r.record.Reason = reason
	return &r.record, nil
}

// read fills the record from the cells, or says why it cannot.
func (r *Reader) read() (reason string) {
	if reason := r.readCustomer(); reason != "" {
		return reason
	}
	if reason := r.readTime(); reason != "" {
		return reason
	}
	for i := range r.columns.dimensions {
		d := &r.columns.dimensions[i]
		text, reason := d.read(r.cells[d.position], r.source.Limits.Value)
		if reason != "" {
			return d.name + ": " + reason
		}
		r.record.Row.Dimensions[i] = text
	}
	for i := range r.columns.measures {
		m := &r.columns.measures[i]
		number, err := m.read(r.cells[m.position])
		if err != nil {
			return m.name + ": " + err.Error()
		}
		r.record.Row.Measures[i] = number
	}
	return ""
}

func (r *Reader) readCustomer() (reason string) {
	if r.columns.customer < 0 {
		r.record.Row.Customer = r.ids.RowPseudonym(r.source.Load, r.ordinal, r.dataset)
		return ""
	}
	c := r.cells[r.columns.customer]
	switch {
	case c.nested:
		return "customer: " + reasonNested
	case c.text == "":
		return "customer: missing"
	}
	if reason := checkText(c.text, r.source.Limits.Value); reason != "" {
		return "customer: " + reason
	}
	r.record.Row.Customer = r.ids.Pseudonym(c.text)
	return ""
}

func (r *Reader) readTime() (reason string) {
	if r.columns.time >= 0 {
		c := r.cells[r.columns.time]
		switch {
		case c.nested:
			return "time: " + reasonNested
		case c.text == "":
			return "time: missing"
		}
		ms, err := r.format.Parse(c.text, r.zone)
		if err != nil {
			return "time: " + err.Error()
		}
		r.record.Row.Time = ms
	}
	block, covered := r.blocks.find(r.record.Row.Time)
	if !covered {
		return "time: outside of the blocks that the load covers"
	}
	r.record.Block = block
	return ""
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.Bytes > 0 {
		d.Bytes = l.Bytes
	}
	if l.Record > 0 {
		d.Record = l.Record
	}
	if l.Columns > 0 {
		d.Columns = l.Columns
	}
	if l.Value > 0 {
		d.Value = l.Value
	}
	return d
}

// records splits an input.
type records interface {
	// next fills cells, by position in the wanted names, and gives the line on which the record begins. A
	// reason says that this record cannot be read but the next one may be; io.EOF ends the input.
	next(cells []cell) (line int64, reason string, err error)
}

// cell is one value as written. The empty text is an absent value.
type cell struct {
	text   string
	nested bool // an object or array where a value was expected
}

func newRecords(f Format, in *input, names []string, l Limits) (records, error) {
	switch f {
	case CSV:
		return newCSVRecords(in, names, l)
	case NDJSON:
		return newJSONRecords(in, names, l), nil
	}
	_, err := ParseFormat(string(f))
	if err == nil {
		err = errUnknownFormat()
	}
	return nil, err
}

func isRefusal(err error) bool {
	var refusal *dp.Error
	return errors.As(err, &refusal)
}

func refuse(code dp.Code, format string, args ...any) *dp.Error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
