package bounding

import (
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// timeKeys is rows.TimeKey with a memory: reading the calendar for every row would cost more than all the
// rest. A key other than the hour is the same all day.
type timeKeys struct {
	unit  rows.TimeUnit
	zone  *time.Location
	hours []string // every key of the hour
	known []dayKey // by start
	last  int      // in known
}

type dayKey struct {
	start, end int64 // milliseconds since 1970 UTC, end excluded
	key        string
}

func newTimeKeys(unit rows.TimeUnit, zone *time.Location) *timeKeys {
	day := rows.FirstDate()
	return &timeKeys{unit: unit, zone: zone, hours: rows.TimeKeys(day, day, rows.Hour)}
}

func (k *timeKeys) key(ms int64) string {
	if k.unit == rows.Hour {
		return k.hours[time.UnixMilli(ms).In(k.zone).Hour()]
	}
	if k.last >= len(k.known) || ms < k.known[k.last].start || ms >= k.known[k.last].end {
		k.last = k.search(ms)
	}
	return k.known[k.last].key
}

// search gives the position of an instant's day, adding it where it is new.
func (k *timeKeys) search(ms int64) int {
	at, _ := slices.BinarySearchFunc(k.known, ms, func(d dayKey, ms int64) int {
		if d.end <= ms {
			return -1
		}
		return 1
	})
	if at < len(k.known) && k.known[at].start <= ms {
		return at
	}
	day := rows.DateOf(ms, k.zone)
	d := dayKey{key: rows.TimeKey(ms, k.unit, k.zone)}
	d.start, d.end = rows.Span(day, day, k.zone)
	k.known = slices.Insert(k.known, at, d)
	return at
}
