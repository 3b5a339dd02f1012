package vaulttest

import (
	"log/slog"
	"testing"
	"time"

	"cardea/internal/vault"
)

// Vault is a service on this package's parts.
type Vault struct {
	*vault.Service
	Store      *Store
	Keys       *KeyManager
	Custodians vault.Custodians
	Tenants    *vault.Tenants
	Gate       *vault.Gate
}

// New makes a service for tenants that make merchants and entities as they come.
// custodians nil is NewCustodians, now nil is time.Now.
func New(t testing.TB, custodians vault.Custodians, now func() time.Time, tenants ...string) *Vault {
	t.Helper()
	if custodians == nil {
		custodians = NewCustodians()
	}
	if now == nil {
		now = time.Now
	}
	v := &Vault{Store: NewStore(), Keys: NewKeyManager(), Custodians: custodians, Tenants: vault.NewTenants()}
	v.SetTenants(tenants...)
	v.Gate = &vault.Gate{Node: "test", Log: v.Store, Tenants: v.Tenants, Now: now, Logger: slog.New(slog.DiscardHandler)}
	s, err := vault.NewService(vault.Options{Gate: v.Gate, Store: v.Store, Keys: v.Keys, Custodians: custodians})
	if err != nil {
		t.Fatal(err)
	}
	v.Service = s
	return v
}

// SetTenants makes tenants the whole set.
func (v *Vault) SetTenants(tenants ...string) {
	var all []vault.Tenant
	for _, name := range tenants {
		all = append(all, vault.Tenant{Name: name, Mode: vault.ModeLocal, LazyHolders: true})
	}
	v.Tenants.Replace(all...)
}
