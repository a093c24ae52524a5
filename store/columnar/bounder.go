package columnar

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// bounder bounds what each (customer, block) contributes, and adds it up. It gives the numbers of
// bounding.Reference. One worker has one.
type bounder struct {
	aggregation    *aggregation
	question       *question
	mostPartitions int64               // L0
	mostRows       int64               // Linf
	valued         []int               // the columns of which sums are kept by group
	views          int                 // of the rows of a group
	detailed       bool                // a column needs more of rows than sums
	evaluator      *bounding.Evaluator // one's own, which labels rows; nil: none has to be
	quick          *quick              // nil: the question has columns that it does not add up

	tally
	kept    kept   // of the customers that a stream is at
	counted uint64 // customers that were counted across blocks

	// Of the (customer, block) at hand. Groups are partitions; there are as many as rows at most, and no more than
	// a multiple of L0 (see prune).
	customer uint64
	block    int
	numbers  []int64
	counts   []int64          // rows, by group and view
	sums     []bounding.Total // by group and column
	present  []bool           // by group and column: there was a value
	details  []detail         // by group and view
	index    index            // of groups, once there are many
	unit     uint64           // hash of the (customer, block)
	hashed   bool             // it is known
	barred   bool             // what does not come before the bar is dropped
	bar      groupRank
	ranks    []groupRank // scratch
	row      rows.Row    // scratch
	scratch  []byte
	keys     []bounding.Prefix // by number, as far as they were needed; nil: none was
	keyed    bool              // there is memory for keys
}

// place is where a row is.
type place struct {
	segment *segment
	row     int
}

// detail is what some columns need of the rows of a group.
type detail struct {
	rows  []place // where it matters which of them are kept; no more than a multiple of Linf
	times []int64 // of all rows, where a column reads them
	lasts []place // by position in question.levels: the last row with that measure
	// labels are what all rows have that columns count the combinations of, each after the number of its column.
	labels map[string]struct{}
}

// groupRank is the rank of a group among those of its (customer, block).
type groupRank struct {
	hash   uint64
	number int64 // of its partition
	at     int   // of the group
}

// rowRank is the rank of a row among those of its group.
type rowRank struct {
	hash  uint64
	bytes []byte
	at    int
}

// prefixBytes is what the prepared key of a partition takes.
const prefixBytes = 48

// mostBound is more than anybody has, and four times as many do not overflow.
const mostBound = 1 << 60

// newBounder makes one that may take so many bytes: a quarter of them for keys, if all fit, and the rest for totals.
func newBounder(a *aggregation, bytes int) (*bounder, error) {
	q := a.question
	b := &bounder{aggregation: a, question: q, tally: tally{bytes: bytes, dir: a.store.spillDir()}, views: len(q.views)}
	if b.keyed = q.size <= int64(bytes/4/prefixBytes); b.keyed {
		b.bytes -= bytes / 4
	}
	b.totals = newTotals(q, b.bytes)
	b.mostPartitions, b.mostRows = q.evaluator.Bound()
	b.mostPartitions, b.mostRows = min(b.mostPartitions, mostBound), min(b.mostRows, mostBound)
	for i, c := range q.columns {
		if c.isSummed() {
			b.valued = append(b.valued, i)
		}
	}
	distinct := false
	for _, v := range q.views {
		b.detailed = b.detailed || v.ranked || v.timed || v.distinct || v.lasts
		distinct = distinct || v.distinct
	}
	b.quick = newQuick(b)
	if distinct {
		var err error
		if b.evaluator, err = bounding.Compile(a.plan); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// begin starts with a (customer, block).
func (b *bounder) begin(customer uint64, block int) {
	b.at(customer, block)
	b.barred = false
	b.reset()
}

// at says whose partitions and rows are ranked next.
func (b *bounder) at(customer uint64, block int) {
	b.customer, b.block, b.hashed = customer, block, false
}

func (b *bounder) reset() {
	b.numbers, b.counts = b.numbers[:0], b.counts[:0]
	b.sums, b.present, b.details = b.sums[:0], b.present[:0], b.details[:0]
	b.index.reset()
}

// add takes decoded rows of a cursor.
func (b *bounder) add(c *cursor, from, to int) {
	width := len(b.question.columns)
	for i := from; i < to; i++ {
		number := c.numbers[i]
		if number < 0 {
			continue
		}
		g := b.group(number)
		if g < 0 {
			continue
		}
		b.counts[g*b.views]++
		for v := 1; v < b.views; v++ {
			if c.passes[v][i] >= 0 {
				b.counts[g*b.views+v]++
			}
		}
		for _, j := range b.valued {
			column := &b.question.columns[j]
			if column.view > 0 && c.passes[column.view][i] < 0 {
				continue
			}
			values := c.segment.measures[column.Measure]
			if values == nil || !values.has(c.start+i) {
				continue
			}
			v, sum := c.measures[column.measure][i], &b.sums[g*width+j]
			if column.Count == plan.Total || column.Of == plan.ValueTotal {
				sum.Add(v)
			} else {
				bounding.AddRow(b.sums[g*width+j:], column.Column, v)
			}
			b.present[g*width+j] = true
		}
		if b.detailed {
			for v := range b.question.views {
				if v == 0 || c.passes[v][i] >= 0 {
					b.note(&b.question.views[v], &b.details[g*b.views+v], v, place{c.segment, c.start + i})
				}
			}
		}
	}
}

// fewGroups is up to how many groups are looked through one by one.
const fewGroups = 12

// group finds the group of a partition, or makes one; -1 where it is dropped.
func (b *bounder) group(number int64) int {
	if len(b.numbers) <= fewGroups {
		for g, known := range b.numbers {
			if known == number {
				return g
			}
		}
	} else if g, ok := b.index.find(number); ok {
		return g
	}
	if b.barred && b.compare(b.rankOf(number), b.bar) >= 0 {
		return -1
	}
	if int64(len(b.numbers)) >= 4*b.mostPartitions+64 {
		b.prune()
		return b.group(number) // there is a bar now
	}
	g := len(b.numbers)
	b.numbers = append(b.numbers, number)
	for range b.views {
		b.counts = append(b.counts, 0)
	}
	for range b.question.columns {
		b.sums, b.present = append(b.sums, bounding.Total{}), append(b.present, false)
	}
	if b.detailed {
		for range b.views {
			b.addDetail()
		}
	}
	if g == fewGroups {
		for at, known := range b.numbers {
			b.index.put(known, at)
		}
	} else if g > fewGroups {
		b.index.put(number, g)
	}
	return g
}

// addDetail makes room for what columns need of the rows of a group in a view.
func (b *bounder) addDetail() {
	at := len(b.details)
	if at < cap(b.details) {
		b.details = b.details[:at+1]
		d := &b.details[at]
		d.rows, d.times, d.lasts = d.rows[:0], d.times[:0], d.lasts[:0]
		clear(d.labels)
	} else {
		b.details = append(b.details, detail{})
	}
	for range b.question.levels {
		b.details[at].lasts = append(b.details[at].lasts, place{})
	}
}

// unitHash gives the hash of the (customer, block).
func (b *bounder) unitHash() uint64 {
	if !b.hashed {
		b.unit, b.hashed = b.aggregation.blocks[b.block].units.Of(b.customer), true
	}
	return b.unit
}

func (b *bounder) rankOf(number int64) groupRank {
	key := b.keyOf(number)
	return groupRank{hash: key.Of(b.unitHash()), number: number}
}

// keyOf prepares the key of a partition, once where partitions are not too many.
func (b *bounder) keyOf(number int64) *bounding.Prefix {
	if b.keys != nil && !b.keys[number].IsZero() {
		return &b.keys[number]
	}
	key := bounding.HashKey(b.question.appendKey(nil, number))
	if !b.keyed {
		return &key
	}
	if b.keys == nil {
		b.keys = make([]bounding.Prefix, b.question.size)
	}
	b.keys[number] = key
	return &b.keys[number]
}

// compare orders groups by hash, and those that share one by the bytes of their keys.
func (b *bounder) compare(x, y groupRank) int {
	if x.hash != y.hash {
		return cmp.Compare(x.hash, y.hash)
	}
	return bytes.Compare(b.question.appendKey(nil, x.number), b.question.appendKey(nil, y.number))
}

// chosen gives the partitions that bounding keeps of those at hand, which are more. They are valid until the next call.
func (b *bounder) chosen(numbers []int64) []groupRank {
	ranks := b.ranks[:0]
	unit := b.unitHash()
	for g, number := range numbers { // apart from the sorting, so that hashes are computed side by side
		ranks = append(ranks, groupRank{hash: b.keyOf(number).Of(unit), number: number, at: g})
	}
	b.ranks = ranks
	if len(ranks) > mostInserted {
		slices.SortFunc(ranks, b.compare)
	} else {
		for i := 1; i < len(ranks); i++ {
			r, at := ranks[i], i
			for ; at > 0 && (r.hash < ranks[at-1].hash || r.hash == ranks[at-1].hash && b.compare(r, ranks[at-1]) < 0); at-- {
				ranks[at] = ranks[at-1]
			}
			ranks[at] = r
		}
	}
	return ranks[:b.mostPartitions]
}

// mostInserted is up to how many groups are sorted by insertion.
const mostInserted = 16

// prune drops the groups that bounding will not keep, whatever follows: at least L0 others come before them.
func (b *bounder) prune() {
	kept := b.chosen(b.numbers)
	b.bar, b.barred = b.ranks[b.mostPartitions], true // the first that it does not keep
	width := len(b.question.columns)
	old := bounder{
		numbers: slices.Clone(b.numbers), counts: slices.Clone(b.counts),
		sums: slices.Clone(b.sums), present: slices.Clone(b.present), details: slices.Clone(b.details),
	}
	b.reset()
	clear(b.details[:cap(b.details)]) // the lists of rows move: no later group may have the memory of one that moved
	for _, r := range kept {
		b.numbers = append(b.numbers, old.numbers[r.at])
		b.counts = append(b.counts, old.counts[r.at*b.views:(r.at+1)*b.views]...)
		b.sums = append(b.sums, old.sums[r.at*width:(r.at+1)*width]...)
		b.present = append(b.present, old.present[r.at*width:(r.at+1)*width]...)
		if b.detailed {
			b.details = append(b.details, old.details[r.at*b.views:(r.at+1)*b.views]...)
		}
	}
	if len(b.numbers) > fewGroups {
		for g, number := range b.numbers {
			b.index.put(number, g)
		}
	}
}

// end adds what bounding keeps of the (customer, block) to the totals.
func (b *bounder) end() {
	if int64(len(b.numbers)) <= b.mostPartitions {
		for g := range b.numbers {
			b.addGroup(g)
		}
	} else {
		for _, r := range b.chosen(b.numbers) {
			b.addGroup(r.at)
		}
	}
	if b.aggregation.apart {
		b.kept.close(b.customer)
	}
}

func (b *bounder) addGroup(g int) {
	width := len(b.question.columns)
	for v := range b.question.views {
		if at := g*b.views + v; b.question.views[v].ranked && b.counts[at] > b.mostRows {
			b.details[at].rows = b.smallest(b.details[at].rows)
			b.recount(g, v)
		}
	}
	into := b.totals.at(b.totals.slot(b.numbers[g]))
	for j := range b.question.columns {
		c := &b.question.columns[j]
		at := g*b.views + c.view
		if b.counts[at] == 0 {
			continue // no row passes the column's tests
		}
		switch {
		case c.Count == plan.CountCustomers:
			if b.aggregation.apart {
				b.kept.add(b.numbers[g], c.count)
			} else {
				into[c.at].Add(1)
			}
		case c.Count == plan.CountRows:
			into[c.at].Add(min(b.counts[at], b.mostRows))
		case c.Count.ReadsTimes():
			into[c.at].Add(b.question.evaluator.CountTimes(c.Column, b.details[at].times))
		case c.Of != plan.ValueRow:
			b.addValue(into[c.at:c.at+c.Width()], j, g)
		case c.Last:
			b.addLast(into[c.at:c.at+c.Width()], c, g)
		case c.Count == plan.Total:
			if b.present[g*width+j] {
				into[c.at].Add(b.sums[g*width+j].Clamped(c.Lower, c.Upper))
			}
		case c.Count == plan.Histogram:
			b.addRows(into[c.at:c.at+c.Bins], c, g)
		default:
			into[c.at].AddTotal(b.sums[g*width+j])
		}
	}
}

// addValue adds the number that a column reads of a group as a whole.
func (b *bounder) addValue(into []bounding.Total, j, g int) {
	c, at := &b.question.columns[j], g*len(b.question.columns)+j
	switch {
	case c.Of == plan.ValueRows:
		bounding.AddRow(into, c.Column, b.counts[g*b.views+c.view])
	case c.Of == plan.ValueDistinct:
		count := int64(0)
		for label := range b.details[g*b.views+c.view].labels {
			if int(label[0]) == j {
				count++
			}
		}
		bounding.AddRow(into, c.Column, count)
	case b.present[at]:
		bounding.AddRow(into, c.Column, b.sums[at].Clamped(c.Lower, c.Upper))
	}
}

// addLast adds the last known value of a group.
func (b *bounder) addLast(into []bounding.Total, c *column, g int) {
	p := b.details[g*b.views+c.view].lasts[c.level]
	if p.segment == nil {
		return
	}
	v, _ := p.segment.measures[c.Measure].at(p.row)
	if c.Count == plan.Total {
		into[0].Add(max(c.Lower, min(v, c.Upper)))
	} else {
		bounding.AddRow(into, c.Column, v)
	}
}

// addRows adds the rows of a group that bounding keeps.
func (b *bounder) addRows(into []bounding.Total, c *column, g int) {
	for _, p := range b.details[g*b.views+c.view].rows {
		if values := p.segment.measures[c.Measure]; values != nil {
			if v, ok := values.at(p.row); ok {
				bounding.AddRow(into, c.Column, v)
			}
		}
	}
}

// note remembers what the columns of a view need of a row of a group.
func (b *bounder) note(v *view, d *detail, at int, p place) {
	if v.ranked {
		d.rows = append(d.rows, p)
		if int64(len(d.rows)) >= 4*b.mostRows+64 {
			d.rows = b.smallest(d.rows) // bounding will not keep the others
		}
	}
	if v.timed {
		ms, _ := p.segment.time.at(p.row)
		d.times = append(d.times, ms)
	}
	if v.distinct {
		b.noteLabels(d, at, p)
	}
	if !v.lasts {
		return
	}
	for i, measure := range b.question.levels {
		if n := p.segment.measures[measure]; n != nil && n.has(p.row) && b.comesAfter(p, d.lasts[i]) {
			d.lasts[i] = p
		}
	}
}

// noteLabels remembers which combinations of labels a row has, for the columns of a view.
func (b *bounder) noteLabels(d *detail, view int, p place) {
	if d.labels == nil {
		d.labels = make(map[string]struct{})
	}
	policy := b.question.policy
	if b.row.Dimensions == nil {
		b.row = rows.Row{Dimensions: make([]rows.Text, len(policy.Dimensions)), Measures: make([]rows.Number, len(policy.Measures))}
	}
	p.segment.fill(&b.row, p.row, b.aggregation.dictionaries)
	for j := range b.question.columns {
		if b.question.columns[j].Of != plan.ValueDistinct || b.question.columns[j].view != view {
			continue
		}
		text, ok := b.evaluator.Distinct(append(b.scratch[:0], byte(j)), j, &b.row)
		b.scratch = text
		if _, known := d.labels[string(text)]; ok && !known {
			d.labels[string(text)] = struct{}{}
		}
	}
}

// comesAfter tells whether a row is later than another, or of the same time and with larger canonical bytes.
func (b *bounder) comesAfter(p, than place) bool {
	if than.segment == nil {
		return true
	}
	if p.segment.time != nil {
		later, _ := p.segment.time.at(p.row)
		earlier, _ := than.segment.time.at(than.row)
		if later != earlier {
			return later > earlier
		}
	}
	return bytes.Compare(b.canonical(p), b.canonical(than)) > 0
}

// canonical gives the canonical bytes of a row.
func (b *bounder) canonical(p place) []byte {
	policy := b.question.policy
	row := rows.Row{Dimensions: make([]rows.Text, len(policy.Dimensions)), Measures: make([]rows.Number, len(policy.Measures))}
	p.segment.fill(&row, p.row, b.aggregation.dictionaries)
	return rows.AppendRow(nil, policy, &row)
}

// smallest gives the rows that bounding keeps.
func (b *bounder) smallest(all []place) []place {
	if int64(len(all)) <= b.mostRows {
		return all
	}
	ranks := make([]rowRank, len(all))
	for i, p := range all {
		canonical := b.canonical(p)
		key := bounding.HashKey(canonical)
		ranks[i] = rowRank{hash: key.Of(b.unitHash()), bytes: canonical, at: i}
	}
	slices.SortFunc(ranks, func(a, b rowRank) int { return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.bytes, b.bytes)) })
	kept := make([]place, b.mostRows)
	for i := range kept {
		kept[i] = all[ranks[i].at]
	}
	return kept
}

// recount adds up the rows of a group in a view anew, of which bounding does not keep all.
func (b *bounder) recount(g, view int) {
	width := len(b.question.columns)
	for j := range b.question.columns {
		if c := &b.question.columns[j]; c.view == view && c.ReadsRows() && c.isSummed() {
			b.sums[g*width+j] = bounding.Total{}
			b.addRows(b.sums[g*width+j:], c, g)
		}
	}
}
