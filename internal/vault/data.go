package vault

import (
	"context"
	"fmt"

	"cardea/internal/audit"
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

// StoreData keeps a JSON value of 1 to [MaxData] bytes, which it does not look
// into. Without upsert a value that is there already
// stays as it is, and no error says so; with upsert it is replaced whole, its
// expiry too. Errors: *ValidationError, ErrShredded of an entity that is being
// shredded, and those of Store and KeyManager.
func (s *Service) StoreData(ctx context.Context, who iam.Principal, d Datum, value secret.Bytes, ttl *uint64, upsert bool) error {
	return s.do(ctx, who, OpDataStore, d.target(ctx), func(c *call) error {
		if err := d.validate(); err != nil {
			return err
		}
		if value.Len() == 0 {
			return &ValidationError{Field: "data", Reason: "must be a JSON value"}
		}
		if value.Len() > MaxData {
			return &ValidationError{Field: "data", Reason: fmt.Sprintf("longer than %d bytes", MaxData)}
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
		rec := Record{
			Lookup: d.lookup(), HolderID: holder.ID, Space: SpaceV2, Kind: KindJSON,
			Reference: d.VaultID, CreatedAt: now, ExpiresAt: expires,
		}
		if err := s.seal(ctx, &rec, rec.context(d.owner(), holder.Secret), value); err != nil {
			return err
		}
		c.names(&rec)
		if upsert {
			return s.upsertData(ctx, c, rec)
		}
		return s.insertData(ctx, c, d, rec)
	})
}

func (s *Service) upsertData(ctx context.Context, c *call, rec Record) error {
	_, err := c.commit(ctx, "upserted", func(ctx context.Context, e audit.Sealed) (bool, error) {
		return true, s.store.UpsertRecord(ctx, rec, e)
	})
	return err
}

func (s *Service) insertData(ctx context.Context, c *call, d Datum, rec Record) error {
	for range storeAttempts {
		existing, err := s.put(ctx, c, &rec)
		if existing == nil || err != nil {
			return err
		}
		if !existing.expired(s.now()) {
			c.names(existing)
			c.entry.Result = "kept"
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
		// The record must be the one asked for, whatever its row says of itself.
		rec.Space, rec.Customer, rec.Reference = SpaceV2, "", d.VaultID
		c.names(&rec)
		if rec.expired(s.now()) {
			return fmt.Errorf("expired: %w", ErrNotFound)
		}
		if len(holder.Secret) == 0 { // it is being shredded, and its rows are not removed yet
			if h, err := s.store.Holder(ctx, d.Tenant, d.Entity); err == nil && h.ShreddedAt != 0 {
				return h.usable()
			}
		}
		out, err = s.open(ctx, &rec, rec.context(d.owner(), holder.Secret))
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
