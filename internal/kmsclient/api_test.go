package kmsclient_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cardea/internal/identity"
	"cardea/internal/kmsclient"
	"cardea/internal/kmsclient/faultproxy"
	"cardea/internal/secret"
)

// secured is a key service with TLS that answers every Encrypt, and the file with
// its certificate.
func secured(t *testing.T, settings *tls.Config) (k kmsclient.Key, caFile string, handshakes *atomic.Int64) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("asked in %s", r.Proto)
		}
		res, _ := encrypted()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		io.Copy(w, res.Body)
	}))
	handshakes = &atomic.Int64{}
	settings.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { handshakes.Add(1); return nil, nil }
	srv.TLS = settings
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	ok(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	k = stubKey
	k.Endpoint = srv.URL
	return k, caFile, handshakes
}

func TestTLSFloor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server *tls.Config
		works  bool
	}{
		"TLS 1.3":            {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2":            {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"TLS 1.1":            {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"CBC":                {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}}, false},
		"no forward secrecy": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, ca, handshakes := secured(t, test.server)
			s := &service{vault: anybody()}
			c := s.client(t, func(o *kmsclient.Options) { o.RootCAFile = ca })
			err := c.encrypt(t, k)
			if test.works {
				ok(t, err)
				return
			}
			is(t, err, kmsclient.ErrUnreachable)
			if n := handshakes.Load(); n != 1 {
				t.Errorf("%d handshakes, want 1: another would end like the first", n)
			}
		})
	}
}

func anybody() kmsclient.Credentials {
	return kmsclient.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: secret.Copy([]byte("secret"))}
}

func TestCertificateMustBeTrusted(t *testing.T) {
	k, ca, handshakes := secured(t, &tls.Config{})
	s := &service{vault: anybody()}
	e := is(t, s.client(t).encrypt(t, k), kmsclient.ErrUnreachable)
	if !strings.Contains(e.Error(), "x509: certificate signed by unknown authority") || handshakes.Load() != 1 {
		t.Errorf("got %v after %d handshakes", e, handshakes.Load())
	}
	ok(t, s.client(t, func(o *kmsclient.Options) { o.RootCAFile = ca }).encrypt(t, k))

	other := k
	other.Endpoint = strings.Replace(k.Endpoint, "127.0.0.1", "localhost", 1)
	e = is(t, s.client(t, func(o *kmsclient.Options) { o.RootCAFile = ca }).encrypt(t, other), kmsclient.ErrUnreachable)
	if !strings.Contains(e.Error(), "certificate is valid for") {
		t.Errorf("got %v", e)
	}

	// As AWS's own tools have it.
	t.Setenv("AWS_CA_BUNDLE", ca)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	c := s.client(t, func(o *kmsclient.Options) { o.Credentials = nil })
	ok(t, c.encrypt(t, k))
}

func chain(o *kmsclient.Options) { o.Credentials = nil }

func TestCredentialsOfTheStandardChain(t *testing.T) {
	s := startService(t)
	k := s.newKey(t)

	e := is(t, s.client(t, chain).encrypt(t, k), kmsclient.ErrDenied)
	if !strings.Contains(e.Error(), "credentials: ") || e.RequestID != "" || s.here.Asked("") != 0 {
		t.Errorf("got %v after %d requests", e, s.here.Asked(""))
	}

	file := filepath.Join(t.TempDir(), "credentials")
	text := "[cards]\naws_access_key_id = " + s.vault.AccessKeyID + "\naws_secret_access_key = " + string(s.vault.SecretAccessKey.Expose()) + "\n" +
		"[broken]\ncredential_process = /bin/echo CANARY\n"
	ok(t, os.WriteFile(file, []byte(text), 0o600))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	k.Profile = "cards"
	s.client(t, chain).works(t, k)
	k.Profile = "nobody"
	if e := is(t, s.client(t, chain).encrypt(t, k), kmsclient.ErrDenied); !strings.HasSuffix(e.Error(), "credentials: failed to get shared config profile, nobody") {
		t.Errorf("got %v", e)
	}
	// A file of one's own goes before it, and before the environment.
	elsewhere := filepath.Join(t.TempDir(), "own")
	ok(t, os.WriteFile(elsewhere, []byte(strings.Replace(text, "[cards]", "[own]", 1)), 0o600))
	own := func(o *kmsclient.Options) { o.Credentials, o.CredentialsFile = nil, elsewhere }
	k.Profile = "own"
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s.client(t, own).works(t, k)
	k.Profile = "cards"
	if e := is(t, s.client(t, own).encrypt(t, k), kmsclient.ErrDenied); !strings.HasSuffix(e.Error(), "credentials: failed to get shared config profile, cards") {
		t.Errorf("got %v", e)
	}
	k.Profile = "broken"
	if e := is(t, s.client(t, chain).encrypt(t, k), kmsclient.ErrDenied); !strings.HasSuffix(e.Error(), "credentials: credential_process does not work") {
		t.Errorf("got %v", e)
	}

	k.Profile = ""
	t.Setenv("AWS_ACCESS_KEY_ID", s.vault.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", string(s.vault.SecretAccessKey.Expose()))
	s.client(t, chain).works(t, k)
	// Options go before the chain, profile by profile.
	c := s.client(t, func(o *kmsclient.Options) { o.Credentials = map[string]kmsclient.Credentials{"mine": anybody()} })
	c.works(t, k)
	k.Profile = "mine"
	is(t, c.encrypt(t, k), kmsclient.ErrDenied)
}

func TestSettingsOfTheEnvironment(t *testing.T) {
	s := startService(t)
	k := s.newKey(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s.vault.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", string(s.vault.SecretAccessKey.Expose()))
	t.Setenv("AWS_MAX_ATTEMPTS", "9")
	t.Setenv("AWS_RETRY_MODE", "adaptive")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	t.Setenv("AWS_ENDPOINT_URL_KMS", s.there.URL)
	c := s.client(t, chain)
	c.works(t, k)
	if s.there.Asked("") != 0 {
		t.Error("the environment's endpoint goes before the key's")
	}
	s.here.Set(faultproxy.Throttle())
	asked := s.here.Asked("")
	is(t, c.encrypt(t, k), kmsclient.ErrThrottled)
	if n := s.here.Asked("") - asked; n != 3 {
		t.Errorf("asked %d times, want 3: only our retries count", n)
	}
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "false")
	k.Endpoint = ""
	s.client(t, chain).works(t, k)
	if s.there.Asked("") == 0 {
		t.Error("the environment's endpoint is not asked")
	}
}

// TestRolesAreAssumed has a profile with a role, which the SDK gets from STS.
func TestRolesAreAssumed(t *testing.T) {
	s := startService(t)
	ctx := t.Context()
	vault := "arn:aws:iam::" + account + ":user/vault"
	_, err := s.people.CreateRole(ctx, s.operator, &identity.CreateRoleInput{
		Account: account, Name: "cards",
		TrustPolicy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + vault + `"},"Action":"sts:AssumeRole"}]}`,
	})
	ok(t, err)
	ok(t, s.people.PutRolePolicy(ctx, s.operator, &identity.PolicyInput{
		Account: account, Entity: "cards", Name: "use", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`,
	}))
	k := s.newKey(t)
	k.Profile = "role"
	s.revoke(t) // so that only the role may use keys
	ok(t, s.people.PutUserPolicy(ctx, s.operator, &identity.PolicyInput{
		Account: account, Entity: "vault", Name: "assume", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`,
	}))
	file := filepath.Join(t.TempDir(), "config")
	text := "[profile base]\naws_access_key_id = " + s.vault.AccessKeyID + "\naws_secret_access_key = " + string(s.vault.SecretAccessKey.Expose()) + "\n" +
		"[profile role]\nsource_profile = base\nrole_arn = arn:aws:iam::" + account + ":role/cards\n" +
		"[profile denied]\nsource_profile = base\nrole_arn = arn:aws:iam::" + account + ":role/nobody\n"
	ok(t, os.WriteFile(file, []byte(text), 0o600))
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_ENDPOINT_URL_STS", s.url)
	s.client(t, chain).works(t, k)
	k.Profile = "denied"
	is(t, s.client(t, chain).encrypt(t, k), kmsclient.ErrDenied)
	k.Profile = "role"
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	c := s.client(t, chain, func(o *kmsclient.Options) { o.AttemptTimeout, o.Attempts = 300*time.Millisecond, 1 })
	if e := is(t, c.encrypt(t, k), kmsclient.ErrUnreachable); !strings.Contains(e.Error(), "credentials") {
		t.Errorf("got %v", e)
	}
}

func TestCredentialsThatAreWiped(t *testing.T) {
	t.Parallel()
	s := &stub{answer: func(int, *http.Request) (*http.Response, error) { return encrypted() }}
	creds := anybody()
	c := s.client(t, func(o *kmsclient.Options) { o.Credentials[""] = creds })
	ok(t, c.encrypt(t, stubKey))
	creds.SecretAccessKey.Destroy()
	e := is(t, c.encrypt(t, stubKey), kmsclient.ErrDenied)
	if !strings.HasSuffix(e.Error(), "credentials: the secret access key is wiped") || s.asked() != 1 {
		t.Errorf("got %v after %d requests", e, s.asked())
	}
}

// TestProxyOfTheEnvironment runs itself, because net/http reads the environment once.
func TestProxyOfTheEnvironment(t *testing.T) {
	const variable = "KMSCLIENT_TEST_PROXY_CHILD"
	k := stubKey
	k.Endpoint = "https://kms.example:4599"
	if os.Getenv(variable) != "" {
		s := &service{vault: anybody()}
		is(t, s.client(t, func(o *kmsclient.Options) { o.Attempts = 1 }).encrypt(t, k), kmsclient.ErrUnreachable)
		return
	}
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer proxy.Close()
	asked := make(chan string, 1)
	go func() {
		conn, err := proxy.Accept()
		if err != nil {
			asked <- err.Error()
			return
		}
		defer conn.Close()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		asked <- line
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProxyOfTheEnvironment$")
	child.Env = append(os.Environ(), variable+"=1", "HTTPS_PROXY=http://"+proxy.Addr().String(), "NO_PROXY=")
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := <-asked; got != "CONNECT kms.example:4599 HTTP/1.1\r\n" {
		t.Errorf("the proxy was asked %q", got)
	}
}
