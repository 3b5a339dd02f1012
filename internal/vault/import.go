package vault

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"cardea/internal/iam"
	"cardea/internal/secret"
)

// ImportRecord is a record as another vault kept it, in the clear. Of a v1 record
// one of Card and Data is given, of a v2 record Data, which is a JSON value.
type ImportRecord struct {
	Tenant    string
	Holder    string
	Space     Space
	Customer  string // v1 only
	Reference string // kept
	Card      *CardInput
	Data      secret.Bytes
	CreatedAt Micros // kept
	ExpiresAt Micros // kept; 0 is never
}

// Imported tells what became of a record.
type Imported string

// What becomes of records.
const (
	ImportDone    Imported = "imported"
	ImportPresent Imported = "present" // the same record is there already
	ImportAbsent  Imported = "absent"  // it is not there, and was only to be looked for
	ImportExpired Imported = "expired" // its time was over: left out
)

// ImportResult is what became of a record, or why nothing did.
type ImportResult struct {
	Imported Imported
	Err      error
}

// importers is how many records are imported at one time: they share commits.
const importers = 64

// Import keeps records that another vault had, each with its reference and its
// times, as operations of their own. A record that is there already is compared, so
// that an import may be repeated until all is there; with check set records are
// only compared. A card that its owner has under two references keeps both; a store
// of it later finds the first. Errors of a record: *ValidationError, ErrConflict if
// its reference has other data, ErrCorrupt, those of Store and KeyManager.
func (s *Service) Import(ctx context.Context, who iam.Principal, records []ImportRecord, check bool) []ImportResult {
	results := make([]ImportResult, len(records))
	var g errgroup.Group
	g.SetLimit(importers)
	for i := range records {
		g.Go(func() error {
			results[i].Imported, results[i].Err = s.importRecord(ctx, who, &records[i], check)
			return nil
		})
	}
	g.Wait() //nolint:errcheck // each has its own
	return results
}

func (s *Service) importRecord(ctx context.Context, who iam.Principal, r *ImportRecord, check bool) (Imported, error) {
	var got Imported
	t := Target{Tenant: r.Tenant, Holder: r.Holder, Customer: r.Customer, Reference: r.Reference, RequestID: RequestID(ctx)}
	err := s.do(ctx, who, OpRecordImport, t, func(c *call) error {
		rec, plaintext, err := s.imported(ctx, c, r)
		if err != nil {
			return err
		}
		defer plaintext.Destroy()
		if rec.expired(s.now()) {
			got, c.entry.Result = ImportExpired, string(ImportExpired)
			return nil
		}
		got, err = s.importOne(ctx, c, r, rec, plaintext, check)
		return err
	})
	if err != nil {
		return "", err
	}
	return got, nil
}

// imported validates r and makes the row of it, not sealed yet, and what is to be
// sealed.
func (s *Service) imported(ctx context.Context, c *call, r *ImportRecord) (*Record, secret.Bytes, error) {
	rec := &Record{
		Space: r.Space, Kind: KindJSON, Customer: r.Customer, Reference: r.Reference, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		Lookup: LookupOf(r.Tenant, r.Holder, r.Space, r.Customer, r.Reference),
	}
	var (
		plaintext secret.Bytes
		err       error
	)
	switch {
	case r.CreatedAt <= 0 || r.ExpiresAt < 0:
		return nil, plaintext, &ValidationError{Field: "created_at", Reason: "must be after 1970"}
	case r.Space == SpaceV1:
		o := Owner{Tenant: r.Tenant, Merchant: r.Holder, Customer: r.Customer}
		if err = errors.Join(o.validate(), checkID("card_reference", r.Reference)); err != nil {
			return nil, plaintext, err
		}
		plaintext, err = s.importedCard(ctx, c, r, rec)
	case r.Space == SpaceV2:
		d := Datum{Tenant: r.Tenant, Entity: r.Holder, VaultID: r.Reference}
		if err = d.validate(); err != nil {
			return nil, plaintext, err
		}
		if n := r.Data.Len(); n == 0 || n > MaxData || r.Card != nil || r.Customer != "" {
			return nil, plaintext, &ValidationError{Field: "data", Reason: fmt.Sprintf("must be a JSON value of at most %d bytes", MaxData)}
		}
		plaintext = secret.Copy(r.Data.Expose())
	default:
		return nil, plaintext, &ValidationError{Field: "space", Reason: "must be v1 or v2"}
	}
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	c.entry.Resource.Kind = rec.Kind.String()
	return rec, plaintext, nil
}

// importedCard is the part of imported for v1.
func (s *Service) importedCard(ctx context.Context, c *call, r *ImportRecord, rec *Record) (secret.Bytes, error) {
	kind, plaintext, hashed, err := s.payload(c, StoreCardRequest{Card: r.Card, Data: r.Data})
	if err != nil {
		return secret.Bytes{}, err
	}
	defer hashed.Destroy()
	rec.Kind = kind
	if err := s.dedupe(ctx, r, rec, hashed); err != nil {
		plaintext.Destroy()
		return secret.Bytes{}, err
	}
	return plaintext, nil
}

// dedupe sets the keyed hash by which a later store of the card finds it.
func (s *Service) dedupe(ctx context.Context, r *ImportRecord, rec *Record, hashed secret.Bytes) error {
	hashes, err := s.hashes.MACs(ctx, r.Tenant, PurposeDedupe, dedupeParts(rec.Kind, r.Holder, r.Customer, hashed)...)
	if err != nil {
		return fmt.Errorf("dedupe hash: %w", err)
	}
	own, _ := s.settled(hashes)
	rec.Dedupe, rec.HashedBy = &own.MAC, own.Version
	return nil
}

// importOne puts the record, or compares it with the one that is there.
func (s *Service) importOne(ctx context.Context, c *call, r *ImportRecord, rec *Record, plaintext secret.Bytes, check bool) (Imported, error) {
	standing, err := s.store.Record(ctx, rec.Lookup)
	switch {
	case err == nil:
		return s.importPresent(ctx, c, r, rec, &standing, plaintext)
	case !errors.Is(err, ErrNotFound):
		return "", err
	case check:
		c.entry.Result = string(ImportAbsent)
		return ImportAbsent, nil
	}
	holder, err := s.importHolder(ctx, r)
	if err != nil {
		return "", err
	}
	rec.HolderID = holder.ID
	owner := Owner{Tenant: r.Tenant, Merchant: r.Holder, Customer: r.Customer}
	var holderSecret []byte
	if r.Space == SpaceV2 {
		holderSecret = holder.Secret
	}
	if err := s.seal(ctx, rec, rec.context(owner, holderSecret), plaintext); err != nil {
		return "", err
	}
	for range storeAttempts {
		c.names(rec)
		existing, err := s.put(ctx, c, rec)
		switch {
		case err != nil:
			return "", err
		case existing == nil:
			return ImportDone, nil
		case existing.Lookup == rec.Lookup:
			return s.importPresent(ctx, c, r, rec, existing, plaintext)
		}
		rec.Dedupe, rec.HashedBy = nil, 0 // the same card under another reference, which keeps the hash
		c.entry.Detail = "the owner has this card under another reference, too"
	}
	return "", fmt.Errorf("%w: the record changed %d times meanwhile", ErrUnavailable, storeAttempts)
}

// importHolder finds the holder or creates it, whatever the tenant allows clients.
func (s *Service) importHolder(ctx context.Context, r *ImportRecord) (Holder, error) {
	t, err := s.Tenants.Tenant(r.Tenant)
	if err != nil {
		return Holder{}, err
	}
	t.LazyHolders = true
	return s.holder(ctx, t, r.Holder)
}

// importPresent compares the record that is there with what was to be imported.
func (s *Service) importPresent(ctx context.Context, c *call, r *ImportRecord, rec, standing *Record, plaintext secret.Bytes) (Imported, error) {
	c.names(standing)
	holder, err := s.knownHolder(ctx, r.Tenant, r.Holder)
	if err != nil {
		return "", err
	}
	var holderSecret []byte
	if r.Space == SpaceV2 {
		holderSecret = holder.Secret
	}
	at := standing.context(Owner{Tenant: r.Tenant, Merchant: r.Holder, Customer: r.Customer}, holderSecret)
	at.Space, at.Kind, at.Customer, at.Reference = rec.Space, rec.Kind, rec.Customer, rec.Reference
	if standing.Kind != rec.Kind {
		return "", fmt.Errorf("reference %s: %w", rec.Reference, ErrConflict)
	}
	stored, err := s.open(ctx, standing, at)
	if err != nil {
		return "", err
	}
	defer stored.Destroy()
	if !stored.Equal(plaintext) || standing.ExpiresAt != rec.ExpiresAt {
		return "", fmt.Errorf("reference %s: %w", rec.Reference, ErrConflict)
	}
	c.entry.Result = string(ImportPresent)
	return ImportPresent, nil
}

// ImportFingerprint is a fingerprint as Hyperswitch's vault keeps it.
type ImportFingerprint struct {
	Hash [64]byte // HMAC-SHA-512 twice under the key that the client gave
	ID   string   // kept
}

// maxFingerprintID is the longest id of the peer's column, in bytes.
const maxFingerprintID = 64

// ImportFingerprints keeps fingerprints of a tenant with their ids, so that a client
// that asks again gets the id that it knows. See Import.
func (s *Service) ImportFingerprints(ctx context.Context, who iam.Principal, tenant string, fs []ImportFingerprint, check bool) []ImportResult {
	results := make([]ImportResult, len(fs))
	var g errgroup.Group
	g.SetLimit(importers)
	for i := range fs {
		g.Go(func() error {
			results[i].Imported, results[i].Err = s.importFingerprint(ctx, who, tenant, &fs[i], check)
			return nil
		})
	}
	g.Wait() //nolint:errcheck // each has its own
	return results
}

func (s *Service) importFingerprint(ctx context.Context, who iam.Principal, tenant string, f *ImportFingerprint, check bool) (Imported, error) {
	got := ImportPresent
	err := s.do(ctx, who, OpRecordImport, Target{Tenant: tenant, Reference: f.ID, RequestID: RequestID(ctx)}, func(c *call) error {
		c.entry.Resource.Kind = OpFingerprint.Kind
		if n := len(f.ID); n == 0 || n > maxFingerprintID || !printable(f.ID) {
			return &ValidationError{Field: "fingerprint_id", Reason: fmt.Sprintf("must be 1 to %d printable ASCII characters", maxFingerprintID)}
		}
		hashes, err := s.hashes.MACs(ctx, tenant, PurposeFingerprint, f.Hash[:])
		if err != nil {
			return fmt.Errorf("fingerprint hash: %w", err)
		}
		id, _, err := s.findFingerprint(ctx, hashes)
		switch {
		case errors.Is(err, ErrNotFound) && check:
			got = ImportAbsent
		case errors.Is(err, ErrNotFound):
			got = ImportDone
			id, err = s.fingerprintID(ctx, c, FingerprintRequest{Tenant: tenant, Wanted: f.ID}, hashes)
		}
		if err != nil && got != ImportAbsent {
			return err
		}
		if got != ImportAbsent && id != f.ID {
			return fmt.Errorf("fingerprint %s: %w", f.ID, ErrConflict)
		}
		c.entry.Result = string(got)
		return nil
	})
	if err != nil {
		return "", err
	}
	return got, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
