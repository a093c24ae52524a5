package rows

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The named formats of a time column. Any other format is a layout (see CompileTimeFormat).
const (
	RFC3339Format  = "rfc3339"
	DateFormat     = "date"
	UnixFormat     = "unix"
	UnixMsFormat   = "unix_ms"
	maxTimeLength  = 64 // of a time or a layout, in bytes
	layoutTokens   = "YYYY MM DD hh mm ss"
	layoutExample  = `such as "YYYY-MM-DD hh:mm:ss"`
	writeOtherwise = "write rfc3339, date, unix, unix_ms or a layout " + layoutExample
)

// The ways in which a time is refused. None of them repeats the text.
var (
	errTime      = errors.New("not a time in the policy's format")
	errTimeRange = errors.New("time outside of the years 1900 to 9999")
)

// TimeFormat reads the times of one format. It is compiled once and safe for concurrent use.
type TimeFormat struct {
	format string
	layout []layoutPart // of the local time in rfc3339 and in layouts; nil otherwise
}

// layoutPart is a field of the time (Y M D h m s) of some digits, or literal text.
type layoutPart struct {
	field   byte // 0: literal
	width   int
	literal string
}

// CompileTimeFormat understands rfc3339, date, unix (seconds since 1970 UTC), unix_ms, and layouts: text
// in which YYYY MM DD hh mm ss stand for fields of that many digits and everything else for itself. A
// layout needs the three parts of the date; hh, mm and ss are optional from the right. Other letters than
// T are refused: a zone or the name of a month would not be understood.
func CompileTimeFormat(format string) (TimeFormat, error) {
	switch format {
	case RFC3339Format:
		layout, err := compileLayout("YYYY-MM-DDThh:mm:ss")
		return TimeFormat{format: format, layout: layout}, err
	case DateFormat, UnixFormat, UnixMsFormat:
		return TimeFormat{format: format}, nil
	case "":
		return TimeFormat{}, errors.New("empty time format: " + writeOtherwise)
	}
	if len(format) > maxTimeLength {
		return TimeFormat{}, fmt.Errorf("time layout longer than %d characters", maxTimeLength)
	}
	layout, err := compileLayout(format)
	if err != nil {
		return TimeFormat{}, err
	}
	return TimeFormat{format: format, layout: layout}, nil
}

// Parse reads a time as milliseconds since 1970 UTC. Fractions of a millisecond are cut off, towards the
// past. Dates and layouts are local times of the zone: one that comes twice is the first, one that the
// clocks jumped over is the instant of the jump, a date is the start of its day. Errors never hold the text.
func (f TimeFormat) Parse(text string, loc *time.Location) (ms int64, err error) {
	if len(text) > maxTimeLength {
		return 0, errTime
	}
	switch f.format {
	case RFC3339Format:
		ms, err = parseRFC3339(f.layout, text)
	case DateFormat:
		d, err := ParseDate(text)
		if err != nil {
			return 0, err
		}
		return startOfDay(d, loc), nil
	case UnixFormat:
		ms, err = parseDecimal(text, 3, floor)
	case UnixMsFormat:
		ms, err = parseDecimal(text, 0, floor)
	default:
		var local int64
		if local, err = parseLayout(f.layout, text); err == nil {
			ms = instantOf(local, loc)
		}
	}
	if err != nil {
		return 0, errTime
	}
	if ms < firstKnown || ms > lastKnown {
		return 0, errTimeRange
	}
	if year := DateOf(ms, loc).Year; year < FirstYear || year > LastYear {
		return 0, errTimeRange
	}
	return ms, nil
}

// Every instant of the known years lies between these in every zone; what lies outside is refused before
// a calendar computes with it. Milliseconds since 1970 UTC of 1899-12-30 and 10000-01-02.
const (
	firstKnown = -2209161600000
	lastKnown  = 253402387200000
)

func compileLayout(format string) ([]layoutPart, error) {
	var parts []layoutPart
	seen := map[byte]bool{}
	for rest := format; rest != ""; {
		token := ""
		for _, candidate := range strings.Fields(layoutTokens) {
			if strings.HasPrefix(rest, candidate) {
				token = candidate
			}
		}
		if token != "" {
			if seen[token[0]] {
				return nil, fmt.Errorf("time layout has %s twice: %s", token, writeOtherwise)
			}
			seen[token[0]] = true
			parts = append(parts, layoutPart{field: token[0], width: len(token)})
			rest = rest[len(token):]
			continue
		}
		c := rest[0]
		if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && c != 'T' {
			return nil, fmt.Errorf("time layout has a letter outside of %s: %s", layoutTokens, writeOtherwise)
		}
		parts = append(parts, layoutPart{literal: rest[:1]})
		rest = rest[1:]
	}
	switch {
	case !seen['Y'] || !seen['M'] || !seen['D']:
		return nil, fmt.Errorf("time layout needs YYYY, MM and DD: %s", writeOtherwise)
	case seen['m'] && !seen['h'], seen['s'] && !seen['m']:
		return nil, errors.New("time layout needs hh with mm, and mm with ss: " + writeOtherwise)
	}
	return parts, nil
}

// parseRFC3339 reads a local time and its offset, Z or +hh:mm. (package time takes more than RFC 3339
// allows: commas, hours of one digit, offsets of 24 hours.)
func parseRFC3339(layout []layoutPart, text string) (int64, error) {
	if local, ok := strings.CutSuffix(text, "Z"); ok {
		return parseLayout(layout, local)
	}
	const offsetWidth = len("+hh:mm")
	if len(text) < offsetWidth {
		return 0, errTime
	}
	local, err := parseLayout(layout, text[:len(text)-offsetWidth])
	if err != nil {
		return 0, err
	}
	offset := text[len(text)-offsetWidth:]
	hours, hoursOK := digits(offset[1:3])
	minutes, minutesOK := digits(offset[4:])
	if !hoursOK || !minutesOK || hours > 23 || minutes > 59 || offset[3] != ':' {
		return 0, errTime
	}
	ahead := int64(hours*60+minutes) * 60 * 1000
	switch offset[0] {
	case '+':
		return local - ahead, nil
	case '-':
		return local + ahead, nil
	}
	return 0, errTime
}

// parseLayout gives the local time as the instant at which UTC's clocks show it, in milliseconds. After
// ss a fraction of a second may follow where the layout does not go on with a point itself.
func parseLayout(layout []layoutPart, text string) (int64, error) {
	var year, month, day, hour, minute, second, milli int
	for i, part := range layout {
		if part.field == 0 {
			rest, ok := strings.CutPrefix(text, part.literal)
			if !ok {
				return 0, errTime
			}
			text = rest
			continue
		}
		if len(text) < part.width {
			return 0, errTime
		}
		n, ok := digits(text[:part.width])
		if !ok {
			return 0, errTime
		}
		text = text[part.width:]
		switch part.field {
		case 'Y':
			year = n
		case 'M':
			month = n
		case 'D':
			day = n
		case 'h':
			hour = n
		case 'm':
			minute = n
		case 's':
			second = n
			if i+1 == len(layout) || layout[i+1].literal != "." {
				milli, text, ok = cutFraction(text)
				if !ok {
					return 0, errTime
				}
			}
		}
	}
	d := Date{year, time.Month(month), day}
	if text != "" || !d.onCalendar() || hour > 23 || minute > 59 || second > 59 {
		return 0, errTime
	}
	return d.utc().UnixMilli() + int64(hour*3600+minute*60+second)*1000 + int64(milli), nil
}

// cutFraction reads an optional ".digits" as milliseconds, cutting what is finer.
func cutFraction(text string) (milli int, rest string, ok bool) {
	if !strings.HasPrefix(text, ".") {
		return 0, text, true
	}
	text = text[1:]
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	if n == 0 {
		return 0, "", false
	}
	milli, ok = digits((text[:n] + "00")[:3])
	return milli, text[n:], ok
}
