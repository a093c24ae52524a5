package columnar

import (
	"math"

	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// quick bounds many customers of one chain at once, for the questions that are asked most: at most the customers,
// the rows and one total. It gives what the bounder's begin, add and end give.
type quick struct {
	bounder                *bounder
	few                    *few // nil: partitions are too many for a word
	buffers                *buffers
	customers, rows, total int // positions of these columns; -1: not asked
	lower, upper           int64
	mostRows               int64              // Linf where rows are counted, else as many as there may be
	lengths                [decodedAtOnce]int // of the customers at hand, in rows

	// Of one customer, by group, where partitions are not few.
	groups, sums, counts [mostShort]int64
}

const (
	// mostShort is up to how many rows of a customer partitions are found by looking at all of them.
	mostShort = 32
	// mostQuick is so large that decodedAtOnce numbers below it, and above its negative, add up within 64 bits.
	mostQuick = 1 << 52
)

// newQuick gives nil where the question has other columns.
func newQuick(b *bounder) *quick {
	k := &quick{bounder: b, customers: -1, rows: -1, total: -1}
	for i, c := range b.question.columns {
		at := map[plan.Count]*int{plan.CountCustomers: &k.customers, plan.CountRows: &k.rows, plan.Total: &k.total}[c.Count]
		if at == nil || *at >= 0 || c.Last || c.view > 0 {
			return nil
		}
		*at = i
		if c.Count == plan.Total {
			k.lower, k.upper = c.Lower, c.Upper
		}
	}
	if k.lower <= -mostQuick || k.upper >= mostQuick {
		return nil
	}
	k.mostRows = math.MaxInt64
	if k.rows >= 0 {
		k.mostRows = b.mostRows
	}
	if k.total < 0 {
		k.upper = math.MaxInt64 // of nothing
	}
	k.buffers, k.few = newBuffers(b.question), newFew(k)
	return k
}

// shared is memory for chains that are decoded one after the other.
func (k *quick) shared() *buffers {
	if k == nil {
		return nil
	}
	return k.buffers
}

// fits tells whether the numbers of a segment can be added up in 64 bits, with none absent.
func (k *quick) fits(of *segment) bool {
	if k == nil {
		return false
	}
	if k.total < 0 {
		return true
	}
	n := of.measures[k.bounder.question.columns[k.total].Measure]
	return n != nil && n.present == nil && n.width <= 4 && -mostQuick < n.base && n.base < mostQuick-1<<32
}

// take bounds the next customers of a chain that is alone in its block, and tells how many rows they had. Where it
// takes none, the next customer is not for it: too many rows, or some of them in the next segment.
func (k *quick) take(c *cursor) (rows int) {
	if !c.quick {
		return 0
	}
	longest := decodedAtOnce
	if k.few == nil {
		longest = mostShort
	}
	first, runs := c.run, 0
	most := min(decodedAtOnce, c.runs-1-first) // the last may go on in the next segment
	for runs < most {
		length := c.lengthOf(first + runs)
		if length > longest || rows+length > decodedAtOnce {
			break
		}
		k.lengths[runs] = length
		rows += length
		runs++
	}
	if runs == 0 {
		return 0
	}
	if k.few != nil {
		k.few.take(c, runs, rows)
	} else {
		c.decode(rows)
		k.manyPartitions(c, runs)
	}
	c.run, c.end = first+runs, c.row+rows
	c.numbers = nil // what was decoded earlier may be gone
	c.stand()
	return rows
}

// addTo adds what is kept of a partition to its totals.
func (k *quick) addTo(into []bounding.Total, customers, rows, sum int64) {
	if k.customers >= 0 && !k.bounder.aggregation.apart {
		into[k.customers].Add(customers)
	}
	if k.rows >= 0 {
		into[k.rows].Add(rows)
	}
	if k.total >= 0 {
		into[k.total].Add(sum)
	}
}

// manyPartitions bounds runs of few rows each.
func (k *quick) manyPartitions(c *cursor, runs int) {
	at := 0
	for run, length := range k.lengths[:runs] {
		groups := 0
		for i := at; i < at+length; i++ {
			number := c.numbers[i]
			if number < 0 {
				continue
			}
			g := 0
			for g < groups && k.groups[g] != number {
				g++
			}
			if g == groups {
				k.groups[g], k.sums[g], k.counts[g] = number, 0, 0
				groups++
			}
			if k.total >= 0 {
				k.sums[g] += c.measures[0][i]
			}
			k.counts[g]++
		}
		at += length
		if groups == 0 {
			continue
		}
		customer := c.id(c.run + run)
		if int64(groups) <= k.bounder.mostPartitions {
			for g := range groups {
				k.add(g)
			}
		} else {
			k.bounder.at(customer, c.block)
			for _, r := range k.bounder.chosen(k.groups[:groups]) {
				k.add(r.at)
			}
		}
		if k.bounder.aggregation.apart {
			k.bounder.kept.close(customer)
		}
	}
}

// add adds what is kept of one group.
func (k *quick) add(g int) {
	into := k.bounder.totals.at(k.bounder.totals.slot(k.groups[g]))
	k.addTo(into, 1, min(k.counts[g], k.mostRows), max(k.lower, min(k.sums[g], k.upper)))
	if k.bounder.aggregation.apart {
		k.bounder.kept.add(k.groups[g], 0)
	}
}
