package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/office"
)

// Change implements office.Book. The record of the change is part of its transaction; a decision that writes
// nothing leaves none.
func (l *Ledger) Change(ctx context.Context, c office.Change, decide func(office.Tx) error) error {
	defer l.changes.Add(1) // once what was decided is durable, no key is admitted by what stood before
	return l.write(ctx, func(t *tx) error {
		t.kind = entryChange
		b := &bookTx{tx: t, datasets: l.limits.Datasets}
		if err := decide(b); err != nil {
			return err
		}
		if len(b.changed) == 0 {
			return nil
		}
		number, err := nextNumber(t)
		if err != nil {
			return err
		}
		return save(t, changeKey(number), changeRecord{At: c.At, Actor: c.Actor, Reason: c.Reason, Changed: b.changed})
	})
}

// bookTx is office.Tx over one request, and notes what was written.
type bookTx struct {
	tx       *tx
	datasets int // that there may be
	changed  []changedObject
}

func (b *bookTx) note(kind, name string, version uint64) {
	b.changed = append(b.changed, changedObject{Kind: kind, Name: name, Version: version})
}

func (b *bookTx) Policies(dataset string) ([]dp.VersionedPolicy, error) {
	d, _, err := load[datasetRecord](b.tx, datasetKey(dataset))
	if err != nil {
		return nil, err
	}
	versions := make([]dp.VersionedPolicy, d.PolicyVersion)
	for i := range versions {
		if versions[i], err = mustLoad[dp.VersionedPolicy](b.tx, policyKey(dataset, uint64(i)+1)); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

func (b *bookTx) PoliciesInForce() (list []dp.VersionedPolicy, err error) {
	err = b.tx.each(makeKey(kindDataset), func(key, value []byte) error {
		d, err := decode[datasetRecord](value)
		if err != nil {
			return err
		}
		p, err := mustLoad[dp.VersionedPolicy](b.tx, policyKey(partsOf(key)[0], d.PolicyVersion))
		list = append(list, p)
		return err
	})
	return list, err
}

func (b *bookTx) LoadedUnder(dataset string) (uint64, error) {
	d, _, err := load[datasetRecord](b.tx, datasetKey(dataset))
	return d.LoadedUnder, err
}

func (b *bookTx) PutPolicy(p dp.VersionedPolicy) error {
	d, _, err := load[datasetRecord](b.tx, datasetKey(p.Name))
	if err != nil {
		return err
	}
	if p.Version != d.PolicyVersion+1 {
		return errOutOfOrder("policy")
	}
	if p.Version == 1 {
		if err := b.checkDatasets(); err != nil {
			return err
		}
		if d.WrittenOff, err = lostOf(b.tx, p.Cap); err != nil {
			return err
		}
	}
	d.PolicyVersion, d.Cap = p.Version, p.Cap
	if err := save(b.tx, datasetKey(p.Name), d); err != nil {
		return err
	}
	b.note("policy", p.Name, p.Version)
	return save(b.tx, policyKey(p.Name, p.Version), p)
}

// checkDatasets refuses one more dataset where there are as many as a write-off can hold.
func (b *bookTx) checkDatasets() error {
	known, err := keysUnder(b.tx, []byte{kindDataset})
	if err == nil && len(known) >= b.datasets {
		err = refuse(dp.CodeTooLarge, "there are %d datasets already, which is as many as one ledger keeps: serve further ones from another data directory", len(known))
	}
	return err
}

func (b *bookTx) Consumer(name string) (dp.Consumer, bool, error) {
	return load[dp.Consumer](b.tx, consumerKey(name))
}

func (b *bookTx) AnyConsumer() (bool, error) { return b.tx.has([]byte{kindConsumer}), nil }

func (b *bookTx) Officers() (list []dp.Consumer, err error) {
	err = b.tx.each(makeKey(kindConsumer), func(_, value []byte) error {
		c, err := decode[dp.Consumer](value)
		if c.Role == dp.Officer {
			list = append(list, c)
		}
		return err
	})
	return list, err
}

func (b *bookTx) PutConsumer(c dp.Consumer) error {
	now, _, err := b.Consumer(c.Name)
	if err != nil {
		return err
	}
	if c.Version != now.Version+1 {
		return errOutOfOrder("consumer")
	}
	if c.Subject != now.Subject {
		if err := b.moveSubject(now.Subject, c); err != nil {
			return err
		}
	}
	b.note("consumer", c.Name, c.Version)
	return save(b.tx, consumerKey(c.Name), c)
}

// moveSubject has a consumer found by its new subject, and by its old one no more.
func (b *bookTx) moveSubject(old string, c dp.Consumer) error {
	if old != "" {
		b.tx.delete(subjectKey(old))
	}
	if c.Subject == "" {
		return nil
	}
	if _, taken, err := b.ConsumerOfSubject(c.Subject); err != nil || taken {
		return errors.Join(err, errors.New("a subject is that of one consumer"))
	}
	b.tx.put(subjectKey(c.Subject), []byte(c.Name))
	return nil
}

func (b *bookTx) ConsumerOfSubject(subject string) (string, bool, error) {
	name, err := b.tx.get(subjectKey(subject))
	return string(name), name != nil, err
}

func (b *bookTx) Key(id string) (dp.Key, bool, error) { return load[dp.Key](b.tx, keyKey(id)) }

func (b *bookTx) Keys(consumer string) (list []dp.Key, err error) {
	err = b.tx.each(makeKey(kindKeyOf, consumer), func(_, id []byte) error {
		k, err := mustLoad[dp.Key](b.tx, keyKey(string(id)))
		list = append(list, k)
		return err
	})
	return list, err
}

func (b *bookTx) PutKey(k dp.Key) error {
	now, found, err := b.Key(k.ID)
	if err != nil {
		return err
	}
	if found && (now.Hash != k.Hash || now.Consumer != k.Consumer || now.Under != k.Under) {
		return errors.New("a key's secret and consumer never change")
	}
	if !found {
		taken, err := b.tx.get(keyHashKey(k.Hash))
		if err != nil {
			return err
		}
		if taken != nil {
			return refuse(dp.CodeConflict, "a key of this secret exists: draw another with discreet key new")
		}
		b.tx.put(keyHashKey(k.Hash), []byte(k.ID))
		b.tx.put(keyOfKey(k.Consumer, k.ID), []byte(k.ID))
	}
	b.note("key", k.ID, 0)
	return save(b.tx, keyKey(k.ID), k)
}

func (b *bookTx) Allotment(consumer, dataset string) (dp.Allotment, bool, error) {
	return load[dp.Allotment](b.tx, allotmentKey(consumer, dataset))
}

func (b *bookTx) PutAllotment(a dp.Allotment) error {
	now, _, err := b.Allotment(a.Consumer, a.Dataset)
	if err != nil {
		return err
	}
	if a.Version != now.Version+1 {
		return errOutOfOrder("allotment")
	}
	b.note("allotment", a.Consumer+"/"+a.Dataset, a.Version)
	return save(b.tx, allotmentKey(a.Consumer, a.Dataset), a)
}

func errOutOfOrder(of string) error {
	return fmt.Errorf("the versions of a %s count up by one", of)
}
