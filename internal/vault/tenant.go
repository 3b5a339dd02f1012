package vault

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
)

// Tenant is what the vault must know of a tenant.
type Tenant struct {
	Name        string
	Mode        Mode
	LazyHolders bool // an add for an unknown merchant or entity creates it
}

// Tenants is the set of tenants served. It may change at any time; a reader sees
// the old set or the new one whole.
type Tenants struct {
	set atomic.Pointer[map[string]Tenant]
}

// NewTenants starts with ts.
func NewTenants(ts ...Tenant) *Tenants {
	t := &Tenants{}
	t.Replace(ts...)
	return t
}

// Replace makes ts the whole set.
func (t *Tenants) Replace(ts ...Tenant) {
	m := make(map[string]Tenant, len(ts))
	for _, x := range ts {
		m[x.Name] = x
	}
	t.set.Store(&m)
}

// Tenant returns the tenant or ErrUnknownTenant.
func (t *Tenants) Tenant(name string) (Tenant, error) {
	x, ok := (*t.set.Load())[name]
	if !ok {
		return Tenant{}, fmt.Errorf("tenant %q: %w", name, ErrUnknownTenant)
	}
	return x, nil
}

// Names lists the tenants in order.
func (t *Tenants) Names() []string { return slices.Sorted(maps.Keys(*t.set.Load())) }
