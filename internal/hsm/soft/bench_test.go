package soft_test

import (
	"testing"

	"cardea/internal/ciphertext"
	"cardea/internal/hsm/soft"
	"cardea/internal/keyspec"
	"cardea/internal/kms"
	"cardea/internal/secret"
)

func benchBackend(b *testing.B, spec keyspec.Spec) (*soft.Backend, kms.MaterialRef) {
	b.Helper()
	root := secret.Random(32)
	be := soft.New(soft.Options{
		Root:     func() (secret.Bytes, error) { return secret.Copy(root.Expose()), nil },
		Unsealed: func() bool { return true },
	})
	b.Cleanup(be.Close)
	m := kms.MaterialRef{KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab", ID: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", Spec: spec}
	var err error
	if m.Handle, _, err = be.Generate(b.Context(), m); err != nil {
		b.Fatal(err)
	}
	return be, m
}

func BenchmarkSeal(b *testing.B) {
	be, m := benchBackend(b, keyspec.SymmetricDefault)
	aad, plain := []byte("cardea kms ciphertext v1 and some associated data of a key"), secret.Random(32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := be.Seal(b.Context(), m, aad, plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	be, m := benchBackend(b, keyspec.SymmetricDefault)
	aad := []byte("cardea kms ciphertext v1 and some associated data of a key")
	sealed, err := be.Seal(b.Context(), m, aad, secret.Random(32))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := be.Open(b.Context(), m, aad, sealed)
		if err != nil {
			b.Fatal(err)
		}
		p.Destroy()
	}
}

// BenchmarkMiss is what the first use of material costs, and each after it has
// left the cache.
func BenchmarkMiss(b *testing.B) {
	for _, s := range []keyspec.Spec{keyspec.SymmetricDefault, keyspec.HMAC256, keyspec.ECCNISTP256, keyspec.ECCSECGP256K1, keyspec.ECCEdwards25519, keyspec.MLDSA65, keyspec.RSA2048, keyspec.RSA4096} {
		b.Run(string(s), func(b *testing.B) {
			be, m := benchBackend(b, s)
			for b.Loop() {
				be.Forget()
				// Material that is in use and no more: the algorithm is none of the spec's.
				if _, err := be.MAC(b.Context(), m, "", nil); err == nil {
					b.Fatal("no error")
				}
			}
		})
	}
}

// BenchmarkBound is the box alone, without look-up, handle and root key.
func BenchmarkBound(b *testing.B) {
	key := secret.Random(32)
	aad, plain := []byte("cardea kms ciphertext v1 and some associated data of a key"), secret.Random(32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ciphertext.SealBox(key, aad, plain.Expose()); err != nil {
			b.Fatal(err)
		}
	}
}
