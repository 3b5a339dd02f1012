package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/note"

	"cardea/internal/secret"
)

// Encoded keys (C2SP signed-note): algEd25519 before the seed or public key.
const (
	algEd25519 = 1
	keyPrefix  = "PRIVATE+KEY+"
)

var errSigningKey = errors.New("malformed checkpoint signing key")

// GenerateSigningKey makes an Ed25519 key (FIPS 186-5) for the log of this
// origin. The signer goes into a secret file, the verifier to whoever verifies.
// Both are encoded as note.GenerateKey does it.
func GenerateSigningKey(origin string) (signer secret.Bytes, verifier string, err error) {
	if _, ok := nodeOf(origin); !ok {
		return secret.Bytes{}, "", fmt.Errorf("generate checkpoint signing key: origin %q: want cardea/ and the name of a node", origin)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate checkpoint signing key: %w", err)
	}
	defer secret.Wipe(private)
	verifier, err = note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate checkpoint signing key: %w", err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate checkpoint signing key: %w", err)
	}
	key := append([]byte{algEd25519}, private.Seed()...)
	defer secret.Wipe(key)
	encoded := fmt.Appendf(make([]byte, 0, 256), "%s%s+%08x+", keyPrefix, origin, v.KeyHash())
	return secret.New(base64.StdEncoding.AppendEncode(encoded, key)), verifier, nil
}

// Signer signs the checkpoints of one log. It is safe for concurrent use, but for
// Destroy.
type Signer struct {
	origin   string
	verifier string
	hash     uint32
	key      secret.Bytes // ed25519.PrivateKey
}

// NewSigner reads a key of GenerateSigningKey; one newline may follow it, as in a
// file. The caller keeps encoded, and may destroy it.
//
// note.NewSigner would do, but it takes the key as a string, which cannot be
// wiped; so the encoding is read here, and note only sees the interface.
func NewSigner(encoded secret.Bytes) (*Signer, error) {
	text, ok := bytes.CutPrefix(bytes.TrimSuffix(encoded.Expose(), []byte("\n")), []byte(keyPrefix))
	name, text, ok1 := bytes.Cut(text, []byte("+"))
	hash16, key64, ok2 := bytes.Cut(text, []byte("+"))
	origin := string(name)
	if _, named := nodeOf(origin); !ok || !ok1 || !ok2 || !named || len(hash16) != 8 || bytes.ContainsAny(key64, "\r\n") {
		return nil, errSigningKey
	}
	hash, err := strconv.ParseUint(string(hash16), 16, 32)
	if err != nil {
		return nil, errSigningKey
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(key64)))
	defer secret.Wipe(key)
	n, err := base64.StdEncoding.Strict().Decode(key, key64)
	if err != nil || n != 1+ed25519.SeedSize || key[0] != algEd25519 {
		return nil, errSigningKey
	}
	private := ed25519.NewKeyFromSeed(key[1:n])
	s := &Signer{origin: origin, hash: uint32(hash), key: secret.New(private)}
	public, _ := private.Public().(ed25519.PublicKey)
	if s.verifier, err = note.NewEd25519VerifierKey(origin, public); err != nil {
		return nil, fmt.Errorf("%w: %w", errSigningKey, err)
	}
	v, err := note.NewVerifier(s.verifier)
	if err != nil || v.KeyHash() != s.hash || fmt.Sprintf("%08x", s.hash) != string(hash16) {
		s.Destroy()
		return nil, fmt.Errorf("%w: its hash is not that of the key", errSigningKey)
	}
	return s, nil
}

// Origin is the log whose checkpoints it signs.
func (s *Signer) Origin() string { return s.origin }

// Verifier is the public key that others verify with.
func (s *Signer) Verifier() string { return s.verifier }

// Sign returns the signed checkpoint. An empty Origin is the signer's; another
// one's is refused. That the checkpoint extends all that were signed before is
// for the caller: sign the committed head only.
func (s *Signer) Sign(c Checkpoint) ([]byte, error) {
	if c.Origin == "" {
		c.Origin = s.origin
	}
	if c.Origin != s.origin {
		return nil, fmt.Errorf("sign checkpoint of %s: the key is that of %s", c.Origin, s.origin)
	}
	if y := c.Time.UTC().Year(); !c.Time.IsZero() && (y < 1970 || y > 9999) {
		return nil, fmt.Errorf("sign checkpoint: %w: time", ErrMalformedCheckpoint)
	}
	text, err := c.text()
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, noteSigner{s})
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// Destroy wipes the key. Sign fails afterwards.
func (s *Signer) Destroy() { s.key.Destroy() }

// noteSigner is the signer as note wants it.
type noteSigner struct{ s *Signer }

func (n noteSigner) Name() string    { return n.s.origin }
func (n noteSigner) KeyHash() uint32 { return n.s.hash }

func (n noteSigner) Sign(msg []byte) ([]byte, error) {
	key := n.s.key.Expose()
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("the signing key was destroyed")
	}
	return ed25519.Sign(key, msg), nil
}
