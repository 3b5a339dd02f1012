package httpd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"cardea/internal/secret"
)

// ClientCertificates says what a listener wants from its clients.
type ClientCertificates int

const (
	ClientCertificatesOff      ClientCertificates = iota // not asked for
	ClientCertificatesOptional                           // asked for; verified if given
	ClientCertificatesRequired                           // no handshake without one
)

// TLSOptions name PEM files; they are read again when their content changes.
type TLSOptions struct {
	CertificateFile    string // leaf first, then intermediates
	PrivateKeyFile     string
	ClientCAFile       string // required unless ClientCertificates is off
	ClientCertificates ClientCertificates
	PollInterval       time.Duration // how often the files are looked at; default 5 s
}

// maxPEMFile bounds what is read from one PEM file.
const maxPEMFile = 1 << 20

// certificateStore holds the TLS configuration in force and replaces it as a
// whole: certificate and key always belong together.
type certificateStore struct {
	opts    TLSOptions
	name    string
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	current atomic.Pointer[tls.Config]

	mu   sync.Mutex // guards seen; held while loading, so that loads are in order
	seen [sha256.Size]byte
}

func newCertificateStore(o TLSOptions, name string, log *slog.Logger, m *metrics, now func() time.Time) *certificateStore {
	o.PollInterval = orDefault(o.PollInterval, 5*time.Second)
	return &certificateStore{opts: o, name: name, log: log, metrics: m, now: now}
}

// config is what net/http is given: each handshake takes the configuration in force.
func (s *certificateStore) config() *tls.Config {
	c := baseTLSConfig()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load(), nil }
	return c
}

// baseTLSConfig allows TLS 1.2 with ephemeral ECDH and AEAD only, and TLS 1.3
// (PCI DSS 4.2.1; NIST SP 800-52r2 3.3.1).
func baseTLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// watch reloads when the content of a file changes, until ctx ends. A change
// that does not load is tried, logged and counted once, not at each look.
func (s *certificateStore) watch(ctx context.Context) {
	t := time.NewTicker(s.opts.PollInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.load(false) //nolint:errcheck // load has logged and counted it
		}
	}
}

func (s *certificateStore) reload() error { return s.load(true) }

func (s *certificateStore) load(force bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := s.read()
	defer secret.Wipe(files.key)
	sum := files.sum(err)
	if !force && sum == s.seen {
		return nil
	}
	first := s.current.Load() == nil
	s.seen = sum
	if err == nil {
		err = s.install(files)
	}
	if err != nil {
		err = fmt.Errorf("load TLS files: %w", err)
		s.metrics.tlsReloads("failed").Inc()
		if !first {
			s.log.Error("TLS files not reloaded, the ones loaded before stay in use",
				slog.String("listener", s.name), slog.String("error", err.Error()))
		}
		return err
	}
	s.metrics.tlsReloads("ok").Inc()
	if !first {
		s.log.Info("TLS files reloaded", slog.String("listener", s.name))
	}
	return nil
}

func (s *certificateStore) install(files pemFiles) error {
	pair, err := tls.X509KeyPair(files.cert, files.key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", s.opts.CertificateFile, s.opts.PrivateKeyFile, err)
	}
	c := baseTLSConfig()
	c.Certificates = []tls.Certificate{pair}
	if s.opts.ClientCertificates != ClientCertificatesOff {
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(files.clientCA) {
			return fmt.Errorf("%s: no certificate in it", s.opts.ClientCAFile)
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if s.opts.ClientCertificates == ClientCertificatesRequired {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		// A resumed session would carry a client certificate past a change of
		// the CA file: all sessions begin with a full handshake.
		c.SessionTicketsDisabled = true
	}
	s.warnValidity(pair.Leaf)
	s.metrics.certificateExpiry.WithLabelValues(s.name).Set(float64(pair.Leaf.NotAfter.Unix()))
	s.current.Store(c)
	return nil
}

func (s *certificateStore) warnValidity(leaf *x509.Certificate) {
	now := s.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		s.log.Warn("the TLS certificate is not valid now; clients will refuse it", slog.String("listener", s.name),
			slog.Time("not_before", leaf.NotBefore), slog.Time("not_after", leaf.NotAfter))
	}
}

type pemFiles struct{ cert, key, clientCA []byte }

func (s *certificateStore) read() (pemFiles, error) {
	var f pemFiles
	var err error
	if f.cert, err = readPEM(s.opts.CertificateFile); err != nil {
		return f, err
	}
	if f.key, err = readPEM(s.opts.PrivateKeyFile); err != nil {
		return f, err
	}
	if s.opts.ClientCertificates != ClientCertificatesOff {
		f.clientCA, err = readPEM(s.opts.ClientCAFile)
	}
	return f, err
}

// sum tells one state of the files from another, a failure to read included.
func (f pemFiles) sum(err error) [sha256.Size]byte {
	h := sha256.New()
	for _, b := range [][]byte{f.cert, f.key, f.clientCA} {
		part := sha256.Sum256(b)
		h.Write(part[:])
	}
	if err != nil {
		io.WriteString(h, err.Error()) //nolint:errcheck // a hash takes everything
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEMFile {
		return nil, fmt.Errorf("%s: not a regular file of at most %d bytes", path, maxPEMFile)
	}
	// One buffer of the right size: a growing one would leave copies of a key behind.
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		secret.Wipe(b)
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// ClientCertificate is the verified client certificate of r, or nil. It comes
// from the TLS handshake only, never from a header.
func ClientCertificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil
	}
	return r.TLS.VerifiedChains[0][0]
}
