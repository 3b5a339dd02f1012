package custodian

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

// hyperswitchSize is nonce, ciphertext and tag of a 32-byte key.
const hyperswitchSize = 12 + keySize + 16

// HyperswitchSeal is a master key as Hyperswitch's card vault keeps it: AES-256-GCM
// under a custodian key whose halves two custodians hold. It cannot check a
// half by itself and does not name its tenant; [SealMaster] makes something better
// of it.
type HyperswitchSeal struct {
	blob [hyperswitchSize]byte
	id   uuid.UUID
}

// NewHyperswitchSeal reads the 120 hexadecimal digits of the peer's setting
// master_key. The caller keeps them.
func NewHyperswitchSeal(sealedHex secret.Bytes) (HyperswitchSeal, error) {
	if n := sealedHex.Len(); n != 2*hyperswitchSize {
		return HyperswitchSeal{}, fmt.Errorf("has %d characters, want %d: %w", n, 2*hyperswitchSize, ErrCorruptSeal)
	}
	var s HyperswitchSeal
	if _, err := hex.Decode(s.blob[:], sealedHex.Expose()); err != nil {
		return HyperswitchSeal{}, fmt.Errorf("has a character that is not a hexadecimal digit: %w", ErrCorruptSeal)
	}
	sum := sha256.Sum256(s.blob[:])
	s.id = uuid.UUID(sum[:16])
	return s, nil
}

// OpenHyperswitch is NewHyperswitchSeal, ParseHalf twice and Open. It returns the
// 32-byte master key, which the caller destroys; wrong halves are [ErrDoesNotOpen].
func OpenHyperswitch(sealedHex, key1, key2 secret.Bytes) (secret.Bytes, error) {
	s, err := NewHyperswitchSeal(sealedHex)
	if err != nil {
		return secret.Bytes{}, err
	}
	a, err := ParseHalf(1, key1)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer a.Destroy()
	b, err := ParseHalf(2, key2)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer b.Destroy()
	return s.Open([]Part{a, b})
}

// Info says what the seal is of. The id is made of its bytes.
func (s HyperswitchSeal) Info() Info {
	return Info{Form: FormHalves, Shares: 2, Threshold: 2, Generation: 1, MasterID: s.id}
}

// Check refuses what is not a half; whether it is the right one shows only in Open.
func (s HyperswitchSeal) Check(p Part) error {
	if p.form != FormHalves {
		return p.wrong("is not of this seal, which has %s", FormHalves)
	}
	if !p.whole() {
		return p.wrong("is empty")
	}
	return nil
}

// Open gives the master key back from both halves. Errors are those of [Seal.Open].
func (s HyperswitchSeal) Open(parts []Part) (secret.Bytes, error) {
	for _, p := range parts {
		if err := s.Check(p); err != nil {
			return secret.Bytes{}, err
		}
	}
	key, err := join(s.Info(), parts)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer key.Destroy()
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("make AES key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("make AES-GCM: %w", err)
	}
	// The associated data is empty because the peer's format has none. Nothing
	// that Cardea writes is sealed so.
	master, err := aead.Open(nil, nil, s.blob[:], nil)
	if err != nil {
		return secret.Bytes{}, ErrDoesNotOpen
	}
	return secret.New(master), nil
}
