package columnar

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// together goes through the customers of one shard, ascending, and gives the rows that each has in some blocks, of
// several datasets perhaps: the same customer has the same pseudonym, and so the same shard, in all of them. It is for
// questions whose cells depend on several blocks of a customer, and slower than a stream, which adds up one block of each.
//
// In memory are segments and rows that were decoded ahead, which togetherLimits bound, and however many rows the customer
// at hand has: to refuse them would tell of that customer.
type together struct {
	turns []*turn // a heap with the block on top whose customer comes first
	taken []*turn // those whose rows were given last
	rows  [][]unitRows
}

// scanned is a dataset of which some blocks are read together with others.
type scanned struct {
	policy       *dp.Policy
	blocks       []scannedBlock      // as Store.visible gives them
	want         wanted              // what rows are to have; loads are read where they have to be
	erased       map[uint64]struct{} // customers that are to be erased, and count no more; nil: none
	dictionaries [][]string          // by dimension
}

// unitRows are the rows of a customer in one block. Rows have what was wanted, and nothing elsewhere: a dimension and a
// measure that were not are absent, a time is 0. They come in the order of their times where these were wanted, those of
// equal times in any order.
type unitRows struct {
	part  int // of the datasets that are read together
	block int // among the blocks of that dataset
	rows  []rows.Row
}

// togetherLimits bound what one worker holds of the blocks that it reads together.
type togetherLimits struct {
	open  int // chains of which a segment stays in memory; where there are more, those of one block at a time
	bytes int // of rows that were decoded before it is their customer's turn, about
	// Of each block so many rows are decoded at once, about: where blocks are many, the fewest.
	most, fewest int
}

func defaultTogether() togetherLimits {
	return togetherLimits{open: mostOpen, bytes: 16 << 20, most: decodedAtOnce, fewest: 32}
}

// scanTogether gives what newTogether needs of a dataset. The transaction that is read must be older.
func (s *Store) scanTogether(ctx context.Context, at dp.Snapshot, p *dp.Policy, blocks []string, want wanted) (d scanned, err error) {
	d = scanned{policy: p, want: want, erased: s.erasures.hiding(p.Name)}
	if d.blocks, err = s.visible(ctx, at, p.Name, blocks); err != nil {
		return d, fmt.Errorf("finding the rows of dataset %s: %w", p.Name, err)
	}
	for _, dimension := range p.Dimensions {
		known, err := s.dictionaries.get(p.Name, dimension.Name)
		if err != nil {
			return d, err
		}
		d.dictionaries = append(d.dictionaries, known.all())
	}
	return d, nil
}

// everything wants all that a row may have.
func everything(p *dp.Policy) wanted {
	w := wanted{Needs: bounding.Needs{Dimensions: make([]bool, len(p.Dimensions)), Measures: make([]bool, len(p.Measures))}, time: true, consent: true}
	for i := range w.Dimensions {
		w.Dimensions[i] = true
	}
	for i := range w.Measures {
		w.Measures[i] = true
	}
	return w
}

// newTogether stands before the first customer of a shard.
func (s *Store) newTogether(ctx context.Context, from *reader, shard int, parts []scanned) (*together, error) {
	return s.newTogetherWithin(ctx, from, shard, parts, defaultTogether())
}

func (s *Store) newTogetherWithin(ctx context.Context, from *reader, shard int, parts []scanned, l togetherLimits) (*together, error) {
	t := &together{rows: make([][]unitRows, len(parts))}
	count := 0
	for i := range parts {
		p := &parts[i]
		for block := range p.blocks {
			at := shardOf{p.policy.Name, p.blocks[block].name, shard}
			m, err := readMerged(from, at)
			if err == nil {
				var chains []chain
				if chains, err = s.chains(from, at, m, p.blocks[block].loads); err == nil && len(chains) > 0 {
					t.turns = append(t.turns, newTurn(from, p, i, block, len(t.turns), chains))
					count += len(chains)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("dataset %s, block %s: %w", at.dataset, at.block, err)
			}
		}
	}
	open := t.turns[:0]
	for _, one := range t.turns {
		one.leaves = count > l.open
		one.ahead = max(l.fewest, min(l.most, l.bytes/len(t.turns)/one.scanned.rowBytes()))
		more, err := one.fill(ctx)
		if err != nil {
			return nil, err
		}
		if more {
			open = append(open, one)
		}
	}
	t.turns = open
	heap.Init(t)
	return t, nil
}

// rowBytes is what a decoded row takes in memory.
func (d *scanned) rowBytes() int {
	const row, text, number = 80, 24, 16
	return row + text*len(d.policy.Dimensions) + number*len(d.policy.Measures)
}

// next gives the next customer who has rows, and by dataset those blocks in which there are some, in the order of the
// blocks; false after the last. What it gives is valid until the next call.
func (t *together) next(ctx context.Context) (customer uint64, of [][]unitRows, ok bool, err error) {
	if ctx.Err() != nil {
		return 0, nil, false, context.Cause(ctx)
	}
	for _, one := range t.taken {
		more := true
		if one.at++; one.at == len(one.customers) {
			if more, err = one.fill(ctx); err != nil {
				return 0, nil, false, err
			}
		}
		if more {
			heap.Push(t, one)
		}
	}
	t.taken = t.taken[:0]
	for i := range t.rows {
		t.rows[i] = t.rows[i][:0]
	}
	if len(t.turns) == 0 {
		return 0, nil, false, nil
	}
	customer = t.turns[0].customer()
	for len(t.turns) > 0 && t.turns[0].customer() == customer {
		one := heap.Pop(t).(*turn)
		t.taken = append(t.taken, one)
		t.rows[one.part] = append(t.rows[one.part], unitRows{one.part, one.block, one.current()})
	}
	return customer, t.rows, true, nil
}

// Len, Less, Swap, Push and Pop are container/heap's, of the blocks that have customers left.

func (t *together) Len() int { return len(t.turns) }

func (t *together) Less(i, j int) bool {
	x, y := t.turns[i], t.turns[j]
	if x.customer() != y.customer() {
		return x.customer() < y.customer()
	}
	return x.order < y.order
}

func (t *together) Swap(i, j int) { t.turns[i], t.turns[j] = t.turns[j], t.turns[i] }
func (t *together) Push(one any)  { t.turns = append(t.turns, one.(*turn)) }

func (t *together) Pop() any {
	last := t.turns[len(t.turns)-1]
	t.turns = t.turns[:len(t.turns)-1]
	return last
}

// turn goes through the customers of one block of a shard, some rows ahead of whose turn it is.
type turn struct {
	scanned *scanned
	part    int
	block   int
	order   int // among all blocks that are read together
	open    []*unitCursor
	leaves  bool // segments are let go of between calls of fill
	ahead   int  // rows that are decoded at once, about

	// Customers who were decoded, and where their rows end. at is whose turn it is.
	customers []uint64
	ends      []int
	at        int
	rows      []rows.Row
	texts     []rows.Text
	numbers   []rows.Number
}

func newTurn(from *reader, of *scanned, part, block, order int, chains []chain) *turn {
	t := &turn{scanned: of, part: part, block: block, order: order}
	for _, c := range chains {
		t.open = append(t.open, &unitCursor{reader: from, scanned: of, chain: c, fresh: true})
	}
	return t
}

func (t *turn) customer() uint64 { return t.customers[t.at] }

func (t *turn) begin(i int) int {
	if i == 0 {
		return 0
	}
	return t.ends[i-1]
}

func (t *turn) current() []rows.Row {
	begin, end := t.begin(t.at), t.ends[t.at]
	return t.rows[begin:end:end]
}

// fill decodes the rows of further customers; false where there are no more.
func (t *turn) fill(ctx context.Context) (more bool, err error) {
	t.empty()
	if err := t.take(ctx); err != nil {
		return false, fmt.Errorf("dataset %s, block %s: %w", t.scanned.policy.Name, t.scanned.blocks[t.block].name, err)
	}
	// Only now, because the slices may have moved while they grew.
	dimensions, measures := len(t.scanned.policy.Dimensions), len(t.scanned.policy.Measures)
	for i := range t.rows {
		d, m := i*dimensions, i*measures
		t.rows[i].Dimensions = t.texts[d : d+dimensions : d+dimensions]
		t.rows[i].Measures = t.numbers[m : m+measures : m+measures]
	}
	for i, end := range t.ends {
		own := t.rows[t.begin(i):end]
		if byTime := func(x, y rows.Row) int { return cmp.Compare(x.Time, y.Time) }; !slices.IsSortedFunc(own, byTime) {
			slices.SortFunc(own, byTime)
		}
	}
	return len(t.customers) > 0, nil
}

// take decodes the next customers of all chains.
func (t *turn) take(ctx context.Context) error {
	open := t.open[:0]
	for _, c := range t.open {
		more, err := c.resume(ctx)
		if err != nil {
			return err
		}
		if more {
			open = append(open, c)
		}
	}
	t.open = open
	heap.Init((*unitCursors)(&t.open))
	for len(t.open) > 0 && len(t.rows) < t.ahead {
		customer, before := t.open[0].customer, len(t.rows)
		for len(t.open) > 0 && t.open[0].customer == customer {
			c := t.open[0]
			c.decode(t)
			more, err := c.nextCustomer(ctx)
			if err != nil {
				return err
			}
			if more {
				heap.Fix((*unitCursors)(&t.open), 0)
			} else {
				heap.Pop((*unitCursors)(&t.open))
			}
		}
		if len(t.rows) > before {
			t.customers, t.ends = append(t.customers, customer), append(t.ends, len(t.rows))
		}
	}
	if t.leaves {
		for _, c := range t.open {
			c.segment = nil
		}
	}
	return nil
}

// empty forgets the rows and keeps their memory, unless one customer has taken too much of it.
func (t *turn) empty() {
	t.customers, t.ends, t.at = t.customers[:0], t.ends[:0], 0
	if cap(t.rows) > 4*t.ahead {
		t.rows, t.texts, t.numbers = nil, nil, nil
	}
	t.rows, t.texts, t.numbers = t.rows[:0], t.texts[:0], t.numbers[:0]
}

// unitCursor stands at one customer of a chain, all of whose rows it decodes.
type unitCursor struct {
	reader  *reader
	scanned *scanned
	chain   chain
	fresh   bool // it does not stand anywhere yet

	segment  *segment // nil: it was let go of
	hidden   []bool   // by position in header.Loads; nil: every row is visible
	run      int      // customer of the segment
	row, end int      // the customer's rows
	customer uint64
}

// resume takes the segment up again in which the cursor stands, or goes to the first customer; false where there is none.
func (c *unitCursor) resume(ctx context.Context) (bool, error) {
	switch {
	case c.fresh:
		c.fresh = false
		return c.nextCustomer(ctx)
	case c.segment == nil:
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		return true, c.read()
	}
	return true, nil
}

// nextCustomer goes to the next customer who is not to be erased; false after the last.
func (c *unitCursor) nextCustomer(ctx context.Context) (bool, error) {
	for {
		c.run++
		for c.segment == nil || c.run >= c.segment.customers.lengths.count {
			if c.chain.first == c.chain.last {
				c.segment = nil
				return false, nil
			}
			if ctx.Err() != nil { // a customer may have any number of segments
				return false, context.Cause(ctx)
			}
			c.chain.first++
			c.run, c.row, c.end = 0, 0, 0
			if err := c.read(); err != nil {
				return false, err
			}
		}
		length, _ := c.segment.customers.lengths.at(c.run)
		c.row, c.end = c.end, c.end+int(length)
		c.customer = binary.LittleEndian.Uint64(c.segment.customers.ids[8*c.run:])
		if _, gone := c.scanned.erased[c.customer]; !gone {
			return true, nil
		}
	}
}

// read reads the columns of the segment that the cursor is in, the last before chain.first.
func (c *unitCursor) read() (err error) {
	want := c.scanned.want
	want.loads = c.chain.visible != nil
	if c.segment, err = readSegment(c.reader, c.chain.prefix, c.chain.first-1, c.scanned.policy, want); err != nil {
		return err
	}
	for d, t := range c.segment.texts {
		if t != nil && len(t.used) > 0 && int(t.used[len(t.used)-1]) > len(c.scanned.dictionaries[d]) {
			return errDamaged // a part of the dictionary is lost
		}
	}
	c.hidden = hiddenLoads(&c.chain, &c.segment.header)
	return nil
}

// decode appends the visible rows of the customer.
func (c *unitCursor) decode(into *turn) {
	s, dictionaries := c.segment, c.scanned.dictionaries
	for i := c.row; i < c.end; i++ {
		if c.hidden != nil {
			load := int64(0)
			if s.loads != nil {
				load, _ = s.loads.at(i)
			}
			if c.hidden[load] {
				continue
			}
		}
		row := rows.Row{Customer: c.customer, Consented: s.consents(i)}
		if s.time != nil {
			row.Time, _ = s.time.at(i)
		}
		into.rows = append(into.rows, row)
		for d, t := range s.texts {
			text := rows.Text{}
			if t != nil {
				if code := t.code(i); code != 0 {
					text = rows.Text{Value: dictionaries[d][code-1], Valid: true}
				}
			}
			into.texts = append(into.texts, text)
		}
		for _, n := range s.measures {
			number := rows.Number{}
			if n != nil {
				number.Value, number.Valid = n.at(i)
			}
			into.numbers = append(into.numbers, number)
		}
	}
}

// unitCursors is a heap with the cursor on top whose customer comes first.
type unitCursors []*unitCursor

// Len, Less, Swap, Push and Pop are container/heap's.

func (h unitCursors) Len() int           { return len(h) }
func (h unitCursors) Less(i, j int) bool { return h[i].customer < h[j].customer }
func (h unitCursors) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *unitCursors) Push(c any)        { *h = append(*h, c.(*unitCursor)) }

func (h *unitCursors) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
