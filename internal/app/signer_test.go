package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/note"

	"cardea/internal/audit"
	"cardea/internal/config"
	"cardea/internal/iam"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/siem"
	"cardea/internal/vault"
)

// line is the way to a key service, which can be cut.
type line struct {
	url string
	cut atomic.Bool
}

func lineTo(t *testing.T, to string) *line {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.Out.Host = r.In.Host }}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.cut.Load() {
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body)) // the server closes its own with the first byte of the answer, while the proxy may still read it
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	l.url = srv.URL
	return l
}

func signingKey(in *awskms.CreateKeyInput) *awskms.CreateKeyInput {
	in.KeySpec, in.KeyUsage = types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify
	return in
}

// signedVault is a configuration of a vault whose log a key in a KMS signs.
func signedVault(t *testing.T, key, endpoint string) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault-1", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Vault.AdminSocket = filepath.Join(shortDir(t), "v")
	cfg.Audit.Signer = config.AuditSigner{KeyID: key, Region: kmsRegion, Endpoint: endpoint}
	cfg.Audit.CheckpointInterval = config.Duration{Duration: 100 * time.Millisecond}
	tenant := config.DefaultTenant()
	tenant.MasterKeyFile, tenant.MasterKey, tenant.InsecureMasterKeyWithoutCustodians = "not read again", secret.Random(32), true
	cfg.Tenants = map[string]config.Tenant{"acme": tenant}
	return cfg
}

// shortDir is a folder for sockets, whose path must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cardea")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
	}
}

// newest is the newest checkpoint of the vault's log under the recorded key.
func newest(t *testing.T, a *App, verifiers ...string) (c audit.Checkpoint) {
	t.Helper()
	for signed, err := range a.vault.store.Checkpoints(t.Context(), "cardea/vault-1") {
		if err == nil {
			c, err = audit.OpenCheckpoint(signed, verifiers...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func record(t *testing.T, a *App) {
	t.Helper()
	if err := a.vault.gate.Record(t.Context(), iam.System("node"), vault.OpLogRead, vault.Target{}, "read", "test"); err != nil {
		t.Fatal(err)
	}
}

// told are the findings that were raised and resolved.
type told struct {
	mu  sync.Mutex
	now map[string]siem.Finding
}

func (f *told) Raise(_ context.Context, x siem.Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now[x.Check+" "+x.Subject] = x
}

func (f *told) Resolve(_ context.Context, check, subject, _ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.now, check+" "+subject)
}

// TestCheckpointsAreSignedInKMS: with the SDK over HTTP, by alias, and with notes that
// an ordinary verifier of C2SP signed-note takes. What KMS signs is the text itself.
func TestCheckpointsAreSignedInKMS(t *testing.T) {
	kms, admin := keyService(t)
	key := makeKey(t, admin, signingKey(&awskms.CreateKeyInput{}))
	if _, err := admin.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: aws.String("alias/audit"), TargetKeyId: &key}); err != nil {
		t.Fatal(err)
	}
	l := lineTo(t, kms)
	cfg := signedVault(t, "alias/audit", l.url)
	clock := &testClock{}
	a, stop := start(t, cfg, clock.now)
	recorded := filepath.Join(cfg.Node.DataDir, "audit-signing-kms.pub")
	text, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	verifier := strings.TrimSuffix(string(text), "\n")
	if a.Vault().Verifier() != verifier {
		t.Errorf("the node's verifier is %q, recorded is %q", a.Vault().Verifier(), verifier)
	}
	until(t, "the log is signed", func() bool { return newest(t, a, verifier).Size > 0 })
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	for signed := range a.vault.store.Checkpoints(t.Context(), "cardea/vault-1") {
		if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
			t.Errorf("an ordinary verifier: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Node.DataDir, "audit-signing.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a signing key in a file: %v", err)
	}

	// KMS is away: requests are served and their entries kept; the trouble is told.
	allSigned := func() bool {
		head, err := a.vault.store.Head(t.Context(), "cardea/vault-1")
		return err == nil && head.Size == newest(t, a, verifier).Size && a.vault.store.SigningTrouble() == nil
	}
	until(t, "no signature is under way", allSigned)
	l.cut.Store(true)
	was := newest(t, a, verifier).Size
	record(t, a)
	until(t, "the trouble is known", func() bool { return a.vault.store.SigningTrouble() != nil })
	told := &told{now: map[string]siem.Finding{}}
	a.vault.judgeSigning(t.Context(), told)
	if len(told.now) > 0 {
		t.Errorf("told at once: %v", told.now)
	}
	clock.advance(2 * signingPatience)
	a.vault.judgeSigning(t.Context(), told)
	f := told.now["signing cardea/vault-1"]
	if !strings.HasPrefix(f.Message, "cardea/vault-1 is not signed since ") || f.Next == "" {
		t.Errorf("told: %+v", told.now)
	}
	ready := false
	for _, c := range a.readiness(t.Context()) {
		if c.Name == "audit_signing" {
			ready = c.State == "working" && strings.HasPrefix(c.Detail, "not signed since")
		}
	}
	if !ready {
		t.Error("readiness does not tell of it, or makes the node unready")
	}
	record(t, a)
	if got := newest(t, a, verifier).Size; got != was {
		t.Errorf("signed %d entries without KMS, before %d", got, was)
	}
	stop() // without an error, though nothing is signed

	// A start without KMS, with the recorded key; then KMS is back and all is signed.
	a, stop = start(t, cfg, clock.now)
	record(t, a)
	until(t, "the trouble is known again", func() bool { return a.vault.store.SigningTrouble() != nil })
	l.cut.Store(false)
	until(t, "all is signed", allSigned)
	a.vault.judgeSigning(t.Context(), told)
	if len(told.now) > 0 {
		t.Errorf("not resolved: %v", told.now)
	}

	// The alias comes to mean another key, which signs nothing.
	other := makeKey(t, admin, signingKey(&awskms.CreateKeyInput{}))
	if _, err := admin.UpdateAlias(t.Context(), &awskms.UpdateAliasInput{AliasName: aws.String("alias/audit"), TargetKeyId: &other}); err != nil {
		t.Fatal(err)
	}
	record(t, a)
	until(t, "the replaced key is noticed", func() bool {
		tr := a.vault.store.SigningTrouble()
		return tr != nil && errors.Is(tr.Err, audit.ErrReplacedKey)
	})
	stop()
}

// TestFirstStartWithoutKMS: the key is asked for when KMS answers.
func TestFirstStartWithoutKMS(t *testing.T) {
	kms, admin := keyService(t)
	key := makeKey(t, admin, signingKey(&awskms.CreateKeyInput{}))
	l := lineTo(t, kms)
	l.cut.Store(true)
	cfg := signedVault(t, key, l.url)
	a, _ := start(t, cfg, time.Now)
	if v := a.Vault().Verifier(); v != "" {
		t.Errorf("verifier %q", v)
	}
	record(t, a)
	l.cut.Store(false)
	until(t, "the key is recorded", func() bool { return a.Vault().Verifier() != "" })
	until(t, "the log is signed", func() bool { return newest(t, a, a.Vault().Verifier()).Size > 0 })
}

func TestSigningKeyInKMSIsRefused(t *testing.T) {
	kms, admin := keyService(t)
	good := makeKey(t, admin, signingKey(&awskms.CreateKeyInput{}))
	symmetric := makeKey(t, admin, &awskms.CreateKeyInput{})
	p256 := makeKey(t, admin, &awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	denied := makeKey(t, admin, signingKey(&awskms.CreateKeyInput{
		Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Deny","Principal":"*","Action":["kms:Sign","kms:GetPublicKey"],"Resource":"*"}]}`),
	}))
	_, other, err := audit.GenerateSigningKey("cardea/other")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key      string
		recorded string
		want     error
		text     string
	}{
		"spec":    {key: p256, want: kmsclient.ErrInvalid, text: "the key is of spec ECC_NIST_P256 and usage SIGN_VERIFY, not ECC_NIST_EDWARDS25519 and SIGN_VERIFY"},
		"usage":   {key: symmetric, want: kmsclient.ErrInvalid, text: "GetPublicKey"},
		"denied":  {key: denied, want: kmsclient.ErrDenied, text: "denied access"},
		"missing": {key: strings.Replace(good, "key/", "key/00000000", 1), want: kmsclient.ErrNotFound, text: "does not exist"},
		"record":  {key: good, recorded: "no key", text: "public_key_file: "},
		"whose":   {key: good, recorded: other, text: "the recorded key is that of cardea/other, not of cardea/vault-1"},
	} {
		cfg := signedVault(t, c.key, kms)
		cfg.Derive("")
		if c.recorded != "" {
			if err := os.WriteFile(cfg.Audit.Signer.PublicKeyFile, []byte(c.recorded), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a, err := New(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), "audit.signer: ") || !strings.Contains(err.Error(), c.text) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.text)
		}
		if a != nil {
			t.Errorf("%s: there is an App", name)
		}
	}
}

// TestSigningKeyInKMSIsRecordedByManyAtOnce: of processes that use a key for the first
// time at the same moment each finds it recorded, whole, and another key is refused.
func TestSigningKeyInKMSIsRecordedByManyAtOnce(t *testing.T) {
	t.Parallel()
	const key = "cardea/vault-1+00000000+AQAB"
	for range 20 {
		path := filepath.Join(t.TempDir(), "keys", "audit-kms.pub")
		var g sync.WaitGroup
		for range 4 {
			g.Go(func() {
				if err := recordVerifier(path, key, slog.New(slog.DiscardHandler)); err != nil {
					t.Error(err)
				}
				if b, err := os.ReadFile(path); err != nil || string(b) != key+"\n" {
					t.Errorf("recorded is %q, %v", b, err)
				}
			})
		}
		g.Wait()
		if err := recordVerifier(path, "cardea/vault-1+00000001+AQAB", slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrExist) {
			t.Errorf("another key: %v", err)
		}
	}
}
