package columnar

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
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
