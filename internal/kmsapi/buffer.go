package kmsapi

import (
	"encoding/base64"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"cardea/internal/secret"
)

// buffer holds a request or a response, which may be plaintext or a key. It only
// grows until it is released, so that wiping its length wipes all of it; what it
// outgrows is wiped when it moves.
type buffer struct{ b []byte }

const (
	newBuffer  = 2 << 10  // bytes of a new buffer
	keepBuffer = 64 << 10 // larger ones are left to the garbage collector, wiped
)

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, newBuffer)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// release wipes the buffer and gives it back; nil is fine.
func (b *buffer) release() {
	if b == nil {
		return
	}
	b.clear()
	if cap(b.b) <= keepBuffer {
		buffers.Put(b)
	}
}

// clear forgets what was written.
func (b *buffer) clear() {
	secret.Wipe(b.b)
	b.b = b.b[:0]
}

// grow makes room for n more bytes.
func (b *buffer) grow(n int) {
	if cap(b.b)-len(b.b) >= n {
		return
	}
	bigger := make([]byte, len(b.b), max(2*cap(b.b), len(b.b)+n))
	copy(bigger, b.b)
	secret.Wipe(b.b)
	b.b = bigger
}

func (b *buffer) text(s string) {
	b.grow(len(s))
	b.b = append(b.b, s...)
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.grow(len(p))
	b.b = append(b.b, p...)
	return len(p), nil
}

// base64 appends p as a JSON string of base64.
func (b *buffer) base64(p []byte) {
	b.grow(base64.StdEncoding.EncodedLen(len(p)) + 2)
	b.b = append(b.b, '"')
	b.b = base64.StdEncoding.AppendEncode(b.b, p)
	b.b = append(b.b, '"')
}

// quote appends s as a JSON string. What is not UTF-8 is replaced.
func (b *buffer) quote(s string) {
	if plainText(s) {
		b.grow(len(s) + 2)
		b.b = append(b.b, '"')
		b.b = append(b.b, s...)
		b.b = append(b.b, '"')
		return
	}
	const maxEscape = 6 // bytes that one byte of text can become
	b.grow(maxEscape*len(s) + 2)
	b.b, _ = jsontext.AppendQuote(b.b, s) // its error says only that it replaced something
}

// plainText reports whether s stands in a JSON string as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
