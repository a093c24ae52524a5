package load

import (
	"fmt"
	"io"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// parts is what a policy says of the parts of a row. It is shared by all who read rows.
type parts struct {
	columns columns
	format  rows.TimeFormat
	zone    *time.Location
}

func newParts(p *dp.Policy) (_ *parts, err error) {
	parts := &parts{columns: newColumns(p)}
	if parts.zone, err = rows.Location(p); err != nil {
		return nil, fmt.Errorf("finding the time zone of dataset %s: %w", p.Name, err)
	}
	if p.Time != nil {
		if parts.format, err = rows.CompileTimeFormat(p.Time.Format); err != nil {
			return nil, fmt.Errorf("reading the time format of dataset %s: %w", p.Name, err)
		}
	}
	return parts, nil
}

// records splits chunks into cells.
type records interface {
	open(c *chunk)
	// next fills cells, by position in the wanted names, and gives the line on which the record begins. A
	// reason says that this record cannot be read but the next one may be; io.EOF ends the chunk.
	next(cells []cell) (line int64, reason string, err error)
}

// cell is one value as written. Its text may share memory with the chunk. The empty text is an absent value.
type cell struct {
	text string
	kind kind
	ms   int64 // of a time that is not given as text
}

// kind says what a cell is other than text.
type kind uint8

const (
	nested   kind = iota + 1 // an object or array where a value was expected
	floating                 // a float: its text is the shortest that gives it back, and rounding it would round twice
	instant                  // a time, in milliseconds since 1970 UTC
	local                    // a time on the clocks of the policy's zone, as the instant at which UTC's show it
)

// rowReader makes rows of chunks, one after the other. It remembers what values meant, because they come again.
type rowReader struct {
	*parts
	records records
	ids     Pseudonyms
	most    int // bytes of a value
	blocks  *blocks
	clock   *clock
	met     []met // by dimension

	customer  []byte // whose pseudonym was made last; nil: nobody's
	pseudonym uint64
	cells     []cell // by position in columns.names
}

func newRowReader(p *dp.Policy, parts *parts, s Source, ids Pseudonyms, split records) *rowReader {
	r := &rowReader{
		parts: parts, records: split, ids: ids, most: s.Limits.Value,
		blocks: newBlocks(p, parts.zone, s.Blocks, s.RetiredBefore),
		met:    make([]met, len(parts.columns.dimensions)),
		cells:  make([]cell, len(parts.columns.names)),
	}
	if p.Time != nil {
		r.clock = newClock(p.Time.Format, parts.format, parts.zone)
	}
	return r
}

// read makes the records of a chunk.
func (r *rowReader) read(c *chunk) {
	r.records.open(c)
	for {
		line, reason, err := r.records.next(r.cells)
		if err != nil {
			if err != io.EOF {
				c.err = err
			}
			break
		}
		record := Record{Line: line}
		texts, numbers := len(c.texts), len(c.numbers)
		if reason == "" {
			reason = r.readRow(c, &record)
		}
		if reason != "" {
			record = Record{Line: line, Reason: reason}
			c.texts, c.numbers = c.texts[:texts], c.numbers[:numbers]
		}
		c.records = append(c.records, record)
	}
	// Only now, because the slices may have moved while they grew.
	texts, numbers := c.texts, c.numbers
	for i := range c.records {
		if row := &c.records[i].Row; c.records[i].Reason == "" {
			d, m := len(r.columns.dimensions), len(r.columns.measures)
			row.Dimensions, texts = texts[:d:d], texts[d:]
			row.Measures, numbers = numbers[:m:m], numbers[m:]
		}
	}
}

// readRow reads the cells, or says why it cannot. The texts and numbers of the row go to the end of the chunk's.
func (r *rowReader) readRow(c *chunk, record *Record) (reason string) {
	if reason := r.readCustomer(&record.Row); reason != "" {
		return "customer: " + reason
	}
	if reason := r.readTime(record); reason != "" {
		return "time: " + reason
	}
	for i := range r.columns.dimensions {
		d := &r.columns.dimensions[i]
		text, reason := r.met[i].read(d, r.cells[d.position], r.most)
		if reason != "" {
			return d.name + ": " + reason
		}
		c.texts = append(c.texts, text)
	}
	for i := range r.columns.measures {
		m := &r.columns.measures[i]
		number, err := m.read(r.cells[m.position])
		if err != nil {
			return m.name + ": " + err.Error()
		}
		c.numbers = append(c.numbers, number)
	}
	if r.columns.consent >= 0 {
		if record.Row.Consented, reason = readConsent(r.cells[r.columns.consent]); reason != "" {
			return "consent: " + reason
		}
	}
	return ""
}

// readCustomer leaves the pseudonym to the end where every row is its own customer: it depends on how many
// records come before.
func (r *rowReader) readCustomer(row *rows.Row) (reason string) {
	if r.columns.customer < 0 {
		return ""
	}
	c := r.cells[r.columns.customer]
	switch {
	case c.kind == nested:
		return reasonNested
	case c.text == "":
		return reasonAbsent
	}
	if string(r.customer) != c.text {
		if reason := checkText(c.text, r.most); reason != "" {
			return reason
		}
		r.customer = append(r.customer[:0], c.text...)
		r.pseudonym = r.ids.Pseudonym(c.text)
	}
	row.Customer = r.pseudonym
	return ""
}

func (r *rowReader) readTime(record *Record) (reason string) {
	if r.columns.time >= 0 {
		c := r.cells[r.columns.time]
		switch {
		case c.kind == nested:
			return reasonNested
		case c.text == "":
			return reasonAbsent
		}
		ms, err := r.clock.read(c)
		if err != nil {
			return err.Error()
		}
		record.Row.Time = ms
	}
	block, reason := r.blocks.find(record.Row.Time)
	if reason != "" {
		return reason
	}
	record.Block = block
	return ""
}

// met remembers what the values of a dimension meant. Few values make most of the rows, and who has met one
// neither checks it nor makes a text of it again.
type met struct {
	meanings map[string]meaning
	bytes    int // of the values
}

type meaning struct {
	text   rows.Text
	reason string
}

// What is remembered of one dimension at most, by each worker.
const (
	mostMet      = 1 << 15
	mostMetBytes = 2 << 20
)

func (m *met) read(d *dimensionColumn, c cell, most int) (rows.Text, string) {
	if c.kind == nested || c.text == "" {
		return d.read(c, most)
	}
	if known, ok := m.meanings[c.text]; ok {
		return known.text, known.reason
	}
	text, reason := d.read(c, most)
	if len(c.text) <= most && len(m.meanings) < mostMet && m.bytes+len(c.text) <= mostMetBytes {
		if m.meanings == nil {
			m.meanings = make(map[string]meaning)
		}
		key := text.Value
		if key != c.text {
			key = string([]byte(c.text))
		}
		m.meanings[key] = meaning{text, reason}
		m.bytes += len(key)
	}
	return text, reason
}
