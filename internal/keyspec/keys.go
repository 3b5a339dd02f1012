package keyspec

import (
	"errors"

	"cardea/internal/secret"
)

// Errors that callers branch on.
var (
	ErrInvalidSignature  = errors.New("invalid signature")
	ErrInvalidCiphertext = errors.New("invalid ciphertext")
	ErrInvalidKey        = errors.New("invalid key material")
	ErrUnsupported       = errors.New("not supported for this key spec")
)

// InputError is a plaintext, message or digest that an algorithm cannot take. Its
// text is the one AWS KMS answers with as a ValidationException.
type InputError struct{ Text string }

func (e *InputError) Error() string { return e.Text }

// Generate makes the material of a new key: 32 random bytes for SymmetricDefault,
// as many as the hash has for HMAC, else a PKCS #8 private key (RFC 5958), with the
// public half as SubjectPublicKeyInfo (RFC 5280), nil where there is none.
func Generate(s Spec) (material secret.Bytes, public []byte, err error) {
	return secret.Bytes{}, nil, ErrUnsupported
}

// Private is a parsed private or HMAC key. It is safe for concurrent use; Destroy
// must not run beside uses.
type Private struct{}

// ParsePrivate parses material as Generate makes it and as ImportKeyMaterial brings
// it. What is not exactly a key of the spec is ErrInvalidKey. The caller keeps material.
func ParsePrivate(s Spec, material secret.Bytes) (*Private, error) { return nil, ErrUnsupported }

// Public is the public half as SubjectPublicKeyInfo, nil where there is none.
func (k *Private) Public() []byte { return nil }

// Sign signs a message of 1 to 4096 bytes. Errors: *InputError, ErrUnsupported.
// ECDSA signatures are ASN.1 DER.
func (k *Private) Sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	return nil, ErrUnsupported
}

// Decrypt opens an RSA-OAEP ciphertext, or ErrInvalidCiphertext.
func (k *Private) Decrypt(a EncryptionAlgorithm, ciphertext []byte) (secret.Bytes, error) {
	return secret.Bytes{}, ErrUnsupported
}

// Agree computes the ECDH shared secret with a peer's SubjectPublicKeyInfo, which
// must be on the same curve: else *InputError.
func (k *Private) Agree(peer []byte) (secret.Bytes, error) { return secret.Bytes{}, ErrUnsupported }

// MAC computes the HMAC of a message.
func (k *Private) MAC(a MACAlgorithm, message []byte) ([]byte, error) { return nil, ErrUnsupported }

// Destroy wipes what can be wiped.
func (k *Private) Destroy() {}

// Public is a parsed public key, safe for concurrent use.
type Public struct{}

// ParsePublic parses a SubjectPublicKeyInfo of the spec, else ErrInvalidKey.
func ParsePublic(s Spec, spki []byte) (*Public, error) { return nil, ErrUnsupported }

// Verify checks a signature, else ErrInvalidSignature; *InputError as for Sign.
func (k *Public) Verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	return ErrUnsupported
}

// Encrypt seals by RSA-OAEP; *InputError if plaintext is too long for the key.
func (k *Public) Encrypt(a EncryptionAlgorithm, plaintext secret.Bytes) ([]byte, error) {
	return nil, ErrUnsupported
}

// Unwrap opens imported key material that was wrapped under the public half of an
// RSA key, by RSA-OAEP or by RSA_AES_KEY_WRAP (RSA-OAEP over an AES-256 key, which
// wraps the material by AES-KWP, RFC 5649). What does not open is ErrInvalidCiphertext.
func Unwrap(a WrappingAlgorithm, wrapping *Private, wrapped []byte) (secret.Bytes, error) {
	return secret.Bytes{}, ErrUnsupported
}
