package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/iam"
	"cardea/internal/pan"
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

// StoreCardRequest asks to keep a card, or opaque data in its place. If Data is
// present it wins over Card, as the locker's contract says.
type StoreCardRequest struct {
	Owner     Owner
	Reference string // wanted; empty makes a new UUIDv7
	Card      *CardInput
	Data      secret.Bytes
	TTL       *uint64 // seconds; nil is for ever
}

// Duplication tells what a store found.
type Duplication string

// The values of the locker's duplication_check.
const (
	NotDuplicated   Duplication = ""
	Duplicated      Duplication = "duplicated"        // the same in every field
	MetadataChanged Duplication = "meta_data_changed" // the same number, other fields
)

// StoreCardResult names the record that holds the card: the new one, or the one
// that was there already, which is then unchanged.
type StoreCardResult struct {
	Reference   string
	Duplication Duplication
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

// storeAttempts bounds how often a store starts again because the row that stood
// in its way went away meanwhile.
const storeAttempts = 8

// StoreCard keeps a card for its owner. A number that the owner has stored
// already is not stored again: of concurrent stores of one card one inserts and
// all get the same reference. Errors: *ValidationError, ErrConflict if the wanted
// reference holds another card, and those of Store and KeyManager.
func (s *Service) StoreCard(ctx context.Context, who iam.Principal, r StoreCardRequest) (StoreCardResult, error) {
	var res StoreCardResult
	err := s.do(ctx, who, OpCardStore, r.target(ctx), func(c *call) error {
		var err error
		res, err = s.storeCard(ctx, c, r)
		return err
	})
	if err != nil {
		return StoreCardResult{}, err
	}
	return res, nil
}

func (r *StoreCardRequest) target(ctx context.Context) Target {
	return Target{Tenant: r.Owner.Tenant, Holder: r.Owner.Merchant, Customer: r.Owner.Customer, Reference: r.Reference, RequestID: RequestID(ctx)}
}

func (s *Service) storeCard(ctx context.Context, c *call, r StoreCardRequest) (StoreCardResult, error) {
	if err := r.Owner.validate(); err != nil {
		return StoreCardResult{}, err
	}
	now := s.now()
	expires, err := s.expiry(now, r.TTL) // before the number, as the contract orders it
	if err != nil {
		return StoreCardResult{}, err
	}
	kind, plaintext, hashed, err := s.payload(c, r)
	if err != nil {
		return StoreCardResult{}, err
	}
	defer plaintext.Destroy()
	defer hashed.Destroy()

	tenant, err := s.Tenants.Tenant(r.Owner.Tenant)
	if err != nil {
		return StoreCardResult{}, err
	}
	holder, err := s.holder(ctx, tenant, r.Owner.Merchant)
	if err != nil {
		return StoreCardResult{}, err
	}
	dedupe, err := s.keys.MAC(ctx, tenant.Name, PurposeDedupe,
		[]byte(kind.String()), []byte(r.Owner.Merchant), []byte(r.Owner.Customer), hashed.Expose())
	if err != nil {
		return StoreCardResult{}, fmt.Errorf("dedupe hash: %w", err)
	}
	rec := Record{Dedupe: &dedupe, HolderID: holder.ID, Space: SpaceV1, Kind: kind,
		Customer: r.Owner.Customer, Reference: r.Reference, CreatedAt: now, ExpiresAt: expires}
	if rec.Reference == "" {
		rec.Reference = uuid.Must(uuid.NewV7()).String()
	} else if err := checkID("requestor_card_reference", rec.Reference); err != nil {
		return StoreCardResult{}, err
	}
	rec.Lookup = LookupOf(tenant.Name, r.Owner.Merchant, SpaceV1, rec.Customer, rec.Reference)
	if err := s.seal(ctx, &rec, r.Owner, plaintext); err != nil {
		return StoreCardResult{}, err
	}
	return s.insertCard(ctx, c, r.Owner, &rec, plaintext)
}

// insertCard puts rec unless its card is there already, clearing expired rows out
// of the way.
func (s *Service) insertCard(ctx context.Context, c *call, o Owner, rec *Record, plaintext secret.Bytes) (StoreCardResult, error) {
	c.entry.Resource.Kind = rec.Kind.String()
	for range storeAttempts {
		c.entry.Resource.Reference = rec.Reference
		c.entry.Resource.Key, c.entry.Resource.KeyVersion = rec.Key.String(), int(rec.KeyVersion)
		e, err := c.with("stored")
		if err != nil {
			return StoreCardResult{}, err
		}
		existing, err := s.store.PutRecord(ctx, *rec, e)
		if err != nil {
			return StoreCardResult{}, err
		}
		if existing == nil {
			c.done()
			return StoreCardResult{Reference: rec.Reference}, nil
		}
		if existing.expired(s.now()) {
			if err := s.expire(ctx, existing, o.Tenant, o.Merchant); err != nil {
				return StoreCardResult{}, err
			}
			continue
		}
		return s.duplicate(ctx, c, o, existing, rec, plaintext)
	}
	return StoreCardResult{}, fmt.Errorf("%w: the record changed %d times meanwhile", ErrUnavailable, storeAttempts)
}

// duplicate compares what is stored with what should have been.
func (s *Service) duplicate(ctx context.Context, c *call, o Owner, existing, rec *Record, plaintext secret.Bytes) (StoreCardResult, error) {
	if existing.Dedupe == nil || *existing.Dedupe != *rec.Dedupe {
		return StoreCardResult{}, fmt.Errorf("requestor_card_reference: %w", ErrConflict)
	}
	stored, err := s.open(ctx, existing, o, nil)
	if err != nil {
		return StoreCardResult{}, err
	}
	defer stored.Destroy()
	d := MetadataChanged
	if stored.Equal(plaintext) {
		d = Duplicated
	}
	c.entry.Resource.Reference = existing.Reference
	c.entry.Resource.Key, c.entry.Resource.KeyVersion = existing.Key.String(), int(existing.KeyVersion)
	c.entry.Result = string(d)
	return StoreCardResult{Reference: existing.Reference, Duplication: d}, nil
}

// payload validates the card or data and returns what is sealed and what is
// hashed for the dedupe: the number, or the data, as received.
func (s *Service) payload(c *call, r StoreCardRequest) (kind Kind, plaintext, hashed secret.Bytes, err error) {
	if r.Data.Present() {
		return KindData, secret.Copy(r.Data.Expose()), secret.Copy(r.Data.Expose()), nil
	}
	if r.Card == nil {
		return 0, plaintext, hashed, &ValidationError{Field: "card", Reason: "neither card nor enc_card_data is given"}
	}
	number, err := pan.Parse(r.Card.Number.Expose())
	if err != nil {
		return 0, plaintext, hashed, &ValidationError{Field: "card_number", Reason: err.Error()}
	}
	in := r.Card
	card := Card{Number: number, Name: in.Name, ExpMonth: in.ExpMonth, ExpYear: in.ExpYear, Brand: in.Brand, ISIN: in.ISIN, Nick: in.Nick}
	c.entry.Resource.MaskedPAN = number.Masked()
	if err := card.validate(); err != nil {
		number.Destroy()
		return 0, plaintext, hashed, err
	}
	plaintext, hashed = card.encode(), secret.Copy(number.Received().Expose())
	number.Destroy() // the rest belongs to the caller
	return KindCard, plaintext, hashed, nil
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
	c.entry.Resource.Kind = rec.Kind.String()
	c.entry.Resource.Key, c.entry.Resource.KeyVersion = rec.Key.String(), int(rec.KeyVersion)
	if rec.expired(s.now()) {
		return nil, fmt.Errorf("expired: %w", ErrNotFound)
	}
	plaintext, err := s.open(ctx, &rec, o, nil)
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
	e, err := c.with("deleted")
	if err != nil {
		return err
	}
	deleted, err := s.store.DeleteRecord(ctx, l, 0, e)
	if err != nil {
		return err
	}
	if deleted {
		c.done()
		return nil
	}
	c.entry.Result = "absent"
	_, err = s.knownHolder(ctx, tenant, holder)
	return err
}

// expire removes a row whose time has passed, as an operation of Cardea's own.
func (s *Service) expire(ctx context.Context, r *Record, tenant, holder string) error {
	return s.expireRow(ctx, ExpiredRecord{Lookup: r.Lookup, Tenant: tenant, Holder: holder, Space: r.Space, Kind: r.Kind,
		Customer: r.Customer, Reference: r.Reference, ExpiresAt: r.ExpiresAt})
}

// seal encrypts plaintext into rec.
func (s *Service) seal(ctx context.Context, rec *Record, o Owner, plaintext secret.Bytes) error {
	sealed, err := s.keys.Seal(ctx, rec.context(o, nil), plaintext)
	if err != nil {
		return fmt.Errorf("seal record: %w", err)
	}
	rec.Mode, rec.Key, rec.KeyVersion, rec.Sealed = sealed.Mode, sealed.Key, sealed.KeyVersion, sealed.Blob
	return nil
}

// open decrypts rec, which must belong to o.
func (s *Service) open(ctx context.Context, rec *Record, o Owner, holderSecret []byte) (secret.Bytes, error) {
	p, err := s.keys.Open(ctx, rec.context(o, holderSecret), Sealed{Mode: rec.Mode, Key: rec.Key, KeyVersion: rec.KeyVersion, Blob: rec.Sealed})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("open record: %w", err)
	}
	return p, nil
}

func (r *Record) context(o Owner, holderSecret []byte) RecordContext {
	return RecordContext{Tenant: o.Tenant, Holder: o.Merchant, HolderSecret: holderSecret, Space: r.Space,
		Customer: r.Customer, Reference: r.Reference, Kind: r.Kind, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt}
}

func (o Owner) validate() error {
	return errors.Join(checkID("merchant_id", o.Merchant), checkID("merchant_customer_id", o.Customer))
}

func (o Owner) target(ctx context.Context, reference string) Target {
	return Target{Tenant: o.Tenant, Holder: o.Merchant, Customer: o.Customer, Reference: reference, RequestID: RequestID(ctx)}
}
