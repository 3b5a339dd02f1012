package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	_ "crypto/sha256" // HMAC
	_ "crypto/sha512"
	"strings"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

// messageTypes are those that an algorithm takes, with the size of a message that
// is a digest, 0 for any.
func messageTypes(a keyspec.SigningAlgorithm) map[keyspec.MessageType]int {
	switch {
	case a == keyspec.SignEd25519:
		return map[keyspec.MessageType]int{keyspec.MessageRaw: 0}
	case a == keyspec.SignEd25519ph:
		return map[keyspec.MessageType]int{keyspec.MessageDigest: 64}
	case a == keyspec.SignMLDSA:
		return map[keyspec.MessageType]int{keyspec.MessageRaw: 0, keyspec.MessageExternalMu: 64}
	case strings.HasSuffix(string(a), "_256"):
		return map[keyspec.MessageType]int{keyspec.MessageRaw: 0, keyspec.MessageDigest: 32}
	case strings.HasSuffix(string(a), "_384"):
		return map[keyspec.MessageType]int{keyspec.MessageRaw: 0, keyspec.MessageDigest: 48}
	}
	return map[keyspec.MessageType]int{keyspec.MessageRaw: 0, keyspec.MessageDigest: 64}
}

// pairs uses key pairs in every way their specs allow. One is made for all: those
// of RSA take long.
func (s *suite) pairs(t *testing.T) {
	b := s.open(t)
	s.each(t, s.caps.Specs, func(t *testing.T, spec keyspec.Spec) {
		if !spec.Asymmetric() {
			return
		}
		m, spki := generate(t, b, spec)
		public, err := keyspec.ParsePublic(spec, spki)
		if err != nil {
			t.Fatal(err)
		}
		signs(t, b, m, public)
		decrypts(t, b, m, public)
		if len(spec.AgreementAlgorithms()) > 0 {
			agrees(t, b, m, spki)
		}
	})
}

func signs(t *testing.T, b kms.Backend, m kms.MaterialRef, public *keyspec.Public) {
	t.Helper()
	for _, a := range m.Spec.SigningAlgorithms() {
		for mt, size := range messageTypes(a) {
			message := someMessage
			if size > 0 {
				message = bytes.Repeat([]byte{5}, size)
				_, err := b.Sign(t.Context(), m, a, mt, message[1:])
				wantInputError(t, string(a)+" of a short digest", err, "Digest is invalid length for algorithm "+string(a)+".")
			}
			sig, err := b.Sign(t.Context(), m, a, mt, message)
			if err != nil {
				t.Errorf("%s %s: %v", a, mt, err)
				continue
			}
			if err := public.Verify(a, mt, message, sig); err != nil {
				t.Errorf("%s %s: verify: %v", a, mt, err)
			}
		}
	}
}

func wantInputError(t testing.TB, what string, err error, want string) {
	t.Helper()
	in, is := err.(*keyspec.InputError) //nolint:errorlint // it is passed on as it is
	if !is || in.Text != want {
		t.Errorf("%s: got error %v, want %q", what, err, want)
	}
}

func decrypts(t *testing.T, b kms.Backend, m kms.MaterialRef, public *keyspec.Public) {
	t.Helper()
	for _, a := range m.Spec.EncryptionAlgorithms() {
		plain := secret.Random(32)
		c, err := public.Encrypt(a, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Decrypt(t.Context(), m, a, c)
		if err != nil || !got.Equal(plain) {
			t.Errorf("%s: %v, or another plaintext", a, err)
		}
		for what, bad := range map[string][]byte{"flipped": flip(c, len(c)/2), "cut": c[1:], "empty": nil, "longer": append([]byte{0}, c...)} {
			_, err := b.Decrypt(t.Context(), m, a, bad)
			wantError(t, string(a)+" "+what, err, keyspec.ErrInvalidCiphertext)
		}
	}
}

func (s *suite) macs(t *testing.T) {
	b := s.open(t)
	s.each(t, s.caps.Specs, func(t *testing.T, spec keyspec.Spec) {
		if spec.Family() != keyspec.FamilyHMAC {
			return
		}
		m, _ := generate(t, b, spec)
		other, _ := generate(t, b, spec)
		a := spec.MACAlgorithms()[0]
		mac := func(m kms.MaterialRef, message []byte) []byte {
			x, err := b.MAC(t.Context(), m, a, message)
			if err != nil || len(x) != hashOf(spec).Size() {
				t.Fatalf("%d bytes, %v", len(x), err)
			}
			return x
		}
		x := mac(m, someMessage)
		if !bytes.Equal(x, mac(m, someMessage)) {
			t.Error("two MACs of one message")
		}
		if bytes.Equal(x, mac(m, flip(someMessage, 0))) || bytes.Equal(x, mac(other, someMessage)) {
			t.Error("one MAC for two messages or keys")
		}
	})
}

func hashOf(s keyspec.Spec) crypto.Hash {
	return map[keyspec.Spec]crypto.Hash{
		keyspec.HMAC224: crypto.SHA224, keyspec.HMAC256: crypto.SHA256, keyspec.HMAC384: crypto.SHA384, keyspec.HMAC512: crypto.SHA512,
	}[s]
}

func agrees(t *testing.T, b kms.Backend, m kms.MaterialRef, public []byte) {
	t.Helper()
	spec := m.Spec
	material, theirs, err := keyspec.Generate(spec)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := keyspec.ParsePrivate(spec, material)
	if err != nil {
		t.Fatal(err)
	}
	want, err := peer.Agree(public)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Agree(t.Context(), m, theirs)
	if err != nil || !got.Equal(want) {
		t.Errorf("%v, or another secret", err)
	}
	for what, bad := range map[string][]byte{"no key": nil, "half a key": theirs[:len(theirs)/2], "a point off the curve": flip(theirs, len(theirs)-1)} {
		_, err := b.Agree(t.Context(), m, bad)
		wantInputError(t, what, err, "The public key is not a valid public key of key spec "+string(spec)+".")
	}
}

func (s *suite) imports(t *testing.T) {
	b := s.open(t)
	s.each(t, s.caps.Specs, func(t *testing.T, spec keyspec.Spec) {
		if slow(spec) {
			return
		}
		material, public, err := keyspec.Generate(spec)
		if err != nil {
			t.Fatal(err)
		}
		m := newRef(spec)
		if !s.caps.Import {
			_, _, err := b.Import(t.Context(), m, material)
			wantError(t, "import", err, keyspec.ErrUnsupported)
			return
		}
		before := bytes.Clone(material.Expose())
		handle, got, err := b.Import(t.Context(), m, material)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, public) || got == nil != (public == nil) {
			t.Error("another public half")
		}
		if !bytes.Equal(material.Expose(), before) {
			t.Error("the caller's material was changed")
		}
		if bytes.Contains(handle, before) {
			t.Error("the material is in its handle in clear")
		}
		m.Handle = handle
		isTheKey(t, b, m, material, public)

		again, _, err := b.Import(t.Context(), m, material) // after it was deleted, or had expired
		if err != nil {
			t.Fatalf("import again: %v", err)
		}
		m.Handle = again
		isTheKey(t, b, m, material, public)

		for what, bad := range map[string]secret.Bytes{
			"nothing": {}, "a byte less": secret.Copy(before[1:]), "a byte more": secret.Copy(append(bytes.Clone(before), 0)),
			"5000 bytes": secret.Random(5000),
		} {
			_, _, err := b.Import(t.Context(), newRef(spec), bad)
			wantError(t, what, err, keyspec.ErrInvalidKey)
		}
	})
}

// isTheKey checks that m computes what the material, known in clear, would.
func isTheKey(t *testing.T, b kms.Backend, m kms.MaterialRef, material secret.Bytes, spki []byte) {
	t.Helper()
	switch m.Spec.Family() {
	case keyspec.FamilySymmetric:
		if err := sealAndOpen(t, b, m); err != nil {
			t.Error(err)
		}
	case keyspec.FamilyHMAC:
		h := hmac.New(hashOf(m.Spec).New, material.Expose())
		h.Write(someMessage)
		got, err := b.MAC(t.Context(), m, m.Spec.MACAlgorithms()[0], someMessage)
		if err != nil || !hmac.Equal(got, h.Sum(nil)) {
			t.Errorf("%v, or not the MAC under that key", err)
		}
	default:
		public, err := keyspec.ParsePublic(m.Spec, spki)
		if err != nil {
			t.Fatal(err)
		}
		a := m.Spec.SigningAlgorithms()[0]
		sig, err := b.Sign(t.Context(), m, a, keyspec.MessageRaw, someMessage)
		if err != nil {
			t.Fatal(err)
		}
		if err := public.Verify(a, keyspec.MessageRaw, someMessage, sig); err != nil {
			t.Errorf("signature under the imported key: %v", err)
		}
	}
}
