package columnar

import (
	"fmt"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// calendar is what the time of a row adds to the number of its partition, for the rows of one block.
type calendar struct {
	bounded  bool // rows may lie outside of from <= time < to
	from, to int64
	offsets  []offset // of the clocks, by start; the first begins at or before every row
	first    int64    // day of days[0], counted from 1970-01-01 as the clocks show it
	days     []int64  // what each day adds; nil: no day is asked
	hours    []int64  // what each hour of the day adds; nil: no hour is asked
	same     *int64   // what every row adds, where that is known without its time
}

// offset is how far the clocks are ahead of UTC from an instant on, both in milliseconds.
type offset struct {
	start, ahead int64
	// reached is the last day that began before, counted from 1970-01-01: clocks that are put back over midnight do not
	// return to the day before (rows.DateOf).
	reached int64
}

const (
	hourMilliseconds = 60 * 60 * 1000
	dayMilliseconds  = 24 * hourMilliseconds
)

// calendarOf prepares a block for a sieve; nil where the time of its rows changes nothing. bounded says that it has to
// drop what lies outside of the scan, and not another one.
func (q *question) calendarOf(block string, of *sieve, bounded bool) (*calendar, error) {
	if q.policy.Time == nil {
		return nil, nil
	}
	scan, zone := q.evaluator.Scan(), q.evaluator.Zone()
	first, last, err := rows.BlockDates(block, q.policy.Unit.Block)
	if err != nil {
		return nil, fmt.Errorf("reading the dates of block %s: %w", block, err)
	}
	start, end := rows.Span(first, last, zone)
	c := &calendar{from: scan.From, to: scan.To, hours: of.hours}
	c.bounded = bounded && scan.Bounded && (scan.From > start || scan.To < end)
	if !c.bounded && len(of.days) == 0 && c.hours == nil {
		return nil, nil
	}
	if scan.Bounded {
		start, end = max(start, scan.From), min(end, scan.To)
		first, last = rows.DateOf(start, zone), rows.DateOf(max(start, end-1), zone)
	}
	c.offsets = offsetsBetween(start, end, zone)
	if len(of.days) > 0 {
		c.first = c.offsets[0].reached
		for day := first; !last.Before(day); day = day.AddDays(1) {
			c.days = append(c.days, of.dayNumber(day))
		}
	}
	if !c.bounded && c.hours == nil && !slices.ContainsFunc(c.days, func(number int64) bool { return number != c.days[0] }) {
		c.same = &c.days[0]
	}
	return c, nil
}

func offsetsBetween(start, end int64, zone *time.Location) (all []offset) {
	reached := int64((rows.Date{Year: 1970, Month: time.January, Day: 1}).DaysUntil(rows.DateOf(start, zone)))
	for at := time.UnixMilli(start).In(zone); ; {
		_, seconds := at.Zone()
		if len(all) > 0 {
			reached = max(reached, floorDiv(at.UnixMilli()-1+all[len(all)-1].ahead, dayMilliseconds))
		}
		all = append(all, offset{at.UnixMilli(), int64(seconds) * 1000, reached})
		_, next := at.ZoneBounds()
		if !next.IsZero() && !next.After(at) {
			// Beyond the zone's table, Go 1.26 ends a leap year a day early (time.Time.ZoneBounds). Looking again a day
			// later misses nothing: clocks do not change at the end of December.
			next = at.Add(dayMilliseconds * time.Millisecond)
		}
		if next.IsZero() || next.UnixMilli() >= end {
			all[0].start = start
			return all
		}
		at = next
	}
}

func (s *sieve) dayNumber(day rows.Date) (number int64) {
	for i := range s.days {
		number = added(number, s.days[i].number(rows.TimeKeys(day, day, s.days[i].unit)[0]))
	}
	return number
}

// local is an instant as the clocks show it, in milliseconds since 1970-01-01, and the day on which it falls, counted from
// there. The day is a later one than the clocks show where they were put back over midnight.
func (c *calendar) local(ms int64) (shown, day int64) {
	low, high := 0, len(c.offsets)-1 // the last that starts at or before ms
	for low < high {
		if middle := (low + high + 1) / 2; c.offsets[middle].start <= ms {
			low = middle
		} else {
			high = middle - 1
		}
	}
	shown = ms + c.offsets[low].ahead
	return shown, max(floorDiv(shown, dayMilliseconds), c.offsets[low].reached)
}

// number is what an instant adds.
func (c *calendar) number(ms int64) (number int64) {
	if c.bounded && (ms < c.from || ms >= c.to) {
		return dropped
	}
	shown, day := c.local(ms)
	if c.days != nil {
		at := day - c.first
		if at < 0 || at >= int64(len(c.days)) {
			return dropped
		}
		number = c.days[at]
	}
	if c.hours != nil {
		number = added(number, c.hours[(shown-floorDiv(shown, dayMilliseconds)*dayMilliseconds)/hourMilliseconds])
	}
	return number
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}
