package main

import (
	"context"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

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
			budget.Allotments, budget.Charges = page.Allotments, page.Charges
		}
		return page.Accounts, page.Next, err
	})
	if err != nil {
		return err
	}
	v := accountsView(budget.Accounts)
	v.body = budget
	if len(budget.Allotments) == 0 {
		v.empty = "You have no allotment: an officer gives one with discreet allotment set."
	}
	for _, a := range budget.Allotments {
		v.lines = append(v.lines, allotmentLine(a))
	}
	for _, charge := range budget.Charges {
		v.lines = append(v.lines, chargeLine(charge))
	}
	return c.print(t.stdout, v)
}

func accountsView(accounts []wire.Account) view {
	v := view{
		columns: []string{"dataset", "block", "consumer", "budget_epsilon", "spent_epsilon", "left_epsilon", "budget_delta", "spent_delta"},
		empty:   "Nothing was spent yet.",
	}
	for _, a := range accounts {
		who := a.Consumer
		if who == "" {
			who = "(cap)"
		}
		v.rows = append(v.rows, []any{
			a.Dataset, a.Block, who, exactly{a.Budget.Epsilon}, exactly{a.Spent.Epsilon}, exactly{a.Left.Epsilon}, exactly{a.Budget.Delta}, exactly{a.Spent.Delta},
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
	if a.Paused {
		line += ", paused"
	}
	return line
}

// chargeLine says what a charge was for.
func chargeLine(c wire.ChargeRecord) string {
	line := "spent       " + instant(c.At) + "  " + lossText(c.Epsilon, c.Delta) + " on " + c.Dataset + " " + span(c.Blocks)
	if c.Purpose != "" {
		line += " for " + c.Purpose
	}
	if c.Release != "" {
		line += ": " + c.Release
	}
	return line
}
