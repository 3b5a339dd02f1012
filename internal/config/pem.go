package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"cardea/internal/secret"
)

// minRSABits is NIST SP 800-131A's floor for RSA.
const minRSABits = 2048

var errKeyKind = errors.New("expected an RSA key of at least 2048 bits or an EC key on P-256")

// parsePublicKey reads exactly one PEM block with a SubjectPublicKeyInfo and
// returns an *rsa.PublicKey or *ecdsa.PublicKey of a kind that the envelope can use.
func parsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, err := onePEM(text)
	if err != nil {
		return nil, err
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf(`expected a PEM block "PUBLIC KEY", got %q`, block.Type)
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errKeyKind
	}
	return k, usable(k)
}

// parsePrivateKey reads exactly one PEM block with an unencrypted private key in
// PKCS#8, PKCS#1 or SEC 1 form and returns its public half: what kind it is, not
// the secret.
func parsePrivateKey(text secret.Bytes) (crypto.PublicKey, error) {
	block, err := onePEM(text.Expose())
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(block.Bytes)
	var k any
	switch block.Type {
	case "PRIVATE KEY":
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		k, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf(`expected a PEM block "PRIVATE KEY", "RSA PRIVATE KEY" or "EC PRIVATE KEY", got %q`, block.Type)
	}
	if err != nil {
		return nil, errKeyKind // the parser's own words could quote the key
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, errKeyKind
	}
	return signer.Public(), usable(signer.Public())
}

func usable(k crypto.PublicKey) error {
	switch k := k.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			return nil
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
	}
	return errKeyKind
}

func onePEM(text []byte) (*pem.Block, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	if len(block.Headers) > 0 {
		return nil, errors.New("PEM headers in it: an encrypted key cannot be used, give the key itself and protect its file")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("more than one PEM block in it, expected exactly one")
	}
	return block, nil
}
