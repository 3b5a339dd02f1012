package keyspec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"cardea/internal/secret"
)

// This file is AES key wrap with padding, AES-KWP (RFC 5649; SP 800-38F, 6.3),
// which the standard library does not have.

// maxWrapped is the most bytes that are unwrapped: AWS KMS takes 6144.
const maxWrapped = 6144

// kwpMagic is the first half of the alternative initial value (RFC 5649, section 3).
const kwpMagic = 0xA65959A6

// wrapKWP wraps 1 to maxWrapped-16 bytes under an AES key.
func wrapKWP(kek, plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 || len(plaintext) > maxWrapped-16 {
		return nil, fmt.Errorf("wrap %d bytes by AES-KWP: want 1 to %d", len(plaintext), maxWrapped-16)
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	n := (len(plaintext) + 7) / 8
	out := make([]byte, 8*(n+1))
	binary.BigEndian.PutUint32(out, kwpMagic)
	binary.BigEndian.PutUint32(out[4:], uint32(len(plaintext)))
	copy(out[8:], plaintext)
	if n == 1 {
		block.Encrypt(out, out)
		return out, nil
	}
	var b [16]byte
	copy(b[:8], out)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			xorCounter(b[:8], n*j+i)
			copy(out[8*i:], b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

// unwrapKWP is the inverse of wrapKWP; what does not open is ErrInvalidCiphertext.
// Where it does not open is not to be told from the time it takes.
func unwrapKWP(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 16 || len(wrapped)%8 != 0 || len(wrapped) > maxWrapped {
		return nil, ErrInvalidCiphertext
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(wrapped))
	copy(out, wrapped)
	unwrapBlocks(block, out)
	size, ok := checkKWP(out)
	if ok != 1 {
		secret.Wipe(out)
		return nil, ErrInvalidCiphertext
	}
	return out[8 : 8+size], nil
}

// unwrapBlocks is the inverse of W (SP 800-38F, algorithm 2), or one AES block.
func unwrapBlocks(block cipher.Block, out []byte) {
	n := len(out)/8 - 1
	if n == 1 {
		block.Decrypt(out, out)
		return
	}
	var b [16]byte
	defer secret.Wipe(b[:])
	copy(b[:8], out)
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			xorCounter(b[:8], n*j+i)
			copy(b[8:], out[8*i:])
			block.Decrypt(b[:], b[:])
			copy(out[8*i:], b[8:])
		}
	}
	copy(out, b[:8])
}

// checkKWP checks initial value, length and padding (RFC 5649, section 3) and
// returns the length, which means something only if ok is 1.
func checkKWP(out []byte) (size, ok int) {
	plain := out[8:]
	length := binary.BigEndian.Uint32(out[4:])
	pad := uint32(len(plain)) - length // wraps if the length is too great
	ok = subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)^kwpMagic), 0) &
		subtle.ConstantTimeEq(int32(pad>>3), 0)
	var bad byte
	for i, b := range plain[len(plain)-8:] {
		bad |= b & -byte(subtle.ConstantTimeLessOrEq(8-int(pad&7), i))
	}
	return int(length), ok & subtle.ConstantTimeByteEq(bad, 0)
}

func xorCounter(a []byte, t int) {
	binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^uint64(t))
}
