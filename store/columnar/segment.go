package columnar

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

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
}

type columnInfo struct {
	columnID
	Scale int `json:"scale,omitempty"` // of a measure
}

// encode writes the rows of order, which are sorted, as columns. longest is the length of the longest body.
func (b *buffer) encode(p *dp.Policy, order []int32) (columns []encodedColumn, longest int, err error) {
	h := header{Rows: len(order)}
	add := func(id columnID, scale int, body []byte) {
		columns = append(columns, encodedColumn{id, body})
		longest = max(longest, len(body))
		h.Columns = append(h.Columns, columnInfo{columnID: id, Scale: scale})
	}
	add(columnID{Kind: customersColumn}, 0, b.encodeCustomers(order))
	if p.Time != nil {
		add(columnID{Kind: timeColumn}, 0, appendNumbers(nil, gather(b.time, order), nil))
	}
	for i := range p.Dimensions {
		add(columnID{dimensionColumn, p.Dimensions[i].Name}, 0, b.texts[i].encode(order))
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

func (b *buffer) encodeCustomers(order []int32) []byte {
	var ids []uint64
	var lengths []int64
	for _, i := range order {
		if id := b.customer[i]; len(ids) == 0 || ids[len(ids)-1] != id {
			ids = append(ids, id)
			lengths = append(lengths, 0)
		}
		lengths[len(lengths)-1]++
	}
	return appendCustomers(nil, ids, lengths)
}

// encode gives the segment a dictionary of the texts that it has.
func (t *textBuffer) encode(order []int32) []byte {
	own := make(map[uint32]int64)
	for _, i := range order {
		if code := t.codes[i]; code != 0 {
			own[code] = 0
		}
	}
	used := make([]uint32, 0, len(own))
	for code := range own {
		used = append(used, code)
	}
	slices.SortFunc(used, func(a, b uint32) int { return cmp.Compare(t.dictionary[a-1], t.dictionary[b-1]) })
	dictionary := make([]string, len(used))
	for i, code := range used {
		dictionary[i] = t.dictionary[code-1]
		own[code] = int64(i + 1)
	}
	codes := make([]int64, len(order))
	for i, at := range order {
		if code := t.codes[at]; code != 0 {
			codes[i] = own[code]
		}
	}
	return appendTexts(nil, dictionary, codes)
}

func gather[V any](from []V, order []int32) []V {
	out := make([]V, len(order))
	for i, at := range order {
		out[i] = from[at]
	}
	return out
}

// segment is what an aggregation reads of one segment. Its columns are as they are stored.
type segment struct {
	customers customers
	time      *numbers   // nil: rows have no time, or nobody asks
	texts     []*texts   // by position in the policy; nil: not there, or nobody asks
	measures  []*numbers // likewise
}

// readSegment reads the columns that are needed. A column that the segment's header does not name was added to
// the policy later, and is absent in all of its rows.
func readSegment(txn *badger.Txn, prefix []byte, sequence uint32, p *dp.Policy, needs bounding.Needs) (*segment, error) {
	r := segmentReader{txn: txn, prefix: prefix, sequence: sequence}
	key := columnKey(prefix, sequence, columnID{Kind: headerColumn})
	if found, err := getJSON(txn, key, &r.header); err != nil || !found || r.header.Rows < 1 {
		return nil, cmp.Or(err, errDamaged)
	}
	s := &segment{texts: make([]*texts, len(p.Dimensions)), measures: make([]*numbers, len(p.Measures))}
	body, _, err := r.column(columnID{Kind: customersColumn})
	if err != nil {
		return nil, err
	}
	if s.customers, err = readCustomers(body, r.header.Rows); err != nil {
		return nil, err
	}
	if needs.Time && p.Time != nil {
		if s.time, _, err = r.numbers(columnID{Kind: timeColumn}); err != nil {
			return nil, err
		}
		if s.time == nil {
			return nil, errDamaged
		}
	}
	for i, d := range p.Dimensions {
		if needs.Dimensions[i] {
			if s.texts[i], err = r.texts(columnID{dimensionColumn, d.Name}); err != nil {
				return nil, err
			}
		}
	}
	for i, m := range p.Measures {
		if !needs.Measures[i] {
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

// fill sets what of a row was read.
func (s *segment) fill(row *rows.Row, i int) {
	if s.time != nil {
		row.Time, _ = s.time.at(i)
	}
	for d, t := range s.texts {
		row.Dimensions[d] = rows.Text{}
		if t != nil {
			row.Dimensions[d].Value, row.Dimensions[d].Valid = t.at(i)
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
	txn      *badger.Txn
	prefix   []byte
	sequence uint32
	header   header
}

// column gives the body of a column; nil where the segment has none of that name.
func (r *segmentReader) column(id columnID) (body []byte, scale int, err error) {
	at := slices.IndexFunc(r.header.Columns, func(c columnInfo) bool { return c.columnID == id })
	if at < 0 {
		return nil, 0, nil
	}
	body, found, err := get(r.txn, columnKey(r.prefix, r.sequence, id))
	if err == nil && !found {
		err = errDamaged
	}
	return body, r.header.Columns[at].Scale, err
}

func (r *segmentReader) numbers(id columnID) (*numbers, int, error) {
	body, scale, err := r.column(id)
	if err != nil || body == nil {
		return nil, 0, err
	}
	n, rest, err := readNumbers(body)
	if err != nil || len(rest) > 0 || n.count != r.header.Rows {
		return nil, 0, errDamaged
	}
	return &n, scale, nil
}

func (r *segmentReader) texts(id columnID) (*texts, error) {
	body, _, err := r.column(id)
	if err != nil || body == nil {
		return nil, err
	}
	t, err := readTexts(body)
	if err != nil || t.codes.count != r.header.Rows {
		return nil, errDamaged
	}
	return &t, nil
}
