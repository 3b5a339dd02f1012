package vault

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cardea/internal/iam"
)

// RetireDelay is how long after it was replaced a key version may be retired: by
// then every node has learnt of its successor, and what was sealed under it
// before is stored. A node that has not learnt of changes for half of it forgets
// the keys that it has, so that it looks into the inventory again.
const RetireDelay = time.Minute

// settleDelay is how long after it was made a key's version makes no keyed hashes of
// new cards: until then not every node looks for those. It is part of RetireDelay.
const settleDelay = RetireDelay / 2

// pollInterval is how often a node asks what other nodes changed.
const pollInterval = time.Second

// KeyStore is the store as the operators' work on keys needs it.
type KeyStore interface {
	Store
	KeyWork
}

// KeyMover is a key manager that can also change keys.
type KeyMover interface {
	KeyManager
	KeyChanger
}

// KeyPolicy is what an operator configured about a tenant's keys.
type KeyPolicy struct {
	Cryptoperiod time.Duration // after which a key is replaced by itself; 0 is never
	MessageLimit uint64        // records sealed under a key after which likewise; 0 is none
	Rate         int           // rows a second that a job moves at most; 0 is 1,000
}

// KeyAdminOptions are what a KeyAdmin is made of. All but the functions and Metrics are
// required.
type KeyAdminOptions struct {
	Gate       *Gate
	Service    *Service // its own memory of merchants and entities is to be forgotten too
	Store      KeyStore
	Keys       KeyMover
	Custodians Custodians
	Policy     func(tenant string) KeyPolicy
	// Suspended and Resumed are told when a tenant is suspended or resumed, on
	// whatever node: the master key is theirs to wipe and to take up.
	Suspended, Resumed func(ctx context.Context, tenant string)
	Metrics            prometheus.Registerer // default none
}

// KeyAdmin is what operators do to keys: see them, replace them and move every
// record under the new ones, move a tenant from one mode to another, destroy the
// keys of a merchant or entity, suspend a tenant. Long work is a job in the store,
// which any node carries on. Every operation passes the gate. It is safe for
// concurrent use.
type KeyAdmin struct {
	gate    *Gate
	o       KeyAdminOptions
	metrics *jobMetrics

	wake   chan struct{} // a job may be there
	seized atomic.Int64  // how often an operator changed a job here

	pollMu sync.Mutex // guards what polls know, held during one
	seen   int64      // number of the last event
	polled time.Time
	reload bool // who is suspended is to be read again

	mu      sync.Mutex            // guards below
	running map[KeyID]struct{}    // jobs on this node
	later   map[KeyID]time.Time   // when to try a job again
	jobs    sync.WaitGroup        // those running
	counts  map[KeyVersion]uint64 // not yet in the store
}

// NewKeyAdmin joins the parts.
func NewKeyAdmin(o KeyAdminOptions) *KeyAdmin {
	if o.Policy == nil {
		o.Policy = func(string) KeyPolicy { return KeyPolicy{} }
	}
	if o.Suspended == nil {
		o.Suspended = func(context.Context, string) {}
	}
	if o.Resumed == nil {
		o.Resumed = func(context.Context, string) {}
	}
	return &KeyAdmin{
		gate: o.Gate, o: o, metrics: newJobMetrics(o.Metrics), wake: make(chan struct{}, 1),
		running: map[KeyID]struct{}{}, later: map[KeyID]time.Time{}, counts: map[KeyVersion]uint64{},
	}
}

// Open learns who is suspended. Call it before anything is answered.
func (a *KeyAdmin) Open(ctx context.Context) error {
	a.pollMu.Lock()
	defer a.pollMu.Unlock()
	events, err := a.o.Store.KeyEvents(ctx, 0, 1)
	if err != nil {
		return fmt.Errorf("read changes of keys: %w", err)
	}
	for _, e := range events {
		a.seen = max(a.seen, e.Number)
	}
	a.polled = a.gate.Now()
	return a.loadSuspended(ctx)
}

// Run follows what other nodes change, carries on jobs, and begins those that are
// due, until ctx ends. It returns when all that it began has stopped.
func (a *KeyAdmin) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { every(ctx, pollInterval, nil, func() { a.follow(ctx) }) })
	all.Go(func() { every(ctx, time.Second, a.wake, func() { a.takeUp(ctx) }) })
	all.Go(func() { every(ctx, countInterval, nil, func() { a.flush(ctx) }) })
	all.Go(func() { every(ctx, scheduleInterval, nil, func() { a.schedule(ctx) }) })
	all.Wait()
	a.jobs.Wait()
	end, cancel := lasting(ctx)
	defer cancel()
	a.flush(end)
}

// every calls f at once, then each interval and when it is woken, until ctx ends.
func every(ctx context.Context, interval time.Duration, wake <-chan struct{}, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-wake:
		}
	}
}

// do passes an operation on keys through the gate. System principals are held to
// what holds for the tenant, too.
func (a *KeyAdmin) do(ctx context.Context, who iam.Principal, op *Operation, tenant, holder string, act func(*call) error) error {
	t := Target{Tenant: tenant, Holder: holder, RequestID: RequestID(ctx)}
	return a.gate.do(ctx, who, op, t, func(c *call) error {
		if !op.Suspended {
			if err := a.gate.Tenants.usable(tenant); err != nil {
				return err
			}
		}
		if !op.Sealed && !a.o.Custodians.Unlocked(tenant) {
			return fmt.Errorf("tenant %q: %w", tenant, ErrLocked)
		}
		return act(c)
	})
}

// key puts a key version into the entry.
func (c *call) key(v KeyVersion) {
	c.entry.Resource.Key, c.entry.Resource.KeyVersion = v.ID.String(), int(v.Version)
}

// version is the name of the key version.
func (w *WrappedKey) version() KeyVersion { return KeyVersion{w.ID, w.Version} }
