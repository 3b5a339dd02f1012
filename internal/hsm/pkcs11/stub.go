//go:build !pkcs11 || !cgo

package pkcs11

import (
	"context"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Built says whether this program has support for PKCS #11.
const Built = false

// Backend cannot be had in this build.
type Backend struct{ kms.Backend }

// Close does nothing.
func (*Backend) Close() error { return nil }

// Wrap returns [ErrNotBuilt], as do the methods below.
func (*Backend) Wrap(context.Context, string, []byte, secret.Bytes) ([]byte, error) {
	return nil, ErrNotBuilt
}

// Unwrap does nothing.
func (*Backend) Unwrap(context.Context, string, []byte, []byte) (secret.Bytes, error) {
	return secret.Bytes{}, ErrNotBuilt
}

// Discard does nothing.
func (*Backend) Discard(context.Context, string) error { return ErrNotBuilt }

// SealUnder does nothing.
func (*Backend) SealUnder(context.Context, string, []byte, secret.Bytes) ([]byte, error) {
	return nil, ErrNotBuilt
}

// OpenUnder does nothing.
func (*Backend) OpenUnder(context.Context, string, []byte, []byte) (secret.Bytes, error) {
	return secret.Bytes{}, ErrNotBuilt
}

// Open returns [ErrNotBuilt].
func Open(context.Context, Token, secret.Bytes, Options) (*Backend, error) { return nil, ErrNotBuilt }

// KeyStores cannot be had in this build.
type KeyStores struct{ kms.KeyStores }

// NewKeyStores returns [ErrNotBuilt].
func NewKeyStores(map[string]Cluster, Options) (*KeyStores, error) { return nil, ErrNotBuilt }
