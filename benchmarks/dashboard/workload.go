package main

import (
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// The workload was fixed before anything was measured: a dashboard of card payments of the last 28 days, 10 base charts, 12
// that are coarser, and 8 about parts of the time or of the groups. Every chart says how exact it has to be: about five
// percent of a figure of average size in a bank of a million customers, the same for a base chart and what is coarser. Four of
// the thirty cannot follow from others, and are there because such dashboards have them: distinct customers and means.
const (
	consumers = 4
	days      = 60
	window    = 28
	purpose   = "reporting"
)

// policy is what an officer would set for such a bank, but for the cap, which admits everything so that it can be counted.
const policy = `name: transactions
kind: transactions
population: 1000000
unit: {column: customer_id, block: month}
time: {column: booked_at, timezone: Europe/Berlin, format: rfc3339}
dimensions:
  - {name: merchant_category, values: [grocery, dining, fuel, fashion, electronics, health, entertainment, travel], other: other}
  - {name: channel, values: [chip, contactless, online]}
  - {name: country, values: [DE, FR, ES, IT, NL, AT], other: elsewhere}
measures:
  - {name: amount, scale: 2, lower: 0, upper: 500, kind: flow}
metrics:
  - {name: spend, aggregate: sum, measure: amount, lower: 0, upper: 500}
bounds: {max_partitions: 8, max_rows: 5}
cap: {epsilon: 700, delta: 1e-7}
default: {epsilon: 0.1, delta: 1e-11}
purposes: [reporting]
audiences: [internal]
`

// chart is a question about the last days.
type chart struct {
	metric string
	within float64 // half-width, in payments, customers or euros
	by     []string
	where  []dp.Condition
	last   int // days; 0: the whole window
}

// kind is what a chart is in the workload.
type kind string

const (
	base     kind = "base"
	rollup   kind = "roll-up"
	subrange kind = "sub-range"
)

func in(field string, values ...string) []dp.Condition {
	return []dp.Condition{{Field: field, In: values}}
}

var charts = []struct {
	kind kind
	chart
}{
	{base, chart{"transactions", 500, []string{"merchant_category", "time.day"}, nil, 0}},
	{base, chart{"spend", 20_000, []string{"merchant_category", "time.day"}, nil, 0}},
	{base, chart{"transactions", 1_500, []string{"channel", "time.day"}, nil, 0}},
	{base, chart{"spend", 60_000, []string{"channel", "time.day"}, nil, 0}},
	{base, chart{"transactions", 700, []string{"country", "time.day"}, nil, 0}},
	{base, chart{"spend", 30_000, []string{"country", "time.day"}, nil, 0}},
	{base, chart{"transactions", 1_300, []string{"merchant_category", "channel", "time.week"}, nil, 0}},
	{base, chart{"spend", 50_000, []string{"merchant_category", "channel", "time.week"}, nil, 0}},
	{base, chart{"customers", 5_000, []string{"merchant_category"}, nil, 0}},
	{base, chart{"average_ticket", 2, []string{"merchant_category"}, nil, 0}},

	{rollup, chart{"transactions", 14_000, []string{"merchant_category"}, nil, 0}},
	{rollup, chart{"spend", 560_000, []string{"merchant_category"}, nil, 0}},
	{rollup, chart{"transactions", 4_500, []string{"time.day"}, nil, 0}},
	{rollup, chart{"spend", 180_000, []string{"time.day"}, nil, 0}},
	{rollup, chart{"transactions", 3_500, []string{"merchant_category", "time.week"}, nil, 0}},
	{rollup, chart{"spend", 140_000, []string{"merchant_category", "time.week"}, nil, 0}},
	{rollup, chart{"transactions", 42_000, []string{"channel"}, nil, 0}},
	{rollup, chart{"spend", 840_000, []string{"country"}, nil, 0}},
	{rollup, chart{"transactions", 126_000, nil, nil, 0}},
	{rollup, chart{"spend", 5_000_000, nil, nil, 0}},
	{rollup, chart{"transactions", 15_000, []string{"merchant_category", "channel"}, nil, 0}},
	{rollup, chart{"customers", 15_000, nil, nil, 0}},

	{subrange, chart{"transactions", 500, []string{"merchant_category", "time.day"}, nil, 7}},
	{subrange, chart{"spend", 20_000, []string{"merchant_category", "time.day"}, nil, 7}},
	{subrange, chart{"transactions", 1_500, []string{"channel", "time.day"}, nil, 7}},
	{subrange, chart{"spend", 30_000, []string{"country", "time.day"}, in("country", "FR", "ES", "IT"), 0}},
	{subrange, chart{"transactions", 1_500, []string{"time.day"}, in("channel", "online"), 14}},
	{subrange, chart{"spend", 140_000, []string{"merchant_category"}, nil, 7}},
	{subrange, chart{"transactions", 10_500, []string{"channel"}, in("channel", "chip", "contactless"), 7}},
	{subrange, chart{"average_ticket", 2, []string{"merchant_category"}, nil, 7}},
}

// query asks for a chart as it is on a day.
func (c chart) query(today rows.Date) dp.Query {
	last := window
	if c.last > 0 {
		last = c.last
	}
	return dp.Query{
		Dataset: "transactions", Metrics: []string{c.metric}, By: c.by, Where: c.where, Purpose: purpose,
		From: today.AddDays(1 - last).String(), To: today.String(), Within: map[string]string{c.metric: fmt.Sprint(c.within)},
	}
}
