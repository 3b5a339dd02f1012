package fileenc

import (
	"context"
	"fmt"
	"io"
	"maps"

	"cardea/internal/kmsclient"
)

// RewrapOptions are how a message gets other keys.
type RewrapOptions struct {
	From DecryptOptions
	// To are the keys that open the message afterwards, and no other.
	To []kmsclient.Key
	// Sign signs the new message; one that is signed stays so in any case.
	Sign bool
	// FrameLength is in bytes; 0 keeps that of the message, if it is one that is
	// written.
	FrameLength int
}

// Rewrap writes the message that r has as a new one, of the same content and
// encryption context, that only the keys To open. The old one is authenticated to its
// end. The data key is a new one: in this format a header is authenticated under a
// nonce that never changes, so a second header for the same data key would tell who
// has both the key by which headers and frames are authenticated (SP 800-38D 8; see
// docs/spec/file-encryption.md). Plaintext passes through memory only.
func Rewrap(ctx context.Context, kms KMS, w io.Writer, r io.Reader, o RewrapOptions) (*Opened, *Header, error) {
	m, err := open(ctx, kms, r, o.From)
	if err != nil {
		return nil, nil, err
	}
	to := EncryptOptions{Keys: o.To, Context: map[string]string{}, Required: maps.Clone(m.required), Sign: o.Sign || m.Header.Suite.Signed(), FrameLength: o.FrameLength}
	for _, p := range m.Header.Context {
		if p.Key != publicKeyPair {
			to.Context[p.Key] = p.Value
		}
	}
	if to.FrameLength == 0 && m.Header.FrameLength <= MaxFrameLength {
		to.FrameLength = int(m.Header.FrameLength) // of a body in one piece 0
	}
	// Either side ends the other by its error, so the caller's side does not wait for a
	// read that is under way.
	content, plain := io.Pipe()
	read := make(chan error, 1)
	go func() {
		err := m.body(ctx, plain)
		plain.CloseWithError(err)
		read <- err
	}()
	h, n, err := Encrypt(ctx, kms, w, content, to)
	if err != nil {
		content.CloseWithError(err)
		return nil, nil, err
	}
	if err := <-read; err != nil {
		return nil, nil, err
	}
	if n != m.Size {
		return nil, nil, fmt.Errorf("%d bytes were read and %d written", m.Size, n)
	}
	return &m.Opened, h, nil
}
