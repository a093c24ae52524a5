package mechanism

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Hierarchy says how the cells of several levels add up: each cell of a coarser level is the sum of some finest cells,
// and each finest cell is in one cell of each level.
type Hierarchy struct {
	Finest int
	Levels []HierarchyLevel
}

// HierarchyLevel is one coarser level.
type HierarchyLevel struct {
	Cells int
	Of    []int // by finest cell: the cell of this level that it is in
}

// The sizes up to which levels that are not nested are reconciled: finest cells that they tie together, and the sum of
// the cubes of those over all different ties, which is the number of multiplications.
const (
	maxTied = 1000
	maxWork = 3e9
)

// Check refuses levels that take too long to reconcile. The error says what to do.
func (h Hierarchy) Check() error {
	s := h.arrange()
	work, known := 0.0, map[string]bool{}
	for _, c := range s.components {
		if len(c.cells) > maxTied {
			return fmt.Errorf("has levels that are not nested and tie %d groups together, more than %d: use levels of which each leaves out more keys than the one before, or keep a key in all of them", len(c.cells), maxTied)
		}
		if !known[c.pattern] {
			known[c.pattern] = true
			work += math.Pow(float64(len(c.cells)), 3)
		}
	}
	if work > maxWork {
		return fmt.Errorf("has levels that are not nested over too many groups: use levels of which each leaves out more keys than the one before, or fewer groups")
	}
	return nil
}

// leastShare of the precision goes to levels in equal parts, whatever they are worth: each is drawn.
const leastShare = 0.01

// Shares splits the precision of one vector over the finest level and Levels, of which the changes have these sums of
// squares: so that, of all levels, the variances that sums over finer draws leave are least in proportion to those that
// the finest draws alone would leave. With g_k = squares_0/squares_k times how many finest cells a cell of k has,
// what is made small is
//
//	sum over levels l of 1 / (sum over levels k that refine l of share_k*g_k),
//
// which is convex; the steps are those of the multiplicative algorithm for optimal designs (Silvey, Titterington and
// Torsney, "An algorithm for optimal designs on a finite design space", 1978). A level whose sums move so much that
// drawing it is worth nothing gets next to nothing.
func (h Hierarchy) Shares(squares []float64) []float64 {
	n := len(h.Levels) + 1
	gain, shares := make([]float64, n), make([]float64, n)
	refined := make([][]int, n) // by level: those that refine it
	for l := range n {
		cells := h.Finest
		if l > 0 {
			cells = h.Levels[l-1].Cells
		}
		gain[l], shares[l] = squares[0]/squares[l]*float64(h.Finest)/float64(cells), 1/float64(n)
		for k := range n {
			if k == l || k == 0 || l > 0 && refines(h.Levels[k-1], h.Levels[l-1]) {
				refined[l] = append(refined[l], k)
			}
		}
	}
	for range 300 {
		slope := make([]float64, n)
		for l := range n {
			precision := 0.0
			for _, k := range refined[l] {
				precision += shares[k] * gain[k]
			}
			for _, k := range refined[l] {
				slope[k] += gain[k] / precision / precision
			}
		}
		sum := 0.0
		for k := range n {
			shares[k] *= math.Sqrt(slope[k])
			sum += shares[k]
		}
		for k := range n {
			shares[k] /= sum
		}
	}
	for k := range n { // in millionths, rounded down: they add up to at most 1, and are the same everywhere
		shares[k] = math.Floor(1e6*((1-leastShare)*shares[k]+leastShare/float64(n))) / 1e6
	}
	return shares
}

// structure is a hierarchy as the passes need it: components of finest cells at the bottom, and a tree above them. The
// level of components itself may be drawn or not.
type structure struct {
	components []component
	of         []int   // by finest cell: its component
	low        []int   // levels below the tree, as positions in Hierarchy.Levels
	tree       []int   // levels of the tree from the finest up, likewise; -1: components that no level draws
	parents    [][]int // by level of the tree: of each cell, its cell in the next
}

// component is a set of finest cells that levels which are not nested tie together; a single cell where all are.
type component struct {
	cells   []int
	pattern string // the same where the normal equations are
}

// tied is what the normal equations of a component give for every one of its pattern.
type tied struct {
	covariance [][]float64 // of the finest cells
	withTotal  []float64   // of each with the sum of all
	total      float64     // variance of that sum
}

// refines tells whether cells of one level always lie in one cell of another.
func refines(fine, coarse HierarchyLevel) bool {
	in := make([]int, fine.Cells)
	for i := range in {
		in[i] = -1
	}
	for cell, f := range fine.Of {
		c := coarse.Of[cell]
		if in[f] >= 0 && in[f] != c {
			return false
		}
		in[f] = c
	}
	return true
}

// arrange finds the tree: of the levels, those that all others refine or are refined by, and that lie above every
// level which is not one of them.
func (h Hierarchy) arrange() structure {
	n := len(h.Levels)
	var crossing []int
	for i := range n {
		for j := range n {
			if i != j && !refines(h.Levels[i], h.Levels[j]) && !refines(h.Levels[j], h.Levels[i]) {
				crossing = append(crossing, i)
				break
			}
		}
	}
	// Components are what crossing levels tie together.
	root := newForest(h.Finest)
	for _, l := range crossing {
		first := make([]int, h.Levels[l].Cells)
		for i := range first {
			first[i] = -1
		}
		for cell, at := range h.Levels[l].Of {
			if first[at] < 0 {
				first[at] = cell
			} else {
				root[root.of(cell)] = root.of(first[at])
			}
		}
	}
	s := structure{of: make([]int, h.Finest)}
	number := map[int]int{}
	for cell := range h.Finest {
		at, known := number[root.of(cell)]
		if !known {
			at = len(s.components)
			number[root.of(cell)] = at
			s.components = append(s.components, component{})
		}
		s.of[cell] = at
		s.components[at].cells = append(s.components[at].cells, cell)
	}

	bottom := HierarchyLevel{Cells: len(s.components), Of: s.of}
	s.tree = []int{-1}
	for i, l := range h.Levels {
		switch {
		case slices.Contains(crossing, i) || !refines(bottom, l):
			s.low = append(s.low, i)
		case l.Cells == bottom.Cells && s.tree[0] < 0: // the components themselves
			s.tree[0] = i
		default:
			s.tree = append(s.tree, i)
		}
	}
	slices.SortFunc(s.tree[1:], func(a, b int) int { return h.Levels[b].Cells - h.Levels[a].Cells })
	s.parents = make([][]int, len(s.tree))
	for t := range s.tree[:len(s.tree)-1] {
		fine, coarse := bottom, h.Levels[s.tree[t+1]]
		if t > 0 {
			fine = h.Levels[s.tree[t]]
		}
		s.parents[t] = make([]int, fine.Cells)
		for cell := range h.Finest {
			s.parents[t][s.cellAt(h, t, cell)] = coarse.Of[cell]
		}
	}
	for i := range s.components {
		s.components[i].pattern = s.patternOf(h, s.components[i].cells)
	}
	return s
}

// forest tells sets apart: each number leads to that of its set.
type forest []int

func newForest(n int) forest {
	f := make(forest, n)
	for i := range f {
		f[i] = i
	}
	return f
}

// of is the number of the set that i is in.
func (f forest) of(i int) int {
	for f[i] != i {
		f[i] = f[f[i]]
		i = f[i]
	}
	return i
}

// cellAt is the cell of a level of the tree that a finest cell is in.
func (s structure) cellAt(h Hierarchy, t, cell int) int {
	if t == 0 {
		return s.of[cell]
	}
	return h.Levels[s.tree[t]].Of[cell]
}

// patternOf writes which cells of a component fall together at which level.
func (s structure) patternOf(h Hierarchy, cells []int) string {
	text := binary.AppendUvarint(nil, uint64(len(cells)))
	for _, l := range s.low {
		number := map[int]uint64{}
		for _, cell := range cells {
			at := h.Levels[l].Of[cell]
			if _, known := number[at]; !known {
				number[at] = uint64(len(number))
			}
			text = binary.AppendUvarint(text, number[at])
		}
	}
	return string(text)
}
