package verify

import (
	"slices"
	"time"
)

// blockOf is the block of a moment.
func blockOf(at time.Time, period string) string {
	switch period {
	case "month":
		return at.Format("2006-01")
	case "quarter":
		return at.Format("2006-Q") + string(rune('1'+(at.Month()-1)/3))
	case "year":
		return at.Format("2006")
	}
	return "all"
}

// span numbers months from the year 0 on: those from which to which a block goes. One that is neither month, quarter
// nor year is all time.
func span(block string) (first, last int) {
	for _, period := range []struct {
		layout string
		months int
	}{{"2006-01", 1}, {"2006", 12}} {
		if at, err := time.Parse(period.layout, block); err == nil {
			first = at.Year()*12 + int(at.Month()) - 1
			return first, first + period.months - 1
		}
	}
	if year, quarter := block[:max(0, len(block)-3)], block[max(0, len(block)-3):]; slices.Contains([]string{"-Q1", "-Q2", "-Q3", "-Q4"}, quarter) {
		if at, err := time.Parse("2006", year); err == nil {
			first = at.Year()*12 + 3*int(quarter[2]-'1')
			return first, first + 2
		}
	}
	return -1, 10000 * 12
}

// covered tells whether what is written off through a block counts in another.
func covered(block, through string) bool {
	first, _ := span(block)
	_, last := span(through)
	return first <= last
}

// endsBefore tells whether a block ends before another does.
func endsBefore(a, b string) bool {
	_, endA := span(a)
	_, endB := span(b)
	return endA < endB
}
