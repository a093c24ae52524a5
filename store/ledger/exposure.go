package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// Exposure reads what the worst case of a dataset follows from, as it stood at one moment. Datasets are linked with each other
// whose policies, in any version, let rows be joined. The first call reads all entries of the ledger, each later one those that
// came since; what a call that was cut short has read, the next one need not.
//
// Errors: CodeNotFound.
func (l *Ledger) Exposure(ctx context.Context, dataset string) (b exposure.Book, err error) {
	release, err := l.exposed.hold(ctx)
	if err != nil {
		return b, err
	}
	defer release()
	err = l.read(ctx, func(v view) (err error) {
		b, err = exposureOf(ctx, v, &l.exposed, l.clock().UTC(), dataset)
		return err
	})
	return b, err
}

// exposureOf reads it at a moment that is no earlier than what was seen.
func exposureOf(ctx context.Context, v view, seen *exposed, at time.Time, dataset string) (b exposure.Book, err error) {
	b.At = at
	r := exposureReader{view: v, ctx: ctx, book: &b, seen: seen}
	if err := r.datasets(dataset); err != nil {
		return b, err
	}
	if err := r.charges(); err != nil {
		return b, fmt.Errorf("reading charges: %w", err)
	}
	if err := r.allotments(); err != nil {
		return b, fmt.Errorf("reading allotments: %w", err)
	}
	if err := r.lost(); err != nil {
		return b, fmt.Errorf("reading write-offs: %w", err)
	}
	if err := r.accounts(); err != nil {
		return b, fmt.Errorf("reading accounts: %w", err)
	}
	return b, nil
}

type exposureReader struct {
	view
	ctx     context.Context
	book    *exposure.Book
	seen    *exposed
	blocks  map[string]map[string]bool // of each dataset: loaded or charged
	owners  map[string]map[string]bool // of each dataset: consumers with an allotment or a charge
	records map[string]datasetRecord
}

// datasets reads the dataset, those linked with it, and which of all are linked with each other.
func (r *exposureReader) datasets(name string) error {
	r.blocks, r.owners, r.records = map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]datasetRecord{}
	type found struct {
		exposure.Dataset
		linked bool
	}
	all := map[string]found{}
	var linked []string
	err := r.walk([]byte{kindDataset}, nil, ascending, func(key, value []byte) (bool, error) {
		dataset := partsOf(key)[0]
		record, err := decode[datasetRecord](value)
		if err != nil {
			return false, err
		}
		var d found
		for version := uint64(1); version <= record.PolicyVersion; version++ {
			if d.Policy, err = mustLoad[dp.VersionedPolicy](r.view, policyKey(dataset, version)); err != nil {
				return false, err
			}
			d.Largest = exposure.Larger(d.Largest, d.Policy.Cap)
			d.linked = d.linked || d.Policy.Link != nil
		}
		all[dataset], r.records[dataset] = d, record
		if d.linked {
			linked = append(linked, dataset)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	first, ok := all[name]
	if !ok {
		return errNoDataset()
	}
	r.seen.of(linked)
	r.book.Datasets = append(r.book.Datasets, first.Dataset)
	for _, other := range slices.Sorted(maps.Keys(all)) {
		if first.linked && all[other].linked && other != name {
			r.book.Datasets = append(r.book.Datasets, all[other].Dataset)
		}
	}
	for _, d := range r.book.Datasets {
		r.blocks[d.Policy.Name], r.owners[d.Policy.Name] = map[string]bool{}, map[string]bool{}
		err := r.walk(makeKey(kindBlock, d.Policy.Name), nil, ascending, func(key, _ []byte) (bool, error) {
			r.blocks[d.Policy.Name][partsOf(key)[1]] = true
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lost takes into account that a budget may have been higher in what was written off: the officer who wrote it off gave the
// amount.
func (r *exposureReader) lost() error {
	return r.walk([]byte{kindWriteOff}, nil, ascending, func(_, value []byte) (bool, error) {
		w, err := decode[writeOffRecord](value)
		if err != nil {
			return false, err
		}
		for i := range r.book.Datasets {
			d := &r.book.Datasets[i]
			d.Largest = exposure.Larger(d.Largest, w.Amount)
			for j := range d.Allotments {
				d.Allotments[j].Largest = exposure.Larger(d.Allotments[j].Largest, w.Amount)
			}
		}
		return true, nil
	})
}

// allotments reads those on the datasets, and the largest that each ever was.
func (r *exposureReader) allotments() error {
	return r.walk([]byte{kindAllotment}, nil, ascending, func(_, value []byte) (bool, error) {
		a, err := decode[dp.Allotment](value)
		if err != nil {
			return false, err
		}
		if d := r.dataset(a.Dataset); d != nil {
			consumer, _, err := load[dp.Consumer](r.view, consumerKey(a.Consumer))
			if err != nil {
				return false, err
			}
			largest := exposure.Larger(a.Budget, r.seen.largest[allotted{a.Consumer, a.Dataset}])
			d.Allotments = append(d.Allotments, exposure.Allotment{Allotment: a, Largest: largest, Suspended: consumer.Suspended})
			r.owners[a.Dataset][a.Consumer] = true
		}
		return true, nil
	})
}

func (r *exposureReader) dataset(name string) *exposure.Dataset {
	for i := range r.book.Datasets {
		if r.book.Datasets[i].Policy.Name == name {
			return &r.book.Datasets[i]
		}
	}
	return nil
}

// charges adds up every charge that touches any of the datasets.
func (r *exposureReader) charges() error {
	if err := r.seen.catchUp(r.ctx, r.view); err != nil {
		return err
	}
	open, err := r.seen.unsettled(r.ctx, r.view)
	if err != nil {
		return err
	}
	names := make([]string, len(r.book.Datasets))
	for i, d := range r.book.Datasets {
		names[i] = d.Policy.Name
	}
	r.book.Settled = r.seen.sums.Of(names)
	touch := func(dataset, block, consumer string) {
		if r.dataset(dataset) != nil {
			r.blocks[dataset][block] = true
			if consumer != "" {
				r.owners[dataset][consumer] = true
			}
		}
	}
	r.book.Settled.Touched(touch)
	for _, c := range open {
		ours := false
		for _, p := range c.Parts {
			ours = ours || r.dataset(p.Dataset) != nil
			for _, b := range p.Blocks {
				touch(p.Dataset, b, c.Consumer)
			}
		}
		if ours {
			r.book.Charges = append(r.book.Charges, c)
		}
	}
	return nil
}

// accounts reads what is spent of every block, by everybody.
func (r *exposureReader) accounts() error {
	for i := range r.book.Datasets {
		d := &r.book.Datasets[i]
		name := d.Policy.Name
		d.Blocks = slices.Sorted(maps.Keys(r.blocks[name]))
		budgets := map[string]dp.Budget{"": d.Policy.Cap}
		for _, a := range d.Allotments {
			budgets[a.Consumer] = a.Budget
		}
		slices.SortFunc(d.Allotments, func(a, b exposure.Allotment) int { return strings.Compare(a.Consumer, b.Consumer) })
		owners := append([]string{""}, slices.Sorted(maps.Keys(r.owners[name]))...)
		for _, block := range d.Blocks {
			for _, owner := range owners {
				record, err := loadAccount(r.view, accountKey(name, block, owner))
				if err != nil {
					return err
				}
				spent := accounting.Add(r.records[name].writtenOff(block, owner == ""), record.Spent)
				if spent == (dp.Loss{}) {
					continue
				}
				d.Accounts = append(d.Accounts, dp.Account{Name: accountName(owner, name, block), Consumer: owner, Dataset: name, Block: block,
					Budget: budgets[owner], Spent: spent})
			}
		}
	}
	return nil
}
