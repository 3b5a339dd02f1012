package store

import (
	"context"
	"errors"

	"cardea/internal/vault"
)

// read times a read and marks its error.
func (s *Store) read(kind readKind, fn func() error) error {
	start := s.mono()
	err := fn()
	s.met.reads[kind].Observe(s.mono().Sub(start).Seconds())
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return unavailable(err)
	}
	return err
}

// view is read on a connection that reads.
func (s *Store) view(ctx context.Context, kind readKind, fn func(context.Context, session) error) error {
	return s.read(kind, func() error { return s.db.view(ctx, fn) })
}

// Record implements vault.Records.
func (s *Store) Record(ctx context.Context, l vault.Lookup) (vault.Record, error) {
	var r *vault.Record
	err := s.read(readRecord, func() (err error) {
		r, err = s.db.record(ctx, l)
		return orNotFound(r, err)
	})
	if err != nil {
		return vault.Record{}, err
	}
	return *r, nil
}

// RecordAndHolder implements vault.Records.
func (s *Store) RecordAndHolder(ctx context.Context, l vault.Lookup) (vault.Record, vault.Holder, error) {
	var r *vault.Record
	var h *vault.Holder
	err := s.read(readRecordAndHolder, func() (err error) {
		r, h, err = s.db.recordAndHolder(ctx, l)
		return orNotFound(r, err)
	})
	if err != nil {
		return vault.Record{}, vault.Holder{}, err
	}
	return *r, *h, nil
}

// Expired implements vault.Records.
func (s *Store) Expired(ctx context.Context, now vault.Micros, limit int) (rows []vault.ExpiredRecord, err error) {
	err = s.view(ctx, readOther, func(ctx context.Context, c session) error {
		rows, err = selectExpired(ctx, c, now, limit)
		return err
	})
	return rows, err
}

// Holder implements vault.Holders.
func (s *Store) Holder(ctx context.Context, tenant, name string) (vault.Holder, error) {
	if checkText(tenant, name) != nil {
		return vault.Holder{}, vault.ErrNotFound // none can have that name
	}
	var h *vault.Holder
	err := s.read(readHolder, func() (err error) {
		h, err = s.db.holder(ctx, tenant, name)
		return orNotFound(h, err)
	})
	if err != nil {
		return vault.Holder{}, err
	}
	return *h, nil
}

// Fingerprint implements vault.Store.
func (s *Store) Fingerprint(ctx context.Context, hash vault.MAC) (id string, err error) {
	err = s.read(readFingerprint, func() error {
		var found bool
		id, found, err = s.db.fingerprint(ctx, hash)
		if err == nil && !found {
			err = vault.ErrNotFound
		}
		return err
	})
	return id, err
}

// Key implements vault.Keys.
func (s *Store) Key(ctx context.Context, id vault.KeyID, version uint32) (vault.WrappedKey, error) {
	return s.key(ctx, func(ctx context.Context, c session) (*vault.WrappedKey, error) {
		return selectKeyVersion(ctx, c, id, version)
	})
}

// ActiveKey implements vault.Keys.
func (s *Store) ActiveKey(ctx context.Context, tenant, holder string, p vault.Purpose) (vault.WrappedKey, error) {
	if checkText(tenant, holder, string(p)) != nil {
		return vault.WrappedKey{}, vault.ErrNotFound
	}
	return s.key(ctx, func(ctx context.Context, c session) (*vault.WrappedKey, error) {
		return selectActiveKey(ctx, c, tenant, holder, p)
	})
}

func (s *Store) key(ctx context.Context, sel func(context.Context, session) (*vault.WrappedKey, error)) (vault.WrappedKey, error) {
	var k *vault.WrappedKey
	err := s.view(ctx, readKey, func(ctx context.Context, c session) (err error) {
		k, err = sel(ctx, c)
		return orNotFound(k, err)
	})
	if err != nil {
		return vault.WrappedKey{}, err
	}
	return *k, nil
}

func orNotFound[T any](row *T, err error) error {
	if err == nil && row == nil {
		return vault.ErrNotFound
	}
	return err
}
