package custodian

import (
	"sync"
	"sync/atomic"

	"cardea/internal/secret"
)

// page holds an unlocked master key in memory of its own (see allocPage). It is
// read without a lock by any number of goroutines and wiped once, as soon as
// the last read that was under way is over: reads last nanoseconds.
type page struct {
	key    secret.Bytes // the first bytes of the page
	locked bool         // neither swapped nor dumped
	free   func()

	// readers counts the reads under way; retire makes it negative for good.
	readers atomic.Int64
	once    sync.Once
	wiped   chan struct{}
}

const retired = -1 << 62

// newPage copies key.
func newPage(key secret.Bytes) *page {
	mem, locked, free := allocPage(key.Len())
	copy(mem, key.Expose())
	return &page{key: secret.New(mem), locked: locked, free: free, wiped: make(chan struct{})}
}

// read returns a copy of the key, or false if the page is retired.
func (p *page) read() (secret.Bytes, bool) {
	if p.readers.Add(1) < 0 {
		p.leave()
		return secret.Bytes{}, false
	}
	key := secret.Copy(p.key.Expose())
	p.leave()
	return key, true
}

func (p *page) leave() {
	if p.readers.Add(-1) == retired {
		p.wipe()
	}
}

// retire refuses further reads, wipes the page and returns when that is done.
func (p *page) retire() {
	if p.readers.Add(retired) == retired {
		p.wipe()
	}
	<-p.wiped
}

func (p *page) wipe() {
	p.once.Do(func() {
		p.key.Destroy()
		p.free()
		close(p.wiped)
	})
}
