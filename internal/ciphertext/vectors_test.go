package ciphertext

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/uuid"

	"cardea/internal/secret"
)

// hexBytes is how the vectors write bytes.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

func (h hexBytes) secret() secret.Bytes { return secret.Copy(h) }

// readVectors reads a file that testdata/vectors.py, an implementation of its
// own, has written.
func readVectors[V any](t *testing.T, file string) []V {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var vectors []V
	if err := d.Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 3 {
		t.Fatalf("%s has %d vectors", file, len(vectors))
	}
	return vectors
}

func TestRecordVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string
		Binding struct {
			Tenant, Holder, Space, Customer, Reference, Kind string
			KeyID                                            uuid.UUID `json:"key_id"`
			KeyVersion                                       uint32    `json:"key_version"`
			CreatedAt                                        int64     `json:"created_at"`
			ExpiresAt                                        int64     `json:"expires_at"`
		}
		BranchKey    hexBytes `json:"branch_key"`
		EntitySecret hexBytes `json:"entity_secret"`
		Salt, Nonce  hexBytes
		Plaintext    hexBytes
		Context, OKM hexBytes
		Record       hexBytes
	}
	for _, v := range readVectors[vector](t, "record.json") {
		b := Binding(v.Binding)
		if !bytes.Equal(b.context(), v.Context) {
			t.Errorf("%s: another context", v.Name)
		}
		okm, err := derive(append(v.BranchKey[:KeySize:KeySize], v.EntitySecret...), v.Salt, v.Context)
		if err != nil || !bytes.Equal(okm, v.OKM) {
			t.Errorf("%s: derive: %v, or another key", v.Name, err)
		}
		if h, err := ParseRecord(v.Record); err != nil || h != (RecordHeader{b.KeyID, b.KeyVersion}) {
			t.Errorf("%s: parse: %v, %v", v.Name, h, err)
		}
		got, err := OpenRecord(v.BranchKey.secret(), v.EntitySecret, b, v.Record)
		if err != nil || !bytes.Equal(got.Expose(), v.Plaintext) {
			t.Errorf("%s: open: %v, or another plaintext", v.Name, err)
		}
	}
}

func TestWrappedKeyVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string
		Binding struct {
			Tenant, Holder, Purpose string
			KeyID                   uuid.UUID `json:"key_id"`
			Version                 uint32
			KEK                     uuid.UUID
		}
		WrappingKey  hexBytes `json:"wrapping_key"`
		Salt, Nonce  hexBytes
		Key          hexBytes
		Context, OKM hexBytes
		Wrapped      hexBytes
	}
	for _, v := range readVectors[vector](t, "wrapped.json") {
		kb := KeyBinding{
			Tenant: v.Binding.Tenant, Holder: v.Binding.Holder, Purpose: v.Binding.Purpose,
			KeyID: v.Binding.KeyID, Version: v.Binding.Version, Mode: ModeLocal, KEK: v.Binding.KEK,
		}
		if !bytes.Equal(kb.context(), v.Context) {
			t.Errorf("%s: another context", v.Name)
		}
		if okm, err := derive(v.WrappingKey, v.Salt, v.Context); err != nil || !bytes.Equal(okm, v.OKM) {
			t.Errorf("%s: derive: %v, or another key", v.Name, err)
		}
		if h, err := ParseWrapped(v.Wrapped); err != nil || h != kb.header() {
			t.Errorf("%s: parse: %v, %v", v.Name, h, err)
		}
		got, err := UnwrapKey(v.WrappingKey.secret(), kb, v.Wrapped)
		if err != nil || !got.Equal(v.Key.secret()) {
			t.Errorf("%s: unwrap: %v, or another key", v.Name, err)
		}
	}
}

func TestMACVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name  string
		Key   hexBytes
		Label string
		Parts []hexBytes
		MAC   hexBytes
	}
	for _, v := range readVectors[vector](t, "mac.json") {
		var parts [][]byte
		for _, p := range v.Parts {
			parts = append(parts, p)
		}
		got, err := MAC(v.Key.secret(), v.Label, parts...)
		if err != nil || !bytes.Equal(got[:], v.MAC) {
			t.Errorf("%s: %v, or another MAC", v.Name, err)
		}
	}
}

// Sealing is random, so it has no vector; instead each byte of a sealed record
// is made again from the specification.
func TestSealedRecordIsAsSpecified(t *testing.T) {
	t.Parallel()
	if fips140.Enforced() {
		t.Skip("AES-GCM with a given nonce, as the rebuilding needs, is not allowed in FIPS 140 mode only")
	}
	b, plaintext, entity := testBinding(), []byte("a card"), bytes.Repeat([]byte{5}, KeySize)
	blob := mustSeal(t, key32(1), entity, b, plaintext)
	salt, nonce := blob[22:54], blob[86:98]
	okm, err := hkdf.Key(sha256.New, append(bytes.Repeat([]byte{1}, 32), entity...), salt, string(b.context()), 64)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(okm[:32])
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	want := append([]byte{1, 1}, b.KeyID[:]...)
	want = append(want, 0, 0, 0, 1)
	want = append(want, salt...)
	want = append(want, okm[32:]...)
	want = append(want, nonce...)
	want = gcm.Seal(want, nonce, plaintext, b.context())
	if !bytes.Equal(blob, want) {
		t.Errorf("got %x, want %x", blob, want)
	}
}
