package load

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// csvBuffer is how far CSV is read ahead.
const csvBuffer = 64 << 10

// csvRecords splits CSV. Columns that nobody wants are skipped.
type csvRecords struct {
	in       *input
	reader   *csv.Reader
	position []int // in the record, by position in the wanted names
	most     int   // bytes of a record
}

func newCSVRecords(in *input, names []string, l Limits) (*csvRecords, error) {
	c := &csvRecords{in: in, reader: csv.NewReader(bufio.NewReaderSize(in, csvBuffer)), most: l.Record}
	c.reader.ReuseRecord = true
	header, err := c.read()
	var malformed *csv.ParseError
	switch {
	case err == io.EOF:
		return nil, refuse(dp.CodeInvalidInput, "no header: the first line of CSV must name the columns")
	case errors.As(err, &malformed):
		return nil, refuse(dp.CodeInvalidInput, "header: %s", csvReason(malformed))
	case errors.Is(err, errRecordTooLong):
		return nil, refuse(dp.CodeTooLarge, "header is longer than %d bytes: is this CSV with newlines?", l.Record)
	case err != nil:
		return nil, err
	case len(header) > l.Columns:
		return nil, refuse(dp.CodeTooLarge, "header names more than %d columns: leave out those that the policy does not name", l.Columns)
	}
	c.position, err = findColumns(header, names)
	return c, err
}

func (c *csvRecords) next(cells []cell) (line int64, reason string, err error) {
	record, err := c.read()
	var malformed *csv.ParseError
	switch {
	case errors.As(err, &malformed):
		return int64(malformed.StartLine), csvReason(malformed), nil
	case errors.Is(err, errRecordTooLong):
		return 0, "", refuse(dp.CodeTooLarge, "a record is longer than %d bytes: look for a quote that is never closed", c.most)
	case err != nil:
		return 0, "", err
	}
	for i, at := range c.position {
		cells[i].text = record[at]
	}
	first, _ := c.reader.FieldPos(0)
	return int64(first), "", nil
}

// read reads a record, which may fill the buffer beyond its own end. Where the input failed, the reader may
// take offence at the half record that it got, which says nothing.
func (c *csvRecords) read() ([]string, error) {
	c.in.record = c.reader.InputOffset() + int64(c.most) + csvBuffer
	record, err := c.reader.Read()
	if err != nil && c.in.failed != nil {
		return nil, c.in.failed
	}
	return record, err
}

func csvReason(e *csv.ParseError) string {
	switch {
	case errors.Is(e.Err, csv.ErrFieldCount):
		return "another number of columns than the header"
	case errors.Is(e.Err, csv.ErrBareQuote), errors.Is(e.Err, csv.ErrQuote):
		return "a quote in the wrong place: write a value with quotes in quotes, and each quote in it twice"
	}
	return "not CSV"
}

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
