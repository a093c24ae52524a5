package columnar

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// aggregateSeveral answers plans that read several blocks of a customer together, of other datasets too. It goes through
// customers rather than blocks, with all rows of one at a time, so that it takes longer than a scan of streams.
func (s *Store) aggregateSeveral(ctx context.Context, p *plan.Plan, at dp.Snapshot, each func(bounding.Partition) error) (err error) {
	a := &several{store: s, plan: p, salt: s.secrets.Salt(at.Dataset)}
	defer s.db.scans.begin()()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	a.from = func() *reader { return &reader{txn: txn, cache: s.columns} }
	if err := a.find(ctx, at); err != nil {
		return err
	}
	count := max(1, min(s.options.Workers, s.shards))
	tallies, err := a.run(ctx, count)
	defer func() {
		for _, t := range tallies {
			err = errors.Join(err, t.close())
		}
	}()
	if err != nil {
		return fmt.Errorf("aggregating dataset %s: %w", at.Dataset, err)
	}
	return a.question.collect(tallies, each)
}

// several is one call of aggregateSeveral.
type several struct {
	store    *Store
	plan     *plan.Plan
	salt     []byte
	from     func() *reader
	parts    []scanned // by dataset, the plan's own first
	question *question // of which the numbers of partitions are
}

// find asks which rows of each dataset the snapshot has.
func (a *several) find(ctx context.Context, at dp.Snapshot) error {
	own := a.plan.Tree.Input.Input.Input.Input
	if own.Dataset != at.Dataset || a.plan.Policy.Name != at.Dataset {
		return errors.New("the plan is for another dataset")
	}
	bounds, err := bounding.NewSeveral(a.plan, a.salt)
	if err != nil {
		return err
	}
	type dataset struct {
		policy *dp.Policy
		blocks []string
	}
	datasets := []dataset{{&a.plan.Policy.Policy, slices.Clone(own.Blocks)}}
	cohorts := a.plan.Tree.Input.Input.Profile.Cohorts
	for i := range cohorts {
		policy := &cohorts[i].Policy.Policy
		at := slices.IndexFunc(datasets, func(d dataset) bool { return d.policy.Name == policy.Name })
		if at < 0 {
			at = len(datasets)
			datasets = append(datasets, dataset{policy: policy})
		}
		datasets[at].blocks = append(datasets[at].blocks, cohorts[i].Input.Input.Blocks...)
	}
	for _, d := range datasets {
		slices.Sort(d.blocks)
		want := wanted{Needs: bounds.Needs(d.policy), time: true, consent: a.plan.Tree.Input.Input.Profile.Consent}
		part, err := a.store.scanTogether(ctx, at, d.policy, slices.Compact(d.blocks), want)
		if err != nil {
			return err
		}
		a.parts = append(a.parts, part)
	}
	a.question, err = translateKeys(a.plan, a.parts[0].dictionaries)
	return err
}

// run shares the shards out among workers. The tallies are the caller's to close, with an error too.
func (a *several) run(ctx context.Context, count int) (tallies []*tally, err error) {
	bytes := a.store.options.GroupBytes / count
	bounds := make([]*bounding.Several, count)
	for i := range count {
		if bounds[i], err = bounding.NewSeveral(a.plan, a.salt); err != nil {
			return nil, err
		}
		tallies = append(tallies, &tally{totals: newTotals(a.question, bytes), bytes: bytes, dir: a.store.spillDir()})
	}
	// Whether partitions go to disk depends on rows, and so must not whether the disk's room is asked for.
	if a.question.private() || !tallies[0].totals.dense {
		if err := a.store.room(); err != nil {
			return tallies, err
		}
	}
	return tallies, a.store.overShards(ctx, count, func(ctx context.Context, worker, shard int) error {
		return a.shard(ctx, shard, bounds[worker], tallies[worker])
	})
}

// mostNumbered is of how many keys a worker remembers the numbers.
const mostNumbered = 1 << 14

// shard adds up what the customers of one shard add.
func (a *several) shard(ctx context.Context, shard int, bounds *bounding.Several, into *tally) error {
	together, err := a.store.newTogether(ctx, a.from(), shard, a.parts)
	if err != nil {
		return err
	}
	var units []bounding.Unit
	numbers := make(map[string]int64)
	for {
		customer, of, ok, err := together.next(ctx)
		if err != nil || !ok {
			return err
		}
		units = units[:0]
		for _, blocks := range of {
			for _, u := range blocks {
				part := &a.parts[u.part]
				units = append(units, bounding.Unit{Dataset: part.policy.Name, Block: part.blocks[u.block].name, Rows: u.rows})
			}
		}
		added, err := bounds.Customer(ctx, customer, units)
		if err != nil {
			return err
		}
		for _, adds := range added {
			number, ok := numbers[adds.Key]
			if !ok {
				if number, err = a.question.numberOf(adds.Key); err != nil {
					return err
				}
				if len(numbers) >= mostNumbered {
					clear(numbers)
				}
				numbers[adds.Key] = number
			}
			sums := into.totals.at(into.totals.slot(number))
			for i := range adds.Totals {
				sums[i].AddTotal(adds.Totals[i])
			}
		}
		if err := into.makeRoom(); err != nil {
			return err
		}
	}
}

// translateKeys compiles no more of a plan than the numbers of its partitions.
func translateKeys(p *plan.Plan, dictionaries [][]string) (*question, error) {
	q := &question{plan: p, policy: &p.Policy.Policy, axes: make([]axis, len(p.Tree.Input.Input.Keys))}
	_, err := q.label(dictionaries)
	return q, err
}

// numberOf is the number of a partition by the bytes of its key.
func (q *question) numberOf(key string) (number int64, err error) {
	labels, err := rows.ParseKey([]byte(key))
	if err != nil || len(labels) != len(q.axes) {
		return 0, errors.New("a partition has another key than the plan")
	}
	for i, label := range labels {
		number = added(number, q.axes[i].number(label))
	}
	if number < 0 {
		return 0, errors.New("a partition has a label that its key has not")
	}
	return number, nil
}
