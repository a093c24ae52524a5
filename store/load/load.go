// Package load reads CSV, NDJSON and Parquet as typed rows with pseudonyms, for every engine: it finds the
// columns that a policy names, reads their values at the policy's types, says in which block each row lies,
// and rejects rows with a line number and a reason.
//
// It reads in constant memory whatever the input holds, on all processors. It never keeps a column that the
// policy does not name, never stores anything, and no reason and no error of it holds a value of the input.
package load

import (
	"errors"
	"fmt"
	"io"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Reader reads the records of one input, in order, in batches. It is for one use by one goroutine.
type Reader struct {
	source  Source
	ids     Pseudonyms
	dataset string
	perRow  bool // every row is its own customer

	in      *input
	spool   *spooled     // of Parquet
	feed    feed         // cuts the input, one goroutine
	readers []*rowReader // read what was cut, a goroutine each
	end     func() error // whether the input was whole, once all of it was read; io.EOF: it was
	ordinal uint64       // of the last record that was given, counted from 1
}

// Pseudonyms turns identifiers into the only form in which they are kept. It must be safe for concurrent use.
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
	// RetiredBefore is the month, as 2026-01, before which those blocks end that are retired; a row in one is rejected. Empty:
	// none is.
	RetiredBefore string
	// Load is the number of the load, which no other load of the dataset has. Where every row is its own
	// customer, the row's pseudonym is made of it.
	Load   uint64
	Limits Limits // a zero is the default's
	// Content receives the whole input as it is read, after decompression: a digest. Nil: nobody.
	Content io.Writer
	// Spool is where a Parquet input is kept while it is read, unless it is an *os.File that can be read as it is.
	Spool Spool
}

// Limits are the sizes beyond which input is refused.
type Limits struct {
	Bytes   int64 // of the whole input, after decompression
	Record  int   // bytes of one record without the end of its line: a line of NDJSON, a row of CSV with its quoted newlines
	Columns int   // of a CSV header
	Value   int   // bytes of one value that is kept, and of a customer's identifier
}

// DefaultLimits are 64 GiB, 1 MiB, 1,000 columns and 4 KiB.
func DefaultLimits() Limits {
	return Limits{Bytes: 64 << 30, Record: 1 << 20, Columns: 1000, Value: 4 << 10}
}

// Record is one record of the input: a row, or why it was rejected.
type Record struct {
	Line   int64    // on which the record begins, counted from 1, the header included; of Parquet, the row
	Row    rows.Row // its Customer is a pseudonym
	Block  string
	Reason string // why the record was rejected; empty: it was accepted, and Row and Block are set
}

// NewReader reads what comes before the first record. Missing and ambiguous columns, an empty CSV, a
// compressed input that is none and a format that is not understood are a *dp.Error with CodeInvalidInput.
func NewReader(p *dp.Policy, in io.Reader, s Source, ids Pseudonyms) (*Reader, error) {
	s.Limits = s.Limits.orDefault()
	r := &Reader{ids: ids, source: s, dataset: p.Name, perRow: p.Unit.Row, end: func() error { return io.EOF }}
	parts, err := newParts(p)
	if err != nil {
		return nil, err
	}
	if r.in, err = newInput(in, s); err != nil {
		return nil, err
	}
	var split func() records
	switch s.Format {
	case CSV:
		split, err = r.openCSV(parts)
	case NDJSON:
		split, err = r.openNDJSON(parts), nil
	case Parquet:
		split, err = r.openParquet(p, in, parts)
	default:
		if _, err = ParseFormat(string(s.Format)); err == nil {
			err = errUnknownFormat()
		}
	}
	if err != nil {
		return nil, err
	}
	for range workers() {
		r.readers = append(r.readers, newRowReader(p, parts, s, ids, split()))
	}
	return r, nil
}

func (r *Reader) openCSV(parts *parts) (func() records, error) {
	header, text, err := openCSV(r.in, r.source.Limits)
	if err != nil {
		return nil, err
	}
	position, err := findColumns(header, parts.columns.names)
	if err != nil {
		return nil, err
	}
	text.chunk = chunkBytes(parts)
	r.feed = text
	return func() records { return newCSVRecords(len(header), position, r.source.Limits) }, nil
}

func (r *Reader) openNDJSON(parts *parts) func() records {
	names := parts.columns.names
	r.feed = &textFeed{in: r.in, whole: wholeLines, most: r.source.Limits.Record, chunk: chunkBytes(parts), line: 1}
	var all []*jsonRecords
	r.end = func() error { return checkSeen(names, all) }
	return func() records {
		all = append(all, newJSONRecords(names, r.source.Limits))
		return all[len(all)-1]
	}
}

func (r *Reader) openParquet(p *dp.Policy, from io.Reader, parts *parts) (func() records, error) {
	spool, err := spoolOf(from, r.in, r.source)
	if err != nil {
		return nil, err
	}
	r.spool = spool
	timeFormat := ""
	if p.Time != nil {
		timeFormat = p.Time.Format
	}
	f, err := openParquet(spool, parts, timeFormat)
	if err != nil {
		r.close()
		return nil, err
	}
	r.feed = f
	return func() records { return &parquetRecords{columns: f.columns} }, nil
}

func (r *Reader) close() {
	if r.spool != nil {
		r.spool.close()
	}
}

// chunkBytes is how much text is cut off at once: so much that handing it on costs nothing, and so little
// that rows of a byte or two do not fill the memory.
func chunkBytes(p *parts) int {
	row := recordBytes + textBytes*len(p.columns.dimensions) + numberBytes*len(p.columns.measures)
	const shortest = 2 // a value and the end of the line
	return max(mostChunk/64, min(mostChunk, shortest*mostBatch/row))
}

const (
	mostChunk = 256 << 10
	mostBatch = 32 << 20 // bytes of the rows of a chunk

	recordBytes, textBytes, numberBytes = 120, 24, 16 // in memory
)

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

func isRefusal(err error) bool {
	var refusal *dp.Error
	return errors.As(err, &refusal)
}

func refuse(code dp.Code, format string, args ...any) *dp.Error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
