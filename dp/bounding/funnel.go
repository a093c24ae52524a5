package bounding

import (
	"context"
	"math"
	"slices"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// stepsTaken is how many steps of the funnel the rows take in the order of time, each by a row of its own, the last no
// later after the first than allowed. Of rows at one time those that can be an earlier step come first, then those with the
// smaller canonical bytes: a choice, which has to be the same for the same rows.
func (s *Several) stepsTaken(ctx context.Context, counting []Unit) (int, error) {
	type stepRow struct {
		*rows.Row
		passes []bool
		first  int // step that it can be
	}
	var all []stepRow
	for _, u := range counting {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		for i := range u.Rows {
			r := stepRow{Row: &u.Rows[i], first: -1}
			for step, tests := range s.steps {
				passes := passAll(tests, r.Row)
				if r.passes = append(r.passes, passes); passes && r.first < 0 {
					r.first = step
				}
			}
			if r.first >= 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b stepRow) int {
		if a.Time == b.Time && a.first != b.first {
			return a.first - b.first
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
			if !r.passes[step] || start == never || late {
				continue
			}
			began[step] = max(began[step], start)
			taken = max(taken, step+1)
		}
	}
	return taken, nil
}
