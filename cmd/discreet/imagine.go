package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"strings"

	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
	"github.com/discreet-analytics/discreet/dp/synth"
)

// datasetImagine writes rows that nobody has.
type datasetImagine struct {
	File string `arg:"" help:"Policy file (YAML or JSON); - for standard input."`

	imagining
	Out string `help:"Write to this file, once all of it is there, gzipped where its name ends in .gz; standard output when absent." aliases:"output" placeholder:"FILE"`
}

// imagining is how much to imagine.
type imagining struct {
	From         string  `help:"First date of the rows, included; where the policy has a time." placeholder:"DATE"`
	To           string  `help:"Last date of the rows, included." placeholder:"DATE"`
	Customers    int     `help:"How many customers; where the policy has no time and every row is a customer, how many rows." default:"2000" placeholder:"N"`
	RowsPerMonth float64 `help:"Mean number of rows of one customer in a month, without time in all; ${default} when absent." default:"6" placeholder:"N"`
	Seed         uint64  `help:"Another seed makes other rows; ${default} when absent." default:"1" placeholder:"N"`
}

// Run writes CSV. It calls no server.
func (c *datasetImagine) Run(t terminal) error {
	_, table, err := c.table(t, c.File)
	if err != nil {
		return err
	}
	return toFile{c.Out}.write(t.stdout, strings.HasSuffix(c.Out, ".gz"), func(w io.Writer) error {
		if !strings.HasSuffix(c.Out, ".gz") {
			return table.WriteCSV(w)
		}
		zipped := gzip.NewWriter(w)
		if err := table.WriteCSV(zipped); err != nil {
			return err
		}
		if err := zipped.Close(); err != nil {
			return fmt.Errorf("compressing the rows: %w", err)
		}
		return nil
	})
}

// table reads the policy and sizes the table.
func (c *imagining) table(t terminal, file string) (p dp.Policy, table synth.Table, err error) {
	source, err := readSmall(t, file, maxPolicy)
	if err != nil {
		return p, table, err
	}
	if p, err = policyfile.Parse(source, policyfile.DefaultLimits()); err != nil {
		return p, table, err
	}
	size := synth.Imagination{Seed: c.Seed, Customers: c.Customers, RowsPerMonth: c.RowsPerMonth}
	switch {
	case !(c.RowsPerMonth > 0):
		return p, table, usagef("--rows-per-month must be above 0, and at most %v", synth.MostRowsPerMonth)
	case p.Time == nil && (c.From != "" || c.To != ""):
		return p, table, usagef("the policy has no time: leave out --from and --to")
	case p.Time != nil && (c.From == "" || c.To == ""):
		return p, table, usagef("give --from and --to: the first and the last date of the rows, such as 2026-01-01 and 2026-03-31")
	case p.Time != nil:
		if size.First, err = rows.ParseDate(c.From); err != nil {
			return p, table, usagef("--from must be a date such as 2026-01-01")
		}
		last, err := rows.ParseDate(c.To)
		if err != nil {
			return p, table, usagef("--to must be a date such as 2026-03-31")
		}
		if size.Days = size.First.DaysUntil(last) + 1; size.Days < 1 || size.Days > synth.MostDays {
			return p, table, usagef("--to must be from --from on, and at most %d days are imagined", synth.MostDays)
		}
	}
	if table, err = synth.Imagine(p, size); err != nil {
		return p, table, usagef("%v", err)
	}
	return p, table, nil
}

// expected is how many rows are imagined, about.
func (c *imagining) expected(p dp.Policy) float64 {
	months := 1.0
	first, errFirst := rows.ParseDate(c.From)
	last, errLast := rows.ParseDate(c.To)
	if p.Time != nil && errFirst == nil && errLast == nil {
		months = float64(first.DaysUntil(last)+1) / 365.25 * 12
	}
	return float64(c.Customers) * c.RowsPerMonth * months
}
