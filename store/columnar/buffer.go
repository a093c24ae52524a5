package columnar

import (
	"cmp"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// buffer collects rows of one load, column by column, until they are sorted and written.
type buffer struct {
	shards   int
	blocks   []string // by code
	codes    map[string]uint16
	block    []uint16
	customer []uint64
	time     []int64
	texts    []textBuffer
	measures []numberBuffer
	bytes    int // of the distinct texts
}

// textBuffer holds codes of its own dictionary, counted from 1; 0 is absent.
type textBuffer struct {
	dictionary []string
	codeOf     map[string]uint32
	codes      []uint32
}

type numberBuffer struct {
	values []int64
	valid  []bool
}

func newBuffer(p *dp.Policy, shards int) *buffer {
	b := &buffer{
		shards: shards, codes: make(map[string]uint16),
		texts: make([]textBuffer, len(p.Dimensions)), measures: make([]numberBuffer, len(p.Measures)),
	}
	b.reset()
	return b
}

func (b *buffer) add(block string, r *rows.Row) {
	code, ok := b.codes[block]
	if !ok {
		code = uint16(len(b.blocks))
		b.codes[block] = code
		b.blocks = append(b.blocks, block)
	}
	b.block = append(b.block, code)
	b.customer = append(b.customer, r.Customer)
	b.time = append(b.time, r.Time)
	for i := range b.texts {
		b.bytes += b.texts[i].add(r.Dimensions[i])
	}
	for i := range b.measures {
		m := &b.measures[i]
		m.values = append(m.values, r.Measures[i].Value)
		m.valid = append(m.valid, r.Measures[i].Valid)
	}
}

// add gives how many bytes the dictionary grew by.
func (t *textBuffer) add(text rows.Text) (grown int) {
	if !text.Valid {
		t.codes = append(t.codes, 0)
		return 0
	}
	code, ok := t.codeOf[text.Value]
	if !ok {
		own := strings.Clone(text.Value) // it shares memory with the whole record, the identifier included
		t.dictionary = append(t.dictionary, own)
		code = uint32(len(t.dictionary))
		t.codeOf[own] = code
		grown = len(own)
	}
	t.codes = append(t.codes, code)
	return grown
}

func (t *textBuffer) at(i int32) string {
	if t.codes[i] == 0 {
		return ""
	}
	return t.dictionary[t.codes[i]-1]
}

func (b *buffer) len() int { return len(b.customer) }

// shard is where all rows of a customer live. The pseudonym is a keyed hash already.
func (b *buffer) shard(i int32) int { return int(b.customer[i] % uint64(b.shards)) }

// sorted gives the order of shard, block, customer, time and, so that the bytes of a segment do not depend on
// the order of the input, everything else.
func (b *buffer) sorted() []int32 {
	order := make([]int32, b.len())
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int {
		if c := cmp.Or(cmp.Compare(b.shard(x), b.shard(y)), cmp.Compare(b.block[x], b.block[y])); c != 0 {
			return c
		}
		if c := cmp.Or(cmp.Compare(b.customer[x], b.customer[y]), cmp.Compare(b.time[x], b.time[y])); c != 0 {
			return c
		}
		for i := range b.texts {
			t := &b.texts[i]
			if t.codes[x] == t.codes[y] {
				continue
			}
			if c := cmp.Or(cmp.Compare(min(t.codes[x], 1), min(t.codes[y], 1)), cmp.Compare(t.at(x), t.at(y))); c != 0 {
				return c
			}
		}
		for i := range b.measures {
			m := &b.measures[i]
			if c := cmp.Or(compareBools(m.valid[x], m.valid[y]), cmp.Compare(m.values[x], m.values[y])); c != 0 {
				return c
			}
		}
		return 0
	})
	return order
}

func compareBools(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

// reset empties the buffer and keeps its memory, and the codes of blocks.
func (b *buffer) reset() {
	b.block, b.customer, b.time = b.block[:0], b.customer[:0], b.time[:0]
	b.bytes = 0
	for i := range b.texts {
		b.texts[i] = textBuffer{codeOf: make(map[string]uint32), codes: b.texts[i].codes[:0]}
	}
	for i := range b.measures {
		b.measures[i].values, b.measures[i].valid = b.measures[i].values[:0], b.measures[i].valid[:0]
	}
}
