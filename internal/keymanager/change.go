package keymanager

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/vault"
)

// Rotate implements vault.KeyChanger.
func (e *Envelope) Rotate(ctx context.Context, tenant, holder string, p vault.Purpose, reason string) (vault.WrappedKey, error) {
	an := activeName{tenant, holder, p}
	mode, err := e.makes(tenant, p)
	if err != nil {
		return vault.WrappedKey{}, err
	}
	for range maxTurns {
		w, k, err := e.next(ctx, an, mode, reason)
		if err != nil {
			return vault.WrappedKey{}, fmt.Errorf("rotate %s key: %w", p, err)
		}
		e.names.names.Invalidate(an)
		if k != nil {
			k.release()
			return w, nil
		}
		switch {
		case w.State == vault.KeyDestroyed:
			return w, fmt.Errorf("key %s is %s, and there is no active one: %w", w.ID, w.State, errDestroyed)
		case w.State == vault.KeyActive && e.currentIn(w, mode): // another node was faster
			return w, nil
		}
	}
	return vault.WrappedKey{}, fmt.Errorf("rotate %s key of tenant %q: others change it at the same time: %w", p, tenant, vault.ErrConflict)
}

// next makes the next version, or the first. The key is nil if another caller's
// stands.
func (e *Envelope) next(ctx context.Context, an activeName, mode vault.Mode, reason string) (vault.WrappedKey, *clearKey, error) {
	w, err := e.inventory.Active(ctx, an.tenant, an.holder, an.purpose)
	if errors.Is(err, vault.ErrNotFound) {
		return e.create(ctx, an, mode, reason)
	}
	if err != nil {
		return w, nil, err
	}
	if an.purpose != vault.PurposeDirect && mode == vault.ModeKMS && e.currentIn(w, mode) {
		return w, nil, &vault.ValidationError{Field: "kms.mac_key_id", Reason: "is the key in use, under which the same hashes would come out: name another one, and this one in previous_key_ids"}
	}
	return e.rotate(ctx, w, mode, reason)
}

// Rewrap implements vault.KeyChanger.
func (e *Envelope) Rewrap(ctx context.Context, w vault.WrappedKey) (vault.WrappedKey, error) {
	mode, err := e.wraps(w.Tenant, w.Purpose)
	if err != nil {
		return w, err
	}
	if e.currentIn(w, mode) {
		return w, nil
	}
	if w.Mode == vault.ModeKMS {
		return w, fmt.Errorf("%s key %s: %w", w.Purpose, w.ID, errInKMS)
	}
	k, err := e.unwrap(ctx, w)
	if err != nil {
		return w, err
	}
	defer k.release()
	now := w
	now.Mode = mode
	if now.Wrapped, err = e.wrappers[mode].Wrap(ctx, now, k.key); err != nil {
		return w, fmt.Errorf("%s key %s: %w", w.Purpose, w.ID, err)
	}
	done, err := e.inventory.Rewrap(ctx, now, w.Wrapped)
	if err != nil {
		return w, err
	}
	e.ForgetKey(w.Tenant, vault.KeyVersion{ID: w.ID, Version: w.Version})
	if done {
		return now, nil
	}
	stands, err := e.inventory.ByID(ctx, w.ID, w.Version)
	if err == nil && !e.currentIn(stands, mode) {
		err = fmt.Errorf("%s key %s was changed meanwhile, try again: %w", w.Purpose, w.ID, vault.ErrConflict)
	}
	return stands, err
}

// wraps is the mode in which a tenant's keys are wrapped that are not in a KMS
// altogether.
func (e *Envelope) wraps(tenant string, p vault.Purpose) (vault.Mode, error) {
	mode, err := e.makes(tenant, p)
	if err == nil && mode == vault.ModeKMS {
		mode = vault.ModeKMSEnvelope
	}
	return mode, err
}

// Current implements vault.KeyChanger. Of a tenant in mode aws_kms, no branch key is
// current but one for records that are too long, and a key of keyed hashes that was
// made outside KMS is, once it is wrapped there: only Rotate can replace it by one in
// KMS, since it makes other hashes.
func (e *Envelope) Current(w vault.WrappedKey) bool {
	mode, err := e.makes(w.Tenant, w.Purpose)
	if err != nil {
		return false
	}
	if w.Mode != vault.ModeKMS && mode == vault.ModeKMS {
		mode = vault.ModeKMSEnvelope
	}
	if !e.currentIn(w, mode) || e.tenants == nil {
		return err == nil && e.currentIn(w, mode)
	}
	t, err := e.tenants.Tenant(w.Tenant)
	direct := t.Mode == vault.ModeKMS
	switch {
	case err != nil:
		return false
	case w.Purpose == vault.PurposeDirect:
		return direct
	case w.Purpose == vault.PurposeRecord && direct:
		r, ok := e.wrappers[vault.ModeKMS].(*kmsReferences)
		return ok && r.takesOversize(w.Tenant)
	}
	return true
}

// Counts implements vault.KeyChanger.
func (e *Envelope) Counts() map[vault.KeyVersion]uint64 {
	all := e.counts.drain()
	if all == nil {
		all = map[vault.KeyVersion]uint64{}
	}
	for k := range e.keys.keys.Values() {
		if n := k.sealed.Swap(0); n > 0 {
			all[vault.KeyVersion{ID: k.id, Version: k.version}] += n
		}
	}
	return all
}
