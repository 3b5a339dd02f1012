package keymanager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// KMSWrappers wrap under tenants' keys in AWS KMS, for modes aws_kms_envelope and
// aws_kms. KMS makes the keys: one call a key and node each time its key has left the
// cache. In mode aws_kms keys stay in KMS, and what is wrapped is only where they are.
func KMSWrappers(kms kmsclient.KMS, tenants *KMSTenants, now func() time.Time) []Wrapper {
	return []Wrapper{&kmsWrapper{kms: kms, tenants: tenants, refused: refusals{now: now}}, &kmsReferences{kms: kms, tenants: tenants}}
}

// kmsWrapper wraps under tenants' keys in AWS KMS.
type kmsWrapper struct {
	kms     kmsclient.KMS
	tenants *KMSTenants
	refused refusals
}

func (*kmsWrapper) Mode() vault.Mode { return vault.ModeKMSEnvelope }

func (k *kmsWrapper) Usable(tenant string) error {
	_, err := k.tenants.of(tenant)
	return err
}

// Current is whether the KMS key that wraps w is the tenant's present one.
func (k *kmsWrapper) Current(w vault.WrappedKey) bool {
	keys, err := k.tenants.of(w.Tenant)
	if err != nil {
		return false
	}
	stored, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	return err == nil && stored.Mode == ciphertext.ModeKMS && keys.isPresent(stored.KMSKey)
}

func (k *kmsWrapper) Generate(ctx context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	keys, err := k.tenants.of(w.Tenant)
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	var made kmsclient.DataKey
	err = k.refused.unless("generate\x00"+w.Tenant+"\x00"+string(w.Purpose)+"\x00"+w.Holder, func() error {
		made, err = k.kms.GenerateDataKey(ctx, keys.Key, keyContext(w))
		return kmsError(err)
	})
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	wrapped, err := encodeWrapped(keys, w, made.Blob, made.KeyARN)
	if n := made.Plaintext.Len(); err == nil && n != ciphertext.KeySize {
		err = fmt.Errorf("KMS made a key of %d bytes, want %d: %w", n, ciphertext.KeySize, vault.ErrKeyUnavailable)
	}
	if err != nil {
		made.Plaintext.Destroy()
		return nil, secret.Bytes{}, err
	}
	return wrapped, made.Plaintext, nil
}

func (k *kmsWrapper) Wrap(ctx context.Context, w vault.WrappedKey, key secret.Bytes) ([]byte, error) {
	keys, err := k.tenants.of(w.Tenant)
	if err != nil {
		return nil, err
	}
	blob, arn, err := k.kms.Encrypt(ctx, keys.Key, key, keyContext(w))
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", kmsError(err))
	}
	return encodeWrapped(keys, w, blob, arn)
}

// encodeWrapped refuses what could not be unwrapped later.
func encodeWrapped(keys KMSKeys, w vault.WrappedKey, blob []byte, arn string) ([]byte, error) {
	if _, err := keys.opens(arn); err != nil {
		return nil, err
	}
	b, err := ciphertext.KMSWrapped{
		Mode: ciphertext.ModeKMS, KeyID: uuid.UUID(w.ID), Version: w.Version, KMSKey: arn, Blob: blob,
	}.Encode()
	if err != nil {
		return nil, fmt.Errorf("answer of KMS: %w: %w", vault.ErrKeyUnavailable, err)
	}
	return b, nil
}

func (k *kmsWrapper) Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error) {
	keys, err := k.tenants.of(w.Tenant)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("cannot be unwrapped: %w", err)
	}
	stored, err := wrappedElsewhere(w, ciphertext.ModeKMS)
	if err != nil {
		return secret.Bytes{}, err
	}
	under, err := keys.opens(stored.KMSKey)
	if err != nil {
		return secret.Bytes{}, err
	}
	var key secret.Bytes
	err = k.refused.unless("unwrap\x00"+w.Tenant+"\x00"+w.ID.String()+"\x00"+strconv.FormatUint(uint64(w.Version), 10), func() error {
		key, err = k.kms.Decrypt(ctx, under, stored.Blob, keyContext(w))
		return kmsError(err)
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("does not unwrap under %s: %w", stored.KMSKey, err)
	}
	return checkUnwrapped(key)
}

// keyContext is the encryption context of a wrapped key (docs/spec/wrapped-key.md).
func keyContext(w vault.WrappedKey) map[string]string {
	return map[string]string{
		"tenant": w.Tenant, "purpose": string(w.Purpose) + "-key", "key": w.ID.String(),
		"version": strconv.FormatUint(uint64(w.Version), 10), "holder": holderDigest(w.Tenant, w.Holder),
	}
}

// holderDigest stands for a holder in what CloudTrail shows: in v2 its name is a
// customer's.
func holderDigest(tenant, holder string) string {
	sum := sha256.Sum256(ciphertext.Context("cardea kms holder v1", []byte(tenant), []byte(holder)))
	return hex.EncodeToString(sum[:])
}
