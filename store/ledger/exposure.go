package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// mostExposed is how many charges one statement of the worst case adds up: they are held together, about 1 KB each.
const mostExposed = 1 << 19

// Exposure reads what the worst case of a dataset follows from, as it stood at one moment. Datasets are linked with each other
// whose policies, in any version, let rows be joined.
//
// Errors: CodeNotFound; CodeTooLarge where there are more charges than are added up at once.
func (l *Ledger) Exposure(ctx context.Context, dataset string) (b exposure.Book, err error) {
	b.At = l.clock().UTC()
	b.Policies = map[exposure.PolicyVersion]dp.VersionedPolicy{}
	err = l.read(ctx, func(v view) error {
		r := exposureReader{view: v, ctx: ctx, book: &b}
		if err := r.datasets(dataset); err != nil {
			return err
		}
		if err := r.charges(); err != nil {
			return fmt.Errorf("reading charges: %w", err)
		}
		if err := r.accounts(); err != nil {
			return fmt.Errorf("reading accounts: %w", err)
		}
		return nil
	})
	return b, err
}

type exposureReader struct {
	view
	ctx     context.Context
	book    *exposure.Book
	blocks  map[string]map[string]bool // of each dataset: loaded or charged
	owners  map[string]map[string]bool // of each dataset: consumers with an allotment or a charge
	records map[string]datasetRecord
}

// datasets reads the dataset, those linked with it, and their allotments.
func (r *exposureReader) datasets(name string) error {
	r.blocks, r.owners, r.records = map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]datasetRecord{}
	type found struct {
		exposure.Dataset
		linked bool
	}
	all := map[string]found{}
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
		return true, nil
	})
	if err != nil {
		return err
	}
	first, ok := all[name]
	if !ok {
		return errNoDataset()
	}
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
	if err := r.allotments(); err != nil {
		return err
	}
	return r.lost()
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

// allotments reads those on the datasets. What one was before it changed is in the chain alone, which is read if any did.
func (r *exposureReader) allotments() error {
	changed := false
	err := r.walk([]byte{kindAllotment}, nil, ascending, func(_, value []byte) (bool, error) {
		a, err := decode[dp.Allotment](value)
		if err != nil {
			return false, err
		}
		if d := r.dataset(a.Dataset); d != nil {
			d.Allotments = append(d.Allotments, exposure.Allotment{Allotment: a, Largest: a.Budget})
			r.owners[a.Dataset][a.Consumer] = true
			changed = changed || a.Version > 1
		}
		return true, nil
	})
	if err != nil || !changed {
		return err
	}
	return r.walk([]byte{kindEntry}, nil, ascending, func(_, value []byte) (bool, error) {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		e, err := decodeEntry(value)
		if err != nil {
			return false, err
		}
		for _, w := range e.writes {
			if w.key[0] != kindAllotment || w.op != opValue {
				continue
			}
			a, err := decode[dp.Allotment](w.value)
			if err != nil {
				return false, err
			}
			if d := r.dataset(a.Dataset); d != nil {
				for i := range d.Allotments {
					if of := &d.Allotments[i]; of.Consumer == a.Consumer {
						of.Largest = exposure.Larger(of.Largest, a.Budget)
					}
				}
			}
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

// charges reads every charge that touches any of the datasets.
func (r *exposureReader) charges() error {
	return r.walk([]byte{kindCharge}, nil, ascending, func(_, value []byte) (bool, error) {
		if err := r.ctx.Err(); err != nil {
			return false, err
		}
		c, err := decode[chargeRecord](value)
		if err != nil {
			return false, err
		}
		parts, blocks := c.parts(), 0
		ours := false
		for _, p := range parts {
			blocks += len(p.Blocks)
			if r.dataset(p.Dataset) == nil {
				continue
			}
			ours = true
			r.owners[p.Dataset][c.Charge.Consumer] = true
			for _, b := range p.Blocks {
				r.blocks[p.Dataset][b] = true
			}
		}
		if !ours {
			return true, nil
		}
		if len(r.book.Charges) == mostExposed {
			return false, refuse(dp.CodeTooLarge, "there are more charges than are added up at once: read the accounts of single blocks")
		}
		charge := exposure.Charge{Consumer: c.Charge.Consumer, Caps: c.Source == "", At: c.Charge.At, Parts: parts}
		if blocks > 1 && c.Release != "" {
			if charge.Release, err = r.release(c.Release); err != nil {
				return false, err
			}
		}
		r.book.Charges = append(r.book.Charges, charge)
		return true, nil
	})
}

// release reads how a release was drawn, and the policies that it was drawn under.
func (r *exposureReader) release(id string) (*dp.Release, error) {
	record, err := mustLoad[releaseRecord](r.view, releaseKey(id))
	if err != nil {
		return nil, err
	}
	of := &record.Summary
	named := []exposure.PolicyVersion{{Dataset: of.Dataset, Version: of.PolicyVersion}}
	for _, also := range of.Also {
		named = append(named, exposure.PolicyVersion{Dataset: also.Dataset, Version: also.PolicyVersion})
	}
	for _, n := range named {
		if _, known := r.book.Policies[n]; known {
			continue
		}
		if r.book.Policies[n], err = mustLoad[dp.VersionedPolicy](r.view, policyKey(n.Dataset, n.Version)); err != nil {
			return nil, err
		}
	}
	return of, nil
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
