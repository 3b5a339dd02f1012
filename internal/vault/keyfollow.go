package vault

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

const (
	countInterval    = 5 * time.Second
	scheduleInterval = time.Minute
	eventBatch       = 500
)

// follow forgets what other nodes changed since the last time. Without an answer
// for too long it forgets all: what is in memory may have been replaced.
func (a *KeyAdmin) follow(ctx context.Context) {
	a.pollMu.Lock()
	defer a.pollMu.Unlock()
	err := a.poll(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	silent := a.gate.Now().Sub(a.polled)
	a.gate.Logger.WarnContext(ctx, "changes of keys not read", slog.Duration("for", silent), slog.Any("error", err))
	if silent > RetireDelay/2 {
		a.forgetAll()
	}
}

func (a *KeyAdmin) poll(ctx context.Context) error {
	for {
		began := a.gate.Now()
		events, err := a.o.Store.KeyEvents(ctx, a.seen, eventBatch)
		if err != nil {
			return fmt.Errorf("read changes of keys: %w", err)
		}
		if a.seen == 0 && len(events) > 0 {
			a.forgetAll() // only the newest is told, there may be more
			a.reload = true
		}
		for _, e := range events {
			a.seen = max(a.seen, e.Number)
			switch {
			case e.Tenant == "": // more was missed than the store remembers
				a.forgetAll()
				a.reload = true
			case e.Key != (KeyVersion{}):
				a.o.Keys.ForgetKey(e.Tenant, e.Key)
			default:
				a.forget(e.Tenant)
				a.reload = true
			}
		}
		if a.reload {
			if err := a.loadSuspended(ctx); err != nil {
				return err
			}
		}
		a.polled = began
		if len(events) < eventBatch {
			return nil
		}
	}
}

func (a *KeyAdmin) forget(tenant string) {
	a.o.Keys.Forget(tenant)
	a.o.Service.forgetHolders(tenant)
}

func (a *KeyAdmin) forgetAll() {
	for _, name := range a.gate.Tenants.Names() {
		a.forget(name)
	}
}

// loadSuspended takes over who is suspended. The caller holds pollMu.
func (a *KeyAdmin) loadSuspended(ctx context.Context) error {
	a.reload = true
	now, err := a.o.Store.Suspended(ctx)
	if err != nil {
		return fmt.Errorf("read who is suspended: %w", err)
	}
	var suspended, resumed []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if _, was := a.gate.Tenants.Suspended(name); !was {
			suspended = append(suspended, name)
		}
	}
	for _, name := range a.gate.Tenants.Names() {
		_, was := a.gate.Tenants.Suspended(name)
		if _, is := now[name]; was && !is {
			resumed = append(resumed, name)
		}
	}
	a.gate.Tenants.Suspend(now) // first, so that nothing is loaded again
	for _, name := range suspended {
		a.forget(name)
		a.o.Suspended(ctx, name)
		a.gate.Logger.WarnContext(ctx, "tenant is suspended, its keys are wiped from memory", slog.String("tenant", name))
	}
	for _, name := range resumed {
		a.o.Resumed(ctx, name)
		a.gate.Logger.InfoContext(ctx, "tenant is resumed", slog.String("tenant", name))
	}
	a.reload = false
	return nil
}

// flush adds to the store what was sealed since the last time.
func (a *KeyAdmin) flush(ctx context.Context) {
	a.mu.Lock()
	for v, n := range a.o.Keys.Counts() {
		a.counts[v] += n
	}
	counts := a.counts
	a.counts = map[KeyVersion]uint64{}
	a.mu.Unlock()
	if len(counts) == 0 {
		return
	}
	if err := a.o.Store.AddSealed(ctx, counts); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for v, n := range counts {
			a.counts[v] += n
		}
		a.gate.Logger.WarnContext(ctx, "counts of sealed records not written, next try in a few seconds", slog.Any("error", err))
	}
}
