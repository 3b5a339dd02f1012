// Package secret holds bytes that must never be printed, logged, serialised or
// compared in variable time: key material, custodian shares and cardholder data
// in clear.
//
// It promises that no fmt verb, encoding/json, log/slog handler or == reaches
// the bytes, bare or as an unexported field of another struct. fmt cannot call
// methods on unexported fields, so [Bytes] keeps its bytes behind two pointers:
// fmt never follows one below the top level, but a verb that a pointer does not
// know (%s, %q, %t) restarts it at the top level and so follows the first.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted is what every printer shows in place of the bytes.
const redacted = "[secret]"

// ErrNotSerialisable is returned by every marshaller of [Bytes]: a secret leaves
// the process only through [Bytes.Expose], which is easy to find.
var ErrNotSerialisable = errors.New("a secret cannot be serialised")

// Bytes is a secret byte string. The zero value is an empty secret. A copy of a
// Bytes shares the memory, so Destroy on one destroys all. It is safe for
// concurrent reads; Destroy must not run beside them.
type Bytes struct {
	_ [0]func() // makes == a compile error; use Equal
	p **[]byte
}

// box is what a Bytes points to, so that a secret costs one allocation.
type box struct {
	b []byte
	p *[]byte
}

// New takes ownership of b: the caller must not use b afterwards.
func New(b []byte) Bytes {
	x := &box{b: b}
	x.p = &x.b
	return Bytes{p: &x.p}
}

// Copy holds a copy of b; the caller keeps b.
func Copy(b []byte) Bytes {
	c := make([]byte, len(b))
	copy(c, b)
	return New(c)
}

// Random returns n bytes from crypto/rand, which never fails.
func Random(n int) Bytes {
	b := make([]byte, n)
	rand.Read(b)
	return New(b)
}

// Expose returns the bytes themselves, not a copy. It is the only way to them;
// every use is a place to review. The slice dies with Destroy.
func (b Bytes) Expose() []byte {
	if b.p == nil {
		return nil
	}
	return **b.p
}

// Present tells an empty secret from none: the zero value is not present, nor
// is what UnmarshalText never filled.
func (b Bytes) Present() bool { return b.p != nil }

// Len is the number of bytes.
func (b Bytes) Len() int { return len(b.Expose()) }

// Equal compares in time that depends on the lengths only.
func (b Bytes) Equal(o Bytes) bool {
	return subtle.ConstantTimeCompare(b.Expose(), o.Expose()) == 1
}

// Destroy overwrites the bytes with zeros and forgets them. It may be called
// more than once.
func (b Bytes) Destroy() {
	if b.p == nil {
		return
	}
	Wipe(**b.p)
	**b.p = nil
}

// Format implements fmt.Formatter, so that no verb prints the bytes.
func (b Bytes) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt ignores it too

// LogValue implements slog.LogValuer.
func (b Bytes) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler by refusing.
func (b Bytes) MarshalText() ([]byte, error) { return nil, ErrNotSerialisable }

// MarshalBinary implements encoding.BinaryMarshaler by refusing.
func (b Bytes) MarshalBinary() ([]byte, error) { return nil, ErrNotSerialisable }

// UnmarshalText keeps a copy of text, so that a decoder can put a secret here
// without it ever being a string. The decoder's own buffer is the caller's to wipe.
func (b *Bytes) UnmarshalText(text []byte) error {
	*b = Copy(text)
	return nil
}

// Wipe overwrites b with zeros.
func Wipe(b []byte) { clear(b) }
