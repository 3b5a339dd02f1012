package ciphertext

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"cardea/internal/secret"
)

// MAC is HMAC-SHA-256 (FIPS 198-1) of [Context](label, parts...) under a key of
// 32 to 64 bytes. Dedupe values and fingerprints are made with it. A key of
// another size, such as one that was destroyed, is an error and never an unkeyed
// hash (PCI DSS 3.5.1.1). Compare results with hmac.Equal.
func MAC(key secret.Bytes, label string, parts ...[]byte) ([32]byte, error) {
	if err := checkKeySize("MAC key", key); err != nil {
		return [32]byte{}, err
	}
	message := Context(label, parts...)
	// The parts may hold a card number.
	defer secret.Wipe(message)
	return hmacSHA256(key.Expose(), message), nil
}

func hmacSHA256(key, message []byte) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

func checkKeySize(name string, key secret.Bytes) error {
	if n := key.Len(); n < MinWrappedKey || n > MaxWrappedKey {
		return fmt.Errorf("%s has %d bytes, want %d to %d", name, n, MinWrappedKey, MaxWrappedKey)
	}
	return nil
}
