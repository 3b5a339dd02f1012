package keymanager

import (
	"context"
	"fmt"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// Router is the key manager of a vault whose tenants have different modes. What is
// new is sealed in the tenant's mode; what is stored is opened in its own, so that
// rows of all modes are read at any time. It is safe for concurrent use.
type Router struct {
	tenants *vault.Tenants
	*Envelope
	direct *Direct
}

var (
	_ vault.KeyManager = (*Router)(nil)
	_ vault.KeyChanger = (*Router)(nil)
)

// NewRouter joins the key managers of all modes that are served. direct is nil if
// there is no KMS.
func NewRouter(tenants *vault.Tenants, envelope *Envelope, direct *Direct) *Router {
	return &Router{tenants, envelope, direct}
}

// Seal implements vault.KeyManager.
func (r *Router) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	direct, err := r.isDirect(c.Tenant)
	switch {
	case err != nil:
		return vault.Sealed{}, err
	case direct:
		return r.direct.Seal(ctx, c, plaintext)
	}
	return r.Envelope.Seal(ctx, c, plaintext)
}

func (r *Router) isDirect(tenant string) (bool, error) {
	t, err := r.tenants.Tenant(tenant)
	if err == nil && t.Mode == vault.ModeKMS && r.direct == nil {
		err = notServed(tenant, t.Mode)
	}
	return t.Mode == vault.ModeKMS, err
}

// Open implements vault.KeyManager.
func (r *Router) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	if s.Mode == vault.ModeKMS && r.direct != nil {
		return r.direct.Open(ctx, c, s)
	}
	return r.Envelope.Open(ctx, c, s)
}

// Stays implements vault.KeyChanger.
func (r *Router) Stays(tenant string, s vault.Sealed) bool {
	direct, err := r.isDirect(tenant)
	if err != nil || !direct || s.Mode != vault.ModeKMSEnvelope || len(s.Blob)-ciphertext.RecordOverhead <= maxDirect {
		return false
	}
	keys, err := r.direct.o.Tenants.of(tenant)
	return err == nil && keys.OversizeEnvelope
}

// Rotate implements vault.KeyChanger.
func (r *Router) Rotate(ctx context.Context, tenant, holder string, p vault.Purpose, reason string) (vault.WrappedKey, error) {
	direct, err := r.isDirect(tenant)
	if err != nil {
		return vault.WrappedKey{}, err
	}
	if p == vault.PurposeDirect && !direct {
		return vault.WrappedKey{}, &vault.ValidationError{Field: "purpose", Reason: fmt.Sprintf("tenant %q is not in mode %s, which alone has a %s key", tenant, vault.ModeKMS, p)}
	}
	return r.Envelope.Rotate(ctx, tenant, holder, p, reason)
}

// Reseal implements vault.KeyChanger.
func (r *Router) Reseal(ctx context.Context, c vault.RecordContext, s vault.Sealed) (vault.Sealed, error) {
	direct, err := r.isDirect(c.Tenant)
	if err != nil {
		return vault.Sealed{}, err
	}
	if direct && s.Mode == vault.ModeKMS {
		if now, done, err := r.direct.Reseal(ctx, c, s); done {
			return now, err
		}
	}
	p, err := r.Open(ctx, c, s)
	if err != nil {
		return vault.Sealed{}, err
	}
	defer p.Destroy()
	return r.Seal(ctx, c, p)
}
