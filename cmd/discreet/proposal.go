package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// proposalGroup deals with changes that take two officers.
type proposalGroup struct {
	List     proposalList     `cmd:"" help:"List the changes that wait for a second officer."`
	Show     proposalShow     `cmd:"" help:"Show a proposal with every line that would change."`
	Confirm  proposalConfirm  `cmd:"" help:"Agree to what another officer proposed: it is changed at once."`
	Reject   proposalReject   `cmd:"" help:"Disagree with what another officer proposed."`
	Withdraw proposalWithdraw `cmd:"" help:"Take an open proposal of your own back."`
}

type proposalList struct {
	All bool `help:"Those that have ended, too."`

	remote
	output
}

// Run lists.
func (c *proposalList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.Proposal, string, error) {
		list, err := server.Proposals(ctx, !c.All, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return err
	}
	v := proposalsView(all, wire.ProposalList{Items: all})
	v.empty = "Nothing waits for a second officer."
	return c.print(t.stdout, v)
}

func proposalsView(list []wire.Proposal, body any) view {
	v := view{body: body, columns: []string{"id", "state", "kind", "on", "by", "reason", "made", "expires"}}
	for _, p := range list {
		v.rows = append(v.rows, []any{p.ID, p.State, p.Kind, p.On, p.By, p.Reason, instant(p.Made), instant(p.Expires)})
	}
	return v
}

// proposalView shows a proposal with what would change.
func proposalView(p wire.Proposal) view {
	v := proposalsView([]wire.Proposal{p}, p)
	if p.Seen > 0 {
		v.lines = append(v.lines, fmt.Sprintf("Against version %d:", p.Seen))
	}
	v.lines = append(v.lines, p.Changes...)
	if p.Request != "" {
		v.lines = append(v.lines, "grants "+p.Request)
	}
	if d := p.End; d != nil {
		line := p.State + " by " + d.By + " on " + instant(d.At)
		if d.Reason != "" {
			line += ": " + d.Reason
		}
		v.lines = append(v.lines, line)
	}
	return v
}

// waits shows the proposal that a change became which takes two officers: the verb did what it could. Any other error
// it gives back.
func (o output) waits(t terminal, err error) error {
	var w *client.Waiting
	if !errors.As(err, &w) {
		return err
	}
	p := w.Proposal
	v := proposalView(p)
	v.lines = append(v.lines, fmt.Sprintf("Nothing changed yet: this waits for a second officer: proposal %s. They look at it with discreet proposal show %s, and confirm or reject it until %s.", p.ID, p.ID, instant(p.Expires)))
	return o.print(t.stdout, v)
}

type proposalShow struct {
	ID string `arg:"" help:"Which proposal."`

	remote
	output
}

// Run shows.
func (c *proposalShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	p, err := server.Proposal(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.print(t.stdout, proposalView(p))
}

// proposalDecision is what confirming and rejecting have in common.
type proposalDecision struct {
	ID     string `arg:"" help:"Which proposal."`
	Reason string `help:"Why; it is kept for auditors." required:"" placeholder:"TEXT"`

	remote
	output
}

func (c *proposalDecision) decide(ctx context.Context, t terminal, confirm bool) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	p, err := server.DecideProposal(ctx, c.ID, confirm, client.Change{Reason: c.Reason})
	if err != nil {
		return err
	}
	return c.print(t.stdout, proposalView(p))
}

type proposalConfirm struct{ proposalDecision }

// Run confirms.
func (c *proposalConfirm) Run(ctx context.Context, t terminal) error { return c.decide(ctx, t, true) }

type proposalReject struct{ proposalDecision }

// Run rejects.
func (c *proposalReject) Run(ctx context.Context, t terminal) error { return c.decide(ctx, t, false) }

type proposalWithdraw struct {
	ID string `arg:"" help:"Which proposal."`

	reason
	remote
	output
}

// Run withdraws.
func (c *proposalWithdraw) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	p, err := server.WithdrawProposal(ctx, c.ID, client.Change{Reason: c.Reason})
	if err != nil {
		return err
	}
	return c.print(t.stdout, proposalView(p))
}
