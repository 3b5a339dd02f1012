package fileenc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"cardea/internal/secret"
)

// Suite is the number of an algorithm suite.
type Suite uint16

// The suites that are written: AES-256-GCM with HKDF-SHA-512 and key commitment,
// without a signature, and with one by ECDSA P-384.
const (
	Committed       Suite = 0x0478
	CommittedSigned Suite = 0x0578
)

const (
	ivSize  = 12
	tagSize = 16

	commitmentSize = 32
)

type kdf int

const (
	noKDF kdf = iota // the data key is the key itself
	kdfSHA256
	kdfSHA384
	kdfSHA512 // and commitment
)

// suite is how a suite works.
type suite struct {
	id      Suite
	name    string
	version byte // of the message format
	keySize int  // of the data key and of the key that is derived
	kdf     kdf
	curve   func() elliptic.Curve // of the signature; nil: there is none
}

// suiteOf is the one table of all suites that exist.
func suiteOf(id Suite) (suite, bool) {
	for _, s := range []suite{
		{Committed, "AES-256-GCM, HKDF-SHA-512, key commitment", 2, 32, kdfSHA512, nil},
		{CommittedSigned, "AES-256-GCM, HKDF-SHA-512, key commitment, ECDSA P-384", 2, 32, kdfSHA512, elliptic.P384},
		{0x0378, "AES-256-GCM, HKDF-SHA-384, ECDSA P-384", 1, 32, kdfSHA384, elliptic.P384},
		{0x0346, "AES-192-GCM, HKDF-SHA-384, ECDSA P-384", 1, 24, kdfSHA384, elliptic.P384},
		{0x0214, "AES-128-GCM, HKDF-SHA-256, ECDSA P-256", 1, 16, kdfSHA256, elliptic.P256},
		{0x0178, "AES-256-GCM, HKDF-SHA-256", 1, 32, kdfSHA256, nil},
		{0x0146, "AES-192-GCM, HKDF-SHA-256", 1, 24, kdfSHA256, nil},
		{0x0114, "AES-128-GCM, HKDF-SHA-256", 1, 16, kdfSHA256, nil},
		{0x0078, "AES-256-GCM", 1, 32, noKDF, nil},
		{0x0046, "AES-192-GCM", 1, 24, noKDF, nil},
		{0x0014, "AES-128-GCM", 1, 16, noKDF, nil},
	} {
		if s.id == id {
			return s, true
		}
	}
	return suite{}, false
}

// String is the number as the format's documents write it.
func (s Suite) String() string { return fmt.Sprintf("0x%04X", uint16(s)) }

// Describe is the suite in words.
func (s Suite) Describe() string {
	x, _ := suiteOf(s)
	return x.name
}

// Committing reports whether messages of the suite open under one data key only.
func (s Suite) Committing() bool {
	x, ok := suiteOf(s)
	return ok && x.kdf == kdfSHA512
}

// Signed reports whether messages of the suite end with a signature.
func (s Suite) Signed() bool {
	x, ok := suiteOf(s)
	return ok && x.curve != nil
}

// messageIDSize is that of a version of the format.
func messageIDSize(version byte) int {
	if version == 1 {
		return 16
	}
	return 32
}

// derive makes the cipher of a message, and the commitment if the suite has one
// (RFC 5869; the message id is HKDF's salt in version 2, and in its info in version
// 1).
func (s suite) derive(dataKey secret.Bytes, messageID []byte) (aead cipher.AEAD, commitment []byte, err error) {
	if dataKey.Len() != s.keySize {
		return nil, nil, forged("its data key has %d bytes, the suite's have %d", dataKey.Len(), s.keySize)
	}
	id := string(binary.BigEndian.AppendUint16(nil, uint16(s.id)))
	key := dataKey.Expose()
	if s.kdf != noKDF {
		h, salt, info := s.hash(), []byte(nil), id+string(messageID)
		if s.kdf == kdfSHA512 {
			salt, info = messageID, id+"DERIVEKEY"
			if commitment, err = hkdf.Key(h, key, salt, "COMMITKEY", commitmentSize); err != nil {
				return nil, nil, fmt.Errorf("derive the commitment: %w", err)
			}
		}
		if key, err = hkdf.Key(h, key, salt, info, s.keySize); err != nil {
			return nil, nil, fmt.Errorf("derive the message's key: %w", err)
		}
		defer secret.Wipe(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	// The format gives each frame a nonce: its number, under a key of one message.
	if aead, err = cipher.NewGCM(block); err != nil {
		return nil, nil, fmt.Errorf("the message format needs AES-GCM with nonces of its own: %w", err)
	}
	return aead, commitment, nil
}

func (s suite) hash() func() hash.Hash {
	switch s.kdf {
	case kdfSHA256:
		return sha256.New
	case kdfSHA384:
		return sha512.New384
	default:
		return sha512.New
	}
}
