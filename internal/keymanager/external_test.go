package keymanager

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// encryptionService speaks the contract of Hyperswitch's encryption service. What it
// encrypts is bound to nothing but the tenant and the key.
type encryptionService struct {
	*httptest.Server
	mu      sync.Mutex // guards all below
	keys    map[string]bool
	calls   map[string]int
	fail    func(w http.ResponseWriter, r *http.Request) bool // answers itself if true
	headers []http.Header
}

func newEncryptionService(t testing.TB, start func(*httptest.Server)) *encryptionService {
	t.Helper()
	s := &encryptionService{keys: map[string]bool{}, calls: map[string]int{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = nil
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *encryptionService) failWith(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.calls = f, map[string]int{}
}

func (s *encryptionService) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

func (s *encryptionService) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[r.URL.Path]++
	s.headers = append(s.headers, r.Header.Clone())
	if s.fail != nil && s.fail(w, r) {
		return
	}
	if r.URL.Path == "/health" && r.Method == http.MethodGet {
		return
	}
	var in struct {
		DataIdentifier string `json:"data_identifier"`
		KeyIdentifier  string `json:"key_identifier"`
		Data           string `json:"data"`
	}
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil || r.Method != http.MethodPost || in.DataIdentifier != "Entity" || len(in.KeyIdentifier) != 20 || r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := r.Header.Get("X-Tenant-Id") + "/" + in.KeyIdentifier
	answer := map[string]string{}
	switch {
	case r.URL.Path == "/key/create" && s.keys[key]:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case r.URL.Path == "/key/create":
		s.keys[key] = true
		answer = map[string]string{"data_identifier": "Entity", "key_identifier": in.KeyIdentifier, "key_version": "v1"}
	case !s.keys[key]:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.URL.Path == "/data/encrypt":
		p, err := base64.StdEncoding.DecodeString(in.Data)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer["data"] = "v1:" + base64.StdEncoding.EncodeToString(newFakeKMS().aead("/"+key).Seal(nil, nil, p, nil))
	case r.URL.Path == "/data/decrypt":
		c, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in.Data, "v1:"))
		var p []byte
		if err == nil {
			p, err = newFakeKMS().aead("/"+key).Open(nil, nil, c, nil)
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer["data"] = base64.StdEncoding.EncodeToString(p)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

func newService(t testing.TB, tenant string, o ServiceOptions) *Service {
	t.Helper()
	s, err := NewService(tenant, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *encryptionService) rootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// someKey is a key as the inventory names it.
func someKey() vault.WrappedKey {
	return vault.WrappedKey{ID: vault.NewKeyID(), Tenant: "acme", Holder: "m", Purpose: vault.PurposeRecord, Version: 1, State: vault.KeyActive}
}

func TestExternalServiceOverMutualTLS(t *testing.T) {
	t.Parallel()
	client := httptest.NewTLSServer(nil) // has a certificate with a key, for the client
	defer client.Close()
	pool := x509.NewCertPool()
	pool.AddCert(client.Certificate())
	s := newEncryptionService(t, func(h *httptest.Server) {
		h.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
		h.StartTLS()
	})
	o := ServiceOptions{URL: s.URL, RootCAs: s.rootPEM(), Certificate: &client.TLS.Certificates[0], Credentials: secret.New([]byte("0123456789abcdef0123456789ABCDEF"))}
	w := ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", o)}))
	key := someKey()
	var inClear secret.Bytes
	var err error
	if key.Wrapped, inClear, err = w.Generate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Unwrap(t.Context(), key); err != nil || !got.Equal(inClear) {
		t.Errorf("%v, or another key", err)
	}
	const want = "Basic MzAzMTMyMzMzNDM1MzYzNzM4Mzk2MTYyNjM2NDY1NjY6MzAzMTMyMzMzNDM1MzYzNzM4Mzk0MTQyNDM0NDQ1NDY="
	for _, h := range s.headers {
		if h.Get("X-Tenant-Id") != "acme" || h.Get("Authorization") != want {
			t.Error("a call without the tenant or its credentials")
		}
	}
	for name, change := range map[string]func(*ServiceOptions){
		"without a certificate":     func(o *ServiceOptions) { o.Certificate = nil },
		"with the system's roots":   func(o *ServiceOptions) { o.RootCAs = nil },
		"to where nothing listens":  func(o *ServiceOptions) { o.URL = "https://127.0.0.1:1" },
		"with another's root alone": func(o *ServiceOptions) { o.RootCAs = otherRoot(t) },
	} {
		o := o
		o.Credentials = secret.Bytes{}
		change(&o)
		w := ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", o)}))
		_, err := w.Unwrap(t.Context(), key)
		if k, ok := errors.AsType[*vault.KeyError](err); !ok || k.Result != "key_unreachable" || !errors.Is(err, vault.ErrKeyUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestExternalServiceIsReplacedWhileItIsUsed: a configuration that is read again brings
// another client for the same service, and closes the one before.
func TestExternalServiceIsReplacedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	s := newEncryptionService(t, (*httptest.Server).Start)
	entered, goOn := make(chan struct{}, 1), make(chan struct{})
	s.failWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Basic MzAz") {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if r.URL.Path == "/key/create" { // between two calls that one key takes
			entered <- struct{}{}
			<-goOn
		}
		return false
	})
	credentials := secret.New([]byte("0123456789abcdef0123456789ABCDEF"))
	o := func() ServiceOptions {
		return ServiceOptions{URL: s.URL, Credentials: secret.Copy(credentials.Expose())}
	}
	before := newService(t, "acme", o())
	tenants := NewExternalTenants(map[string]*Service{"acme": before})
	w := ExternalWrapper(tenants)
	done := make(chan error, 1)
	go func() {
		_, key, err := w.Generate(t.Context(), someKey())
		key.Destroy()
		done <- err
	}()
	<-entered
	tenants.Replace(map[string]*Service{"acme": newService(t, "acme", o())})
	before.Close()
	if !before.o.Credentials.Present() || before.o.Credentials.Len() == 0 {
		t.Error("the credentials are gone while they are used")
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := before.o.Credentials.Len(); n != 0 {
		t.Error("the credentials stay when they are used no more")
	}
	if err := w.Usable("acme"); err != nil {
		t.Error(err)
	}
	for _, s := range tenants.Replace(map[string]*Service{"acme": before}) {
		s.Close()
	}
	if err := w.Usable("acme"); !errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("a closed service: %v", err)
	}
}

// otherRoot is an authority that has signed nothing here.
func otherRoot(t *testing.T) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(mustCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func TestExternalServiceMakesItsKeyOnce(t *testing.T) {
	t.Parallel()
	s := newEncryptionService(t, (*httptest.Server).Start)
	services := map[string]*Service{"acme": newService(t, "acme", ServiceOptions{URL: s.URL}), "beta": newService(t, "beta", ServiceOptions{URL: s.URL})}
	w := ExternalWrapper(NewExternalTenants(services))
	for _, err := range together(8, func(i int) error {
		k := someKey()
		k.Tenant = []string{"acme", "beta"}[i%2]
		_, _, err := w.Generate(t.Context(), k)
		return err
	}) {
		if err != nil {
			t.Error(err)
		}
	}
	if len(s.keys) != 2 {
		t.Errorf("%d keys in the service, want one a tenant: %v", len(s.keys), slices.Sorted(maps.Keys(s.keys)))
	}
}

// TestKeysWrappedElsewhereAreBoundToTheirNames: neither the HSM's form nor the
// service's, which binds nothing itself, stands in for another key's.
func TestKeysWrappedElsewhereAreBoundToTheirNames(t *testing.T) {
	t.Parallel()
	s := newEncryptionService(t, (*httptest.Server).Start)
	for _, w := range []Wrapper{
		ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", ServiceOptions{URL: s.URL}), "beta": newService(t, "acme", ServiceOptions{URL: s.URL})})),
		HSMWrapper(NewHSMTenants(map[string]HSMKey{"acme": fakeHSMKey(&fakeHSM{}), "beta": fakeHSMKey(&fakeHSM{})})),
	} {
		key := someKey()
		var err error
		var inClear secret.Bytes
		if key.Wrapped, inClear, err = w.Generate(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Unwrap(t.Context(), key); err != nil || !got.Equal(inClear) || !w.Current(key) {
			t.Fatalf("%s: unwrap: %v, or another key", w.Mode(), err)
		}
		again := key
		if again.Wrapped, err = w.Wrap(t.Context(), key, inClear); err != nil {
			t.Fatal(err)
		}
		if got, err := w.Unwrap(t.Context(), again); err != nil || !got.Equal(inClear) {
			t.Errorf("%s: wrapped anew: %v, or another key", w.Mode(), err)
		}
		for name, change := range map[string]func(*vault.WrappedKey){
			"tenant":  func(k *vault.WrappedKey) { k.Tenant = "beta" },
			"holder":  func(k *vault.WrappedKey) { k.Holder = "n" },
			"purpose": func(k *vault.WrappedKey) { k.Purpose = vault.PurposeDedupe },
			"id":      func(k *vault.WrappedKey) { k.ID = vault.NewKeyID() },
			"version": func(k *vault.WrappedKey) { k.Version = 2 },
			"id, its bytes changed as well": func(k *vault.WrappedKey) {
				k.Wrapped = slices.Clone(k.Wrapped)
				k.ID[3] ^= 1 // not set: it is a time's, and may be any
				k.Wrapped[2+3] ^= 1
			},
			"version, its bytes changed as well": func(k *vault.WrappedKey) {
				k.Wrapped = slices.Clone(k.Wrapped)
				k.Version, k.Wrapped[21] = 2, 2
			},
		} {
			other := key
			change(&other)
			if _, err := w.Unwrap(t.Context(), other); !errors.Is(err, vault.ErrCorrupt) {
				t.Errorf("%s, other %s: got %v, want ErrCorrupt", w.Mode(), name, err)
			}
		}
		for i := range key.Wrapped {
			bad := key
			bad.Wrapped = flip(key.Wrapped, i)
			if _, err := w.Unwrap(t.Context(), bad); !errors.Is(err, vault.ErrCorrupt) && !errors.Is(err, vault.ErrKeyUnavailable) {
				t.Errorf("%s, byte %d: got %v", w.Mode(), i, err)
			}
		}
		stranger := key
		stranger.Tenant = "nobody"
		if _, err := w.Unwrap(t.Context(), stranger); !errors.Is(err, vault.ErrKeyUnavailable) || w.Usable("nobody") == nil || w.Usable("acme") != nil {
			t.Errorf("%s: tenant that has none: got %v", w.Mode(), err)
		}
	}
}

func TestFailuresOfTheExternalServiceAreToldApart(t *testing.T) {
	t.Parallel()
	s := newEncryptionService(t, (*httptest.Server).Start)
	w := ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", ServiceOptions{URL: s.URL})}))
	key := someKey()
	var err error
	if key.Wrapped, _, err = w.Generate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	body := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			io.WriteString(w, text)
			return true
		}
	}
	for name, tc := range map[string]struct {
		fail   func(http.ResponseWriter, *http.Request) bool
		is     error
		result string
		calls  int
	}{
		"401":               {status(401), vault.ErrKeyUnavailable, "key_denied", 1},
		"403":               {status(403), vault.ErrKeyUnavailable, "key_denied", 1},
		"404":               {status(404), vault.ErrKeyUnavailable, "key_not_found", 1},
		"400":               {status(400), vault.ErrCorrupt, "", 1},
		"429":               {status(429, "Retry-After", "7"), vault.ErrKeyThrottled, "key_throttled", 1},
		"500":               {status(500), vault.ErrKeyUnavailable, "key_unreachable", 1},
		"503":               {status(503), vault.ErrKeyUnavailable, "key_unreachable", serviceTries},
		"201 is no success": {status(201), vault.ErrKeyUnavailable, "key_refused", 1},
		"redirect":          {status(302, "Location", "/data/encrypt"), vault.ErrKeyUnavailable, "key_refused", 1},
		"no JSON":           {body("<html>"), vault.ErrKeyUnavailable, "key_unreachable", 1},
		"too long":          {body(strings.Repeat(" ", maxServiceBody+1)), vault.ErrKeyUnavailable, "key_unreachable", serviceTries},
		"another plaintext": {body(`{"data":"aGVsbG8="}`), vault.ErrCorrupt, "", 1},
		"broken off":        {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, vault.ErrKeyUnavailable, "key_unreachable", serviceTries},
	} {
		s.failWith(tc.fail)
		_, err := w.Unwrap(t.Context(), key)
		k, ok := errors.AsType[*vault.KeyError](err)
		if !errors.Is(err, tc.is) || ok != (tc.result != "") || ok && k.Result != tc.result {
			t.Errorf("%s: got %v", name, err)
		}
		if got := s.count("/data/decrypt"); got != tc.calls {
			t.Errorf("%s: %d calls, want %d", name, got, tc.calls)
		}
		if name == "429" && (!ok || k.RetryAfter != 7*time.Second) {
			t.Errorf("%s: %+v", name, k)
		}
	}
	s.failWith(body(`{"data":"not ciphertext"}`))
	if _, _, err := w.Generate(t.Context(), someKey()); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "something else than ciphertext") {
		t.Errorf("got %v", err)
	}
	s.failWith(status(401))
	if _, _, err := w.Generate(t.Context(), someKey()); !errors.Is(err, vault.ErrKeyUnavailable) || s.count("/key/create") != 0 {
		t.Errorf("got %v, %d keys were asked for", err, s.count("/key/create"))
	}
	s.failWith(nil)
	if _, err := w.Unwrap(t.Context(), key); err != nil {
		t.Errorf("when all is well again: %v", err)
	}
	if err := newService(t, "acme", ServiceOptions{URL: s.URL}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestExternalServiceThatHangsEndsInTime(t *testing.T) {
	t.Parallel()
	s := newEncryptionService(t, (*httptest.Server).Start)
	w := ExternalWrapper(NewExternalTenants(map[string]*Service{"acme": newService(t, "acme", ServiceOptions{URL: s.URL, Timeout: 200 * time.Millisecond})}))
	key := someKey()
	var err error
	for range 50 { // a busy machine may need more than the timeout
		if key.Wrapped, _, err = w.Generate(t.Context(), key); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	s.failWith(func(_ http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return true
	})
	_, err = w.Unwrap(t.Context(), key)
	if k, ok := errors.AsType[*vault.KeyError](err); !ok || k.Result != "key_unreachable" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Unwrap(ctx, key); !errors.Is(err, context.Canceled) || errors.Is(err, vault.ErrKeyUnavailable) {
		t.Errorf("the caller gave up: got %v", err)
	}
}

func TestServiceOptionsThatAreNone(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]ServiceOptions{
		"url of the encryption service: expected https://host or https://host:port":                                                         {URL: "ftp://x"},
		"url of the encryption service: http://keys.example.com is plain HTTP to another machine, which would see keys in clear; use https": {URL: "http://keys.example.com"},
		"credentials for the encryption service have 3 bytes, want 32":                                                                      {URL: "https://x", Credentials: secret.New([]byte("abc"))},
		"authorities for the encryption service: no PEM certificate":                                                                        {URL: "https://x", RootCAs: []byte("x")},
	} {
		if _, err := NewService("acme", o); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// fakeHSM has keys in memory, and fails if a test wants that.
type fakeHSM struct{ fail error }

func fakeHSMKey(h HSM) HSMKey {
	return HSMKey{HSM: h, Label: "vault", URI: "pkcs11:token=t;object=vault"}
}

func (f *fakeHSM) SealUnder(_ context.Context, label string, aad []byte, p secret.Bytes) ([]byte, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	return newFakeKMS().aead("/"+label).Seal(nil, nil, p.Expose(), aad), nil
}

func (f *fakeHSM) OpenUnder(_ context.Context, label string, aad, sealed []byte) (secret.Bytes, error) {
	if f.fail != nil {
		return secret.Bytes{}, f.fail
	}
	if len(sealed) < 28 {
		return secret.Bytes{}, kms.ErrNotOurs
	}
	p, err := newFakeKMS().aead("/"+label).Open(nil, nil, sealed, aad)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("open: %w", kms.ErrNotOurs)
	}
	return secret.New(p), nil
}

func TestFailuresOfAnHSMAreToldApart(t *testing.T) {
	t.Parallel()
	h := &fakeHSM{}
	w := HSMWrapper(NewHSMTenants(map[string]HSMKey{"acme": fakeHSMKey(h)}))
	key := someKey()
	var err error
	if key.Wrapped, _, err = w.Generate(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for fail, want := range map[error]struct {
		is     error
		result string
	}{
		kms.ErrDeviceLost:         {vault.ErrKeyUnavailable, "key_unreachable"},
		context.DeadlineExceeded:  {vault.ErrKeyUnavailable, "key_unreachable"},
		context.Canceled:          {context.Canceled, ""},
		kms.ErrNotOurs:            {vault.ErrCorrupt, ""},
		errors.New("no such key"): {vault.ErrKeyUnavailable, "key_refused"},
	} {
		h.fail = fmt.Errorf("wrapped: %w", fail)
		for name, call := range map[string]func() error{
			"wrap":   func() error { _, _, err := w.Generate(t.Context(), key); return err },
			"unwrap": func() error { _, err := w.Unwrap(t.Context(), key); return err },
		} {
			err := call()
			k, ok := errors.AsType[*vault.KeyError](err)
			if !errors.Is(err, want.is) || ok != (want.result != "") || ok && k.Result != want.result {
				t.Errorf("%v, %s: got %v", fail, name, err)
			}
		}
	}
	h.fail = nil
	moved := HSMWrapper(NewHSMTenants(map[string]HSMKey{"acme": {HSM: h, Label: "other", URI: "pkcs11:token=t;object=other"}}))
	if _, err := moved.Unwrap(t.Context(), key); !errors.Is(err, vault.ErrKeyUnavailable) || !strings.Contains(err.Error(), "which is not the tenant's key in an HSM") || moved.Current(key) {
		t.Errorf("another label: got %v", err)
	}
}

// mustCertificate is a certificate of its own authority, in DER.
func mustCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
