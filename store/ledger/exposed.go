package ledger

import (
	"context"
	"maps"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// exposed remembers what the entries up to one of them say of charges and allotments, so that the worst case is added up from
// those that came since. It is what the ledger holds, read once: nothing is kept that is not there, and an opened ledger
// begins with nothing. Whoever uses it holds it.
type exposed struct {
	held    chan struct{} // has room for one
	entries *entrySeal    // opens entries

	linked   []string // datasets that were summed as linked with each other
	length   uint64   // entries that were read
	sums     *exposure.Sums
	open     map[string]bool // charges without an outcome, by id
	largest  map[allotted]dp.Budget
	policies map[exposure.PolicyVersion]dp.VersionedPolicy
}

// allotted names an allotment.
type allotted struct{ consumer, dataset string }

func newExposed() exposed { return exposed{held: make(chan struct{}, 1)} }

// hold waits until nobody else uses what is remembered. Whoever reads a later moment finds no more than it sees.
func (e *exposed) hold(ctx context.Context) (release func(), err error) {
	select {
	case e.held <- struct{}{}:
		return func() { <-e.held }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// of begins anew where other datasets are linked with each other than were: what was added up was so for those.
func (e *exposed) of(linked []string) {
	if e.sums != nil && slices.Equal(e.linked, linked) {
		return
	}
	e.linked, e.length, e.sums = linked, 0, exposure.NewSums(linked)
	e.open, e.largest = map[string]bool{}, map[allotted]dp.Budget{}
	e.policies = map[exposure.PolicyVersion]dp.VersionedPolicy{}
}

// catchUp reads the entries that came since. It stops between two of them, with all before remembered.
func (e *exposed) catchUp(ctx context.Context, v view) error {
	return v.walk([]byte{kindEntry}, entryKey(e.length+1), ascending, func(key, value []byte) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		value, err := e.entries.open(numberOf(key), value)
		if err != nil {
			return false, err
		}
		entry, err := decodeEntry(value)
		if err != nil {
			return false, err
		}
		if err := e.take(v, entry); err != nil {
			return false, err
		}
		e.length = entry.number
		return true, nil
	})
}

// take adds what an entry wrote, all of it or nothing.
func (e *exposed) take(v view, entry chainEntry) error {
	settled := []exposure.Charge{}
	open := map[string]bool{}
	largest := map[allotted]dp.Budget{}
	for _, w := range entry.writes {
		if w.op != opValue {
			continue
		}
		switch w.key[0] {
		case kindAllotment:
			a, err := decode[dp.Allotment](w.value)
			if err != nil {
				return err
			}
			largest[allotted{a.Consumer, a.Dataset}] = a.Budget
		case kindChargeOf: // which is written once, where there is a charge
			c, ended, err := e.charge(v, string(w.value))
			if err != nil {
				return err
			}
			if ended {
				settled = append(settled, c)
			} else {
				open[string(w.value)] = true
			}
		}
	}
	for _, c := range settled {
		e.sums.Add(c, e.policies)
	}
	maps.Copy(e.open, open)
	for of, budget := range largest {
		e.largest[of] = exposure.Larger(e.largest[of], budget)
	}
	return nil
}

// unsettled are the charges that have no outcome yet. Those that have one by now are added to the others.
func (e *exposed) unsettled(ctx context.Context, v view) (list []exposure.Charge, err error) {
	for _, id := range slices.Sorted(maps.Keys(e.open)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, ended, err := e.charge(v, id)
		if err != nil {
			return nil, err
		}
		if !ended {
			list = append(list, c)
			continue
		}
		e.sums.Add(c, e.policies)
		delete(e.open, id)
	}
	return list, nil
}

// charge reads a charge as it stands, and how what it bought was drawn. One that has ended changes no more.
func (e *exposed) charge(v view, id string) (c exposure.Charge, ended bool, err error) {
	record, err := mustLoad[chargeRecord](v, chargeKey(id))
	if err != nil {
		return c, false, err
	}
	c = exposure.Charge{Consumer: record.Charge.Consumer, Caps: record.Source == "", At: record.Charge.At, Parts: record.parts()}
	blocks := 0
	for _, p := range c.Parts {
		blocks += len(p.Blocks)
	}
	if blocks > 1 && record.Release != "" {
		if c.Release, err = e.release(v, record.Release); err != nil {
			return c, false, err
		}
	}
	return c, record.ended(), nil
}

// release reads how a release was drawn, and the policies that it was drawn under.
func (e *exposed) release(v view, id string) (*dp.Release, error) {
	record, err := mustLoad[releaseRecord](v, releaseKey(id))
	if err != nil {
		return nil, err
	}
	of := &record.Summary
	named := []exposure.PolicyVersion{{Dataset: of.Dataset, Version: of.PolicyVersion}}
	for _, also := range of.Also {
		named = append(named, exposure.PolicyVersion{Dataset: also.Dataset, Version: also.PolicyVersion})
	}
	for _, n := range named {
		if _, known := e.policies[n]; known {
			continue
		}
		if e.policies[n], err = mustLoad[dp.VersionedPolicy](v, policyKey(n.Dataset, n.Version)); err != nil {
			return nil, err
		}
	}
	return of, nil
}
