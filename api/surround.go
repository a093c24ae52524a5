package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// request is what is known of a request while it is answered; it is what the log tells of it.
type request struct {
	id       string
	route    string // as registered, never as called
	consumer string
	// operation, dataset and problem are what the audit log tells: what was called, on which dataset as the caller named
	// it, and the name of the problem that was answered.
	operation, dataset string
	problem            dp.Code
	body               *body  // as far as it was read; nil: not at all
	err                error  // why it failed inside, for the log only
	unlogged           bool   // counted with others instead of a line
	panicked           string // the type of the panic and where, for the log only
}

type requestKey struct{}

// requestOf finds the request of a context; outside of one it is an empty one.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// surround is the outermost handler. It gives a request its name, turns every panic into a problem document,
// refuses what is too much, keeps what was not read of a body from being taken for the next request, and logs
// one line.
func (v *Server) surround(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(c *fasthttp.RequestCtx) {
		start := time.Now()
		r := &request{id: newID()}
		c.SetUserValue(requestKey{}, r)
		defer v.requests.Add(-1)
		func() {
			defer func() {
				if value := recover(); value != nil {
					// The value may hold anything; its type and the stack do not.
					r.panicked = panicText(value) + "\n" + string(debug.Stack())
					c.Response.Reset()
					v.write(c, r, newProblem(dp.CodeInternal, "The server's log has more under this instance: report it to the operator."))
				}
			}()
			switch {
			case v.requests.Add(1) > int64(v.options.MaxRequests):
				p := newProblem(dp.CodeUnavailable, "The server is answering as many requests as it can: try again in a moment.")
				p.retryAfter(time.Second)
				v.write(c, r, p)
			case !knownMethod(c):
				v.write(c, r, newProblem(codeMethodNotAllowed, "There is no such method here."))
			default:
				next(c)
			}
			if code := c.Response.StatusCode(); code >= 400 && string(c.Response.Header.ContentType()) != problemType {
				// Nothing that answers writes such a response; if a library ever does, its text stays here.
				c.Response.ResetBody()
				v.write(c, r, v.problemOfStatus(code))
			}
		}()
		secure(&c.Response.Header)
		c.Response.Header.Set("X-Request-Id", r.id)
		v.noteProblem(r)
		if !finishBody(c, r) {
			linger(c)
		}
		v.log(c, r, time.Since(start))
	}
}

// secure sets the headers that every response has, unless the handler knew better.
func secure(h *fasthttp.ResponseHeader) {
	for _, header := range [][2]string{
		{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"},
		{"X-Content-Type-Options", "nosniff"},
		{"Referrer-Policy", "no-referrer"},
		{"Cache-Control", "no-store"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
	} {
		if len(h.Peek(header[0])) == 0 {
			h.Set(header[0], header[1])
		}
	}
}

// log writes the line of a request: never a path, a query, a header or a body.
func (v *Server) log(c *fasthttp.RequestCtx, r *request, took time.Duration) {
	level := slog.LevelInfo
	if r.unlogged {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("id", r.id), slog.String("method", methodText(c)), slog.String("route", r.route),
		slog.Int("status", c.Response.StatusCode()), slog.Duration("took", took), slog.String("consumer", r.consumer),
	}
	if r.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", logText(r.err)))
	}
	if r.panicked != "" {
		level = slog.LevelError
		attrs = append(attrs, slog.String("panic", r.panicked))
	}
	v.options.Log.LogAttrs(context.Background(), level, "request", attrs...)
}

// write answers with a problem document.
func (v *Server) write(c *fasthttp.RequestCtx, r *request, p *problem) {
	p.Instance, r.problem = instanceOf(r), p.name()
	for name, values := range p.headers {
		for _, value := range values {
			c.Response.Header.Set(name, value)
		}
	}
	c.Response.Header.SetContentType(problemType)
	c.Response.SetStatusCode(p.Status)
	c.Response.SetBody(p.encode())
}

func instanceOf(r *request) string {
	if r.id == "" {
		return ""
	}
	return "urn:discreet:request:" + r.id
}

// onFiberError words what Fiber and fasthttp refuse themselves; their own messages may quote the request.
func (v *Server) onFiberError(c *fiber.Ctx, err error) error {
	r, ok := c.Context().UserValue(requestKey{}).(*request)
	if !ok { // refused before it was a request: headers too large, not HTTP, too slow
		r = &request{id: newID()}
		defer func() {
			secure(&c.Context().Response.Header)
			c.Context().Response.Header.Set("X-Request-Id", r.id)
			v.log(c.Context(), r, 0)
		}()
	}
	status := fiber.StatusInternalServerError
	var e *fiber.Error
	if errors.As(err, &e) {
		status = e.Code
	} else {
		r.err = err
	}
	v.write(c.Context(), r, v.problemOfStatus(status))
	return nil
}

func (v *Server) problemOfStatus(status int) *problem {
	switch status {
	case fiber.StatusNotFound:
		return newProblem(dp.CodeNotFound, "There is no such address: /docs lists those that there are.")
	case fiber.StatusMethodNotAllowed:
		return newProblem(codeMethodNotAllowed, "This address does not take that method: /docs lists those that it takes.")
	case fiber.StatusRequestTimeout:
		return newProblem(codeRequestTimeout, "The request took too long to arrive: send it again.")
	case fiber.StatusRequestEntityTooLarge:
		return newProblem(dp.CodeTooLarge, "The body is larger than this server takes: send less.")
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return newProblem(codeHeaderTooLarge, "The headers are larger than this server takes: send fewer or shorter ones.")
	case fiber.StatusUnsupportedMediaType:
		return newProblem(codeUnsupportedMedia, "The body's format is not supported: /docs names those that are.")
	}
	if status >= 400 && status < 500 {
		return newProblem(dp.CodeInvalidInput, "The request is not well-formed HTTP.")
	}
	return newProblem(dp.CodeInternal, "The server's log has more under this instance: report it to the operator.")
}

func knownMethod(c *fasthttp.RequestCtx) bool {
	for _, m := range fiber.DefaultMethods {
		if string(c.Method()) == m {
			return true
		}
	}
	return false
}

// methodText is the method as it may be logged.
func methodText(c *fasthttp.RequestCtx) string {
	if !knownMethod(c) {
		return "-"
	}
	return string(c.Method())
}

// newID names a request.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
