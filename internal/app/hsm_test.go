//go:build !pkcs11 || !cgo

package app

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/hsm/pkcs11"
	"cardea/internal/secret"
)

func TestSettingsThatNeedPKCS11SayHowToBuildIt(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*config.KeyService){
		"clusters": func(k *config.KeyService) {
			k.Clusters = map[string]config.Cluster{"cluster-aaaaaaaaaaa": {Library: "l", Token: "t"}}
		},
		"root token": func(k *config.KeyService) {
			k.Unseal = config.UnsealPKCS11
			k.RootToken = config.RootToken{Library: "l", Token: "t", PINFile: "p", PIN: secret.Copy([]byte("1234567"))}
		},
	} {
		cfg := config.Default()
		cfg.Node.Name, cfg.Node.DataDir = "n1", filepath.Join(t.TempDir(), "data")
		cfg.Vault.Listen, cfg.Ops.Listen, cfg.KeyService.Listen = "", "127.0.0.1:0", "127.0.0.1:0"
		change(&cfg.KeyService)
		cfg.Derive("")
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		a, err := New(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now})
		if !errors.Is(err, pkcs11.ErrNotBuilt) || a != nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestTenantInPKCS11SaysHowToBuildIt(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir = "n1", filepath.Join(t.TempDir(), "data")
	cfg.Vault.Listen, cfg.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0"
	tenant := config.DefaultTenant()
	tenant.Mode = config.ModePKCS11
	tenant.PKCS11 = config.TenantPKCS11{Module: "l", Token: "t", PINFile: "p", KeyLabel: "k", PIN: secret.Copy([]byte("1234567"))}
	cfg.Tenants = map[string]config.Tenant{"acme": tenant}
	cfg.Derive("")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := New(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if !errors.Is(err, pkcs11.ErrNotBuilt) || a != nil || err.Error() != "tenants.acme.pkcs11: "+pkcs11.ErrNotBuilt.Error() {
		t.Errorf("got %v", err)
	}
}
