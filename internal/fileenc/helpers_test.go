package fileenc_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"cardea/internal/fileenc"
	"cardea/internal/kmsclient"
	"cardea/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	first  = "arn:aws:kms:eu-central-1:111122223333:key/11111111-1111-4111-8111-111111111111"
	second = "arn:aws:kms:eu-central-1:111122223333:key/22222222-2222-4222-8222-222222222222"
	third  = "arn:aws:kms:us-east-1:444455556666:key/33333333-3333-4333-8333-333333333333"
)

var shop = map[string]string{"tenant": "shop", "purpose": "backup"}

// fakeKMS is a key service without a network: it wraps by AES-GCM under the ARN and
// the context. The real one is used in internal/cli's tests and in interop.
type fakeKMS struct {
	calls []string
	// data, if present, is the data key that is made and that every blob opens to.
	data secret.Bytes
}

func named(k kmsclient.Key) string {
	if k.ID == "alias/files" {
		return first
	}
	return k.ID
}

func (f *fakeKMS) aead(k kmsclient.Key) cipher.AEAD {
	key := make([]byte, 32)
	copy(key, named(k)[strings.LastIndex(named(k), "/")+1:])
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func aad(context map[string]string) []byte {
	s := "context"
	for _, k := range slices.Sorted(maps.Keys(context)) {
		s += fmt.Sprintf("|%q=%q", k, context[k])
	}
	return []byte(s)
}

func (f *fakeKMS) GenerateDataKey(ctx context.Context, k kmsclient.Key, context map[string]string) (kmsclient.DataKey, error) {
	f.calls = append(f.calls, "GenerateDataKey "+k.ID)
	key := secret.Random(32)
	if f.data.Present() {
		key = secret.Copy(f.data.Expose())
	}
	return kmsclient.DataKey{Plaintext: key, Blob: f.aead(k).Seal(nil, nil, key.Expose(), aad(context)), KeyARN: named(k)}, nil
}

func (f *fakeKMS) Encrypt(ctx context.Context, k kmsclient.Key, plaintext secret.Bytes, context map[string]string) ([]byte, string, error) {
	f.calls = append(f.calls, "Encrypt "+k.ID)
	return f.aead(k).Seal(nil, nil, plaintext.Expose(), aad(context)), named(k), nil
}

func (f *fakeKMS) Decrypt(ctx context.Context, k kmsclient.Key, blob []byte, context map[string]string) (secret.Bytes, error) {
	f.calls = append(f.calls, "Decrypt "+k.ID)
	if f.data.Present() {
		return secret.Copy(f.data.Expose()), nil
	}
	b, err := f.aead(k).Open(nil, nil, blob, aad(context))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%s: %w", k.ID, kmsclient.ErrWrongContext)
	}
	return secret.New(b), nil
}

func keys(ids ...string) []kmsclient.Key {
	var out []kmsclient.Key
	for _, id := range ids {
		k := kmsclient.Key{ID: id, Region: "eu-central-1"}
		if parts := strings.Split(id, ":"); len(parts) > 3 {
			k.Region = parts[3]
		}
		out = append(out, k)
	}
	return out
}

func seal(t testing.TB, kms fileenc.KMS, plain []byte, o fileenc.EncryptOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	_, n, err := fileenc.Encrypt(t.Context(), kms, &out, bytes.NewReader(plain), o)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(len(plain)) {
		t.Fatalf("%d bytes encrypted, want %d", n, len(plain))
	}
	return out.Bytes()
}

func unseal(t testing.TB, kms fileenc.KMS, message []byte, o fileenc.DecryptOptions) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	_, err := fileenc.Decrypt(t.Context(), kms, &out, bytes.NewReader(message), o)
	return out.Bytes(), err
}
