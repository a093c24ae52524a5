package rows

import (
	"errors"
	"strconv"
	"time"
	_ "time/tzdata" // zones are part of a policy's meaning and must be there on any machine

	"github.com/discreet-analytics/discreet/dp"
)

// The first and the last year that Discreet knows. Times outside are refused at load.
const (
	FirstYear = 1900
	LastYear  = 9999
)

// Date is a day of the calendar, in whatever zone the policy names.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

var errDate = errors.New("not a date: write year, month and day as 2026-01-31, within the years 1900 to 9999")

// FirstDate and LastDate bound what Discreet knows; a question without dates covers all of it.
func FirstDate() Date { return Date{FirstYear, time.January, 1} }

// LastDate is the last day that Discreet knows.
func LastDate() Date { return Date{LastYear, time.December, 31} }

// ParseDate reads a date in the form 2026-01-31, and no other form, of the years 1900 to 9999.
func ParseDate(text string) (Date, error) {
	if len(text) != len("2026-01-31") || text[4] != '-' || text[7] != '-' {
		return Date{}, errDate
	}
	year, yearOK := digits(text[:4])
	month, monthOK := digits(text[5:7])
	day, dayOK := digits(text[8:])
	d := Date{year, time.Month(month), day}
	if !yearOK || !monthOK || !dayOK || !d.valid() {
		return Date{}, errDate
	}
	return d, nil
}

// DateOf is the day on which an instant falls in a zone. Days follow each other without overlap: a day
// begins at the first instant at which the zone's clocks show it, and a clock that is put back over
// midnight does not return to the day before. So every instant of a Span has a DateOf within it.
func DateOf(ms int64, loc *time.Location) Date {
	d := dateOf(time.UnixMilli(ms).In(loc))
	// Only where the clocks were put back within a day can they show a day that already ended.
	if offsetAt(ms, loc) < offsetAt(ms-window, loc) {
		for next := d.AddDays(1); startOfDay(next, loc) <= ms; next = next.AddDays(1) {
			d = next
		}
	}
	return d
}

// String gives the date as 2026-01-31.
func (d Date) String() string {
	return padded(d.Year, 4) + "-" + padded(int(d.Month), 2) + "-" + padded(d.Day, 2)
}

// Before says whether d comes before e.
func (d Date) Before(e Date) bool { return d.Compare(e) < 0 }

// Compare is negative, zero or positive as d is before, equal to or after e.
func (d Date) Compare(e Date) int {
	if d.Year != e.Year {
		return d.Year - e.Year
	}
	if d.Month != e.Month {
		return int(d.Month) - int(e.Month)
	}
	return d.Day - e.Day
}

// AddDays is the date n days later, or earlier where n is negative.
func (d Date) AddDays(n int) Date { return dateOf(d.utc().AddDate(0, 0, n)) }

// DaysUntil is the number of days from d to e: 0 where they are equal, negative where e is earlier.
func (d Date) DaysUntil(e Date) int {
	const day = 24 * 60 * 60
	return int((e.utc().Unix() - d.utc().Unix()) / day)
}

// Location is the zone that decides the blocks and time keys of a policy's rows: UTC where it has no time.
func Location(p *dp.Policy) (*time.Location, error) {
	if p.Time == nil {
		return time.UTC, nil
	}
	return LoadZone(p.Time.Timezone)
}

// LoadZone finds a zone by its IANA name. The names that mean something else on every machine (the empty
// one, Local) are refused.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("time zone must be an IANA name such as Europe/Berlin or UTC")
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, errors.New("unknown time zone: write an IANA name such as Europe/Berlin or UTC")
	}
	return loc, nil
}

// Span gives the instants, in milliseconds since 1970 UTC, from the start of day from (included) to the
// start of the day after to (excluded) in a zone, whatever its clocks do on those days.
func Span(from, to Date, loc *time.Location) (startMs, endMs int64) {
	return startOfDay(from, loc), startOfDay(to.AddDays(1), loc)
}

func (d Date) utc() time.Time { return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC) }

func (d Date) valid() bool {
	return d.Year >= FirstYear && d.Year <= LastYear && d.onCalendar()
}

func (d Date) onCalendar() bool { return dateOf(d.utc()) == d }

func dateOf(t time.Time) Date {
	year, month, day := t.Date()
	return Date{year, month, day}
}

// startOfDay is the first instant at which the clocks of a zone show d or a later day. Where midnight
// does not exist, it is when the clocks jumped over it; where it comes twice, the first.
func startOfDay(d Date, loc *time.Location) int64 { return instantOf(d.utc().UnixMilli(), loc) }

// instantOf is the first instant, in milliseconds since 1970 UTC, at which the clocks of a zone show a
// local time or a later one; the local time is given as the instant at which UTC's clocks show it.
// time.Date does not say which of two instants it picks, and privacy must not depend on that.
func instantOf(local int64, loc *time.Location) int64 {
	if loc == time.UTC {
		return local
	}
	before, after := local-window, local+window
	first, last := offsetAt(before, loc), offsetAt(after, loc)
	if first == last {
		return local - first
	}
	for after-before > 1 { // find the change: after is the first millisecond of the new offset
		if middle := before + (after-before)/2; offsetAt(middle, loc) == first {
			before = middle
		} else {
			after = middle
		}
	}
	if shown := local - first; shown < after {
		return shown
	}
	return max(local-last, after)
}

// window is wider than any offset from UTC, in milliseconds, and narrower than the time between any two
// changes of a zone's offset (95 hours: Freetown, September 1939), which a test holds against the database.
const window = 26 * 60 * 60 * 1000

// offsetAt is how far the clocks of a zone are ahead of UTC at an instant, in milliseconds. (Changes are found
// through it and not by Time.ZoneBounds, which beyond 2037 gives an end before its own instant on the last
// day of leap years: a loop over it did not end.)
func offsetAt(ms int64, loc *time.Location) int64 {
	_, seconds := time.UnixMilli(ms).In(loc).Zone()
	return int64(seconds) * 1000
}

// padded writes n with at least width digits. Engines write a key per row, which fmt is too slow for.
func padded(n, width int) string {
	text := strconv.Itoa(n)
	if len(text) >= width {
		return text
	}
	return "0000"[:width-len(text)] + text
}

// digits reads a short run of decimal digits.
func digits(text string) (int, bool) {
	n := 0
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int(text[i]-'0')
	}
	return n, true
}
