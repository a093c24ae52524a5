package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// allotmentGroup deals with budgets of consumers.
type allotmentGroup struct {
	Set  allotmentSet  `cmd:"" help:"Give a consumer a budget on a dataset, or change it; what is not named stays."`
	List allotmentList `cmd:"" help:"List the allotments of a consumer."`
	Show allotmentShow `cmd:"" help:"Show one allotment."`
}

type allotmentSet struct {
	Consumer string `arg:"" help:"Whose budget."`
	Dataset  string `arg:"" help:"On which dataset."`

	Epsilon            *string `help:"On each block; needed for a new allotment." placeholder:"N"`
	Delta              *string `help:"On each block; 0 for a new allotment that does not name it." placeholder:"N"`
	MaxEpsilonPerQuery *string `help:"Highest price of one query." placeholder:"N"`
	Expires            *string `help:"Last date on which it is in force, or an RFC 3339 time." placeholder:"DATE"`
	Paused             *bool   `help:"Charge nothing until --no-paused." negatable:""`
	IfVersion          uint64  `help:"Refuse unless the allotment has this version." placeholder:"N"`

	reason
	remote
	output
}

// Run sets. The server replaces a whole allotment: what is not named is taken from the one in force.
func (c *allotmentSet) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	now, err := findAllotment(ctx, server, c.Consumer, c.Dataset)
	if err != nil {
		return err
	}
	if now == nil && c.Epsilon == nil {
		return usagef("%s has no allotment on %s yet: give --epsilon", c.Consumer, c.Dataset)
	}
	wanted, err := c.wanted(now)
	if err != nil {
		return err
	}
	change := client.Change{Reason: c.Reason, IfMatch: c.IfVersion, IfNone: now == nil && c.IfVersion == 0}
	if now != nil && change.IfMatch == 0 {
		change.IfMatch = now.Version
	}
	set, err := server.SetAllotment(ctx, c.Consumer, c.Dataset, wanted, change)
	if err != nil {
		return c.waits(t, err)
	}
	return c.print(t.stdout, allotmentsView([]wire.Allotment{set}, set))
}

func (c *allotmentSet) wanted(now *wire.Allotment) (wire.NewAllotment, error) {
	var n wire.NewAllotment
	if now != nil {
		n = wire.NewAllotment{Epsilon: now.Epsilon, Delta: now.Delta, MaxEpsilonPerQuery: now.MaxEpsilonPerQuery, Expires: now.Expires, Paused: now.Paused}
	}
	for _, d := range []struct {
		flag string
		text *string
		into *wire.Decimal
	}{
		{"--epsilon", c.Epsilon, &n.Epsilon}, {"--delta", c.Delta, &n.Delta},
		{"--max-epsilon-per-query", c.MaxEpsilonPerQuery, &n.MaxEpsilonPerQuery},
	} {
		if d.text == nil {
			continue
		}
		var err error
		if *d.into, err = decimal(d.flag, *d.text); err != nil {
			return n, err
		}
	}
	if c.Expires != nil {
		expires, err := parseExpiry(*c.Expires)
		if err != nil {
			return n, err
		}
		n.Expires = expires
	}
	if c.Paused != nil {
		n.Paused = *c.Paused
	}
	return n, nil
}

type allotmentList struct {
	Consumer string `arg:"" help:"Whose budgets."`

	remote
	output
}

// Run lists.
func (c *allotmentList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := allotmentsOf(ctx, server, c.Consumer)
	if err != nil {
		return err
	}
	return c.print(t.stdout, allotmentsView(all, wire.AllotmentList{Items: all}))
}

type allotmentShow struct {
	Consumer string `arg:"" help:"Whose budget."`
	Dataset  string `arg:"" help:"On which dataset."`

	remote
	output
}

// Run shows.
func (c *allotmentShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	a, err := findAllotment(ctx, server, c.Consumer, c.Dataset)
	if err != nil {
		return err
	}
	if a == nil {
		return fmt.Errorf("%s has no allotment on %s: discreet allotment set gives one", c.Consumer, c.Dataset)
	}
	return c.print(t.stdout, allotmentsView([]wire.Allotment{*a}, a))
}

// findAllotment gives nil where there is none.
func findAllotment(ctx context.Context, server *client.Client, consumer, dataset string) (*wire.Allotment, error) {
	all, err := allotmentsOf(ctx, server, consumer)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Dataset == dataset {
			return &all[i], nil
		}
	}
	return nil, nil
}

func allotmentsOf(ctx context.Context, server *client.Client, consumer string) ([]wire.Allotment, error) {
	return every(ctx, func(ctx context.Context, p client.Page) ([]wire.Allotment, string, error) {
		list, err := server.Allotments(ctx, consumer, p)
		return list.Items, list.Next, err
	})
}

func allotmentsView(list []wire.Allotment, body any) view {
	v := view{
		body:    body,
		columns: []string{"consumer", "dataset", "epsilon", "delta", "max_epsilon_per_query", "expires", "paused", "frozen", "version"},
		empty:   "It has no allotment.",
	}
	for _, a := range list {
		v.rows = append(v.rows, []any{a.Consumer, a.Dataset, exactly{a.Epsilon}, exactly{a.Delta}, exactly{a.MaxEpsilonPerQuery}, optional(a.Expires), a.Paused, a.Frozen, a.Version})
		if len(a.Frozen) > 0 {
			v.lines = append(v.lines, fmt.Sprintf("Frozen on %s: %s spent more there than it gives, and is charged nothing until it is raised.", strings.Join(a.Frozen, ", "), a.Consumer))
		}
		if a.Stopped == "expired" {
			v.lines = append(v.lines, fmt.Sprintf("That on %s has expired: nothing is charged until it is renewed.", a.Dataset))
		}
	}
	return v
}
