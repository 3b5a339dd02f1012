package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/maypok86/otter/v2"

	"cardea/internal/iam"
)

// cachedKeys is how many keys are kept parsed. A key takes a few KiB.
const cachedKeys = 20_000

// live is a key ready for use. It does not change; a changed key is another live.
type live struct {
	*Key
	arn     string
	policy  *iam.Policy
	grants  grantCache
	public  parsedPublic
	lastUse lastUse

	unavailable string // why a key is StateUnavailable
}

// cache keeps keys and aliases in the form in which requests need them. What this
// node changes it forgets at once; what other nodes change when the jobs look at
// Store.Changes.
type cache struct {
	store   Store
	keys    *otter.Cache[KeyRef, *live]
	aliases *otter.Cache[aliasName, *Alias]
	grants  grantLists

	mu    sync.Mutex
	epoch uint64 // counts calls of forget
}

type aliasName struct{ account, region, name string }

func newCache(store Store) *cache {
	return &cache{
		store:   store,
		keys:    otter.Must(&otter.Options[KeyRef, *live]{MaximumSize: cachedKeys}),
		aliases: otter.Must(&otter.Options[aliasName, *Alias]{MaximumSize: cachedKeys}),
		grants:  newGrantLists(),
	}
}

// key returns a key, or ErrNoRow.
func (c *cache) key(ctx context.Context, ref KeyRef) (*live, error) {
	if k, found := c.keys.GetIfPresent(ref); found {
		return k, nil
	}
	epoch := c.now()
	row, err := c.store.Key(ctx, ref)
	if err != nil {
		return nil, err
	}
	k, err := liven(row)
	if err != nil {
		return nil, err
	}
	c.put(epoch, func() { c.keys.Set(ref, k) })
	return k, nil
}

// confirm is errStale, and the key is forgotten, if it is not what is stored any more.
func (c *cache) confirm(ctx context.Context, k *live) error {
	row, err := c.store.Key(ctx, k.KeyRef)
	switch {
	case err == nil && row.Version == k.Version:
		return nil
	case err == nil, errors.Is(err, ErrNoRow):
		c.forget([]Change{{KeyRef: k.KeyRef}})
		return errStale
	default:
		return broken(CodeInternal, "The key could not be read.", err)
	}
}

// liven makes a row ready for use.
func liven(row *Key) (*live, error) {
	p, err := iam.ParsePolicy(iam.KeyPolicy, []byte(row.Policy))
	if err != nil {
		return nil, fmt.Errorf("policy of key %s: %w", row.ARN(), err)
	}
	return &live{Key: row, arn: row.ARN(), policy: p}, nil
}

// alias returns an alias, or ErrNoRow.
func (c *cache) alias(ctx context.Context, account, region, name string) (*Alias, error) {
	n := aliasName{account, region, name}
	if a, found := c.aliases.GetIfPresent(n); found {
		return a, nil
	}
	epoch := c.now()
	a, err := c.store.Alias(ctx, account, region, name)
	if err != nil {
		return nil, err
	}
	c.put(epoch, func() { c.aliases.Set(n, a) })
	return a, nil
}

func (c *cache) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// put stores what was read at the epoch, unless something has been forgotten since:
// it may be older than what was forgotten.
func (c *cache) put(epoch uint64, store func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		store()
	}
}

// forget drops what has changed.
func (c *cache) forget(changes []Change) {
	if len(changes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for _, ch := range changes {
		if ch.ID != "" {
			c.keys.Invalidate(ch.KeyRef)
		}
		if ch.Alias != "" {
			c.aliases.Invalidate(aliasName{ch.Account, ch.Region, ch.Alias})
		}
	}
}

// clear drops everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.keys.InvalidateAll()
	c.aliases.InvalidateAll()
}
