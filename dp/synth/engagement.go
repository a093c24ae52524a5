package synth

import "fmt"

// Engagement is what customers do in the app: one row for each event.
func (b *Bank) Engagement() Table {
	t := b.table("engagement", engagementPolicy,
		"customer_id", "occurred_at", "event", "platform", "country", "app_version", "duration")
	t.walk = b.daily(engagement, func(m *maker, d *day) activity {
		rhythm := &m.appWeekdays
		if d.weekend() {
			rhythm = &m.appWeekends
		}
		factor := d.appFactor()
		often := func(c *customer) float64 { return c.sessions * factor }
		return activity{often, func(sessions int, index uint64, c *customer, yield func(*record) bool) bool {
			id := m.customerID(index)
			platform := m.platforms.items[c.platform]
			version := c.appVersion(d, platform)
			country := m.countries.items[c.whereabouts(d.yearDay)].code
			linked := m.linkedAt(c, d)
			until := 0
			for _, second := range m.moments(sessions, rhythm) {
				second = max(second, until)
				does := action{"login", 7}
				if m.Float64() < 0.18 {
					does = action{"push_open", 5}
				}
				for left := 1 + m.poisson(1.7); left > 0; left-- {
					spent := max(1, int(m.lognormal(does.seconds, 0.8)))
					m.record.begin()
					m.record.customer(id)
					m.record.moment(d, second)
					m.record.text(does.event)
					m.record.text(platform)
					m.record.text(country)
					m.record.text(version)
					m.record.int(spent)
					m.link(linked)
					if !yield(m.record.end()) {
						return false
					}
					second += spent + m.IntN(12)
					does = *pick(m, &m.actions)
				}
				until = second
			}
			return true
		}}
	})
	return t
}

// appVersion is empty in the browser. A version comes out every three weeks, and reaches a customer with a
// lag of their own.
func (c *customer) appVersion(d *day, platform string) string {
	if platform == "web" {
		return ""
	}
	release := (d.number - int(c.lag)) / 21
	return fmt.Sprintf("%d.%d", release/18, release%18)
}

const engagementPolicy = `# What customers do in the app. Made up: no such bank exists.
name: engagement
kind: engagement
population: %d
unit: {column: customer_id, block: month}
time: {column: occurred_at, timezone: %s, format: rfc3339}
dimensions:
  - {name: event, values: [login, push_open, card_view, transfer, budget_view, bank_chat, settings, support], other: other}
  - {name: platform, values: [android, ios, web]}
  - {name: country, values: [DE, FR, ES, IT, NL, AT], other: elsewhere}
  - {name: app_version, selection: private, missing: browser}
measures:
  - {name: duration, scale: 0, lower: 0, upper: 600, kind: flow}
metrics:
  - {name: messages, aggregate: rows, where: [{field: event, in: [bank_chat]}]}   # this bank's app has no other
bounds: {max_partitions: 10, max_rows: 40}
cap: {epsilon: 6, delta: 1e-9}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [product-analytics, reporting]
audiences: [internal]
`
