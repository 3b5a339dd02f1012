package kmstest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"cardea/internal/hsm/soft"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Backend is the soft backend with a root key that can be sealed and with faults on
// request.
type Backend struct {
	*soft.Backend
	sealed atomic.Bool
	fault  atomic.Pointer[func(call string) error]
}

// NewBackend makes one with a root key of its own, unsealed.
func NewBackend(t testing.TB) *Backend {
	t.Helper()
	b, root := &Backend{}, secret.Random(32)
	b.Backend = soft.New(soft.Options{
		Root: func() (secret.Bytes, error) {
			if b.sealed.Load() {
				return secret.Bytes{}, errors.New("sealed")
			}
			return secret.Copy(root.Expose()), nil
		},
		Unsealed: func() bool { return !b.sealed.Load() },
	})
	t.Cleanup(b.Close)
	return b
}

// SealRoot takes the root key away, or gives it back.
func (b *Backend) SealRoot(sealed bool) { b.sealed.Store(sealed) }

// Fail makes calls fail, as Store.Fail does.
func (b *Backend) Fail(f func(call string) error) {
	if f == nil {
		b.fault.Store(nil)
		return
	}
	b.fault.Store(&f)
}

func (b *Backend) fails(call string) error {
	if f := b.fault.Load(); f != nil {
		return (*f)(call)
	}
	return nil
}

// Ready implements kms.Backend, as do the methods below.
func (b *Backend) Ready(ctx context.Context) error {
	if err := b.fails("Ready"); err != nil {
		return err
	}
	return b.Backend.Ready(ctx)
}

func (b *Backend) Generate(ctx context.Context, m kms.MaterialRef) (handle, public []byte, err error) {
	if err := b.fails("Generate"); err != nil {
		return nil, nil, err
	}
	return b.Backend.Generate(ctx, m)
}

func (b *Backend) Import(ctx context.Context, m kms.MaterialRef, material secret.Bytes) (handle, public []byte, err error) {
	if err := b.fails("Import"); err != nil {
		return nil, nil, err
	}
	return b.Backend.Import(ctx, m, material)
}

func (b *Backend) Destroy(ctx context.Context, m kms.MaterialRef) error {
	if err := b.fails("Destroy"); err != nil {
		return err
	}
	return b.Backend.Destroy(ctx, m)
}

func (b *Backend) Seal(ctx context.Context, m kms.MaterialRef, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	if err := b.fails("Seal"); err != nil {
		return nil, err
	}
	return b.Backend.Seal(ctx, m, aad, plaintext)
}

func (b *Backend) Open(ctx context.Context, m kms.MaterialRef, aad, sealed []byte) (secret.Bytes, error) {
	if err := b.fails("Open"); err != nil {
		return secret.Bytes{}, err
	}
	return b.Backend.Open(ctx, m, aad, sealed)
}

func (b *Backend) Sign(ctx context.Context, m kms.MaterialRef, a keyspec.SigningAlgorithm, t keyspec.MessageType, message []byte) ([]byte, error) {
	if err := b.fails("Sign"); err != nil {
		return nil, err
	}
	return b.Backend.Sign(ctx, m, a, t, message)
}

func (b *Backend) Decrypt(ctx context.Context, m kms.MaterialRef, a keyspec.EncryptionAlgorithm, sealed []byte) (secret.Bytes, error) {
	if err := b.fails("Decrypt"); err != nil {
		return secret.Bytes{}, err
	}
	return b.Backend.Decrypt(ctx, m, a, sealed)
}

func (b *Backend) MAC(ctx context.Context, m kms.MaterialRef, a keyspec.MACAlgorithm, message []byte) ([]byte, error) {
	if err := b.fails("MAC"); err != nil {
		return nil, err
	}
	return b.Backend.MAC(ctx, m, a, message)
}

func (b *Backend) Agree(ctx context.Context, m kms.MaterialRef, peer []byte) (secret.Bytes, error) {
	if err := b.fails("Agree"); err != nil {
		return secret.Bytes{}, err
	}
	return b.Backend.Agree(ctx, m, peer)
}

func (b *Backend) Random(ctx context.Context, n int) (secret.Bytes, error) {
	if err := b.fails("Random"); err != nil {
		return secret.Bytes{}, err
	}
	return b.Backend.Random(ctx, n)
}

var (
	_ kms.Backend = (*Backend)(nil)
	_ kms.Secrets = (*Backend)(nil)
)
