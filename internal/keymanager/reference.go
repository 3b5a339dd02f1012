package keymanager

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// kmsReferences stand in the inventory for keys that never leave AWS KMS: those of
// mode aws_kms that encrypt records or make keyed hashes.
type kmsReferences struct {
	kms     kmsclient.KMS
	tenants *KMSTenants
}

func (*kmsReferences) Mode() vault.Mode { return vault.ModeKMS }

func (r *kmsReferences) Usable(tenant string) error {
	_, err := r.tenants.of(tenant)
	return err
}

func (r *kmsReferences) hasMACKey(tenant string) bool {
	keys, err := r.tenants.of(tenant)
	return err == nil && keys.MAC.ID != ""
}

// present is the KMS key that a new reference of that purpose names.
func (r *kmsReferences) present(tenant string, p vault.Purpose) (string, error) {
	keys, err := r.tenants.of(tenant)
	if err != nil {
		return "", err
	}
	if p == vault.PurposeDirect {
		return keys.Key.ID, nil
	}
	return keys.MAC.ID, nil
}

func (r *kmsReferences) Current(w vault.WrappedKey) bool {
	keys, err := r.tenants.of(w.Tenant)
	if err != nil {
		return false
	}
	stored, err := referenceOf(w)
	if err != nil {
		return false
	}
	if w.Purpose == vault.PurposeDirect {
		return keys.isPresent(stored)
	}
	return sameKMSKey(keys.MAC.ID, stored)
}

func (r *kmsReferences) Generate(_ context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	kmsKey, err := r.present(w.Tenant, w.Purpose)
	if err != nil {
		return nil, secret.Bytes{}, err
	}
	b, err := ciphertext.KMSWrapped{Mode: ciphertext.ModeKMSReference, KeyID: uuid.UUID(w.ID), Version: w.Version, KMSKey: kmsKey}.Encode()
	return b, secret.Bytes{}, err
}

// errInKMS says that a key has no material that could be had.
var errInKMS = fmt.Errorf("%w: it is in AWS KMS only, rotate it instead", vault.ErrKeyFixed)

func (*kmsReferences) Wrap(context.Context, vault.WrappedKey, secret.Bytes) ([]byte, error) {
	return nil, errInKMS
}

func (*kmsReferences) Unwrap(context.Context, vault.WrappedKey) (secret.Bytes, error) {
	return secret.Bytes{}, errInKMS
}

// mac has KMS make the keyed hash.
func (r *kmsReferences) mac(ctx context.Context, k *clearKey, message []byte) (vault.MAC, error) {
	keys, err := r.tenants.of(k.tenant)
	if err != nil {
		return vault.MAC{}, err
	}
	under, err := keys.hashes(k.kmsKey)
	if err != nil {
		return vault.MAC{}, err
	}
	sum, err := r.kms.GenerateMAC(ctx, under, message)
	if err != nil {
		return vault.MAC{}, kmsError(err)
	}
	if len(sum) != len(vault.MAC{}) {
		return vault.MAC{}, fmt.Errorf("KMS made a MAC of %d bytes, want %d: %w", len(sum), len(vault.MAC{}), vault.ErrKeyUnavailable)
	}
	return vault.MAC(sum), nil
}

// referenceOf is the KMS key that w stands for.
func referenceOf(w vault.WrappedKey) (string, error) {
	r, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	if err != nil || r.Mode != ciphertext.ModeKMSReference || r.KeyID != uuid.UUID(w.ID) || r.Version != w.Version {
		return "", fmt.Errorf("key %s is no reference to a KMS key: %w", w.ID, errors.Join(vault.ErrCorrupt, err))
	}
	return r.KMSKey, nil
}

// takesOversize reports whether records that are too long for KMS are sealed under
// branch keys.
func (r *kmsReferences) takesOversize(tenant string) bool {
	keys, err := r.tenants.of(tenant)
	return err == nil && keys.OversizeEnvelope
}
