// Package client is the Go client of Discreet's HTTP API. It owns how a call is written and an error is read
// back; the bodies are package wire's. It holds no policy: it never retries, caches, or decides.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/api/wire"
)

// Client calls one server as one consumer. It is safe for concurrent use.
type Client struct {
	base *url.URL
	key  func() (string, error)
	http *http.Client
}

// New makes a client of the server at base (such as http://127.0.0.1:8080) with a key (dk_…) or a token, which may be
// empty for the calls that are open. A nil HTTP client means one without a timeout of its own: every method
// takes a context.
func New(base, key string, h *http.Client) (*Client, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return NewWith(base, func() (string, error) { return key, nil }, h)
}

// NewWith is New with a key or token that is asked for anew for each call, because something else renews it.
func NewWith(base string, key func() (string, error), h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the server's address must look like http://host:port")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""
	if h == nil {
		h = HTTP(nil)
	}
	return &Client{base: u, key: key, http: h}, nil
}

// HTTP is the HTTP client that is used where none is given, over a transport; nil: the default one. A key must not follow
// a redirect to another place.
func HTTP(over http.RoundTripper) *http.Client {
	return &http.Client{Transport: over, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func checkKey(key string) error {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the key holds characters that no key has")
	}
	return nil
}

// Page asks for one page of a list; the zero value for the first, of the server's usual length.
type Page struct {
	Cursor string
	Limit  int
}

// Change is why something changes and what the caller believes to be changing.
type Change struct {
	Reason         string // sent as Discreet-Reason
	IfMatch        uint64 // the version that the caller saw; 0: none
	IfNone         bool   // only create: the caller believes that there is nothing yet
	IdempotencyKey string
}

// Problem is a refusal or failure as the server described it.
type Problem struct {
	wire.Problem
	// Code is the kind of error, the last part of its type: budget-exhausted, not-found…
	Code string
	// RetryAfter is the header of that name in seconds; 0 when absent.
	RetryAfter int
}

// Error gives the detail and every location on one line.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Code)
	if p.Detail != "" {
		b.WriteString(": ")
		b.WriteString(p.Detail)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "; %s: %s", e.Location, e.Message)
	}
	return b.String()
}

// Waiting says that a change is not made yet, for it takes a second officer: what was called for waits as a proposal.
type Waiting struct{ Proposal wire.Proposal }

func (w *Waiting) Error() string {
	return "this waits for a second officer: proposal " + w.Proposal.ID
}

// maxAnswer bounds what is read into memory for one JSON body.
const maxAnswer = 1 << 30

// call is one request.
type call struct {
	method      string
	path        []string // segments, escaped here
	query       url.Values
	header      http.Header
	contentType string
	body        io.Reader
	length      int64       // of body; -1: unknown
	trailer     http.Header // sent after body, where its length is unknown
	change      bool        // may have to wait for a second officer
}

// do sends a call and gives the response if it succeeded; the caller closes its body.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	u := *c.base
	for _, s := range k.path {
		if s == "" || s == "." || s == ".." {
			return nil, errors.New("a name is empty or made of dots: give the name of a dataset, consumer, key or release")
		}
		u = *u.JoinPath(url.PathEscape(s))
	}
	u.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), k.body)
	if err != nil {
		return nil, fmt.Errorf("building the request: %w", err)
	}
	for name, values := range k.header {
		req.Header[name] = values
	}
	key, err := c.key()
	if err == nil {
		err = checkKey(key)
	}
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if k.contentType != "" {
		req.Header.Set("Content-Type", k.contentType)
		req.ContentLength = k.length
		if k.length == 0 {
			req.Body = http.NoBody // or net/http would take the length for unknown
		}
		req.Trailer = k.trailer
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the server: %w", err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp, nil
}

// json sends in (nil: no body) and decodes the answer into out (nil: none is expected).
func (c *Client) json(ctx context.Context, k call, in, out any) error {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		k.body, k.length, k.contentType = bytes.NewReader(body), int64(len(body)), "application/json"
	}
	return c.exchange(ctx, k, out)
}

// sendText sends a text body and decodes the answer into out.
func (c *Client) sendText(ctx context.Context, k call, text []byte, out any) error {
	k.body, k.length = bytes.NewReader(text), int64(len(text))
	return c.exchange(ctx, k, out)
}

func (c *Client) exchange(ctx context.Context, k call, out any) error {
	resp, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if k.change && resp.StatusCode == http.StatusAccepted {
		w := &Waiting{}
		if err := decode(resp.Body, &w.Proposal); err != nil {
			return fmt.Errorf("reading the proposal: %w", err)
		}
		return w
	}
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)) // so that the connection can be used again
		return nil
	}
	if err := decode(resp.Body, out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

func decode(r io.Reader, out any) error {
	return json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(out)
}

// problemOf reads an error response. What is not a problem document (a proxy's page) becomes one of its status.
func problemOf(resp *http.Response) *Problem {
	p := &Problem{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := json.Unmarshal(body, &p.Problem); err != nil || p.Type == "" {
		p.Problem = wire.Problem{Title: http.StatusText(resp.StatusCode), Detail: "the server answered " + resp.Status + " without a problem document"}
	}
	p.Status = resp.StatusCode
	p.Code = p.Type[strings.LastIndexAny(p.Type, "/#:")+1:]
	if p.Code == "" {
		p.Code = "http-" + strconv.Itoa(resp.StatusCode)
	}
	p.RetryAfter, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
	return p
}

func (p Page) values() url.Values {
	v := url.Values{}
	if p.Cursor != "" {
		v.Set("cursor", p.Cursor)
	}
	if p.Limit > 0 {
		v.Set("limit", strconv.Itoa(p.Limit))
	}
	return v
}

func (ch Change) header() http.Header {
	h := http.Header{}
	if ch.Reason != "" {
		h.Set("Discreet-Reason", ch.Reason)
	}
	if ch.IfMatch != 0 {
		h.Set("If-Match", `"`+strconv.FormatUint(ch.IfMatch, 10)+`"`)
	}
	if ch.IfNone {
		h.Set("If-None-Match", "*")
	}
	return withIdempotencyKey(h, ch.IdempotencyKey)
}

func withIdempotencyKey(h http.Header, key string) http.Header {
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	return h
}
