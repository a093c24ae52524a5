package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Level is a coarser way to group what the plan groups: the groups that agree in its keys are added up, after bounding
// and before noise. Each (customer, block) is bounded once, at the finest level, so that the figures of all levels are
// sums of the same numbers and can be reconciled.
type Level struct {
	Keys []int // positions among the tree's keys, ascending; none: everything together
	// Fold is how many of the finest groups of one block fall together at most.
	Fold    int64
	Vectors []mechanism.Vector // by metric
}

// MaxLevels is how many coarser levels a question can have.
const MaxLevels = 12

// readLevels resolves the keys of the coarser levels, the finer ones first.
func (r *reader) readLevels(q *question) {
	if len(r.query.Reconcile) == 0 {
		if r.query.NonNegative {
			r.refuse("non_negative", "goes with reconcile: other figures keep the sign that noise gave them, or their sums would be too large")
		}
		return
	}
	if len(r.query.Reconcile) > MaxLevels {
		r.refuse("reconcile", "has more than %d levels: use fewer", MaxLevels)
		return
	}
	if len(r.query.Within) > 0 {
		r.refuse("within", "does not go with reconcile, where figures become more exact than they are drawn: state epsilon")
	}
	for _, k := range q.keys {
		if k.Domain == nil {
			r.refuse("reconcile", "needs public keys: %s is private, and groups that are left out would be missing in their sums", k.Name)
		}
	}
	for _, m := range q.metrics {
		switch {
		case m.aggregate != dp.Rows && (m.aggregate != dp.Sum || m.last):
			r.refuse("reconcile", "is for rows and for sums that add up: leave %s out, or ask for it by itself", m.name)
		case r.query.NonNegative && m.aggregate == dp.Sum && m.lower < 0:
			r.refuse("non_negative", "does not go with %s, which can be negative", m.name)
		}
	}
	for i, names := range r.query.Reconcile {
		path := fmt.Sprintf("reconcile[%d]", i)
		level := []int{}
		for _, name := range names {
			at := slices.IndexFunc(q.keys, func(k Key) bool { return k.Name == name })
			if at < 0 {
				r.refuse(path, "names what is not in by: a level leaves out some of the keys")
				continue
			}
			level = append(level, at)
		}
		slices.Sort(level)
		level = slices.Compact(level)
		if len(level) == len(q.keys) && len(r.problems) == 0 {
			r.refuse(path, "leaves no key out: it is the finest level, which is there anyway")
		}
		q.levels = append(q.levels, level)
	}
	slices.SortFunc(q.levels, func(a, b []int) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return slices.Compare(a, b)
	})
	q.levels = slices.CompactFunc(q.levels, slices.Equal)
	q.nonNegative = r.query.NonNegative
}

// fold is how many finest groups that one block can touch fall together at a level, at most.
func (q question) fold(level []int, s shape) int64 {
	fold := int64(1)
	for i, k := range q.keys {
		if !slices.Contains(level, i) && !slices.Contains(s.calendar, i) && !s.inPlace(i) {
			fold = times(fold, int64(len(k.Domain)))
		}
	}
	for _, place := range s.places {
		fold = times(fold, place.fold(level))
	}
	if len(s.calendar) == 0 {
		return fold
	}
	together := map[string]map[string]bool{} // block and what the level keeps -> moments
	var most int64
	for day := q.from; !q.to.Before(day); day = day.AddDays(1) {
		name, moment := rows.Blocks(day, day, q.block)[0], ""
		for _, k := range s.calendar {
			label := rows.TimeKeys(day, day, q.keys[k].Field.Unit)[0]
			moment += label + "\x00"
			if slices.Contains(level, k) {
				name += "\x00" + label
			}
		}
		if together[name] == nil {
			together[name] = map[string]bool{}
		}
		together[name][moment] = true
		most = max(most, int64(len(together[name])))
	}
	return times(fold, most)
}

// addLevels prepares the coarser levels, and refuses those that cannot be reconciled in reasonable time.
func (p *Plan) addLevels(q question) error {
	p.NonNegative = q.nonNegative
	for _, keys := range q.levels {
		fold := min(q.fold(keys, p.groups), p.Tree.Input.Partitions)
		p.Levels = append(p.Levels, Level{Keys: keys, Fold: max(1, fold), Vectors: make([]mechanism.Vector, len(p.Metrics))})
	}
	if len(p.Levels) == 0 {
		return nil
	}
	if err := p.Hierarchy().Check(); err != nil {
		return refuseAt("reconcile", err.Error())
	}
	return nil
}

// priceLevels splits the price equally over metrics. All levels of a metric are one Gaussian vector: only with normal
// noise are the intervals of reconciled figures exact.
func (p *Plan) priceLevels(q question, pure bool) error {
	if pure {
		return refuseAt("reconcile", "needs a delta above 0 in the query, or the policy's default, and in every budget: ask with a delta, or ask an officer for a budget with one")
	}
	l0, n := p.Tree.Input.Partitions, int64(len(p.Metrics))
	squares := []float64{float64(l0)}
	for _, l := range p.Levels {
		squares = append(squares, l.squares(l0))
	}
	shares := p.Hierarchy().Shares(squares)
	for i := range p.Metrics {
		m := &p.Metrics[i]
		e, d := q.epsilon/dp.Epsilon(n), q.delta/dp.Delta(n)
		if i == len(p.Metrics)-1 { // takes what division leaves
			e, d = e+q.epsilon%dp.Epsilon(n), d+q.delta%dp.Delta(n)
		}
		bound := float64(p.bounds(*m).Bounds[0])
		parts := make([]mechanism.Part, len(shares))
		for level, share := range shares {
			parts[level] = mechanism.Part{Squares: squares[level] * bound * bound, Share: share}
		}
		vectors, loss, err := mechanism.JointGaussian(parts, times(l0, int64(len(parts))), e, d)
		if err != nil {
			return priceRefused(m.Name, err)
		}
		p.Loss = accounting.Add(p.Loss, loss)
		m.Vector = vectors[0]
		for level := range p.Levels {
			p.Levels[level].Vectors[i] = vectors[1+level]
		}
		m.SD, m.Within = p.expect(*m, m.Vector)
	}
	return nil
}

// squares is what the changes of a level's groups have as sum of squares at most, in units of the square of the finest
// bound (PRIVACY.md, "Levels"): as many whole folds as there are, and the rest.
func (l Level) squares(partitions int64) float64 {
	whole, rest := partitions/l.Fold*l.Fold, partitions%l.Fold
	return float64(whole)*float64(l.Fold) + float64(rest)*float64(rest)
}

// KeyAt is the key of the group of a level that a finest group falls into: parts that the level leaves out are empty.
func (p *Plan) KeyAt(level int, finest []string) []string {
	key := make([]string, len(finest))
	for _, at := range p.Levels[level].Keys {
		key[at] = finest[at]
	}
	return key
}

// LevelGroups returns the keys of all levels' groups in the order of answers: the finest, then each of Levels.
func (p *Plan) LevelGroups() [][][]string {
	finest := p.Groups()
	all := [][][]string{finest}
	for level := range p.Levels {
		seen := map[string]bool{}
		var keys [][]string
		for _, group := range finest {
			key := p.KeyAt(level, group)
			if id := strings.Join(key, "\x00"); !seen[id] {
				seen[id] = true
				keys = append(keys, key)
			}
		}
		p.SortKeys(keys)
		all = append(all, keys)
	}
	return all
}

// Hierarchy says which of the finest groups each group of a level is the sum of, by positions in LevelGroups.
func (p *Plan) Hierarchy() mechanism.Hierarchy {
	groups := p.LevelGroups()
	h := mechanism.Hierarchy{Finest: len(groups[0])}
	for level, keys := range groups[1:] {
		at := make(map[string]int, len(keys))
		for i, key := range keys {
			at[strings.Join(key, "\x00")] = i
		}
		of := make([]int, len(groups[0]))
		for i, finest := range groups[0] {
			of[i] = at[strings.Join(p.KeyAt(level, finest), "\x00")]
		}
		h.Levels = append(h.Levels, mechanism.HierarchyLevel{Cells: len(keys), Of: of})
	}
	return h
}

// levelNotes say what reconciled figures are.
func (p *Plan) levelNotes(per string) []string {
	if len(p.Levels) == 0 {
		return nil
	}
	line := fmt.Sprintf("Each %s is bounded once, at the finest level; the figures of all levels are drawn as sums of that and reconciled by weighted least squares, so that parts add up to totals. What is expected is stated before that, which makes it more exact.", per)
	if p.NonNegative {
		line += " Figures below 0 are raised to it, at the cost of their siblings; intervals are those of before, cut at 0."
	}
	return []string{line}
}
