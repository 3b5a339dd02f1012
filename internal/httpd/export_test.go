package httpd

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// CertificateStore lets a test look at the TLS files without a listener.
type CertificateStore struct{ s *certificateStore }

func NewCertificateStore(o TLSOptions, log *slog.Logger) CertificateStore {
	m, err := newMetrics("vault", nil)
	if err != nil {
		panic(err)
	}
	return CertificateStore{newCertificateStore(o, "vault", log, m, time.Now)}
}

func (c CertificateStore) Load() error               { return c.s.reload() }
func (c CertificateStore) Watch(ctx context.Context) { c.s.watch(ctx) }

var (
	MaskPANs        = maskPANs
	HoldsPAN        = holdsPAN
	SensitiveName   = sensitiveName
	AcceptRequestID = acceptRequestID
)

func ClientIP(peer netip.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	return clientIP(peer, forwarded, trusted)
}

// ResolveSeries is the hot path of the metrics.
func (s *Server) ResolveSeries(pattern string, status int) {
	m := s.metrics.route(pattern, http.MethodPost, status)
	m.requests.Inc()
	m.duration.Observe(.001)
}
