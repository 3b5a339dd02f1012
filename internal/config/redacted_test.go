package config_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"cardea/internal/config"
	"cardea/internal/secret"
)

func TestPrintedConfigurationLoadsBackToTheSame(t *testing.T) {
	f := newFolder(t, map[string]string{
		"cardea.toml": `
tenants_dir = "d"
[vault]
trusted_proxies = ["10.0.0.0/8"]
shutdown_grace = "10m"
[keys]
cache_ttl = "1h"
[limits]
delete_per_second = 0.5
[tenants.acme]
envelope = "jwe"
public_key_file = "acme.pem"
replay_window = "90s"
lazy_holders = false
[locker]
private_key_file = "locker.pem"
version_header = "it's \"x\""
`,
		"d/other.toml": "", "acme.pem": publicPEM(t, "rsa"), "locker.pem": privatePEM(t, "p256"),
	})
	c := mustLoad(t, f)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	printed, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	// The folder's tenants are printed as tenants: keep the folder out.
	f.write(t, "printed/cardea.toml", strings.Replace(printed, "tenants_dir = '"+f.path("d")+"'", "tenants_dir = ''", 1))
	again, err := config.Load([]string{f.path("printed/cardea.toml")}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	if changed := config.Changed(c, again); !slices.Equal(changed, []string{"tenants_dir"}) {
		t.Errorf("changed: %v", changed)
	}
	for _, want := range []string{"shutdown_grace = '10m'", "cache_ttl = '1h'", "replay_window = '1m30s'", "response_signature = 'ES256'", "[tenants.other]"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%s is missing in\n%s", want, printed)
		}
	}
}

func TestPrintedConfigurationHoldsNoSecret(t *testing.T) {
	c := config.Default()
	c.Database.Password = secret.Copy([]byte("canary-password"))
	c.Locker.PrivateKeyPEM = secret.Copy([]byte("canary-key"))
	tenant := config.DefaultTenant()
	tenant.MasterKey, tenant.SealedMasterKey = secret.Copy([]byte("canary-master")), secret.Copy([]byte("canary-sealed"))
	c.Tenants["acme"] = tenant
	for _, url := range []string{
		"postgres://u:canary-url@h/d", "postgres://u@h/d?password=canary-url&sslpassword=canary-url", "canary-url", "postgres://u:canary-url@h:x/d",
	} {
		c.Database.URL = url
		printed, err := c.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(printed, "canary") {
			t.Errorf("a secret is printed:\n%s", printed)
		}
	}
	c.Database.URL = "sqlite"
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb, c)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", slog.Any("config", c))
	}
	if s := strings.ToLower(out.String()); strings.Contains(s, "canary") || strings.Contains(s, fmt.Sprintf("%x", "canary")) || strings.Contains(s, "99 97 110 97 114 121") {
		t.Error("a verb prints a secret")
	}
}

func TestChangedNamesKeys(t *testing.T) {
	before, after := config.Default(), config.Default()
	before.Tenants = map[string]config.Tenant{"a": config.DefaultTenant(), "gone": config.DefaultTenant()}
	a := config.DefaultTenant()
	a.LazyHolders = false
	a.PublicKeyPEM = []byte("x")
	a.MasterKey, a.SealedMasterKey = secret.Random(32), secret.Random(60)
	after.Tenants = map[string]config.Tenant{"a": a, "new": config.DefaultTenant()}
	after.Vault.Listen = "127.0.0.1:1"
	after.Vault.TLS.ClientCAFile = "a"
	after.Database.Password, after.Locker.PrivateKeyPEM = secret.Random(1), secret.Random(1)
	after.KeyService.RootToken = config.RootToken{Token: "t", PIN: secret.Random(4)}
	got := config.Changed(before, after)
	slices.Sort(got)
	want := []string{
		"database.password_file", "key_service.root_token.pin_file", "key_service.root_token.token", "locker.private_key_file", "tenants.a.lazy_holders", "tenants.a.master_key_file", "tenants.a.public_key_file",
		"tenants.a.sealed_master_key_file", "tenants.gone", "tenants.new", "vault.listen", "vault.tls.client_ca_file",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := config.Changed(after, after); len(got) != 0 {
		t.Errorf("nothing changed, got %v", got)
	}
}
