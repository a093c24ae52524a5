package columnar

import (
	"container/heap"
	"context"
)

// stream bounds the customers of one block in one shard, one after the other, from whatever chains have them.
type stream struct {
	bounder *bounder
	block   int
	open    []*cursor // in the order of their customers where they are many (see mostSideBySide)
	shared  bool      // one cursor has the bounder's memory for decoded rows
	leaves  bool      // segments are let go of between calls of next
	kept    kept      // of the customers bounded last
}

// kept says in which partitions bounding kept some customers of a block, by ascending customer. It is what is left
// to know of them: the customers of a partition are counted once across blocks, everything else is added up. Where several
// columns count customers, each of those of its own rows, a partition is kept for each of them or not.
type kept struct {
	few       bool // partitions times columns lie below 64
	several   int  // columns that count customers; at least 1
	customers []uint64
	masks     []uint64 // of each customer, where partitions are few: a bit for each and each column
	ends      []int    // of each customer otherwise, in numbers
	numbers   []int64
	columns   []uint8 // of each of numbers, where there are several: for which of the columns
	mask      uint64  // of the customer that is not closed yet
	at        int     // the first customer that was not counted
}

const (
	// mostFew is of how many partitions a word has a bit for each.
	mostFew = 64
	// boundedAtOnce is how many rows a stream bounds at once, about.
	boundedAtOnce = 4 * decodedAtOnce
	// mostOpen is of how many chains a worker holds a segment between calls of next; where there are more, of none.
	mostOpen = 64
	// mostSideBySide is up to how many sources the smallest customer is found by looking at all of them.
	mostSideBySide = 32
)

func (k *kept) empty() {
	k.customers, k.masks, k.ends, k.numbers, k.at = k.customers[:0], k.masks[:0], k.ends[:0], k.numbers[:0], 0
	k.columns = k.columns[:0]
}

// add keeps a partition of the next customer, for one of the columns that count customers.
func (k *kept) add(number int64, column int) {
	if k.few {
		k.mask |= 1 << (int(number)*k.several + column)
		return
	}
	k.numbers = append(k.numbers, number)
	if k.several > 1 {
		k.columns = append(k.columns, uint8(column))
	}
}

// close ends a customer, who is forgotten where nothing was kept.
func (k *kept) close(customer uint64) {
	switch {
	case k.few:
		if k.mask == 0 {
			return
		}
		k.masks, k.mask = append(k.masks, k.mask), 0
	default:
		if len(k.numbers) == k.begin(len(k.ends)) {
			return
		}
		k.ends = append(k.ends, len(k.numbers))
	}
	k.customers = append(k.customers, customer)
}

// begin is where the partitions of a customer begin.
func (k *kept) begin(i int) int {
	if i == 0 {
		return 0
	}
	return k.ends[i-1]
}

// newStream stands at the first customer of every chain.
func newStream(ctx context.Context, b *bounder, block int, cursors []*cursor, leaves bool) (*stream, error) {
	s := &stream{bounder: b, block: block, kept: kept{few: b.question.fewCounts(), several: max(1, b.question.counts)}, shared: len(cursors) == 1, leaves: leaves}
	for _, c := range cursors {
		s.lend(c)
		more, err := c.nextCustomer(ctx, b)
		if err != nil {
			return nil, err
		}
		if more {
			s.open = append(s.open, c)
		}
		if leaves {
			c.leave()
		}
	}
	if len(s.open) > mostSideBySide {
		heap.Init(s)
	}
	return s, nil
}

// lend gives a cursor memory for decoded rows.
func (s *stream) lend(c *cursor) {
	if c.buffers = s.bounder.quick.shared(); !s.shared || c.buffers == nil {
		c.buffers = newBuffers(s.bounder.question)
	}
}

// next bounds more customers, at least one of whom is kept somewhere; false where there are no more.
func (s *stream) next(ctx context.Context) (bool, error) {
	b := s.bounder
	b.kept, s.kept = s.kept, kept{} // their memory is lent
	b.kept.empty()
	defer func() { s.kept, b.kept = b.kept, kept{} }()
	if s.leaves {
		for _, c := range s.open {
			s.lend(c)
			if err := c.read(b); err != nil {
				return false, err
			}
		}
		defer func() {
			for _, c := range s.open {
				c.leave()
			}
			clear(b.details[:cap(b.details)]) // which remember segments
		}()
	}
	for len(s.open) > 0 {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		var err error
		switch {
		case len(s.open) == 1:
			err = s.alone(ctx)
		case len(s.open) <= mostSideBySide:
			err = s.sideBySide(ctx)
		default:
			err = s.many(ctx)
		}
		if err != nil {
			return false, err
		}
		if !b.aggregation.apart {
			if err := b.makeRoom(); err != nil {
				return false, err
			}
		}
		if len(b.kept.customers) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// alone bounds customers of the only chain there is.
func (s *stream) alone(ctx context.Context) error {
	b, c := s.bounder, s.open[0]
	c.numbers = nil // others had the memory meanwhile
	for rows := 0; rows < boundedAtOnce; {
		if taken := b.quick.take(c); taken > 0 {
			rows += taken
			continue
		}
		rows += c.end - c.row
		b.begin(c.customer, s.block)
		more, err := c.take(ctx, c.customer, b)
		if err != nil {
			return err
		}
		b.end()
		if !more {
			s.open = nil
			break
		}
	}
	return nil
}

// sideBySide bounds customers of some chains.
func (s *stream) sideBySide(ctx context.Context) error {
	b := s.bounder
	for rows := 0; rows < boundedAtOnce && len(s.open) > 1; {
		customer := s.open[0].customer
		for _, c := range s.open[1:] {
			customer = min(customer, c.customer)
		}
		b.begin(customer, s.block)
		left := s.open[:0]
		for _, c := range s.open {
			more := true
			if c.customer == customer {
				var err error
				rows += c.end - c.row
				if more, err = c.take(ctx, customer, b); err != nil {
					return err
				}
			}
			if more {
				left = append(left, c)
			}
		}
		s.open = left
		b.end()
	}
	return nil
}

// many bounds customers of more chains than can be looked at for every customer.
func (s *stream) many(ctx context.Context) error {
	b := s.bounder
	for rows := 0; rows < boundedAtOnce && len(s.open) > mostSideBySide; {
		customer := s.open[0].customer
		b.begin(customer, s.block)
		for len(s.open) > 0 && s.open[0].customer == customer {
			rows += s.open[0].end - s.open[0].row
			more, err := s.open[0].take(ctx, customer, b)
			if err != nil {
				return err
			}
			if more {
				heap.Fix(s, 0)
			} else {
				heap.Pop(s)
			}
		}
		b.end()
	}
	return nil
}

// Len, Less, Swap, Push and Pop are container/heap's, of the cursors.

func (s *stream) Len() int           { return len(s.open) }
func (s *stream) Less(i, j int) bool { return s.open[i].customer < s.open[j].customer }
func (s *stream) Swap(i, j int)      { s.open[i], s.open[j] = s.open[j], s.open[i] }
func (s *stream) Push(c any)         { s.open = append(s.open, c.(*cursor)) }

func (s *stream) Pop() any {
	last := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	return last
}
