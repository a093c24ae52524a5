package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dgraph-io/badger/v4"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

const (
	// maxReason is the longest reason of a write-off, in bytes.
	maxReason = 1000
	// lostLoads is how far a write-off moves the numbers of loads on: those that were lost gave numbers to
	// segments of rows, and no number may be given twice.
	lostLoads = 1 << 20
)

// WriteOff counts as spent whatever may be missing from the ledger, and sets its witness anew: the way out where
// the ledger refuses, and where somebody knows that ledger and witness were restored together. Of every account
// of every dataset, up to the block of now and to every block that was charged or loaded, it spends the whole
// budget in force, or the amount if that is greater: nothing more is admitted there until an officer raises the
// budget. Charges without an outcome end as failed, for what was lost may have answered them. An amount is due where
// a budget may have been higher in what was lost. Datasets that are declared later begin with their first cap spent
// likewise, for one of their name may have been lost. dp/PRIVACY.md says why this suffices, and what else to look after.
//
// Errors: CodeInvalidInput without a reason or with a negative amount; CodeConflict where another process holds
// the witness.
func (l *Ledger) WriteOff(ctx context.Context, actor, reason string, amount *dp.Budget) error {
	reason = strings.TrimSpace(reason)
	if reason == "" || len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return refuse(dp.CodeInvalidInput, "say why, in one line of at most %d bytes: a write-off needs a reason, which is kept for auditors", maxReason)
	}
	if amount == nil {
		amount = &dp.Budget{}
	}
	if amount.Epsilon < 0 || amount.Delta < 0 || amount.Delta > dp.DeltaOne {
		return refuse(dp.CodeInvalidInput, "the amount cannot be: give epsilon of 0 or more, and delta from 0 to 1")
	}
	// Those that are unfinished now are dead if nothing was written since the ledger was opened; else they may be
	// under way, and their publishers remove them once they are told that they are too late.
	unfinished, err := l.unfinished(ctx)
	if err != nil {
		return fmt.Errorf("finding unfinished releases: %w", err)
	}
	record := writeOffRecord{Actor: actor, Reason: reason, Amount: *amount}
	opens := false
	r := &request{despite: true, done: make(chan struct{}), decide: func(t *tx) error {
		err := l.decideWriteOff(t, record)
		opens = t.opens > 0
		return err
	}}
	if err := l.submit(ctx, r); err != nil {
		return err
	}
	l.log.Warn("ledger: an officer wrote off as spent what may be missing", "actor", actor)
	// It stands, whatever becomes of what follows, which opening the ledger does again.
	if opens {
		err = l.sweep(ctx, unfinished)
	}
	if err := errors.Join(err, l.settle(ctx)); err != nil {
		l.log.Error("ledger: tidying up after a write-off", "error", err)
	}
	return nil
}

// decideWriteOff writes off every dataset. It runs in the writer, which alone changes head and witness.
func (l *Ledger) decideWriteOff(t *tx, record writeOffRecord) error {
	t.kind = entryWriteOff
	record.At, record.State = t.now, StateOK
	record.Length, record.Head = l.head.length, l.head.hash[:]
	latest := t.now
	if r := l.refusal.Load(); r != nil {
		record.State, record.Cause = r.state, r.cause
	}
	if l.witness != nil {
		if saw, ok := l.witness.newest(); ok {
			record.WitnessLength, record.WitnessHead = saw.head.length, saw.head.hash[:]
			latest = later(latest, saw.at)
		}
	}
	latest = later(latest, l.latest)
	record.Through = furthestBlock(latest, dp.Month)

	datasets, err := keysUnder(t, []byte{kindDataset})
	if err != nil {
		return err
	}
	allotments, err := largestAllotments(t)
	if err != nil {
		return err
	}
	var changed []changedObject
	for _, key := range datasets {
		name := partsOf(key)[0]
		d, err := mustLoad[datasetRecord](t, key)
		if err != nil {
			return err
		}
		through, err := lastBlock(t, name, d, latest)
		if err != nil {
			return err
		}
		d.WrittenOff = slices.Concat(d.WrittenOff, []writtenOff{{
			Through: through, Cap: unknownLoss(d.Cap, record.Amount), Allotments: unknownLoss(allotments[name], record.Amount),
		}})
		d.Loads += lostLoads
		if err := save(t, key, d); err != nil {
			return err
		}
		changed = append(changed, changedObject{Kind: "write-off", Name: name})
	}
	number, err := nextNumber(t)
	if err != nil {
		return err
	}
	t.lost = number
	if err := save(t, writeOffKey(number), record); err != nil {
		return err
	}
	if err := save(t, changeKey(number), changeRecord{At: record.At, Actor: record.Actor, Reason: record.Reason, Changed: changed}); err != nil {
		return err
	}
	if l.opening == 0 { // nothing was written since the ledger was opened
		return l.countOpening(t)
	}
	return nil
}

// unknownLoss is the loss of a history that stayed within both: within the greater. Nothing is known of its rho.
func unknownLoss(a, b dp.Budget) dp.Loss {
	delta := max(a.Delta, b.Delta)
	return dp.Loss{Epsilon: max(a.Epsilon, b.Epsilon), Delta: delta, Rho: dp.RhoUnknown, DeltaZ: delta}
}

// largestAllotments is the largest epsilon and the largest delta of any consumer's allotment on each dataset.
// What was lost may have been answered to consumers of whom nothing is known.
func largestAllotments(t *tx) (map[string]dp.Budget, error) {
	largest := map[string]dp.Budget{}
	err := view{t.txn}.walk([]byte{kindAllotment}, nil, ascending, func(_, value []byte) (bool, error) {
		a, err := decode[dp.Allotment](value)
		b := largest[a.Dataset]
		largest[a.Dataset] = dp.Budget{Epsilon: max(b.Epsilon, a.Budget.Epsilon), Delta: max(b.Delta, a.Budget.Delta)}
		return true, err
	})
	return largest, err
}

// lastBlock is the last block that what was lost may have told of: that of now, or one that was charged or loaded and
// ends later.
func lastBlock(t *tx, dataset string, d datasetRecord, now time.Time) (string, error) {
	p, err := mustLoad[dp.VersionedPolicy](t, policyKey(dataset, d.PolicyVersion))
	if err != nil {
		return "", err
	}
	last := furthestBlock(now, p.Unit.Block)
	for _, kind := range []byte{kindAccount, kindBlock} {
		err := view{t.txn}.walk(makeKey(kind, dataset), nil, ascending, func(key, _ []byte) (bool, error) {
			last = laterBlock(last, partsOf(key)[1])
			return true, nil
		})
		if err != nil {
			return "", err
		}
	}
	return last, nil
}

// furthestBlock is the block of a moment in the time zone that no other is ahead of.
func furthestBlock(at time.Time, kind dp.Block) string {
	return rows.BlockOf(at.UnixMilli(), kind, time.FixedZone("", 14*60*60))
}

// lostOf is what a dataset that is declared with this cap has spent already: one of its name may be what was lost, with
// charges of which nothing is known, once for every write-off. The allotments of that one are unknown as well; whatever
// its consumers got, its cap bounded.
func lostOf(t *tx, limit dp.Budget) (list []writtenOff, err error) {
	err = view{t.txn}.walk([]byte{kindWriteOff}, nil, ascending, func(_, value []byte) (bool, error) {
		w, err := decode[writeOffRecord](value)
		spent := unknownLoss(limit, w.Amount)
		list = append(list, writtenOff{Through: w.Through, Cap: spent, Allotments: spent})
		return true, err
	})
	return list, err
}

// keysUnder returns every key under a prefix, so that its values can be read and written while none is walked.
func keysUnder(t *tx, prefix []byte) (keys [][]byte, err error) {
	err = view{t.txn}.walk(prefix, nil, ascending, func(key, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(key))
		return true, nil
	})
	return keys, err
}

// lastWriteOff is the number of the last write-off, 0 without one.
func lastWriteOff(txn *badger.Txn) (number uint64, err error) {
	err = view{txn}.walk([]byte{kindWriteOff}, nil, descending, func(key, _ []byte) (bool, error) {
		number = numberOf(key)
		return false, nil
	})
	return number, err
}

// writtenOffSince tells whether the last entry wrote off what is missing as of this witness: the process ended
// before it had set the witness anew.
func writtenOffSince(txn *badger.Txn, r replayed, saw head) (answered bool, err error) {
	if r.last != entryWriteOff {
		return false, nil
	}
	err = view{txn}.walk([]byte{kindWriteOff}, nil, descending, func(_, value []byte) (bool, error) {
		w, err := decode[writeOffRecord](value)
		answered = err == nil && len(w.WitnessHead) > 0 && w.WitnessLength == saw.length && bytes.Equal(w.WitnessHead, saw.hash[:])
		return false, err
	})
	return answered, err
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
