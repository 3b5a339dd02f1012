package keymanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// maxDirect is the longest plaintext that AWS KMS encrypts, in bytes.
const maxDirect = 4096

// referenceTTL is how long a node uses what it knows of the inventory.
const referenceTTL = 5 * time.Minute

// DirectOptions are what a Direct is made of. All are required.
type DirectOptions struct {
	KMS       kmsclient.KMS
	Tenants   *KMSTenants
	Inventory Inventory
	Now       func() time.Time
	// Envelope is the key manager of mode aws_kms_envelope: for records that are too
	// long, and for the keyed hashes of tenants without a MAC key.
	Envelope vault.KeyManager
}

// Direct has AWS KMS encrypt each record and make each keyed hash: it has no key of
// any kind, only references to those in KMS. Each operation is a call, or two. It
// is safe for concurrent use.
type Direct struct {
	o DirectOptions

	mu   sync.Mutex // guards refs
	refs map[any]reference
}

// reference is a key in the inventory that KMS keeps.
type reference struct {
	tenant  string
	id      vault.KeyID
	version uint32
	kmsKey  string
	until   time.Time
}

// NewDirect makes a Direct.
func NewDirect(o DirectOptions) *Direct { return &Direct{o: o, refs: map[any]reference{}} }

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
	ref, err := d.active(ctx, c.Tenant, vault.PurposeDirect, keys.Key.ID)
	if err != nil {
		return vault.Sealed{}, err
	}
	in, err := recordContext(c, ref.id, ref.version)
	if err != nil {
		return vault.Sealed{}, err
	}
	blob, arn, err := d.o.KMS.Encrypt(ctx, keys.Key, plaintext, in)
	if err != nil {
		return vault.Sealed{}, kmsError(err)
	}
	if _, err := keys.opens(arn); err != nil {
		return vault.Sealed{}, err
	}
	r := ciphertext.KMSRecord{RecordHeader: ciphertext.RecordHeader{KeyID: uuid.UUID(ref.id), KeyVersion: ref.version}, KMSKey: arn, Blob: blob}
	b, err := r.Encode()
	if err != nil {
		return vault.Sealed{}, fmt.Errorf("answer of KMS: %w: %w", vault.ErrKeyUnavailable, err)
	}
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
	if s.Mode != vault.ModeKMS {
		return secret.Bytes{}, fmt.Errorf("record names mode %d, which no key manager here opens: %w", s.Mode, vault.ErrCorrupt)
	}
	if err := checkHolderSecret(c); err != nil {
		return secret.Bytes{}, err
	}
	keys, err := d.o.Tenants.of(c.Tenant)
	if err != nil {
		return secret.Bytes{}, err
	}
	r, err := ciphertext.ParseKMSRecord(s.Blob)
	if err != nil || r.KeyID != uuid.UUID(s.Key) || r.KeyVersion != s.KeyVersion {
		return secret.Bytes{}, fmt.Errorf("record is not as it was sealed: %w", errors.Join(vault.ErrCorrupt, err))
	}
	if err := d.known(ctx, c.Tenant, s.Key, s.KeyVersion); err != nil {
		return secret.Bytes{}, err
	}
	under, err := keys.opens(r.KMSKey)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("record %w", err)
	}
	in, err := recordContext(c, s.Key, s.KeyVersion)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	p, err := d.o.KMS.Decrypt(ctx, under, r.Blob, in)
	return p, kmsError(err)
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

// MAC implements vault.KeyManager.
func (d *Direct) MAC(ctx context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	keys, err := d.o.Tenants.of(tenant)
	if err != nil {
		return vault.MAC{}, err
	}
	if keys.MAC.ID == "" {
		return d.o.Envelope.MAC(ctx, tenant, p, parts...)
	}
	if p != vault.PurposeDedupe && p != vault.PurposeFingerprint {
		return vault.MAC{}, fmt.Errorf("keyed hash under a %s key: a key has one purpose only", p)
	}
	if _, err := d.active(ctx, tenant, p, keys.MAC.ID); err != nil {
		return vault.MAC{}, err
	}
	sum, err := d.o.KMS.GenerateMAC(ctx, keys.MAC, macMessage(tenant, p, parts))
	if err != nil {
		return vault.MAC{}, kmsError(err)
	}
	if len(sum) != len(vault.MAC{}) {
		return vault.MAC{}, fmt.Errorf("KMS made a MAC of %d bytes, want %d: %w", len(sum), len(vault.MAC{}), vault.ErrKeyUnavailable)
	}
	return vault.MAC(sum), nil
}

// macMessage is what KMS makes the MAC of (docs/spec/wrapped-key.md). Tenants and
// purposes may share a KMS key.
func macMessage(tenant string, p vault.Purpose, parts [][]byte) []byte {
	inner := ciphertext.Context("cardea "+string(p)+" v1", parts...)
	defer secret.Wipe(inner) // the parts may hold a card number
	digest := sha256.Sum256(inner)
	return ciphertext.Context("cardea kms mac v1", []byte(tenant), []byte(p), digest[:])
}

type referenceName struct {
	tenant  string
	purpose vault.Purpose
	kmsKey  string
}

// active returns the reference to the tenant's KMS key for a purpose, making it if
// there is none. One that names another KMS key, or a key of another mode, is an
// error: under it other values would come out.
func (d *Direct) active(ctx context.Context, tenant string, p vault.Purpose, kmsKey string) (reference, error) {
	name := referenceName{tenant, p, kmsKey}
	if ref, ok := d.cached(name); ok {
		return ref, nil
	}
	w, err := d.o.Inventory.Active(ctx, tenant, "", p)
	if errors.Is(err, vault.ErrNotFound) {
		w, err = d.create(ctx, tenant, p, kmsKey)
	}
	if err != nil {
		return reference{}, fmt.Errorf("%s key: %w", p, err)
	}
	ref, err := referenceOf(w, tenant, p)
	if err != nil {
		return reference{}, err
	}
	if w.State != vault.KeyActive {
		return reference{}, fmt.Errorf("key %s is %s, and there is no active one: %w", w.ID, w.State, vault.ErrKeyUnavailable)
	}
	if !sameKMSKey(ref.kmsKey, kmsKey) {
		return reference{}, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf(
			"the tenant's %s key is KMS key %s, but %s is configured: keys cannot be moved yet, set the former back: %w",
			p, ref.kmsKey, kmsKey, vault.ErrKeyUnavailable)}
	}
	d.keep(name, ref)
	return ref, nil
}

func (d *Direct) create(ctx context.Context, tenant string, p vault.Purpose, kmsKey string) (vault.WrappedKey, error) {
	w := vault.WrappedKey{
		ID: vault.NewKeyID(), Tenant: tenant, Purpose: p, Version: 1,
		State: vault.KeyActive, Mode: vault.ModeKMS, CreatedAt: vault.MicrosOf(d.o.Now()),
	}
	var err error
	w.Wrapped, err = ciphertext.KMSWrapped{Mode: ciphertext.ModeKMSReference, KeyID: uuid.UUID(w.ID), Version: 1, KMSKey: kmsKey}.Encode()
	if err != nil {
		return w, err
	}
	return d.o.Inventory.Create(ctx, w)
}

type referenceID struct {
	tenant  string
	id      vault.KeyID
	version uint32
}

// known returns nil if the inventory has the reference that a record names.
func (d *Direct) known(ctx context.Context, tenant string, id vault.KeyID, version uint32) error {
	name := referenceID{tenant, id, version}
	if _, ok := d.cached(name); ok {
		return nil
	}
	w, err := d.o.Inventory.ByID(ctx, id, version)
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return fmt.Errorf("record names key %s version %d, which is not in the inventory: %w", id, version, vault.ErrCorrupt)
	case err != nil:
		return fmt.Errorf("key %s: %w", id, err)
	case w.State == vault.KeyDestroyed:
		return fmt.Errorf("key %s is destroyed: %w", id, vault.ErrKeyUnavailable)
	}
	ref, err := referenceOf(w, tenant, vault.PurposeDirect)
	if err != nil {
		return err
	}
	d.keep(name, ref)
	return nil
}

func referenceOf(w vault.WrappedKey, tenant string, p vault.Purpose) (reference, error) {
	if w.Tenant != tenant || w.Holder != "" || w.Purpose != p {
		return reference{}, fmt.Errorf("inventory has key %s for something else than it was asked for: %w", w.ID, vault.ErrCorrupt)
	}
	if w.Mode != vault.ModeKMS {
		return reference{}, otherMode(w, vault.ModeKMS)
	}
	r, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	if err != nil || r.Mode != ciphertext.ModeKMSReference || r.KeyID != uuid.UUID(w.ID) || r.Version != w.Version {
		return reference{}, fmt.Errorf("key %s is no reference to a KMS key: %w", w.ID, errors.Join(vault.ErrCorrupt, err))
	}
	return reference{tenant: tenant, id: w.ID, version: w.Version, kmsKey: r.KMSKey}, nil
}

func (d *Direct) cached(name any) (reference, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ref, ok := d.refs[name]
	return ref, ok && d.o.Now().Before(ref.until)
}

func (d *Direct) keep(name any, ref reference) {
	ref.until = d.o.Now().Add(referenceTTL)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refs[name] = ref
}

// Forget makes the next operation of a tenant look into the inventory.
func (d *Direct) Forget(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, ref := range d.refs {
		if ref.tenant == tenant {
			delete(d.refs, name)
		}
	}
}
