package synth

import (
	"errors"
	"fmt"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Imagination says how much to imagine.
type Imagination struct {
	Seed      uint64
	Customers int       // 1 to MostCustomers; of a policy without time whose unit is the row, the number of rows
	First     rows.Date // first day; ignored where the policy has no time
	Days      int       // 1 to MostDays; ignored where the policy has no time
	// RowsPerMonth is the mean number of rows of one customer in a month, over all customers, of those who are asleep or not
	// there, too; without time, of one customer in all. 0: UsualRowsPerMonth. At most MostRowsPerMonth.
	RowsPerMonth float64
}

// How many rows customers have.
const (
	UsualRowsPerMonth = 6.0
	MostRowsPerMonth  = 1000.0
)

// Imagine makes rows that could be loaded under a policy, from the policy alone: its columns, formats, domains, clamps and
// consent. Customers come and go, are unequal in activity and follow weekdays and hours as a bank's do; what they are in
// each dimension is partly a habit; values of public dimensions are the likelier the earlier they are declared, those of
// private ones are made up, by Zipf's law; flows are lognormal with a few beyond their clamp, levels move with the calendar.
// Nothing of it is known of anybody's rows. It fails where a size is out of range, or where no value fits a column that the
// policy reads in several ways.
func Imagine(p dp.Policy, s Imagination) (Table, error) {
	if !(s.RowsPerMonth >= 0 && s.RowsPerMonth <= MostRowsPerMonth) {
		return Table{}, fmt.Errorf("rows per month must be from 0 to %v", MostRowsPerMonth)
	}
	if s.RowsPerMonth == 0 {
		s.RowsPerMonth = UsualRowsPerMonth
	}
	if p.Time == nil {
		s.First, s.Days = rows.Date{Year: 2025, Month: time.January, Day: 1}, 1
	}
	if s.Days < 1 || s.Days > MostDays {
		return Table{}, fmt.Errorf("days must be from 1 to %d", MostDays)
	}
	if last := s.First.AddDays(s.Days - 1); s.First.Compare(rows.FirstDate()) < 0 || rows.LastDate().Before(last) {
		return Table{}, fmt.Errorf("days must lie in the years %d to %d", rows.FirstYear, rows.LastYear)
	}
	zone, err := rows.Location(&p)
	if err != nil {
		return Table{}, fmt.Errorf("finding the policy's time zone: %w", err)
	}
	v := newVision(&p, s)
	bank, err := New(Size{
		Seed: s.Seed, Customers: s.Customers, First: s.First, Days: s.Days,
		PaymentsPerMonth: min(s.RowsPerMonth/v.rowsPerVisit(), MostPaymentsPerMonth), Unlinked: p.Link == nil,
	})
	if err != nil {
		return Table{}, err
	}
	bank.zone = zone
	if err := v.prepare(bank); err != nil {
		return Table{}, err
	}
	t := Table{Name: p.Name, bank: bank, first: 0, last: s.Days - 1}
	for _, c := range v.columns {
		t.Header = append(t.Header, c.header)
	}
	if len(t.Header) == 0 {
		return Table{}, errors.New("the policy names no column, so that there is nothing to imagine")
	}
	if p.Time == nil {
		t.walk = func(_, _ int, yield func(*record) bool) { v.timeless(bank, yield) }
		return t, nil
	}
	t.walk = bank.daily(imagined, func(m *maker, d *day) activity { return v.on(m, d) })
	return t, nil
}

// on is what customers do on a day: they come as often as a bank's pay by card.
func (v *vision) on(m *maker, d *day) activity {
	rhythm := &m.appWeekdays
	switch shops := v.policy.Kind == dp.Transactions; {
	case shops && d.weekend():
		rhythm = &m.shopWeekends
	case shops:
		rhythm = &m.shopWeekdays
	case d.weekend():
		rhythm = &m.appWeekends
	}
	factor := d.cardFactor()
	painter := v.painter(m)
	often := func(c *customer) float64 { return c.payments * factor }
	return activity{often, func(visits int, index uint64, c *customer, yield func(*record) bool) bool {
		if d.length <= 0 { // the zone's calendar jumped over it
			return true
		}
		painter.meet(index, c)
		until := 0
		for _, second := range m.moments(visits, rhythm) {
			second = max(second, until)
			for left := 1 + m.poisson(v.rowsPerVisit()-1); left > 0; left-- {
				if !yield(painter.row(d, min(second, int(d.length/time.Second)-1))) {
					return false
				}
				second += 1 + int(m.lognormal(20, 0.8))
			}
			until = second
		}
		return true
	}}
}

// rowsPerVisit is 1 but where rows are events, which come in sessions.
func (v *vision) rowsPerVisit() float64 {
	if v.policy.Kind == dp.Engagement {
		return 2.7
	}
	return 1
}

// timeless gives the rows of one customer after the other: one of each where the row is the unit, else at least one.
func (v *vision) timeless(b *Bank, yield func(*record) bool) {
	m := newMaker(b)
	painter := v.painter(m)
	key := m.key(imagined)
	known := m.population(b.size, 0)
	d := b.day(0)
	usual := b.usualPayments()
	for i := range b.size.Customers {
		c := known(i)
		painter.meet(uint64(i), c)
		m.seed(key, lot(key, uint64(i), 0))
		n := 1
		if !v.policy.Unit.Row {
			// c.payments has the mean of what a whole month has, over all customers.
			n += m.poisson((v.rowsPerCustomer - 1) * c.payments / m.busier * 365.25 / 12 / usual)
		}
		for range n {
			if !yield(painter.row(&d, 0)) {
				return
			}
		}
	}
}
