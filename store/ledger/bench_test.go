package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/exposure"
	"github.com/discreet-analytics/discreet/store/secrets"
)

// benchmarkKey has benchmarks measure an encrypted ledger where DISCREET_ENCRYPTED is set; nil otherwise, and in tests.
func benchmarkKey(t testing.TB) *secrets.Key {
	if _, ok := t.(*testing.B); !ok || os.Getenv("DISCREET_ENCRYPTED") == "" {
		return nil
	}
	path := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(path, []byte(strings.Repeat("07", 32)), 0o600))
	key, err := secrets.ReadKey(path)
	check(t, err)
	return key
}

// Clients that wait together are committed together: compare the charges per second of 64 with those of 1.
func BenchmarkChargeOnOneAccount(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			f := newFixture(b)
			one := uint64(1)
			f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 700 * dp.EpsilonOne })
			f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 700 * dp.EpsilonOne })
			r := ask(alice, "plan")
			r.PolicyVersion, r.Loss = 2, little()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error)
			for range clients {
				go func() {
					for left.Add(-1) >= 0 {
						if _, err := f.Charge(ctx, r); err != nil {
							done <- err
							return
						}
					}
					done <- nil
				}()
			}
			for range clients {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// Opening replays every entry. The time per entry is what a restart after a crash costs.
func BenchmarkOpen(b *testing.B) {
	const charges = 200_000
	f := newFixture(b)
	one := uint64(1)
	f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 700 * dp.EpsilonOne })
	f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 700 * dp.EpsilonOne })
	var clients sync.WaitGroup
	var next atomic.Int64
	for range 256 {
		clients.Go(func() {
			for n := next.Add(1); n <= charges; n = next.Add(1) {
				r := ask(alice, "plan")
				r.PolicyVersion, r.Loss = 2, little()
				r = keyed(r, fmt.Sprint("key-", n), 1)
				c, err := f.Charge(ctx, r)
				if err == nil {
					_, err = f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Failure: &dp.Error{Code: dp.CodeUnavailable, Message: "nothing was asked"}})
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	clients.Wait()
	for b.Loop() {
		f.reopen()
		b.ReportMetric(float64(f.head.length), "entries")
	}
}

// The first worst case reads every entry; the time per entry is what that costs. Later ones read what came since, and must
// not depend on how many charges there are: compare the sizes.
func BenchmarkExposure(b *testing.B) {
	for _, charges := range []int64{10_000, 100_000} {
		f := newFixture(b)
		one := uint64(1)
		f.applyPolicy(&one, func(p *dp.Policy) { p.Cap.Epsilon = 700 * dp.EpsilonOne })
		f.allot(alice, func(a *dp.Allotment) { a.Budget.Epsilon = 700 * dp.EpsilonOne })
		var clients sync.WaitGroup
		var next atomic.Int64
		for range 256 {
			clients.Go(func() {
				for n := next.Add(1); n <= charges; n = next.Add(1) {
					r := ask(alice, fmt.Sprint("plan ", n))
					r.PolicyVersion, r.Loss, r.Blocks = 2, pure(1), quarter
					c, err := f.Charge(ctx, r)
					if err == nil {
						_, err = f.Publish(ctx, c.Charge.ID, c.Attempt, answer.Outcome{Release: release(c, fmt.Sprint("rel_", n), r.Plan)})
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		clients.Wait()
		state := func(b *testing.B) {
			book, err := f.Exposure(ctx, dataset)
			if err != nil {
				b.Fatal(err)
			}
			if s := exposure.State(book, exposure.Assumed{}, 30); s.Owners[0].Spent[0].Charges != charges {
				b.Fatal(s)
			}
		}
		b.Run(fmt.Sprintf("first/charges=%d", charges), func(b *testing.B) {
			for b.Loop() {
				f.exposed = newExposed()
				state(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(f.head.length), "ns/entry")
		})
		b.Run(fmt.Sprintf("later/charges=%d", charges), func(b *testing.B) {
			for b.Loop() {
				state(b)
			}
		})
	}
}

// little is a loss of which there is room for many under the largest cap that there may be.
func little() dp.Loss {
	e := dp.EpsilonOne / 1_000_000
	return dp.Loss{Epsilon: e, Rho: accounting.PureRho(e)}
}
