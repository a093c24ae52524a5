package load

import (
	"slices"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// blocks finds the block of an instant. It remembers the span of every block that it met, because reading
// the calendar for every row would cost more than reading the row.
type blocks struct {
	unit    dp.Block
	zone    *time.Location
	covered map[string]bool // nil: all
	retired string          // month before which the blocks end that are retired; empty: none is
	known   []blockSpan     // by start
	last    int             // in known
}

type blockSpan struct {
	start, end int64 // milliseconds since 1970 UTC, end excluded
	name       string
	reason     string // why no row is taken; empty: rows are
}

func newBlocks(p *dp.Policy, zone *time.Location, covered []string, retired string) *blocks {
	b := &blocks{unit: p.Unit.Block, zone: zone, retired: retired}
	if p.Time == nil {
		b.unit = dp.All
	}
	if covered != nil {
		b.covered = make(map[string]bool, len(covered))
		for _, name := range covered {
			b.covered[name] = true
		}
	}
	return b
}

// find gives the block of an instant, or why no row of it is taken.
func (b *blocks) find(ms int64) (name, reason string) {
	if b.unit == dp.All {
		return rows.AllBlock, b.reasonOf(rows.AllBlock)
	}
	if b.last >= len(b.known) || ms < b.known[b.last].start || ms >= b.known[b.last].end {
		b.last = b.search(ms)
	}
	span := b.known[b.last]
	return span.name, span.reason
}

func (b *blocks) reasonOf(block string) string {
	switch {
	case rows.IsRetired(block, b.retired):
		return reasonRetired
	case b.covered != nil && !b.covered[block]:
		return reasonBlock
	}
	return ""
}

// search gives the position of an instant's block, adding it where it is new.
func (b *blocks) search(ms int64) int {
	at, _ := slices.BinarySearchFunc(b.known, ms, func(s blockSpan, ms int64) int {
		if s.end <= ms {
			return -1
		}
		return 1
	})
	if at < len(b.known) && b.known[at].start <= ms {
		return at
	}
	name := rows.BlockOf(ms, b.unit, b.zone)
	span := blockSpan{start: ms, end: ms + 1, name: name, reason: b.reasonOf(name)}
	if first, last, err := rows.BlockDates(name, b.unit); err == nil {
		span.start, span.end = rows.Span(first, last, b.zone)
	}
	b.known = slices.Insert(b.known, at, span)
	return at
}
