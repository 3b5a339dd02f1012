//go:build pkcs11 && cgo

package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/config"
	"cardea/internal/httpd"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

const (
	tokenURI  = "pkcs11:token=root;object=vault"
	tokenCard = `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"%s","card":{"card_number":"%s"}}`
	tokenRead = `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"%s"}`
)

// vaultOnToken is the configuration of a vault whose tenant has its key in a token of
// SoftHSM, and the folder in which the token is.
func vaultOnToken(t *testing.T) (cfg config.Config, tokens string) {
	t.Helper()
	_, tokens = withToken(t)
	key := filepath.Join(t.TempDir(), "key")
	text := rand.Text() + rand.Text() // softhsm2-util reads a line of text
	if err := os.WriteFile(key, []byte(text[:32]), 0o600); err != nil {
		t.Fatal(err)
	}
	// As an operator has it done. What is imported thus is sensitive and not extractable.
	out, err := exec.Command("softhsm2-util", "--import", key, "--aes", "--token", "root", "--label", "vault", "--id", "01", "--pin", "1234567").CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	cfg = config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Tenants = map[string]config.Tenant{"acme": onToken("1234567", "vault")}
	return cfg, tokens
}

func onToken(pin, label string) config.Tenant {
	x := config.DefaultTenant()
	x.Mode = config.ModePKCS11
	x.PKCS11 = config.TenantPKCS11{Module: softHSMLibrary, Token: "root", PINFile: "pin", KeyLabel: label, PIN: secret.Copy([]byte(pin))}
	return x
}

// TestVaultOnAToken: a tenant whose keys are under a key in an HSM, without a custodian.
func TestVaultOnAToken(t *testing.T) {
	cfg, _ := vaultOnToken(t)
	a, stop := start(t, cfg, time.Now)
	if c := ready(t, a, "acme"); c.State != httpd.Working {
		t.Errorf("readiness %+v", c)
	}
	mustCall(t, a, "acme", "/data/add", fmt.Sprintf(tokenCard, "r1", "4111111111111111"), `"duplication_check":null`)
	mustCall(t, a, "acme", "/data/add", fmt.Sprintf(tokenCard, "r1", "4111111111111111"), `"duplication_check":"duplicated"`)
	mustCall(t, a, "acme", "/api/v2/vault/add", `{"entity_id":"e","vault_id":"v","data":{"a":"b"}}`, `"vault_id":"v"`)
	fingerprint := mustCall(t, a, "acme", "/data/fingerprint", `{"data":"d","key":"k"}`, "fingerprint_id")
	mustCall(t, a, "acme", "/data/retrieve", fmt.Sprintf(tokenRead, "r1"), "4111111111111111")
	w, err := a.Vault().store.ActiveKey(t.Context(), "acme", "m", vault.PurposeRecord)
	if err != nil || w.Mode != vault.ModePKCS11 || !strings.Contains(string(w.Wrapped), tokenURI) {
		t.Errorf("%v, mode %s", err, w.Mode)
	}
	stop()

	a, _ = start(t, cfg, time.Now)
	mustCall(t, a, "acme", "/data/retrieve", fmt.Sprintf(tokenRead, "r1"), "4111111111111111")
	mustCall(t, a, "acme", "/api/v2/vault/retrieve", `{"entity_id":"e","vault_id":"v"}`, `"a":"b"`)
	if again := mustCall(t, a, "acme", "/data/fingerprint", `{"data":"d","key":"k"}`, ""); again != fingerprint {
		t.Errorf("fingerprint %s was %s", again, fingerprint)
	}
}

// TestVaultOnATokenThatRefuses: the node starts, the tenant is not ready, and health
// says what to put right. Reload takes it up.
func TestVaultOnATokenThatRefuses(t *testing.T) {
	cfg, _ := vaultOnToken(t)
	right := cfg.Tenants["acme"]
	for what, tc := range map[string]struct {
		tenant config.Tenant
		want   string
	}{
		"wrong PIN":   {onToken("7654321", "vault"), `token "root": INVALID_CREDENTIALS: log in: pkcs11: 0xA0: CKR_PIN_INCORRECT`},
		"no such key": {onToken("1234567", "other"), `token "root" has no AES key with label "other": make one of 256 bits that is sensitive and not extractable`},
		"no such file": {func() config.Tenant {
			x := onToken("1234567", "vault")
			x.PKCS11.Module = "/no/such/library.so"
			return x
		}(), `token "root": INTERNAL_ERROR: /no/such/library.so cannot be loaded, or is no PKCS #11 library`},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := cfg
			cfg.Node.DataDir = filepath.Join(t.TempDir(), "data")
			cfg.Tenants = map[string]config.Tenant{"acme": tc.tenant}
			a, _ := start(t, cfg, time.Now)
			for range 2 {
				if c := ready(t, a, "acme"); c.State != httpd.Failing || c.Detail != tc.want {
					t.Errorf("readiness %+v, want %s", c, tc.want)
				}
			}
			if status, answer := call(t, a, "acme", "/data/add", fmt.Sprintf(tokenCard, "r1", "4111111111111111")); status != http.StatusInternalServerError || strings.Contains(answer, "4111") {
				t.Errorf("%d %s", status, answer)
			}
			cfg.Tenants = map[string]config.Tenant{"acme": right}
			cfg.Derive("")
			if err := a.Reload(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			if c := ready(t, a, "acme"); c.State != httpd.Working {
				t.Errorf("readiness %+v", c)
			}
			mustCall(t, a, "acme", "/data/add", fmt.Sprintf(tokenCard, "r1", "4111111111111111"), `"duplication_check":null`)
		})
	}
}

// TestVaultOnATokenThatGoesAndComesBack: what is in memory is served meanwhile, the
// rest is refused, and all is well again when the token is back, without a restart.
func TestVaultOnATokenThatGoesAndComesBack(t *testing.T) {
	cfg, tokens := vaultOnToken(t)
	clock := &testClock{}
	away := func() { // SoftHSM does not notice it by itself, as a library of a device does
		t.Helper()
		library := p11.New(softHSMLibrary)
		if library == nil {
			t.Fatal("the library is not loaded")
		}
		if err := library.Finalize(); err != nil && !errors.Is(err, p11.Error(p11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			t.Fatal(err)
		}
		if err := errors.Join(os.Rename(tokens, tokens+".away"), os.Mkdir(tokens, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	back := func() {
		t.Helper()
		if err := errors.Join(os.Remove(tokens), os.Rename(tokens+".away", tokens)); err != nil {
			t.Fatal(err)
		}
		clock.advance(time.Minute)
	}
	refused := func(a *App) {
		t.Helper()
		if status, answer := call(t, a, "acme", "/data/retrieve", fmt.Sprintf(tokenRead, "r1")); status == http.StatusOK || strings.Contains(answer, "4111") {
			t.Errorf("without its token: %d %s", status, answer)
		}
		if c := ready(t, a, "acme"); c.State != httpd.Failing || !strings.Contains(c.Detail, `token "root": no such token is there`) {
			t.Errorf("without its token: readiness %+v", c)
		}
	}
	works := func(a *App, reference, number string) {
		t.Helper()
		mustCall(t, a, "acme", "/data/add", fmt.Sprintf(tokenCard, reference, number), reference)
		a.Vault().forgetTenant("acme")
		mustCall(t, a, "acme", "/data/retrieve", fmt.Sprintf(tokenRead, "r1"), "4111111111111111")
		if c := ready(t, a, "acme"); c.State != httpd.Working {
			t.Errorf("with its token: readiness %+v", c)
		}
	}
	a, stop := start(t, cfg, clock.now)
	works(a, "r1", "4111111111111111")

	away()
	mustCall(t, a, "acme", "/data/retrieve", fmt.Sprintf(tokenRead, "r1"), "4111111111111111") // by a key in memory
	a.Vault().forgetTenant("acme")
	refused(a)
	back()
	works(a, "r2", "5555555555554444")
	stop()

	away()
	a, _ = start(t, cfg, clock.now) // it starts without its token
	refused(a)
	back()
	works(a, "r3", "4242424242424242")
}
