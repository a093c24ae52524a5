package exposure

import (
	"maps"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// MostDays is over how many days spending can be told day by day.
const MostDays = 366

// Sums are what charges add up to: of all datasets, in every block, year and history, for every consumer and for the caps. A
// charge whose price and outcome can change no more is added once and need not be kept, so that there may be any number of
// them. Which order they are added in does not matter.
type Sums struct {
	linked  map[string]bool // datasets whose rows may be of the same customers
	pricing pricing
	owners  map[string]map[place]*total // by consumer; what caps paid by the empty name
	charged map[account]*charged
}

// account is one of a cap, where consumer is empty, or of an allotment.
type account struct{ dataset, block, consumer string }

// charged is what an account was charged.
type charged struct {
	loss dp.Loss
	days []Day // the newest of those with charges, rising
}

// place is one block, or one year, or all of a scope. Those of linked datasets name none.
type place struct {
	scope   Scope
	dataset string
	name    string
}

// NewSums begins with nothing. Linked are the datasets whose rows may be of the same customers.
func NewSums(linked []string) *Sums {
	s := &Sums{linked: map[string]bool{}, pricing: newPricing(), owners: map[string]map[place]*total{}, charged: map[account]*charged{}}
	for _, name := range linked {
		s.linked[name] = true
	}
	return s
}

// Add adds a charge. Policies has those that its release was drawn under.
func (s *Sums) Add(c Charge, policies map[PolicyVersion]dp.VersionedPolicy) {
	day := c.At.UTC().Truncate(24 * time.Hour)
	for _, part := range c.Parts {
		for _, block := range part.Blocks {
			if c.Consumer != "" {
				s.charge(account{part.Dataset, block, c.Consumer}, day, part.Loss)
			}
			if c.Caps {
				s.charge(account{part.Dataset, block, ""}, day, part.Loss)
			}
		}
	}
	s.addUp(c, policies)
}

func (s *Sums) charge(a account, day time.Time, loss dp.Loss) {
	of := s.charged[a]
	if of == nil {
		of = &charged{}
		s.charged[a] = of
	}
	of.loss = accounting.Add(of.loss, loss)
	at, known := slices.BinarySearchFunc(of.days, day, func(d Day, day time.Time) int { return d.Date.Compare(day) })
	if !known {
		of.days = slices.Insert(of.days, at, Day{Date: day})
	}
	of.days[at].Loss = accounting.Add(of.days[at].Loss, loss)
	if len(of.days) > MostDays {
		of.days = slices.Delete(of.days, 0, 1)
	}
}

// addUp adds a charge to what its owners spent in every place that it touches.
func (s *Sums) addUp(c Charge, policies map[PolicyVersion]dp.VersionedPolicy) {
	var owners []string
	if c.Consumer != "" {
		owners = append(owners, c.Consumer)
	}
	if c.Caps {
		owners = append(owners, "")
	}
	add := func(at place, loss dp.Loss, conservative bool, blocks []account) {
		for _, owner := range owners {
			if s.owners[owner] == nil {
				s.owners[owner] = map[place]*total{}
			}
			t := s.owners[owner][at]
			if t == nil {
				t = &total{blocks: map[account]bool{}}
				s.owners[owner][at] = t
			}
			t.add(loss, conservative, blocks)
		}
	}
	for _, part := range c.Parts {
		for _, block := range part.Blocks {
			// No block of a dataset is in two parts of a charge.
			add(place{OneBlock, part.Dataset, block}, part.Loss, false, []account{{dataset: part.Dataset, block: block}})
		}
	}
	for at, chosen := range s.places(c) {
		loss, blocks, conservative := s.pricing.over(c, policies, chosen)
		add(at, loss, conservative, blocks)
	}
}

// places are the years and histories of which a charge touches a block, and which blocks they have. A block that is of all
// time has rows of every year: it counts in each that the charge touches. For all other years it counts in a place of its own.
func (s *Sums) places(c Charge) map[place]func(dataset, block string) bool {
	of := map[place]func(dataset, block string) bool{}
	add := func(year, history Scope, dataset string, ours func(string) bool) {
		of[place{history, dataset, ""}] = func(d, _ string) bool { return ours(d) }
		names := map[string]bool{}
		for _, part := range c.Parts {
			if ours(part.Dataset) {
				for _, block := range part.Blocks {
					names[yearOf(block)] = true
				}
			}
		}
		for name := range names {
			of[place{year, dataset, name}] = func(d, b string) bool {
				in := yearOf(b)
				return ours(d) && (in == name || in == everyYear)
			}
			if name != everyYear && names[everyYear] {
				of[place{besides(year), dataset, name}] = func(d, b string) bool { return ours(d) && yearOf(b) == everyYear }
			}
		}
	}
	linked := false
	for _, part := range c.Parts {
		add(OneYear, History, part.Dataset, func(dataset string) bool { return dataset == part.Dataset })
		linked = linked || s.linked[part.Dataset]
	}
	if linked {
		add(LinkedYear, LinkedHistory, "", func(dataset string) bool { return s.linked[dataset] })
	}
	return of
}

// besides is the scope of what charges of a year cost on blocks of all time: it counts in the year and, in its own place,
// once more.
func besides(year Scope) Scope { return year + " besides" }

// everyYear is the year of a block that is of all time.
const everyYear = "all"

// yearOf is the year that a block lies in, or everyYear.
func yearOf(block string) string {
	if len(block) >= 4 && block[0] >= '0' && block[0] <= '9' {
		return block[:4]
	}
	return everyYear
}

// Of is a copy of what matters to a statement about these datasets, the first of which it is about. Nothing that is added to
// one changes the other.
func (s *Sums) Of(datasets []string) *Sums {
	out := NewSums(nil)
	out.linked = maps.Clone(s.linked)
	for a, of := range s.charged {
		if slices.Contains(datasets, a.dataset) {
			out.charged[a] = &charged{of.loss, slices.Clone(of.days)}
		}
	}
	for owner, places := range s.owners {
		mine := map[place]*total{}
		for at, t := range places {
			if at.dataset == datasets[0] || at.dataset == "" && s.linked[datasets[0]] {
				mine[at] = t.clone()
			}
		}
		if len(mine) > 0 {
			out.owners[owner] = mine
		}
	}
	return out
}

// Touched calls each with every block of a dataset that was charged, and every consumer who was charged for one.
func (s *Sums) Touched(each func(dataset, block, consumer string)) {
	for a := range s.charged {
		each(a.dataset, a.block, a.consumer)
	}
}

// spent states what a consumer was charged, or the caps were, on one dataset and on linked ones, and of blocks and years tells
// the one with most.
func (s *Sums) spent(consumer, dataset string, certified dp.Delta) (list []Spent) {
	mine := s.owners[consumer]
	totals := map[place]*total{}
	for at, t := range mine {
		if at.dataset != "" && at.dataset != dataset {
			continue
		}
		switch at.scope {
		case OneBlock, History, LinkedHistory:
			totals[at] = t
		case OneYear, LinkedYear:
			if every := mine[place{at.scope, at.dataset, everyYear}]; every != nil && at.name != everyYear {
				t = t.clone()
				t.merge(every, mine[place{besides(at.scope), at.dataset, at.name}])
			}
			totals[at] = t // that of every year is in all others, and the most where there is none
		}
	}
	// Only where it could be the most is it worked out to the last digit.
	least := map[Scope]dp.Epsilon{}
	for at, t := range totals {
		low, _ := t.about(certified)
		least[at.scope] = max(least[at.scope], low)
	}
	most := map[Scope]Spent{}
	for at, t := range totals {
		if _, high := t.about(certified); high < least[at.scope] {
			continue
		}
		found := t.spent(at, certified)
		if before, ok := most[at.scope]; !ok || found.Epsilon > before.Epsilon || found.Epsilon == before.Epsilon && found.Name < before.Name {
			most[at.scope] = found
		}
	}
	for _, scope := range []Scope{OneBlock, OneYear, History, LinkedYear, LinkedHistory} {
		if found, ok := most[scope]; ok {
			list = append(list, found)
		}
	}
	return list
}
