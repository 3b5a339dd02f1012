package keyspec

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"cardea/internal/secret"
)

func rsaBits(s Spec) int {
	switch s {
	case RSA2048:
		return 2048
	case RSA3072:
		return 3072
	case RSA4096:
		return 4096
	}
	return 0
}

// minExponent is the least public exponent of an imported key (FIPS 186-5, A.1.1).
const minExponent = 65537

type rsaKey struct {
	spec Spec
	key  *rsa.PrivateKey
}

func generateRSA(s Spec) (*rsaKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, rsaBits(s))
	if err != nil {
		return nil, err
	}
	return &rsaKey{s, k}, nil
}

func parseRSA(s Spec, der []byte) (*rsaKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, invalidKey(s, "not a valid PKCS #8 private key")
	}
	key, is := parsed.(*rsa.PrivateKey)
	if !is {
		return nil, invalidKey(s, "another kind of private key")
	}
	k := &rsaKey{s, key}
	if err := checkRSA(s, &key.PublicKey); err != nil {
		k.destroy()
		return nil, err
	}
	if len(key.Primes) != 2 {
		k.destroy()
		return nil, invalidKey(s, "more than two primes")
	}
	return k, canonical(s, k, der)
}

func checkRSA(s Spec, k *rsa.PublicKey) error {
	if n, want := k.N.BitLen(), rsaBits(s); n != want {
		return invalidKey(s, fmt.Sprintf("modulus of %d bits, want %d", n, want))
	}
	if k.E < minExponent {
		return invalidKey(s, "public exponent below 65537")
	}
	return nil
}

// canonical refuses, and destroys, a key that was not encoded as it would be here:
// the standard library's parsers pass over what follows the parts they know.
func canonical(s Spec, k pair, der []byte) error {
	again, err := k.pkcs8()
	if err == nil && !bytes.Equal(again, der) {
		err = invalidKey(s, "not the DER encoding of its content")
	}
	secret.Wipe(again)
	if err != nil {
		k.destroy()
	}
	return err
}

func (k *rsaKey) pkcs8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.key) }
func (k *rsaKey) spki() ([]byte, error)  { return x509.MarshalPKIXPublicKey(&k.key.PublicKey) }

func (k *rsaKey) sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	d, err := digest(a, t, message)
	if err != nil {
		return nil, err
	}
	if a.pss() {
		return rsa.SignPSS(rand.Reader, k.key, a.hash(), d, pssOptions)
	}
	return rsa.SignPKCS1v15(nil, k.key, a.hash(), d)
}

func (a SigningAlgorithm) pss() bool { return strings.HasPrefix(string(a), "RSASSA_PSS_") }

// pssOptions: the salt is as long as the hash, when signing and when verifying.
var pssOptions = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

func (k *rsaKey) decrypt(a EncryptionAlgorithm, ciphertext []byte) ([]byte, error) {
	// A shorter one is an integer that lacks its leading zeros (RFC 8017, 7.1.2, step 1).
	if len(ciphertext) != k.key.Size() {
		return nil, ErrInvalidCiphertext
	}
	if err := checkOAEP(k.spec, a); err != nil {
		return nil, err
	}
	p, err := rsa.DecryptOAEP(a.hash().New(), nil, k.key, ciphertext, nil)
	if errors.Is(err, rsa.ErrDecryption) {
		err = ErrInvalidCiphertext
	}
	return p, err
}

// checkOAEP refuses SHA-1 with GODEBUG=fips140=only, where crypto/rsa does.
func checkOAEP(s Spec, a EncryptionAlgorithm) error {
	if a == EncryptOAEPSHA1 && fips140.Enforced() {
		return unsupported(s, a)
	}
	return nil
}

func (k *rsaKey) destroy() {
	p := &k.key.Precomputed
	wipeInts(k.key.D, p.Dp, p.Dq, p.Qinv)
	wipeInts(k.key.Primes...)
}

func wipeInts(ints ...*big.Int) {
	for _, i := range ints {
		if i != nil {
			clear(i.Bits())
		}
	}
}

type rsaPublic struct {
	spec Spec
	key  *rsa.PublicKey
}

func parseRSAPublic(s Spec, spki []byte) (*rsaPublic, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, invalidKey(s, "not a valid SubjectPublicKeyInfo")
	}
	key, is := parsed.(*rsa.PublicKey)
	if !is {
		return nil, invalidKey(s, "another kind of public key")
	}
	if err := checkRSA(s, key); err != nil {
		return nil, err
	}
	return &rsaPublic{s, key}, canonicalPublic(s, key, spki, x509.MarshalPKIXPublicKey)
}

// canonicalPublic is canonical for public keys.
func canonicalPublic[K any](s Spec, key K, spki []byte, marshal func(any) ([]byte, error)) error {
	again, err := marshal(key)
	if err == nil && !bytes.Equal(again, spki) {
		err = invalidKey(s, "not the DER encoding of its content")
	}
	return err
}

func (k *rsaPublic) verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	d, err := digest(a, t, message)
	if err != nil {
		return err
	}
	if a.pss() {
		err = rsa.VerifyPSS(k.key, a.hash(), d, signature, pssOptions)
	} else {
		err = rsa.VerifyPKCS1v15(k.key, a.hash(), d, signature)
	}
	if err != nil {
		return ErrInvalidSignature
	}
	return nil
}

func (k *rsaPublic) encrypt(a EncryptionAlgorithm, plaintext []byte) ([]byte, error) {
	if most := k.key.Size() - 2*a.hash().Size() - 2; len(plaintext) > most {
		return nil, &InputError{fmt.Sprintf("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", a, k.spec, most)}
	}
	if err := checkOAEP(k.spec, a); err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(a.hash().New(), rand.Reader, k.key, plaintext, nil)
}
