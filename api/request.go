package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/office"
)

type requestBudgetInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"The same request sent again under this key is made once, whatever became of it"`
	Body           wire.NewBudgetRequest
}

type budgetRequestOutput struct {
	Status   int
	Location string `header:"Location"`
	ETag     string `header:"ETag" doc:"The version of the allotment that a decision is made on, for If-Match; 0 where there is none"`
	Body     wire.BudgetRequest
}

type listBudgetRequestsInput struct {
	PageParams
	State    string `query:"state" enum:"open,granted,denied,withdrawn" doc:"Only those that stand so"`
	Dataset  string `query:"dataset" maxLength:"63" doc:"Only of this dataset"`
	Consumer string `query:"consumer" maxLength:"63" doc:"Only of this consumer"`
}

type listBudgetRequestsOutput struct {
	Body wire.BudgetRequestList
}

// BudgetRequestParam names a budget request.
type BudgetRequestParam struct {
	ID string `path:"id" pattern:"^[A-Za-z0-9_-]{1,100}$" example:"req_01k3x8"`
}

type getBudgetRequestInput struct {
	BudgetRequestParam
	Epsilon            string `query:"epsilon" maxLength:"40" doc:"For officers: look at a grant of this epsilon instead"`
	Delta              string `query:"delta" maxLength:"40" doc:"Likewise"`
	MaxEpsilonPerQuery string `query:"max_epsilon_per_query" maxLength:"40" doc:"Likewise; 0: none"`
}

type decideBudgetRequestInput struct {
	BudgetRequestParam
	ChangeHeaders
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"With it, a decision that you made just so already is no conflict"`
	Body           wire.NewRequestDecision
}

type withdrawBudgetRequestInput struct {
	BudgetRequestParam
	Reason string `header:"Discreet-Reason" maxLength:"1000" doc:"Why; kept for auditors"`
}

func (v *Server) registerRequests() {
	register(v, huma.Operation{
		OperationID: "request-budget", Method: http.MethodPost, Path: "/v1/budget-requests", Tags: []string{"Budgets"}, DefaultStatus: http.StatusCreated,
		Summary: "Request a budget",
		Description: "Asks an officer for an allotment on a dataset, with a reason. One request of a consumer is open on a dataset at a time, at most 20 are in all, and 100 are made within a day. What is asked for again " +
			"while it is open is the same request, and answers 200. A query that is named is priced, kept in its canonical form, and never run.",
		Responses: map[string]*huma.Response{"200": {Description: "The same request is open already", Content: map[string]*huma.MediaType{jsonType: {Schema: v.schema(reflect.TypeFor[wire.BudgetRequest]())}}}},
		Errors:    []int{404, 409},
	}, v.requestBudget)
	register(v, huma.Operation{
		OperationID: "list-budget-requests", Method: http.MethodGet, Path: "/v1/budget-requests", Tags: []string{"Budgets"},
		Summary: "List the budget requests", Description: "Newest first; those that have ended are kept for ever. Officers and auditors see all, everybody else their own.",
	}, v.listBudgetRequests)
	register(v, huma.Operation{
		OperationID: "get-budget-request", Method: http.MethodGet, Path: "/v1/budget-requests/{id}", Tags: []string{"Budgets"},
		Summary: "Read a budget request",
		Description: "Your own. Officers and auditors see all of them, with what spent the budget so far, what a grant would allow on each block (no more than the dataset's cap has left), and the " +
			"version of the allotment that a decision is made on.",
		Errors: []int{404},
	}, v.getBudgetRequest)
	register(v, huma.Operation{
		OperationID: "decide-budget-request", Method: http.MethodPost, Path: "/v1/budget-requests/{id}/decision", Tags: []string{"Budgets"}, DefaultStatus: http.StatusOK,
		Summary: "Decide a budget request",
		Description: "Grants it, as it was asked for or with other numbers, or denies it: once, with a reason, and on the version of the allotment that you saw. A grant replaces the allotment in the " +
			"same change; a paused one stays paused. Nobody decides on a request of their own.",
		Responses: v.mayWait(),
		Errors:    []int{404, 409, 412, 428},
	}, v.decideBudgetRequest)
	register(v, huma.Operation{
		OperationID: "withdraw-budget-request", Method: http.MethodDelete, Path: "/v1/budget-requests/{id}", Tags: []string{"Budgets"}, DefaultStatus: http.StatusOK,
		Summary: "Withdraw a budget request", Description: "Takes an open request of your own back. It is kept, as withdrawn; to withdraw it again changes nothing.",
		Errors: []int{404, 409},
	}, v.withdrawBudgetRequest)
}

func (v *Server) requestBudget(ctx context.Context, in *requestBudgetInput) (*budgetRequestOutput, error) {
	if _, err := v.policy(ctx, in.Body.Dataset); err != nil {
		return nil, err
	}
	r := dp.BudgetRequest{Dataset: in.Body.Dataset, Reason: in.Body.Reason}
	amounts := newAmounts()
	r.Asked = amounts.terms(wire.BudgetTerms{Epsilon: in.Body.Epsilon, Delta: in.Body.Delta, MaxEpsilonPerQuery: in.Body.MaxEpsilonPerQuery, Expires: in.Body.Expires})
	if err := amounts.refused(); err != nil {
		return nil, err
	}
	var err error
	if in.Body.Query != nil {
		if r.Query, err = v.wantedQuery(ctx, in.Body.Dataset, *in.Body.Query); err != nil {
			return nil, err
		}
	}
	made, created, err := v.services.Office.RequestBudget(ctx, callerOf(ctx).Name, r, in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	out := &budgetRequestOutput{Status: http.StatusOK, Location: "/v1/budget-requests/" + made.ID, Body: budgetRequestOf(made)}
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// wantedQuery prices a question without asking it. That it was refused for its price is no reason to refuse it here.
func (v *Server) wantedQuery(ctx context.Context, dataset string, asked wire.Query) (*dp.WantedQuery, error) {
	if asked.Dataset != dataset {
		p := newProblem(dp.CodeInvalidInput, "The query is about another dataset than the request: name one that the budget is for, or leave it out.")
		p.at("body.query.dataset", "is not the dataset of the request")
		return nil, p
	}
	q := QueryOf(asked)
	q.SpendAtMost, q.Fresh = "", true
	quote, err := v.services.Asker.Plan(ctx, callerOf(ctx).Consumer, q)
	if err != nil {
		return nil, withinQuery(err)
	}
	p := quote.Plan
	out := &dp.WantedQuery{Canonical: string(p.Canonical), Purpose: q.Purpose,
		Price: []dp.Touched{{Dataset: dataset, PolicyVersion: p.Policy.Version, Blocks: p.Blocks, Loss: p.Loss}}}
	for _, also := range p.Also {
		if also.Dataset == dataset {
			out.Price = append(out.Price, also)
		}
	}
	return out, nil
}

// withinQuery moves the places of an error in a question to where the question stands in the body.
func withinQuery(err error) error {
	var refused *dp.Error
	if !errors.As(err, &refused) {
		return err
	}
	moved := *refused
	moved.Locations = nil
	for _, l := range refused.Locations {
		moved.Locations = append(moved.Locations, dp.Location{Path: strings.TrimSuffix("query."+l.Path, "."), Message: l.Message})
	}
	if moved.Code == dp.CodeAccuracyUnattainable { // of a question that is asked; here it cannot be kept
		moved.Code = dp.CodeInvalidQuery
		moved.Locations = append(moved.Locations, dp.Location{Path: "query.within", Message: "cannot be attained under any budget"})
	}
	return &moved
}

// seesAllRequests tells whether a caller oversees what others ask for.
func seesAllRequests(c caller) bool { return c.Role == dp.Officer || c.Role == dp.Auditor }

func (v *Server) listBudgetRequests(ctx context.Context, in *listBudgetRequestsInput) (*listBudgetRequestsOutput, error) {
	who := callerOf(ctx)
	f := dp.RequestFilter{State: dp.RequestState(in.State), Consumer: in.Consumer, Dataset: in.Dataset}
	out := &listBudgetRequestsOutput{Body: wire.BudgetRequestList{Items: []wire.BudgetRequest{}}}
	if !seesAllRequests(who) {
		if in.Consumer != "" && in.Consumer != who.Name {
			return out, nil
		}
		f.Consumer = who.Name
	}
	list, next, err := v.services.Requests.Requests(ctx, f, in.page())
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		out.Body.Items = append(out.Body.Items, budgetRequestOf(r))
	}
	out.Body.Next = next
	return out, nil
}

func (v *Server) getBudgetRequest(ctx context.Context, in *getBudgetRequestInput) (*budgetRequestOutput, error) {
	who := callerOf(ctx)
	if !seesAllRequests(who) {
		r, err := v.services.Requests.Request(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if r.Consumer != who.Name {
			return nil, noBudgetRequest()
		}
		return &budgetRequestOutput{Status: http.StatusOK, Body: budgetRequestOf(r)}, nil
	}
	g, err := v.services.Requests.Grounds(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	terms := g.Request.Asked
	if d := g.Request.Decision; d != nil && d.Granted != nil {
		terms = *d.Granted
	}
	amounts := newAmounts()
	amounts.in = "query."
	amounts.change(&terms, wire.Decimal(in.Epsilon), wire.Decimal(in.Delta), wire.Decimal(in.MaxEpsilonPerQuery))
	if err := amounts.refused(); err != nil {
		return nil, err
	}
	entries, _, err := v.services.Accounts.Entries(ctx, g.Request.Consumer, g.Request.Dataset, Page{Limit: newestCharges})
	if err != nil {
		return nil, err
	}
	out := &budgetRequestOutput{Status: http.StatusOK, ETag: etag(g.Allotment.Version), Body: budgetRequestOf(g.Request)}
	out.Body.Grounds = groundsOf(g, terms, entries)
	return out, nil
}

func noBudgetRequest() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "there is no such request among those that you may see: list them"}
}

func (v *Server) decideBudgetRequest(ctx context.Context, in *decideBudgetRequestInput) (*budgetRequestOutput, error) {
	version, err := in.version()
	if err != nil {
		return nil, err
	}
	before, err := v.services.Requests.Request(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	d := office.Decision{Grant: in.Body.Decision == "grant"}
	if b := in.Body; b.Epsilon != "" || b.Delta != "" || b.MaxEpsilonPerQuery != "" || b.Expires != nil {
		terms := before.Asked // which never changes
		amounts := newAmounts()
		amounts.change(&terms, b.Epsilon, b.Delta, b.MaxEpsilonPerQuery)
		if b.Expires != nil {
			terms.Expires = *b.Expires
		}
		if err := amounts.refused(); err != nil {
			return nil, err
		}
		d.Terms = &terms
	}
	who := callerOf(ctx).Name
	r, allotment, err := v.services.Office.DecideRequest(ctx, who, in.ID, d, version, in.Reason)
	if err != nil {
		if in.IdempotencyKey != "" && before.Decision != nil && decidedJustSo(before, who, d, in.Reason) {
			return &budgetRequestOutput{Status: http.StatusOK, ETag: etag(max(before.Decision.Allotment, before.Decision.Seen)), Body: budgetRequestOf(before)}, nil
		}
		return nil, in.created(err)
	}
	return &budgetRequestOutput{Status: http.StatusOK, ETag: etag(allotment.Version), Body: budgetRequestOf(r)}, nil
}

// decidedJustSo tells whether a decision stands that is made again: the answer to the first call may have been lost.
func decidedJustSo(r dp.BudgetRequest, who string, d office.Decision, reason string) bool {
	was := r.Decision
	if was.By != who || was.Reason != strings.TrimSpace(reason) || (was.State == dp.RequestGranted) != d.Grant || was.State == dp.RequestWithdrawn {
		return false
	}
	terms := r.Asked
	if d.Terms != nil {
		terms = *d.Terms
	}
	return was.Granted == nil || was.Granted.Budget == terms.Budget && was.Granted.MaxEpsilonPerQuery == terms.MaxEpsilonPerQuery && was.Granted.Expires.Equal(terms.Expires)
}

func (v *Server) withdrawBudgetRequest(ctx context.Context, in *withdrawBudgetRequestInput) (*budgetRequestOutput, error) {
	r, err := v.services.Office.WithdrawRequest(ctx, callerOf(ctx).Name, in.ID, in.Reason)
	if err != nil {
		return nil, err
	}
	return &budgetRequestOutput{Status: http.StatusOK, Body: budgetRequestOf(r)}, nil
}

// amounts reads what an allotment gives. Budgets are rounded down, so that nothing is promised that was not signed.
type amounts struct {
	*problem
	in string // where they stand
}

func newAmounts() *amounts {
	return &amounts{newProblem(dp.CodeInvalidInput, "An amount cannot be used: give decimal numbers of 0 or more."), "body."}
}

func (a *amounts) refused() error {
	if len(a.Errors) > 0 {
		return a.problem
	}
	return nil
}

// terms reads all of them.
func (a *amounts) terms(t wire.BudgetTerms) (out dp.Terms) {
	if t.Expires != nil {
		out.Expires = *t.Expires
	}
	a.change(&out, t.Epsilon, t.Delta, t.MaxEpsilonPerQuery)
	if t.MaxEpsilonPerQuery != "" && out.MaxEpsilonPerQuery == 0 && !slices.ContainsFunc(a.Errors, func(e wire.ProblemDetail) bool { return strings.HasSuffix(e.Location, "max_epsilon_per_query") }) {
		a.at(a.in+"max_epsilon_per_query", "must be above 0: leave it out for no maximum")
	}
	return out
}

// change reads those that are given.
func (a *amounts) change(t *dp.Terms, epsilon, delta, most wire.Decimal) {
	var err error
	if epsilon != "" {
		if t.Budget.Epsilon, err = accounting.ParseEpsilon(string(epsilon), accounting.Down); err != nil {
			a.at(a.in+"epsilon", "is not an amount of epsilon that can be kept")
		}
	}
	if delta != "" {
		if t.Budget.Delta, err = accounting.ParseDelta(string(delta), accounting.Down); err != nil {
			a.at(a.in+"delta", "is not an amount of delta that can be kept")
		}
	}
	if most != "" {
		if t.MaxEpsilonPerQuery, err = accounting.ParseEpsilon(string(most), accounting.Down); err != nil {
			a.at(a.in+"max_epsilon_per_query", "is not an amount of epsilon that can be kept")
		}
	}
}

func termsOf(t dp.Terms) wire.BudgetTerms {
	out := wire.BudgetTerms{Epsilon: wire.Decimal(t.Budget.Epsilon.String()), Delta: wire.Decimal(t.Budget.Delta.String()), Expires: timeOf(t.Expires)}
	if t.MaxEpsilonPerQuery != 0 {
		out.MaxEpsilonPerQuery = wire.Decimal(t.MaxEpsilonPerQuery.String())
	}
	return out
}

func budgetRequestOf(r dp.BudgetRequest) wire.BudgetRequest {
	out := wire.BudgetRequest{ID: r.ID, Consumer: r.Consumer, Dataset: r.Dataset, State: string(r.State()), Asked: termsOf(r.Asked), Reason: r.Reason, Made: r.Made.UTC()}
	if q := r.Query; q != nil {
		out.Query = &wire.WantedQuery{Query: json.RawMessage(q.Canonical), Purpose: q.Purpose, Price: listOf(alsoOf(q.Price))}
	}
	if d := r.Decision; d != nil {
		out.Decision = &wire.RequestDecision{By: d.By, At: d.At.UTC(), Reason: d.Reason, Seen: d.Seen, AllotmentVersion: d.Allotment}
		if d.Granted != nil {
			terms := termsOf(*d.Granted)
			out.Decision.Granted = &terms
		}
	}
	return out
}

func groundsOf(g office.Grounds, terms dp.Terms, entries []dp.Entry) *wire.RequestGrounds {
	outlook := g.Outlook(terms)
	out := &wire.RequestGrounds{
		AllotmentVersion: g.Allotment.Version, Cap: *lossOf(dp.Loss{Epsilon: g.Cap.Epsilon, Delta: g.Cap.Delta, Rho: dp.RhoUnknown}), Terms: termsOf(terms),
		SimilarQueries: outlook.Similar, Blocks: []wire.RequestBlock{}, Fresh: requestBlockOf(office.BlockGrounds{}, outlook.Fresh), Charges: []wire.ChargeRecord{},
	}
	if g.Allotment.Version > 0 {
		allotment := allotmentOf(g.Allotment)
		out.Allotment = &allotment
	}
	for i, b := range g.Blocks {
		out.Blocks = append(out.Blocks, requestBlockOf(b, outlook.Blocks[i]))
	}
	for _, e := range entries {
		out.Charges = append(out.Charges, entryOf(e))
	}
	return out
}

func requestBlockOf(b office.BlockGrounds, o office.BlockOutlook) wire.RequestBlock {
	out := wire.RequestBlock{Block: b.Block, Spent: *lossOf(b.Spent), CapSpent: *lossOf(b.CapSpent),
		LeftBefore: wire.Decimal(o.Before.String()), LeftAfter: wire.Decimal(o.After.String()), CapLeft: wire.Decimal(o.Cap.String())}
	if o.Similar >= 0 {
		out.SimilarQueries = &o.Similar
	}
	return out
}
