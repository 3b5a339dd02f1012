package soft_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"cardea/internal/hsm/soft"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// vector is one that testdata/vectors.py, an implementation of its own, has written.
type vector struct {
	Name                            string
	Root, KEK, Salt, Nonce, Context hexBytes
	Plaintext, Sealed               hexBytes
	KeyID                           string `json:"key_id"`
	MaterialID                      string `json:"material_id"`
	Spec                            keyspec.Spec
	Label                           string
}

func readVectors(t *testing.T, file string) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var vs []vector
	if err := d.Decode(&vs); err != nil || len(vs) < 3 {
		t.Fatalf("%s: %v, %d vectors", file, err, len(vs))
	}
	return vs
}

func (v vector) backend(t *testing.T) *soft.Backend {
	t.Helper()
	b := soft.New(soft.Options{Root: func() (secret.Bytes, error) { return secret.Copy(v.Root), nil }})
	t.Cleanup(b.Close)
	return b
}

func TestSecretVectorsOpen(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "secret.json") {
		p, err := v.backend(t).OpenSecret(t.Context(), v.Label, v.Sealed)
		if err != nil || !bytes.Equal(p.Expose(), v.Plaintext) {
			t.Errorf("%s: %v, or another secret", v.Name, err)
		}
	}
}

// TestMaterialVectorsWork opens handles and checks that they are of the material
// in the vector by what it computes.
func TestMaterialVectorsWork(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "material.json") {
		b := v.backend(t)
		m := kms.MaterialRef{KeyID: v.KeyID, ID: v.MaterialID, Spec: v.Spec, Handle: v.Sealed}
		known, err := keyspec.ParsePrivate(v.Spec, secret.Copy(v.Plaintext))
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		message := []byte("message")
		var got, want []byte
		switch v.Spec {
		case keyspec.SymmetricDefault:
			var box []byte
			if box, err = ciphertextBox(v.Plaintext, message); err != nil {
				t.Fatal(err)
			}
			var p secret.Bytes
			if p, err = b.Open(t.Context(), m, []byte("context"), box); err == nil {
				got, want = p.Expose(), message
			}
		case keyspec.HMAC384:
			if want, err = known.MAC(keyspec.MACHMACSHA384, message); err != nil {
				t.Fatal(err)
			}
			got, err = b.MAC(t.Context(), m, keyspec.MACHMACSHA384, message)
		case keyspec.ECCEdwards25519: // its signatures are deterministic
			if want, err = known.Sign(keyspec.SignEd25519, keyspec.MessageRaw, message); err != nil {
				t.Fatal(err)
			}
			got, err = b.Sign(t.Context(), m, keyspec.SignEd25519, keyspec.MessageRaw, message)
		default:
			t.Fatalf("%s: spec %s", v.Name, v.Spec)
		}
		if err != nil || len(want) == 0 || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, or the work of another key", v.Name, err)
		}
	}
}
