//go:build pkcs11 && cgo

package pkcs11

import (
	"errors"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/kms"
)

// makeLabelled makes a key as an operator's tool does.
func makeLabelled(t *testing.T, b *Backend, label string, change ...*p11.Attribute) {
	t.Helper()
	err := b.do(t.Context(), func(s *session) error {
		as := template(keyID{1}, label)
		for _, c := range change {
			for i, a := range as {
				if a.Type == c.Type {
					as[i] = c
				}
			}
		}
		_, err := s.lib.GenerateKey(s.SessionHandle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, as)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeysAreFoundByTheirLabel(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	makeLabelled(t, b, "vault")
	makeLabelled(t, b, "other")
	sealed, err := b.SealUnder(t.Context(), "vault", someAAD, pin("a plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.OpenUnder(t.Context(), "vault", someAAD, sealed)
	if err != nil || string(p.Expose()) != "a plaintext" {
		t.Fatalf("open: %v, or another plaintext", err)
	}
	changed := append([]byte(nil), sealed...)
	changed[20] ^= 1
	for what, open := range map[string]func() error{
		"other key":     func() error { _, err := b.OpenUnder(t.Context(), "other", someAAD, sealed); return err },
		"other context": func() error { _, err := b.OpenUnder(t.Context(), "vault", []byte("x"), sealed); return err },
		"changed":       func() error { _, err := b.OpenUnder(t.Context(), "vault", someAAD, changed); return err },
		"cut short":     func() error { _, err := b.OpenUnder(t.Context(), "vault", someAAD, sealed[:10]); return err },
	} {
		if err := open(); !errors.Is(err, kms.ErrNotOurs) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if _, err := b.OpenUnder(t.Context(), "vault", nil, sealed); err == nil || err.Error() != "associated data is empty" {
		t.Errorf("got %v", err)
	}
}

func TestKeysThatAreNotFitForTheirLabel(t *testing.T) {
	where, _ := newToken(t)
	b := open(t, where, fast)
	makeLabelled(t, b, "twice")
	makeLabelled(t, b, "twice")
	makeLabelled(t, b, "short", p11.NewAttribute(p11.CKA_VALUE_LEN, 16))
	makeLabelled(t, b, "loose", p11.NewAttribute(p11.CKA_EXTRACTABLE, true))
	for label, want := range map[string]string{
		"none": `has no AES key with label "none": make one of 256 bits that is sensitive and not extractable`, "twice": `has 2 AES keys with label "twice"`,
		"short": "is not of 256 bits", "loose": "not sensitive, or it is extractable",
	} {
		if _, err := b.SealUnder(t.Context(), label, someAAD, pin("x")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", label, err)
		}
	}
}
