package columnar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/load"
)

// EraseSpec says what names the customers that are to be erased.
type EraseSpec struct {
	By string // consumer who asks
	// Repeat is the caller's idempotency key, or empty. Under one, the same erasure is recorded once while it waits.
	Repeat string
	// Format is how they are written: records with the column that the policy has for customers, of which others are
	// ignored; or Lines.
	Format load.Format
	Gzip   bool
}

// Lines is the format of one identifier on each line.
const Lines load.Format = "lines"

// readUnits gives the pseudonyms of the customers that in names, ascending, each once, and how many were named. It reads
// identifiers exactly as loads do.
func (s *Store) readUnits(ctx context.Context, p *dp.Policy, spec EraseSpec, in io.Reader) (customers []uint64, units int64, err error) {
	if p.Unit.Row {
		return nil, 0, refuse(dp.CodeInvalidInput, "every row of this dataset is its own customer: there is nobody to name, and nobody to erase")
	}
	source := load.Source{Format: spec.Format, Gzip: spec.Gzip, Limits: s.options.Limits,
		Spool: load.Spool{Dir: s.spillDir(), Room: s.room}}
	if spec.Format == Lines {
		if spec.Gzip {
			return nil, 0, refuse(dp.CodeInvalidInput, "plain lines cannot be compressed: send them as they are, or as CSV")
		}
		source.Format = load.NDJSON
		in = &linesAsRecords{column: p.Unit.Column, lines: bufio.NewReaderSize(in, 1<<16), most: max(source.Limits.Value, 1)}
	}
	only := &dp.Policy{Name: p.Name, Unit: dp.Unit{Column: p.Unit.Column, Block: dp.All}}
	reader, err := load.NewReader(only, in, source, s.secrets)
	if err != nil {
		return nil, 0, err
	}
	for batch, err := range reader.Batches(ctx) {
		if err != nil {
			return nil, 0, err
		}
		for _, record := range batch {
			if record.Reason != "" { // to leave one out without a word would be to keep a promise in part
				e := refuse(dp.CodeInvalidInput, "an identifier cannot be read, and nothing was recorded: mend it, and send all of them again")
				e.Locations = []dp.Location{{Path: fmt.Sprintf("line %d", record.Line), Message: record.Reason}}
				return nil, 0, e
			}
			if units++; units > int64(s.options.EraseUnits) {
				return nil, 0, refuse(dp.CodeTooLarge, "at most %d customers may be named at once: split the file", s.options.EraseUnits)
			}
			customers = append(customers, record.Row.Customer)
		}
	}
	slices.Sort(customers)
	return slices.Compact(customers), units, nil
}

// linesAsRecords makes an NDJSON record of each line that is not empty.
type linesAsRecords struct {
	column string
	lines  *bufio.Reader
	most   int // bytes of a line
	number int64
	record []byte
	err    error
}

func (l *linesAsRecords) Read(p []byte) (int, error) {
	for len(l.record) == 0 {
		if l.err != nil {
			return 0, l.err
		}
		l.next()
	}
	n := copy(p, l.record)
	l.record = l.record[n:]
	return n, nil
}

func (l *linesAsRecords) next() {
	var line []byte
	for {
		part, err := l.lines.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > l.most+2 {
			l.err = refuse(dp.CodeTooLarge, "a line is longer than an identifier may be, %d bytes: write one on each line", l.most)
			return
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		l.err = err
		break
	}
	l.number++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if l.number == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if !utf8.Valid(line) { // JSON would hold another text
		e := refuse(dp.CodeInvalidInput, "an identifier is not UTF-8, and nothing was recorded: convert the file")
		e.Locations = []dp.Location{{Path: fmt.Sprintf("line %d", l.number), Message: "not UTF-8"}}
		l.err = e
		return
	}
	text, err := json.Marshal(map[string]string{l.column: string(line)})
	if err != nil { // no text fails
		l.err = fmt.Errorf("reading lines: %w", err)
		return
	}
	if len(line) == 0 { // which keeps the count of lines
		text = nil
	}
	l.record = append(text, '\n')
}
