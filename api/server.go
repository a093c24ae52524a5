package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
)

// Server answers HTTP.
type Server struct {
	app      *fiber.App
	huma     huma.API
	services Services
	options  Options
	rules    map[string]rule
	openapi  func() []byte // written when it is first asked for
	requests atomic.Int64  // under way
	// rereading holds the releases that were read lately.
	rereading *rereading
	rates     *rates
	seen      seen
	strangers *strangers
	uses      uses
	exports   chan struct{} // has room for those that may be under way

	mu       sync.Mutex // of the next three
	stopped  bool
	stopping chan struct{} // closed once it is
	listener net.Listener

	// base ends when the server has shut down; every request's context descends from it.
	base context.Context
	stop context.CancelFunc
}

// New wires a server. It fails where a service is missing.
func New(s Services, o Options) (*Server, error) {
	if s.Directory == nil || s.Asker == nil || s.Releases == nil || s.Reports == nil || s.Catalog == nil || s.Rows == nil ||
		s.Accounts == nil || s.Exposure == nil || s.Consumers == nil || s.Office == nil || s.Requests == nil || s.Proposals == nil || s.Ledger == nil || s.Backups == nil || s.Audit == nil || s.Ready == nil {
		return nil, errors.New("the API needs all of its services")
	}
	v := &Server{services: s, options: o.withDefaults(), rules: rules(), stopping: make(chan struct{}), exports: make(chan struct{}, mostExports)}
	v.rereading = newRereading(v.options.Rereading)
	v.rates = newRates(v.options.Rate, time.Now)
	v.strangers = newStrangers(v.options.FailedSignIns, time.Now)
	v.base, v.stop = context.WithCancel(context.Background())
	v.app = fiber.New(v.fiberConfig())
	// Fiber's own recovery would run inside of what it must protect (routing, its error handler), and requests
	// with an unknown method never reach its middleware: surround the whole of it.
	v.app.Server().Handler = v.surround(v.app.Server().Handler)

	v.app.Get("/v1/releases/:id", v.reread) // before the operation itself, which answers all else
	v.huma = v.newHuma()
	v.registerAsk()
	v.registerCompare()
	v.registerReleases()
	v.registerReports()
	v.registerDatasets()
	v.registerRows()
	v.registerErasures()
	v.registerBudgets()
	v.registerExposure()
	v.registerLedger()
	v.registerBackups()
	v.registerAudit()
	v.registerAuditExport()
	v.registerConsumers()
	v.registerKeys()
	v.registerOwnKeys()
	v.registerAllotments()
	v.registerRequests()
	v.registerProposals()
	if err := v.registerPages(); err != nil {
		return nil, fmt.Errorf("preparing the pages: %w", err)
	}
	return v, nil
}

// fiberConfig closes what Fiber leaves open by default: strings that change after the request, plain text
// errors, guesses about proxies.
func (v *Server) fiberConfig() fiber.Config {
	o := v.options
	return fiber.Config{
		Immutable:                    true, // or every string that a service keeps would change with the next request
		StreamRequestBody:            true, // or an upload would be held in memory
		DisablePreParseMultipartForm: true,
		BodyLimit:                    o.MaxBody, // guards nothing while bodies stream; huma and upload count themselves
		ReadBufferSize:               o.MaxHeader,
		Concurrency:                  o.MaxConnections,
		ReadTimeout:                  o.ReadTimeout,
		WriteTimeout:                 o.WriteTimeout,
		IdleTimeout:                  o.IdleTimeout,
		StrictRouting:                true,
		CaseSensitive:                true,
		UnescapePath:                 false, // so that an escaped slash stays inside of its segment
		EnableTrustedProxyCheck:      true,  // with no proxy listed: X-Forwarded-* is never believed
		ErrorHandler:                 v.onFiberError,
		DisableStartupMessage:        true,
	}
}

// Serve answers on a listener, which may speak TLS, until Shutdown; then it returns nil. After Shutdown it
// returns at once. A server serves one listener.
func (v *Server) Serve(l net.Listener) error {
	v.mu.Lock()
	stopped := v.stopped
	v.listener = l
	v.mu.Unlock()
	if stopped {
		return closeListener(l)
	}
	return v.app.Listener(l)
}

// Shutdown stops accepting and waits for the requests under way until ctx ends. What is still running then is
// told to end.
func (v *Server) Shutdown(ctx context.Context) error {
	defer v.stop()
	v.mu.Lock()
	if !v.stopped {
		v.stopped = true
		close(v.stopping)
	}
	l := v.listener
	v.mu.Unlock()
	err := v.app.ShutdownWithContext(ctx)
	if l != nil {
		// Fiber closes only what it has begun to listen on, which may be a moment after Serve was called.
		err = errors.Join(err, closeListener(l))
	}
	if err != nil {
		return fmt.Errorf("waiting for requests under way: %w", err)
	}
	return nil
}

func closeListener(l net.Listener) error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the listener: %w", err)
	}
	return nil
}

// OpenAPI is the document that is served at /openapi.json.
func (v *Server) OpenAPI() []byte { return v.openapi() }

// Test answers one request without a listener.
func (v *Server) Test(r *http.Request) (*http.Response, error) { return v.app.Test(r, -1) }
