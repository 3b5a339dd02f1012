package vault

import (
	"context"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/iam"
)

// Keyring is the inventory of the keys that protect records. Key managers get
// wrapped keys from it and put new ones into it; it sees to the audit entry.
type Keyring struct {
	gate  *Gate
	store KeyChanges
}

// KeyChanges is the part of a store that a Keyring needs: Keys, and two methods of
// KeyWork.
type KeyChanges interface {
	Keys
	RotateKey(ctx context.Context, k WrappedKey, e audit.Sealed) (WrappedKey, bool, error)
	RewrapKey(ctx context.Context, k WrappedKey, was []byte, e audit.Sealed) (bool, error)
}

// NewKeyring joins the key inventory in store with the gate.
func NewKeyring(g *Gate, store KeyChanges) *Keyring { return &Keyring{gate: g, store: store} }

// Active returns the active key for a purpose, or ErrNotFound.
func (k *Keyring) Active(ctx context.Context, tenant, holder string, p Purpose) (WrappedKey, error) {
	return k.store.ActiveKey(ctx, tenant, holder, p)
}

// ByID returns a key version, or ErrNotFound.
func (k *Keyring) ByID(ctx context.Context, id KeyID, version uint32) (WrappedKey, error) {
	return k.store.Key(ctx, id, version)
}

// Create puts a new key into the inventory. Of several that are created at once
// for one tenant, holder, purpose and version the first stands, and all callers
// get that one.
func (k *Keyring) Create(ctx context.Context, key WrappedKey) (WrappedKey, error) {
	t := Target{Tenant: key.Tenant, Holder: key.Holder, RequestID: RequestID(ctx)}
	var standing WrappedKey
	err := k.gate.do(ctx, iam.System("key-manager"), OpKeyCreate, t, func(c *call) error {
		c.aboutKey(key)
		created, err := c.commit(ctx, "created", func(ctx context.Context, e audit.Sealed) (created bool, err error) {
			standing, created, err = k.store.PutKey(ctx, key, e)
			return created, err
		})
		if err == nil && !created {
			c.entry.Result = "existed"
			c.entry.Resource.Key = standing.ID.String()
		}
		return err
	})
	if err != nil {
		return WrappedKey{}, fmt.Errorf("create %s key: %w", key.Purpose, err)
	}
	return standing, nil
}

// Rotate puts the next version of a key into the inventory as the active one, and
// makes the one that was active decrypt-only. If the version is there already, it
// returns the newest one and false.
func (k *Keyring) Rotate(ctx context.Context, key WrappedKey, reason string) (standing WrappedKey, rotated bool, err error) {
	err = k.change(ctx, OpKeyRotate, key, func(c *call) error {
		c.entry.Detail += ", reason " + reason
		rotated, err = c.commit(ctx, "rotated", func(ctx context.Context, e audit.Sealed) (made bool, err error) {
			standing, made, err = k.store.RotateKey(ctx, key, e)
			return made, err
		})
		if err == nil && !rotated {
			c.entry.Result = "existed"
		}
		return err
	})
	if err != nil {
		return WrappedKey{}, false, fmt.Errorf("rotate %s key: %w", key.Purpose, err)
	}
	return standing, rotated, nil
}

// Rewrap replaces mode and wrapping of a key version whose wrapping is still was,
// and reports whether it was.
func (k *Keyring) Rewrap(ctx context.Context, key WrappedKey, was []byte) (rewrapped bool, err error) {
	err = k.change(ctx, OpKeyRewrap, key, func(c *call) error {
		rewrapped, err = c.commit(ctx, "rewrapped", func(ctx context.Context, e audit.Sealed) (bool, error) {
			return k.store.RewrapKey(ctx, key, was, e)
		})
		if err == nil && !rewrapped {
			c.entry.Result = "changed_meanwhile"
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("rewrap %s key: %w", key.Purpose, err)
	}
	return rewrapped, nil
}

func (k *Keyring) change(ctx context.Context, op *Operation, key WrappedKey, act func(*call) error) error {
	t := Target{Tenant: key.Tenant, Holder: key.Holder, RequestID: RequestID(ctx)}
	return k.gate.do(ctx, iam.System("key-manager"), op, t, func(c *call) error {
		c.aboutKey(key)
		return act(c)
	})
}

func (c *call) aboutKey(key WrappedKey) {
	c.entry.Resource.Key = key.ID.String()
	c.entry.Resource.KeyVersion = int(key.Version)
	c.entry.Detail = "purpose " + string(key.Purpose) + ", mode " + key.Mode.String()
}
