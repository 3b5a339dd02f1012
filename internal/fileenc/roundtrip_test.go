package fileenc_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/fileenc"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// The lengths at which frames and blocks begin and end.
func TestEveryLengthComesBack(t *testing.T) {
	t.Parallel()
	const frame = 1000
	perBlock := (256 << 10) / (frame + 32)
	for _, sign := range []bool{false, true} {
		for _, n := range []int{0, 1, frame - 1, frame, frame + 1, 2 * frame, 10*frame + 7, perBlock*frame - 1, perBlock * frame, perBlock*frame + 1, 2 * perBlock * frame, 9*perBlock*frame + 9} {
			t.Run(fmt.Sprint(n, sign), func(t *testing.T) {
				t.Parallel()
				kms, plain := &fakeKMS{}, random(n)
				message := seal(t, kms, plain, fileenc.EncryptOptions{Keys: keys(first, second), Context: shop, FrameLength: frame, Sign: sign})
				for _, k := range []string{first, second} {
					got, err := unseal(t, kms, message, fileenc.DecryptOptions{Keys: keys(k), Context: shop})
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%s: %d bytes, %v", k, len(got), err)
					}
				}
				if n > 0 && bytes.Contains(message, plain[:min(n, 16)]) && n > 8 {
					t.Error("the message has plaintext in it")
				}
			})
		}
	}
}

func TestAnyMessageComesBackHoweverItIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		frame := rapid.OneOf(rapid.IntRange(1, 300), rapid.Just(1<<20), rapid.Just(fileenc.MaxFrameLength)).Draw(rt, "frame")
		n := rapid.IntRange(0, 20_000).Draw(rt, "length")
		if frame < 300 && rapid.Bool().Draw(rt, "whole frames") {
			n = n / frame * frame
		}
		context := rapid.MapOfN(rapid.StringMatching(`[a-zé€]{1,9}`), rapid.StringN(1, 9, 30), 0, 5).Draw(rt, "context")
		sign := rapid.Bool().Draw(rt, "sign")
		kms, plain := &fakeKMS{}, random(n)
		var message bytes.Buffer
		if _, _, err := fileenc.Encrypt(t.Context(), kms, &message, slowly(rt, plain), fileenc.EncryptOptions{Keys: keys(first), Context: context, FrameLength: frame, Sign: sign}); err != nil {
			rt.Fatal(err)
		}
		var got bytes.Buffer
		m, err := fileenc.Decrypt(t.Context(), kms, &got, slowly(rt, message.Bytes()), fileenc.DecryptOptions{Keys: keys(first), Context: context})
		if err != nil || !bytes.Equal(got.Bytes(), plain) {
			rt.Fatalf("%d of %d bytes, %v", got.Len(), n, err)
		}
		if m.Size != int64(n) || m.Key != first || int(m.Header.FrameLength) != frame {
			rt.Errorf("got %d bytes under %s, frames of %d", m.Size, m.Key, m.Header.FrameLength)
		}
	})
}

// slowly reads b in pieces of any size.
func slowly(rt *rapid.T, b []byte) io.Reader {
	step := rapid.IntRange(1, 9000).Draw(rt, "step")
	return readerFunc(func(p []byte) (int, error) {
		if len(b) == 0 {
			return 0, io.EOF
		}
		n := copy(p[:min(len(p), step)], b)
		b = b[n:]
		return n, nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestRewrapKeepsContentAndContextAndDropsTheOldKeys(t *testing.T) {
	t.Parallel()
	for _, sign := range []bool{false, true} {
		kms, plain := &fakeKMS{}, random(700_000)
		required := map[string]string{"ticket": "17"}
		old := seal(t, kms, plain, fileenc.EncryptOptions{Keys: keys(first), Context: shop, Required: required, Sign: sign, FrameLength: 4096})
		all := map[string]string{"tenant": "shop", "ticket": "17"}
		var out bytes.Buffer
		opened, h, err := fileenc.Rewrap(t.Context(), kms, &out, bytes.NewReader(old), fileenc.RewrapOptions{
			From: fileenc.DecryptOptions{Keys: keys(first), Context: all}, To: keys(second, third),
		})
		if err != nil {
			t.Fatal(err)
		}
		if opened.Key != first || h.Suite.Signed() != sign || h.FrameLength != 4096 || !slices.Equal(h.KeyNames(), []string{second, third}) {
			t.Errorf("opened by %s, now %s with frames of %d under %q", opened.Key, h.Suite, h.FrameLength, h.KeyNames())
		}
		if bytes.Equal(h.MessageID, opened.Header.MessageID) || bytes.Equal(h.Commitment, opened.Header.Commitment) {
			t.Error("the new message has the data key or the id of the old one")
		}
		for _, k := range []string{second, third} {
			if got, err := unseal(t, kms, out.Bytes(), fileenc.DecryptOptions{Keys: keys(k), Context: all}); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s does not open it: %v", k, err)
			}
		}
		_, err = unseal(t, kms, out.Bytes(), fileenc.DecryptOptions{Keys: keys(first), Context: all})
		refused(t, err, fileenc.ErrNoKey, "it is encrypted under "+second+", "+third)
	}
}

func TestRewrapRefusesAMessageThatWasChanged(t *testing.T) {
	t.Parallel()
	kms := &fakeKMS{}
	old := seal(t, kms, random(700_000), fileenc.EncryptOptions{Keys: keys(first), Context: shop})
	for name, c := range map[string]struct {
		message []byte
		err     error
		words   string
	}{
		"changed":  {flipped(old, len(old)-1), fileenc.ErrForged, "frame 11 was changed"},
		"cut off":  {old[:len(old)-1], fileenc.ErrTruncated, "before frame 11 is complete"},
		"trailing": {append(slices.Clone(old), 0), fileenc.ErrTrailing, ""},
	} {
		_, _, err := fileenc.Rewrap(t.Context(), kms, io.Discard, bytes.NewReader(c.message), fileenc.RewrapOptions{
			From: fileenc.DecryptOptions{Keys: keys(first)}, To: keys(second),
		})
		t.Log(name)
		refused(t, err, c.err, c.words)
	}
}

func flipped(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}
