package keymanager

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// ExternalTenants are the encryption services of the tenants that have one. They may
// change at any time; a reader sees the old set or the new one whole.
type ExternalTenants struct {
	set atomic.Pointer[map[string]*Service]
}

// NewExternalTenants starts with services, which the caller does not change any more.
func NewExternalTenants(services map[string]*Service) *ExternalTenants {
	t := &ExternalTenants{}
	t.Replace(services)
	return t
}

// Replace makes services the whole set, and returns the one before.
func (t *ExternalTenants) Replace(services map[string]*Service) map[string]*Service {
	if before := t.set.Swap(&services); before != nil {
		return *before
	}
	return nil
}

// Acquire is a tenant's service, if it has one, which stays usable until release is
// called, also if it is replaced and closed meanwhile.
func (t *ExternalTenants) Acquire(tenant string) (s *Service, release func(), ok bool) {
	for {
		set := t.set.Load()
		s, ok := (*set)[tenant]
		switch {
		case !ok:
			return nil, nil, false
		case s.acquire():
			return s, s.release, true
		case t.set.Load() == set: // closed and not replaced: so is the node
			return nil, nil, false
		}
	}
}

// ExternalWrapper wraps in tenants' encryption services, for mode external: each
// tenant has one key there, which is made when it is first needed.
func ExternalWrapper(t *ExternalTenants) Wrapper { return externalWrapper{t} }

type externalWrapper struct{ tenants *ExternalTenants }

func (externalWrapper) Mode() vault.Mode { return vault.ModeExternal }

func (x externalWrapper) of(tenant string) (s *Service, release func(), err error) {
	s, release, ok := x.tenants.Acquire(tenant)
	if !ok {
		return nil, nil, &vault.KeyError{Result: "key_not_configured", Err: fmt.Errorf("tenant %q has no external.url: %w", tenant, vault.ErrKeyUnavailable)}
	}
	return s, release, nil
}

func (x externalWrapper) Usable(tenant string) error {
	_, release, err := x.of(tenant)
	if err == nil {
		release()
	}
	return err
}

// Current is true of all keys: a tenant has one key in its service.
func (x externalWrapper) Current(w vault.WrappedKey) bool {
	stored, err := ciphertext.ParseKMSWrapped(w.Wrapped)
	return err == nil && stored.Mode == ciphertext.ModeExternal && stored.KMSKey == serviceKeyOf(w.Tenant)
}

// serviceKeyOf is the identifier of a tenant's key: 20 alphanumeric characters, as the
// service's other clients make them, but the same on all nodes.
func serviceKeyOf(tenant string) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	sum := sha256.Sum256(ciphertext.Context("cardea external key v1", []byte(tenant)))
	var id [20]byte
	for i := range id {
		id[i] = digits[int(sum[i])%len(digits)]
	}
	return string(id[:])
}

func (x externalWrapper) Generate(ctx context.Context, w vault.WrappedKey) ([]byte, secret.Bytes, error) {
	return generate(ctx, x, w)
}

// externalLabel is of what is bound to a key inside its ciphertext.
const externalLabel = "cardea external wrapped key v1"

func (x externalWrapper) Wrap(ctx context.Context, w vault.WrappedKey, key secret.Bytes) ([]byte, error) {
	s, release, err := x.of(w.Tenant)
	if err != nil {
		return nil, err
	}
	defer release()
	id := serviceKeyOf(w.Tenant)
	// The service binds nothing to its ciphertext, so the binding is a part of it.
	bound := sha256.Sum256(elsewhereContext(externalLabel, w, id))
	plaintext := append(bound[:], key.Expose()...)
	defer secret.Wipe(plaintext)
	sealed, err := s.Encrypt(ctx, id, plaintext)
	if e, ok := errors.AsType[*statusError](err); ok && (e.status == 400 || e.status == 404 || e.status == 422) {
		// Perhaps there is no key yet. If another node makes it now, that is an error
		// here, and the key is there as well.
		made := s.CreateKey(ctx, id)
		if sealed, err = s.Encrypt(ctx, id, plaintext); err != nil {
			err = errors.Join(err, made)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", serviceError(err, false))
	}
	b, err := ciphertext.KMSWrapped{Mode: ciphertext.ModeExternal, KeyID: uuid.UUID(w.ID), Version: w.Version, KMSKey: id, Blob: sealed}.Encode()
	if err != nil {
		return nil, fmt.Errorf("answer of the encryption service: %w: %w", vault.ErrKeyUnavailable, err)
	}
	return b, nil
}

func (x externalWrapper) Unwrap(ctx context.Context, w vault.WrappedKey) (secret.Bytes, error) {
	s, release, err := x.of(w.Tenant)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("cannot be unwrapped: %w", err)
	}
	defer release()
	stored, err := wrappedElsewhere(w, ciphertext.ModeExternal)
	if err != nil {
		return secret.Bytes{}, err
	}
	id := serviceKeyOf(w.Tenant)
	if stored.KMSKey != id || !sealedPattern.Match(stored.Blob) {
		return secret.Bytes{}, fmt.Errorf("is not as the encryption service wrapped it: %w", vault.ErrCorrupt)
	}
	plaintext, err := s.Decrypt(ctx, id, stored.Blob)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("does not unwrap in the encryption service: %w", serviceError(err, true))
	}
	defer plaintext.Destroy()
	bound := sha256.Sum256(elsewhereContext(externalLabel, w, id))
	if p := plaintext.Expose(); len(p) != len(bound)+ciphertext.KeySize || subtle.ConstantTimeCompare(p[:len(bound)], bound[:]) != 1 {
		return secret.Bytes{}, fmt.Errorf("is another key's: %w", vault.ErrCorrupt)
	}
	return secret.Copy(plaintext.Expose()[len(bound):]), nil
}
