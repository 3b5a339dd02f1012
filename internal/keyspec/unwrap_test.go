package keyspec

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

// The examples of RFC 5649, section 6.
func TestKWPExamplesOfTheRFC(t *testing.T) {
	t.Parallel()
	kek := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for plain, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		if got, err := wrapKWP(kek, unhex(t, plain)); err != nil || !bytes.Equal(got, unhex(t, wrapped)) {
			t.Errorf("wrap: %x, %v", got, err)
		}
		if got, err := unwrapKWP(kek, unhex(t, wrapped)); err != nil || !bytes.Equal(got, unhex(t, plain)) {
			t.Errorf("unwrap: %v, or another plaintext", err)
		}
	}
}

func TestKWPUndoesItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kek := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "kek")
		plain := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "plaintext")
		c, err := wrapKWP(kek, plain)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := unwrapKWP(kek, c); err != nil || !bytes.Equal(p, plain) {
			t.Fatalf("%v, or another plaintext", err)
		}
		c[rapid.IntRange(0, len(c)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := unwrapKWP(kek, c); !errors.Is(err, ErrInvalidCiphertext) {
			t.Fatalf("flipped: got %v", err)
		}
	})
}

// TestKWPChecksEveryPartOfTheBlock builds what a wrapping party without the rules
// could have wrapped.
func TestKWPChecksEveryPartOfTheBlock(t *testing.T) {
	t.Parallel()
	block := func(magic string, length, plain string) []byte { return unhex(t, magic+length+plain) }
	const eight, sixteen = "0102030405060708", "01020304050607080102030405060708"
	for what, c := range map[string]struct {
		block []byte
		size  int // 0 if it is to be refused
	}{
		"whole":                     {block("a65959a6", "00000008", eight), 8},
		"one byte":                  {block("a65959a6", "00000001", "0100000000000000"), 1},
		"nine of sixteen":           {block("a65959a6", "00000009", "01020304050607080900000000000000"), 9},
		"length 0":                  {block("a65959a6", "00000000", "0000000000000000"), 0},
		"length 8 of sixteen":       {block("a65959a6", "00000008", "01020304050607080000000000000000"), 0},
		"length 9 of eight":         {block("a65959a6", "00000009", eight), 0},
		"length 17 of sixteen":      {block("a65959a6", "00000011", sixteen), 0},
		"huge length":               {block("a65959a6", "80000008", eight), 0},
		"greatest length":           {block("a65959a6", "ffffffff", eight), 0},
		"length that wraps":         {block("a65959a6", "fffffff9", eight), 0},
		"padding not zero":          {block("a65959a6", "00000001", "0100000000000001"), 0},
		"padding's first byte":      {block("a65959a6", "00000001", "0101000000000000"), 0},
		"first bit of the constant": {block("265959a6", "00000008", eight), 0},
		"last bit of the constant":  {block("a65959a7", "00000008", eight), 0},
		"the other constant":        {block("a6a6a6a6", "a6a6a6a6", eight), 0}, // of RFC 3394
	} {
		size, ok := checkKWP(c.block)
		if (ok == 1) != (c.size > 0) || ok == 1 && size != c.size {
			t.Errorf("%s: ok %d, size %d", what, ok, size)
		}
	}
}

func TestKWPSizes(t *testing.T) {
	t.Parallel()
	kek := make([]byte, 32)
	for _, n := range []int{0, 8, 15, 17, 23, maxWrapped + 8} {
		if _, err := unwrapKWP(kek, make([]byte, n)); !errors.Is(err, ErrInvalidCiphertext) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	for _, n := range []int{0, maxWrapped - 15} {
		if _, err := wrapKWP(kek, make([]byte, n)); err == nil {
			t.Errorf("%d bytes were wrapped", n)
		}
	}
	c, err := wrapKWP(kek, make([]byte, maxWrapped-16))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := unwrapKWP(kek, c); err != nil || len(p) != maxWrapped-16 {
		t.Errorf("the greatest: %d bytes, %v", len(p), err)
	}
}

// TestImportedMaterialUnwraps wraps material of every spec in every way that AWS
// documents for it.
func TestImportedMaterialUnwraps(t *testing.T) {
	t.Parallel()
	for _, wrapping := range []Spec{RSA2048, RSA3072, RSA4096} {
		for _, a := range []WrappingAlgorithm{WrapOAEPSHA1, WrapOAEPSHA256, WrapRSAAESKWSHA1, WrapRSAAESKW256} {
			for _, s := range allSpecs {
				material, _ := generated(t, s)
				_, kwp, _ := a.oaep()
				if !kwp && s.Asymmetric() && material.Len() > 150 {
					_, err := Wrap(a, public(t, wrapping), material)
					if _, is := errors.AsType[*InputError](err); !is && material.Len() > 470 {
						t.Errorf("%s of %s under %s: got %v", a, s, wrapping, err)
					}
					continue
				}
				c, err := Wrap(a, public(t, wrapping), material)
				if err != nil {
					t.Errorf("%s of %s under %s: %v", a, s, wrapping, err)
					continue
				}
				got, err := Unwrap(a, private(t, wrapping), c)
				if err != nil || !got.Equal(material) {
					t.Errorf("%s of %s under %s: %v, or other material", a, s, wrapping, err)
				}
			}
		}
	}
}

func TestUnwrapRefuses(t *testing.T) {
	t.Parallel()
	k, p := private(t, RSA2048), public(t, RSA2048)
	material := secret.Random(32)
	wrapped, err := Wrap(WrapRSAAESKW256, p, material)
	if err != nil {
		t.Fatal(err)
	}
	oaep, err := Wrap(WrapOAEPSHA256, p, material)
	if err != nil {
		t.Fatal(err)
	}
	kek := secret.Random(16) // all is right but the AES key's size
	shortKEK, err := p.Encrypt(EncryptOAEPSHA256, kek)
	if err != nil {
		t.Fatal(err)
	}
	underShort, err := wrapKWP(kek.Expose(), material.Expose())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		a       WrappingAlgorithm
		wrapped []byte
	}{
		"the other hash":           {WrapRSAAESKWSHA1, wrapped},
		"without the AES key":      {WrapOAEPSHA256, wrapped},
		"with an AES key":          {WrapRSAAESKW256, oaep},
		"OAEP by the other hash":   {WrapOAEPSHA1, oaep},
		"cut in the RSA part":      {WrapRSAAESKW256, wrapped[:255]},
		"RSA part only":            {WrapRSAAESKW256, wrapped[:256]},
		"cut in the AES part":      {WrapRSAAESKW256, wrapped[:len(wrapped)-8]},
		"flipped in the RSA part":  {WrapRSAAESKW256, append(flipLast(wrapped[:256]), wrapped[256:]...)},
		"flipped in the AES part":  {WrapRSAAESKW256, flipLast(wrapped)},
		"far too long":             {WrapRSAAESKW256, append(bytes.Clone(wrapped), make([]byte, maxWrapped)...)},
		"an AES key of 16 bytes":   {WrapRSAAESKW256, append(shortKEK, underShort...)},
		"nothing":                  {WrapRSAAESKW256, nil},
		"nothing, without AES key": {WrapOAEPSHA1, nil},
	} {
		if got, err := Unwrap(c.a, k, c.wrapped); !errors.Is(err, ErrInvalidCiphertext) || got.Len() > 0 {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, a := range []WrappingAlgorithm{WrapPKCS1, WrapSM2PKE, ""} {
		if _, err := Unwrap(a, k, wrapped); !errors.Is(err, ErrUnsupported) {
			t.Errorf("unwrap by %q: got %v", a, err)
		}
		if _, err := Wrap(a, p, material); !errors.Is(err, ErrUnsupported) {
			t.Errorf("wrap by %q: got %v", a, err)
		}
	}
	if _, err := Unwrap(WrapOAEPSHA256, private(t, ECCNISTP256), wrapped); !errors.Is(err, ErrUnsupported) {
		t.Errorf("under a key that is not RSA: got %v", err)
	}
	if _, err := Wrap(WrapOAEPSHA256, public(t, ECCNISTP256), material); !errors.Is(err, ErrUnsupported) {
		t.Errorf("under a public key that is not RSA: got %v", err)
	}
	if _, err := Wrap(WrapRSAAESKW256, p, secret.Bytes{}); err == nil {
		t.Error("nothing was wrapped")
	}
}
