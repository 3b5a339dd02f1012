package httpd

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// exchange is what the stack knows of one request. It is one allocation: the
// context and the response writer that the handler sees are fields of it.
type exchange struct {
	server *Server
	ctx    exchangeContext
	w      recorder
	id     [1]string // an array, so that it can be the header's value without a slice of its own
	remote string    // http.Request.RemoteAddr
	fwd    []string  // X-Forwarded-For
	route  string    // set by SetRoute; "" means the mux pattern
}

// exchangeKey finds the exchange in a context.
type exchangeKey struct{}

// exchangeContext is the connection's context that also knows the exchange.
// Deadline and cancellation stay the parent's.
type exchangeContext struct {
	context.Context
	x *exchange
}

func (c *exchangeContext) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return c.x
	}
	return c.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// recorder notes the status on its way out.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the header is written
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// WriteString saves the copy that io.WriteString would make.
func (w *recorder) WriteString(s string) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return io.WriteString(w.ResponseWriter, s)
}

// Unwrap lets http.ResponseController through.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// middleware is everything between net/http and the handler, in one function:
// each layer of its own would cost a closure, an allocation and a stack frame.
func (s *Server) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.opts.Now()
		s.active.Add(1)
		s.metrics.inFlight.Inc()

		x := &exchange{server: s, remote: r.RemoteAddr, fwd: r.Header["X-Forwarded-For"]}
		x.ctx = exchangeContext{Context: r.Context(), x: x}
		x.w.ResponseWriter = w
		x.id[0] = acceptRequestID(r.Header["X-Request-Id"])
		h := w.Header()
		h["X-Request-Id"] = x.id[:]
		for i := range s.headers {
			h[s.headers[i].key] = s.headers[i].values
		}
		r = r.WithContext(&x.ctx)
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, s.opts.Limits.BodyBytes)
		}

		defer s.finish(x, r, start)
		next.ServeHTTP(&x.w, r)
	})
}

// finish runs when the handler has returned or panicked.
func (s *Server) finish(x *exchange, r *http.Request, start time.Time) {
	abort := false
	if v := recover(); v != nil {
		abort = s.recovered(x, r, v)
	}
	status := x.w.status
	if status == 0 {
		status = http.StatusOK
	}
	route := x.pattern(r)
	took := s.opts.Now().Sub(start)
	m := s.metrics.route(route, r.Method, status)
	m.requests.Inc()
	m.duration.Observe(took.Seconds())
	s.metrics.inFlight.Dec()

	if s.opts.Logger.Enabled(&x.ctx, slog.LevelDebug) {
		s.opts.Logger.LogAttrs(&x.ctx, slog.LevelDebug, "http request",
			slog.String("listener", s.opts.Name), slog.String("method", methodLabel(r.Method)), slog.String("route", routeLabel(route)),
			slog.Int("status", status), slog.Duration("duration", took), slog.String("request_id", x.id[0]))
	}
	if s.active.Add(-1) == 0 && s.draining.Load() {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// pattern is what SetRoute or else the mux called the request's route.
func (x *exchange) pattern(r *http.Request) string {
	if x.route != "" {
		return x.route
	}
	return r.Pattern
}

// RequestID is the id of the request that ctx belongs to, or "" outside one.
func RequestID(ctx context.Context) string {
	if x := exchangeOf(ctx); x != nil {
		return x.id[0]
	}
	return ""
}

// SetRoute names the route of r for metrics and logs where the mux does not see
// the request that the stack made, because a layer between them copied it. name
// must come from a bounded set, never from the request.
func SetRoute(r *http.Request, name string) {
	if x := exchangeOf(r.Context()); x != nil {
		x.route = name
	}
}

// PeerIP is the client's address, IPv4 in its short form and without a zone. It
// is the connection's peer unless that is a trusted proxy: then it is the last
// address of X-Forwarded-For that is not one. The result is invalid if the
// connection has no IP address.
func PeerIP(r *http.Request) netip.Addr {
	x := exchangeOf(r.Context())
	if x == nil {
		return remoteIP(r.RemoteAddr)
	}
	return clientIP(remoteIP(x.remote), x.fwd, x.server.opts.TrustedProxies)
}
