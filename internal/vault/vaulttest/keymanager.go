package vaulttest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// KeyManager is a vault.KeyManager with AES-256-GCM and HMAC-SHA-256 under one
// random key, bound to the whole context. It stores no keys.
type KeyManager struct {
	key  [32]byte
	aead cipher.AEAD
	id   vault.KeyID

	mu   sync.Mutex // guards fail
	fail error
}

var _ vault.KeyManager = (*KeyManager)(nil)

// NewKeyManager makes a key.
func NewKeyManager() *KeyManager {
	k := &KeyManager{id: vault.NewKeyID()}
	rand.Read(k.key[:])
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		panic(err)
	}
	if k.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		panic(err)
	}
	return k
}

// FailWith makes every later call return err; nil ends it.
func (k *KeyManager) FailWith(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

func (k *KeyManager) failure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fail
}

// Seal implements vault.KeyManager.
func (k *KeyManager) Seal(_ context.Context, c vault.RecordContext, plaintext secret.Bytes) (vault.Sealed, error) {
	if err := k.failure(); err != nil {
		return vault.Sealed{}, err
	}
	aad, err := json.Marshal(c)
	if err != nil {
		return vault.Sealed{}, err
	}
	return vault.Sealed{Mode: vault.ModeLocal, Key: k.id, KeyVersion: 1, Blob: k.aead.Seal(nil, nil, plaintext.Expose(), aad)}, nil
}

// Open implements vault.KeyManager.
func (k *KeyManager) Open(_ context.Context, c vault.RecordContext, s vault.Sealed) (secret.Bytes, error) {
	if err := k.failure(); err != nil {
		return secret.Bytes{}, err
	}
	aad, err := json.Marshal(c)
	if err != nil {
		return secret.Bytes{}, err
	}
	plaintext, err := k.aead.Open(nil, nil, s.Blob, aad)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", vault.ErrCorrupt, err)
	}
	return secret.New(plaintext), nil
}

// MAC implements vault.KeyManager.
func (k *KeyManager) MAC(_ context.Context, tenant string, p vault.Purpose, parts ...[]byte) (vault.MAC, error) {
	if err := k.failure(); err != nil {
		return vault.MAC{}, err
	}
	h := hmac.New(sha256.New, k.key[:])
	for _, part := range append([][]byte{[]byte(tenant), []byte(p)}, parts...) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return vault.MAC(h.Sum(nil)), nil
}
