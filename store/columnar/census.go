package columnar

import (
	"container/heap"
	"context"
	"math/bits"

	"github.com/discreet-analytics/discreet/dp/plan"
)

// census counts the customers of a shard: in each partition once, in whichever blocks bounding kept them there.
type census struct {
	bounder *bounder
	streams []*stream
	heads   []uint64       // the next customer of each stream; where those are many, only until the first is counted
	columns []int          // that count customers, in the totals of a partition
	counts  [mostFew]int64 // by partition and column, where these are few: customers that totals have not got yet
}

func newCensus(b *bounder, streams []*stream) *census {
	c := &census{bounder: b, streams: streams}
	for _, column := range b.question.columns {
		if column.Count == plan.CountCustomers {
			c.columns = append(c.columns, column.at)
		}
	}
	return c
}

func (c *census) run(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	switch {
	case len(c.streams) > mostSideBySide:
		return c.many(ctx)
	case c.bounder.question.fewCounts():
		return c.fewSideBySide(ctx)
	default:
		return c.sideBySide(ctx)
	}
}

// start bounds the first customers of every stream.
func (c *census) start(ctx context.Context) error {
	open := c.streams[:0]
	for _, s := range c.streams {
		more, err := s.next(ctx)
		if err == nil {
			err = c.bounder.makeRoom() // no customer is half counted yet
		}
		if err != nil {
			return err
		}
		if more {
			open, c.heads = append(open, s), append(c.heads, s.kept.customers[0])
		}
	}
	c.streams = open
	return nil
}

// fewSideBySide is sideBySide where what a customer counts for is a word.
func (c *census) fewSideBySide(ctx context.Context) error {
	for len(c.streams) > 0 {
		customer := c.least()
		all, ended := uint64(0), false
		for i, head := range c.heads {
			if head != customer {
				continue
			}
			k := &c.streams[i].kept
			all |= k.masks[k.at]
			if k.at++; k.at < len(k.customers) {
				c.heads[i] = k.customers[k.at]
				continue
			}
			more, err := c.refill(ctx, i)
			if err != nil {
				return err
			}
			ended = ended || !more
		}
		for ; all != 0; all &= all - 1 {
			c.counts[bits.TrailingZeros64(all)]++
		}
		if ended {
			c.drop()
		}
	}
	c.flush()
	return nil
}

// flush adds the counts to the totals.
func (c *census) flush() {
	for bit, count := range c.counts {
		if count > 0 {
			number, column := bit/len(c.columns), bit%len(c.columns)
			c.bounder.totals.at(c.bounder.totals.slot(int64(number)))[c.columns[column]].Add(count)
		}
	}
	c.counts = [mostFew]int64{}
}

func (c *census) sideBySide(ctx context.Context) error {
	for len(c.streams) > 0 {
		customer, ended := c.least(), false
		c.bounder.counted++
		for i, head := range c.heads {
			if head != customer {
				continue
			}
			if c.count(c.streams[i]); c.streams[i].kept.at < len(c.streams[i].kept.customers) {
				c.heads[i] = c.streams[i].kept.customers[c.streams[i].kept.at]
				continue
			}
			more, err := c.refill(ctx, i)
			if err != nil {
				return err
			}
			ended = ended || !more
		}
		if ended {
			c.drop()
		}
		if err := c.bounder.makeRoom(); err != nil {
			return err
		}
	}
	return nil
}

// count counts the next customer of a stream where no other stream had that one counted.
func (c *census) count(s *stream) {
	k, totals := &s.kept, c.bounder.totals
	if k.few {
		for mask := k.masks[k.at]; mask != 0; mask &= mask - 1 {
			bit := bits.TrailingZeros64(mask)
			c.countIn(totals.slot(int64(bit/len(c.columns))), bit%len(c.columns))
		}
	} else {
		for i := k.begin(k.at); i < k.ends[k.at]; i++ {
			column := 0
			if len(c.columns) > 1 {
				column = int(k.columns[i])
			}
			c.countIn(totals.slot(k.numbers[i]), column)
		}
	}
	k.at++
}

func (c *census) countIn(slot, column int) {
	totals := c.bounder.totals
	if counted := &totals.counted[slot*len(c.columns)+column]; *counted != c.bounder.counted {
		*counted = c.bounder.counted
		totals.at(slot)[c.columns[column]].Add(1)
	}
}

func (c *census) least() uint64 {
	customer := c.heads[0]
	for _, head := range c.heads[1:] {
		customer = min(customer, head)
	}
	return customer
}

// refill goes on with a stream whose customers were all counted; false where there are no more.
func (c *census) refill(ctx context.Context, i int) (bool, error) {
	more, err := c.streams[i].next(ctx)
	if more {
		c.heads[i] = c.streams[i].kept.customers[0]
	}
	return more, err
}

// drop lets go of the streams that ended.
func (c *census) drop() {
	left := 0
	for i, s := range c.streams {
		if s.kept.at < len(s.kept.customers) {
			c.streams[left], c.heads[left] = s, c.heads[i]
			left++
		}
	}
	c.streams, c.heads = c.streams[:left], c.heads[:left]
}

// many is sideBySide with a heap, for more streams than can be looked at for every customer.
func (c *census) many(ctx context.Context) error {
	heap.Init(c)
	for len(c.streams) > 0 {
		customer := c.streams[0].customer()
		c.bounder.counted++
		for len(c.streams) > 0 && c.streams[0].customer() == customer {
			s, more := c.streams[0], true
			if c.count(s); s.kept.at == len(s.kept.customers) {
				var err error
				if more, err = s.next(ctx); err != nil {
					return err
				}
			}
			if more {
				heap.Fix(c, 0)
			} else {
				heap.Pop(c)
			}
		}
		if err := c.bounder.makeRoom(); err != nil {
			return err
		}
	}
	return nil
}

// customer is the one that was not counted yet.
func (s *stream) customer() uint64 { return s.kept.customers[s.kept.at] }

// Len, Less, Swap, Push and Pop are container/heap's, of the streams.

func (c *census) Len() int           { return len(c.streams) }
func (c *census) Less(i, j int) bool { return c.streams[i].customer() < c.streams[j].customer() }
func (c *census) Swap(i, j int)      { c.streams[i], c.streams[j] = c.streams[j], c.streams[i] }
func (c *census) Push(s any)         { c.streams = append(c.streams, s.(*stream)) }

func (c *census) Pop() any {
	last := c.streams[len(c.streams)-1]
	c.streams = c.streams[:len(c.streams)-1]
	return last
}
