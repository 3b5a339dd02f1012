package keymanager

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"cardea/internal/kms"
	"cardea/internal/secret"
	"cardea/internal/vault"
)

// hexText is how the vectors write bytes.
type hexText []byte

func (h *hexText) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// boundKey is the name that a key of the vectors is bound to.
type boundKey struct {
	Tenant, Holder, Purpose string
	KeyID                   uuid.UUID `json:"key_id"`
	Version                 uint32
}

func (b boundKey) key(wrapped []byte) vault.WrappedKey {
	return vault.WrappedKey{
		ID: vault.KeyID(b.KeyID), Tenant: b.Tenant, Holder: b.Holder, Purpose: vault.Purpose(b.Purpose), Version: b.Version, Wrapped: wrapped,
	}
}

// others are b with one thing changed, by what it is.
func (b boundKey) others() map[string]boundKey {
	out := map[string]boundKey{}
	for what, change := range map[string]func(*boundKey){
		"tenant":  func(b *boundKey) { b.Tenant += "x" },
		"holder":  func(b *boundKey) { b.Holder += "x" },
		"purpose": func(b *boundKey) { b.Purpose += "x" },
		"key id":  func(b *boundKey) { b.KeyID[15] ^= 1 },
		"version": func(b *boundKey) { b.Version ^= 2 },
	} {
		other := b
		change(&other)
		out[what] = other
	}
	return out
}

// wrapVectors are those of a file that ../ciphertext/testdata/vectors.py, an
// implementation of its own, has written.
func wrapVectors[V any](t *testing.T, file string) (vectors []V) {
	t.Helper()
	data, err := os.ReadFile("../ciphertext/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 3 {
		t.Fatalf("%s has %d vectors", file, len(vectors))
	}
	return vectors
}

// vectorHSM has one key, which opens as the specification says. It seals by the nonce
// that it is told.
type vectorHSM struct {
	gcm   cipher.AEAD
	nonce []byte
}

func (h vectorHSM) SealUnder(_ context.Context, _ string, aad []byte, p secret.Bytes) ([]byte, error) {
	return h.gcm.Seal(bytes.Clone(h.nonce), h.nonce, p.Expose(), aad), nil
}

func (h vectorHSM) OpenUnder(_ context.Context, _ string, aad, sealed []byte) (secret.Bytes, error) {
	p, err := h.gcm.Open(nil, sealed[:12], sealed[12:], aad)
	if err != nil {
		return secret.Bytes{}, kms.ErrNotOurs
	}
	return secret.New(p), nil
}

func TestVectorsOfKeysInAnHSM(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name    string
		Binding boundKey
		URI     string
		HSMKey  hexText `json:"hsm_key"`
		Key     hexText
		AAD     hexText
		Wrapped hexText
	}
	for _, v := range wrapVectors[vector](t, "hsmwrapped.json") {
		block, err := aes.NewCipher(v.HSMKey)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		nonce := v.Wrapped[38+4+len(v.URI):][:12]
		tenants := map[string]HSMKey{}
		for _, b := range append([]boundKey{v.Binding}, v.Binding.others()["tenant"]) {
			tenants[b.Tenant] = HSMKey{HSM: vectorHSM{gcm, nonce}, Label: "vault", URI: v.URI}
		}
		w, key := HSMWrapper(NewHSMTenants(tenants)), v.Binding.key(v.Wrapped)
		if aad := elsewhereContext("cardea hsm wrapped key v1", key, v.URI); !bytes.Equal(aad, v.AAD) {
			t.Errorf("%s: another context", v.Name)
		}
		if wrapped, err := w.Wrap(t.Context(), key, secret.Copy(v.Key)); err != nil || !bytes.Equal(wrapped, v.Wrapped) {
			t.Errorf("%s: wrap: %v, %x", v.Name, err, wrapped)
		}
		wantVector(t, v.Name, w, v.Binding, v.Wrapped, v.Key)
	}
}

func TestVectorsOfKeysInAnEncryptionService(t *testing.T) {
	t.Parallel()
	// As in the vectors, what the service makes of a plaintext is its base64.
	s := newEncryptionService(t, (*httptest.Server).Start)
	s.failWith(func(w http.ResponseWriter, r *http.Request) bool {
		var in struct {
			Data string `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return true
		}
		text, sealed := strings.CutPrefix(in.Data, "v1:")
		if !sealed {
			text = "v1:" + text
		}
		if err := json.NewEncoder(w).Encode(map[string]string{"data": text}); err != nil {
			t.Error(err)
		}
		return true
	})
	type vector struct {
		Name       string
		Binding    boundKey
		Identifier string
		Key        hexText
		Plaintext  hexText
		Text       string
		Wrapped    hexText
	}
	for _, v := range wrapVectors[vector](t, "externalwrapped.json") {
		if id := serviceKeyOf(v.Binding.Tenant); id != v.Identifier {
			t.Errorf("%s: identifier %s, want %s", v.Name, id, v.Identifier)
		}
		services := map[string]*Service{}
		for _, b := range append([]boundKey{v.Binding}, v.Binding.others()["tenant"]) {
			services[b.Tenant] = newService(t, "acme", ServiceOptions{URL: s.URL})
		}
		w, key := ExternalWrapper(NewExternalTenants(services)), v.Binding.key(v.Wrapped)
		if wrapped, err := w.Wrap(t.Context(), key, secret.Copy(v.Key)); err != nil || !bytes.Equal(wrapped, v.Wrapped) {
			t.Errorf("%s: wrap: %v, %x", v.Name, err, wrapped)
		}
		wantVector(t, v.Name, w, v.Binding, v.Wrapped, v.Key)
	}
}

// wantVector fails unless wrapped is key under its own name, and nothing under another.
func wantVector(t *testing.T, name string, w Wrapper, b boundKey, wrapped, key []byte) {
	t.Helper()
	got, err := w.Unwrap(t.Context(), b.key(wrapped))
	if err != nil || !got.Equal(secret.Copy(key)) {
		t.Errorf("%s: unwrap: %v, or another key", name, err)
	}
	if !w.Current(b.key(wrapped)) {
		t.Errorf("%s: is not under the key that is configured", name)
	}
	for what, other := range b.others() {
		// A row says itself which key it is: it lies.
		lie := bytes.Clone(wrapped)
		copy(lie[2:18], other.KeyID[:])
		lie[21] = byte(other.Version)
		copy(lie[18:21], []byte{byte(other.Version >> 24), byte(other.Version >> 16), byte(other.Version >> 8)})
		if p, err := w.Unwrap(t.Context(), other.key(lie)); !errors.Is(err, vault.ErrCorrupt) || p.Present() {
			t.Errorf("%s: under another %s: %v", name, what, err)
		}
	}
}
