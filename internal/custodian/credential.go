package custodian

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"cardea/internal/secret"
)

// Errors of custodian credentials.
var (
	// ErrMalformedToken is text that no [NewToken] returned: a typing error.
	ErrMalformedToken = errors.New("malformed custodian token")
	// ErrBadToken is a token that no credential of the tenant matches.
	ErrBadToken = errors.New("custodian token is not valid here")
	// ErrExpired is the token of a credential whose time is over.
	ErrExpired = errors.New("custodian token has expired")
)

// Credential is how a custodian of a tenant shows who he is. It holds the hash of
// his token, which nobody but he keeps.
type Credential struct {
	Tenant     string
	Name       string // of the custodian, unique in the tenant
	TokenHash  [32]byte
	ShareIndex int // the part that he was given; 0 = none
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero = never
}

const (
	tokenPrefix = "cardea-custodian-"
	tokenRandom = 32
	tokenSize   = len(tokenPrefix) + (tokenRandom+4)/3*4 // 65
	maxName     = 64
)

// NewToken makes a random token of 65 characters and the hash to keep of it. The
// caller hands the token to its custodian and destroys it.
func NewToken() (secret.Bytes, [32]byte) {
	r := secret.Random(tokenRandom)
	defer r.Destroy()
	raw := binary.BigEndian.AppendUint32(append(make([]byte, 0, tokenRandom+4), r.Expose()...), tokenSum(r.Expose()))
	defer secret.Wipe(raw)
	token := base64.RawURLEncoding.AppendEncode(append(make([]byte, 0, tokenSize), tokenPrefix...), raw)
	return secret.New(token), sha256.Sum256(token)
}

// HashToken is what a [Credential] keeps of a token, or [ErrMalformedToken] if
// token cannot be one. The token has 256 random bits, so one round of SHA-256
// hides it. The caller keeps token.
func HashToken(token secret.Bytes) ([32]byte, error) {
	body, ok := bytes.CutPrefix(token.Expose(), []byte(tokenPrefix))
	if !ok || token.Len() != tokenSize {
		return [32]byte{}, ErrMalformedToken
	}
	raw := make([]byte, tokenRandom+4)
	defer secret.Wipe(raw)
	// Decode skips line breaks, so the size of what it wrote counts too.
	if n, err := base64.RawURLEncoding.Decode(raw, body); err != nil || n != len(raw) {
		return [32]byte{}, ErrMalformedToken
	}
	if binary.BigEndian.Uint32(raw[tokenRandom:]) != tokenSum(raw[:tokenRandom]) {
		return [32]byte{}, ErrMalformedToken
	}
	return sha256.Sum256(token.Expose()), nil
}

// tokenSum finds typing errors. It protects nothing.
func tokenSum(random []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(tokenPrefix)), crc32.IEEETable, random)
}

// Validate refuses a credential that must not be stored; the error names the field.
func (c Credential) Validate() error {
	if c.Tenant == "" || len(c.Tenant) > maxTenant {
		return fmt.Errorf("custodian: tenant has %d bytes, want 1 to %d", len(c.Tenant), maxTenant)
	}
	if c.Name == "" || len(c.Name) > maxName {
		return fmt.Errorf("custodian: name has %d bytes, want 1 to %d", len(c.Name), maxName)
	}
	for _, r := range c.Name {
		// Names go to logs, the audit log and the keys of a Guard.
		if r <= ' ' || r > '~' || r == '/' {
			return errors.New("custodian: name has a character other than visible ASCII, or a slash")
		}
	}
	if c.ShareIndex < 0 || c.ShareIndex > maxShares {
		return fmt.Errorf("custodian %q: share index %d, want 0 to %d", c.Name, c.ShareIndex, maxShares)
	}
	if c.TokenHash == [32]byte{} {
		return fmt.Errorf("custodian %q: has no token hash", c.Name)
	}
	if !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(c.CreatedAt) {
		return fmt.Errorf("custodian %q: expires before it is created", c.Name)
	}
	return nil
}

// Authenticate finds the credential of a tenant that token belongs to, in time
// that does not depend on which one. Errors: [ErrMalformedToken], [ErrBadToken],
// [ErrExpired]. Credentials of other tenants are skipped.
func Authenticate(credentials []Credential, tenant string, token secret.Bytes, now time.Time) (Credential, error) {
	hash, err := HashToken(token)
	if err != nil {
		return Credential{}, err
	}
	found := -1
	for i, c := range credentials {
		if subtle.ConstantTimeCompare(c.TokenHash[:], hash[:]) == 1 && c.Tenant == tenant {
			found = i
		}
	}
	if found < 0 {
		return Credential{}, ErrBadToken
	}
	c := credentials[found]
	if !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt) {
		return Credential{}, fmt.Errorf("custodian %q: %w", c.Name, ErrExpired)
	}
	return c, nil
}
