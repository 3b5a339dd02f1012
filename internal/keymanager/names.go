package keymanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// nameLife is how long a node seals under a key version without asking the inventory
// whether there is a newer one. It is part of vault.RetireDelay.
const nameLife = 5 * time.Second

// A node may make so many versions of a key within turnsIn because its configuration
// asks for another mode: nodes whose configurations differ would make versions
// without end.
const (
	maxTurns = 5
	turnsIn  = 10 * time.Minute
)

// activeName is what a key is for.
type activeName struct {
	tenant, holder string
	purpose        vault.Purpose
}

// name is what is known of the key for a purpose, as the inventory had it not long
// ago. It holds no key: held ones may be wiped at any time.
type name struct {
	active held
	older  []*held // replaced, but not retired, newest first; of keyed hashes only
	read   time.Time
	turns  int // versions made for the configuration's sake since turnedFrom
	since  time.Time
}

// held is a key version with its key in clear, if that was there lately.
type held struct {
	w   vault.WrappedKey
	key atomic.Pointer[clearKey]
}

func (n *name) young(now time.Time) bool { return now.Sub(n.read) < nameLife }

// nameCache holds names, bounded in number.
type nameCache struct {
	names *otter.Cache[activeName, *name]
	m     lookups
	loads flights[activeName, *name]
}

func newNameCache(entries int, m lookups) (*nameCache, error) {
	names, err := otter.New(&otter.Options[activeName, *name]{MaximumSize: entries})
	if err != nil {
		return nil, fmt.Errorf("key name cache: %w", err)
	}
	return &nameCache{names: names, m: m}, nil
}

func (c *nameCache) forget(match func(*name) bool) {
	for an, n := range c.names.All() {
		if match(n) {
			c.names.Invalidate(an)
		}
	}
}

func (c *nameCache) close() {
	c.loads.close()
	c.names.InvalidateAll()
	c.names.StopAllGoroutines()
}

// name returns what is known of a key that is no older than nameLife, or has just
// been asked for; the time is that at which it was found in the cache.
func (e *Envelope) name(ctx context.Context, an activeName) (*name, time.Time, error) {
	now := e.now()
	if n, ok := e.names.names.GetIfPresent(an); ok && n.young(now) {
		e.names.m.hit.Inc()
		return n, now, nil
	}
	e.names.m.miss.Inc()
	n, _, err := e.names.loads.do(ctx, an, func() (*name, bool) {
		n, ok := e.names.names.GetIfPresent(an)
		return n, ok && n.young(e.now())
	}, func(ctx context.Context) (*name, error) { return e.lookUp(ctx, an) })
	return n, e.now(), err
}

// active returns the key for a purpose, acquired, making it if there is none.
func (e *Envelope) active(ctx context.Context, an activeName) (*clearKey, error) {
	n, now, err := e.name(ctx, an)
	if err != nil {
		return nil, err
	}
	return e.activeOf(ctx, n, now)
}

func (e *Envelope) activeOf(ctx context.Context, n *name, now time.Time) (*clearKey, error) {
	k, waited, err := e.hold(ctx, &n.active, now)
	if err == nil && waited {
		if age := e.now().Sub(n.read); age > nameLife+loadTimeout {
			k.release()
			return nil, fmt.Errorf("%s key was read %s ago and may be replaced by now, try again: %w", n.active.w.Purpose, age.Round(time.Second), vault.ErrKeyUnavailable)
		}
	}
	return k, err
}

// hold returns the key of a version, acquired, and whether it had to be asked for.
func (e *Envelope) hold(ctx context.Context, h *held, now time.Time) (k *clearKey, waited bool, err error) {
	if k := h.key.Load(); k != nil && k.isFresh(now) && k.acquire() {
		if e.usable(k) == nil {
			return k, false, nil
		}
		k.release()
	}
	k, err = e.keys.get(ctx, nameOf(h.w), func(ctx context.Context) (*clearKey, error) { return e.unwrap(ctx, h.w) }, e.usable)
	if k, err = e.checked(k, err); err == nil {
		h.key.Store(k)
	}
	return k, true, err
}

// lookUp asks the inventory for the key of a purpose. If there is none, or it is
// wrapped in another way than the configuration says, it makes the next version;
// but not of keys that make keyed hashes, under which stored hashes are found again.
func (e *Envelope) lookUp(ctx context.Context, an activeName) (*name, error) {
	n := &name{read: e.now()}
	mode, err := e.makes(an.tenant, an.purpose)
	if err != nil {
		return nil, err
	}
	hashes := an.purpose == vault.PurposeDedupe || an.purpose == vault.PurposeFingerprint
	if err := e.wrappers[mode].Usable(an.tenant); err != nil && !hashes {
		return nil, err
	}
	var k *clearKey
	w, err := e.inventory.Active(ctx, an.tenant, an.holder, an.purpose)
	switch {
	case errors.Is(err, vault.ErrNotFound):
		w, k, err = e.create(ctx, an, mode, "mode")
	case err == nil && !hashes && !e.currentIn(w, mode) && e.mayTurn(n, an):
		w, k, err = e.rotate(ctx, w, mode, "mode")
		n.turns++
	}
	if k != nil {
		defer k.release()
		n.active.key.Store(k)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s key: %w", an.purpose, err)
	case w.Tenant != an.tenant || w.Holder != an.holder || w.Purpose != an.purpose:
		return nil, fmt.Errorf("inventory has key %s for something else than it was asked for: %w", w.ID, vault.ErrCorrupt)
	case w.State == vault.KeyDestroyed: // what stood in the way of a new one
		return nil, fmt.Errorf("key %s is %s, and there is no active one: %w", w.ID, w.State, errDestroyed)
	case w.State != vault.KeyActive:
		return nil, fmt.Errorf("key %s is %s, and there is no active one: %w", w.ID, w.State, vault.ErrKeyUnavailable)
	}
	n.active.w = w
	if hashes {
		if n.older, err = e.olderThan(ctx, w); err != nil {
			return nil, err
		}
	}
	e.names.names.Set(an, n)
	return n, nil
}

// mayTurn reports whether the configuration may make another version now. It takes
// over the count of the name that n replaces.
func (e *Envelope) mayTurn(n *name, an activeName) bool {
	n.since = n.read
	if was, ok := e.names.names.GetIfPresent(an); ok && n.read.Sub(was.since) < turnsIn {
		n.turns, n.since = was.turns, was.since
	}
	if n.turns < maxTurns {
		return true
	}
	e.log.Warn("key is not in the mode that is configured, but was replaced too often for that lately: do all nodes have the same configuration?",
		slog.String("tenant", an.tenant), slog.String("purpose", string(an.purpose)))
	return false
}

// olderThan lists the versions before w under which there may be stored hashes.
func (e *Envelope) olderThan(ctx context.Context, w vault.WrappedKey) ([]*held, error) {
	var older []*held
	for v := w.Version - 1; v > 0; v-- {
		o, err := e.inventory.ByID(ctx, w.ID, v)
		switch {
		case errors.Is(err, vault.ErrNotFound) || err == nil && o.State != vault.KeyDecryptOnly:
			continue
		case err != nil:
			return nil, fmt.Errorf("%s key: %w", w.Purpose, err)
		case o.Tenant != w.Tenant || o.Purpose != w.Purpose:
			return nil, fmt.Errorf("inventory has key %s for something else than it was asked for: %w", w.ID, vault.ErrCorrupt)
		}
		older = append(older, &held{w: o})
	}
	return older, nil
}

// makes is the mode in which a tenant's next key for a purpose is made. A KMS that
// encrypts records itself also takes long ones, under branch keys, and makes keyed
// hashes only if it has a key for that.
func (e *Envelope) makes(tenant string, p vault.Purpose) (vault.Mode, error) {
	mode := e.only
	if e.tenants != nil {
		t, err := e.tenants.Tenant(tenant)
		if err != nil {
			return 0, err
		}
		mode = t.Mode
	}
	if p == vault.PurposeDirect {
		mode = vault.ModeKMS
	} else if r, ok := e.wrappers[vault.ModeKMS].(*kmsReferences); ok && mode == vault.ModeKMS && (p == vault.PurposeRecord || !r.hasMACKey(tenant)) {
		mode = vault.ModeKMSEnvelope
	}
	if _, ok := e.wrappers[mode]; !ok {
		return 0, notServed(tenant, mode)
	}
	return mode, nil
}

func notServed(tenant string, mode vault.Mode) error {
	return fmt.Errorf("tenant %q is in mode %s, which is not served here: %w", tenant, mode, vault.ErrKeyUnavailable)
}

// currentIn reports whether w is wrapped as a new key of that mode would be.
func (e *Envelope) currentIn(w vault.WrappedKey, mode vault.Mode) bool {
	return w.Mode == mode && e.wrappers[mode].Current(w)
}

// create makes a first key version. If another caller was faster, its key is
// returned, and not in clear; else the key is acquired. If there are versions, of
// which none is active because the tenant's mode had no use for the key for a time,
// it makes the next one.
func (e *Envelope) create(ctx context.Context, an activeName, mode vault.Mode, reason string) (vault.WrappedKey, *clearKey, error) {
	w := vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: an.tenant, Holder: an.holder, Purpose: an.purpose, Version: 1,
		State: vault.KeyActive, Mode: mode, CreatedAt: vault.MicrosOf(e.now()),
	}
	wrapped, key, err := e.wrappers[mode].Generate(ctx, w)
	if err != nil {
		return vault.WrappedKey{}, nil, fmt.Errorf("make key: %w", err)
	}
	w.Wrapped = wrapped
	standing, err := e.inventory.Create(ctx, w)
	if err == nil && standing.ID == w.ID {
		return e.keep(standing, key)
	}
	key.Destroy()
	if err != nil || standing.State == vault.KeyActive {
		return standing, nil, err
	}
	if standing, err = e.newest(ctx, standing); err != nil || standing.State != vault.KeyDecryptOnly && standing.State != vault.KeyRetired {
		return standing, nil, err
	}
	return e.rotate(ctx, standing, mode, reason)
}

// newest is the last version of the key of which w is one.
func (e *Envelope) newest(ctx context.Context, w vault.WrappedKey) (vault.WrappedKey, error) {
	for {
		next, err := e.inventory.ByID(ctx, w.ID, w.Version+1)
		if errors.Is(err, vault.ErrNotFound) {
			return w, nil
		}
		if err != nil {
			return w, err
		}
		w = next
	}
}

// rotate makes the version after w, in the same way.
func (e *Envelope) rotate(ctx context.Context, w vault.WrappedKey, mode vault.Mode, reason string) (vault.WrappedKey, *clearKey, error) {
	next := vault.WrappedKey{
		ID: w.ID, Tenant: w.Tenant, Holder: w.Holder, Purpose: w.Purpose, Version: w.Version + 1,
		State: vault.KeyActive, Mode: mode, CreatedAt: vault.MicrosOf(e.now()),
	}
	wrapped, key, err := e.wrappers[mode].Generate(ctx, next)
	if err != nil {
		return vault.WrappedKey{}, nil, fmt.Errorf("make version %d: %w", next.Version, err)
	}
	next.Wrapped = wrapped
	standing, made, err := e.inventory.Rotate(ctx, next, reason)
	if err != nil || !made || !bytes.Equal(standing.Wrapped, wrapped) {
		key.Destroy()
		return standing, nil, err
	}
	return e.keep(standing, key)
}

// keep puts a key that was just made into the cache. The key is acquired.
func (e *Envelope) keep(w vault.WrappedKey, key secret.Bytes) (vault.WrappedKey, *clearKey, error) {
	kmsKey := ""
	if w.Mode == vault.ModeKMS {
		var err error
		if kmsKey, err = referenceOf(w); err != nil {
			return w, nil, err
		}
	}
	k := newClearKey(w, key, kmsKey, e.counts)
	k.acquire()
	if err := e.keys.put(k, e.usable); err != nil {
		k.release()
		return w, nil, err
	}
	return w, k, nil
}
