package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/discreet-analytics/discreet/api/policyfile"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/gofiber/fiber/v2"
)

// Keys of an operation's metadata.
const (
	invalidCode = "invalid"  // dp.Code of a request that does not fit the schema
	produces    = "produces" // []string, media types of a success; application/json when absent
	uploads     = "uploads"  // true: the body streams, without a timeout of the whole
)

// humaOnce sets huma's process-wide hooks: the shape of errors, field names as they are written, and lists
// that are never null. huma offers no other place for them.
var humaOnce sync.Once

func setHumaHooks() {
	humaOnce.Do(func() {
		huma.NewError = func(status int, _ string, errs ...error) huma.StatusError { return problemFromHuma(nil, status, errs) }
		huma.NewErrorWithContext = func(ctx huma.Context, status int, _ string, errs ...error) huma.StatusError {
			p := problemFromHuma(ctx, status, errs)
			if ctx != nil {
				r := requestOf(ctx.Context())
				p.Instance, r.problem = instanceOf(r), p.name()
			}
			return p
		}
		huma.ValidateStrictCasing = true
		huma.DefaultArrayNullable = false
	})
}

func (v *Server) newHuma() huma.API {
	setHumaHooks()
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[wire.Decimal](), reflect.TypeFor[decimalSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[wire.Text](), reflect.TypeFor[textSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[json.Number](), reflect.TypeFor[decimalSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[policyfile.Document]()) // of wire.Dataset alone
	api := humafiber.NewV2WithGroup(v.app, heads{v.app}, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Discreet",
				Version:     v.options.Version,
				Description: "Questions about product engagement and card transactions, answered with differentially private noise, an interval and a price.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", BearerFormat: "dk_…", Description: "A consumer's key; or, where the server trusts an issuer, a token that this signed and whose subject an officer gave to a consumer"},
				},
			},
			Tags: []*huma.Tag{
				{Name: "Ask", Description: "Questions, prices and answers"},
				{Name: "Datasets", Description: "Policies, and the rows under them"},
				{Name: "Budgets", Description: "What may be spent, and what was"},
				{Name: "Proposals", Description: "Changes that take two officers"},
				{Name: "Consumers", Description: "Who may call, with which keys and allotments"},
				{Name: "Audit", Description: "What happened, as a log that cannot be rewritten unnoticed"},
				{Name: "Health", Description: "For whoever runs the server"},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}, // json: of any …+json
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		// No paths for documents and pages (they would load from elsewhere), and no CreateHooks (they would add
		// $schema to every body).
	})
	api.UseMiddleware(v.enter)
	return api
}

// heads registers HEAD with every GET, which the adapter does not.
type heads struct{ fiber.Router }

func (h heads) Add(method, path string, handlers ...fiber.Handler) fiber.Router {
	if method == http.MethodGet {
		h.Router.Add(http.MethodHead, path, handlers...)
	}
	return h.Router.Add(method, path, handlers...)
}

// enter is what every operation goes through before its parameters and body are read.
func (v *Server) enter(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	fast := humafiber.UnwrapV2(ctx).Context()
	r, _ := fast.UserValue(requestKey{}).(*request)
	r.route, r.operation, r.dataset = op.Path, op.OperationID, ctx.Param("dataset")
	if err := v.pass(ctx, r, next); err != nil {
		v.write(fast, r, v.refuse(r, err))
	}
}

// pass admits a request to its operation, or says why not.
func (v *Server) pass(ctx huma.Context, r *request, next func(huma.Context)) error {
	op := ctx.Operation()
	fiberCtx := humafiber.UnwrapV2(ctx)
	at, err := url.ParseRequestURI(string(fiberCtx.Request().RequestURI()))
	if err != nil {
		return &dp.Error{Code: dp.CodeInvalidInput, Message: "The address is not well-formed: check its percent-escapes."}
	}
	upload := op.Metadata[uploads] == true
	work, cancel := context.WithValue(v.base, requestKey{}, r), func() {}
	if !upload {
		work, cancel = context.WithTimeout(work, v.options.RequestTimeout)
	}
	defer cancel()

	who, err := v.admit(work, v.rules[op.OperationID], ctx.Header("Authorization"))
	r.consumer = who.Name
	v.noteSignIn(who, err)
	if err != nil {
		return v.notSignedIn(r, fiberCtx.Context().RemoteAddr(), err)
	}
	if !v.rules[op.OperationID].open {
		if err := v.rates.admit(who.Name); err != nil {
			return err
		}
	}
	if accepted(fiberCtx, mediaTypes(op)) == "" {
		return &dp.Error{Code: dp.CodeNotAcceptable, Message: "This call answers with " + strings.Join(mediaTypes(op), ", ") + ": accept one of these."}
	}
	if encoding := ctx.Header("Content-Encoding"); encoding != "" && !upload && !strings.EqualFold(encoding, "identity") {
		return newProblem(codeUnsupportedMedia, "Only uploads of rows may be compressed: send this body without Content-Encoding.")
	}
	c := &call{humaContext: huma.WithContext(ctx, context.WithValue(answer.WithCredential(work, who.key), callerKey{}, who)), request: r, fast: fiberCtx.Context(), url: *at}
	if upload {
		c.idle = v.options.UploadIdle
	}
	next(c)
	return nil
}

// notSignedIn gives what a call is refused with that was not admitted. A token that cannot be checked at the moment counts
// like one that is not in force: anybody can make up as many as they like that name a key of the issuer's to come.
func (v *Server) notSignedIn(r *request, from net.Addr, err error) error {
	var fault dp.KeyFault
	if code := codeOf(err); code != dp.CodeUnauthenticated && !(code == dp.CodeUnavailable && errors.As(err, &fault)) {
		return err
	}
	at, _ := netip.ParseAddrPort(from.String()) // what is no address of the network is one to count, too
	limited := v.strangers.refuse(at.Addr())
	if limited == nil {
		return err
	}
	r.unlogged = true
	if n := v.strangers.toSay(); n > 0 {
		v.options.Log.Warn("calls that were not signed in have no lines of their own: too many come from the same addresses", "calls", n)
	}
	return limited
}

// mediaTypes are those of an operation's success, best first.
func mediaTypes(op *huma.Operation) []string {
	if types, ok := op.Metadata[produces].([]string); ok {
		return types
	}
	return []string{"application/json"}
}

// accepted picks the media type that the Accept header prefers, or none.
func accepted(c *fiber.Ctx, offers []string) string {
	withCharset := make([]string, len(offers))
	for i, o := range offers {
		withCharset[i] = o + ";charset=utf-8" // which every one of them is, and may be asked for
	}
	chosen, _, _ := strings.Cut(c.Accepts(withCharset...), ";")
	return chosen
}

// refuse words an error for its caller, and keeps what is not for callers for the log.
func (v *Server) refuse(r *request, err error) *problem {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		r.err = err
	}
	p.Instance, r.problem = instanceOf(r), p.name()
	return p
}

// register adds an operation. Every operation has a rule, a name that the table of rules knows it by, and the
// errors that it may answer with.
func register[I, O any](v *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	rule, ok := v.rules[op.OperationID]
	if !ok {
		panic(fmt.Sprintf("operation %s has no rule: add it to the table of rules", op.OperationID))
	}
	if op.Metadata == nil {
		op.Metadata = map[string]any{}
	}
	op.Errors = append([]int{400, 406}, op.Errors...)
	if !rule.open {
		op.Security = []map[string][]string{{"key": {}}}
		op.Errors = append(op.Errors, 401, 403, 429)
		op.Description = strings.TrimSpace(op.Description + " " + whoMay(rule))
	}
	if op.Method != http.MethodGet {
		op.Errors = append(op.Errors, 413, 415)
	}
	op.Errors = append(op.Errors, 500, 503)
	op.MaxBodyBytes = int64(v.options.MaxBody)
	op.BodyReadTimeout = v.options.ReadTimeout
	takesBody := !rule.open && op.Method != http.MethodGet
	huma.Register(v.huma, op, func(ctx context.Context, in *I) (out *O, err error) {
		if takesBody { // whose arrival takes as long as its sender likes, who may be out meanwhile
			err = stillIn(ctx)
		}
		if err == nil {
			out, err = handle(ctx, in)
		}
		if answer, waits := v.waiting(ctx, err); waits {
			return nil, answer
		}
		if err != nil {
			return nil, v.refuse(requestOf(ctx), err)
		}
		if rule.views {
			v.noteView(requestOf(ctx))
		}
		return out, nil
	})
}

// schema is a reference to the schema of a type.
func (v *Server) schema(t reflect.Type) *huma.Schema {
	return v.huma.OpenAPI().Components.Schemas.Schema(t, true, "")
}

// textSchema is a reference to the schema of a body that is no JSON.
func (v *Server) textSchema(name, description string) *huma.Schema {
	v.huma.OpenAPI().Components.Schemas.Map()[name] = &huma.Schema{Type: huma.TypeString, Description: description}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

func whoMay(r rule) string {
	if len(r.roles) == 0 {
		return "For every role."
	}
	return "For " + roleText(r.roles) + "."
}

// Schemas of the scalars of package wire, which knows nothing of huma.
type decimalSchema struct{}

// Schema is that of a number.
func (decimalSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Description: "Exact: the decimal text counts, not its nearest float"}
}

type textSchema struct{}

// Schema is that of a scalar that is compared as text.
func (textSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}}}
}
