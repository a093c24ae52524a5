package synth

import (
	"math"
)

// Transactions is what customers pay by card: one row for each payment.
func (b *Bank) Transactions() Table {
	t := b.table("transactions", transactionsPolicy,
		"customer_id", "booked_at", "merchant_category", "merchant", "channel", "country", "city", "amount")
	t.walk = b.daily(transactions, func(m *maker, d *day) activity {
		rhythm := &m.shopWeekdays
		if d.weekend() {
			rhythm = &m.shopWeekends
		}
		factor := d.cardFactor()
		atHome, abroad := m.demand(d, false), m.demand(d, true)
		often := func(c *customer) float64 {
			if c.whereabouts(d.yearDay) != c.home {
				return c.payments * factor * 1.6
			}
			return c.payments * factor
		}
		return activity{often, func(payments int, index uint64, c *customer, yield func(*record) bool) bool {
			demand, where := &atHome, c.whereabouts(d.yearDay)
			if where != c.home {
				demand = &abroad
			}
			id := m.customerID(index)
			country, linked := m.countries.items[where], m.linkedAt(c, d)
			for _, second := range m.moments(payments, rhythm) {
				category := *pick(m, demand)
				m.record.begin()
				m.record.customer(id)
				m.record.moment(d, second)
				m.record.text(category.name)
				m.merchant(category, m.ranks.at(m.uniform()))
				channel, city := m.counter(c, where, category)
				m.record.text(channel)
				m.record.text(country.code)
				m.record.text(city)
				m.record.cents(m.amount(c, category))
				m.link(linked)
				if !yield(m.record.end()) {
					return false
				}
			}
			return true
		}}
	})
	return t
}

// demand is what is bought on a day.
func (w *world) demand(d *day, abroad bool) weighted[*category] {
	var choices []choice[*category]
	for i := range w.categories {
		c := &w.categories[i]
		weight := c.weight * (1 + (c.advent-1)*d.advent())
		if d.summer() {
			weight *= c.summer
		}
		if abroad {
			weight *= c.abroad
		}
		choices = append(choices, choice[*category]{c, weight})
	}
	return weigh(choices...)
}

// counter says how and where a payment is made. What is paid online has no city.
func (m *maker) counter(c *customer, in uint8, what *category) (channel, city string) {
	switch u := m.uniform(); {
	case u < what.online:
		return "online", ""
	case u < what.online+0.68*(1-what.online):
		channel = "contactless"
	default:
		channel = "chip"
	}
	if in == c.home && m.uniform() < 0.9 {
		return channel, m.countries.items[in].cities.items[c.city]
	}
	return channel, *pick(m, &m.countries.items[in].cities)
}

const (
	// windfallShare of the payments are a car, a kitchen, a wedding: their size has no natural scale.
	windfallShare = 0.005
	windfallIndex = 1.2
	mostCents     = 25_000_000
)

// amount draws a payment in hundredths of the currency's unit.
func (m *maker) amount(c *customer, what *category) int64 {
	units := m.lognormal(what.median, what.sigma) * c.spending
	if m.uniform() < windfallShare {
		units *= 8 * m.pareto(windfallIndex)
	}
	return max(1, int64(math.Round(min(100*units, mostCents))))
}

const transactionsPolicy = `# What customers pay by card. Made up: no such bank exists.
name: transactions
kind: transactions
population: %d
unit: {column: customer_id, block: month}
time: {column: booked_at, timezone: %s, format: rfc3339}
dimensions:
  - {name: merchant_category, values: [grocery, dining, fuel, fashion, electronics, health, entertainment, travel], other: other}
  - {name: merchant, selection: private}
  - {name: channel, values: [chip, contactless, online]}
  - {name: country, values: [DE, FR, ES, IT, NL, AT], other: elsewhere}
  - {name: city, selection: private, parent: country, missing: online}
  - {name: region, of: city, groups: {north: [Hamburg, Bremen], east: [Berlin, Leipzig, Dresden], west: [Cologne, Essen, Frankfurt], south: [Munich, Stuttgart, Nuremberg, Freiburg], online: [online]}, other: abroad}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 500, kind: flow}
metrics:
  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 500}
bounds: {max_partitions: 6, max_rows: 20}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [product-analytics, reporting]
audiences: [internal]
`
