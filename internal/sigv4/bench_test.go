package sigv4

import (
	"testing"
)

func BenchmarkVerify(b *testing.B) {
	r, body := signed(example())
	b.Run("cached", func(b *testing.B) {
		v := verifier(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(r, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached, parallel", func(b *testing.B) {
		v := verifier(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := v.Verify(r, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("not cached", func(b *testing.B) {
		v := verifier(b)
		b.ReportAllocs()
		for b.Loop() {
			v.Wipe()
			if _, err := v.Verify(r, body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown access key", func(b *testing.B) {
		v := verifier(b)
		s := example()
		s.id = "AKIDNOBODY"
		r, body := signed(s)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(r, body); err == nil {
				b.Fatal("accepted")
			}
		}
	})
	b.Run("wrong secret", func(b *testing.B) {
		v := verifier(b)
		s := example()
		s.secret = "another" + exampleSecret
		r, body := signed(s)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(r, body); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
