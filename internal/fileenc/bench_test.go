package fileenc_test

import (
	"fmt"
	"io"
	"testing"

	"cardea/internal/fileenc"
)

// zeros is a source that costs nothing but its copy.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(z.left, int64(len(p)))
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

func BenchmarkEncrypt(b *testing.B) {
	const size = 64 << 20
	for _, frame := range []int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprint(frame>>10, "KiB"), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if _, _, err := fileenc.Encrypt(b.Context(), &fakeKMS{}, io.Discard, &zeros{size}, fileenc.EncryptOptions{Keys: keys(first), FrameLength: frame}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
