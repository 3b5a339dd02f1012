package vault

import (
	"cmp"
	"context"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/secret"
)

// Owner is the merchant's customer to whom a card belongs.
type Owner struct {
	Tenant   string
	Merchant string
	Customer string
}

// CardInput is a card as a client sends it, before any check.
type CardInput struct {
	Number                                     secret.Bytes
	Name, ExpMonth, ExpYear, Brand, ISIN, Nick secret.Bytes
}

// StoredCard is what a retrieve releases: a card or opaque data.
type StoredCard struct {
	Card *Card
	Data secret.Bytes
}

// Destroy wipes what was released.
func (s *StoredCard) Destroy() {
	if s == nil {
		return
	}
	s.Card.Destroy()
	s.Data.Destroy()
}

// RetrieveCard releases a card or opaque data. Errors: ErrNotFound for an unknown
// merchant, customer or reference or an expired record, ErrCorrupt, and those of
// Store and KeyManager. The caller destroys the result.
func (s *Service) RetrieveCard(ctx context.Context, who iam.Principal, o Owner, reference string) (*StoredCard, error) {
	var out *StoredCard
	err := s.do(ctx, who, OpCardRetrieve, o.target(ctx, reference), func(c *call) error {
		var err error
		out, err = s.retrieveCard(ctx, c, o, reference)
		return err
	})
	if err != nil {
		out.Destroy()
		return nil, err
	}
	return out, nil
}

func (s *Service) retrieveCard(ctx context.Context, c *call, o Owner, reference string) (*StoredCard, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := checkID("card_reference", reference); err != nil {
		return nil, err
	}
	rec, err := s.store.Record(ctx, LookupOf(o.Tenant, o.Merchant, SpaceV1, o.Customer, reference))
	if err != nil {
		return nil, err
	}
	// The record must be the one asked for, whatever its row says of itself.
	rec.Space, rec.Customer, rec.Reference = SpaceV1, o.Customer, reference
	c.names(&rec)
	if rec.expired(s.now()) {
		return nil, fmt.Errorf("expired: %w", ErrNotFound)
	}
	plaintext, err := s.open(ctx, &rec, rec.context(o, nil))
	if err != nil {
		return nil, err
	}
	c.entry.Result = "released"
	if rec.Kind == KindData {
		return &StoredCard{Data: plaintext}, nil
	}
	defer plaintext.Destroy()
	card, err := decodeCard(plaintext)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	c.entry.Resource.MaskedPAN = card.Number.Masked()
	return &StoredCard{Card: card}, nil
}

// DeleteCard removes a card. A record that is not there is no error, an unknown
// merchant is ErrNotFound.
func (s *Service) DeleteCard(ctx context.Context, who iam.Principal, o Owner, reference string) error {
	return s.do(ctx, who, OpCardDelete, o.target(ctx, reference), func(c *call) error {
		if err := o.validate(); err != nil {
			return err
		}
		if err := checkID("card_reference", reference); err != nil {
			return err
		}
		return s.delete(ctx, c, o.Tenant, o.Merchant, LookupOf(o.Tenant, o.Merchant, SpaceV1, o.Customer, reference))
	})
}

// delete removes a row under the call's entry.
func (s *Service) delete(ctx context.Context, c *call, tenant, holder string, l Lookup) error {
	deleted, err := c.commit(ctx, "deleted", func(ctx context.Context, e audit.Sealed) (bool, error) {
		return s.store.DeleteRecord(ctx, l, 0, e)
	})
	if deleted || err != nil {
		return err
	}
	c.entry.Result = "absent"
	_, err = s.knownHolder(ctx, tenant, holder)
	return err
}

// expire removes a row whose time has passed, as an operation of Cardea's own.
func (s *Service) expire(ctx context.Context, r *Record, tenant, holder string) error {
	_, err := s.expireRow(ctx, ExpiredRecord{
		Lookup: r.Lookup, Tenant: tenant, Holder: holder, Space: r.Space, Kind: r.Kind,
		Customer: r.Customer, Reference: r.Reference, ExpiresAt: r.ExpiresAt,
	})
	return err
}

// seal encrypts plaintext into rec, for at.
func (s *Service) seal(ctx context.Context, rec *Record, at RecordContext, plaintext secret.Bytes) error {
	sealed, err := s.keys.Seal(ctx, at, plaintext)
	if err != nil {
		return fmt.Errorf("seal record: %w", err)
	}
	rec.Mode, rec.Key, rec.KeyVersion, rec.Sealed = sealed.Mode, sealed.Key, sealed.KeyVersion, sealed.Blob
	return nil
}

// open decrypts rec, which must have been sealed for at.
func (s *Service) open(ctx context.Context, rec *Record, at RecordContext) (secret.Bytes, error) {
	p, err := s.keys.Open(ctx, at, Sealed{Mode: rec.Mode, Key: rec.Key, KeyVersion: rec.KeyVersion, Blob: rec.Sealed})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("open record: %w", err)
	}
	return p, nil
}

// names puts the record's own into the entry.
func (c *call) names(rec *Record) {
	c.entry.Resource.Kind = rec.Kind.String()
	c.entry.Resource.Reference = rec.Reference
	c.entry.Resource.Key, c.entry.Resource.KeyVersion = rec.Key.String(), int(rec.KeyVersion)
}

func (r *Record) context(o Owner, holderSecret []byte) RecordContext {
	return RecordContext{
		Tenant: o.Tenant, Holder: o.Merchant, HolderSecret: holderSecret, Space: r.Space,
		Customer: r.Customer, Reference: r.Reference, Kind: r.Kind, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
	}
}

func (o Owner) validate() error {
	return cmp.Or(checkID("merchant_id", o.Merchant), checkID("merchant_customer_id", o.Customer))
}

func (o Owner) target(ctx context.Context, reference string) Target {
	return Target{Tenant: o.Tenant, Holder: o.Merchant, Customer: o.Customer, Reference: reference, RequestID: RequestID(ctx)}
}
