package office

import (
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// MaxGrounds is how many blocks an officer is shown of a request: as many as a query may touch.
const MaxGrounds = 400

// Grounds are what a request is decided on: how the accounts stand that a grant would be spent from, all at one moment.
type Grounds struct {
	Request   dp.BudgetRequest
	Allotment dp.Allotment // that stands; its Version is 0 where there is none
	Cap       dp.Budget    // of the dataset
	Default   dp.Budget    // of a question that names no price
	// Blocks are those that have rows, that the consumer was charged for, or that the named question touches: the
	// newest MaxGrounds of them, in order.
	Blocks []BlockGrounds
}

// BlockGrounds are the two accounts of one block.
type BlockGrounds struct {
	Block    string
	Spent    dp.Loss // by the consumer, with what was written off
	CapSpent dp.Loss // by all consumers, likewise
}

// Outlook is what a grant would allow.
type Outlook struct {
	Blocks []BlockOutlook
	// Fresh is of a block for which nobody was charged.
	Fresh BlockOutlook
	// Similar is how many questions like the named one could be asked, one after the other, as far as this dataset's
	// accounts go; without a named one, questions at the default price about the block with least room.
	Similar int64
}

// BlockOutlook is what a grant would allow on one block.
type BlockOutlook struct {
	Block  string
	Before dp.Epsilon // largest charge that is admitted now
	After  dp.Epsilon // and after the grant: no more than Cap
	Cap    dp.Epsilon // that the cap admits, whatever the allotment
	// Similar is how many charges like that of the named question on this block, or else of the default price, both
	// accounts would admit; 0 also where the grant would allow none of them at a time. It is -1 where the question does
	// not touch the block.
	Similar int64
}

// maxSimilar is where counting further charges of a kind ends.
const maxSimilar = 1_000_000

// Outlook is what the terms would allow. It judges as charges are judged (accounting.Admit): by the allotment as it would
// be and by the cap as it is, of which others may have spent.
func (g Grounds) Outlook(t dp.Terms) Outlook {
	price := g.price()
	o := Outlook{Similar: -1, Fresh: g.outlook(t, BlockGrounds{}, price)}
	fewer := func(n int64) {
		if n >= 0 && (o.Similar < 0 || n < o.Similar) {
			o.Similar = n
		}
	}
	for _, b := range g.Blocks {
		block := g.outlook(t, b, price)
		o.Blocks = append(o.Blocks, block)
		fewer(block.Similar)
	}
	if o.Similar < 0 { // there are no blocks, or none that the question touches
		o.Similar = max(o.Fresh.Similar, 0)
	}
	return o
}

// price gives what the named question costs each block, or the default price of all of them.
func (g Grounds) price() func(block string) (dp.Loss, bool) {
	// With Laplace noise, which costs no delta: the dearest that a question of this epsilon can be in the first certificate.
	usual := dp.Loss{Epsilon: g.Default.Epsilon, Rho: accounting.PureRho(g.Default.Epsilon)}
	if g.Request.Query == nil {
		return func(string) (dp.Loss, bool) { return usual, usual.Epsilon > 0 }
	}
	of := map[string]dp.Loss{}
	var most dp.Loss
	for _, part := range g.Request.Query.Price {
		for _, block := range part.Blocks {
			of[block] = part.Loss
		}
		if part.Loss.Epsilon > most.Epsilon {
			most = part.Loss
		}
	}
	return func(block string) (dp.Loss, bool) {
		if block == "" { // a fresh one
			return most, most.Epsilon > 0
		}
		loss, touched := of[block]
		return loss, touched
	}
}

func (g Grounds) outlook(t dp.Terms, b BlockGrounds, price func(string) (dp.Loss, bool)) BlockOutlook {
	o := BlockOutlook{Block: b.Block, Cap: accounting.Room(g.Cap, b.CapSpent), Similar: -1}
	o.Before = min(o.Cap, accounting.Room(g.Allotment.Budget, b.Spent))
	o.After = min(o.Cap, accounting.Room(t.Budget, b.Spent))
	loss, priced := price(b.Block)
	if !priced {
		return o
	}
	if most := t.MaxEpsilonPerQuery; most > 0 && loss.Epsilon > most {
		o.Similar = 0
		return o
	}
	o.Similar = accounting.Similar(t.Budget, b.Spent, loss, maxSimilar)
	o.Similar = accounting.Similar(g.Cap, b.CapSpent, loss, o.Similar)
	return o
}
