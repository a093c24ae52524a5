package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// requestGroup deals with requests for a budget.
type requestGroup struct {
	Add      requestAdd      `cmd:"" help:"Ask an officer for an allotment on a dataset; what is not named stays as in the one that you have."`
	List     requestList     `cmd:"" help:"List your requests; for officers and auditors, everybody's."`
	Show     requestShow     `cmd:"" help:"Show a request; for officers and auditors, with what a grant would allow."`
	Decide   requestDecide   `cmd:"" help:"Grant a request, as it was asked for or with other numbers, or deny it."`
	Withdraw requestWithdraw `cmd:"" help:"Take an open request of your own back."`
}

// termsFlags are what an allotment gives.
type termsFlags struct {
	Delta              string  `help:"On each block." placeholder:"N"`
	MaxEpsilonPerQuery string  `help:"Highest price of one query; 0 for no maximum." placeholder:"N"`
	Expires            *string `help:"Last date on which it is in force, or an RFC 3339 time." placeholder:"DATE"`
}

func (f termsFlags) terms(epsilon string) (t wire.BudgetTerms, err error) {
	for _, d := range []struct {
		flag, text string
		into       *wire.Decimal
	}{{"--epsilon", epsilon, &t.Epsilon}, {"--delta", f.Delta, &t.Delta}, {"--max-epsilon-per-query", f.MaxEpsilonPerQuery, &t.MaxEpsilonPerQuery}} {
		if *d.into, err = decimal(d.flag, d.text); err != nil {
			return t, err
		}
	}
	if f.Expires != nil {
		t.Expires, err = parseExpiry(*f.Expires)
	}
	return t, err
}

type requestAdd struct {
	Dataset string `arg:"" help:"On which dataset."`

	Epsilon string `help:"The whole of what you need on each block, and not what to add." required:"" placeholder:"N"`
	termsFlags
	Reason         string `help:"Why; the officer reads it, and it is kept." required:"" placeholder:"TEXT"`
	Query          string `help:"A file with a question that it is for, such as one that was refused: JSON as POST /v1/queries takes it; - for standard input. It is priced and never run." placeholder:"FILE"`
	IdempotencyKey string `help:"Repeated calls with this key are one request." placeholder:"TEXT"`

	remote
	output
}

// Run asks for a budget.
func (c *requestAdd) Run(ctx context.Context, t terminal) error {
	terms, err := c.terms(c.Epsilon)
	if err != nil {
		return err
	}
	n := wire.NewBudgetRequest{Dataset: c.Dataset, Reason: c.Reason}
	if c.Query != "" {
		if n.Query, err = readQuery(t.stdin, c.Query); err != nil {
			return err
		}
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if terms, err = c.overOwn(ctx, server, terms); err != nil {
		return err
	}
	n.Epsilon, n.Delta, n.MaxEpsilonPerQuery, n.Expires = terms.Epsilon, terms.Delta, terms.MaxEpsilonPerQuery, terms.Expires
	made, err := server.RequestBudget(ctx, n, c.IdempotencyKey)
	if err != nil {
		return err
	}
	return c.print(t.stdout, requestView(made))
}

// overOwn adds what is not named from the caller's allotment, which a grant replaces as a whole.
func (c *requestAdd) overOwn(ctx context.Context, server *client.Client, t wire.BudgetTerms) (wire.BudgetTerms, error) {
	budget, err := server.Budget(ctx, c.Dataset, client.Page{Limit: 1})
	if err != nil {
		return t, err
	}
	for _, own := range budget.Allotments {
		if t.Delta == "" {
			t.Delta = own.Delta
		}
		if t.MaxEpsilonPerQuery == "" {
			t.MaxEpsilonPerQuery = own.MaxEpsilonPerQuery
		}
		if c.Expires == nil {
			t.Expires = own.Expires
		}
	}
	if t.MaxEpsilonPerQuery != "" && t.MaxEpsilonPerQuery.Float() == 0 {
		t.MaxEpsilonPerQuery = ""
	}
	return t, nil
}

// readQuery reads a question from a file, or from standard input.
func readQuery(stdin io.Reader, path string) (*wire.Query, error) {
	const most = 1 << 20
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usagef("--query: %v", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading the question: %w", err)
	}
	if len(text) > most {
		return nil, usagef("--query: the question is longer than %d bytes", most)
	}
	var q wire.Query
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, usagef("--query must name a file with a question as JSON, such as {\"dataset\": \"…\", \"metrics\": [\"customers\"], …}")
	}
	return &q, nil
}

type requestList struct {
	State    string `help:"Only those that are open, granted, denied or withdrawn." enum:",open,granted,denied,withdrawn" default:"" placeholder:"STATE"`
	Dataset  string `help:"Only of this dataset." placeholder:"NAME"`
	Consumer string `help:"For officers and auditors: only of this consumer." placeholder:"NAME"`

	remote
	output
}

// Run lists.
func (c *requestList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.BudgetRequest, string, error) {
		list, err := server.BudgetRequests(ctx, client.RequestFilter{State: c.State, Dataset: c.Dataset, Consumer: c.Consumer}, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return err
	}
	v := view{
		body:    wire.BudgetRequestList{Items: all},
		columns: []string{"id", "made", "consumer", "dataset", "state", "epsilon", "delta", "reason"},
		empty:   "There is no such request.",
	}
	for _, r := range all {
		v.rows = append(v.rows, []any{r.ID, instant(r.Made), r.Consumer, r.Dataset, r.State, exactly{r.Asked.Epsilon}, exactly{r.Asked.Delta}, r.Reason})
	}
	return c.print(t.stdout, v)
}

type requestShow struct {
	ID string `arg:"" help:"Which request."`

	Epsilon            string `help:"For officers: look at a grant of this instead." placeholder:"N"`
	Delta              string `help:"Likewise." placeholder:"N"`
	MaxEpsilonPerQuery string `help:"Likewise; 0: none." placeholder:"N"`

	remote
	output
}

// Run shows.
func (c *requestShow) Run(ctx context.Context, t terminal) error {
	terms, err := termsFlags{Delta: c.Delta, MaxEpsilonPerQuery: c.MaxEpsilonPerQuery}.terms(c.Epsilon)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	r, err := server.BudgetRequest(ctx, c.ID, terms)
	if err != nil {
		return err
	}
	return c.print(t.stdout, requestView(r))
}

type requestDecide struct {
	ID string `arg:"" help:"Which request."`

	Grant   bool   `help:"Give what was asked for, or the numbers below." xor:"decision" required:""`
	Deny    bool   `help:"Give nothing." xor:"decision" required:""`
	Epsilon string `help:"On each block, instead of what was asked for." placeholder:"N"`
	termsFlags
	Reason    string  `help:"Why; the consumer reads it, and it is kept." required:"" placeholder:"TEXT"`
	IfVersion *uint64 `help:"Refuse unless the allotment has this version, 0 for none; that of now when absent." placeholder:"N"`

	remote
	output
}

// Run decides.
func (c *requestDecide) Run(ctx context.Context, t terminal) error {
	terms, err := c.terms(c.Epsilon)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.IfVersion == nil {
		now, err := server.BudgetRequest(ctx, c.ID, wire.BudgetTerms{})
		if err != nil {
			return err
		}
		if now.Grounds != nil { // else the server says who may decide
			c.IfVersion = &now.Grounds.AllotmentVersion
		}
	}
	change := client.Change{Reason: c.Reason}
	if c.IfVersion != nil {
		change.IfMatch, change.IfNone = *c.IfVersion, *c.IfVersion == 0
	}
	d := wire.NewRequestDecision{Decision: "deny", Epsilon: terms.Epsilon, Delta: terms.Delta, MaxEpsilonPerQuery: terms.MaxEpsilonPerQuery, Expires: terms.Expires}
	if c.Grant {
		d.Decision = "grant"
	}
	decided, err := server.DecideRequest(ctx, c.ID, d, change)
	if err != nil {
		return c.waits(t, err)
	}
	return c.print(t.stdout, requestView(decided))
}

type requestWithdraw struct {
	ID string `arg:"" help:"Which request."`

	reason
	remote
	output
}

// Run withdraws.
func (c *requestWithdraw) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	withdrawn, err := server.WithdrawRequest(ctx, c.ID, client.Change{Reason: c.Reason})
	if err != nil {
		return err
	}
	return c.print(t.stdout, requestView(withdrawn))
}

// requestView shows what a grant would allow on each block, and the request below; without grounds, the request alone.
func requestView(r wire.BudgetRequest) view {
	v := view{body: r, columns: []string{"block", "spent", "cap_spent", "left_before", "left_after", "similar_queries"}}
	if g := r.Grounds; g != nil {
		row := func(name string, b wire.RequestBlock) {
			similar := any("")
			if b.SimilarQueries != nil {
				similar = *b.SimilarQueries
			}
			v.rows = append(v.rows, []any{name, exactly{b.Spent.Epsilon}, exactly{b.CapSpent.Epsilon}, exactly{b.LeftBefore}, exactly{b.LeftAfter}, similar})
		}
		for _, b := range g.Blocks {
			row(b.Block, b)
		}
		row("(fresh)", g.Fresh)
	} else {
		v.columns = []string{"id", "made", "consumer", "dataset", "state", "epsilon", "delta"}
		v.rows = [][]any{{r.ID, instant(r.Made), r.Consumer, r.Dataset, r.State, exactly{r.Asked.Epsilon}, exactly{r.Asked.Delta}}}
	}
	line := func(label, text string) { v.lines = append(v.lines, fmt.Sprintf("%-11s %s", label, text)) }
	line("request", fmt.Sprintf("%s, %s, of %s on %s, made %s", r.ID, r.State, r.Consumer, r.Dataset, instant(r.Made)))
	line("asks", termsText(r.Asked))
	line("because", r.Reason)
	if q := r.Query; q != nil {
		text, err := json.Marshal(q.Query)
		if err == nil {
			line("to ask", string(text)+" for "+q.Purpose)
		}
		for _, p := range q.Price {
			line("price", lossText(p.Epsilon, p.Delta)+" on "+span(p.Blocks))
		}
	}
	if g := r.Grounds; g != nil {
		if g.Allotment == nil {
			line("allotment", "none yet: version 0")
		} else {
			line("allotment", fmt.Sprintf("%s, version %d", termsText(wire.BudgetTerms{Epsilon: g.Allotment.Epsilon, Delta: g.Allotment.Delta, MaxEpsilonPerQuery: g.Allotment.MaxEpsilonPerQuery, Expires: g.Allotment.Expires}), g.AllotmentVersion))
			if g.Allotment.Paused {
				line("paused", "and stays so after a grant")
			}
		}
		like := "questions at the default price"
		if r.Query != nil {
			like = "questions like this"
		}
		line("would give", fmt.Sprintf("%s: %d %s; the cap of each block is %s", termsText(g.Terms), g.SimilarQueries, like, lossText(g.Cap.Epsilon, g.Cap.Delta)))
		for _, charge := range g.Charges {
			v.lines = append(v.lines, chargeLine(charge))
		}
	}
	if d := r.Decision; d != nil {
		text := "by " + d.By + " on " + instant(d.At)
		if d.Granted != nil {
			text += fmt.Sprintf(": %s, version %d of the allotment", termsText(*d.Granted), d.AllotmentVersion)
		}
		line(r.State, text)
		if d.Reason != "" {
			line("because", d.Reason)
		}
	}
	return v
}

// termsText says what an allotment gives.
func termsText(t wire.BudgetTerms) string {
	text := lossText(t.Epsilon, t.Delta) + " on each block"
	if t.MaxEpsilonPerQuery != "" {
		text += ", at most " + string(t.MaxEpsilonPerQuery) + " a query"
	}
	if t.Expires != nil {
		text += ", until " + instant(*t.Expires)
	}
	return text
}
