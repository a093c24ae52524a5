package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
)

// call writes an upload's parameters.
func (up Upload) call(dataset string) (call, error) {
	k := call{method: http.MethodPost, path: []string{"v1", "datasets", dataset, "rows"}, query: url.Values{},
		header: withIdempotencyKey(http.Header{}, up.IdempotencyKey), length: up.Length, body: up.Body}
	switch up.Format {
	case "csv":
		k.contentType = "text/csv"
	case "ndjson":
		k.contentType = "application/x-ndjson"
	case "parquet":
		k.contentType = "application/vnd.apache.parquet"
	default:
		return call{}, errors.New("rows can be sent as csv, ndjson or parquet")
	}
	if up.Gzip {
		k.header.Set("Content-Encoding", "gzip")
	}
	for name, value := range map[string]string{"from": up.From, "to": up.To, "name": up.Name} {
		if value != "" {
			k.query.Set(name, value)
		}
	}
	if up.DryRun {
		k.query.Set("dry_run", "true")
	}
	return k, nil
}

// send sends a body. Where its length is not known, the digest of what was sent follows as a trailer
// (RFC 9530), because a chunked body that was cut can look complete.
func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	if k.length < 0 {
		k.trailer = http.Header{"Content-Digest": nil}
		k.body = &digester{r: k.body, hash: sha256.New(), trailer: k.trailer}
	}
	return c.do(ctx, k)
}

// digester sets the trailer when its reader has ended.
type digester struct {
	r       io.Reader
	hash    hash.Hash
	trailer http.Header
}

func (d *digester) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.hash.Write(p[:n])
	if errors.Is(err, io.EOF) {
		d.trailer.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(d.hash.Sum(nil))+":")
	}
	return n, err
}
