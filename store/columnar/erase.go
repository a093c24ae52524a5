package columnar

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// Erase records that the customers that in names are to leave a dataset, once verify accepts that all of it came.
// From then on no question sees their rows; a run takes them out of the files (RunErasures). What is returned, what is
// recorded and how long it takes do not depend on whether there are such customers.
//
// Rows that are loaded until the run has ended leave with the others. A load after that adds rows again.
//
// Errors: CodeInvalidInput, CodeTooLarge, those of reading and of verify, and CodeUnavailable. After the last one the
// erasure may take place all the same; to ask for it again does no harm.
func (s *Store) Erase(ctx context.Context, policy dp.VersionedPolicy, spec EraseSpec, in io.Reader, verify func() error) (dp.Erasure, error) {
	if err := s.room(); err != nil {
		return dp.Erasure{}, err
	}
	customers, units, err := s.readUnits(ctx, &policy.Policy, spec, in)
	if err == nil {
		err = verify()
	}
	if err != nil {
		return dp.Erasure{}, err
	}
	if units == 0 {
		return dp.Erasure{}, refuse(dp.CodeInvalidInput, "nobody is named: give at least one identifier")
	}
	at := s.options.Clock().UTC().Round(0)
	e := dp.Erasure{ID: newErasureID(at, spec, policy.Name), Dataset: policy.Name, By: spec.By, At: at, Units: units}
	// Until it is known to both, no run may take it for complete.
	s.erasures.asking.Lock()
	defer s.erasures.asking.Unlock()
	known, repeated := dp.Erasure{}, false
	if spec.Repeat != "" {
		if known, repeated, err = s.erasures.repeated(e, customers); err != nil {
			return dp.Erasure{}, err
		}
	}
	if repeated { // what the first call may not have come to is done below, and changes nothing where it has
		e = known
	} else {
		if err := s.erasures.admit(e.Dataset, len(customers), s.options.PendingUnits); err != nil {
			return dp.Erasure{}, err
		}
		if err := s.keepErasure(e, customers); err != nil {
			return dp.Erasure{}, fmt.Errorf("recording an erasure in dataset %s: %w", e.Dataset, err)
		}
		s.erasures.add(e, customers)
	}
	if s.options.Erased != nil {
		if err := s.options.Erased(e, customers); err != nil {
			s.options.Log.Error("rows: an erasure is not in the list beside the backups; it is done all the same", "erasure", e.ID, "error", err)
			return dp.Erasure{}, &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Minute, Err: err,
				Message: "the list of erasures beside the backups cannot be written, so that a backup could bring these customers back: see to the directory of backups (serve --backups), and erase them again"}
		}
	}
	if err := s.catalog.RecordErasure(context.WithoutCancel(ctx), e); err != nil {
		return dp.Erasure{}, fmt.Errorf("recording an erasure in dataset %s: %w", e.Dataset, err)
	}
	return e, nil
}

// Lengths of the parts of an erasure's identifier.
const (
	erasureTime   = 12 // hexadecimal digits
	erasureSuffix = 16
)

// newErasureID makes an identifier that sorts by time and tells of nothing else. Its suffix is random, or follows from who
// asks and the idempotency key that they gave.
func newErasureID(at time.Time, spec EraseSpec, dataset string) string {
	var suffix [erasureSuffix / 2]byte
	if spec.Repeat == "" {
		_, _ = rand.Read(suffix[:]) // it never fails
	} else {
		sum := sha256.Sum256([]byte("erasure\x00" + spec.By + "\x00" + dataset + "\x00" + spec.Repeat))
		copy(suffix[:], sum[:])
	}
	return fmt.Sprintf("era_%0*x%s", erasureTime, max(0, at.UnixMilli()), hex.EncodeToString(suffix[:]))
}

// repeated finds the erasure that was asked for under the same idempotency key and waits still. Once it has ended, nobody
// can tell any more whom it named: it is asked for anew then, which does no harm.
func (e *erasures) repeated(again dp.Erasure, customers []uint64) (known dp.Erasure, found bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.of[again.Dataset]
	if p == nil {
		return known, false, nil
	}
	suffix := again.ID[len(again.ID)-erasureSuffix:]
	for id, asked := range p.asked {
		if !strings.HasSuffix(id, suffix) {
			continue
		}
		if asked.Units != again.Units || !slices.Equal(p.customers[id], customers) {
			return known, false, refuse(dp.CodeConflict, "this Idempotency-Key was used for other customers, and nothing was recorded: use a new key")
		}
		return asked, true, nil
	}
	return known, false, nil
}

// erasures are those that no run has ended.
type erasures struct {
	asking sync.Mutex // held from before one is kept until the catalog has it, and while a run looks for what is there

	mu sync.Mutex
	of map[string]*pendingErasures // by dataset
}

// pendingErasures are those of one dataset.
type pendingErasures struct {
	customers map[string][]uint64 // by erasure, ascending
	asked     map[string]dp.Erasure
	hidden    map[uint64]struct{} // all of them; nil: to be made. Nobody changes one
	units     int
}

func (e *erasures) admit(dataset string, units, most int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.of[dataset]; p != nil && p.units+units > most || units > most {
		return refuse(dp.CodeUnavailable, "at most %d customers of a dataset may wait to be erased: have the erasures that wait run first (discreet erase --now), and repeat this one", most)
	}
	return nil
}

func (e *erasures) add(one dp.Erasure, customers []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == nil {
		e.of = make(map[string]*pendingErasures)
	}
	p := e.of[one.Dataset]
	if p == nil {
		p = &pendingErasures{customers: make(map[string][]uint64), asked: make(map[string]dp.Erasure)}
		e.of[one.Dataset] = p
	}
	p.customers[one.ID], p.asked[one.ID], p.hidden = customers, one, nil
	p.units += len(customers)
}

func (e *erasures) end(dataset, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.of[dataset]
	if p == nil {
		return
	}
	p.units -= len(p.customers[id])
	delete(p.customers, id)
	delete(p.asked, id)
	p.hidden = nil
	if len(p.customers) == 0 {
		delete(e.of, dataset)
	}
}

// hiding gives the customers of a dataset that no question may see, nil where there are none. Nobody changes it.
func (e *erasures) hiding(dataset string) map[uint64]struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.of[dataset]
	if p == nil {
		return nil
	}
	if p.hidden == nil {
		p.hidden = make(map[uint64]struct{}, p.units)
		for _, customers := range p.customers {
			for _, customer := range customers {
				p.hidden[customer] = struct{}{}
			}
		}
	}
	return p.hidden
}

// datasets gives those that have an erasure which was asked for before some moment.
func (e *erasures) datasets(before time.Time) (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for dataset, p := range e.of {
		for _, asked := range p.asked {
			if asked.At.Before(before) {
				list = append(list, dataset)
				break
			}
		}
	}
	slices.Sort(list)
	return list
}

// erasureHead is what is kept of an erasure beside its customers.
type erasureHead struct {
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	Units int64     `json:"units"`
}

// erasurePrefix is the key of an erasure's head, and begins those of its parts.
func erasurePrefix(dataset, id string) []byte { return []byte("erase/" + dataset + "/" + id + "/") }

// mostInPart is how many customers a part has: 8 bytes each.
const mostInPart = maxValue / 8

// keepErasure makes it durable, all of it or nothing.
func (s *Store) keepErasure(e dp.Erasure, customers []uint64) error {
	head := erasurePrefix(e.Dataset, e.ID)
	err := s.db.Update(func(txn *badger.Txn) error {
		i := uint32(0)
		for part := range slices.Chunk(customers, mostInPart) {
			var body []byte
			for _, customer := range part {
				body = binary.LittleEndian.AppendUint64(body, customer)
			}
			key := binary.BigEndian.AppendUint32(bytes.Clone(head), i)
			i++
			if err := txn.Set(key, seal(key, body)); err != nil {
				return err
			}
		}
		return setJSON(txn, head, erasureHead{By: e.By, At: e.At, Units: e.Units})
	})
	if err != nil {
		return err
	}
	return durable.SyncDir(s.dir)
}

// readErasures finds what no run has ended. Of one that a run was dropping when the process died, any part may be gone,
// the head too; it then has no Units.
func (s *Store) readErasures() (list []dp.Erasure, customers [][]uint64, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte("erase/")})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			words := bytes.SplitN(it.Item().Key(), []byte("/"), 4)
			if len(words) != 4 {
				return errDamaged
			}
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			body, err := unseal(it.Item().Key(), value)
			if err != nil {
				return err
			}
			dataset, id, last := string(words[1]), string(words[2]), len(list)-1
			if last < 0 || list[last].Dataset != dataset || list[last].ID != id {
				list, customers = append(list, dp.Erasure{ID: id, Dataset: dataset}), append(customers, nil)
				last++
			}
			if len(words[3]) == 0 { // it comes before its parts
				var h erasureHead
				if json.Unmarshal(body, &h) != nil {
					return errDamaged
				}
				list[last].By, list[last].At, list[last].Units = h.By, h.At, h.Units
				continue
			}
			if len(body)%8 != 0 {
				return errDamaged
			}
			for ; len(body) > 0; body = body[8:] {
				customers[last] = append(customers[last], binary.LittleEndian.Uint64(body))
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading erasures: %w", err)
	}
	return list, customers, nil
}

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
