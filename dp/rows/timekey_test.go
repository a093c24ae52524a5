package rows_test

import (
	"slices"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

func TestBlocksFollowTheCalendarOfTheZone(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	tests := []struct {
		instant string
		block   dp.Block
		want    string
	}{
		{"2025-12-31T22:59:59Z", dp.Month, "2025-12"},
		{"2025-12-31T23:00:00Z", dp.Month, "2026-01"},
		{"2025-12-31T23:00:00Z", dp.Quarter, "2026-Q1"},
		{"2025-12-31T23:00:00Z", dp.Year, "2026"},
		{"2026-06-30T21:59:59Z", dp.Quarter, "2026-Q2"},
		{"2026-06-30T22:00:00Z", dp.Quarter, "2026-Q3"},
		{"1969-12-31T22:00:00Z", dp.Year, "1969"},
		{"2026-06-30T22:00:00Z", dp.All, "all"},
	}
	for _, test := range tests {
		if got := rows.BlockOf(at(t, test.instant), test.block, berlin); got != test.want {
			t.Errorf("%s by %s: got %s, want %s", test.instant, test.block, got, test.want)
		}
	}
}

func TestEveryBlockThatARangeTouchesIsNamed(t *testing.T) {
	tests := []struct {
		from, to string
		block    dp.Block
		want     []string
	}{
		{"2025-12-31", "2026-02-01", dp.Month, []string{"2025-12", "2026-01", "2026-02"}},
		{"2026-01-31", "2026-01-31", dp.Month, []string{"2026-01"}},
		{"2025-11-15", "2026-04-01", dp.Quarter, []string{"2025-Q4", "2026-Q1", "2026-Q2"}},
		{"2024-12-31", "2026-01-01", dp.Year, []string{"2024", "2025", "2026"}},
		{"9999-11-30", "9999-12-31", dp.Month, []string{"9999-11", "9999-12"}},
		{"1900-01-01", "9999-12-31", dp.All, []string{"all"}},
		{"2026-02-01", "2026-01-31", dp.Month, nil},
		{"2026-02-01", "2026-01-31", dp.All, nil},
	}
	for _, test := range tests {
		if got := rows.Blocks(date(t, test.from), date(t, test.to), test.block); !slices.Equal(got, test.want) {
			t.Errorf("%s to %s by %s: got %v, want %v", test.from, test.to, test.block, got, test.want)
		}
	}
	if got := len(rows.Blocks(rows.FirstDate(), rows.LastDate(), dp.Month)); got != 8100*12 {
		t.Errorf("got %d months", got)
	}
}

func TestBlockNamesGiveTheirDates(t *testing.T) {
	tests := []struct {
		name        string
		block       dp.Block
		first, last string
	}{
		{"2024-02", dp.Month, "2024-02-01", "2024-02-29"},
		{"2026-Q4", dp.Quarter, "2026-10-01", "2026-12-31"},
		{"2026-Q1", dp.Quarter, "2026-01-01", "2026-03-31"},
		{"2026", dp.Year, "2026-01-01", "2026-12-31"},
		{"all", dp.All, "1900-01-01", "9999-12-31"},
	}
	for _, test := range tests {
		first, last, err := rows.BlockDates(test.name, test.block)
		if err != nil || first != date(t, test.first) || last != date(t, test.last) {
			t.Errorf("%s: got %v to %v, %v", test.name, first, last, err)
		}
	}
	for _, test := range []struct {
		name  string
		block dp.Block
	}{
		{"2026-13", dp.Month}, {"2026-00", dp.Month}, {"2026-1", dp.Month}, {"2026-Q1", dp.Month}, {"2026", dp.Month}, {"2026-+1", dp.Month},
		{"2026-Q0", dp.Quarter}, {"2026-Q5", dp.Quarter}, {"2026-01", dp.Quarter}, {"2026q1", dp.Quarter},
		{"26", dp.Year}, {"02026", dp.Year}, {"1899", dp.Year}, {"+026", dp.Year}, {"", dp.Year},
		{"2026", dp.All}, {"", dp.All}, {"2026", dp.Block("decade")},
	} {
		if _, _, err := rows.BlockDates(test.name, test.block); err == nil {
			t.Errorf("%q was accepted as %s", test.name, test.block)
		}
	}
}

func TestTimeKeysOfAnInstant(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	tests := []struct {
		instant string
		unit    rows.TimeUnit
		want    string
	}{
		{"2026-01-31T22:59:59Z", rows.Day, "2026-01-31"},
		{"2026-01-31T23:00:00Z", rows.Day, "2026-02-01"},
		{"2026-01-31T23:00:00Z", rows.Hour, "00"},
		{"2026-03-29T00:59:59Z", rows.Hour, "01"}, // the clocks jump from 2 to 3
		{"2026-03-29T01:00:00Z", rows.Hour, "03"},
		{"2026-10-25T00:30:00Z", rows.Hour, "02"}, // the hour that comes twice
		{"2026-10-25T01:30:00Z", rows.Hour, "02"},
		{"2026-01-31T12:00:00Z", rows.Month, "2026-01"},
		{"2026-01-31T12:00:00Z", rows.Quarter, "2026-Q1"},
		{"2026-01-31T12:00:00Z", rows.Year, "2026"},
		{"2026-01-31T12:00:00Z", rows.Week, "2026-W05"},
		{"2027-01-01T12:00:00Z", rows.Week, "2026-W53"}, // a Friday
		{"2024-12-30T12:00:00Z", rows.Week, "2025-W01"}, // a Monday
		{"2023-01-01T12:00:00Z", rows.Week, "2022-W52"}, // a Sunday
		{"2024-02-29T12:00:00Z", rows.Day, "2024-02-29"},
	}
	for _, test := range tests {
		if got := rows.TimeKey(at(t, test.instant), test.unit, berlin); got != test.want {
			t.Errorf("%s of %s: got %s, want %s", test.unit, test.instant, got, test.want)
		}
	}
}

func TestEveryTimeKeyOfARangeIsListedInOrder(t *testing.T) {
	tests := []struct {
		from, to string
		unit     rows.TimeUnit
		want     []string
	}{
		{"2024-02-28", "2024-03-01", rows.Day, []string{"2024-02-28", "2024-02-29", "2024-03-01"}},
		{"2026-12-27", "2027-01-04", rows.Week, []string{"2026-W52", "2026-W53", "2027-W01"}},
		{"2025-12-31", "2026-02-01", rows.Month, []string{"2025-12", "2026-01", "2026-02"}},
		{"2025-12-31", "2026-04-01", rows.Quarter, []string{"2025-Q4", "2026-Q1", "2026-Q2"}},
		{"2025-12-31", "2026-04-01", rows.Year, []string{"2025", "2026"}},
		{"2026-02-01", "2026-01-31", rows.Day, nil},
		{"9999-12-31", "9999-12-31", rows.Day, []string{"9999-12-31"}},
	}
	for _, test := range tests {
		if got := rows.TimeKeys(date(t, test.from), date(t, test.to), test.unit); !slices.Equal(got, test.want) {
			t.Errorf("%s to %s by %s: got %v, want %v", test.from, test.to, test.unit, got, test.want)
		}
	}
	hours := rows.TimeKeys(date(t, "2026-03-29"), date(t, "2026-03-29"), rows.Hour)
	if len(hours) != 24 || hours[0] != "00" || hours[23] != "23" {
		t.Errorf("got hours %v", hours)
	}
}

func TestKeysOfInstantsAreAmongTheKeysOfTheirRange(t *testing.T) {
	loc := zone(t, "America/St_Johns")
	from, to := date(t, "2009-10-01"), date(t, "2011-01-31")
	start, end := rows.Span(from, to, loc)
	for _, unit := range rows.TimeUnits() {
		keys := rows.TimeKeys(from, to, unit)
		if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
			t.Errorf("%s: keys are not sorted and distinct", unit)
		}
		for _, key := range keys {
			if !rows.ValidTimeKey(unit, key) {
				t.Errorf("%s: listed key %s is not valid", unit, key)
			}
		}
		for ms := start; ms < end; ms += 59 * 60 * 1000 {
			key := rows.TimeKey(ms, unit, loc)
			if _, found := slices.BinarySearch(keys, key); !found {
				t.Fatalf("%s: key %s of %s is not listed", unit, key, time.UnixMilli(ms).In(loc))
			}
		}
	}
}

func TestTimeKeysHaveOneForm(t *testing.T) {
	valid := map[rows.TimeUnit][]string{
		rows.Hour: {"00", "23"}, rows.Day: {"2024-02-29"}, rows.Week: {"2026-W01", "2026-W53", "2020-W53", "2025-W52"},
		rows.Month: {"2026-12"}, rows.Quarter: {"2026-Q4"}, rows.Year: {"1900", "9999"},
	}
	invalid := map[rows.TimeUnit][]string{
		rows.Hour: {"24", "0", "000", "-1", "", "1h"}, rows.Day: {"2026-02-29", "2026-2-2"},
		rows.Week:  {"2025-W53", "2026-W00", "2026-W54", "2026-w05", "2026-W5", "2026W05", "2026-W005", "1899-W10", "20x6-W05"},
		rows.Month: {"2026-13", "2026-1"}, rows.Quarter: {"2026-Q5", "2026-q1"}, rows.Year: {"26", "1899"},
		rows.TimeUnit("decade"): {"2020"},
	}
	for unit, keys := range valid {
		for _, key := range keys {
			if !rows.ValidTimeKey(unit, key) {
				t.Errorf("%s key %q was refused", unit, key)
			}
		}
	}
	for unit, keys := range invalid {
		for _, key := range keys {
			if rows.ValidTimeKey(unit, key) {
				t.Errorf("%s key %q was accepted", unit, key)
			}
		}
	}
}

func TestTimeUnitsAreNamedByFields(t *testing.T) {
	for _, unit := range rows.TimeUnits() {
		if got, ok := rows.ParseTimeUnit(unit.Field()); !ok || got != unit {
			t.Errorf("ParseTimeUnit(%q) = %q, %v", unit.Field(), got, ok)
		}
	}
	for _, field := range []string{"time", "time.", "time.minute", "day", "Time.day", "time.day.hour", ""} {
		if unit, ok := rows.ParseTimeUnit(field); ok {
			t.Errorf("ParseTimeUnit(%q) = %q", field, unit)
		}
	}
}
