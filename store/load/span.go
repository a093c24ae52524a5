package load

import (
	"context"
	"fmt"
	"io"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Counts tells how many records an input holds.
type Counts struct {
	Accepted, Rejected int64
}

// Span reads an input once and gives the first and the last day on which its accepted rows lie, in the
// policy's zone. Both are zero where no row was accepted or rows have no time.
func Span(ctx context.Context, p *dp.Policy, in io.Reader, s Source) (first, last rows.Date, n Counts, err error) {
	r, err := NewReader(p, in, s, nobody{})
	if err != nil {
		return first, last, n, err
	}
	var earliest, latest int64
	for batch, err := range r.Batches(ctx) {
		if err != nil {
			return first, last, n, fmt.Errorf("finding the days that the rows cover: %w", err)
		}
		for i := range batch {
			if batch[i].Reason != "" {
				n.Rejected++
				continue
			}
			ms := batch[i].Row.Time
			if n.Accepted == 0 {
				earliest, latest = ms, ms
			}
			earliest, latest = min(earliest, ms), max(latest, ms)
			n.Accepted++
		}
	}
	if n.Accepted > 0 && p.Time != nil {
		zone, err := rows.Location(p)
		if err != nil {
			return first, last, n, fmt.Errorf("finding the time zone of dataset %s: %w", p.Name, err)
		}
		first, last = rows.DateOf(earliest, zone), rows.DateOf(latest, zone)
	}
	return first, last, n, nil
}

// nobody gives every customer the same pseudonym, for who only looks at times.
type nobody struct{}

func (nobody) Pseudonym(string) uint64 { return 0 }

func (nobody) RowPseudonym(uint64, uint64, string) uint64 { return 0 }
