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

// versionName names a key version and what it is for: a key that a record names must
// not be one that makes keyed hashes.
type versionName struct {
	tenant  string
	id      vault.KeyID
	version uint32
	purpose vault.Purpose
}

func nameOf(w vault.WrappedKey) versionName { return versionName{w.Tenant, w.ID, w.Version, w.Purpose} }

// clearKey is a key in clear, or where a key is that stays in a KMS, with the
// number of those who use it. The cache is one of them; whoever gives it up last
// wipes it.
type clearKey struct {
	versionName
	mode   vault.Mode // what unwrapped it
	key    secret.Bytes
	kmsKey string // instead of key
	users  atomic.Int64
	fresh  atomic.Int64  // until when it is used without asking again, in ns since the epoch
	sealed atomic.Uint64 // records, since they were last counted
	counts *counts
}

func newClearKey(w vault.WrappedKey, key secret.Bytes, kmsKey string, counts *counts) *clearKey {
	k := &clearKey{versionName: nameOf(w), mode: w.Mode, key: key, kmsKey: kmsKey, counts: counts}
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
		k.counts.take(k)
	}
}

// counts are of records sealed under keys that have left the cache.
type counts struct {
	mu   sync.Mutex // guards left
	left map[vault.KeyVersion]uint64
}

func (c *counts) take(k *clearKey) {
	n := k.sealed.Swap(0)
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left = map[vault.KeyVersion]uint64{}
	}
	c.left[vault.KeyVersion{ID: k.id, Version: k.version}] += n
}

func (c *counts) drain() map[vault.KeyVersion]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.left
	c.left = nil
	return left
}

// keyCache holds keys in clear, bounded in number and time. N callers that miss
// one key at once load it once. With a grace a key whose time is over stays for that
// much longer, to be used only if it cannot be loaded again because what unwraps it
// is out of reach.
type keyCache struct {
	keys   *otter.Cache[versionName, *clearKey]
	limits cacheLimits
	m      lookups
	loads  flights[versionName, *clearKey]
}

// cacheLimits are how many keys a cache holds and for how long.
type cacheLimits struct {
	entries    int
	ttl, grace time.Duration
	now        func() time.Time
	inGrace    func(error) // told why a key is used past its time
}

// graceOf is for how much longer than its time a key stays. What this process unwraps
// itself needs none.
func (l cacheLimits) graceOf(m vault.Mode) time.Duration {
	if m == vault.ModeLocal {
		return 0
	}
	return l.grace
}

// graceRetry is how often a key past its time is tried to be loaded again.
const graceRetry = 5 * time.Second

func newKeyCache(l cacheLimits, m lookups) (*keyCache, error) {
	keys, err := otter.New(&otter.Options[versionName, *clearKey]{
		MaximumSize: l.entries,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[versionName, *clearKey]) time.Duration {
			return l.ttl + l.graceOf(e.Value.mode)
		}),
		OnAtomicDeletion: func(e otter.DeletionEvent[versionName, *clearKey]) { e.Value.release() },
	})
	if err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	return &keyCache{keys: keys, limits: l, m: m, loads: flights[versionName, *clearKey]{
		share: func(k *clearKey, n int) { k.users.Add(int64(n)) }, drop: (*clearKey).release,
	}}, nil
}

// get returns the key, acquired; the caller releases it. find is called if the
// key is not there and not on its way, or not usable any more. usable is asked once
// the key is in the cache: if it returns an error, the key leaves the cache again, so
// that nothing stays that whoever calls forget meanwhile could not see.
func (c *keyCache) get(ctx context.Context, name versionName, find func(context.Context) (*clearKey, error), usable func(*clearKey) error) (*clearKey, error) {
	present := func() (*clearKey, bool) {
		k := c.present(name)
		if k != nil && usable(k) != nil { // as it was unwrapped; it may be wrapped otherwise by now
			c.keys.Invalidate(name)
			k.release()
			k = nil
		}
		return k, k != nil
	}
	if k, ok := present(); ok {
		c.m.hit.Inc()
		return k, nil
	}
	k, found, err := c.loads.do(ctx, name, present, func(ctx context.Context) (*clearKey, error) { return c.load(ctx, name, find, usable) })
	if found {
		c.m.hit.Inc()
	} else {
		c.m.miss.Inc()
	}
	return k, err
}

// present returns the key, acquired, if it is there and its time is not over.
func (c *keyCache) present(name versionName) *clearKey {
	k, ok := c.keys.GetIfPresent(name)
	if !ok || c.limits.graceOf(k.mode) > 0 && !k.isFresh(c.limits.now()) || !k.acquire() {
		return nil
	}
	return k
}

func (k *clearKey) isFresh(now time.Time) bool { return now.UnixNano() < k.fresh.Load() }

// put makes a key that was just made or unwrapped the cache's, and reports why it
// did not stay there. The caller has acquired it besides.
func (c *keyCache) put(k *clearKey, usable func(*clearKey) error) error {
	k.fresh.Store(c.limits.now().Add(c.limits.ttl).UnixNano())
	c.keys.Set(k.versionName, k)
	err := usable(k)
	if err != nil {
		c.keys.Invalidate(k.versionName)
	}
	return err
}

// load finds a key and puts it into the cache, or if that cannot be done now
// takes the one that is there past its time. The key is acquired.
func (c *keyCache) load(ctx context.Context, name versionName, find func(context.Context) (*clearKey, error), usable func(*clearKey) error) (*clearKey, error) {
	k, err := find(ctx)
	if err == nil {
		k.acquire()
		if err = c.put(k, usable); err != nil {
			k.release()
			return nil, err
		}
		return k, nil
	}
	old, ok := c.keys.GetIfPresent(name)
	switch {
	case !ok || c.limits.graceOf(old.mode) == 0:
	case !unreachable(err):
		if errors.Is(err, vault.ErrKeyUnavailable) || errors.Is(err, vault.ErrCorrupt) {
			c.keys.Invalidate(name) // refused for good: no grace later on either
		}
	case usable(old) == nil && old.acquire():
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

// forget drops the keys that match. What has expired, but is not wiped yet, it
// cannot see.
func (c *keyCache) forget(match func(*clearKey) bool) {
	for name, k := range c.keys.All() {
		if match(k) {
			c.keys.Invalidate(name)
		}
	}
}

// wipe drops the keys that match, expired or not. If there are expired ones it
// drops all keys, since it cannot tell whose they are.
func (c *keyCache) wipe(match func(*clearKey) bool) {
	c.forget(match)
	visible := 0
	for range c.keys.Keys() {
		visible++
	}
	if c.keys.EstimatedSize() > visible {
		c.keys.InvalidateAll()
	}
}

// close wipes all keys, ends all loads and waits for them.
func (c *keyCache) close() {
	c.loads.close()
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
