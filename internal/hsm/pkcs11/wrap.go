//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// wrapping names the key that wraps something of the name.
func wrapping(name string) kms.MaterialRef {
	return kms.MaterialRef{KeyID: name, ID: "wrapping", Spec: keyspec.SymmetricDefault}
}

// Wrap implements custodian.Device: it makes a key in the token, of the name, 1 to 1024
// bytes, and encrypts master under it. What it returns has the key's handle first.
func (b *Backend) Wrap(ctx context.Context, name string, aad []byte, master secret.Bytes) ([]byte, error) {
	m := wrapping(name)
	var err error
	if m.Handle, _, err = b.Generate(ctx, m); err != nil {
		return nil, err
	}
	sealed, err := b.Seal(ctx, m, aad, master)
	if err != nil {
		return nil, errors.Join(err, b.Destroy(ctx, m))
	}
	return append(m.Handle, sealed...), nil
}

// Unwrap implements custodian.Device. What does not unwrap is kms.ErrNotOurs.
func (b *Backend) Unwrap(ctx context.Context, name string, aad, wrapped []byte) (secret.Bytes, error) {
	if len(wrapped) < handleSize {
		return secret.Bytes{}, fmt.Errorf("wrapped key has %d bytes: %w", len(wrapped), kms.ErrNotOurs)
	}
	m := wrapping(name)
	m.Handle = wrapped[:handleSize]
	return b.Open(ctx, m, aad, wrapped[handleSize:])
}

// Discard implements custodian.Device.
func (b *Backend) Discard(ctx context.Context, name string) error {
	return b.Destroy(ctx, wrapping(name))
}
