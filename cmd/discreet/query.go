package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// queryCommand asks a question.
type queryCommand struct {
	Dataset string   `arg:"" help:"Which dataset."`
	Metrics []string `arg:"" help:"Names of metrics: discreet dataset show lists them."`

	Purpose string   `help:"What the answer is for; one of the dataset's purposes." required:"" placeholder:"NAME"`
	From    string   `help:"First date, included." placeholder:"DATE"`
	To      string   `help:"Last date, included." placeholder:"DATE"`
	By      []string `help:"Group by dimensions and time.hour, time.day, time.week, time.month, time.quarter, time.year; first.*, since.* and funnel.step (see --first and --step)." placeholder:"KEY"`
	Where   []string `help:"Keep rows: 'country=DE,FR' 'platform!=web' 'amount>=10' 'amount<=500'. Values with commas go in double quotes." sep:"none" placeholder:"COND"`
	Define  []string `help:"A metric of your own, to list among the metrics: NAME=AGGREGATE:MEASURE with sum, mean, variance, stddev, min or max (ticket=mean:amount), NAME=quantile:MEASURE:RANK (p90=quantile:amount:0.9), NAME=ratio:METRIC/METRIC (per_head=ratio:spend/customers), NAME=share:METRIC (part=share:spend), or NAME=customers, rows, days or sessions. @customer behind it reads one number of each customer (big=quantile:amount:0.99@customer, kinds=mean@customer:merchant_category). Conditions of its own go in brackets at the end, as in --where (chats=rows[event=bank_chat], large=customers[amount>=100][channel=online])." sep:"none" placeholder:"METRIC"`

	Cohort       []string `help:"Count only customers by what they did: 'event=bank_chat; at_least=3; from=2026-03-01; to=2026-03-31'. Conditions as in --where, and of at_least, at_most, from, to and dataset (to join another one), each with =." sep:"none" placeholder:"COND; ..."`
	First        string   `help:"Which row is a customer's first appearance, for --by first.month, first.DIMENSION and since.week: conditions as in --where, with ; between." placeholder:"COND; ..."`
	Step         []string `help:"A step of a funnel, in order, for --by funnel.step: conditions as in --where, with ; between." sep:"none" placeholder:"COND; ..."`
	FunnelWithin string   `help:"Longest time from a funnel's first step to its last: 30m, 24h, 7d." placeholder:"TIME"`

	Within     map[string]string `help:"Half-width of the interval to reach: customers=35." mapsep:"," placeholder:"METRIC=N"`
	Epsilon    string            `help:"What to spend, for each touched block." placeholder:"N"`
	Delta      string            `help:"Failure probability to spend, for each touched block." placeholder:"N"`
	Confidence string            `help:"Of the intervals; 0.95 when absent." placeholder:"N"`

	Clamp         map[string]string `help:"Clamp tighter than the policy: spend=0:500." mapsep:"," placeholder:"METRIC=LOW:HIGH"`
	MaxPartitions int64             `help:"Groups that one customer may add to, tighter than the policy." placeholder:"N"`
	SpendAtMost   string            `help:"Refuse if it costs more epsilon than this." placeholder:"N"`
	Fresh         bool              `help:"Pay for a new draw, even of a question that was answered before."`
	Totals        bool              `help:"Add what all groups add up to, of rows and sums: free. Not in csv and ndjson, where they would be mistaken for groups."`
	Top           string            `help:"Show the groups with the largest figures alone, the largest first: spend:5. Free." placeholder:"METRIC:N"`
	Plan          bool              `help:"Only price it: free, and sees no row."`

	IdempotencyKey string `help:"Repeated calls with this key are charged once." placeholder:"TEXT"`

	remote
	output
}

// Run asks or prices.
func (c *queryCommand) Run(ctx context.Context, t terminal) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.Plan {
		plan, err := server.Plan(ctx, q)
		if err != nil {
			return err
		}
		return c.print(t.stdout, planView(plan))
	}
	release, err := server.Query(ctx, q, c.IdempotencyKey)
	if err != nil {
		return err
	}
	return printRelease(ctx, t.stdout, c.output, server, release)
}

// printRelease leaves CSV and NDJSON of figures to the server, whose shapes are promised. What was derived is no
// release there, nor is the top of one, and is written in the same shapes here.
func printRelease(ctx context.Context, w io.Writer, o output, server *client.Client, r wire.Release) error {
	whole := r.ID != "" && r.Top == nil
	switch {
	case o.Format == "ndjson" && !whole:
		e := json.NewEncoder(w)
		for _, g := range r.Groups {
			if err := e.Encode(g); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
		}
		return nil
	case o.Format == "csv" && !whole:
		return o.print(w, figuresView(r))
	case o.Format == "csv" || o.Format == "ndjson":
		return server.WriteRelease(ctx, w, r.ID, o.Format)
	}
	return o.print(w, releaseView(r))
}

// query puts the flags together.
func (c *queryCommand) query() (wire.Query, error) {
	q := wire.Query{
		Dataset: c.Dataset, Metrics: strings.Split(strings.Join(c.Metrics, ","), ","), By: c.By, From: c.From, To: c.To, Purpose: c.Purpose,
		MaxPartitions: c.MaxPartitions, Fresh: c.Fresh,
	}
	var err error
	for _, d := range []struct {
		flag, text string
		into       *wire.Decimal
	}{{"epsilon", c.Epsilon, &q.Epsilon}, {"delta", c.Delta, &q.Delta}, {"confidence", c.Confidence, &q.Confidence}} {
		if *d.into, err = decimal("--"+d.flag, d.text); err != nil {
			return wire.Query{}, err
		}
	}
	if c.SpendAtMost != "" {
		most, err := decimal("--spend-at-most", c.SpendAtMost)
		if err != nil {
			return wire.Query{}, err
		}
		q.SpendAtMost = &wire.SpendAtMost{Epsilon: most}
	}
	for metric, text := range sorted(c.Within) {
		within, err := decimal("--within "+metric, text)
		if err != nil {
			return wire.Query{}, err
		}
		if q.Within == nil {
			q.Within = map[string]wire.Decimal{}
		}
		q.Within[metric] = within
	}
	for metric, text := range sorted(c.Clamp) {
		clamp, err := parseClamp(metric, text)
		if err != nil {
			return wire.Query{}, err
		}
		if q.Clamp == nil {
			q.Clamp = map[string][2]wire.Decimal{}
		}
		q.Clamp[metric] = clamp
	}
	if q.Totals = c.Totals; q.Totals && (c.Format == "csv" || c.Format == "ndjson") {
		return wire.Query{}, usagef("--totals goes with --format table or json: in %s they would be mistaken for groups", c.Format)
	}
	if c.Top != "" {
		metric, n, _ := strings.Cut(c.Top, ":")
		count, err := strconv.ParseInt(n, 10, 64)
		if metric == "" || err != nil || count < 1 {
			return wire.Query{}, usagef("write --top METRIC:N, such as --top spend:5")
		}
		q.Top = &wire.Top{Metric: metric, N: count}
	}
	for _, text := range c.Define {
		definition, err := parseDefinition(text)
		if err != nil {
			return wire.Query{}, err
		}
		q.Define = append(q.Define, definition)
	}
	for _, text := range c.Where {
		condition, err := parseCondition(text)
		if err != nil {
			return wire.Query{}, err
		}
		q.Where = append(q.Where, condition)
	}
	return q, c.addCustomers(&q)
}

// decimal checks that a flag is a number, and keeps its text. Empty stays empty.
func decimal(flag, text string) (wire.Decimal, error) {
	if text == "" {
		return "", nil
	}
	if _, err := wire.Decimal(text).MarshalJSON(); err != nil {
		return "", usagef("%s must be a number such as 0.1 or 1e-11", flag)
	}
	return wire.Decimal(text), nil
}

func parseClamp(metric, text string) ([2]wire.Decimal, error) {
	low, high, ok := strings.Cut(text, ":")
	if !ok || low == "" || high == "" {
		return [2]wire.Decimal{}, usagef("write --clamp %s=LOW:HIGH, such as %s=0:500", metric, metric)
	}
	lower, err := decimal("the lower clamp of "+metric, low)
	if err != nil {
		return [2]wire.Decimal{}, err
	}
	upper, err := decimal("the upper clamp of "+metric, high)
	if err != nil {
		return [2]wire.Decimal{}, err
	}
	return [2]wire.Decimal{lower, upper}, nil
}

// parseDefinition reads NAME=AGGREGATE:WHAT, where WHAT is a measure, for a quantile a measure and a rank, for a ratio
// two metrics, for a share one. @customer behind it reads one number of each customer, @customer:FIELD+FIELD the
// combinations that each has.
func parseDefinition(text string) (wire.Definition, error) {
	name, how, ok := strings.Cut(text, "=")
	if !ok || name == "" || how == "" {
		return wire.Definition{}, usagef("write --define NAME=AGGREGATE:MEASURE, such as ticket=mean:amount or p90=quantile:amount:0.9")
	}
	how, conditions, err := ownConditions(name, how)
	if err != nil {
		return wire.Definition{}, err
	}
	how, per, perCustomer := strings.Cut(how, "@")
	aggregate, what, _ := strings.Cut(how, ":")
	d := wire.Definition{Name: name, Aggregate: aggregate, Where: conditions}
	if perCustomer {
		var fields string
		if d.Per, fields, _ = strings.Cut(per, ":"); d.Per != "customer" {
			return wire.Definition{}, usagef("write --define %s=%s@customer, or @customer:FIELD+FIELD", name, how)
		}
		if fields != "" {
			d.Distinct = strings.Split(fields, "+")
		}
	}
	switch aggregate {
	case "quantile":
		var rank string
		if d.Measure, rank, ok = strings.Cut(what, ":"); !ok || d.Measure == "" && !perCustomer || rank == "" {
			return wire.Definition{}, usagef("write --define %s=quantile:MEASURE:RANK, such as %s=quantile:amount:0.9", name, name)
		}
		if d.Rank, err = decimal("the rank of "+name, rank); err != nil {
			return wire.Definition{}, err
		}
	case "ratio":
		if d.Numerator, d.Denominator, ok = strings.Cut(what, "/"); !ok || d.Numerator == "" || d.Denominator == "" {
			return wire.Definition{}, usagef("write --define %s=ratio:METRIC/METRIC, such as %s=ratio:spend/customers", name, name)
		}
	case "share":
		if what == "" {
			return wire.Definition{}, usagef("write --define %s=share:METRIC, such as %s=share:spend", name, name)
		}
		d.Of = what
	default:
		d.Measure = what
	}
	return d, nil
}

// ownConditions cuts off what stands in brackets at the end of a definition: conditions of the metric's own.
func ownConditions(name, how string) (before string, conditions []wire.Condition, err error) {
	before, rest, has := strings.Cut(how, "[")
	if !has {
		return how, nil, nil
	}
	rest, closed := strings.CutSuffix(rest, "]")
	if !closed {
		return "", nil, usagef("write the conditions of %s in brackets at the end, such as %s=rows[channel=online]", name, name)
	}
	for _, text := range strings.Split(rest, "][") {
		condition, err := parseCondition(text)
		if err != nil {
			return "", nil, err
		}
		conditions = append(conditions, condition)
	}
	return before, conditions, nil
}

// parseCondition reads FIELD OPERATOR VALUES. Operators are tried longest first, at the earliest place where
// one stands.
func parseCondition(text string) (wire.Condition, error) {
	at := strings.IndexAny(text, "=!<>")
	if at <= 0 {
		return wire.Condition{}, usagef("write --where as FIELD=VALUES, FIELD!=VALUES, FIELD>=NUMBER or FIELD<=NUMBER")
	}
	field, rest := strings.TrimSpace(text[:at]), text[at:]
	for _, operator := range []string{"!=", ">=", "<=", "="} {
		values, ok := strings.CutPrefix(rest, operator)
		if !ok {
			continue
		}
		list, err := splitValues(values)
		if err != nil {
			return wire.Condition{}, usagef("--where %s%s: %v", field, operator, err)
		}
		return condition(field, operator, list)
	}
	return wire.Condition{}, usagef("--where %s: write =, !=, >= or <= (bounds are included)", field)
}

func condition(field, operator string, list []wire.Text) (wire.Condition, error) {
	c := wire.Condition{Field: field}
	switch {
	case operator == "!=":
		c.NotIn = list
	case operator == "=" && len(list) > 1:
		c.In = list
	case len(list) > 1:
		return c, usagef("--where %s%s takes one value", field, operator)
	case operator == "=":
		c.Eq = &list[0]
	case operator == ">=":
		c.Gte = &list[0]
	default:
		c.Lte = &list[0]
	}
	return c, nil
}

// splitValues reads a line of comma-separated values, quoted where they hold commas.
func splitValues(text string) ([]wire.Text, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace = true
	record, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("name a value")
	}
	if err != nil {
		return nil, errors.New("put values with commas or quotes in double quotes")
	}
	var values []wire.Text
	for _, v := range record {
		if v = strings.TrimSpace(v); v == "" {
			return nil, errors.New("a value is empty")
		}
		values = append(values, wire.Text(v))
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return nil, errors.New("write values on one line")
	}
	return values, nil
}

// planView shows a price.
func planView(p wire.Plan) view {
	v := view{body: p, columns: []string{"metric", "mechanism", "expected_within", "sd"}}
	for metric, expected := range sorted(p.Expected) {
		v.rows = append(v.rows, []any{metric, p.Privacy.Mechanism[metric], approximate{expected.Within, expected.Within}, approximate{expected.SD, expected.SD}})
	}
	v.lines = append(v.lines, priceLine("would cost", p.Charge))
	if l := p.Charge.Left; l != nil {
		v.lines = append(v.lines, "left        "+leftText(*l, "like this"))
	}
	if p.FreeFrom != "" {
		line := "free from   " + p.FreeFrom + ", which you hold"
		if p.Stale {
			line += "; rows were loaded since: --fresh pays for a new draw"
		}
		v.lines = append(v.lines, line)
	}
	for _, a := range p.Alternatives {
		v.lines = append(v.lines, fmt.Sprintf("cheaper     %s: epsilon %s", a.Change, exactly{a.Epsilon}))
	}
	v.lines = append(v.lines, protectionLine(p.Privacy, p.Confidence, p.GroupsMayBeHidden))
	for _, note := range p.Notes {
		v.lines = append(v.lines, "note        "+note)
	}
	return v
}

// priceLine says what is or would be charged.
func priceLine(label string, c wire.Charge) string {
	price := fmt.Sprintf("%-11s %s", label, lossText(c.Epsilon, c.Delta))
	switch len(c.Blocks) {
	case 0:
		return price
	case 1:
		price += " on " + c.Blocks[0]
	default:
		price += fmt.Sprintf(" on each of %d blocks, %s", len(c.Blocks), span(c.Blocks))
	}
	return price + alsoText(c.Also)
}

// alsoText says what further blocks cost.
func alsoText(also []wire.Touch) (text string) {
	for _, t := range also {
		text += "; and " + lossText(t.Epsilon, t.Delta) + " on " + t.Dataset + " " + span(t.Blocks)
	}
	return text
}

// lossText leaves out a delta that is nothing.
func lossText(epsilon, delta wire.Decimal) string {
	text := "epsilon " + exactly{epsilon}.String()
	if delta.Float() > 0 {
		text += ", delta " + exactly{delta}.String()
	}
	return text
}

// leftText says what an account still admits, in words that an asker can plan with.
func leftText(l wire.Left, like string) string {
	text := fmt.Sprintf("epsilon %s (%s %%) of %s", exactly{l.Epsilon}, percent(l.Share), l.Account)
	if l.SimilarQueries != nil {
		text += fmt.Sprintf("; about %d more %s", *l.SimilarQueries, like)
	}
	return text
}

func protectionLine(p wire.Privacy, confidence wire.Decimal, mayHide bool) string {
	line := fmt.Sprintf("protects    %s; intervals hold with %s %%", protected(p.Unit, p.Block), strconv.FormatFloat(100*confidence.Float(), 'g', 6, 64))
	if mayHide {
		line += "; small groups may be left out"
	}
	return line
}

// protected names the privacy unit; where every row is its own customer, the column is row or none.
func protected(column, block string) string {
	switch {
	case column == "row" || column == "":
		return "any one row"
	case block == "all":
		return "all rows of any one " + column
	}
	return "all rows of any one " + column + " within one " + block
}
