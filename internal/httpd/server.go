package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// cutLinger is how long Serve waits, after it has closed the connections, for
// handlers to notice and return. What is behind them may be closed next.
const cutLinger = 2 * time.Second

// CutOffError tells that the grace period ended before Requests requests did:
// their connections were closed and their contexts cancelled. StillRunning of
// them had not returned when Serve gave up.
type CutOffError struct {
	Listener     string
	Requests     int64
	StillRunning int64
}

func (e *CutOffError) Error() string {
	return fmt.Sprintf("listener %s: %d requests were cut off at the end of the shutdown grace period (%d still running)",
		e.Listener, e.Requests, e.StillRunning)
}

// Listen loads the TLS files, binds the address and returns; Serve accepts.
// It refuses plain HTTP on an address that is not loopback.
func (s *Server) Listen() error {
	name := s.opts.Name
	if s.listener != nil {
		return fmt.Errorf("listener %s: already listening", name)
	}
	addr, err := net.ResolveTCPAddr("tcp", s.opts.Addr)
	if err != nil {
		return fmt.Errorf("listener %s: resolve %s: %w", name, s.opts.Addr, err)
	}
	if s.certs == nil && !s.opts.AllowPlaintext && !addr.IP.IsLoopback() {
		return fmt.Errorf("listener %s: refusing plain HTTP on %s, which other machines can reach: "+
			"give it a certificate ([%s.tls] certificate_file and private_key_file), listen on 127.0.0.1, "+
			"or accept the danger with %s.insecure_plain_http_off_loopback = true", name, s.opts.Addr, name, name)
	}
	if s.certs != nil {
		if err := s.certs.reload(); err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
	}
	l, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return fmt.Errorf("listener %s: %w", name, err)
	}
	s.listener = &limitedListener{Listener: l, max: int64(s.opts.Limits.MaxConnections), metrics: s.metrics, log: s.opts.Logger, now: s.opts.Now}
	return nil
}

// Addr is the bound address, with the real port. It is invalid before Listen.
func (s *Server) Addr() netip.AddrPort {
	if s.listener == nil {
		return netip.AddrPort{}
	}
	a := s.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// URL is the base address that a client on this machine can use.
func (s *Server) URL() string {
	a := s.Addr()
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	if s.certs != nil {
		return "https://" + a.String()
	}
	return "http://" + a.String()
}

// ReloadTLS reads the TLS files now, whether or not they changed. On an error
// the certificate in use stays. Without TLS it does nothing.
func (s *Server) ReloadTLS() error {
	if s.certs == nil {
		return nil
	}
	return s.certs.reload()
}

// Close closes the listener of a server that will not be served. Closing one that
// was served, or is not listening, does nothing.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Serve accepts until ctx ends, then stops accepting, finishes the requests
// already accepted within the grace period and closes what is left. It returns
// nil if all were finished, a *CutOffError if not, and another error if the
// listener broke. Contexts of requests do not end with ctx, only with the grace
// period. No goroutine of the server outlives Serve but handlers counted in
// CutOffError.StillRunning.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		return fmt.Errorf("listener %s: Serve before Listen", s.opts.Name)
	}
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := s.httpServer(base)

	var owned sync.WaitGroup
	defer owned.Wait()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	if s.certs != nil {
		owned.Go(func() { s.certs.watch(watching) })
	}
	stopped := make(chan error, 1)
	owned.Go(func() {
		if s.certs != nil {
			stopped <- srv.ServeTLS(s.listener, "", "")
		} else {
			stopped <- srv.Serve(s.listener)
		}
	})

	select {
	case err := <-stopped:
		return errors.Join(fmt.Errorf("listener %s: %w", s.opts.Name, err), s.stop(srv, base, cut))
	case <-ctx.Done():
		return s.stop(srv, base, cut)
	}
}

// stop finishes what was accepted, within the grace period.
func (s *Server) stop(srv *http.Server, base context.Context, cut context.CancelFunc) error {
	grace, cancel := context.WithTimeout(base, s.opts.ShutdownGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err == nil {
		return nil
	}
	s.draining.Store(true)
	requests := s.active.Load()
	// First the connections: a handler that returns because its context ended must
	// not get an answer out that its client would take for a finished request.
	srv.Close() //nolint:errcheck // the listener is closed already; nothing is left to be done about its connections
	cut()
	if requests == 0 {
		return nil // only connections that had not sent a request
	}
	linger := time.NewTimer(cutLinger)
	defer linger.Stop()
	for s.active.Load() > 0 {
		select {
		case <-s.idle:
		case <-linger.C:
			return &CutOffError{s.opts.Name, requests, s.active.Load()}
		}
	}
	return &CutOffError{s.opts.Name, requests, 0}
}

func (s *Server) httpServer(base context.Context) *http.Server {
	l := s.opts.Limits
	srv := &http.Server{
		Handler:           s.stack,
		MaxHeaderBytes:    l.HeaderBytes,
		ReadHeaderTimeout: l.HeaderTimeout,
		ReadTimeout:       l.ReadTimeout,
		WriteTimeout:      l.WriteTimeout,
		IdleTimeout:       l.IdleTimeout,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(&serverErrors{Handler: s.opts.Logger.Handler(), server: s}, slog.LevelWarn),
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	if s.certs != nil {
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = s.certs.config()
	}
	return srv
}

// serverErrors is where net/http logs what never became a request. Failed TLS
// handshakes are counted and logged at debug: anyone who can connect can make one.
type serverErrors struct {
	slog.Handler
	server *Server
}

func (h *serverErrors) Enabled(context.Context, slog.Level) bool { return true }

func (h *serverErrors) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "TLS handshake error") {
		h.server.metrics.handshakeErrors.Inc()
		r.Level = slog.LevelDebug
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	out := slog.NewRecord(r.Time, r.Level, "http server", r.PC)
	out.AddAttrs(slog.String("listener", h.server.opts.Name), slog.String("detail", r.Message))
	return h.Handler.Handle(ctx, out)
}
