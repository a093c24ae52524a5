package columnar

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// encodedColumn is a column of a segment before it is sealed.
type encodedColumn struct {
	id   columnID
	body []byte
}

// header is the column that says what else a segment has. A column that the policy gained later is not there
// and reads as absent; one that is named here and missing is damage.
type header struct {
	Rows    int          `json:"rows"`
	Columns []columnInfo `json:"columns"`
	Loads   []uint64     `json:"loads,omitempty"` // that were merged into it, ascending
}

type columnInfo struct {
	columnID
	Scale int `json:"scale,omitempty"` // of a measure
}

// encode writes the rows of order, which are sorted, as columns. longest is the length of the longest body.
func (b *buffer) encode(p *dp.Policy, e *encoder, order []int32) (columns []encodedColumn, longest int, err error) {
	h := header{Rows: len(order)}
	add := func(id columnID, scale int, body []byte) {
		columns = append(columns, encodedColumn{id, body})
		longest = max(longest, len(body))
		h.Columns = append(h.Columns, columnInfo{columnID: id, Scale: scale})
	}
	add(columnID{Kind: customersColumn}, 0, appendRuns(nil, gather(b.customer, order)))
	if p.Time != nil {
		add(columnID{Kind: timeColumn}, 0, appendNumbers(nil, gather(b.time, order), nil))
	}
	if consented := gather(b.consented, order); slices.Contains(consented, true) {
		add(columnID{Kind: consentColumn}, 0, appendConsent(nil, consented))
	}
	for i := range p.Dimensions {
		add(columnID{dimensionColumn, p.Dimensions[i].Name}, 0, b.texts[i].encode(e, order))
	}
	for i := range p.Measures {
		m := &b.measures[i]
		add(columnID{measureColumn, p.Measures[i].Name}, p.Measures[i].Scale, appendNumbers(nil, gather(m.values, order), gather(m.valid, order)))
	}
	body, err := json.Marshal(h)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a segment: %w", err)
	}
	return append(columns, encodedColumn{columnID{Kind: headerColumn}, body}), longest, nil
}

// appendRuns writes the customers of rows that are sorted by them.
func appendRuns(buf []byte, all []uint64) []byte {
	var ids []uint64
	var lengths []int64
	for _, id := range all {
		if len(ids) == 0 || ids[len(ids)-1] != id {
			ids, lengths = append(ids, id), append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return appendCustomers(buf, ids, lengths)
}

// encode gives the segment's rows the positions of their codes among those that it has.
func (t *textBuffer) encode(e *encoder, order []int32) []byte { return e.texts(gather(t.codes, order)) }

// encoder finds the positions of codes. It keeps its memory, four bytes for each code up to the largest.
type encoder struct {
	position []int32 // by code; 0 between calls
	used     []uint32
}

// texts encodes a column of codes.
func (e *encoder) texts(codes []uint32) []byte {
	e.used = e.used[:0]
	for _, code := range codes {
		if int(code) >= len(e.position) {
			e.position = append(e.position, make([]int32, int(code)+1-len(e.position))...)
		}
		if code != 0 && e.position[code] == 0 {
			e.position[code] = 1
			e.used = append(e.used, code)
		}
	}
	slices.Sort(e.used)
	for i, code := range e.used {
		e.position[code] = int32(i + 1)
	}
	positions := make([]int64, len(codes))
	for i, code := range codes {
		positions[i] = int64(e.position[code])
	}
	for _, code := range e.used {
		e.position[code] = 0
	}
	return appendTexts(nil, e.used, positions)
}

func gather[V any](from []V, order []int32) []V {
	out := make([]V, len(order))
	for i, at := range order {
		out[i] = from[at]
	}
	return out
}

// segment is what a scan reads of one segment. Its columns are as they are stored.
type segment struct {
	header    header
	customers *customers
	time      *numbers   // nil: rows have no time, or nobody asks
	loads     *numbers   // positions in header.Loads; nil: one load, or nobody asks
	consent   *numbers   // present in rows that carry it; nil: none does, or nobody asks
	texts     []*texts   // by position in the policy; nil: not there, or nobody asks
	measures  []*numbers // likewise
}

// wanted says which columns of a segment are read.
type wanted struct {
	bounding.Needs
	time, loads, consent bool
}

// readSegment reads the columns that are wanted. A column that the segment's header does not name was added to
// the policy later, and is absent in all of its rows.
func readSegment(from *reader, prefix []byte, sequence uint32, p *dp.Policy, want wanted) (*segment, error) {
	r := segmentReader{reader: from, prefix: prefix, sequence: sequence}
	h, err := r.readHeader()
	if err != nil {
		return nil, err
	}
	r.header = h
	s := &segment{header: *h, texts: make([]*texts, len(p.Dimensions)), measures: make([]*numbers, len(p.Measures))}
	if s.customers, err = r.customers(); err != nil {
		return nil, err
	}
	if want.time && p.Time != nil {
		if s.time, _, err = r.numbers(columnID{Kind: timeColumn}); err != nil {
			return nil, err
		}
		if s.time == nil {
			return nil, errDamaged
		}
	}
	if want.loads && len(h.Loads) > 1 {
		if s.loads, _, err = r.numbers(columnID{Kind: loadColumn}); err != nil {
			return nil, err
		}
		if s.loads == nil || s.loads.base < 0 || s.loads.most() >= uint64(len(h.Loads)) {
			return nil, errDamaged
		}
	}
	if want.consent {
		if s.consent, _, err = r.numbers(columnID{Kind: consentColumn}); err != nil {
			return nil, err
		}
	}
	for i, d := range p.Dimensions {
		if want.Dimensions[i] {
			if s.texts[i], err = r.texts(columnID{dimensionColumn, d.Name}); err != nil {
				return nil, err
			}
		}
	}
	for i, m := range p.Measures {
		if !want.Measures[i] {
			continue
		}
		scale := 0
		if s.measures[i], scale, err = r.numbers(columnID{measureColumn, m.Name}); err != nil {
			return nil, err
		}
		if s.measures[i] != nil && scale != m.Scale {
			return nil, fmt.Errorf("measure %s is stored with %d decimal places and the policy has %d: a scale is fixed once rows are loaded", m.Name, scale, m.Scale)
		}
	}
	return s, nil
}

// consents tells whether row i carries consent.
func (s *segment) consents(i int) bool { return s.consent != nil && s.consent.has(i) }

// fill sets a row, with the texts of its dimensions' dictionaries. Every column must have been read but consent, which
// is no part of canonical bytes.
func (s *segment) fill(row *rows.Row, i int, dictionaries [][]string) {
	if s.time != nil {
		row.Time, _ = s.time.at(i)
	}
	for d, t := range s.texts {
		row.Dimensions[d] = rows.Text{}
		if t == nil {
			continue
		}
		if code := t.code(i); code != 0 {
			row.Dimensions[d] = rows.Text{Value: dictionaries[d][code-1], Valid: true}
		}
	}
	for m, n := range s.measures {
		row.Measures[m] = rows.Number{}
		if n != nil {
			row.Measures[m].Value, row.Measures[m].Valid = n.at(i)
		}
	}
}

// segmentReader reads the columns of one segment.
type segmentReader struct {
	*reader
	prefix   []byte
	sequence uint32
	header   *header
}

func (r *segmentReader) readHeader() (*header, error) {
	return cached(r.reader, columnKey(r.prefix, r.sequence, columnID{Kind: headerColumn}), func(body []byte) (*header, error) {
		h := &header{}
		if json.Unmarshal(body, h) != nil || h.Rows < 1 {
			return nil, errDamaged
		}
		return h, nil
	})
}

func (r *segmentReader) customers() (*customers, error) {
	return cached(r.reader, columnKey(r.prefix, r.sequence, columnID{Kind: customersColumn}), func(body []byte) (*customers, error) {
		c, err := readCustomers(body, r.header.Rows)
		return &c, err
	})
}

// has tells whether the segment has a column of that name, and the scale of a measure.
func (r *segmentReader) has(id columnID) (scale int, ok bool) {
	at := slices.IndexFunc(r.header.Columns, func(c columnInfo) bool { return c.columnID == id })
	if at < 0 {
		return 0, false
	}
	return r.header.Columns[at].Scale, true
}

// numbers gives nil where the segment has no such column.
func (r *segmentReader) numbers(id columnID) (*numbers, int, error) {
	scale, ok := r.has(id)
	if !ok {
		return nil, 0, nil
	}
	n, err := cached(r.reader, columnKey(r.prefix, r.sequence, id), func(body []byte) (*numbers, error) {
		n, rest, err := readNumbers(body)
		if err != nil || len(rest) > 0 || n.count != r.header.Rows {
			return nil, errDamaged
		}
		return &n, nil
	})
	return n, scale, err
}

func (r *segmentReader) texts(id columnID) (*texts, error) {
	if _, ok := r.has(id); !ok {
		return nil, nil
	}
	return cached(r.reader, columnKey(r.prefix, r.sequence, id), func(body []byte) (*texts, error) {
		t, err := readTexts(body)
		if err != nil || t.positions.count != r.header.Rows {
			return nil, errDamaged
		}
		return &t, nil
	})
}
