// Package notekey makes and reads Ed25519 keys (FIPS 186-5) that sign notes (C2SP
// signed-note), encoded as golang.org/x/mod/sumdb/note has them.
//
// It promises that a private key is never a string: note itself would take it as
// one, which cannot be wiped, so the encoding is read here.
package notekey

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

// ErrMalformed says that an encoded private key is none.
var ErrMalformed = errors.New("malformed signing key")

// Generate makes a key with a name. The signer goes into a secret file, the
// verifier to whoever verifies. The name must be one of a note: not empty, without
// white space and plus signs.
func Generate(name string) (signer secret.Bytes, verifier string, err error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate signing key: %w", err)
	}
	defer secret.Wipe(private)
	verifier, err = note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate signing key: %w", err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return secret.Bytes{}, "", fmt.Errorf("generate signing key: %w", err)
	}
	key := append([]byte{algEd25519}, private.Seed()...)
	defer secret.Wipe(key)
	encoded := fmt.Appendf(make([]byte, 0, 256), "%s%s+%08x+", keyPrefix, name, v.KeyHash())
	return secret.New(base64.StdEncoding.AppendEncode(encoded, key)), verifier, nil
}

// Signer is a key that signs notes: a note.Signer. It is safe for concurrent use,
// but for Destroy.
type Signer struct {
	name     string
	verifier string
	hash     uint32
	key      secret.Bytes // ed25519.PrivateKey
}

var _ note.Signer = (*Signer)(nil)

// Parse reads a key of Generate; one newline may follow it, as in a file. The
// caller keeps encoded, and may destroy it. Errors wrap ErrMalformed.
func Parse(encoded secret.Bytes) (*Signer, error) {
	text, ok := bytes.CutPrefix(bytes.TrimSuffix(encoded.Expose(), []byte("\n")), []byte(keyPrefix))
	name, text, ok1 := bytes.Cut(text, []byte("+"))
	hash16, key64, ok2 := bytes.Cut(text, []byte("+"))
	if !ok || !ok1 || !ok2 || len(name) == 0 || len(hash16) != 8 || bytes.ContainsAny(key64, "\r\n") {
		return nil, ErrMalformed
	}
	hash, err := strconv.ParseUint(string(hash16), 16, 32)
	if err != nil {
		return nil, ErrMalformed
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(key64)))
	defer secret.Wipe(key)
	n, err := base64.StdEncoding.Strict().Decode(key, key64)
	if err != nil || n != 1+ed25519.SeedSize || key[0] != algEd25519 {
		return nil, ErrMalformed
	}
	private := ed25519.NewKeyFromSeed(key[1:n])
	s := &Signer{name: string(name), hash: uint32(hash), key: secret.New(private)}
	public, _ := private.Public().(ed25519.PublicKey)
	if s.verifier, err = note.NewEd25519VerifierKey(s.name, public); err != nil {
		s.Destroy()
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	v, err := note.NewVerifier(s.verifier)
	if err != nil || v.KeyHash() != s.hash || fmt.Sprintf("%08x", s.hash) != string(hash16) {
		s.Destroy()
		return nil, fmt.Errorf("%w: its hash is not that of the key", ErrMalformed)
	}
	return s, nil
}

// Name is the key's.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return s.hash }

// Verifier is the public key that others verify with.
func (s *Signer) Verifier() string { return s.verifier }

// Sign implements note.Signer.
func (s *Signer) Sign(msg []byte) ([]byte, error) {
	key := s.key.Expose()
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("the signing key was destroyed")
	}
	return ed25519.Sign(key, msg), nil
}

// Destroy wipes the key. Sign fails afterwards.
func (s *Signer) Destroy() { s.key.Destroy() }
