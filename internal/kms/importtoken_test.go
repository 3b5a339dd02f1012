package kms

import (
	"bytes"
	"testing"
	"time"

	"cardea/internal/keyspec"
	"cardea/internal/secret"
)

func FuzzImportTokenPayload(f *testing.F) {
	t := importToken{keyspec.WrapOAEPSHA256, keyspec.RSA2048, time.Unix(1795000000, 0).UTC(), secret.New([]byte{1, 2, 3})}
	f.Add(t.payload().Expose())
	f.Add([]byte{5, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{4, 3, 0, 0, 0, 58, 255, 244, 65, 128, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		token, err := parseToken(bytes.Clone(b))
		if err != nil {
			return
		}
		if got := token.payload().Expose(); !bytes.Equal(got, b) {
			t.Errorf("parsed and encoded %x is %x", b, got)
		}
	})
}

func TestImportTokenPayloadHasOneEncoding(t *testing.T) {
	t.Parallel()
	good := importToken{keyspec.WrapRSAAESKW256, keyspec.RSA4096, time.Unix(1795000000, 0).UTC(), secret.New([]byte("key"))}
	b := good.payload().Expose()
	if want := []byte{4, 3, 0, 0, 0, 0, 0x6a, 0xfd, 0x86, 0xc0, 'k', 'e', 'y'}; !bytes.Equal(b, want) {
		t.Errorf("payload is %x, want %x", b, want)
	}
	for name, change := range map[string]func([]byte) []byte{
		"nothing":        func([]byte) []byte { return nil },
		"no key":         func(b []byte) []byte { return b[:10] },
		"algorithm 0":    func(b []byte) []byte { b[0] = 0; return b },
		"algorithm 5":    func(b []byte) []byte { b[0] = 5; return b },
		"spec 0":         func(b []byte) []byte { b[1] = 0; return b },
		"spec 4":         func(b []byte) []byte { b[1] = 4; return b },
		"after all time": func(b []byte) []byte { b[2] = 1; return b },
	} {
		if _, err := parseToken(change(bytes.Clone(b))); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestMaterialIDs(t *testing.T) {
	t.Parallel()
	with, material := secret.New(bytes.Repeat([]byte{7}, 32)), secret.New([]byte("material"))
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	got := importedMaterialID(with, id, material)
	if want := "61fe91b9b5976d3485e447f93159ac58f529723a77e565b07fa41c2368ba4352"; got != want {
		t.Errorf("id is %s, want %s", got, want)
	}
	for name, other := range map[string]string{
		"secret":   importedMaterialID(secret.New(bytes.Repeat([]byte{8}, 32)), id, material),
		"key":      importedMaterialID(with, "mrk-1234abcd12ab34cd56ef1234567890ab", material),
		"material": importedMaterialID(with, id, secret.New([]byte("other"))),
	} {
		if other == got {
			t.Errorf("the id does not depend on the %s", name)
		}
	}
}
