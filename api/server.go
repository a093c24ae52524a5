package api

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
)

// Server answers HTTP.
type Server struct {
	app      *fiber.App
	huma     huma.API
	services Services
	options  Options
	openapi  []byte

	// base ends when the server shuts down; every request's context descends from it.
	base context.Context
	stop context.CancelFunc
}

// New wires a server. It fails where a service is missing.
func New(s Services, o Options) (*Server, error) {
	if s.Directory == nil || s.Asker == nil || s.Releases == nil || s.Catalog == nil || s.Rows == nil ||
		s.Accounts == nil || s.Consumers == nil || s.Office == nil || s.Ready == nil {
		return nil, errors.New("the API needs all of its services")
	}
	v := &Server{services: s, options: o.withDefaults()}
	v.base, v.stop = context.WithCancel(context.Background())
	v.app = fiber.New(fiber.Config{DisableStartupMessage: true})
	return v, nil
}

// Serve answers on a listener, which may speak TLS, until Shutdown; then it returns nil.
func (v *Server) Serve(l net.Listener) error { return v.app.Listener(l) }

// Shutdown stops accepting and waits for the requests under way until ctx ends.
func (v *Server) Shutdown(ctx context.Context) error {
	defer v.stop()
	return v.app.ShutdownWithContext(ctx)
}

// OpenAPI is the document that is served at /openapi.json.
func (v *Server) OpenAPI() []byte { return v.openapi }

// Test answers one request without a listener.
func (v *Server) Test(r *http.Request) (*http.Response, error) { return v.app.Test(r, -1) }
