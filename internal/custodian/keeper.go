package custodian

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"cardea/internal/secret"
)

// Source is where a tenant's master key comes from: a [Seal] or a
// [HyperswitchSeal]. It does not change and is safe for concurrent use.
type Source interface {
	// Info says what the source is of.
	Info() Info
	// Check refuses a part of which it is certain that it does not belong here.
	Check(p Part) error
	// Open gives the master key back from a quorum of parts. The caller owns it.
	Open(parts []Part) (secret.Bytes, error)
}

// Options of a [Keeper]. The zero value is ready to use.
type Options struct {
	Now     func() time.Time // default time.Now
	PartTTL time.Duration    // how long a part waits for the others; default 15 min
}

// Keeper holds, for each tenant, the parts that custodians have given and, once
// there are enough, the master key. Both live in memory only, so each node is
// unlocked again after a restart. All methods are safe for concurrent use;
// Master and Unlocked take no lock.
type Keeper struct {
	now     func() time.Time
	ttl     time.Duration
	mu      sync.Mutex // held by those who change the map of tenants
	tenants atomic.Pointer[map[string]*tenant]
}

// tenant is the state of one tenant.
type tenant struct {
	name   string
	master atomic.Pointer[page] // nil while locked; changed under mu only

	mu       sync.Mutex // guards all below
	removed  bool
	source   Source
	info     Info
	held     []held
	expiry   *time.Timer // runs while held is not empty
	since    time.Time
	failures int
}

// held is a part that waits for the others.
type held struct {
	custodian string
	part      Part
	until     time.Time
}

// Status is how far a tenant's unlocking is.
type Status struct {
	Unlocked     bool
	Form         Form
	Threshold    int
	Shares       int
	Submitted    int // parts that wait for the others
	Generation   int
	Since        time.Time // of the unlocking; zero while locked
	Failures     int       // refused parts and failed unlocks since the last success
	MemoryLocked bool      // the key can be neither swapped nor dumped; false while locked
}

// NewKeeper returns a Keeper without tenants.
func NewKeeper(o Options) *Keeper {
	k := &Keeper{now: o.Now, ttl: o.PartTTL}
	if k.now == nil {
		k.now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if k.ttl <= 0 {
		k.ttl = 15 * time.Minute
	}
	k.tenants.Store(&map[string]*tenant{})
	return k
}

// SetTenant adds a tenant, or gives one another seal. A tenant stays unlocked if
// the master key is the same, as after [Rekey]; otherwise it is locked. Parts of
// the earlier seal are wiped.
func (k *Keeper) SetTenant(name string, source Source) error {
	info := source.Info()
	if name == "" {
		return errors.New("tenant name is empty")
	}
	if info.Tenant != "" && info.Tenant != name {
		return fmt.Errorf("tenant %q: the seal is of tenant %q", name, info.Tenant)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old := *k.tenants.Load()
	if t, ok := old[name]; ok {
		t.replace(source, info)
		return nil
	}
	next := maps.Clone(old)
	next[name] = &tenant{name: name, source: source, info: info}
	k.tenants.Store(&next)
	return nil
}

// Remove forgets a tenant and wipes its key and parts. An unknown tenant is no
// error.
func (k *Keeper) Remove(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := *k.tenants.Load()
	t, ok := old[name]
	if !ok {
		return
	}
	next := maps.Clone(old)
	delete(next, name)
	k.tenants.Store(&next)
	t.lock(true)
}

// Close locks and forgets every tenant.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := *k.tenants.Load()
	k.tenants.Store(&map[string]*tenant{})
	for _, t := range all {
		t.lock(true)
	}
}

func (k *Keeper) tenant(name string) (*tenant, error) {
	t, ok := (*k.tenants.Load())[name]
	if !ok {
		return nil, fmt.Errorf("tenant %q: %w", name, ErrUnknownTenant)
	}
	return t, nil
}

// Submit takes the part of one custodian, whom the caller has authenticated. A
// custodian may correct the part that he gave (same number), but not give a
// second one: [ErrSameCustodian]; and not one that another has given:
// [ErrPartTaken]. A part that does not belong here is a [*PartError]; the parts of
// others stay. Further errors: [ErrUnlocked], [ErrUnknownTenant]. The Keeper
// keeps a copy; the caller destroys its part.
func (k *Keeper) Submit(name, custodian string, p Part) error {
	t, err := k.tenant(name)
	if err != nil {
		return err
	}
	if custodian == "" {
		return errors.New("custodian name is empty")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(k.now()); err != nil {
		return err
	}
	if err := t.source.Check(p); err != nil {
		t.failures++
		return err
	}
	place := len(t.held)
	for i, h := range t.held {
		switch {
		case h.custodian == custodian && h.part.index == p.index:
			place = i
		case h.custodian == custodian:
			return fmt.Errorf("custodian %q has given %s: %w", custodian, h.part.Name(), ErrSameCustodian)
		case h.part.index == p.index:
			return fmt.Errorf("%s: %w", p.Name(), ErrPartTaken)
		}
	}
	h := held{custodian, p.clone(), k.now().Add(k.ttl)}
	if place < len(t.held) {
		t.held[place].part.Destroy()
		t.held[place] = h
	} else {
		t.held = append(t.held, h)
	}
	if t.expiry == nil {
		t.expiry = time.AfterFunc(k.ttl, func() { t.tick(k.now) })
	}
	return nil
}

// Unlock opens the master key once enough parts are there, and wipes them. If
// they do not open the seal ([ErrDoesNotOpen]), all of them are wiped too and the
// custodians begin again. Before that: [ErrNotEnough], which keeps the parts.
// Further errors: [ErrUnlocked], [ErrUnknownTenant].
func (k *Keeper) Unlock(name string) error {
	t, err := k.tenant(name)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(k.now()); err != nil {
		return err
	}
	if len(t.held) < t.info.Threshold {
		return fmt.Errorf("tenant %q has %d of %d: %w", name, len(t.held), t.info.Threshold, ErrNotEnough)
	}
	parts := make([]Part, len(t.held))
	for i, h := range t.held {
		parts[i] = h.part
	}
	master, err := t.source.Open(parts)
	t.drop()
	if err != nil {
		t.failures++
		return fmt.Errorf("tenant %q: %w", name, err)
	}
	defer master.Destroy()
	if n := master.Len(); n != keySize {
		return fmt.Errorf("tenant %q: master key has %d bytes, want %d", name, n, keySize)
	}
	t.master.Store(newPage(master))
	t.since, t.failures = k.now(), 0
	return nil
}

// Lock wipes the tenant's master key and parts at once; when it returns, Master
// gives out no more copies. A locked tenant is no error.
func (k *Keeper) Lock(name string) error {
	t, err := k.tenant(name)
	if err != nil {
		return err
	}
	t.lock(false)
	return nil
}

// Master returns a copy of the tenant's master key, [ErrLocked] or
// [ErrUnknownTenant]. It is a copy so that Lock can wipe the key at once without
// pulling it from under whoever uses it; the caller destroys it after use. To ask
// only whether the tenant is open, Unlocked is cheaper.
func (k *Keeper) Master(name string) (secret.Bytes, error) {
	t, err := k.tenant(name)
	if err != nil {
		return secret.Bytes{}, err
	}
	if p := t.master.Load(); p != nil {
		if key, ok := p.read(); ok {
			return key, nil
		}
	}
	return secret.Bytes{}, fmt.Errorf("tenant %q: %w", name, ErrLocked)
}

// Unlocked reports whether the tenant is known and open.
func (k *Keeper) Unlocked(name string) bool {
	t, ok := (*k.tenants.Load())[name]
	return ok && t.master.Load() != nil
}

// Status tells how far a tenant's unlocking is. The only error is
// [ErrUnknownTenant].
func (k *Keeper) Status(name string) (Status, error) {
	t, err := k.tenant(name)
	if err != nil {
		return Status{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(k.now())
	s := Status{
		Form: t.info.Form, Threshold: t.info.Threshold, Shares: t.info.Shares, Generation: t.info.Generation,
		Submitted: len(t.held), Since: t.since, Failures: t.failures,
	}
	if p := t.master.Load(); p != nil {
		s.Unlocked, s.MemoryLocked = true, p.locked
	}
	return s, nil
}

// ready refuses an open or removed tenant and drops parts that are too old. The
// caller holds t.mu, as for all methods below that do not take it.
func (t *tenant) ready(now time.Time) error {
	if t.removed {
		return fmt.Errorf("tenant %q: %w", t.name, ErrUnknownTenant)
	}
	if t.master.Load() != nil {
		return fmt.Errorf("tenant %q: %w", t.name, ErrUnlocked)
	}
	t.expire(now)
	return nil
}

// expire wipes the parts whose time is over.
func (t *tenant) expire(now time.Time) {
	kept := t.held[:0]
	for _, h := range t.held {
		if now.Before(h.until) {
			kept = append(kept, h)
		} else {
			h.part.Destroy()
		}
	}
	clear(t.held[len(kept):])
	t.held = kept
	if len(kept) == 0 {
		t.drop()
	}
}

// tick is the timer: it wipes parts even if nobody calls.
func (t *tenant) tick(now func() time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := now()
	t.expire(n)
	if t.expiry == nil {
		return
	}
	next := t.held[0].until
	for _, h := range t.held {
		if h.until.Before(next) {
			next = h.until
		}
	}
	t.expiry.Reset(max(next.Sub(n), time.Millisecond))
}

// drop wipes all parts.
func (t *tenant) drop() {
	for _, h := range t.held {
		h.part.Destroy()
	}
	t.held = nil
	if t.expiry != nil {
		t.expiry.Stop()
		t.expiry = nil
	}
}

// replace takes t.mu.
func (t *tenant) replace(source Source, info Info) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if info != t.info {
		t.drop()
	}
	if info.MasterID != t.info.MasterID {
		t.close()
	}
	t.source, t.info = source, info
}

// lock takes t.mu.
func (t *tenant) lock(remove bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removed = t.removed || remove
	t.drop()
	t.close()
}

// close wipes the master key.
func (t *tenant) close() {
	if p := t.master.Swap(nil); p != nil {
		p.retire()
	}
	t.since = time.Time{}
}
