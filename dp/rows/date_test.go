package rows_test

import (
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := rows.LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func date(t *testing.T, text string) rows.Date {
	t.Helper()
	d, err := rows.ParseDate(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// at reads an instant written as RFC 3339.
func at(t *testing.T, text string) int64 {
	t.Helper()
	instant, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return instant.UnixMilli()
}

func TestDatesHaveOneForm(t *testing.T) {
	for _, text := range []string{"1900-01-01", "2000-02-29", "2024-02-29", "2026-01-31", "9999-12-31"} {
		d, err := rows.ParseDate(text)
		if err != nil || d.String() != text {
			t.Errorf("ParseDate(%q) = %v, %v", text, d, err)
		}
	}
	for _, text := range []string{
		"", "2026-1-31", "2026-01-32", "2026-02-29", "1900-02-29", "2026-00-10", "2026-13-01", "2026-01-00", "1899-12-31", "10000-01-01",
		"2026/01/31", "2026-01-31 ", " 2026-01-3", "20260131", "-026-01-31", "+026-01-31", "2026-01-3\n", "２026-01-1", "2026-01-31T00:00:00Z",
	} {
		if d, err := rows.ParseDate(text); err == nil {
			t.Errorf("ParseDate(%q) = %v, want refused", text, d)
		}
	}
}

func TestDatesCountDays(t *testing.T) {
	if got := date(t, "2024-02-28").AddDays(2).String(); got != "2024-03-01" {
		t.Errorf("got %s", got)
	}
	if got := date(t, "2026-01-01").AddDays(-1).String(); got != "2025-12-31" {
		t.Errorf("got %s", got)
	}
	if got := date(t, "2025-12-31").DaysUntil(date(t, "2026-12-31")); got != 365 {
		t.Errorf("got %d", got)
	}
	if got := rows.FirstDate().DaysUntil(rows.LastDate()); got != 2958463 {
		t.Errorf("got %d", got)
	}
	if !date(t, "2025-12-31").Before(date(t, "2026-01-01")) || date(t, "2026-01-01").Before(date(t, "2026-01-01")) {
		t.Error("Before is wrong")
	}
}

func TestSpansCoverWholeDaysWhateverTheClocksDo(t *testing.T) {
	tests := []struct {
		zone, from, to string
		start, end     string
	}{
		{"UTC", "2026-01-01", "2026-01-31", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
		{"Europe/Berlin", "2026-03-29", "2026-03-29", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"},     // 23 hours
		{"Europe/Berlin", "2026-10-25", "2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"},     // 25 hours
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}, // no midnight
		{"America/Havana", "2024-11-03", "2024-11-03", "2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00"},    // midnight twice
		{"Asia/Kolkata", "2026-01-01", "2026-01-01", "2026-01-01T00:00:00+05:30", "2026-01-02T00:00:00+05:30"},
		{"Pacific/Apia", "2011-12-29", "2011-12-29", "2011-12-29T00:00:00-10:00", "2011-12-30T00:00:00-10:00"},
		{"Pacific/Apia", "2011-12-30", "2011-12-30", "2011-12-31T00:00:00+14:00", "2011-12-31T00:00:00+14:00"}, // never was
		{"America/St_Johns", "2009-10-31", "2009-10-31", "2009-10-31T00:00:00-02:30", "2009-11-01T00:00:00-02:30"},
	}
	for _, test := range tests {
		start, end := rows.Span(date(t, test.from), date(t, test.to), zone(t, test.zone))
		if start != at(t, test.start) || end != at(t, test.end) {
			t.Errorf("%s %s to %s: got %s to %s, want %s to %s", test.zone, test.from, test.to,
				time.UnixMilli(start).UTC(), time.UnixMilli(end).UTC(), test.start, test.end)
		}
	}
}

// Every instant belongs to the day whose span holds it: otherwise a range would read rows of a block that
// it does not pay for. The zones are those whose clocks did the oddest things.
func TestEveryInstantLiesInTheSpanOfItsDay(t *testing.T) {
	for _, test := range []struct{ zone, from, to string }{
		{"America/St_Johns", "2009-10-29", "2009-11-03"}, // back over midnight, into the month before
		{"America/Havana", "2024-11-01", "2024-11-05"},
		{"America/Sao_Paulo", "2018-02-16", "2018-02-20"},
		{"America/Sao_Paulo", "2018-11-02", "2018-11-06"},
		{"Pacific/Apia", "2011-12-27", "2012-01-02"},
		{"Pacific/Kwajalein", "1993-08-18", "1993-08-24"},
		{"Pacific/Kwajalein", "1969-09-28", "1969-10-03"}, // a day twice
		{"Europe/Berlin", "2026-03-27", "2026-03-31"},
		{"Africa/Monrovia", "1972-01-05", "1972-01-09"}, // 44 minutes and 30 seconds
		{"Asia/Manila", "1900-01-01", "1900-01-03"},
		{"Europe/Berlin", "2040-12-29", "2041-01-02"}, // a leap year beyond the tables
		{"Europe/Berlin", "2044-03-26", "2044-03-28"},
		{"America/Havana", "9998-10-30", "9998-11-09"},
	} {
		loc := zone(t, test.zone)
		from, to := date(t, test.from), date(t, test.to)
		for d := from; !to.Before(d); d = d.AddDays(1) {
			start, end := rows.Span(d, d, loc)
			if next, _ := rows.Span(d.AddDays(1), d.AddDays(1), loc); next != end {
				t.Errorf("%s: %s does not end where the next day begins", test.zone, d)
			}
			for ms := start; ms < end; ms += 7 * 60 * 1000 {
				if got := rows.DateOf(ms, loc); got != d {
					t.Fatalf("%s: %s is in %s, want %s", test.zone, time.UnixMilli(ms).In(loc), got, d)
				}
			}
			if start < end && rows.DateOf(end-1, loc) != d {
				t.Errorf("%s: the last millisecond of %s is not in it", test.zone, d)
			}
			if block := rows.BlockOf(start, dp.Month, loc); start < end && block != rows.Blocks(d, d, dp.Month)[0] {
				t.Errorf("%s: %s begins in block %s", test.zone, d, block)
			}
		}
	}
}

// The search for a change of offset takes for granted that there is at most one within 52 hours.
func TestNoZoneChangesTwiceWithinTheSearchedWindow(t *testing.T) {
	const step = 13 * time.Hour
	for _, name := range []string{
		"Africa/Freetown", "America/Noronha", "America/Recife", "America/Boa_Vista", "Africa/Tunis", "Europe/Simferopol", "Europe/Vienna",
		"Europe/Riga", "Africa/Casablanca", "Africa/El_Aaiun", "Africa/Cairo", "Pacific/Apia", "Pacific/Kwajalein", "America/St_Johns", "Asia/Gaza",
	} {
		loc := zone(t, name)
		var changed time.Time
		previous := 0
		for at := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2045; at = at.Add(step) {
			_, offset := at.In(loc).Zone()
			if offset != previous {
				if !changed.IsZero() && at.Sub(changed) < 52*time.Hour+2*step {
					t.Errorf("%s changed at about %s and again at about %s", name, changed, at)
				}
				changed, previous = at, offset
			}
		}
	}
}

func TestZonesThatDifferByMachineAreRefused(t *testing.T) {
	for _, name := range []string{"", "Local", "Europe/Atlantis", "../etc/passwd", "+02:00"} {
		if _, err := rows.LoadZone(name); err == nil {
			t.Errorf("zone %q was accepted", name)
		}
	}
	if loc, err := rows.Location(&dp.Policy{}); err != nil || loc != time.UTC {
		t.Errorf("without time: %v, %v", loc, err)
	}
	loc, err := rows.Location(&dp.Policy{Time: &dp.TimeColumn{Timezone: "Asia/Tokyo"}})
	if err != nil || loc.String() != "Asia/Tokyo" {
		t.Errorf("got %v, %v", loc, err)
	}
}
