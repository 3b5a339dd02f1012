package store

import (
	"context"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/vault"
)

// do submits u, and frees it unless the committer may still use it. read gets what
// the caller needs from it.
func (s *Store) do(ctx context.Context, u *unit, read func()) error {
	if s.com == nil {
		u.free()
		return ErrReadOnly
	}
	answered, err := s.com.submit(ctx, u)
	if err == nil {
		read()
	}
	if answered {
		u.free()
	}
	return err
}

// PutRecord implements vault.Records.
func (s *Store) PutRecord(ctx context.Context, r vault.Record, e audit.Sealed) (existing *vault.Record, err error) {
	if err := checkText(r.Customer, r.Reference); err != nil {
		return nil, err
	}
	u := newUnit(kindPut, e)
	u.record = r
	err = s.do(ctx, u, func() { existing = u.existing })
	return existing, err
}

// UpsertRecord implements vault.Records.
func (s *Store) UpsertRecord(ctx context.Context, r vault.Record, e audit.Sealed) error {
	if err := checkText(r.Customer, r.Reference); err != nil {
		return err
	}
	u := newUnit(kindUpsert, e)
	u.record = r
	return s.do(ctx, u, func() {})
}

// DeleteRecord implements vault.Records.
func (s *Store) DeleteRecord(ctx context.Context, l vault.Lookup, expiredAt vault.Micros, e audit.Sealed) (deleted bool, err error) {
	u := newUnit(kindDelete, e)
	u.lookup, u.expiredAt = l, expiredAt
	err = s.do(ctx, u, func() { deleted = u.applied })
	return deleted, err
}

// PutHolder implements vault.Holders.
func (s *Store) PutHolder(ctx context.Context, h vault.Holder, e audit.Sealed) (standing vault.Holder, created bool, err error) {
	if err := checkText(h.Tenant, h.Name); err != nil {
		return vault.Holder{}, false, err
	}
	u := newUnit(kindHolder, e)
	u.holder = h
	err = s.do(ctx, u, func() {
		if standing, created = u.holder, u.applied; !created {
			standing = *u.standingHolder
		}
	})
	return standing, created, err
}

// PutKey implements vault.Keys.
func (s *Store) PutKey(ctx context.Context, k vault.WrappedKey, e audit.Sealed) (standing vault.WrappedKey, created bool, err error) {
	if err := checkText(k.Tenant, k.Holder, string(k.Purpose), string(k.State)); err != nil {
		return vault.WrappedKey{}, false, err
	}
	u := newUnit(kindKey, e)
	u.key = k
	err = s.do(ctx, u, func() {
		if standing, created = u.key, u.applied; !created {
			standing = *u.standingKey
		}
	})
	return standing, created, err
}

// PutFingerprint implements vault.Store.
func (s *Store) PutFingerprint(
	ctx context.Context, tenant string, hash vault.MAC, hashedBy uint32, id string, e audit.Sealed,
) (standing string, created bool, err error) {
	if err := checkText(tenant, id); err != nil {
		return "", false, err
	}
	u := newUnit(kindFingerprint, e)
	u.tenant, u.hash, u.hashedBy, u.id = tenant, hash, max(1, hashedBy), id
	err = s.do(ctx, u, func() {
		if standing, created = u.id, u.applied; !created {
			standing = u.standingID
		}
	})
	return standing, created, err
}

// Append implements vault.Store.
func (s *Store) Append(ctx context.Context, entries ...audit.Sealed) error {
	switch len(entries) {
	case 0:
		return nil
	case 1:
		return s.do(ctx, newUnit(kindAppend, entries[0]), func() {})
	}
	u := newUnit(kindAppend, audit.Sealed{})
	u.entries = entries
	if len(entries) > audit.MaxSegmentEntries || u.bytes() > audit.MaxSegmentBytes {
		u.free()
		return fmt.Errorf("append %d entries: more than one commit may hold", len(entries))
	}
	return s.do(ctx, u, func() {})
}
