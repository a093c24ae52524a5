package columnar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// Aggregate implements answer.Aggregator: it calls each with what bounding.Reference gives on the rows of the
// snapshot. It reads all of them whatever it finds. Workers read one shard at a time, so that each customer is at
// one worker with all of its blocks; scans that run at once take turns, a shard each.
func (s *Store) Aggregate(ctx context.Context, p *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) (err error) {
	a := &aggregation{store: s, plan: p, salt: s.secrets.Salt(at.Dataset)}
	// What is merged from here on stays readable as it was: the transaction is older, and no segment goes that it sees.
	defer s.db.scans.begin()()
	a.txn = s.db.NewTransaction(false)
	defer a.txn.Discard()
	a.erased = s.erasures.hiding(at.Dataset)
	if err := a.find(ctx, at); err != nil {
		return fmt.Errorf("finding the rows of dataset %s: %w", at.Dataset, err)
	}
	bounders, err := a.run(ctx)
	defer func() {
		for _, b := range bounders {
			err = errors.Join(err, b.close())
		}
	}()
	if err != nil {
		return fmt.Errorf("aggregating dataset %s: %w", at.Dataset, err)
	}
	return a.collect(bounders, each)
}

// aggregation is one call of Aggregate.
type aggregation struct {
	store        *Store
	plan         *plan.Plan
	salt         []byte
	txn          *badger.Txn
	erased       map[uint64]struct{} // customers that are to be erased, and count no more; nil: none
	blocks       []scannedBlock
	dictionaries [][]string // by dimension
	question     *question
}

// scannedBlock is a block with rows.
type scannedBlock struct {
	name     string
	loads    []uint64 // that are visible, ascending
	calendar *calendar
}

// find asks the catalog which loads the snapshot has in each scanned block, and translates the plan.
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
		slices.Sort(loads)
		a.blocks = append(a.blocks, scannedBlock{name: block, loads: loads})
	}
	return a.translate()
}

func (a *aggregation) translate() (err error) {
	policy := &a.plan.Policy.Policy
	for _, d := range policy.Dimensions {
		known, err := a.store.dictionaries.get(policy.Name, d.Name)
		if err != nil {
			return err
		}
		a.dictionaries = append(a.dictionaries, known.all())
	}
	if a.question, err = translate(a.plan, a.dictionaries); err != nil {
		return err
	}
	for i := range a.blocks {
		if a.blocks[i].calendar, err = a.question.calendarOf(a.blocks[i].name); err != nil {
			return err
		}
	}
	return nil
}

// run shares the shards out among workers. The bounders are the caller's to close, with an error too.
func (a *aggregation) run(ctx context.Context) ([]*bounder, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bounders := make([]*bounder, max(1, min(a.store.options.Workers, a.store.shards)))
	var next atomic.Int64
	var workers sync.WaitGroup
	for w := range bounders {
		bounders[w] = newBounder(a, a.store.options.GroupBytes/len(bounders))
		workers.Go(func() {
			for shard := int(next.Add(1)) - 1; shard < a.store.shards && ctx.Err() == nil; shard = int(next.Add(1)) - 1 {
				select {
				case a.store.workers <- struct{}{}:
				case <-ctx.Done():
					return
				}
				err := a.shard(ctx, shard, bounders[w])
				<-a.store.workers
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return bounders, context.Cause(ctx)
}

// collect adds up what the workers found. No customer is at two of them.
func (a *aggregation) collect(bounders []*bounder, each func(bounding.Partition) error) error {
	var all []source
	for _, b := range bounders {
		all = append(all, newInMemory(b.totals))
		if b.spill != nil {
			all = append(all, b.spill.sources(b.totals)...)
		}
	}
	return mergeSources(all, len(a.question.columns), func(number int64, sums []bounding.Total) error {
		p := bounding.Partition{Totals: make([]int64, len(sums))}
		if len(a.question.axes) > 0 {
			p.Key = a.question.labelsOf(number)
		}
		for i := range sums {
			p.Totals[i] = sums[i].Int64()
		}
		return each(p)
	})
}

// shard bounds the customers of one shard.
func (a *aggregation) shard(ctx context.Context, shard int, b *bounder) error {
	from := &reader{txn: a.txn, cache: a.store.columns}
	var cursors []*cursor
	for block := range a.blocks {
		chains, err := a.chains(from, shard, block)
		if err != nil {
			return fmt.Errorf("block %s: %w", a.blocks[block].name, err)
		}
		for _, c := range chains {
			cursors = append(cursors, &cursor{aggregation: a, reader: from, chain: c, block: block})
		}
		// Where customers are not told apart, no block has to wait for another.
		if !b.apart {
			if err := a.walk(ctx, cursors, b); err != nil {
				return err
			}
			cursors = cursors[:0]
		}
	}
	return a.walk(ctx, cursors, b)
}

// chains finds the segments of a block that are visible.
func (a *aggregation) chains(from *reader, shard, block int) ([]chain, error) {
	at := shardOf{a.plan.Policy.Name, a.blocks[block].name, shard}
	m, err := readMerged(from, at)
	if err != nil {
		return nil, err
	}
	return a.store.chains(from, at, m, a.blocks[block].loads)
}

// mostSideBySide is up to how many cursors the smallest customer is found by looking at all of them.
const mostSideBySide = 32

// walk bounds one customer after the other, and of each customer one block after the other, from whatever chains
// have them. Cursors are in the order of blocks.
func (a *aggregation) walk(ctx context.Context, cursors []*cursor, b *bounder) error {
	open := cursors[:0]
	for _, c := range cursors {
		more, err := c.nextCustomer(b)
		if err != nil {
			return err
		}
		if more {
			open = append(open, c)
		}
	}
	if len(open) > mostSideBySide {
		return a.walkMany(ctx, open, b)
	}
	heads := make([]uint64, len(open))
	for i, c := range open {
		heads[i] = c.customer
	}
	for n := 0; len(open) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		customer := heads[0]
		for _, head := range heads[1:] {
			customer = min(customer, head)
		}
		ended := false
		for i := 0; i < len(open); {
			if heads[i] != customer {
				i++
				continue
			}
			block := open[i].block
			if alone := i+1 == len(open) || open[i+1].block != block; alone && (i == 0 || open[i-1].block != block) && open[i].isShort() {
				open[i].takeShort(b)
				heads[i] = open[i].customer
				i++
				continue
			}
			b.begin(customer, block)
			for ; i < len(open) && open[i].block == block; i++ { // several chains may have some of its rows
				if heads[i] != customer {
					continue
				}
				more, err := open[i].take(customer, b)
				if err != nil {
					return err
				}
				heads[i], open[i].done = open[i].customer, !more
				ended = ended || !more
			}
			b.end()
		}
		if ended {
			open, heads = withoutDone(open, heads)
		}
		if err := b.makeRoom(); err != nil {
			return err
		}
	}
	return nil
}

func withoutDone(open []*cursor, heads []uint64) ([]*cursor, []uint64) {
	kept := 0
	for i, c := range open {
		if !c.done {
			open[kept], heads[kept] = c, heads[i]
			kept++
		}
	}
	return open[:kept], heads[:kept]
}

// walkMany is walk with a heap, for more chains than can be looked at for every customer.
func (a *aggregation) walkMany(ctx context.Context, cursors []*cursor, b *bounder) error {
	h := newHeap(cursors)
	for n := 0; len(h) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		customer, block := h[0].customer, h[0].block
		b.begin(customer, block)
		for len(h) > 0 && h[0].customer == customer && h[0].block == block {
			more, err := h[0].take(customer, b)
			if err != nil {
				return err
			}
			h.next(more)
		}
		b.end()
		if len(h) == 0 || h[0].customer != customer {
			if err := b.makeRoom(); err != nil {
				return err
			}
		}
	}
	return nil
}
