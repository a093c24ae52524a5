package rows

import (
	"fmt"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// RetiredBefore is the month, as 2026-01, before whose beginning a block must have ended to be retired at an instant: it
// ended longer ago than the policy retains. Empty: the policy retains for ever. It depends on policy and clock alone.
func RetiredBefore(p *dp.Policy, now time.Time) (month string, err error) {
	if p.RetainMonths == 0 {
		return "", nil
	}
	zone, err := Location(p)
	if err != nil {
		return "", fmt.Errorf("finding the time zone of dataset %s: %w", p.Name, err)
	}
	year, at, _ := now.In(zone).Date()
	first := time.Date(year, at-time.Month(p.RetainMonths), 1, 0, 0, 0, 0, time.UTC)
	if first.Year() < FirstYear {
		return "", nil
	}
	return first.Format("2006-01"), nil
}

// IsRetired tells whether a block ends before a month begins (dp.Retirement.Before). Blocks that an earlier policy had, of
// another kind, count as well; the block all never ends.
func IsRetired(block, before string) bool {
	if before == "" {
		return false
	}
	for _, kind := range []dp.Block{dp.Month, dp.Quarter, dp.Year} {
		if _, last, err := BlockDates(block, kind); err == nil {
			return monthText(last) < before
		}
	}
	return false
}

// FirstKept is the first day of the first block that does not end before a month begins.
func FirstKept(before string, kind dp.Block) (Date, error) {
	day, err := ParseDate(before + "-01")
	if err != nil {
		return Date{}, fmt.Errorf("finding the first block that is kept: %w", err)
	}
	first, _, err := BlockDates(blockOfDate(day, kind), kind)
	if err != nil {
		return Date{}, fmt.Errorf("finding the first block that is kept: %w", err)
	}
	return first, nil
}
