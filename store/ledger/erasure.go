package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// erasureRecord is an erasure that was asked for. It names nobody and holds nothing that depends on rows: the chain
// keeps it for ever.
type erasureRecord struct {
	By    string
	At    time.Time
	Units int64 // as they were given
}

// erasureEndRecord says when a run had ended an erasure.
type erasureEndRecord struct {
	At time.Time
}

// RecordErasure records that an erasure was asked for. To record the same one again changes nothing.
func (l *Ledger) RecordErasure(ctx context.Context, e dp.Erasure) error {
	if e.ID == "" || e.By == "" || e.Units < 1 {
		return errors.New("an erasure has no name, nobody who asked for it, or nobody in it")
	}
	return l.write(ctx, func(t *tx) error {
		t.kind = entryErasure
		key := erasureKey(e.Dataset, e.ID)
		if known, err := t.get(key); err != nil || known != nil {
			return err
		}
		if _, found, err := load[datasetRecord](t, datasetKey(e.Dataset)); err != nil {
			return err
		} else if !found {
			return errNoDataset()
		}
		return save(t, key, erasureRecord{By: e.By, At: e.At, Units: e.Units})
	})
}

// EndErasure records that a run has ended an erasure. To end one again changes nothing.
func (l *Ledger) EndErasure(ctx context.Context, dataset, id string) error {
	return l.write(ctx, func(t *tx) error {
		t.kind = entryErasureEnd
		key := erasureEndKey(dataset, id)
		if ended, err := t.get(key); err != nil || ended != nil {
			return err
		}
		if _, err := mustLoad[erasureRecord](t, erasureKey(dataset, id)); err != nil {
			return err
		}
		return save(t, key, erasureEndRecord{At: t.now})
	})
}

// PendingErasures returns the erasures of all datasets that no run has ended. While the ledger refuses it does not
// tell: a better copy may know of more.
func (l *Ledger) PendingErasures(ctx context.Context) (list []dp.Erasure, err error) {
	if r := l.refusal.Load(); r != nil {
		return nil, r.err()
	}
	err = l.read(ctx, func(v view) error {
		return v.walk([]byte{kindErasure}, nil, ascending, func(key, value []byte) (bool, error) {
			e, err := erasureOf(v, key, value)
			if err == nil && e.Ended.IsZero() {
				list = append(list, e)
			}
			return true, err
		})
	})
	return list, err
}

// Erasures lists the erasures of a dataset, the newest first.
func (l *Ledger) Erasures(ctx context.Context, dataset, cursor string, limit int) (list []dp.Erasure, next string, err error) {
	next, err = l.page(ctx, makeKey(kindErasure, dataset), descending, cursor, limit, func(v view, key, value []byte) (bool, error) {
		e, err := erasureOf(v, key, value)
		list = append(list, e)
		return true, err
	})
	return list, next, err
}

func erasureOf(v view, key, value []byte) (e dp.Erasure, err error) {
	parts := partsOf(key)
	r, err := decode[erasureRecord](value)
	if err != nil {
		return e, err
	}
	e = dp.Erasure{ID: parts[1], Dataset: parts[0], By: r.By, At: r.At, Units: r.Units}
	ended, _, err := load[erasureEndRecord](v, erasureEndKey(e.Dataset, e.ID))
	e.Ended = ended.At
	return e, err
}
