package ledger

import (
	"context"
	"errors"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
)

// Whoever reads what was drawn passes here, by whatever path, and whoever is charged: the consumer as they stand, and the
// policies in force of all datasets that it was or will be drawn from.

// checkMayAsk refuses a charge that its consumer may not make for its purpose. The question was held to the same when it was
// priced; consumer and purposes may have changed since.
func checkMayAsk(t *tx, asker dp.Consumer, purpose string, parts []dp.Touched) error {
	for _, p := range parts {
		access, err := t.accessUnder(p.Dataset, p.PolicyVersion)
		if err != nil {
			return err
		}
		if err := access.MayAsk(asker, purpose); err != nil {
			return err
		}
	}
	return nil
}

// accessUnder is what a version of a policy says. The writer remembers it, like what else every charge reads.
func (t *tx) accessUnder(dataset string, version uint64) (answer.Access, error) {
	key := policyKey(dataset, version)
	if known, ok := t.hot.access[string(key)]; ok {
		return known, nil
	}
	p, err := mustLoad[dp.VersionedPolicy](t, key)
	if err != nil {
		return answer.Access{}, err
	}
	access := answer.AccessOf(p.Policy)
	if len(t.hot.access) >= maxHot {
		clear(t.hot.access)
	}
	t.hot.access[string(key)] = access
	return access, nil
}

// MayRead refuses to a consumer what was drawn from datasets whose policies do not let them have it any more:
// answer.ErrHidden, or a dp.Error.
func (l *Ledger) MayRead(ctx context.Context, consumer string, datasets []string) error {
	changes := l.changes.Load() // before reading: what changes meanwhile makes this stale
	at := consumer
	for _, d := range datasets {
		at += "\x00" + d
	}
	if known, ok := l.readers.Load(at); ok && known == changes && !l.broken.Load() {
		return nil
	}
	err := l.read(ctx, func(v view) error { return l.mayRead(v, consumer, datasets) })
	if err == nil {
		if l.remembered.Add(1) > maxHot { // consumers and datasets are few, but nobody bounds them
			l.readers.Clear()
			l.remembered.Store(1)
		}
		l.readers.Store(at, changes)
	}
	return err
}

func (l *Ledger) mayRead(v view, consumer string, datasets []string) error {
	reader, found, err := load[dp.Consumer](v, consumerKey(consumer))
	if err != nil {
		return err
	}
	if !found {
		return answer.ErrHidden
	}
	var drawnFrom []answer.Access
	for _, dataset := range datasets {
		access, err := l.accessNow(v, dataset)
		if err != nil {
			return err
		}
		drawnFrom = append(drawnFrom, access)
	}
	return answer.MayRead(reader, drawnFrom...)
}

// accessNow is what the policy in force says. What a committed version says never changes, and is kept.
func (l *Ledger) accessNow(v view, dataset string) (answer.Access, error) {
	d, err := mustLoad[datasetRecord](v, datasetKey(dataset))
	if err != nil {
		return answer.Access{}, err
	}
	key := policyKey(dataset, d.PolicyVersion)
	if known, ok := l.access.Load(string(key)); ok {
		return known.(answer.Access), nil
	}
	p, err := mustLoad[dp.VersionedPolicy](v, key)
	if err != nil {
		return answer.Access{}, err
	}
	access := answer.AccessOf(p.Policy)
	l.access.Store(string(key), access)
	return access, nil
}

// readable refuses a release that a consumer holds and may not read any more. What it may not know of is not there.
func (l *Ledger) readable(v view, consumer string, r dp.Release) error {
	err := l.mayRead(v, consumer, answer.DatasetsOf(r))
	if errors.Is(err, answer.ErrHidden) {
		return errNoRelease()
	}
	return err
}
