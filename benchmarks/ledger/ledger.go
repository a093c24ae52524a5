package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/discreet-analytics/discreet/store/ledger"
)

// benchLedger is a ledger with one dataset per account.
type benchLedger struct{ l *ledger.Ledger }

const asker = "asker"

func openLedger(ctx context.Context, dir string, accounts int) (*benchLedger, error) {
	l, err := ledger.Open(dir, ledger.Options{Clock: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Lease: time.Minute, Witness: dir + ".witness"})
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	o := office.New(l, time.Now)
	if _, err := o.CreateConsumer(ctx, "bench", dp.Consumer{Name: asker, Role: dp.Analyst, Audience: dp.Internal, Purposes: []string{"benchmark"}}, ""); err != nil {
		return nil, err
	}
	plenty := dp.Budget{Epsilon: 600 * dp.EpsilonOne}
	for i := range accounts {
		name := accountName(i)
		policy := dp.Policy{
			Name: name, Kind: dp.Custom, Population: 1000, Unit: dp.Unit{Column: "customer", Block: dp.All},
			Bounds: dp.Bounds{MaxPartitions: 1, MaxRows: 1}, Cap: plenty, Default: dp.Budget{Epsilon: dp.EpsilonOne / 10},
			Purposes: []string{"benchmark"}, Audiences: []dp.Audience{dp.Internal},
		}
		if _, _, err := o.ApplyPolicy(ctx, "bench", policy, nil, ""); err != nil {
			return nil, err
		}
		if _, _, err := o.SetAllotment(ctx, "bench", dp.Allotment{Consumer: asker, Dataset: name, Budget: plenty}, nil, ""); err != nil {
			return nil, err
		}
	}
	return &benchLedger{l}, nil
}

// charge takes a millionth of epsilon from cap and allotment.
func (b *benchLedger) charge(ctx context.Context, account int) error {
	e := dp.EpsilonOne / 1_000_000
	_, err := b.l.Charge(ctx, answer.ChargeRequest{
		Consumer: asker, Dataset: accountName(account), PolicyVersion: 1, Purpose: "benchmark", Plan: "plan", Blocks: []string{"all"},
		Loss: dp.Loss{Epsilon: e, Rho: accounting.PureRho(e)},
	})
	return err
}

func (b *benchLedger) close() error { return b.l.Close() }
