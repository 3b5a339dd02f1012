package kmstest

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/ciphertext"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// memory is a kms.Backend whose handles are the material itself: no protection at
// all, which tests of the key service do not need.
type memory struct{ fault func(call string) error }

func (b *memory) ready(call string) error {
	if b.fault != nil {
		return b.fault(call)
	}
	return nil
}

func (b *memory) Ready(context.Context) error { return b.ready("Ready") }

func (b *memory) Generate(_ context.Context, m kms.MaterialRef) (handle, public []byte, err error) {
	if err := b.ready("Generate"); err != nil {
		return nil, nil, err
	}
	material, public, err := keyspec.Generate(m.Spec)
	return material.Expose(), public, err
}

func (b *memory) Import(_ context.Context, m kms.MaterialRef, material secret.Bytes) (handle, public []byte, err error) {
	k, err := keyspec.ParsePrivate(m.Spec, material)
	if err != nil && m.Spec != keyspec.SymmetricDefault {
		return nil, nil, err
	}
	if err == nil {
		public = k.Public()
	}
	return secret.Copy(material.Expose()).Expose(), public, nil
}

func (b *memory) Destroy(context.Context, kms.MaterialRef) error { return b.ready("Destroy") }

func (b *memory) Seal(_ context.Context, m kms.MaterialRef, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	if err := b.ready("Seal"); err != nil {
		return nil, err
	}
	return ciphertext.SealBox(secret.New(m.Handle), aad, plaintext.Expose())
}

func (b *memory) Open(_ context.Context, m kms.MaterialRef, aad, sealed []byte) (secret.Bytes, error) {
	if err := b.ready("Open"); err != nil {
		return secret.Bytes{}, err
	}
	p, err := ciphertext.OpenBox(secret.New(m.Handle), aad, sealed)
	if errors.Is(err, ciphertext.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", kms.ErrNotOurs, err)
	}
	return p, err
}

func (b *memory) private(call string, m kms.MaterialRef) (*keyspec.Private, error) {
	if err := b.ready(call); err != nil {
		return nil, err
	}
	return keyspec.ParsePrivate(m.Spec, secret.New(m.Handle))
}

func (b *memory) Sign(_ context.Context, m kms.MaterialRef, a keyspec.SigningAlgorithm, t keyspec.MessageType, message []byte) ([]byte, error) {
	k, err := b.private("Sign", m)
	if err != nil {
		return nil, err
	}
	return k.Sign(a, t, message)
}

func (b *memory) Decrypt(_ context.Context, m kms.MaterialRef, a keyspec.EncryptionAlgorithm, sealed []byte) (secret.Bytes, error) {
	k, err := b.private("Decrypt", m)
	if err != nil {
		return secret.Bytes{}, err
	}
	return k.Decrypt(a, sealed)
}

func (b *memory) MAC(_ context.Context, m kms.MaterialRef, a keyspec.MACAlgorithm, message []byte) ([]byte, error) {
	k, err := b.private("MAC", m)
	if err != nil {
		return nil, err
	}
	return k.MAC(a, message)
}

func (b *memory) Agree(_ context.Context, m kms.MaterialRef, peer []byte) (secret.Bytes, error) {
	k, err := b.private("Agree", m)
	if err != nil {
		return secret.Bytes{}, err
	}
	return k.Agree(peer)
}

func (b *memory) Random(_ context.Context, n int) (secret.Bytes, error) {
	if err := b.ready("Random"); err != nil {
		return secret.Bytes{}, err
	}
	return secret.Random(n), nil
}

// SealSecret and OpenSecret implement kms.Secrets.
func (b *memory) SealSecret(_ context.Context, label string, plaintext secret.Bytes) ([]byte, error) {
	return ciphertext.SealBox(secret.New(make([]byte, 32)), ciphertext.Context(label), plaintext.Expose())
}

func (b *memory) OpenSecret(_ context.Context, label string, sealed []byte) (secret.Bytes, error) {
	return ciphertext.OpenBox(secret.New(make([]byte, 32)), ciphertext.Context(label), sealed)
}
