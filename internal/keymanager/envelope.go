// Package keymanager protects records: it has the ways in which a tenant's keys
// may be kept, each a vault.KeyManager. In an [Envelope] branch keys are wrapped
// by something better kept: in [NewLocal] a tenant master key that custodians
// unseal, in [NewKMSEnvelope] a key in AWS KMS. With [Direct] AWS KMS encrypts each
// record itself. A [Router] joins them: it seals in the tenant's mode and opens
// whatever mode a record is of.
//
// Keys in clear live only in a bounded cache; they are wiped when they leave it,
// once the last operation that uses them is over.
package keymanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// Wrapper is what wraps an Envelope's branch keys. It is safe for concurrent use.
type Wrapper interface {
	// Mode is what records and keys are marked with.
	Mode() vault.Mode
	// Usable returns nil if the tenant's keys may be used now, else an error that
	// wraps vault.ErrLocked or vault.ErrUnknownTenant. Every operation asks, so it must
	// be fast: it asks nobody else.
	Usable(tenant string) error
	// Generate makes the 32 bytes of the key that w names, and wraps them.
	Generate(ctx context.Context, w vault.WrappedKey) (wrapped []byte, key secret.Bytes, err error)
	// Unwrap gives them back. Errors wrap those of vault.KeyManager and read on after
	// the key's id: "does not unwrap under …".
	Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error)
}

// Inventory is where wrapped keys are kept; *vault.Keyring is one.
type Inventory interface {
	Active(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error)
	ByID(ctx context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error)
	Create(ctx context.Context, k vault.WrappedKey) (vault.WrappedKey, error)
}

// Options are what an Envelope is made of. Wrapper, Inventory and Now are required.
type Options struct {
	Wrapper   Wrapper
	Inventory Inventory
	Now       func() time.Time
	TTL       time.Duration // how long a key may stay in clear; default 5 min, at most 1 h
	Grace     time.Duration // for how much longer while what unwraps it is out of reach; default none, at most 1 h
	Entries   int           // keys in clear that seal, and as many that open, at the most; default 100,000
	Metrics   prometheus.Registerer
	Logger    *slog.Logger // default discards
}

// Envelope protects records under branch keys, which a Wrapper wraps. It is safe
// for concurrent use.
type Envelope struct {
	wrapper   Wrapper
	inventory Inventory
	now       func() time.Time
	active    *keyCache[activeName] // by what they are for
	byID      *keyCache[versionName]
}

type activeName struct {
	tenant, holder string
	purpose        vault.Purpose
}

type versionName struct {
	tenant  string
	id      vault.KeyID
	version uint32
}

// NewEnvelope makes an Envelope.
func NewEnvelope(o Options) (*Envelope, error) {
	if o.TTL == 0 {
		o.TTL = 5 * time.Minute
	}
	if o.TTL < 0 || o.TTL > time.Hour {
		return nil, fmt.Errorf("key cache ttl %s: must be above 0 and at most 1h", o.TTL)
	}
	if o.Entries == 0 {
		o.Entries = 100_000
	}
	if o.Entries < 0 {
		return nil, fmt.Errorf("key cache of %d entries: must be at least 1", o.Entries)
	}
	if o.Grace < 0 || o.Grace > time.Hour {
		return nil, fmt.Errorf("key cache grace %s: must be at most 1h", o.Grace)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	limits := cacheLimits{entries: o.Entries, ttl: o.TTL, grace: o.Grace, now: o.Now, inGrace: func(err error) {
		o.Logger.Warn("key is used past its time, what unwraps it is out of reach", slog.Duration("grace", o.Grace), slog.Any("error", err))
	}}
	m := newCacheMetrics(o.Metrics)
	active, err := newKeyCache[activeName](limits, m.of("active"))
	if err != nil {
		return nil, err
	}
	byID, err := newKeyCache[versionName](limits, m.of("version"))
	if err != nil {
		return nil, err
	}
	return &Envelope{wrapper: o.Wrapper, inventory: o.Inventory, now: o.Now, active: active, byID: byID}, nil
}

// Seal implements vault.KeyManager.
func (e *Envelope) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	if err := checkHolderSecret(c); err != nil {
		return vault.Sealed{}, err
	}
	k, err := e.activeKey(ctx, c.Tenant, branchHolder(c), vault.PurposeRecord)
	if err != nil {
		return vault.Sealed{}, err
	}
	defer k.release()
	blob, err := ciphertext.SealRecord(k.key, c.HolderSecret, binding(c, k.id, k.version), plaintext.Expose())
	if err != nil {
		return vault.Sealed{}, err
	}
	return vault.Sealed{Mode: e.wrapper.Mode(), Key: k.id, KeyVersion: k.version, Blob: blob}, nil
}

// Open implements vault.KeyManager.
func (e *Envelope) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	if s.Mode != e.wrapper.Mode() {
		return secret.Bytes{}, fmt.Errorf("record names mode %d, which no key manager here opens: %w", s.Mode, vault.ErrCorrupt)
	}
	if err := checkHolderSecret(c); err != nil {
		return secret.Bytes{}, err
	}
	k, err := e.keyByID(ctx, c, s.Key, s.KeyVersion)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer k.release()
	p, err := ciphertext.OpenRecord(k.key, c.HolderSecret, binding(c, s.Key, s.KeyVersion), s.Blob)
	// Too large is a bound text of the stored row.
	if errors.Is(err, ciphertext.ErrCorrupt) || errors.Is(err, ciphertext.ErrTooLarge) {
		return secret.Bytes{}, fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	return p, err
}

// MAC implements vault.KeyManager.
func (e *Envelope) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	if p != vault.PurposeDedupe && p != vault.PurposeFingerprint {
		return vault.MAC{}, fmt.Errorf("keyed hash under a %s key: a key has one purpose only", p)
	}
	k, err := e.activeKey(ctx, tenant, "", p)
	if err != nil {
		return vault.MAC{}, err
	}
	defer k.release()
	return ciphertext.MAC(k.key, "cardea "+string(p)+" v1", parts...)
}

// Forget wipes the keys of a tenant at once, because it was locked or suspended;
// one that is in use just now, when its user is done with it. Call it after the
// master key is gone: a key whose load began before does not stay either.
func (e *Envelope) Forget(tenant string) {
	e.active.wipe(func(n activeName) bool { return n.tenant == tenant })
	e.byID.wipe(func(n versionName) bool { return n.tenant == tenant })
}

// Sweep wipes the keys of tenants that were locked without a word to Forget. Call
// it every few seconds. Keys whose time is over go by themselves, within two
// seconds.
func (e *Envelope) Sweep() {
	asked := map[string]bool{}
	locked := func(tenant string) bool {
		is, known := asked[tenant]
		if !known {
			is = e.wrapper.Usable(tenant) != nil
			asked[tenant] = is
		}
		return is
	}
	e.active.forget(func(n activeName) bool { return locked(n.tenant) })
	e.byID.forget(func(n versionName) bool { return locked(n.tenant) })
}

// Close wipes every key. What is asked for afterwards is ErrKeyUnavailable.
func (e *Envelope) Close() {
	e.active.close()
	e.byID.close()
}

// branchHolder is whose branch key protects a record: the merchant's in v1; in
// v2, where there may be millions of entities, the tenant's, made the entity's
// own by its secret.
func branchHolder(c vault.RecordContext) string {
	if c.Space == vault.SpaceV1 {
		return c.Holder
	}
	return ""
}

// checkHolderSecret refuses an entity without its secret, which could not be
// shredded by destroying it, and a secret that is not one.
func checkHolderSecret(c vault.RecordContext) error {
	want := 0
	if c.Space == vault.SpaceV2 {
		want = ciphertext.KeySize
	}
	if n := len(c.HolderSecret); n != want {
		return fmt.Errorf("secret of the holder has %d bytes, want %d: %w", n, want, vault.ErrCorrupt)
	}
	return nil
}

func binding(c vault.RecordContext, id vault.KeyID, version uint32) ciphertext.Binding {
	return ciphertext.Binding{
		Tenant: c.Tenant, Holder: c.Holder, Space: c.Space.String(), Customer: c.Customer, Reference: c.Reference,
		Kind: c.Kind.String(), KeyID: uuid.UUID(id), KeyVersion: version,
		CreatedAt: int64(c.CreatedAt), ExpiresAt: int64(c.ExpiresAt),
	}
}

// activeKey returns the key for a purpose, making it if there is none.
func (e *Envelope) activeKey(ctx context.Context, tenant, holder string, p vault.Purpose) (*clearKey, error) {
	return use(ctx, e, e.active, tenant, activeName{tenant, holder, p}, func(ctx context.Context) (w vault.WrappedKey, key secret.Bytes, err error) {
		w, err = e.inventory.Active(ctx, tenant, holder, p)
		if errors.Is(err, vault.ErrNotFound) {
			w, key, err = e.create(ctx, tenant, holder, p)
		}
		switch {
		case err != nil:
			return w, key, fmt.Errorf("%s key: %w", p, err)
		case w.Tenant != tenant || w.Holder != holder || w.Purpose != p:
			return w, key, fmt.Errorf("inventory has key %s for something else than it was asked for: %w", w.ID, vault.ErrCorrupt)
		case w.State != vault.KeyActive: // what stood in the way of a new one
			return w, key, fmt.Errorf("key %s is %s, and there is no active one: %w", w.ID, w.State, vault.ErrKeyUnavailable)
		}
		return w, key, nil
	})
}

// keyByID returns the key that a record names.
func (e *Envelope) keyByID(ctx context.Context, c vault.RecordContext, id vault.KeyID, version uint32) (*clearKey, error) {
	return use(ctx, e, e.byID, c.Tenant, versionName{c.Tenant, id, version}, func(ctx context.Context) (vault.WrappedKey, secret.Bytes, error) {
		w, err := e.inventory.ByID(ctx, id, version)
		switch {
		case errors.Is(err, vault.ErrNotFound):
			return w, secret.Bytes{}, fmt.Errorf("record names key %s version %d, which is not in the inventory: %w", id, version, vault.ErrCorrupt)
		case err != nil:
			return w, secret.Bytes{}, fmt.Errorf("key %s: %w", id, err)
		case w.Tenant != c.Tenant || w.Purpose != vault.PurposeRecord:
			return w, secret.Bytes{}, fmt.Errorf("record names key %s, which is not for it: %w", id, vault.ErrCorrupt)
		case w.State == vault.KeyDestroyed:
			return w, secret.Bytes{}, fmt.Errorf("key %s is destroyed: %w", id, vault.ErrKeyUnavailable)
		}
		return w, secret.Bytes{}, nil
	})
}

// use gets a key in clear from cache, or finds and unwraps it, unless find has it
// in clear as well because it has just made it. A tenant that is locked gets
// nothing from the cache either.
func use[K comparable](ctx context.Context, e *Envelope, cache *keyCache[K], tenant string, name K,
	find func(context.Context) (vault.WrappedKey, secret.Bytes, error),
) (*clearKey, error) {
	usable := func() error { return e.wrapper.Usable(tenant) }
	if err := usable(); err != nil {
		return nil, err
	}
	k, err := cache.get(ctx, name, func(ctx context.Context) (*clearKey, error) {
		w, key, err := find(ctx)
		switch {
		case err != nil:
			key.Destroy()
			return nil, err
		case key.Present():
			return newClearKey(w.ID, w.Version, key), nil
		}
		return e.unwrap(ctx, w)
	}, usable)
	if err != nil {
		return nil, err
	}
	if err := usable(); err != nil { // since it was asked first
		k.release()
		return nil, err
	}
	return k, nil
}

// create makes a first key version. If another caller was faster, its key is
// returned, and not in clear.
func (e *Envelope) create(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, secret.Bytes, error) {
	w := vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: tenant, Holder: holder, Purpose: p, Version: 1,
		State: vault.KeyActive, Mode: e.wrapper.Mode(), CreatedAt: vault.MicrosOf(e.now()),
	}
	wrapped, key, err := e.wrapper.Generate(ctx, w)
	if err != nil {
		return vault.WrappedKey{}, secret.Bytes{}, fmt.Errorf("make key: %w", err)
	}
	w.Wrapped = wrapped
	standing, err := e.inventory.Create(ctx, w)
	if err != nil || standing.ID != w.ID {
		key.Destroy()
		key = secret.Bytes{}
	}
	return standing, key, err
}

func (e *Envelope) unwrap(ctx context.Context, w vault.WrappedKey) (*clearKey, error) {
	if w.Mode != e.wrapper.Mode() {
		return nil, otherMode(w, e.wrapper.Mode())
	}
	key, err := e.wrapper.Unwrap(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("key %s %w", w.ID, err)
	}
	return newClearKey(w.ID, w.Version, key), nil
}
