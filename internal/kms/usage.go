package kms

import (
	"context"
	"sync"
	"sync/atomic"
)

// usageBook remembers the last successful use of each key until a job makes it
// durable. After a crash the last uses of at most that interval are missing: the
// audit log has them all.
//
// Each use of a key would meet all others at one lock; so a use is noted on the
// live key, and only the first since the last flush goes through the lock.
type usageBook struct {
	mu      sync.Mutex
	noted   map[KeyRef]*live // keys that have a use noted on them
	settled map[KeyRef]Usage // uses of live keys that were replaced, or that could not be written
	writing map[KeyRef]Usage // uses that are becoming durable at this moment
}

// lastUse is the last use of a live key that is not taken from it yet.
type lastUse struct{ atomic.Pointer[Usage] }

// add notes that the call has used its keys.
func (b *usageBook) add(c *call) {
	for _, k := range c.used {
		u := &Usage{Key: k.KeyRef, Operation: c.op.Name, At: c.at, EventID: c.entry.ID, RequestID: c.who.RequestID}
		if k.lastUse.Swap(u) == nil {
			b.note(k)
		}
	}
}

func (b *usageBook) note(k *live) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.noted[k.KeyRef]; old != nil && old != k {
		b.settle(old.lastUse.Swap(nil))
	}
	if b.noted == nil {
		b.noted = map[KeyRef]*live{}
	}
	b.noted[k.KeyRef] = k
}

// settle keeps u unless a later use of the key is kept. The caller holds mu.
func (b *usageBook) settle(u *Usage) {
	if u == nil {
		return
	}
	if old, found := b.settled[u.Key]; found && old.At.After(u.At) {
		return
	}
	if b.settled == nil {
		b.settled = map[KeyRef]Usage{}
	}
	b.settled[u.Key] = *u
}

// of is what the book has of a key. What it does not have any more is in the store.
func (b *usageBook) of(ref KeyRef) (u Usage, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u, found = b.settled[ref]; !found {
		u, found = b.writing[ref]
	}
	if k := b.noted[ref]; k != nil {
		if now := k.lastUse.Load(); now != nil && (!found || !now.At.Before(u.At)) {
			return *now, true
		}
	}
	return u, found
}

// take empties the book but for what is being written, until written.
func (b *usageBook) take() []Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.noted {
		b.settle(k.lastUse.Swap(nil))
	}
	us := make([]Usage, 0, len(b.settled))
	for _, u := range b.settled {
		us = append(us, u)
	}
	b.noted, b.settled, b.writing = nil, nil, b.settled
	return us
}

// written ends what take has begun; what could not be written is put back.
func (b *usageBook) written(us []Usage, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = nil
	if err == nil {
		return
	}
	for i := range us {
		b.settle(&us[i])
	}
}

// flush makes the book durable; on an error what was in it is put back. There is one
// at a time.
func (b *usageBook) flush(ctx context.Context, store Store) error {
	us := b.take()
	if len(us) == 0 {
		return nil
	}
	err := store.PutUsage(ctx, us)
	b.written(us, err)
	return err
}
