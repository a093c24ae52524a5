package ledger

import (
	"context"
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// account is one that a charge touches, under the budget in force.
type account struct {
	key    []byte
	owner  string // consumer; empty for a cap
	block  string
	budget dp.Budget
	base   dp.Loss // written off
	before accountRecord
}

// spent is all that counts against the budget.
func (a account) spent() dp.Loss { return accounting.Add(a.base, a.before.Spent) }

// writtenOff is what was written off in an account of a block, of a cap or else of an allotment. An account
// that was never charged has it too: what it was charged may be what was lost.
func (d datasetRecord) writtenOff(block string, ofCap bool) dp.Loss {
	var sum dp.Loss
	for _, w := range d.WrittenOff {
		switch {
		case !reaches(w.Through, block):
		case ofCap:
			sum = accounting.Add(sum, w.Cap)
		default:
			sum = accounting.Add(sum, w.Allotments)
		}
	}
	return sum
}

func (a account) name(dataset string) string { return accountName(a.owner, dataset, a.block) }

func accountName(owner, dataset, block string) string {
	if owner == "" {
		return "cap/" + dataset + "/" + block
	}
	return "allotment/" + dataset + "/" + block
}

// touch reads every account that a charge over the blocks touches: of each block the allotment and, where
// withCaps, the cap.
func touch(r reader, d datasetRecord, allotment dp.Allotment, blocks []string, withCaps bool) ([]account, error) {
	var accounts []account
	for _, block := range blocks {
		accounts = append(accounts, account{owner: allotment.Consumer, block: block, budget: allotment.Budget})
		if withCaps {
			accounts = append(accounts, account{block: block, budget: d.Cap})
		}
	}
	for i := range accounts {
		a := &accounts[i]
		a.key = accountKey(allotment.Dataset, a.block, a.owner)
		a.base = d.writtenOff(a.block, a.owner == "")
		var err error
		if a.before, err = loadAccount(r, a.key); err != nil {
			return nil, fmt.Errorf("reading an account: %w", err)
		}
	}
	return accounts, nil
}

// standing is what decides whether an account admits a charge.
type standing struct {
	budget dp.Budget
	spent  dp.Loss
}

// admitted tells whether every account admits the loss. Many accounts stand alike, since most queries touch
// the same blocks; each standing is judged once.
func admitted(accounts []account, loss dp.Loss) bool {
	judged := map[standing]bool{}
	for _, a := range accounts {
		s := standing{a.budget, a.spent()}
		if judged[s] {
			continue
		}
		if !accounting.Admit(s.budget, s.spent, loss) {
			return false
		}
		judged[s] = true
	}
	return true
}

// spend adds the loss to every account.
func spend(t *tx, dataset string, accounts []account, loss dp.Loss) error {
	for i := range accounts {
		a := &accounts[i]
		after := accountRecord{Spent: accounting.Add(a.before.Spent, loss), Charges: a.before.Charges + 1}
		if err := saveAccount(t, a.key, a.before, after); err != nil {
			return err
		}
		if a.before.Charges == 0 && a.owner != "" {
			t.put(accountOfKey(a.owner, dataset, a.block), []byte{recordVersion})
		}
		a.before = after
	}
	return nil
}

// maxSimilar is where counting further charges of a kind ends.
const maxSimilar = 1_000_000

// left describes the account with least room; of several, the first.
func left(dataset string, accounts []account, loss dp.Loss) dp.Left {
	rooms := map[standing]dp.Epsilon{}
	least := -1
	var room dp.Epsilon
	for i, a := range accounts {
		s := standing{a.budget, a.spent()}
		r, ok := rooms[s]
		if !ok {
			r = accounting.Room(s.budget, s.spent)
			rooms[s] = r
		}
		if least < 0 || r < room {
			least, room = i, r
		}
	}
	if least < 0 {
		return dp.Left{}
	}
	a := accounts[least]
	return dp.Left{
		Account:        a.name(dataset),
		Epsilon:        room,
		Share:          room.ShareOf(a.budget.Epsilon),
		SimilarQueries: fewestSimilar(accounts, loss),
	}
}

// fewestSimilar is how many more charges of the loss every account admits.
func fewestSimilar(accounts []account, loss dp.Loss) int64 {
	fewest := int64(maxSimilar)
	counted := map[standing]bool{}
	for _, a := range accounts {
		s := standing{a.budget, a.spent()}
		if counted[s] {
			continue
		}
		counted[s] = true
		fewest = accounting.Similar(s.budget, s.spent, loss, fewest)
	}
	return fewest
}

// Left implements answer.Ledger.
func (l *Ledger) Left(ctx context.Context, consumer, dataset string, blocks []string, loss dp.Loss, also ...dp.Touched) (dp.Left, error) {
	var accounts []account
	err := l.read(ctx, func(v view) error {
		d, found, err := load[datasetRecord](v, datasetKey(dataset))
		if err != nil {
			return err
		}
		if !found {
			return errNoDataset()
		}
		allotment, err := allotmentOf(v, consumer, dataset)
		if err != nil {
			return err
		}
		accounts, err = touch(v, d, allotment, blocks, true)
		return err
	})
	if err != nil {
		return dp.Left{}, err
	}
	return left(dataset, accounts, loss), nil
}

// Allotment implements answer.Ledger.
func (l *Ledger) Allotment(ctx context.Context, consumer, dataset string) (a dp.Allotment, err error) {
	err = l.read(ctx, func(v view) error {
		a, err = allotmentOf(v, consumer, dataset)
		return err
	})
	return a, err
}

// allotmentOf reads an allotment; without one, it is a zero budget.
func allotmentOf(r reader, consumer, dataset string) (dp.Allotment, error) {
	a, found, err := load[dp.Allotment](r, allotmentKey(consumer, dataset))
	if err != nil {
		return dp.Allotment{}, fmt.Errorf("reading an allotment: %w", err)
	}
	if !found {
		a = dp.Allotment{Consumer: consumer, Dataset: dataset}
	}
	return a, nil
}
