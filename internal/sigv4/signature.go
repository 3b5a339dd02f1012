package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"

	"cardea/internal/secret"
)

// Lengths of a secret access key, in bytes. AWS's have 40. With fewer than ten
// the first HMAC's key would be shorter than FIPS 140-3 allows (SP 800-131A).
const (
	minSecret = 16
	maxSecret = 128
)

// checkSignature looks up the access key and compares. For one that does not
// exist the same is done with a secret that nobody knows, so that the time taken
// does not tell. What is told first is what proves least: who cannot sign does
// not learn whether a token was right or has expired.
func (v *Verifier) checkSignature(r *http.Request, c claim, s *scratch) (Identity, error) {
	ctx := r.Context()
	credential, err := v.o.Keys.Lookup(ctx, c.accessKeyID)
	known := err == nil
	if err != nil && !errors.Is(err, ErrUnknownKey) {
		return Identity{}, fmt.Errorf("look up access key %s: %w", c.accessKeyID, err)
	}
	if known && credential.SecretID == "" {
		return Identity{}, fmt.Errorf("look up access key %s: its secret has no id", c.accessKeyID)
	}
	var key [sha256.Size]byte
	defer clear(key[:])
	if err = v.signingKey(ctx, c, credential, &known, &key); err != nil {
		return Identity{}, err
	}
	s.stringToSign(c)
	mac := hmac.New(sha256.New, key[:])
	mac.Write(s.buf)
	n := len(s.buf)
	s.buf = mac.Sum(s.buf)
	matches := subtle.ConstantTimeCompare(s.buf[n:], c.signature[:]) == 1

	var token [sha256.Size]byte
	if c.token != "" {
		token = sha256.Sum256([]byte(c.token))
	}
	tokenMatches := subtle.ConstantTimeCompare(token[:], credential.SessionTokenHash[:]) == 1

	switch {
	case !known:
		return Identity{}, refuse(UnrecognizedClient, textUnknown)
	case !matches:
		return Identity{}, mismatch(r.Host, c)
	case !tokenMatches:
		return Identity{}, refuse(UnrecognizedClient, textUnknown)
	case !credential.ExpiresAt.IsZero() && !v.o.Now().Before(credential.ExpiresAt):
		return Identity{}, refuse(ExpiredToken, textExpired)
	}
	return Identity{
		AccessKeyID: c.accessKeyID, Principal: credential.Principal,
		Temporary: credential.SessionTokenHash != [sha256.Size]byte{},
		Region:    c.region, Service: c.service, Date: c.time,
		SignedHeaders: c.signedHeaders, Presigned: c.presigned,
	}, nil
}

// signingKey puts the key for c's scope into key, from the cache or by deriving
// it. known turns false if the access key went away since it was looked up.
func (v *Verifier) signingKey(ctx context.Context, c claim, credential Credential, known *bool, key *[sha256.Size]byte) error {
	name := keyName{known: *known, date: c.date, region: c.region}
	if *known {
		name.secretID = credential.SecretID
	}
	if v.cache.get(name, key) {
		return nil
	}
	from := v.stranger
	if *known {
		s, err := v.o.Keys.Secret(ctx, credential)
		switch {
		case errors.Is(err, ErrUnknownKey):
			*known = false
			return nil
		case err != nil:
			return fmt.Errorf("read the secret of access key %s: %w", c.accessKeyID, err)
		case s.Len() < minSecret || s.Len() > maxSecret:
			s.Destroy()
			return fmt.Errorf("read the secret of access key %s: its length is not %d to %d bytes", c.accessKeyID, minSecret, maxSecret)
		}
		defer s.Destroy()
		from = s
	}
	deriveKey(key, from, c.date, c.region, c.service)
	v.cache.put(name, key)
	return nil
}

// deriveKey is step 4 of the AWS documentation: four HMACs, each keyed by the last.
func deriveKey(key *[sha256.Size]byte, from secret.Bytes, date, region, service string) {
	first := make([]byte, 0, len("AWS4")+maxSecret)
	first = append(first, "AWS4"...)
	first = append(first, from.Expose()...)
	defer secret.Wipe(first[:cap(first)])
	k := first
	for _, part := range [...]string{date, region, service, terminator} {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(part))
		k = mac.Sum(key[:0])
	}
}
