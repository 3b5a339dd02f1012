package keymanager

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// HSM encrypts under keys that never leave it, which it finds by their labels.
// Errors wrap kms.ErrNotOurs of what does not open, kms.ErrDeviceLost if it cannot be
// reached, or are the context's. It is safe for concurrent use.
type HSM interface {
	SealUnder(ctx context.Context, label string, aad []byte, plaintext secret.Bytes) ([]byte, error)
	OpenUnder(ctx context.Context, label string, aad, sealed []byte) (secret.Bytes, error)
}

// HSMKey is a tenant's key in an HSM.
type HSMKey struct {
	HSM   HSM
	Label string // of the key
	URI   string // of the key (RFC 7512), printable ASCII; what it sealed names it
}

// HSMTenants are the keys in HSMs of the tenants that have some. They may change at
// any time; a reader sees the old set or the new one whole.
type HSMTenants struct {
	set atomic.Pointer[map[string]HSMKey]
}

// NewHSMTenants starts with keys, which the caller does not change any more.
func NewHSMTenants(keys map[string]HSMKey) *HSMTenants {
	t := &HSMTenants{}
	t.Replace(keys)
	return t
}

// Replace makes keys the whole set.
func (t *HSMTenants) Replace(keys map[string]HSMKey) { t.set.Store(&keys) }

// Check encrypts something under a tenant's key, so that health tells the truth.
func (t *HSMTenants) Check(ctx context.Context, tenant string) error {
	k, err := hsmWrapper{t}.of(tenant)
	if err != nil {
		return err
	}
	_, err = k.HSM.SealUnder(ctx, k.Label, []byte("cardea probe"), secret.Copy([]byte("probe")))
	return err
}

// HSMWrapper wraps under tenants' keys in HSMs, for mode pkcs11.
func HSMWrapper(t *HSMTenants) Wrapper { return hsmWrapper{t} }

type hsmWrapper struct{ tenants *HSMTenants }

func (hsmWrapper) Mode() vault.Mode { return vault.ModePKCS11 }

func (h hsmWrapper) of(tenant string) (HSMKey, error) {
	k, ok := (*h.tenants.set.Load())[tenant]
	if !ok {
		return k, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf("tenant %q has no pkcs11.key_label: %w", tenant, vault.ErrKeyUnavailable)}
	}
	return k, nil
}

func (h hsmWrapper) Usable(tenant string) error {
	_, err := h.of(tenant)
	return err
}

func (h hsmWrapper) Current(w vault.WrappedKey) bool {
	k, err := h.of(w.Tenant)
	if err != nil {
		return false
	}
	stored, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	return err == nil && stored.Mode == ciphertext.ModePKCS11 && stored.KMSKey == k.URI
}

func (h hsmWrapper) Generate(ctx context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	return generate(ctx, h, w)
}

func (h hsmWrapper) Wrap(ctx context.Context, w vault.WrappedKey, key secret.Bytes) ([]byte, error) {
	k, err := h.of(w.Tenant)
	if err != nil {
		return nil, err
	}
	sealed, err := k.HSM.SealUnder(ctx, k.Label, elsewhereContext("cardea hsm wrapped key v1", w, k.URI), key)
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", hsmError(err))
	}
	b, err := ciphertext.KMSWrapped{Mode: ciphertext.ModePKCS11, KeyID: uuid.UUID(w.ID), Version: w.Version, KMSKey: k.URI, Blob: sealed}.Encode()
	if err != nil {
		return nil, fmt.Errorf("answer of HSM: %w: %w", vault.ErrKeyUnavailable, err)
	}
	return b, nil
}

func (h hsmWrapper) Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error) {
	k, err := h.of(w.Tenant)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("cannot be unwrapped: %w", err)
	}
	stored, err := wrappedElsewhere(w, ciphertext.ModePKCS11)
	if err != nil {
		return secret.Bytes{}, err
	}
	if stored.KMSKey != k.URI {
		return secret.Bytes{}, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf("is under %s, which is not the tenant's key in an HSM: %w", stored.KMSKey, vault.ErrKeyUnavailable)}
	}
	key, err := k.HSM.OpenUnder(ctx, k.Label, elsewhereContext("cardea hsm wrapped key v1", w, k.URI), stored.Blob)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("does not unwrap under %s: %w", stored.KMSKey, hsmError(err))
	}
	return checkUnwrapped(key)
}

// wrappedElsewhere is a stored key of a mode; it refuses one that says that it is
// another.
func wrappedElsewhere(w vault.WrappedKey, mode ciphertext.Mode) (ciphertext.KMSWrapped, error) {
	stored, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	if err != nil || stored.Mode != mode || stored.KeyID != uuid.UUID(w.ID) || stored.Version != w.Version {
		return stored, fmt.Errorf("is not as it was wrapped: %w", errors.Join(vault.ErrCorrupt, err))
	}
	return stored, nil
}

func checkUnwrapped(key secret.Bytes) (secret.Bytes, error) {
	if n := key.Len(); n != ciphertext.KeySize {
		key.Destroy()
		return secret.Bytes{}, fmt.Errorf("has %d bytes, want %d: %w", n, ciphertext.KeySize, vault.ErrCorrupt)
	}
	return key, nil
}

// elsewhereContext is what a wrapped key is bound to outside AWS KMS
// (docs/spec/wrapped-key.md).
func elsewhereContext(label string, w vault.WrappedKey, under string) []byte {
	return ciphertext.Context(label, []byte(w.Tenant), []byte(w.Holder), []byte(w.Purpose), w.ID[:],
		binary.BigEndian.AppendUint32(nil, w.Version), []byte(under))
}

// hsmError makes an error of an HSM one of vault.KeyManager.
func hsmError(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, kms.ErrNotOurs):
		return fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	case errors.Is(err, kms.ErrDeviceLost), errors.Is(err, context.DeadlineExceeded):
		return &vault.KeyError{Result: resultUnreachable, Err: fmt.Errorf("%w: %w", vault.ErrKeyUnavailable, err)}
	}
	return &vault.KeyError{Result: "key_refused", Err: fmt.Errorf("%w: %w", vault.ErrKeyUnavailable, err)}
}
