package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the pages
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/gofiber/fiber/v2"
)

//go:embed pages/docs.html
var docsPage string

//go:embed pages/docs.js
var docsScript string

//go:embed pages/style.css
var pageStyle string

// examples are those of the OpenAPI document, by schema.
//
//go:embed pages/examples.json
var examples []byte

//go:embed pages/start.html
var startPage string

type statusOutput struct {
	Body wire.Status
}

// registerPages adds what is open to all, and closes the OpenAPI document: operations that are registered
// later are not in it.
func (v *Server) registerPages() error {
	register(v, huma.Operation{
		OperationID: "livez", Method: http.MethodGet, Path: "/livez", Tags: []string{"Health"},
		Summary: "Does the server run", Description: "Answers as long as the process does.",
	}, func(context.Context, *struct{}) (*statusOutput, error) {
		return &statusOutput{wire.Status{Status: "ok"}}, nil
	})
	register(v, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: []string{"Health"},
		Summary: "Can the server answer queries", Description: "503 while it cannot.",
	}, v.readyz)

	if err := v.exemplify(); err != nil {
		return err
	}
	v.openapi = sync.OnceValue(v.document)
	v.page("/openapi.json", "application/openapi+json", "", func() string { return string(v.openapi()) })
	docs := strings.NewReplacer("/*STYLE*/", pageStyle, "/*SCRIPT*/", docsScript, "<!--PROBLEMS-->", problemList()).Replace(docsPage)
	v.page("/docs", "text/html; charset=utf-8", pagePolicy(pageStyle, docsScript), func() string { return docs })
	start := strings.NewReplacer("/*STYLE*/", pageStyle).Replace(startPage)
	v.page("/", "text/html; charset=utf-8", pagePolicy(pageStyle, ""), func() string { return start })
	return nil
}

// page serves a text that never changes while the server runs.
func (v *Server) page(path, contentType, policy string, text func() string) {
	tag := sync.OnceValue(func() string {
		sum := sha256.Sum256([]byte(text()))
		return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	})
	heads{v.app}.Add(http.MethodGet, path, func(c *fiber.Ctx) error {
		if r, ok := c.Context().UserValue(requestKey{}).(*request); ok {
			r.route = path
		}
		c.Set("ETag", tag())
		c.Set("Cache-Control", "no-cache")
		if policy != "" {
			c.Set("Content-Security-Policy", policy)
		}
		if matches(c.Get("If-None-Match"), tag()) {
			return c.SendStatus(http.StatusNotModified)
		}
		c.Set("Content-Type", contentType)
		return c.SendString(text())
	})
}

// pagePolicy allows a page exactly its own style and script, and calls to this server.
func pagePolicy(style, script string) string {
	policy := "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src " + hashSource(style)
	if script != "" {
		policy += "; connect-src 'self'; script-src " + hashSource(script)
	}
	return policy
}

func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// problemList is where the types of problem documents point.
func problemList() string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, k := range kinds() {
		if name := k.typeName(); !seen[name] {
			seen[name] = true
			fmt.Fprintf(&b, "<dt id=\"%s\"><code>%s</code> %d</dt><dd>%s.</dd>\n", name, name, k.status, k.title)
		}
	}
	return b.String()
}

// exemplify puts an example into every body's schema, and the last words into the document.
func (v *Server) exemplify() error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(examples, &all); err != nil {
		return fmt.Errorf("reading the examples: %w", err)
	}
	api := v.huma.OpenAPI()
	for name, example := range all {
		s, ok := api.Components.Schemas.Map()[name]
		if !ok {
			return fmt.Errorf("there is an example of %s, but no such schema", name)
		}
		s.Examples = []any{example}
	}
	for _, s := range api.Components.Schemas.Map() {
		wordMaps(s)
	}
	for _, path := range api.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete, path.Patch} {
			// huma promises 422 for what does not fit the schema; here that is 400.
			if op == nil {
				continue
			}
			if op.Metadata[invalidCode] != dp.CodeInvalidQuery {
				delete(op.Responses, "422")
			}
			tellHeaders(op.Responses)
		}
	}
	return nil
}

// document is the OpenAPI document. It is made of nothing but this program, so that it is always the same or,
// where a change of the program broke it, fails its test.
func (v *Server) document() []byte {
	compact, err := json.Marshal(v.huma.OpenAPI())
	if err != nil {
		panic(fmt.Errorf("writing the OpenAPI document: %w", err))
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		panic(fmt.Errorf("indenting the OpenAPI document: %w", err))
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// tellHeaders documents the headers of responses that no output type describes.
func tellHeaders(responses map[string]*huma.Response) {
	for status, header := range map[string]struct{ name, description string }{
		"401": {"WWW-Authenticate", "Bearer"},
		"503": {"Retry-After", "Seconds after which to try again"},
	} {
		if r := responses[status]; r != nil {
			r.Headers = map[string]*huma.Param{header.name: {Description: header.description, Schema: &huma.Schema{Type: huma.TypeString}}}
		}
	}
	if made, changed := responses["201"], responses["200"]; made != nil && changed != nil {
		made.Headers = changed.Headers
	}
}

// wordMaps has huma prepare its messages about the values of maps, which it forgets.
func wordMaps(s *huma.Schema) {
	if s == nil {
		return
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		values.PrecomputeMessages()
		wordMaps(values)
	}
	for _, p := range s.Properties {
		wordMaps(p)
	}
	wordMaps(s.Items)
}

func (v *Server) readyz(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	err := v.services.Ready(ctx)
	if err == nil {
		return &statusOutput{wire.Status{Status: "ok"}}, nil
	}
	var known *dp.Error
	if !errors.As(err, &known) {
		err = &dp.Error{Code: dp.CodeUnavailable, Message: "The server is not ready: try again in a moment.", Err: err}
	}
	return nil, err
}
