package synth

import (
	"math"
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// day is one local day of the bank.
type day struct {
	number   int // days since 2000-01-01; what draws are seeded with
	position int // among the days of the bank, from 0
	date     rows.Date
	weekday  time.Weekday
	yearDay  int
	start    time.Time     // local midnight
	length   time.Duration // 23 to 25 hours
	hours    []hourText    // by hours passed since midnight
}

// hourText is how times of one hour are written: the bank's zone changes its clocks between whole hours.
type hourText struct{ before, after string }

func newDay(date rows.Date, start time.Time, length time.Duration) day {
	first := rows.Date{Year: 2000, Month: time.January, Day: 1}
	d := day{
		number:  first.DaysUntil(date),
		date:    date,
		weekday: start.Weekday(),
		yearDay: start.YearDay(),
		start:   start,
		length:  length,
	}
	for passed := time.Duration(0); passed < length; passed += time.Hour {
		at := start.Add(passed)
		d.hours = append(d.hours, hourText{at.Format("2006-01-02T15:"), at.Format("Z07:00")})
	}
	return d
}

// moment writes a second of the day as RFC 3339; seconds beyond the day's last fall on that one.
func (r *record) moment(d *day, second int) {
	second = min(second, int(d.length/time.Second)-1)
	hour, minute, second := &d.hours[second/3600], second/60%60, second%60
	r.line = append(r.line, hour.before...)
	r.line = append(r.line, byte('0'+minute/10), byte('0'+minute%10), ':', byte('0'+second/10), byte('0'+second%10))
	r.line = append(r.line, hour.after...)
	r.close()
}

func (d day) weekend() bool { return d.weekday == time.Saturday || d.weekday == time.Sunday }

func (d day) summer() bool { return d.date.Month == time.July || d.date.Month == time.August }

// advent rises from 0 on the first of December to 1 on the 23rd, and is over on Christmas Eve.
func (d day) advent() float64 {
	if d.date.Month != time.December || d.date.Day > 23 {
		return 0
	}
	return float64(d.date.Day) / 23
}

// payday is high in the days after salaries come in, at the turn of the month.
func (d day) payday() bool { return d.date.Day >= 28 || d.date.Day <= 2 }

// appFactor says how much busier than ordinary the app is.
func (d day) appFactor() float64 {
	factor := [...]float64{0.74, 1.10, 1.04, 1.03, 1.05, 1.12, 0.86}[d.weekday] // from Sunday
	if d.summer() {
		factor *= 0.88
	}
	if d.payday() {
		factor *= 1.15
	}
	return factor * (1 + 0.15*d.advent()) * growth(d.number)
}

// cardFactor says how many more payments than ordinary are made.
func (d day) cardFactor() float64 {
	factor := [...]float64{0.66, 0.88, 0.92, 0.95, 1.05, 1.26, 1.38}[d.weekday]
	if d.date.Month == time.January {
		factor *= 0.88
	}
	if d.payday() {
		factor *= 1.10
	}
	return factor * (1 + 0.45*d.advent())
}

// growth is 4 % a year around the middle of 2025.
func growth(number int) float64 { return math.Pow(1.04, (float64(number)-9312)/365.25) }

// moments draws n seconds of a day by an hourly rhythm, in order.
func (m *maker) moments(n int, rhythm *weighted[int]) []int {
	m.seconds = m.seconds[:0]
	for range n {
		m.seconds = append(m.seconds, *pick(m, rhythm)*3600+m.IntN(3600))
	}
	if n > 1 {
		slices.Sort(m.seconds)
	}
	return m.seconds
}

// hourly is a rhythm over the 24 hours.
func hourly(weights [24]float64) weighted[int] {
	var hours []choice[int]
	for hour, weight := range weights {
		hours = append(hours, choice[int]{hour, weight})
	}
	return weigh(hours...)
}
