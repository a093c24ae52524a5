package mechanism

import (
	"math"
	"slices"
)

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
