package verify

import (
	"strconv"
	"strings"
)

func (s *statement) owner(consumer string) (OwnerGuarantee, error) {
	inForce, certified, byCap := s.certified(s.names[0], consumer)
	o := OwnerGuarantee{Consumer: consumer, InForce: amountOf(inForce), Certified: amountOf(certified), ByCap: byCap, Promises: s.promises(consumer), Spent: []Spent{}}
	most := map[string]spentTotal{}
	least := map[string]int64{}
	totals := s.placed(consumer)
	for at, t := range totals {
		low, _ := s.figures.bounds(t, certified.Delta)
		least[at.scope] = max(least[at.scope], low)
	}
	for at, t := range totals {
		if _, high := s.figures.bounds(t, certified.Delta); high < least[at.scope] {
			continue
		}
		found := s.figures.spentOf(at, t, certified.Delta)
		before, ok := most[at.scope]
		if !ok || found.epsilon > before.epsilon || found.epsilon == before.epsilon && found.Name < before.Name {
			most[at.scope] = found
		}
	}
	for _, scope := range []string{ofBlock, ofYear, ofHistory, ofLinkedYear, ofLinkedHistory} {
		if found, ok := most[scope]; ok {
			o.Spent = append(o.Spent, found.Spent)
		}
	}
	return o, nil
}

// certified is a budget in force, and the largest ever in force: for a consumer the cap's, where its own was larger in a
// part.
func (s *statement) certified(dataset, consumer string) (inForce, largest budget, byCap bool) {
	d := s.datasets[dataset]
	highest := d.largest
	for _, l := range s.lost {
		highest = larger(highest, l.amount)
	}
	if consumer == "" {
		return d.policy.Cap, highest, false
	}
	id := allotmentID{consumer, dataset}
	a, ok := s.allotments[id]
	if !ok {
		return budget{}, budget{}, false
	}
	own := s.largest[id]
	for _, l := range s.lost {
		own = larger(own, l.amount)
	}
	if own.Epsilon > highest.Epsilon || own.Delta > highest.Delta {
		return a.Budget, highest, true
	}
	return a.Budget, own, false
}

func (s *statement) promises(consumer string) (list []Promise) {
	add := func(scope string, datasets []string, count func(string) int64) {
		p := Promise{Scope: scope}
		var links []link
		for _, name := range datasets {
			_, b, _ := s.certified(name, consumer)
			n := count(name)
			p.Blocks += n
			links = append(links, link{b, n})
		}
		sum, vacuous := s.figures.chained(links)
		p.Delta, p.Vacuous = decimal(sum.Delta, deltaPlaces), vacuous
		if sum.Epsilon != unbounded {
			p.Epsilon = decimal(sum.Epsilon, epsilonPlaces)
		}
		list = append(list, p)
	}
	one := func(string) int64 { return 1 }
	year := func(name string) int64 {
		switch s.datasets[name].policy.Unit.Block {
		case "month":
			return 12
		case "quarter":
			return 4
		}
		return 1
	}
	history := func(name string) int64 { return max(1, int64(len(s.blocks[name]))) }
	add(ofBlock, s.names[:1], one)
	add(ofYear, s.names[:1], year)
	add(ofHistory, s.names[:1], history)
	if len(s.names) > 1 {
		add(ofLinkedBlock, s.names, one)
		add(ofLinkedYear, s.names, year)
		add(ofLinkedHistory, s.names, history)
	}
	return list
}

type spentTotal struct {
	Spent
	epsilon int64
}

// bounds are numbers between which the epsilon of spentOf lies, at a tiny part of its cost.
func (f *figures) bounds(t *total, certified int64) (low, high int64) {
	zero := about(t.loss.Rho, certified/2) * epsilonOne
	if zero > 1e18 {
		return t.loss.Epsilon, unbounded
	}
	near, far := int64(max(0, zero*(1-1e-6)-1e6)), int64(zero*(1+1e-6)+1e6)
	a, b := f.state(place{}, t, certified, near), f.state(place{}, t, certified, far)
	low, high = min(a.epsilon, b.epsilon), max(a.epsilon, b.epsilon)
	if a.By != b.By {
		high = max(high, far)
	}
	return low, high
}

// spentOf states a total beside what is certified.
func (f *figures) spentOf(at place, t *total, certified int64) spentTotal {
	return f.state(at, t, certified, f.zero(t.loss.Rho, certified/2))
}

// state does, given the epsilon that rho comes to at half of what is certified.
func (f *figures) state(at place, t *total, certified, zero int64) spentTotal {
	l := t.loss
	basicDelta, deltaZ := min(l.Delta, deltaOne), min(l.DeltaZ, deltaOne)
	s := spentTotal{epsilon: l.Epsilon}
	s.Spent = Spent{
		Scope: at.scope, Name: at.name, Blocks: int64(len(t.blocks)), Charges: t.charges, Conservative: t.conservative,
		Basic: amountOf(budget{l.Epsilon, basicDelta}), DeltaZ: decimal(deltaZ, deltaPlaces), By: "basic",
	}
	if l.Rho != unbounded {
		s.Rho = decimal(l.Rho, epsilonPlaces)
	}
	half := certified / 2
	if zero != unbounded {
		if rest := times(deltaZ, f.cutFactor(zero)); rest < deltaOne-half {
			pair := budget{zero, half + rest}
			amount := amountOf(pair)
			s.Zero = &amount
			if pair.Delta <= certified && (basicDelta > certified || zero < l.Epsilon) {
				s.epsilon, s.By = zero, "zcdp"
			}
		}
	}
	s.Epsilon = decimal(s.epsilon, epsilonPlaces)
	return s
}

const (
	epsilonPlaces = 12
	deltaPlaces   = 18
)

func amountOf(b budget) Amount {
	return Amount{decimal(b.Epsilon, epsilonPlaces), decimal(b.Delta, deltaPlaces)}
}

// decimal writes units of 10^-places.
func decimal(units int64, places int) string {
	text := strconv.FormatInt(units, 10)
	if missing := places + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	cut := len(text) - places
	return strings.TrimSuffix(text[:cut]+"."+strings.TrimRight(text[cut:], "0"), ".")
}
