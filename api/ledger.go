package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
)

type ledgerOutput struct {
	Body wire.Ledger
}

type writeOffInput struct {
	Reason string `header:"Discreet-Reason" required:"true" minLength:"1" maxLength:"1000" doc:"Why; kept for auditors"`
	Body   *wire.NewWriteOff
}

func (v *Server) registerLedger() {
	register(v, huma.Operation{
		OperationID: "get-ledger", Method: http.MethodGet, Path: "/v1/ledger", Tags: []string{"Budgets"},
		Summary: "Read the state of the ledger", Description: "Whether it takes charges, why not, and the head of the chain of its entries.",
	}, v.getLedger)
	register(v, huma.Operation{
		OperationID: "write-off", Method: http.MethodPost, Path: "/v1/ledger/write-off", Tags: []string{"Budgets"},
		Summary: "Write off what may be missing",
		Description: "The way out of a ledger that refuses. What may have been lost counts as spent: on every account of every dataset, up to the block of now, " +
			"the whole budget in force, or the amount if that is more. Nothing more is answered there until a budget is raised; later blocks begin fresh. " +
			"Datasets that are declared later begin likewise, up to that month, for one of their name may be what was lost. " +
			"Keys and budgets are those that the ledger remembers: revoke again what was revoked since. " +
			"There is no Idempotency-Key, for what would remember it may be lost as well: the call made again finds that the ledger takes charges, and is refused as a conflict unless it has force. " +
			"Look at the state before you send force again; each time counts.",
		Errors: []int{409},
	}, v.writeOff)
}

func (v *Server) getLedger(context.Context, *struct{}) (*ledgerOutput, error) {
	s := v.services.Ledger.Status()
	return &ledgerOutput{Body: wire.Ledger{State: s.State, Reason: s.Reason, ID: s.ID, Length: s.Length, Head: s.Head, Witness: s.Witness}}, nil
}

func (v *Server) writeOff(ctx context.Context, in *writeOffInput) (*ledgerOutput, error) {
	var amount dp.Budget
	force := false
	if in.Body != nil {
		var err error
		if amount, err = amountOf(*in.Body); err != nil {
			return nil, err
		}
		force = in.Body.Force
	}
	// Whoever repeats a call whose reply was lost does not write off twice.
	if v.services.Ledger.Status().State == ledgerOK && !force {
		return nil, &dp.Error{Code: dp.CodeConflict, Message: "The ledger takes charges, and nothing needs to be written off: send force if it was restored together with its witness."}
	}
	if err := v.services.Ledger.WriteOff(ctx, callerOf(ctx).Name, in.Reason, amount); err != nil {
		return nil, err
	}
	return v.getLedger(ctx, nil)
}

// amountOf rounds up: what was lost must not be understated.
func amountOf(n wire.NewWriteOff) (amount dp.Budget, err error) {
	p := newProblem(dp.CodeInvalidInput, "An amount cannot be used: give decimal numbers of 0 or more.")
	if n.Epsilon != "" {
		if amount.Epsilon, err = accounting.ParseEpsilon(string(n.Epsilon), accounting.Up); err != nil {
			p.at("body.epsilon", "is not an amount of epsilon that can be kept")
		}
	}
	if n.Delta != "" {
		if amount.Delta, err = accounting.ParseDelta(string(n.Delta), accounting.Up); err != nil {
			p.at("body.delta", "is not an amount of delta that can be kept")
		}
	}
	if len(p.Errors) > 0 {
		return dp.Budget{}, p
	}
	return amount, nil
}
