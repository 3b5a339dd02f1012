//go:build pkcs11 && cgo

package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/hsm/pkcs11"
	"cardea/internal/iam"
	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// softHSMLibrary is where Debian has it, unless the environment says where it is.
var softHSMLibrary = cmp.Or(os.Getenv("CARDEA_TEST_PKCS11"), "/usr/lib/softhsm/libsofthsm2.so")

// withToken is the configuration of a key service that a token of SoftHSM unseals,
// and the folder in which the token is.
func withToken(t *testing.T) (cfg config.Config, tokens string) {
	t.Helper()
	_, err := exec.LookPath("softhsm2-util")
	if _, serr := os.Stat(softHSMLibrary); err != nil || serr != nil {
		if os.Getenv("CARDEA_TEST_REQUIRE_SOFTHSM") != "" {
			t.Fatal("SoftHSM is required, but it is not installed")
		}
		t.Skip("SoftHSM is not installed (Debian: apt-get install softhsm2)")
	}
	dir := t.TempDir()
	tokens = filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	initToken(t)
	cfg = config.Default()
	cfg.Node.Name, cfg.Node.DataDir = "n1", filepath.Join(dir, "data")
	cfg.Vault.Listen, cfg.Ops.Listen = "", "127.0.0.1:0"
	k := &cfg.KeyService
	k.Listen, k.Unseal = "127.0.0.1:0", config.UnsealPKCS11
	k.RootToken = config.RootToken{Library: softHSMLibrary, Token: "root", PINFile: "pin", PIN: secret.Copy([]byte("1234567"))}
	cfg.Derive("")
	k.AdminSocket = filepath.Join(dir, "admin.sock")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg, tokens
}

func initToken(t *testing.T) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "root", "--pin", "1234567", "--so-pin", "so-pin").CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

// build makes the application until the test ends, or stop is called.
func build(t *testing.T, cfg config.Config, log *bytes.Buffer) (a *App, stop func(), err error) {
	t.Helper()
	a, err = New(t.Context(), cfg, Options{Logger: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now})
	if err != nil {
		return nil, nil, err
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return a, stop, nil
}

func mustBuild(t *testing.T, cfg config.Config) (*App, func()) {
	t.Helper()
	a, stop, err := build(t, cfg, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	return a, stop
}

// wantNoStart checks that the application does not start, and why.
func wantNoStart(t *testing.T, cfg config.Config, want string) {
	t.Helper()
	if _, _, err := build(t, cfg, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// keysIn counts the keys in the token: SoftHSM has a file for each.
func keysIn(t *testing.T, tokens string) int {
	t.Helper()
	all, err := filepath.Glob(tokens + "/*/*-*.object")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestTokenUnsealsTheRootKey(t *testing.T) {
	cfg, tokens := withToken(t)
	a, stop := mustBuild(t, cfg)
	sealed, err := a.Keys().soft.SealSecret(t.Context(), "label", secret.Copy([]byte("a secret")))
	if err != nil {
		t.Fatal(err)
	}
	if c := a.readiness(t.Context()); fmt.Sprint(c[len(c)-1]) != "{tenant_key-service working }" {
		t.Errorf("ready: %v", c)
	}
	if s := a.Keys().status(t.Context()); !s.Unsealed || s.Form != custodian.FormToken || s.Threshold != 0 {
		t.Errorf("status: %+v", s)
	}
	if n := keysIn(t, tokens); n != 1 {
		t.Errorf("%d keys are in the token", n)
	}
	stop()

	for range 2 {
		a, stop = mustBuild(t, cfg)
		p, err := a.Keys().soft.OpenSecret(t.Context(), "label", sealed)
		if err != nil || string(p.Expose()) != "a secret" {
			t.Fatalf("after a restart: %v", err)
		}
		stop()
	}
	if n := keysIn(t, tokens); n != 1 {
		t.Errorf("%d keys are in the token after restarts", n)
	}
	b, err := os.ReadFile(filepath.Join(cfg.Node.DataDir, "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	for entry, n := range map[string]int{`"op":"custodian.init"`: 1, `"op":"custodian.unlock"`: 3, `by PKCS #11 token \"root\"`: 3} {
		if got := bytes.Count(b, []byte(entry)); got < n {
			t.Errorf("%d entries with %s, want %d", got, entry, n)
		}
	}
}

func TestRootTokenThatDoesNotUnseal(t *testing.T) {
	cfg, tokens := withToken(t)
	wrong := cfg
	wrong.KeyService.RootToken.PIN = secret.Copy([]byte("7654321"))
	absent := cfg
	absent.KeyService.RootToken.Token = "other"
	wantNoStart(t, wrong, `key_service.root_token: make root key in token "root": INVALID_CREDENTIALS: log in: pkcs11: 0xA0: CKR_PIN_INCORRECT`)
	wantNoStart(t, absent, `key_service.root_token: make root key in token "other": INSUFFICIENT_CLOUDHSM_HSMS: token "other": no such token is there`)
	if n := keysIn(t, tokens); n != 0 {
		t.Errorf("%d keys are in the token", n)
	}
	_, stop := mustBuild(t, cfg)
	stop()
	wantNoStart(t, wrong, `key_service.root_token: token "root": INVALID_CREDENTIALS: log in: pkcs11: 0xA0: CKR_PIN_INCORRECT`)
	shares := cfg
	shares.KeyService.Unseal = config.UnsealShares
	wantNoStart(t, shares, `the master key is sealed by a token, not by custodians: key_service.unseal must be "pkcs11"`)

	// A token of the same name that has not the key.
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	initToken(t)
	wantNoStart(t, cfg, `is not in the token: does not open`)
}

func TestRootKeyOfCustodiansIsNotReplacedByATokens(t *testing.T) {
	cfg, tokens := withToken(t)
	shares := cfg
	shares.KeyService.Unseal = config.UnsealShares
	a, stop := mustBuild(t, shares)
	operator := iam.Principal{Type: iam.TypeOperator, Name: "root", Auth: "shell", Actions: []string{"*"}, Merchants: []string{"*"}}
	hs, err := a.Keys().Ceremonies().Init(t.Context(), operator, config.KeyServiceTenant, vault.Terms{Form: custodian.FormShares, Threshold: 2, Custodians: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		h.Destroy()
	}
	stop()
	wantNoStart(t, cfg, `key_service.unseal is "pkcs11", but seal of tenant "key-service": the master key is sealed by custodians, not by a token`)
	if n := keysIn(t, tokens); n != 0 {
		t.Errorf("%d keys are in the token", n)
	}
}

func TestRootTokenThatComesLater(t *testing.T) {
	cfg, tokens := withToken(t)
	a, stop := mustBuild(t, cfg)
	sealed, err := a.Keys().soft.SealSecret(t.Context(), "label", secret.Copy([]byte("a secret")))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	a, _, err = build(t, cfg, &log)
	if err != nil {
		t.Fatal(err)
	}
	k := a.Keys()
	k.refreshSeals(t.Context())
	if err := k.soft.Ready(t.Context()); !errors.Is(err, kms.ErrSealed) {
		t.Errorf("without its token: %v", err)
	}
	if c := a.readiness(t.Context()); fmt.Sprint(c[len(c)-1]) != "{tenant_key-service failing locked: its token has not unsealed it on this node}" {
		t.Errorf("ready: %v", c)
	}
	if n := strings.Count(log.String(), "root key stays sealed: its token cannot be reached, and is tried again"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}

	if err := errors.Join(os.Remove(tokens), os.Rename(tokens+".away", tokens)); err != nil {
		t.Fatal(err)
	}
	k.refreshSeals(t.Context())
	p, err := k.soft.OpenSecret(t.Context(), "label", sealed)
	if err != nil || string(p.Expose()) != "a secret" {
		t.Errorf("with its token: %v", err)
	}
	if err := k.keeper.Lock(config.KeyServiceTenant); err != nil {
		t.Fatal(err)
	}
	k.refreshSeals(t.Context())
	if k.keeper.Unlocked(config.KeyServiceTenant) {
		t.Error("what was locked is unlocked again by itself")
	}
}

// A PIN that is refused when the token comes back is not tried every five seconds.
func TestRefusedPINOfTheRootTokenIsNotTriedAgain(t *testing.T) {
	cfg, tokens := withToken(t)
	_, stop := mustBuild(t, cfg)
	stop()
	if err := errors.Join(os.Rename(tokens, tokens+".away"), os.Mkdir(tokens, 0o700)); err != nil {
		t.Fatal(err)
	}
	a, _ := mustBuild(t, cfg)
	k := a.Keys()
	k.token.pin = secret.Copy([]byte("7654321"))
	if err := errors.Join(os.Remove(tokens), os.Rename(tokens+".away", tokens)); err != nil {
		t.Fatal(err)
	}
	k.refreshSeals(t.Context())
	k.token.pin = cfg.KeyService.RootToken.PIN // as if it had been changed back
	k.refreshSeals(t.Context())
	if k.keeper.Unlocked(config.KeyServiceTenant) {
		t.Error("it was tried again")
	}
}

// Two nodes that start at the same time on one database make one root key.
func TestNodesThatStartTogetherShareTheRootKey(t *testing.T) {
	cfg, tokens := withToken(t)
	a, stop := mustBuild(t, cfg)
	defer stop()
	n := a.Keys().Node
	if _, err := n.makeTokenSeal(t.Context(), config.KeyServiceTenant); err != nil { // as the slower node does
		t.Errorf("got %v", err)
	}
	if got := keysIn(t, tokens); got != 1 {
		t.Errorf("%d keys are in the token", got)
	}
}

func TestClustersOfTheConfiguration(t *testing.T) {
	cfg, _ := withToken(t)
	anchor := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(anchor, []byte("a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.KeyService.Clusters = map[string]config.Cluster{
		"cluster-aaaaaaaaaaa": {Library: softHSMLibrary, Token: "root", TrustAnchorFile: anchor}, "cluster-bbbbbbbbbbb": {Library: softHSMLibrary, Token: "other"},
	}
	stores, err := keyStores(cfg, Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(stores.Clusters()); got != "map[cluster-aaaaaaaaaaa:a certificate cluster-bbbbbbbbbbb:]" {
		t.Errorf("got %s", got)
	}
	b, err := stores.Connect(context.Background(), "cluster-aaaaaaaaaaa", secret.Copy([]byte("1234567")))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Ready(t.Context()), b.(*pkcs11.Backend).Close()); err != nil {
		t.Error(err)
	}
	cfg.KeyService.Clusters = map[string]config.Cluster{"cluster-aaaaaaaaaaa": {TrustAnchorFile: "/no/such/file"}}
	if _, err := keyStores(cfg, Options{}); err == nil || err.Error() != "key_service.clusters.cluster-aaaaaaaaaaa.trust_anchor_file: open /no/such/file: no such file or directory" {
		t.Errorf("got %v", err)
	}
}
