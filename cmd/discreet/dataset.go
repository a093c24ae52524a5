package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// datasetGroup deals with policies.
type datasetGroup struct {
	Apply datasetApply `cmd:"" help:"Create a dataset from a policy file, or change its policy."`
	List  datasetList  `cmd:"" help:"List the datasets."`
	Show  datasetShow  `cmd:"" help:"Show what can be asked of a dataset, and under which policy."`
	Draft datasetDraft `cmd:"" help:"Propose a policy for a CSV file, from its header line alone."`

	Suggest  datasetSuggest  `cmd:"" help:"Propose clamps and bounds from the rows, privately: it spends a small budget."`
	Imagine  datasetImagine  `cmd:"" help:"Write rows that a policy could have, made up from the policy alone: to try things with, for nothing."`
	Rehearse datasetRehearse `cmd:"" help:"Show what bounds would cost, in noise and in what they cut off imagined rows: free, and reads no row."`
}

type datasetApply struct {
	File      string `arg:"" help:"Policy file (YAML or JSON); - for standard input."`
	IfVersion uint64 `help:"Refuse unless the policy in force has this version; without it, whatever is in force is replaced." placeholder:"N"`

	reason
	remote
	output
}

// Run applies.
func (c *datasetApply) Run(ctx context.Context, t terminal) error {
	source, err := readSmall(t, c.File, maxPolicy)
	if err != nil {
		return err
	}
	// The file is read here too: an error names its line before anything is sent.
	policy, err := policyfile.Parse(source, policyfile.DefaultLimits())
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	change := client.Change{Reason: c.Reason, IfMatch: c.IfVersion}
	if change.IfMatch == 0 {
		switch now, err := server.Dataset(ctx, policy.Name); {
		case err == nil:
			change.IfMatch = now.Version
		case codeOf(err) == dp.CodeNotFound:
			change.IfNone = true
		default:
			return err
		}
	}
	applied, err := server.ApplyPolicy(ctx, policy.Name, source, change)
	if err != nil {
		return c.waits(t, err)
	}
	v := datasetView(applied)
	if r := applied.Retention; r != nil && r.NextKeptFrom != "" {
		v.lines = append(v.lines, "retires next      every "+string(policy.Unit.Block)+" that ends before "+r.NextKeptFrom+", for good: with the day's run, or with discreet erase --now; until then a longer retain keeps them")
	}
	return c.print(t.stdout, v)
}

// maxPolicy bounds a policy file.
const maxPolicy = 1 << 20

type datasetList struct {
	remote
	output
}

// Run lists.
func (c *datasetList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := every(ctx, func(ctx context.Context, p client.Page) ([]wire.DatasetHead, string, error) {
		list, err := server.Datasets(ctx, p)
		return list.Items, list.Next, err
	})
	if err != nil {
		return err
	}
	v := view{body: wire.DatasetList{Items: all}, columns: []string{"name", "kind", "block", "version", "purposes", "metrics"}, empty: "There is no dataset: an officer makes one with discreet dataset apply."}
	for _, d := range all {
		v.rows = append(v.rows, []any{d.Name, d.Kind, d.Block, d.Version, d.Purposes, d.Metrics})
	}
	return c.print(t.stdout, v)
}

type datasetShow struct {
	Dataset string `arg:"" help:"Name of the dataset."`
	Policy  bool   `help:"Print the policy that is in force as a policy file instead, to change and apply."`

	remote
	output
}

// Run shows.
func (c *datasetShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.Policy {
		return server.WritePolicy(ctx, t.stdout, c.Dataset)
	}
	dataset, err := server.Dataset(ctx, c.Dataset)
	if err != nil {
		return err
	}
	return c.print(t.stdout, datasetView(dataset))
}

// datasetView lists what can be asked: metrics first, then keys with their values and measures with their clamps.
func datasetView(d wire.Dataset) view {
	v := view{body: d, columns: []string{"metric", "aggregate", "of", "lower", "upper"}}
	for _, m := range d.Metrics {
		v.rows = append(v.rows, []any{m.Name, m.Aggregate, metricOf(m) + ofWhat(m), exactly{m.Lower}, exactly{m.Upper}})
	}
	v.lines = append(v.lines, fmt.Sprintf("%s (%s), policy version %d", d.Name, d.Kind, d.Version))
	p, err := policyfile.Parse(d.Policy, policyfile.DefaultLimits())
	if err != nil {
		// A newer server may know more than this binary; the names are there all the same.
		v.lines = append(v.lines, fmt.Sprint("by and where: ", d.Keys))
		return v
	}
	described := map[string]bool{}
	for _, dimension := range p.Dimensions {
		described[dimension.Name] = true
		values := strings.Join(dimension.Values, ", ")
		if dimension.Private {
			values = "private: small groups are left out"
		}
		v.lines = append(v.lines, fmt.Sprintf("%-17s %s", dimension.Name, values))
	}
	for _, derived := range p.Derived {
		described[derived.Name] = true
		var labels []string
		for _, g := range derived.Groups {
			labels = append(labels, g.Label+" ("+strings.Join(g.Values, ", ")+")")
		}
		if derived.Other != "" {
			labels = append(labels, derived.Other)
		}
		v.lines = append(v.lines, fmt.Sprintf("%-17s of %s: %s", derived.Name, derived.Of, strings.Join(labels, ", ")))
	}
	for _, m := range p.Measures {
		clamp := rows.FormatDecimal(m.Lower, m.Scale) + " to " + rows.FormatDecimal(m.Upper, m.Scale)
		v.lines = append(v.lines, fmt.Sprintf("%-17s measure: a row counts as %s", m.Name, clamp))
	}
	others := slices.DeleteFunc(slices.Clone(d.Keys), func(key string) bool { return described[key] })
	if len(others) > 0 {
		v.lines = append(v.lines, "by time           "+strings.Join(others, " "))
	}
	v.lines = append(v.lines,
		fmt.Sprintf("purposes          %s; audiences %s", strings.Join(p.Purposes, ", "), strings.Trim(fmt.Sprint(p.Audiences), "[]")),
		"protects          "+protected(p.Unit.Column, string(p.Unit.Block)),
		fmt.Sprintf("bounds            one customer counts in at most %d groups of a block, with at most %d rows in each", p.Bounds.MaxPartitions, p.Bounds.MaxRows),
		"cap               "+budgetText(p.Cap)+" on each block, over all consumers",
		"default           "+budgetText(p.Default)+" for a question that names no price")
	if p.TwoPerson {
		v.lines = append(v.lines, "officers          a change that could let more be learned takes two")
	}
	if p.RetainMonths > 0 {
		v.lines = append(v.lines, fmt.Sprintf("retains           rows for %d months after the end of their %s", p.RetainMonths, p.Unit.Block))
	}
	if r := d.Retention; r != nil && r.KeptFrom != "" {
		gone := ""
		if r.Gone {
			gone = "; no file holds a row of it"
		}
		v.lines = append(v.lines, fmt.Sprintf("retired           what ends before %s, since %s%s", r.KeptFrom, r.RetiredAt.Format(time.DateOnly), gone))
	}
	return v
}

// metricOf says what a metric is read from, as --define writes it.
func metricOf(m wire.Metric) string {
	switch {
	case m.Rank != "":
		return m.Measure + ":" + string(m.Rank)
	case m.PerDay:
		return m.Numerator + "/" + m.Denominator + ", per day"
	case m.Numerator != "":
		return m.Numerator + "/" + m.Denominator
	case m.Of != "":
		return m.Of
	}
	return m.Measure
}

// ofWhat says whose numbers a metric reads and under which conditions of its own, as --define writes them.
func ofWhat(m wire.Metric) string {
	var b strings.Builder
	if m.Per != "" {
		b.WriteString("@" + m.Per)
		if len(m.Distinct) > 0 {
			b.WriteString(":" + strings.Join(m.Distinct, "+"))
		}
	}
	list := func(values []wire.Text) string {
		var texts []string
		for _, v := range values {
			texts = append(texts, string(v))
		}
		return strings.Join(texts, ",")
	}
	for _, c := range m.Where {
		if c.Eq != nil {
			b.WriteString("[" + c.Field + "=" + string(*c.Eq) + "]")
		}
		if c.In != nil {
			b.WriteString("[" + c.Field + "=" + list(c.In) + "]")
		}
		if c.NotIn != nil {
			b.WriteString("[" + c.Field + "!=" + list(c.NotIn) + "]")
		}
		if c.Gte != nil {
			b.WriteString("[" + c.Field + ">=" + string(*c.Gte) + "]")
		}
		if c.Lte != nil {
			b.WriteString("[" + c.Field + "<=" + string(*c.Lte) + "]")
		}
	}
	return b.String()
}

func budgetText(b dp.Budget) string {
	return lossText(wire.Decimal(b.Epsilon.String()), wire.Decimal(b.Delta.String()))
}

// readSmall reads a file, or standard input for -, up to a limit.
func readSmall(t terminal, path string, limit int64) ([]byte, error) {
	in := t.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("%v", fileError(err))
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the file: %w", fileError(err))
	}
	if int64(len(text)) > limit {
		return nil, usagef("the file is larger than %d bytes", limit)
	}
	return text, nil
}

// fileError leaves out the system call, which helps nobody.
func fileError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Path, path.Err)
	}
	return err
}
