package keymanager

import (
	"context"
	"fmt"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// Router is the key manager of a vault whose tenants have different modes. What is
// new is sealed in the tenant's mode; what is stored is opened in its own, so that
// rows of all modes are read at any time. It is safe for concurrent use.
type Router struct {
	tenants *vault.Tenants
	modes   map[vault.Mode]vault.KeyManager
}

// NewRouter joins the key managers of all modes that are served.
func NewRouter(tenants *vault.Tenants, modes map[vault.Mode]vault.KeyManager) *Router {
	return &Router{tenants, modes}
}

// Seal implements vault.KeyManager.
func (r *Router) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	m, err := r.of(c.Tenant)
	if err != nil {
		return vault.Sealed{}, err
	}
	return m.Seal(ctx, c, plaintext)
}

// Open implements vault.KeyManager.
func (r *Router) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	m, ok := r.modes[s.Mode]
	if !ok {
		return secret.Bytes{}, fmt.Errorf("record names mode %d, which no key manager here opens: %w", s.Mode, vault.ErrCorrupt)
	}
	return m.Open(ctx, c, s)
}

// MAC implements vault.KeyManager.
func (r *Router) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	m, err := r.of(tenant)
	if err != nil {
		return vault.MAC{}, err
	}
	return m.MAC(ctx, tenant, p, parts...)
}

func (r *Router) of(tenant string) (vault.KeyManager, error) {
	t, err := r.tenants.Tenant(tenant)
	if err != nil {
		return nil, err
	}
	m, ok := r.modes[t.Mode]
	if !ok {
		return nil, fmt.Errorf("tenant %q is in mode %s, which is not served here: %w", tenant, t.Mode, vault.ErrKeyUnavailable)
	}
	return m, nil
}

// Forget wipes the keys of a tenant in every mode.
func (r *Router) Forget(tenant string) {
	for _, m := range r.modes {
		if f, ok := m.(interface{ Forget(tenant string) }); ok {
			f.Forget(tenant)
		}
	}
}

// Sweep wipes keys as Envelope.Sweep does.
func (r *Router) Sweep() {
	for _, m := range r.modes {
		if f, ok := m.(interface{ Sweep() }); ok {
			f.Sweep()
		}
	}
}

// Close wipes every key.
func (r *Router) Close() {
	for _, m := range r.modes {
		if f, ok := m.(interface{ Close() }); ok {
			f.Close()
		}
	}
}
