package soft

import (
	"context"
	"errors"
	"fmt"

	"cardea/internal/ciphertext"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// The formats of docs/spec/key-material.md.
const (
	version = 1

	materialKEKLabel = "cardea root key for key material v1"
	secretsKEKLabel  = "cardea root key for secrets v1"
	materialLabel    = "cardea key material v1"
	secretLabel      = "cardea secret v1"

	maxMaterial = 4096
	maxSecret   = 16_384
)

func materialContext(m kms.MaterialRef) []byte {
	return ciphertext.Context(materialLabel, []byte(m.KeyID), []byte(m.ID), []byte(m.Spec))
}

func secretContext(label string) []byte { return ciphertext.Context(secretLabel, []byte(label)) }

func checkText(name, s string) error {
	if s == "" || len(s) > ciphertext.MaxField {
		return fmt.Errorf("%s has %d bytes, want 1 to %d", name, len(s), ciphertext.MaxField)
	}
	return nil
}

func checkRef(m kms.MaterialRef) error {
	return errors.Join(checkText("key id", m.KeyID), checkText("material id", m.ID))
}

func (b *Backend) sealHandle(m kms.MaterialRef, material secret.Bytes) ([]byte, error) {
	if err := checkRef(m); err != nil {
		return nil, err
	}
	return b.seal(materialKEKLabel, materialContext(m), material)
}

func (b *Backend) openHandle(m kms.MaterialRef) (*keyspec.Private, error) {
	if err := checkRef(m); err != nil {
		return nil, err
	}
	material, err := b.open(materialKEKLabel, materialContext(m), m.Handle, maxMaterial)
	if err != nil {
		return nil, fmt.Errorf("handle of material %s of key %s: %w", m.ID, m.KeyID, err)
	}
	defer material.Destroy()
	k, err := keyspec.ParsePrivate(m.Spec, material)
	if err != nil {
		return nil, fmt.Errorf("material %s of key %s: %w", m.ID, m.KeyID, err)
	}
	return k, nil
}

// SealSecret implements kms.Secrets and identity.Secrets, for secrets of up to
// 16 KiB and labels of 1 to 1024 bytes.
func (b *Backend) SealSecret(_ context.Context, label string, plaintext secret.Bytes) ([]byte, error) {
	if err := checkText("label of a secret", label); err != nil {
		return nil, err
	}
	if n := plaintext.Len(); n > maxSecret {
		return nil, fmt.Errorf("secret has %d bytes, at most %d", n, maxSecret)
	}
	return b.seal(secretsKEKLabel, secretContext(label), plaintext)
}

// OpenSecret implements kms.Secrets and identity.Secrets.
func (b *Backend) OpenSecret(_ context.Context, label string, sealed []byte) (secret.Bytes, error) {
	if err := checkText("label of a secret", label); err != nil {
		return secret.Bytes{}, err
	}
	p, err := b.open(secretsKEKLabel, secretContext(label), sealed, maxSecret)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("secret %q: %w", label, err)
	}
	return p, nil
}

// seal returns the version and a box under a KEK that comes from the root key.
func (b *Backend) seal(kekLabel string, aad []byte, plaintext secret.Bytes) ([]byte, error) {
	kek, err := b.kek(kekLabel)
	if err != nil {
		return nil, err
	}
	defer kek.Destroy()
	box, err := ciphertext.SealBox(kek, aad, plaintext.Expose())
	if err != nil {
		return nil, err
	}
	return append([]byte{version}, box...), nil
}

// open is the inverse of seal; what does not open is kms.ErrNotOurs.
func (b *Backend) open(kekLabel string, aad, sealed []byte, most int) (secret.Bytes, error) {
	kek, err := b.kek(kekLabel)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer kek.Destroy()
	if len(sealed) > 0 && sealed[0] != version {
		return secret.Bytes{}, fmt.Errorf("unknown format version: %w", kms.ErrNotOurs)
	}
	if len(sealed) < 1+ciphertext.BoxOverhead || len(sealed) > 1+ciphertext.BoxOverhead+most {
		return secret.Bytes{}, kms.ErrNotOurs
	}
	p, err := ciphertext.OpenBox(kek, aad, sealed[1:])
	if errors.Is(err, ciphertext.ErrCorrupt) {
		return secret.Bytes{}, kms.ErrNotOurs
	}
	return p, err
}

// kek derives a key from the root key; the caller destroys it.
func (b *Backend) kek(label string) (secret.Bytes, error) {
	if b.closed.Load() {
		return secret.Bytes{}, kms.ErrSealed
	}
	root, err := b.root()
	if err != nil {
		b.Forget()
		return secret.Bytes{}, fmt.Errorf("%w: %w", kms.ErrSealed, err)
	}
	defer root.Destroy()
	if n := root.Len(); n != ciphertext.KeySize {
		return secret.Bytes{}, fmt.Errorf("root key has %d bytes, want %d", n, ciphertext.KeySize)
	}
	kek, err := ciphertext.MAC(root, label)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.Wipe(kek[:])
	return secret.Copy(kek[:]), nil
}
