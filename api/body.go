package api

import (
	"errors"
	"io"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/valyala/fasthttp"
)

// body reads a request's body as it streams in, and knows how it ended. All reading goes through one body:
// past its end a chunked stream would go on into the next request.
type body struct {
	c     *fasthttp.RequestCtx
	r     io.Reader     // nil: the request has no body
	idle  time.Duration // how long nothing may come; 0: the server's timeout of the whole request
	want  int64         // Content-Length; -1: chunked
	got   int64
	ended bool
	err   error // other than the end
}

func newBody(c *fasthttp.RequestCtx, idle time.Duration) *body {
	b := &body{c: c, r: c.Request.BodyStream(), idle: idle, want: int64(c.Request.Header.ContentLength())}
	if b.r == nil {
		b.ended, b.want = true, 0
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.idle > 0 {
		if err := b.c.Conn().SetReadDeadline(time.Now().Add(b.idle)); err != nil {
			return 0, err
		}
	}
	n, err := b.r.Read(p)
	b.got += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		b.ended = true
	case err != nil:
		b.err = err
	}
	return n, err
}

// complete tells whether all that was announced has come. A connection that was cut ends its stream as
// cleanly as one that was not, so the end alone says nothing; a chunked body announces nothing.
func (b *body) complete() bool { return b.ended && (b.want < 0 || b.got == b.want) }

// humaContext lets call embed huma's context, which has a method of the name that the field would take.
type humaContext = huma.Context

// call is huma's context of one request, with what the adapter gets wrong put right.
type call struct {
	humaContext
	request *request
	fast    *fasthttp.RequestCtx
	url     url.URL
	idle    time.Duration
}

// Unwrap lets the adapter find its own context.
func (c *call) Unwrap() huma.Context { return c.humaContext }

// Param decodes a path parameter, which Fiber leaves as it was sent. One that cannot be decoded cannot be a
// name either, and fails as such.
func (c *call) Param(name string) string {
	raw := c.humaContext.Param(name)
	text, err := url.PathUnescape(raw)
	if err != nil {
		return raw
	}
	return text
}

// URL is the parsed address; the adapter's own panics where it does not parse.
func (c *call) URL() url.URL { return c.url }

// BodyReader is never nil, and reads through the request's one body.
func (c *call) BodyReader() io.Reader {
	if c.request.body == nil {
		c.request.body = newBody(c.fast, c.idle)
	}
	return c.request.body
}
