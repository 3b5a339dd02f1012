package keyspec

import (
	"crypto"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"filippo.io/mldsa/x509"
)

func mldsaParameters(s Spec) mldsa.Parameters {
	switch s {
	case MLDSA44:
		return mldsa.MLDSA44()
	case MLDSA65:
		return mldsa.MLDSA65()
	}
	return mldsa.MLDSA87()
}

// muSize is the size in bytes of mu, FIPS 204's message representative.
const muSize = 64

// mldsaKey is a pure ML-DSA key (FIPS 204, no context), kept as its seed.
type mldsaKey struct{ key *mldsa.PrivateKey }

func generateMLDSA(s Spec) (*mldsaKey, error) {
	k, err := mldsa.GenerateKey(mldsaParameters(s))
	if err != nil {
		return nil, err
	}
	return &mldsaKey{k}, nil
}

func parseMLDSA(s Spec, der []byte) (*mldsaKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, invalidKey(s, "not a valid PKCS #8 private key with a seed")
	}
	key, is := parsed.(*mldsa.PrivateKey)
	if !is || key.PublicKey().Parameters() != mldsaParameters(s) {
		return nil, invalidKey(s, "another kind of private key")
	}
	k := &mldsaKey{key}
	return k, canonical(s, k, der)
}

func (k *mldsaKey) pkcs8() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.key) }
func (k *mldsaKey) spki() ([]byte, error)  { return x509.MarshalPKIXPublicKey(k.key.PublicKey()) }

// sign makes a hedged signature (FIPS 204, 3.4).
func (k *mldsaKey) sign(a SigningAlgorithm, t MessageType, message []byte) ([]byte, error) {
	if err := checkMLDSAMessage(a, t, message); err != nil {
		return nil, err
	}
	if t == MessageExternalMu {
		return k.key.Sign(nil, message, mldsacrypto.MLDSAMu)
	}
	return k.key.Sign(nil, message, crypto.Hash(0))
}

func checkMLDSAMessage(a SigningAlgorithm, t MessageType, message []byte) error {
	switch {
	case t == MessageRaw, t == "":
		return nil
	case t != MessageExternalMu:
		return wrongType(a, t)
	case len(message) != muSize:
		return &InputError{"Digest is invalid length for algorithm " + string(a) + "."}
	}
	return nil
}

// destroy can wipe nothing: the module does not give its bytes away.
func (k *mldsaKey) destroy() {}

type mldsaPublic struct {
	spec Spec
	key  *mldsa.PublicKey
}

func parseMLDSAPublic(s Spec, spki []byte) (*mldsaPublic, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, invalidKey(s, "not a valid SubjectPublicKeyInfo")
	}
	key, is := parsed.(*mldsa.PublicKey)
	if !is || key.Parameters() != mldsaParameters(s) {
		return nil, invalidKey(s, "another kind of public key")
	}
	return &mldsaPublic{s, key}, canonicalPublic(s, key, spki, x509.MarshalPKIXPublicKey)
}

func (k *mldsaPublic) verify(a SigningAlgorithm, t MessageType, message, signature []byte) error {
	if err := checkMLDSAMessage(a, t, message); err != nil {
		return err
	}
	if t == MessageExternalMu {
		if !verifyMu(k.spec, k.key.Bytes(), message, signature) {
			return ErrInvalidSignature
		}
		return nil
	}
	if err := mldsa.Verify(k.key, message, signature, nil); err != nil {
		return ErrInvalidSignature
	}
	return nil
}
