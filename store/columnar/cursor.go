package columnar

import (
	"context"
	"encoding/binary"
	"slices"
)

// cursor stands at one customer of a chain.
type cursor struct {
	aggregation *aggregation
	reader      *reader
	chain       chain
	block       int // in aggregation.blocks

	segment  *segment
	shorts   [][]int64   // by dimension: what the question's tables have for the segment's codes
	views    [][][]int64 // by view: likewise what its tables have; the first has none
	hidden   []bool      // by position in header.Loads; nil: every row is visible
	erased   []span      // rows of customers that are to be erased
	run      int         // of the segment: the customer
	runs     int
	ids      []byte      // of the segment's customers
	length   int         // of a run, to which lengths adds
	lengths  []byte      // nil: nothing is added
	wide     bool        // lengths are longer than a byte
	quick    bool        // the segment's rows may be taken the quick way
	slots    []slotTable // by dimension that is asked, so that rows need not be decoded; nil: they have to be
	customer uint64
	row, end int // of the customer

	// The rows from start on, decoded: numbers of partitions, and the question's measures.
	start    int
	numbers  []int64
	passes   [][]int64 // by view: negative where the row is none of its; the first has none
	measures [][]int64
	buffers  *buffers // those of the bounder, or one's own
}

// buffers are memory for decoded rows.
type buffers struct {
	numbers, scratch [decodedAtOnce]int64
	measures         [][]int64
	passes           [][]int64
}

func newBuffers(q *question) *buffers {
	b := &buffers{measures: make([][]int64, len(q.measures)), passes: make([][]int64, len(q.views))}
	for v := range q.views[1:] {
		b.passes[1+v] = make([]int64, decodedAtOnce)
	}
	for i := range b.measures {
		b.measures[i] = make([]int64, decodedAtOnce)
	}
	return b
}

// decodedAtOnce is how many rows are decoded at once: few enough for the first caches to hold all columns.
const decodedAtOnce = 1024

// nextCustomer goes to the next customer; false after the last.
func (c *cursor) nextCustomer(ctx context.Context, b *bounder) (bool, error) {
	c.run++
	for c.segment == nil || c.run >= c.runs {
		if c.chain.first == c.chain.last {
			return false, nil
		}
		if ctx.Err() != nil { // a customer may have any number of segments
			return false, context.Cause(ctx)
		}
		if err := c.open(b); err != nil {
			return false, err
		}
	}
	c.stand()
	return true, nil
}

// stand reads the customer of c.run.
func (c *cursor) stand() {
	c.customer = c.id(c.run)
	c.row, c.end = c.end, c.end+c.lengthOf(c.run)
}

func (c *cursor) id(run int) uint64 { return binary.LittleEndian.Uint64(c.ids[8*run:]) }

func (c *cursor) lengthOf(run int) int {
	switch {
	case c.lengths != nil:
		return c.length + int(c.lengths[run])
	case c.wide:
		exact, _ := c.segment.customers.lengths.at(run)
		return int(exact)
	}
	return c.length
}

// open reads the chain's next segment.
func (c *cursor) open(b *bounder) error {
	c.chain.first++
	c.run, c.row, c.end = 0, 0, 0
	return c.read(b)
}

// leave lets go of the segment and of everything that takes memory. read takes it up again, where the cursor stands.
func (c *cursor) leave() {
	c.segment, c.ids, c.lengths = nil, nil, nil
	c.shorts, c.views, c.hidden, c.erased, c.slots = nil, nil, nil, nil, nil
	c.numbers, c.passes, c.measures, c.buffers = nil, nil, nil, nil
}

// read reads the columns of the segment that the cursor is in, the last before chain.first.
func (c *cursor) read(b *bounder) (err error) {
	q := c.aggregation.question
	block := &c.aggregation.blocks[c.block]
	want := wanted{Needs: q.needs, loads: c.chain.visible != nil}
	want.time = q.evaluator.Measured() || q.evaluator.Timed() || slices.ContainsFunc(append(slices.Clip(block.views), block.calendar), func(of *calendar) bool { return of != nil && of.same == nil })
	if c.segment, err = readSegment(c.reader, c.chain.prefix, c.chain.first-1, q.policy, want); err != nil {
		return err
	}
	all := &c.segment.customers.lengths
	c.runs, c.ids, c.length, c.lengths, c.wide = all.count, c.segment.customers.ids, int(all.base), nil, all.width > 1
	if all.width == 1 {
		c.lengths = all.offsets
	}
	c.quick = b.quick.fits(c.segment)
	c.start, c.numbers = c.row, c.numbers[:0]
	for d, t := range c.segment.texts {
		if t != nil && len(t.used) > 0 && int(t.used[len(t.used)-1]) > len(c.aggregation.dictionaries[d]) {
			return errDamaged // a part of the dictionary is lost
		}
	}
	if c.shorts, err = c.narrow(q.tables); err != nil {
		return err
	}
	c.views = make([][][]int64, len(q.views))
	for v := range q.views[1:] {
		if c.views[1+v], err = c.narrow(q.views[1+v].tables); err != nil {
			return err
		}
	}
	c.findErased()
	c.hidden = hiddenLoads(&c.chain, &c.segment.header)
	c.slots = nil
	if b.quick != nil {
		c.slots = b.quick.few.slotTables(c)
	}
	return nil
}

// hiddenLoads tells of each load that was merged into a segment whether it is not visible; nil: all are visible.
func hiddenLoads(c *chain, h *header) (hidden []bool) {
	if c.visible == nil {
		return nil
	}
	for _, load := range h.Loads {
		hidden = append(hidden, !slices.Contains(c.visible, load))
	}
	if !slices.Contains(hidden, true) {
		return nil
	}
	return hidden
}

// narrow gives what tables have for the segment's codes.
func (c *cursor) narrow(tables [][]int64) (shorts [][]int64, err error) {
	shorts = make([][]int64, len(tables))
	for d, table := range tables {
		if t := c.segment.texts[d]; table != nil && t != nil {
			if shorts[d], err = t.narrow(table); err != nil {
				return nil, err
			}
		}
	}
	return shorts, nil
}

// take hands all rows of a customer to a bounder, also where they go on in the next segment, and goes to the next
// customer; false after the last.
func (c *cursor) take(ctx context.Context, customer uint64, b *bounder) (more bool, err error) {
	for more = true; more && err == nil && c.customer == customer; more, err = c.nextCustomer(ctx, b) {
		for c.row < c.end {
			if c.row >= c.start+len(c.numbers) {
				c.decode(min(decodedAtOnce, c.segment.header.Rows-c.row))
			}
			until := min(c.end, c.start+len(c.numbers))
			b.add(c, c.row-c.start, until-c.start)
			c.row = until
		}
	}
	return more, err
}

// decode decodes so many rows from c.row on.
func (c *cursor) decode(count int) {
	q, s := c.aggregation.question, c.segment
	c.start, c.numbers, c.measures = c.row, c.buffers.numbers[:count], c.buffers.measures
	block := &c.aggregation.blocks[c.block]
	c.sift(c.numbers, &q.sieve, c.shorts, block.calendar)
	c.hide()
	c.passes = c.buffers.passes
	for v := range q.views[1:] {
		c.passes[1+v] = c.passes[1+v][:count]
		c.sift(c.passes[1+v], &q.views[1+v].sieve, c.views[1+v], block.views[1+v])
	}
	for i, m := range q.measures {
		if n := s.measures[m]; n != nil {
			n.decode(c.measures[i][:count], c.start)
		}
	}
}

// sift gives rows from c.start on the numbers of a sieve, of which shorts are what its tables have for the segment.
func (c *cursor) sift(into []int64, of *sieve, shorts [][]int64, calendar *calendar) {
	first := true
	for d, table := range of.tables {
		if table == nil {
			continue
		}
		if t := c.segment.texts[d]; t != nil {
			t.positions.lookUp(into, c.start, shorts[d], first)
		} else {
			addConstant(into, table[0], first)
		}
		first = false
	}
	if first {
		clear(into)
	}
	c.addCalendar(into, calendar)
	c.addTests(into, of)
}

func addConstant(into []int64, v int64, first bool) {
	for i := range into {
		if first {
			into[i] = v
		} else {
			into[i] = added(into[i], v)
		}
	}
}

func (c *cursor) addCalendar(into []int64, calendar *calendar) {
	if calendar == nil {
		return
	}
	if calendar.same != nil {
		addConstant(into, *calendar.same, false)
		return
	}
	times := c.buffers.scratch[:len(into)]
	c.segment.time.decode(times, c.start)
	for i, ms := range times {
		into[i] = added(into[i], calendar.number(ms))
	}
}

func (c *cursor) addTests(into []int64, of *sieve) {
	for t := range of.tests {
		test := &of.tests[t]
		n := c.segment.measures[test.Field.Index]
		for i := range into {
			passes := false
			if n != nil {
				v, ok := n.at(c.start + i)
				passes = ok && test.PassesNumber(v)
			}
			if !passes {
				into[i] = dropped
			}
		}
	}
}

// span is a range of rows of a segment, the end excluded.
type span struct{ from, to int }

// findErased finds the rows of the segment that are to be erased.
func (c *cursor) findErased() {
	c.erased = c.erased[:0]
	if c.aggregation.erased == nil {
		return
	}
	row := 0
	for i := range c.runs {
		length, _ := c.segment.customers.lengths.at(i)
		if _, gone := c.aggregation.erased[c.segment.customers.id(i)]; gone {
			c.erased = append(c.erased, span{row, row + int(length)})
		}
		row += int(length)
	}
}

// hide drops the rows of customers that are to be erased, and of loads that were merged and are not visible.
func (c *cursor) hide() {
	for len(c.erased) > 0 && c.erased[0].to <= c.start { // rows may be decoded again, but none before these
		c.erased = c.erased[1:]
	}
	end := c.start + len(c.numbers)
	for _, s := range c.erased {
		if s.from >= end {
			break
		}
		for i := max(s.from, c.start); i < min(s.to, end); i++ {
			c.numbers[i-c.start] = dropped
		}
	}
	if c.hidden == nil {
		return
	}
	for i := range c.numbers {
		load := int64(0)
		if c.segment.loads != nil {
			load, _ = c.segment.loads.at(c.start + i)
		}
		if c.hidden[load] {
			c.numbers[i] = dropped
		}
	}
}
