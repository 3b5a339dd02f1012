package vault

import (
	"context"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"

	"cardea/internal/audit"
	"cardea/internal/iam"
	"cardea/internal/secret"
)

// fingerprintLength is the length of a fingerprint id in characters.
const fingerprintLength = 20

const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// FingerprintRequest asks for the id that stands for Data under the caller's Key.
type FingerprintRequest struct {
	Tenant string
	Data   secret.Bytes
	Key    secret.Bytes
	Wanted string // used only if the fingerprint is new; empty makes a random id
}

// Fingerprint returns the id of data, making it if it is new. What is stored is
// keyed by a key of the tenant besides the caller's, so that neither the database
// nor the caller's key is enough to test numbers against it (PCI DSS 3.5.1.1).
// Errors: *ValidationError and those of Store and KeyManager.
func (s *Service) Fingerprint(ctx context.Context, who iam.Principal, r FingerprintRequest) (string, error) {
	var id string
	err := s.do(ctx, who, OpFingerprint, Target{Tenant: r.Tenant, RequestID: RequestID(ctx)}, func(c *call) error {
		if r.Wanted != "" && !ValidFingerprintID(r.Wanted) {
			return &ValidationError{Field: "x-fingerprint-id", Reason: "must be exactly 20 alphanumeric characters"}
		}
		peer := lockerFingerprint(r.Key.Expose(), r.Data.Expose())
		defer secret.Wipe(peer) // with the caller's key it tells the number
		hashes, err := s.hashes.MACs(ctx, r.Tenant, PurposeFingerprint, peer)
		if err != nil {
			return fmt.Errorf("fingerprint hash: %w", err)
		}
		id, err = s.fingerprintID(ctx, c, r, hashes)
		c.entry.Resource.Reference = id
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// fingerprintID finds the id by the hash under any version of the key, the newest
// first, or makes one.
func (s *Service) fingerprintID(ctx context.Context, c *call, r FingerprintRequest, hashes []VersionMAC) (string, error) {
	id, under, err := s.findFingerprint(ctx, hashes)
	switch {
	case err == nil && under == 0:
		c.entry.Result = "existed"
		return id, nil
	case err == nil: // it keeps its id under the new key, too
		c.entry.Resource.Reference = id
		return s.putFingerprint(ctx, c, "rehashed", r.Tenant, hashes[0], id)
	case !errors.Is(err, ErrNotFound):
		c.entry.Result = "existed"
		return id, err
	}
	id = r.Wanted
	if id == "" {
		id = randomAlphanumeric(fingerprintLength)
	}
	c.entry.Resource.Reference = id
	// Under the oldest first: another node may not have heard of the newest yet, and
	// all must agree on one id.
	for i := len(hashes) - 1; i > 0; i-- {
		if id, err = s.putOlder(ctx, r.Tenant, hashes[i], id); err != nil {
			return "", err
		}
	}
	return s.putFingerprint(ctx, c, "created", r.Tenant, hashes[0], id)
}

// findFingerprint returns the id and under which of the hashes it is.
func (s *Service) findFingerprint(ctx context.Context, hashes []VersionMAC) (id string, under int, err error) {
	for i, h := range hashes {
		if id, err = s.store.Fingerprint(ctx, h.MAC); !errors.Is(err, ErrNotFound) {
			return id, i, err
		}
	}
	return "", 0, err
}

// putFingerprint stores id under a hash, or returns the id that stands there.
func (s *Service) putFingerprint(ctx context.Context, c *call, result, tenant string, h VersionMAC, id string) (string, error) {
	created, err := c.commit(ctx, result, func(ctx context.Context, e audit.Sealed) (created bool, err error) {
		id, created, err = s.store.PutFingerprint(ctx, tenant, h.MAC, h.Version, id, e)
		return created, err
	})
	if err != nil {
		return "", err
	}
	if !created {
		c.entry.Result = "existed"
	}
	return id, nil
}

// putOlder stores id under the hash of a replaced key, as an operation of its own.
func (s *Service) putOlder(ctx context.Context, tenant string, h VersionMAC, id string) (string, error) {
	t := Target{Tenant: tenant, Reference: id, RequestID: RequestID(ctx)}
	err := s.do(ctx, iam.System("replaced-key"), OpFingerprint, t, func(c *call) (err error) {
		id, err = s.putFingerprint(ctx, c, "created", tenant, h, id)
		return err
	})
	return id, err
}

// lockerFingerprint is the locker's own fingerprint, HMAC-SHA-512 twice, from
// which a stored one can be imported.
func lockerFingerprint(key, data []byte) (sum []byte) {
	// FIPS 140 wants keys of 112 bits, but this key is the client's, often a
	// customer id, and protects nothing: the tenant's key does.
	fips140.WithoutEnforcement(func() {
		inner := hmacSHA512(key, data)
		defer secret.Wipe(inner)
		sum = hmacSHA512(key, inner)
	})
	return sum
}

func hmacSHA512(key, data []byte) []byte {
	h := hmac.New(sha512.New, key)
	h.Write(data)
	return h.Sum(nil)
}

// ValidFingerprintID reports whether id may be asked for.
func ValidFingerprintID(id string) bool {
	if len(id) != fingerprintLength {
		return false
	}
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

// randomAlphanumeric draws n characters without modulo bias.
func randomAlphanumeric(n int) string {
	out := make([]byte, 0, n)
	var pool [64]byte
	for {
		rand.Read(pool[:])
		for _, b := range pool {
			if b &= 63; int(b) < len(alphanumeric) {
				if out = append(out, alphanumeric[b]); len(out) == n {
					return string(out)
				}
			}
		}
	}
}
