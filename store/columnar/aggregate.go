package columnar

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Aggregate implements answer.Aggregator: it gives what bounding.Reference gives on the rows of the snapshot. It
// reads all of them whatever it finds. Workers read one shard at a time, so that each customer is at one worker
// with all of its blocks; a worker holds the columns of its shard that the plan needs.
func (s *Store) Aggregate(ctx context.Context, p *plan.Plan, at dp.Snapshot) ([]bounding.Partition, error) {
	a := &aggregation{store: s, plan: p, salt: s.secrets.Salt(at.Dataset)}
	if err := a.find(ctx, at); err != nil {
		return nil, fmt.Errorf("finding the rows of dataset %s: %w", at.Dataset, err)
	}
	partitions, err := a.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("aggregating dataset %s: %w", at.Dataset, err)
	}
	return partitions, nil
}

// aggregation is one call of Aggregate.
type aggregation struct {
	store  *Store
	plan   *plan.Plan
	salt   []byte
	blocks []string
	loads  [][]uint64 // that are visible, by block
}

// find asks the catalog which loads the snapshot has in each scanned block.
func (a *aggregation) find(ctx context.Context, at dp.Snapshot) error {
	scan := a.plan.Tree.Input.Input.Input.Input
	if scan.Dataset != at.Dataset || a.plan.Policy.Name != at.Dataset {
		return fmt.Errorf("the plan is for another dataset")
	}
	for _, block := range scan.Blocks {
		i := slices.IndexFunc(at.Blocks, func(b dp.BlockVersion) bool { return b.Block == block })
		if i < 0 {
			return fmt.Errorf("block %s was not charged for", block)
		}
		if at.Blocks[i].Version == 0 {
			continue
		}
		loads, err := a.store.catalog.CommittedLoads(ctx, at.Dataset, block, at.Blocks[i].Version)
		if err != nil {
			return err
		}
		a.blocks = append(a.blocks, block)
		a.loads = append(a.loads, loads)
	}
	return nil
}

// run shares the shards out among workers and adds up what they bounded.
func (a *aggregation) run(ctx context.Context) ([]bounding.Partition, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bounders := make([]*bounding.Bounder, max(1, min(a.store.options.Workers, a.store.shards)))
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range bounders {
		evaluator, err := bounding.Compile(a.plan)
		if err != nil {
			return nil, err
		}
		bounders[w] = bounding.NewBounder(evaluator, a.salt)
		workers.Go(func() {
			needs := evaluator.Needs()
			for shard := int(next.Add(1)) - 1; shard < a.store.shards && ctx.Err() == nil; shard = int(next.Add(1)) - 1 {
				if err := a.shard(ctx, shard, needs, bounders[w]); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return bounding.Merge(bounders...)
}

// shard bounds the customers of one shard, block after block of each, from whatever segments have them.
func (a *aggregation) shard(ctx context.Context, shard int, needs bounding.Needs, to *bounding.Bounder) error {
	txn := a.store.db.NewTransaction(false)
	defer txn.Discard()
	merge, err := a.cursors(ctx, txn, shard, needs)
	if err != nil {
		return err
	}
	policy := &a.plan.Policy.Policy
	row := rows.Row{Dimensions: make([]rows.Text, len(policy.Dimensions)), Measures: make([]rows.Number, len(policy.Measures))}
	for n := 0; len(merge) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		row.Customer = merge[0].customer
		block := merge[0].block
		to.Add(row.Customer, a.blocks[block], func(yield func(*rows.Row) bool) {
			for len(merge) > 0 && merge[0].customer == row.Customer && merge[0].block == block {
				c := merge[0]
				for i := c.start; i < c.end; i++ {
					c.segment.fill(&row, i)
					if !yield(&row) {
						return
					}
				}
				merge.next()
			}
		})
	}
	return nil
}

// cursors opens every segment of a shard at its first customer.
func (a *aggregation) cursors(ctx context.Context, txn *badger.Txn, shard int, needs bounding.Needs) (merge, error) {
	dataset := a.plan.Policy.Name
	var all merge
	for block, name := range a.blocks {
		for _, load := range a.loads[block] {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			var p part
			found, err := getJSON(txn, partKey(dataset, name, load), &p)
			if err == nil && (!found || len(p.Segments) != a.store.shards) {
				err = errDamaged
			}
			if err != nil {
				return nil, fmt.Errorf("block %s: %w", name, err)
			}
			prefix := segmentPrefix(dataset, name, shard, load)
			for sequence := range p.Segments[shard] {
				s, err := readSegment(txn, prefix, sequence, &a.plan.Policy.Policy, needs)
				if err != nil {
					return nil, fmt.Errorf("block %s: %w", name, err)
				}
				c := &cursor{segment: s, block: block, run: -1}
				if c.next() {
					all = append(all, c)
				}
			}
		}
	}
	heap.Init(&all)
	return all, nil
}

// cursor stands at one customer of a segment.
type cursor struct {
	segment    *segment
	block      int
	run        int
	customer   uint64
	start, end int // its rows
}

// next goes to the next customer; false after the last.
func (c *cursor) next() bool {
	c.run++
	if c.run >= c.segment.customers.lengths.count {
		return false
	}
	length, _ := c.segment.customers.lengths.at(c.run)
	c.customer = c.segment.customers.id(c.run)
	c.start, c.end = c.end, c.end+int(length)
	return true
}

// merge is a heap of cursors with the smallest customer on top, and of one customer the first block.
type merge []*cursor

// next moves the cursor on top on.
func (m *merge) next() {
	if (*m)[0].next() {
		heap.Fix(m, 0)
	} else {
		heap.Pop(m)
	}
}

// Len, Less, Swap, Push and Pop are container/heap's.

func (m merge) Len() int { return len(m) }

func (m merge) Less(i, j int) bool {
	if m[i].customer != m[j].customer {
		return m[i].customer < m[j].customer
	}
	return m[i].block < m[j].block
}

func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

func (m *merge) Push(c any) { *m = append(*m, c.(*cursor)) }

func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
