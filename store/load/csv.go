package load

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"unsafe"

	"github.com/discreet-analytics/discreet/dp"
)

// CSV is split here and not by encoding/csv because that makes a string of every record and cannot begin in
// the middle of a file. What is a record, a field and a mistake is the same, which tests hold.

// csvRecords splits the records of a chunk of CSV. Columns that nobody wants are skipped.
type csvRecords struct {
	fields  int   // of a record
	cellOf  []int // by position of the field; -1: nobody wants it
	most    int   // bytes of a record
	tooLong error // for longer ones

	text  []byte // what is left of the chunk
	line  int64
	quote int // bytes of text before the next quote; len(text) or more: there is none
	quoted
}

func newCSVRecords(fields int, position []int, l Limits) *csvRecords {
	c := &csvRecords{fields: fields, most: l.Record, tooLong: recordTooLong(l), cellOf: slices.Repeat([]int{-1}, fields)}
	for cell, at := range position {
		c.cellOf[at] = cell
	}
	return c
}

func (c *csvRecords) open(chunk *chunk) {
	c.text, c.line = chunk.text, chunk.line
	c.findQuote()
}

func (c *csvRecords) findQuote() {
	if c.quote = bytes.IndexByte(c.text, '"'); c.quote < 0 {
		c.quote = len(c.text)
	}
}

// advance drops what was read.
func (c *csvRecords) advance(n int) {
	c.text = c.text[n:]
	c.quote -= n
}

func (c *csvRecords) next(cells []cell) (line int64, reason string, err error) {
	for len(c.text) > 0 {
		size, end := lineSize(c.text)
		line := c.line
		switch {
		case c.quote < size:
			return c.nextQuoted(cells)
		case size > c.most:
			return 0, "", c.tooLong
		case size > 0:
			reason = c.readLine(c.text[:size], cells)
			c.line++
			c.advance(end)
			return line, reason, nil
		}
		c.line++
		c.advance(end)
	}
	return 0, "", io.EOF
}

// readLine fills cells from a record without quotes.
func (c *csvRecords) readLine(text []byte, cells []cell) (reason string) {
	last := len(c.cellOf) - 1
	for i, cell := range c.cellOf {
		comma := bytes.IndexByte(text, ',')
		if (comma < 0) != (i == last) {
			return reasonColumns
		}
		field := text
		if comma >= 0 {
			field, text = text[:comma], text[comma+1:]
		}
		if cell >= 0 {
			cells[cell].text = textOf(field)
		}
	}
	return ""
}

func (c *csvRecords) nextQuoted(cells []cell) (line int64, reason string, err error) {
	size, malformed, _ := c.quoted.read(c.text, true)
	line = c.line
	record := c.text[:size]
	if len(bytes.TrimSuffix(record, newline)) > c.most {
		return 0, "", c.tooLong
	}
	c.line += int64(bytes.Count(record, newline))
	c.text = c.text[size:]
	c.findQuote()
	switch {
	case malformed:
		return line, reasonQuote, nil
	case len(c.ends) != c.fields:
		return line, reasonColumns, nil
	}
	start := 0
	for i, end := range c.ends {
		if cell := c.cellOf[i]; cell >= 0 {
			cells[cell].text = textOf(c.values[start:end])
		}
		start = end
	}
	return line, "", nil
}

// lineSize is the size of the first line, and of it with its end.
func lineSize(text []byte) (size, end int) {
	size = bytes.IndexByte(text, '\n')
	end = size + 1
	if size < 0 {
		size, end = len(text), len(text)
	}
	if size > 0 && text[size-1] == '\r' {
		size--
	}
	return size, end
}

// quoted reads records in which there are quotes.
type quoted struct {
	values []byte // of all fields, without quotes
	ends   []int  // in values, by field
}

// read reads the first record of text, and gives its size. Where it is not complete, text ended before its
// line did: more text may change what was read, except at the end of the input. Where keep is false, only the
// size is of interest.
func (q *quoted) read(text []byte, keep bool) (size int, malformed, complete bool) {
	q.values, q.ends = q.values[:0], q.ends[:0]
	stop, end := 0, 0 // of the line in which at lies: without its end, and with it
	for at := 0; ; {
		if at >= end {
			stop, end = lineSize(text[at:])
			stop, end = at+stop, at+end
			complete = end > at && text[end-1] == '\n'
		}
		if at < stop && text[at] == '"' {
			n, closed := q.readQuoted(text[at:], keep)
			if !closed {
				return len(text), true, false
			}
			if at += n; at > stop {
				stop, end = lineSize(text[at:])
				stop, end = at+stop, at+end
				complete = end > at && text[end-1] == '\n'
			}
			if at < stop && text[at] != ',' {
				return end, true, complete
			}
		} else {
			field := text[at:stop]
			if comma := bytes.IndexByte(field, ','); comma >= 0 {
				field = field[:comma]
			}
			if bytes.IndexByte(field, '"') >= 0 {
				return end, true, complete
			}
			q.add(field, keep)
			at += len(field)
		}
		if keep {
			q.ends = append(q.ends, len(q.values))
		}
		if at >= stop {
			return end, false, complete
		}
		at++            // the comma
		if at == stop { // an empty field ends the line
			if keep {
				q.ends = append(q.ends, len(q.values))
			}
			return end, false, complete
		}
	}
}

// readQuoted reads a field that begins with a quote, and gives its size with its quotes.
func (q *quoted) readQuoted(text []byte, keep bool) (size int, closed bool) {
	for at := 1; ; {
		n := bytes.IndexByte(text[at:], '"')
		if n < 0 {
			return len(text), false
		}
		q.add(text[at:at+n], keep)
		at += n + 1
		if at == len(text) || text[at] != '"' {
			return at, true
		}
		q.add(text[at:at+1], keep)
		at++
	}
}

// add appends text to the value of a field. Lines in it end with a newline alone.
func (q *quoted) add(text []byte, keep bool) {
	for keep {
		at := bytes.Index(text, []byte("\r\n"))
		if at < 0 {
			q.values = append(q.values, text...)
			return
		}
		q.values = append(q.values, text[:at]...)
		text = text[at+1:]
	}
}

// csvCutter finds the ends of records without reading them.
type csvCutter struct{ quoted }

// whole is that of a textFeed. Lines without quotes are records; only the others need a closer look.
func (c *csvCutter) whole(text []byte, final bool) int {
	if final {
		return len(text)
	}
	at := 0
	for {
		quote := bytes.IndexByte(text[at:], '"')
		if quote < 0 {
			return at + wholeLines(text[at:], false)
		}
		at += wholeLines(text[at:at+quote], false)
		size, _, complete := c.read(text[at:], false)
		if !complete {
			return at
		}
		at += size
	}
}

// openCSV reads the names of the columns, and gives the text that follows them.
func openCSV(in *input, l Limits) (header []string, rest *textFeed, err error) {
	cutter := new(csvCutter)
	tooLong := refuse(dp.CodeTooLarge, "header is longer than %d bytes: is this CSV with newlines?", l.Record)
	f := &textFeed{in: in, whole: cutter.header, most: l.Record, tooLong: tooLong, chunk: headerBytes, line: 1}
	c := new(chunk)
	err = f.fill(c)
	switch {
	case err == io.EOF:
		return nil, nil, refuse(dp.CodeInvalidInput, "no header: the first line of CSV must name the columns")
	case err != nil && !isRefusal(err):
		return nil, nil, fmt.Errorf("reading rows: %w", err)
	case err != nil:
		return nil, nil, err
	}
	text := skipEmptyLines(c.text)
	_, malformed, _ := cutter.read(text, true)
	switch {
	case len(text) > l.Record:
		return nil, nil, tooLong
	case malformed:
		return nil, nil, refuse(dp.CodeInvalidInput, "header: %s", reasonQuote)
	case len(cutter.ends) > l.Columns:
		return nil, nil, refuse(dp.CodeTooLarge, "header names more than %d columns: leave out those that the policy does not name", l.Columns)
	}
	start := 0
	for _, end := range cutter.ends {
		header = append(header, string(cutter.values[start:end]))
		start = end
	}
	f.whole, f.tooLong = cutter.whole, recordTooLong(l)
	return header, f, nil
}

// headerBytes are read before anything is known of the columns.
const headerBytes = 4 << 10

// header is whole for the first record.
func (c *csvCutter) header(text []byte, final bool) int {
	record := skipEmptyLines(text)
	if len(record) == 0 {
		return 0
	}
	size, _, complete := c.read(record, false)
	if !complete && !final {
		return 0
	}
	return len(text) - len(record) + size
}

func skipEmptyLines(text []byte) []byte {
	for len(text) > 0 {
		size, end := lineSize(text)
		if size > 0 {
			break
		}
		text = text[end:]
	}
	return text
}

func recordTooLong(l Limits) *dp.Error {
	return refuse(dp.CodeTooLarge, "a record is longer than %d bytes: look for a quote that is never closed", l.Record)
}

// textOf is a text that shares the memory of a chunk: nothing of it may outlive the reading of its record.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// findColumns says where the wanted columns stand. Twice the same name is refused only where it is wanted:
// which of the others there are is nobody's concern.
func findColumns(header, names []string) ([]int, error) {
	var missing, twice []dp.Location
	position := make([]int, len(names))
	for i, name := range names {
		position[i] = slices.Index(header, name)
		switch {
		case position[i] < 0:
			missing = append(missing, dp.Location{Path: name, Message: "is not in the header"})
		case slices.Index(header[position[i]+1:], name) >= 0:
			twice = append(twice, dp.Location{Path: name, Message: "is in the header more than once"})
		}
	}
	switch {
	case len(missing) > 0 && len(header) == 1 && strings.ContainsAny(header[0], ";\t|"):
		return nil, refuse(dp.CodeInvalidInput, "the header holds one column: separate columns by commas")
	case len(missing) > 0:
		return nil, &dp.Error{Code: dp.CodeInvalidInput, Message: "columns that the policy names are missing: add them to the file, or name the file's columns in the policy", Locations: missing}
	case len(twice) > 0:
		return nil, &dp.Error{Code: dp.CodeInvalidInput, Message: "columns that the policy names are there twice: keep one of each", Locations: twice}
	}
	return position, nil
}
