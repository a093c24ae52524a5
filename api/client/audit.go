package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/discreet-analytics/discreet/api/wire"
)

// AuditFilter admits entries of the log; zero values admit all.
type AuditFilter struct {
	Kind, Consumer, Dataset string
	From, To                string // dates or times
	OldestFirst             bool
}

// Audit lists entries of the log. With filters a page may be empty and have a next.
func (c *Client) Audit(ctx context.Context, f AuditFilter, p Page) (wire.AuditList, error) {
	v := p.values()
	for name, value := range map[string]string{"kind": f.Kind, "consumer": f.Consumer, "dataset": f.Dataset, "from": f.From, "to": f.To} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.OldestFirst {
		v.Set("order", "oldest")
	}
	var out wire.AuditList
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "audit"}, query: v}, nil, &out)
	return out, err
}

// AuditCheckpoint gives the log as it stands, signed. Whether the signature is the log's is for the caller to verify.
func (c *Client) AuditCheckpoint(ctx context.Context) (wire.AuditCheckpoint, error) {
	var out wire.AuditCheckpoint
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "audit", "checkpoint"}}, nil, &out)
	return out, err
}

// WriteAuditExport writes the archive of the whole log. One that was cut off on its way is an error; verify.Export says
// whether what was written is whole.
func (c *Client) WriteAuditExport(ctx context.Context, w io.Writer) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v1", "audit", "export"}, header: http.Header{"Accept": {"application/x-tar"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Whatever writes the end of an archive: two blocks of zeros.
	end := &lastBytes{most: 1024}
	if _, err := io.Copy(io.MultiWriter(w, end), resp.Body); err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	if len(end.kept) < end.most || len(bytes.Trim(end.kept, "\x00")) > 0 {
		return errors.New("reading the export: it was cut off on its way: fetch it again")
	}
	return nil
}

// lastBytes keeps the last bytes that are written.
type lastBytes struct {
	most int
	kept []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p[max(0, len(p)-l.most):]...)
	l.kept = append(l.kept[:0], l.kept[max(0, len(l.kept)-l.most):]...)
	return len(p), nil
}

// AuditProof gives the proof that an entry is in the log of a size; 0 for the whole. It is for the caller to check.
func (c *Client) AuditProof(ctx context.Context, index, size uint64) (wire.AuditProof, error) {
	v := url.Values{}
	if size > 0 {
		v.Set("size", strconv.FormatUint(size, 10))
	}
	var out wire.AuditProof
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "audit", "proof", strconv.FormatUint(index, 10)}, query: v}, nil, &out)
	return out, err
}

// AuditConsistency gives the proof that the log of one size continues in that of another; 0 for the whole. It is for
// the caller to check.
func (c *Client) AuditConsistency(ctx context.Context, from, to uint64) (wire.AuditConsistency, error) {
	v := url.Values{"from": {strconv.FormatUint(from, 10)}}
	if to > 0 {
		v.Set("to", strconv.FormatUint(to, 10))
	}
	var out wire.AuditConsistency
	err := c.json(ctx, call{method: http.MethodGet, path: []string{"v1", "audit", "consistency"}, query: v}, nil, &out)
	return out, err
}
