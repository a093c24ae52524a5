package synth

import (
	"bytes"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp/rows"
)

// BenchmarkTransactionsAsCSV makes a year of a bank whose customers pay as rarely as in benchmarks/engine, where
// most of them do nothing on most days.
func BenchmarkTransactionsAsCSV(b *testing.B) {
	bank, err := New(Size{
		Seed: 1, Customers: 50_000, First: rows.Date{Year: 2025, Month: time.January, Day: 1}, Days: 365, PaymentsPerMonth: 1.67, Merchants: 100_000,
	})
	if err != nil {
		b.Fatal(err)
	}
	var w lines
	for b.Loop() {
		if err := bank.Transactions().WriteCSV(&w); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(w)/b.Elapsed().Seconds(), "rows/s")
}

// lines counts what is written.
type lines int

func (l *lines) Write(p []byte) (int, error) {
	*l += lines(bytes.Count(p, []byte{'\n'}))
	return len(p), nil
}
