package bounding

import (
	"math"
	"slices"
	"testing"

	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// What dp/mechanism draws jointly: without one (customer, block), the three numbers of a variance change, in units of
// their bounds, by at most 5 in sum and 3 in length in each partition, and the nodes of each level of a tree by at most
// Linf in sum (dp/PRIVACY.md, "Variance" and "Quantiles").
func TestRemovingOneCustomerBlockChangesJointVectorsByAtMostTheirNorms(t *testing.T) {
	const lower, upper = -3, 4
	most1, most2, mostLevel := 0.0, 0.0, 0.0 // shares of what is allowed
	for seed := range uint64(cases) {
		c := newCase(seed)
		tree := mechanism.Tree{Leaves: upper - lower + 1}
		measure := c.random.IntN(2)
		column := func(count plan.Count) plan.Column {
			return plan.Column{Count: count, Measure: measure, Lower: lower, Upper: upper}
		}
		c.plan.Tree.Columns = []plan.Column{
			{Count: plan.CountMeasured, Measure: measure}, column(plan.Centred), column(plan.Squared),
			{Count: plan.Histogram, Measure: measure, Lower: lower, Upper: upper, Bins: tree.Leaves, BinWidth: 1},
		}
		if len(c.rows) == 0 || c.plan.Tree.Input.Rows > 1<<20 {
			continue
		}
		linf := c.plan.Tree.Input.Rows
		if c.plan.Policy.Unit.Row {
			linf = 1
		}
		victim := c.rows[c.random.IntN(len(c.rows))]
		e := c.evaluator(t)
		block := e.block(&victim)
		without := slices.DeleteFunc(slices.Clone(c.rows), func(r rows.Row) bool {
			return r.Customer == victim.Customer && e.block(&r) == block
		})
		before, after := byKey(reference(t, c.plan, c.rows)), byKey(reference(t, c.plan, without))
		v := mechanism.VarianceBounds(1, linf, lower, upper)
		for key := range union(before, after) {
			at := func(of map[string][]int64, i int) int64 { return value(of, key, i).Int64() }
			l1, l2 := 0.0, 0.0
			for i, times := range []float64{2, 2, 1} {
				change := times * math.Abs(float64(at(before, i)-at(after, i))) / float64(v.Bounds[i])
				l1 += change
				l2 += change * change
			}
			l1, l2 = l1/float64(v.L1), math.Sqrt(l2)/float64(v.L2)
			if l1 > 1+1e-9 || l2 > 1+1e-9 {
				t.Fatalf("case %d: the vector of a variance of %q changed by %v and %v of what is allowed", seed, key, l1, l2)
			}
			most1, most2 = max(most1, l1), max(most2, l2)

			bins := make([]int64, tree.Leaves)
			for i := range bins {
				bins[i] = at(before, 3+i) - at(after, 3+i)
			}
			nodes := tree.Counts(bins)
			for _, level := range [][]int64{nodes[:tree.Leaves], nodes[tree.Leaves:]} {
				sum := 0.0
				for _, change := range level {
					sum += math.Abs(float64(change))
				}
				if sum > float64(linf) {
					t.Fatalf("case %d: a level of the tree of %q changed by %v, Linf is %d", seed, key, sum, linf)
				}
				mostLevel = max(mostLevel, sum/float64(linf))
			}
		}
	}
	if most1 < 1-1e-9 || most2 < 1-1e-9 || mostLevel < 1 {
		t.Errorf("the cases are too tame to show anything: they reach %v, %v and %v of what is allowed", most1, most2, mostLevel)
	}
}
