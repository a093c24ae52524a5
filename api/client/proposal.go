package client

import (
	"context"
	"net/http"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Changes that take two officers answer with a *Waiting until the second one confirms them: those of ApplyPolicy,
// CreateConsumer, PatchConsumer, IssueKey, SetAllotment and DecideRequest.

// Proposals lists the changes that wait for a second officer, or all that ever did, newest first.
func (c *Client) Proposals(ctx context.Context, open bool, p Page) (wire.ProposalList, error) {
	query := p.values()
	if open {
		query.Set("open", "true")
	}
	var out wire.ProposalList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "proposals"}, query: query}, nil, &out)
	return out, err
}

// Proposal reads a proposal, with every line that would change.
func (c *Client) Proposal(ctx context.Context, id string) (wire.Proposal, error) {
	var out wire.Proposal
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "proposals", id}}, nil, &out)
	return out, err
}

// DecideProposal confirms what another officer proposed, which makes the change, or rejects it.
func (c *Client) DecideProposal(ctx context.Context, id string, confirm bool, ch Change) (wire.Proposal, error) {
	var out wire.Proposal
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "proposals", id, "confirmation"}, header: ch.header()}, wire.NewConfirmation{Confirm: confirm}, &out)
	return out, err
}

// WithdrawProposal takes an open proposal of the caller's own back.
func (c *Client) WithdrawProposal(ctx context.Context, id string, ch Change) (wire.Proposal, error) {
	var out wire.Proposal
	err := c.json(ctx, call{method: http.MethodDelete, path: []string{"v1", "proposals", id}, header: ch.header()}, nil, &out)
	return out, err
}
