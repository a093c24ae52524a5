package main

import (
	"context"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// budgetGroup deals with what was spent.
type budgetGroup struct {
	Show      budgetCommand   `cmd:"" default:"withargs" help:"What you may spend, what is left, and what spent it; the verb can be left out."`
	WorstCase budgetWorstCase `cmd:"" help:"For officers and auditors: what can be learned of one customer at worst, and how fast budgets are spent."`
	WhatIf    budgetWhatIf    `cmd:"" help:"What another cap or other allotments would guarantee, freeze and allow, beside what is now; changes none."`
	WriteOff  budgetWriteOff  `cmd:"" help:"Count as spent what may be missing from the ledger: the way out where it refuses."`
}

// budgetCommand shows accounts.
type budgetCommand struct {
	Dataset string `arg:"" optional:"" help:"On this dataset only."`
	All     bool   `help:"For officers and auditors: the cap and everybody's allotments on the dataset."`

	remote
	output
}

// Run shows one's own budget, or a dataset's.
func (c *budgetCommand) Run(ctx context.Context, t terminal) error {
	if c.All && c.Dataset == "" {
		return usagef("name the dataset whose accounts to show")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.All {
		accounts, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.Account, string, error) {
			list, err := server.Accounts(ctx, c.Dataset, p)
			return list.Items, list.Next, err
		})
		if err != nil {
			return err
		}
		v := accountsView(accounts)
		v.body = wire.AccountList{Items: accounts}
		return c.print(t.stdout, v)
	}

	var budget wire.Budget
	budget.Accounts, err = every(ctx, func(ctx context.Context, p client.Page) ([]wire.Account, string, error) {
		page, err := server.Budget(ctx, c.Dataset, p)
		if p.Cursor == "" {
			budget.Allotments, budget.Charges, budget.Requests = page.Allotments, page.Charges, page.Requests
		}
		return page.Accounts, page.Next, err
	})
	if err != nil {
		return err
	}
	v := accountsView(budget.Accounts)
	v.body = budget
	if len(budget.Allotments) == 0 {
		v.empty = "You have no allotment: discreet request add asks an officer for one."
		if me, err := server.Me(ctx); err == nil && me.Role != string(dp.Product) && me.Role != string(dp.Analyst) {
			v.empty = "You ask no questions and have no budget of your own: discreet budget DATASET --all shows that of others."
		}
	}
	for _, a := range budget.Allotments {
		v.lines = append(v.lines, allotmentLine(a))
	}
	for _, charge := range budget.Charges {
		v.lines = append(v.lines, chargeLine(charge))
	}
	for _, r := range budget.Requests {
		v.lines = append(v.lines, "requested   "+termsText(r.Asked)+" of "+r.Dataset+": "+r.ID)
	}
	return c.print(t.stdout, v)
}

func accountsView(accounts []wire.Account) view {
	v := view{
		columns: []string{"dataset", "block", "consumer", "budget_epsilon", "spent_epsilon", "left_epsilon", "budget_delta", "spent_delta", "stopped"},
		empty:   "Nothing was spent yet.",
	}
	for _, a := range accounts {
		who := a.Consumer
		if who == "" {
			who = "(cap)"
		}
		v.rows = append(v.rows, []any{
			a.Dataset, a.Block, who, exactly{a.Budget.Epsilon}, exactly{a.Spent.Epsilon}, exactly{a.Left.Epsilon}, exactly{a.Budget.Delta}, exactly{a.Spent.Delta}, a.Stopped,
		})
	}
	return v
}

// allotmentLine says what an allotment gives.
func allotmentLine(a wire.Allotment) string {
	line := "allotment   " + lossText(a.Epsilon, a.Delta) + " on each block of " + a.Dataset
	if a.MaxEpsilonPerQuery != "" {
		line += ", at most " + string(a.MaxEpsilonPerQuery) + " a query"
	}
	if a.Expires != nil {
		line += ", until " + instant(*a.Expires)
	}
	if a.Stopped != "" {
		line += ", " + a.Stopped
	}
	if len(a.Frozen) > 0 {
		line += ", frozen on " + strings.Join(a.Frozen, ", ") + ", where more is spent"
	}
	return line
}

// chargeLine says what a charge was for.
func chargeLine(c wire.ChargeRecord) string {
	line := "spent       " + instant(c.At) + "  " + lossText(c.Epsilon, c.Delta) + " on " + c.Dataset + " " + span(c.Blocks) + alsoText(c.Also)
	if c.Purpose != "" {
		line += " for " + c.Purpose
	}
	if c.Release != "" {
		line += ": " + c.Release
	}
	return line
}

// budgetWriteOff counts as spent what may be missing from the ledger.
type budgetWriteOff struct {
	Epsilon string `help:"At least so much, on every account; needed where a budget may have been higher in what was lost." placeholder:"N"`
	Delta   string `help:"Likewise." placeholder:"N"`
	Force   bool   `help:"Even while the ledger refuses nothing: for one that was restored together with its witness."`

	reason
	remote
	output
}

// Run writes off.
func (c *budgetWriteOff) Run(ctx context.Context, t terminal) error {
	if c.Reason == "" {
		return usagef("say why with --reason: it is kept for auditors")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	amount := wire.NewWriteOff{Force: c.Force}
	for _, d := range []struct {
		flag, text string
		into       *wire.Decimal
	}{{"--epsilon", c.Epsilon, &amount.Epsilon}, {"--delta", c.Delta, &amount.Delta}} {
		if d.text == "" {
			continue
		}
		if *d.into, err = decimal(d.flag, d.text); err != nil {
			return err
		}
	}
	now, err := server.WriteOff(ctx, amount, client.Change{Reason: c.Reason})
	if err != nil {
		return err
	}
	return c.print(t.stdout, view{
		body: now, columns: []string{"state", "length", "head"}, rows: [][]any{{now.State, now.Length, now.Head}},
		lines: []string{
			"Every budget up to this block counts as spent. To let questions about it be asked again, raise caps and allotments.",
			"So do those of datasets that are declared from now on: one of that name may have been lost.",
			"Keys, budgets and policies are those that the ledger remembers: revoke and change again what was changed since.",
		},
	})
}
