package siem

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"cardea/internal/secret"
)

// batchOf is entries first to first+n-1 of a log.
func batchOf(t testing.TB, log *memLog, first, n int) Batch {
	t.Helper()
	c, err := readLog(t.Context(), log, log.origin, int64(first), int64(first+n), FilterAll, n, 1<<30)
	if err != nil || len(c.events) != n {
		t.Fatalf("%d events, %v", len(c.events), err)
	}
	return Batch{Origin: log.origin, First: int64(first), End: int64(first + n), Events: c.events}
}

// idsIn are the ids in lines of NDJSON.
func idsIn(t testing.TB, text []byte) []string {
	t.Helper()
	var ids []string
	for line := range bytes.Lines(text) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		ids = append(ids, r.Cardea.ID)
	}
	return ids
}

func mustSend(t testing.TB, s Sink, b Batch) {
	t.Helper()
	if n, err := s.Send(t.Context(), b); err != nil || n != len(b.Events) {
		t.Fatalf("%d sent, %v", n, err)
	}
}

func TestFileRotatesAndKeepsWholeLines(t *testing.T) {
	t.Parallel()
	dir, log, c := t.TempDir(), newMemLog(t, "node-1"), &clock{now: testTime}
	log.add(t, 30)
	path := filepath.Join(dir, "cardea.ndjson")
	o := FileOptions{Path: path, Encoder: encoder(FormatNDJSON), MaxBytes: 8000, Keep: 2, Now: c.Now}
	s := NewFile(o)
	for i := range 6 {
		mustSend(t, s, batchOf(t, log, 5*i, 5))
		c.add(time.Second)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil || st.Mode().Perm() != 0o640 || st.Size() > 8000 {
			t.Errorf("%s: %v, %v", f, st, err)
		}
	}
	// Killed in the middle of a line: the next process cuts it off.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(bytes.Clone(whole), `{"integration":"cardea","card`...), 0o640); err != nil {
		t.Fatal(err)
	}
	o.MaxBytes = 0
	s = NewFile(o)
	mustSend(t, s, batchOf(t, log, 0, 1))
	got, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(got, whole) {
		t.Errorf("what was there changed, %v", err)
	}
	if ids := idsIn(t, got); ids[len(ids)-1] != "cardea/node-1#0" {
		t.Errorf("ids %q", ids)
	}
	// By age, and when somebody else has moved it.
	c.add(48 * time.Hour)
	mustSend(t, s, batchOf(t, log, 1, 1))
	if err := os.Rename(path, filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, batchOf(t, log, 2, 1))
	got, err = os.ReadFile(path)
	if ids := idsIn(t, got); err != nil || len(ids) != 1 || ids[0] != "cardea/node-1#2" {
		t.Errorf("ids %q, %v", ids, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFileIsWrittenByOneAtATime: two deliveries, or two nodes, that were given one file would
// cut off and move away each other's lines.
func TestFileIsWrittenByOneAtATime(t *testing.T) {
	t.Parallel()
	const each = 40
	dir, log, c := t.TempDir(), newMemLog(t, "node-1"), &clock{now: testTime}
	log.add(t, 2*each)
	path := filepath.Join(dir, "cardea.ndjson")
	o := FileOptions{Path: path, Encoder: encoder(FormatNDJSON), MaxBytes: 8000, Keep: 1000, Now: func() time.Time { c.add(time.Second); return c.Now() }}
	first := NewFile(o)
	mustSend(t, first, batchOf(t, log, 0, 1))
	if _, err := NewFile(o).Send(t.Context(), batchOf(t, log, each, 1)); !errors.Is(err, errWritten) ||
		err.Error() != path+": another delivery, or another process, writes to this file: each needs a file of its own" {
		t.Errorf("got %v", err)
	}
	var g sync.WaitGroup
	for s, from := range map[*File]int{first: 1, NewFile(o): each} {
		g.Go(func() {
			for i := from; i < each || from == each && i < 2*each; {
				n, err := s.Send(t.Context(), batchOf(t, log, i, 1))
				if i += n; err != nil && !errors.Is(err, errWritten) && !errors.Is(err, errRotated) {
					t.Error(err)
					return
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, idsIn(t, text)...)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	wantIDs(t, log.origin, 2*each, all)
}

func TestFileLeavesAlienFilesAlone(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newMemLog(t, "node-1")
	log.add(t, 1)
	path := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewFile(FileOptions{Path: path, Encoder: encoder(FormatNDJSON), Now: time.Now})
	if _, err := s.Send(t.Context(), batchOf(t, log, 0, 1)); err == nil || !strings.Contains(err.Error(), "it is not a file of this delivery") {
		t.Errorf("got %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 200_000 {
		t.Errorf("%v, %v", st, err)
	}
	s = NewFile(FileOptions{Path: filepath.Join(dir, "none", "x"), Encoder: encoder(FormatNDJSON), Now: time.Now})
	if _, err := s.Send(t.Context(), batchOf(t, log, 0, 1)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// authority makes certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = certificate(t, nil, "authority")
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func certificate(t testing.TB, by *authority, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// server is a TLS configuration that asks clients for a certificate.
func (a *authority) server(t testing.TB) *tls.Config {
	t.Helper()
	cert, key := certificate(t, a, "receiver")
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

// client are the files of a client.
func (a *authority) client(t testing.TB) TLSFiles {
	t.Helper()
	cert, key := certificate(t, a, "node-1")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := TLSFiles{CAFile: a.file, CertificateFile: filepath.Join(dir, "c.pem"), PrivateKeyFile: filepath.Join(dir, "k.pem")}
	for path, block := range map[string]*pem.Block{f.CertificateFile: {Type: "CERTIFICATE", Bytes: cert.Raw}, f.PrivateKeyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// syslogServer is an independent receiver: what it parses are others' rules.
type syslogServer struct {
	net.Listener
	mu  sync.Mutex
	ids []string
	bad []error
	wg  sync.WaitGroup
	// act, if set, is what is done with the n-th connection instead of reading it to
	// its end; true if it was dealt with.
	act func(n int, c net.Conn) bool
}

func newSyslogServer(t testing.TB, config *tls.Config, act func(n int, c net.Conn) bool) *syslogServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &syslogServer{Listener: l, act: act}
	s.wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer conn.Close()
				if s.act != nil && s.act(n, conn) {
					return
				}
				c := conn
				if config != nil {
					c = tls.Server(conn, config)
				}
				s.read(c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); s.wg.Wait() })
	return s
}

func (s *syslogServer) read(r io.Reader) {
	octetcounting.NewParser(syslog.WithMaxMessageLength(2*MaxMessage), syslog.WithListener(func(res *syslog.Result) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if res.Error != nil {
			s.bad = append(s.bad, res.Error)
			return
		}
		m, ok := res.Message.(*rfc5424.SyslogMessage)
		if !ok || m.StructuredData == nil {
			s.bad = append(s.bad, errors.New("no structured data"))
			return
		}
		s.ids = append(s.ids, (*m.StructuredData)["cardea@32473"]["id"])
	})).Parse(r)
}

func (s *syslogServer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ids...)
}

func TestSyslogOverTLSIsReadByAnIndependentReceiver(t *testing.T) {
	t.Parallel()
	a, log := newAuthority(t), newMemLog(t, "node-1")
	log.add(t, 60)
	server := newSyslogServer(t, a.server(t), nil)
	config, err := a.client(t).Config()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range Formats() {
		s := NewSyslog(SyslogOptions{Address: server.Addr().String(), TLS: config, Encoder: encoder(f), Unconfirmed: i%2 == 1})
		mustSend(t, s, batchOf(t, log, 12*i, 6))
		mustSend(t, s, batchOf(t, log, 12*i+6, 6))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all is there", func() bool { return len(server.got()) == 60 })
	if len(server.bad) > 0 {
		t.Errorf("receiver: %v", server.bad)
	}
	seen := map[string]bool{}
	for _, id := range server.got() {
		seen[id] = true
	}
	if len(seen) != 60 {
		t.Errorf("%d ids", len(seen))
	}
}

func TestSyslogRefusesStrangersAndOldTLS(t *testing.T) {
	t.Parallel()
	a, b, log := newAuthority(t), newAuthority(t), newMemLog(t, "node-1")
	log.add(t, 1)
	old := a.server(t)
	old.MaxVersion = tls.VersionTLS11
	weak := a.server(t)
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	for name, tc := range map[string]struct {
		server *tls.Config
		client TLSFiles
		want   string
	}{
		"receiver of another authority": {a.server(t), b.client(t), "certificate signed by unknown authority"},
		"no client certificate":         {a.server(t), TLSFiles{CAFile: a.file}, "did not confirm"},
		"TLS 1.1":                       {old, a.client(t), "protocol version"},
		"no forward secrecy":            {weak, a.client(t), "handshake failure"},
	} {
		server := newSyslogServer(t, tc.server, nil)
		config, err := tc.client.Config()
		if err != nil {
			t.Fatal(err)
		}
		s := NewSyslog(SyslogOptions{Address: server.Addr().String(), TLS: config, Encoder: encoder(FormatRFC5424)})
		if n, err := s.Send(t.Context(), batchOf(t, log, 0, 1)); n != 0 || err == nil || !strings.Contains(err.Error(), tc.want) && !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("%s: %d, %v, want %q", name, n, err, tc.want)
		}
		if len(server.got()) > 0 {
			t.Errorf("%s: got %q", name, server.got())
		}
	}
}

func TestSyslogReceiverThatDoesNotReadGetsTheBatchAgain(t *testing.T) {
	t.Parallel()
	log := newMemLog(t, "node-1")
	log.add(t, 300)
	half := make(chan struct{})
	server := newSyslogServer(t, nil, func(n int, c net.Conn) bool {
		switch n {
		case 0: // closes at once
			return true
		case 1: // reads a part, then dies
			io.CopyN(io.Discard, c, 1000)
			return true
		case 2: // is half there: neither reads nor ends
			<-half
			return true
		case 3: // resets
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			return true
		}
		return false
	})
	t.Cleanup(func() { close(half) }) // before the receiver is waited for
	// Only the tries that fail have little time: some end with it.
	got := &counting{Sink: NewSyslog(SyslogOptions{Address: server.Addr().String(), Encoder: encoder(FormatNDJSON)}), hurried: 4}
	o, _, _ := options(t, t.TempDir(), []*memLog{log}, Receiver{Name: "siem", Sink: got, BatchEntries: 100, Timeout: 5 * time.Minute})
	running(t, mustOpen(t, o))
	eventually(t, "all is there", func() bool { return len(server.got()) >= 300 })
	wantIDs(t, log.origin, 300, server.got())
	if got.failures() != 4 {
		t.Errorf("%d tries failed, want 4", got.failures())
	}
}

// counting counts the errors of a sink, whose first tries have five seconds each.
type counting struct {
	Sink
	hurried int
	mu      sync.Mutex
	failed  int
}

func (c *counting) Send(ctx context.Context, b Batch) (int, error) {
	if c.failures() < c.hurried {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	n, err := c.Sink.Send(ctx, b)
	if err != nil {
		c.mu.Lock()
		c.failed++
		c.mu.Unlock()
	}
	return n, err
}

func (c *counting) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func TestSyslogWithNewlines(t *testing.T) {
	t.Parallel()
	log := newMemLog(t, "node-1")
	log.add(t, 5)
	lines := make(chan string, 10)
	server := newSyslogServer(t, nil, func(_ int, c net.Conn) bool {
		for sc := bufio.NewScanner(c); sc.Scan(); {
			lines <- sc.Text()
		}
		return true
	})
	s := NewSyslog(SyslogOptions{Address: server.Addr().String(), Encoder: encoder(FormatCEF), Newlines: true})
	mustSend(t, s, batchOf(t, log, 0, 5))
	for range 5 {
		if line := <-lines; !strings.HasPrefix(line, "<110>1 2026-11-22T") || !strings.Contains(line, "] CEF:0|Cardea|") {
			t.Errorf("line %q", line)
		}
	}
}

func TestWebhookSignsAndUnderstandsAnswers(t *testing.T) {
	t.Parallel()
	log, key := newMemLog(t, "node-1"), secret.New([]byte("0123456789abcdef0123456789abcdef"))
	log.add(t, 8)
	answer := make(chan func(w http.ResponseWriter), 1)
	var bodies [][]byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want := Sign(key, r.Header.Get(HeaderTimestamp), r.Header.Get(HeaderDelivery), body)
		if err != nil || r.Header.Get(HeaderSignature) != want || r.Header.Get(HeaderTimestamp) != "1795330862" || r.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("headers %v, %v", r.Header, err)
		}
		bodies = append(bodies, body)
		select {
		case a := <-answer:
			a(w)
		default:
		}
	}))
	defer server.Close()
	s := NewWebhook(WebhookOptions{URL: server.URL, Encoder: encoder(FormatNDJSON), Key: key, Now: (&clock{now: testTime}).Now})
	defer s.Close()
	mustSend(t, s, batchOf(t, log, 0, 8))
	wantIDs(t, log.origin, 8, idsIn(t, bodies[0]))

	redirected := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected = true }))
	defer elsewhere.Close()
	status := func(code int, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if len(header) == 2 {
				w.Header().Set(header[0], header[1])
			}
			w.WriteHeader(code)
			io.WriteString(w, "reason\nwith \x1b[31m")
		}
	}
	for name, tc := range map[string]struct {
		answer   func(http.ResponseWriter)
		rejected bool
		after    time.Duration
	}{
		"bad request": {status(400), true, 0},
		"too large":   {status(413), true, 0},
		"not allowed": {status(403), false, 0},
		"throttled":   {status(429, "Retry-After", "17"), false, 17 * time.Second},
		"unavailable": {status(503, "Retry-After", "Sun, 22 Nov 2026 07:02:02 GMT"), false, 59*time.Second + 654322*time.Microsecond},
		"error":       {status(500), false, 0},
		"redirect":    {status(307, "Location", elsewhere.URL), false, 0},
	} {
		answer <- tc.answer
		n, err := s.Send(t.Context(), batchOf(t, log, 0, 1))
		_, rejected := errors.AsType[*RejectedError](err)
		later, _ := errors.AsType[*RetryError](err)
		if n != 0 || err == nil || rejected != tc.rejected || (later != nil) != (tc.after > 0) || later != nil && later.After != tc.after {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: the receiver steers the operator's log: %q", name, err)
		}
	}
	if redirected {
		t.Error("a redirect was followed")
	}
	other := secret.New([]byte("another key of another receiver!"))
	if Sign(key, "1", "a", []byte("b")) == Sign(other, "1", "a", []byte("b")) || Sign(key, "1", "a", []byte("b")) == Sign(key, "1", "ab", nil) {
		t.Error("signatures do not depend on the key, or not on where a part ends")
	}
}

// bucket is an S3 as far as it is used here.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	headers map[string]http.Header
	puts    int
	drop    func(puts int) bool // the answer of this put gets lost, after it was done
}

func newBucket(t testing.TB) (*bucket, S3Options) {
	t.Helper()
	b := &bucket{objects: map[string][]byte{}, headers: map[string]http.Header{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	return b, S3Options{Bucket: "logs", Prefix: "pci", Region: "eu-central-1", Endpoint: server.URL}
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPut {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if _, there := b.objects[r.URL.Path]; there && r.Header.Get("If-None-Match") == "*" {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	b.objects[r.URL.Path], b.headers[r.URL.Path] = body, r.Header
	b.puts++
	if b.drop != nil && b.drop(b.puts) {
		panic(http.ErrAbortHandler)
	}
}

func TestS3PutsTheSameBatchUnderTheSameName(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	b, o := newBucket(t)
	b.drop = func(n int) bool { return n <= 2 } // also the SDK's own second try
	dir, log := t.TempDir(), newMemLog(t, "node-1")
	log.add(t, 12)
	start := func() error {
		s, err := NewS3(t.Context(), o, encoder(FormatNDJSON))
		if err != nil {
			t.Fatal(err)
		}
		do, _, _ := options(t, dir, []*memLog{log}, Receiver{Name: "archive", Sink: s, BatchEntries: 100})
		d := mustOpen(t, do)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		err = d.pumps[0].d.drainOnce(ctx)
		if cerr := d.Close(); cerr != nil {
			t.Fatal(cerr)
		}
		return err
	}
	if err := start(); err == nil {
		t.Fatal("the answer was lost, and nobody noticed")
	}
	log.add(t, 5) // what comes now must not change the batch
	if err := start(); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range []string{
		"/logs/pci/cardea/node-1/2026/11/22/00000000000000000000-00000000000000000011.ndjson.gz",
		"/logs/pci/cardea/node-1/2026/11/22/00000000000000000012-00000000000000000016.ndjson.gz",
	} {
		z, err := gzip.NewReader(bytes.NewReader(decodeChunks(b.objects[name], b.headers[name])))
		if err != nil {
			t.Fatalf("%s: %v; there are %d objects", name, err, len(b.objects))
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, idsIn(t, text)...)
	}
	wantIDs(t, log.origin, 17, all)
	if len(b.objects) != 2 {
		t.Errorf("%d objects", len(b.objects))
	}
}

// TestS3KeepsAllButWhatCannotBeWritten: the parts of a batch in which one event cannot
// be written do not replace each other.
func TestS3KeepsAllButWhatCannotBeWritten(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	b, o := newBucket(t)
	s, err := NewS3(t.Context(), o, encoder(FormatNDJSON))
	if err != nil {
		t.Fatal(err)
	}
	do, _, _ := options(t, t.TempDir(), nil, Receiver{Name: "archive", Sink: s, Filter: FilterAlerts})
	d := mustOpen(t, do)
	defer d.Close()
	var want []string
	for i := range 7 {
		a := testAlert("")
		a.ID = fmt.Sprint("a-", i)
		ev := AlertEvent(a)
		if i == 2 {
			ev.Alert.Reason = strings.Repeat("x", 2*MaxMessage) // as no release of ours hands over
		} else {
			want = append(want, ev.ID)
		}
		if err := d.Spool().Append(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.drainOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range b.objects {
		z, err := gzip.NewReader(bytes.NewReader(decodeChunks(b.objects[name], b.headers[name])))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, idsIn(t, text)...)
	}
	got = slices.DeleteFunc(got, func(id string) bool { return !strings.HasPrefix(id, "alert/") }) // that one is parked is told too
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q; objects %q", got, want, slices.Collect(maps.Keys(b.objects)))
	}
}

// decodeChunks undoes the framing of signed uploads, if there is any.
func decodeChunks(body []byte, h http.Header) []byte {
	if !strings.Contains(h.Get("Content-Encoding"), "aws-chunked") {
		return body
	}
	var out []byte
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte("\r\n"))
		var size int
		for _, c := range line {
			if c == ';' {
				break
			}
			size = size*16 + strings.IndexByte("0123456789abcdef", c|0x20)
			if c >= '0' && c <= '9' {
				size = size/16*16 + int(c-'0')
			}
		}
		if size == 0 || size > len(rest) {
			break
		}
		out, body = append(out, rest[:size]...), rest[size+2:]
	}
	return out
}
