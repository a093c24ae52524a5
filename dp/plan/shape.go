package plan

import (
	"sort"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// shape is what follows for the groups of an answer from the keys' domains and the calendar.
type shape struct {
	// groups is the number of public partitions; 0 where a key is private.
	groups int64
	// partitions is L0: the policy's bound or, where smaller, the largest number of partitions that one
	// touched block can touch.
	partitions int64
	perBlock   int64          // the latter: what a block can touch
	times      [][]string     // consistent tuples of the calendar keys, hours left out
	calendar   []int          // positions in keys of the calendar keys
	places     []place        // keys of one dimension
	days       map[string]int // of each of times, joined
	allDays    int            // of the range
}

// unlimited stands for a number of groups that no declared domain limits. It leaves room to be multiplied.
const unlimited = int64(1) << 31

// shape counts the groups. Keys that name one calendar moment at several widths (a day and its month) occur
// only in tuples that agree.
func (q question) shape(policy dp.Policy) shape {
	s := shape{groups: 1}
	if q.ranged {
		s.allDays = q.from.DaysUntil(q.to) + 1
	}
	perBlock := int64(1)
	s.places = q.places()
	together := make([]bool, len(q.keys))
	for _, place := range s.places {
		for _, k := range place.keys {
			together[k] = q.keys[k].Domain != nil
		}
		s.groups = times(s.groups, int64(len(place.tuples)))
		if !place.first && place.tuples != nil {
			perBlock = times(perBlock, int64(len(place.tuples)))
		}
	}
	for i, key := range q.keys {
		switch {
		case together[i]:
		case key.Field.Kind == TimeField && key.Field.Unit != rows.Hour:
			s.calendar = append(s.calendar, i)
		case key.Domain == nil && key.Field.Moment == AtFirst: // a customer has one
		case key.Domain == nil:
			perBlock = unlimited
		case key.Field.Moment == AtFirst:
			s.groups = times(s.groups, int64(len(key.Domain)))
		default:
			s.groups = times(s.groups, int64(len(key.Domain)))
			perBlock = times(perBlock, int64(len(key.Domain)))
		}
	}
	if len(s.calendar) > 0 {
		var most int64
		s.times, s.days, most = q.calendarTuples(s.calendar, policy.Unit.Block)
		s.groups = times(s.groups, int64(len(s.times)))
		perBlock = times(perBlock, most)
	}
	if q.private() {
		s.groups = 0
	}
	s.perBlock = max(1, perBlock)
	s.partitions = max(1, min(q.maxPartitions, s.perBlock))
	return s
}

// calendarTuples walks the days of the range and collects the distinct tuples of calendar keys, how many days each has,
// and the largest number of tuples that one block touches.
func (q question) calendarTuples(calendar []int, block dp.Block) (tuples [][]string, days map[string]int, mostPerBlock int64) {
	allowed := make([]map[string]bool, len(calendar))
	for i, k := range calendar {
		allowed[i] = make(map[string]bool, len(q.keys[k].Domain))
		for _, label := range q.keys[k].Domain {
			allowed[i][label] = true
		}
	}
	if q.profile != nil && q.profile.First != nil {
		return q.appearanceTuples(calendar, block, allowed)
	}
	days = make(map[string]int)
	seenInBlock := make(map[string]map[string]bool)
	for day := q.from; !q.to.Before(day); day = day.AddDays(1) {
		tuple := make([]string, len(calendar))
		passes := true
		for i, k := range calendar {
			tuple[i] = rows.TimeKeys(day, day, q.keys[k].Field.Unit)[0]
			passes = passes && allowed[i][tuple[i]]
		}
		if !passes {
			continue
		}
		id := strings.Join(tuple, "\x00")
		if days[id]++; days[id] == 1 {
			tuples = append(tuples, tuple)
		}
		name := rows.Blocks(day, day, block)[0]
		if seenInBlock[name] == nil {
			seenInBlock[name] = make(map[string]bool)
		}
		seenInBlock[name][id] = true
	}
	for _, ids := range seenInBlock {
		mostPerBlock = max(mostPerBlock, int64(len(ids)))
	}
	return tuples, days, mostPerBlock
}

// appearanceTuples are those where keys read a first appearance too: of every day with every first day before it. Of a
// block they are the most that a customer can have, who has one first day.
func (q question) appearanceTuples(calendar []int, block dp.Block, allowed []map[string]bool) (tuples [][]string, days map[string]int, mostPerBlock int64) {
	all := q.from.DaysUntil(q.to) + 1
	labels, periods, blocks := make([][]string, len(calendar)), make([][]int, len(calendar)), make([]string, all)
	for day := range all {
		date := q.from.AddDays(day)
		blocks[day] = rows.Blocks(date, date, block)[0]
		for i, k := range calendar {
			label := rows.TimeKeys(date, date, q.keys[k].Field.Unit)[0]
			period := 0
			if day > 0 {
				if period = periods[i][day-1]; label != labels[i][day-1] {
					period++
				}
			}
			labels[i], periods[i] = append(labels[i], label), append(periods[i], period)
		}
	}
	days = make(map[string]int)
	for first := range all {
		inBlock := make(map[string]bool)
		for day := first; day < all; day++ {
			if day > first && blocks[day] != blocks[day-1] {
				mostPerBlock, inBlock = max(mostPerBlock, int64(len(inBlock))), make(map[string]bool)
			}
			tuple, passes := make([]string, len(calendar)), true
			for i, k := range calendar {
				switch q.keys[k].Field.Moment {
				case OfRow:
					tuple[i] = labels[i][day]
				case AtFirst:
					tuple[i] = labels[i][first]
				case PeriodsSince:
					tuple[i] = strconv.Itoa(periods[i][day] - periods[i][first])
				}
				passes = passes && allowed[i][tuple[i]]
			}
			if !passes {
				continue
			}
			id := strings.Join(tuple, "\x00")
			if days[id]++; days[id] == 1 {
				tuples = append(tuples, tuple)
			}
			inBlock[id] = true
		}
		mostPerBlock = max(mostPerBlock, int64(len(inBlock)))
	}
	return tuples, days, mostPerBlock
}

// Days is how many days of the asked range a group is about, by the calendar parts of its key; at least 1.
func (p *Plan) Days(key []string) int {
	if len(p.groups.calendar) == 0 {
		return max(1, p.groups.allDays)
	}
	tuple := make([]string, len(p.groups.calendar))
	for i, at := range p.groups.calendar {
		tuple[i] = key[at]
	}
	return max(1, p.groups.days[strings.Join(tuple, "\x00")])
}

// mostDays is how many days of the range lie in one block and one group at most: a group has the days of its calendar keys.
func (q question) mostDays() (most int64) {
	days := make(map[string]int64)
	for day := q.from; !q.to.Before(day); day = day.AddDays(1) {
		together := rows.Blocks(day, day, q.block)[0]
		for _, k := range q.keys {
			if k.Field.Kind == TimeField && k.Field.Moment == OfRow && k.Field.Unit != rows.Hour {
				together += "\x00" + rows.TimeKeys(day, day, k.Field.Unit)[0]
			}
		}
		days[together]++
		most = max(most, days[together])
	}
	return most
}

// mostSessionsADay is how many sessions begin in 25 hours, as long as days are but for changes of a zone itself: each more
// than SessionGap after the one before.
const mostSessionsADay = 25*60*60*1000/SessionGap + 1

// mostSessions is how many sessions of one (customer, block, partition) count.
func (q question) mostSessions() int64 {
	if !q.ranged {
		return q.rows
	}
	return min(q.rows, mostSessionsADay*q.mostDays())
}

// Groups returns every public key in the order of answers, or nil where a key is private.
func (p *Plan) Groups() [][]string {
	if p.GroupsMayBeHidden {
		return nil
	}
	keys := p.Tree.Input.Input.Keys
	groups := [][]string{make([]string, len(keys))}
	together := make([]bool, len(keys))
	for _, k := range p.groups.calendar {
		together[k] = true
	}
	for _, place := range p.groups.places {
		for _, k := range place.keys {
			together[k] = true
		}
		groups = extend(groups, len(place.tuples), func(g []string, n int) {
			for part, k := range place.keys {
				g[k] = place.tuples[n][part]
			}
		})
	}
	for i, key := range keys {
		if together[i] {
			continue
		}
		groups = extend(groups, len(key.Domain), func(g []string, n int) { g[i] = key.Domain[n] })
	}
	if len(p.groups.calendar) > 0 {
		groups = extend(groups, len(p.groups.times), func(g []string, n int) {
			for part, k := range p.groups.calendar {
				g[k] = p.groups.times[n][part]
			}
		})
	}
	p.SortKeys(groups)
	return groups
}

// extend copies every group once for each of n choices.
func extend(groups [][]string, n int, choose func(group []string, n int)) [][]string {
	longer := make([][]string, 0, len(groups)*n)
	for _, g := range groups {
		for i := range n {
			next := append([]string(nil), g...)
			choose(next, i)
			longer = append(longer, next)
		}
	}
	return longer
}

// SortKeys puts keys into the order of answers: part by part, int dimensions by number, others by text.
func (p *Plan) SortKeys(keys [][]string) {
	sort.Slice(keys, func(a, b int) bool { return p.CompareKeys(keys[a], keys[b]) < 0 })
}

// CompareKeys orders two keys as answers do.
func (p *Plan) CompareKeys(a, b []string) int {
	for i, key := range p.Tree.Input.Input.Keys {
		if a[i] == b[i] {
			continue
		}
		if key.Field.isNumber() {
			return compareInts(a[i], b[i])
		}
		if key.Field.Kind == DimensionField && key.Field.Derived == 0 && p.Policy.Dimensions[key.Field.Index].Type == dp.IntDimension {
			return compareInts(a[i], b[i])
		}
		return strings.Compare(a[i], b[i])
	}
	return 0
}

// compareInts orders labels of an int dimension: numbers by value, then the labels of missing and other values.
func compareInts(a, b string) int {
	x, errX := strconv.ParseInt(a, 10, 64)
	y, errY := strconv.ParseInt(b, 10, 64)
	switch {
	case errX == nil && errY == nil && x != y:
		if x < y {
			return -1
		}
		return 1
	case errX == nil && errY != nil:
		return -1
	case errX != nil && errY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// times multiplies without overflow, up to unlimited.
func times(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	if a > unlimited/b {
		return unlimited
	}
	return a * b
}
