package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Datasets lists the datasets by name.
func (c *Client) Datasets(ctx context.Context, p Page) (wire.DatasetList, error) {
	var out wire.DatasetList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets"}, query: p.values()}, nil, &out)
	return out, err
}

// Dataset reads a dataset: its policy and what can be asked.
func (c *Client) Dataset(ctx context.Context, name string) (wire.Dataset, error) {
	var out wire.Dataset
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets", name}}, nil, &out)
	return out, err
}

// WritePolicy writes the policy of a dataset that is in force as a policy file (YAML), which ApplyPolicy takes.
func (c *Client) WritePolicy(ctx context.Context, w io.Writer, name string) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets", name}, header: http.Header{"Accept": {"application/yaml"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	return nil
}

// ApplyPolicy creates a dataset or changes its policy. The source is a policy file, YAML or JSON.
func (c *Client) ApplyPolicy(ctx context.Context, name string, source []byte, ch Change) (wire.Dataset, error) {
	var out wire.Dataset
	err := c.sendText(ctx, call{change: true, method: http.MethodPut, path: []string{"v1", "datasets", name}, header: ch.header(), contentType: "application/yaml"}, source, &out)
	return out, err
}

// Accounts lists the caps and allotments of a dataset that were charged, by block.
func (c *Client) Accounts(ctx context.Context, dataset string, p Page) (wire.AccountList, error) {
	var out wire.AccountList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets", dataset, "accounts"}, query: p.values()}, nil, &out)
	return out, err
}

// WorstCase reads what can be learned of one customer of a dataset at worst. Spending is told over so many days; 0: the usual.
func (c *Client) WorstCase(ctx context.Context, dataset string, days int) (wire.WorstCase, error) {
	var out wire.WorstCase
	query := url.Values{}
	if days > 0 {
		query.Set("days", strconv.Itoa(days))
	}
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets", dataset, "worst-case"}, query: query}, nil, &out)
	return out, err
}

// WhatIf reads the same under other budgets, and changes none.
func (c *Client) WhatIf(ctx context.Context, dataset string, w wire.WhatIf) (wire.WorstCase, error) {
	var out wire.WorstCase
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "datasets", dataset, "what-if"}}, w, &out)
	return out, err
}

// Ledger reads the state of the ledger.
func (c *Client) Ledger(ctx context.Context) (wire.Ledger, error) {
	var out wire.Ledger
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "ledger"}}, nil, &out)
	return out, err
}

// WriteOff counts as spent what may be missing from the ledger.
func (c *Client) WriteOff(ctx context.Context, n wire.NewWriteOff, ch Change) (wire.Ledger, error) {
	var out wire.Ledger
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "ledger", "write-off"}, header: ch.header()}, n, &out)
	return out, err
}

// Loads lists what was loaded into a dataset, newest first.
func (c *Client) Loads(ctx context.Context, dataset string, p Page) (wire.LoadList, error) {
	var out wire.LoadList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "datasets", dataset, "loads"}, query: p.values()}, nil, &out)
	return out, err
}

// Upload is a body of rows.
type Upload struct {
	Body     io.Reader
	Length   int64  // of Body in bytes; -1: unknown, and a digest is sent after it
	Format   string // csv, ndjson or parquet
	Gzip     bool   // Body is compressed with gzip
	From, To string // dates, both included: the whole blocks that the load covers; empty where there is one block, or in a dry run
	Name     string // names the load; the same content under the same name adds nothing; empty: a digest of the content does
	DryRun   bool   // report, commit nothing
	// IdempotencyKey names the load where Name is empty.
	IdempotencyKey string
}

// Load streams rows into a dataset.
func (c *Client) Load(ctx context.Context, dataset string, up Upload) (wire.LoadReport, error) {
	var out wire.LoadReport
	k, err := up.call(dataset)
	if err != nil {
		return out, err
	}
	resp, err := c.send(ctx, k)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := decode(resp.Body, &out); err != nil {
		return out, fmt.Errorf("reading the report: %w", err)
	}
	return out, nil
}
