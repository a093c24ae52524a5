// Package synth makes the data of a bank that does not exist: app events and card payments of the same
// customers, with seasons, weekends, a daily rhythm, heavy tails, and customers who come, fall asleep and
// leave. The demo, tests and benchmarks load it through the same path as anybody's files.
//
// All of it follows from a seed: what one customer does on one day depends on the bank alone, so that any
// range of days can be made by itself and comes out the same to the last byte. Rows are made one at a time
// and memory does not grow with customers or days. The figures are chosen to look like a bank and fitted to
// none. The package never stores or loads anything.
package synth

import (
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// Bank is everything that a seed makes: customers over days.
type Bank struct {
	size  Size
	zone  *time.Location
	world *world
}

// Size says how much to make.
type Size struct {
	Seed      uint64
	Customers int       // who are customers on at least one of the days, dormant ones included; 1 to MostCustomers
	First     rows.Date // first day
	Days      int       // 1 to MostDays
}

// The largest bank.
const (
	MostCustomers = 100_000_000
	MostDays      = 3660
)

// Table is one dataset of a bank: a policy, and rows day by day.
type Table struct {
	Name   string
	Policy string   // a policy file, as an officer would apply it
	Header []string // names of the columns

	bank        *Bank
	stream      stream
	first, last int // days of the bank counted from 0, both included
	// on prepares what all customers share on one day, and gives what one of them does on it.
	on func(m *maker, d day) func(c *customer, yield func(record []string) bool) bool
}

// timezone is where the bank is, and the zone of its policies.
const timezone = "Europe/Berlin"

// New prepares a bank. It fails where a size is out of range, or where the machine knows no time zones.
func New(s Size) (*Bank, error) {
	if s.Customers < 1 || s.Customers > MostCustomers {
		return nil, fmt.Errorf("customers must be from 1 to %d", MostCustomers)
	}
	if s.Days < 1 || s.Days > MostDays {
		return nil, fmt.Errorf("days must be from 1 to %d", MostDays)
	}
	zone, err := rows.LoadZone(timezone)
	if err != nil {
		return nil, fmt.Errorf("finding the bank's time zone: %w", err)
	}
	return &Bank{size: s, zone: zone, world: newWorld()}, nil
}

// Tables gives the bank's datasets: engagement, then transactions.
func (b *Bank) Tables() []Table { return []Table{b.Engagement(), b.Transactions()} }

// Last is the last day of the bank.
func (b *Bank) Last() rows.Date { return b.size.First.AddDays(b.size.Days - 1) }

// Between narrows a table to those of its days that lie from first to last, both included.
func (t Table) Between(first, last rows.Date) Table {
	t.first = max(t.first, t.bank.size.First.DaysUntil(first))
	t.last = min(t.last, t.bank.size.First.DaysUntil(last))
	return t
}

// Records gives the rows as text in the order of Header: day by day, within a day customer by customer,
// within a customer by time. The slice is reused: who keeps a record copies it.
func (t Table) Records() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		m := newMaker(t.bank.size.Seed, t.bank.world)
		known := m.population(t.bank.size)
		for n := t.first; n <= t.last; n++ {
			d := t.bank.day(n)
			act := t.on(m, d)
			for i := range t.bank.size.Customers {
				c := known(i)
				if n < c.joins || n >= c.leaves {
					continue
				}
				m.seed(t.stream, uint64(i), uint64(d.number))
				if !act(c, yield) {
					return
				}
			}
		}
	}
}

// WriteCSV writes the header and every record.
func (t Table) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(t.Header); err != nil {
		return fmt.Errorf("writing the header of %s: %w", t.Name, err)
	}
	for record := range t.Records() {
		if err := out.Write(record); err != nil {
			return fmt.Errorf("writing a row of %s: %w", t.Name, err)
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("writing the rows of %s: %w", t.Name, err)
	}
	return nil
}

// table is what both datasets share.
func (b *Bank) table(name string, s stream, header ...string) Table {
	return Table{Name: name, Header: header, bank: b, stream: s, first: 0, last: b.size.Days - 1}
}

func (b *Bank) day(n int) day {
	date := b.size.First.AddDays(n)
	start, end := rows.Span(date, date, b.zone)
	return newDay(date, time.UnixMilli(start).In(b.zone), time.Duration(end-start)*time.Millisecond)
}
