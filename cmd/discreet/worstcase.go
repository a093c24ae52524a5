package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/discreet-analytics/discreet/api/wire"
)

// budgetWorstCase shows what can be learned of one customer at worst.
type budgetWorstCase struct {
	Dataset string `arg:"" help:"Of this dataset, and of those linked with it."`
	Days    int    `help:"Look back so many days for the rate of spending; 30 when absent." placeholder:"N"`

	remote
	output
}

// Run shows it.
func (c *budgetWorstCase) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	w, err := server.WorstCase(ctx, c.Dataset, c.Days)
	if err != nil {
		return err
	}
	return c.print(t.stdout, worstCaseView(w))
}

// budgetWhatIf shows the worst case under other budgets.
type budgetWhatIf struct {
	Dataset       string   `arg:"" help:"Of this dataset."`
	CapEpsilon    string   `help:"Another cap." placeholder:"N"`
	CapDelta      string   `help:"Its delta; 0 when absent." placeholder:"N"`
	Allot         []string `help:"Another allotment of a consumer, as in growth=2 or growth=2,1e-10; can be repeated." sep:"none" placeholder:"CONSUMER=EPSILON[,DELTA]"`
	Remove        []string `help:"A consumer without an allotment; can be repeated." placeholder:"CONSUMER"`
	YearBlocks    int64    `help:"In how many blocks of a year a customer has rows; all when absent." placeholder:"N"`
	HistoryBlocks int64    `help:"In how many blocks in all; all that were loaded or charged when absent." placeholder:"N"`
	Days          int      `help:"Look back so many days for the rate of spending; 30 when absent." placeholder:"N"`

	remote
	output
}

// Run shows it.
func (c *budgetWhatIf) Run(ctx context.Context, t terminal) error {
	asked, err := c.asked()
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	w, err := server.WhatIf(ctx, c.Dataset, asked)
	if err != nil {
		return err
	}
	return c.print(t.stdout, worstCaseView(w))
}

func (c *budgetWhatIf) asked() (wire.WhatIf, error) {
	asked := wire.WhatIf{YearBlocks: c.YearBlocks, History: c.HistoryBlocks, Days: c.Days}
	switch {
	case c.CapEpsilon == "" && c.CapDelta != "":
		return asked, usagef("give --cap-epsilon with --cap-delta")
	case c.CapEpsilon != "":
		asked.Cap = &wire.BudgetAmount{}
		if err := readAmounts("--cap-epsilon", c.CapEpsilon, &asked.Cap.Epsilon, "--cap-delta", c.CapDelta, &asked.Cap.Delta); err != nil {
			return asked, err
		}
	}
	for _, text := range c.Allot {
		consumer, amounts, ok := strings.Cut(text, "=")
		if !ok || consumer == "" || amounts == "" {
			return asked, usagef("write --allot as CONSUMER=EPSILON or CONSUMER=EPSILON,DELTA")
		}
		epsilon, delta, _ := strings.Cut(amounts, ",")
		a := wire.WhatIfAllotment{Consumer: consumer}
		if err := readAmounts("--allot", epsilon, &a.Epsilon, "--allot", delta, &a.Delta); err != nil {
			return asked, err
		}
		asked.Allotments = append(asked.Allotments, a)
	}
	for _, consumer := range c.Remove {
		asked.Allotments = append(asked.Allotments, wire.WhatIfAllotment{Consumer: consumer, Remove: true})
	}
	return asked, nil
}

// readAmounts reads an epsilon, and a delta unless it is empty.
func readAmounts(epsilonFlag, epsilonText string, epsilon *wire.Decimal, deltaFlag, deltaText string, delta *wire.Decimal) (err error) {
	if *epsilon, err = decimal(epsilonFlag, epsilonText); err != nil || deltaText == "" {
		return err
	}
	*delta, err = decimal(deltaFlag, deltaText)
	return err
}

func worstCaseView(w wire.WorstCase) view {
	v := view{
		body:    w,
		columns: []string{"who", "rows_of", "blocks", "guaranteed_epsilon", "guaranteed_delta", "spent_epsilon", "spent_delta", "by", "most_in", "charges"},
	}
	for _, o := range w.Owners {
		who := o.Consumer
		if who == "" {
			who = "(all)"
		}
		spent := map[string]wire.Spent{}
		for _, s := range o.Spent {
			spent[s.Scope] = s
		}
		for _, p := range o.Promises {
			row := []any{who, p.Scope, p.Blocks, exactly{p.Epsilon}, exactly{p.Delta}, nil, nil, nil, nil, nil}
			if s, ok := spent[p.Scope]; ok {
				delta := s.Basic.Delta
				if s.By == "zcdp" {
					delta = s.Zero.Delta
				}
				row = append(row[:5], exactly{s.Epsilon}, exactly{delta}, s.By, s.Name, s.Charges)
				if s.Conservative > 0 {
					v.lines = append(v.lines, fmt.Sprintf("bounded     %s, %s: %d of %d charges count as much as group privacy allows, because how they were drawn is not known", who, p.Scope, s.Conservative, s.Charges))
				}
			}
			v.rows = append(v.rows, row)
			if p.Vacuous {
				v.lines = append(v.lines, fmt.Sprintf("vacuous     %s, %s: %s", who, p.Scope, p.Says))
			}
		}
		if r := o.Room; r != nil {
			block := ""
			if r.Block != "" {
				block = fmt.Sprintf("%s more on %s (%d queries at the default price), ", exactly{r.Epsilon}, r.Block, r.Similar)
			}
			v.lines = append(v.lines, fmt.Sprintf("could ask   %s: %s%s on a new block (%d)", who, block, exactly{r.FreshEpsilon}, r.FreshSimilar))
		}
	}
	for _, a := range w.Frozen {
		v.lines = append(v.lines, fmt.Sprintf("frozen      %s%s has spent %s of %s", a.Account, ofConsumer(a.Consumer), exactly{a.Spent.Epsilon}, exactly{a.Budget.Epsilon}))
	}
	for _, a := range w.Beyond {
		v.lines = append(v.lines, fmt.Sprintf("beyond      %s%s: with what was written off, %s is spent, and no less is guaranteed of that block", a.Account, ofConsumer(a.Consumer), lossText(a.Spent.Epsilon, a.Spent.Delta)))
	}
	for _, b := range w.Burns {
		if b.PerDay == nil {
			continue
		}
		line := fmt.Sprintf("burns       %s%s: epsilon %s a day over %d days", b.Account, ofConsumer(b.Consumer), exactly{b.PerDay.Epsilon}, w.Days)
		if b.Exhausted != "" {
			line += ", exhausted on " + b.Exhausted + " at that rate"
		}
		v.lines = append(v.lines, line)
	}
	if len(w.Linked) > 0 {
		v.lines = append(v.lines, "linked      with "+strings.Join(w.Linked, ", ")+": a customer of both may lose what both allow")
	}
	v.lines = append(v.lines, w.Notes...)
	return v
}

func ofConsumer(name string) string {
	if name == "" {
		return ""
	}
	return " of " + name
}
