package kms

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// RunJobs lets time pass until ctx ends: it forgets what other nodes have changed,
// makes last uses durable, follows custom key stores, and does what is due by
// RunDue. Several nodes may do so on one store at the same time. What fails is
// logged and tried again.
func (s *Service) RunJobs(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // apart, so that work that is due never delays what must be forgotten
		after := int64(-1)
		s.every(ctx, s.interval, "follow changes of other nodes", func() (err error) {
			after, err = s.followChanges(ctx, after)
			return errors.Join(err, s.refreshKeyStores(ctx, s.now()))
		})
	})
	wg.Go(func() {
		s.every(ctx, 2*s.interval, "write last uses of keys", func() error { return s.usage.flush(ctx, s.store) })
	})
	s.every(ctx, 2*s.interval, "do what is due", func() error { return s.RunDue(ctx, s.now()) })
}

// every runs f at once and then at each interval. An error is logged when it is
// another than the last time.
func (s *Service) every(ctx context.Context, interval time.Duration, job string, f func() error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := ""
	for {
		text := ""
		if err := f(); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != last {
				s.log.WarnContext(ctx, "job of the key service cannot do its work", slog.String("job", job), slog.Any("error", err))
			}
		}
		last = text
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// followChanges makes the cache forget what was changed after the change with the
// number given, and returns the number to go on from. The first number is negative.
func (s *Service) followChanges(ctx context.Context, after int64) (int64, error) {
	for {
		changes, last, err := s.store.Changes(ctx, after)
		switch {
		case errors.Is(err, ErrForgotten), err == nil && after < 0: // all may have changed
			s.cache.clear()
			return last, nil
		case err != nil:
			return after, err
		case len(changes) == 0:
			return last, nil
		}
		s.cache.forget(changes)
		after = last
	}
}

// dueBatch is how many keys are asked for at a time.
const dueBatch = 256

// RunDue does what is due to keys by now: it deletes keys and expired material and
// rotates keys, each in a transaction of its own with its entry. What another node
// has done it leaves alone. What fails is put off by seconds, then by minutes, and
// logged; rotations wait without a word while the backend is sealed. The error is
// that of finding out what is due.
func (s *Service) RunDue(ctx context.Context, now time.Time) error {
	seen := map[KeyRef]bool{}
	for limit := dueBatch; ; limit *= 2 { // more, as those that were put off stay at the head of the list
		refs, err := s.store.Due(ctx, now, limit)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if seen[ref] || s.postponed.waits(ref, now) {
				continue
			}
			seen[ref] = true
			err := s.runDue(ctx, ref, now)
			if errors.Is(err, ErrSealed) {
				s.postponed.briefly(ref, now)
				continue
			}
			if err != nil {
				wait := s.postponed.add(ref, now)
				s.log.WarnContext(ctx, "what is due to a key could not be done", slog.String("key_id", ref.ID),
					slog.String("region", ref.Region), slog.Duration("again_in", wait), slog.Any("error", err))
				continue
			}
			s.postponed.remove(ref)
		}
		if len(refs) < limit {
			return nil
		}
	}
}

// runDue does everything that is due to the key.
func (s *Service) runDue(ctx context.Context, ref KeyRef, now time.Time) error {
	k, err := s.store.Key(ctx, ref)
	if errors.Is(err, ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.deletionDue(now) {
		return s.deleteKey(ctx, ref, now)
	}
	if len(k.expired(now)) > 0 {
		if err := s.expireMaterial(ctx, ref, now); err != nil {
			return err
		}
	}
	if k.rotationDue(now) {
		return s.rotateKey(ctx, ref, now)
	}
	return nil
}

// job begins what the service does to a key by itself, on the key as it is stored
// now. If it is not due, or not any more, k is nil and there is nothing to record.
func (c *call) job(ctx context.Context, ref KeyRef, due func(*Key) bool) (*live, error) {
	row, err := c.s.store.Key(ctx, ref)
	if errors.Is(err, ErrNoRow) || err == nil && !due(row) {
		return nil, c.nothing()
	}
	if err != nil {
		return nil, broken(CodeInternal, "The key could not be read.", err)
	}
	k := &live{Key: row, arn: row.ARN()}
	return k, c.may(ctx, k, ask{})
}

// nothing ends a job without an entry: it has found that there is nothing to do.
func (c *call) nothing() error {
	c.asked, c.recorded = true, true
	return nil
}

func (k *Key) rotationDue(now time.Time) bool {
	return k.State == StateEnabled && k.Rotation.Enabled && !k.Replicates() && !k.Rotation.Next.After(now)
}

// rotateKey does an automatic rotation.
func (s *Service) rotateKey(ctx context.Context, ref KeyRef, now time.Time) error {
	var sealed error
	err := s.do(ctx, system("rotation", ref.Region, ref.Account), OpRotateKey, nil, func(c *call) error {
		k, err := c.job(ctx, ref, func(k *Key) bool { return k.rotationDue(now) })
		if k == nil || err != nil {
			return err
		}
		err = c.rotate(ctx, k, RotatedAutomatically)
		if errors.Is(err, ErrSealed) {
			sealed = err
			return c.nothing()
		}
		return err
	})
	if err != nil {
		return err
	}
	return sealed
}

// expired are the ids of the key's material whose time is over.
func (k *Key) expired(now time.Time) (ids []string) {
	for i := range k.Materials {
		m := &k.Materials[i]
		if m.Import == Imported && m.Expiration == MaterialExpires && !m.ValidTo.After(now) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// expireMaterial deletes the imported material whose time is over.
func (s *Service) expireMaterial(ctx context.Context, ref KeyRef, now time.Time) error {
	return s.do(ctx, system("expiry", ref.Region, ref.Account), OpDeleteKeyMaterial, nil, func(c *call) error {
		k, err := c.job(ctx, ref, func(k *Key) bool { return len(k.expired(now)) > 0 })
		if k == nil || err != nil {
			return err
		}
		ids := k.expired(now)
		c.param("keyId", k.ID)
		var gone []Material
		for _, id := range ids {
			c.param("keyMaterialId", id)
			gone = append(gone, *k.Material(id))
		}
		if err := c.removeMaterial(ctx, k, ids); err != nil {
			return err
		}
		s.destroy(ctx, k.Key, gone)
		return nil
	})
}

func (k *Key) deletionDue(now time.Time) bool {
	return k.State == StatePendingDeletion && !k.Deletion.At.After(now)
}

// deleteKey deletes a key at the end of its waiting period, with its aliases and
// grants; then its material, unless a key in another Region shares it. If the node
// ends between the two, a device may keep material that no key refers to.
func (s *Service) deleteKey(ctx context.Context, ref KeyRef, now time.Time) error {
	return s.do(ctx, system("deletion", ref.Region, ref.Account), OpDeleteKey, nil, func(c *call) error {
		k, err := c.job(ctx, ref, func(k *Key) bool { return k.deletionDue(now) })
		if k == nil || err != nil {
			return err
		}
		c.param("keyId", k.ID)
		shared := false
		err = c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			keys, err := related(ctx, tx, k)
			if err != nil {
				return []Change{{KeyRef: ref}}, err
			}
			changed := changesOf(keys)
			aliases, err := tx.AliasesOf(ctx, ref, "", maxLimit)
			if err != nil {
				return changed, err
			}
			for i := range aliases {
				changed = append(changed, Change{KeyRef: ref, Alias: aliases[i].Name})
			}
			others := keys[1:]
			shared = len(others) > 0
			for _, o := range others {
				o.replicaGone(ref.Region, c.at)
			}
			if err := putAll(ctx, tx, others); err != nil {
				return changed, err
			}
			return changed, tx.DeleteKey(ctx, ref)
		})
		if err == nil && !shared {
			s.destroy(ctx, k.Key, k.Materials)
		}
		return err
	})
}

// replicaGone takes a Region off the list of a multi-Region key. A primary key that
// waited for its last replica to go begins its own waiting period.
func (k *Key) replicaGone(region string, now time.Time) {
	r := k.Regions
	r.Replicas = slices.DeleteFunc(r.Replicas, func(r string) bool { return r == region })
	if r.Type == Primary && len(r.Replicas) == 0 && k.State == StatePendingReplicaDeletion {
		k.State, k.Deletion.At = StatePendingDeletion, now.AddDate(0, 0, int(k.Deletion.WindowDays))
	}
}

// How long failed work waits: twice as long each time.
const (
	firstWait = 10 * time.Second
	lastWait  = 10 * time.Minute
)

// postponements are keys to which something is due that could not be done.
type postponements struct {
	mu   sync.Mutex
	keys map[KeyRef]postponement
}

type postponement struct {
	until time.Time
	wait  time.Duration
}

func (p *postponements) waits(ref KeyRef, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.keys[ref].until)
}

func (p *postponements) add(ref KeyRef, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[KeyRef]postponement{}
	}
	wait := min(max(2*p.keys[ref].wait, firstWait), lastWait)
	p.keys[ref] = postponement{now.Add(wait), wait}
	return wait
}

// briefly puts off without counting it as a failure.
func (p *postponements) briefly(ref KeyRef, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[KeyRef]postponement{}
	}
	p.keys[ref] = postponement{until: now.Add(firstWait)}
}

func (p *postponements) remove(ref KeyRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, ref)
}
