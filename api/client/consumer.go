package client

import (
	"context"
	"net/http"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Consumers lists the consumers by name.
func (c *Client) Consumers(ctx context.Context, p Page) (wire.ConsumerList, error) {
	var out wire.ConsumerList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "consumers"}, query: p.values()}, nil, &out)
	return out, err
}

// Consumer reads a consumer.
func (c *Client) Consumer(ctx context.Context, name string) (wire.Consumer, error) {
	var out wire.Consumer
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "consumers", name}}, nil, &out)
	return out, err
}

// CreateConsumer adds a consumer.
func (c *Client) CreateConsumer(ctx context.Context, n wire.NewConsumer, ch Change) (wire.Consumer, error) {
	var out wire.Consumer
	err := c.json(ctx, call{change: true, method: http.MethodPost, path: []string{"v1", "consumers"}, header: ch.header()}, n, &out)
	return out, err
}

// PatchConsumer changes the fields of a consumer that are set.
func (c *Client) PatchConsumer(ctx context.Context, name string, patch wire.ConsumerPatch, ch Change) (wire.Consumer, error) {
	var out wire.Consumer
	err := c.json(ctx, call{change: true, method: http.MethodPatch, path: []string{"v1", "consumers", name}, header: ch.header()}, patch, &out)
	return out, err
}

// Keys lists the keys of a consumer, oldest first.
func (c *Client) Keys(ctx context.Context, consumer string, p Page) (wire.KeyList, error) {
	var out wire.KeyList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "consumers", consumer, "keys"}, query: p.values()}, nil, &out)
	return out, err
}

// IssueKey makes a key, whose text is returned this once. With a grace the consumer's other keys end after it.
func (c *Client) IssueKey(ctx context.Context, consumer string, n wire.NewKey, ch Change) (wire.IssuedKey, error) {
	var out wire.IssuedKey
	err := c.json(ctx, call{change: true, method: http.MethodPost, path: []string{"v1", "consumers", consumer, "keys"}, header: ch.header()}, n, &out)
	return out, err
}

// RevokeKey ends a key at once, and those that were made under it.
func (c *Client) RevokeKey(ctx context.Context, consumer, id string, ch Change) error {
	return c.json(ctx, call{method: http.MethodDelete, path: []string{"v1", "consumers", consumer, "keys", id}, header: ch.header()}, nil, nil)
}

// OwnKeys lists the caller's keys, oldest first.
func (c *Client) OwnKeys(ctx context.Context, p Page) (wire.KeyList, error) {
	var out wire.KeyList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "me", "keys"}, query: p.values()}, nil, &out)
	return out, err
}

// IssueOwnKey makes a key of the caller's under the one that signs the call in.
func (c *Client) IssueOwnKey(ctx context.Context, n wire.NewOwnKey) (wire.IssuedKey, error) {
	var out wire.IssuedKey
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "me", "keys"}}, n, &out)
	return out, err
}

// RevokeOwnKey ends a key of the caller's at once.
func (c *Client) RevokeOwnKey(ctx context.Context, id string) error {
	return c.json(ctx, call{method: http.MethodDelete, path: []string{"v1", "me", "keys", id}}, nil, nil)
}

// Allotments lists the allotments of a consumer by dataset.
func (c *Client) Allotments(ctx context.Context, consumer string, p Page) (wire.AllotmentList, error) {
	var out wire.AllotmentList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "consumers", consumer, "allotments"}, query: p.values()}, nil, &out)
	return out, err
}

// SetAllotment creates the allotment of a consumer on a dataset or replaces it.
func (c *Client) SetAllotment(ctx context.Context, consumer, dataset string, n wire.NewAllotment, ch Change) (wire.Allotment, error) {
	var out wire.Allotment
	err := c.json(ctx, call{change: true, method: http.MethodPut, path: []string{"v1", "consumers", consumer, "allotments", dataset}, header: ch.header()}, n, &out)
	return out, err
}
