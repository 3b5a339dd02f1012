package fileenc_test

import (
	"bytes"
	"strings"
	"testing"

	"cardea/internal/fileenc"
	"cardea/internal/secret"
)

// FuzzHeader: what is read is written back byte by byte, so there is one encoding.
func FuzzHeader(f *testing.F) {
	for _, v := range vectors(f, "testdata/esdk-go.json", 11) {
		f.Add(v.Ciphertext)
	}
	for _, v := range vectors(f, "testdata/commitment.json", 5) {
		f.Add(v.Ciphertext)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := fileenc.ReadHeader(bytes.NewReader(b), fileenc.DefaultMaxKeys)
		if err != nil {
			return
		}
		if !bytes.Equal(h.Reencode(), h.Raw()) || !bytes.HasPrefix(b, h.Raw()) {
			t.Errorf("%x is written as %x", h.Raw(), h.Reencode())
		}
	})
}

// FuzzMessage: no change of a message opens, whatever the data key's holder is
// given. What was released before the change was seen is a beginning of the plaintext.
func FuzzMessage(f *testing.F) {
	const plain = "twenty bytes of text"
	all := vectors(f, "testdata/esdk-go.json", 11)
	for i, v := range all {
		f.Add(i, v.Ciphertext)
		f.Add(i, v.Ciphertext[:len(v.Ciphertext)-40])
	}
	f.Fuzz(func(t *testing.T, i int, b []byte) {
		if i < 0 || i >= len(all) {
			return
		}
		var out bytes.Buffer
		err := fileenc.OpenWith(t.Context(), &out, bytes.NewReader(b), secret.Copy(all[i].DataKey), fileenc.DecryptOptions{AllowUncommitted: true, MaxFrame: 1 << 16})
		if err == nil && !bytes.Equal(b, all[i].Ciphertext) {
			t.Errorf("opens though it was changed: %x", b)
		}
		if !strings.HasPrefix(plain, out.String()) {
			t.Errorf("released %q", out.String())
		}
	})
}
