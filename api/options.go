package api

import (
	"log/slog"
	"time"

	"github.com/discreet-analytics/discreet/api/policyfile"
)

// Options are the limits of a server. A zero field takes the default that stands beside it.
type Options struct {
	// Version is shown in the OpenAPI document; "dev" by default.
	Version string
	// Log receives one line for each request and each internal error, never a body, a key, or a query string.
	// Default: slog.Default().
	Log *slog.Logger

	// Clock tells what has expired; time.Now.
	Clock func() time.Time

	// MaxBody is the largest JSON or YAML body in bytes; 1 MiB.
	MaxBody int
	// MaxUpload is the largest body of rows in bytes, as sent and again as decompressed; 64 GiB.
	MaxUpload int64
	// MaxHeader is the largest request line with all headers, in bytes; 16 KiB.
	MaxHeader int
	// MaxRequests are answered at a time; further ones are refused as unavailable; 1024.
	MaxRequests int
	// Rate is how many requests a second one consumer may make, ten seconds' worth at once; 0 allows any number.
	Rate float64
	// FailedSignIns is how many calls a second from one address may lack a key or token that is in force, a minute's
	// worth at once, before further ones are refused as rate-limited and get no line of their own in the log; 1.
	FailedSignIns float64
	// MaxConnections are open at a time; further ones are closed with a bare status 503; 4096.
	MaxConnections int

	// Rereading bounds the releases that are kept in memory for those who read them again, in bytes; 32 MiB.
	Rereading int

	// ReadTimeout is for a request with its whole JSON body; 15 s.
	ReadTimeout time.Duration
	// UploadIdle is how long an upload may send nothing; 60 s.
	UploadIdle time.Duration
	// RequestTimeout is for answering any request but an upload; 5 min.
	RequestTimeout time.Duration
	// WriteTimeout is for sending an answer; 5 min.
	WriteTimeout time.Duration
	// IdleTimeout is for a connection between two requests; 2 min.
	IdleTimeout time.Duration

	// Policy bounds policy files; policyfile.DefaultLimits.
	Policy policyfile.Limits
}

func (o Options) withDefaults() Options {
	setDefault(&o.Version, "dev")
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	setDefault(&o.MaxBody, 1<<20)
	setDefault(&o.MaxUpload, 64<<30)
	setDefault(&o.MaxHeader, 16<<10)
	setDefault(&o.MaxRequests, 1024)
	setDefault(&o.FailedSignIns, 1)
	setDefault(&o.MaxConnections, 4096)
	setDefault(&o.Rereading, 32<<20)
	setDefault(&o.ReadTimeout, 15*time.Second)
	setDefault(&o.UploadIdle, time.Minute)
	setDefault(&o.RequestTimeout, 5*time.Minute)
	setDefault(&o.WriteTimeout, 5*time.Minute)
	setDefault(&o.IdleTimeout, 2*time.Minute)
	setDefault(&o.Policy, policyfile.DefaultLimits())
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
