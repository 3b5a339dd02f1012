//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/ciphertext"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Backend is a kms.Backend whose keys are in a token. It is safe for concurrent use.
// Calls wait for a session no longer than their context allows; what the device has
// begun is waited for.
type Backend struct {
	token  *token
	closed atomic.Bool
}

var _ kms.Backend = (*Backend)(nil)

// Open logs in to a token. The caller keeps pin and closes the backend. Errors are
// [*kms.ConnectError] or the context's; a login that comes too late is ended.
func Open(ctx context.Context, where Token, pin secret.Bytes, o Options) (*Backend, error) {
	type outcome struct {
		t   *token
		err error
	}
	pin = secret.Copy(pin.Expose()) // the caller's may be wiped before the device answers
	done := make(chan outcome, 1)
	go func() {
		defer pin.Destroy()
		t, err := openToken(ctx, where, pin, o)
		done <- outcome{t, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return &Backend{token: r.t}, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.t.leave()
			}
		}()
		return nil, fmt.Errorf("log in to token %q: %w", where.Label, ctx.Err())
	}
}

// Close ends the use of the token: whatever is asked afterwards is kms.ErrSealed.
// Operations under way go on; the last backend of a token logs out when they are over.
func (b *Backend) Close() error {
	if !b.closed.Swap(true) {
		b.token.leave()
	}
	return nil
}

func (b *Backend) do(ctx context.Context, op func(*session) error) error {
	if b.closed.Load() {
		return unreachable(errClosed)
	}
	return b.token.do(ctx, op)
}

// Ready implements kms.Backend: it asks the device.
func (b *Backend) Ready(ctx context.Context) error {
	return b.do(ctx, (*session).checkLogin)
}

func unsupported(s keyspec.Spec, what string) error {
	return fmt.Errorf("%s with a key of spec %q in a token: %w", what, s, keyspec.ErrUnsupported)
}

// Generate implements kms.Backend, for SYMMETRIC_DEFAULT.
func (b *Backend) Generate(ctx context.Context, m kms.MaterialRef) (handle, public []byte, err error) {
	if m.Spec != keyspec.SymmetricDefault {
		return nil, nil, unsupported(m.Spec, "generate")
	}
	if err := checkRef(m); err != nil {
		return nil, nil, err
	}
	err = b.do(ctx, func(s *session) error {
		handle, err = s.generate(m)
		return err
	})
	return handle, nil, err
}

func checkRef(m kms.MaterialRef) error {
	for _, id := range []string{m.KeyID, m.ID} {
		if id == "" || len(id) > ciphertext.MaxField {
			return fmt.Errorf("key id or material id has %d bytes, want 1 to %d", len(id), ciphertext.MaxField)
		}
	}
	return nil
}

// Import implements kms.Backend by refusing: a key in a token is made there.
func (b *Backend) Import(_ context.Context, m kms.MaterialRef, _ secret.Bytes) (handle, public []byte, err error) {
	return nil, nil, unsupported(m.Spec, "import")
}

// Destroy implements kms.Backend: the key is gone from the token.
func (b *Backend) Destroy(ctx context.Context, m kms.MaterialRef) error {
	if m.Spec != keyspec.SymmetricDefault || checkRef(m) != nil {
		return nil // there never was one
	}
	id := newKeyID(m)
	return b.do(ctx, func(s *session) error {
		s.forget(id)
		objects, err := s.keysOf(id)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := s.destroy(o); err != nil {
				return err
			}
		}
		return nil
	})
}

// Seal implements kms.Backend: a nonce, the ciphertext and the tag of AES-256-GCM.
func (b *Backend) Seal(ctx context.Context, m kms.MaterialRef, aad []byte, plaintext secret.Bytes) (sealed []byte, err error) {
	err = b.withKey(ctx, m, aad, func(s *session, key p11.ObjectHandle) error {
		sealed, err = s.lib.encrypt(s.SessionHandle, key, newNonce(), aad, plaintext.Expose())
		if err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		return nil
	})
	return sealed, err
}

// Open implements kms.Backend.
func (b *Backend) Open(ctx context.Context, m kms.MaterialRef, aad, sealed []byte) (plaintext secret.Bytes, err error) {
	err = b.withKey(ctx, m, aad, func(s *session, key p11.ObjectHandle) error {
		if len(sealed) < nonceSize+tagSize {
			return kms.ErrNotOurs
		}
		var begun bool
		plaintext, begun, err = s.lib.decrypt(s.SessionHandle, key, aad, sealed)
		switch {
		case err == nil:
			return nil
		case !begun || lost(err) || stale(err):
			return fmt.Errorf("decrypt: %w", err)
		}
		// Not every device says plainly that a ciphertext is bad, and a broken device
		// must not make good ones look bad: what does the handle do?
		if ok, probe := s.opens(key, m); probe != nil || !ok {
			return fmt.Errorf("decrypt: %w", errors.Join(err, probe))
		}
		return fmt.Errorf("ciphertext under material %s of key %s: %w", m.ID, m.KeyID, kms.ErrNotOurs)
	})
	return plaintext, err
}

func (b *Backend) withKey(ctx context.Context, m kms.MaterialRef, aad []byte, use func(*session, p11.ObjectHandle) error) error {
	if m.Spec != keyspec.SymmetricDefault {
		return unsupported(m.Spec, "symmetric encryption")
	}
	if len(aad) == 0 {
		return errors.New("associated data is empty")
	}
	return b.do(ctx, func(s *session) error {
		return s.with(m, func(key p11.ObjectHandle) error { return use(s, key) })
	})
}

// Random implements kms.Backend by the device's generator.
func (b *Backend) Random(ctx context.Context, n int) (secret.Bytes, error) {
	out := secret.New(make([]byte, n))
	err := b.do(ctx, func(s *session) error {
		if err := s.lib.random(s.SessionHandle, out.Expose()); err != nil {
			return fmt.Errorf("generate random: %w", err)
		}
		return nil
	})
	if err != nil {
		out.Destroy()
		return secret.Bytes{}, err
	}
	return out, nil
}

// Sign implements kms.Backend by refusing, as what follows.
func (b *Backend) Sign(_ context.Context, m kms.MaterialRef, _ keyspec.SigningAlgorithm, _ keyspec.MessageType, _ []byte) ([]byte, error) {
	return nil, unsupported(m.Spec, "sign")
}

// Decrypt implements kms.Backend.
func (b *Backend) Decrypt(_ context.Context, m kms.MaterialRef, _ keyspec.EncryptionAlgorithm, _ []byte) (secret.Bytes, error) {
	return secret.Bytes{}, unsupported(m.Spec, "asymmetric encryption")
}

// MAC implements kms.Backend.
func (b *Backend) MAC(_ context.Context, m kms.MaterialRef, _ keyspec.MACAlgorithm, _ []byte) ([]byte, error) {
	return nil, unsupported(m.Spec, "MAC")
}

// Agree implements kms.Backend.
func (b *Backend) Agree(_ context.Context, m kms.MaterialRef, _ []byte) (secret.Bytes, error) {
	return secret.Bytes{}, unsupported(m.Spec, "key agreement")
}
