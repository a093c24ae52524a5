package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

// Kinds of error that only HTTP has.
const (
	codeMethodNotAllowed dp.Code = "method-not-allowed"
	codeRequestTimeout   dp.Code = "request-timeout"
	codeLengthRequired   dp.Code = "length-required"
	codeUnsupportedMedia dp.Code = "unsupported-media-type"
	codeHeaderTooLarge   dp.Code = "header-too-large"
)

// kind is what the kinds of error look like in HTTP. This is the one place that maps dp.Code to a status.
type kind struct {
	code   dp.Code
	status int
	title  string
}

func kinds() []kind {
	return []kind{
		{dp.CodeInvalidQuery, 400, "The query cannot be answered as it is written"},
		{dp.CodeInvalidPolicy, 400, "The policy cannot be applied as it is written"},
		{dp.CodeInvalidInput, 400, "The request cannot be understood"},
		{dp.CodeUnauthenticated, 401, "A key or token is needed"},
		{dp.CodeForbidden, 403, "Not allowed"},
		{dp.CodePurposeNotAllowed, 403, "The purpose is not allowed"},
		{dp.CodeBudgetExhausted, 403, "The budget does not suffice"},
		{dp.CodeNotFound, 404, "There is no such thing, or not for you"},
		{codeMethodNotAllowed, 405, "The method is not allowed here"},
		{dp.CodeNotAcceptable, 406, "None of the accepted formats is offered"},
		{codeRequestTimeout, 408, "The request took too long to arrive"},
		{dp.CodeConflict, 409, "The request conflicts with what is there"},
		{codeLengthRequired, 411, "The end of the body cannot be checked"},
		{dp.CodePreconditionFailed, 412, "It was changed meanwhile"},
		{dp.CodeTooLarge, 413, "Too large"},
		{codeUnsupportedMedia, 415, "The body's format is not supported"},
		{dp.CodeAccuracyUnattainable, 422, "The accuracy cannot be attained"},
		{dp.CodePreconditionRequired, 428, "Say which version is to be changed"},
		{dp.CodeRateLimited, 429, "Too many requests"},
		{codeHeaderTooLarge, 431, "The headers are too large"},
		{dp.CodeInternal, 500, "Something failed here"},
		{dp.CodeUnavailable, 503, "Not available at the moment"},
	}
}

// kindOf finds a code's kind; an unknown code is internal.
func kindOf(code dp.Code) kind {
	var internal kind
	for _, k := range kinds() {
		if k.code == code {
			return k
		}
		if k.code == dp.CodeInternal {
			internal = k
		}
	}
	return internal
}

// typeName is the last part of a problem's type. API.md promises conflict for stale and missing If-Match.
func (k kind) typeName() string {
	if k.code == dp.CodePreconditionFailed || k.code == dp.CodePreconditionRequired {
		return string(dp.CodeConflict)
	}
	return string(k.code)
}

// problem is an error response. It satisfies what huma asks of errors.
type problem struct {
	wire.Problem
	headers http.Header
}

// name is the last part of its type.
func (p *problem) name() dp.Code {
	_, name, _ := strings.Cut(p.Type, "#")
	return dp.Code(name)
}

func (p *problem) Error() string           { return p.Type + ": " + p.Detail }
func (p *problem) GetStatus() int          { return p.Status }
func (p *problem) GetHeaders() http.Header { return p.headers }

// ContentType is that of problem documents, whatever the response would have been.
func (p *problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// newProblem makes a problem document of a code with a sentence that says what to do.
func newProblem(code dp.Code, detail string) *problem {
	k := kindOf(code)
	p := &problem{Problem: wire.Problem{Type: "/docs#" + k.typeName(), Title: k.title, Status: k.status, Detail: detail}, headers: http.Header{}}
	if code == dp.CodeUnauthenticated {
		p.headers.Set("WWW-Authenticate", `Bearer realm="discreet"`)
	}
	return p
}

func (p *problem) retryAfter(d time.Duration) {
	seconds := int64((d + time.Second - 1) / time.Second)
	p.headers.Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
}

// at adds a place in the input.
func (p *problem) at(location, message string) {
	p.Errors = append(p.Errors, wire.ProblemDetail{Location: location, Message: message})
}

// codeOf is the code of a refusal; empty of any other error.
func codeOf(err error) dp.Code {
	var e *dp.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// problemOf tells a caller of an error: all of a dp.Error but its cause, and nothing of any other.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var e *dp.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			p = newProblem(dp.CodeUnavailable, "The answer took too long, or the server is stopping: ask again with the same Idempotency-Key.")
			p.retryAfter(time.Second)
			return p
		}
		return newProblem(dp.CodeInternal, "The server's log has more under this instance: report it to the operator.")
	}
	p = newProblem(e.Code, e.Message)
	for _, l := range e.Locations {
		path := l.Path
		if e.Code == dp.CodeInvalidQuery && path != "" {
			path = "body." + path
		}
		p.at(path, l.Message)
	}
	if e.Required != nil {
		p.Required = lossOf(*e.Required)
	}
	if e.Left != nil {
		p.Left = leftOf(*e.Left)
	}
	p.Alternatives = alternativesOf(e.Alternatives)
	for metric, within := range e.Best {
		if p.Best == nil {
			p.Best = make(map[string]wire.Decimal)
		}
		p.Best[metric] = wire.DecimalOf(within)
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		p.retryAfter(e.RetryAfter)
	}
	return p
}

// encode writes the document. Nothing in it can fail to be encoded but a number that is not one, which is
// left out then.
func (p *problem) encode() []byte {
	body, err := json.Marshal(p.Problem)
	if err != nil {
		bare := p.Problem
		bare.Required, bare.Left, bare.Alternatives, bare.Best = nil, nil, nil, nil
		body, _ = json.Marshal(bare)
	}
	return append(body, '\n')
}

// problemFromHuma words what huma found wrong with a request. Its details hold the input's values, and its
// messages may quote the input; both stay behind.
func problemFromHuma(ctx huma.Context, status int, errs []error) *problem {
	code := dp.CodeInvalidInput
	if ctx != nil && ctx.Operation() != nil {
		if c, ok := ctx.Operation().Metadata[invalidCode].(dp.Code); ok {
			code = c
		}
	}
	switch status {
	case http.StatusRequestEntityTooLarge:
		return newProblem(dp.CodeTooLarge, "The body is larger than this server takes: send less.")
	case http.StatusUnsupportedMediaType:
		return newProblem(codeUnsupportedMedia, "Send the body as application/json.")
	case http.StatusRequestTimeout:
		return newProblem(codeRequestTimeout, "The body took too long to arrive: send it again.")
	case http.StatusNotAcceptable:
		return newProblem(dp.CodeNotAcceptable, "This call answers with application/json: accept that.")
	case http.StatusInternalServerError:
		// The only one that huma raises itself: the body could not be read.
		return newProblem(dp.CodeInvalidInput, "The body ended before it was complete: send it again.")
	}
	p := newProblem(code, "The request has errors; each is listed with its place.")
	for _, err := range errs {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			continue
		}
		if strings.HasPrefix(d.Location, "path.") {
			// A name that cannot be is like one that is not.
			return newProblem(dp.CodeNotFound, "There is no such thing: check the names in the address.")
		}
		p.at(d.Location, d.Message)
	}
	if len(p.Errors) == 0 {
		p.Detail = "The body is empty: send JSON."
	}
	return p
}

// quoted finds what an error's text quotes, which may be data.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'[^']*'|` + "`[^`]*`")

// logText is an error's text without what it quotes.
func logText(err error) string { return quoted.ReplaceAllString(err.Error(), `"…"`) }

// panicText tells of a panic without its value, unless that is the runtime's own.
func panicText(v any) string { return fmt.Sprintf("panic with %T", v) }
