package keymanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/secret"
	"cardea/internal/vault"
)

// loadTimeout bounds the load of a key. A load belongs to all who wait for it,
// so it does not end with the request that began it.
const loadTimeout = 30 * time.Second

// clearKey is a key in clear with the number of those who use it. The cache is
// one of them; whoever gives it up last wipes it.
type clearKey struct {
	id      vault.KeyID
	version uint32
	key     secret.Bytes
	users   atomic.Int64
	fresh   atomic.Int64 // until when it is used without asking again, in ns since the epoch; with a grace only
}

func newClearKey(id vault.KeyID, version uint32, key secret.Bytes) *clearKey {
	k := &clearKey{id: id, version: version, key: key}
	k.users.Store(1)
	return k
}

// acquire reports false if the key is wiped or about to be.
func (k *clearKey) acquire() bool {
	for {
		n := k.users.Load()
		if n == 0 {
			return false
		}
		if k.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (k *clearKey) release() {
	if k.users.Add(-1) == 0 {
		k.key.Destroy()
	}
}

// keyCache holds keys in clear, bounded in number and time. N callers that miss
// one key at once load it once, and one that gives up does not fail the others.
// With a grace a key whose time is over stays for that much longer, to be used
// only if it cannot be loaded again because what unwraps it is out of reach.
type keyCache[K comparable] struct {
	keys    *otter.Cache[K, *clearKey]
	limits  cacheLimits
	m       lookups
	running sync.WaitGroup // loads

	mu     sync.Mutex // guards all below and what is in loads; taken before the cache's own locks
	loads  map[K]*load
	closed bool
}

// load is a key on its way, for all who wait for it.
type load struct {
	waiting int // who will get the key
	cancel  context.CancelFunc
	over    bool
	done    chan struct{} // closed when it is over
	key     *clearKey     // acquired once for each who waited
	err     error
}

// finder finds and unwraps a key. The caller owns the key.
type finder func(context.Context) (*clearKey, error)

// cacheLimits are how many keys a cache holds and for how long.
type cacheLimits struct {
	entries    int
	ttl, grace time.Duration
	now        func() time.Time
	inGrace    func(error) // told why a key is used past its time
}

// graceRetry is how often a key past its time is tried to be loaded again.
const graceRetry = 5 * time.Second

func newKeyCache[K comparable](l cacheLimits, m lookups) (*keyCache[K], error) {
	keys, err := otter.New(&otter.Options[K, *clearKey]{
		MaximumSize:      l.entries,
		ExpiryCalculator: otter.ExpiryWriting[K, *clearKey](l.ttl + l.grace),
		OnAtomicDeletion: func(e otter.DeletionEvent[K, *clearKey]) { e.Value.release() },
	})
	if err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	return &keyCache[K]{keys: keys, limits: l, m: m, loads: map[K]*load{}}, nil
}

// get returns the key, acquired; the caller releases it. find is called if the
// key is not there and not on its way. usable is asked once the key is in the
// cache: if it returns an error, the key leaves the cache again, so that nothing
// stays that whoever calls forget meanwhile could not see.
func (c *keyCache[K]) get(ctx context.Context, name K, find finder, usable func() error) (*clearKey, error) {
	if k := c.present(name); k != nil {
		c.m.hit.Inc()
		return k, nil
	}
	k, l := c.join(ctx, name, find, usable)
	if k != nil {
		c.m.hit.Inc()
		return k, nil
	}
	c.m.miss.Inc()
	select {
	case <-l.done:
		return l.key, l.err
	case <-ctx.Done():
		c.leave(name, l)
		return nil, fmt.Errorf("wait for key: %w", context.Cause(ctx))
	}
}

// present returns the key, acquired, if it is there and its time is not over.
func (c *keyCache[K]) present(name K) *clearKey {
	k, ok := c.keys.GetIfPresent(name)
	if !ok || c.limits.grace > 0 && c.limits.now().UnixNano() >= k.fresh.Load() || !k.acquire() {
		return nil
	}
	return k
}

// join makes the caller one of those who wait for the key, or returns the key if
// a load has ended since the caller looked.
func (c *keyCache[K]) join(ctx context.Context, name K, find finder, usable func() error) (*clearKey, *load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l := &load{done: make(chan struct{}), over: true, err: errClosed}
		close(l.done)
		return nil, l
	}
	l, ok := c.loads[name]
	if !ok {
		if k := c.present(name); k != nil {
			return k, nil
		}
		// What ends the load is its timeout, or that nobody waits for it any more.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		l = &load{cancel: cancel, done: make(chan struct{})}
		c.loads[name] = l
		c.running.Go(func() { c.run(ctx, name, l, find, usable) })
	}
	l.waiting++
	return nil, l
}

// leave undoes join. The last one to leave ends the load.
func (c *keyCache[K]) leave(name K, l *load) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over {
		if l.key != nil {
			l.key.release()
		}
		return
	}
	if l.waiting--; l.waiting == 0 {
		l.cancel()
		delete(c.loads, name)
	}
}

func (c *keyCache[K]) run(ctx context.Context, name K, l *load, find finder, usable func() error) {
	defer l.cancel()
	k, err := c.load(ctx, name, find)
	if err == nil {
		defer k.release() // by then each of those who wait has his own
		if err = usable(); err != nil {
			c.keys.Invalidate(name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loads[name] == l {
		delete(c.loads, name)
	}
	if l.err = err; err == nil {
		k.users.Add(int64(l.waiting))
		l.key = k
	}
	l.over = true
	close(l.done)
}

// load finds a key and puts it into the cache, or if that cannot be done now
// takes the one that is there past its time. The key is acquired.
func (c *keyCache[K]) load(ctx context.Context, name K, find finder) (*clearKey, error) {
	k, err := protect(ctx, find)
	if err == nil {
		k.acquire()
		k.fresh.Store(c.limits.now().Add(c.limits.ttl).UnixNano())
		c.keys.Set(name, k)
		return k, nil
	}
	if c.limits.grace == 0 {
		return nil, err
	}
	old, ok := c.keys.GetIfPresent(name)
	switch {
	case !ok:
	case !unreachable(err):
		if errors.Is(err, vault.ErrKeyUnavailable) || errors.Is(err, vault.ErrCorrupt) {
			c.keys.Invalidate(name) // refused for good: no grace later on either
		}
	case old.acquire():
		old.fresh.Store(c.limits.now().Add(graceRetry).UnixNano())
		c.m.grace.Inc()
		c.limits.inGrace(err)
		return old, nil
	}
	return nil, err
}

// unreachable reports whether err says nothing about the key itself.
func unreachable(err error) bool {
	k, ok := errors.AsType[*vault.KeyError](err)
	return ok && k.Result == resultUnreachable
}

// protect makes an error of a panic, which on this goroutine would end the process.
func protect(ctx context.Context, find finder) (k *clearKey, err error) {
	defer func() {
		if r := recover(); r != nil {
			k, err = nil, fmt.Errorf("%w: panic while loading it: %v", vault.ErrKeyUnavailable, r)
		}
	}()
	return find(ctx)
}

// forget drops the keys whose name matches. What has expired, but is not wiped
// yet, it cannot see.
func (c *keyCache[K]) forget(match func(K) bool) {
	for name := range c.keys.Keys() {
		if match(name) {
			c.keys.Invalidate(name)
		}
	}
}

// wipe drops the keys whose name matches, expired or not. If there are expired
// ones it drops all keys, since it cannot tell whose they are.
func (c *keyCache[K]) wipe(match func(K) bool) {
	c.forget(match)
	visible := 0
	for range c.keys.Keys() {
		visible++
	}
	if c.keys.EstimatedSize() > visible {
		c.keys.InvalidateAll()
	}
}

// errClosed is what a closed cache answers.
var errClosed = fmt.Errorf("%w: the key manager is closed", vault.ErrKeyUnavailable)

// close wipes all keys, ends all loads and waits for them.
func (c *keyCache[K]) close() {
	c.mu.Lock()
	c.closed = true
	for _, l := range c.loads {
		l.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
	c.keys.InvalidateAll()
	c.keys.StopAllGoroutines()
}

// lookups counts what the cache did.
type lookups struct{ hit, miss, grace prometheus.Counter }

type cacheMetrics struct{ lookups *prometheus.CounterVec }

func newCacheMetrics(r prometheus.Registerer) cacheMetrics {
	m := cacheMetrics{lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cardea_keys_cache_lookups_total", Help: "Look-ups of keys in clear by cache and result.",
	}, []string{"cache", "result"})}
	if r != nil {
		r.MustRegister(m.lookups)
	}
	return m
}

func (m cacheMetrics) of(cache string) lookups {
	of := func(result string) prometheus.Counter { return m.lookups.WithLabelValues(cache, result) }
	return lookups{hit: of("hit"), miss: of("miss"), grace: of("grace")}
}
