package ledger

import (
	"context"
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// account is one that a charge touches, under the budget in force.
type account struct {
	key     []byte
	owner   string // consumer; empty for a cap
	dataset string
	block   string
	budget  dp.Budget
	base    dp.Loss // written off
	loss    dp.Loss // that the charge is to this account
	before  accountRecord
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

func (a account) name() string { return accountName(a.owner, a.dataset, a.block) }

func accountName(owner, dataset, block string) string {
	if owner == "" {
		return "cap/" + dataset + "/" + block
	}
	return "allotment/" + dataset + "/" + block
}

// standing is what decides whether an account admits a charge.
type standing struct {
	budget dp.Budget
	spent  dp.Loss
	loss   dp.Loss
}

func (a account) standing() standing { return standing{a.budget, a.spent(), a.loss} }

// refusing are the accounts that do not admit what the charge is to them. Many accounts stand alike, since most
// queries touch the same blocks; each standing is judged once.
func refusing(accounts []account) (list []account) {
	judged := map[standing]bool{}
	for _, a := range accounts {
		s := a.standing()
		admits, known := judged[s]
		if !known {
			admits = accounting.Admit(s.budget, s.spent, s.loss)
			judged[s] = admits
		}
		if !admits {
			list = append(list, a)
		}
	}
	return list
}

// spend adds to every account what the charge is to it.
func spend(t *tx, accounts []account) error {
	for i := range accounts {
		a := &accounts[i]
		after := accountRecord{Spent: accounting.Add(a.before.Spent, a.loss), Charges: a.before.Charges + 1}
		if err := saveAccount(t, a.key, a.before, after); err != nil {
			return err
		}
		if a.before.Charges == 0 && a.owner != "" {
			t.put(accountOfKey(a.owner, a.dataset, a.block), []byte{recordVersion})
		}
		a.before = after
	}
	return nil
}

// maxSimilar is where counting further charges of a kind ends.
const maxSimilar = 1_000_000

// leastRoom is the account with least room; of several, the first. There is at least one.
func leastRoom(accounts []account) (least account, room dp.Epsilon) {
	rooms := map[standing]dp.Epsilon{}
	for i, a := range accounts {
		s := standing{budget: a.budget, spent: a.spent()}
		r, ok := rooms[s]
		if !ok {
			r = accounting.Room(s.budget, s.spent)
			rooms[s] = r
		}
		if i == 0 || r < room {
			least, room = a, r
		}
	}
	return least, room
}

// left describes the account with least room, and how many more such charges all accounts admit.
func left(accounts []account) dp.Left {
	if len(accounts) == 0 {
		return dp.Left{}
	}
	least, room := leastRoom(accounts)
	return dp.Left{
		Account:        least.name(),
		Epsilon:        room,
		Share:          room.ShareOf(least.budget.Epsilon),
		SimilarQueries: fewestSimilar(accounts),
	}
}

// fewestSimilar is how many more charges of its loss every account admits.
func fewestSimilar(accounts []account) int64 {
	fewest := int64(maxSimilar)
	counted := map[standing]bool{}
	for _, a := range accounts {
		s := a.standing()
		if counted[s] {
			continue
		}
		counted[s] = true
		fewest = accounting.Similar(s.budget, s.spent, s.loss, fewest)
	}
	return fewest
}

// Left implements answer.Ledger.
func (l *Ledger) Left(ctx context.Context, consumer, dataset string, blocks []string, loss dp.Loss, also ...dp.Touched) (dp.Left, error) {
	parts := withParts(dp.Touched{Dataset: dataset, Blocks: blocks, Loss: loss}, also)
	var accounts []account
	err := l.read(ctx, func(v view) error {
		ceilings, err := ceilingsOf(v, consumer, parts)
		if err != nil {
			return err
		}
		accounts, err = touch(v, parts, ceilings, true)
		return err
	})
	if err != nil {
		return dp.Left{}, err
	}
	return left(accounts), nil
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
