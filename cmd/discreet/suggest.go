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
	lowest  bool    // it is a lower clamp
	measure string  // empty for counts
	unit    float64 // in which bounds are written: 1 for counts, else what the measure's scale leaves
	clamp   float64 // beyond which nothing is seen; 0 for counts, whose bounds leave room
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
	suggested, unclear, atClamp := map[string]float64{}, false, []string(nil)
	var body []map[string]any
	for _, p := range proposals {
		figure := release.Groups[0].Values[p.name]
		value := roundedUp(figure.Value, p.unit, p.lowest)
		if p.measure == "" { // nobody has less
			value = max(1, value)
		}
		shown := plain(value)
		switch width := figure.High - figure.Low; {
		case width > math.Abs(figure.Value) && width > 2*p.unit:
			shown, unclear = "unclear", true // wider than what it is about
		case p.lowest && p.clamp < 0 && figure.Low <= p.clamp || !p.lowest && p.clamp > 0 && figure.High >= p.clamp:
			atClamp = append(atClamp, p.what)
			fallthrough
		default:
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
	if len(atClamp) > 0 {
		v.lines = append(v.lines, "clamped     "+strings.Join(atClamp, ", ")+": as far as can be seen with the clamp in force, which hides what lies beyond; widen it and ask again")
	}
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
		ask(proposal{what: "max_partitions", now: float64(policy.Bounds.MaxPartitions), unit: 1}, wire.Definition{Per: string(dp.PerCustomer), Distinct: c.By})
	}
	ask(proposal{what: "max_rows", now: float64(policy.Bounds.MaxRows), unit: 1}, wire.Definition{Per: string(dp.PerCustomer)})
	for _, m := range policy.Measures {
		lower, errLower := m.Lower.Float64()
		upper, errUpper := m.Upper.Float64()
		if errLower != nil || errUpper != nil {
			return q, nil, fmt.Errorf("the policy's clamp of %s is no number", m.Name)
		}
		unit := math.Pow10(-m.Scale)
		ask(proposal{what: m.Name + " upper", now: upper, measure: m.Name, unit: unit, clamp: upper}, wire.Definition{Measure: m.Name})
		if lower < 0 {
			ask(proposal{what: m.Name + " lower", now: lower, lowest: true, measure: m.Name, unit: unit, clamp: lower}, wire.Definition{Measure: m.Name})
		}
		if m.Kind == "level" {
			continue
		}
		clamp := max(upper, upper*float64(policy.Bounds.MaxRows))
		for _, metric := range policy.Metrics {
			if metric.Aggregate == string(dp.Sum) && metric.Measure == m.Name {
				if own, err := metric.Upper.Float64(); err == nil {
					upper = own
				}
			}
		}
		ask(proposal{what: "sum of " + m.Name + " upper", now: upper, measure: m.Name, unit: unit, clamp: clamp}, wire.Definition{Measure: m.Name, Per: string(dp.PerCustomer)})
	}
	return q, proposals, nil
}

// difference is the noise of a metric now and with other bounds: half-widths of intervals.
type difference struct {
	Metric string  `json:"metric"`
	Now    float64 `json:"within_now"`
	Then   float64 `json:"within_then"`
}

// noise prices the dataset's sums with the bounds in force and with those that are suggested. Wider ones cannot be priced
// before they are in the policy; the noise of a sum grows in proportion to its clamp.
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
		wider := 1.0
		switch lower := m.Lower.Float(); {
		case upper > m.Upper.Float():
			wider = max(-lower, upper) / max(-lower, m.Upper.Float())
		case upper > lower:
			q.Clamp = map[string][2]wire.Decimal{m.Name: {m.Lower, wire.Decimal(plain(upper))}}
		}
		if most := int64(suggested["max_partitions"]); most > 0 && most < now.Privacy.MaxPartitions {
			q.MaxPartitions = most
		}
		then, err := server.Plan(ctx, q)
		if err != nil {
			return nil, err
		}
		list = append(list, difference{m.Name, now.Expected[m.Name].Within, wider * then.Expected[m.Name].Within})
	}
	return list, nil
}

// roundedUp gives two digits of a bound, away from what it should cover, in whole units.
func roundedUp(v, unit float64, lowest bool) float64 {
	if lowest {
		return -roundedUp(-v, unit, false)
	}
	if v == 0 {
		return 0
	}
	digit := max(unit, math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-1))
	up := math.Ceil(v/digit-1e-9) * digit // a quantile may miss a round number by what floating point loses
	return math.Round(up*1e9) / 1e9       // measures have at most nine decimals
}

func plain(v float64) string { return strings.TrimSuffix(strconv.FormatFloat(v, 'f', -1, 64), ".0") }
