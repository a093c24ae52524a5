package bounding

import (
	"context"
	"math"
	"math/bits"
	"slices"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// stepsTaken is how many steps of the funnel the rows take in the order of time, each by a row of its own, the last no
// later after the first than allowed. Of rows at one time those that can be an earlier step come first, then those with the
// smaller canonical bytes: a choice, which has to be the same for the same rows.
func (s *Several) stepsTaken(ctx context.Context, counting []Unit) (int, error) {
	type stepRow struct {
		*rows.Row
		passes uint // a bit for each step that it can be
	}
	var all []stepRow
	for _, u := range counting {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		for i := range u.Rows {
			r := stepRow{Row: &u.Rows[i]}
			for step, tests := range s.steps {
				if passAll(tests, r.Row) {
					r.passes |= 1 << step
				}
			}
			if r.passes != 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b stepRow) int {
		first := func(r stepRow) int { return bits.TrailingZeros(r.passes) }
		if a.Time == b.Time && first(a) != first(b) {
			return first(a) - first(b)
		}
		return s.compare(a.Row, b.Row)
	})
	// Of all ways to have taken so many steps, the one whose first step was latest leaves most time for the others.
	const never = math.MinInt64
	began := make([]int64, len(s.steps))
	for i := range began {
		began[i] = never
	}
	taken := 0
	for _, r := range all {
		for step := len(s.steps) - 1; step >= 0; step-- { // backwards, so that a row is no more than one step
			start := r.Time
			if step > 0 {
				start = began[step-1]
			}
			late := start != never && s.profile.Funnel.Within > 0 && r.Time-start > s.profile.Funnel.Within
			if r.passes>>step&1 == 0 || start == never || late {
				continue
			}
			began[step] = max(began[step], start)
			taken = max(taken, step+1)
		}
	}
	return taken, nil
}
