package columnar

import (
	"math"
	"math/bits"
	"slices"

	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// quick bounds many customers of one chain at once, for the questions that are asked most: at most the customers,
// the rows and one total. It gives what begin, add and end give.
type quick struct {
	*bounder
	buffers                *buffers
	customers, rows, total int // positions of these columns; -1: not asked
	lower, upper           int64
	mostRows               int64              // Linf where rows are counted, else as many as there may be
	lengths                [decodedAtOnce]int // of the customers at hand, in rows

	// Of rows, where partitions are few: slots are the partitions, or lie above them.
	slots   [decodedAtOnce]uint8
	masks   [decodedAtOnce]uint64 // partitions of the customer so far
	running [decodedAtOnce]int64  // the sum so far
	goesOn  [decodedAtOnce]uint64 // all ones; 0 while at the first row of a customer
	zeros   []int64
	bits    [2 * mostFew]uint64 // by slot: the partition's; none above

	// Of one customer, by slot where partitions are few, and else by group; zeros between calls.
	sums, counts [2 * mostFew]int64
	groups       [mostFew]int64
	hashes       [mostFew]uint64
	// What is kept, by slot where partitions are few; of partitions zeros between calls, and nothing that matters above.
	keptSums, keptRows [2 * mostFew]int64
	keptCustomers      [mostFew]int64
}

const (
	// mostShort is up to how many rows of a customer partitions are found by looking at all of them.
	mostShort = 32
	// mostQuick is below what a sum of decodedAtOnce numbers can be without leaving 64 bits.
	mostQuick = 1 << 52
)

// newQuick gives nil where the question has other columns.
func newQuick(b *bounder) *quick {
	k := &quick{bounder: b, customers: -1, rows: -1, total: -1}
	for i, c := range b.question.columns {
		at := map[plan.Count]*int{plan.CountCustomers: &k.customers, plan.CountRows: &k.rows, plan.Total: &k.total}[c.Count]
		if at == nil || *at >= 0 || c.Last {
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
		k.mostRows = k.most
	}
	if k.total < 0 {
		k.upper = math.MaxInt64 // of nothing
	}
	for i := range k.goesOn {
		k.goesOn[i] = math.MaxUint64
	}
	for i := range mostFew {
		k.bits[i] = 1 << i
	}
	k.zeros = make([]int64, decodedAtOnce)
	k.buffers = newBuffers(b.question)
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
	n := of.measures[k.question.columns[k.total].Measure]
	return n != nil && n.present == nil && n.width <= 4 && -mostQuick < n.base && n.base < mostQuick-1<<32
}

// take bounds the next customers of a chain that is alone in its block, and tells how many rows they had. Where it
// takes none, the next customer is not for it: too many rows, or some of them in the next segment.
func (k *quick) take(c *cursor) (rows int) {
	if !c.quick {
		return 0
	}
	longest := decodedAtOnce
	if !k.question.few() {
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
	if k.question.few() {
		k.fewPartitions(c, runs, rows)
	} else {
		c.decode(rows)
		k.manyPartitions(c, runs)
	}
	c.run, c.end = first+runs, c.row+rows
	c.numbers = nil // what was decoded earlier may be gone
	c.stand()
	return rows
}

// fewPartitions bounds runs where partitions have a bit of a word each. It adds every row to its partition at once,
// and takes that back where bounding does not keep all of a customer as it is, which is seldom: so most customers
// cost next to nothing beside their rows, and rows cost no branch.
func (k *quick) fewPartitions(c *cursor, runs, rows int) {
	decoded := k.findSlots(c, rows)
	values := k.zeros[:rows]
	switch {
	case k.total >= 0 && decoded:
		values = c.measures[0][:rows]
	case k.total >= 0:
		values = k.buffers.measures[0][:rows]
		c.segment.measures[k.question.measures[0]].decode(values, c.row)
	}
	k.addRows(rows, values, k.lengths[:runs])
	most, plain, apart := int(min(k.partitions, mostFew)), k.isPlain(c.segment), k.aggregation.apart
	k.kept.customers, k.kept.masks = slices.Grow(k.kept.customers, runs), slices.Grow(k.kept.masks, runs)
	at, before, all := 0, int64(0), uint64(0)
	customers, masks, kept := k.kept.customers[len(k.kept.customers):][:runs], k.kept.masks[len(k.kept.masks):][:runs], 0
	for run, length := range k.lengths[:runs] {
		end := at + length
		mask, sum := k.masks[end-1], k.running[end-1]
		if bits.OnesCount64(mask) > most {
			mask = k.bound(c.id(c.run+run), c.block, mask, k.slots[at:end], values[at:end])
		}
		if !plain || sum-before > k.upper || int64(length) > k.mostRows {
			k.clamp(mask, k.slots[at:end], values[at:end])
		}
		all |= mask
		if apart {
			customers[kept], masks[kept] = c.id(c.run+run), mask
			if mask != 0 {
				kept++
			}
		} else if k.customers >= 0 {
			for ; mask != 0; mask &= mask - 1 {
				k.keptCustomers[bits.TrailingZeros64(mask)]++
			}
		}
		at, before = end, sum
	}
	k.kept.customers, k.kept.masks = k.kept.customers[:len(k.kept.customers)+kept], k.kept.masks[:len(k.kept.masks)+kept]
	for ; all != 0; all &= all - 1 {
		k.flush(bits.TrailingZeros64(all))
	}
}

// findSlots gives rows from c.row on the slots of their partitions, and tells whether it had to decode them.
func (k *quick) findSlots(c *cursor, rows int) (decoded bool) {
	slots := k.slots[:rows]
	if c.slots == nil {
		c.decode(rows)
		for i, number := range c.numbers {
			slots[i] = slotOf(number)
		}
		return true
	}
	for i, t := range c.slots {
		codes := t.codes[c.row : c.row+rows]
		if i == 0 {
			for i, code := range codes {
				slots[i] = t.slots[code]
			}
			continue
		}
		for i, code := range codes {
			slots[i] = addedSlot(slots[i], t.slots[code])
		}
	}
	return false
}

// isPlain tells whether no sum of some rows of a segment is below the lower bound, and more rows have no smaller sum.
func (k *quick) isPlain(of *segment) bool {
	return k.total < 0 || k.lower <= 0 && of.measures[k.question.columns[k.total].Measure].base >= 0
}

// addRows adds rows to what is kept of their partitions. After each row it notes the partitions of the customer so
// far, and the sum of all rows so far.
func (k *quick) addRows(rows int, values []int64, lengths []int) {
	at := 0
	for _, length := range lengths {
		k.goesOn[at] = 0
		at += length
	}
	slots, goesOn, masks, running := k.slots[:rows], k.goesOn[:rows], k.masks[:rows], k.running[:rows]
	mask, sum := uint64(0), int64(0)
	for i, v := range values[:len(slots)] {
		slot := slots[i] % (2 * mostFew)
		v &= int64(slot>>6) - 1 // nothing where the row is dropped
		k.keptSums[slot] += v
		mask = mask&goesOn[i] | k.bits[slot]
		sum += v
		goesOn[i], masks[i], running[i] = math.MaxUint64, mask, sum
	}
	if k.rows >= 0 {
		for _, slot := range slots {
			k.keptRows[slot%(2*mostFew)]++
		}
	}
}

// bound takes back what bounding does not keep of a (customer, block) in too many partitions, and gives those of the rest.
func (k *quick) bound(customer uint64, block int, mask uint64, slots []uint8, values []int64) (kept uint64) {
	kept = k.chosenOfFew(customer, block, mask)
	gone := mask &^ kept
	for i, slot := range slots {
		slot %= 2 * mostFew
		out := -int64(gone >> slot & 1) // of slots above the partitions nothing
		k.keptSums[slot] -= values[i] & out
		k.keptRows[slot] += out
	}
	return kept
}

// clamp takes back what the clamps cut off of the rows of a (customer, block), in the partitions that are kept.
func (k *quick) clamp(kept uint64, slots []uint8, values []int64) {
	for i, slot := range slots {
		slot %= 2 * mostFew
		k.sums[slot] += values[i]
		k.counts[slot]++
	}
	for ; kept != 0; kept &= kept - 1 {
		partition := bits.TrailingZeros64(kept)
		k.keptSums[partition] += max(k.lower, min(k.sums[partition], k.upper)) - k.sums[partition]
		k.keptRows[partition] += min(k.counts[partition], k.most) - k.counts[partition]
	}
	for _, slot := range slots {
		k.sums[slot%(2*mostFew)], k.counts[slot%(2*mostFew)] = 0, 0
	}
}

// slotTable is the slots of a dimension's positions in a segment.
type slotTable struct {
	codes []byte // of the segment's rows
	slots [256]uint8
}

// slotOf gives the slot of the number of one of few partitions, or one from mostFew on where the row is dropped.
func slotOf(number int64) uint8 { return uint8(number)%mostFew | uint8(number>>63)&mostFew }

// addedSlot is added for slots.
func addedSlot(a, b uint8) uint8 { return (a + b) | (a|b)&mostFew }

// slotTables gives nil where rows have to be looked at one by one.
func (k *quick) slotTables(c *cursor) (tables []slotTable) {
	q := c.aggregation.question
	same := int64(0)
	if calendar := c.aggregation.blocks[c.block].calendar; calendar != nil {
		if calendar.same == nil {
			return nil
		}
		same = *calendar.same
	}
	if k == nil || !q.few() || len(q.tests) > 0 || len(c.erased) > 0 || c.hidden != nil {
		return nil
	}
	for d, short := range c.shorts {
		if q.tables[d] == nil {
			continue
		}
		t := c.segment.texts[d]
		if t == nil || t.positions.width != 1 {
			return nil
		}
		table := slotTable{codes: t.positions.offsets}
		for i := range table.slots {
			if at := i + int(t.positions.base); at < len(short) {
				table.slots[i] = slotOf(added(short[at], same))
			}
		}
		tables, same = append(tables, table), 0
	}
	return tables
}

// flush adds what was kept of one of few partitions to its totals.
func (k *quick) flush(partition int) {
	into := k.totals.at(k.totals.slot(int64(partition)))
	k.addTo(into, k.keptCustomers[partition], k.keptRows[partition], k.keptSums[partition])
	k.keptCustomers[partition], k.keptRows[partition], k.keptSums[partition] = 0, 0, 0
}

func (k *quick) addTo(into []bounding.Total, customers, rows, sum int64) {
	if k.customers >= 0 && !k.aggregation.apart {
		into[k.customers].Add(customers)
	}
	if k.rows >= 0 {
		into[k.rows].Add(rows)
	}
	if k.total >= 0 {
		into[k.total].Add(sum)
	}
}

// chosenOfFew gives the partitions that bounding keeps of a (customer, block) with more of them.
func (k *quick) chosenOfFew(customer uint64, block int, mask uint64) (kept uint64) {
	k.at(customer, block)
	unit, count := k.unitHash(), 0
	for left := mask; left != 0; left &= left - 1 { // apart from the choice, so that hashes are computed side by side
		number := bits.TrailingZeros64(left)
		k.groups[count], k.hashes[count] = int64(number), k.keyOf(int64(number)).Of(unit)
		count++
	}
	kept, last := mask, uint64(0)
	for range count - int(k.partitions) {
		at := 0
		last = k.hashes[0]
		for i := 1; i < count; i++ {
			if k.hashes[i] > last {
				at, last = i, k.hashes[i]
			}
		}
		kept &^= 1 << k.groups[at]
		count--
		k.groups[at], k.hashes[at] = k.groups[count], k.hashes[count]
	}
	if !slices.Contains(k.hashes[:count], last) {
		return kept
	}
	numbers := k.groups[:0] // hashes are equal where it matters: keys decide
	for left := mask; left != 0; left &= left - 1 {
		numbers = append(numbers, int64(bits.TrailingZeros64(left)))
	}
	kept = 0
	chosen, _ := k.chosen(numbers)
	for _, r := range chosen {
		kept |= 1 << r.number
	}
	return kept
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
		if int64(groups) <= k.partitions {
			for g := range groups {
				k.add(g)
			}
		} else {
			k.at(customer, c.block)
			kept, _ := k.chosen(k.groups[:groups])
			for _, r := range kept {
				k.add(r.at)
			}
		}
		if k.aggregation.apart {
			k.kept.close(customer)
		}
		clear(k.sums[:groups])
		clear(k.counts[:groups])
	}
}

// add adds what is kept of one group.
func (k *quick) add(g int) {
	into := k.totals.at(k.totals.slot(k.groups[g]))
	k.addTo(into, 1, min(k.counts[g], k.most), max(k.lower, min(k.sums[g], k.upper)))
	if k.aggregation.apart {
		k.kept.add(k.groups[g])
	}
}
