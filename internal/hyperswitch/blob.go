package hyperswitch

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"

	"cardea/internal/secret"
)

// Sizes in bytes.
const (
	keySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// maxBlob bounds a row's ciphertext: the vault keeps no longer plaintext.
const maxBlob = nonceSize + 1<<20 + 4096 + tagSize

// ErrDoesNotOpen says that ciphertext was not made under this key, or is not
// ciphertext.
var ErrDoesNotOpen = errors.New("does not open under this key")

// ParseMasterKey reads a tenant's master key in the clear: the 64 hexadecimal
// digits of the peer's setting master_key without custodians. The caller destroys
// it. With custodians see custodian.OpenHyperswitch.
func ParseMasterKey(text secret.Bytes) (secret.Bytes, error) {
	if n := text.Len(); n != 2*keySize {
		return secret.Bytes{}, fmt.Errorf("master key has %d characters, want %d hexadecimal digits (%d are one that custodians unlock: give their halves, too)", n, 2*keySize, 2*(nonceSize+keySize+tagSize))
	}
	key := make([]byte, keySize)
	if _, err := hex.Decode(key, text.Expose()); err != nil {
		secret.Wipe(key)
		return secret.Bytes{}, errors.New("master key has a character that is not a hexadecimal digit")
	}
	return secret.New(key), nil
}

// UnwrapKey opens the key of a merchant or entity (merchant.enc_key) under the
// tenant's master key. The caller destroys it.
func UnwrapKey(master secret.Bytes, wrapped []byte) (secret.Bytes, error) {
	key, err := Open(master, wrapped)
	if err != nil {
		return secret.Bytes{}, err
	}
	if n := key.Len(); n != keySize {
		key.Destroy()
		return secret.Bytes{}, fmt.Errorf("key has %d bytes, want %d", n, keySize)
	}
	return key, nil
}

// Open decrypts a blob: nonce, AES-256-GCM ciphertext, tag, no additional data.
func Open(key secret.Bytes, blob []byte) (secret.Bytes, error) {
	if len(blob) < nonceSize+tagSize || len(blob) > maxBlob {
		return secret.Bytes{}, fmt.Errorf("ciphertext has %d bytes: %w", len(blob), ErrDoesNotOpen)
	}
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // takes the nonce from before the ciphertext
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("key: %w", err)
	}
	plaintext, err := aead.Open(nil, nil, blob, nil) // the peer's format has no additional data
	if err != nil {
		return secret.Bytes{}, ErrDoesNotOpen
	}
	return secret.New(plaintext), nil
}
