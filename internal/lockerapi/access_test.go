package lockerapi_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cardea/internal/audit"
	"cardea/internal/httpd"
	"cardea/internal/lockerapi"
)

// from sends a request as if it came from an address.
func (s *server) from(remote string, r request) reply {
	req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
	req.Header, req.RemoteAddr = r.header, remote
	w := httptest.NewRecorder()
	s.api.Handler().ServeHTTP(w, req)
	return reply{status: w.Code, header: w.Header(), body: w.Body.String()}
}

var plainRefused = failure("TE_00", "Access denied: plain requests are answered on loopback or over mutual TLS only")

func TestPlainAnswersOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	for _, c := range []struct {
		name, remote string
		header       string
		local        bool
	}{
		{"IPv4", "127.0.0.1:1", "", true},
		{"any of 127/8", "127.9.9.9:1", "", true},
		{"IPv6", "[::1]:1", "", true},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:1", "", true},
		{"private network", "10.0.0.1:1", "", false},
		{"the world", "203.0.113.9:1", "", false},
		{"IPv6 world", "[2001:db8::1]:1", "", false},
		{"no address", "@", "", false},
		{"a proxy on this machine", "127.0.0.1:1", "X-Forwarded-For", false},
		{"another proxy", "127.0.0.1:1", "Forwarded", false},
		{"yet another", "127.0.0.1:1", "Via", false},
		{"and one more", "127.0.0.1:1", "X-Real-Ip", false},
		{"a web page", "127.0.0.1:1", "Origin", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post("/cards/retrieve", retrieveBody)
			if c.header != "" {
				r.header.Set(c.header, "127.0.0.1")
			}
			before := s.Store.Len()
			got := s.from(c.remote, r)
			if c.local {
				got.want(t, 404, notFound)
				return
			}
			got.want(t, 403, plainRefused)
			if lines := s.auditLines(t, before); len(lines) != 1 || !strings.HasPrefix(lines[0], "card.retrieve denied denied by anonymous/anonymous/none acme") {
				t.Errorf("audit %q", lines)
			}
		})
	}
}

func TestPlainAnswersEveryoneIfTheDangerIsNamed(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{change: func(o *lockerapi.Options) { o.AllowPlainOffLoopback = true }})
	before := s.Store.Len()
	s.from("203.0.113.9:1", post("/cards/retrieve", retrieveBody)).want(t, 404, notFound)
	if lines := s.auditLines(t, before); len(lines) != 1 || !strings.Contains(lines[0], "by tenant/anyone/none acme") {
		t.Errorf("audit %q", lines)
	}
}

// TestJWEAnswersFromAnywhere: the signature says who it is.
func TestJWEAnswersFromAnywhere(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: jweTenants()})
	got := s.from("203.0.113.9:1", post("/cards/retrieve", rsaClient().seal(t, retrieveBody)))
	got.body = rsaClient().open(t, got.body)
	got.want(t, 404, notFound)
	entries, err := s.Store.Entries(0)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if e := entries[0]; e.Who.Name != "jws:acme" || e.Who.Auth != "jws" || e.Who.IP != "203.0.113.9" || e.Tenant != "acme" {
		t.Errorf("who %+v", e.Who)
	}
}

func TestTenantLimitsMerchantsAndActions(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{
		"acme": {Merchants: []string{"shop-*"}, Actions: []string{"card:Retrieve"}},
	}})
	denied := failure("TE_00", "Access denied")
	named := func(merchant string) string {
		return `{"merchant_id":"` + merchant + `","merchant_customer_id":"c","card_reference":"r"}`
	}
	s.do(t, post("/cards/retrieve", named("shop-1"))).want(t, 404, notFound)
	before := s.Store.Len()
	s.do(t, post("/cards/retrieve", named("other"))).want(t, 403, denied)
	s.do(t, post("/cards/delete", named("shop-1"))).want(t, 403, denied)
	s.do(t, post("/entity", `{"entity_id":"shop-1"}`)).want(t, 403, denied)
	s.do(t, post("/api/v2/vault/retrieve", `{"entity_id":"shop-1","vault_id":"v"}`)).want(t, 403, denied)
	want := []string{"card.retrieve denied denied", "card.delete denied denied", "holder.create denied denied", "data.retrieve denied denied"}
	lines := s.auditLines(t, before)
	if len(lines) != len(want) {
		t.Fatalf("audit %q", lines)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("audit %q, want %q", lines[i], want[i])
		}
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, key: newEC()}
	a.cert, _ = a.issue("authority", nil)
	return a
}

func (a *authority) issue(name string, to *ecdsa.PrivateKey) (*x509.Certificate, tls.Certificate) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent := a.cert
	if to == nil {
		to, parent = a.key, template
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &to.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: to}
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMutualTLS maps certificates to tenants over a real handshake.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	serverKey := newEC()
	serverCert, _ := ca.issue("localhost", serverKey)
	_, byName := ca.issue("checkout", newEC())
	pinned, byDigest := ca.issue("whatever", newEC())
	_, stranger := ca.issue("stranger", newEC())
	digest := sha256.Sum256(pinned.Raw)

	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{
		"acme": {Clients: []lockerapi.Client{
			{Name: "checkout", CommonName: "checkout"},
			{Name: "reports", SHA256: strings.ToUpper(hex.EncodeToString(digest[:])), Actions: []string{"card:Retrieve"}, Merchants: []string{"m"}},
		}},
		"beta": {},
	}})
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	url := listen(t, s.api.Handler(), func(o *httpd.Options) {
		o.TLS = &httpd.TLSOptions{
			CertificateFile: writePEM(t, "CERTIFICATE", serverCert.Raw), PrivateKeyFile: writePEM(t, "PRIVATE KEY", keyDER),
			ClientCAFile: writePEM(t, "CERTIFICATE", ca.cert.Raw), ClientCertificates: httpd.ClientCertificatesOptional,
		}
	})
	url = strings.Replace(url, "127.0.0.1", "localhost", 1)
	client := func(certs ...tls.Certificate) *http.Client {
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS12}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	refused := failure("TE_00", "Access denied: no client certificate of this tenant")
	for _, c := range []struct {
		name       string
		client     *http.Client
		path, body string
		tenant     string
		status     int
		answer     string
		audit      string
	}{
		{"common name", client(byName), "/cards/retrieve", retrieveBody, "acme", 404, notFound, "card.retrieve failed not_found by tenant/checkout/mtls acme"},
		{"digest", client(byDigest), "/cards/retrieve", retrieveBody, "acme", 404, notFound, "card.retrieve failed not_found by tenant/reports/mtls acme"},
		{"action that the client has not", client(byDigest), "/cards/delete", retrieveBody, "acme", 403, failure("TE_00", "Access denied"), "card.delete denied denied by tenant/reports/mtls acme"},
		{"merchant that the client has not", client(byDigest), "/cards/retrieve", strings.Replace(retrieveBody, `"m"`, `"x"`, 1), "acme", 403, failure("TE_00", "Access denied"), "card.retrieve denied denied by tenant/reports/mtls acme"},
		{"certificate of nobody", client(stranger), "/cards/retrieve", retrieveBody, "acme", 403, refused, "card.retrieve denied denied by anonymous/anonymous/none acme"},
		{"no certificate, though on loopback", client(), "/cards/retrieve", retrieveBody, "acme", 403, refused, "card.retrieve denied denied by anonymous/anonymous/none acme"},
		{"another tenant's certificate counts for nothing", client(byName), "/cards/retrieve", retrieveBody, "beta", 404, notFound, "card.retrieve failed not_found by tenant/loopback/loopback beta"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.Store.Len()
			send(t, c.client, url, post(c.path, c.body, "x-tenant-id", c.tenant)).want(t, c.status, c.answer)
			if lines := s.auditLines(t, before); len(lines) != 1 || !strings.HasPrefix(lines[0], c.audit) {
				t.Errorf("audit %q, want %q", lines, c.audit)
			}
		})
	}
}

// TestTenantsChangeWithoutRestart adds, changes and removes tenants.
func TestTenantsChangeWithoutRestart(t *testing.T) {
	t.Parallel()
	limited := lockerapi.TenantConfig{DeleteLimit: lockerapi.DeleteLimit{Requests: 1, Per: time.Hour}}
	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{"acme": limited}})
	set := func(m map[string]lockerapi.TenantConfig) {
		t.Helper()
		if err := s.api.SetTenants(m); err != nil {
			t.Fatal(err)
		}
	}
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 404, notFound)
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 429, "Rate Limit Applied")
	unknown := failure("TE_03", "Tenant error: Invalid x-tenant-id")
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", "new")).want(t, 400, unknown)

	s.SetTenants("acme", "new")
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", "new")).want(t, 400, unknown) // the API does not know it yet
	set(map[string]lockerapi.TenantConfig{"acme": limited, "new": {}, "other": {}})
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", "new")).want(t, 404, notFound)
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", "other")).want(t, 400, unknown) // the vault does not know it
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 429, "Rate Limit Applied")              // a reload is no new allowance

	limited.DeleteLimit.Requests = 2
	set(map[string]lockerapi.TenantConfig{"acme": limited})
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 404, notFound) // a changed limit is
	s.do(t, post("/cards/retrieve", retrieveBody, "x-tenant-id", "new")).want(t, 400, unknown)
}

func TestDeleteLimitIsPerTenantAndForBothMounts(t *testing.T) {
	t.Parallel()
	limit := lockerapi.DeleteLimit{Requests: 2, Per: 10 * time.Second}
	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{"acme": {DeleteLimit: limit}, "beta": {DeleteLimit: limit}}})
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 404, notFound)
	s.do(t, post("/data/delete", retrieveBody)).want(t, 404, notFound)
	before := s.Store.Len()
	got := s.do(t, post("/cards/delete", "nonsense")) // refused before the body is looked at
	got.want(t, 429, "Rate Limit Applied")
	if ct := got.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", ct)
	}
	want := []string{"card.delete failed rate_limited by tenant/loopback/loopback acme (Rate Limit Applied: the tenant's delete limit is used up)"}
	if lines := s.auditLines(t, before); !slices.Equal(lines, want) {
		t.Errorf("audit %q", lines)
	}
	s.do(t, post("/cards/delete", retrieveBody, "x-tenant-id", "beta")).want(t, 404, notFound)
	s.do(t, post("/api/v2/vault/delete", `{"entity_id":"e","vault_id":"v"}`)).want(t, 404, notFound) // v2 is not limited
	s.clock.advance(5 * time.Second)
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 404, notFound)
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 429, "Rate Limit Applied")
}

// TestStrangersCannotUseUpTheDeleteLimit: who is not let in takes nothing.
func TestStrangersCannotUseUpTheDeleteLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{tenants: map[string]lockerapi.TenantConfig{"acme": {DeleteLimit: lockerapi.DeleteLimit{Requests: 1, Per: time.Hour}}}})
	for range 3 {
		s.from("203.0.113.9:1", post("/cards/delete", retrieveBody)).want(t, 403, plainRefused)
	}
	s.do(t, post("/cards/delete", retrieveBody)).want(t, 404, notFound)
}

func TestDiagnosticsAreNotAnAmplifier(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	r := request{method: http.MethodGet, path: "/health/diagnostics", header: http.Header{"X-Tenant-Id": {"acme"}}}
	for range 5 {
		if got := s.from("203.0.113.9:1", r); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	s.from("203.0.113.9:1", r).want(t, 429, failure("TE_00", "Rate Limit Applied"))
	s.clock.advance(time.Second)
	if got := s.do(t, r); got.status != 200 {
		t.Errorf("status %d", got.status)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{change: func(o *lockerapi.Options) { o.BodyLimit = 1000 }})
	tooLong := failure("TE_03", "Failed to buffer the request body: length limit exceeded")
	body := func(n int) string {
		const rest = `{"merchant_id":"m","merchant_customer_id":"c","enc_card_data":""}`
		return strings.Replace(rest, `:""}`, `:"`+strings.Repeat("0", n-len(rest))+`"}`, 1)
	}
	if got := s.do(t, post("/cards/add", body(1000))); got.status != 200 {
		t.Errorf("%d %s at the limit", got.status, got.body)
	}
	s.do(t, post("/cards/add", body(1001))).want(t, 413, tooLong)
	// Without a length the reading itself has to notice.
	for n, status := range map[int]int{1000: 200, 1001: 413, 5000: 413} {
		req := httptest.NewRequest(http.MethodPost, "/cards/add", struct{ *strings.Reader }{strings.NewReader(body(n))})
		req.ContentLength = -1
		req.Header, req.RemoteAddr = post("", "").header, "127.0.0.1:1"
		w := httptest.NewRecorder()
		s.api.Handler().ServeHTTP(w, req)
		if w.Code != status {
			t.Errorf("%d bytes in chunks: %d %s", n, w.Code, w.Body)
		}
	}
}

// TestBodyThatEndsEarlyIsRefused: a client that announces more than it sends.
func TestBodyThatEndsEarlyIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{})
	req := httptest.NewRequest(http.MethodPost, "/cards/add", http.MaxBytesReader(nil, http.NoBody, 1))
	req.Body = brokenBody{}
	req.Header, req.RemoteAddr = post("", "").header, "127.0.0.1:1"
	w := httptest.NewRecorder()
	s.api.Handler().ServeHTTP(w, req)
	reply{status: w.Code, body: w.Body.String()}.want(t, 400, failure("TE_03", "Failed to buffer the request body: the body ended early"))
	if lines := s.auditLines(t, 0); len(lines) != 1 {
		t.Errorf("audit %q", lines)
	}
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, http.ErrBodyReadAfterClose }
func (brokenBody) Close() error             { return nil }

// TestStrangersCannotFillTheAuditLog: a stranger's refusals beyond the first of a
// minute are counted, and the count is an entry.
func TestStrangersCannotFillTheAuditLog(t *testing.T) {
	t.Parallel()
	s := serve(t, serverOptions{change: func(o *lockerapi.Options) { o.Refusals = httpd.RefusalLimits{} }})
	before := s.Store.Len()
	for range 50 {
		s.from("203.0.113.9:1", post("/cards/retrieve", retrieveBody)).want(t, 403, plainRefused)
		s.from("203.0.113.9:1", post("/cards/retrieve", retrieveBody, "x-tenant-id", "nobody")).want(t, 400, failure("TE_03", "Tenant error: Invalid x-tenant-id"))
	}
	for range 50 { // who is known is told apart, however often he is refused
		s.do(t, post("/cards/retrieve", retrieveBody)).want(t, 404, notFound)
	}
	if got := s.Store.Len() - before; got != 20+20+50 {
		t.Fatalf("%d entries, want 20 of each refusal of the stranger, and 50 of who is known", got)
	}
	if err := s.api.FlushRefusals(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	var counted []string
	entries, err := s.Store.Entries(before + 90)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Op != "card.retrieve" || e.Outcome != audit.Denied || e.Result != "repeated" || e.Who.IP != "203.0.113.9" || e.Who.Type != "anonymous" {
			t.Errorf("got %+v", e)
		}
		counted = append(counted, e.Tenant+": "+e.Detail)
	}
	want := []string{
		": 30 more refusals, 03:04:05Z to 03:04:05Z: unknown_tenant 30",
		"acme: 30 more refusals, 03:04:05Z to 03:04:05Z: denied 30",
	}
	if !slices.Equal(counted, want) {
		t.Errorf("counted %q, want %q", counted, want)
	}
}
