package mechanism

import "slices"

// Quantile reads one rank from noised trees over the bins of [lo, hi]. It is prepared once for all groups of an
// answer.
type Quantile struct {
	tree         Tree
	lo, hi, wide int64
	rank         float64
	noise        law
	confidence   Confidence
	levels       []treeLevel
	critical     map[[3]int]float64
	typical      map[[3]int]float64 // at the confidence of one standard deviation
}

// treeLevel is where the nodes of a level stand that cover so many bins each.
type treeLevel struct{ from, count, covers int }

// oneSD is how much of a normal law lies within one standard deviation.
const oneSD Confidence = 0.6826894921370859

// QuantileBounds are those of a tree's levels: a customer's rows in a partition, at most so many, change the nodes of
// one level by so many together, and no more of them than there are.
func QuantileBounds(t Tree, partitions, rows int64) Vector {
	return Vector{Partitions: partitions, Bounds: slices.Repeat([]int64{rows}, t.Height()), Spread: min(rows, int64(t.Leaves))}
}

// NewQuantile prepares a rank, 0 to 1, of a tree whose bins are wide values each and whose nodes are drawn by vec.
// [lo, hi] are in the measure's fixed-point units.
func NewQuantile(t Tree, vec Vector, lo, hi, wide int64, rank float64, c Confidence) (*Quantile, error) {
	if len(vec.Bounds) != t.Height() {
		return nil, errCoordinates
	}
	noise, err := vec.Draw(0).law()
	if err != nil {
		return nil, err
	}
	q := &Quantile{tree: t, lo: lo, hi: hi, wide: wide, rank: rank, noise: noise, confidence: c, critical: map[[3]int]float64{}, typical: map[[3]int]float64{}}
	for covers, from := 1, 0; ; covers *= Branches {
		count := t.level(covers)
		q.levels = append(q.levels, treeLevel{from, count, covers})
		if from += count; count <= Branches {
			return q, nil
		}
	}
}

// Interval is the least value at or below which lies at least the rank's share of rows, from the noised nodes of one
// group.
//
// A bin can hold it only if fewer rows than that share lie before the bin and no fewer up to its end. Each bin is tested
// for both, at half the miss each, and the interval reaches from the first to the last bin that passes: the bin that
// holds the quantile fails a test with at most that probability, whatever the other bins do. Where the noise hides the
// rows, every bin passes; where it contradicts itself, none does, and the interval is all of [lo, hi]. sd is half the
// interval at the confidence of one standard deviation.
func (q *Quantile) Interval(nodes []int64) (value, low, high, sd float64) {
	before := make([]float64, q.tree.Leaves+1) // rows before each bin, less the share of all
	terms := make([][3]int, q.tree.Leaves+1)
	total := q.total(nodes)
	for i := range before {
		rows, of := q.rowsBefore(nodes, i)
		before[i], terms[i] = rows-q.rank*total, of
	}
	value = q.estimate(before)
	low, high = q.passing(before, terms, q.confidence, q.critical, value)
	from, to := q.passing(before, terms, oneSD, q.typical, value)
	return value, low, high, (to - from) / 2
}

// passing is from the first to the last bin that passes, and holds the estimate.
func (q *Quantile) passing(before []float64, terms [][3]int, c Confidence, known map[[3]int]float64, value float64) (low, high float64) {
	low, high = value, value
	none := true
	for bin := range q.tree.Leaves {
		if before[bin] > q.criticalOf(terms[bin], c, known) || before[bin+1] < -q.criticalOf(terms[bin+1], c, known) {
			continue
		}
		from, to := q.edges(bin)
		low, high, none = min(low, from), max(high, to), false
	}
	if none {
		return float64(q.lo), float64(q.hi)
	}
	return low, high
}

// edges are the least and the largest value of a bin.
func (q *Quantile) edges(bin int) (from, to float64) {
	first := q.lo + int64(bin)*q.wide
	return float64(first), float64(first + min(q.wide-1, q.hi-first))
}

func (q *Quantile) top() treeLevel { return q.levels[len(q.levels)-1] }

// total is the number of all rows.
func (q *Quantile) total(nodes []int64) (rows float64) {
	for _, v := range nodes[q.top().from:][:q.top().count] {
		rows += float64(v)
	}
	return rows
}

// rowsBefore adds up as few nodes as cover the bins before one, and tells how many of these are of the top level, how
// many of it are not, and how many are of others.
func (q *Quantile) rowsBefore(nodes []int64, bin int) (rows float64, terms [3]int) {
	at := 0
	for i := len(q.levels) - 1; i >= 0; i-- {
		l, kind := q.levels[i], 2
		if i == len(q.levels)-1 {
			kind = 0
		}
		for at < bin {
			node := at / l.covers
			end := min((node+1)*l.covers, q.tree.Leaves)
			if end > bin {
				break
			}
			rows += float64(nodes[l.from+node])
			terms[kind]++
			at = end
		}
	}
	terms[1] = q.top().count - terms[0]
	return rows, terms
}

// criticalOf is what the noise of a test exceeds on one side with at most half the miss.
func (q *Quantile) criticalOf(terms [3]int, c Confidence, known map[[3]int]float64) float64 {
	if v, ok := known[terms]; ok {
		return v
	}
	of := []term{{q.noise, 1 - q.rank, terms[0]}, {q.noise, q.rank, terms[1]}, {q.noise, 1, terms[2]}}
	beyond := quantile(of, c.Miss())
	known[terms] = beyond
	return beyond
}

// estimate makes the noised counts ascend, by the least change of squares (the pool-adjacent-violators algorithm:
// Ayer and others, 1955), and looks where they cross, evenly within a bin.
func (q *Quantile) estimate(before []float64) float64 {
	type block struct {
		mean  float64
		count int
	}
	var blocks []block
	for _, v := range before {
		b := block{v, 1}
		for len(blocks) > 0 && blocks[len(blocks)-1].mean > b.mean {
			last := blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
			n := last.count + b.count
			b = block{(last.mean*float64(last.count) + b.mean*float64(b.count)) / float64(n), n}
		}
		blocks = append(blocks, b)
	}
	ascending := make([]float64, 0, len(before))
	for _, b := range blocks {
		ascending = append(ascending, slices.Repeat([]float64{b.mean}, b.count)...)
	}
	end := slices.IndexFunc(ascending, func(v float64) bool { return v >= 0 })
	switch {
	case end < 0:
		return float64(q.hi)
	case end == 0:
		return float64(q.lo)
	}
	from, to := q.edges(end - 1)
	share := -ascending[end-1] / (ascending[end] - ascending[end-1])
	return from + share*(to-from)
}

// ExpectedHalfWidth is half of an interval for n rows that are spread evenly over [lo, hi], before it is drawn.
func (q *Quantile) ExpectedHalfWidth(n float64) float64 {
	return q.expected(n, q.confidence, q.critical)
}

// ExpectedSD is half of it at the confidence of one standard deviation.
func (q *Quantile) ExpectedSD(n float64) float64 { return q.expected(n, oneSD, q.typical) }

func (q *Quantile) expected(n float64, c Confidence, known map[[3]int]float64) float64 {
	reach := float64(q.hi) - float64(q.lo)
	if !(n > 0) {
		return reach / 2
	}
	_, terms := q.rowsBefore(make([]int64, q.tree.Nodes()), int(q.rank*float64(q.tree.Leaves)))
	return min(reach/2, q.criticalOf(terms, c, known)/n*reach+float64(q.wide)/2)
}
