package keymanager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// Limits of the encryption service.
const (
	serviceTimeout = 5 * time.Second
	// serviceTries is how often a request that changes nothing is sent at the most.
	serviceTries   = 3
	maxServiceBody = 64 << 10 // bytes of an answer
)

// ServiceOptions are how to reach Hyperswitch's encryption service. URL is required.
type ServiceOptions struct {
	URL string // https, or http on loopback
	// RootCAs are PEM certificates of authorities that are trusted in place of the
	// system's. Certificate is the client's, if the service asks for one.
	RootCAs     []byte
	Certificate *tls.Certificate
	Timeout     time.Duration // of a call with all its tries; default 5 s
	// Credentials are 32 bytes that the service knows the tenant by; none are sent if
	// they are empty.
	Credentials secret.Bytes
}

// Service is a client of Hyperswitch's encryption service, for one tenant. It is
// safe for concurrent use.
type Service struct {
	base   string
	tenant string
	o      ServiceOptions
	http   *http.Client

	mu     sync.Mutex // guards all below
	users  int        // who may still send
	closed bool
}

// NewService makes a client that is a tenant's. It calls nobody yet.
func NewService(tenant string, o ServiceOptions) (*Service, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url of the encryption service: expected https://host or https://host:port")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && !ip.IsLoopback() {
		return nil, fmt.Errorf("url of the encryption service: %s is plain HTTP to another machine, which would see keys in clear; use https", u.Redacted())
	}
	if n := o.Credentials.Len(); n != 0 && n != 32 {
		return nil, fmt.Errorf("credentials for the encryption service have %d bytes, want 32", n)
	}
	if o.Timeout == 0 {
		o.Timeout = serviceTimeout
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.RootCAs) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(o.RootCAs) {
			return nil, errors.New("authorities for the encryption service: no PEM certificate")
		}
	}
	if o.Certificate != nil {
		t.Certificates = []tls.Certificate{*o.Certificate}
	}
	return &Service{
		base: strings.TrimSuffix(o.URL, "/"), tenant: tenant, o: o,
		http: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig: t, TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout, IdleConnTimeout: time.Minute,
				MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true, DialContext: (&net.Dialer{Timeout: o.Timeout}).DialContext,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// acquire keeps the credentials until release, unless the service is closed.
func (s *Service) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.users++
	return true
}

func (s *Service) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	s.wipe()
}

// Close ends idle connections and wipes the credentials, once those who have been given
// the service are done.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wipe()
}

// wipe is called with mu held.
func (s *Service) wipe() {
	if s.closed && s.users == 0 {
		s.http.CloseIdleConnections()
		s.o.Credentials.Destroy()
	}
}

// serviceKey names a key of the service.
type serviceKey struct {
	DataIdentifier string `json:"data_identifier"`
	KeyIdentifier  string `json:"key_identifier"`
}

// serviceData is the body of a request about data, and of its answer: data is
// base64, of a plaintext or behind the key's version.
type serviceData struct {
	DataIdentifier string `json:"data_identifier,omitzero"`
	KeyIdentifier  string `json:"key_identifier,omitzero"`
	Data           []byte `json:"data"`
}

type serviceText struct {
	DataIdentifier string `json:"data_identifier,omitzero"`
	KeyIdentifier  string `json:"key_identifier,omitzero"`
	Data           string `json:"data"`
}

func keyNamed(identifier string) serviceKey { return serviceKey{"Entity", identifier} }

// statusError is an answer other than 200.
type statusError struct {
	path   string
	status int
	after  time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("encryption service answered %s with status %d", e.path, e.status)
}

// CreateKey makes a key. It is not tried again: who calls it again may get another
// error than the first time.
func (s *Service) CreateKey(ctx context.Context, identifier string) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	body, err := json.Marshal(keyNamed(identifier))
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	var made serviceKey
	answer, err := s.send(ctx, "/key/create", body)
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	if err == nil && made.KeyIdentifier != identifier {
		err = errors.New("encryption service made another key than it was asked for")
	}
	return err
}

var sealedPattern = regexp.MustCompile(`^v[0-9]{1,9}:[A-Za-z0-9+/]+={0,2}$`)

// Encrypt seals plaintext under a key. The answer is text: the key's version, a
// colon, base64.
func (s *Service) Encrypt(ctx context.Context, identifier string, plaintext []byte) ([]byte, error) {
	body, err := json.Marshal(serviceData{"Entity", identifier, plaintext})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	defer secret.Wipe(body)
	var out serviceText
	answer, err := s.again(ctx, "/data/encrypt", body)
	if err == nil {
		err = json.Unmarshal(answer, &out)
	}
	if err == nil && !sealedPattern.MatchString(out.Data) {
		err = errors.New("encryption service answered with something else than ciphertext")
	}
	return []byte(out.Data), err
}

// Decrypt opens what Encrypt has answered. The caller destroys the plaintext.
func (s *Service) Decrypt(ctx context.Context, identifier string, sealed []byte) (secret.Bytes, error) {
	body, err := json.Marshal(serviceText{"Entity", identifier, string(sealed)})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("encode request: %w", err)
	}
	answer, err := s.again(ctx, "/data/decrypt", body)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.Wipe(answer)
	var out serviceData
	if err := json.Unmarshal(answer, &out); err != nil {
		secret.Wipe(out.Data)
		return secret.Bytes{}, errors.New("encryption service answered with something else than a plaintext") // err could quote it
	}
	return secret.New(out.Data), nil
}

// Check asks the service for its health.
func (s *Service) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	_, err := s.do(ctx, http.MethodGet, "/health", nil)
	return err
}

// again sends a request that changes nothing, a second time and a third if the
// service was not reached or says that it is not well.
func (s *Service) again(ctx context.Context, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	for try := 1; ; try++ {
		answer, err := s.send(ctx, path, body)
		if err == nil || try == serviceTries || !worthAnother(err) || ctx.Err() != nil {
			return answer, err
		}
		wait := time.NewTimer(time.Duration(try) * 50 * time.Millisecond)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, err
		}
	}
}

func worthAnother(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.status == http.StatusBadGateway || e.status == http.StatusServiceUnavailable || e.status == http.StatusGatewayTimeout
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	return true
}

func (s *Service) send(ctx context.Context, path string, body []byte) ([]byte, error) {
	return s.do(ctx, http.MethodPost, path, body)
}

func (s *Service) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Tenant-Id", s.tenant)
	if c := s.o.Credentials.Expose(); len(c) == 32 {
		// A header is a string; it lives as long as the request.
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%x:%x", c[:16], c[16:])))
	}
	res, err := s.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, err
	}
	defer res.Body.Close()
	answer := bytes.NewBuffer(make([]byte, 0, maxServiceBody+1))
	n, err := io.Copy(answer, io.LimitReader(res.Body, maxServiceBody+1))
	if err == nil && n > maxServiceBody {
		err = fmt.Errorf("encryption service answered with more than %d bytes", maxServiceBody)
	}
	if err == nil && res.StatusCode != http.StatusOK {
		after, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		err = &statusError{path, res.StatusCode, time.Duration(min(max(after, 0), 3600)) * time.Second}
	}
	if err != nil {
		secret.Wipe(answer.Bytes())
		return nil, err
	}
	return answer.Bytes(), nil
}

// serviceError makes an error of the service one of vault.KeyManager. opening says
// that what is refused may be the ciphertext.
func serviceError(err error, opening bool) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	result, is, after := resultUnreachable, vault.ErrKeyUnavailable, time.Duration(0)
	if e, ok := errors.AsType[*statusError](err); ok {
		switch {
		case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
			result = "key_denied"
		case e.status == http.StatusNotFound:
			result = "key_not_found"
		case e.status == http.StatusTooManyRequests:
			result, is, after = "key_throttled", vault.ErrKeyThrottled, e.after
		case e.status >= 400 && e.status < 500 && opening:
			return fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
		case e.status < 500:
			result = "key_refused"
		}
	}
	return &vault.KeyError{Result: result, RetryAfter: after, Err: fmt.Errorf("%w: %w", is, err)}
}
