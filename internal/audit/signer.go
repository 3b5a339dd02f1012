package audit

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/notekey"
	"cardea/internal/secret"
)

// GenerateSigningKey makes an Ed25519 key (FIPS 186-5) for the log of this
// origin. The signer goes into a secret file, the verifier to whoever verifies.
// Both are encoded as note.GenerateKey does it.
func GenerateSigningKey(origin string) (signer secret.Bytes, verifier string, err error) {
	if _, ok := nodeOf(origin); !ok {
		return secret.Bytes{}, "", fmt.Errorf("generate checkpoint signing key: origin %q: want cardea/ and the name of a node", origin)
	}
	return notekey.Generate(origin)
}

// Signer signs the checkpoints of one log. It is safe for concurrent use, but for
// Destroy.
type Signer struct{ key signingKey }

// signingKey is the key of a signer, here (localKey) or elsewhere (remoteKey).
type signingKey interface {
	Name() string
	Verifier() string
	// sign gives the text as a signed note.
	sign(ctx context.Context, text string) ([]byte, error)
	Destroy()
}

// localKey is a key in this process.
type localKey struct{ *notekey.Signer }

func (k localKey) sign(_ context.Context, text string) ([]byte, error) {
	return note.Sign(&note.Note{Text: text}, k)
}

// NewSigner reads a key of GenerateSigningKey; one newline may follow it, as in a
// file. The caller keeps encoded, and may destroy it.
func NewSigner(encoded secret.Bytes) (*Signer, error) {
	key, err := notekey.Parse(encoded)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	if _, ok := nodeOf(key.Name()); !ok {
		key.Destroy()
		return nil, fmt.Errorf("checkpoint key: %w: it is not named after a node", notekey.ErrMalformed)
	}
	return &Signer{localKey{key}}, nil
}

// Origin is the log whose checkpoints it signs.
func (s *Signer) Origin() string { return s.key.Name() }

// Verifier is the public key that others verify with; empty if it is elsewhere and was
// not asked for yet.
func (s *Signer) Verifier() string { return s.key.Verifier() }

// Remote reports whether the key is elsewhere, so that signing may fail for a while.
func (s *Signer) Remote() bool {
	_, remote := s.key.(*remoteKey)
	return remote
}

// Identify asks for the public key if it is elsewhere and was not recorded yet, and
// records it. Sign does so too.
func (s *Signer) Identify(ctx context.Context) error {
	k, remote := s.key.(*remoteKey)
	if !remote {
		return nil
	}
	_, err := k.known(ctx)
	return err
}

// Sign returns the signed checkpoint. An empty Origin is the signer's; another
// one's is refused. That the checkpoint extends all that were signed before is
// for the caller: sign the committed head only.
func (s *Signer) Sign(c Checkpoint) ([]byte, error) {
	return s.SignContext(context.Background(), c)
}

// SignContext is Sign until ctx ends, for a key that is elsewhere.
func (s *Signer) SignContext(ctx context.Context, c Checkpoint) ([]byte, error) {
	if c.Origin == "" {
		c.Origin = s.Origin()
	}
	if c.Origin != s.Origin() {
		return nil, fmt.Errorf("sign checkpoint of %s: the key is that of %s", c.Origin, s.Origin())
	}
	if y := c.Time.UTC().Year(); !c.Time.IsZero() && (y < 1970 || y > 9999) {
		return nil, fmt.Errorf("sign checkpoint: %w: time", ErrMalformedCheckpoint)
	}
	text, err := c.text()
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	signed, err := s.key.sign(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// Destroy wipes a key that is here. Sign fails afterwards.
func (s *Signer) Destroy() { s.key.Destroy() }
