package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Query answers a question. With an idempotency key (empty: none) the same call made again is charged once.
func (c *Client) Query(ctx context.Context, q wire.Query, idempotencyKey string) (wire.Release, error) {
	var out wire.Release
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "queries"}, header: withIdempotencyKey(http.Header{}, idempotencyKey)}, q, &out)
	return out, err
}

// Plan prices a question, free of charge.
func (c *Client) Plan(ctx context.Context, q wire.Query) (wire.Plan, error) {
	var out wire.Plan
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "plans"}}, q, &out)
	return out, err
}

// Compare says how figures differ of releases that the caller holds, free of charge.
func (c *Client) Compare(ctx context.Context, comparison wire.Comparison) (wire.Compared, error) {
	var out wire.Compared
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "compare"}}, comparison, &out)
	return out, err
}

// Releases lists the releases that the caller holds, newest first, of one dataset or (empty) of all.
func (c *Client) Releases(ctx context.Context, dataset string, p Page) (wire.ReleaseList, error) {
	var out wire.ReleaseList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "releases"}, query: withDataset(p.values(), dataset)}, nil, &out)
	return out, err
}

// Release reads a release that the caller holds.
func (c *Client) Release(ctx context.Context, id string) (wire.Release, error) {
	var out wire.Release
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "releases", id}}, nil, &out)
	return out, err
}

// WriteRelease writes a release in a format: json, csv, ndjson or arrow.
func (c *Client) WriteRelease(ctx context.Context, w io.Writer, id, format string) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "releases", id},
		query: url.Values{"format": {format}}, header: http.Header{"Accept": {"*/*"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("reading the release: %w", err)
	}
	return nil
}

// Me tells who the caller is.
func (c *Client) Me(ctx context.Context) (wire.Me, error) {
	var out wire.Me
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "me"}}, nil, &out)
	return out, err
}

// Budget tells what the caller may spend and has spent, on one dataset or (empty) on all.
func (c *Client) Budget(ctx context.Context, dataset string, p Page) (wire.Budget, error) {
	var out wire.Budget
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "budget"}, query: withDataset(p.values(), dataset)}, nil, &out)
	return out, err
}

// Ready tells whether the server can answer queries; a Problem with code unavailable when it cannot yet.
func (c *Client) Ready(ctx context.Context) error {
	return c.json(ctx, call{method: http.MethodGet, path: []string{"readyz"}}, nil, nil)
}

func withDataset(v url.Values, dataset string) url.Values {
	if dataset != "" {
		v.Set("dataset", dataset)
	}
	return v
}
