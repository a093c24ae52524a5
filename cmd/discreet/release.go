package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/client"
	"github.com/discreet-analytics/discreet/api/wire"
)

// releaseGroup reads answers again.
type releaseGroup struct {
	List    releaseList    `cmd:"" help:"List the answers that you hold, newest first."`
	Show    releaseShow    `cmd:"" help:"Show an answer that you hold."`
	Compare releaseCompare `cmd:"" help:"Say whether figures of answers that you hold differ, beyond noise. Free."`
}

type releaseList struct {
	Dataset string `arg:"" optional:"" help:"Of this dataset only."`
	Limit   int    `help:"At most so many." default:"50"`

	remote
	output
}

// Run lists.
func (c *releaseList) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	list, err := server.Releases(ctx, c.Dataset, client.Page{Limit: c.Limit})
	if err != nil {
		return err
	}
	v := view{body: list, columns: []string{"id", "dataset", "as_of", "metrics", "by", "epsilon", "blocks"}, empty: "You hold no release."}
	for _, r := range list.Items {
		v.rows = append(v.rows, []any{r.ID, r.Dataset, instant(r.AsOf), r.Metrics, r.By, exactly{r.Privacy.Epsilon}, span(r.Charge.Blocks)})
	}
	if list.Next != "" {
		v.lines = append(v.lines, "There are more: raise --limit.")
	}
	return c.print(t.stdout, v)
}

type releaseShow struct {
	ID     string `arg:"" help:"Id of the release (rel_…)."`
	Format string `help:"How to show it: table, json, csv, ndjson or arrow (an Arrow IPC stream)." enum:"table,json,csv,ndjson,arrow" default:"table"`

	toFile
	remote
}

// Run shows.
func (c *releaseShow) Run(ctx context.Context, t terminal) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return c.toFile.write(t.stdout, c.Format == "arrow", func(w io.Writer) error {
		if c.Format != "table" && c.Format != "json" {
			return server.WriteRelease(ctx, w, c.ID, c.Format)
		}
		release, err := server.Release(ctx, c.ID)
		if err != nil {
			return err
		}
		return output{Format: c.Format}.print(w, releaseView(release))
	})
}

// releaseView shows an answer: every figure with its interval, then what it cost and what is left.
func releaseView(r wire.Release) view {
	v := view{body: r, columns: append([]string{}, r.By...), empty: "No group is large enough to be shown."}
	combined := make(map[string]bool)
	for _, metric := range r.Metrics {
		v.columns = append(v.columns, metric, "")
		if combined[metric] = len(r.Groups) > 0 && r.Groups[0].Values[metric].Combined != nil; combined[metric] {
			v.columns = append(v.columns, "combined", "")
		}
	}
	for _, g := range r.Groups {
		var row []any
		for _, key := range r.By {
			row = append(row, g.Key[key])
		}
		for _, metric := range r.Metrics {
			value, around := figures(g.Values[metric])
			row = append(row, value, around)
			if c := g.Values[metric].Combined; combined[metric] && c != nil {
				value, around := figures(wire.Value{Value: c.Value, Low: c.Low, High: c.High})
				row = append(row, value, around)
			}
		}
		v.rows = append(v.rows, row)
	}

	for metric, total := range sorted(r.Totals) {
		value, around := figures(total)
		v.lines = append(v.lines, fmt.Sprintf("total       %s %v %v", metric, value, around))
	}
	v.lines = append(v.lines, priceLine("price", r.Charge))
	if l := r.Charge.Left; l != nil {
		if n := l.SimilarQueries; n != nil && r.Charge.Epsilon.Float() > 0 {
			v.lines = append(v.lines, fmt.Sprintf("spent       %s %% of what was left; about %d more like this", percent(1/float64(*n+1)), *n))
		}
		v.lines = append(v.lines, "left        "+leftText(wire.Left{Account: l.Account, Epsilon: l.Epsilon, Share: l.Share}, ""))
	}
	v.lines = append(v.lines, protectionLine(r.Privacy, r.Confidence, r.GroupsMayBeHidden))
	release := "release     " + r.ID + ", drawn " + instant(r.AsOf)
	if len(r.DerivedFrom) > 0 {
		release = "derived     from " + strings.Join(r.DerivedFrom, ", ") + ", drawn " + instant(r.AsOf) + ": --fresh pays for a draw of its own"
	} else if r.Reused != nil && *r.Reused {
		release += ", answered before"
	}
	if r.Stale != nil && *r.Stale {
		release += ", rows were loaded since: --fresh pays for a new draw"
	}
	v.lines = append(v.lines, release)
	for _, note := range r.Notes {
		v.lines = append(v.lines, "note        "+note)
	}
	return v
}

// figuresView has the columns that the server writes of a release as CSV.
func figuresView(r wire.Release) view {
	v := view{columns: append([]string{}, r.By...)}
	for _, m := range r.Metrics {
		v.columns = append(v.columns, m, m+"_low", m+"_high", m+"_sd")
	}
	for _, g := range r.Groups {
		var row []any
		for _, key := range r.By {
			row = append(row, g.Key[key])
		}
		for _, m := range r.Metrics {
			f := g.Values[m]
			for _, number := range []float64{f.Value, f.Low, f.High, f.SD} {
				row = append(row, strconv.FormatFloat(number, 'f', -1, 64))
			}
		}
		v.rows = append(v.rows, row)
	}
	return v
}

// figures writes a value and its interval with the digits that the interval deserves: two of its half-width.
func figures(v wire.Value) (value approximate, around interval) {
	down, up := v.Value-v.Low, v.High-v.Value
	half := max(down, up)
	value = approximate{v.Value, half}
	if math.Abs(up-down) <= 1e-6*max(half, 1) {
		return value, interval("± " + rounded(half, half))
	}
	return value, interval(rounded(v.Low, half) + " .. " + rounded(v.High, half))
}

// percent writes a share with two digits, and 100 where it is all.
func percent(share float64) string { return rounded(100*share, min(100*share, 99)) }

// rounded writes x with as many digits as show two of scale: 44.80 where scale is 0.31, 470000 where it is 49997.
func rounded(x, scale float64) string {
	scale = math.Abs(scale)
	decimals := 0
	if scale > 0 && !math.IsInf(scale, 1) {
		decimals = min(1-int(math.Floor(math.Log10(scale))), 12)
	}
	if decimals < 0 {
		unit := math.Pow10(-decimals)
		x, decimals = math.Round(x/unit)*unit, 0
	}
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	if strings.Trim(text, "-0.") == "" {
		text = "0"
	}
	return text
}
