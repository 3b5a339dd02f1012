package lockerapi_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/audit"
	"cardea/internal/httpd"
	"cardea/internal/lockerapi"
	"cardea/internal/vault"
	"cardea/internal/vault/vaulttest"
)

// Keys are made once: RSA takes its time.
var (
	lockerRSA = sync.OnceValue(newRSA)
	clientRSA = sync.OnceValue(newRSA)
	otherRSA  = sync.OnceValue(newRSA)
	lockerEC  = sync.OnceValue(newEC)
	clientEC  = sync.OnceValue(newEC)
)

func newRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func newEC() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// server is the API on a real listener, with a vault in memory behind it.
type server struct {
	*vaulttest.Vault
	api     *lockerapi.API
	clock   *clock
	url     string
	metrics *prometheus.Registry
}

type serverOptions struct {
	tenants    map[string]lockerapi.TenantConfig // default: acme and beta, plain
	custodians vault.Custodians
	change     func(*lockerapi.Options)
}

func serve(t testing.TB, o serverOptions) *server {
	t.Helper()
	s := &server{clock: newClock(), metrics: prometheus.NewRegistry()}
	if o.tenants == nil {
		o.tenants = map[string]lockerapi.TenantConfig{"acme": {}, "beta": {}}
	}
	var names []string
	for name := range o.tenants {
		names = append(names, name)
	}
	s.Vault = vaulttest.New(t, o.custodians, s.clock.Now, names...)
	keys, err := lockerapi.NewServerKeys(lockerRSA(), lockerEC())
	if err != nil {
		t.Fatal(err)
	}
	opts := lockerapi.Options{
		Service: s.Service, Tenants: o.tenants, LockerKeys: keys, Version: "v-test", Now: s.clock.Now, Metrics: s.metrics,
		Refusals: httpd.RefusalLimits{OfSource: 1 << 20, OfAll: 1 << 20}, // the clock of tests stands
	}
	if o.change != nil {
		o.change(&opts)
	}
	if s.api, err = lockerapi.New(opts); err != nil {
		t.Fatal(err)
	}
	s.url = listen(t, s.api.Handler(), nil)
	return s
}

// listen serves h on loopback until the test ends.
func listen(t testing.TB, h http.Handler, change func(*httpd.Options)) string {
	t.Helper()
	o := httpd.Options{Name: "vault", Addr: "127.0.0.1:0", Handler: h}
	if change != nil {
		change(&o)
	}
	srv, err := httpd.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv.URL()
}

// reply is an answer as it came over the wire.
type reply struct {
	status int
	header http.Header
	body   string
}

// request is what a test sends.
type request struct {
	method, path, body string
	header             http.Header
}

func post(path, body string, headers ...string) request {
	h := http.Header{"X-Tenant-Id": {"acme"}, "Content-Type": {"application/json"}}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return request{method: http.MethodPost, path: path, body: body, header: h}
}

func (s *server) do(t testing.TB, r request) reply {
	t.Helper()
	return send(t, http.DefaultClient, s.url, r)
}

func send(t testing.TB, c *http.Client, url string, r request) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.header
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(body)}
}

// want fails unless the reply has the status and the body.
func (r reply) want(t testing.TB, status int, body string) {
	t.Helper()
	if r.status != status || r.body != body {
		t.Errorf("got %d %s\nwant %d %s", r.status, r.body, status, body)
	}
}

// failure is the body of an error.
func failure(code, message string) string {
	return fmt.Sprintf(`{"code":%q,"message":%q,"data":null}`, code, message)
}

// auditLines writes the entries from on, one a line, without ids and times.
func (s *server) auditLines(t testing.TB, from int) []string {
	t.Helper()
	entries, err := s.Store.Entries(from)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, auditLine(e))
	}
	return out
}

func auditLine(e audit.Entry) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s by %s/%s/%s", e.Op, e.Outcome, e.Result, e.Who.Type, e.Who.Name, e.Who.Auth)
	for _, f := range []string{e.Tenant, e.Resource.Merchant, e.Resource.Customer, e.Resource.Reference, e.Resource.MaskedPAN} {
		if f != "" {
			b.WriteString(" " + f)
		}
	}
	if e.Detail != "" {
		b.WriteString(" (" + e.Detail + ")")
	}
	return strings.ReplaceAll(b.String(), "\x00", `\0`)
}
