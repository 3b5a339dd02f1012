package sigv4

import (
	"container/list"
	"strings"
	"sync"
)

// keyCache holds derived signing keys, so that the four HMACs of the derivation
// and the secret itself are needed about once a day and region. It is bounded:
// the key used longest ago goes first. Keys are wiped as they go and given out as
// copies, since one may go while a request uses it.
type keyCache struct {
	most int

	mu      sync.Mutex // guards all below
	entries map[keyName]*list.Element
	recent  *list.List // of *keyEntry; front = used last
}

// keyName is all that a signing key depends on, but for the service, which is
// the verifier's.
type keyName struct {
	known    bool // false: the key that stands in for access keys that do not exist
	secretID string
	date     string
	region   string
}

type keyEntry struct {
	name keyName
	key  [32]byte
}

func newKeyCache(most int) *keyCache {
	return &keyCache{most: most, entries: make(map[keyName]*list.Element), recent: list.New()}
}

// get copies the key into to.
func (c *keyCache) get(n keyName, to *[32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[n]
	if ok {
		c.recent.MoveToFront(e)
		*to = e.Value.(*keyEntry).key
	}
	return ok
}

// put copies the key. Two callers that derived the same key put the same.
func (c *keyCache) put(n keyName, key *[32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[n]; ok {
		return
	}
	// The names are parts of a request and would keep all of it in memory.
	n = keyName{n.known, strings.Clone(n.secretID), strings.Clone(n.date), strings.Clone(n.region)}
	c.entries[n] = c.recent.PushFront(&keyEntry{n, *key})
	for len(c.entries) > c.most {
		c.drop(c.recent.Back())
	}
}

func (c *keyCache) drop(e *list.Element) {
	entry := c.recent.Remove(e).(*keyEntry)
	delete(c.entries, entry.name)
	clear(entry.key[:])
}

func (c *keyCache) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.drop(c.recent.Back())
	}
}
