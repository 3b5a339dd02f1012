package keymanager

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// MasterKeys gives out the tenants' master keys.
type MasterKeys interface {
	// Master returns a copy of the 32-byte master key, which the caller destroys,
	// or an error while the tenant is locked or unknown.
	Master(tenant string) (secret.Bytes, error)
	// Unlocked reports whether there is a master key. Every operation asks, so it
	// must be fast.
	Unlocked(tenant string) bool
}

// LocalOptions are what a local key manager is made of. Masters, Inventory and Now
// are required.
type LocalOptions struct {
	Masters   MasterKeys
	Inventory Inventory
	Now       func() time.Time
	TTL       time.Duration // as in Options
	Entries   int           // as in Options
	Metrics   prometheus.Registerer
}

// NewLocal makes a key manager of mode local alone, whose branch keys are wrapped
// under a master key a tenant, in this process.
func NewLocal(o LocalOptions) (*Envelope, error) {
	return NewEnvelope(Options{
		Wrappers: []Wrapper{LocalWrapper(o.Masters)}, Inventory: o.Inventory, Now: o.Now, TTL: o.TTL, Entries: o.Entries, Metrics: o.Metrics,
	})
}

// LocalWrapper wraps under tenants' master keys.
func LocalWrapper(m MasterKeys) Wrapper { return localWrapper{m} }

type localWrapper struct{ masters MasterKeys }

func (localWrapper) Mode() vault.Mode { return vault.ModeLocal }

func (l localWrapper) Usable(tenant string) error {
	if !l.masters.Unlocked(tenant) {
		return fmt.Errorf("tenant %q: %w", tenant, vault.ErrLocked)
	}
	return nil
}

// Current is true of all keys: a tenant has one master key.
func (localWrapper) Current(vault.WrappedKey) bool { return true }

func (l localWrapper) Generate(ctx context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	return generate(ctx, l, w)
}

// generate makes a key for a wrapper that makes none itself.
func generate(ctx context.Context, wrapper Wrapper, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	key := secret.Random(ciphertext.KeySize)
	wrapped, err := wrapper.Wrap(ctx, w, key)
	if err != nil {
		key.Destroy()
		return nil, secret.Bytes{}, err
	}
	return wrapped, key, nil
}

func (l localWrapper) Wrap(_ context.Context, w vault.WrappedKey, key secret.Bytes) ([]byte, error) {
	master, err := l.master(w.Tenant)
	if err != nil {
		return nil, err
	}
	defer master.Destroy()
	wrapped, err := ciphertext.WrapKey(master, keyBinding(w), key)
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	return wrapped, nil
}

func (l localWrapper) Unwrap(_ context.Context, w vault.WrappedKey) (secret.Bytes, error) {
	master, err := l.master(w.Tenant)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer master.Destroy()
	key, err := ciphertext.UnwrapKey(master, keyBinding(w), w.Wrapped)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("does not unwrap under the master key: %w: %w", vault.ErrCorrupt, err)
	}
	return key, nil
}

func (l localWrapper) master(tenant string) (secret.Bytes, error) {
	m, err := l.masters.Master(tenant)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("cannot be unwrapped: %w: %w", vault.ErrLocked, err)
	}
	return m, nil
}

func keyBinding(w vault.WrappedKey) ciphertext.KeyBinding {
	return ciphertext.KeyBinding{
		Tenant: w.Tenant, Holder: w.Holder, Purpose: string(w.Purpose),
		KeyID: uuid.UUID(w.ID), Version: w.Version, Mode: ciphertext.ModeLocal,
	}
}
