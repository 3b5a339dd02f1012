package app

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// TestTenantInAnExternalService stores and reads while the service answers, and says
// so when it does not. The service turns what it is given round.
func TestTenantInAnExternalService(t *testing.T) {
	reverse := func(s string) string {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Error(err)
		}
		for i := range len(b) / 2 {
			b[i], b[len(b)-1-i] = b[len(b)-1-i], b[i]
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := map[string]string{}
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("X-Tenant-Id") != "acme" || r.Header.Get("Authorization") == "" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		switch r.URL.Path {
		case "/data/encrypt":
			in["data"] = "v1:" + reverse(in["data"])
		case "/data/decrypt":
			in["data"] = reverse(strings.TrimPrefix(in["data"], "v1:"))
		}
		json.NewEncoder(w).Encode(in)
	}))
	defer service.Close()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	tenant := config.DefaultTenant()
	tenant.Mode = config.ModeExternal
	tenant.External.URL, tenant.External.CredentialsFile = service.URL, filepath.Join(t.TempDir(), "credentials")
	tenant.External.Credentials = someBytes(32)
	if err := os.WriteFile(tenant.External.CredentialsFile, []byte(strings.Repeat("0f", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Tenants = map[string]config.Tenant{"acme": tenant}
	a, _ := start(t, cfg, time.Now)
	mustCall(t, a, "acme", "/data/add", `{"merchant_id":"m","merchant_customer_id":"c","requestor_card_reference":"r1","card":{"card_number":"4111111111111111"}}`, "r1")
	const which = `{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r1"}`
	a.Vault().forgetTenant("acme")
	mustCall(t, a, "acme", "/data/retrieve", which, "4111")
	if w, err := a.Vault().store.ActiveKey(t.Context(), "acme", "m", vault.PurposeRecord); err != nil || w.Mode != vault.ModeExternal {
		t.Errorf("%v, mode %s", err, w.Mode)
	}
	if c := a.Vault().tenantReadiness(t.Context(), "acme"); c.State != "working" && c.Detail != "" {
		t.Errorf("readiness %+v", c)
	}
	service.Close()
	a.Vault().forgetTenant("acme")
	if status, answer := call(t, a, "acme", "/data/retrieve", which); status != http.StatusInternalServerError && status != http.StatusServiceUnavailable {
		t.Errorf("without the service: %d %s", status, answer)
	}
	if c := a.Vault().tenantReadiness(t.Context(), "acme"); c.Detail == "" {
		t.Errorf("readiness %+v", c)
	}
}

func someBytes(n int) secret.Bytes { return secret.Random(n) }
