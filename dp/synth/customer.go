package synth

import (
	"fmt"
	"math"
)

// customer is what stays the same about one customer on all days and in both tables.
type customer struct {
	index    uint64  // from 0
	joins    int     // first day as a customer, counted from the bank's first; negative for most
	leaves   int     // first day no more
	sessions float64 // app sessions of an ordinary day, on average
	payments float64 // card payments of an ordinary day, on average
	spending float64 // multiplies amounts
	platform string
	home     *country
	city     string
	lag      int // days until this customer's app has a new version
	holiday  holiday
}

// holiday is one stay abroad in each year; none has no days.
type holiday struct {
	from, days int // day of the year
	to         *country
}

const (
	// tenureDays is how long before the first day customers began to join, and their mean time until leaving.
	// Lifetimes are exponential, hence memoryless: who was there before the first day needs no other law.
	tenureDays = 720

	// dormantShare of the customers hardly ever do anything.
	dormantShare  = 0.25
	dormantFactor = 0.03

	// Activity is lognormal: with sigma 1 the busiest thousandth do twenty times what the median does.
	sessionsMedian, sessionsSigma = 0.13, 1.0
	paymentsMedian, paymentsSigma = 0.16, 0.8

	holidayShare = 0.35
)

// mostKnown bounds how many customers are kept rather than derived anew on every day: 8 MB of them.
const mostKnown = 1 << 16

// population gives the customers of a bank by number. What it gives is valid until the next call.
func (m *maker) population(s Size) func(i int) *customer {
	known := make([]customer, min(s.Customers, mostKnown))
	for i := range known {
		known[i] = m.customer(uint64(i), s.Days)
	}
	var other customer
	return func(i int) *customer {
		if i < len(known) {
			return &known[i]
		}
		other = m.customer(uint64(i), s.Days)
		return &other
	}
}

// customer derives customer i of a bank with so many days.
func (m *maker) customer(i uint64, days int) customer {
	m.seed(traits, i, 0)
	c := customer{index: i}
	c.joins = m.IntN(tenureDays+days) - tenureDays
	c.leaves = max(c.joins, 0) + 1 + int(m.ExpFloat64()*tenureDays)

	// One normal is shared by both activities: who uses the app much also pays much.
	shared, app, card := m.NormFloat64(), m.NormFloat64(), m.NormFloat64()
	c.sessions = sessionsMedian * math.Exp(sessionsSigma*(0.6*shared+0.8*app))
	c.payments = paymentsMedian * math.Exp(paymentsSigma*(0.6*shared+0.8*card))
	if m.Float64() < dormantShare {
		c.sessions *= dormantFactor
		c.payments *= dormantFactor
	}
	c.spending = m.lognormal(1, 0.35)

	c.platform = pick(m, m.platforms)
	c.home = pick(m, m.countries)
	c.city = pick(m, c.home.cities)
	c.lag = int(m.ExpFloat64() * 9)
	if m.Float64() < holidayShare {
		c.holiday = holiday{from: 160 + m.IntN(95), days: 7 + m.IntN(10), to: pick(m, m.countries)}
	}
	return c
}

// whereabouts is the country a customer is in on a day of the year.
func (c *customer) whereabouts(yearDay int) *country {
	if h := c.holiday; h.days > 0 && yearDay >= h.from && yearDay < h.from+h.days {
		return h.to
	}
	return c.home
}

// customerID looks like no count and is unique, because mix is a bijection.
func (m *maker) customerID(i uint64) string { return fmt.Sprintf("c%016x", mix(m.bank^i)) }
