//go:build !pkcs11 || !cgo

package pkcs11

import (
	"context"

	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Backend cannot be had in this build.
type Backend struct{ kms.Backend }

// Close does nothing.
func (*Backend) Close() error { return nil }

// Open returns [ErrNotBuilt].
func Open(context.Context, Token, secret.Bytes, Options) (*Backend, error) { return nil, ErrNotBuilt }

// KeyStores cannot be had in this build.
type KeyStores struct{ kms.KeyStores }

// NewKeyStores returns [ErrNotBuilt].
func NewKeyStores(map[string]Cluster, Options) (*KeyStores, error) { return nil, ErrNotBuilt }
