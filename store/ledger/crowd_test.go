package ledger

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/bounding"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// nobody is an engine over no rows.
type nobody struct{}

func (nobody) Aggregate(context.Context, *plan.Plan, dp.Snapshot, func(bounding.Partition) error) error {
	return nil
}

// TestCrowdGetsExactlyWhatTheBudgetAllows lets 256 clients ask against a budget for 1,000. One round of 4,000
// requests is run; DISCREET_ROUNDS=100 runs a hundred of 20,000.
func TestCrowdGetsExactlyWhatTheBudgetAllows(t *testing.T) {
	rounds, requests := 1, int64(4000)
	if text := os.Getenv("DISCREET_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		check(t, err)
		requests = 20_000
	}
	for round := range rounds {
		t.Run(strconv.Itoa(round), func(t *testing.T) { crowd(t, requests) })
	}
}

func crowd(t *testing.T, requests int64) {
	const clients, allowed = 256, 1000
	f := newFixture(t)
	one := uint64(1)
	policy := f.applyPolicy(&one, func(p *dp.Policy) { p.Cap = dp.Budget{Epsilon: 200 * dp.EpsilonOne} })
	f.allot(alice, func(a *dp.Allotment) { a.Budget = dp.Budget{Epsilon: 100 * dp.EpsilonOne} })
	service := answer.New(f.Ledger, f.Ledger, f.Ledger, nobody{}, mechanism.Secure(), answer.Options{
		Limits: plan.DefaultLimits(), Deadline: time.Minute, Clock: f.clock, Log: slog.New(slog.DiscardHandler),
	})
	asker := dp.Consumer{Name: alice, Role: dp.Analyst, Audience: dp.Internal, Purposes: policy.Purposes}
	q := dp.Query{Dataset: dataset, Metrics: []string{"customers"}, From: "2026-01-01", To: "2026-01-31", Purpose: "reporting",
		Epsilon: "0.1", Delta: "0", Fresh: true}

	var asked, answered, refused atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for asked.Add(1) <= requests {
				_, err := service.Ask(ctx, asker, q, "")
				var refusal *dp.Error
				switch {
				case err == nil:
					answered.Add(1)
				case errors.As(err, &refusal) && refusal.Code == dp.CodeBudgetExhausted:
					refused.Add(1)
				default:
					t.Errorf("a client got %v", err)
				}
			}
		})
	}
	wait.Wait()
	if answered.Load() != allowed || refused.Load() != requests-allowed {
		t.Fatalf("%d answers and %d refusals", answered.Load(), refused.Load())
	}
	for _, owner := range []string{"", alice} {
		if spent := f.spent(owner, "2026-01").Epsilon; spent != 100*dp.EpsilonOne {
			t.Fatalf("account of %q: spent %s by 1,000 charges of 0.1", owner, spent)
		}
	}
}
