package policyfile

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
)

var retained = regexp.MustCompile(`^([1-9][0-9]{0,3}) (month|quarter|year)s?$`)

// monthsIn is how long a period is that rows can be retained for, and blocks can be.
func monthsIn(period string) int64 {
	switch dp.Block(period) {
	case dp.Month:
		return 1
	case dp.Quarter:
		return 3
	case dp.Year:
		return 12
	}
	return 0
}

// retain reads how long rows are kept, in months. 0: for ever.
func (r *reader) retain(o object, unit dp.Unit) int64 {
	const instead = "write how long rows are kept after their block has ended, such as 24 months, 8 quarters or 2 years, or leave it out to keep them for ever"
	if !o.has("retain") {
		return 0
	}
	text, ok := o.text("retain", instead)
	if !ok {
		return 0
	}
	words := retained.FindStringSubmatch(text)
	if words == nil {
		o.problem("retain", "not a length of time: %s", instead)
		return 0
	}
	count, _ := strconv.ParseInt(words[1], 10, 64) // has at most 4 digits
	months := count * monthsIn(words[2])
	switch {
	case unit.Block == dp.All:
		o.problem("retain", "the block all never ends, so that nothing of it would ever leave: leave retain out, or write a block of month, quarter or year")
	case months > dp.MaxRetainMonths:
		o.problem("retain", "longer than %d months: leave it out to keep rows for ever", dp.MaxRetainMonths)
	case months < monthsIn(string(unit.Block)):
		o.problem("retain", "shorter than one %s, which is the block: write at least 1 %s", unit.Block, unit.Block)
	}
	return months
}

// retainText writes what retain reads, in the period of the blocks where that is a whole number.
func retainText(p dp.Policy) string {
	if p.RetainMonths == 0 {
		return ""
	}
	period := string(p.Unit.Block)
	if of := monthsIn(period); of == 0 || p.RetainMonths%of != 0 {
		period = string(dp.Month)
	}
	count := p.RetainMonths / monthsIn(period)
	if count != 1 {
		period += "s"
	}
	return fmt.Sprintf("%d %s", count, period)
}
