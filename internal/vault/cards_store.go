package vault

import (
	"cmp"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/pan"
	"cardea/internal/secret"
)

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

// storeAttempts bounds how often a store starts again because the row that stood
// in its way went away meanwhile.
const storeAttempts = 8

// StoreCard keeps a card for its owner. A number that the owner has stored
// already is not stored again: of concurrent stores of one card one inserts and
// all get the same reference. Errors: *ValidationError, ErrConflict if the wanted
// reference holds another card, ErrCorrupt if what stands in the way does not
// open, ErrShredded of a merchant that was shredded, and those of Store and
// KeyManager.
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
	if err := r.validate(); err != nil {
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
	c.entry.Resource.Kind = kind.String()

	tenant, err := s.Tenants.Tenant(r.Owner.Tenant)
	if err != nil {
		return StoreCardResult{}, err
	}
	holder, err := s.holder(ctx, tenant, r.Owner.Merchant)
	if err != nil {
		return StoreCardResult{}, err
	}
	rec := Record{
		HolderID: holder.ID, Space: SpaceV1, Kind: kind,
		Customer: r.Owner.Customer, Reference: r.Reference, CreatedAt: now, ExpiresAt: expires,
	}
	if rec.Reference == "" {
		rec.Reference = uuid.Must(uuid.NewV7()).String()
	}
	rec.Lookup = LookupOf(tenant.Name, r.Owner.Merchant, SpaceV1, rec.Customer, rec.Reference)
	hashes, err := s.hashAndSeal(ctx, tenant, r.Owner, &rec, plaintext, hashed)
	if err != nil {
		return StoreCardResult{}, err
	}
	own, others := s.settled(hashes)
	rec.Dedupe, rec.HashedBy = &own.MAC, own.Version
	return s.insertCard(ctx, c, r.Owner, &rec, others, plaintext)
}

// hashAndSeal seals plaintext into rec and returns the keyed hashes by which the card
// is found again. Where both are calls to KMS, neither waits for the other.
func (s *Service) hashAndSeal(ctx context.Context, tenant Tenant, o Owner, rec *Record, plaintext, hashed secret.Bytes) ([]VersionMAC, error) {
	at := rec.context(o, nil)
	sealed := func() error { return s.seal(ctx, rec, at, plaintext) }
	if tenant.Mode == ModeKMS {
		sealed = meanwhile(sealed)
	}
	hashes, err := s.hashes.MACs(ctx, tenant.Name, PurposeDedupe, dedupeParts(rec.Kind, o.Merchant, o.Customer, hashed)...)
	if err != nil {
		err = fmt.Errorf("dedupe hash: %w", err)
	}
	if err == nil || tenant.Mode == ModeKMS { // what was begun ends before what it seals is wiped
		err = cmp.Or(err, sealed())
	}
	return hashes, err
}

// meanwhile begins f and returns what waits for it. A panic of f, which on its own
// goroutine would end the process, is an error.
func meanwhile(f func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() {
		err := errAborted
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v", errAborted, r)
			}
			done <- err
		}()
		err = f()
	}()
	return func() error { return <-done }
}

func (r *StoreCardRequest) validate() error {
	if err := r.Owner.validate(); err != nil {
		return err
	}
	if r.Reference == "" {
		return nil
	}
	return checkID("requestor_card_reference", r.Reference)
}

// settled chooses the hash that a new card gets: the newest that all nodes look for,
// so that of concurrent stores on several nodes one inserts. The others are those
// under which the card may be stored already.
func (s *Service) settled(hashes []VersionMAC) (own *VersionMAC, others []VersionMAC) {
	if len(hashes) == 1 {
		return &hashes[0], nil
	}
	until := s.now() - Micros(settleDelay.Microseconds())
	i := 0
	for i < len(hashes)-1 && hashes[i].Since > until {
		i++
	}
	return &hashes[i], append(hashes[:i:i], hashes[i+1:]...)
}

// insertCard puts rec unless its card is there already, clearing expired rows out
// of the way. others are the card's hashes under other versions of the key, if there
// are any.
func (s *Service) insertCard(ctx context.Context, c *call, o Owner, rec *Record, others []VersionMAC, plaintext secret.Bytes) (StoreCardResult, error) {
	for range storeAttempts {
		c.names(rec)
		// The others first: a row's hash changes from an older one to the newest.
		existing, err := s.otherDuplicate(ctx, others)
		if err == nil && existing == nil {
			existing, err = s.put(ctx, c, rec)
		}
		if err != nil {
			return StoreCardResult{}, err
		}
		if existing == nil {
			return StoreCardResult{Reference: rec.Reference}, nil
		}
		if !existing.expired(s.now()) {
			return s.duplicate(ctx, c, o, existing, rec, others, plaintext)
		}
		if err := s.expire(ctx, existing, o.Tenant, o.Merchant); err != nil {
			return StoreCardResult{}, err
		}
	}
	return StoreCardResult{}, fmt.Errorf("%w: the record changed %d times meanwhile", ErrUnavailable, storeAttempts)
}

// put inserts rec under the call's entry, or returns what stands in its way.
func (s *Service) put(ctx context.Context, c *call, rec *Record) (existing *Record, err error) {
	_, err = c.commit(ctx, "stored", func(ctx context.Context, e audit.Sealed) (bool, error) {
		existing, err = s.store.PutRecord(ctx, *rec, e)
		return existing == nil, err
	})
	return existing, err
}

// otherDuplicate finds the row of a card by its hashes under other versions.
func (s *Service) otherDuplicate(ctx context.Context, others []VersionMAC) (*Record, error) {
	if len(others) == 0 {
		return nil, nil //nolint:nilnil // as put: nothing stands in the way
	}
	d, ok := s.store.(interface {
		DuplicateOf(ctx context.Context, hashes []MAC) (Record, error)
	})
	if !ok {
		return nil, fmt.Errorf("%w: it does not find cards by the hashes of replaced keys", ErrUnavailable)
	}
	hashes := make([]MAC, len(others))
	for i, h := range others {
		hashes[i] = h.MAC
	}
	r, err := d.DuplicateOf(ctx, hashes)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // as above
	}
	return &r, err
}

// isHash says whether a row was found by a hash of rec's card.
func isHash(found *MAC, rec *Record, others []VersionMAC) bool {
	if found == nil {
		return false
	}
	is := hmac.Equal(found[:], rec.Dedupe[:])
	for _, h := range others {
		is = is || hmac.Equal(found[:], h.MAC[:])
	}
	return is
}

// duplicate compares what is stored with what should have been.
func (s *Service) duplicate(ctx context.Context, c *call, o Owner, existing, rec *Record, others []VersionMAC, plaintext secret.Bytes) (StoreCardResult, error) {
	c.names(existing)
	if !isHash(existing.Dedupe, rec, others) {
		return StoreCardResult{}, fmt.Errorf("requestor_card_reference: %w", ErrConflict)
	}
	// Of the row only its reference is not known beforehand.
	at := existing.context(Owner{Tenant: o.Tenant, Merchant: o.Merchant, Customer: rec.Customer}, nil)
	at.Space, at.Kind = rec.Space, rec.Kind
	stored, err := s.open(ctx, existing, at)
	if err != nil {
		return StoreCardResult{}, err
	}
	defer stored.Destroy()
	d := Duplicated
	if !stored.Equal(plaintext) {
		if err := sameNumber(rec.Kind, stored, plaintext); err != nil {
			return StoreCardResult{}, err
		}
		d = MetadataChanged
	}
	c.entry.Result = string(d)
	return StoreCardResult{Reference: existing.Reference, Duplication: d}, nil
}

// sameNumber returns ErrCorrupt if two records are not of one card. The hash that
// found the one is not bound to its ciphertext: somebody may have moved it.
func sameNumber(k Kind, stored, wanted secret.Bytes) error {
	errMoved := fmt.Errorf("%w: the record's hash is that of another", ErrCorrupt)
	if k != KindCard {
		return errMoved
	}
	a, err := decodeCard(stored)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer a.Destroy()
	b, err := decodeCard(wanted)
	if err != nil {
		return err
	}
	defer b.Destroy()
	if !a.Number.Received().Equal(b.Number.Received()) {
		return errMoved
	}
	return nil
}

// payload validates the card or data and returns what is sealed and what is
// hashed for the dedupe: the number, or the data, as received.
func (s *Service) payload(c *call, r StoreCardRequest) (kind Kind, plaintext, hashed secret.Bytes, err error) {
	if r.Data.Present() {
		if r.Data.Len() > MaxData {
			return 0, plaintext, hashed, &ValidationError{Field: "enc_card_data", Reason: fmt.Sprintf("longer than %d bytes", MaxData)}
		}
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
