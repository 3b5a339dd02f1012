package keyspec

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"

	"cardea/internal/secret"
)

// edwardsKey is an Ed25519 key (RFC 8032, FIPS 186-5).
type edwardsKey struct{ key ed25519.PrivateKey }

func generateEdwards() (*edwardsKey, error) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &edwardsKey{k}, nil
}

func parseEdwards(s Spec, der []byte) (*edwardsKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, invalidKey(s, "not a valid PKCS #8 private key")
	}
	key, is := parsed.(ed25519.PrivateKey)
	if !is {
		return nil, invalidKey(s, "another kind of private key")
	}
	k := &edwardsKey{key}
	return k, canonical(s, k, der)
}

func (k *edwardsKey) pkcs8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.key) }
func (k *edwardsKey) spki() ([]byte, error)  { return x509.MarshalPKIXPublicKey(k.key.Public()) }

func (k *edwardsKey) sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	message, options, err := edwardsMessage(a, t, message)
	if err != nil {
		return nil, err
	}
	return k.key.Sign(nil, message, options)
}

func (k *edwardsKey) destroy() { secret.Wipe(k.key) }

// edwardsMessage is what is signed. Ed25519 takes the message as it is. Ed25519ph
// takes a digest of 64 bytes and hashes it once more, as AWS KMS does: "the input
// is hashed twice: once by you and once by KMS" (API reference, Sign, MessageType).
// So whoever verifies elsewhere gives the digest to Ed25519ph as the message.
func edwardsMessage(a SigningAlgorithm, t MessageType, message []byte) ([]byte, *ed25519.Options, error) {
	switch {
	case a == SignEd25519 && (t == MessageRaw || t == ""):
		return message, &ed25519.Options{}, nil
	case a == SignEd25519ph && t == MessageDigest:
		sum, options := edwardsPrehash(message)
		return sum, options, checkDigest(a, message)
	case t == "":
		t = MessageRaw
	}
	return nil, nil, wrongType(a, t)
}

// edwardsPrehash is the beginning of Ed25519ph (FIPS 186-5, 7.8.1, step 1).
func edwardsPrehash(message []byte) ([]byte, *ed25519.Options) {
	sum := sha512.Sum512(message)
	return sum[:], &ed25519.Options{Hash: crypto.SHA512}
}

type edwardsPublic struct{ key ed25519.PublicKey }

func parseEdwardsPublic(s Spec, spki []byte) (*edwardsPublic, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, invalidKey(s, "not a valid SubjectPublicKeyInfo")
	}
	key, is := parsed.(ed25519.PublicKey)
	if !is {
		return nil, invalidKey(s, "another kind of public key")
	}
	return &edwardsPublic{key}, canonicalPublic(s, key, spki, x509.MarshalPKIXPublicKey)
}

func (k *edwardsPublic) verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	message, options, err := edwardsMessage(a, t, message)
	if err != nil {
		return err
	}
	if err := ed25519.VerifyWithOptions(k.key, message, signature, options); err != nil {
		return ErrInvalidSignature
	}
	return nil
}
