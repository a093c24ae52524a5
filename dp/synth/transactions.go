package synth

import (
	"fmt"
	"math"
)

// Transactions is what customers pay by card: one row for each payment.
func (b *Bank) Transactions() Table {
	t := b.table("transactions", transactions,
		"customer_id", "booked_at", "merchant_category", "merchant", "channel", "country", "city", "amount")
	t.Policy = fmt.Sprintf(transactionsPolicy, b.size.Customers, timezone)
	t.on = func(m *maker, d day) func(*customer, func([]string) bool) bool {
		rhythm := m.shopWeekdays
		if d.weekend() {
			rhythm = m.shopWeekends
		}
		factor := d.cardFactor()
		atHome, abroad := m.demand(d, false), m.demand(d, true)
		return func(c *customer, yield func([]string) bool) bool {
			demand, busier := atHome, 1.0
			country := c.whereabouts(d.yearDay)
			if country != c.home {
				demand, busier = abroad, 1.6
			}
			payments := m.poisson(c.payments * factor * busier)
			if payments == 0 {
				return true
			}
			id := m.customerID(c.index)
			for _, second := range m.moments(payments, rhythm) {
				category := pick(m, demand)
				merchant := merchantName(category, int(m.merchant.Uint64()))
				channel, city := m.counter(c, country, category)
				m.record = append(m.record[:0],
					id, d.at(second), category.name, merchant, channel, country.code, city, m.amount(c, category))
				if !yield(m.record) {
					return false
				}
			}
			return true
		}
	}
	return t
}

// demand is what is bought on a day.
func (w *world) demand(d day, abroad bool) weighted[*category] {
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
func (m *maker) counter(c *customer, in *country, what *category) (channel, city string) {
	switch u := m.Float64(); {
	case u < what.online:
		return "online", ""
	case u < what.online+0.68*(1-what.online):
		channel = "contactless"
	default:
		channel = "chip"
	}
	if in == c.home && m.Float64() < 0.9 {
		return channel, c.city
	}
	return channel, pick(m, in.cities)
}

const (
	// windfallShare of the payments are a car, a kitchen, a wedding: their size has no natural scale.
	windfallShare = 0.005
	windfallIndex = 1.2
	mostCents     = 25_000_000
)

// amount draws a payment in units of the currency with two decimals.
func (m *maker) amount(c *customer, what *category) string {
	units := m.lognormal(what.median, what.sigma) * c.spending
	if m.Float64() < windfallShare {
		units *= 8 * m.pareto(windfallIndex)
	}
	cents := int64(math.Round(min(100*units, mostCents)))
	cents = max(cents, 1)
	return fmt.Sprintf("%d.%02d", cents/100, cents%100)
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
