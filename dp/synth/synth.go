// Package synth makes the data of a bank that does not exist: app events and card payments of the same
// customers, with seasons, weekends, a daily rhythm, heavy tails, and customers who come, fall asleep and
// leave. The demo, tests and benchmarks load it through the same path as anybody's files. It also imagines rows from
// nothing but a policy (Imagine), to try bounds on.
//
// All of it follows from a seed: what one customer does on one day depends on the bank alone, so that any
// range of days can be made by itself and comes out the same to the last byte. Rows are made one at a time:
// memory does not grow with days, and with customers by 40 bytes of each of the first eight million. The figures are chosen to look like a bank and fitted to
// none. The package never stores or loads anything.
package synth

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// Bank is everything that a seed makes: customers over days.
type Bank struct {
	size     Size
	zone     *time.Location
	world    *world
	ranks    law      // of the merchants of one category
	linkDays []string // as text, from tenureDays before the first day on
	busier   float64  // multiplies what customers pay by card
}

// Size says how much to make.
type Size struct {
	Seed      uint64
	Customers int       // who are customers on at least one of the days, dormant ones included; 1 to MostCustomers
	First     rows.Date // first day
	Days      int       // 1 to MostDays

	// PaymentsPerMonth is the mean number of card payments of one customer in a month of 365.25/12 days, over all
	// customers and all days, of those who are asleep or not there, too. 0: a bank's usual number, about 3.
	PaymentsPerMonth float64
	// Merchants is how many there are, about: each of the nine kinds has the same number. 0: 5400.
	Merchants int
	// Unlinked leaves out the column linked_at, in which rows of customers who agree to it say so, and the policies' link.
	Unlinked bool
}

// The largest bank.
const (
	MostCustomers        = 100_000_000
	MostDays             = 3660
	MostPaymentsPerMonth = 300.0
	MostMerchants        = 10_000_000
)

// Table is one dataset: rows day by day, and of a bank's own, its policy.
type Table struct {
	Name   string
	Policy string   // a policy file, as an officer would apply it; empty where the table was imagined from one
	Header []string // names of the columns

	bank        *Bank
	first, last int // days of the bank counted from 0, both included
	// walk gives the rows of days from first to last in order, until yield returns false.
	walk func(first, last int, yield func(*record) bool)
}

// activity is what customers do on one day.
type activity struct {
	often func(c *customer) float64 // how many times, on average
	// times makes the rows of one customer who does it so many times, until yield returns false.
	times func(n int, index uint64, c *customer, yield func(*record) bool) bool
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
	if !(s.PaymentsPerMonth >= 0 && s.PaymentsPerMonth <= MostPaymentsPerMonth) {
		return nil, fmt.Errorf("payments per month must be from 0 to %v", MostPaymentsPerMonth)
	}
	if s.Merchants < 0 || s.Merchants > MostMerchants {
		return nil, fmt.Errorf("merchants must be from 0 to %d", MostMerchants)
	}
	zone, err := rows.LoadZone(timezone)
	if err != nil {
		return nil, fmt.Errorf("finding the bank's time zone: %w", err)
	}
	b := &Bank{size: s, zone: zone, world: newWorld(), busier: 1}
	b.ranks = zipf(b.merchantsPerCategory())
	for n := -tenureDays; n < s.Days && !s.Unlinked; n++ {
		b.linkDays = append(b.linkDays, s.First.AddDays(n).String())
	}
	if s.PaymentsPerMonth > 0 {
		b.busier = s.PaymentsPerMonth / b.usualPayments()
	}
	return b, nil
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
		fields := make([]string, 0, len(t.Header))
		t.each(func(r *record) bool {
			fields = r.fields(fields)
			return yield(fields)
		})
	}
}

// each gives the rows in order until yield returns false.
func (t Table) each(yield func(*record) bool) { t.walk(t.first, t.last, yield) }

// daily walks through days, and on each of them through the customers. Draws of one stream are apart from those of others.
func (b *Bank) daily(s stream, on func(m *maker, d *day) activity) func(first, last int, yield func(*record) bool) {
	return func(first, last int, yield func(*record) bool) { b.days(s, on, first, last, yield) }
}

func (b *Bank) days(s stream, on func(m *maker, d *day) activity, first, last int, yield func(*record) bool) {
	m := newMaker(b)
	key := m.key(s)
	known := m.population(b.size, mostKnown)
	for n := first; n <= last; n++ {
		d := b.day(n)
		does := on(m, &d)
		for i := range b.size.Customers {
			c := known(i)
			lot := lot(key, uint64(i), uint64(d.number))
			first, mean := unit(lot), does.often(c)
			// Nobody can tell beforehand who is there on a day, and a processor that guesses wrong waits: both reasons
			// to go on are one sign.
			if absent := (n - int(c.joins)) | (int(c.leaves) - 1 - n); absent|surelyNone(first, mean) < 0 {
				continue
			}
			m.seed(key, lot)
			times := m.poissonFrom(first, mean)
			if times > 0 && !does.times(times, uint64(i), c, yield) {
				return
			}
		}
	}
}

// WriteCSV writes the header and every record.
func (t Table) WriteCSV(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	for i, name := range t.Header {
		if i > 0 {
			_ = out.WriteByte(',') // a failure stays until Flush
		}
		_, _ = out.Write(appendQuoted(nil, name))
	}
	_ = out.WriteByte('\n')
	var failed error
	t.each(func(r *record) bool {
		_, failed = out.Write(r.line)
		return failed == nil
	})
	if err := cmp.Or(failed, out.Flush()); err != nil {
		return fmt.Errorf("writing the rows of %s: %w", t.Name, err)
	}
	return nil
}

// table is what both datasets share.
func (b *Bank) table(name, policy string, header ...string) Table {
	policy = fmt.Sprintf(policy, b.size.Customers, timezone)
	if !b.size.Unlinked {
		policy, header = policy+linkPolicy, append(header, "linked_at")
	}
	return Table{Name: name, Policy: policy, Header: header, bank: b, first: 0, last: b.size.Days - 1}
}

// linkPolicy says that the app's events and the card's payments may be joined where customers agree.
const linkPolicy = `link: {consent: linked_at}
`

func (b *Bank) merchantsPerCategory() int {
	if b.size.Merchants == 0 {
		return usualMerchants / len(b.world.categories)
	}
	return max(1, b.size.Merchants/len(b.world.categories))
}

func (b *Bank) day(n int) day {
	date := b.size.First.AddDays(n)
	start, end := rows.Span(date, date, b.zone)
	d := newDay(date, time.UnixMilli(start).In(b.zone), time.Duration(end-start)*time.Millisecond)
	d.position = n
	return d
}
