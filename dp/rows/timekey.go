package rows

import (
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// TimeUnit is the unit of a built-in time key: time.day has the unit day.
type TimeUnit string

// The units. Hour is the hour of the day, 00 to 23; the others name a period of the calendar.
const (
	Hour    TimeUnit = "hour"
	Day     TimeUnit = "day"
	Week    TimeUnit = "week"
	Month   TimeUnit = "month"
	Quarter TimeUnit = "quarter"
	Year    TimeUnit = "year"
)

// timePrefix starts the field names of time keys. No dimension can have it: names have no dots.
const timePrefix = "time."

// TimeUnits gives every unit, finest first.
func TimeUnits() []TimeUnit { return []TimeUnit{Hour, Day, Week, Month, Quarter, Year} }

// ParseTimeUnit reads the name of a field such as time.day; ok says whether it names a time key.
func ParseTimeUnit(field string) (unit TimeUnit, ok bool) {
	name, ok := strings.CutPrefix(field, timePrefix)
	if !ok {
		return "", false
	}
	for _, u := range TimeUnits() {
		if string(u) == name {
			return u, true
		}
	}
	return "", false
}

// Field is the name of the unit's key in queries, such as time.day.
func (u TimeUnit) Field() string { return timePrefix + string(u) }

// TimeKey is the key of an instant in a zone: day 2026-01-31, week 2026-W05 (ISO 8601: the week belongs
// to the year of its Thursday), month 2026-01, quarter 2026-Q1, year 2026, hour 00 to 23 as the clocks
// show it. Within one unit, keys sort as time does.
func TimeKey(ms int64, u TimeUnit, loc *time.Location) string {
	if u == Hour {
		return hourText(time.UnixMilli(ms).In(loc).Hour())
	}
	return timeKeyOfDate(DateOf(ms, loc), u)
}

// TimeKeys gives every key of the days from to to (both included) in order, whether or not it has rows;
// for hours, those of a day. It is empty where to comes before from. The caller bounds the range.
func TimeKeys(from, to Date, u TimeUnit) []string {
	if to.Before(from) {
		return nil
	}
	var keys []string
	if u == Hour {
		for hour := range 24 {
			keys = append(keys, hourText(hour))
		}
		return keys
	}
	for d := from; !to.Before(d); d = startOfNext(d, u) {
		keys = append(keys, timeKeyOfDate(d, u))
	}
	return keys
}

// ValidTimeKey says whether key is a key of the unit in its only form, within the known years. Week 53
// is one only in years that have it.
func ValidTimeKey(u TimeUnit, key string) bool {
	switch u {
	case Hour:
		hour, ok := digits(key)
		return ok && len(key) == 2 && hour < 24
	case Day:
		_, err := ParseDate(key)
		return err == nil
	case Week:
		if len(key) != len("2026-W05") || key[4:6] != "-W" {
			return false
		}
		year, yearOK := digits(key[:4])
		week, weekOK := digits(key[6:])
		return yearOK && weekOK && year >= FirstYear && year <= LastYear && week >= 1 && week <= weeksOf(year)
	case Month, Quarter, Year:
		_, _, err := BlockDates(key, blockOf(u))
		return err == nil
	}
	return false
}

func timeKeyOfDate(d Date, u TimeUnit) string {
	switch u {
	case Day:
		return d.String()
	case Week:
		year, week := d.utc().ISOWeek()
		return padded(year, 4) + "-W" + padded(week, 2)
	case Month, Quarter, Year:
		return blockOfDate(d, blockOf(u))
	}
	return ""
}

// blockOf is the block that has the same period, and the same names, as a unit of a month or more.
func blockOf(u TimeUnit) dp.Block { return dp.Block(u) }

// startOfNext is the first day of the period after d's.
func startOfNext(d Date, u TimeUnit) Date {
	switch u {
	case Week:
		sinceMonday := (int(d.utc().Weekday()) + 6) % 7
		return d.AddDays(7 - sinceMonday)
	case Month:
		return Date{d.Year, d.Month, 1}.addMonths(1)
	case Quarter:
		return Date{d.Year, (d.Month-1)/3*3 + 1, 1}.addMonths(3)
	case Year:
		return Date{d.Year + 1, time.January, 1}
	}
	return d.AddDays(1)
}

func (d Date) addMonths(n int) Date { return dateOf(d.utc().AddDate(0, n, 0)) }

// weeksOf is the number of ISO weeks of a year: 28 December always lies in the last one.
func weeksOf(year int) int {
	_, week := Date{year, time.December, 28}.utc().ISOWeek()
	return week
}

func hourText(hour int) string { return padded(hour, 2) }
