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
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Aggregate implements answer.Aggregator: it calls each with what bounding.Reference gives on the rows of the
// snapshot. It reads all of them whatever it finds. Workers read one shard at a time, so that each customer is at
// one worker with all of its blocks; scans that run at once take turns, a shard each.
func (s *Store) Aggregate(ctx context.Context, p *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) error {
	return guarded(func() error { return s.aggregate(ctx, p, at, each) })
}

func (s *Store) aggregate(ctx context.Context, p *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) (err error) {
	if p.Tree.Input.Input.Profile != nil {
		return s.aggregateSeveral(ctx, p, at, each)
	}
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
	tallies := make([]*tally, len(bounders))
	for i, b := range bounders {
		tallies[i] = &b.tally
	}
	return a.question.collect(tallies, each)
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
	apart        bool // customers are told apart across blocks: they count once in partitions that several blocks share
}

// scannedBlock is a block with rows.
type scannedBlock struct {
	name     string
	loads    []uint64 // that are visible, ascending
	calendar *calendar
	views    []*calendar     // of the question's views; the first has none
	units    bounding.Prefix // gives the hashes of its customers
}

// find asks the catalog which loads the snapshot has in each scanned block, and translates the plan.
func (a *aggregation) find(ctx context.Context, at dp.Snapshot) error {
	scan := a.plan.Tree.Input.Input.Input.Input
	if scan.Dataset != at.Dataset || a.plan.Policy.Name != at.Dataset {
		return fmt.Errorf("the plan is for another dataset")
	}
	var err error
	if a.blocks, err = a.store.visible(ctx, at, scan.Dataset, scan.Blocks); err != nil {
		return err
	}
	return a.translate()
}

// visible asks the catalog which loads a snapshot has in some blocks of a dataset. Blocks that no load covered are left out.
func (s *Store) visible(ctx context.Context, at dp.Snapshot, dataset string, blocks []string) (visible []scannedBlock, err error) {
	before, err := s.catalog.RetiredBefore(ctx, dataset)
	if err != nil {
		return nil, fmt.Errorf("asking for the retired blocks of dataset %s: %w", dataset, err)
	}
	for _, block := range blocks {
		if rows.IsRetired(block, before) {
			return nil, errRetired()
		}
		version, charged := versionOf(at, dataset, block)
		if !charged {
			return nil, fmt.Errorf("block %s was not charged for", block)
		}
		if version == 0 {
			continue
		}
		loads, err := s.catalog.CommittedLoads(ctx, dataset, block, version)
		if err != nil {
			return nil, err
		}
		slices.Sort(loads)
		visible = append(visible, scannedBlock{name: block, loads: loads})
	}
	return visible, nil
}

// versionOf gives the version of a block in a snapshot; false where the snapshot is without it.
func versionOf(at dp.Snapshot, dataset, block string) (version uint64, ok bool) {
	for _, s := range append([]dp.Snapshot{at}, at.Also...) {
		if s.Dataset != dataset {
			continue
		}
		if i := slices.IndexFunc(s.Blocks, func(b dp.BlockVersion) bool { return b.Block == block }); i >= 0 {
			return s.Blocks[i].Version, true
		}
	}
	return 0, false
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
		block := &a.blocks[i]
		if block.calendar, err = a.question.calendarOf(block.name, &a.question.sieve, true); err != nil {
			return err
		}
		block.views = make([]*calendar, len(a.question.views))
		for v := range a.question.views[1:] {
			if block.views[1+v], err = a.question.calendarOf(block.name, &a.question.views[1+v].sieve, false); err != nil {
				return err
			}
		}
		block.units = bounding.HashUnits(a.salt, block.name)
	}
	a.apart, err = a.question.tellsApart(a.blocks)
	return err
}

// run shares the shards out among workers. The bounders are the caller's to close, with an error too.
func (a *aggregation) run(ctx context.Context) ([]*bounder, error) {
	count := max(1, min(a.store.options.Workers, a.store.shards))
	var bounders []*bounder
	for range count {
		b, err := newBounder(a, a.store.options.GroupBytes/count)
		if err != nil {
			return bounders, err
		}
		bounders = append(bounders, b)
	}
	// Whether partitions go to disk depends on rows, and so must not whether the disk's room is asked for.
	if a.question.private() || !bounders[0].totals.dense {
		if err := a.store.room(); err != nil {
			return bounders, err
		}
	}
	return bounders, a.store.overShards(ctx, count, func(ctx context.Context, worker, shard int) error {
		return a.shard(ctx, shard, bounders[worker])
	})
}

// overShards shares the shards out among workers, each of which has a turn for each of its shards.
func (s *Store) overShards(ctx context.Context, count int, work func(ctx context.Context, worker, shard int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for worker := range count {
		workers.Go(func() {
			for shard := int(next.Add(1)) - 1; shard < s.shards && ctx.Err() == nil; shard = int(next.Add(1)) - 1 {
				err := guarded(func() error {
					return s.inTurn(ctx, func() error { return work(ctx, worker, shard) })
				})
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// collect adds up what the workers found. No customer is at two of them.
func (q *question) collect(tallies []*tally, each func(bounding.Partition) error) error {
	var all []source
	for _, t := range tallies {
		all = append(all, t.sources()...)
	}
	return mergeSources(all, q.plan.Tree.Width(), func(number int64, sums []bounding.Total) error {
		p := bounding.Partition{Totals: make([]int64, len(sums))}
		if len(q.axes) > 0 {
			p.Key = q.labelsOf(number)
		}
		for i := range sums {
			p.Totals[i] = sums[i].Int64()
		}
		return each(p)
	})
}

// inTurn works once a worker is free.
func (s *Store) inTurn(ctx context.Context, work func() error) error {
	select {
	case s.workers <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.workers }()
	return work()
}

// shard bounds the customers of one shard.
func (a *aggregation) shard(ctx context.Context, shard int, b *bounder) error {
	from := &reader{txn: a.txn, cache: a.store.columns}
	if a.apart {
		return a.shardApart(ctx, from, shard, b)
	}
	for block := range a.blocks {
		chains, err := a.chains(from, shard, block)
		if err == nil {
			var s *stream
			if s, err = a.stream(ctx, from, block, chains, b, false); err == nil {
				_, err = s.next(ctx) // to the end, as it keeps nothing for later
			}
		}
		if err != nil {
			return fmt.Errorf("block %s: %w", a.blocks[block].name, err)
		}
	}
	return nil
}

// shardApart bounds the customers of all blocks side by side. Of how many blocks segments are in memory does not grow
// with their number.
func (a *aggregation) shardApart(ctx context.Context, from *reader, shard int, b *bounder) error {
	chains, count := make([][]chain, len(a.blocks)), 0
	for block := range a.blocks {
		var err error
		if chains[block], err = a.chains(from, shard, block); err != nil {
			return fmt.Errorf("block %s: %w", a.blocks[block].name, err)
		}
		count += len(chains[block])
	}
	streams := make([]*stream, len(a.blocks))
	for block := range a.blocks {
		var err error
		if streams[block], err = a.stream(ctx, from, block, chains[block], b, count > mostOpen); err != nil {
			return fmt.Errorf("block %s: %w", a.blocks[block].name, err)
		}
	}
	return newCensus(b, streams).run(ctx)
}

func (a *aggregation) stream(ctx context.Context, from *reader, block int, chains []chain, b *bounder, leaves bool) (*stream, error) {
	cursors := make([]*cursor, len(chains))
	for i, c := range chains {
		cursors[i] = &cursor{aggregation: a, reader: from, chain: c, block: block}
	}
	return newStream(ctx, b, block, cursors, leaves)
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
