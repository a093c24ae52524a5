package columnar

import (
	"cmp"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// buffer collects rows of one load, column by column, until they are sorted and written.
type buffer struct {
	shards    int
	mostBytes int      // of one dimension's texts
	blocks    []string // by code
	codes     map[string]uint16
	block     []uint16
	customer  []uint64
	time      []int64
	consented []bool
	texts     []textBuffer
	measures  []numberBuffer
}

// textBuffer holds codes of the dataset's dictionary.
type textBuffer struct {
	dimension  string
	dictionary *dictionary
	codes      []uint32
}

type numberBuffer struct {
	values []int64
	valid  []bool
}

func newBuffer(p *dp.Policy, dictionaries []*dictionary, shards, mostBytes int) *buffer {
	b := &buffer{
		shards: shards, mostBytes: mostBytes, codes: make(map[string]uint16),
		texts: make([]textBuffer, len(p.Dimensions)), measures: make([]numberBuffer, len(p.Measures)),
	}
	for i := range b.texts {
		b.texts[i].dimension, b.texts[i].dictionary = p.Dimensions[i].Name, dictionaries[i]
	}
	return b
}

func (b *buffer) add(block string, r *rows.Row) error {
	for i := range b.texts {
		if err := b.texts[i].add(r.Dimensions[i], b.mostBytes); err != nil {
			return err
		}
	}
	code := len(b.blocks) - 1
	if code < 0 || b.blocks[code] != block {
		known, ok := b.codes[block]
		if !ok {
			known = uint16(len(b.blocks))
			b.codes[block] = known
			b.blocks = append(b.blocks, block)
		}
		code = int(known)
	}
	b.block = append(b.block, uint16(code))
	b.customer = append(b.customer, r.Customer)
	b.time = append(b.time, r.Time)
	b.consented = append(b.consented, r.Consented)
	for i := range b.measures {
		m := &b.measures[i]
		m.values = append(m.values, r.Measures[i].Value)
		m.valid = append(m.valid, r.Measures[i].Valid)
	}
	return nil
}

func (t *textBuffer) add(text rows.Text, mostBytes int) error {
	code := uint32(0)
	if text.Valid {
		var err error
		if code, err = t.dictionary.code(text.Value, mostBytes); err != nil {
			return tooManyTexts(t.dimension, mostBytes)
		}
	}
	t.codes = append(t.codes, code)
	return nil
}

func (b *buffer) len() int { return len(b.customer) }

// shard is where all rows of a customer live. The pseudonym is a keyed hash already.
func (b *buffer) shard(i int32) int { return int(b.customer[i] % uint64(b.shards)) }

// byShard gives the rows of each shard.
func (b *buffer) byShard() [][]int32 {
	counts := make([]int, b.shards)
	for i := range b.customer {
		counts[b.shard(int32(i))]++
	}
	all, parts := make([]int32, b.len()), make([][]int32, b.shards)
	for shard, count := range counts {
		parts[shard], all = all[:0:count], all[count:]
	}
	for i := range b.customer {
		shard := b.shard(int32(i))
		parts[shard] = append(parts[shard], int32(i))
	}
	return parts
}

// sort orders rows by block, customer and time.
func (b *buffer) sort(order []int32) {
	type place struct {
		customer uint64
		time     int64
		row      int32
		block    uint16
	}
	places := make([]place, len(order))
	for i, row := range order {
		places[i] = place{b.customer[row], b.time[row], row, b.block[row]}
	}
	slices.SortFunc(places, func(x, y place) int {
		switch {
		case x.block != y.block:
			return cmp.Compare(x.block, y.block)
		case x.customer != y.customer:
			return cmp.Compare(x.customer, y.customer)
		}
		return cmp.Compare(x.time, y.time)
	})
	for i := range places {
		order[i] = places[i].row
	}
}

// reset empties the buffer and keeps its memory, and the codes of blocks.
func (b *buffer) reset() {
	b.block, b.customer, b.time, b.consented = b.block[:0], b.customer[:0], b.time[:0], b.consented[:0]
	for i := range b.texts {
		b.texts[i].codes = b.texts[i].codes[:0]
	}
	for i := range b.measures {
		b.measures[i].values, b.measures[i].valid = b.measures[i].values[:0], b.measures[i].valid[:0]
	}
}
