package bounding

import (
	"container/heap"
	"fmt"
	"iter"

	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Bounder is Reference for rows that come customer by customer: engines stream through it. Of the (customer,
// block) at hand it holds at most Partitions partitions with Rows rows each, however many there are.
//
// The blocks of one customer must come one after the other, each once, so that the customer is counted once
// in a partition. Goroutines that share no customer use a Bounder each, and Merge adds them up.
type Bounder struct {
	evaluator  *Evaluator
	salt       []byte
	partitions map[string]*partition

	// Of the (customer, block) at hand:
	hasher hasher
	groups map[string]*group
	kept   smallest[*group]
	// Scratch and what can be used again.
	key        []byte
	freeGroups []*group
	freeRows   []*keptRow
}

// partition is what all customers add up to. Its totals are in the order of the plan's columns.
type partition struct {
	totals  []total
	counted uint64 // the customer that was counted last
	any     bool
}

// group is what one (customer, block) has in one partition.
type group struct {
	rank
	rows    int64
	sums    []total // of the Total columns
	present []bool  // a value was there
	kept    smallest[*keptRow]
}

// keptRow is a row that row-level columns may read.
type keptRow struct {
	rank
	measures []rows.Number
}

// NewBounder starts an aggregation of the evaluator's plan. The evaluator serves one Bounder only.
func NewBounder(e *Evaluator, salt []byte) *Bounder {
	return &Bounder{evaluator: e, salt: salt, partitions: make(map[string]*partition), groups: make(map[string]*group)}
}

// Add bounds the rows of one (customer, block), in any order, and adds what is kept. The rows may share
// memory from one to the next.
func (b *Bounder) Add(customer uint64, block string, all iter.Seq[*rows.Row]) {
	b.hasher.begin(b.salt, customer, block)
	for row := range all {
		key, counts := b.evaluator.Key(b.key[:0], row)
		b.key = key
		if !counts {
			continue
		}
		if g := b.group(); g != nil {
			b.addRow(g, row)
		}
	}
	for _, g := range b.kept.items {
		b.addGroup(customer, g)
		b.free(g)
	}
	b.kept.reset()
	clear(b.groups)
}

// group finds or makes the group of b.key; nil where L0 others come before it.
func (b *Bounder) group() *group {
	if g, ok := b.groups[string(b.key)]; ok {
		return g
	}
	g := b.newGroup()
	g.bytes = append(g.bytes[:0], b.key...)
	dropped, full := b.kept.offer(g, b.evaluator.bound.Partitions, &b.hasher)
	if full {
		// A key that is dropped stays dropped: from now on at least L0 others come before it.
		delete(b.groups, string(dropped.bytes))
		b.free(dropped)
		if dropped == g {
			return nil
		}
	}
	b.groups[string(g.bytes)] = g
	return g
}

func (b *Bounder) addRow(g *group, row *rows.Row) {
	e := b.evaluator
	g.rows++
	for i, c := range e.columns {
		if x := measure(row, c); c.Count == plan.Total && x.Valid {
			g.sums[i].add(x.Value)
			g.present[i] = true
		}
	}
	if !e.measured {
		return
	}
	r := b.newRow()
	r.bytes = rows.AppendRow(r.bytes[:0], e.policy, row)
	r.measures = append(r.measures[:0], row.Measures...)
	if dropped, full := g.kept.offer(r, e.bound.Rows, &b.hasher); full {
		b.freeRows = append(b.freeRows, dropped)
	}
}

// addGroup adds what one (customer, block) has in a kept partition.
func (b *Bounder) addGroup(customer uint64, g *group) {
	e := b.evaluator
	p := b.partitions[string(g.bytes)]
	if p == nil {
		p = &partition{totals: make([]total, len(e.columns))}
		b.partitions[string(g.bytes)] = p
	}
	first := !p.any || p.counted != customer
	p.counted, p.any = customer, true
	for i, c := range e.columns {
		t := &p.totals[i]
		switch c.Count {
		case plan.CountCustomers:
			if first {
				t.add(1)
			}
		case plan.CountRows:
			t.add(min(g.rows, e.bound.Rows))
		case plan.Total:
			if g.present[i] {
				t.add(g.sums[i].clamped(c.Lower, c.Upper))
			}
		case plan.Centred, plan.CountMeasured:
			for _, r := range g.kept.items {
				x := r.measures[c.Measure]
				switch {
				case !x.Valid:
				case c.Count == plan.Centred:
					t.addCentred(x.Value, c.Lower, c.Upper)
				default:
					t.add(1)
				}
			}
		}
	}
}

// Merge adds up what Bounders of one plan hold. No customer may be in two of them.
func Merge(bounders ...*Bounder) ([]Partition, error) {
	all := make(map[string][]total)
	for _, b := range bounders {
		for key, p := range b.partitions {
			if all[key] == nil {
				all[key] = make([]total, len(p.totals))
			}
			for i := range p.totals {
				all[key][i].addTotal(p.totals[i])
			}
		}
	}
	result := make([]Partition, 0, len(all))
	for _, key := range sortedKeys(all) {
		parts, err := rows.ParseKey([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("reading a partition's key: %w", err)
		}
		totals := make([]int64, len(all[key]))
		for i := range totals {
			totals[i] = all[key][i].int64()
		}
		result = append(result, Partition{Key: parts, Totals: totals})
	}
	return result, nil
}

func measure(row *rows.Row, c plan.Column) rows.Number {
	if c.Count != plan.Total {
		return rows.Number{}
	}
	return row.Measures[c.Measure]
}

func (b *Bounder) newGroup() *group {
	if n := len(b.freeGroups); n > 0 {
		g := b.freeGroups[n-1]
		b.freeGroups = b.freeGroups[:n-1]
		return g
	}
	n := len(b.evaluator.columns)
	return &group{sums: make([]total, n), present: make([]bool, n)}
}

// free takes back a group and its rows.
func (b *Bounder) free(g *group) {
	b.freeRows = append(b.freeRows, g.kept.items...)
	g.kept.reset()
	g.rows, g.hashed = 0, false
	clear(g.sums)
	clear(g.present)
	b.freeGroups = append(b.freeGroups, g)
}

func (b *Bounder) newRow() *keptRow {
	if n := len(b.freeRows); n > 0 {
		r := b.freeRows[n-1]
		b.freeRows = b.freeRows[:n-1]
		r.hashed = false
		return r
	}
	return &keptRow{}
}

// rank is what decides whether something is kept. The hash is computed only once there is a choice to make.
type rank struct {
	bytes  []byte
	hash   uint64
	hashed bool
}

func (r *rank) ranked() *rank { return r }

func (r *rank) computeHash(h *hasher) {
	if !r.hashed {
		r.hash, r.hashed = h.hash(r.bytes), true
	}
}

// smallest keeps those of the offered items that come first by hash, then bytes. Once full, it is a heap
// with the last of them on top.
type smallest[T interface{ ranked() *rank }] struct {
	items []T
	heap  bool
}

// offer takes an item in. Where there were most already, full is true and one is dropped: the item or another.
func (s *smallest[T]) offer(item T, most int64, h *hasher) (dropped T, full bool) {
	if int64(len(s.items)) < most {
		s.items = append(s.items, item)
		return dropped, false
	}
	if !s.heap {
		for _, i := range s.items {
			i.ranked().computeHash(h)
		}
		heap.Init(s)
		s.heap = true
	}
	item.ranked().computeHash(h)
	last := s.items[0]
	if a, b := item.ranked(), last.ranked(); compareRank(a.hash, b.hash, a.bytes, b.bytes) >= 0 {
		return item, true
	}
	s.items[0] = item
	heap.Fix(s, 0)
	return last, true
}

func (s *smallest[T]) reset() {
	s.items = s.items[:0]
	s.heap = false
}

// Len, Less, Swap, Push and Pop are container/heap's; Init and Fix, which are all that is used of it, never
// push or pop.

func (s *smallest[T]) Len() int { return len(s.items) }

func (s *smallest[T]) Less(i, j int) bool {
	a, b := s.items[i].ranked(), s.items[j].ranked()
	return compareRank(a.hash, b.hash, a.bytes, b.bytes) > 0
}

func (s *smallest[T]) Swap(i, j int) { s.items[i], s.items[j] = s.items[j], s.items[i] }

func (s *smallest[T]) Push(any) {}

func (s *smallest[T]) Pop() any { return nil }
