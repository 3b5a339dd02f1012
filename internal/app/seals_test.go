package app

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"cardea/internal/config"
	"cardea/internal/custodian"
	"cardea/internal/iam"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// TestReloadIsNotUndoneByALookForSeals: a node that is just looking for new seals of the
// tenants as they were does not lock one that a reload has given its master key.
func TestReloadIsNotUndoneByALookForSeals(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	sealed := config.DefaultTenant()
	sealed.Mode = config.ModeLocal
	cfg.Tenants = map[string]config.Tenant{"acme": sealed}
	a, _ := start(t, cfg, time.Now)
	handouts, err := a.Vault().Ceremonies().Init(t.Context(), iam.System("test"), "acme", vault.Terms{
		Form: custodian.FormShares, Threshold: 2, Custodians: []string{"alice", "bob", "carol"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range handouts {
		h.Destroy()
	}
	open := sealed
	open.MasterKey, open.InsecureMasterKeyWithoutCustodians = secret.Random(32), true
	for range 200 {
		for _, tenant := range []config.Tenant{sealed, open} {
			next := cfg
			next.Tenants = map[string]config.Tenant{"acme": tenant}
			next.Derive("")
			var wg sync.WaitGroup
			wg.Go(func() { a.Vault().refreshSeals(t.Context()) })
			if err := a.Reload(t.Context(), next); err != nil {
				t.Error(err)
			}
			wg.Wait()
		}
		if !a.Vault().keeper.Unlocked("acme") {
			t.Fatal("the tenant is locked, though its master key is configured")
		}
	}
}

// TestSuspendedTenantKeepsNoMasterKey: of a tenant that is suspended while a
// reload takes up its master key, that is wiped all the same.
func TestSuspendedTenantKeepsNoMasterKey(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	open := config.DefaultTenant()
	open.Mode, open.MasterKey, open.InsecureMasterKeyWithoutCustodians = config.ModeLocal, secret.Random(32), true
	cfg.Tenants = map[string]config.Tenant{"acme": open}
	a, _ := start(t, cfg, time.Now)
	n := a.Vault()
	// As who takes up a seal and has seen the tenant before it was suspended.
	n.sealing.Lock()
	if err := n.keeper.Lock("acme"); err != nil {
		t.Fatal(err)
	}
	n.gate.Tenants.Suspend(map[string]string{"acme": "test"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.suspended(t.Context(), "acme")
	}()
	select {
	case <-done: // too early
	case <-time.After(50 * time.Millisecond):
	}
	if err := n.keeper.Unlock("acme"); err != nil {
		t.Fatal(err)
	}
	n.sealing.Unlock()
	<-done
	if n.keeper.Unlocked("acme") {
		t.Error("the master key of a suspended tenant is in memory")
	}
}

// TestATenantIsServedWhenItHasItsKey: who asks for a tenant that a reload is just taking
// up is told that there is none, or served, but never that it is locked.
func TestATenantIsServedWhenItHasItsKey(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.DataDir, cfg.Vault.Listen, cfg.Ops.Listen = "vault", t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	open := config.DefaultTenant()
	open.Mode, open.MasterKey, open.InsecureMasterKeyWithoutCustodians = config.ModeLocal, secret.Random(32), true
	without, with := map[string]config.Tenant{"acme": open}, map[string]config.Tenant{"acme": open, "beta": open}
	cfg.Tenants = without
	a, _ := start(t, cfg, time.Now)
	for range 30 {
		done := make(chan error, 1)
		go func() {
			next := cfg
			next.Tenants = with
			next.Derive("")
			done <- a.Reload(t.Context(), next)
		}()
		for taken := false; !taken; {
			status, answer := call(t, a, "beta", "/data/fingerprint", `{"data":"x","key":"k"}`)
			if status != http.StatusOK && status != http.StatusBadRequest {
				t.Fatalf("%d %s", status, answer)
			}
			taken = status == http.StatusOK
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		cfg.Derive("")
		if err := a.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
}
