package identity

import (
	"context"
	"crypto/sha256"
	"time"

	"cardea/internal/secret"
)

// Credentials are temporary credentials, told this once. Whoever gets them destroys
// them.
type Credentials struct {
	AccessKeyID  string // ASIA…
	Secret       secret.Bytes
	SessionToken secret.Bytes // opaque; 64 characters
	ExpiresAt    time.Time
}

// Destroy wipes what is secret.
func (c *Credentials) Destroy() {
	c.Secret.Destroy()
	c.SessionToken.Destroy()
}

// newSession completes the row of temporary credentials that last some seconds,
// and tells them.
func (c *call) newSession(ctx context.Context, b *sessionBody, seconds int, out *Credentials) (*stored[sessionBody], error) {
	id := newKeyID(prefixSession)
	out.AccessKeyID, out.Secret, out.SessionToken = id, newSecretKey(), newToken(48)
	sealed, err := c.s.seal(ctx, kindSession, b.Account, id, out.Secret)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(out.SessionToken.Expose())
	b.V, b.Secret, b.Token, b.Issued = rowVersion, sealed, hash[:], moment(c.at)
	out.ExpiresAt = b.Issued.Add(time.Duration(seconds) * time.Second)
	c.result("accessKeyId", id)
	c.result("expiration", out.ExpiresAt.Format(time.RFC3339))
	return &stored[sessionBody]{Name: Name{kindSession, "", id}, ExpiresAt: out.ExpiresAt, Body: b}, nil
}
