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
	store Keys
}

// NewKeyring joins the key inventory in store with the gate.
func NewKeyring(g *Gate, store Keys) *Keyring { return &Keyring{gate: g, store: store} }

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
		c.entry.Resource.Key = key.ID.String()
		c.entry.Resource.KeyVersion = int(key.Version)
		c.entry.Detail = "purpose " + string(key.Purpose) + ", mode " + key.Mode.String()
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
