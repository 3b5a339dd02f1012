package cloudtrail

import (
	"context"
	"crypto/fips140"
	"crypto/md5" //nolint:gosec // names a key, proves nothing
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrNoKey says that there is no public key of a fingerprint.
var ErrNoKey = errors.New("no public key of this fingerprint")

// Keys knows the public keys that CloudTrail signs digests with.
type Keys interface {
	// Key gives the key of a fingerprint in a region, which signed at about the
	// time; an ErrNoKey if there is none.
	Key(ctx context.Context, region, fingerprint string, at time.Time) (*rsa.PublicKey, error)
}

// KeySet is keys that are known beforehand. It is not changed once made.
type KeySet map[string]*rsa.PublicKey

// Key implements Keys. The region does not matter: fingerprints differ.
func (s KeySet) Key(_ context.Context, _, fingerprint string, _ time.Time) (*rsa.PublicKey, error) {
	if k := s[fingerprint]; k != nil {
		return k, nil
	}
	return nil, ErrNoKey
}

// Fingerprint is the name that CloudTrail gives a public key: the MD5 of its DER
// bytes. Whoever can choose keys can make two with one name, so it must never
// stand for the key itself.
func Fingerprint(der []byte) string {
	var sum [md5.Size]byte
	fips140.WithoutEnforcement(func() { sum = md5.Sum(der) }) //nolint:gosec // names a key, proves nothing
	return hex.EncodeToString(sum[:])
}

// listedKeys is what "aws cloudtrail list-public-keys" prints, as far as it matters.
type listedKeys struct {
	PublicKeyList []struct {
		Value       string
		Fingerprint string
	}
}

// ParseKeys reads keys as "aws cloudtrail list-public-keys" prints them, the
// output for one region after the other if there are several. A fingerprint that
// is not the key's is an error.
func ParseKeys(b []byte) (KeySet, error) {
	set := KeySet{}
	for len(b) > 0 {
		var s scanner
		s.reset(append(b[:len(b):len(b)], ' '))
		one := s.skip()
		if s.fault != faultNone {
			return nil, errors.New("public keys: not JSON as 'aws cloudtrail list-public-keys' prints it")
		}
		var list listedKeys
		if err := json.Unmarshal(one, &list); err != nil {
			return nil, fmt.Errorf("public keys: %w", err)
		}
		for i, k := range list.PublicKeyList {
			der, err := base64.StdEncoding.DecodeString(k.Value)
			if err != nil {
				return nil, fmt.Errorf("public key %d: %w", i, err)
			}
			if err := set.Add(der, k.Fingerprint); err != nil {
				return nil, fmt.Errorf("public key %d: %w", i, err)
			}
		}
		if s.i >= len(b) {
			break
		}
		b = b[s.i:]
		for len(b) > 0 && space(b[0]) {
			b = b[1:]
		}
	}
	if len(set) == 0 {
		return nil, errors.New("public keys: there are none, want a PublicKeyList")
	}
	return set, nil
}

// ReadKeys reads the keys in files, each as ParseKeys has it. An error about a file
// that cannot be read is an fs.PathError, others are about what is in them.
func ReadKeys(files []string) (KeySet, error) {
	var all []byte
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all = append(append(all, b...), '\n')
	}
	return ParseKeys(all)
}

// Add adds a key in DER (PKCS #1). The fingerprint must be the key's.
func (s KeySet) Add(der []byte, fingerprint string) error {
	if got := Fingerprint(der); got != fingerprint {
		return fmt.Errorf("the key's fingerprint is %s, not %q as said", got, fingerprint)
	}
	k, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return err
	}
	s[fingerprint] = k
	return nil
}
