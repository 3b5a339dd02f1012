package keyspec

import (
	"crypto"
	"crypto/hmac"
	"fmt"

	"cardea/internal/secret"
)

// hmacHash is the hash of an HMAC spec. A key is as long as its output: the least
// that has the hash's strength (RFC 2104, section 3), and what AWS KMS makes and imports.
func hmacHash(s Spec) crypto.Hash {
	switch s {
	case HMAC224:
		return crypto.SHA224
	case HMAC256:
		return crypto.SHA256
	case HMAC384:
		return crypto.SHA384
	}
	return crypto.SHA512
}

func hmacSize(s Spec) int { return hmacHash(s).Size() }

type hmacKey struct {
	hash crypto.Hash
	key  secret.Bytes
}

func parseHMAC(s Spec, material []byte) (*hmacKey, error) {
	if n := hmacSize(s); len(material) != n {
		return nil, invalidKey(s, fmt.Sprintf("%d bytes, want %d", len(material), n))
	}
	return &hmacKey{hmacHash(s), secret.Copy(material)}, nil
}

func (k *hmacKey) mac(message []byte) []byte {
	h := hmac.New(k.hash.New, k.key.Expose())
	h.Write(message)
	return h.Sum(nil)
}

func (k *hmacKey) destroy() { k.key.Destroy() }
