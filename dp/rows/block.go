package rows

import (
	"errors"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// AllBlock is the name of the only block of a dataset whose block is all.
const AllBlock = "all"

var errBlock = errors.New("not the name of a block: write 2026-01 for a month, 2026-Q1 for a quarter, 2026 for a year, or all")

// BlockOf names the block of an instant in a zone: 2026-01, 2026-Q1, 2026 or all.
func BlockOf(ms int64, b dp.Block, loc *time.Location) string {
	if b == dp.All {
		return AllBlock
	}
	return blockOfDate(DateOf(ms, loc), b)
}

// Blocks names every calendar block that the days from to to (both included) touch, in order, whether or
// not it has rows. It is empty where to comes before from.
func Blocks(from, to Date, b dp.Block) []string {
	if to.Before(from) {
		return nil
	}
	if b == dp.All {
		return []string{AllBlock}
	}
	var blocks []string
	for d := from; !to.Before(d); {
		block := blockOfDate(d, b)
		blocks = append(blocks, block)
		_, last, err := BlockDates(block, b)
		if err != nil { // days outside of the known years, which ParseDate refuses
			return blocks
		}
		d = last.AddDays(1)
	}
	return blocks
}

// BlockDates gives the first and the last day of a block; for all, those of the known years.
func BlockDates(block string, b dp.Block) (first, last Date, err error) {
	if b == dp.All {
		if block != AllBlock {
			return Date{}, Date{}, errBlock
		}
		return FirstDate(), LastDate(), nil
	}
	year, rest, months := 0, "", 12
	if len(block) >= 4 {
		n, ok := digits(block[:4])
		if ok {
			year, rest = n, block[4:]
		}
	}
	month, ok := 1, false
	switch b {
	case dp.Year:
		ok = rest == ""
	case dp.Quarter:
		months = 3
		if ok = len(rest) == 3 && strings.HasPrefix(rest, "-Q") && rest[2] >= '1' && rest[2] <= '4'; ok {
			month = 3*int(rest[2]-'1') + 1
		}
	case dp.Month:
		months = 1
		if len(rest) == 3 && rest[0] == '-' {
			month, ok = digits(rest[1:])
			ok = ok && month >= 1 && month <= 12
		}
	}
	if !ok || year < FirstYear || year > LastYear {
		return Date{}, Date{}, errBlock
	}
	first = Date{year, time.Month(month), 1}
	return first, dateOf(first.utc().AddDate(0, months, -1)), nil
}

func blockOfDate(d Date, b dp.Block) string {
	switch b {
	case dp.Month:
		return monthText(d)
	case dp.Quarter:
		return quarterText(d)
	case dp.Year:
		return yearText(d)
	}
	return AllBlock
}

func monthText(d Date) string   { return yearText(d) + "-" + padded(int(d.Month), 2) }
func quarterText(d Date) string { return yearText(d) + "-Q" + padded((int(d.Month)+2)/3, 1) }
func yearText(d Date) string    { return padded(d.Year, 4) }
