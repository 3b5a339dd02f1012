package ceremony

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"cardea/internal/secret"
)

// Algorithm is what the material is for, by the key spec of AWS KMS.
type Algorithm string

// The algorithms whose material is any string of bytes. Private keys of RSA and ECC
// are not, so they cannot be made of components.
const (
	AES256  Algorithm = "SYMMETRIC_DEFAULT"
	HMAC256 Algorithm = "HMAC_256"
	HMAC384 Algorithm = "HMAC_384"
	HMAC512 Algorithm = "HMAC_512"
)

// Size is the length of the material in bytes, 0 for what is no algorithm.
func (a Algorithm) Size() int {
	switch a {
	case AES256, HMAC256:
		return 32
	case HMAC384:
		return 48
	case HMAC512:
		return 64
	}
	return 0
}

func (a Algorithm) check() error {
	if a.Size() == 0 {
		return fmt.Errorf("algorithm %q: is none of %s, %s, %s, %s", a, AES256, HMAC256, HMAC384, HMAC512)
	}
	return nil
}

// kcvSize is the length of a key check value in bytes, ANSI X9.24-1:2017 annex A.
const kcvSize = 5

// KCV is the key check value of material: the first 5 bytes, in upper-case
// hexadecimal digits, of AES-CMAC (SP 800-38B) over a block of zeros (ANSI
// X9.24-1:2017), or for HMAC keys of HMAC-SHA-256 over the text "cardea kcv v1". It
// tells material apart; it does not tell the material.
func KCV(a Algorithm, material secret.Bytes) (string, error) {
	if err := a.check(); err != nil {
		return "", err
	}
	if n := material.Len(); n != a.Size() {
		return "", fmt.Errorf("material has %d bytes, want %d", n, a.Size())
	}
	var sum []byte
	if a == AES256 {
		mac, err := cmac(material.Expose(), make([]byte, aes.BlockSize))
		if err != nil {
			return "", err
		}
		sum = mac[:]
	} else {
		h := hmac.New(sha256.New, material.Expose())
		h.Write([]byte("cardea kcv v1"))
		sum = h.Sum(nil)
	}
	return strings.ToUpper(hex.EncodeToString(sum[:kcvSize])), nil
}

// legacyKCV is the older check value of AES keys, the first 3 bytes of a block of
// zeros encrypted: components of other systems come with it.
func legacyKCV(material secret.Bytes) (string, error) {
	block, err := aes.NewCipher(material.Expose())
	if err != nil {
		return "", fmt.Errorf("check value: %w", err)
	}
	var out [aes.BlockSize]byte
	block.Encrypt(out[:], out[:])
	return strings.ToUpper(hex.EncodeToString(out[:3])), nil
}

// cmac is AES-CMAC (SP 800-38B, RFC 4493), which the standard library does not have.
func cmac(key, message []byte) ([aes.BlockSize]byte, error) {
	var x [aes.BlockSize]byte
	block, err := aes.NewCipher(key)
	if err != nil {
		return x, fmt.Errorf("check value: %w", err)
	}
	var k1, k2 [aes.BlockSize]byte
	block.Encrypt(k1[:], k1[:])
	double(&k1)
	k2 = k1
	double(&k2)
	defer func() { clear(k1[:]); clear(k2[:]) }()
	for len(message) > aes.BlockSize {
		xor(x[:], message[:aes.BlockSize])
		block.Encrypt(x[:], x[:])
		message = message[aes.BlockSize:]
	}
	var last [aes.BlockSize]byte
	copy(last[:], message)
	if len(message) == aes.BlockSize {
		xor(last[:], k1[:])
	} else {
		last[len(message)] = 0x80
		xor(last[:], k2[:])
	}
	xor(x[:], last[:])
	block.Encrypt(x[:], x[:])
	return x, nil
}

// double multiplies by x in GF(2^128), in constant time.
func double(b *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(b) - 1; i >= 0; i-- {
		next := b[i] >> 7
		b[i] = b[i]<<1 | carry
		carry = next
	}
	b[len(b)-1] ^= 0x87 & -carry
}

func xor(dst, src []byte) {
	for i := range src {
		dst[i] ^= src[i]
	}
}

// checkText is a check value of a text.
func checkText(text secret.Bytes) string {
	h := hmac.New(sha256.New, []byte("cardea share check v1"))
	h.Write(text.Expose())
	return strings.ToUpper(hex.EncodeToString(h.Sum(nil)[:kcvSize]))
}
