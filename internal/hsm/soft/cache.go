package soft

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"cardea/internal/keyspec"
	"cardea/internal/kms"
)

// material is a parsed key with the number of those who use it. The cache is one
// of them; whoever gives it up last wipes it.
type material struct {
	spec   keyspec.Spec
	handle []byte // that it was opened from
	key    *keyspec.Private
	users  atomic.Int64
}

// acquire reports false if the key is wiped or about to be.
func (k *material) acquire() bool {
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

func (k *material) release() {
	if k.users.Add(-1) == 0 {
		k.key.Destroy()
	}
}

// cache holds material in clear, bounded in number and time. Callers that miss one
// at the same time each open it: that takes some microseconds, for an RSA_4096 key
// a few milliseconds, and is rare.
type cache struct {
	keys *otter.Cache[name, *material]
}

type name struct{ key, material string }

func newCache(entries int, ttl time.Duration) *cache {
	return &cache{otter.Must(&otter.Options[name, *material]{
		MaximumSize:      entries,
		ExpiryCalculator: otter.ExpiryWriting[name, *material](ttl),
		OnAtomicDeletion: func(e otter.DeletionEvent[name, *material]) { e.Value.release() },
	})}
}

// get returns the key, acquired, or nil. What was opened from another handle, or
// for another spec, is not it: the handle has to be right each time.
func (c *cache) get(m kms.MaterialRef) *material {
	k, ok := c.keys.GetIfPresent(name{m.KeyID, m.ID})
	if !ok || k.spec != m.Spec || !bytes.Equal(k.handle, m.Handle) || !k.acquire() {
		return nil
	}
	return k
}

// put takes over the key and returns it, acquired.
func (c *cache) put(m kms.MaterialRef, key *keyspec.Private) *material {
	k := &material{spec: m.Spec, handle: bytes.Clone(m.Handle), key: key}
	k.users.Store(2) // the cache and the caller
	c.keys.Set(name{m.KeyID, m.ID}, k)
	return k
}

func (c *cache) drop(m kms.MaterialRef) { c.keys.Invalidate(name{m.KeyID, m.ID}) }

func (c *cache) clear() { c.keys.InvalidateAll() }

func (c *cache) close() {
	c.clear()
	c.keys.StopAllGoroutines()
}
