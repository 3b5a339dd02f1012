package keymanager

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cardea/internal/vault"
)

// loadTimeout bounds the load of a key. A load belongs to all who wait for it,
// so it does not end with the request that began it. What it may take is part of
// vault.RetireDelay.
const loadTimeout = 30 * time.Second

// flights make what several callers want at once only once, for all of them. One
// that gives up does not fail the others; the last one to give up ends it.
type flights[K comparable, V any] struct {
	share   func(v V, n int) // n more callers have v; nil if there is nothing to do
	drop    func(v V)        // one fewer
	running sync.WaitGroup

	mu     sync.Mutex // guards all below and what is in flights
	under  map[K]*flight[V]
	closed bool
}

// flight is a value on its way, for all who wait for it.
type flight[V any] struct {
	waiting int // who will get the value
	cancel  context.CancelFunc
	over    bool
	done    chan struct{} // closed when it is over
	value   V             // shared with each who waited
	err     error
}

// do returns the value of name. present is asked once more, under the lock, before
// a flight begins; fetch makes the value, which do drops when all have theirs.
func (f *flights[K, V]) do(ctx context.Context, name K, present func() (V, bool), fetch func(context.Context) (V, error)) (v V, found bool, err error) {
	v, l := f.join(ctx, name, present, fetch)
	if l == nil {
		return v, true, nil
	}
	select {
	case <-l.done:
		return l.value, false, l.err
	case <-ctx.Done():
		f.leave(name, l)
		return v, false, fmt.Errorf("wait for key: %w", context.Cause(ctx))
	}
}

// join makes the caller one of those who wait for the value, or returns it if a
// flight has ended since the caller looked.
func (f *flights[K, V]) join(ctx context.Context, name K, present func() (V, bool), fetch func(context.Context) (V, error)) (V, *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var none V
	if f.closed {
		l := &flight[V]{done: make(chan struct{}), over: true, err: errClosed}
		close(l.done)
		return none, l
	}
	l, ok := f.under[name]
	if !ok {
		if v, ok := present(); ok {
			return v, nil
		}
		// What ends the flight is its timeout, or that nobody waits for it any more.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout) //nolint:gosec // run cancels it
		l = &flight[V]{cancel: cancel, done: make(chan struct{})}
		if f.under == nil {
			f.under = map[K]*flight[V]{}
		}
		f.under[name] = l
		f.running.Go(func() { f.run(ctx, name, l, fetch) })
	}
	l.waiting++
	return none, l
}

// leave undoes join. The last one to leave ends the flight.
func (f *flights[K, V]) leave(name K, l *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.over {
		if l.err == nil && f.drop != nil {
			f.drop(l.value)
		}
		return
	}
	if l.waiting--; l.waiting == 0 {
		l.cancel()
		delete(f.under, name)
	}
}

func (f *flights[K, V]) run(ctx context.Context, name K, l *flight[V], fetch func(context.Context) (V, error)) {
	defer l.cancel()
	v, err := protect(ctx, fetch)
	if err == nil && f.drop != nil {
		defer f.drop(v) // by then each of those who wait has his own
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under[name] == l {
		delete(f.under, name)
	}
	if l.err = err; err == nil {
		if f.share != nil {
			f.share(v, l.waiting)
		}
		l.value = v
	}
	l.over = true
	close(l.done)
}

// protect makes an error of a panic, which on this goroutine would end the process.
func protect[V any](ctx context.Context, fetch func(context.Context) (V, error)) (v V, err error) {
	defer func() {
		if r := recover(); r != nil {
			var none V
			v, err = none, fmt.Errorf("%w: panic while loading it: %v", vault.ErrKeyUnavailable, r)
		}
	}()
	return fetch(ctx)
}

// errClosed is what a closed key manager answers.
var errClosed = fmt.Errorf("%w: the key manager is closed", vault.ErrKeyUnavailable)

// close ends all flights and waits for them.
func (f *flights[K, V]) close() {
	f.mu.Lock()
	f.closed = true
	for _, l := range f.under {
		l.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
}
