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

// Reconciliation finds figures of all levels that add up and are closest to independent normal ones, each weighed by its
// precision: the least squares estimate, which is also the mean of what is left to believe after all are seen. Where
// levels are nested that takes two passes over the tree (Hay, Rastogi, Miklau and Suciu, "Boosting the Accuracy of
// Differentially Private Histograms Through Consistency", 2010, here with a variance of its own for each level); below
// the first level that all others are nested in, normal equations are solved.
type Reconciliation struct {
	hierarchy Hierarchy
	structure
	variance []float64 // of each level's draws: the finest, then Levels
	solved   map[string]*tied
	// up are, by level of the tree, the variances of the estimates from below and at each cell; down those from
	// everything.
	below, here, all [][]float64
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

// NewReconciliation prepares the reconciliation of draws with these standard deviations: of the finest level, then of
// Levels. The hierarchy must pass Check.
func NewReconciliation(h Hierarchy, sds []float64) *Reconciliation {
	r := &Reconciliation{hierarchy: h, structure: h.arrange(), solved: map[string]*tied{}}
	for _, sd := range sds {
		r.variance = append(r.variance, sd*sd)
	}
	r.prepare()
	return r
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

// prepare finds all variances, which depend on no draw.
func (r *Reconciliation) prepare() {
	height := len(r.tree)
	r.below, r.here, r.all = make([][]float64, height), make([][]float64, height), make([][]float64, height)
	r.below[0] = make([]float64, len(r.components))
	for i, c := range r.components {
		r.below[0][i] = r.tied(c).total
	}
	for t := range height {
		r.here[t] = make([]float64, len(r.below[t]))
		for i, below := range r.below[t] {
			r.here[t][i] = below
			if r.tree[t] >= 0 {
				own := r.variance[1+r.tree[t]]
				r.here[t][i] = below * own / (below + own)
			}
		}
		if t+1 < height {
			r.below[t+1] = make([]float64, r.hierarchy.Levels[r.tree[t+1]].Cells)
			for i, p := range r.parents[t] {
				r.below[t+1][p] += r.here[t][i]
			}
		}
	}
	r.all[height-1] = r.here[height-1]
	for t := height - 2; t >= 0; t-- {
		r.all[t] = make([]float64, len(r.here[t]))
		for i, p := range r.parents[t] {
			share := r.here[t][i] / r.below[t+1][p]
			r.all[t][i] = r.here[t][i]*(1-share) + share*share*r.all[t+1][p]
		}
	}
}

// tied solves the normal equations of a component, once for all of its pattern.
func (r *Reconciliation) tied(c component) *tied {
	if known := r.solved[c.pattern]; known != nil {
		return known
	}
	n := len(c.cells)
	m := square(n)
	for i := range n {
		m[i][i] = 1 / r.variance[0]
	}
	for _, l := range r.low {
		for i, a := range c.cells {
			for j, b := range c.cells {
				if of := r.hierarchy.Levels[l].Of; of[a] == of[b] {
					m[i][j] += 1 / r.variance[1+l]
				}
			}
		}
	}
	t := &tied{covariance: inverse(m), withTotal: make([]float64, n)}
	for i, row := range t.covariance {
		for _, v := range row {
			t.withTotal[i] += v
		}
		t.total += t.withTotal[i]
	}
	r.solved[c.pattern] = t
	return t
}

func square(n int) [][]float64 {
	all := make([]float64, n*n)
	m := make([][]float64, n)
	for i := range m {
		m[i] = all[i*n : (i+1)*n]
	}
	return m
}

// inverse inverts a symmetric positive definite matrix by its Cholesky factor, in place of it.
func inverse(m [][]float64) [][]float64 {
	n := len(m)
	for j := range n { // m = L L', L in the lower half
		for k := range j {
			m[j][j] -= m[j][k] * m[j][k]
		}
		m[j][j] = math.Sqrt(m[j][j])
		for i := j + 1; i < n; i++ {
			sum := m[i][j]
			a, b := m[i][:j], m[j][:j]
			for k, v := range a {
				sum -= v * b[k]
			}
			m[i][j] = sum / m[j][j]
		}
	}
	// L^-1, transposed so that the rows that are multiplied are contiguous.
	inv := square(n)
	for j := range n {
		inv[j][j] = 1 / m[j][j]
		for i := j + 1; i < n; i++ {
			sum := 0.0
			a, b := m[i][j:i], inv[j][j:i]
			for k, v := range a {
				sum -= v * b[k]
			}
			inv[j][i] = sum / m[i][i]
		}
	}
	out := square(n)
	for i := range n {
		for j := i; j < n; j++ {
			sum := 0.0
			a, b := inv[i][j:], inv[j][j:]
			for k, v := range a {
				sum += v * b[k]
			}
			out[i][j], out[j][i] = sum, sum
		}
	}
	return out
}

// Reconciled are figures of all levels that add up: the finest, then Levels.
type Reconciled struct {
	Values [][]float64
	SDs    [][]float64 // their standard deviations; the noise is normal
}

// Solve reconciles drawn figures: of the finest level, then of Levels.
func (r *Reconciliation) Solve(drawn [][]int64) Reconciled {
	h := r.hierarchy
	finest := make([]float64, h.Finest)
	totals := make([][]float64, len(r.tree)) // by level of the tree: estimates from below and at each cell
	totals[0] = make([]float64, len(r.components))
	for i, c := range r.components {
		r.solveComponent(c, drawn, finest)
		for _, cell := range c.cells {
			totals[0][i] += finest[cell]
		}
	}
	below := make([][]float64, len(r.tree))
	for t := range r.tree {
		below[t] = slices.Clone(totals[t])
		if level := r.tree[t]; level >= 0 {
			for i := range totals[t] {
				own := float64(drawn[1+level][r.drawnAt(t, i)])
				weight := r.here[t][i] / r.variance[1+level]
				totals[t][i] += weight * (own - below[t][i])
			}
		}
		if t+1 < len(r.tree) {
			totals[t+1] = make([]float64, len(r.below[t+1]))
			for i, p := range r.parents[t] {
				totals[t+1][p] += totals[t][i]
			}
		}
	}
	// Down again: what a cell gets more than its parts add up to goes to them in proportion to their variances.
	final := make([][]float64, len(r.tree))
	final[len(r.tree)-1] = totals[len(r.tree)-1]
	for t := len(r.tree) - 2; t >= 0; t-- {
		final[t] = slices.Clone(totals[t])
		for i, p := range r.parents[t] {
			final[t][i] += r.here[t][i] / r.below[t+1][p] * (final[t+1][p] - below[t+1][p])
		}
	}
	for i, c := range r.components {
		known := r.tied(c)
		for k, cell := range c.cells {
			finest[cell] += known.withTotal[k] / known.total * (final[0][i] - below[0][i])
		}
	}
	return Reconciled{Values: h.addUp(finest), SDs: r.sds()}
}

// drawnAt is the position among drawn figures of a cell of the tree: components are numbered in the order of their first
// cells, and a level that is the same may number them otherwise.
func (r *Reconciliation) drawnAt(t, cell int) int {
	if t > 0 {
		return cell
	}
	return r.hierarchy.Levels[r.tree[0]].Of[r.components[cell].cells[0]]
}

// solveComponent estimates the finest cells of a component from the levels below the tree.
func (r *Reconciliation) solveComponent(c component, drawn [][]int64, finest []float64) {
	if len(r.low) == 0 {
		for _, cell := range c.cells {
			finest[cell] = float64(drawn[0][cell])
		}
		return
	}
	known := r.tied(c)
	right := make([]float64, len(c.cells))
	for i, cell := range c.cells {
		right[i] = float64(drawn[0][cell]) / r.variance[0]
		for _, l := range r.low {
			right[i] += float64(drawn[1+l][r.hierarchy.Levels[l].Of[cell]]) / r.variance[1+l]
		}
	}
	for i, cell := range c.cells {
		for j, v := range known.covariance[i] {
			finest[cell] += v * right[j]
		}
	}
}

// addUp gives the sums of finest figures at every level, which add up because they are sums.
func (h Hierarchy) addUp(finest []float64) [][]float64 {
	values := [][]float64{finest}
	for _, l := range h.Levels {
		sums := make([]float64, l.Cells)
		for cell, at := range l.Of {
			sums[at] += finest[cell]
		}
		values = append(values, sums)
	}
	return values
}

// sds are the standard deviations of all reconciled figures.
func (r *Reconciliation) sds() [][]float64 {
	h := r.hierarchy
	out := [][]float64{make([]float64, h.Finest)}
	for _, l := range h.Levels {
		out = append(out, make([]float64, l.Cells))
	}
	for t, level := range r.tree {
		if level < 0 {
			continue
		}
		for i, v := range r.all[t] {
			out[1+level][r.drawnAt(t, i)] = math.Sqrt(max(0, v))
		}
	}
	// A set of cells of a component, given that the sum of all has this variance.
	given := func(c int, known *tied, variance, withTotal float64) float64 {
		share := withTotal / known.total
		return math.Sqrt(max(0, variance-share*withTotal+share*share*r.all[0][c]))
	}
	for i, c := range r.components {
		known := r.tied(c)
		for k, cell := range c.cells {
			out[0][cell] = given(i, known, known.covariance[k][k], known.withTotal[k])
		}
		for _, l := range r.low {
			together := map[int][]int{}
			for k, cell := range c.cells {
				at := h.Levels[l].Of[cell]
				together[at] = append(together[at], k)
			}
			for at, set := range together {
				variance, withTotal := 0.0, 0.0
				for _, a := range set {
					withTotal += known.withTotal[a]
					for _, b := range set {
						variance += known.covariance[a][b]
					}
				}
				out[1+l][at] = given(i, known, variance, withTotal)
			}
		}
	}
	return out
}

// NonNegative gives figures of all levels that add up and are not negative: from the top down, what is below 0 is raised
// to it, and its siblings pay in proportion to their variances.
func (r *Reconciliation) NonNegative(of Reconciled) [][]float64 {
	height := len(r.tree)
	current := make([]float64, len(r.all[height-1]))
	for i := range current {
		if level := r.tree[height-1]; level >= 0 {
			current[i] = max(0, of.Values[1+level][r.drawnAt(height-1, i)])
			continue
		}
		for _, cell := range r.components[i].cells { // components that no level draws
			current[i] += of.Values[0][cell]
		}
		current[i] = max(0, current[i])
	}
	for t := height - 2; t >= 0; t-- {
		children := make([][]int, len(current))
		for i, p := range r.parents[t] {
			children[p] = append(children[p], i)
		}
		values := r.treeValues(t, of)
		next := make([]float64, len(values))
		for p, list := range children {
			distribute(current[p], list, values, r.here[t], next)
		}
		current = next
	}
	finest := make([]float64, r.hierarchy.Finest)
	variances := make([]float64, r.hierarchy.Finest)
	for i, c := range r.components {
		known := r.tied(c)
		for k, cell := range c.cells {
			variances[cell] = known.covariance[k][k]
		}
		distribute(current[i], c.cells, of.Values[0], variances, finest)
	}
	return r.hierarchy.addUp(finest)
}

// treeValues are the reconciled figures of a level of the tree.
func (r *Reconciliation) treeValues(t int, of Reconciled) []float64 {
	values := make([]float64, len(r.all[t]))
	for cell := range r.hierarchy.Finest {
		values[r.cellAt(r.hierarchy, t, cell)] += of.Values[0][cell]
	}
	return values
}

// distribute sets parts to the nearest figures of at least 0 that add up to a whole of at least 0, nearness being weighed by
// precision: what is too much is taken from all in proportion to their variances, and whoever has none left drops out.
func distribute(whole float64, parts []int, values, variances, into []float64) {
	left := slices.Clone(parts)
	for {
		sum, variance := 0.0, 0.0
		for _, i := range left {
			sum += values[i]
			variance += variances[i]
		}
		dropped := false
		staying := left[:0:0]
		for _, i := range left {
			into[i] = values[i] + variances[i]/variance*(whole-sum)
			if into[i] < 0 {
				into[i], dropped = 0, true
			} else {
				staying = append(staying, i)
			}
		}
		if !dropped || len(staying) == 0 {
			return
		}
		left = staying
	}
}

// NormalHalfWidth is the half-width of an interval around a figure with normal noise.
func NormalHalfWidth(sd float64, c Confidence) float64 {
	return sd * math.Sqrt2 * math.Erfcinv(c.Miss())
}
