package ciphertext

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func testKMSHeader() KMSHeader {
	return KMSHeader{
		Account: "111122223333", KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab",
		MaterialID: strings.Repeat("0123456789abcdef", 4),
	}
}

func mustKMSBlob(t testing.TB, h KMSHeader, sealed []byte) []byte {
	t.Helper()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, sealed...)
}

func genKMSHeader() *rapid.Generator[KMSHeader] {
	return rapid.Custom(func(t *rapid.T) KMSHeader {
		return KMSHeader{
			Account: rapid.StringMatching(`[0-9]{12}`).Draw(t, "account"),
			KeyID: rapid.OneOf(
				rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
				rapid.StringMatching(`mrk-[0-9a-f]{32}`),
			).Draw(t, "key id"),
			MaterialID: rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "material id"),
		}
	})
}

func TestKMSBlobNamesItsKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := genKMSHeader().Draw(t, "header")
		sealed := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "sealed")
		blob, err := h.Append([]byte("before"))
		if err != nil || len(blob) != len("before")+KMSHeaderSize {
			t.Fatalf("%d bytes, %v", len(blob), err)
		}
		got, err := ParseKMSBlob(append(blob[len("before"):], sealed...))
		if err != nil || got.KMSHeader != h || !bytes.Equal(got.Sealed, sealed) {
			t.Fatalf("got %+v, %v; want %+v", got, err, h)
		}
	})
}

func TestKMSBlobRefuses(t *testing.T) {
	t.Parallel()
	good := mustKMSBlob(t, testKMSHeader(), []byte("sealed"))
	with := func(i int, b ...byte) []byte {
		c := slices.Clone(good)
		copy(c[i:], b)
		return c
	}
	for name, c := range map[string]struct {
		blob []byte
		want error
	}{
		"nothing":              {nil, ErrCorrupt},
		"one byte":             {good[:1], ErrCorrupt},
		"half a header":        {good[:30], ErrCorrupt},
		"nothing sealed":       {good[:KMSHeaderSize], ErrCorrupt},
		"too long":             {append(slices.Clone(good), make([]byte, MaxKMSBlob-len(good)+1)...), ErrCorrupt},
		"version 0":            {with(0, 0), ErrUnknownVersion},
		"version 2":            {with(0, 2), ErrUnknownVersion},
		"kind 2":               {with(1, 2), ErrUnknownVersion},
		"account of 13 digits": {with(2, 0xe8, 0xd4, 0xa5, 0x10, 0x00), ErrCorrupt},
		"largest account":      {with(2, 0xff, 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
		// base64 AQICAHh…: what AWS's own ciphertexts begin with
		"of AWS": {append([]byte{1, 2, 2, 0, 0x78}, make([]byte, 180)...), ErrUnknownVersion},
	} {
		got, err := ParseKMSBlob(c.blob)
		if !errors.Is(err, c.want) || errors.Is(err, ErrUnknownVersion) != errors.Is(c.want, ErrUnknownVersion) || got.Sealed != nil || got.KMSHeader != (KMSHeader{}) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if got, err := ParseKMSBlob(with(2, 0xe8, 0xd4, 0xa5, 0x0f, 0xff)); err != nil || got.Account != "999999999999" {
		t.Errorf("account 999999999999: got %q, %v", got.Account, err)
	}
	if _, err := ParseKMSBlob(append(slices.Clone(good), make([]byte, MaxKMSBlob-len(good))...)); err != nil {
		t.Errorf("%d bytes: %v", MaxKMSBlob, err)
	}
}

func TestKMSHeaderRefuses(t *testing.T) {
	t.Parallel()
	with := func(f func(*KMSHeader)) KMSHeader { h := testKMSHeader(); f(&h); return h }
	const account, key, material = "KMS ciphertext: account is not 12 digits",
		"KMS ciphertext: key id: not 32 lower-case hex digits", "KMS ciphertext: material id: not 64 lower-case hex digits"
	for name, c := range map[string]struct {
		h    KMSHeader
		want string
	}{
		"no account":            {with(func(h *KMSHeader) { h.Account = "" }), account},
		"short account":         {with(func(h *KMSHeader) { h.Account = "11112222333" }), account},
		"long account":          {with(func(h *KMSHeader) { h.Account = "0111122223333" }), account},
		"account with a sign":   {with(func(h *KMSHeader) { h.Account = "+11122223333" }), account},
		"no key id":             {with(func(h *KMSHeader) { h.KeyID = "" }), key},
		"upper-case key id":     {with(func(h *KMSHeader) { h.KeyID = "1234ABCD-12ab-34cd-56ef-1234567890ab" }), key},
		"key id, no hyphens":    {with(func(h *KMSHeader) { h.KeyID = "1234abcd12ab34cd56ef1234567890ab" }), key},
		"short mrk":             {with(func(h *KMSHeader) { h.KeyID = "mrk-1234" }), key},
		"mrk with hyphens":      {with(func(h *KMSHeader) { h.KeyID = "mrk-1234abcd-12ab-34cd-56ef-1234567890ab" }), key},
		"no material":           {with(func(h *KMSHeader) { h.MaterialID = "" }), material},
		"upper-case material":   {with(func(h *KMSHeader) { h.MaterialID = strings.Repeat("AB", 32) }), material},
		"material of 31 bytes":  {with(func(h *KMSHeader) { h.MaterialID = strings.Repeat("ab", 31) }), material},
		"material id not hex":   {with(func(h *KMSHeader) { h.MaterialID = strings.Repeat("xy", 32) }), ""},
		"key id that is no hex": {with(func(h *KMSHeader) { h.KeyID = "mrk-" + strings.Repeat("zz", 16) }), ""},
	} {
		got, err := c.h.Append(nil)
		if err == nil || c.want != "" && err.Error() != c.want || got != nil {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// No two encryption contexts give the same associated data, be it that a character
// moves from a name to its value or from one pair to the next.
func TestKMSContextIsInjective(t *testing.T) {
	t.Parallel()
	header := mustKMSBlob(t, testKMSHeader(), nil)
	word := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 2, -1)
	pairs := rapid.MapOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 2, -1), word, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		a, b := pairs.Draw(t, "a"), pairs.Draw(t, "b")
		if bytes.Equal(KMSContext(header, a), KMSContext(header, b)) != maps.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	})
	if bytes.Equal(KMSContext(header, map[string]string{"a": "bc"}), KMSContext(header, map[string]string{"ab": "c"})) {
		t.Error(`{"a":"bc"} is as {"ab":"c"}`)
	}
	if !bytes.Equal(KMSContext(header, nil), KMSContext(header, map[string]string{})) {
		t.Error("no context is not as an empty one")
	}
	other := slices.Clone(header)
	for i := range other {
		other[i] ^= 1
		if bytes.Equal(KMSContext(header, nil), KMSContext(other, nil)) {
			t.Errorf("byte %d of the header is not bound", i)
		}
		other[i] ^= 1
	}
}

func TestKMSContextDoesNotDependOnTheOrderOfTheMap(t *testing.T) {
	t.Parallel()
	pairs := map[string]string{}
	for _, name := range strings.Split("k a c b e d g f i h j", " ") {
		pairs[name] = "value of " + name
	}
	want := KMSContext(nil, pairs)
	for range 20 {
		if !bytes.Equal(KMSContext(nil, maps.Clone(pairs)), want) {
			t.Fatal("another context")
		}
	}
}

func TestKMSBlobVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name              string
		Account           string
		KeyID             string            `json:"key_id"`
		MaterialID        string            `json:"material_id"`
		EncryptionContext map[string]string `json:"encryption_context"`
		Material          hexBytes
		Salt, Nonce       hexBytes
		Plaintext         hexBytes
		Header, Context   hexBytes
		Sealed, Blob      hexBytes
	}
	for _, v := range readVectors[vector](t, "kmsblob.json") {
		h := KMSHeader{Account: v.Account, KeyID: v.KeyID, MaterialID: v.MaterialID}
		header := mustKMSBlob(t, h, nil)
		if !bytes.Equal(header, v.Header) {
			t.Errorf("%s: header %x, want %x", v.Name, header, v.Header)
		}
		aad := KMSContext(header, v.EncryptionContext)
		if !bytes.Equal(aad, v.Context) {
			t.Errorf("%s: context %x, want %x", v.Name, aad, v.Context)
		}
		b, err := ParseKMSBlob(v.Blob)
		if err != nil || b.KMSHeader != h || !bytes.Equal(b.Sealed, v.Sealed) {
			t.Errorf("%s: parse: %+v, %v", v.Name, b.KMSHeader, err)
			continue
		}
		got, err := OpenBox(v.Material.secret(), aad, b.Sealed)
		if err != nil || !bytes.Equal(got.Expose(), v.Plaintext) {
			t.Errorf("%s: open: %v, or another plaintext", v.Name, err)
		}
	}
}

func FuzzParseKMSBlob(f *testing.F) {
	h := testKMSHeader()
	f.Add(mustKMSBlob(f, h, []byte("sealed")))
	f.Add(mustKMSBlob(f, h, nil))
	h.KeyID, h.Account = "mrk-1234abcd12ab34cd56ef1234567890ab", "000000000000"
	f.Add(mustKMSBlob(f, h, []byte{0}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseKMSBlob(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || p.Sealed != nil || p.KMSHeader != (KMSHeader{}) {
				t.Fatalf("refused with %v and a header %v", err, p.KMSHeader)
			}
			return
		}
		again, err := p.Append(nil)
		if err != nil || !bytes.Equal(append(again, p.Sealed...), b) {
			t.Fatalf("parse then encode is not the identity: %v, %s", err, hex.EncodeToString(again))
		}
	})
}

func BenchmarkKMSBlob(b *testing.B) {
	blob := mustKMSBlob(b, testKMSHeader(), make([]byte, 124))
	pairs := map[string]string{"tenant": "acme", "purpose": "branch key"}
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParseKMSBlob(blob)
		if err != nil {
			b.Fatal(err)
		}
		KMSContext(blob[:KMSHeaderSize], pairs)
		_ = p
	}
}
