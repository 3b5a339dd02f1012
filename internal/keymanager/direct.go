package keymanager

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// maxDirect is the longest plaintext that AWS KMS encrypts, in bytes.
const maxDirect = 4096

// DirectOptions are what a Direct is made of. All are required.
type DirectOptions struct {
	KMS     kmsclient.KMS
	Tenants *KMSTenants
	// Envelope has KMSWrappers among its own. It keeps the references to keys in KMS, and
	// takes records that are too long for KMS.
	Envelope *Envelope
}

// Direct has AWS KMS encrypt each record: it has no key of any kind, only references
// to those in KMS. Each operation is a call. It is safe for concurrent use.
type Direct struct{ o DirectOptions }

// NewDirect makes a Direct.
func NewDirect(o DirectOptions) *Direct { return &Direct{o: o} }

// Seal implements vault.KeyManager.
func (d *Direct) Seal(ctx context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	if err := checkHolderSecret(c); err != nil {
		return vault.Sealed{}, err
	}
	keys, err := d.o.Tenants.of(c.Tenant)
	if err != nil {
		return vault.Sealed{}, err
	}
	switch n := plaintext.Len(); {
	case n > maxDirect && keys.OversizeEnvelope:
		return d.o.Envelope.Seal(ctx, c, plaintext)
	case n > maxDirect:
		return vault.Sealed{}, &vault.ValidationError{Field: field(c.Kind), Reason: fmt.Sprintf("has %d bytes as stored, and this tenant's key service encrypts at most %d", n, maxDirect)}
	case n == 0:
		return vault.Sealed{}, &vault.ValidationError{Field: field(c.Kind), Reason: "must not be empty"} // to KMS either
	}
	ref, err := d.o.Envelope.active(ctx, activeName{c.Tenant, "", vault.PurposeDirect})
	if err != nil {
		return vault.Sealed{}, err
	}
	defer ref.release()
	in, err := recordContext(c, ref.id, ref.version)
	if err != nil {
		return vault.Sealed{}, err
	}
	blob, arn, err := d.o.KMS.Encrypt(ctx, keys.Key, plaintext, in)
	if err != nil {
		return vault.Sealed{}, kmsError(err)
	}
	return sealedBy(keys, ref, blob, arn)
}

// sealedBy is the record that KMS has answered with. It refuses what could not be
// opened later.
func sealedBy(keys KMSKeys, ref *clearKey, blob []byte, arn string) (vault.Sealed, error) {
	if _, err := keys.opens(arn); err != nil {
		return vault.Sealed{}, err
	}
	r := ciphertext.KMSRecord{RecordHeader: ciphertext.RecordHeader{KeyID: uuid.UUID(ref.id), KeyVersion: ref.version}, KMSKey: arn, Blob: blob}
	b, err := r.Encode()
	if err != nil {
		return vault.Sealed{}, fmt.Errorf("answer of KMS: %w: %w", vault.ErrKeyUnavailable, err)
	}
	ref.sealed.Add(1)
	return vault.Sealed{Mode: vault.ModeKMS, Key: ref.id, KeyVersion: ref.version, Blob: b}, nil
}

// field is what a client calls the plaintext of a kind.
func field(k vault.Kind) string {
	switch k {
	case vault.KindCard:
		return "card"
	case vault.KindData:
		return "enc_card_data"
	}
	return "data"
}

// Open implements vault.KeyManager.
func (d *Direct) Open(ctx context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	r, under, in, err := d.stored(ctx, c, s)
	if err != nil {
		return secret.Bytes{}, err
	}
	p, err := d.o.KMS.Decrypt(ctx, under, r.Blob, in)
	return p, kmsError(err)
}

// stored is a record as it is stored, the KMS key that opens it and its context.
func (d *Direct) stored(ctx context.Context, c vault.RecordContext, s vault.Sealed) (r ciphertext.KMSRecord, under kmsclient.Key, in map[string]string, err error) {
	if s.Mode != vault.ModeKMS {
		return r, under, nil, fmt.Errorf("record names mode %d, which no key manager here opens: %w", s.Mode, vault.ErrCorrupt)
	}
	if err := checkHolderSecret(c); err != nil {
		return r, under, nil, err
	}
	keys, err := d.o.Tenants.of(c.Tenant)
	if err != nil {
		return r, under, nil, err
	}
	if r, err = ciphertext.ParseKMSRecord(s.Blob); err != nil || r.KeyID != uuid.UUID(s.Key) || r.KeyVersion != s.KeyVersion {
		return r, under, nil, fmt.Errorf("record is not as it was sealed: %w", errors.Join(vault.ErrCorrupt, err))
	}
	ref, err := d.o.Envelope.ofRecord(ctx, versionName{c.Tenant, s.Key, s.KeyVersion, vault.PurposeDirect})
	if err != nil {
		return r, under, nil, err
	}
	mode := ref.mode
	ref.release()
	if mode != vault.ModeKMS {
		return r, under, nil, fmt.Errorf("record names key %s, which is no reference to a KMS key: %w", s.Key, vault.ErrCorrupt)
	}
	if under, err = keys.opens(r.KMSKey); err != nil {
		return r, under, nil, fmt.Errorf("record %w", err)
	}
	if in, err = recordContext(c, s.Key, s.KeyVersion); err != nil {
		return r, under, nil, fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	return r, under, in, nil
}

// Reseal has KMS re-encrypt a record under the tenant's present key, so that its
// plaintext does not leave KMS. It reports false if KMS cannot do that, because the
// two keys are reached in different ways.
func (d *Direct) Reseal(ctx context.Context, c vault.RecordContext, s vault.Sealed) (vault.Sealed, bool, error) {
	r, from, fromContext, err := d.stored(ctx, c, s)
	if err != nil {
		return vault.Sealed{}, true, err
	}
	keys, err := d.o.Tenants.of(c.Tenant)
	if err != nil {
		return vault.Sealed{}, true, err
	}
	if to := keys.Key; from.Region != to.Region || from.Endpoint != to.Endpoint || from.Profile != to.Profile || from.FIPS != to.FIPS {
		return vault.Sealed{}, false, nil
	}
	ref, err := d.o.Envelope.active(ctx, activeName{c.Tenant, "", vault.PurposeDirect})
	if err != nil {
		return vault.Sealed{}, true, err
	}
	defer ref.release()
	toContext, err := recordContext(c, ref.id, ref.version)
	if err != nil {
		return vault.Sealed{}, true, err
	}
	blob, arn, err := d.o.KMS.ReEncrypt(ctx, from, r.Blob, fromContext, keys.Key, toContext)
	if err != nil {
		return vault.Sealed{}, true, kmsError(err)
	}
	sealed, err := sealedBy(keys, ref, blob, arn)
	return sealed, true, err
}

// recordContext is the encryption context of a record (docs/spec/record.md).
func recordContext(c vault.RecordContext, id vault.KeyID, version uint32) (map[string]string, error) {
	digest, err := binding(c, id, version).KMSDigest(c.HolderSecret)
	if err != nil {
		return nil, err
	}
	row := vault.LookupOf(c.Tenant, c.Holder, c.Space, c.Customer, c.Reference)
	return map[string]string{
		"tenant": c.Tenant, "purpose": "record", "holder": holderDigest(c.Tenant, c.Holder),
		"record": hex.EncodeToString(row[:]), "binding": hex.EncodeToString(digest[:]),
	}, nil
}
