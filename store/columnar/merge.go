package columnar

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// merger reads chains of segments side by side and writes their rows anew, as the segments of one chain. It knows
// columns by what the segments name, not by any policy: what a policy no longer names stays. In memory it has one
// segment of each chain, and one that it writes.
type merger struct {
	from    *reader
	without map[uint64]struct{} // customers whose rows are left out; nil: none
	most    int                 // rows of a segment
	write   func(columns []encodedColumn) error

	out outgoing
}

// merge writes the rows of all chains, by customer and time. Where those are equal, earlier chains come first.
func (m *merger) merge(ctx context.Context, chains []chain) error {
	var h incomings
	for i, c := range chains {
		in := &incoming{merger: m, chain: c, order: i}
		more, err := in.next()
		if err != nil {
			return err
		}
		if more {
			h = append(h, in)
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		if m.out.rows%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.out.add(h[0])
		if m.out.rows == m.most {
			if err := m.flush(); err != nil {
				return err
			}
		}
		more, err := h[0].next()
		if err != nil {
			return err
		}
		if more {
			heap.Fix(&h, 0)
		} else {
			heap.Pop(&h)
		}
	}
	if m.out.rows == 0 {
		return nil
	}
	return m.flush()
}

// flush writes the rows so far as one segment, or as more where a column is too long.
func (m *merger) flush() error {
	defer m.out.reset()
	return m.flushRows(0, m.out.rows)
}

func (m *merger) flushRows(from, to int) error {
	columns, longest, err := m.out.encode(from, to)
	if err != nil {
		return err
	}
	if middle := from + (to-from)/2; longest > maxValue && middle > from {
		if err := m.flushRows(from, middle); err != nil {
			return err
		}
		return m.flushRows(middle, to)
	}
	return m.write(columns)
}

// incoming stands at one row of a chain.
type incoming struct {
	merger *merger
	chain  chain
	order  int

	header    *header
	customers *customers
	time      *numbers
	loads     *numbers
	consent   *numbers
	texts     []incomingText
	measures  []incomingMeasure

	run, left int // customer of the segment, and how many of its rows follow
	row       int
	customer  uint64
	at        int64 // time
}

type incomingText struct {
	*texts
	into int // of outgoing.texts
}

type incomingMeasure struct {
	*numbers
	into int // of outgoing.measures
}

// next goes to the next row; false after the last.
func (in *incoming) next() (bool, error) {
	in.row++
	for in.left == 0 {
		in.run++
		if in.header == nil || in.run == in.customers.lengths.count {
			if in.chain.first == in.chain.last {
				return false, nil
			}
			if err := in.open(); err != nil {
				return false, err
			}
		}
		length, _ := in.customers.lengths.at(in.run)
		in.customer = in.customers.id(in.run)
		if _, out := in.merger.without[in.customer]; out {
			in.row += int(length)
			continue
		}
		in.left = int(length)
	}
	in.left--
	if in.time != nil {
		in.at, _ = in.time.at(in.row)
	}
	return true, nil
}

// open reads every column of the chain's next segment.
func (in *incoming) open() (err error) {
	r := segmentReader{reader: in.merger.from, prefix: in.chain.prefix, sequence: in.chain.first}
	in.chain.first++
	in.run, in.row = 0, 0
	in.time, in.loads, in.consent, in.texts, in.measures = nil, nil, nil, in.texts[:0], in.measures[:0]
	if r.header, err = r.readHeader(); err != nil {
		return err
	}
	in.header = r.header
	for _, c := range r.header.Columns {
		var n *numbers
		switch c.Kind {
		case customersColumn:
			in.customers, err = r.customers()
		case dimensionColumn:
			var t *texts
			t, err = r.texts(c.columnID)
			in.texts = append(in.texts, incomingText{t, in.merger.out.textOf(c.columnID)})
		case measureColumn:
			n, _, err = r.numbers(c.columnID)
			in.measures = append(in.measures, incomingMeasure{n, in.merger.out.measureOf(c)})
		case timeColumn:
			in.time, _, err = r.numbers(c.columnID)
		case loadColumn:
			in.loads, _, err = r.numbers(c.columnID)
		case consentColumn:
			in.consent, _, err = r.numbers(c.columnID)
		default:
			err = errDamaged
		}
		if err != nil {
			return err
		}
	}
	several := len(in.header.Loads) > 1
	if in.customers == nil || in.loads == nil && several || in.loads != nil && in.loads.most() >= uint64(len(in.header.Loads)) ||
		in.chain.load == 0 && len(in.header.Loads) == 0 {
		return errDamaged
	}
	return nil
}

// load is whose row it is.
func (in *incoming) load() uint64 {
	switch {
	case in.chain.load != 0:
		return in.chain.load
	case in.loads == nil:
		return in.header.Loads[0]
	}
	position, _ := in.loads.at(in.row)
	return in.header.Loads[position]
}

// incomings is a heap with the row on top that comes first.
type incomings []*incoming

// Len, Less, Swap, Push and Pop are container/heap's.

func (h incomings) Len() int { return len(h) }

func (h incomings) Less(i, j int) bool {
	x, y := h[i], h[j]
	switch {
	case x.customer != y.customer:
		return x.customer < y.customer
	case x.at != y.at:
		return x.at < y.at
	}
	return x.order < y.order
}

func (h incomings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *incomings) Push(in any) { *h = append(*h, in.(*incoming)) }

func (h *incomings) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// outgoing is the segment that is being written. A column has values as far as it was met; what follows is absent.
type outgoing struct {
	rows     int
	customer []uint64
	load     []uint64
	time     []int64
	consent  []bool
	texts    []outgoingText
	measures []outgoingMeasure

	encoder encoder
}

type outgoingText struct {
	id    columnID
	codes []uint32
}

type outgoingMeasure struct {
	columnInfo
	values []int64
	valid  []bool
}

// textOf gives the position of a dimension's column.
func (o *outgoing) textOf(id columnID) int {
	at := slices.IndexFunc(o.texts, func(t outgoingText) bool { return t.id == id })
	if at < 0 {
		at = len(o.texts)
		o.texts = append(o.texts, outgoingText{id: id})
	}
	return at
}

// measureOf gives the position of a measure's column. One that has another scale is another column, which no
// policy allows to come about, and encode refuses.
func (o *outgoing) measureOf(c columnInfo) int {
	at := slices.IndexFunc(o.measures, func(m outgoingMeasure) bool { return m.columnInfo == c })
	if at < 0 {
		at = len(o.measures)
		o.measures = append(o.measures, outgoingMeasure{columnInfo: c})
	}
	return at
}

func (o *outgoing) add(in *incoming) {
	o.customer, o.load = append(o.customer, in.customer), append(o.load, in.load())
	if in.time != nil {
		o.time = append(o.time, in.at)
	}
	if in.consent != nil {
		o.consent = append(padded(o.consent, o.rows), in.consent.has(in.row))
	}
	for _, t := range in.texts {
		into := &o.texts[t.into]
		into.codes = append(padded(into.codes, o.rows), t.code(in.row))
	}
	for _, n := range in.measures {
		into := &o.measures[n.into]
		v, ok := n.at(in.row)
		into.values, into.valid = append(padded(into.values, o.rows), v), append(padded(into.valid, o.rows), ok)
	}
	o.rows++
}

// padded makes a column as long as count rows are, with absent values.
func padded[V any](column []V, count int) []V {
	var absent V
	for len(column) < count {
		column = append(column, absent)
	}
	return column
}

// reset empties the columns and keeps their memory.
func (o *outgoing) reset() {
	o.rows = 0
	o.customer, o.load, o.time, o.consent = o.customer[:0], o.load[:0], o.time[:0], o.consent[:0]
	for i := range o.texts {
		o.texts[i].codes = o.texts[i].codes[:0]
	}
	for i := range o.measures {
		o.measures[i].values, o.measures[i].valid = o.measures[i].values[:0], o.measures[i].valid[:0]
	}
}

// encode writes some rows as columns. longest is the length of the longest body.
func (o *outgoing) encode(from, to int) (columns []encodedColumn, longest int, err error) {
	if len(o.time) != 0 && len(o.time) != o.rows {
		return nil, 0, errDamaged // a dataset has time or has none
	}
	h := header{Rows: to - from}
	add := func(c columnInfo, body []byte) {
		columns = append(columns, encodedColumn{c.columnID, body})
		longest = max(longest, len(body))
		h.Columns = append(h.Columns, c)
	}
	add(columnInfo{columnID: columnID{Kind: customersColumn}}, appendRuns(nil, o.customer[from:to]))
	if len(o.time) > 0 {
		add(columnInfo{columnID: columnID{Kind: timeColumn}}, appendNumbers(nil, o.time[from:to], nil))
	}
	h.Loads = slices.Clone(o.load[from:to])
	slices.Sort(h.Loads)
	h.Loads = slices.Compact(h.Loads)
	if len(h.Loads) > 1 {
		positions := make([]int64, to-from)
		for i := range positions {
			at, _ := slices.BinarySearch(h.Loads, o.load[from+i])
			positions[i] = int64(at)
		}
		add(columnInfo{columnID: columnID{Kind: loadColumn}}, appendNumbers(nil, positions, nil))
	}
	o.consent = padded(o.consent, o.rows)
	if consented := o.consent[from:to]; slices.Contains(consented, true) {
		add(columnInfo{columnID: columnID{Kind: consentColumn}}, appendConsent(nil, consented))
	}
	for i := range o.texts {
		if t := &o.texts[i]; len(t.codes) > from {
			t.codes = padded(t.codes, to)
			add(columnInfo{columnID: t.id}, o.encoder.texts(t.codes[from:to]))
		}
	}
	names := make(map[string]bool)
	for i := range o.measures {
		m := &o.measures[i]
		if len(m.values) <= from {
			continue
		}
		if names[m.Name] {
			return nil, 0, fmt.Errorf("measure %s is stored with different numbers of decimal places: a scale is fixed once rows are loaded", m.Name)
		}
		names[m.Name] = true
		m.values, m.valid = padded(m.values, to), padded(m.valid, to)
		add(m.columnInfo, appendNumbers(nil, m.values[from:to], m.valid[from:to]))
	}
	body, err := json.Marshal(h)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a segment: %w", err)
	}
	return append(columns, encodedColumn{columnID{Kind: headerColumn}, body}), longest, nil
}
