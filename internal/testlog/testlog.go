// Package testlog lets tests read what the code under test is still writing; only
// tests import it. It promises that a read sees whole writes.
package testlog

import (
	"bytes"
	"sync"
)

// Buffer is a log, or whatever a server sends, that a test reads meanwhile. Its zero
// value is empty; it is safe for concurrent use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
