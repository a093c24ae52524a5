package faults

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"reflect"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// model is what anybody was told, which must stay true for ever.
type model struct {
	asked   []question               // under a key
	charges map[string]dp.Charge     // acknowledged
	byKey   map[string]string        // asker/key -> charge
	entries map[string]dp.Entry      // as the ledger listed them last
	shown   map[string]dp.Release    // release -> what was read first
	answers map[string]answer.Answer // asker/key -> what was answered first

	sent     []batch             // under a key
	reports  map[string]reported // acknowledged
	reportOf map[string]string   // asker/key -> report
	keys     map[string][]string // report -> keys of its questions
	shapes   map[string]int      // of reports' questions
}

func newModel() model {
	return model{charges: map[string]dp.Charge{}, byKey: map[string]string{}, entries: map[string]dp.Entry{}, shown: map[string]dp.Release{}, answers: map[string]answer.Answer{},
		reports: map[string]reported{}, reportOf: map[string]string{}, keys: map[string][]string{}, shapes: map[string]int{}}
}

// charged is told of a charge that the ledger acknowledged.
func (m *model) charged(r answer.ChargeRequest, c answer.Charged) error {
	if earlier, ok := m.charges[c.Charge.ID]; ok && !reflect.DeepEqual(earlier, c.Charge) {
		return fmt.Errorf("charge %s was %+v and is %+v", c.Charge.ID, earlier, c.Charge)
	}
	m.charges[c.Charge.ID] = c.Charge
	if r.Key == "" {
		return nil
	}
	name := r.Consumer + "/" + r.Key
	if earlier, ok := m.byKey[name]; ok && earlier != c.Charge.ID {
		return fmt.Errorf("%s was charged as %s, and then as %s", name, earlier, c.Charge.ID)
	}
	m.byKey[name] = c.Charge.ID
	return nil
}

// answered is told of an answer that a caller got.
func (m *model) answered(q question, a answer.Answer) error {
	if a.Release.ID == "" || len(a.Release.Groups) == 0 {
		return errors.New("an answer without a release")
	}
	if earlier, ok := m.shown[a.Release.ID]; ok && !reflect.DeepEqual(earlier.Groups, a.Release.Groups) {
		return fmt.Errorf("release %s changed", a.Release.ID)
	}
	m.shown[a.Release.ID] = a.Release
	if q.key == "" || a.Reused && a.Charge.Loss == (dp.Loss{}) {
		return nil // reading again what the asker holds is free and binds no key: it is no outcome of a charge
	}
	name := q.asker + "/" + q.key
	if charge, ok := m.byKey[name]; ok && charge != a.Charge.ID {
		return fmt.Errorf("%s was charged as %s, and answered by %s", name, charge, a.Charge.ID)
	}
	if earlier, ok := m.answers[name]; ok && m.byKey[name] != "" && earlier.Release.ID != a.Release.ID {
		return fmt.Errorf("%s was answered by %s, and then by %s", name, earlier.Release.ID, a.Release.ID)
	}
	m.answers[name] = a
	return nil
}

// compare holds the ledger to what was told and to exact sums.
func (m *model) compare(l *ledger.Ledger) error {
	ctx := context.Background()
	sums := map[string]*[4]big.Int{}
	add := func(account string, loss dp.Loss) {
		s := sums[account]
		if s == nil {
			s = new([4]big.Int)
			sums[account] = s
		}
		for i, part := range parts(loss) {
			s[i].Add(&s[i], part)
		}
	}
	seen := map[string]dp.Entry{}
	touches := map[string]bool{} // dataset/charge
	for _, name := range names {
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := l.Entries(ctx, name, "", cursor, 0)
			if err != nil {
				return err
			}
			cursor = next
			for _, e := range page {
				if _, twice := seen[e.ID]; twice {
					return fmt.Errorf("charge %s is listed twice", e.ID)
				}
				seen[e.ID] = e
				for _, p := range partsOf(e.Dataset, e.Blocks, e.Loss, e.Also) {
					touches[p.Dataset+"/"+e.ID] = true
					for _, block := range p.Blocks {
						add(p.Dataset+"/"+name+"/"+block, p.Loss)
						if e.CapLoss != (dp.Loss{}) {
							add(p.Dataset+"//"+block, p.Loss)
						}
					}
				}
			}
		}
		for _, dataset := range []string{shop, bank} {
			page, _, err := l.Entries(ctx, name, dataset, "", 0)
			if err != nil {
				return err
			}
			for _, e := range page {
				if !touches[dataset+"/"+e.ID] {
					return fmt.Errorf("charge %s is listed for %s, which it does not touch, or twice", e.ID, dataset)
				}
				delete(touches, dataset+"/"+e.ID)
			}
		}
	}
	for _, of := range sorted(touches) {
		return fmt.Errorf("%s is missing among the charges of its dataset", of)
	}
	for _, id := range sorted(m.charges) {
		e, ok := seen[id]
		if !ok {
			return fmt.Errorf("charge %s was acknowledged and is gone", id)
		}
		if !reflect.DeepEqual(e.Charge, m.charges[id]) {
			return fmt.Errorf("charge %s was %+v and is %+v", id, m.charges[id], e.Charge)
		}
	}
	for _, id := range sorted(m.entries) {
		before, now := m.entries[id], seen[id]
		if now.ID == "" && m.charges[id].ID == "" {
			continue // nobody was told of it, and the process that wrote it died
		}
		if before.Release != "" && now.Release != before.Release || before.Failure != "" && now.Failure != before.Failure {
			return fmt.Errorf("the outcome of charge %s was %s%s and is %s%s", id, before.Release, before.Failure, now.Release, now.Failure)
		}
		if now.Attempts < before.Attempts || now.Attempts > 3 {
			return fmt.Errorf("charge %s had %d attempts and has %d", id, before.Attempts, now.Attempts)
		}
	}
	m.entries = seen
	if err := m.compareReports(l, seen); err != nil {
		return err
	}
	var accounts []dp.Account
	for _, dataset := range []string{shop, bank} {
		list, _, err := l.DatasetAccounts(ctx, dataset, "", 0)
		if err != nil {
			return err
		}
		accounts = append(accounts, list...)
	}
	for _, a := range accounts {
		account := a.Dataset + "/" + a.Consumer + "/" + a.Block
		sum := sums[account]
		if sum == nil {
			return fmt.Errorf("account %s of %s spent without a charge", a.Name, a.Consumer)
		}
		for i, part := range parts(a.Spent) {
			if part.Cmp(&sum[i]) != 0 {
				return fmt.Errorf("account %s of %s spent %+v, its charges are %v", a.Name, a.Consumer, a.Spent, sum)
			}
		}
		delete(sums, account)
	}
	for _, account := range sorted(sums) {
		return fmt.Errorf("the charges of account %s are in no account", account)
	}
	return nil
}

// parts are the integers of a loss.
func parts(l dp.Loss) [4]*big.Int {
	return [4]*big.Int{big.NewInt(int64(l.Epsilon)), big.NewInt(int64(l.Delta)), big.NewInt(int64(l.Rho)), big.NewInt(int64(l.DeltaZ))}
}
