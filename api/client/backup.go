package client

import (
	"context"
	"net/http"

	"github.com/discreet-analytics/discreet/api/wire"
)

// BackUp begins a backup in the server's directory of backups. The idempotency key may be empty.
func (c *Client) BackUp(ctx context.Context, idempotencyKey string) (wire.Backup, error) {
	var out wire.Backup
	err := c.json(ctx, call{method: http.MethodPost, path: []string{"v1", "backups"}, header: withIdempotencyKey(http.Header{}, idempotencyKey)}, nil, &out)
	return out, err
}

// Backups lists the backups, newest first.
func (c *Client) Backups(ctx context.Context, p Page) (wire.BackupList, error) {
	var out wire.BackupList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "backups"}, query: p.values()}, nil, &out)
	return out, err
}
