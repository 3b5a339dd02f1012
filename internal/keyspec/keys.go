package keyspec

import (
	"bytes"
	"fmt"
	"slices"

	"cardea/internal/secret"
)

// maxKey is the most bytes that a private or public key is parsed from: one of
// RSA_4096 has some 2,400, one of ML_DSA_87 2,614.
const maxKey = 4096

// symmetricSize is the size in bytes of a SymmetricDefault key.
const symmetricSize = 32

// privateKey is what every kind of key can do. What else a kind can do are the
// interfaces below.
type privateKey interface{ destroy() }

type (
	signer interface {
		sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error)
	}
	decrypter interface {
		decrypt(a EncryptionAlgorithm, ciphertext []byte) ([]byte, error)
	}
	agreer interface {
		agree(peer []byte) ([]byte, error)
	}

	// pair is a private key with a public half.
	pair interface {
		privateKey
		pkcs8() ([]byte, error) // the caller wipes it
		spki() ([]byte, error)
	}
)

// publicKey is one that is parsed. One of RSA also encrypts.
type publicKey interface {
	verify(a SigningAlgorithm, t MessageType, message, signature []byte) error
}

// Generate makes the material of a new key: 32 random bytes for SymmetricDefault,
// as many as the hash has for HMAC, else a PKCS #8 private key (RFC 5958), with the
// public half as SubjectPublicKeyInfo (RFC 5280), nil where there is none. The
// caller owns the material. An RSA_4096 key takes about a second, others far less.
func Generate(s Spec) (material secret.Bytes, public []byte, err error) {
	var k pair
	switch s.Family() {
	case FamilySymmetric:
		return secret.Random(symmetricSize), nil, nil
	case FamilyHMAC:
		return secret.Random(hmacSize(s)), nil, nil
	case FamilyRSA:
		k, err = generateRSA(s)
	case FamilyECC:
		k, err = generateEC(s)
	case FamilyEdwards:
		k, err = generateEdwards()
	case FamilyMLDSA:
		k, err = generateMLDSA(s)
	case FamilyNone:
		return secret.Bytes{}, nil, unsupported(s, "key generation")
	}
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("generate key of spec %s: %w", s, err)
	}
	defer k.destroy()
	der, err := k.pkcs8()
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("encode key of spec %s: %w", s, err)
	}
	if public, err = k.spki(); err != nil {
		secret.Wipe(der)
		return secret.Bytes{}, nil, fmt.Errorf("encode public key of spec %s: %w", s, err)
	}
	return secret.New(der), public, nil
}

// Private is a parsed private, HMAC or symmetric key. It is safe for concurrent
// use; Destroy must not run beside uses.
type Private struct {
	spec   Spec
	key    privateKey
	public []byte
}

// ParsePrivate parses material as Generate makes it and as ImportKeyMaterial brings
// it. What is not exactly a key of the spec is ErrInvalidKey. The caller keeps material.
//
// A private key has one encoding, that of OpenSSL and of Generate, but that an ECC
// key may come with or without its public half and its curve's name inside (RFC
// 5915), since common tools differ in that. RSA keys have two primes and an exponent
// of at least 65537 (FIPS 186-5, A.1.1); ML-DSA keys are seeds (RFC 9881).
func ParsePrivate(s Spec, material secret.Bytes) (*Private, error) {
	k, err := parsePrivate(s, material.Expose())
	if err != nil {
		return nil, err
	}
	p := &Private{spec: s, key: k}
	if k, is := k.(pair); is {
		if p.public, err = k.spki(); err != nil {
			k.destroy()
			return nil, fmt.Errorf("encode public key of spec %s: %w", s, err)
		}
	}
	return p, nil
}

func parsePrivate(s Spec, material []byte) (privateKey, error) {
	if len(material) > maxKey {
		return nil, invalidKey(s, "too long")
	}
	switch s.Family() {
	case FamilySymmetric:
		if len(material) != symmetricSize {
			return nil, invalidKey(s, fmt.Sprintf("%d bytes, want %d", len(material), symmetricSize))
		}
		return &symmetricKey{secret.Copy(material)}, nil
	case FamilyHMAC:
		return parseHMAC(s, material)
	case FamilyRSA:
		return parseRSA(s, material)
	case FamilyECC:
		return parseEC(s, material)
	case FamilyEdwards:
		return parseEdwards(s, material)
	case FamilyMLDSA:
		return parseMLDSA(s, material)
	case FamilyNone:
	}
	return nil, unsupported(s, "private key")
}

// Spec is the key's spec.
func (k *Private) Spec() Spec { return k.spec }

// Public is the public half as SubjectPublicKeyInfo, nil where there is none.
func (k *Private) Public() []byte { return bytes.Clone(k.public) }

// Symmetric is the key of SymmetricDefault itself, which dies with Destroy; not
// present in keys of other specs.
func (k *Private) Symmetric() secret.Bytes {
	if s, is := k.key.(*symmetricKey); is {
		return s.key
	}
	return secret.Bytes{}
}

// Sign signs a message, which the API limits to 4096 bytes. Errors: *InputError for
// a message type or digest that the algorithm does not take, ErrUnsupported.
// ECDSA signatures are ASN.1 DER.
func (k *Private) Sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	s, is := k.key.(signer)
	if !is || !slices.Contains(k.spec.SigningAlgorithms(), a) {
		return nil, unsupported(k.spec, a)
	}
	return s.sign(a, t, message)
}

// Decrypt opens an RSA-OAEP ciphertext (RFC 8017, 7.1.2), or ErrInvalidCiphertext.
// The mask is made with the algorithm's hash; there is no label.
func (k *Private) Decrypt(a EncryptionAlgorithm, ciphertext []byte) (secret.Bytes, error) {
	d, is := k.key.(decrypter)
	if !is || !slices.Contains(k.spec.EncryptionAlgorithms(), a) {
		return secret.Bytes{}, unsupported(k.spec, a)
	}
	p, err := d.decrypt(a, ciphertext)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(p), nil
}

// Agree computes the ECDH shared secret (SP 800-56A, 5.7.1.2: the x coordinate)
// with a peer's SubjectPublicKeyInfo, which must be on the same curve: else *InputError.
func (k *Private) Agree(peer []byte) (secret.Bytes, error) {
	g, is := k.key.(agreer)
	if !is || len(k.spec.AgreementAlgorithms()) == 0 {
		return secret.Bytes{}, unsupported(k.spec, AgreeECDH)
	}
	z, err := g.agree(peer)
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(z), nil
}

// MAC computes the HMAC (FIPS 198-1) of a message, not truncated. Compare by hmac.Equal.
func (k *Private) MAC(a MACAlgorithm, message []byte) ([]byte, error) {
	h, is := k.key.(*hmacKey)
	if !is || !slices.Contains(k.spec.MACAlgorithms(), a) {
		return nil, unsupported(k.spec, a)
	}
	return h.mac(message), nil
}

// Destroy wipes what can be wiped: symmetric, HMAC and Ed25519 keys, the scalars of
// ECC keys and the integers of RSA keys. The standard library keeps a form of its
// own of NIST ECC, Ed25519 and RSA keys, and filippo.io/mldsa keeps ML-DSA keys, which
// nothing outside can reach: those are left to the garbage collector. The key
// must not be used afterwards.
func (k *Private) Destroy() { k.key.destroy() }

// Public is a parsed public key, safe for concurrent use.
type Public struct {
	spec Spec
	key  publicKey
}

// ParsePublic parses a SubjectPublicKeyInfo of the spec, else ErrInvalidKey. There
// is one encoding: points are not compressed.
func ParsePublic(s Spec, spki []byte) (*Public, error) {
	if len(spki) > maxKey {
		return nil, invalidKey(s, "too long")
	}
	var k publicKey
	var err error
	switch s.Family() {
	case FamilyRSA:
		k, err = parseRSAPublic(s, spki)
	case FamilyECC:
		k, err = parseECPublic(s, spki)
	case FamilyEdwards:
		k, err = parseEdwardsPublic(s, spki)
	case FamilyMLDSA:
		k, err = parseMLDSAPublic(s, spki)
	case FamilyNone, FamilySymmetric, FamilyHMAC:
		return nil, unsupported(s, "public key")
	}
	if err != nil {
		return nil, err
	}
	return &Public{s, k}, nil
}

// Spec is the key's spec.
func (k *Public) Spec() Spec { return k.spec }

// Verify checks a signature, else ErrInvalidSignature; *InputError as for Sign.
func (k *Public) Verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	if !slices.Contains(k.spec.SigningAlgorithms(), a) {
		return unsupported(k.spec, a)
	}
	return k.key.verify(a, t, message, signature)
}

// Encrypt seals by RSA-OAEP; *InputError if plaintext is too long for the key. The
// caller keeps plaintext.
func (k *Public) Encrypt(a EncryptionAlgorithm, plaintext secret.Bytes) ([]byte, error) {
	r, is := k.key.(*rsaPublic)
	if !is || !slices.Contains(k.spec.EncryptionAlgorithms(), a) {
		return nil, unsupported(k.spec, a)
	}
	return r.encrypt(a, plaintext.Expose())
}

type symmetricKey struct{ key secret.Bytes }

func (k *symmetricKey) destroy() { k.key.Destroy() }
