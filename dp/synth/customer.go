package synth

import "math"

// customer is what stays the same about one customer on all days and in both tables. A bank walks through all of
// its customers on every day: the fields are as narrow as they can be, and make up 40 bytes.
type customer struct {
	sessions float64 // app sessions of an ordinary day, on average
	payments float64 // card payments of an ordinary day, on average
	spending float64 // multiplies amounts
	joins    int16   // first day as a customer, counted from the bank's first; negative for most
	leaves   int16   // first day no more; no bank lasts as long as the largest
	lag      int16   // days until this customer's app has a new version
	links    int16   // first day on which they agree that their data be joined, counted like joins; never: no bank lasts so long
	// One stay abroad in each year, by day of the year; none has no days.
	holidayFrom int16
	holidayDays uint8
	holidayTo   uint8 // like home
	platform    uint8 // position in the world's platforms
	home        uint8 // position in the world's countries
	city        uint8 // position in home's cities
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

	// linkedShare of the customers agree, on a day between joining and leaving, that the bank joins what they do in the
	// app with what they pay by card.
	linkedShare = 0.4
)

// mostKnown bounds how many customers are kept rather than derived anew on every day: 320 MB of them.
const mostKnown = 8_000_000

// population gives the customers of a bank by number, at most so many of them from memory. What it gives is valid
// until the next call.
func (m *maker) population(s Size, most int) func(i int) *customer {
	known := make([]customer, min(s.Customers, most))
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
	key := m.key(traits)
	m.seed(key, lot(key, i, 0))
	var c customer
	joins := m.IntN(tenureDays+days) - tenureDays
	c.joins = int16(joins)
	c.leaves = int16(min(math.MaxInt16, max(joins, 0)+1+int(m.ExpFloat64()*tenureDays)))

	// One normal is shared by both activities: who uses the app much also pays much.
	shared, app, card := m.NormFloat64(), m.NormFloat64(), m.NormFloat64()
	c.sessions = sessionsMedian * math.Exp(sessionsSigma*(0.6*shared+0.8*app))
	c.payments = m.busier * paymentsMedian * math.Exp(paymentsSigma*(0.6*shared+0.8*card))
	if m.Float64() < dormantShare {
		c.sessions *= dormantFactor
		c.payments *= dormantFactor
	}
	c.spending = m.lognormal(1, 0.35)

	c.platform = pickIndex(m, &m.platforms)
	c.home = pickIndex(m, &m.countries)
	c.city = pickIndex(m, &m.countries.items[c.home].cities)
	c.lag = int16(m.ExpFloat64() * 9)
	if m.Float64() < holidayShare {
		c.holidayFrom = int16(160 + m.IntN(95))
		c.holidayDays = uint8(7 + m.IntN(10))
		c.holidayTo = pickIndex(m, &m.countries)
	}
	c.links = math.MaxInt16
	if m.Float64() < linkedShare {
		c.links = int16(joins + m.IntN(min(int(c.leaves), days)-joins))
	}
	return c
}

// usualPayments is how many card payments a customer makes in a month of 365.25/12 days where nothing else is
// asked for: the mean over all customers, and over all days of the bank.
func (b *Bank) usualPayments() float64 {
	ordinary := paymentsMedian * math.Exp(paymentsSigma*paymentsSigma/2) * (1 - dormantShare + dormantShare*dormantFactor)
	payments := 0.0
	for n := range b.size.Days {
		d := b.day(n)
		payments += d.cardFactor() * b.present(n)
	}
	return ordinary * payments / float64(b.size.Days) * 365.25 / 12
}

// present is the share of the bank's customers who are customers on its day n.
func (b *Bank) present(n int) float64 {
	// They join on any of tenureDays + Days days with the same chance, those of before the first day as if on it,
	// and stay another day with the same chance on every day.
	stay := math.Exp(-1.0 / tenureDays)
	stayed := math.Pow(stay, float64(n))
	atFirst, later := (tenureDays+1)*stayed, (1-stayed)/(1-stay) // 1 + stay + ... for who joined n days ago at most
	return (atFirst + later) / float64(tenureDays+b.size.Days)
}

// whereabouts is the country a customer is in on a day of the year.
func (c *customer) whereabouts(yearDay int) uint8 {
	if from := int(c.holidayFrom); yearDay >= from && yearDay < from+int(c.holidayDays) {
		return c.holidayTo
	}
	return c.home
}

// linkedAt is since when a customer agrees that their data be joined, as far as a day's rows can tell.
func (m *maker) linkedAt(c *customer, d *day) string {
	if d.position < int(c.links) || m.linkDays == nil {
		return ""
	}
	return m.linkDays[int(c.links)+tenureDays]
}

// link writes the last field of a row, where rows have it.
func (m *maker) link(linkedAt string) {
	if m.linkDays != nil {
		m.record.text(linkedAt)
	}
}

// customerID is written as text by record.customer. It looks like no count and is unique, because mix is a bijection.
func (m *maker) customerID(i uint64) uint64 { return mix(m.bank ^ i) }
