package vault

import (
	"context"
	"fmt"

	"cardea/internal/iam"
	"cardea/internal/secret"
)

// Datum names a v2 record: the JSON value that an entity keeps under an id.
type Datum struct {
	Tenant  string
	Entity  string
	VaultID string
}

func (d Datum) validate() error {
	if err := checkID("entity_id", d.Entity); err != nil {
		return err
	}
	return checkID("vault_id", d.VaultID)
}

func (d Datum) target(ctx context.Context) Target {
	return Target{Tenant: d.Tenant, Holder: d.Entity, Reference: d.VaultID, RequestID: RequestID(ctx)}
}

func (d Datum) lookup() Lookup { return LookupOf(d.Tenant, d.Entity, SpaceV2, "", d.VaultID) }

// owner is d in the form that records are bound to.
func (d Datum) owner() Owner { return Owner{Tenant: d.Tenant, Merchant: d.Entity} }

// StoreData keeps a JSON value. Without upsert a value that is there already
// stays as it is, and no error says so; with upsert it is replaced whole, its
// expiry too.
func (s *Service) StoreData(ctx context.Context, who iam.Principal, d Datum, value secret.Bytes, ttl *uint64, upsert bool) error {
	return s.do(ctx, who, OpDataStore, d.target(ctx), func(c *call) error {
		if err := d.validate(); err != nil {
			return err
		}
		now := s.now()
		expires, err := s.expiry(now, ttl)
		if err != nil {
			return err
		}
		tenant, err := s.Tenants.Tenant(d.Tenant)
		if err != nil {
			return err
		}
		holder, err := s.holder(ctx, tenant, d.Entity)
		if err != nil {
			return err
		}
		rec := Record{Lookup: d.lookup(), HolderID: holder.ID, Space: SpaceV2, Kind: KindJSON,
			Reference: d.VaultID, CreatedAt: now, ExpiresAt: expires}
		sealed, err := s.keys.Seal(ctx, rec.context(d.owner(), holder.Secret), value)
		if err != nil {
			return fmt.Errorf("seal record: %w", err)
		}
		rec.Mode, rec.Key, rec.KeyVersion, rec.Sealed = sealed.Mode, sealed.Key, sealed.KeyVersion, sealed.Blob
		c.entry.Resource.Key, c.entry.Resource.KeyVersion = rec.Key.String(), int(rec.KeyVersion)
		if upsert {
			return s.upsertData(ctx, c, rec)
		}
		return s.insertData(ctx, c, d, rec)
	})
}

func (s *Service) upsertData(ctx context.Context, c *call, rec Record) error {
	e, err := c.with("upserted")
	if err != nil {
		return err
	}
	if err := s.store.UpsertRecord(ctx, rec, e); err != nil {
		return err
	}
	c.done()
	return nil
}

func (s *Service) insertData(ctx context.Context, c *call, d Datum, rec Record) error {
	for range storeAttempts {
		e, err := c.with("stored")
		if err != nil {
			return err
		}
		existing, err := s.store.PutRecord(ctx, rec, e)
		if err != nil {
			return err
		}
		if existing == nil {
			c.done()
			return nil
		}
		if !existing.expired(s.now()) {
			c.entry.Result = "kept"
			c.entry.Resource.Key, c.entry.Resource.KeyVersion = existing.Key.String(), int(existing.KeyVersion)
			return nil
		}
		if err := s.expire(ctx, existing, d.Tenant, d.Entity); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the record changed %d times meanwhile", ErrUnavailable, storeAttempts)
}

// RetrieveData releases a value. Errors are those of RetrieveCard. The caller
// destroys the result.
func (s *Service) RetrieveData(ctx context.Context, who iam.Principal, d Datum) (secret.Bytes, error) {
	var out secret.Bytes
	err := s.do(ctx, who, OpDataRetrieve, d.target(ctx), func(c *call) error {
		if err := d.validate(); err != nil {
			return err
		}
		rec, holder, err := s.store.RecordAndHolder(ctx, d.lookup())
		if err != nil {
			return err
		}
		c.entry.Resource.Key, c.entry.Resource.KeyVersion = rec.Key.String(), int(rec.KeyVersion)
		if rec.expired(s.now()) {
			return fmt.Errorf("expired: %w", ErrNotFound)
		}
		out, err = s.open(ctx, &rec, d.owner(), holder.Secret)
		c.entry.Result = "released"
		return err
	})
	if err != nil {
		out.Destroy()
		return secret.Bytes{}, err
	}
	return out, nil
}

// DeleteData removes a value. A value that is not there is no error, an unknown
// entity is ErrNotFound.
func (s *Service) DeleteData(ctx context.Context, who iam.Principal, d Datum) error {
	return s.do(ctx, who, OpDataDelete, d.target(ctx), func(c *call) error {
		if err := d.validate(); err != nil {
			return err
		}
		return s.delete(ctx, c, d.Tenant, d.Entity, d.lookup())
	})
}
