//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// inSession runs f in a session of the token.
func inSession(t testing.TB, b *Backend, f func(s *session) error) {
	t.Helper()
	if err := b.token.do(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// objectOf is the one object of a key.
func objectOf(t testing.TB, s *session, m kms.MaterialRef) p11.ObjectHandle {
	t.Helper()
	objects, err := s.keysOf(newKeyID(m))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

func TestKeyNeverLeavesItsToken(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m, other := newKey(t, b, "key"), newKey(t, b, "another key")
	inSession(t, b, func(s *session) error {
		o := objectOf(t, s, m)
		if _, err := s.lib.GetAttributeValue(s.SessionHandle, o, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); !isAny(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
			t.Errorf("its value can be read: %v", err)
		}
		for _, mechanism := range []uint{p11.CKM_AES_KEY_WRAP, p11.CKM_AES_KEY_WRAP_PAD} {
			if _, err := s.lib.WrapKey(s.SessionHandle, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, objectOf(t, s, other), o); err == nil {
				t.Errorf("it can be wrapped by mechanism %#x", mechanism)
			}
		}
		for attribute, want := range map[uint]bool{
			p11.CKA_TOKEN: true, p11.CKA_PRIVATE: true, p11.CKA_LOCAL: true, p11.CKA_SENSITIVE: true, p11.CKA_ALWAYS_SENSITIVE: true, p11.CKA_NEVER_EXTRACTABLE: true,
			p11.CKA_ENCRYPT: true, p11.CKA_DECRYPT: true, p11.CKA_EXTRACTABLE: false, p11.CKA_MODIFIABLE: false, p11.CKA_WRAP: false, p11.CKA_UNWRAP: false,
			p11.CKA_SIGN: false, p11.CKA_VERIFY: false, p11.CKA_DERIVE: false,
		} {
			as, err := s.lib.GetAttributeValue(s.SessionHandle, o, []*p11.Attribute{p11.NewAttribute(attribute, nil)})
			if err != nil || isTrue(as[0].Value) != want {
				t.Errorf("attribute %#x: %v, is not %v", attribute, err, want)
			}
			if err := s.lib.SetAttributeValue(s.SessionHandle, o, []*p11.Attribute{p11.NewAttribute(attribute, !want)}); err == nil {
				t.Errorf("attribute %#x can be changed", attribute)
			}
		}
		as, err := s.lib.GetAttributeValue(s.SessionHandle, o, []*p11.Attribute{p11.NewAttribute(p11.CKA_LABEL, nil), p11.NewAttribute(p11.CKA_ID, nil)})
		if err != nil || string(as[0].Value) != "cardea key" || hex.EncodeToString(as[1].Value) != hex.EncodeToString(first(newKeyID(m))) {
			t.Errorf("label and id: %v", err)
		}
		return nil
	})
}

func first(id keyID) []byte { return id[:] }

// plant puts a known key into the token, in place of one that was generated there.
func plant(t testing.TB, b *Backend, m kms.MaterialRef, value []byte, change ...*p11.Attribute) (object p11.ObjectHandle) {
	t.Helper()
	var as []*p11.Attribute
	for _, a := range append(template(newKeyID(m), "planted"), p11.NewAttribute(p11.CKA_VALUE, value)) {
		for _, c := range change {
			if c.Type == a.Type {
				a = c
			}
		}
		if a.Type != p11.CKA_VALUE_LEN {
			as = append(as, a)
		}
	}
	inSession(t, b, func(s *session) (err error) {
		object, err = s.lib.CreateObject(s.SessionHandle, as)
		return err
	})
	return object
}

// TestFormats computes with Go what the device has made under a known key.
func TestFormats(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := kms.MaterialRef{KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab", ID: strings.Repeat("0123456789abcdef", 4), Spec: keyspec.SymmetricDefault}
	const wantID = "7762c53beb42220d5b8a2862cdb61abfe1c0337bdfdab91d257bea1eed5e69ad"
	if got := hex.EncodeToString(first(newKeyID(m))); got != wantID {
		t.Errorf("CKA_ID is %s, docs/hsm.md says %s", got, wantID)
	}
	value := secret.Random(keySize).Expose()
	o := plant(t, b, m, value)
	inSession(t, b, func(s *session) (err error) {
		m.Handle, err = s.handleOf(o, m)
		return err
	})
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	text, err := gcm.Open(nil, m.Handle[1:1+nonceSize], m.Handle[1+nonceSize:], keyContext(m))
	if err != nil || string(text) != handleText || m.Handle[0] != 1 {
		t.Errorf("the handle says %q: %v", text, err)
	}
	sealed, err := b.Seal(t.Context(), m, someAAD, pin("a plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	text, err = gcm.Open(nil, sealed[:nonceSize], sealed[nonceSize:], someAAD)
	if err != nil || string(text) != "a plaintext" {
		t.Errorf("the ciphertext says %q: %v", text, err)
	}
	p, err := b.Open(t.Context(), m, someAAD, gcm.Seal(bytes.Repeat([]byte{7}, nonceSize), bytes.Repeat([]byte{7}, nonceSize), []byte("of Go's"), someAAD))
	if err != nil || string(p.Expose()) != "of Go's" {
		t.Errorf("a ciphertext of Go's: %v", err)
	}
}

func TestOtherKeyUnderTheSameIDIsNotTaken(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	for range 2 {
		plant(t, b, m, secret.Random(keySize).Expose())
	}
	if err := b.token.lib.CloseAllSessions(b.token.login.slot); err != nil { // what was known is forgotten
		t.Fatal(err)
	}
	works(t, b, m)
	inSession(t, b, func(s *session) error {
		objects, err := s.keysOf(newKeyID(m))
		if len(objects) != 3 {
			t.Errorf("%d objects", len(objects))
		}
		for _, o := range objects {
			if ok, err := s.opens(o, m); err != nil || ok {
				err = s.lib.DestroyObject(s.SessionHandle, o)
				if err != nil {
					t.Error(err)
				}
			}
		}
		return err
	})
	if _, err := b.Seal(t.Context(), m, someAAD, pin("text")); !errors.Is(err, kms.ErrNotOurs) || !strings.Contains(err.Error(), "material of key of key key is not in the token") {
		t.Errorf("with the right one gone: %v", err)
	}
}

func TestKeyThatCouldLeaveIsNotUsed(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	for what, change := range map[string]*p11.Attribute{
		"extractable": p11.NewAttribute(p11.CKA_EXTRACTABLE, true), "not sensitive": p11.NewAttribute(p11.CKA_SENSITIVE, false),
	} {
		m := kms.MaterialRef{KeyID: what, ID: "material", Spec: keyspec.SymmetricDefault}
		o := plant(t, b, m, secret.Random(keySize).Expose(), change)
		inSession(t, b, func(s *session) error {
			const want = "the key in the token is not sensitive, or it is extractable"
			if _, err := s.handleOf(o, m); err == nil || err.Error() != want {
				t.Errorf("%s: it gets a handle: %v", what, err)
			}
			sealed, err := s.lib.encrypt(s.SessionHandle, o, newNonce(), keyContext(m), []byte(handleText))
			if err != nil {
				return err
			}
			m.Handle = append([]byte{handleVersion}, sealed...)
			if _, err := s.find(m); err == nil || err.Error() != want {
				t.Errorf("%s: it is found by a handle: %v", what, err)
			}
			return nil
		})
	}
}

func TestDestroyedKeyIsGoneFromTheToken(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m, other := newKey(t, b, "key"), newKey(t, b, "another key")
	works(t, b, m)
	if err := b.Destroy(t.Context(), kms.MaterialRef{KeyID: m.KeyID, ID: m.ID, Spec: m.Spec}); err != nil {
		t.Fatal(err)
	}
	inSession(t, b, func(s *session) error {
		objects, err := s.keysOf(newKeyID(m))
		if len(objects) != 0 {
			t.Errorf("%d objects are left", len(objects))
		}
		return err
	})
	if _, err := b.Seal(t.Context(), m, someAAD, pin("text")); !errors.Is(err, kms.ErrNotOurs) {
		t.Errorf("it still encrypts: %v", err)
	}
	works(t, b, other)
}

// A key that another process destroyed, and one that it made anew, are noticed.
func TestKnownKeyThatIsGone(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	works(t, b, m)
	inSession(t, b, func(s *session) error { return s.lib.DestroyObject(s.SessionHandle, objectOf(t, s, m)) })
	if _, err := b.Seal(t.Context(), m, someAAD, pin("text")); !errors.Is(err, kms.ErrNotOurs) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Open(t.Context(), m, someAAD, make([]byte, 64)); !errors.Is(err, kms.ErrNotOurs) {
		t.Errorf("got %v", err)
	}
}

func TestKnownKeysAreBounded(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m := newKey(t, b, "key")
	inSession(t, b, func(s *session) error {
		for i := range maxKnown + 5 {
			s.know(keyID{byte(i), byte(i >> 8), 1}, knownKey{})
		}
		if n := len(s.login.keys); n > maxKnown {
			t.Errorf("%d keys", n)
		}
		return nil
	})
	works(t, b, m)
}

// Damage to the key in the token is not a bad ciphertext.
func TestRefusalOfTheDeviceIsNotABadCiphertext(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	m, other := newKey(t, b, "key"), newKey(t, b, "another key")
	sealed, err := b.Seal(t.Context(), m, someAAD, pin("text"))
	if err != nil {
		t.Fatal(err)
	}
	inSession(t, b, func(s *session) error { // as if the device computed with a wrong key
		s.know(newKeyID(m), knownKey{string(m.Handle), objectOf(t, s, other)})
		return nil
	})
	if _, err := b.Open(t.Context(), m, someAAD, sealed); err == nil || errors.Is(err, kms.ErrNotOurs) || !strings.HasPrefix(err.Error(), "decrypt: pkcs11: ") {
		t.Errorf("got %v", err)
	}
}

func TestWhatATokenCannotDo(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	if _, err := b.Seal(t.Context(), newKey(t, b, "key"), nil, pin("text")); err == nil || err.Error() != "associated data is empty" {
		t.Errorf("no associated data: %v", err)
	}
	_, _, err := b.Generate(t.Context(), kms.MaterialRef{ID: "m", Spec: keyspec.SymmetricDefault})
	if err == nil || err.Error() != "key id or material id has 0 bytes, want 1 to 1024" {
		t.Errorf("no key id: %v", err)
	}
	_, _, err = b.Generate(t.Context(), kms.MaterialRef{KeyID: "k", ID: "m", Spec: keyspec.RSA2048})
	if !errors.Is(err, keyspec.ErrUnsupported) || err.Error() != `generate with a key of spec "RSA_2048" in a token: not supported for this key spec` {
		t.Errorf("RSA: %v", err)
	}
}
