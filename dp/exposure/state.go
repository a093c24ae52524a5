package exposure

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

// Assumed are numbers of blocks that a customer is assumed to have rows in; 0: as many as there are.
type Assumed struct {
	Year    int64
	History int64
}

// State works out the worst case of the first dataset of a book. Spending is told day by day, and its rate taken, over so many
// days up to now, at least 1.
func State(b Book, a Assumed, days int) Statement {
	now := b.At.UTC()
	first := b.Datasets[0]
	out := Statement{Dataset: first.Policy.Name, Block: first.Policy.Unit.Block, At: now, Days: days}
	for _, d := range b.Datasets[1:] {
		out.Linked = append(out.Linked, d.Policy.Name)
	}
	s := &statement{book: b, assumed: a, sums: b.sums()}
	out.Owners = append(out.Owners, s.owner(""))
	for _, name := range s.consumers() {
		o := s.owner(name)
		o.Room = room(first, name, now)
		out.Owners = append(out.Owners, o)
	}
	for _, a := range first.Accounts {
		if accounting.Frozen(a.Budget, a.Spent) {
			out.Frozen = append(out.Frozen, a)
		}
		if _, largest, byCap := certified(first, a.Consumer); !byCap && accounting.Frozen(largest, a.Spent) {
			out.Beyond = append(out.Beyond, a)
		}
	}
	out.Burns = s.burns(days, now)
	return out
}

type statement struct {
	book    Book
	assumed Assumed
	sums    *Sums
}

// consumers are those with an allotment on the dataset, or with anything spent there.
func (s *statement) consumers() []string {
	names := map[string]bool{}
	for _, a := range s.book.Datasets[0].Allotments {
		names[a.Consumer] = true
	}
	for _, a := range s.book.Datasets[0].Accounts {
		names[a.Consumer] = true
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// sums adds up all that a book holds. What accounts have spent beyond all charges, because it was written off, counts as one
// charge more of each owner, of which nothing is known.
func (b Book) sums() *Sums {
	var names []string
	for _, d := range b.Datasets {
		names = append(names, d.Policy.Name)
	}
	s := b.Settled
	if s == nil {
		s = NewSums(nil)
		if len(names) > 1 {
			s = NewSums(names)
		}
	}
	s = s.Of(names)
	for _, c := range b.Charges {
		s.Add(c, b.Policies)
	}
	unexplained := map[string][]dp.Touched{}
	for _, d := range b.Datasets {
		for _, a := range d.Accounts {
			var explained dp.Loss
			if of := s.charged[account{a.Dataset, a.Block, a.Consumer}]; of != nil {
				explained = of.loss
			}
			if rest := beyond(a.Spent, explained); rest != (dp.Loss{}) {
				unexplained[a.Consumer] = append(unexplained[a.Consumer], dp.Touched{Dataset: a.Dataset, Blocks: []string{a.Block}, Loss: rest})
			}
		}
	}
	for consumer, parts := range unexplained {
		s.addUp(Charge{Consumer: consumer, Caps: consumer == "", Parts: parts}, b.Policies)
	}
	return s
}

// beyond is what is left of a loss after another one, in every part at least 0. What was too large to add up stays so.
func beyond(a, b dp.Loss) dp.Loss {
	rho := max(0, a.Rho-b.Rho)
	if a.Rho == dp.RhoUnknown && b.Rho != dp.RhoUnknown {
		rho = dp.RhoUnknown
	}
	return dp.Loss{Epsilon: max(0, a.Epsilon-b.Epsilon), Delta: max(0, a.Delta-b.Delta), Rho: rho, DeltaZ: max(0, a.DeltaZ-b.DeltaZ)}
}

// owner states the worst case of one consumer, or of all together.
func (s *statement) owner(consumer string) Owner {
	first := s.book.Datasets[0]
	o := Owner{Consumer: consumer}
	o.Budget, o.Certified, o.ByCap = certified(first, consumer)
	o.Promises = s.promises(consumer)
	o.Spent = s.sums.spent(consumer, first.Policy.Name, o.Certified.Delta)
	return o
}

// certified is a budget in force and the largest ever in force. A consumer's may be larger than the cap's in one part: then
// the cap is the better guarantee, which holds for whatever anybody learns.
func certified(d Dataset, consumer string) (now, largest dp.Budget, byCap bool) {
	if consumer == "" {
		return d.Policy.Cap, d.Largest, false
	}
	for _, a := range d.Allotments {
		if a.Consumer == consumer {
			if a.Largest.Epsilon > d.Largest.Epsilon || a.Largest.Delta > d.Largest.Delta {
				return a.Budget, d.Largest, true
			}
			return a.Budget, a.Largest, false
		}
	}
	return dp.Budget{}, dp.Budget{}, false
}

// blocksOfYear is how many blocks a calendar year has.
func blocksOfYear(b dp.Block) int64 {
	switch b {
	case dp.Month:
		return 12
	case dp.Quarter:
		return 4
	}
	return 1
}

// counts are how many blocks of a dataset one customer has rows in, in a year and in all. A history is the blocks that were
// loaded or charged, and has at least one. No year has more blocks than it has, and all of time is one.
func (s *statement) counts(d Dataset) (year, history int64) {
	year, history = blocksOfYear(d.Policy.Unit.Block), max(1, int64(len(d.Blocks)))
	if s.assumed.Year > 0 {
		year = min(year, s.assumed.Year)
	}
	if s.assumed.History > 0 && d.Policy.Unit.Block != dp.All {
		history = s.assumed.History
	}
	return year, history
}

func (s *statement) promises(consumer string) (list []Promise) {
	add := func(scope Scope, datasets []Dataset, count func(Dataset) int64) {
		p := Promise{Scope: scope}
		var links []accounting.Link
		for _, d := range datasets {
			_, budget, _ := certified(d, consumer)
			n := count(d)
			p.Blocks += n
			links = append(links, accounting.Link{Budget: budget, Times: n})
		}
		p.Budget, p.Vacuous = accounting.Chain(links)
		list = append(list, p)
	}
	one := func(Dataset) int64 { return 1 }
	year := func(d Dataset) int64 { n, _ := s.counts(d); return n }
	history := func(d Dataset) int64 { _, n := s.counts(d); return n }
	own, all := s.book.Datasets[:1], s.book.Datasets
	add(OneBlock, own, one)
	add(OneYear, own, year)
	add(History, own, history)
	if len(all) > 1 {
		add(LinkedBlock, all, one)
		add(LinkedYear, all, year)
		add(LinkedHistory, all, history)
	}
	return list
}

// room is what a consumer could still ask of the block with least room, and of one that was never charged.
func room(d Dataset, consumer string, now time.Time) *Room {
	var allotment Allotment
	for _, a := range d.Allotments {
		if a.Consumer == consumer {
			allotment = a
		}
	}
	switch {
	case allotment.Suspended:
		return &Room{Closed: ClosedSuspended}
	case allotment.Paused:
		return &Room{Closed: ClosedPaused}
	case !allotment.Expires.IsZero() && !now.Before(allotment.Expires):
		return &Room{Closed: ClosedExpired}
	}
	typical := dp.Loss{Epsilon: d.Policy.Default.Epsilon, Rho: accounting.PureRho(d.Policy.Default.Epsilon)}
	of := func(cap, own dp.Loss) (dp.Epsilon, int64) {
		least := min(accounting.Room(d.Policy.Cap, cap), accounting.Room(allotment.Budget, own))
		if typical.Epsilon == 0 {
			return least, 0
		}
		return least, min(accounting.Similar(d.Policy.Cap, cap, typical, mostSimilar), accounting.Similar(allotment.Budget, own, typical, mostSimilar))
	}
	r := &Room{}
	r.FreshEpsilon, r.FreshSimilar = of(dp.Loss{}, dp.Loss{})
	r.Epsilon, r.Similar = r.FreshEpsilon, r.FreshSimilar

	type both struct{ cap, own dp.Loss }
	spent := map[string]both{}
	for _, a := range d.Accounts {
		p := spent[a.Block]
		switch a.Consumer {
		case "":
			p.cap = a.Spent
		case consumer:
			p.own = a.Spent
		}
		spent[a.Block] = p
	}
	for _, block := range slices.Sorted(maps.Keys(spent)) {
		epsilon, similar := of(spent[block].cap, spent[block].own)
		if r.Block == "" || epsilon < r.Epsilon {
			r.Block, r.Epsilon, r.Similar = block, epsilon, similar
		}
	}
	if max := allotment.MaxEpsilonPerQuery; max > 0 {
		r.Epsilon, r.FreshEpsilon = min(r.Epsilon, max), min(r.FreshEpsilon, max)
	}
	return r
}

// mostSimilar is where counting further charges of a kind ends.
const mostSimilar = 1_000_000

// horizon is how many days ahead a forecast looks.
const horizon = 36525

// burns tells how fast the first dataset's accounts are spent.
func (s *statement) burns(days int, now time.Time) []Burn {
	today := now.Truncate(24 * time.Hour)
	before := today.AddDate(0, 0, -days)
	var list []Burn
	for _, a := range s.book.Datasets[0].Accounts {
		burn := Burn{Consumer: a.Consumer, Block: a.Block, Spent: a.Spent, Budget: a.Budget}
		var recent dp.Loss
		if of := s.sums.charged[account{a.Dataset, a.Block, a.Consumer}]; of != nil {
			for _, day := range of.days {
				if day.Date.After(before) {
					burn.Days = append(burn.Days, day)
					recent = accounting.Add(recent, day.Loss)
				}
			}
		}
		if len(burn.Days) > 0 {
			burn.Rate = perDay(recent, int64(days))
			if fits := accounting.Similar(a.Budget, a.Spent, burn.Rate, horizon); fits < horizon {
				burn.Exhausted = today.AddDate(0, 0, int(fits)+1)
			}
		}
		list = append(list, burn)
	}
	slices.SortFunc(list, func(x, y Burn) int { return cmp.Or(cmp.Compare(x.Block, y.Block), cmp.Compare(x.Consumer, y.Consumer)) })
	return list
}

// perDay divides by a number of days, rounded up; an unknown rho stays so.
func perDay(l dp.Loss, days int64) dp.Loss {
	up := func(n int64) int64 { return n/days + min(1, n%days) }
	rate := dp.Loss{Epsilon: dp.Epsilon(up(int64(l.Epsilon))), Delta: dp.Delta(up(int64(l.Delta))), Rho: l.Rho, DeltaZ: dp.Delta(up(int64(l.DeltaZ)))}
	if l.Rho != dp.RhoUnknown {
		rate.Rho = dp.Rho(up(int64(l.Rho)))
	}
	return rate
}
