package columnar

import (
	"encoding/binary"

	"github.com/discreet-analytics/discreet/dp/plan"
)

// short bounds a (customer, block) of few rows that lie side by side, for the questions that are asked most: at
// most the customers, the rows and one total. It gives what begin, add and end give, without memory for what few
// rows cannot need.
type short struct {
	*bounder
	customers, rows, total int // positions of these columns; -1: not asked
	lower, upper           int64

	numbers [mostShort]int64
	sums    [mostShort]int64
	counts  [mostShort]int64
}

const (
	// mostShort is how many rows are few.
	mostShort = 32
	// mostQuick is below what a sum of few numbers can be without leaving 64 bits.
	mostQuick = 1 << 56
)

// newShort gives nil where the question has other columns.
func newShort(b *bounder) *short {
	s := &short{bounder: b, customers: -1, rows: -1, total: -1}
	for i, c := range b.question.columns {
		at := map[plan.Count]*int{plan.CountCustomers: &s.customers, plan.CountRows: &s.rows, plan.Total: &s.total}[c.Count]
		if at == nil || *at >= 0 {
			return nil
		}
		*at = i
		if c.Count == plan.Total {
			s.lower, s.upper = c.Lower, c.Upper
		}
	}
	return s
}

// fits tells whether the numbers of a segment can be added up in 64 bits, with none absent.
func (s *short) fits(of *segment) bool {
	if s == nil {
		return false
	}
	if s.total < 0 {
		return true
	}
	n := of.measures[s.question.columns[s.total].Measure]
	return n != nil && n.present == nil && n.width <= 4 && -mostQuick < n.base && n.base < mostQuick-1<<32
}

// take bounds the rows from one to another of a cursor, which are all of a (customer, block).
func (s *short) take(c *cursor, from, to int) {
	numbers := c.numbers[from:to]
	if len(numbers) == 1 { // the most frequent of all
		if number := numbers[0]; number >= 0 {
			s.add(c.customer, number, 1, s.value(c, from))
		}
		return
	}
	groups := 0
	for i, number := range numbers {
		if number < 0 {
			continue
		}
		v := s.value(c, from+i)
		g := 0
		for g < groups && s.numbers[g] != number {
			g++
		}
		if g == groups {
			s.numbers[g], s.sums[g], s.counts[g] = number, v, 1
			groups++
			continue
		}
		s.sums[g] += v
		s.counts[g]++
	}
	if int64(groups) <= s.partitions {
		for g := range groups {
			s.add(c.customer, s.numbers[g], s.counts[g], s.sums[g])
		}
		return
	}
	s.begin(c.customer, c.block)
	s.bounder.numbers = append(s.bounder.numbers[:0], s.numbers[:groups]...)
	kept, _ := s.chosen()
	for _, r := range kept {
		s.add(c.customer, s.numbers[r.at], s.counts[r.at], s.sums[r.at])
	}
}

func (s *short) value(c *cursor, i int) int64 {
	if s.total < 0 {
		return 0
	}
	return c.measures[0][i]
}

// add adds what is kept of one partition.
func (s *short) add(customer uint64, number, rows, sum int64) {
	slot, first := s.totals.slot(number, customer, s.apart)
	into := s.totals.sums[slot*s.totals.width:]
	if s.customers >= 0 && first {
		into[s.customers].Add(1)
	}
	if s.rows >= 0 {
		into[s.rows].Add(min(rows, s.most))
	}
	if s.total >= 0 {
		into[s.total].Add(max(s.lower, min(sum, s.upper)))
	}
}

// isShort tells whether the customer has few rows in the chain, which is known without a look at the next segment.
func (c *cursor) isShort() bool { return c.short && c.end-c.row <= mostShort && c.run+1 < c.runs }

// takeShort is take for a customer with few rows; there is a next one.
func (c *cursor) takeShort(b *bounder) {
	if c.end > c.start+len(c.numbers) {
		c.decode()
	}
	b.short.take(c, c.row-c.start, c.end-c.start)
	c.run++
	c.stand()
}

// stand reads the customer of c.run.
func (c *cursor) stand() {
	c.customer = binary.LittleEndian.Uint64(c.ids[8*c.run:])
	length := c.length
	switch {
	case c.lengths != nil:
		length += int(c.lengths[c.run])
	case c.wide:
		exact, _ := c.segment.customers.lengths.at(c.run)
		length = int(exact)
	}
	c.row, c.end = c.end, c.end+length
}
