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

// NewLocal makes a key manager whose branch keys are wrapped under a master key a
// tenant, in this process.
func NewLocal(o LocalOptions) (*Envelope, error) {
	return NewEnvelope(Options{
		Wrapper: localWrapper{o.Masters}, Inventory: o.Inventory, Now: o.Now, TTL: o.TTL, Entries: o.Entries, Metrics: o.Metrics,
	})
}

// localWrapper wraps under tenants' master keys.
type localWrapper struct{ masters MasterKeys }

func (localWrapper) Mode() vault.Mode { return vault.ModeLocal }

func (l localWrapper) Usable(tenant string) error {
	if !l.masters.Unlocked(tenant) {
		return fmt.Errorf("tenant %q: %w", tenant, vault.ErrLocked)
	}
	return nil
}

func (l localWrapper) Generate(_ context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	master, err := l.master(w.Tenant)
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	defer master.Destroy()
	key := secret.Random(ciphertext.KeySize)
	wrapped, err := ciphertext.WrapKey(master, keyBinding(w), key)
	if err != nil {
		key.Destroy()
		return nil, secret.Bytes{}, fmt.Errorf("wrap key: %w", err)
	}
	return wrapped, key, nil
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
