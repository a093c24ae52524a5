package exposure

import (
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// Change is what is asked about: other budgets than those in force.
type Change struct {
	Cap        *dp.Budget // nil: as it is
	Allotments []AllotmentChange
}

// AllotmentChange gives a consumer an allotment, changes it, or takes it away.
type AllotmentChange struct {
	Consumer string
	Budget   *dp.Budget // nil: none
}

// Under is the book as if a change of the first dataset's budgets had been made. What was promised before stays promised, so
// that the largest ever in force only grows; what was spent stays spent.
func (b Book) Under(c Change) Book {
	b.Datasets = slices.Clone(b.Datasets)
	d := b.Datasets[0]
	d.Accounts, d.Allotments = slices.Clone(d.Accounts), slices.Clone(d.Allotments)
	if c.Cap != nil {
		d.Policy.Cap = *c.Cap
		d.Largest = Larger(d.Largest, *c.Cap)
	}
	for _, change := range c.Allotments {
		at, found := slices.BinarySearchFunc(d.Allotments, change.Consumer, func(a Allotment, name string) int { return strings.Compare(a.Consumer, name) })
		if !found {
			if change.Budget == nil {
				continue
			}
			d.Allotments = slices.Insert(d.Allotments, at, Allotment{Allotment: dp.Allotment{Consumer: change.Consumer, Dataset: d.Policy.Name}})
		}
		a := &d.Allotments[at]
		if a.Budget = (dp.Budget{}); change.Budget != nil {
			a.Budget = *change.Budget
		}
		a.Largest = Larger(a.Largest, a.Budget)
	}
	budgets := map[string]dp.Budget{"": d.Policy.Cap}
	for _, a := range d.Allotments {
		budgets[a.Consumer] = a.Budget
	}
	for i := range d.Accounts {
		d.Accounts[i].Budget = budgets[d.Accounts[i].Consumer]
	}
	b.Datasets[0] = d
	return b
}

// Larger is the least budget that neither exceeds in any part: a certificate for a budget is one for every larger one.
func Larger(a, b dp.Budget) dp.Budget {
	return dp.Budget{Epsilon: max(a.Epsilon, b.Epsilon), Delta: max(a.Delta, b.Delta)}
}
