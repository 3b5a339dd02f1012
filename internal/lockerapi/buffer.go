package lockerapi

import (
	"sync"

	"cardea/internal/secret"
)

// buffer holds a request or a response, which may be cardholder data. It only
// grows until it is released, so that wiping its length wipes all of it; what it
// outgrows is wiped when it moves.
type buffer struct{ b []byte }

const (
	newBuffer  = 1 << 10  // bytes of a new buffer
	keepBuffer = 64 << 10 // larger ones are left to the garbage collector, wiped
)

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, newBuffer)} }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// release wipes the buffer and gives it back; nil is fine.
func (b *buffer) release() {
	if b == nil {
		return
	}
	secret.Wipe(b.b)
	b.b = b.b[:0]
	if cap(b.b) <= keepBuffer {
		buffers.Put(b)
	}
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

func (b *buffer) bytes(s []byte) {
	b.grow(len(s))
	b.b = append(b.b, s...)
}
