//go:build pkcs11 && cgo

package pkcs11

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/ciphertext"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// Built says whether this program has support for PKCS #11.
const Built = true

// SealUnder encrypts under the AES key that has a label (CKA_LABEL), which somebody
// has made in the token: a nonce, the ciphertext and the tag of AES-256-GCM. There must
// be one such key, and it must not be able to leave the token.
func (b *Backend) SealUnder(ctx context.Context, label string, aad []byte, plaintext secret.Bytes) (sealed []byte, err error) {
	err = b.withLabel(ctx, label, aad, func(s *session, key p11.ObjectHandle) error {
		if sealed, err = s.lib.encrypt(s.SessionHandle, key, newNonce(), aad, plaintext.Expose()); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		return nil
	})
	return sealed, err
}

// OpenUnder is the inverse of SealUnder. What does not open is kms.ErrNotOurs.
func (b *Backend) OpenUnder(ctx context.Context, label string, aad, sealed []byte) (plaintext secret.Bytes, err error) {
	err = b.withLabel(ctx, label, aad, func(s *session, key p11.ObjectHandle) error {
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
		// As in Open: is it the device, or the ciphertext?
		probe, other := s.lib.encrypt(s.SessionHandle, key, newNonce(), aad, []byte(handleText))
		if other == nil {
			var text secret.Bytes
			text, _, other = s.lib.decrypt(s.SessionHandle, key, aad, probe)
			text.Destroy()
		}
		if other != nil {
			return fmt.Errorf("decrypt: %w", errors.Join(err, other))
		}
		return fmt.Errorf("ciphertext under key %q: %w", label, kms.ErrNotOurs)
	})
	return plaintext, err
}

func (b *Backend) withLabel(ctx context.Context, label string, aad []byte, use func(*session, p11.ObjectHandle) error) error {
	if len(aad) == 0 {
		return errors.New("associated data is empty")
	}
	return b.do(ctx, func(s *session) error {
		id := keyID(sha256.Sum256(ciphertext.Context("cardea hsm label v1", []byte(label))))
		for try := 0; ; try++ {
			object, err := s.labelled(id, label)
			if err == nil {
				err = use(s, object)
			}
			if try > 0 || !stale(err) {
				return err
			}
			s.forget(id)
		}
	})
}

// labelled finds the key of a label. id stands for the label among those that have
// been found.
func (s *session) labelled(id keyID, label string) (p11.ObjectHandle, error) {
	s.mu.Lock()
	k, known := s.login.keys[id]
	s.mu.Unlock()
	if known {
		return k.object, nil
	}
	s.token.objects.RLock()
	defer s.token.objects.RUnlock()
	err := s.lib.FindObjectsInit(s.SessionHandle, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_LABEL, label),
	})
	if err != nil {
		return 0, fmt.Errorf("find key: %w", err)
	}
	objects, _, err := s.lib.FindObjects(s.SessionHandle, maxFound)
	if err = errors.Join(err, s.lib.FindObjectsFinal(s.SessionHandle)); err != nil {
		return 0, fmt.Errorf("find key: %w", err)
	}
	switch {
	case len(objects) == 0:
		if err := s.checkLogin(); err != nil { // to those who are logged out, there is nothing
			return 0, err
		}
		return 0, fmt.Errorf("token %q has no AES key with label %q: make one of 256 bits that is sensitive and not extractable", s.token.label, label)
	case len(objects) > 1:
		return 0, fmt.Errorf("token %q has %d AES keys with label %q: leave one, or give the others another label", s.token.label, len(objects), label)
	}
	size, err := s.lib.GetAttributeValue(s.SessionHandle, objects[0], []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE_LEN, nil)})
	if err != nil {
		return 0, fmt.Errorf("read attributes of a key: %w", err)
	}
	if n := p11.NewAttribute(p11.CKA_VALUE_LEN, keySize).Value; len(size) != 1 || string(size[0].Value) != string(n) {
		return 0, fmt.Errorf("the key with label %q is not of 256 bits", label)
	}
	if err := s.checkPrisoner(objects[0]); err != nil {
		return 0, err
	}
	s.know(id, knownKey{object: objects[0]})
	return objects[0], nil
}
