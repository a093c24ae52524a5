package columnar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// RunErasures takes the rows of all customers out of the files that were to be erased when it began, without pausing,
// and what only they used of the dictionaries; and before that the rows of all blocks that are retired. It returns once no file of the data directory holds their bytes.
//
// Errors: that of Options.Room, and the catalog's. What could not be done is done by the next run.
func (s *Store) RunErasures(ctx context.Context) error {
	return s.runErasures(ctx, s.erasures.all(), true, nil)
}

func (e *erasures) all() []string { return e.datasets(time.Unix(1<<40, 0)) }

// runErasures ends the erasures of some datasets, and retires what is due. One that cannot be ended keeps no other from
// it, but waits itself where retired rows are left: customers are erased from the blocks that are not retired alone.
func (s *Store) runErasures(ctx context.Context, datasets []string, retire bool, p *pace) error {
	done, err := s.tend(ctx)
	if err != nil {
		return fmt.Errorf("waiting to erase: %w", err)
	}
	defer done()
	var errs []error
	var undone map[string]bool
	if retire || len(datasets) > 0 {
		began := s.options.Clock()
		if undone, err = s.retire(ctx); err != nil {
			errs = append(errs, err)
		} else {
			s.retired.Store(began.UnixNano())
		}
		if undone == nil { // it is not known of which
			datasets = nil
		}
	}
	for _, dataset := range datasets {
		if undone[dataset] {
			continue
		}
		if err := guarded(func() error { return s.eraseDataset(ctx, dataset, p) }); err != nil {
			errs = append(errs, fmt.Errorf("erasing customers from dataset %s: %w", dataset, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	// What was dropped leaves the disk once nobody reads it any more.
	if err := s.db.scans.drained(ctx); err != nil {
		return errors.Join(append(errs, fmt.Errorf("waiting for questions: %w", err))...)
	}
	return errors.Join(append(errs, guarded(func() error { return s.endErased(ctx) }))...)
}

// eraseDataset takes the customers of a dataset out of rows, dictionaries and files. What it does depends on their
// pseudonyms' shards alone: whoever sees how long it takes does not learn whether they had rows. After a process died in
// it, the next one does all of it again.
func (s *Store) eraseDataset(ctx context.Context, dataset string, p *pace) error {
	pending, err := s.recordedErasures(ctx, dataset)
	if err != nil || len(pending) == 0 {
		return err
	}
	if s.hanging[dataset] { // what is written anew next would be for nothing again
		leave, err := s.betweenLoads(ctx, dataset)
		if err != nil {
			return err
		}
		leave()
	}
	without := make(map[uint64]struct{})
	shards := make([]bool, s.shards)
	for _, customers := range pending {
		for _, customer := range customers {
			without[customer] = struct{}{}
			shards[customer%uint64(s.shards)] = true
		}
	}
	if err := s.eraseRows(ctx, dataset, shards, without, false, p); err != nil {
		return err
	}
	leave, err := s.betweenLoads(ctx, dataset) // no load of it adds rows or uses a text from here on
	if err != nil {
		return err
	}
	defer leave()
	if err := s.eraseRows(ctx, dataset, shards, without, true, nil); err != nil {
		return err
	}
	if err := s.eraseRest(ctx, dataset); err != nil {
		return err
	}
	s.columns.Clear()
	var prefixes [][]byte
	for id := range pending {
		prefixes = append(prefixes, erasurePrefix(dataset, id))
	}
	if err := s.db.drop(prefixes...); err != nil {
		return err
	}
	for id := range pending {
		s.erasures.end(dataset, id)
	}
	return nil
}

// betweenLoads waits until no load of a dataset is under way, and keeps others from it. It waits only so long, because
// nothing is merged and nobody is erased from any dataset meanwhile, and takes no slot that other datasets' loads have.
func (s *Store) betweenLoads(ctx context.Context, dataset string) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.EraseWait, errLoading)
	defer cancel()
	leave, err = s.alone(ctx, dataset)
	s.hanging[dataset] = err != nil
	return leave, err
}

var errLoading = errors.New("a load of it has been under way all the time that a run waits: the run is tried again, and ends once no load is; cancel one that hangs")

// recordedErasures gives the customers of a dataset that are to be erased, by erasure, each of which the catalog knows.
func (s *Store) recordedErasures(ctx context.Context, dataset string) (map[string][]uint64, error) {
	s.erasures.asking.Lock()
	defer s.erasures.asking.Unlock()
	list, customers, err := s.readErasures()
	if err != nil {
		return nil, err
	}
	pending := make(map[string][]uint64)
	for i, e := range list {
		if e.Dataset != dataset {
			continue
		}
		pending[e.ID] = customers[i]
		if e.Units == 0 { // a run dropped its head, after this
			continue
		}
		// Where the process died before it could: what is kept is going to be done, and so has to be recorded.
		if err := s.catalog.RecordErasure(ctx, e); err != nil {
			return nil, fmt.Errorf("recording an erasure: %w", err)
		}
	}
	return pending, nil
}

// RecordErasures records with the catalog what is kept and what it does not know: a process died in between, or the
// store was restored together with erasures that are newer than the catalog.
//
// Errors: the catalog's, which may not take writes at the moment; the next run records them then.
func (s *Store) RecordErasures(ctx context.Context) error {
	s.erasures.asking.Lock()
	defer s.erasures.asking.Unlock()
	list, _, err := s.readErasures()
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Units == 0 { // a run was dropping it
			continue
		}
		if err := s.catalog.RecordErasure(ctx, e); err != nil {
			return fmt.Errorf("recording an erasure: %w", err)
		}
	}
	return nil
}

// eraseRows writes every block's rows anew in the shards that the customers are in, without them; again: where a load
// was committed since that was done.
func (s *Store) eraseRows(ctx context.Context, dataset string, shards []bool, without map[uint64]struct{}, again bool, p *pace) error {
	blocks, err := s.blocksWithRows(ctx)
	if err != nil {
		return err
	}
	for _, at := range blocks {
		if at.dataset != dataset {
			continue
		}
		loads, err := s.committed(ctx, at)
		if err != nil {
			return err
		}
		for at.shard = range s.shards {
			if !shards[at.shard] {
				continue
			}
			if again {
				if done, err := s.allMerged(at, loads); err != nil {
					return fmt.Errorf("block %s: %w", at.block, err)
				} else if done {
					continue
				}
			}
			if err := s.mergeShard(ctx, at, loads, without, p); err != nil {
				return fmt.Errorf("block %s: %w", at.block, err)
			}
			if s.untidy < mostUntidy {
				continue
			}
			if err := s.tidy(ctx); err != nil {
				return err
			}
		}
	}
	return s.tidy(ctx)
}

// allMerged tells whether no load has segments of its own there.
func (s *Store) allMerged(at shardOf, loads []uint64) (bool, error) {
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	m, err := readMerged(&reader{txn: txn}, at)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(loads, func(load uint64) bool { return !slices.Contains(m.Loads, load) }), nil
}

// eraseRest removes what loads left that failed, and texts that nobody uses. No load of the dataset is under way.
func (s *Store) eraseRest(ctx context.Context, dataset string) error {
	if err := s.sweep(ctx, dataset); err != nil {
		return err
	}
	unfinished, err := s.unfinished(dataset)
	if err != nil {
		return err
	}
	for _, l := range unfinished {
		state, err := s.settle(ctx, l.load)
		if err != nil {
			return err
		}
		if state != committed {
			return errors.New("whether its last load counts is known when the server starts again, and its rows stay until then: restart the server")
		}
	}
	if err := s.dictionaries.sweep(); err != nil {
		return err
	}
	return s.pruneDictionaries(ctx, dataset)
}

// endErased tells the catalog of erasures of which nothing is left.
func (s *Store) endErased(ctx context.Context) error {
	s.erasures.asking.Lock()
	defer s.erasures.asking.Unlock()
	recorded, err := s.catalog.PendingErasures(ctx)
	if err != nil {
		return fmt.Errorf("looking for erasures: %w", err)
	}
	left, _, err := s.readErasures()
	if err != nil {
		return err
	}
	for _, e := range recorded {
		if slices.ContainsFunc(left, func(l dp.Erasure) bool { return l.Dataset == e.Dataset && l.ID == e.ID }) {
			continue
		}
		if err := s.catalog.EndErasure(ctx, e.Dataset, e.ID); err != nil {
			return fmt.Errorf("ending an erasure in dataset %s: %w", e.Dataset, err)
		}
	}
	return nil
}

// EraseSoon has the erasures that wait run now, in the background.
func (s *Store) EraseSoon() {
	select {
	case s.eraseNow <- struct{}{}:
	default: // it was asked for already
	}
}

// eraseInBackground runs the erasures of a day at its hour, or later where the process was down then, and at once
// when it is asked to. What failed is tried again.
func (s *Store) eraseInBackground(ctx context.Context) {
	p := &pace{bytes: s.options.MergeBytes, busy: s.db.scans.any}
	now := false
	unrecorded := true // a process may have died, or the catalog refused, between the end of a run and the record of it
	for {
		datasets, retire, slowly := s.erasures.all(), true, (*pace)(nil)
		if !now {
			datasets, retire, slowly = s.dueErasures(), s.dueRetirement(), p
		}
		pause := time.Minute
		if now || unrecorded || retire || len(datasets) > 0 {
			err := s.runErasures(ctx, datasets, retire, slowly)
			var refused *dp.Error
			if err != nil && ctx.Err() == nil && !errors.As(err, &refused) { // a refusal is told by who refuses
				s.options.Log.Warn("rows: erasing failed, and is tried again later", "error", err)
			}
			if now, unrecorded = now && err != nil, err != nil; err != nil {
				pause = max(s.options.EraseRetry, time.Millisecond)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.eraseNow:
			now = true
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// dueErasures gives the datasets of which one was asked for before the last time that a run was due.
func (s *Store) dueErasures() []string {
	if s.options.EraseAt < 0 {
		return nil
	}
	return s.erasures.datasets(lastDue(s.options.Clock(), s.options.EraseAt))
}

// dueRetirement tells whether blocks were last retired before a run was due, or never by this process: another one may have
// died while their rows left.
func (s *Store) dueRetirement() bool {
	if s.options.EraseAt < 0 {
		return false
	}
	last := s.retired.Load()
	return last == 0 || last < lastDue(s.options.Clock(), s.options.EraseAt).UnixNano()
}

// lastDue is the last moment at or before now that was so long after midnight, by the clock on the wall.
func lastDue(now time.Time, afterMidnight time.Duration) time.Time {
	year, month, day := now.Date()
	minutes := int(afterMidnight / time.Minute)
	due := time.Date(year, month, day, minutes/60, minutes%60, 0, 0, now.Location())
	if due.After(now) {
		due = time.Date(year, month, day-1, minutes/60, minutes%60, 0, 0, now.Location())
	}
	return due
}
