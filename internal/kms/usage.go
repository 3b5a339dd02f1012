package kms

import (
	"context"
	"sync"
)

// usageBook remembers the last successful use of each key until a job makes it
// durable. After a crash the last uses of at most that interval are missing: the
// audit log has them all.
type usageBook struct {
	mu   sync.Mutex
	last map[KeyRef]Usage
}

// add notes that the call has used its keys.
func (b *usageBook) add(c *call) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		b.last = map[KeyRef]Usage{}
	}
	for _, k := range c.used {
		b.last[k.KeyRef] = Usage{Key: k.KeyRef, Operation: c.op.Name, At: c.at, EventID: c.entry.ID, RequestID: c.who.RequestID}
	}
}

// of is what the book has of a key.
func (b *usageBook) of(ref KeyRef) (Usage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u, found := b.last[ref]
	return u, found
}

// take empties the book.
func (b *usageBook) take() []Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	us := make([]Usage, 0, len(b.last))
	for _, u := range b.last {
		us = append(us, u)
	}
	b.last = nil
	return us
}

// flush makes the book durable; on an error what was in it is put back.
func (b *usageBook) flush(ctx context.Context, store Store) error {
	us := b.take()
	if len(us) == 0 {
		return nil
	}
	err := store.PutUsage(ctx, us)
	if err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.last == nil {
			b.last = map[KeyRef]Usage{}
		}
		for _, u := range us {
			if _, newer := b.last[u.Key]; !newer {
				b.last[u.Key] = u
			}
		}
	}
	return err
}
