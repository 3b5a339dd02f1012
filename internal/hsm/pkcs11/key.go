//go:build pkcs11 && cgo

package pkcs11

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/ciphertext"
	"cardea/internal/kms"
)

// The formats of docs/hsm.md.
const (
	handleVersion = 1
	handleText    = "cardea hsm key 1"
	handleSize    = 1 + nonceSize + len(handleText) + tagSize

	keyLabel = "cardea hsm key v1"

	// maxKnown is how many keys a login remembers where they are.
	maxKnown = 10_000
	// maxFound is how many objects of one CKA_ID are looked at.
	maxFound = 16
)

// keyID is CKA_ID: SHA-256 over key id, material id and spec.
type keyID [sha256.Size]byte

// knownKey is a key that has been found in a login.
type knownKey struct {
	handle string // with which it was found
	object p11.ObjectHandle
}

// keyContext binds what is encrypted under a key for this package to the key.
func keyContext(m kms.MaterialRef) []byte {
	return ciphertext.Context(keyLabel, []byte(m.KeyID), []byte(m.ID), []byte(m.Spec))
}

func newKeyID(m kms.MaterialRef) keyID { return sha256.Sum256(keyContext(m)) }

func newNonce() (nonce [nonceSize]byte) {
	rand.Read(nonce[:])
	return nonce
}

// generate makes a key in the token and returns its handle.
func (s *session) generate(m kms.MaterialRef) ([]byte, error) {
	id := newKeyID(m)
	s.token.objects.Lock()
	object, err := s.lib.GenerateKey(s.SessionHandle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, template(id, "cardea "+m.KeyID))
	s.token.objects.Unlock()
	if err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	handle, err := s.handleOf(object, m)
	if err != nil {
		s.destroy(object) //nolint:errcheck // the first error matters
		return nil, err
	}
	s.know(id, knownKey{string(handle), object})
	return handle, nil
}

// template is what a key is: it stays in its token, in clear nowhere, and does
// nothing but encrypt and decrypt. Nobody can change that later.
func template(id keyID, label string) []*p11.Attribute {
	a := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_VALUE_LEN, keySize), p11.NewAttribute(p11.CKA_ID, id[:]), p11.NewAttribute(p11.CKA_LABEL, label),
	}
	for _, t := range []uint{p11.CKA_TOKEN, p11.CKA_PRIVATE, p11.CKA_SENSITIVE, p11.CKA_ENCRYPT, p11.CKA_DECRYPT} {
		a = append(a, p11.NewAttribute(t, true))
	}
	for _, t := range []uint{p11.CKA_EXTRACTABLE, p11.CKA_MODIFIABLE, p11.CKA_WRAP, p11.CKA_UNWRAP, p11.CKA_SIGN, p11.CKA_VERIFY, p11.CKA_DERIVE} {
		a = append(a, p11.NewAttribute(t, false))
	}
	return a
}

// handleOf makes the handle of a key: a text that only the key itself can have
// encrypted. So a handle proves to be of the key that is found, whatever its CKA_ID.
func (s *session) handleOf(object p11.ObjectHandle, m kms.MaterialRef) ([]byte, error) {
	if err := s.checkPrisoner(object); err != nil {
		return nil, err
	}
	sealed, err := s.lib.encrypt(s.SessionHandle, object, newNonce(), keyContext(m), []byte(handleText))
	if err != nil {
		return nil, fmt.Errorf("make handle: %w", err)
	}
	if handle := append([]byte{handleVersion}, sealed...); len(handle) == handleSize {
		return handle, nil
	}
	return nil, fmt.Errorf("make handle: the device's ciphertext has %d bytes, want %d", len(sealed), handleSize-1)
}

// checkPrisoner refuses a key that can leave its token, whatever the device was told.
func (s *session) checkPrisoner(object p11.ObjectHandle) error {
	as, err := s.lib.GetAttributeValue(s.SessionHandle, object, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_SENSITIVE, nil), p11.NewAttribute(p11.CKA_EXTRACTABLE, nil),
	})
	if err != nil {
		return fmt.Errorf("read attributes of a key: %w", err)
	}
	if len(as) != 2 || !isTrue(as[0].Value) || isTrue(as[1].Value) {
		return errors.New("the key in the token is not sensitive, or it is extractable")
	}
	return nil
}

func isTrue(v []byte) bool { return len(v) == 1 && v[0] != 0 }

// errNoKey says that the token has no key for a handle.
func errNoKey(m kms.MaterialRef) error {
	return fmt.Errorf("material %s of key %s is not in the token: %w", m.ID, m.KeyID, kms.ErrNotOurs)
}

// find returns the key that m's handle was made of.
func (s *session) find(m kms.MaterialRef) (p11.ObjectHandle, error) {
	id := newKeyID(m)
	s.mu.Lock()
	k, known := s.login.keys[id]
	s.mu.Unlock()
	if known && k.handle == string(m.Handle) {
		return k.object, nil
	}
	if len(m.Handle) != handleSize || m.Handle[0] != handleVersion {
		return 0, errNoKey(m)
	}
	objects, err := s.keysOf(id)
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		ok, err := s.opens(o, m)
		if err != nil {
			return 0, err
		}
		if ok {
			s.know(id, knownKey{string(m.Handle), o})
			return o, nil
		}
	}
	return 0, errNoKey(m)
}

func (s *session) know(id keyID, k knownKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.login.keys) >= maxKnown {
		clear(s.login.keys) // they are found again
	}
	s.login.keys[id] = k
}

func (s *session) forget(id keyID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.login.keys, id)
}

// opens reports whether the handle opens under a key, which may not leave its token.
func (s *session) opens(object p11.ObjectHandle, m kms.MaterialRef) (bool, error) {
	text, begun, err := s.lib.decrypt(s.SessionHandle, object, keyContext(m), m.Handle[1:])
	defer text.Destroy()
	if err != nil {
		if begun && unopened(err) {
			return false, nil
		}
		return false, fmt.Errorf("open handle: %w", err)
	}
	if string(text.Expose()) != handleText {
		return false, nil
	}
	return true, s.checkPrisoner(object)
}

// destroy destroys a key. One that is not there is no error.
func (s *session) destroy(object p11.ObjectHandle) error {
	s.token.objects.Lock()
	defer s.token.objects.Unlock()
	if err := s.lib.DestroyObject(s.SessionHandle, object); err != nil && !stale(err) {
		return fmt.Errorf("destroy key: %w", err)
	}
	return nil
}

// keysOf are the AES keys of an id, of which there should be one.
func (s *session) keysOf(id keyID) ([]p11.ObjectHandle, error) {
	s.token.objects.RLock()
	defer s.token.objects.RUnlock()
	err := s.lib.FindObjectsInit(s.SessionHandle, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
		p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_ID, id[:]),
	})
	if err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	objects, _, err := s.lib.FindObjects(s.SessionHandle, maxFound)
	if err = errors.Join(err, s.lib.FindObjectsFinal(s.SessionHandle)); err != nil {
		return nil, fmt.Errorf("find key: %w", err)
	}
	if len(objects) == 0 { // to those who are logged out, there is nothing
		return nil, s.checkLogin()
	}
	return objects, nil
}

// checkLogin returns an error of a lost session unless the user is logged in.
func (s *session) checkLogin() error {
	info, err := s.lib.GetSessionInfo(s.SessionHandle)
	if err == nil && info.State != p11.CKS_RW_USER_FUNCTIONS {
		err = p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
	}
	return err
}

// with uses the key of m, and finds it anew if it is no longer where it was.
func (s *session) with(m kms.MaterialRef, use func(p11.ObjectHandle) error) error {
	for try := 0; ; try++ {
		object, err := s.find(m)
		if err == nil {
			err = use(object)
		}
		if try > 0 || !stale(err) {
			return err
		}
		s.forget(newKeyID(m))
	}
}
