package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// datasetSuggest proposes clamps and bounds. It asks one question, which is charged as any other, and then prices what
// would change, which is free.
type datasetSuggest struct {
	Dataset string   `arg:"" help:"Dataset to look at."`
	By      []string `help:"Keys that groups will have: how many groups one customer needs is looked at too." placeholder:"KEY"`
	From    string   `help:"First date, included." placeholder:"DATE"`
	To      string   `help:"Last date, included." placeholder:"DATE"`
	Purpose string   `help:"What the answer is for." required:"" placeholder:"PURPOSE"`
	Cover   string   `help:"Share of customers, and of rows, that no bound should touch." default:"0.99"`
	Epsilon string   `help:"What to spend on it, for each touched block." default:"0.1"`
	Delta   string   `help:"Failure probability to spend. Without it, the dataset's default." placeholder:"N"`

	remote
	output
}

// proposal is one bound: which, of which figure, and what it is now.
type proposal struct {
	name    string // of the metric that is asked
	what    string
	now     float64
	lowest  bool   // it is a lower clamp
	measure string // empty for counts
}

// Run asks and prints.
func (c *datasetSuggest) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	dataset, err := server.Dataset(ctx, c.Dataset)
	if err != nil {
		return err
	}
	var policy policyfile.Document
	if err := json.Unmarshal(dataset.Policy, &policy); err != nil {
		return fmt.Errorf("reading the dataset's policy: %w", err)
	}
	q, proposals, err := c.question(policy)
	if err != nil {
		return err
	}
	release, err := server.Query(ctx, q, "")
	if err != nil {
		return err
	}
	if len(release.Groups) != 1 {
		return fmt.Errorf("the server answered with %d groups instead of one", len(release.Groups))
	}
	v := view{columns: []string{"bound", "now", "suggested", "low", "high"}}
	suggested, unclear := map[string]float64{}, false
	var body []map[string]any
	for _, p := range proposals {
		figure := release.Groups[0].Values[p.name]
		value := roundedUp(figure.Value, p.lowest)
		shown := plain(value)
		if width := figure.High - figure.Low; width > math.Abs(figure.Value) && width > 2 {
			shown, unclear = "unclear", true // wider than what it is about
		} else {
			suggested[p.what] = value
		}
		v.rows = append(v.rows, []any{p.what, plain(p.now), shown, approximate{figure.Low, figure.High - figure.Low}, approximate{figure.High, figure.High - figure.Low}})
		body = append(body, map[string]any{"bound": p.what, "now": p.now, "suggested": value, "clear": shown != "unclear", "low": figure.Low, "high": figure.High})
	}
	noise, err := c.noise(ctx, server, dataset, suggested)
	if err != nil {
		return err
	}
	v.body = map[string]any{"release": release.ID, "cover": json.Number(c.Cover), "bounds": body, "noise": noise, "charge": release.Charge}
	for _, n := range noise {
		v.lines = append(v.lines, fmt.Sprintf("noise       %s within %s now, within %s with the suggested bounds, at the default price", n.Metric, rounded(n.Now, n.Now), rounded(n.Then, n.Then)))
	}
	share, _ := strconv.ParseFloat(c.Cover, 64) // the server took it as a rank
	if unclear {
		v.lines = append(v.lines, "unclear     the noise hides some bounds: ask with more --epsilon, a longer time, or without --by")
	}
	v.lines = append(v.lines,
		fmt.Sprintf("clipping    about %s %% of rows or customers lie beyond each suggested bound, give or take its interval", strconv.FormatFloat(100*(1-share), 'g', 3, 64)),
		priceLine("cost", release.Charge),
		"note        max_rows is of a customer in one block, whatever the group: fewer do where groups are many",
		"note        nothing was changed: write the bounds into the policy file and apply it")
	return c.print(t.stdout, v)
}

// question is what is asked: quantiles of rows and of what customers add up to.
func (c *datasetSuggest) question(policy policyfile.Document) (wire.Query, []proposal, error) {
	q := wire.Query{Dataset: c.Dataset, From: c.From, To: c.To, Purpose: c.Purpose}
	var err error
	if q.Epsilon, err = decimal("--epsilon", c.Epsilon); err != nil {
		return q, nil, err
	}
	if q.Delta, err = decimal("--delta", c.Delta); err != nil {
		return q, nil, err
	}
	rank, err := decimal("--cover", c.Cover)
	if err != nil {
		return q, nil, err
	}
	if !(rank.Float() > 0.5 && rank.Float() < 1) {
		return q, nil, usagef("--cover is a share above 0.5 and below 1, such as 0.99")
	}
	below := wire.Decimal(strconv.FormatFloat(math.Round((1-rank.Float())*1e9)/1e9, 'f', -1, 64))
	var proposals []proposal
	ask := func(p proposal, d wire.Definition) {
		p.name = fmt.Sprintf("bound_%d", len(proposals)+1)
		d.Name, d.Aggregate = p.name, string(dp.Quantile)
		if d.Rank = rank; p.lowest {
			d.Rank = below
		}
		proposals, q.Define, q.Metrics = append(proposals, p), append(q.Define, d), append(q.Metrics, p.name)
	}
	if len(c.By) > 0 {
		ask(proposal{what: "max_partitions", now: float64(policy.Bounds.MaxPartitions)}, wire.Definition{Per: string(dp.PerCustomer), Distinct: c.By})
	}
	ask(proposal{what: "max_rows", now: float64(policy.Bounds.MaxRows)}, wire.Definition{Per: string(dp.PerCustomer)})
	for _, m := range policy.Measures {
		lower, errLower := m.Lower.Float64()
		upper, errUpper := m.Upper.Float64()
		if errLower != nil || errUpper != nil {
			return q, nil, fmt.Errorf("the policy's clamp of %s is no number", m.Name)
		}
		ask(proposal{what: m.Name + " upper", now: upper, measure: m.Name}, wire.Definition{Measure: m.Name})
		if lower < 0 {
			ask(proposal{what: m.Name + " lower", now: lower, lowest: true, measure: m.Name}, wire.Definition{Measure: m.Name})
		}
		if m.Kind == "level" {
			continue
		}
		for _, metric := range policy.Metrics {
			if metric.Aggregate == string(dp.Sum) && metric.Measure == m.Name {
				if own, err := metric.Upper.Float64(); err == nil {
					upper = own
				}
			}
		}
		ask(proposal{what: "sum of " + m.Name + " upper", now: upper, measure: m.Name}, wire.Definition{Measure: m.Name, Per: string(dp.PerCustomer)})
	}
	return q, proposals, nil
}

// difference is the noise of a metric now and with other bounds: half-widths of intervals.
type difference struct {
	Metric string  `json:"metric"`
	Now    float64 `json:"within_now"`
	Then   float64 `json:"within_then"`
}

// noise prices the dataset's sums with the bounds in force and with tighter ones. Wider ones cannot be priced before
// they are in the policy.
func (c *datasetSuggest) noise(ctx context.Context, server *client.Client, dataset wire.Dataset, suggested map[string]float64) (list []difference, err error) {
	for _, m := range dataset.Metrics {
		upper, ok := suggested["sum of "+m.Measure+" upper"]
		if m.Aggregate != string(dp.Sum) || !ok {
			continue
		}
		q := wire.Query{Dataset: c.Dataset, Metrics: []string{m.Name}, By: c.By, From: c.From, To: c.To, Purpose: c.Purpose, Fresh: true}
		now, err := server.Plan(ctx, q)
		if err != nil {
			return nil, err
		}
		if upper < m.Upper.Float() && upper > m.Lower.Float() {
			q.Clamp = map[string][2]wire.Decimal{m.Name: {m.Lower, wire.Decimal(plain(upper))}}
		}
		if most := int64(suggested["max_partitions"]); most > 0 && most < now.Privacy.MaxPartitions {
			q.MaxPartitions = most
		}
		then, err := server.Plan(ctx, q)
		if err != nil {
			return nil, err
		}
		list = append(list, difference{m.Name, now.Expected[m.Name].Within, then.Expected[m.Name].Within})
	}
	return list, nil
}

// roundedUp gives two digits of a bound, away from what it should cover.
func roundedUp(v float64, lowest bool) float64 {
	if lowest {
		return -roundedUp(-v, false)
	}
	if v <= 1 {
		return 1
	}
	digit := math.Pow(10, math.Floor(math.Log10(v))-1)
	if digit < 1 && v == math.Trunc(v) {
		return v
	}
	return math.Ceil(v/digit) * digit
}

func plain(v float64) string { return strings.TrimSuffix(strconv.FormatFloat(v, 'f', -1, 64), ".0") }
