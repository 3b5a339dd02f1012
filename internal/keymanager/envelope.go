// Package keymanager protects records: it has the ways in which a tenant's keys
// may be kept. In an [Envelope] branch keys are wrapped by something better kept: a
// tenant master key that custodians unseal, a key in AWS KMS, in an HSM or in
// Hyperswitch's encryption service. With [Direct] AWS KMS encrypts each record
// itself. A [Router] joins them: it seals in the tenant's mode and opens whatever
// mode a record is of, changes keys, and moves records from one to another.
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

// Wrapper is what wraps the keys of one mode. It is safe for concurrent use.
type Wrapper interface {
	// Mode is what records and keys are marked with.
	Mode() vault.Mode
	// Usable returns nil if the tenant's keys of this mode may be used now, else an
	// error that wraps vault.ErrLocked, vault.ErrUnknownTenant or vault.ErrKeyUnavailable.
	// Every operation asks, so it must be fast: it asks nobody else.
	Usable(tenant string) error
	// Current reports whether w, of this mode, is wrapped by what wraps new keys.
	Current(w vault.WrappedKey) bool
	// Generate makes the 32 bytes of the key that w names, and wraps them. There is no
	// key if it stays in a KMS.
	Generate(ctx context.Context, w vault.WrappedKey) (wrapped []byte, key secret.Bytes, err error)
	// Wrap wraps a key that there is already, under the name w.
	Wrap(ctx context.Context, w vault.WrappedKey, key secret.Bytes) (wrapped []byte, err error)
	// Unwrap gives back what Generate made or Wrap was given. Errors wrap those of
	// vault.KeyManager and read on after the key's id: "does not unwrap under …".
	Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error)
}

// Inventory is where wrapped keys are kept; *vault.Keyring is one.
type Inventory interface {
	Active(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error)
	ByID(ctx context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error)
	Create(ctx context.Context, k vault.WrappedKey) (vault.WrappedKey, error)
	Rotate(ctx context.Context, k vault.WrappedKey, reason string) (vault.WrappedKey, bool, error)
	Rewrap(ctx context.Context, k vault.WrappedKey, was []byte) (bool, error)
}

// Options are what an Envelope is made of. Wrappers, Inventory and Now are required.
type Options struct {
	// Tenants say in which mode new keys are made. If it is nil, all are made in that of
	// the first wrapper.
	Tenants   *vault.Tenants
	Wrappers  []Wrapper // one a mode
	Inventory Inventory
	Now       func() time.Time
	TTL       time.Duration // how long a key may stay in clear; default 5 min, at most 1 h
	Grace     time.Duration // for how much longer while what unwraps it is out of reach, but never in mode local; default none, at most 1 h
	Entries   int           // keys in clear, and as many names, at the most; default 100,000
	Metrics   prometheus.Registerer
	Logger    *slog.Logger // default discards
}

// Envelope protects records under branch keys, each of which is wrapped by the
// Wrapper of its own mode. It is safe for concurrent use.
type Envelope struct {
	tenants   *vault.Tenants
	only      vault.Mode // without tenants
	wrappers  map[vault.Mode]Wrapper
	inventory Inventory
	now       func() time.Time
	log       *slog.Logger
	names     *nameCache
	keys      *keyCache
	counts    *counts
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
	e := &Envelope{
		tenants: o.Tenants, only: o.Wrappers[0].Mode(), wrappers: map[vault.Mode]Wrapper{},
		inventory: o.Inventory, now: o.Now, log: o.Logger, counts: &counts{},
	}
	for _, w := range o.Wrappers {
		e.wrappers[w.Mode()] = w
	}
	limits := cacheLimits{entries: o.Entries, ttl: o.TTL, grace: o.Grace, now: o.Now, inGrace: func(err error) {
		o.Logger.Warn("key is used past its time, what unwraps it is out of reach", slog.Duration("grace", o.Grace), slog.Any("error", err))
	}}
	m := newCacheMetrics(o.Metrics)
	var err error
	if e.names, err = newNameCache(o.Entries, m.of("active")); err != nil {
		return nil, err
	}
	e.keys, err = newKeyCache(limits, m.of("version"))
	return e, err
}

// Seal implements vault.KeyManager.
func (e *Envelope) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	if err := checkHolderSecret(c); err != nil {
		return vault.Sealed{}, err
	}
	k, err := e.active(ctx, activeName{c.Tenant, branchHolder(c), vault.PurposeRecord})
	if err != nil {
		return vault.Sealed{}, err
	}
	defer k.release()
	blob, err := ciphertext.SealRecord(k.key, c.HolderSecret, binding(c, k.id, k.version), plaintext.Expose())
	if err != nil {
		return vault.Sealed{}, err
	}
	k.sealed.Add(1)
	return vault.Sealed{Mode: k.mode, Key: k.id, KeyVersion: k.version, Blob: blob}, nil
}

// Open implements vault.KeyManager. Whatever mode the record was sealed in, its key
// may have been wrapped anew since: what unwraps it is of the mode that the
// inventory has for it.
func (e *Envelope) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	if _, ok := e.wrappers[s.Mode]; !ok || s.Mode == vault.ModeKMS {
		return secret.Bytes{}, fmt.Errorf("record names mode %d, which no key manager here opens: %w", s.Mode, vault.ErrCorrupt)
	}
	if err := checkHolderSecret(c); err != nil {
		return secret.Bytes{}, err
	}
	k, err := e.ofRecord(ctx, versionName{c.Tenant, s.Key, s.KeyVersion, vault.PurposeRecord})
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

// Forget wipes the keys of a tenant at once, because it was locked or suspended;
// one that is in use just now, when its user is done with it. Call it after the
// master key is gone: a key whose load began before does not stay either.
func (e *Envelope) Forget(tenant string) {
	e.names.forget(func(n *name) bool { return n.active.w.Tenant == tenant })
	e.keys.wipe(func(k *clearKey) bool { return k.tenant == tenant })
}

// ForgetMode wipes the keys of a tenant that are wrapped in one mode.
func (e *Envelope) ForgetMode(tenant string, m vault.Mode) {
	e.keys.wipe(func(k *clearKey) bool { return k.tenant == tenant && k.mode == m })
}

// ForgetKey wipes one key version of a tenant, and what is known of the versions
// of that key.
func (e *Envelope) ForgetKey(tenant string, v vault.KeyVersion) {
	e.names.forget(func(n *name) bool { return n.active.w.Tenant == tenant && n.active.w.ID == v.ID })
	e.keys.wipe(func(k *clearKey) bool { return k.tenant == tenant && k.id == v.ID && k.version == v.Version })
}

// Sweep wipes the keys of tenants that were locked without a word to Forget. Call
// it every few seconds. Keys whose time is over go by themselves, within two
// seconds.
func (e *Envelope) Sweep() {
	type modeOf struct {
		tenant string
		mode   vault.Mode
	}
	asked := map[modeOf]bool{}
	e.keys.forget(func(k *clearKey) bool {
		m := modeOf{k.tenant, k.mode}
		locked, known := asked[m]
		if !known {
			locked = e.usable(k) != nil
			asked[m] = locked
		}
		return locked
	})
}

// Close wipes every key. What is asked for afterwards is ErrKeyUnavailable.
func (e *Envelope) Close() {
	e.names.close()
	e.keys.close()
}

// usable is whether a key may be used now, by the mode in which it was unwrapped. That
// of a suspended tenant may not in any: what was under way when it was suspended would
// otherwise bring keys back that Forget has wiped.
func (e *Envelope) usable(k *clearKey) error {
	if e.tenants != nil {
		if _, is := e.tenants.Suspended(k.tenant); is {
			return fmt.Errorf("tenant %q: %w", k.tenant, vault.ErrSuspended)
		}
	}
	return e.wrappers[k.mode].Usable(k.tenant)
}

// ofRecord returns the key that a record names.
func (e *Envelope) ofRecord(ctx context.Context, v versionName) (*clearKey, error) {
	k, err := e.keys.get(ctx, v, func(ctx context.Context) (*clearKey, error) {
		w, err := e.inventory.ByID(ctx, v.id, v.version)
		switch {
		case errors.Is(err, vault.ErrNotFound):
			return nil, fmt.Errorf("record names key %s version %d, which is not in the inventory: %w", v.id, v.version, vault.ErrCorrupt)
		case err != nil:
			return nil, fmt.Errorf("key %s: %w", v.id, err)
		case w.Tenant != v.tenant || w.Purpose != v.purpose || w.ID != v.id || w.Version != v.version:
			return nil, fmt.Errorf("record names key %s, which is not for it: %w", v.id, vault.ErrCorrupt)
		}
		return e.unwrap(ctx, w)
	}, e.usable)
	return e.checked(k, err)
}

// checked gives back a key whose tenant was locked while it was waited for.
func (e *Envelope) checked(k *clearKey, err error) (*clearKey, error) {
	if err != nil {
		return nil, err
	}
	if err := e.usable(k); err != nil {
		k.release()
		return nil, err
	}
	return k, nil
}

// errDestroyed is of a key that is gone. Only shredding destroys keys: who had the
// merchant in memory from before it was shredded is told as all others are.
var errDestroyed = fmt.Errorf("%w: %w", vault.ErrShredded, vault.ErrKeyUnavailable)

// unwrap makes a key usable, by the wrapper of its own mode.
func (e *Envelope) unwrap(ctx context.Context, w vault.WrappedKey) (*clearKey, error) {
	if w.State == vault.KeyDestroyed {
		return nil, fmt.Errorf("key %s is destroyed: %w", w.ID, errDestroyed)
	}
	wrapper, ok := e.wrappers[w.Mode]
	if !ok {
		return nil, otherMode(w)
	}
	if err := wrapper.Usable(w.Tenant); err != nil {
		return nil, err
	}
	if w.Mode == vault.ModeKMS {
		kmsKey, err := referenceOf(w)
		if err != nil {
			return nil, err
		}
		return newClearKey(w, secret.Bytes{}, kmsKey, e.counts), nil
	}
	key, err := wrapper.Unwrap(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("key %s %w", w.ID, err)
	}
	return newClearKey(w, key, "", e.counts), nil
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
