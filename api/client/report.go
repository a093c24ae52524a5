package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/api/wire"
)

// MakeReport charges a report and has it made in the background, or schedules it. With an idempotency key (empty:
// none) the same call made again is charged once.
func (c *Client) MakeReport(ctx context.Context, spec wire.ReportSpec, idempotencyKey string) (wire.Report, error) {
	var out wire.Report
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "reports"}, header: withIdempotencyKey(http.Header{}, idempotencyKey)}, spec, &out)
	return out, err
}

// PlanReport prices a report, free of charge.
func (c *Client) PlanReport(ctx context.Context, spec wire.ReportSpec) (wire.ReportPlan, error) {
	var out wire.ReportPlan
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "report-plans"}}, spec, &out)
	return out, err
}

// Reports lists the caller's reports, newest first.
func (c *Client) Reports(ctx context.Context, p Page) (wire.ReportList, error) {
	var out wire.ReportList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "reports"}, query: p.values()}, nil, &out)
	return out, err
}

// Report tells how a report stands.
func (c *Client) Report(ctx context.Context, id string) (wire.Report, error) {
	var out wire.Report
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "reports", id}}, nil, &out)
	return out, err
}

// CancelReport ends a report: questions without an answer are not asked any more. What was charged stands.
func (c *Client) CancelReport(ctx context.Context, id string) (wire.Report, error) {
	var out wire.Report
	err := c.json(ctx, call{method: http.MethodDelete, path: []string{"v1", "reports", id}}, nil, &out)
	return out, err
}

// WriteReport writes the figures of a report in a format: csv, ndjson, arrow or html.
func (c *Client) WriteReport(ctx context.Context, w io.Writer, id, format string) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "reports", id},
		query: url.Values{"format": {format}}, header: http.Header{"Accept": {"*/*"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	return nil
}

// WatchReport calls each with how a report stands, now and whenever it changes, until it has ended or each fails. It
// connects again where a stream of events ends before.
func (c *Client) WatchReport(ctx context.Context, id string, each func(wire.Report) error) error {
	for {
		ended, err := c.watch(ctx, id, each)
		if err != nil || ended {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch reads one stream of events.
func (c *Client) watch(ctx context.Context, id string, each func(wire.Report) error) (ended bool, err error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "reports", id, "events"}, header: http.Header{"Accept": {"text/event-stream"}}})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewReader(io.LimitReader(resp.Body, maxAnswer)); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			return false, nil // cut or ended
		}
		data, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "data: ")
		if !ok {
			continue
		}
		var r wire.Report
		if err := json.Unmarshal([]byte(data), &r); err != nil {
			return false, fmt.Errorf("reading an event: %w", err)
		}
		if err := each(r); err != nil {
			return false, err
		}
		if r.State == "done" || r.State == "failed" || r.State == "cancelled" {
			return true, nil
		}
	}
}
