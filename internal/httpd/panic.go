package httpd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
)

// recovered answers a request whose handler panicked with v. It reports whether
// the connection must be broken because a part of another answer is out already.
func (s *Server) recovered(x *exchange, r *http.Request, v any) (abort bool) {
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true // the handler's own wish
	}
	s.metrics.panics.Inc()
	attrs := []slog.Attr{
		slog.String("listener", s.opts.Name), slog.String("route", routeLabel(x.pattern(r))), slog.String("request_id", x.id[0]),
		slog.String("type", fmt.Sprintf("%T", v)), slog.String("stack", stackFrames()),
	}
	// The panic value may hold anything, a card number too. A runtime.Error's
	// text is made of types, indices and lengths.
	if err, ok := v.(runtime.Error); ok {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.opts.Logger.LogAttrs(&x.ctx, slog.LevelError, "panic in a request handler", attrs...)
	if x.w.status != 0 {
		return true
	}
	h := x.w.Header()
	clear(h)
	h["X-Request-Id"] = x.id[:]
	for i := range s.headers {
		h[s.headers[i].key] = s.headers[i].values
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(s.opts.PanicBody)))
	x.w.WriteHeader(http.StatusInternalServerError)
	_, _ = x.w.WriteString(s.opts.PanicBody) // the client may be gone; nothing is left to do
	return false
}

// stackFrames names functions and lines from the panic outwards. debug.Stack
// would print arguments too, and an argument may be a part of a secret.
func stackFrames() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs[:])])
	var b strings.Builder
	for inPanic := false; ; {
		f, more := frames.Next()
		if inPanic {
			fmt.Fprintf(&b, "%s %s:%d\n", f.Function, f.File, f.Line)
		}
		inPanic = inPanic || f.Function == "runtime.gopanic"
		if !more {
			return b.String()
		}
	}
}
