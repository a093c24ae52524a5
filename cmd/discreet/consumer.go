package main

import (
	"context"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// consumerGroup deals with who may call.
type consumerGroup struct {
	Add  consumerAdd  `cmd:"" help:"Add a consumer."`
	List consumerList `cmd:"" help:"List the consumers."`
	Show consumerShow `cmd:"" help:"Show a consumer with keys and allotments."`
	Set  consumerSet  `cmd:"" help:"Change a consumer."`
}

type consumerAdd struct {
	Name         string   `arg:"" help:"Small letters, digits, _ and -."`
	Role         string   `help:"product and analyst ask, officer decides, custodian loads, auditor reads accounts." enum:"product,analyst,officer,custodian,auditor" required:""`
	Organisation string   `help:"To whom it belongs." placeholder:"NAME"`
	Audience     string   `help:"internal or third-party." enum:"internal,third-party" default:"internal"`
	Purposes     []string `help:"What it may ask for." placeholder:"NAME"`
	Subject      string   `help:"Whom the issuer's tokens are about that sign it in (serve --oidc-consumer-claim); needs a reason." placeholder:"TEXT"`

	reason
	remote
	output
}

// Run adds.
func (c *consumerAdd) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	added, err := server.CreateConsumer(ctx, wire.NewConsumer{
		Name: c.Name, Role: c.Role, Organisation: c.Organisation, Audience: c.Audience, Purposes: c.Purposes, Subject: c.Subject,
	}, client.Change{Reason: c.Reason})
	if err != nil {
		return c.waits(t, err)
	}
	v := consumersView([]wire.Consumer{added}, added)
	next := "Next: discreet key add " + added.Name
	if role := dp.Role(added.Role); role == dp.Product || role == dp.Analyst {
		next += ", and discreet allotment set " + added.Name + " DATASET --epsilon N, without which it cannot ask"
	}
	v.lines = []string{next + "."}
	return c.print(t.stdout, v)
}

type consumerList struct {
	remote
	output
}

// Run lists.
func (c *consumerList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.Consumer, string, error) {
		list, err := server.Consumers(ctx, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return err
	}
	return c.print(t.stdout, consumersView(all, wire.ConsumerList{Items: all}))
}

func consumersView(list []wire.Consumer, body any) view {
	v := view{body: body, columns: []string{"name", "role", "audience", "organisation", "purposes", "suspended", "created", "version"}}
	for _, c := range list {
		v.rows = append(v.rows, []any{c.Name, c.Role, c.Audience, c.Organisation, c.Purposes, c.Suspended, instant(c.Created), c.Version})
	}
	return v
}

type consumerShow struct {
	Name string `arg:"" help:"Name of the consumer."`

	remote
	output
}

// Run shows.
func (c *consumerShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	consumer, err := server.Consumer(ctx, c.Name)
	if err != nil {
		return err
	}
	keys, err := keysOf(ctx, server, c.Name)
	if err != nil {
		return err
	}
	allotments, err := allotmentsOf(ctx, server, c.Name)
	if err != nil {
		return err
	}
	v := consumersView([]wire.Consumer{consumer}, struct {
		wire.Consumer
		Keys       []wire.Key       `json:"keys"`
		Allotments []wire.Allotment `json:"allotments"`
	}{consumer, keys, allotments})
	if consumer.Subject != "" {
		v.lines = append(v.lines, "tokens      of "+consumer.Subject+" sign it in, where their role is "+consumer.Role)
	}
	for _, k := range keys {
		v.lines = append(v.lines, keyLine(k))
	}
	for _, a := range allotments {
		v.lines = append(v.lines, allotmentLine(a))
	}
	return c.print(t.stdout, v)
}

type consumerSet struct {
	Name         string    `arg:"" help:"Name of the consumer."`
	Role         *string   `help:"product, analyst, officer, custodian or auditor." placeholder:"ROLE"`
	Organisation *string   `help:"To whom it belongs." placeholder:"NAME"`
	Audience     *string   `help:"internal or third-party." placeholder:"AUDIENCE"`
	Purposes     *[]string `help:"What it may ask for; replaces all of them." placeholder:"NAME"`
	Subject      *string   `help:"Whom the issuer's tokens are about that sign it in, or nothing; needs a reason." placeholder:"TEXT"`
	Suspended    *bool     `help:"Refuse its keys at once, and charge it nothing, until --no-suspended." negatable:""`
	IfVersion    uint64    `help:"Refuse unless the consumer has this version." placeholder:"N"`

	reason
	remote
	output
}

// Run changes what is given.
func (c *consumerSet) Run(ctx context.Context, t terminal) error {
	if c.Role == nil && c.Organisation == nil && c.Audience == nil && c.Purposes == nil && c.Subject == nil && c.Suspended == nil {
		return usagef("say what to change: --role, --organisation, --audience, --purposes, --subject or --suspended")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	change := client.Change{Reason: c.Reason, IfMatch: c.IfVersion}
	if change.IfMatch == 0 {
		now, err := server.Consumer(ctx, c.Name)
		if err != nil {
			return err
		}
		change.IfMatch = now.Version
	}
	changed, err := server.PatchConsumer(ctx, c.Name, wire.ConsumerPatch{
		Role: c.Role, Organisation: c.Organisation, Audience: c.Audience, Purposes: c.Purposes, Subject: c.Subject, Suspended: c.Suspended,
	}, change)
	if err != nil {
		return c.waits(t, err)
	}
	return c.print(t.stdout, consumersView([]wire.Consumer{changed}, changed))
}
