package columnar

import (
	"math/bits"

	"github.com/discreet-analytics/discreet/dp/bounding"
)

// totals are what one worker added up, by partition. Of few enough partitions the number is the slot; others get
// slots as they come.
type totals struct {
	width   int
	counts  int // of customers, of each slot
	dense   bool
	numbers []int64 // by slot; -1: none came
	sums    []bounding.Total
	counted []uint64 // by slot and count: which of the customers of a census was counted last
	index   index
}

// mostDense is up to how many partitions a number is the slot.
const mostDense = 1 << 18

// newTotals makes totals that may take so many bytes.
func newTotals(q *question, bytes int) *totals {
	t := &totals{width: q.plan.Tree.Width(), counts: max(1, q.counts)}
	t.dense = q.few() || q.size <= min(mostDense, int64(bytes/t.slotBytes()))
	if t.dense {
		t.numbers = make([]int64, q.size)
		for i := range t.numbers {
			t.numbers[i] = -1
		}
		t.sums = make([]bounding.Total, q.size*int64(t.width))
		t.counted = make([]uint64, q.size*int64(t.counts))
	}
	return t
}

// slot finds the slot of a partition, or gives it one.
func (t *totals) slot(number int64) int {
	if t.dense {
		t.numbers[number] = number
		return int(number)
	}
	slot, known := t.index.find(number)
	if !known {
		slot = len(t.numbers)
		t.index.put(number, slot)
		t.numbers = append(t.numbers, number)
		for range t.counts {
			t.counted = append(t.counted, 0)
		}
		for range t.width {
			t.sums = append(t.sums, bounding.Total{})
		}
	}
	return slot
}

// at gives what was added up of a slot.
func (t *totals) at(slot int) []bounding.Total { return t.sums[slot*t.width : (slot+1)*t.width] }

// slotBytes is what a slot takes: its sums, number and customers, and its share of the hash table.
func (t *totals) slotBytes() int { return 16*t.width + 8 + 8*t.counts + 2*16 + 8 }

// full tells whether what does not have its number for a slot takes more than so many bytes.
func (t *totals) full(bytes int) bool {
	return !t.dense && len(t.numbers)*t.slotBytes() > bytes
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
