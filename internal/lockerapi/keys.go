package lockerapi

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

// minRSABits is the smallest RSA modulus accepted (NIST SP 800-131A rev. 2).
const minRSABits = 2048

// maxRSABits bounds what one request may cost.
const maxRSABits = 8192

// ServerKeys are the locker's own private keys: requests are encrypted to them
// and responses signed by them. One of each type is possible, so that tenants
// can move from RSA to EC one by one.
type ServerKeys struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

// NewServerKeys takes at most one RSA key (2048 to 8192 bits) and one EC key
// (P-256). None at all is right for a server without JWE tenants.
func NewServerKeys(keys ...crypto.PrivateKey) (ServerKeys, error) {
	var s ServerKeys
	for _, k := range keys {
		switch k := k.(type) {
		case *rsa.PrivateKey:
			if s.rsa != nil {
				return ServerKeys{}, errors.New("locker private key: two RSA keys")
			}
			s.rsa = k
			if err := checkPublic(&k.PublicKey); err != nil {
				return ServerKeys{}, fmt.Errorf("locker private key: %w", err)
			}
		case *ecdsa.PrivateKey:
			if s.ec != nil {
				return ServerKeys{}, errors.New("locker private key: two EC keys")
			}
			s.ec = k
			if err := checkPublic(&k.PublicKey); err != nil {
				return ServerKeys{}, fmt.Errorf("locker private key: %w", err)
			}
		default:
			return ServerKeys{}, fmt.Errorf("locker private key: type %T is neither RSA nor EC", k)
		}
	}
	return s, nil
}

func checkPublic(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key has %d bits, want %d to %d", n, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return fmt.Errorf("EC key is on %s, want P-256", k.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("type %T is neither RSA nor EC", key)
	}
	return nil
}

// ParsePrivateKey reads a PEM private key: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC).
// The block must be the only one. The caller keeps pemText.
func ParsePrivateKey(pemText secret.Bytes) (crypto.PrivateKey, error) {
	der, kind, err := onePEM(pemText.Expose())
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(der)
	switch kind {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(der)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(der)
	}
	return nil, errors.New("PEM block is not an unencrypted private key")
}

// ParsePublicKey reads a PEM public key: SPKI, PKCS#1 (RSA), or a certificate's.
func ParsePublicKey(pemText []byte) (crypto.PublicKey, error) {
	der, kind, err := onePEM(pemText)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(der)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(der)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, errors.New("PEM block is not a public key")
}

func onePEM(text []byte) (der []byte, kind string, err error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, "", errors.New("no PEM block found")
	}
	if next, _ := pem.Decode(rest); next != nil {
		secret.Wipe(block.Bytes)
		secret.Wipe(next.Bytes)
		return nil, "", errors.New("more than one PEM block")
	}
	return block.Bytes, block.Type, nil
}
