package rows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

func TestTimesAreReadInEveryFormat(t *testing.T) {
	tests := []struct {
		format, zone, text string
		want               string
	}{
		{"rfc3339", "UTC", "2026-01-31T10:20:30Z", "2026-01-31T10:20:30Z"},
		{"rfc3339", "Asia/Tokyo", "2026-01-31T10:20:30.1239+02:00", "2026-01-31T08:20:30.123Z"},
		{"rfc3339", "UTC", "1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"},
		{"date", "Europe/Berlin", "2026-01-31", "2026-01-30T23:00:00Z"},
		{"date", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"}, // no midnight
		{"unix", "UTC", "0", "1970-01-01T00:00:00Z"},
		{"unix", "UTC", "1769854830", "2026-01-31T10:20:30Z"},
		{"unix", "UTC", "1.76985483e9", "2026-01-31T10:20:30Z"},
		{"unix", "UTC", "1769854830.9999", "2026-01-31T10:20:30.999Z"},
		{"unix", "UTC", "-0.0001", "1969-12-31T23:59:59.999Z"},
		{"unix_ms", "UTC", "1769854830123", "2026-01-31T10:20:30.123Z"},
		{"unix_ms", "UTC", "-0.5", "1969-12-31T23:59:59.999Z"},
		{"YYYY-MM-DD hh:mm:ss", "Europe/Berlin", "2026-07-01 00:30:00", "2026-06-30T22:30:00Z"},
		{"YYYY-MM-DD hh:mm:ss", "UTC", "2026-07-01 00:30:00.98765", "2026-07-01T00:30:00.987Z"},
		{"YYYY-MM-DDThh:mm", "UTC", "2026-07-01T00:30", "2026-07-01T00:30:00Z"},
		{"YYYY-MM-DD hh:mm", "Europe/Berlin", "2040-12-31 12:00", "2040-12-31T11:00:00Z"},
		{"DD.MM.YYYY", "Europe/Berlin", "31.01.2026", "2026-01-30T23:00:00Z"},
		{"hhmmss YYYYMMDD", "UTC", "102030 20260131", "2026-01-31T10:20:30Z"},
		{"YYYY年MM月DD日", "UTC", "2024年02月29日", "2024-02-29T00:00:00Z"},
		{"YYYY-MM-DD hh:mm", "Europe/Berlin", "2026-10-25 02:30", "2026-10-25T00:30:00Z"}, // comes twice: the first
		{"YYYY-MM-DD hh:mm", "Europe/Berlin", "2026-03-29 02:30", "2026-03-29T01:00:00Z"}, // never comes: the jump
	}
	for _, test := range tests {
		want, err := time.Parse(time.RFC3339Nano, test.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTime(test.text, test.format, zone(t, test.zone))
		if err != nil || got != want.UnixMilli() {
			t.Errorf("%s %q: got %s, %v; want %s", test.format, test.text, time.UnixMilli(got).UTC(), err, test.want)
		}
	}
}

func TestTimesOfAnotherFormAreRefusedWithoutEcho(t *testing.T) {
	const layout = "YYYY-MM-DD hh:mm:ss"
	for _, test := range []struct{ format, text string }{
		{"rfc3339", ""}, {"rfc3339", "2026-01-31"}, {"rfc3339", "2026-01-31T10:20:30"}, {"rfc3339", "2026-01-31 10:20:30Z"},
		{"rfc3339", "2026-01-31T10:20:60Z"}, {"rfc3339", "2026-02-29T10:20:30Z"}, {"rfc3339", "2026-01-31T10:20:30,5Z"}, {"rfc3339", "2026-01-31T1:20:30Z"},
		{"rfc3339", "2026-01-31T10:20:30+24:00"}, {"rfc3339", "2026-01-31T10:20:30+02:60"}, {"rfc3339", "2026-01-31T10:20:30+0200"}, {"rfc3339", "2026-01-31T10:20:30*02:00"}, {"rfc3339", "2026-01-31T10:20:30ZZ"}, {"rfc3339", "2026-01-31T10:20Z"},
		{"rfc3339", "1899-12-31T23:59:59Z"}, {"rfc3339", "0000-01-01T00:00:00Z"},
		{"date", "2026-01-31T00:00:00Z"}, {"date", "31.01.2026"}, {"date", "9:30AM"},
		{"unix", ""}, {"unix", "soon"}, {"unix", "1e300"}, {"unix", "253402300800"}, {"unix", "-2208988801"}, {"unix", "9223372036854775"},
		{"unix_ms", "9223372036854775807"}, {"unix_ms", "-9223372036854775808"}, {"unix_ms", "0x10"},
		{layout, "2026-01-31 10:20"}, {layout, "2026-01-31 24:00:00"}, {layout, "2026-01-31 10:60:00"}, {layout, "2026-01-31 10:20:60"},
		{layout, "2026-02-30 10:20:30"}, {layout, "2026-01-31T10:20:30"}, {layout, "2026-01-31 10:20:30 "}, {layout, "2026-01-31 10:20:30."},
		{layout, "2026-01-31 10:20:30.x"}, {layout, "2026-1-31 10:20:30"}, {layout, "+026-01-31 10:20:30"}, {layout, ""}, {layout, "2026-01-31 10:20:30Z"},
		{"date", strings.Repeat("2", 1000)}, {"rfc3339", "2026-01-31T10:20:30." + strings.Repeat("0", 1000) + "Z"},
	} {
		got, err := parseTime(test.text, test.format, time.UTC)
		if err == nil {
			t.Errorf("%s %q was read as %s", test.format, test.text, time.UnixMilli(got).UTC())
		} else if len(test.text) > 4 && strings.Contains(err.Error(), test.text) {
			t.Errorf("the error echoes the value: %v", err)
		}
	}
}

func TestTheKnownYearsAreThoseOfTheZone(t *testing.T) {
	tokyo := zone(t, "Asia/Tokyo")
	if _, err := parseTime("9999-12-31T15:00:00Z", "rfc3339", tokyo); err == nil {
		t.Error("the year 10000 in Tokyo was accepted")
	}
	if _, err := parseTime("9999-12-31T14:59:59Z", "rfc3339", tokyo); err != nil {
		t.Errorf("the last second of 9999 in Tokyo was refused: %v", err)
	}
	if _, err := parseTime("1899-12-31T16:00:00Z", "rfc3339", tokyo); err != nil {
		t.Errorf("the first morning of 1900 in Tokyo was refused: %v", err)
	}
}

func TestLayoutsThatCannotBeReadAreRefused(t *testing.T) {
	for _, format := range []string{
		"", "RFC3339", "iso", "YYYY-MM", "MM-DD hh:mm", "YYYY-MM-DD mm", "YYYY-MM-DD hh:ss", "YYYY-MM-DD YYYY", "YY-MM-DD", "YYYY-MMM-DD",
		"YYYY-MM-DDThh:mm:ssZ", "YYYY-MM-DD hh:mm AM", "DD Mon YYYY", "YYYY-MM-D", "%Y-%m-%d", "2006-01-02", "YYYY-MM-DD" + strings.Repeat(" ", 100),
	} {
		if _, err := rows.CompileTimeFormat(format); err == nil {
			t.Errorf("format %q was accepted", format)
		} else if !strings.Contains(err.Error(), "YYYY-MM-DD hh:mm:ss") && len(format) < 64 {
			t.Errorf("format %q: the error does not say what to write: %v", format, err)
		}
	}
}

// parseTime compiles a format and reads one time by it.
func parseTime(text, format string, loc *time.Location) (ms int64, err error) {
	f, err := rows.CompileTimeFormat(format)
	if err != nil {
		return 0, err
	}
	return f.Parse(text, loc)
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range [][2]string{
		{"2026-01-31T10:20:30Z", "rfc3339"}, {"2026-01-31", "date"}, {"1e9", "unix"}, {"-1.5", "unix_ms"},
		{"2026-01-31 10:20:30.5", "YYYY-MM-DD hh:mm:ss"}, {"31.01.2026", "DD.MM.YYYY"}, {"9:30AM", "hh:mm"}, {"20260131", "YYYYMMDD"},
	} {
		f.Add(seed[0], seed[1])
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, format string) {
		ms, err := parseTime(text, format, berlin)
		if err != nil {
			if len(text) > 12 && strings.Contains(err.Error(), text) {
				t.Errorf("the error echoes the value: %v", err)
			}
			return
		}
		if day := rows.TimeKey(ms, rows.Day, berlin); !rows.ValidTimeKey(rows.Day, day) {
			t.Fatalf("accepted %q as an instant on %s", text, day)
		}
		again, err := parseTime(time.UnixMilli(ms).UTC().Format(time.RFC3339Nano), "rfc3339", berlin)
		if err != nil || again != ms {
			t.Fatalf("written out and read again: %d, %v; want %d", again, err, ms)
		}
	})
}
