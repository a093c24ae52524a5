package columnar

import (
	"math/bits"

	"github.com/discreet-analytics/discreet/dp/bounding"
)

// totals are what one worker added up, by partition. Partitions that are few by declaration have their number for
// a slot; others get slots as they come.
type totals struct {
	width   int
	dense   bool
	numbers []int64 // by slot; -1: none came
	sums    []bounding.Total
	counted []uint64 // by slot: the customer that was counted last
	index   index
}

func newTotals(q *question) *totals {
	t := &totals{width: len(q.columns), dense: q.dense}
	if t.dense {
		t.numbers = make([]int64, q.size)
		for i := range t.numbers {
			t.numbers[i] = -1
		}
		t.sums = make([]bounding.Total, q.size*int64(t.width))
		t.counted = make([]uint64, q.size)
	}
	return t
}

// slot finds the slot of a partition. First says whether the customer was not counted there yet, which it is from
// now on. Where customers come once for every block, they must not come apart.
func (t *totals) slot(number int64, customer uint64, apart bool) (slot int, first bool) {
	if !t.dense {
		return t.slotOfMany(number, customer, apart)
	}
	slot = int(number)
	first = t.numbers[slot] < 0 || !apart || t.counted[slot] != customer
	t.numbers[slot], t.counted[slot] = number, customer
	return slot, first
}

func (t *totals) slotOfMany(number int64, customer uint64, apart bool) (slot int, first bool) {
	slot, known := t.index.find(number)
	if !known {
		slot = len(t.numbers)
		t.index.put(number, slot)
		t.numbers, t.counted = append(t.numbers, number), append(t.counted, customer)
		for range t.width {
			t.sums = append(t.sums, bounding.Total{})
		}
		return slot, true
	}
	first = !apart || t.counted[slot] != customer
	t.counted[slot] = customer
	return slot, first
}

// full tells whether what does not have its number for a slot takes more than so many bytes.
func (t *totals) full(bytes int) bool {
	const beside = 8 + 8 + 2*16 + 8 // number, customer, hash table
	return !t.dense && len(t.numbers)*(16*t.width+beside) > bytes
}

// empty forgets everything, and keeps the memory.
func (t *totals) empty() {
	t.numbers, t.sums, t.counted = t.numbers[:0], t.sums[:0], t.counted[:0]
	t.index.reset()
}

// index finds the position of a number that is not negative. It is a hash table with linear probing, which a
// map would be if it could be emptied at the cost of what was put into it.
type index struct {
	slots []indexSlot // a power of two; at most half are used
	used  []int       // slots that are
}

type indexSlot struct {
	number   int64 // plus 1; 0: free
	position int
}

func (x *index) at(number int64) int {
	// Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4): the high bits of the product are well mixed.
	return int(uint64(number) * 0x9E3779B97F4A7C15 >> (64 - bits.TrailingZeros(uint(len(x.slots)))))
}

func (x *index) find(number int64) (position int, ok bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	for i := x.at(number); ; i = (i + 1) & (len(x.slots) - 1) {
		switch s := &x.slots[i]; s.number {
		case number + 1:
			return s.position, true
		case 0:
			return 0, false
		}
	}
}

// put adds a number that is not there.
func (x *index) put(number int64, position int) {
	if 2*(len(x.used)+1) > len(x.slots) {
		x.grow()
	}
	i := x.at(number)
	for x.slots[i].number != 0 {
		i = (i + 1) & (len(x.slots) - 1)
	}
	x.slots[i] = indexSlot{number + 1, position}
	x.used = append(x.used, i)
}

func (x *index) grow() {
	old := x.slots
	x.slots = make([]indexSlot, max(64, 2*len(old)))
	x.used = x.used[:0]
	for _, s := range old {
		if s.number != 0 {
			x.put(s.number-1, s.position)
		}
	}
}

func (x *index) reset() {
	for _, i := range x.used {
		x.slots[i] = indexSlot{}
	}
	x.used = x.used[:0]
}
