package kms_test

import (
	"testing"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/kms/kmstest"
	"cardea/internal/secret"
)

// benchmark measures what the service itself costs, with policies and audit entry,
// on a store that does nothing.
func benchmark(b *testing.B, run func(b *testing.B, f *kmstest.Fixture, k *kms.Key, who kms.Caller) func() error) {
	b.Helper()
	f := kmstest.New(b, func(o *kms.Options) { o.Store = discard{o.Store} })
	k := f.Key(b, keyspec.SymmetricDefault)
	op := run(b, f, k, kmstest.Admin(b))
	b.ReportAllocs()
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
}

var benchContext = map[string]string{"tenant": "acme", "purpose": "branch key"}

func BenchmarkEncrypt(b *testing.B) {
	benchmark(b, func(b *testing.B, f *kmstest.Fixture, k *kms.Key, who kms.Caller) func() error {
		in := &kms.EncryptInput{KeyID: k.ARN(), Plaintext: secret.Random(32), EncryptionContext: benchContext}
		return func() error {
			_, err := f.Encrypt(b.Context(), who, in)
			return err
		}
	})
}

func BenchmarkDecrypt(b *testing.B) {
	benchmark(b, func(b *testing.B, f *kmstest.Fixture, k *kms.Key, who kms.Caller) func() error {
		in := &kms.DecryptInput{CiphertextBlob: encrypt(b, f, k.ID, "32 bytes of key, 32 bytes of key", benchContext), EncryptionContext: benchContext}
		return func() error {
			_, err := f.Decrypt(b.Context(), who, in)
			return err
		}
	})
}

func BenchmarkGenerateDataKey(b *testing.B) {
	benchmark(b, func(b *testing.B, f *kmstest.Fixture, k *kms.Key, who kms.Caller) func() error {
		in := &kms.GenerateDataKeyInput{KeyID: k.ARN(), KeySpec: kms.DataKeyAES256, EncryptionContext: benchContext}
		return func() error {
			_, err := f.GenerateDataKey(b.Context(), who, in)
			return err
		}
	})
}

// BenchmarkSeal is the backend's part of an Encrypt.
func BenchmarkSeal(b *testing.B) {
	f := kmstest.New(b)
	k := f.Key(b, keyspec.SymmetricDefault)
	m := kms.MaterialRef{KeyID: k.ID, ID: k.Materials[0].ID, Spec: k.Spec, Handle: k.Materials[0].Handle}
	p, aad := secret.Random(32), make([]byte, 150)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Soft.Seal(b.Context(), m, aad, p); err != nil {
			b.Fatal(err)
		}
	}
}
