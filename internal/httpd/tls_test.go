package httpd_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/bubble"
	"cardea/internal/httpd"
	"cardea/internal/testlog"
)

// servedName is the common name of the certificate that a new connection meets.
func servedName(t *testing.T, r *running, config *tls.Config) string {
	t.Helper()
	conn, err := tls.Dial("tcp", r.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestTLSFloor(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "first")
	r := start(t, httpd.Options{Addr: "0.0.0.0:0", TLS: files.options(), Handler: http.HandlerFunc(ok)})
	addr := strings.TrimPrefix(r.URL(), "https://")
	for name, tc := range map[string]struct {
		client *tls.Config
		works  bool
	}{
		"TLS 1.3": {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2": {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"TLS 1.1": {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"CBC": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		}}, false},
		"no forward secrecy": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.client.RootCAs = ca.pool()
			conn, err := tls.Dial("tcp", addr, tc.client)
			if err == nil {
				conn.Close()
			}
			if (err == nil) != tc.works {
				t.Errorf("handshake: %v, want it to work: %v", err, tc.works)
			}
		})
	}
}

func TestTLSServesHTTP2AndHTTP1(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "first")
	r := start(t, httpd.Options{TLS: files.options(), Handler: http.HandlerFunc(ok)})
	c := client(t, &tls.Config{RootCAs: ca.pool()})
	if resp, b := get(t, c, r.URL()); resp.ProtoMajor != 2 || b != "ok" || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("got %s %q", resp.Proto, b)
	}
	c1 := client(t, &tls.Config{RootCAs: ca.pool(), NextProtos: []string{"http/1.1"}})
	c1.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	if resp, _ := get(t, c1, r.URL()); resp.ProtoMajor != 1 {
		t.Errorf("got %s", resp.Proto)
	}
}

func TestPlainHTTPOnATLSListenerIsNoRequest(t *testing.T) {
	files := tlsFiles{t.TempDir()}
	files.writePair(t, newAuthority(t, "ca"), "first")
	reg := prometheus.NewRegistry()
	called := false
	r := start(t, httpd.Options{TLS: files.options(), Metrics: reg, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	closedByServer(t, conn)
	eventually(t, "the failed handshake is counted", func() bool {
		n, _ := sample(t, reg, "cardea_tls_handshake_errors_total", "listener=vault")
		return n == 1
	})
	if called {
		t.Error("the handler saw a request that came in clear")
	}
}

func TestListenNamesTheTLSFileThatIsWrong(t *testing.T) {
	ca := newAuthority(t, "ca")
	certificate, key := ca.issue(t, "one")
	_, otherKey := ca.issue(t, "two")
	for name, tc := range map[string]struct {
		files map[string][]byte
		want  []string
	}{
		"no certificate": {map[string][]byte{"tls.key": key}, []string{"tls.crt", "no such file"}},
		"no key":         {map[string][]byte{"tls.crt": certificate}, []string{"tls.key", "no such file"}},
		"key of another": {map[string][]byte{"tls.crt": certificate, "tls.key": otherKey}, []string{"tls.crt with", "private key does not match"}},
		"not PEM":        {map[string][]byte{"tls.crt": []byte("hello"), "tls.key": key}, []string{"tls.crt with", "failed to find any PEM"}},
		"too large":      {map[string][]byte{"tls.crt": make([]byte, 1<<20+1), "tls.key": key}, []string{"tls.crt", "at most 1048576 bytes"}},
		"no client CA":   {map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": []byte("x")}, []string{"ca.crt: no certificate in it"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := tlsFiles{t.TempDir()}
			for n, b := range tc.files {
				files.write(t, n, b)
			}
			o := files.options()
			if tc.files["ca.crt"] != nil {
				o.ClientCAFile, o.ClientCertificates = files.path("ca.crt"), httpd.ClientCertificatesRequired
			}
			s, err := httpd.New(httpd.Options{Name: "vault", Addr: "127.0.0.1:0", TLS: o, Handler: http.HandlerFunc(ok)})
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, s.Listen(), append(tc.want, "listener vault: load TLS files")...)
		})
	}
}

func TestReloadServesTheNewCertificateAndKeepsTheOldOverABrokenOne(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "first")
	reg, logs := prometheus.NewRegistry(), &testlog.Buffer{}
	r := start(t, httpd.Options{TLS: files.options(), Metrics: reg, Logger: debugLogger(t, logs), Handler: http.HandlerFunc(ok)})
	trust := &tls.Config{RootCAs: ca.pool()}
	if got := servedName(t, r, trust); got != "first" {
		t.Fatalf("served %q", got)
	}
	expiry, _ := sample(t, reg, "cardea_tls_certificate_expiry_timestamp_seconds", "listener=vault")
	if left := time.Until(time.Unix(int64(expiry), 0)); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("expiry metric is %v from now, want about 24 h", left)
	}

	files.writePair(t, ca, "second")
	if err := r.ReloadTLS(); err != nil {
		t.Fatal(err)
	}
	if got := servedName(t, r, trust); got != "second" {
		t.Errorf("after a reload: served %q", got)
	}

	_, strange := ca.issue(t, "third")
	files.write(t, "tls.key", strange)
	wantError(t, r.ReloadTLS(), "private key does not match")
	if got := servedName(t, r, trust); got != "second" {
		t.Errorf("after a broken reload: served %q", got)
	}
	if n, _ := sample(t, reg, "cardea_tls_reloads_total", "outcome=failed"); n != 1 {
		t.Errorf("failed reloads counted: %v, want 1", n)
	}
	if !strings.Contains(logs.String(), "TLS files not reloaded") || !strings.Contains(logs.String(), "TLS files reloaded") {
		t.Errorf("the log tells neither: %s", logs)
	}
}

func TestChangedFilesAreNoticedWithoutBeingTold(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "first")
	o := files.options()
	o.PollInterval = 5 * time.Millisecond
	reg := prometheus.NewRegistry()
	r := start(t, httpd.Options{TLS: o, Metrics: reg, Handler: http.HandlerFunc(ok)})
	trust := &tls.Config{RootCAs: ca.pool()}

	if err := os.Remove(files.path("tls.crt")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file is noticed", func() bool {
		n, _ := sample(t, reg, "cardea_tls_reloads_total", "outcome=failed")
		return n == 1
	})
	if got := servedName(t, r, trust); got != "first" {
		t.Errorf("without the file: served %q", got)
	}
	files.writePair(t, ca, "second")
	eventually(t, "the new certificate is served", func() bool { return servedName(t, r, trust) == "second" })
}

func TestAnUnchangedBrokenFileIsReportedOnce(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "first")
	bubble.Test(t, func(t *testing.T) {
		logs := &testlog.Buffer{}
		store := httpd.NewCertificateStore(*files.options(), debugLogger(t, logs))
		if err := store.Load(); err != nil {
			t.Fatal(err)
		}
		files.write(t, "tls.crt", []byte("broken"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour+time.Minute) // ten looks
		defer cancel()
		store.Watch(ctx)
		if n := strings.Count(logs.String(), "not reloaded"); n != 1 {
			t.Errorf("reported %d times in ten looks, want once", n)
		}
	})
}

func TestClientCertificates(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	good, bad := ca.clientPair(t, "hyperswitch"), stranger.clientPair(t, "hyperswitch")
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if c := httpd.ClientCertificate(r); c != nil {
			name = c.Subject.CommonName
		}
		_, _ = io.WriteString(w, name)
	})
	for name, tc := range map[string]struct {
		mode  httpd.ClientCertificates
		certs []tls.Certificate
		want  string // "" means no answer
	}{
		"off, none":         {httpd.ClientCertificatesOff, nil, "nobody"},
		"off, given":        {httpd.ClientCertificatesOff, []tls.Certificate{good}, "nobody"},
		"optional, none":    {httpd.ClientCertificatesOptional, nil, "nobody"},
		"optional, given":   {httpd.ClientCertificatesOptional, []tls.Certificate{good}, "hyperswitch"},
		"optional, strange": {httpd.ClientCertificatesOptional, []tls.Certificate{bad}, ""},
		"required, none":    {httpd.ClientCertificatesRequired, nil, ""},
		"required, given":   {httpd.ClientCertificatesRequired, []tls.Certificate{good}, "hyperswitch"},
		"required, strange": {httpd.ClientCertificatesRequired, []tls.Certificate{bad}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := tlsFiles{t.TempDir()}
			files.writePair(t, ca, "server")
			files.write(t, "ca.crt", ca.pem)
			o := files.options()
			o.ClientCertificates = tc.mode
			if tc.mode != httpd.ClientCertificatesOff {
				o.ClientCAFile = files.path("ca.crt")
			}
			r := start(t, httpd.Options{TLS: o, Handler: who})
			c := client(t, &tls.Config{RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(tc.certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &tc.certs[0], nil // even if the server's list of authorities does not name its issuer
			}})
			resp, err := c.Get(r.URL())
			got := ""
			if err == nil {
				got = body(t, resp)
			}
			if got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

func TestClientCAChangeTakesEffectForReturningClients(t *testing.T) {
	ca, next := newAuthority(t, "ca"), newAuthority(t, "next")
	files := tlsFiles{t.TempDir()}
	files.writePair(t, ca, "server")
	files.write(t, "ca.crt", ca.pem)
	o := files.options()
	o.ClientCAFile, o.ClientCertificates = files.path("ca.crt"), httpd.ClientCertificatesRequired
	r := start(t, httpd.Options{TLS: o, Handler: http.HandlerFunc(ok)})
	config := &tls.Config{
		RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.clientPair(t, "old")},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if _, b := get(t, client(t, config), r.URL()); b != "ok" {
		t.Fatalf("got %q", b)
	}
	files.write(t, "ca.crt", next.pem)
	if err := r.ReloadTLS(); err != nil {
		t.Fatal(err)
	}
	if resp, err := client(t, config).Get(r.URL()); err == nil {
		resp.Body.Close()
		t.Error("a client whose authority was removed came in again")
	}
}
