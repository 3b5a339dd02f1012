package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"
)

// ErrReplacedKey says that a signing key is not the one that was recorded.
var ErrReplacedKey = errors.New("it is not the signing key that was recorded for this log")

// RemoteKey is an Ed25519 key that is not in this process, such as one in a KMS. Its
// methods may be slow and may fail; they are called off the path of requests.
type RemoteKey interface {
	// Public gives the public key.
	Public(ctx context.Context) (ed25519.PublicKey, error)
	// Sign signs the message as it is (RFC 8032, Ed25519: not its digest).
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// RemoteOptions are what NewRemoteSigner needs.
type RemoteOptions struct {
	Origin string
	Key    RemoteKey
	// Verifier is the public key as it was recorded, encoded as by GenerateSigningKey;
	// empty if it was not yet. A key that is another signs nothing.
	Verifier string
	// Record keeps the public key, before it first signs. An error is that of Sign,
	// and Record is called again.
	Record func(verifier string) error
}

// NewRemoteSigner is a signer whose key is elsewhere. It asks for nothing yet, so that
// a key service that does not answer delays checkpoints and nothing else. Every
// signature is verified under the recorded key before it is used.
func NewRemoteSigner(o RemoteOptions) (*Signer, error) {
	if _, ok := nodeOf(o.Origin); !ok {
		return nil, fmt.Errorf("checkpoint key: origin %q: want cardea/ and the name of a node", o.Origin)
	}
	k := &remoteKey{o: o}
	if o.Verifier == "" {
		return &Signer{k}, nil
	}
	v, err := note.NewVerifier(o.Verifier)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: recorded key: %w", err)
	}
	if v.Name() != o.Origin {
		return nil, fmt.Errorf("checkpoint key: the recorded key is that of %s, not of %s", v.Name(), o.Origin)
	}
	k.verifier = v
	return &Signer{k}, nil
}

// remoteKey is the key of a remote signer.
type remoteKey struct {
	o RemoteOptions

	mu       sync.Mutex    // guards verifier, held while the key is asked for
	verifier note.Verifier // nil until it is known
}

func (k *remoteKey) Name() string { return k.o.Origin }

func (k *remoteKey) Verifier() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.o.Verifier
}

// known gives the recorded key, which it asks for and records the first time.
func (k *remoteKey) known(ctx context.Context) (note.Verifier, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.verifier != nil {
		return k.verifier, nil
	}
	public, err := k.o.Key.Public(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the public key: %w", err)
	}
	encoded, err := note.NewEd25519VerifierKey(k.o.Origin, public)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(encoded)
	if err != nil {
		return nil, err
	}
	if err := k.o.Record(encoded); err != nil {
		return nil, fmt.Errorf("record the public key: %w", err)
	}
	k.o.Verifier, k.verifier = encoded, v
	return v, nil
}

// sign implements signingKey.
func (k *remoteKey) sign(ctx context.Context, text string) ([]byte, error) {
	v, err := k.known(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := k.o.Key.Sign(ctx, []byte(text))
	if err != nil {
		return nil, err
	}
	if !v.Verify([]byte(text), signature) {
		return nil, ErrReplacedKey
	}
	return note.Sign(&note.Note{Text: text}, signed{v, signature})
}

func (k *remoteKey) Destroy() {}

// signed is a note.Signer that has signed.
type signed struct {
	note.Verifier
	signature []byte
}

// Sign implements note.Signer.
func (s signed) Sign([]byte) ([]byte, error) { return s.signature, nil }
