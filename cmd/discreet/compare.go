package main

import (
	"context"
	"strings"

	"github.com/discreet-analytics/discreet/api/wire"
)

// releaseCompare compares figures that the caller holds.
type releaseCompare struct {
	From string `arg:"" help:"Id of the release to compare with (rel_…)."`
	To   string `arg:"" optional:"" help:"Id of the release that is compared; the same when absent."`

	Metric     string            `help:"Compare this metric; all that both releases have when absent." placeholder:"NAME"`
	Group      map[string]string `help:"Compare this group, a label for each part of the key: country=DE,time.month=2026-01. All groups of the same key when absent; a comma within a label is written \\,." mapsep:"," placeholder:"KEY=LABEL"`
	ToMetric   string            `help:"The metric of what is compared, where it is another." placeholder:"NAME"`
	ToGroup    map[string]string `help:"The group of what is compared, where it is another." mapsep:"," placeholder:"KEY=LABEL"`
	Ratio      bool              `help:"Divide instead of subtracting."`
	Confidence string            `help:"Of each interval; 0.95 when absent." placeholder:"N"`

	remote
	output
}

// Run compares.
func (c *releaseCompare) Run(ctx context.Context, t terminal) error {
	comparison := wire.Comparison{
		From: wire.Cell{Release: c.From, Key: c.Group, Metric: c.Metric},
		To:   wire.Cell{Release: c.To, Key: c.ToGroup, Metric: c.ToMetric},
	}
	if c.To == "" {
		comparison.To.Release = c.From
	}
	if c.ToGroup == nil {
		comparison.To.Key = c.Group
	}
	if c.ToMetric == "" {
		comparison.To.Metric = c.Metric
	}
	if c.Ratio {
		comparison.As = "ratio"
	}
	var err error
	if comparison.Confidence, err = decimal("--confidence", c.Confidence); err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	compared, err := server.Compare(ctx, comparison)
	if err != nil {
		return err
	}
	return c.print(t.stdout, comparedView(compared))
}

// comparedView shows both figures, the change with its interval, and the verdict.
func comparedView(c wire.Compared) view {
	v := view{body: c, columns: []string{"group", "metric", "from", "to", c.As, "low", "high", "verdict"}, empty: "No group is in both."}
	for _, cell := range c.Cells {
		from, _ := figures(cell.From)
		to, _ := figures(cell.To)
		row := []any{groupText(cell.FromKey, cell.ToKey), cell.FromMetric, from, to}
		if cell.ToMetric != cell.FromMetric {
			row[1] = cell.FromMetric + ", " + cell.ToMetric
		}
		if cell.Change.Low == nil || cell.Change.High == nil {
			row = append(row, approximate{cell.Change.Value, cell.Change.Value}, nil, nil, cell.Verdict)
		} else {
			half := (*cell.Change.High - *cell.Change.Low) / 2
			row = append(row, approximate{cell.Change.Value, half}, approximate{*cell.Change.Low, half}, approximate{*cell.Change.High, half}, cell.Verdict)
		}
		v.rows = append(v.rows, row)
	}
	v.lines = append(v.lines, "interval    holds with "+percent(c.Confidence.Float())+" %, each by itself; up and down are where all of it says so")
	if c.Missing > 0 {
		v.lines = append(v.lines, "left out    groups that only one of the two has")
	}
	for _, note := range c.Notes {
		v.lines = append(v.lines, "note        "+note)
	}
	return v
}

// groupText names a group, or two that are compared.
func groupText(from, to map[string]string) string {
	text := func(key map[string]string) string {
		var parts []string
		for name, label := range sorted(key) {
			parts = append(parts, name+"="+label)
		}
		return strings.Join(parts, " ")
	}
	if a, b := text(from), text(to); a != b {
		return a + " -> " + b
	}
	return text(from)
}
