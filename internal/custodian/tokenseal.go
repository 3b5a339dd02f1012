package custodian

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/ciphertext"
	"cardea/internal/secret"
)

// Device has keys that never leave it. Each has a name; calls may take as long as
// the context allows.
type Device interface {
	// Wrap makes a key of the name and encrypts a master key under it, bound to aad.
	Wrap(ctx context.Context, name string, aad []byte, master secret.Bytes) (wrapped []byte, err error)
	// Unwrap is the inverse. The caller owns the master key. What does not unwrap is
	// an error that the device documents.
	Unwrap(ctx context.Context, name string, aad, wrapped []byte) (secret.Bytes, error)
	// Discard destroys a key whose wrapping is not wanted.
	Discard(ctx context.Context, name string) error
}

// TokenSeal is a tenant's master key under a key of a device: there are no
// custodians, and who may use the device is its own concern. It holds no secret in
// clear and never changes. The zero value is not a seal. docs/hsm.md has the format.
type TokenSeal struct {
	info    Info
	wrapped []byte
}

const (
	tokenSealLabel = "cardea token seal v1"
	tokenSealForm  = 0xf0 // five bits from the forms of custodians: damage does not make one of the other
	maxWrapped     = 1024 // bytes
)

// Errors of seals that are of the other kind than the one expected.
var (
	ErrTokenSeal     = errors.New("the master key is sealed by a token, not by custodians")
	ErrCustodianSeal = errors.New("the master key is sealed by custodians, not by a token")
)

// NewTokenSeal makes a random 32-byte master key for a tenant (1 to 255 bytes) that
// only the device can unseal. Errors are the device's. [TokenSeal.Discard] takes back
// what was made in the device.
func NewTokenSeal(ctx context.Context, tenant string, d Device) (TokenSeal, error) {
	if tenant == "" || len(tenant) > maxTenant {
		return TokenSeal{}, fmt.Errorf("tenant name has %d bytes, want 1 to %d", len(tenant), maxTenant)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return TokenSeal{}, fmt.Errorf("make master key id: %w", err)
	}
	s := TokenSeal{info: Info{Tenant: tenant, Form: FormToken, Generation: 1, MasterID: id}}
	master := secret.Random(keySize)
	defer master.Destroy()
	if s.wrapped, err = d.Wrap(ctx, s.keyName(), s.context(), master); err != nil {
		return TokenSeal{}, fmt.Errorf("wrap master key of tenant %q: %w", tenant, err)
	}
	if n := len(s.wrapped); n == 0 || n > maxWrapped {
		return TokenSeal{}, errors.Join(fmt.Errorf("wrapped master key has %d bytes, want 1 to %d", n, maxWrapped), s.Discard(ctx, d))
	}
	return s, nil
}

// Info says what the seal is of. Unsealing authenticates it.
func (s TokenSeal) Info() Info { return s.info }

// keyName is the name of the device's key, of this seal alone.
func (s TokenSeal) keyName() string { return s.info.Tenant + " " + s.info.MasterID.String() }

// Unseal gives the master key back. The caller destroys it. Errors are the device's.
func (s TokenSeal) Unseal(ctx context.Context, d Device) (secret.Bytes, error) {
	master, err := d.Unwrap(ctx, s.keyName(), s.context(), s.wrapped)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("unwrap master key of tenant %q: %w", s.info.Tenant, err)
	}
	if n := master.Len(); n != keySize {
		master.Destroy()
		return secret.Bytes{}, fmt.Errorf("unwrapped master key of tenant %q has %d bytes, want %d", s.info.Tenant, n, keySize)
	}
	return master, nil
}

// Discard destroys the device's key of a seal that did not come into force.
func (s TokenSeal) Discard(ctx context.Context, d Device) error { return d.Discard(ctx, s.keyName()) }

// Source is the seal as a Keeper takes it. It opens with master, which has been
// unsealed and which the caller keeps, and not at all without one.
func (s TokenSeal) Source(master secret.Bytes) Source { return tokenSource{s.info, master} }

type tokenSource struct {
	info   Info
	master secret.Bytes
}

func (s tokenSource) Info() Info { return s.info }

var errNoCustodians = errors.New("the master key is unsealed by a token: there are no custodians")

func (tokenSource) Check(Part) error { return errNoCustodians }

func (s tokenSource) Open([]Part) (secret.Bytes, error) {
	if !s.master.Present() {
		return secret.Bytes{}, errNoCustodians
	}
	return secret.Copy(s.master.Expose()), nil
}

// context binds all of the seal before the wrapped key to it.
func (s TokenSeal) context() []byte { return ciphertext.Context(tokenSealLabel, s.appendHeader(nil)) }

func (s TokenSeal) appendHeader(b []byte) []byte {
	b = append(b, sealVersion, tokenSealForm)
	b = append(b, s.info.MasterID[:]...)
	b = append(b, byte(len(s.info.Tenant)))
	return append(b, s.info.Tenant...)
}

// MarshalBinary writes the seal as it is stored. It never fails.
func (s TokenSeal) MarshalBinary() ([]byte, error) {
	return append(s.appendHeader(nil), s.wrapped...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote and nothing else. A seal of
// custodians is [ErrCustodianSeal], other bytes are [ErrCorruptSeal]. The caller
// keeps b.
func (s *TokenSeal) UnmarshalBinary(b []byte) error {
	const fixed = 1 + 1 + 16 + 1
	switch {
	case len(b) < fixed:
		return fmt.Errorf("has %d bytes: %w", len(b), ErrCorruptSeal)
	case b[0] != sealVersion:
		return fmt.Errorf("version %d is not known: %w", b[0], ErrCorruptSeal)
	case b[1] == 1 || b[1] == 2:
		return ErrCustodianSeal
	case b[1] != tokenSealForm:
		return fmt.Errorf("form %d is not known: %w", b[1], ErrCorruptSeal)
	}
	id, tenant := uuid.UUID(b[2:18]), int(b[18])
	if id == uuid.Nil || tenant == 0 {
		return fmt.Errorf("no master key id or no tenant: %w", ErrCorruptSeal)
	}
	b = b[fixed:]
	if n := len(b) - tenant; n < 1 || n > maxWrapped {
		return fmt.Errorf("wrapped key has %d bytes: %w", n, ErrCorruptSeal)
	}
	*s = TokenSeal{
		info:    Info{Tenant: string(b[:tenant]), Form: FormToken, Generation: 1, MasterID: id},
		wrapped: append([]byte(nil), b[tenant:]...),
	}
	return nil
}
