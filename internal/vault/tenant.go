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
	HashesInKMS bool // in ModeKMS: KMS has a key for keyed hashes too
}

// Tenants is the set of tenants served. It may change at any time; a reader sees
// the old set or the new one whole.
type Tenants struct {
	set       atomic.Pointer[map[string]Tenant]
	suspended atomic.Pointer[map[string]string]
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

// Suspend makes the tenants of reasons, by name, the ones that are suspended.
func (t *Tenants) Suspend(reasons map[string]string) {
	m := maps.Clone(reasons)
	t.suspended.Store(&m)
}

// Suspended returns why a tenant is suspended, if it is.
func (t *Tenants) Suspended(name string) (reason string, is bool) {
	m := t.suspended.Load()
	if m == nil {
		return "", false
	}
	reason, is = (*m)[name]
	return reason, is
}

// usable is ErrSuspended for a tenant that is suspended. The reason is its
// operator's, and not for clients.
func (t *Tenants) usable(name string) error {
	if _, is := t.Suspended(name); is {
		return fmt.Errorf("tenant %q: %w", name, ErrSuspended)
	}
	return nil
}
