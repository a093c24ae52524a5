package columnar

import (
	"math"
	"math/bits"
	"slices"
)

// few is how quick bounds runs where partitions are few, so that a word has a bit for each. It adds every row to its
// partition at once, and takes that back where bounding does not keep all of a customer as it is, which is seldom: so most
// customers cost next to nothing beside their rows, and rows cost no branch. Slots are the partitions, or lie above them
// where the row is dropped.
type few struct {
	bounder *bounder
	quick   *quick

	// Of the rows at hand.
	slots   [decodedAtOnce]uint8
	masks   [decodedAtOnce]uint64 // partitions of the customer so far
	running [decodedAtOnce]int64  // the sum so far
	goesOn  [decodedAtOnce]uint64 // all ones; 0 while at the first row of a customer
	zeros   [decodedAtOnce]int64
	bits    [2 * mostFew]uint64 // by slot: the partition's; none above

	// Of one customer: by slot, zeros between calls; and of the partitions to choose from.
	sums, counts [2 * mostFew]int64
	groups       [mostFew]int64
	hashes       [mostFew]uint64
	// What is kept by slot: of partitions zeros between calls, and nothing that matters above.
	keptSums, keptRows [2 * mostFew]int64
	keptCustomers      [mostFew]int64
}

// newFew gives nil where partitions are too many.
func newFew(k *quick) *few {
	if !k.bounder.question.few() {
		return nil
	}
	f := &few{bounder: k.bounder, quick: k}
	for i := range f.goesOn {
		f.goesOn[i] = math.MaxUint64
	}
	for i := range mostFew {
		f.bits[i] = 1 << i
	}
	return f
}

// take bounds the next runs of a chain, of so many rows together.
func (f *few) take(c *cursor, runs, rows int) {
	k, into := f.quick, &f.bounder.kept
	decoded := f.findSlots(c, rows)
	values := f.zeros[:rows]
	switch {
	case k.total >= 0 && decoded:
		values = c.measures[0][:rows]
	case k.total >= 0:
		values = k.buffers.measures[0][:rows]
		c.segment.measures[f.bounder.question.measures[0]].decode(values, c.row)
	}
	f.addRows(rows, values, k.lengths[:runs])
	most, plain, apart := int(min(f.bounder.mostPartitions, mostFew)), f.isPlain(c.segment), f.bounder.aggregation.apart
	into.customers, into.masks = slices.Grow(into.customers, runs), slices.Grow(into.masks, runs)
	at, before, all := 0, int64(0), uint64(0)
	customers, masks, kept := into.customers[len(into.customers):][:runs], into.masks[len(into.masks):][:runs], 0
	for run, length := range k.lengths[:runs] {
		end := at + length
		mask, sum := f.masks[end-1], f.running[end-1]
		if bits.OnesCount64(mask) > most {
			mask = f.bound(c.id(c.run+run), c.block, mask, f.slots[at:end], values[at:end])
		}
		if !plain || sum-before > k.upper || int64(length) > k.mostRows {
			f.clamp(mask, f.slots[at:end], values[at:end])
		}
		all |= mask
		if apart {
			customers[kept], masks[kept] = c.id(c.run+run), mask
			if mask != 0 {
				kept++
			}
		} else if k.customers >= 0 {
			for ; mask != 0; mask &= mask - 1 {
				f.keptCustomers[bits.TrailingZeros64(mask)]++
			}
		}
		at, before = end, sum
	}
	into.customers, into.masks = into.customers[:len(into.customers)+kept], into.masks[:len(into.masks)+kept]
	for ; all != 0; all &= all - 1 {
		f.flush(bits.TrailingZeros64(all))
	}
}

// findSlots gives rows from c.row on the slots of their partitions, and tells whether it had to decode them.
func (f *few) findSlots(c *cursor, rows int) (decoded bool) {
	slots := f.slots[:rows]
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
func (f *few) isPlain(of *segment) bool {
	return f.quick.total < 0 || f.quick.lower <= 0 && of.measures[f.bounder.question.columns[f.quick.total].Measure].base >= 0
}

// addRows adds rows to what is kept of their partitions. After each row it notes the partitions of the customer so
// far, and the sum of all rows so far.
func (f *few) addRows(rows int, values []int64, lengths []int) {
	at := 0
	for _, length := range lengths {
		f.goesOn[at] = 0
		at += length
	}
	slots, goesOn, masks, running := f.slots[:rows], f.goesOn[:rows], f.masks[:rows], f.running[:rows]
	mask, sum := uint64(0), int64(0)
	for i, v := range values[:len(slots)] {
		slot := slots[i] % (2 * mostFew)
		v &= int64(slot>>6) - 1 // nothing where the row is dropped
		f.keptSums[slot] += v
		mask = mask&goesOn[i] | f.bits[slot]
		sum += v
		goesOn[i], masks[i], running[i] = math.MaxUint64, mask, sum
	}
	if f.quick.rows >= 0 {
		for _, slot := range slots {
			f.keptRows[slot%(2*mostFew)]++
		}
	}
}

// bound takes back what bounding does not keep of a (customer, block) in too many partitions, and gives those of the rest.
func (f *few) bound(customer uint64, block int, mask uint64, slots []uint8, values []int64) (kept uint64) {
	kept = f.chosen(customer, block, mask)
	gone := mask &^ kept
	for i, slot := range slots {
		slot %= 2 * mostFew
		out := -int64(gone >> slot & 1) // of slots above the partitions nothing
		f.keptSums[slot] -= values[i] & out
		f.keptRows[slot] += out
	}
	return kept
}

// clamp takes back what the clamps cut off of the rows of a (customer, block), in the partitions that are kept.
func (f *few) clamp(kept uint64, slots []uint8, values []int64) {
	for i, slot := range slots {
		slot %= 2 * mostFew
		f.sums[slot] += values[i]
		f.counts[slot]++
	}
	for ; kept != 0; kept &= kept - 1 {
		partition := bits.TrailingZeros64(kept)
		f.keptSums[partition] += max(f.quick.lower, min(f.sums[partition], f.quick.upper)) - f.sums[partition]
		f.keptRows[partition] += min(f.counts[partition], f.quick.mostRows) - f.counts[partition]
	}
	for _, slot := range slots {
		f.sums[slot%(2*mostFew)], f.counts[slot%(2*mostFew)] = 0, 0
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
func (f *few) slotTables(c *cursor) (tables []slotTable) {
	q := c.aggregation.question
	same := int64(0)
	if calendar := c.aggregation.blocks[c.block].calendar; calendar != nil {
		if calendar.same == nil {
			return nil
		}
		same = *calendar.same
	}
	if f == nil || len(q.tests) > 0 || len(c.erased) > 0 || c.hidden != nil {
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
func (f *few) flush(partition int) {
	into := f.bounder.totals.at(f.bounder.totals.slot(int64(partition)))
	f.quick.addTo(into, f.keptCustomers[partition], f.keptRows[partition], f.keptSums[partition])
	f.keptCustomers[partition], f.keptRows[partition], f.keptSums[partition] = 0, 0, 0
}

// chosen gives the partitions that bounding keeps of a (customer, block) with more of them.
func (f *few) chosen(customer uint64, block int, mask uint64) (kept uint64) {
	f.bounder.at(customer, block)
	unit, count := f.bounder.unitHash(), 0
	for left := mask; left != 0; left &= left - 1 { // apart from the choice, so that hashes are computed side by side
		number := bits.TrailingZeros64(left)
		f.groups[count], f.hashes[count] = int64(number), f.bounder.keyOf(int64(number)).Of(unit)
		count++
	}
	kept, last := mask, uint64(0)
	for range count - int(f.bounder.mostPartitions) {
		at := 0
		last = f.hashes[0]
		for i := 1; i < count; i++ {
			if f.hashes[i] > last {
				at, last = i, f.hashes[i]
			}
		}
		kept &^= 1 << f.groups[at]
		count--
		f.groups[at], f.hashes[at] = f.groups[count], f.hashes[count]
	}
	if !slices.Contains(f.hashes[:count], last) {
		return kept
	}
	numbers := f.groups[:0] // hashes are equal where it matters: keys decide
	for left := mask; left != 0; left &= left - 1 {
		numbers = append(numbers, int64(bits.TrailingZeros64(left)))
	}
	kept = 0
	for _, r := range f.bounder.chosen(numbers) {
		kept |= 1 << r.number
	}
	return kept
}
