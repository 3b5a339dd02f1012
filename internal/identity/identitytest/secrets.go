package identitytest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"sync/atomic"

	"cardea/internal/identity"
	"cardea/internal/secret"
)

// ErrSealed is what Secrets answers while it is locked.
var ErrSealed = errors.New("root key is sealed")

// Secrets is an identity.Secrets with a key in memory.
type Secrets struct {
	aead   cipher.AEAD
	locked atomic.Bool
}

// NewSecrets makes a key.
func NewSecrets() *Secrets {
	key := secret.Random(32)
	defer key.Destroy()
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &Secrets{aead: aead}
}

// Lock makes every call fail with ErrSealed, until it is called with false.
func (s *Secrets) Lock(locked bool) { s.locked.Store(locked) }

// SealSecret implements identity.Secrets.
func (s *Secrets) SealSecret(_ context.Context, label string, plaintext secret.Bytes) ([]byte, error) {
	if s.locked.Load() {
		return nil, ErrSealed
	}
	return s.aead.Seal(nil, nil, plaintext.Expose(), []byte(label)), nil //nolint:gosec // G407: Seal makes the nonce itself
}

// OpenSecret implements identity.Secrets.
func (s *Secrets) OpenSecret(_ context.Context, label string, sealed []byte) (secret.Bytes, error) {
	if s.locked.Load() {
		return secret.Bytes{}, ErrSealed
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(label))
	if err != nil {
		return secret.Bytes{}, errors.New("does not open")
	}
	return secret.New(plain), nil
}

var _ identity.Secrets = (*Secrets)(nil)
