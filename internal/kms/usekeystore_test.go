package kms_test

import (
	"context"
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// cluster is a custom key store's device, and secrets that are not sealed.
type cluster struct{ kms.Backend }

func (c cluster) Connect(context.Context, string, secret.Bytes) (kms.Backend, error) {
	return c.Backend, nil
}
func (cluster) Clusters() map[string]string { return map[string]string{"cluster-1": ""} }
func (cluster) SealSecret(_ context.Context, _ string, p secret.Bytes) ([]byte, error) {
	return p.Expose(), nil
}

func (cluster) OpenSecret(_ context.Context, _ string, sealed []byte) (secret.Bytes, error) {
	return secret.Copy(sealed), nil
}

// Keys in a custom key store are used on its device, and their material has no name.
func TestKeysInACustomKeyStore(t *testing.T) {
	t.Parallel()
	device := kmstest.NewBackend(t)
	f := kmstest.New(t, func(o *kms.Options) { o.KeyStores, o.Secrets = cluster{device}, cluster{} })
	const id = "cks-1234567890abcdef0"
	f.Update(t, func(ctx context.Context, tx kms.Tx) error {
		return tx.PutKeyStore(ctx, &kms.KeyStore{
			Account: kmstest.Account, Region: kmstest.Region, ID: id, Name: "hsm", Type: kms.KeyStoreCloudHSM, ClusterID: "cluster-1",
			Password: []byte("password"), State: kms.Connected, CreatedAt: f.Clock.Now(),
		})
	})
	k := f.Key(t, keyspec.SymmetricDefault, func(k *kms.Key) {
		m := &k.Materials[0]
		var err error
		if m.Handle, _, err = device.Generate(t.Context(), kms.MaterialRef{KeyID: k.ID, ID: m.ID, Spec: k.Spec}); err != nil {
			t.Fatal(err)
		}
		k.KeyStoreID, k.Origin = id, kms.OriginCloudHSM
	})
	f.FailBackend(func(call string) error {
		t.Errorf("the soft backend was asked to %s", call)
		return nil
	})
	who, ctx, n := kmstest.Admin(t), t.Context(), int32(8)
	pairs := map[string]string{"a": "b"}
	blob := encrypt(t, f, k.ID, "a secret", pairs)
	if e := f.Last(t); len(e.Call.Response) != 0 {
		t.Errorf("entry names the material: %v", e.Call.Response)
	}
	out, err := f.Decrypt(ctx, who, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: pairs})
	if err != nil || string(out.Plaintext.Expose()) != "a secret" || out.KeyMaterialID != "" {
		t.Errorf("decrypt: %v, material %q", err, out.KeyMaterialID)
	}
	data, err := f.GenerateDataKey(ctx, who, &kms.GenerateDataKeyInput{KeyID: k.ID, KeySpec: kms.DataKeyAES128})
	if err != nil || data.Plaintext.Len() != 16 || data.KeyMaterialID != "" {
		t.Errorf("data key: %v", err)
	}
	random, err := f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: &n, CustomKeyStoreID: id})
	if err != nil || random.Plaintext.Len() != 8 || f.Last(t).Call.Param("customKeyStoreId") != id {
		t.Errorf("random: %v", err)
	}
	_, err = f.GenerateRandom(ctx, who, &kms.GenerateRandomInput{NumberOfBytes: &n, CustomKeyStoreID: "cks-none"})
	kmstest.Refused(t, err, "CustomKeyStoreNotFoundException", "Custom key store cks-none does not exist.")
}
