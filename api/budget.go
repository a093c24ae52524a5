package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/office"
)

type budgetInput struct {
	PageParams
	Dataset string `query:"dataset" maxLength:"63" doc:"Only of this dataset"`
}

type budgetOutput struct {
	Body wire.Budget
}

type accountsInput struct {
	DatasetParam
	PageParams
}

type accountsOutput struct {
	Body wire.AccountList
}

// newestCharges is how many charges GET /v1/budget tells of.
const newestCharges = 50

func (v *Server) registerBudgets() {
	register(v, huma.Operation{
		OperationID: "get-budget", Method: http.MethodGet, Path: "/v1/budget", Tags: []string{"Budgets"},
		Summary: "Read your own budget", Description: "What you may spend, what is spent and left of each block, and what spent it. POST /v1/budget-requests asks an officer for more.",
	}, v.getBudget)
	register(v, huma.Operation{
		OperationID: "list-accounts", Method: http.MethodGet, Path: "/v1/datasets/{dataset}/accounts", Tags: []string{"Budgets"},
		Summary: "List the accounts of a dataset", Description: "Its caps and every consumer's allotments, by block, as far as they were charged.",
		Errors: []int{404},
	}, v.listAccounts)
	register(v, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/v1/me", Tags: []string{"Consumers"},
		Summary: "Who am I",
	}, v.getMe)
}

func (v *Server) getBudget(ctx context.Context, in *budgetInput) (*budgetOutput, error) {
	me := callerOf(ctx).Name
	allotments, err := v.services.Consumers.Allotments(ctx, me)
	if err != nil {
		return nil, err
	}
	accounts, next, err := v.services.Accounts.OfConsumer(ctx, me, in.Dataset, in.page())
	if err != nil {
		return nil, err
	}
	entries, _, err := v.services.Accounts.Entries(ctx, me, in.Dataset, Page{Limit: newestCharges})
	if err != nil {
		return nil, err
	}
	requests, _, err := v.services.Requests.Requests(ctx, dp.RequestFilter{State: dp.RequestOpen, Consumer: me, Dataset: in.Dataset}, Page{Limit: office.MaxOpenRequests})
	if err != nil {
		return nil, err
	}
	out := &budgetOutput{Body: wire.Budget{Allotments: []wire.Allotment{}, Accounts: []wire.Account{}, Next: next, Charges: []wire.ChargeRecord{}, Requests: []wire.BudgetRequest{}}}
	for _, a := range allotments {
		if in.Dataset == "" || in.Dataset == a.Dataset {
			shown, err := v.allotment(ctx, a)
			if err != nil {
				return nil, err
			}
			out.Body.Allotments = append(out.Body.Allotments, shown)
		}
	}
	for _, a := range accounts {
		out.Body.Accounts = append(out.Body.Accounts, accountOf(a, v.options.Clock()))
	}
	for _, e := range entries {
		out.Body.Charges = append(out.Body.Charges, entryOf(e))
	}
	for _, r := range requests {
		out.Body.Requests = append(out.Body.Requests, budgetRequestOf(r))
	}
	return out, nil
}

func (v *Server) listAccounts(ctx context.Context, in *accountsInput) (*accountsOutput, error) {
	if _, err := v.policy(ctx, in.Dataset); err != nil {
		return nil, err
	}
	list, next, err := v.services.Accounts.OfDataset(ctx, in.Dataset, in.page())
	if err != nil {
		return nil, err
	}
	out := &accountsOutput{Body: wire.AccountList{Items: []wire.Account{}, Next: next}}
	for _, a := range list {
		out.Body.Items = append(out.Body.Items, accountOf(a, v.options.Clock()))
	}
	return out, nil
}

// accountOf tells of an account and of the largest charge that it would still admit.
func accountOf(a dp.Account, now time.Time) wire.Account {
	room := accounting.Room(a.Budget, a.Spent)
	stopped := stoppedBy(a.Paused, a.Expires, now)
	frozen := accounting.Frozen(a.Budget, a.Spent)
	if stopped == "" && frozen {
		stopped = "frozen"
	}
	left := wire.Left{Account: a.Name, Epsilon: wire.Decimal(room.String()), Share: room.ShareOf(a.Budget.Epsilon)}
	return wire.Account{
		Account: a.Name, Consumer: a.Consumer, Dataset: a.Dataset, Block: a.Block,
		Budget: wire.Loss{Epsilon: wire.Decimal(a.Budget.Epsilon.String()), Delta: wire.Decimal(a.Budget.Delta.String())},
		Spent:  *lossOf(a.Spent),
		Left:   left, Frozen: frozen, Stopped: stopped,
	}
}

// stoppedBy says which of an officer's conditions stops every question.
func stoppedBy(paused bool, expires, now time.Time) string {
	switch {
	case paused:
		return "paused"
	case !expires.IsZero() && !now.Before(expires):
		return "expired"
	}
	return ""
}

// allotment tells of an allotment with the blocks on which it is frozen.
func (v *Server) allotment(ctx context.Context, a dp.Allotment) (wire.Allotment, error) {
	out := allotmentOf(a)
	out.Stopped = stoppedBy(a.Paused, a.Expires, v.options.Clock())
	for p := (Page{Limit: 500}); ; {
		accounts, next, err := v.services.Accounts.OfConsumer(ctx, a.Consumer, a.Dataset, p)
		if err != nil {
			return out, err
		}
		for _, account := range accounts {
			if accounting.Frozen(account.Budget, account.Spent) {
				out.Frozen = append(out.Frozen, account.Block)
			}
		}
		if p.Cursor = next; next == "" {
			return out, nil
		}
	}
}

func entryOf(e dp.Entry) wire.ChargeRecord {
	return wire.ChargeRecord{
		ID: e.ID, At: e.At.UTC(), Dataset: e.Dataset, Blocks: listOf(e.Blocks),
		Epsilon: wire.Decimal(e.Loss.Epsilon.String()), Delta: wire.Decimal(e.Loss.Delta.String()), Rho: rhoOf(e.Loss.Rho), Also: alsoOf(e.Also),
		Purpose: e.Purpose, Metrics: e.Metrics, Release: e.Release, Report: e.Report, Failure: string(e.Failure),
	}
}

type meOutput struct {
	Body wire.Me
}

func (v *Server) getMe(ctx context.Context, _ *struct{}) (*meOutput, error) {
	who := callerOf(ctx)
	me := wire.Me{Consumer: consumerOf(who.Consumer), Key: who.key, SignIn: "key"}
	if who.key == "" {
		me.SignIn = "token"
	}
	return &meOutput{Body: me}, nil
}
