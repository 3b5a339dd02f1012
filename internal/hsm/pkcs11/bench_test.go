//go:build pkcs11 && cgo

package pkcs11

import (
	"testing"

	"cardea/internal/secret"
)

// BenchmarkToken is what this package and SoftHSM cost together. An HSM in a network
// is far slower.
func BenchmarkToken(b *testing.B) {
	where, _ := newToken(b)
	be := open(b, where, Options{})
	m := newKey(b, be, "key")
	plain := secret.Random(32)
	sealed, err := be.Seal(b.Context(), m, someAAD, plain)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, op func() error) {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := op(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
		})
	}
	run("seal", func() error {
		_, err := be.Seal(b.Context(), m, someAAD, plain)
		return err
	})
	run("open", func() error {
		p, err := be.Open(b.Context(), m, someAAD, sealed)
		p.Destroy()
		return err
	})
	bad := append([]byte(nil), sealed...)
	bad[20] ^= 1
	run("open what was changed", func() error {
		if _, err := be.Open(b.Context(), m, someAAD, bad); err == nil {
			b.Error("it opened")
		}
		return nil
	})
	run("random", func() error {
		r, err := be.Random(b.Context(), 32)
		r.Destroy()
		return err
	})
}
