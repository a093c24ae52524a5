package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Units is a body that names customers.
type Units struct {
	Body   io.Reader
	Length int64  // of Body in bytes; -1: unknown, and a digest is sent after it
	Format string // lines, csv or ndjson
	Gzip   bool   // Body is compressed with gzip
	// IdempotencyKey makes calls with it that name the same customers one erasure, while that waits; empty: none.
	IdempotencyKey string
}

// Erase takes the customers that a body names out of a dataset: with the day's run, or with one that begins now.
func (c *Client) Erase(ctx context.Context, dataset string, u Units, now bool) (wire.Erasure, error) {
	var out wire.Erasure
	k := erasures(http.MethodPost, dataset, runNow(now))
	k.header, k.length, k.body = withIdempotencyKey(http.Header{}, u.IdempotencyKey), u.Length, u.Body
	switch u.Format {
	case "lines":
		k.contentType = "text/plain; charset=utf-8"
	case "csv":
		k.contentType = "text/csv"
	case "ndjson":
		k.contentType = "application/x-ndjson"
	default:
		return out, errors.New("customers can be named as lines, csv or ndjson")
	}
	if u.Gzip {
		k.header.Set("Content-Encoding", "gzip")
	}
	resp, err := c.send(ctx, k)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := decode(resp.Body, &out); err != nil {
		return out, fmt.Errorf("reading the answer: %w", err)
	}
	return out, nil
}

// EraseOne takes one customer out of a dataset, likewise.
func (c *Client) EraseOne(ctx context.Context, dataset, unit string, now bool, idempotencyKey string) (wire.Erasure, error) {
	var out wire.Erasure
	k := erasures(http.MethodPost, dataset, runNow(now))
	k.header = withIdempotencyKey(http.Header{}, idempotencyKey)
	err := c.json(ctx, k, wire.NewErasure{Unit: unit}, &out)
	return out, err
}

// Erasures lists the erasures of a dataset, newest first.
func (c *Client) Erasures(ctx context.Context, dataset string, p Page) (wire.ErasureList, error) {
	var out wire.ErasureList
	err := c.json(ctx, erasures(http.MethodGet, dataset, p.values()), nil, &out)
	return out, err
}

// RunErasures begins to take out of the files whatever waits to be erased, of all datasets.
func (c *Client) RunErasures(ctx context.Context) error {
	return c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "erasure-runs"}}, nil, nil)
}

func erasures(method, dataset string, query url.Values) call {
	return call{method: method, path: []string{"v1", "datasets", dataset, "erasures"}, query: query}
}

func runNow(now bool) url.Values {
	if !now {
		return nil
	}
	return url.Values{"now": {"true"}}
}
