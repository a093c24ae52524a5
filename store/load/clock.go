package load

import (
	"strconv"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// clock reads the texts of times. Reading one takes a calendar and a zone's table; within a day that has no
// change of clocks, all times follow from the first one, so it remembers days.
type clock struct {
	format rows.TimeFormat
	zone   *time.Location
	fields []clockField // of the time of day, in texts of a known width
	widths []int        // of such texts; none: every text is read by itself
	days   map[string]*clockDay
	last   *clockDay
	local  *clock // for times that are not given as text; nil until one is
	buf    []byte
}

// clockDay is the first instant of the day that a text without its time of day says.
type clockDay struct {
	text  string
	start int64
}

// clockField is two digits.
type clockField struct {
	at, below int
	unit      int64 // milliseconds
}

// mostDays is how many days a clock remembers.
const mostDays = 4096

// uneven marks texts that must be read by themselves: days with a change of clocks, and what is no time.
const uneven = -1 << 63

func newClock(format string, compiled rows.TimeFormat, zone *time.Location) *clock {
	c := &clock{format: compiled, zone: zone, days: make(map[string]*clockDay), last: new(clockDay)}
	switch format {
	case rows.UnixFormat, rows.UnixMsFormat:
		return c
	case rows.DateFormat:
		c.widths = []int{len("2026-01-31")}
		return c
	case rows.RFC3339Format:
		format = "YYYY-MM-DDThh:mm:ss"
		c.widths = []int{len(format) + len("Z"), len(format) + len("+hh:mm")}
	default:
		c.widths = []int{len(format)}
	}
	for _, field := range []clockField{{strings.Index(format, "hh"), 24, 3_600_000}, {strings.Index(format, "mm"), 60, 60_000}, {strings.Index(format, "ss"), 60, 1000}} {
		if field.at >= 0 {
			c.fields = append(c.fields, field)
		}
	}
	return c
}

// parse is the format's Parse.
func (c *clock) parse(text string) (ms int64, err error) {
	known := false
	for _, width := range c.widths {
		known = known || len(text) == width
	}
	if !known {
		return c.format.Parse(text, c.zone)
	}
	// The day is the text without its time of day: with an offset, it is part of what the day is.
	var scratch [80]byte
	day := append(scratch[:0], text...)
	sinceStart := int64(0)
	for _, f := range c.fields {
		tens, ones := int(text[f.at]-'0'), int(text[f.at+1]-'0')
		if n := tens*10 + ones; tens <= 9 && ones <= 9 && n < f.below {
			sinceStart += int64(n) * f.unit
			day[f.at], day[f.at+1] = '0', '0'
			continue
		}
		return c.format.Parse(text, c.zone)
	}
	if string(day) != c.last.text {
		c.last = c.find(day)
	}
	if c.last.start == uneven {
		return c.format.Parse(text, c.zone)
	}
	return c.last.start + sinceStart, nil
}

// read reads a cell that has a time.
func (c *clock) read(given cell) (int64, error) {
	switch {
	case given.kind == instant && given.ms > surelyKnown && given.ms < surelyKnownUntil:
		return given.ms, nil
	case given.kind == instant, given.kind == local && (given.ms < surelyKnown || given.ms > surelyKnownUntil):
		// Whether its year is known depends on the zone. (No zone's offset is known to the millisecond near these ends,
		// so that a local time there is read as UTC's.)
		format, err := rows.CompileTimeFormat(rows.UnixMsFormat)
		if err != nil {
			return 0, err
		}
		return format.Parse(strconv.FormatInt(given.ms, 10), c.zone)
	case given.kind != local:
		return c.parse(given.text)
	}
	if c.local == nil {
		format, err := rows.CompileTimeFormat(localLayout)
		if err != nil {
			return 0, err
		}
		c.local = newClock(localLayout, format, c.zone)
	}
	layout := "2006-01-02T15:04:05"
	if given.ms%1000 != 0 {
		layout += ".000"
	}
	c.buf = time.UnixMilli(given.ms).UTC().AppendFormat(c.buf[:0], layout)
	return c.local.parse(textOf(c.buf))
}

const (
	localLayout = "YYYY-MM-DDThh:mm:ss"
	// Every instant between these lies in a year that is known, in every zone: 3 January 1900 and 29 December 9999.
	surelyKnown, surelyKnownUntil = -2208816000000, 253402041600000
)

// find looks a day up, or reads it.
func (c *clock) find(day []byte) *clockDay {
	if known := c.days[string(day)]; known != nil {
		return known
	}
	if len(c.days) == mostDays {
		clear(c.days)
	}
	d := &clockDay{text: string(day), start: c.startOf(day)}
	c.days[d.text] = d
	return d
}

// startOf gives the start of a day if its last second is as far from its first as on a clock that nobody changes.
// Then nothing between them is skipped or comes twice: a zone's clocks change at most once in four days (see
// package rows), and a change would show as the difference that it makes.
func (c *clock) startOf(day []byte) int64 {
	start, err := c.format.Parse(string(day), c.zone)
	if err != nil {
		return uneven
	}
	sinceStart := int64(0)
	last := append([]byte(nil), day...)
	for _, f := range c.fields {
		n := f.below - 1
		last[f.at], last[f.at+1] = '0'+byte(n/10), '0'+byte(n%10)
		sinceStart += int64(n) * f.unit
	}
	if end, err := c.format.Parse(string(last), c.zone); err != nil || end != start+sinceStart {
		return uneven
	}
	return start
}
