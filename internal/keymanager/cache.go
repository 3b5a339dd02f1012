package keymanager

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

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
type keyCache[K comparable] struct {
	keys   *otter.Cache[K, *clearKey]
	flight singleflight.Group
	m      lookups
}

func newKeyCache[K comparable](entries int, ttl time.Duration, m lookups) (*keyCache[K], error) {
	keys, err := otter.New(&otter.Options[K, *clearKey]{
		MaximumSize:      entries,
		ExpiryCalculator: otter.ExpiryWriting[K, *clearKey](ttl),
		OnAtomicDeletion: func(e otter.DeletionEvent[K, *clearKey]) { e.Value.release() },
	})
	if err != nil {
		return nil, fmt.Errorf("key cache: %w", err)
	}
	return &keyCache[K]{keys: keys, m: m}, nil
}

// get returns the key, acquired; the caller releases it.
func (c *keyCache[K]) get(ctx context.Context, name K, load func(context.Context) (*clearKey, error)) (*clearKey, error) {
	for {
		if k, ok := c.keys.GetIfPresent(name); ok && k.acquire() {
			c.m.hit.Inc()
			return k, nil
		}
		c.m.miss.Inc()
		ch := c.flight.DoChan(fmt.Sprint(name), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
			defer cancel()
			k, err := load(ctx)
			if err != nil {
				return nil, err
			}
			c.keys.Set(name, k)
			return k, nil
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case r := <-ch:
			if r.Err != nil {
				return nil, r.Err
			}
			k := r.Val.(*clearKey)
			if k.acquire() {
				return k, nil
			}
		}
	}
}

// forget drops the keys whose name matches.
func (c *keyCache[K]) forget(match func(K) bool) {
	for name := range c.keys.Keys() {
		if match(name) {
			c.keys.Invalidate(name)
		}
	}
}

// lookups counts what the cache did.
type lookups struct{ hit, miss prometheus.Counter }

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
	return lookups{hit: m.lookups.WithLabelValues(cache, "hit"), miss: m.lookups.WithLabelValues(cache, "miss")}
}
