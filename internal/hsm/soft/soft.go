// Package soft is the backend of the key service that keeps keys in this process.
// It stores nothing: key material is handed to the caller as a handle, sealed under
// a key that comes from the root key, and works only where it is bound to
// (docs/spec/key-material.md).
//
// It promises that nothing works while the root key is sealed, that material in
// clear is only in a bounded cache and is wiped when it leaves it, once the last
// operation that uses it is over, and that a handle opens for its own key, material
// id and spec alone.
package soft

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cardea/internal/ciphertext"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Options are what a Backend is made of. Root is required.
type Options struct {
	// Root returns a copy of the 32-byte root key, which the backend destroys, or an
	// error while it is sealed.
	Root func() (secret.Bytes, error)
	// Unsealed reports whether there is a root key. Every operation asks, so it must
	// be fast; without it, every operation asks Root.
	Unsealed func() bool
	// CacheEntries is how many materials are kept in clear at the most; default 10,000.
	CacheEntries int
	// CacheTTL is how long one is kept; default 5 minutes, at most 1 hour.
	CacheTTL time.Duration
}

const (
	defaultEntries = 10_000
	defaultTTL     = 5 * time.Minute
	maxTTL         = time.Hour
)

// Backend is a kms.Backend, and seals secrets for kms and identity. It is safe for
// concurrent use.
type Backend struct {
	root     func() (secret.Bytes, error)
	unsealed func() bool
	cache    *cache
	closed   atomic.Bool
}

var (
	_ kms.Backend = (*Backend)(nil)
	_ kms.Secrets = (*Backend)(nil)
)

// New makes a Backend. Close it.
func New(o Options) *Backend {
	if o.CacheEntries <= 0 {
		o.CacheEntries = defaultEntries
	}
	if o.CacheTTL <= 0 {
		o.CacheTTL = defaultTTL
	}
	b := &Backend{root: o.Root, unsealed: o.Unsealed, cache: newCache(o.CacheEntries, min(o.CacheTTL, maxTTL))}
	if b.unsealed == nil {
		b.unsealed = func() bool {
			root, err := o.Root()
			root.Destroy()
			return err == nil
		}
	}
	return b
}

// Forget wipes all material that is in clear; what is in use just now, when its
// user is done with it. Call it after the root key was sealed: an operation that
// finds it sealed does the same.
func (b *Backend) Forget() { b.cache.clear() }

// Close is Forget for good: whatever is asked afterwards is kms.ErrSealed.
func (b *Backend) Close() {
	b.closed.Store(true)
	b.cache.close()
}

// Ready implements kms.Backend.
func (b *Backend) Ready(context.Context) error { return b.ready() }

func (b *Backend) ready() error {
	if !b.closed.Load() && b.unsealed() {
		return nil
	}
	b.Forget()
	return kms.ErrSealed
}

// use returns material in clear, acquired; the caller releases it.
func (b *Backend) use(m kms.MaterialRef) (*material, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	if k := b.cache.get(m); k != nil {
		return k, nil
	}
	key, err := b.openHandle(m)
	if err != nil {
		return nil, err
	}
	k := b.cache.put(m, key)
	// The root key may have been sealed, and the cache emptied, before it was put there.
	if err := b.ready(); err != nil {
		k.release()
		return nil, err
	}
	return k, nil
}

// Generate implements kms.Backend.
func (b *Backend) Generate(_ context.Context, m kms.MaterialRef) (handle, public []byte, err error) {
	if err := b.ready(); err != nil { // before an RSA key costs a second
		return nil, nil, err
	}
	material, public, err := keyspec.Generate(m.Spec)
	if err != nil {
		return nil, nil, err
	}
	defer material.Destroy()
	handle, err = b.sealHandle(m, material)
	return handle, public, err
}

// Import implements kms.Backend. Material that is not exactly a key of the spec is
// keyspec.ErrInvalidKey.
func (b *Backend) Import(_ context.Context, m kms.MaterialRef, material secret.Bytes) (handle, public []byte, err error) {
	if err := b.ready(); err != nil {
		return nil, nil, err
	}
	k, err := keyspec.ParsePrivate(m.Spec, material)
	if err != nil {
		return nil, nil, err
	}
	defer k.Destroy()
	handle, err = b.sealHandle(m, material)
	return handle, k.Public(), err
}

// Destroy implements kms.Backend: it wipes what is in clear. The handle still opens
// as long as its owner keeps it.
func (b *Backend) Destroy(_ context.Context, m kms.MaterialRef) error {
	b.cache.drop(m)
	return nil
}

// Seal implements kms.Backend by a box under the material (docs/spec/kms-ciphertext.md).
func (b *Backend) Seal(_ context.Context, m kms.MaterialRef, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	k, err := b.useSymmetric(m, aad)
	if err != nil {
		return nil, err
	}
	defer k.release()
	return ciphertext.SealBox(k.key.Symmetric(), aad, plaintext.Expose())
}

// Open implements kms.Backend.
func (b *Backend) Open(_ context.Context, m kms.MaterialRef, aad, sealed []byte) (secret.Bytes, error) {
	k, err := b.useSymmetric(m, aad)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer k.release()
	p, err := ciphertext.OpenBox(k.key.Symmetric(), aad, sealed)
	if errors.Is(err, ciphertext.ErrCorrupt) {
		return secret.Bytes{}, fmt.Errorf("ciphertext under material %s of key %s: %w", m.ID, m.KeyID, kms.ErrNotOurs)
	}
	return p, err
}

func (b *Backend) useSymmetric(m kms.MaterialRef, aad []byte) (*material, error) {
	if m.Spec.Family() != keyspec.FamilySymmetric {
		return nil, fmt.Errorf("symmetric encryption with a key of spec %s: %w", m.Spec, keyspec.ErrUnsupported)
	}
	if len(aad) == 0 {
		return nil, errors.New("associated data is empty")
	}
	return b.use(m)
}

// Sign implements kms.Backend.
func (b *Backend) Sign(_ context.Context, m kms.MaterialRef, a keyspec.SigningAlgorithm, t keyspec.MessageType, message []byte) ([]byte, error) {
	k, err := b.use(m)
	if err != nil {
		return nil, err
	}
	defer k.release()
	return k.key.Sign(a, t, message)
}

// Decrypt implements kms.Backend.
func (b *Backend) Decrypt(_ context.Context, m kms.MaterialRef, a keyspec.EncryptionAlgorithm, ciphertext []byte) (secret.Bytes, error) {
	k, err := b.use(m)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer k.release()
	return k.key.Decrypt(a, ciphertext)
}

// MAC implements kms.Backend.
func (b *Backend) MAC(_ context.Context, m kms.MaterialRef, a keyspec.MACAlgorithm, message []byte) ([]byte, error) {
	k, err := b.use(m)
	if err != nil {
		return nil, err
	}
	defer k.release()
	return k.key.MAC(a, message)
}

// Agree implements kms.Backend.
func (b *Backend) Agree(_ context.Context, m kms.MaterialRef, peer []byte) (secret.Bytes, error) {
	k, err := b.use(m)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer k.release()
	return k.key.Agree(peer)
}

// Random implements kms.Backend by the system's generator. Like all else it needs
// the root key, so that a sealed service gives nothing out.
func (b *Backend) Random(_ context.Context, n int) (secret.Bytes, error) {
	if err := b.ready(); err != nil {
		return secret.Bytes{}, err
	}
	if n < 1 {
		return secret.Bytes{}, fmt.Errorf("%d random bytes: want at least 1", n)
	}
	return secret.Random(n), nil
}
