package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/discreet-analytics/discreet/api/wire"
)

// RequestFilter chooses among budget requests; what is empty chooses all.
type RequestFilter struct {
	State    string // open, granted, denied or withdrawn
	Dataset  string
	Consumer string
}

// RequestBudget asks an officer for an allotment. With an idempotency key (empty: none) the same call made again is the
// same request, whatever became of it.
func (c *Client) RequestBudget(ctx context.Context, n wire.NewBudgetRequest, idempotencyKey string) (wire.BudgetRequest, error) {
	var out wire.BudgetRequest
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "budget-requests"}, header: withIdempotencyKey(http.Header{}, idempotencyKey)}, n, &out)
	return out, err
}

// BudgetRequests lists requests, newest first: all for officers and auditors, else the caller's own.
func (c *Client) BudgetRequests(ctx context.Context, f RequestFilter, p Page) (wire.BudgetRequestList, error) {
	query := withDataset(p.values(), f.Dataset)
	set(query, "state", f.State)
	set(query, "consumer", f.Consumer)
	var out wire.BudgetRequestList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "budget-requests"}, query: query}, nil, &out)
	return out, err
}

// BudgetRequest reads a request. For officers and auditors it has grounds: what a grant would allow, of what is asked or,
// as far as terms are not empty, of these.
func (c *Client) BudgetRequest(ctx context.Context, id string, terms wire.BudgetTerms) (wire.BudgetRequest, error) {
	query := url.Values{}
	set(query, "epsilon", string(terms.Epsilon))
	set(query, "delta", string(terms.Delta))
	set(query, "max_epsilon_per_query", string(terms.MaxEpsilonPerQuery))
	var out wire.BudgetRequest
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "budget-requests", id}, query: query}, nil, &out)
	return out, err
}

// DecideRequest grants or denies a request, on the version of the allotment that the caller saw.
func (c *Client) DecideRequest(ctx context.Context, id string, d wire.NewRequestDecision, ch Change) (wire.BudgetRequest, error) {
	var out wire.BudgetRequest
	err := c.json(ctx, call{change: true, method: http.MethodPost, path: []string{"v1", "budget-requests", id, "decision"}, header: ch.header()}, d, &out)
	return out, err
}

// WithdrawRequest takes an open request of the caller's own back.
func (c *Client) WithdrawRequest(ctx context.Context, id string, ch Change) (wire.BudgetRequest, error) {
	var out wire.BudgetRequest
	err := c.json(ctx, call{method: http.MethodDelete, path: []string{"v1", "budget-requests", id}, header: ch.header()}, nil, &out)
	return out, err
}

func set(v url.Values, name, text string) {
	if text != "" {
		v.Set(name, text)
	}
}
