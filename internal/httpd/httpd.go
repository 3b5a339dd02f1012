// Package httpd is the HTTP listener that every network face of Cardea stands
// on: address and TLS rules, limits, request ids, panics, metrics, access logs
// and an orderly stop. It knows no domain.
//
// It promises that plain HTTP is never served on an address that other machines
// can reach unless the caller says so; that a request accepted before the stop
// is finished or reported as cut off; that no path, query, header or body is
// ever logged, because a card number may have been typed into any of them; and
// that a panic in a handler costs one request, not the process.
package httpd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultPanicBody answers a request whose handler panicked.
const DefaultPanicBody = `{"code":"TE_00","message":"Something went wrong","data":null}`

// Options describes one listener. Addr and Handler are required; the zero value
// of everything else is a safe default.
type Options struct {
	// Name labels metrics, logs and errors ("vault", "ops"). It should be the
	// name of the configuration section, since errors point there.
	Name string
	// Addr is host:port; port 0 picks a free one, which Server.Addr tells.
	Addr    string
	Handler http.Handler

	// TLS nil means plain HTTP, which Listen refuses off loopback unless
	// AllowPlaintext is set.
	TLS            *TLSOptions
	AllowPlaintext bool

	Limits Limits
	// TrustedProxies are the peers whose X-Forwarded-For is believed by PeerIP.
	TrustedProxies []netip.Prefix
	// ShutdownGrace is how long Serve waits for accepted requests after its
	// context ends; 0 means 30 s.
	ShutdownGrace time.Duration

	// ResponseHeaders are set on every response before the handler runs.
	ResponseHeaders map[string]string
	// PanicBody is the JSON body of a 500 after a panic; "" means DefaultPanicBody.
	PanicBody string

	Logger  *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil keeps the metrics to itself; two servers may share one
	Now     func() time.Time      // nil means time.Now
}

// Limits bound what one client can take. A zero field means the default; there
// is no way to switch a limit off.
type Limits struct {
	BodyBytes      int64         // request body; default 2,097,152 (2 MiB)
	HeaderBytes    int           // request line and headers; default 32 KiB (net/http adds 4 KiB of slack)
	HeaderTimeout  time.Duration // to send all headers; default 5 s
	ReadTimeout    time.Duration // to send headers and body; default 30 s
	WriteTimeout   time.Duration // from the end of the headers to the end of the response; default 60 s
	IdleTimeout    time.Duration // between requests of a kept connection; default 2 min, above the 90 s that common clients keep theirs
	MaxConnections int           // open at one time, the next is closed at once; default 4096
}

func (l Limits) withDefaults() Limits {
	l.BodyBytes = orDefault(l.BodyBytes, 2<<20)
	l.HeaderBytes = orDefault(l.HeaderBytes, 32<<10)
	l.HeaderTimeout = orDefault(l.HeaderTimeout, 5*time.Second)
	l.ReadTimeout = orDefault(l.ReadTimeout, 30*time.Second)
	l.WriteTimeout = orDefault(l.WriteTimeout, time.Minute)
	l.IdleTimeout = orDefault(l.IdleTimeout, 2*time.Minute)
	l.MaxConnections = orDefault(l.MaxConnections, 4096)
	return l
}

func orDefault[N int | int64 | time.Duration](v, d N) N {
	if v <= 0 {
		return d
	}
	return v
}

// Server is one listener with its middleware. Make it with New, then call
// Listen and Serve once each.
type Server struct {
	opts     Options
	certs    *certificateStore // nil without TLS
	metrics  *metrics
	headers  []staticHeader
	stack    http.Handler
	listener net.Listener

	active   atomic.Int64  // requests between the first byte of our stack and the last
	draining atomic.Bool   // the grace period is over: the last active request signals idle
	idle     chan struct{} // buffered, 1
}

// New checks o and registers its metrics. It does not touch the network or the
// TLS files; Listen does.
func New(o Options) (*Server, error) {
	if o.Handler == nil {
		return nil, errors.New("httpd: no handler")
	}
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return nil, fmt.Errorf("httpd: listener %s: address %q is not host:port: %w", o.Name, o.Addr, err)
	}
	o.Limits = o.Limits.withDefaults()
	o.ShutdownGrace = orDefault(o.ShutdownGrace, 30*time.Second)
	if o.PanicBody == "" {
		o.PanicBody = DefaultPanicBody
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	m, err := newMetrics(o.Name, o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("httpd: listener %s: %w", o.Name, err)
	}
	s := &Server{opts: o, metrics: m, idle: make(chan struct{}, 1)}
	for k, v := range o.ResponseHeaders {
		s.headers = append(s.headers, staticHeader{http.CanonicalHeaderKey(k), []string{v}})
	}
	if o.TLS != nil {
		s.certs = newCertificateStore(*o.TLS, o.Name, o.Logger, m, o.Now)
	}
	s.stack = s.middleware(o.Handler)
	return s, nil
}

// Handler is the whole stack around Options.Handler, for tests that need no listener.
func (s *Server) Handler() http.Handler { return s.stack }

type staticHeader struct {
	key    string
	values []string
}
