//go:build unix

package columnar

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/store/load"
)

// BenchmarkQuarter bounds the sum and the customers by category of a quarter: 1.5 M rows of 300,000 customers. It also
// reads them as they are, customer by customer.
// The benchmarks module compares the same with DuckDB.
func BenchmarkQuarter(b *testing.B) {
	months := []string{"2026-01", "2026-02", "2026-03"}
	p := dp.VersionedPolicy{Version: 1, Policy: dp.Policy{
		Name: "cards", Unit: dp.Unit{Column: "id", Block: dp.Month}, Time: &dp.TimeColumn{Column: "at", Timezone: "UTC", Format: "unix_ms"},
		Dimensions: []dp.Dimension{{Name: "category", Type: dp.StringDimension}, {Name: "merchant", Type: dp.StringDimension, Private: true}},
		Measures:   []dp.Measure{{Name: "amount", Scale: 2}},
	}}
	for i := range 30 {
		p.Dimensions[0].Values = append(p.Dimensions[0].Values, fmt.Sprint("category-", i))
	}
	ctx, c := context.Background(), newCatalog()
	o := DefaultOptions()
	if os.Getenv("DISCREET_ENCRYPTED") != "" { // compare with a run without
		o.Key = bytes.Repeat([]byte{7}, 32)
	}
	o.BufferRows = 2_000_000 // one run in each block and shard, as when loads have been merged
	s := open(b, b.TempDir(), c, o)
	begun, _, err := c.BeginLoad(ctx, p.Name, 1, "rows", months)
	if err != nil {
		b.Fatal(err)
	}
	w, err := s.newWriter(&p.Policy, begun)
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	starts := []int64{1767225600000, 1769904000000, 1772323200000}
	const customers = 300_000
	r := load.Record{Row: rows.Row{Dimensions: make([]rows.Text, 2), Measures: make([]rows.Number, 1)}}
	for month := range months {
		for range 500_000 {
			r.Block = months[month]
			n := uint64(customers * random.Float64() * random.Float64())
			r.Row.Customer = n * 0x9E3779B97F4A7C15
			r.Row.Time = starts[month] + random.Int64N(28*dayMilliseconds)
			r.Row.Dimensions[0] = rows.Text{Value: p.Dimensions[0].Values[random.IntN(30)], Valid: true}
			r.Row.Dimensions[1] = rows.Text{Value: fmt.Sprint("merchant-", int(20_000*random.Float64()*random.Float64())), Valid: true}
			r.Row.Measures[0] = rows.Number{Value: random.Int64N(100_000), Valid: true}
			if err := w.add(ctx, &r); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.commit(ctx, begun); err != nil {
		b.Fatal(err)
	}
	at := c.now(p.Name, months)
	askAt := func(b *testing.B, q *plan.Plan, at dp.Snapshot) {
		if _, err := aggregateAt(ctx, s, q, at); err != nil { // columns are in memory from here on
			b.Fatal(err)
		}
		before := processorTime(b)
		for b.Loop() {
			if _, err := aggregateAt(ctx, s, q, at); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1_500_000, "cpu-ns/row")
	}
	ask := func(b *testing.B, q *plan.Plan) { askAt(b, q, at) }
	q := func(columns ...plan.Column) *plan.Plan {
		q := perBlock(p, months...)
		q.Tree.Input.Partitions = 4
		q.Tree.Input.Input.Keys = []plan.Key{{Name: "category", Domain: p.Dimensions[0].Values}}
		q.Tree.Columns = columns
		return q
	}
	sum := plan.Column{Count: plan.Total, Lower: 0, Upper: 500_000}
	b.Run("sum and customers by category", func(b *testing.B) { ask(b, q(sum, plan.Column{Count: plan.CountCustomers})) })
	b.Run("sum by category", func(b *testing.B) { ask(b, q(sum)) })
	b.Run("sum by category, from the files", func(b *testing.B) {
		asked := q(sum)
		for b.Loop() {
			s.columns.Clear()
			if _, err := aggregateAt(ctx, s, asked, at); err != nil {
				b.Fatal(err)
			}
		}
	})
	byDay := q(sum)
	byDay.Tree.Input.Partitions = 31
	byDay.Tree.Input.Input.Keys = append(byDay.Tree.Input.Input.Keys, plan.Key{Name: "time.day", Field: plan.Field{Kind: plan.TimeField, Unit: rows.Day},
		Domain: rows.TimeKeys(rows.Date{Year: 2026, Month: 1, Day: 1}, rows.Date{Year: 2026, Month: 3, Day: 31}, rows.Day)})
	b.Run("sum by category and day", func(b *testing.B) { ask(b, byDay) })
	b.Run("large payments by category", func(b *testing.B) {
		least := int64(10_000)
		ask(b, q(plan.Column{Count: plan.CountRows, Tests: []plan.Test{{Name: "amount", Field: plan.Field{Kind: plan.MeasureField}, Least: &least}}}))
	})
	byMerchant := q(sum, plan.Column{Count: plan.CountCustomers})
	byMerchant.Tree.Input.Input.Keys = []plan.Key{{Name: "merchant", Field: plan.Field{Index: 1}}}
	b.Run("sum and customers by private merchant", func(b *testing.B) { ask(b, byMerchant) })
	for name, about := range map[string]func(*dp.Query){
		"cohort": func(q *dp.Query) {
			q.Metrics, q.By = []string{"customers", "sum"}, []string{"category"}
			q.Cohorts = []dp.Cohort{{Where: []dp.Condition{{Field: "category", In: []string{"category-1", "category-2"}}}, AtLeast: 2, From: "2026-03-01", To: "2026-03-31"}}
		},
		"retention": func(q *dp.Query) { q.By = []string{"first.week", "since.week"} },
		"funnel": func(q *dp.Query) {
			one, two := "category-1", "category-2"
			q.By, q.Funnel = []string{"funnel.step"}, &dp.Funnel{Steps: [][]dp.Condition{{{Field: "category", Eq: &one}}, {{Field: "category", Eq: &two}}}, Within: "30d"}
		},
	} {
		asked := dp.Query{
			Dataset: p.Name, Metrics: []string{"customers"}, From: "2026-01-01", To: "2026-03-31", Purpose: "p", Epsilon: "1",
			Define: []dp.Definition{{Name: "sum", Aggregate: dp.Sum, Measure: "amount"}},
		}
		about(&asked)
		if len(asked.Metrics) == 1 {
			asked.Define = nil
		}
		policy := p
		policy.Population, policy.Bounds, policy.Purposes = customers, dp.Bounds{MaxPartitions: 4, MaxRows: 20}, []string{"p"}
		policy.Measures = []dp.Measure{{Name: "amount", Scale: 2, Upper: 100_000}}
		several, err := plan.Make(asked, policy, nil, plan.DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			at := c.now(p.Name, several.Blocks)
			for _, also := range several.Also {
				at.Also = append(at.Also, c.now(also.Dataset, also.Blocks))
			}
			askAt(b, several, at)
		})
	}
	b.Run("rows of each customer", func(b *testing.B) {
		read := func() (count int) {
			defer s.db.scans.begin()()
			from := &reader{txn: s.db.NewTransaction(false), cache: s.columns}
			defer from.txn.Discard()
			d, err := s.scanTogether(ctx, at, &p.Policy, months, everything(&p.Policy))
			if err != nil {
				b.Fatal(err)
			}
			for shard := range s.shards {
				t, err := s.newTogether(ctx, from, shard, []scanned{d})
				if err != nil {
					b.Fatal(err)
				}
				for {
					_, of, ok, err := t.next(ctx)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					for _, unit := range of[0] {
						count += len(unit.rows)
					}
				}
			}
			return count
		}
		read()
		b.ReportAllocs()
		before := processorTime(b)
		for b.Loop() {
			if count := read(); count != 1_500_000 {
				b.Fatalf("%d rows", count)
			}
		}
		b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1_500_000, "cpu-ns/row")
	})
}

// processorTime is what the process has used, in nanoseconds: unlike time, it does not depend on what else runs.
func processorTime(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
