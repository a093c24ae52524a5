package ledger

import "strings"

// before and after all months, as text.
const (
	firstOfAll = ""
	lastOfAll  = "~"
)

// monthsOf gives the first and the last month of a block of any kind, as texts that sort as calendars do. A name
// that is no month, quarter or year stands for all time, as the block "all" does.
func monthsOf(block string) (first, last string) {
	year, part, divided := strings.Cut(block, "-")
	switch {
	case len(year) != 4 || strings.Trim(year, "0123456789") != "":
	case !divided:
		return year + "-01", year + "-12"
	case len(part) == 2 && strings.Trim(part, "0123456789") == "":
		return block, block
	case part == "Q1":
		return year + "-01", year + "-03"
	case part == "Q2":
		return year + "-04", year + "-06"
	case part == "Q3":
		return year + "-07", year + "-09"
	case part == "Q4":
		return year + "-10", year + "-12"
	}
	return firstOfAll, lastOfAll
}

// reaches tells whether a block begins no later than another ends. They may be of different kinds: until rows are
// loaded, the policy may go from one kind to another.
func reaches(through, block string) bool {
	first, _ := monthsOf(block)
	_, last := monthsOf(through)
	return first <= last
}

// laterBlock is the block that ends last.
func laterBlock(a, b string) string {
	_, endA := monthsOf(a)
	_, endB := monthsOf(b)
	if endB > endA {
		return b
	}
	return a
}
