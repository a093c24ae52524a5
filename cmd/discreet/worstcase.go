package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/wire"
)

// budgetWorstCase shows what can be learned of one customer at worst.
type budgetWorstCase struct {
	Dataset  string   `arg:"" help:"Of this dataset, and of those linked with it."`
	Consumer []string `help:"Only of this consumer, besides all together; can be repeated." placeholder:"NAME"`
	Days     int      `help:"Look back so many days for the rate of spending; 30 when absent." placeholder:"N"`

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
	if len(c.Consumer) > 0 {
		if w, err = only(w, c.Consumer); err != nil {
			return err
		}
	}
	return c.print(t.stdout, worstCaseView(w))
}

// only leaves what is of all together and of some consumers.
func only(w wire.WorstCase, names []string) (wire.WorstCase, error) {
	for _, name := range names {
		if !slices.ContainsFunc(w.Owners, func(o wire.Owner) bool { return o.Consumer == name }) {
			return w, usagef("--consumer: %q has no allotment on %s", name, w.Dataset)
		}
	}
	other := func(consumer string) bool { return consumer != "" && !slices.Contains(names, consumer) }
	w.Owners = slices.DeleteFunc(w.Owners, func(o wire.Owner) bool { return other(o.Consumer) })
	w.Frozen = slices.DeleteFunc(w.Frozen, func(a wire.Account) bool { return other(a.Consumer) })
	w.Beyond = slices.DeleteFunc(w.Beyond, func(a wire.Account) bool { return other(a.Consumer) })
	w.Burns = slices.DeleteFunc(w.Burns, func(b wire.Burn) bool { return other(b.Consumer) })
	return w, nil
}

// budgetWhatIf shows the worst case under other budgets, beside that of now.
type budgetWhatIf struct {
	Dataset       string   `arg:"" help:"Of this dataset."`
	CapEpsilon    string   `help:"Another cap." placeholder:"N"`
	CapDelta      string   `help:"Its delta; as it is when absent." placeholder:"N"`
	Allot         []string `help:"Another allotment of a consumer, as in growth=2 or growth=2,1e-10; a delta that is absent stays as it is; can be repeated." sep:"none" placeholder:"CONSUMER=EPSILON[,DELTA]"`
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
	now, err := server.WhatIf(ctx, c.Dataset, wire.WhatIf{YearBlocks: asked.YearBlocks, History: asked.History, Days: asked.Days})
	if err != nil {
		return err
	}
	keepDeltas(&asked, now)
	would, err := server.WhatIf(ctx, c.Dataset, asked)
	if err != nil {
		return err
	}
	if asked.Cap == nil && len(asked.Allotments) == 0 {
		return c.print(t.stdout, worstCaseView(would))
	}
	return c.print(t.stdout, whatIfView(now, would))
}

func (c *budgetWhatIf) asked() (wire.WhatIf, error) {
	asked := wire.WhatIf{YearBlocks: c.YearBlocks, History: c.HistoryBlocks, Days: c.Days}
	switch {
	case c.CapEpsilon == "" && c.CapDelta == "" && len(c.Allot)+len(c.Remove) == 0 && c.YearBlocks == 0 && c.HistoryBlocks == 0:
		return asked, usagef("say what would be otherwise: --cap-epsilon, --allot CONSUMER=EPSILON or --remove CONSUMER; discreet budget worst-case tells how it is")
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

// keepDeltas leaves every delta that is not named as it is, as those do who set a budget.
func keepDeltas(asked *wire.WhatIf, now wire.WorstCase) {
	is := map[string]wire.Decimal{}
	for _, o := range now.Owners {
		is[o.Consumer] = o.Budget.Delta
	}
	if asked.Cap != nil && asked.Cap.Delta == "" {
		asked.Cap.Delta = is[""]
	}
	for i := range asked.Allotments {
		if a := &asked.Allotments[i]; !a.Remove && a.Delta == "" {
			a.Delta = is[a.Consumer]
		}
	}
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
	vacuous := false
	for _, o := range w.Owners {
		spent := map[string]wire.Spent{}
		for _, s := range o.Spent {
			spent[s.Scope] = s
		}
		for _, p := range o.Promises {
			vacuous = vacuous || p.Vacuous
			row := []any{whose(o), p.Scope, p.Blocks, atMost{p.Epsilon}, guaranteed{atMost{p.Delta}, p.Vacuous}, nil, nil, nil, nil, nil}
			if s, ok := spent[p.Scope]; ok {
				delta := s.Basic.Delta
				if s.By == "zcdp" {
					delta = s.Zero.Delta
				}
				row = append(row[:5], atMost{s.Epsilon}, atMost{delta}, s.By, s.Name, s.Charges)
				if s.Conservative > 0 {
					v.lines = append(v.lines, fmt.Sprintf("bounded     %s, %s: %d of %d charges count as much as group privacy allows, because how they were drawn is not known", whose(o), p.Scope, s.Conservative, s.Charges))
				}
			}
			v.rows = append(v.rows, row)
		}
		if o.Room != nil {
			v.lines = append(v.lines, fmt.Sprintf("could ask   %s: %s", whose(o), roomText(*o.Room)))
		}
	}
	if vacuous {
		v.lines = append(v.lines, "vacuous     of so many blocks together nothing is guaranteed: delta would be 1")
	}
	frozen := map[string]bool{}
	for _, a := range w.Frozen {
		frozen[ownedAccount(a)] = true
	}
	v.lines = append(v.lines, first(mostLines, w.Frozen, func(a wire.Account) string {
		return fmt.Sprintf("frozen      %s: %s, and takes no charge until it is raised", ownedAccount(a), overspent(a))
	})...)
	v.lines = append(v.lines, first(mostLines, w.Beyond, func(a wire.Account) string {
		return fmt.Sprintf("beyond      %s: with what was written off, %s is spent, and no less is guaranteed of that block", ownedAccount(a), lossText(a.Spent.Epsilon, a.Spent.Delta))
	})...)
	var burning []wire.Burn
	for _, b := range w.Burns {
		if b.PerDay != nil {
			burning = append(burning, b)
		}
	}
	// Those that end first, and those that have no end last.
	slices.SortStableFunc(burning, func(a, b wire.Burn) int {
		return cmp.Or(cmp.Compare(endOf(a), endOf(b)), strings.Compare(a.Consumer, b.Consumer))
	})
	v.lines = append(v.lines, first(mostLines, burning, func(b wire.Burn) string {
		account := b.Account + ofConsumer(b.Consumer)
		line := fmt.Sprintf("burns       %s: epsilon %s a day over %d days", account, exactly{b.PerDay.Epsilon}, w.Days)
		switch {
		case frozen[account]:
			line += ", and is frozen now"
		case b.Exhausted != "":
			line += ", exhausted on " + b.Exhausted + " at that rate"
		}
		return line
	})...)
	if len(w.Linked) > 0 {
		v.lines = append(v.lines, "linked      with "+strings.Join(w.Linked, ", ")+": a customer of both may lose what both allow")
	}
	v.lines = append(v.lines, w.Notes...)
	return v
}

// whatIfView shows what would be otherwise, beside what is.
func whatIfView(now, would wire.WorstCase) view {
	v := view{
		body:    would,
		columns: []string{"who", "rows_of", "blocks", "now_epsilon", "now_delta", "would_epsilon", "would_delta"},
		empty:   "Of no customer would another worst case be guaranteed.",
	}
	were := map[string]wire.Owner{}
	for _, o := range now.Owners {
		were[o.Consumer] = o
	}
	for _, o := range would.Owners {
		was := were[o.Consumer]
		before := map[string]wire.Promise{}
		for _, p := range was.Promises {
			before[p.Scope] = p
		}
		for _, p := range o.Promises {
			if b, known := before[p.Scope]; !known || b.Epsilon != p.Epsilon || b.Delta != p.Delta {
				v.rows = append(v.rows, []any{whose(o), p.Scope, p.Blocks, atMost{b.Epsilon}, guaranteed{atMost{b.Delta}, b.Vacuous}, atMost{p.Epsilon}, guaranteed{atMost{p.Delta}, p.Vacuous}})
			}
		}
		if o.Budget != was.Budget {
			line := fmt.Sprintf("budget      %s: %s, now %s", whose(o), lossText(o.Budget.Epsilon, o.Budget.Delta), lossText(was.Budget.Epsilon, was.Budget.Delta))
			if was.Budget.Epsilon == "" {
				line = fmt.Sprintf("budget      %s: %s, now none", whose(o), lossText(o.Budget.Epsilon, o.Budget.Delta))
			}
			if o.Certified != o.Budget {
				line += fmt.Sprintf("; guaranteed is %s, the largest that it ever was", lossText(o.Certified.Epsilon, o.Certified.Delta))
			}
			v.lines = append(v.lines, line)
		}
		if o.Room != nil && (was.Room == nil || *was.Room != *o.Room) {
			line := fmt.Sprintf("could ask   %s: %s", whose(o), roomText(*o.Room))
			if was.Room != nil {
				line += "; now " + roomText(*was.Room)
			}
			v.lines = append(v.lines, line)
		}
	}
	frozen := func(w wire.WorstCase) map[string]bool {
		of := map[string]bool{}
		for _, a := range w.Frozen {
			of[ownedAccount(a)] = true
		}
		return of
	}
	is, later := frozen(now), frozen(would)
	freezes := slices.DeleteFunc(slices.Clone(would.Frozen), func(a wire.Account) bool { return is[ownedAccount(a)] })
	thaws := slices.DeleteFunc(slices.Clone(now.Frozen), func(a wire.Account) bool { return later[ownedAccount(a)] })
	v.lines = append(v.lines, first(mostLines, freezes, func(a wire.Account) string {
		return fmt.Sprintf("freezes     %s: %s", ownedAccount(a), overspent(a))
	})...)
	v.lines = append(v.lines, first(mostLines, thaws, func(a wire.Account) string { return "thaws       " + ownedAccount(a) })...)
	if len(freezes) == 0 {
		v.lines = append(v.lines, "freezes     nothing that is not frozen now")
	}
	ends := map[string]string{}
	for _, b := range now.Burns {
		ends[b.Account+ofConsumer(b.Consumer)] = b.Exhausted
	}
	moved := slices.DeleteFunc(slices.Clone(would.Burns), func(b wire.Burn) bool {
		account := b.Account + ofConsumer(b.Consumer)
		return b.PerDay == nil || ends[account] == b.Exhausted || later[account]
	})
	v.lines = append(v.lines, first(mostLines, moved, func(b wire.Burn) string {
		account := b.Account + ofConsumer(b.Consumer)
		return fmt.Sprintf("exhausted   %s: %s at the rate of %d days, now %s", account, onDay(b.Exhausted), would.Days, onDay(ends[account]))
	})...)
	v.lines = append(v.lines, "Nothing was changed. A lower budget takes nothing back: what is guaranteed is the largest that was ever in force.")
	return v
}

// mostLines is how many lines of a kind a table has below.
const mostLines = 20

// first words the first of many.
func first[T any](most int, list []T, word func(T) string) (lines []string) {
	for _, item := range list[:min(most, len(list))] {
		lines = append(lines, word(item))
	}
	if more := len(list) - most; more > 0 {
		lines = append(lines, fmt.Sprintf("            and %d more: --format json has all", more))
	}
	return lines
}

func whose(o wire.Owner) string {
	if o.Consumer == "" {
		return "(all)"
	}
	return o.Consumer
}

func ownedAccount(a wire.Account) string { return a.Account + ofConsumer(a.Consumer) }

// overspent says by what an account has more spent than its budget has: of epsilon or, where that fits, of delta.
func overspent(a wire.Account) string {
	return fmt.Sprintf("spent is %s, of %s", lossText(a.Spent.Epsilon, a.Spent.Delta), lossText(a.Budget.Epsilon, a.Budget.Delta))
}

func roomText(r wire.Room) string {
	if r.Closed != "" {
		return "nothing while it is " + r.Closed
	}
	fresh := fmt.Sprintf("%s on a new block (%d)", exactly{r.FreshEpsilon}, r.FreshSimilar)
	if r.Block == "" {
		return fresh
	}
	return fmt.Sprintf("%s more on %s (%d queries at the default price), %s", exactly{r.Epsilon}, r.Block, r.Similar, fresh)
}

func onDay(date string) string {
	if date == "" {
		return "never"
	}
	return "on " + date
}

// endOf is when an account is exhausted, for sorting.
func endOf(b wire.Burn) string { return cmp.Or(b.Exhausted, "never") }

// atMost is a decimal that people see short and never below what it is.
type atMost struct{ wire.Decimal }

func (a atMost) String() string {
	exact := a.Float()
	short := exactly(a).String()
	if shown, err := strconv.ParseFloat(short, 64); err != nil || shown >= exact {
		return short
	}
	unit := math.Pow10(int(math.Floor(math.Log10(exact))) - 3)
	return strings.Replace(strconv.FormatFloat((math.Floor(exact/unit)+1)*unit, 'g', 4, 64), "e-0", "e-", 1)
}

func (a atMost) machine() string { return string(a.Decimal) }

// MarshalJSON writes the decimal, or null.
func (a atMost) MarshalJSON() ([]byte, error) { return exactly(a).MarshalJSON() }

// guaranteed is a delta, or that it says nothing.
type guaranteed struct {
	atMost
	vacuous bool
}

func (g guaranteed) String() string {
	if g.vacuous {
		return "vacuous"
	}
	return g.atMost.String()
}

func ofConsumer(name string) string {
	if name == "" {
		return ""
	}
	return " of " + name
}
